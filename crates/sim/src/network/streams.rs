//! Streams to a learner that needs more than packets: a part of the leader's log, or a snapshot.
//!
//! What always holds here: packets that wait behind a stream are sent behind it; ending the connection does not wait for a stream.

use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_replica::Input;
use rookeeper_store::catch_up::CatchUp;
use rookeeper_store::snapshot_stream::SnapshotSender;
use rookeeper_zab::LinkEnd;

use super::{End, Item, Payload, Side, Stream};

use crate::world::{Event, MS, World};

/// Records of the log in one portion of a stream.
const RECORDS_A_PORTION: usize = 8;
const SNAPSHOT_PORTION_BYTES: usize = 256;
/// Where values are large.
const LARGE_PORTION_BYTES: usize = 64 << 10;

impl World {
    /// Sends the packets that wait, up to the next stream.
    pub(super) fn advance(&mut self, number: u64) {
        loop {
            let Some(link) = self.network.links.get_mut(&number) else { return };
            if link.stream.is_some() {
                // Ending the connection does not wait for a stream.
                if !matches!(link.outgoing.back(), Some(Item::End(_))) {
                    return;
                }
                link.stream = None;
                while link.outgoing.len() > 1 {
                    link.outgoing.pop_front();
                }
            }
            let leader = link.ends[1].server;
            let ends = (link.ends[0].server, leader);
            let Some(item) = link.outgoing.pop_front() else { return };
            let item = self.tamper_to_learner(number, item, ends);
            let Some(link) = self.network.links.get_mut(&number) else { return };
            match item {
                Item::Bytes(bytes) => {
                    self.sabotage_acks(number, &bytes);
                    self.may_stumble(ends.1, ends.0, &bytes);
                    self.transmit(number, Side::Learner, Payload::Packets(bytes.to_vec()));
                }
                Item::Log { after, before } => {
                    link.stream = Some(Stream::Log { after, before });
                    self.next_step(number);
                }
                Item::Snapshot => {
                    let Some(process) = &self.servers[leader].process else { return };
                    let large = self.plan.habits.large_values;
                    let portion_bytes = if large { LARGE_PORTION_BYTES } else { SNAPSHOT_PORTION_BYTES };
                    let sender = SnapshotSender::begin(&process.shared.tree(), portion_bytes);
                    let zxid = sender.zxid();
                    let mut packets = Vec::new();
                    QuorumPacket::Snap { zxid }.append(&mut packets);
                    link.stream = Some(Stream::Snapshot(Box::new(sender)));
                    self.figures.snapshots_sent += 1;
                    self.transmit(number, Side::Learner, Payload::Snap(packets, zxid));
                    self.next_step(number);
                }
                Item::End(why) => return self.close(number, Side::Leader, why),
            }
        }
    }

    fn next_step(&mut self, number: u64) {
        let at_us = self.now_us + self.random.skewed(50, 20 * MS);
        self.schedule(at_us, Event::StreamStep { number });
    }

    /// The process at whose end a stream runs.
    pub(crate) fn streamer(&self, number: u64) -> Option<usize> {
        Some(self.network.links.get(&number)?.ends[1].server)
    }

    pub(crate) fn stream_step(&mut self, number: u64) {
        let Some(link) = self.network.links.get_mut(&number) else { return };
        let end = link.ends[1];
        if !link.alive[1] || self.servers[end.server].life != end.life {
            return;
        }
        let Some(process) = &self.servers[end.server].process else { return };
        let mut portion = Vec::new();
        let (payload, more) = match &mut link.stream {
            None => return,
            Some(Stream::Snapshot(sender)) => {
                let more = sender.next_portion(&process.shared.tree(), &mut portion);
                match more {
                    Ok(more) => (Payload::Portion(portion), more),
                    Err(replaced) => {
                        return self.break_off(number, end, LinkEnd::LogUnreadable(replaced.to_string()));
                    }
                }
            }
            Some(Stream::Log { after, before }) => {
                let mut read = || {
                    let disk = &self.servers[end.server].disk;
                    let mut records = CatchUp::open(disk, &self.servers[end.server].directories, *after, *before)?;
                    for _ in 0..RECORDS_A_PORTION {
                        let Some((zxid, record)) = records.next_record()? else { return Ok(false) };
                        QuorumPacket::Proposal { zxid, record }.append(&mut portion);
                        QuorumPacket::Commit { zxid }.append(&mut portion);
                        *after = zxid;
                    }
                    Ok::<bool, rookeeper_store::StoreError>(true)
                };
                match read() {
                    Ok(more) => (Payload::Packets(portion), more),
                    Err(error) => {
                        return self.break_off(number, end, LinkEnd::LogUnreadable(error.to_string()));
                    }
                }
            }
        };
        if !matches!(&payload, Payload::Packets(packets) if packets.is_empty()) {
            self.transmit(number, Side::Learner, payload);
        }
        if more {
            self.next_step(number);
        } else {
            if let Some(link) = self.network.links.get_mut(&number) {
                link.stream = None;
            }
            self.advance(number);
        }
    }

    /// A stream can't go on.
    fn break_off(&mut self, number: u64, end: End, why: LinkEnd) {
        self.note(6, number, 0, || format!("server {}: {why}", end.server + 1));
        self.feed(end.server, Input::LearnerGone { link: end.link, why: why.clone() });
        self.close(number, Side::Leader, why);
    }
}
