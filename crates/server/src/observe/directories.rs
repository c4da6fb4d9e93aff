//! How large the files of this server are.

use std::path::Path;

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
}
