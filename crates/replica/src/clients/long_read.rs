//! Reads that would keep others waiting, answered in portions.
//!
//! A request can name tens of thousands of nodes, or one with a million nodes below. What always holds here: the tree is locked for one
//! portion at a time, whose cost is a constant of ours; each operation sees the tree as it is at one moment, and the answer goes out with
//! the zxid of the last; events that a portion tells go out with it, so that none of them comes behind a later one. Only the connection's
//! task reads so, while nothing of its session is on its way: behind a write a read must see the tree as that write leaves it. A list of
//! children is the one of one moment: its names are shared, and it has its place in the outbox before whatever happens afterwards. What an
//! answer takes while it grows is counted as held for its client.

use std::cell::RefCell;

use rookeeper_proto::frame::ReplyHeader;
use rookeeper_proto::jute::{self, Text};
use rookeeper_proto::multi::{MultiHeader, ReadOp};
use rookeeper_proto::request::{PathWatchRequest, ReadRequest};
use rookeeper_proto::{ErrorCode, Id, OpCode, Stat, Zxid};
use rookeeper_tree::{ChildNames, DescendantCount, Mark, Tree, Verdicts};

use crate::clients::budget::Meter;
use crate::clients::connection::Connection;
use crate::clients::outbox::Excess;
use crate::clients::read::{
    Answer, Reader, Rearmed, keeps_its_body, node_named, put_count, put_header, put_length, rearmed, required,
};
use crate::clients::shared::Shared;

/// Requests for several nodes that are not larger than this are answered at once, all of them at one moment.
const SHORT_REQUEST_BYTES: usize = 16 << 10;

/// Operations, paths or nodes per portion: well below a millisecond.
const PORTION: usize = 1000;

/// And bytes of the answer.
const PORTION_BYTES: usize = 256 << 10;

/// The length prefix and the header in front of an answer.
const HEAD_BYTES: usize = 20;

/// Whether a read, whose record has this length, is for [`LongRead`].
pub fn is_long(op: OpCode, bytes: usize) -> bool {
    match op {
        OpCode::MultiRead | OpCode::SetWatches | OpCode::SetWatches2 => bytes > SHORT_REQUEST_BYTES,
        OpCode::GetAllChildrenNumber | OpCode::GetEphemerals => true,
        _ => false,
    }
}

/// Whether a read lists so many children that it is for [`LongRead`].
pub fn lists_many(tree: &Tree, op: OpCode, body: &[u8]) -> bool {
    if !matches!(op, OpCode::GetChildren | OpCode::GetChildren2) {
        return false;
    }
    let Ok(
        ReadRequest::GetChildren(PathWatchRequest { path, .. })
        | ReadRequest::GetChildren2(PathWatchRequest { path, .. }),
    ) = ReadRequest::decode(op, body)
    else {
        return false;
    };
    node_named(tree, &path).is_some_and(|node| node.child_names_bytes() > PORTION_BYTES)
}

/// See the module's documentation.
#[derive(Debug)]
pub struct LongRead<'r> {
    xid: i32,
    op: OpCode,
    work: Work<'r>,
    request_bytes: usize,
    meter: Meter,
    /// Of the answer, where that is not the one at which it is complete.
    zxid: Option<Zxid>,
    /// The answer as far as it is, behind room for its head.
    answer: Vec<u8>,
    verdicts: Verdicts,
}

#[derive(Debug)]
enum Work<'r> {
    Reads(std::vec::IntoIter<ReadOp<'r>>),
    Watches {
        seen: Zxid,
        left: std::vec::IntoIter<(Rearmed, String)>,
    },
    Count {
        path: Option<Text<'r>>,
        count: Option<DescendantCount>,
    },
    Owned {
        path: Option<Text<'r>>,
        mark: Option<Mark>,
        listed: usize,
    },
    Children {
        request: PathWatchRequest<'r>,
        listing: Option<(ChildNames, Stat)>,
    },
    /// Not decodable, or none of those.
    Nothing,
}

impl<'r> LongRead<'r> {
    /// A read that is answered in portions. A body that can't be decoded is answered with an error.
    pub fn new((xid, op, body): (i32, OpCode, &'r [u8])) -> LongRead<'r> {
        let work = match ReadRequest::decode(op, body) {
            Ok(ReadRequest::MultiRead(ops)) => Work::Reads(ops.into_iter()),
            Ok(ReadRequest::SetWatches(watches)) => {
                let left: Vec<_> = rearmed(&watches).map(|(kind, path)| (kind, path.to_owned())).collect();
                Work::Watches { seen: watches.relative_zxid, left: left.into_iter() }
            }
            Ok(ReadRequest::GetAllChildrenNumber(request)) => Work::Count { path: request.path, count: None },
            Ok(ReadRequest::GetEphemerals(request)) => Work::Owned { path: request.path, mark: None, listed: 0 },
            Ok(ReadRequest::GetChildren(request) | ReadRequest::GetChildren2(request)) => {
                Work::Children { request, listing: None }
            }
            _ => Work::Nothing,
        };
        let (answer, verdicts) = (vec![0; HEAD_BYTES], Verdicts::default());
        LongRead { xid, op, work, request_bytes: body.len(), meter: Meter::default(), zxid: None, answer, verdicts }
    }

    /// Does one portion. Returns how many frames that made, which are behind what `output` holds, and whether the last of them is the
    /// answer.
    ///
    /// Call as [`crate::clients::read::answer`], always for the same connection and identities. What is made goes into the outbox by
    /// [`crate::clients::outbox::Outbox::fill`] where it is the answer (with the tree locked, unless the answer [`LongRead::has_place`]),
    /// else as every other frame; once the connection is given up, nothing is left to do.
    pub fn go_on(
        &mut self,
        shared: &Shared,
        tree: &Tree,
        connection: &Connection,
        identities: &[Id],
        output: &mut Vec<u8>,
    ) -> (u64, bool) {
        let verdicts = RefCell::new(std::mem::take(&mut self.verdicts));
        let reader = Reader { shared, tree, connection, identities, verdicts };
        let mut events = 0;
        let done = match &mut self.work {
            Work::Reads(ops) => read_portion(&reader, ops, &mut self.answer),
            Work::Watches { seen, left } => {
                events =
                    left.by_ref().take(PORTION).map(|(kind, path)| reader.set_watch(kind, &path, *seen, output)).sum();
                (left.len() == 0).then_some(Ok(()))
            }
            Work::Count { path, count } => count_portion(&reader, path, count, &mut self.answer),
            Work::Owned { path, mark, listed } => {
                // The length of the list comes in front of it, once it is known.
                put_length(&mut self.answer, HEAD_BYTES, 0);
                *listed += reader.list_owned(path, mark, PORTION, &mut self.answer);
                mark.is_none().then(|| {
                    put_length(&mut self.answer, HEAD_BYTES, *listed);
                    Ok(())
                })
            }
            Work::Children { request, listing } => {
                let with_stat = self.op == OpCode::GetChildren2;
                children_portion(&reader, (request, with_stat), listing, &mut self.zxid, &mut self.answer)
            }
            Work::Nothing => Some(Err(ErrorCode::MarshallingError)),
        };
        self.verdicts = reader.verdicts.into_inner();
        match done {
            Some(answer) => {
                self.finish(shared, tree, answer, output);
                self.meter.note(connection.account(), 0);
                (events + 1, true)
            }
            None => {
                self.note_held(connection);
                (events, false)
            }
        }
    }

    /// Whether the answer has its place in the outbox already.
    pub fn has_place(&self) -> bool {
        matches!(self.work, Work::Children { listing: Some(_), .. })
    }

    fn note_held(&mut self, connection: &Connection) {
        let (held, limit) = (self.answer.capacity() + self.request_bytes, connection.budget().connection_bytes());
        if held > limit {
            connection.outbox.close_for(Excess::Unsent(limit));
        }
        if !connection.outbox.is_open() {
            (self.work, self.answer) = (Work::Nothing, vec![0; HEAD_BYTES]);
        }
        self.meter.note(connection.account(), if connection.outbox.is_open() { held } else { 0 });
    }

    fn finish(&mut self, shared: &Shared, tree: &Tree, answer: Answer, output: &mut Vec<u8>) {
        if answer.is_err() && !keeps_its_body(shared, self.op, self.answer.len() - HEAD_BYTES) {
            self.answer.truncate(HEAD_BYTES);
        }
        let err = answer.err().map_or(0, ErrorCode::number);
        let mut head = ((self.answer.len() - size_of::<i32>()) as i32).to_be_bytes().to_vec();
        put_header(&mut head, ReplyHeader { xid: self.xid, zxid: self.zxid.unwrap_or(tree.last_zxid()), err });
        self.answer[..HEAD_BYTES].copy_from_slice(&head);
        shared.statistics.answer_bytes.record(self.answer.len() - size_of::<i32>());
        // Long answers are not copied.
        if output.is_empty() {
            std::mem::swap(output, &mut self.answer);
        } else {
            output.append(&mut self.answer);
        }
    }
}

/// The answer once it is complete, and what became of it.
fn read_portion(reader: &Reader<'_>, ops: &mut std::vec::IntoIter<ReadOp<'_>>, answer: &mut Vec<u8>) -> Option<Answer> {
    let limit = answer.len() + PORTION_BYTES;
    for _ in 0..PORTION {
        let Some(op) = ops.next() else {
            jute::append(answer, &MultiHeader::END);
            return Some(Ok(()));
        };
        if let Err(code) = reader.read_one(&op, HEAD_BYTES, answer) {
            return Some(Err(code));
        }
        if answer.len() > limit {
            break;
        }
    }
    None
}

/// The list is that of the first portion, and the watch is set there: whatever happens afterwards is told behind the answer.
fn children_portion(
    reader: &Reader<'_>,
    (request, with_stat): (&PathWatchRequest<'_>, bool),
    listing: &mut Option<(ChildNames, Stat)>,
    zxid: &mut Option<Zxid>,
    answer: &mut Vec<u8>,
) -> Option<Answer> {
    let (names, stat) = match listing {
        Some((names, stat)) => (names, stat),
        None => match reader.watched_children(request) {
            Ok(node) => {
                reader.connection.outbox.reserve();
                *zxid = Some(reader.tree.last_zxid());
                let (names, stat) = listing.insert((node.shared_child_names(), node.stat()));
                jute::append(answer, &(names.count() as i32));
                (names, stat)
            }
            Err(code) => return Some(Err(code)),
        },
    };
    if names.append_some(PORTION_BYTES, answer) {
        return None;
    }
    if with_stat {
        jute::append(answer, stat);
    }
    Some(Ok(()))
}

fn count_portion(
    reader: &Reader<'_>,
    path: &Option<Text<'_>>,
    count: &mut Option<DescendantCount>,
    answer: &mut Vec<u8>,
) -> Option<Answer> {
    let path = match required(path) {
        Ok(path) => path,
        Err(code) => return Some(Err(code)),
    };
    let counting = match count {
        Some(counting) => counting,
        None => match reader.begin_count(&path) {
            Ok(begun) => count.insert(begun),
            Err(code) => return Some(Err(code)),
        },
    };
    let total = counting.go_on(reader.tree, PORTION)?;
    put_count(answer, &path, total);
    Some(Ok(()))
}
