//! The tree as a leader sends it to a learner: what follows a SNAP packet, its signature included.
//!
//! The stream is the body of a snapshot file without header and seals: sessions, lists of access control, nodes with parents first,
//! the end mark, and the string `BenWasHere`. It is written while the tree goes on changing, so it may hold a part of the transactions
//! after its zxid; the records that the leader sends afterwards complete it.
//!
//! What always holds: the sender looks at the tree for a portion at a time, and a stream is of one tree: it ends unfinished where another
//! tree takes the place of the one it began with; the receiver takes bytes as they come, holds no more than
//! what has arrived, and never gives out a tree before the signature.
//!
//! Counterparts in the original: `SerializeUtils.serializeSnapshot` and `Learner.syncWithLeader`.

use std::sync::Arc;

use rookeeper_proto::jute::{self, Text};
use rookeeper_proto::quorum::SNAPSHOT_SIGNATURE;
use rookeeper_proto::snapshot::{AclEntry, END_OF_NODES, NodeEntry, SessionEntry};
use rookeeper_proto::{Acl, Zxid};
use rookeeper_tree::{AccessList, RestoreError, SnapshotStart, SnapshotWalk, Tree, TreeBuilder};

use crate::snapshot_writer::ENTRIES_AT_ONCE;

/// Of a count or a length.
const INT: usize = 4;
const SESSION: usize = 12;
/// A list's id and its count.
const LIST_HEAD: usize = 12;
/// What a node has behind its data: the id of its list, and the stat.
const NODE_END: usize = 68;
/// A large record must not keep its memory for ever.
const KEPT_BYTES: usize = 256 << 10;

/// A stream that is being written.
#[derive(Debug)]
pub struct SnapshotSender {
    zxid: Zxid,
    /// Of the tree that is sent.
    incarnation: u64,
    portion_bytes: usize,
    next: ToSend,
}

/// What comes next.
#[derive(Debug)]
enum ToSend {
    /// Nothing: what stands in front of the nodes is still gathered.
    Start(SnapshotStart),
    Sessions(std::vec::IntoIter<SessionEntry>, Lists, SnapshotWalk),
    Lists(Lists, SnapshotWalk),
    Nodes(SnapshotWalk),
    Over,
}

type Lists = std::vec::IntoIter<(i64, Arc<AccessList>)>;

impl SnapshotSender {
    /// Begins a stream with the tree as it is. About `portion_bytes` are written at a time, at first nothing.
    pub fn begin(tree: &Tree, portion_bytes: usize) -> SnapshotSender {
        let start = tree.start_snapshot();
        let (zxid, incarnation) = (start.zxid(), tree.incarnation());
        SnapshotSender { zxid, incarnation, portion_bytes, next: ToSend::Start(start) }
    }

    /// For the SNAP packet: transactions after this one must follow the stream.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// Appends the next portion. False where that was the last one. After an error the stream must not be ended as if it were whole.
    pub fn next_portion(&mut self, tree: &Tree, output: &mut Vec<u8>) -> std::result::Result<bool, TreeReplaced> {
        if matches!(self.next, ToSend::Over) {
            return Ok(false);
        }
        if tree.incarnation() != self.incarnation {
            return Err(TreeReplaced(self.zxid));
        }
        let end = output.len() + self.portion_bytes;
        self.next = match std::mem::replace(&mut self.next, ToSend::Over) {
            ToSend::Start(mut start) => {
                if start.go_on(tree, ENTRIES_AT_ONCE) {
                    self.next = ToSend::Start(start);
                    return Ok(true);
                }
                let (head, walk) = start.finish();
                jute::append(output, &(head.sessions.len() as i32));
                ToSend::Sessions(head.sessions.into_iter(), head.acls.into_iter(), walk)
            }
            ToSend::Sessions(mut sessions, lists, walk) => {
                put_until(end, output, &mut sessions, |output, entry| jute::append(output, &entry));
                match sessions.len() {
                    0 => {
                        jute::append(output, &(lists.len() as i32));
                        ToSend::Lists(lists, walk)
                    }
                    _ => ToSend::Sessions(sessions, lists, walk),
                }
            }
            ToSend::Lists(mut lists, walk) => {
                put_until(end, output, &mut lists, |output, (acl_id, acl)| {
                    jute::append(output, &AclEntry { acl_id, acl: Some(acl.to_vec()) });
                });
                if lists.len() == 0 { ToSend::Nodes(walk) } else { ToSend::Lists(lists, walk) }
            }
            ToSend::Nodes(mut walk) => {
                if walk.next_chunk(tree, self.portion_bytes, &mut |entry| jute::append(output, &entry)) {
                    ToSend::Nodes(walk)
                } else {
                    jute::append(output, END_OF_NODES);
                    jute::append(output, &(SNAPSHOT_SIGNATURE.len() as i32));
                    output.extend_from_slice(SNAPSHOT_SIGNATURE);
                    ToSend::Over
                }
            }
            ToSend::Over => ToSend::Over,
        };
        Ok(!matches!(self.next, ToSend::Over))
    }
}

/// Puts further entries behind the others until there are so many bytes.
fn put_until<T>(end: usize, output: &mut Vec<u8>, entries: &mut std::vec::IntoIter<T>, put: impl Fn(&mut Vec<u8>, T)) {
    while output.len() < end
        && let Some(entry) = entries.next()
    {
        put(output, entry);
    }
}

/// Another tree is in the place of the one that was being sent: what is left of it would complete a mix of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tree that was being sent, at {0}, has been replaced by another one")]
pub struct TreeReplaced(Zxid);

/// What is wrong with a stream, and how far it was right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the leader's snapshot at {zxid} can't be read, offset {offset}: {problem}")]
pub struct StreamError {
    pub zxid: Zxid,
    pub offset: u64,
    pub problem: String,
}

type Result<T> = std::result::Result<T, StreamError>;

/// What came of the bytes so far.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is returned")]
pub enum Progress {
    NeedMore,
    /// The stream has ended within the bytes just fed; `used` of them belong to it.
    Done {
        tree: Tree,
        used: usize,
    },
}

/// A stream that is being read.
///
/// The tree that comes out has the zxid of the SNAP packet, but may hold a part of the transactions behind it, and nodes whose list
/// of access control is still to come, which nobody may use until then. Every transaction behind that zxid that the leader sends must be
/// applied to it, whether or not it seems to be in there. The tree is the leader's once everything is applied that was committed when
/// the stream ended. A learner can't know what that was, but all of it was proposed to the learner before UPTODATE; the commits
/// may come a little later. So what was proposed before UPTODATE is to be committed and applied first. The learner calls
/// [`Tree::finish_replay`] then, once, which counts the quotas anew and says which nodes still lack their list, and only then
/// serves anyone from the tree, compares digests, or takes a snapshot of it. Called earlier it would take an ephemeral node
/// for one without a session whose session is just to come.
#[derive(Debug)]
pub struct SnapshotReceiver {
    zxid: Zxid,
    builder: TreeBuilder,
    part: Part,
    /// What has arrived of something that is not complete.
    buffer: Vec<u8>,
    /// How much of it there must be before it is worth another look.
    needed: usize,
    /// How far in the stream the buffer begins.
    offset: u64,
}

/// What comes next.
#[derive(Debug)]
enum Part {
    SessionCount,
    Sessions {
        left: usize,
    },
    ListCount,
    Lists {
        left: usize,
    },
    Entries {
        lists_left: usize,
        acl_id: i64,
        left: usize,
        list: Vec<Acl>,
        bytes: usize,
    },
    Nodes,
    Signature,
    /// Nothing: it is complete, or was wrong.
    Over,
}

enum Step {
    Used(usize),
    /// There is too little to go on; more than there is.
    Needs(usize),
}

/// Where a string or buffer ends, if that can be told.
enum Extent {
    To(usize),
    Needs(usize),
}

impl SnapshotReceiver {
    /// A receiver for the stream behind `SNAP(zxid)`; for the seed see [`Tree::with_seed`].
    pub fn new(zxid: Zxid, seed: u64) -> SnapshotReceiver {
        SnapshotReceiver {
            zxid,
            builder: TreeBuilder::with_seed(seed),
            part: Part::SessionCount,
            buffer: Vec::new(),
            needed: INT,
            offset: 0,
        }
    }

    /// Takes the next bytes. After an error, or when it is done, there is no going on: what was read is gone.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Progress> {
        if matches!(self.part, Part::Over) {
            return Err(self.wrong("it is over"));
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.extend_from_slice(bytes);
        let mut start = 0;
        while buffer.len() - start >= self.needed {
            let step = self.step(&buffer[start..]).inspect_err(|_| {
                self.builder = TreeBuilder::new();
                self.part = Part::Over;
            })?;
            match step {
                Step::Used(count) => {
                    start += count;
                    self.offset += count as u64;
                    self.needed = INT;
                }
                Step::Needs(count) => self.needed = count,
            }
            if matches!(self.part, Part::Over) {
                let builder = std::mem::take(&mut self.builder);
                let tree = builder.finish(self.zxid).map_err(|error| self.wrong(error.to_string()))?;
                return Ok(Progress::Done { tree, used: bytes.len() - (buffer.len() - start) });
            }
        }
        buffer.drain(..start);
        if buffer.len() < KEPT_BYTES {
            buffer.shrink_to(KEPT_BYTES);
        }
        self.buffer = buffer;
        Ok(Progress::NeedMore)
    }

    /// Takes one thing off the input, which has at least four bytes.
    fn step(&mut self, input: &[u8]) -> Result<Step> {
        match std::mem::replace(&mut self.part, Part::Over) {
            Part::SessionCount => {
                self.part = after_sessions(self.count(input)?);
                Ok(Step::Used(INT))
            }
            Part::Sessions { left } => {
                let Some(bytes) = input.get(..SESSION) else {
                    self.part = Part::Sessions { left };
                    return Ok(Step::Needs(SESSION));
                };
                let SessionEntry { session, timeout_ms } = self.decode(bytes)?;
                self.builder.add_session(session, timeout_ms);
                self.part = after_sessions(left - 1);
                Ok(Step::Used(SESSION))
            }
            Part::ListCount => {
                self.part = after_lists(self.count(input)?);
                Ok(Step::Used(INT))
            }
            Part::Lists { left } => {
                let Some(bytes) = input.get(..LIST_HEAD) else {
                    self.part = Part::Lists { left };
                    return Ok(Step::Needs(LIST_HEAD));
                };
                let (acl_id, count): (i64, i32) = self.decode(bytes)?;
                match count {
                    // A null list is the open one.
                    -1 => self.add_list(acl_id, Acl::open(), left)?,
                    0 => self.add_list(acl_id, Vec::new(), left)?,
                    _ => {
                        let entries = self.count(&bytes[8..])?;
                        self.part =
                            Part::Entries { lists_left: left, acl_id, left: entries, list: Vec::new(), bytes: 0 };
                    }
                }
                Ok(Step::Used(LIST_HEAD))
            }
            Part::Entries { lists_left, acl_id, left, mut list, bytes } => {
                let end = match self.acl_extent(input)? {
                    Extent::To(end) => end,
                    Extent::Needs(needed) => {
                        self.part = Part::Entries { lists_left, acl_id, left, list, bytes };
                        return Ok(Step::Needs(needed));
                    }
                };
                list.push(self.decode(&input[..end])?);
                if bytes + end > crate::MAX_RECORD_BYTES {
                    return Err(self.wrong("an access control list is unreasonably long"));
                }
                if left == 1 {
                    self.add_list(acl_id, list, lists_left)?;
                } else {
                    self.part = Part::Entries { lists_left, acl_id, left: left - 1, list, bytes: bytes + end };
                }
                Ok(Step::Used(end))
            }
            Part::Nodes => self.node(input),
            Part::Signature => {
                let end = INT + SNAPSHOT_SIGNATURE.len();
                if self.length(input, 0)? != Some(SNAPSHOT_SIGNATURE.len()) {
                    return Err(self.wrong("the signature is missing"));
                }
                match input.get(INT..end) {
                    None => {
                        self.part = Part::Signature;
                        Ok(Step::Needs(end))
                    }
                    Some(signature) if signature == SNAPSHOT_SIGNATURE => Ok(Step::Used(end)),
                    Some(_) => Err(self.wrong("the signature is missing")),
                }
            }
            Part::Over => Err(self.wrong("it is over")),
        }
    }

    fn node(&mut self, input: &[u8]) -> Result<Step> {
        self.part = Part::Nodes;
        let path_end = match self.extent(input, 0)? {
            Extent::To(end) => end,
            Extent::Needs(needed) => return Ok(Step::Needs(needed)),
        };
        let path: Text<'_> = self.decode(&input[..path_end])?;
        if *path == *END_OF_NODES {
            self.part = Part::Signature;
            return Ok(Step::Used(path_end));
        }
        let data_end = match self.extent(input, path_end)? {
            Extent::To(end) => end,
            Extent::Needs(needed) => return Ok(Step::Needs(needed)),
        };
        let end = data_end + NODE_END;
        let Some(bytes) = input.get(..end) else { return Ok(Step::Needs(end)) };
        let NodeEntry { path, data, acl_id, stat } = self.decode(bytes)?;
        let added = self.builder.add_node(&path, data.map(|data| data.0), acl_id, stat);
        added.map_err(|error: RestoreError| self.wrong(error.to_string()))?;
        Ok(Step::Used(end))
    }

    fn add_list(&mut self, acl_id: i64, list: Vec<Acl>, lists_left: usize) -> Result<()> {
        self.builder.add_acl(acl_id, list).map_err(|error| self.wrong(error.to_string()))?;
        self.part = after_lists(lists_left - 1);
        Ok(())
    }

    fn decode<'a, T: serde::Deserialize<'a>>(&self, bytes: &'a [u8]) -> Result<T> {
        jute::from_slice(bytes).map_err(|error| self.wrong(error.to_string()))
    }

    fn count(&self, input: &[u8]) -> Result<usize> {
        let count: i32 = self.decode(&input[..INT])?;
        usize::try_from(count).map_err(|_| self.wrong(format!("unreasonable count {count}")))
    }

    /// The length that stands at an offset; none for null.
    fn length(&self, input: &[u8], at: usize) -> Result<Option<usize>> {
        let length: i32 = self.decode(&input[at..at + INT])?;
        match usize::try_from(length) {
            Ok(length) if length <= crate::MAX_RECORD_BYTES => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            _ => Err(self.wrong(format!("unreasonable length {length}"))),
        }
    }

    /// Where the string or buffer that begins at an offset ends.
    fn extent(&self, input: &[u8], at: usize) -> Result<Extent> {
        if input.len() < at + INT {
            return Ok(Extent::Needs(at + INT));
        }
        let end = at + INT + self.length(input, at)?.unwrap_or(0);
        Ok(if input.len() < end { Extent::Needs(end) } else { Extent::To(end) })
    }

    /// Where a permission with its scheme and id ends.
    fn acl_extent(&self, input: &[u8]) -> Result<Extent> {
        match self.extent(input, INT)? {
            Extent::To(scheme_end) => self.extent(input, scheme_end),
            needs => Ok(needs),
        }
    }

    fn wrong(&self, problem: impl Into<String>) -> StreamError {
        StreamError { zxid: self.zxid, offset: self.offset, problem: problem.into() }
    }
}

fn after_sessions(left: usize) -> Part {
    if left == 0 { Part::ListCount } else { Part::Sessions { left } }
}

fn after_lists(left: usize) -> Part {
    if left == 0 { Part::Nodes } else { Part::Lists { left } }
}
