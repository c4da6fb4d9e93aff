//! The tree as a stream, from a leader to a learner: a snapshot without header, seals and trailers, and with a signature at its end.
//!
//! What always holds: a receiver keeps only what it has understood and the piece it waits for, and takes no more memory than what has
//! arrived; whatever arrives, it answers with a tree or an error.
//!
//! Counterpart in the original: `SerializeUtils.serializeSnapshot`.

use rookeeper_proto::jute::{self, Deserializer, Error as JuteError, Text};
use rookeeper_proto::quorum::SNAPSHOT_SIGNATURE;
use rookeeper_proto::snapshot::{AclEntry, END_OF_NODES, NodeEntry, SessionEntry};
use rookeeper_proto::{Acl, Zxid};
use rookeeper_tree::Tree;
use rookeeper_tree::builder::{RestoreError, TreeBuilder};
use rookeeper_tree::snapshot_walk::{SnapshotHead, SnapshotWalk};

/// What is wrong with a stream.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("the snapshot from the leader can't be read: {0}")]
    Undecodable(#[from] JuteError),
    #[error("the snapshot from the leader is no tree: {0}")]
    NoTree(#[from] RestoreError),
    #[error("the snapshot from the leader has a count of {0}")]
    Count(i32),
    #[error("the snapshot from the leader does not end with its signature")]
    Signature,
    #[error("a part of the snapshot from the leader is larger than {} bytes", crate::MAX_RECORD_BYTES)]
    TooLarge,
}

/// Encodes a tree that goes on changing; what changes meanwhile the learner hears of in order.
#[derive(Debug)]
pub struct SnapshotSender {
    zxid: Zxid,
    head: Option<SnapshotHead>,
    walk: SnapshotWalk,
    portion_bytes: usize,
}

impl SnapshotSender {
    pub fn begin(tree: &Tree, portion_bytes: usize) -> SnapshotSender {
        let (head, walk) = tree.begin_snapshot();
        SnapshotSender { zxid: head.zxid, head: Some(head), walk, portion_bytes }
    }

    /// What the stream is complete for.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// Appends about a portion. False when that was the end.
    pub fn next_portion(&mut self, tree: &Tree, output: &mut Vec<u8>) -> bool {
        if let Some(head) = self.head.take() {
            jute::append(output, &head.sessions);
            output.extend_from_slice(&(head.acls.len() as i32).to_be_bytes());
            for (acl_id, acl) in &head.acls {
                jute::append(output, &AclEntry { acl_id: *acl_id, acl: Some(acl.to_vec()) });
            }
        }
        let more = self.walk.next_chunk(tree, self.portion_bytes, &mut |entry| jute::append(output, &entry));
        if !more {
            jute::append(output, &END_OF_NODES);
            output.extend_from_slice(&(SNAPSHOT_SIGNATURE.len() as u32).to_be_bytes());
            output.extend_from_slice(SNAPSHOT_SIGNATURE);
        }
        more
    }
}

/// How far a receiver is.
#[derive(Debug)]
pub enum Progress {
    NeedMore,
    /// The stream is complete; it used so many bytes of the piece that was fed last.
    Done {
        tree: Tree,
        used: usize,
    },
}

#[derive(Debug, Clone, Copy)]
enum Part {
    SessionCount,
    Sessions(i32),
    AclCount,
    Acls(i32),
    Nodes,
    Signature,
    Over,
}

/// Decodes a stream piece by piece.
///
/// The tree is that of its zxid with, perhaps, effects of later transactions, which come again. It is exact once everything has been
/// applied that was committed while the stream was sent, which at a learner is so at UPTODATE; then [`Tree::finish_replay`] is to be
/// called.
#[derive(Debug)]
pub struct SnapshotReceiver {
    zxid: Zxid,
    builder: Option<TreeBuilder>,
    part: Part,
    /// Arrived and not understood yet.
    pending: Vec<u8>,
}

impl SnapshotReceiver {
    /// `zxid` is that of the SNAP packet, `seed` for the tables of the tree.
    pub fn new(zxid: Zxid, seed: u64) -> SnapshotReceiver {
        let builder = Some(TreeBuilder::with_seed(seed));
        SnapshotReceiver { zxid, builder, part: Part::SessionCount, pending: Vec::new() }
    }

    /// Takes the next piece of the stream.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Progress, StreamError> {
        let before = self.pending.len();
        self.pending.extend_from_slice(bytes);
        let pending = std::mem::take(&mut self.pending);
        let mut used = 0;
        while let Some(length) = self.take(&pending[used..])? {
            used += length;
            if let Part::Over = self.part {
                let builder = self.builder.take().ok_or(StreamError::Signature)?;
                // The signature's last byte is in this piece, or there would have been no need to wait for it.
                return Ok(Progress::Done { tree: builder.finish(self.zxid)?, used: used.saturating_sub(before) });
            }
        }
        if pending.len() - used > crate::MAX_RECORD_BYTES {
            return Err(StreamError::TooLarge);
        }
        self.pending = pending[used..].to_vec();
        Ok(Progress::NeedMore)
    }

    /// Takes one thing from the head of `bytes`, and says how long it is. `None`: more is needed.
    fn take(&mut self, bytes: &[u8]) -> Result<Option<usize>, StreamError> {
        let mut input = Deserializer::new(bytes);
        match self.take_from(&mut input) {
            Ok(()) => Ok(Some(bytes.len() - input.rest().len())),
            Err(StreamError::Undecodable(JuteError::UnexpectedEnd { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn take_from(&mut self, input: &mut Deserializer<'_>) -> Result<(), StreamError> {
        let builder = self.builder.as_mut().ok_or(StreamError::Signature)?;
        self.part = match self.part {
            Part::SessionCount => match input.read()? {
                count if count < 0 => return Err(StreamError::Count(count)),
                count => Part::Sessions(count),
            },
            Part::Sessions(0) => Part::AclCount,
            Part::Sessions(left) => {
                let entry: SessionEntry = input.read()?;
                builder.add_session(entry.session, entry.timeout_ms);
                Part::Sessions(left - 1)
            }
            Part::AclCount => match input.read()? {
                count if count < 0 => return Err(StreamError::Count(count)),
                count => Part::Acls(count),
            },
            Part::Acls(0) => Part::Nodes,
            Part::Acls(left) => {
                let entry: AclEntry = input.read()?;
                builder.add_acl(entry.acl_id, entry.acl.unwrap_or_else(Acl::open))?;
                Part::Acls(left - 1)
            }
            Part::Nodes => {
                let mut ahead = Deserializer::new(input.rest());
                let path: Text<'_> = ahead.read()?;
                if *path == *END_OF_NODES {
                    let _: Text<'_> = input.read()?;
                    Part::Signature
                } else {
                    let node: NodeEntry<'_> = input.read()?;
                    builder.add_node(&node.path, node.data.map(|data| data.0), node.acl_id, node.stat)?;
                    Part::Nodes
                }
            }
            Part::Signature => {
                let signature: jute::Buffer<'_> = input.read()?;
                if signature.0 != SNAPSHOT_SIGNATURE {
                    return Err(StreamError::Signature);
                }
                Part::Over
            }
            Part::Over => return Err(StreamError::Signature),
        };
        Ok(())
    }
}
