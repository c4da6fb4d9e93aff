//! A value that follows what is in a node or a subtree: configuration, and whatever else is published and subscribed to.
//!
//! What always holds: a value is what was in the tree at one moment; the value of the last moment is told, however often connections and sessions
//! were lost meanwhile; and what once was good stays until something else is good.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use zookeeper_client::{
    AddWatchMode, Client, Error as ClientError, EventType, PersistentWatcher, SessionState, WatchedEvent,
};

use crate::drive::refused;
use crate::error::{Error, SessionEnd};
use crate::mirror::{Ask, Happened, Mirror, Node, Scope, Tree};
use crate::name::join;
use crate::sessions::Sessions;

/// After a refusal, which another ACL may take back without an event.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Why a value is not what is on the servers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The node does not exist.
    #[error("the node does not exist")]
    Missing,
    /// What is there could not be decoded; the reason is the decoder's.
    #[error("the content cannot be decoded: {0}")]
    Undecodable(String),
    /// The servers do not let the client read it, or cannot watch it. Another attempt follows every second.
    #[error(transparent)]
    Refused(Error),
    /// Nothing is followed any more: the servers refused the client's credentials, or the decoder panicked.
    #[error("nothing is followed any more: {0}")]
    Stopped(String),
}

/// What is known of a value.
#[derive(Debug)]
pub struct State<T> {
    /// The last value that was good; nothing until there was one.
    pub value: Option<Arc<T>>,
    /// Why what is there now, as far as is known, is not the value.
    pub problem: Option<Problem>,
    /// Whether a server is there that tells of each change. If not, the value and the problem may be of the past.
    pub is_live: bool,
}

impl<T> Clone for State<T> {
    fn clone(&self) -> State<T> {
        State { value: self.value.clone(), problem: self.problem.clone(), is_live: self.is_live }
    }
}

/// A value that follows a node or a subtree, in a task of its own. Clones share the task; it ends with the last of them.
///
/// | what happens | what follows |
/// | --- | --- |
/// | the connection is lost | the value stays; [`State::is_live`] is false until all was read again |
/// | the session expires | the same, with another session |
/// | new content does not decode, or the node is deleted | the value stays; [`State::problem`] says why |
/// | the value changes faster than somebody takes it | values in between are left out, never the last |
/// | a future is dropped | nothing is lost: the next call tells the newest state that was not told |
/// | a `multi` changes several nodes of a subtree | they are seen together. Only a subtree that changes during a hundred readings in a row is told as it was read |
/// | the process dies | nothing of it is on the servers |
///
/// Needs servers of 3.6 or newer. On servers before 3.9 a session has one watch for each path: do not look at the same path in another way with the same
/// [`Sessions`].
///
/// ```
/// # rookeeper_acceptance::example(async |address: String| {
/// use rookeeper_recipes::{Followed, Sessions};
/// use zookeeper_client::{Acls, Client, CreateMode};
///
/// let sessions = Sessions::new(Client::connector(), &address);
/// let limit = Followed::node(&sessions, "/limit", |content| std::str::from_utf8(content)?.parse::<u32>().map_err(anyhow::Error::from));
///
/// let client = sessions.client().await?;
/// client.create("/limit", b"12", &CreateMode::Persistent.with_acls(Acls::anyone_all())).await?;
/// assert_eq!(*limit.value().await?, 12);
///
/// let mut changes = limit.changes();
/// client.set_data("/limit", b"many", None).await?;
/// while changes.next().await.expect("it is followed").problem.is_none() {}
/// assert_eq!(*limit.value().await?, 12);
/// # anyhow::Ok(()) });
/// ```
pub struct Followed<T> {
    states: watch::Receiver<State<T>>,
    _task: Arc<Task>,
}

impl<T> Clone for Followed<T> {
    fn clone(&self) -> Followed<T> {
        Followed { states: self.states.clone(), _task: Arc::clone(&self._task) }
    }
}

impl<T> fmt::Debug for Followed<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Followed").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T: Send + Sync + 'static> Followed<T> {
    /// Follows the content of one node. Call on a runtime of tokio.
    pub fn node<E: fmt::Display>(
        sessions: &Sessions,
        path: &str,
        decode: impl Fn(&[u8]) -> Result<T, E> + Send + 'static,
    ) -> Followed<T> {
        Followed::tree(sessions, path, Scope::Node, move |tree| match tree.get("") {
            Some(node) => decode(&node.data).map_err(|error| Problem::Undecodable(error.to_string())),
            None => Err(Problem::Missing),
        })
    }

    /// Follows the content of a node and of all below it. Call on a runtime of tokio.
    pub fn subtree<E: fmt::Display>(
        sessions: &Sessions,
        path: &str,
        decode: impl Fn(&Tree) -> Result<T, E> + Send + 'static,
    ) -> Followed<T> {
        Followed::tree(sessions, path, Scope::Subtree, move |tree| match tree.is_empty() {
            false => decode(tree).map_err(|error| Problem::Undecodable(error.to_string())),
            true => Err(Problem::Missing),
        })
    }

    /// Follows a tree, whose absence may be a value as well. Call on a runtime of tokio.
    pub fn tree(
        sessions: &Sessions,
        path: &str,
        scope: Scope,
        decode: impl Fn(&Tree) -> Result<T, Problem> + Send + 'static,
    ) -> Followed<T> {
        let (sender, states) = watch::channel(State { value: None, problem: None, is_live: false });
        let follower = Follower {
            sessions: sessions.clone(),
            path: path.to_owned(),
            scope,
            decode,
            mirror: Mirror::new(scope),
            told: None,
            is_lost: false,
            sender,
        };
        Followed { states, _task: Arc::new(Task(tokio::spawn(follower.run()))) }
    }
}

impl<T> Followed<T> {
    /// What is known now.
    pub fn state(&self) -> State<T> {
        self.states.borrow().clone()
    }

    /// The last value that was good; waits until there is one. A node that does not exist may yet be created, so put a limit around this where that matters.
    ///
    /// # Errors
    ///
    /// [`Problem::Stopped`]: there never will be one.
    pub async fn value(&self) -> Result<Arc<T>, Problem> {
        let mut states = self.states.clone();
        loop {
            let state = states.borrow_and_update().clone();
            if let Some(value) = state.value {
                return Ok(value);
            }
            // An error means that the task is gone, and then its last word is there.
            if states.changed().await.is_err() && states.borrow().value.is_none() {
                return Err(state.problem.unwrap_or_else(|| Problem::Stopped("the runtime has ended".to_owned())));
            }
        }
    }

    /// The states from now on, the present one first.
    pub fn changes(&self) -> States<T> {
        let mut followed = self.clone();
        followed.states.mark_changed();
        States { followed }
    }
}

/// The stream of the states of a [`Followed`] value.
#[derive(Debug)]
pub struct States<T> {
    followed: Followed<T>,
}

impl<T> States<T> {
    /// Waits for a state that was not told yet, and gives the newest. Nothing: nothing is followed any more, and the last state said why. May be
    /// dropped at any time; nothing is lost.
    pub async fn next(&mut self) -> Option<State<T>> {
        self.followed.states.changed().await.ok()?;
        Some(self.followed.states.borrow_and_update().clone())
    }
}

struct Follower<T, D> {
    sessions: Sessions,
    path: String,
    scope: Scope,
    decode: D,
    mirror: Mirror,
    /// The tree of the last value or problem.
    told: Option<Tree>,
    /// Between the loss of a connection and the next watch.
    is_lost: bool,
    sender: watch::Sender<State<T>>,
}

/// What an event means.
enum Event {
    Node(String, Happened),
    Lost,
    /// The connection is there again, and events may have been missed.
    Back,
    End(SessionEnd),
    Nothing,
}

impl<T, D: Fn(&Tree) -> Result<T, Problem>> Follower<T, D> {
    async fn run(mut self) {
        loop {
            let client = match self.sessions.client().await {
                Ok(client) => client,
                Err(error) => return self.stopped(&error.to_string()),
            };
            let Err(error) = self.follow(&client).await;
            drop(client);
            match error {
                Error::SessionEnded(SessionEnd::AuthFailed) => return self.stopped(&error.to_string()),
                Error::SessionEnded(_) => self.live(false),
                refusal => {
                    self.told = None;
                    self.sender.send_modify(|state| {
                        state.is_live = false;
                        state.problem = Some(Problem::Refused(refusal));
                    });
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Until the session is over, or the servers refuse something.
    async fn follow(&mut self, client: &Client) -> Result<std::convert::Infallible, Error> {
        let mut watcher = self.begin(client).await?;
        loop {
            while let Some(event) = now(watcher.changed()) {
                if self.handle(&event)? {
                    watcher = self.begin(client).await?;
                }
            }
            let asks = self.mirror.asks();
            if !self.is_lost {
                self.tell();
            }
            if asks.is_empty() {
                let event = watcher.changed().await;
                if self.handle(&event)? {
                    watcher = self.begin(client).await?;
                }
            } else {
                self.ask(client, asks).await?;
            }
        }
    }

    /// Watches, and has everything read again.
    async fn begin(&mut self, client: &Client) -> Result<PersistentWatcher, Error> {
        let mode = match self.scope {
            Scope::Node => AddWatchMode::Persistent,
            Scope::Subtree => AddWatchMode::PersistentRecursive,
        };
        loop {
            // Another session may be at a server that is behind what was told already.
            let watched = match client.sync(&self.path).await {
                // zookeeper-client 0.11 does not set persistent watches again at another connection. The new one is there before the old one is
                // dropped, so the servers keep it.
                Ok(()) => client.watch(&self.path, mode).await,
                Err(error) => Err(error),
            };
            match watched {
                Ok(watcher) => {
                    self.is_lost = false;
                    self.mirror.begin();
                    return Ok(watcher);
                }
                Err(error) => refused(&self.path, error)?,
            }
        }
    }

    /// Whether the watch has to be set again.
    fn handle(&mut self, event: &WatchedEvent) -> Result<bool, Error> {
        match self.understand(event) {
            Event::Node(path, happened) => self.mirror.event(&path, happened),
            Event::Lost => {
                self.is_lost = true;
                self.live(false);
            }
            Event::Back => return Ok(true),
            // The watcher must not be asked again.
            Event::End(end) => return Err(end.into()),
            Event::Nothing => {}
        }
        Ok(false)
    }

    fn understand(&self, event: &WatchedEvent) -> Event {
        let happened = match event.event_type {
            EventType::Session => {
                return match (SessionEnd::of(event.session_state), event.session_state) {
                    (Some(end), _) => Event::End(end),
                    (None, SessionState::SyncConnected | SessionState::ConnectedReadOnly) => Event::Back,
                    (None, _) => Event::Lost,
                };
            }
            EventType::NodeCreated | EventType::NodeDataChanged => Happened::Written,
            EventType::NodeDeleted => Happened::Deleted,
            EventType::NodeChildrenChanged => return Event::Nothing,
        };
        let root = self.path.trim_end_matches('/');
        match event.path.strip_prefix(root).map(|rest| (rest.trim_start_matches('/'), rest.len())) {
            Some((below, length)) if self.scope == Scope::Subtree || length == 0 => {
                Event::Node(below.to_owned(), happened)
            }
            _ => Event::Nothing,
        }
    }

    /// Sends all questions at once, and hands the answers on.
    async fn ask(&mut self, client: &Client, asks: Vec<Ask>) -> Result<(), Error> {
        let sent: Vec<_> = asks
            .into_iter()
            .map(|ask| {
                let path = if ask.path.is_empty() { self.path.clone() } else { join(&self.path, &ask.path) };
                let data = client.get_data(&path);
                let children = ask.with_children.then(|| client.get_children(&path));
                (ask, path, data, children)
            })
            .collect();
        for (ask, path, data, children) in sent {
            let answer = async {
                let (data, stat) = data.await?;
                let children = match children {
                    Some(children) => children.await?.0,
                    None => Vec::new(),
                };
                Ok((Node { data, version: stat.version, created: stat.czxid, changed: stat.mzxid }, children))
            };
            match answer.await {
                Ok(answer) => self.mirror.answer(&ask, Some(answer)),
                Err(ClientError::NoNode) => self.mirror.answer(&ask, None),
                // Stays to be asked; the watcher says when there is somebody to ask.
                Err(error) => refused(&path, error)?,
            }
        }
        Ok(())
    }

    fn tell(&mut self) {
        let Some(tree) = self.mirror.tree() else { return };
        if self.told.as_ref() == Some(tree) {
            return self.live(true);
        }
        let decoded = (self.decode)(tree);
        self.told = Some(tree.clone());
        self.sender.send_modify(|state| {
            state.is_live = true;
            match decoded {
                Ok(value) => {
                    state.value = Some(Arc::new(value));
                    state.problem = None;
                }
                Err(problem) => state.problem = Some(problem),
            }
        });
    }

    fn live(&self, is_live: bool) {
        self.sender.send_if_modified(|state| std::mem::replace(&mut state.is_live, is_live) != is_live);
    }

    fn stopped(&self, why: &str) {
        self.sender.send_modify(|state| {
            state.is_live = false;
            state.problem = Some(Problem::Stopped(why.to_owned()));
        });
    }
}

impl<T, D> Drop for Follower<T, D> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.sender.send_modify(|state| {
                state.is_live = false;
                state.problem = Some(Problem::Stopped("the decoder panicked".to_owned()));
            });
        }
    }
}

/// What a future has to say without waiting.
pub(crate) fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
