//! An instance that stays registered: over lost connections and expired sessions, until it is taken away.
//!
//! What always holds: there is one node of a registration at most, and a dropped registration takes its node away in the background, as far as its type
//! says so. Counterpart: Apache Curator's `ServiceDiscoveryImpl`, whose nodes these are.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::sleep;
use zookeeper_client::{Acls, Client, CreateMode, Error as ClientError, MultiWriteError, OneshotWatcher, Stat};

use crate::drive::{delete, refused};
use crate::error::{Error, SessionEnd};
use crate::name::{is_numbered, join, parent};
use crate::sessions::Sessions;
use rookeeper_discovery::{Instance, ServiceType};

/// After a refusal of what was registered before.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Why an instance is registered no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unregistered {
    /// It was taken away by its owner.
    #[error("the registration was taken away")]
    Left,
    /// Somebody else deleted the node, which is how an instance is taken out of service by hand, or has registered under the same id since.
    #[error("the node was deleted, or taken by another instance of the same id")]
    NodeDeleted,
    /// It could not be registered at all, or cannot be any more.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// What the owner wants.
#[derive(Debug, Clone)]
struct Wanted {
    instance: Instance,
    revision: u64,
    leaves: bool,
}

/// What is.
#[derive(Debug, Clone, Default)]
struct Standing {
    /// Where the node is, while there is one as far as is known.
    path: Option<String>,
    /// Of the content that was written last; 0 before the first.
    revision: u64,
    over: Option<Unregistered>,
}

/// The registration of an instance. Dropped, it is taken away, but for a [permanent](ServiceType::Permanent) one; [`leave`](Registration::leave) waits until
/// that is certain.
#[must_use = "dropping a registration takes the instance away"]
#[derive(Debug)]
pub struct Registration {
    wanted: watch::Sender<Wanted>,
    standing: watch::Receiver<Standing>,
    /// One change after the other.
    changing: Arc<Mutex<()>>,
}

impl Registration {
    pub(crate) async fn begin(
        sessions: &Sessions,
        base: &str,
        acls: Acls<'static>,
        instance: Instance,
        turn: OwnedMutexGuard<()>,
    ) -> Result<Registration, Unregistered> {
        let (wanted, of_owner) = watch::channel(Wanted { instance, revision: 1, leaves: false });
        let (standing, seen) = watch::channel(Standing::default());
        let keeper = Keeper {
            sessions: sessions.clone(),
            base: base.to_owned(),
            acls,
            wanted: of_owner,
            standing,
            node: None,
            may_exist: false,
        };
        tokio::spawn(async move {
            keeper.run().await;
            // The node is gone for certain.
            drop(turn);
        });
        // From here on a node may be there, whatever becomes of this future.
        let registration = Registration { wanted, standing: seen, changing: Arc::default() };
        registration.written(1).await?;
        Ok(registration)
    }

    /// The instance as its owner wants it.
    pub fn instance(&self) -> Instance {
        self.wanted.borrow().instance.clone()
    }

    /// The whole path of the node, while there is one as far as is known. None after a session has expired, until it is registered again.
    pub fn path(&self) -> Option<String> {
        self.standing.borrow().path.clone()
    }

    /// Says something else of the instance: that it is not [enabled](Instance::enabled) any more, or another payload. Its name, id and type stay. Returns when
    /// that is written; dropped before, it is written all the same.
    ///
    /// # Errors
    ///
    /// Why the instance is registered no more.
    pub async fn change(&self, change: impl FnOnce(&mut Instance)) -> Result<(), Unregistered> {
        let revision = {
            let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let mut wanted = self.wanted.borrow().clone();
            let Instance { name, id, service_type, .. } = wanted.instance.clone();
            change(&mut wanted.instance);
            wanted.instance = Instance { name, id, service_type, ..wanted.instance };
            wanted.revision += 1;
            let revision = wanted.revision;
            self.wanted.send_replace(wanted);
            revision
        };
        self.written(revision).await
    }

    /// Waits until the instance is registered no more, although nobody who has this value took it away. An expired session is no such end: the instance is
    /// registered again.
    pub async fn lost(&self) -> Unregistered {
        let mut standing = self.standing.clone();
        let over = standing.wait_for(|standing| standing.over.is_some()).await;
        over.ok().and_then(|standing| standing.over.clone()).unwrap_or(Unregistered::Left)
    }

    /// Takes the instance away, and returns when its node is gone. Of a permanent one the node stays.
    ///
    /// # Errors
    ///
    /// [`Unregistered::Failed`] if the servers do not let the node be deleted.
    pub async fn leave(self) -> Result<(), Unregistered> {
        self.wanted.send_modify(|wanted| wanted.leaves = true);
        match self.lost().await {
            failed @ Unregistered::Failed(Error::Refused { .. }) => Err(failed),
            _ => Ok(()),
        }
    }

    async fn written(&self, revision: u64) -> Result<(), Unregistered> {
        let mut standing = self.standing.clone();
        let written = standing.wait_for(|standing| standing.over.is_some() || standing.revision >= revision).await;
        match written.map(|standing| standing.over.clone()) {
            Ok(None) => Ok(()),
            Ok(Some(over)) => Err(over),
            // The runtime has ended.
            Err(_) => Err(Unregistered::Left),
        }
    }
}

/// The task behind a registration. It ends when the owner is gone and the node as well.
struct Keeper {
    sessions: Sessions,
    base: String,
    acls: Acls<'static>,
    wanted: watch::Receiver<Wanted>,
    standing: watch::Sender<Standing>,
    /// The node, in the session that was used last.
    node: Option<Node>,
    /// Whether a node may be there that is not known.
    may_exist: bool,
}

#[derive(Debug, Clone)]
struct Node {
    path: String,
    czxid: i64,
}

/// Why a session is done with.
enum End {
    Session(SessionEnd),
    Refused(Error),
    Over(Unregistered),
}

impl From<Error> for End {
    fn from(error: Error) -> End {
        match error {
            Error::SessionEnded(end) => End::Session(end),
            error => End::Refused(error),
        }
    }
}

impl Keeper {
    async fn run(mut self) {
        loop {
            let is_dynamic = self.wanted.borrow().instance.service_type.is_dynamic();
            let is_nothing_there = is_dynamic || self.node.is_none() && !self.may_exist;
            // Without a session nothing of a dynamic instance is there.
            let client = tokio::select! {
                client = self.sessions.client() => client,
                () = left(self.wanted.clone()), if is_nothing_there => return self.over(Unregistered::Left),
            };
            let client = match client {
                Ok(client) => client,
                Err(error) => return self.over(error.into()),
            };
            let Err(end) = self.keep(&client).await;
            drop(client);
            let was_registered = self.standing.borrow().revision > 0;
            match end {
                End::Over(over) => return self.over(over),
                End::Session(end @ SessionEnd::AuthFailed) => return self.over(Error::SessionEnded(end).into()),
                End::Session(_) => {
                    if is_dynamic {
                        self.node = None;
                        self.standing.send_modify(|standing| standing.path = None);
                    }
                }
                // What was registered once has to return.
                End::Refused(_) if was_registered && !has_left(&self.wanted) => sleep(RETRY_PAUSE).await,
                End::Refused(error) => return self.over(error.into()),
            }
        }
    }

    fn over(&self, over: Unregistered) {
        self.standing.send_modify(|standing| {
            standing.path = None;
            standing.over = Some(over);
        });
    }

    /// Until the session is over, or the registration.
    async fn keep(&mut self, client: &Client) -> Result<Infallible, End> {
        loop {
            if has_left(&self.wanted) {
                self.leave(client).await?;
                return Err(End::Over(Unregistered::Left));
            }
            let wanted = self.wanted.borrow_and_update().clone();
            let data = wanted.instance.encode();
            let watcher = match self.node.clone() {
                None => {
                    self.may_exist = true;
                    let node = self.create(client, &wanted.instance, &data).await?;
                    self.may_exist = false;
                    self.node = Some(node);
                    continue;
                }
                Some(node) => self.write(client, &node, &data).await?,
            };
            let path = self.node.as_ref().map(|node| node.path.clone());
            self.standing.send_modify(|standing| {
                standing.path = path;
                standing.revision = wanted.revision;
            });
            tokio::select! {
                event = watcher.changed() => {
                    if let Some(end) = SessionEnd::of(event.session_state) {
                        return Err(End::Session(end));
                    }
                }
                // An error means that the owner is gone, which is seen above.
                _ = self.wanted.changed() => {}
            }
        }
    }

    /// Makes the node, or finds that it was made.
    async fn create(&self, client: &Client, instance: &Instance, data: &[u8]) -> Result<Node, Error> {
        let service = join(&self.base, &instance.name);
        let path = join(&service, &instance.id);
        let mode = match instance.service_type {
            ServiceType::Dynamic => CreateMode::Ephemeral,
            ServiceType::DynamicSequential => CreateMode::EphemeralSequential,
            ServiceType::Static | ServiceType::Permanent => CreateMode::Persistent,
        };
        let options = mode.with_acls(self.acls);
        let mut may_exist = false;
        loop {
            if may_exist
                && instance.service_type == ServiceType::DynamicSequential
                && let Some(node) = self.find(client, &service, &instance.id).await?
            {
                return Ok(node);
            }
            let created = match client.create(&path, data, &options).await {
                Ok((stat, number)) if instance.service_type == ServiceType::DynamicSequential => {
                    return Ok(Node { path: format!("{path}{number}"), czxid: stat.czxid });
                }
                Ok((stat, _)) => return Ok(Node { path, czxid: stat.czxid }),
                Err(error) => error,
            };
            match created {
                ClientError::NoNode => {
                    let containers = CreateMode::Container.with_acls(self.acls);
                    let made = client.mkdir(parent(&path), &containers).await;
                    made.or_else(|error| refused(&path, error))?;
                }
                ClientError::NodeExists => {
                    if let Some(czxid) = self.take_over(client, &path, instance.service_type, data).await? {
                        return Ok(Node { path, czxid });
                    }
                }
                error => {
                    refused(&path, error)?;
                    may_exist = true;
                }
            }
        }
    }

    /// A sequential node of this session, where the answer to its create was lost.
    async fn find(&self, client: &Client, service: &str, id: &str) -> Result<Option<Node>, Error> {
        let names = loop {
            let names = match client.sync(service).await {
                Ok(()) => client.list_children(service).await,
                Err(error) => Err(error),
            };
            match names {
                Ok(names) => break names,
                Err(ClientError::NoNode) => return Ok(None),
                Err(error) => refused(service, error)?,
            }
        };
        let ours = names.into_iter().filter(|name| is_numbered(name, id));
        for path in ours.map(|name| join(service, &name)) {
            if let Some(stat) = stat(client, &path).await?
                && stat.ephemeral_owner == client.session_id().0
            {
                return Ok(Some(Node { path, czxid: stat.czxid }));
            }
        }
        Ok(None)
    }

    /// There is a node of this id: ours, whose create had a lost answer; that of a session before, which may take a while to expire; or that of another process.
    /// Whoever registers last has it, as with Apache Curator, but in one transaction. Nothing means: look again.
    async fn take_over(
        &self,
        client: &Client,
        path: &str,
        service_type: ServiceType,
        data: &[u8],
    ) -> Result<Option<i64>, Error> {
        let Some(there) = stat(client, path).await? else { return Ok(None) };
        let is_ours = if service_type.is_dynamic() {
            there.ephemeral_owner == client.session_id().0
        } else {
            there.ephemeral_owner == 0
        };
        if is_ours {
            return Ok(Some(there.czxid));
        }
        let mode = if service_type.is_dynamic() { CreateMode::Ephemeral } else { CreateMode::Persistent };
        let mut anew = client.new_multi_writer();
        let added = anew.add_delete(path, Some(there.version));
        let added = added.and_then(|()| anew.add_create(path, data, &mode.with_acls(self.acls)));
        added.map_err(|error| Error::Refused { path: path.to_owned(), error })?;
        match anew.commit().await {
            // Servers do not tell everything of what a transaction made.
            Ok(_) => Ok(None),
            Err(MultiWriteError::OperationFailed {
                source: ClientError::NoNode | ClientError::BadVersion | ClientError::NodeExists,
                ..
            }) => Ok(None),
            Err(MultiWriteError::RequestFailed { source } | MultiWriteError::OperationFailed { source, .. }) => {
                refused(path, source).map(|()| None)
            }
        }
    }

    /// Sees to it that the node has this content, and watches it.
    async fn write(&self, client: &Client, node: &Node, data: &[u8]) -> Result<OneshotWatcher, End> {
        loop {
            let there = match client.get_and_watch_data(&node.path).await {
                Ok((_, stat, _)) if stat.czxid != node.czxid => return Err(End::Over(Unregistered::NodeDeleted)),
                Ok((there, _, watcher)) if there == data => return Ok(watcher),
                Ok((_, stat, _)) => client.set_data(&node.path, data, Some(stat.version)).await.map(drop),
                Err(error) => Err(error),
            };
            match there {
                Ok(()) | Err(ClientError::BadVersion) => {}
                Err(ClientError::NoNode) => return Err(End::Over(Unregistered::NodeDeleted)),
                Err(error) => refused(&node.path, error)?,
            }
        }
    }

    async fn leave(&mut self, client: &Client) -> Result<(), Error> {
        let instance = self.wanted.borrow().instance.clone();
        let node = match self.node.clone() {
            _ if instance.service_type == ServiceType::Permanent => return Ok(()),
            Some(node) => node,
            None if self.may_exist && instance.service_type == ServiceType::Static => {
                return delete(client, &join(&join(&self.base, &instance.name), &instance.id)).await;
            }
            None => return Ok(()),
        };
        // Under this id another may have registered meanwhile.
        if stat(client, &node.path).await?.is_some_and(|stat| stat.czxid == node.czxid) {
            delete(client, &node.path).await?;
        }
        Ok(())
    }
}

/// The stat of a node behind a `sync`.
async fn stat(client: &Client, path: &str) -> Result<Option<Stat>, Error> {
    loop {
        let stat = match client.sync(path).await {
            Ok(()) => client.check_stat(path).await,
            Err(error) => Err(error),
        };
        match stat {
            Ok(stat) => return Ok(stat),
            Err(error) => refused(path, error)?,
        }
    }
}

fn has_left(wanted: &watch::Receiver<Wanted>) -> bool {
    wanted.has_changed().is_err() || wanted.borrow().leaves
}

/// Until the owner leaves or is gone.
async fn left(mut wanted: watch::Receiver<Wanted>) {
    // An error means that the owner is gone.
    let _ = wanted.wait_for(|wanted| wanted.leaves).await;
}
