//! The membership that a member begins with: what its files of the configuration say, unless its own log knows better.
//!
//! The files may be older than the log, because the server could not write them when the members changed. What always holds here: a
//! membership from the log counts as in force only where the log proves it. Otherwise it counts as one to come, and every decision needs the
//! quorums of both, which is right whether or not it is in force.

use rookeeper_proto::Zxid;
use rookeeper_tree::Tree;
use rookeeper_zab::{Membership, Memberships};

/// What the recovery of the database found about the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMembership {
    /// What `/zookeeper/config` says.
    pub newest: Membership,
    /// What it said before the last change that was read from the log. None where no change was read: the snapshot said it all.
    pub before: Option<Membership>,
    /// The end of the log.
    pub last: Zxid,
}

impl FoundMembership {
    /// `before` is the node's data before the last reconfiguration in the log. None where the node says nothing that can be used.
    pub fn in_tree(tree: &Tree, before: Option<&[u8]>, multi_address: bool) -> Option<FoundMembership> {
        let parse = |text: &[u8]| Membership::parse_text(text, multi_address).ok();
        let newest = parse(tree.node(rookeeper_proto::path::CONFIG)?.data()?)?;
        Some(FoundMembership { newest, before: before.and_then(parse), last: tree.last_zxid() })
    }

    /// The memberships to begin with, where the log knows more than the files.
    pub fn corrects(&self, files: &Memberships) -> Option<Memberships> {
        let FoundMembership { newest, before, last } = self;
        let in_files = &files.committed;
        if newest.version <= in_files.version {
            return None;
        }
        let to_come = if files.last_seen.version > newest.version { &files.last_seen } else { newest };
        // A leader decides about nothing before the whole history that it begins with is in force, and about no change of the members while
        // another one is not.
        let is_followed_by_an_epoch = last.epoch() > newest.version.epoch();
        let in_force = match before {
            _ if is_followed_by_an_epoch || files.last_seen.version > newest.version => newest,
            Some(before) if before.version > in_files.version => before,
            _ => in_files,
        };
        let memberships = Memberships::new(in_force.clone(), to_come.clone());
        (memberships != *files).then_some(memberships)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Versions are epoch and counter; each version has its own servers.
    fn of(version: Zxid) -> Membership {
        let id = 10 * version.epoch().0 + version.counter();
        let text = format!("server.{id}=a{id}:1:2:participant\nversion={version:x}");
        Membership::parse_text(text, false).unwrap()
    }

    const fn zxid(epoch: i64, counter: i64) -> Zxid {
        Zxid(epoch << 32 | counter)
    }

    const FILE: Zxid = zxid(1, 3);
    const SECOND: Zxid = zxid(1, 5);
    const THIRD: Zxid = zxid(2, 7);

    fn begins(files: (Zxid, Zxid), newest: Zxid, before: Option<Zxid>, last: Zxid) -> Option<(Zxid, Zxid)> {
        let found = FoundMembership { newest: of(newest), before: before.map(of), last };
        let corrected = found.corrects(&Memberships::new(of(files.0), of(files.1)))?;
        Some((corrected.committed.version, corrected.last_seen.version))
    }

    #[test]
    fn files_that_are_as_new_as_the_log_count() {
        assert_eq!(begins((FILE, FILE), FILE, None, zxid(9, 9)), None);
        assert_eq!(begins((SECOND, SECOND), FILE, None, zxid(9, 9)), None);
        assert_eq!(begins((FILE, SECOND), SECOND, Some(FILE), zxid(1, 8)), None, "it is known to be under way");
    }

    #[test]
    fn a_newer_one_in_the_log_is_to_come_until_it_is_proved() {
        assert_eq!(begins((FILE, FILE), SECOND, Some(FILE), zxid(1, 8)), Some((FILE, SECOND)));
        assert_eq!(begins((FILE, FILE), SECOND, None, zxid(1, 8)), Some((FILE, SECOND)), "in a snapshot");
        assert_eq!(begins((FILE, FILE), SECOND, Some(FILE), zxid(2, 1)), Some((SECOND, SECOND)), "another epoch began");
        assert_eq!(begins((FILE, SECOND), SECOND, Some(FILE), zxid(2, 1)), Some((SECOND, SECOND)));
    }

    #[test]
    fn one_that_another_one_followed_is_in_force() {
        assert_eq!(begins((FILE, FILE), THIRD, Some(SECOND), zxid(2, 9)), Some((SECOND, THIRD)));
        assert_eq!(begins((FILE, THIRD), SECOND, Some(FILE), zxid(1, 8)), Some((SECOND, THIRD)), "by the files");
        assert_eq!(begins((FILE, FILE), THIRD, Some(SECOND), zxid(3, 1)), Some((THIRD, THIRD)));
    }
}
