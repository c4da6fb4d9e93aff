//! Planted bugs of the phases in which an epoch is found and learners synchronise. They change the packets that leaders and learners hear and
//! send.
//!
//! What always holds: without such a bug in the plan nothing is changed.

use rookeeper_proto::quorum::{LearnerInfo, PROTOCOL_VERSION, QuorumPacket};
use rookeeper_proto::{Epoch, ServerId, Zxid};
use rookeeper_replica::Input;
use rookeeper_zab::link::MAX_PACKET_BYTES;
use rookeeper_zab::{LinkEnd, LinkId};

use crate::faults::Sabotage;
use crate::network::{Item, Payload, Side};
use crate::world::World;

/// Links of nobody, in the numbers of which neither those dialed nor those accepted are.
const NOBODYS_LINKS: u64 = 1 << 40;

impl World {
    /// Changes a packet of a learner.
    pub(crate) fn tamper_to_leader(&mut self, server: usize, bytes: Vec<u8>) -> Vec<u8> {
        let Some(sabotage) = self.plan.sabotage else { return bytes };
        let mut changed = Vec::with_capacity(bytes.len());
        let mut rest = &bytes[..];
        while let Ok(Some((packet, length))) = QuorumPacket::split(rest, MAX_PACKET_BYTES) {
            match (sabotage, packet) {
                (Sabotage::FollowsWhoIsBehind, QuorumPacket::AckEpoch { last_logged, current_epoch: Some(_) })
                | (Sabotage::CountsRepeatedPromises, QuorumPacket::AckEpoch { last_logged, current_epoch: None }) => {
                    QuorumPacket::AckEpoch { last_logged, current_epoch: Some(Epoch::ZERO) }.append(&mut changed);
                }
                (Sabotage::KeepsAcknowledgements, QuorumPacket::Ack { zxid }) if zxid.counter() > 0 => {
                    self.network.acknowledged.insert(server, zxid);
                    changed.extend_from_slice(&rest[..length]);
                }
                _ => changed.extend_from_slice(&rest[..length]),
            }
            rest = &rest[length..];
        }
        changed.extend_from_slice(rest);
        changed
    }

    /// Changes a packet of a leader on a link from one server to another.
    pub(crate) fn tamper_to_learner(&mut self, number: u64, item: Item, (learner, leader): (usize, usize)) -> Item {
        let Some(sabotage) = self.plan.sabotage else { return item };
        let first = match &item {
            Item::Bytes(bytes) => QuorumPacket::split(bytes, MAX_PACKET_BYTES).ok().flatten().map(|(packet, _)| packet),
            _ => None,
        };
        let begins = matches!(first, Some(QuorumPacket::Diff { .. } | QuorumPacket::Trunc { .. }));
        match (sabotage, first) {
            (Sabotage::SnapshotsWhoHasMore, Some(QuorumPacket::Trunc { .. })) => return Item::Snapshot,
            (Sabotage::LeadsWithoutPromises, Some(QuorumPacket::LeaderInfo { .. })) => {
                self.promise_of_nobody(learner, leader)
            }
            (Sabotage::KeepsAcknowledgements, _) if begins || matches!(item, Item::Snapshot) => {
                let before = self.network.acknowledged.get(&learner).copied().unwrap_or_default();
                if before.epoch() == self.servers[leader].promises.accepted && before > Zxid::ZERO {
                    let mut packets = Vec::new();
                    QuorumPacket::Ack { zxid: before }.append(&mut packets);
                    self.transmit(number, Side::Leader, Payload::Packets(packets));
                }
            }
            _ => {}
        }
        item
    }

    /// A round of pings that begins when another one ends is answered by that one's answers.
    pub(crate) fn echo_of_the_round_before(&mut self, leader: usize, link: LinkId, bytes: &[u8]) {
        if self.plan.sabotage != Some(Sabotage::JoinsRoundInFlight) || self.network.echoed_at != Some(leader) {
            return;
        }
        if let Ok(Some((QuorumPacket::Ping { zxid, .. }, _))) = QuorumPacket::split(bytes, MAX_PACKET_BYTES)
            && zxid != Zxid::ZERO
        {
            let mut packets = Vec::new();
            // Also for the pings between the two rounds.
            for _ in 0..3 {
                QuorumPacket::Ping { zxid, touches: Some(Vec::new()) }.append(&mut packets);
            }
            // This comes before the leader hears that no learner is left to answer.
            self.inbox.push_front((leader, Input::FromLearner { link, packets }));
        }
    }

    /// The leader counts every other voter as one that has acknowledged its epoch.
    fn promise_of_nobody(&mut self, learner: usize, leader: usize) {
        for voter in (0..self.plan.servers).filter(|voter| *voter != leader && *voter != learner) {
            self.network.next += 1;
            let link = LinkId(NOBODYS_LINKS + self.network.next);
            let server = ServerId(voter as i64 + 1);
            let info = LearnerInfo { server, protocol_version: PROTOCOL_VERSION, config_version: Zxid::ZERO };
            let packets = |packet: QuorumPacket<'_>| {
                let mut packets = Vec::new();
                packet.append(&mut packets);
                packets
            };
            let introduction = QuorumPacket::FollowerInfo { accepted_epoch: Zxid::ZERO, info };
            let promise = QuorumPacket::AckEpoch { last_logged: Some(Zxid::ZERO), current_epoch: Some(Epoch::ZERO) };
            self.feed(leader, Input::LearnerConnected { link, peer: "nobody".to_owned() });
            self.feed(leader, Input::FromLearner { link, packets: packets(introduction) });
            self.feed(leader, Input::FromLearner { link, packets: packets(promise) });
            self.feed(leader, Input::LearnerGone { link, why: LinkEnd::Closed });
        }
    }
}
