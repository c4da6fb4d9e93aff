//! A lock on the data directory, so that two servers never write to the same files.
//!
//! It is a lock of the kernel on a dot file: it goes with the process, however that ends, and the file that stays behind means
//! nothing. The original neither takes it nor minds it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::{Result, StoreError};

const NAME: &str = ".rookeeper.lock";

/// Held as long as it lives.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
    path: PathBuf,
}

impl DirectoryLock {
    /// Takes the lock on `data_dir`, or says which process holds it.
    pub fn acquire(data_dir: &Path) -> Result<DirectoryLock> {
        let path = data_dir.join(NAME);
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| StoreError::disk("open", &path, error))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // Who holds it only helps the message.
                let _ = (&file).take(32).read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    pid => format!("process {pid}"),
                };
                return Err(StoreError::Directory {
                    path: data_dir.to_owned(),
                    problem: format!("{holder} uses it"),
                    remedy: "stop that server, or give this one another dataDir".to_owned(),
                });
            }
            Err(error) => return Err(StoreError::disk("lock", &path, error.into())),
        }
        let pid = format!("{}\n", std::process::id());
        // A disk that is full here will say so where it matters.
        let _ =
            file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).and_then(|_| file.write_all(pid.as_bytes()));
        Ok(DirectoryLock { _file: file, path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_kept_out_and_told_by_whom() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::acquire(dir.path()).unwrap();
        let error = DirectoryLock::acquire(dir.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("process {} uses it", std::process::id())), "{error}");
        assert_eq!(error.exit_code(), 3);
        drop(lock);
        assert!(DirectoryLock::acquire(dir.path()).is_ok());
    }
}
