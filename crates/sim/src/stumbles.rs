//! Servers that stumble while an epoch is being found and a history taken over. At any packet of these phases the sender or the receiver may
//! end, stand still, or lose its connections.
//!
//! What always holds: a life has stumbles only where its plan says so.

use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_zab::link::MAX_PACKET_BYTES;

use crate::faults::{Fault, PlannedFault, Target};
use crate::world::{Event, MS, World};

/// A server stumbles over one packet in so many.
const ONE_IN: u64 = 6;

impl World {
    /// Packets leave for another server.
    pub(crate) fn may_stumble(&mut self, from: usize, to: usize, bytes: &[u8]) {
        if !self.plan.stumbles || self.healed {
            return;
        }
        let mut rest = bytes;
        while let Ok(Some((packet, length))) = QuorumPacket::split(rest, MAX_PACKET_BYTES) {
            rest = &rest[length..];
            let is_of_a_beginning = match packet {
                QuorumPacket::FollowerInfo { .. }
                | QuorumPacket::LeaderInfo { .. }
                | QuorumPacket::AckEpoch { .. }
                | QuorumPacket::NewLeader { .. }
                | QuorumPacket::UpToDate => true,
                QuorumPacket::Ack { zxid } => zxid.counter() == 0,
                _ => false,
            };
            if is_of_a_beginning && self.random.one_in(ONE_IN) {
                let server = *self.random.pick(&[from, to]);
                return self.stumble(server);
            }
        }
    }

    fn stumble(&mut self, server: usize) {
        self.figures.note("stumbles at the beginning of an epoch");
        let kinds = [Fault::Crash, Fault::Crash, Fault::PowerCut, Fault::CutLinks, Fault::Freeze, Fault::Isolate];
        let tick_us = self.plan.tick_ms * MS;
        let fault = PlannedFault {
            at_us: self.now_us + self.random.skewed(100, 10 * MS),
            target: Target::Server(server),
            kind: *self.random.pick(&kinds),
            lasts_us: self.random.skewed(MS, 8 * tick_us),
            draw: self.random.draw(),
        };
        self.schedule(fault.at_us, Event::Fault { index: self.plan.faults.len() });
        self.plan.faults.push(fault);
    }
}
