//! A group: who is there, who comes and who goes.
//!
//! Counterparts: Apache Curator's `GroupMember`, whose nodes are called as their members, and kazoo's `Party`, whose nodes have random names and say in
//! their data who they are. We see both; Curator sees all nodes by their names, kazoo only those that are called as its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};
use uuid::Uuid;
use zookeeper_client::{Acls, Client, Error as ClientError};

use crate::ask::{News, Recipe, Reply, Step};
use crate::drive::{in_background, refused};
use crate::enrolment::Enrolment;
use crate::error::{Error, SessionEnd};
use crate::guard::Loss;
use crate::name::join;
use crate::perform::Performer;
use crate::rollcall::Rollcall;
use crate::roster::{Change, Member};

/// The members of a group, each an ephemeral node below one path.
///
/// | what happens | what follows |
/// | --- | --- |
/// | the connection is lost | a member stays one until its session expires; a watcher looks again when it is back, and tells what has changed |
/// | the session expires | the member has left; [`Membership::lost`] says so, and [`Changes::next`] ends. Connect again, join again |
/// | the answer to the create is lost | the node is known by its session, and taken for what it is |
/// | the process dies | it has left when its session expires |
/// | the answer to a deletion is lost | the node is deleted again only if it is still the session's own |
/// | a future of `join` is dropped | the node may be there; it is deleted in the background |
/// | another session has a node of this name | `join` waits until it is gone: the node of a process that died is gone with its session |
///
/// ```
/// # rookeeper_acceptance::example(async |address: String| {
/// use rookeeper_recipes::{Change, Group};
/// use zookeeper_client::Client;
///
/// let client = Client::connect(&address).await?;
/// let group = Group::new(&client, "/app/workers");
///
/// let mut changes = group.changes().await?;
/// let membership = group.join("host-7", "4 cores").await?;
/// match changes.next().await? {
///     Change::Joined(member) => assert_eq!(member.id, "host-7"),
///     change => panic!("{change:?}"),
/// }
/// membership.leave().await?;
/// assert!(matches!(changes.next().await?, Change::Left(_)));
/// # anyhow::Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Group {
    client: Client,
    path: String,
    acls: Acls<'static>,
    /// Whose name each is, among those who come by this value and its clones: nobody else can tell nodes of one session apart.
    turns: Arc<Mutex<BTreeMap<String, Arc<Turn<()>>>>>,
}

impl Group {
    /// The group at `path`. Nothing is sent yet.
    pub fn new(client: &Client, path: &str) -> Group {
        Group { client: client.clone(), path: path.to_owned(), acls: Acls::anyone_all(), turns: Arc::default() }
    }

    /// Who may do what with the nodes; everybody everything if nothing is said.
    pub fn with_acls(mut self, acls: Acls<'static>) -> Group {
        self.acls = acls;
        self
    }

    /// Joins under this name, as Apache Curator's `GroupMember` does. Waits while another session is in the group under it, or a membership by this
    /// value or a clone of it. Values that were made apart with the same client must not use the same name.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], [`Error::Refused`].
    pub async fn join(&self, id: &str, data: impl Into<Vec<u8>>) -> Result<Membership, Error> {
        let turn = self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(id.to_owned()).or_default().clone();
        let turn = Some(turn.lock_owned().await);
        let enrolment = Enrolment::new(&self.path, id, data.into(), self.client.session_id().0);
        let path = enrolment.node();
        // From here on the node may be there, whatever becomes of this future.
        let mut membership = Membership { client: self.client.clone(), acls: self.acls, path, enrolment, turn };
        membership.performer().drive(&mut membership.enrolment).await?;
        Ok(membership)
    }

    /// Joins under a random name, as kazoo's `Party` does; the data says who it is.
    ///
    /// # Errors
    ///
    /// As [`join`](Group::join).
    pub async fn join_party(&self, data: impl Into<Vec<u8>>) -> Result<Membership, Error> {
        self.join(&format!("{}__party__", Uuid::new_v4().simple()), data).await
    }

    /// All members, in the order in which they joined, as the server sees them that is asked.
    ///
    /// # Errors
    ///
    /// As [`join`](Group::join).
    pub async fn members(&self) -> Result<Vec<Member>, Error> {
        let names = loop {
            match self.client.list_children(&self.path).await {
                Ok(names) => break names,
                Err(ClientError::NoNode) => return Ok(Vec::new()),
                Err(error) => refused(&self.path, error)?,
            }
        };
        let mut members = Vec::with_capacity(names.len());
        for name in names {
            members.extend(self.member(&name).await?);
        }
        members.sort_by_key(|member: &Member| member.joined);
        Ok(members)
    }

    async fn member(&self, id: &str) -> Result<Option<Member>, Error> {
        let path = join(&self.path, id);
        loop {
            match self.client.get_data(&path).await {
                Ok((data, stat)) => {
                    let (joined, changed) = (stat.czxid, stat.mzxid);
                    return Ok(Some(Member { id: id.to_owned(), data, joined, changed }));
                }
                Err(ClientError::NoNode) => return Ok(None),
                Err(error) => refused(&path, error)?,
            }
        }
    }

    /// Follows the group: first everybody who is there, in the order of joining, then each join, change and leave. As long as the connection
    /// lasts nobody is missed, however short its stay; after a lost connection the watcher tells what is different.
    ///
    /// Needs servers of 3.6 or newer. Those before 3.9 do not tell which of several nodes of one name an event is about: every join is told all the same,
    /// but one that was followed by another of its name at once may come with the data of the later.
    ///
    /// # Errors
    ///
    /// As [`join`](Group::join).
    pub async fn changes(&self) -> Result<Changes, Error> {
        let performer = Performer::new(&self.client, self.acls);
        let mut changes = Changes { rollcall: Rollcall::new(&self.path), performer };
        changes.performer.drive(&mut Beginning(&mut changes.rollcall)).await?;
        Ok(changes)
    }
}

/// Until the group was listed.
struct Beginning<'a>(&'a mut Rollcall);

impl Recipe for Beginning<'_> {
    type Outcome = ();

    fn step(&mut self, now_ms: u64) -> Step<()> {
        if self.0.listed().times > 0 {
            return Step::Done(());
        }
        match self.0.step(now_ms) {
            Step::Ask(ask) => Step::Ask(ask),
            Step::Done(change) => unreachable!("{change:?} before the list"),
        }
    }

    fn handle(&mut self, reply: Reply) {
        self.0.handle(reply);
    }

    fn hear(&mut self, news: &News) {
        self.0.hear(news);
    }
}

/// The stream of what happens in a group.
#[derive(Debug)]
pub struct Changes {
    rollcall: Rollcall,
    performer: Performer,
}

impl Changes {
    /// Waits for the next change. May be dropped at any time; nothing is lost.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], and then always; [`Error::Refused`].
    pub async fn next(&mut self) -> Result<Change, Error> {
        self.performer.drive(&mut self.rollcall).await
    }
}

/// A membership of one's own. Dropped, the member leaves; [`leave`](Membership::leave) waits until that is certain.
#[must_use = "dropping a membership leaves the group"]
#[derive(Debug)]
pub struct Membership {
    client: Client,
    acls: Acls<'static>,
    path: String,
    enrolment: Enrolment,
    /// Until the node is gone for certain.
    turn: Option<OwnedMutexGuard<()>>,
}

impl Membership {
    /// The whole path of the node.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The zxid of the joining.
    pub fn joined(&self) -> i64 {
        self.enrolment.joined()
    }

    /// Says something else of this member.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`]; [`Error::Refused`], with `NoNode` if somebody deleted the node.
    pub async fn set_data(&self, data: &[u8]) -> Result<(), Error> {
        loop {
            match self.client.set_data(&self.path, data, None).await {
                Ok(_) => return Ok(()),
                Err(error) => refused(&self.path, error)?,
            }
        }
    }

    /// Waits until this is no membership any more: the session has ended, or somebody deleted the node.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub async fn lost(&self) -> Result<Loss, Error> {
        loop {
            let watcher = match self.client.check_and_watch_stat(&self.path).await {
                Ok((Some(stat), watcher)) if stat.czxid == self.joined() => watcher,
                Ok(_) => return Ok(Loss::NodeDeleted),
                Err(error) => match refused(&self.path, error) {
                    Ok(()) => continue,
                    Err(Error::SessionEnded(end)) => return Ok(Loss::SessionEnded(end)),
                    Err(error) => return Err(error),
                },
            };
            if let Some(end) = SessionEnd::of(watcher.changed().await.session_state) {
                return Ok(Loss::SessionEnded(end));
            }
        }
    }

    /// Leaves, and returns when the node is gone.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], and then the node goes with the session; [`Error::Refused`].
    pub async fn leave(mut self) -> Result<(), Error> {
        self.enrolment.leave();
        self.performer().drive(&mut self.enrolment).await.map(drop)
    }

    fn performer(&self) -> Performer {
        Performer::new(&self.client, self.acls)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.enrolment.leave();
        if self.enrolment.has_left() {
            return;
        }
        let (mut performer, mut enrolment) = (self.performer(), self.enrolment.clone());
        let turn = self.turn.take();
        in_background(async move {
            let _turn = turn;
            // An error means that the session is over, which deletes the node, or that the servers do not let us delete what is ours.
            let _ = performer.drive(&mut enrolment).await;
        });
    }
}
