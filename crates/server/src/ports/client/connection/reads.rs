//! Reads that the task answers itself, from the shared tree.
//!
//! What always holds here: nothing of the connection's session is on its way when a read is answered here, so the answer is as late as the
//! session may demand; the answer is in the outbox before the tree is unlocked, so that no event of a watch overtakes it; the tree is locked
//! for a batch or a portion at a time, for the apply step waits meanwhile.

use rookeeper_proto::frame::{self, RequestHeader};
use rookeeper_proto::{OpCode, Zxid};
use rookeeper_replica::top::path_of;
use rookeeper_replica::{LongRead, Sample, SlowOperation, Stamp, long_read, read};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Task;
use super::ending::End;
use crate::observe::top;

/// Bytes of answers gathered under one lock of the tree: longer would keep the apply step waiting.
const BATCH_BYTES: usize = 64 << 10;

/// Reads answered under one lock of the tree, for reads with small answers take their time too.
const BATCH_READS: usize = 64;

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    /// Answers the reads at the head of the input under one lock of the tree, up to a read that is to be answered in portions. Returns how
    /// many it answered.
    pub(super) fn answer_reads(&mut self) -> usize {
        let shared = &self.context.shared;
        // Where nothing is waited for, the wait costs nothing to measure either.
        let is_first = std::mem::replace(&mut self.is_fresh, false);
        let (tree, begin) = match is_first.then(|| shared.try_tree()).flatten() {
            Some(tree) => (tree, self.arrived),
            None => (shared.tree(), self.context.clock.stamp()),
        };
        shared.serve_deferred_to(&self.connection);
        let (mut frames, mut reads, mut last) = (0, 0, (OpCode::Ping, 0));
        // Bytes of the reads so far; where the read with the largest answer begins, and that answer's bytes.
        let (mut taken, mut largest) = (0, (0, 0));
        while self.scratch.len() < BATCH_BYTES && reads < BATCH_READS {
            let Ok(Some((payload, length))) =
                frame::split(&self.input.pending()[taken..], self.context.config.requests.jute_max_buffer)
            else {
                break;
            };
            let Some((header, body)) = RequestHeader::split(payload) else { break };
            let is_read = |op: &OpCode| {
                op.is_client_request()
                    && !op.is_write()
                    && !matches!(op, OpCode::Auth | OpCode::Sasl)
                    && is_answered_here(*op)
            };
            let Some(op) = OpCode::from_i32(header.op).filter(is_read) else { break };
            if long_read::is_long(op, body.len()) || long_read::lists_many(&tree, op, body) {
                break;
            }
            // Each of the large ones has to be looked at by itself.
            if reads > 0 && self.large.as_ref().is_some_and(|large| large.is_large(body.len())) {
                break;
            }
            let request = (header.xid, op, body);
            let (sample, before) = (self.sample(begin, op, body), self.scratch.len());
            frames += read::answer(shared, &tree, &self.connection, &self.identities, request, &mut self.scratch);
            reads += 1;
            let answer_bytes = self.scratch.len() - before;
            if let Some(sample) = sample {
                let bytes = sample.bytes + answer_bytes as u64;
                self.samples.push(Sample { bytes, ..sample });
            }
            if answer_bytes > largest.1 {
                largest = (taken, answer_bytes);
            }
            last = (op, header.xid);
            taken += length;
            self.conversation.consumed(length);
        }
        self.connection.outbox.append_frames(frames, |output| {
            if output.is_empty() {
                std::mem::swap(output, &mut self.scratch);
            } else {
                output.append(&mut self.scratch);
            }
        });
        // An outbox that is closed took nothing: nobody wants the answers of a connection that is over.
        self.scratch.clear();
        let zxid = tree.last_zxid();
        drop(tree);
        self.count_received(reads as u64);
        if reads > 0 {
            self.note_large_answered();
            let end = self.note_reads(reads as u64, last, zxid, begin);
            if self.took_long(end) {
                self.note_slow_batch(&self.input.pending()[largest.0..], reads as u64, begin, end);
            }
            self.input.consume(taken);
        }
        reads
    }

    /// What is to be counted of a request of who asks for the most; none for most of them.
    pub(super) fn sample(&self, now: Stamp, op: OpCode, body: &[u8]) -> Option<Sample> {
        if self.context.config.path_statistics.is_counted { top::look(now, op, body) } else { None }
    }

    /// Counts `count` reads that were answered without a wait from `begin` on; `last` is the last of them, and `zxid` the state that it saw.
    /// Returns when they were answered.
    fn note_reads(&mut self, count: u64, last: (OpCode, i32), zxid: Zxid, begin: Stamp) -> Stamp {
        let statistics = &self.context.shared.statistics;
        statistics.request_latency_ms.record_many(0, count);
        statistics.read_latency_ms.record_many(0, count);
        let end = self.context.clock.stamp();
        self.connection.statistics.answered(count, last, zxid, end.monotonic_ms(), 0);
        let stages = self.context.figures.client_stages.mine();
        stages.read_queue.record_many(self.arrived, begin, count);
        stages.read_answer.record_many(begin, end, count);
        self.unreported.reads.add(end, count);
        let shared = &self.context.shared;
        for sample in self.samples.drain(..) {
            let took_ns = end.ns_since(self.arrived);
            shared.top.note(end, &self.connection, &sample, took_ns, shared.settings.prefix_depth);
        }
        end
    }

    /// Whether reads that were answered at `end` took long from their arrival on.
    fn took_long(&self, end: Stamp) -> bool {
        end.ns_since(self.arrived) >= self.context.shared.settings.slow_read_ns
    }

    /// Tells of `reads` reads that were answered together and took long, by the one whose frame begins `bytes`.
    fn note_slow_batch(&self, bytes: &[u8], reads: u64, begin: Stamp, end: Stamp) {
        let frame = frame::split(bytes, self.context.config.requests.jute_max_buffer).ok().flatten();
        if let Some((header, body)) = frame.and_then(|(payload, _)| RequestHeader::split(payload))
            && let Some(op) = OpCode::from_i32(header.op)
        {
            self.note_slow((op, body), reads, begin, end);
        }
    }

    /// Tells of reads that took long. It was their turn at `begin`.
    fn note_slow(&self, (op, body): (OpCode, &[u8]), reads: u64, begin: Stamp, end: Stamp) {
        let operation = SlowOperation {
            op,
            path: path_of(op, body).map(Box::from),
            peer: self.connection.peer,
            session: self.connection.session(),
            zxid: None,
            arrived: self.arrived,
            taken: begin,
            handed_over: None,
            done: end,
        };
        self.context.figures.slow.note(&operation, reads);
    }

    /// Answers the read at the head of the input, which looks at many nodes, with the tree locked for a portion at a time.
    pub(super) async fn answer_in_portions(&mut self) -> Result<(), End> {
        let Some((payload, length)) = frame::split(self.input.pending(), self.context.config.requests.jute_max_buffer)?
        else {
            return Ok(());
        };
        let payload = payload.to_vec();
        self.consume(length);
        let (header, body) = RequestHeader::split(&payload).ok_or(End::Undecodable("request header"))?;
        let op = OpCode::from_i32(header.op).ok_or(End::Undecodable("request header"))?;
        let xid = header.xid;
        let begin = self.context.clock.stamp();
        self.samples.extend(self.sample(begin, op, body));
        let mut read = LongRead::new((xid, op, body));
        let zxid = loop {
            {
                let shared = &self.context.shared;
                let tree = shared.tree();
                shared.serve_deferred_to(&self.connection);
                let (frames, done) = read.go_on(shared, &tree, &self.connection, &self.identities, &mut self.scratch);
                if done {
                    let zxid = tree.last_zxid();
                    let _tree = (!read.has_place()).then_some(tree);
                    self.connection.outbox.fill(frames, &mut self.scratch);
                    break zxid;
                }
                self.connection.outbox.append_frames(frames, |output| output.append(&mut self.scratch));
            }
            if !self.connection.outbox.is_open() {
                return Err(End::ByServer);
            }
            tokio::task::yield_now().await;
        };
        let end = self.note_reads(1, (op, xid), zxid, begin);
        if self.took_long(end) {
            self.note_slow((op, body), 1, begin, end);
        }
        Ok(())
    }
}

/// Whether a request that is no write is answered from the tree. A sync is not, for it asks whether the tree is recent.
pub(super) fn is_answered_here(op: OpCode) -> bool {
    op != OpCode::Sync
}
