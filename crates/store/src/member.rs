//! What a member of an ensemble finds out about its epochs when it starts.
//!
//! What always holds: the epoch of the last transaction ≤ current epoch ≤ accepted epoch; where the files say otherwise nothing is
//! started, because a server that forgets what it promised could help a second leader into the same epoch.
//!
//! Counterpart in the original: `QuorumPeer.loadDataBase`.

use rookeeper_proto::{Epoch, Zxid};

use crate::directories::Directories;
use crate::disk::Disk;
use crate::epoch_files::{ACCEPTED, CURRENT, read_epoch, read_unfinished_epoch, write_epoch};
use crate::error::{Result, StoreError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberEpochs {
    pub accepted: Epoch,
    pub current: Epoch,
}

/// Reads both epochs for a database that ends at `last`, and creates the files that are missing.
pub fn read_epochs(disk: &dyn Disk, directories: &Directories, last: Zxid) -> Result<MemberEpochs> {
    let dir = &directories.snapshot_dir;
    let reached = if last.0 < 0 { 0 } else { last.epoch() };
    let current = match read_epoch(disk, dir, CURRENT)? {
        None => {
            write_epoch(disk, dir, CURRENT, reached)?;
            reached
        }
        Some(current) if current >= reached => current,
        Some(current) => match read_unfinished_epoch(disk, dir, CURRENT).filter(|epoch| *epoch >= reached) {
            // The file was written and not renamed yet when the power went.
            Some(unfinished) => {
                write_epoch(disk, dir, CURRENT, unfinished)?;
                unfinished
            }
            None => {
                return Err(contradiction(
                    directories,
                    CURRENT,
                    format!("epoch {current} is older than that of the last transaction, {last}"),
                ));
            }
        },
    };
    let accepted = match read_epoch(disk, dir, ACCEPTED)? {
        None => {
            write_epoch(disk, dir, ACCEPTED, current)?;
            current
        }
        Some(accepted) if accepted >= current => accepted,
        Some(accepted) => {
            let problem = format!("accepted epoch {accepted} is older than the current epoch {current}");
            return Err(contradiction(directories, ACCEPTED, problem));
        }
    };
    Ok(MemberEpochs { accepted, current })
}

fn contradiction(directories: &Directories, name: &str, problem: String) -> StoreError {
    StoreError::Damaged {
        path: directories.snapshot_dir.join(name),
        offset: None,
        problem,
        remedy: "the server doesn't start, because files of different servers or times are mixed here: restore the directory as a whole, \
                 or empty this member's version-2 to fetch everything from the leader"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::SimDisk;

    fn read(files: &[(&str, &str)], last: Zxid) -> std::result::Result<(Epoch, Epoch), String> {
        let disk = SimDisk::new(1);
        let directories = Directories::new(Path::new("/data"), Path::new("/data"));
        disk.create_dir(&directories.snapshot_dir).unwrap();
        for (name, content) in files {
            disk.put(&directories.snapshot_dir.join(name), content.as_bytes());
        }
        let epochs = read_epochs(&disk, &directories, last).map_err(|error| error.to_string())?;
        // What was found once is found again.
        assert_eq!(read_epochs(&disk, &directories, last).unwrap(), epochs);
        Ok((epochs.accepted, epochs.current))
    }

    #[test]
    fn what_is_missing_follows_from_the_last_transaction() {
        let last = Zxid::new(3, 7);
        assert_eq!(read(&[], Zxid::ZERO), Ok((0, 0)));
        assert_eq!(read(&[], last), Ok((3, 3)));
        assert_eq!(read(&[(CURRENT, "4")], last), Ok((4, 4)));
        assert_eq!(read(&[(CURRENT, "4"), (ACCEPTED, "6\n")], last), Ok((6, 4)));
    }

    #[test]
    fn an_interrupted_write_counts_where_it_fits() {
        assert_eq!(read(&[(CURRENT, "2"), ("currentEpoch.tmp", "3"), (ACCEPTED, "3")], Zxid::new(3, 1)), Ok((3, 3)));
        assert!(read(&[(CURRENT, "2"), ("currentEpoch.tmp", "2")], Zxid::new(3, 1)).is_err());
    }

    #[test]
    fn contradictions_keep_the_server_from_starting() {
        let older = read(&[(CURRENT, "2")], Zxid::new(3, 1)).unwrap_err();
        assert!(older.contains("epoch 2 is older than that of the last transaction, 0x300000001"), "{older}");
        let accepted = read(&[(CURRENT, "5"), (ACCEPTED, "4")], Zxid::new(3, 1)).unwrap_err();
        assert!(accepted.contains("accepted epoch 4 is older than the current epoch 5"), "{accepted}");
    }
}
