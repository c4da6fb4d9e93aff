//! Requests and answers as data, for recipes whose logic does no IO.
//!
//! A recipe says what it wants asked ([`Recipe::step`]) and takes the answer ([`Recipe::handle`]). `perform.rs` asks a real server; a simulation asks
//! servers in virtual time. So the logic that ships is the logic that is simulated.
//!
//! What always holds: at most one request of a recipe is under way. [`Reply::Unknown`] means that it was carried out, or was not, and will not be
//! later than the next `sync` is answered.

/// How long a node stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Persistent,
    /// Until its last child is gone.
    Container,
    /// Until the session ends.
    Ephemeral,
    /// Persistent, with a number behind its name.
    Sequential,
    /// Until the session ends, with a number behind its name.
    EphemeralSequential,
}

impl Kind {
    pub fn is_ephemeral(self) -> bool {
        matches!(self, Kind::Ephemeral | Kind::EphemeralSequential)
    }

    pub fn is_sequential(self) -> bool {
        matches!(self, Kind::Sequential | Kind::EphemeralSequential)
    }
}

/// One request, or to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Make a path and all that is missing above it, of persistent nodes. Answered by `Done`.
    MakePath { path: String },
    /// The same, of containers, which the servers remove when their last child is gone.
    MakeContainer { path: String },
    /// Answered by `Created`, `NodeExists`, `NoNode`.
    Create { path: String, data: Vec<u8>, kind: Kind },
    /// Answered by `Done`, `NoNode`, `NotEmpty`.
    Delete { path: String },
    /// Answered by `Facts`, `NoNode`, `BadVersion`; without a version the data is set whatever it was.
    Set { path: String, data: Vec<u8>, version: Option<i32> },
    /// Answered by `Data`, `NoNode`. A watch is set only where there is a node.
    Get { path: String, watch: bool },
    /// Answered by `Facts`, `NoNode`. A watch is set in either case.
    Exists { path: String, watch: bool },
    /// Answered by `Names`, `NoNode`. A watch is set only where there is a node.
    Children { path: String, watch: bool },
    /// The names, and when the last of them came or went. Answered by `Listed`, `NoNode`.
    List { path: String },
    /// To hear of all that happens below the path, until the connection is lost: [`Recipe::hear`]. Answered by `Done`.
    Follow { path: String },
    /// `sync`, so that the next answer shows everything that was ever accepted. Answered by `Done`.
    Sync { path: String },
    /// All or nothing. Answered by `Made`, `Failed`.
    Multi(Vec<Op>),
    /// Until a watch fires, or until this time in milliseconds; at once where a watch has fired since the last wait. Answered by `Waited`, also where
    /// there is nothing new.
    Wait { until_ms: Option<u64> },
}

/// A part of [`Ask::Multi`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// The node exists, with this version where one is named.
    Check {
        path: String,
        version: Option<i32>,
    },
    Create {
        path: String,
        data: Vec<u8>,
        kind: Kind,
    },
    Set {
        path: String,
        data: Vec<u8>,
        version: Option<i32>,
    },
    Delete {
        path: String,
    },
}

/// What a server says of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    pub czxid: i64,
    /// The zxid of the last change of its data.
    pub mzxid: i64,
    pub version: i32,
    pub children: usize,
    /// The session that it belongs to; 0 for none.
    pub owner: i64,
}

/// Why a server refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    NoNode,
    NodeExists,
    BadVersion,
    NotEmpty,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Done,
    /// The path with its number.
    Created {
        path: String,
        czxid: i64,
    },
    Data {
        data: Vec<u8>,
        facts: Facts,
    },
    Facts(Facts),
    Names(Vec<String>),
    /// The names of the children as they were at `as_of`, the zxid of the last coming or going of one.
    Listed {
        names: Vec<String>,
        as_of: i64,
    },
    /// The paths that the creations of a multi have made, in order.
    Made(Vec<String>),
    /// The operation of a multi that was refused first.
    Failed {
        index: usize,
        why: Refusal,
    },
    Refused(Refusal),
    Waited,
    /// The connection was lost: the request was carried out or was not.
    Unknown,
}

/// What became of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    Created,
    /// Its data was set.
    Changed,
    Deleted,
}

/// What is heard by one who follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Something happened below the path; the zxid is -1 on servers before 3.9, which do not tell.
    Node { path: String, what: Happened, zxid: i64 },
    /// The connection was lost and is there again. Nobody hears anything until the path is followed anew.
    Back,
}

/// What a recipe wants next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<T> {
    Ask(Ask),
    Done(T),
}

/// The logic of a recipe, which does nothing by itself.
pub trait Recipe {
    /// What comes out of it.
    type Outcome;

    /// The next request, or the outcome. `now_ms` is the time since 1970 in milliseconds, for recipes that know delays.
    fn step(&mut self, now_ms: u64) -> Step<Self::Outcome>;

    /// Takes the answer to the request named last.
    fn handle(&mut self, reply: Reply);

    /// A watch at this path has fired, or was lost with its connection. May come at any time.
    fn notice(&mut self, path: &str) {
        let _ = path;
    }

    /// Something has happened below the path that is followed. May come at any time; whatever an answer shows was heard of before the answer.
    fn hear(&mut self, news: &News) {
        let _ = news;
    }
}
