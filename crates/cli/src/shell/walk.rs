//! A walk through a subtree in slices: parents before their children, children by name, and each node is left when all below it was seen.
//!
//! What always holds: memory has the names of the siblings along one path, and a window of nodes that are read ahead, however large the tree
//! is. The tree may change meanwhile: each node is as it was when it was read, and a node that goes before it is read is left out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::vec;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use zookeeper_client::{Acl, Client, Error, Stat};

use super::failure::{Failure, refused};
use super::path;

/// Nodes that are read ahead. Each has a megabyte of data in the worst case.
const WINDOW: usize = 64;
/// Of these, children of one node: the rest is for what is below them, which comes before.
const WINDOW_OF_SIBLINGS: usize = 32;
/// Children that are asked for as soon as their node is known.
const CHILDREN_AT_ONCE: usize = 8;

/// The nodes that the server keeps for itself.
const SYSTEM: &str = "/zookeeper";

/// Of a node that the server does not show.
const UNKNOWN: Stat = Stat {
    czxid: 0,
    mzxid: 0,
    pzxid: 0,
    ctime: 0,
    mtime: 0,
    version: 0,
    cversion: 0,
    aversion: 0,
    ephemeral_owner: 0,
    data_length: 0,
    num_children: 0,
};

/// What is read of each node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Stat,
    /// Data and access control too.
    All,
}

/// A node that was read.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) path: String,
    /// 0 is the root of the walk.
    pub(crate) depth: usize,
    /// No sibling follows.
    pub(crate) is_last: bool,
    pub(crate) stat: Stat,
    pub(crate) data: Vec<u8>,
    pub(crate) acl: Vec<Acl>,
    /// The server does not let this session read it: of its data, and of what is below, nothing is known.
    pub(crate) is_closed: bool,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Step {
    Enter(Node),
    /// All below was seen.
    Leave {
        path: String,
        depth: usize,
        stat: Stat,
    },
}

/// The session with which a node ends. Servers tell of no other kind: containers and nodes with a time to live look like any other.
pub(crate) fn session_of(stat: &Stat) -> Option<i64> {
    (stat.ephemeral_owner != 0).then_some(stat.ephemeral_owner)
}

struct Read {
    stat: Stat,
    data: Vec<u8>,
    acl: Vec<Acl>,
    /// The children in their order, those first that are being read already.
    reading: VecDeque<Reading>,
    names: vec::IntoIter<String>,
    is_closed: bool,
}

/// A node that is being read ahead, with the place that it takes among those.
struct Reading {
    path: String,
    task: JoinHandle<Result<Option<Read>, Failure>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Frame {
    path: String,
    stat: Stat,
    reading: VecDeque<Reading>,
    names: vec::IntoIter<String>,
}

/// What all that reads for one walk has in common.
#[derive(Clone)]
struct Reader {
    client: Client,
    want: Want,
    visits_system: bool,
    places: Arc<Semaphore>,
}

/// A walk that is under way.
pub(crate) struct Walk {
    reader: Reader,
    /// Nodes below this depth are not visited.
    deepest: usize,
    /// Until it was entered.
    root: Option<String>,
    frames: Vec<Frame>,
}

impl Walk {
    pub(crate) fn new(client: Client, root: &str, want: Want) -> Walk {
        let places = Arc::new(Semaphore::new(WINDOW));
        let reader = Reader { client, want, visits_system: true, places };
        Walk { reader, deepest: usize::MAX, root: Some(root.to_owned()), frames: Vec::new() }
    }

    pub(crate) fn down_to(mut self, deepest: usize) -> Walk {
        self.deepest = deepest;
        self
    }

    /// Leaves out what the server keeps for itself, unless the walk begins there.
    pub(crate) fn without_system(mut self) -> Walk {
        self.reader.visits_system = self.root.as_deref().is_some_and(|root| root.starts_with(SYSTEM));
        self
    }

    /// The next step; none at the end. An error where a node cannot be read for another reason than that it is closed or gone.
    pub(crate) async fn next(&mut self) -> Result<Option<Step>, Failure> {
        if let Some(root) = self.root.take() {
            let read = self.reader.clone().read(root.clone(), self.deepest).await?;
            let read = read.ok_or_else(|| refused(&Error::NoNode, &root))?;
            return Ok(Some(self.enter(root, true, read)));
        }
        loop {
            let depth = self.frames.len();
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            self.reader.read_ahead(frame, self.deepest.saturating_sub(depth));
            let Some(mut next) = frame.reading.pop_front() else {
                let left = self.frames.pop();
                return Ok(left.map(|frame| Step::Leave { path: frame.path, depth: depth - 1, stat: frame.stat }));
            };
            let is_last = frame.reading.is_empty() && frame.names.as_slice().is_empty();
            let read = (&mut next.task).await.map_err(|error| Failure::Refused(error.to_string()))??;
            if let Some(read) = read {
                return Ok(Some(self.enter(std::mem::take(&mut next.path), is_last, read)));
            }
        }
    }

    fn enter(&mut self, path: String, is_last: bool, read: Read) -> Step {
        let depth = self.frames.len();
        let Read { stat, data, acl, reading, names, is_closed } = read;
        self.frames.push(Frame { path: path.clone(), stat, reading, names });
        Step::Enter(Node { path, depth, is_last, stat, data, acl, is_closed })
    }
}

impl Reader {
    /// Begins to read the next children of a node, at least one if there is one.
    fn read_ahead(&self, frame: &mut Frame, deepest: usize) {
        while frame.reading.len() < WINDOW_OF_SIBLINGS {
            let place = Arc::clone(&self.places).try_acquire_owned().ok();
            if place.is_none() && !frame.reading.is_empty() {
                return;
            }
            let Some(name) = frame.names.next() else { return };
            let path = path::join(&frame.path, &name);
            if path != SYSTEM || self.visits_system {
                frame.reading.push_back(self.begin(path, deepest, place));
            }
        }
    }

    /// Not async, and so of a type that has a name: reading begins to read.
    fn begin(&self, path: String, deepest: usize, place: Option<OwnedSemaphorePermit>) -> Reading {
        let task = tokio::spawn(self.clone().read(path.clone(), deepest));
        Reading { path, task, _place: place }
    }

    /// Reads a node and begins to read some of its children, where there are places: the children of a node are waited for before its far siblings.
    /// None where the node has gone.
    async fn read(self, path: String, deepest: usize) -> Result<Option<Read>, Failure> {
        let client = &self.client;
        let answer = match self.want {
            Want::Stat => {
                client.get_children(&path).await.map(|(children, stat)| (stat, Vec::new(), Vec::new(), children))
            }
            Want::All => {
                let all = tokio::try_join!(client.get_data(&path), client.get_acl(&path), client.list_children(&path));
                all.map(|((data, stat), (acl, _), children)| (stat, data, acl, children))
            }
        };
        let (stat, data, acl, mut children, is_closed) = match answer {
            Ok((stat, data, acl, children)) => (stat, data, acl, children, false),
            Err(Error::NoNode) => return Ok(None),
            // A server may not tell the stat either.
            Err(Error::NoAuth) => match client.check_stat(&path).await {
                Ok(None) => return Ok(None),
                Ok(Some(stat)) => (stat, Vec::new(), Vec::new(), Vec::new(), true),
                Err(Error::NoAuth) => (UNKNOWN, Vec::new(), Vec::new(), Vec::new(), true),
                Err(error) => return Err(refused(&error, &path)),
            },
            Err(error) => return Err(refused(&error, &path)),
        };
        if deepest == 0 {
            children.clear();
        }
        children.sort_unstable();
        let (mut names, mut reading) = (children.into_iter(), VecDeque::new());
        // What the server keeps for itself is known by its path, so children of the root are left to the walk.
        while path != "/"
            && reading.len() < CHILDREN_AT_ONCE
            && names.len() > 0
            && let Ok(place) = Arc::clone(&self.places).try_acquire_owned()
            && let Some(name) = names.next()
        {
            reading.push_back(self.begin(path::join(&path, &name), deepest - 1, Some(place)));
        }
        Ok(Some(Read { stat, data, acl, reading, names, is_closed }))
    }
}
