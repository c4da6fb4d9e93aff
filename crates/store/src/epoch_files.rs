//! The small files: the epochs of an ensemble member, its id, and the permission to begin empty.
//!
//! What always holds: an epoch file has its old or its new value, never a part of one.
//!
//! Counterpart in the original: `QuorumPeer.readLongFromFile` and `AtomicFileWritingIdiom`.

use std::path::Path;

use rookeeper_proto::{Epoch, ServerId};

use crate::disk::{Disk, Rights};
use crate::error::{FETCH_ANEW, Result, StoreError};
use crate::replace::{replace, temporary};

/// The epoch whose leader this member follows.
pub const CURRENT: &str = "currentEpoch";
/// The newest epoch this member promised itself to.
pub const ACCEPTED: &str = "acceptedEpoch";
/// An empty database is expected, says the operator.
pub const INITIALIZE: &str = "initialize";
const MY_ID: &str = "myid";

/// A number has no more digits than this.
const MAX_LENGTH: usize = 64;

/// Reads [`CURRENT`] or [`ACCEPTED`] from the directory of the snapshots.
pub fn read_epoch(disk: &dyn Disk, dir: &Path, name: &str) -> Result<Option<Epoch>> {
    let path = dir.join(name);
    let Some(line) = first_line(disk, &path)? else { return Ok(None) };
    let parsed = line.parse().map_err(|_| StoreError::Damaged {
        path,
        offset: None,
        problem: format!("{line:?} is not an epoch"),
        // Any number that somebody writes into it by hand may break a promise.
        remedy: format!("restore version-2 as a whole from one backup. {FETCH_ANEW}"),
    })?;
    Ok(Some(parsed))
}

/// What a write that was cut off would have written; the original adopts it when it fits the last transaction.
pub fn read_unfinished_epoch(disk: &dyn Disk, dir: &Path, name: &str) -> Option<Epoch> {
    first_line(disk, &temporary(&dir.join(name))).ok()??.parse().ok()
}

/// Raises an epoch, durably.
pub fn write_epoch(disk: &dyn Disk, dir: &Path, name: &str, epoch: Epoch) -> Result<()> {
    let path = dir.join(name);
    replace(disk, &path, epoch.to_string().as_bytes(), Rights::Owner)
        .map_err(|error| StoreError::disk("write", &path, error))
}

/// The id in `dataDir/myid`.
pub fn read_my_id(disk: &dyn Disk, data_dir: &Path) -> Result<Option<ServerId>> {
    let path = data_dir.join(MY_ID);
    let Some(line) = first_line(disk, &path)? else { return Ok(None) };
    match line.parse() {
        Ok(id) => Ok(Some(ServerId(id))),
        Err(_) => Err(StoreError::Directory {
            path,
            problem: format!("{line:?} is not a server id"),
            remedy: "write the number of this server's line server.N=... into it".to_owned(),
        }),
    }
}

/// `None` where the file is missing.
fn first_line(disk: &dyn Disk, path: &Path) -> Result<Option<String>> {
    let failed = |error| StoreError::disk("read", path, error);
    if !disk.exists(path) {
        return Ok(None);
    }
    let mut bytes = [0; MAX_LENGTH];
    let count = disk.open_read(path).map_err(failed)?.read_at(&mut bytes, 0).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes[..count]);
    Ok(Some(text.lines().next().unwrap_or_default().trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim_disk::{Fault, SimDisk};

    #[test]
    fn an_epoch_is_the_old_or_the_new_one_whenever_the_power_goes() {
        let dir = Path::new("/d");
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..40 {
            for at in 1..=6 {
                let disk = SimDisk::new(seed);
                disk.put(&dir.join(CURRENT), b"8\n");
                disk.inject(Fault::Crash { at });
                let written = write_epoch(&disk, dir, CURRENT, Epoch(9));
                let epoch = read_epoch(&disk.restart(seed), dir, CURRENT).unwrap();
                assert_eq!(written.is_ok(), at == 6);
                assert!(epoch == Some(Epoch(9)) || (epoch == Some(Epoch(8)) && written.is_err()), "{epoch:?} {at}");
                seen.insert(epoch);
            }
        }
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn ids_and_epochs_are_the_first_line() {
        let (disk, dir) = (SimDisk::new(1), Path::new("/d"));
        assert_eq!(read_epoch(&disk, dir, ACCEPTED).unwrap(), None);
        assert_eq!(read_my_id(&disk, dir).unwrap(), None);
        disk.put(&dir.join(MY_ID), b" 17 \nrest");
        assert_eq!(read_my_id(&disk, dir).unwrap(), Some(ServerId(17)));
        disk.put(&dir.join(MY_ID), b"seventeen");
        assert!(read_my_id(&disk, dir).unwrap_err().is_of_directory());
        disk.put(&dir.join(ACCEPTED), b"");
        assert!(read_epoch(&disk, dir, ACCEPTED).unwrap_err().to_string().contains("is not an epoch"));
        disk.put(&dir.join("currentEpoch.tmp"), b"4");
        assert_eq!(read_unfinished_epoch(&disk, dir, CURRENT), Some(Epoch(4)));
    }
}
