//! The digests of the tree at regular zxids, for the four-letter word `hash`: servers that agree at a zxid agree on everything before.
//!
//! What always holds: entries come in the order of their zxids, there are never more than [`KEPT`], and each was taken right after
//! the transaction of its zxid was applied.
//!
//! Counterpart in the original: `DataTree.digestLog` (ZOOKEEPER-3150).

use std::collections::VecDeque;

use rookeeper_proto::Zxid;

/// One in this many zxids is noted, so that all servers note the same ones.
const INTERVAL: i64 = 128;

/// Entries kept; the oldest go first.
pub(crate) const KEPT: usize = 1024;

/// The newest digests of the tree at regular zxids, for comparing servers.
#[derive(Debug, Default)]
pub struct DigestLog {
    entries: VecDeque<(Zxid, i64)>,
}

impl DigestLog {
    /// Whether the digest at this zxid belongs here.
    pub fn wants(zxid: Zxid) -> bool {
        zxid.0 % INTERVAL == 0
    }

    /// Notes the digest of the tree after the transaction of this zxid.
    pub fn note(&mut self, zxid: Zxid, digest: i64) {
        debug_assert!(self.entries.back().is_none_or(|(last, _)| *last < zxid));
        if self.entries.len() == KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back((zxid, digest));
    }

    /// Oldest first.
    pub fn entries(&self) -> impl Iterator<Item = (Zxid, i64)> {
        self.entries.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_zxid_in_128_is_noted_and_the_oldest_make_room() {
        let mut log = DigestLog::default();
        for zxid in (1..=128 * (KEPT as i64 + 1)).map(Zxid).filter(|zxid| DigestLog::wants(*zxid)) {
            log.note(zxid, -zxid.0);
        }
        let entries: Vec<_> = log.entries().collect();
        assert_eq!(entries.len(), KEPT);
        assert_eq!((entries[0], entries[KEPT - 1]), ((Zxid(256), -256), (Zxid(131_200), -131_200)));
        assert!(DigestLog::wants(Zxid(7 << 32)) && !DigestLog::wants(Zxid(7 << 32 | 1)));
    }
}
