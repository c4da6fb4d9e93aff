//! Where the files are: `dataDir` and `dataLogDir`, each with its `version-2`, and what must hold of them before anything is read.
//!
//! Counterpart in the original: the constructor of `FileTxnSnapLog`.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::disk::{Disk, HeldDir};
use crate::error::{Result, StoreError};
use crate::names::{self, Listing};

const VERSION_DIR: &str = "version-2";
const PROBE: &str = ".rookeeper.probe";

/// The directories of one server, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// Holds `myid` and `initialize`.
    pub data_dir: PathBuf,
    pub data_log_dir: PathBuf,
    /// Holds snapshots and epochs.
    pub snapshot_dir: PathBuf,
    /// Holds the transaction log.
    pub log_dir: PathBuf,
}

impl Directories {
    /// The paths alone, unchecked: for looking only.
    pub fn new(data_dir: &Path, data_log_dir: &Path) -> Directories {
        Directories {
            data_dir: data_dir.to_owned(),
            data_log_dir: data_log_dir.to_owned(),
            snapshot_dir: data_dir.join(VERSION_DIR),
            log_dir: data_log_dir.join(VERSION_DIR),
        }
    }

    /// Creates what is missing, unless told not to, and checks that everything can be read and written.
    pub fn prepare(disk: &dyn Disk, data_dir: &Path, data_log_dir: &Path, create: bool) -> Result<Directories> {
        let directories = Directories::new(data_dir, data_log_dir);
        for (parent, dir) in [(data_log_dir, &directories.log_dir), (data_dir, &directories.snapshot_dir)] {
            refuse_newer(disk, parent)?;
            if !disk.is_dir(dir) {
                create_dir(disk, dir, create)?;
            }
            probe(disk, dir)?;
        }
        probe(disk, data_dir)?;
        for dir in [data_dir, &directories.snapshot_dir, &directories.log_dir] {
            if disk.is_open_to_others(dir).unwrap_or(false) {
                warn!(
                    "every user of this machine may put files into {}: take that right away (chmod o-w), or others can change the data",
                    dir.display()
                );
            }
        }
        directories.refuse_mixed_up(disk)?;
        Ok(directories)
    }

    /// Keeps hold of the directories that are written to.
    pub fn hold(&self, disk: &dyn Disk) -> Result<HeldDirectories> {
        let hold = |dir: &PathBuf| disk.hold_dir(dir).map_err(|error| StoreError::disk("open", dir, error));
        let mut held = vec![hold(&self.snapshot_dir)?];
        if self.log_dir != self.snapshot_dir {
            held.push(hold(&self.log_dir)?);
        }
        Ok(HeldDirectories(held))
    }

    fn refuse_mixed_up(&self, disk: &dyn Disk) -> Result<()> {
        if self.snapshot_dir == self.log_dir {
            return Ok(());
        }
        let (snapshots, logs) = (Listing::read(disk, &self.snapshot_dir)?, Listing::read(disk, &self.log_dir)?);
        let refuse = |path: &Path, what: String, remedy: String| {
            Err(StoreError::Directory { path: path.to_owned(), problem: format!("holds {what}"), remedy })
        };
        if let Some(log) = snapshots.logs.first() {
            return refuse(
                &self.snapshot_dir,
                format!("{}, but dataLogDir is another directory", names::log(*log)),
                format!(
                    "if these are this server's logs from before dataLogDir was set, move all log.* to {}, overwriting nothing there; or \
                     remove dataLogDir from the configuration",
                    self.log_dir.display()
                ),
            );
        }
        if let Some((zxid, compression)) = logs.snapshots.first() {
            return refuse(
                &self.log_dir,
                format!("{}, but it is the directory of the log alone", names::snapshot(*zxid, *compression)),
                format!(
                    "move all snapshot.* to {}, overwriting nothing there; or correct dataDir",
                    self.snapshot_dir.display()
                ),
            );
        }
        Ok(())
    }
}

/// The directories as they were found at the start.
#[derive(Debug)]
pub struct HeldDirectories(Vec<Box<dyn HeldDir>>);

impl HeldDirectories {
    /// An error where one of them was removed or moved since: what is written now is lost at the next start.
    pub fn refuse_if_gone(&self) -> Result<()> {
        for dir in &self.0 {
            match dir.is_in_place() {
                Ok(true) => {}
                Ok(false) => return Err(StoreError::Gone { path: dir.path().to_owned() }),
                Err(error) => return Err(StoreError::disk("look at", dir.path(), error)),
            }
        }
        Ok(())
    }
}

fn create_dir(disk: &dyn Disk, dir: &Path, create: bool) -> Result<()> {
    if !create {
        return Err(StoreError::Directory {
            path: dir.to_owned(),
            problem: "is missing, and datadir.autocreate=false forbids to create it".to_owned(),
            remedy: "mount or create it, or correct dataDir and dataLogDir".to_owned(),
        });
    }
    // The names above must be as durable as the files that will be in there.
    disk.create_dir(dir).and_then(|()| dir.parent().map_or(Ok(()), |parent| disk.sync_dir(parent))).map_err(|error| {
        StoreError::Directory {
            path: dir.to_owned(),
            problem: format!("can't be created: {error}"),
            remedy: remedy(dir, &error),
        }
    })
}

/// Later formats would have directories of their own beside `version-2`, and newer data in them.
fn refuse_newer(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let Ok(names) = disk.list(dir) else { return Ok(()) };
    let newer = |name: &String| {
        name.strip_prefix("version-")
            .and_then(|version| version.parse::<i32>().ok())
            .filter(|version| *version > crate::FORMAT_VERSION)
    };
    match names.iter().find_map(newer) {
        Some(version) => Err(StoreError::Newer { path: dir.join(format!("version-{version}")), version }),
        None => Ok(()),
    }
}

/// Shows by doing that the directory can be listed and written; rights alone don't tell (read-only mounts, ACLs, full disks).
fn probe(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let path = dir.join(PROBE);
    let refuse = |what: &str, error: io::Error| StoreError::Directory {
        path: dir.to_owned(),
        problem: format!("can't be {what}: {error}"),
        remedy: remedy(dir, &error),
    };
    disk.list(dir).map_err(|error| refuse("read", error))?;
    disk.create(&path).map_err(|error| refuse("written", error))?;
    disk.remove(&path).map_err(|error| refuse("written", error))
}

fn remedy(dir: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => owner_remedy(dir),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on this disk".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "mount it for writing".to_owned(),
        _ => "see that it is a directory on a sound disk".to_owned(),
    }
}

/// What to do about a path that this user may not use.
pub(crate) fn owner_remedy(path: &Path) -> String {
    let user = rustix::process::geteuid().as_raw();
    // The path itself may be missing or hidden: the nearest one that can be seen is the one that stands in the way.
    let seen = path.ancestors().find_map(|path| Some((path, std::fs::metadata(path).ok()?)));
    match seen {
        Some((seen, metadata)) if metadata.uid() != user => format!(
            "{} belongs to user {}, this server runs as user {user}: start it as that user, or run chown -R {user} {}",
            seen.display(),
            metadata.uid(),
            seen.display()
        ),
        Some((seen, metadata)) => format!(
            "the mode of {} is {:o}: run chmod -R u+rwX {}",
            seen.display(),
            metadata.mode() & 0o7777,
            seen.display()
        ),
        None => format!("give user {user} the right to read and write it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn directories_are_made_unless_forbidden() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        let error = Directories::prepare(&RealDisk, &data, &data, false).unwrap_err();
        assert!(error.is_of_directory() && !data.exists(), "{error}");
        assert!(error.to_string().contains("datadir.autocreate=false"), "{error}");
        Directories::prepare(&RealDisk, &data, &data, true).unwrap();
        Directories::prepare(&RealDisk, &data, &data, false).unwrap();
        assert_eq!(std::fs::read_dir(data.join("version-2")).unwrap().count(), 0);
    }

    #[test]
    fn snapshots_and_logs_in_the_wrong_directory_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let (data, logs) = (dir.path().join("data"), dir.path().join("logs"));
        let directories = Directories::prepare(&RealDisk, &data, &logs, true).unwrap();
        for (wrong, word) in
            [(directories.snapshot_dir.join("log.1"), "log.1"), (directories.log_dir.join("snapshot.0"), "snapshot.0")]
        {
            std::fs::write(&wrong, b"").unwrap();
            let error = Directories::prepare(&RealDisk, &data, &logs, true).unwrap_err();
            assert!(error.is_of_directory(), "{error}");
            assert!(error.to_string().contains(&format!("holds {word}")), "{error}");
            std::fs::remove_file(&wrong).unwrap();
        }
        // One directory for both is the usual case.
        std::fs::write(directories.snapshot_dir.join("log.1"), b"").unwrap();
        Directories::prepare(&RealDisk, &data, &data, true).unwrap();
    }

    #[test]
    fn a_file_in_the_way_and_a_newer_version_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert!(Directories::prepare(&RealDisk, &file, &file, true).unwrap_err().is_of_directory());
        std::fs::create_dir(dir.path().join("version-3")).unwrap();
        let error = Directories::prepare(&RealDisk, dir.path(), dir.path(), true).unwrap_err();
        assert!(matches!(error, StoreError::Newer { version: 3, .. }), "{error}");
    }
}
