//! Whether there is room for what the log writes first: looked at before the port opens, so that a server on a full disk does not open it,
//! take clients, fail at their first write, and be started again for ever.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::failure::{ExitCode, Failure};

/// At least this must be free, however little the log reserves.
const MIN_BYTES: u64 = 1 << 20;

const PROBE: &str = ".rookeeper.room";

/// Reserves in `directory` what a new log file will reserve, and gives it back.
pub(crate) fn check(directory: &Path, reserved_bytes: u64) -> Result<(), Failure> {
    let bytes = reserved_bytes.max(MIN_BYTES);
    match reserve(&directory.join(PROBE), bytes) {
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            Err(Failure {
                exit_code: ExitCode::DataDirectory,
                message: format!(
                    "{}: there is no room for {bytes} bytes of the transaction log (preAllocSize): {error}; make room, old snapshots and \
                 logs first, keeping the newest snapshot and every log from it on. Nothing was written",
                    directory.display()
                ),
            })
        }
        // Any other error is met, and logged, where it matters.
        Ok(()) | Err(_) => Ok(()),
    }
}

fn reserve(path: &Path, bytes: u64) -> io::Result<()> {
    // Left behind by a process that was killed in between.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // A new file: whoever else may write to the directory can't lead this to another one.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
    let reserved = loop {
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::INTR) => {}
            reserved => break reserved,
        }
    };
    drop(file);
    std::fs::remove_file(path)?;
    reserved.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_reserved_and_given_back() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(check(directory.path(), 64 << 10), Ok(()));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_server_that_was_killed_left_behind_is_neither_in_the_way_nor_kept() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(PROBE), "left behind").unwrap();
        assert_eq!(check(directory.path(), 64 << 10), Ok(()));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_in_the_place_of_the_probe_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = directory.path().join("elsewhere");
        std::fs::write(&elsewhere, "kept").unwrap();
        std::os::unix::fs::symlink(&elsewhere, directory.path().join(PROBE)).unwrap();
        assert_eq!(check(directory.path(), 64 << 10), Ok(()));
        assert_eq!(std::fs::read(&elsewhere).unwrap(), b"kept");
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        // More than any disk has, and not more than a file may have.
        let refused = check(directory.path(), 1 << 42);
        if let Err(failure) = refused {
            assert!(failure.exit_code == ExitCode::DataDirectory && failure.message.contains("make room"), "{failure}");
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
