//! A lock on the data directory, so that two servers never write to the same files.
//!
//! It is a lock of the kernel on a dot file: it goes with the process, however that ends, and the file that stays behind means
//! nothing. The original neither takes it nor minds it.
//!
//! Others may be able to put a file of that name there. So no link is followed, only a regular file with this one name is taken that belongs
//! to the user of this process or to the owner of the directory, and nothing is written before it is locked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use crate::disk::refuse_special;

use crate::error::{Result, StoreError};

const NAME: &str = ".rookeeper.lock";

/// No more of the file is read, in bytes.
const LONGEST: u64 = 512;

/// Held as long as it lives.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
    path: PathBuf,
}

impl DirectoryLock {
    /// Takes the lock on `data_dir`, or says which process holds it.
    pub fn acquire(data_dir: &Path) -> Result<DirectoryLock> {
        let path = data_dir.join(NAME);
        let mut file = open(data_dir, &path).map_err(|error| match error.kind() {
            io::ErrorKind::Unsupported => StoreError::Directory {
                path: path.clone(),
                problem: error.to_string(),
                remedy: "see who put it there, remove it, and let nobody else write to this directory".to_owned(),
            },
            _ => StoreError::disk("open", &path, error),
        })?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                // Who holds it only helps the message.
                let holder = match lines(&file).0.as_str() {
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
        Ok(DirectoryLock { file, path })
    }

    /// Notes what uses the directory, in one line, for whoever looks at it later.
    pub fn note_user(&mut self, user: &str) {
        let line = user.lines().next().unwrap_or_default();
        // It helps people; a disk that is full here will say so where it matters.
        let _ = self.file.write_all(format!("{line}\n").as_bytes());
    }

    /// What was noted by the last process that had the lock, if it noted something.
    pub fn last_user(data_dir: &Path) -> Option<String> {
        let file = open_for_reading(&data_dir.join(NAME)).ok()?;
        Some(lines(&file).1).filter(|user| !user.is_empty())
    }

    /// The file that is locked; it holds the id of the process.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The first and the second line: the process, and what it is.
fn lines(file: &File) -> (String, String) {
    let mut bytes = Vec::new();
    let _ = file.take(LONGEST).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines().map(|line| line.trim().chars().filter(|char| !char.is_control()).collect());
    (lines.next().unwrap_or_default(), lines.next().unwrap_or_default())
}

fn open_for_reading(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    refuse_special(file.metadata()?.file_type())?;
    Ok(file)
}

/// An error of the kind "unsupported" says that this is no file to lock.
fn open(data_dir: &Path, path: &Path) -> io::Result<File> {
    match fs::symlink_metadata(path) {
        Ok(found) => refuse_special(found.file_type())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o640);
    let file = options.custom_flags(flags.bits() as i32).open(path)?;
    let found = file.metadata()?;
    refuse_special(found.file_type())?;
    let owners = [rustix::process::geteuid().as_raw(), fs::metadata(data_dir)?.uid()];
    if !owners.contains(&found.uid()) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, format!("it belongs to user {}", found.uid())));
    }
    // What is written would appear under the other name too.
    if found.nlink() > 1 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "it is a hard link to a file that is elsewhere too"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_its_place_is_refused_and_what_it_leads_to_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (data, victim) = (dir.path().join("data"), dir.path().join("victim"));
        fs::create_dir(&data).unwrap();
        fs::write(&victim, b"of somebody else").unwrap();
        let place = |make: &dyn Fn(&Path)| {
            make(&data.join(NAME));
            let error = DirectoryLock::acquire(&data).unwrap_err();
            fs::remove_file(data.join(NAME)).unwrap();
            assert!(error.is_of_directory(), "{error}");
            assert_eq!(fs::read(&victim).unwrap(), b"of somebody else");
            error.to_string()
        };
        let error = place(&|path| std::os::unix::fs::symlink(&victim, path).unwrap());
        assert!(error.contains("a symbolic link"), "{error}");
        let error = place(&|path| std::os::unix::fs::symlink("/nowhere", path).unwrap());
        assert!(error.contains("a symbolic link"), "{error}");
        let error = place(&|path| fs::hard_link(&victim, path).unwrap());
        assert!(error.contains("a hard link"), "{error}");
        let error = place(&|path| rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR).unwrap());
        assert!(error.contains("a named pipe"), "{error}");
        assert!(DirectoryLock::acquire(&data).is_ok());
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        // Only root can make one.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), b"").unwrap();
        std::os::unix::fs::chown(dir.path().join(NAME), Some(4711), None).unwrap();
        let error = DirectoryLock::acquire(dir.path()).unwrap_err().to_string();
        assert!(error.contains("belongs to user 4711"), "{error}");
        // The owner of the directory may do there what it likes.
        std::os::unix::fs::chown(dir.path(), Some(4711), None).unwrap();
        assert!(DirectoryLock::acquire(dir.path()).is_ok());
    }

    #[test]
    fn a_second_server_is_kept_out_and_told_by_whom() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::acquire(dir.path()).unwrap();
        let error = DirectoryLock::acquire(dir.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("process {} uses it", std::process::id())), "{error}");
        assert!(error.is_of_directory(), "{error}");
        drop(lock);
        assert!(DirectoryLock::acquire(dir.path()).is_ok());
    }

    #[test]
    fn who_had_it_is_noted_until_the_next_has_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(DirectoryLock::last_user(dir.path()), None);
        let mut lock = DirectoryLock::acquire(dir.path()).unwrap();
        assert_eq!(DirectoryLock::last_user(dir.path()), None);
        lock.note_user("a server of some version\nand more");
        assert_eq!(DirectoryLock::last_user(dir.path()).unwrap(), "a server of some version");
        let error = DirectoryLock::acquire(dir.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("process {} uses it", std::process::id())), "{error}");
        drop(lock);
        assert!(DirectoryLock::last_user(dir.path()).is_some());
        drop(DirectoryLock::acquire(dir.path()).unwrap());
        assert_eq!(DirectoryLock::last_user(dir.path()), None);
    }
}
