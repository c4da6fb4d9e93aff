//! How large the files of this server are.

use std::path::Path;
use std::time::UNIX_EPOCH;

use rookeeper_proto::Zxid;
use rookeeper_store::names::FileName;

use crate::context::Context;

/// Bytes of the snapshots and of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirectorySizes {
    pub snapshot_bytes: u64,
    pub log_bytes: u64,
}

impl DirectorySizes {
    /// Looks at the disk.
    pub fn gather(context: &Context) -> DirectorySizes {
        let directories = &context.config.directories;
        DirectorySizes {
            snapshot_bytes: directory_bytes(&directories.snapshot_dir()),
            log_bytes: directory_bytes(&directories.log_dir()),
        }
    }
}

/// A snapshot on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastSnapshot {
    pub zxid: Zxid,
    /// Seconds since 1970.
    pub written_s: i64,
}

/// The newest snapshot, by its name; none where there is none, or where the directory can't be read.
pub(crate) fn last_snapshot(context: &Context) -> Option<LastSnapshot> {
    newest_snapshot(&context.config.directories.snapshot_dir())
}

fn newest_snapshot(directory: &Path) -> Option<LastSnapshot> {
    let entries = std::fs::read_dir(directory).ok()?.flatten();
    let snapshots = entries.filter_map(|entry| match FileName::parse(entry.file_name().to_str()?)? {
        FileName::Snapshot(zxid, _) => Some((zxid, entry)),
        _ => None,
    });
    let (zxid, entry) = snapshots.max_by_key(|(zxid, _)| *zxid)?;
    let written = entry.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(LastSnapshot { zxid, written_s: i64::try_from(written.as_secs()).ok()? })
}

/// The lengths of all files in a directory and below it; preallocated space counts. What cannot be read, or goes away
/// meanwhile, counts as nothing.
fn directory_bytes(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => directory_bytes(&entry.path()),
            Ok(metadata) if metadata.is_file() => metadata.len(),
            _ => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_counted_with_all_below_them() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("below")).unwrap();
        std::fs::write(directory.path().join("log.1"), [0; 100]).unwrap();
        std::fs::write(directory.path().join("below/other"), [0; 11]).unwrap();
        assert_eq!(directory_bytes(directory.path()), 111);
        assert_eq!(directory_bytes(&directory.path().join("missing")), 0);
    }

    #[test]
    fn the_newest_snapshot_is_found_among_other_files() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(newest_snapshot(directory.path()), None);
        for name in ["snapshot.9", "snapshot.10", "snapshot.ff.old", "log.100", ".snapshot.1000.tmp"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        assert_eq!(newest_snapshot(directory.path()).unwrap().zxid, Zxid(0x10));
        assert!(newest_snapshot(directory.path()).unwrap().written_s > 1_700_000_000);
    }
}
