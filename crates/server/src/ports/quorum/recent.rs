//! The last packets that came over a link, for whoever wonders why it ended (`messageTracker.*`).
//!
//! What always holds here: as many packets are kept as are configured and no more, and of each its name, its zxid and its time; where nothing is kept,
//! nothing is looked at.
//!
//! Counterpart in the original: `MessageTracker`, which also keeps what was sent.

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use parking_lot::Mutex;
use rookeeper_proto::Zxid;
use rookeeper_proto::quorum::QuorumPacket;

/// Larger settings keep so many.
pub(super) const MOST: usize = 1000;

/// Bytes of a packet up to its zxid, and with it.
const ZXID: std::ops::Range<usize> = 4..12;

#[derive(Debug)]
pub(super) struct Recent {
    places: usize,
    packets: Mutex<VecDeque<Seen>>,
}

#[derive(Debug)]
struct Seen {
    name: &'static str,
    zxid: Zxid,
    at: Instant,
}

impl Recent {
    /// Keeps so many packets; 0 for none.
    pub fn new(places: usize) -> Recent {
        Recent { places: places.min(MOST), packets: Mutex::default() }
    }

    /// Takes in whole packets, in the order in which they came just now. `limit_bytes` bounds the data of each.
    pub fn note(&self, mut packets: &[u8], limit_bytes: usize) {
        if self.places == 0 {
            return;
        }
        let (at, mut kept) = (Instant::now(), self.packets.lock());
        // The replica says what is wrong with a packet that is none.
        while let Ok(Some((packet, length))) = QuorumPacket::split(packets, limit_bytes) {
            let zxid = packets.get(ZXID).and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_be_bytes);
            if kept.len() == self.places {
                kept.pop_front();
            }
            kept.push_back(Seen { name: packet.name(), zxid: Zxid(zxid), at });
            packets = &packets[length..];
        }
    }

    /// What is kept, the last packet first; none where nothing is.
    pub fn told(&self) -> Option<impl fmt::Display> {
        let (now, kept) = (Instant::now(), self.packets.lock());
        let ago = |seen: &Seen| {
            let ms = now.saturating_duration_since(seen.at).as_millis();
            format!("{} {} {ms} ms ago", seen.name, seen.zxid)
        };
        let all: Vec<String> = kept.iter().rev().map(ago).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_packets_are_kept_and_the_newest_is_told_first() {
        let mut bytes = Vec::new();
        for zxid in 1..=4 {
            QuorumPacket::Ack { zxid: Zxid(zxid) }.append(&mut bytes);
        }
        QuorumPacket::Ping { zxid: Zxid(9), touches: None }.append(&mut bytes);
        let recent = Recent::new(3);
        assert!(recent.told().is_none());
        recent.note(&bytes, 100);
        let told = recent.told().unwrap().to_string();
        let names: Vec<&str> = told.split(", ").map(|one| one.rsplitn(4, ' ').last().unwrap()).collect();
        assert_eq!(names, ["PING 0x9", "ACK 0x4", "ACK 0x3"]);
        // What is no packet ends it.
        recent.note(b"\0\0\0\x63 and something that is longer than a packet", 100);
        assert_eq!(recent.told().unwrap().to_string().matches("ago").count(), 3);
        let none = Recent::new(0);
        none.note(&bytes, 100);
        assert!(none.told().is_none());
    }
}
