//! The node that shows the membership of an ensemble.
//!
//! What always holds: writing it is no transaction. Each server writes it for itself when it starts to serve under a leader, so its
//! times may differ between servers; the digest does not count it.
//!
//! Counterpart in the original: `ZKDatabase.initConfigInZKDatabase`.

use rookeeper_proto::{Acl, StatPersisted, Zxid, path};

use crate::tree::Tree;

impl Tree {
    /// Writes the membership's text, as of `version`. A tree that was restored from an old snapshot may have no such node yet.
    pub fn write_config_node(&mut self, text: &str, version: Zxid, now_ms: i64) {
        let id = match self.nodes.find(path::CONFIG) {
            Some(id) => id,
            None => {
                let Some(system) = self.nodes.find(path::SYSTEM) else { return };
                let acl = self.acls.retain(Some(Acl::read_only()));
                let stat = StatPersisted { aversion: -1, ..StatPersisted::default() };
                self.add_child(system, path::CONFIG.into(), Some(Box::default()), acl, stat)
            }
        };
        let grown = self.replace_data(id, Some(text.as_bytes().into()), |stat| {
            stat.version = -1;
            stat.mzxid = version;
            stat.mtime_ms = now_ms;
        });
        self.quota_data_changed(path::CONFIG, grown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_there_and_the_digest_does_not_know() {
        let mut tree = Tree::new();
        let digest = tree.digest();
        tree.write_config_node("version=5", Zxid(5), 77);
        let node = tree.node(path::CONFIG).unwrap();
        assert_eq!((node.data(), node.stat().version, node.stat().mzxid), (Some(&b"version=5"[..]), -1, Zxid(5)));
        assert_eq!((tree.digest(), tree.last_zxid()), (digest, Zxid::ZERO));
    }
}
