//! The tree as a leader sends it to a learner: what follows a SNAP packet, its signature included.
//!
//! The stream is the body of a snapshot file (`snapshot_body.rs`) without header and seals, and the string `BenWasHere` behind it. It is
//! written while the tree goes on changing, so it may hold a part of the transactions after its zxid; the records that the leader sends
//! afterwards complete it.
//!
//! What always holds: the sender looks at the tree for a portion at a time, and a stream is of one tree: it ends unfinished where another
//! tree takes the place of the one it began with; the receiver takes bytes as they come, holds no more than
//! what has arrived, and never gives out a tree before the signature.
//!
//! Counterparts in the original: `SerializeUtils.serializeSnapshot` and `Learner.syncWithLeader`.

use std::sync::Arc;

use rookeeper_proto::quorum::SNAPSHOT_SIGNATURE;
use rookeeper_proto::snapshot::{AclEntry, END_OF_NODES, SessionEntry};
use rookeeper_proto::{TtlEncoding, Zxid, jute};
use rookeeper_tree::{AccessList, SnapshotStart, SnapshotWalk, Tree, TreeBuilder};

use crate::snapshot_body::{SnapshotBody, Target, WrongBody};
use crate::snapshot_writer::ENTRIES_AT_ONCE;

/// The signature with its length in front, in bytes.
const SIGNATURE: usize = 4 + SNAPSHOT_SIGNATURE.len();
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
    /// None where the stream is over: it was whole, or wrong.
    body: Option<SnapshotBody>,
    /// What has arrived of something that is not complete.
    buffer: Vec<u8>,
    /// How far in the stream the buffer begins.
    offset: u64,
}

impl SnapshotReceiver {
    /// A receiver for the stream behind `SNAP(zxid)`; for the seed see [`Tree::with_seed`], for the encoding
    /// [`Tree::reading`].
    pub fn new(zxid: Zxid, seed: u64, encoding: TtlEncoding) -> SnapshotReceiver {
        let builder = TreeBuilder::with_seed(seed).reading(encoding);
        let body = SnapshotBody::new(Target::Tree(Box::new(builder)), crate::MAX_RECORD_BYTES);
        SnapshotReceiver { zxid, body: Some(body), buffer: Vec::new(), offset: 0 }
    }

    /// Takes the next bytes. After an error, or when it is done, there is no going on: what was read is gone.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Progress> {
        let Some(mut body) = self.body.take() else { return Err(self.wrong("it is over")) };
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.extend_from_slice(bytes);
        let taken = body.take(&buffer).map_err(|WrongBody { at, problem }| {
            self.offset += at as u64;
            self.wrong(problem)
        })?;
        self.offset += taken as u64;
        let rest = &buffer[taken..];
        if body.is_over() && self.is_signed(rest)? {
            let used = bytes.len() - (rest.len() - SIGNATURE);
            let tree = body.finish(self.zxid).map_err(|error| self.wrong(error.to_string()))?;
            return Ok(Progress::Done { tree: tree.expect("this body has a builder"), used });
        }
        buffer.drain(..taken);
        if buffer.len() < KEPT_BYTES {
            buffer.shrink_to(KEPT_BYTES);
        }
        (self.body, self.buffer) = (Some(body), buffer);
        Ok(Progress::NeedMore)
    }

    /// Whether the signature is there, as far as there is something.
    fn is_signed(&self, input: &[u8]) -> Result<bool> {
        let Some((length, text)) = input.split_first_chunk() else { return Ok(false) };
        if u32::from_be_bytes(*length) as usize != SNAPSHOT_SIGNATURE.len() {
            return Err(self.wrong("the signature is missing"));
        }
        match text.get(..SNAPSHOT_SIGNATURE.len()) {
            None => Ok(false),
            Some(SNAPSHOT_SIGNATURE) => Ok(true),
            Some(_) => Err(self.wrong("the signature is missing")),
        }
    }

    fn wrong(&self, problem: impl Into<String>) -> StreamError {
        StreamError { zxid: self.zxid, offset: self.offset, problem: problem.into() }
    }
}
