//! The digest of the tree, version 2: a sum over all nodes that every server must agree on at every zxid.
//!
//! What always holds: the tree's digest is the wrapping sum of [`node`] over all nodes whose path [`counts`], so a change costs
//! one subtraction and one addition per touched node. The lists of ACLs are not covered, only how often they changed.
//!
//! Counterpart in the original: `DigestCalculator`.

use rookeeper_proto::{StatPersisted, path};

/// The CRC-32 over path and data: the part of a node's digest that only changes with its data. The root counts as the empty path.
pub fn content_crc(node_path: &str, data: Option<&[u8]>) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    if node_path != path::ROOT {
        crc.update(node_path.as_bytes());
    }
    crc.update(data.unwrap_or_default());
    crc.finalize()
}

/// The digest of one node: the CRC goes on over the stat, whose fields stand in another order here than in a snapshot.
pub fn node(content_crc: u32, stat: &StatPersisted) -> u64 {
    u64::from(node_crc(content_crc, stat))
}

fn node_crc(content_crc: u32, stat: &StatPersisted) -> u32 {
    let mut fields = [0; 60];
    let longs = [stat.czxid.0, stat.mzxid.0, stat.pzxid.0, stat.ctime_ms, stat.mtime_ms];
    for (field, long) in fields.chunks_exact_mut(8).zip(longs) {
        field.copy_from_slice(&long.to_be_bytes());
    }
    for (field, int) in fields[40..52].chunks_exact_mut(4).zip([stat.version, stat.cversion, stat.aversion]) {
        field.copy_from_slice(&int.to_be_bytes());
    }
    fields[52..].copy_from_slice(&stat.ephemeral_owner.to_be_bytes());
    let mut crc = crc32fast::Hasher::new_with_initial(content_crc);
    crc.update(&fields);
    crc.finalize()
}

/// Whether a node is part of the tree's digest. What lies below `/zookeeper/` may differ between servers and is not.
pub fn counts(path: &str) -> bool {
    !path.starts_with("/zookeeper/")
}

/// What a node adds to the tree's digest.
pub(crate) fn of_node(path: &str, content_crc: u32, stat: &StatPersisted) -> u32 {
    if counts(path) { node_crc(content_crc, stat) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_counted_nodes_of_a_fresh_tree_give_the_known_digest() {
        let stat = StatPersisted::default();
        let sum = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"]
            .iter()
            .map(|path| of_node(path, content_crc(path, Some(b"")), &stat))
            .fold(0_u64, |sum, digest| sum + u64::from(digest));
        assert_eq!(sum, 1_371_985_504);
    }

    #[test]
    fn null_and_empty_data_have_the_same_digest() {
        assert_eq!(content_crc("/a", None), content_crc("/a", Some(b"")));
    }

    #[test]
    fn only_what_lies_below_the_system_node_is_left_out() {
        assert!(counts("/") && counts("/zookeeper") && counts("/zookeeper2/a"));
        assert!(!counts("/zookeeper/config") && !counts("/zookeeper/quota/a/zookeeper_stats"));
    }
}
