//! A snapshot that comes alone, from whoever has it: without the name that says where it begins, and without the log that makes it whole.
//!
//! What always holds: what comes out is the tree of one moment, byte for byte as the snapshot's own digest says. A snapshot that was written while the
//! data changed has another digest, and is refused.

use std::path::Path;

use rookeeper_proto::{TtlEncoding, Zxid};
use rookeeper_tree::{Tree, TreeBuilder};

use crate::disk::Disk;
use crate::error::StoreError;
use crate::{MAX_RECORD_BYTES, snapshot_file, snapshot_reader};

/// Why a snapshot can't stand alone.
#[derive(Debug, thiserror::Error)]
pub enum NotWhole {
    #[error("{0}")]
    Unreadable(#[from] StoreError),
    #[error(
        "it has no digest, so nobody can tell whether it is whole: the server that wrote it has digest.enabled=false, or is older than 3.6"
    )]
    NoDigest,
    #[error(
        "it was written while the data changed, up to {complete_at}, and is whole only together with the log of that time: take it while nobody writes, \
         or take a backup"
    )]
    Fuzzy { complete_at: Zxid },
    #[error("node {path:?} has an access control list that is not in it")]
    UnknownAcl { path: String },
    #[error("it is of transaction {0}, behind which hardly any are left")]
    TooLate(Zxid),
}

/// Reads a snapshot in any of the three forms. Its sessions are left out, with their ephemeral nodes: their clients are not connected here.
/// `seed`: see [`Tree::with_seed`]; `encoding`: which nodes have a time to live.
pub fn load(disk: &dyn Disk, path: &Path, seed: u64, encoding: TtlEncoding) -> Result<Tree, NotWhole> {
    let form = snapshot_file::form(disk, path).map_err(|error| StoreError::disk("read", path, error))?;
    let builder = TreeBuilder::with_seed(seed).reading(encoding);
    let zxid = |info: &snapshot_reader::SnapshotInfo| info.complete_at(Zxid::ZERO);
    let loaded = snapshot_reader::load_file(builder, disk, path, form, MAX_RECORD_BYTES, zxid)?;
    let (mut tree, complete_at) = (loaded.tree, loaded.info.complete_at(Zxid::ZERO));
    let digest = loaded.info.digest.ok_or(NotWhole::NoDigest)?;
    // The two trailers may name different transactions: one that changed nothing has no digest, and one may come between the two.
    if digest.digest.value != tree.digest() {
        return Err(NotWhole::Fuzzy { complete_at });
    }
    // Numbers go on from there.
    if complete_at.epoch().0 >= i32::MAX as u32 - 1 {
        return Err(NotWhole::TooLate(complete_at));
    }
    match tree.finish_without_sessions().unknown_acls.into_iter().next() {
        Some(path) => Err(NotWhole::UnknownAcl { path }),
        None => Ok(tree),
    }
}

/// What is wrong with a snapshot, without the advice for one that belongs to this server.
impl NotWhole {
    /// Whether this server's own disk is to blame.
    pub fn is_own_disk(&self) -> bool {
        matches!(self, NotWhole::Unreadable(error) if error.io().is_some())
    }

    /// For whoever has sent it.
    pub fn problem(&self) -> String {
        match self {
            NotWhole::Unreadable(StoreError::Damaged { offset, problem, .. }) => match offset {
                Some(offset) => format!("at byte {offset}: {problem}"),
                None => problem.clone(),
            },
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rookeeper_proto::txn::{CreateKind, CreateTxn};
    use rookeeper_proto::{Acl, SessionId, Txn, TxnHeader};

    use super::*;
    use crate::{Compression, SimDisk, SnapshotOptions, write_snapshot};

    /// A session at 0x1 with a node at 0x2, another node at 0x3, which has a list of its own.
    fn tree() -> Tree {
        let mut tree = Tree::new();
        let create = |path: &str, ephemeral, acl| {
            let kind = CreateKind::Node { ephemeral, with_stat: false };
            Txn::Create(CreateTxn { path: path.to_owned(), data: None, acl: Some(acl), kind, parent_cversion: -1 })
        };
        let txns = [
            Txn::CreateSession { timeout_ms: 4000 },
            create("/mine", true, Acl::open()),
            create("/kept", false, Acl::read_only()),
        ];
        for (counter, txn) in (1..).zip(txns) {
            let header = TxnHeader { session: SessionId(7), cxid: 1, zxid: Zxid(counter), time_ms: 1 };
            tree.apply(&header, txn, &mut Vec::new());
        }
        tree
    }

    fn written(tree: &Tree, options: &SnapshotOptions) -> (SimDisk, PathBuf) {
        let (disk, dir) = (SimDisk::new(1), Path::new("/v"));
        disk.create_dir(dir).unwrap();
        let written = write_snapshot(&disk, dir, options, &mut |read| read(tree), &mut |_| Ok(())).unwrap();
        (disk, written.path)
    }

    #[test]
    fn a_snapshot_of_any_form_gives_its_tree_without_its_sessions() {
        for compression in Compression::ALL {
            let (disk, path) = written(&tree(), &SnapshotOptions { compression, ..SnapshotOptions::default() });
            // Its name tells nothing.
            let bytes = disk.content(&path).unwrap();
            disk.put(Path::new("/v/received"), &bytes);
            let found = load(&disk, Path::new("/v/received"), 3, TtlEncoding::Current).unwrap();
            assert_eq!((found.last_zxid(), found.session_count(), found.ephemeral_count()), (Zxid(3), 0, 0));
            assert!(found.node("/mine").is_none());
            assert_eq!(found.node("/kept").unwrap().acl().to_vec(), Acl::read_only());
        }
    }

    #[test]
    fn what_nobody_can_prove_is_refused() {
        let (disk, path) = written(&tree(), &SnapshotOptions { digests: false, ..SnapshotOptions::default() });
        assert!(matches!(load(&disk, &path, 0, TtlEncoding::Current), Err(NotWhole::NoDigest)));
        let mut late = tree();
        late.set_last_zxid(Zxid::new(i32::MAX as u32, 1));
        let (disk, path) = written(&late, &SnapshotOptions::default());
        assert!(matches!(load(&disk, &path, 0, TtlEncoding::Current), Err(NotWhole::TooLate(_))));
        assert!(load(&disk, Path::new("/v/none"), 0, TtlEncoding::Current).is_err_and(|error| error.is_own_disk()));
    }

    #[test]
    fn a_snapshot_that_shows_a_part_of_later_changes_is_refused() {
        // The tree changes between two looks at it.
        let (disk, dir) = (SimDisk::new(1), Path::new("/v"));
        disk.create_dir(dir).unwrap();
        let (mut tree, mut looks) = (tree(), 0);
        let options = SnapshotOptions { portion_bytes: 1, ..SnapshotOptions::default() };
        let written = write_snapshot(
            &disk,
            dir,
            &options,
            &mut |read| {
                looks += 1;
                // The root has been written by then.
                if looks == 5 {
                    let header = TxnHeader { session: SessionId(7), cxid: 2, zxid: Zxid(4), time_ms: 1 };
                    let set = Txn::SetData { path: "/".to_owned(), data: Some(b"x".to_vec()), version: 1 };
                    tree.apply(&header, set, &mut Vec::new());
                }
                read(&tree);
            },
            &mut |_| Ok(()),
        );
        let path = written.unwrap().path;
        let refused = load(&disk, &path, 0, TtlEncoding::Current);
        assert!(matches!(refused, Err(NotWhole::Fuzzy { complete_at: Zxid(4) })), "{refused:?}");
    }
}
