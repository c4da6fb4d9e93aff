//! The epochs with which a member of an ensemble starts.
//!
//! What always holds of what is returned: epoch of the last transaction ≤ current ≤ accepted, and both files say so, durably. A promise
//! that was made is never forgotten: where the files can't be reconciled, the member does not start.
//!
//! Counterpart in the original: `QuorumPeer.loadDataBase`.

use std::path::Path;

use rookeeper_proto::{Epoch, Zxid};
use tracing::warn;

use crate::directories::Directories;
use crate::disk::Disk;
use crate::epoch_files::{ACCEPTED, CURRENT, read_epoch, read_unfinished_epoch, write_epoch};
use crate::error::{FETCH_ANEW, Result, StoreError};

/// What the epoch files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberEpochs {
    /// The newest epoch this member promised itself to.
    pub accepted: Epoch,
    /// The epoch of the last leader whose history this member took over.
    pub current: Epoch,
}

/// Reads the epochs of a member whose history ends at `last`, and creates the files that are missing.
pub fn read_epochs(disk: &dyn Disk, directories: &Directories, last: Zxid) -> Result<MemberEpochs> {
    let dir = &directories.snapshot_dir;
    let reached = last.known().map(Zxid::epoch).unwrap_or_default();
    let (accepted_file, current_file) = (read_epoch(disk, dir, ACCEPTED)?, read_epoch(disk, dir, CURRENT)?);
    let mut current = current_file.unwrap_or(reached);
    if reached > current {
        current = match read_unfinished_epoch(disk, dir, CURRENT) {
            // ZOOKEEPER-4269: the power went before the file got its name.
            Some(unfinished) if unfinished >= reached => unfinished,
            // The power went while this member caught up with a leader it had promised itself to. A history that reaches into an epoch
            // holds everything its leader began with, so it is as good as one that was acknowledged as a whole.
            _ if accepted_file.is_some_and(|accepted| reached <= accepted) => reached,
            _ => {
                let problem = format!("epoch {current} is older than the last transaction, {last}");
                return Err(refused(&dir.join(CURRENT), problem));
            }
        };
        warn!("currentEpoch is raised to {current}: the history reaches to {last}, its file was not written any more");
    }
    let accepted = accepted_file.unwrap_or(current);
    if accepted < current {
        let problem = format!("epoch {accepted} is older than the one in currentEpoch, {current}");
        return Err(refused(&dir.join(ACCEPTED), problem));
    }
    // In this order, so that a crash in between leaves what is accepted above what is current.
    if accepted_file != Some(accepted) {
        write_epoch(disk, dir, ACCEPTED, accepted)?;
    }
    if current_file != Some(current) {
        write_epoch(disk, dir, CURRENT, current)?;
    }
    Ok(MemberEpochs { accepted, current })
}

fn refused(path: &Path, problem: String) -> StoreError {
    StoreError::Damaged {
        path: path.to_owned(),
        offset: None,
        problem,
        remedy: format!(
            "the member doesn't start, because it may have promised itself to a leader it no longer knows of: restore all files of \
             version-2 from one backup. {FETCH_ANEW}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim_disk::{Fault, SimDisk};

    fn directories() -> Directories {
        Directories::new(Path::new("/data"), Path::new("/logs"))
    }

    fn disk(files: &[(&str, &str)]) -> SimDisk {
        let disk = SimDisk::new(1);
        disk.create_dir(&directories().snapshot_dir).unwrap();
        for (name, content) in files {
            disk.put(&directories().snapshot_dir.join(name), content.as_bytes());
        }
        disk.restart(1)
    }

    fn read(files: &[(&str, &str)], last: Zxid) -> std::result::Result<(u32, u32), String> {
        let disk = disk(files);
        let epochs = read_epochs(&disk, &directories(), last).map_err(|error| error.to_string())?;
        // What was said is on disk.
        assert_eq!(read_epochs(&disk.restart(7), &directories(), last).unwrap(), epochs);
        let stored = |name| read_epoch(&disk, &directories().snapshot_dir, name).unwrap();
        assert_eq!((stored(ACCEPTED), stored(CURRENT)), (Some(epochs.accepted), Some(epochs.current)));
        Ok((epochs.accepted.0, epochs.current.0))
    }

    #[test]
    fn missing_files_are_made_from_the_last_transaction() {
        assert_eq!(read(&[], Zxid::ZERO), Ok((0, 0)));
        assert_eq!(read(&[], Zxid(-1)), Ok((0, 0)));
        assert_eq!(read(&[], Zxid::new(4, 9)), Ok((4, 4)));
        assert_eq!(read(&[("acceptedEpoch", "6")], Zxid::new(4, 9)), Ok((6, 4)));
        assert_eq!(read(&[("currentEpoch", "5\n")], Zxid::new(4, 9)), Ok((5, 5)));
    }

    #[test]
    fn epochs_are_read_as_they_are() {
        assert_eq!(read(&[("acceptedEpoch", "6"), ("currentEpoch", "5")], Zxid::new(4, 9)), Ok((6, 5)));
        assert_eq!(read(&[("acceptedEpoch", "6"), ("currentEpoch", "6")], Zxid::new(6, 0)), Ok((6, 6)));
    }

    #[test]
    fn an_epoch_behind_the_history_is_raised_where_it_was_promised() {
        let last = Zxid::new(5, 1);
        let behind = [("acceptedEpoch", "6"), ("currentEpoch", "4")];
        assert_eq!(read(&behind, last), Ok((6, 5)));
        let unfinished = [("acceptedEpoch", "6"), ("currentEpoch", "4"), ("currentEpoch.tmp", "6")];
        assert_eq!(read(&unfinished, last), Ok((6, 6)));
        let useless = [("acceptedEpoch", "6"), ("currentEpoch", "4"), ("currentEpoch.tmp", "3")];
        assert_eq!(read(&useless, last), Ok((6, 5)));
    }

    #[test]
    fn what_can_not_be_reconciled_is_refused_and_left() {
        for (files, last, word) in [
            (&[("acceptedEpoch", "4"), ("currentEpoch", "4")][..], Zxid::new(5, 1), "older than the last transaction"),
            (&[("acceptedEpoch", "3"), ("currentEpoch", "4")], Zxid::new(4, 1), "older than the one in currentEpoch"),
            (&[("currentEpoch", "4")], Zxid::new(5, 1), "older than the last transaction"),
            (&[("acceptedEpoch", "3")], Zxid::new(4, 1), "older than the one in currentEpoch"),
            (&[("acceptedEpoch", "four")], Zxid::new(4, 1), "not an epoch"),
        ] {
            let error = read(files, last).unwrap_err();
            assert!(error.contains(word), "{error}");
            let disk = disk(files);
            read_epochs(&disk, &directories(), last).unwrap_err();
            assert_eq!(disk.operations(), 0, "nothing is written");
        }
    }

    #[test]
    fn a_crash_while_they_are_made_changes_nothing() {
        for at in 1..=10 {
            for seed in 0..20 {
                let disk = disk(&[]);
                disk.inject(Fault::Crash { at });
                let _ = read_epochs(&disk, &directories(), Zxid::new(4, 9));
                let epochs = read_epochs(&disk.restart(seed), &directories(), Zxid::new(4, 9)).unwrap();
                assert_eq!(epochs, MemberEpochs { accepted: Epoch(4), current: Epoch(4) });
            }
        }
    }
}
