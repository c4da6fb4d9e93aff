//! What can go wrong with the files, sorted by who is to blame: the directory, the disk, the bytes, or the caller. Every error names the
//! file, says what is wrong with it, and what to do next.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rookeeper_proto::Zxid;

use crate::descriptors;
use crate::directories::Directories;
use crate::names::FileName;

/// Who is to blame, which file it is about, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directories are not as they must be: missing, not ours, in use, mixed up. Nothing was read or changed.
    #[error("data directory {path}: {problem}; {remedy}", path = path.display())]
    Directory { path: PathBuf, problem: String, remedy: String },
    /// The disk refused.
    #[error("can't {action} {path}: {source}; {remedy}", path = path.display(), remedy = disk_remedy(source))]
    Disk { action: &'static str, path: PathBuf, source: io::Error },
    /// Somebody removed or moved what this server writes to.
    #[error(
        "{path} was removed or moved while this server was using it, and what is written there is lost at the next start; {remedy}",
        path = path.display(), remedy = gone_remedy()
    )]
    Gone { path: PathBuf },
    /// The bytes are not what was written, or something that was written is missing.
    #[error("{path}{at}: {problem}; {remedy}", path = path.display(), at = At(*offset))]
    Damaged { path: PathBuf, offset: Option<u64>, problem: String, remedy: String },
    /// Nothing on this disk leads to the place in the history that is asked for. Nothing was changed.
    #[error(
        "{path}: the history can't be cut behind {cut}: {problem}; nothing was changed", path = path.display()
    )]
    NoWayBack { path: PathBuf, cut: Zxid, problem: String },
    /// A file that a newer version wrote.
    #[error(
        "{path} has format version {version}, this server knows {known}; start the version that wrote it, or a newer one",
        path = path.display(), known = crate::FORMAT_VERSION
    )]
    Newer { path: PathBuf, version: i32 },
    /// The log refuses everything since an earlier failure: what the disk took before it failed can't be trusted.
    #[error("the transaction log is closed since it failed: {cause}; restart the server once the disk is sound")]
    Closed { cause: String },
    /// The caller broke a rule of this crate.
    #[error("{0}")]
    Misuse(String),
}

fn gone_remedy() -> String {
    format!(
        "put back what was moved before you start this server again. If it is gone, restore version-2 from a backup. {FETCH_ANEW}"
    )
}

/// What a member can do that lost or spoilt its data. It must not make a quorum forget, and `myid` must stay.
pub(crate) const FETCH_ANEW: &str = "In an ensemble, and only while a leader and a quorum of the other members work without this one: move its \
    version-2 away (from dataDir, and from dataLogDir if that is set; leave myid), and start it; the leader sends it everything.";

fn damage_remedy(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let last_resort = match FileName::parse(&name) {
        Some(FileName::Log(_)) => format!(
            " Where there is neither, `rookeeper check <dataDir> --cut-log {}` ends this log before the damage and keeps a copy: acknowledged \
             writes from there on are lost",
            path.display()
        ),
        _ => String::new(),
    };
    format!(
        "the server doesn't start, so that no acknowledged write is lost unseen. Restore version-2 from a backup. {FETCH_ANEW}{last_resort}"
    )
}

struct At(Option<u64>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(offset) => write!(f, ", offset {offset}"),
            None => Ok(()),
        }
    }
}

fn disk_remedy(error: &io::Error) -> &'static str {
    if descriptors::are_exhausted(error) {
        return "no file descriptors are left, and the disk is not to blame: raise the limit of this process (ulimit -n, LimitNOFILE), then \
                restart";
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on this disk, then restart; delete nothing of version-2 by hand, for the newest snapshots and every log from them on are \
             needed (autopurge removes what is not)"
        }
        io::ErrorKind::ReadOnlyFilesystem => "mount it for writing and see in the kernel's log why it is read-only",
        io::ErrorKind::Unsupported => "see who put it there, and move it out of this directory",
        io::ErrorKind::NotFound => "something else removes files here; see what shares this directory",
        _ => "look into the kernel's log for the disk; don't copy files back before you know what it holds",
    }
}

impl StoreError {
    /// An error of the disk, or of the directory where it is about rights.
    pub(crate) fn disk(action: &'static str, path: &Path, source: io::Error) -> StoreError {
        match source.kind() {
            io::ErrorKind::PermissionDenied => StoreError::Directory {
                path: path.to_owned(),
                problem: format!("can't {action} it: {source}"),
                remedy: crate::directories::owner_remedy(path),
            },
            _ => StoreError::Disk { action, path: path.to_owned(), source },
        }
    }

    pub(crate) fn damaged(path: &Path, offset: impl Into<Option<u64>>, problem: impl Into<String>) -> StoreError {
        StoreError::Damaged {
            path: path.to_owned(),
            offset: offset.into(),
            problem: problem.into(),
            remedy: damage_remedy(path),
        }
    }

    /// The files are whole, but what comes out of them is not what their writer had.
    pub fn wrong_tree(directories: &Directories, zxid: Zxid) -> StoreError {
        StoreError::Damaged {
            path: directories.snapshot_dir.clone(),
            offset: None,
            problem: format!(
                "after transaction {zxid} the tree's digest is not the one in the log, and digest.onMismatch=stop forbids to go on with it"
            ),
            remedy: format!("keep a copy of the data directory and report this. {FETCH_ANEW}"),
        }
    }

    /// Whether the data directory itself can't be used, whatever is in it.
    pub fn is_of_directory(&self) -> bool {
        matches!(self, StoreError::Directory { .. })
    }

    /// What the system said, where it was asked.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            StoreError::Disk { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Whether the history stands as it was, and only can't be cut where that was asked for.
    pub fn is_no_way_back(&self) -> bool {
        matches!(self, StoreError::NoWayBack { .. })
    }

    /// Whether an older file of the same kind may serve instead: true where the bytes are to blame, not the disk.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, StoreError::Damaged { .. })
    }
}

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, StoreError>;

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn want_of_descriptors_is_not_blamed_on_the_disk() {
        let text = |errno: Errno| StoreError::disk("create", Path::new("f"), errno.into()).to_string();
        for errno in [Errno::MFILE, Errno::NFILE] {
            assert!(text(errno).contains("the disk is not to blame: raise the limit"), "{}", text(errno));
        }
        assert!(text(Errno::NOSPC).contains("make room"));
    }
}
