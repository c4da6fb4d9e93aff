//! The disk as this crate sees it, so that the same code runs on a real one and on a simulated one that fails at will.
//!
//! What always holds: data is durable only after [`DiskFile::sync_data`], a name (new, renamed or removed) only after
//! [`Disk::sync_dir`] of its directory. Nothing here buffers.
//!
//! Others may be able to write to the directory of the files. So what is no regular file is not opened, nothing is written through a
//! link, a new file is never one that was there before, and what is made is for its user and group only.
//!
//! A real disk opens files with the patience of [`crate::descriptors`].

use std::fmt;
use std::fs::{self, DirBuilder, File, FileType, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, FallocateFlags, OFlags, SeekFrom, StatxFlags, makedev, statx};
use rustix::io::Errno;

use crate::descriptors::patiently;

/// Before the umask: nothing for those who are neither user nor group. What is there already keeps its rights.
const FILE_MODE: u32 = 0o640;
const DIR_MODE: u32 = 0o750;

/// Names and whole files.
pub trait Disk: Send + Sync + fmt::Debug {
    /// The names in a directory, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a directory and those above it; one that is there is no error.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    fn is_dir(&self, path: &Path) -> bool;
    fn exists(&self, path: &Path) -> bool;
    /// Creates a file for writing, empty. One that is there loses its name first and keeps its content, which may be known by other names.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.create_with(path, Rights::Owner)
    }
    /// The same with other rights.
    fn create_with(&self, path: &Path, rights: Rights<'_>) -> io::Result<Box<dyn DiskFile>>;
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file for writing in place.
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Replaces `to` if it is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Keeps hold of a directory, to see later whether it is still in its place.
    fn hold_dir(&self, dir: &Path) -> io::Result<Box<dyn HeldDir>>;
    /// Whether users other than its own may put files into a directory.
    fn is_open_to_others(&self, dir: &Path) -> io::Result<bool>;
    /// When the file was last written.
    fn modified(&self, path: &Path) -> io::Result<SystemTime>;
}

/// Who may read and write a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights<'a> {
    /// Its user and group.
    Owner,
    /// Whoever the umask lets.
    Umask,
    /// Those of another file, from the first byte on nobody else.
    Like(&'a Path),
}

/// A directory that was found in its place once.
pub trait HeldDir: Send + Sync + fmt::Debug {
    fn path(&self) -> &Path;
    /// False where it was removed or moved since, also if another one has its name now.
    fn is_in_place(&self) -> io::Result<bool>;
}

/// One open file. Offsets count from its beginning.
pub trait DiskFile: Send + fmt::Debug {
    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes`, extending the file where needed.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes everything written so far durable, and the length.
    fn sync_data(&mut self) -> io::Result<()>;
    /// Extends the file to `length` with zeros. The space is reserved where the file system can do that.
    fn preallocate(&mut self, length: u64) -> io::Result<()>;
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    fn length(&self) -> io::Result<u64>;
    /// Whether this is the file that a path leads to. False where the name was removed or moved.
    fn is_at(&self, path: &Path) -> io::Result<bool>;
    /// The first offset from `offset` on that may hold anything but zeros; `None` where nothing but zeros is left.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>>;
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in patiently(dir, || fs::read_dir(dir))? {
            // A name that is not UTF-8 is none that we know; shown with replacements it stays unknown.
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn exists(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok()
    }

    fn create_with(&self, path: &Path, rights: Rights<'_>) -> io::Result<Box<dyn DiskFile>> {
        let (mode, model) = match rights {
            Rights::Owner => (FILE_MODE, None),
            Rights::Umask => (0o666, None),
            Rights::Like(model) => (0o600, Some(fs::metadata(model)?.permissions())),
        };
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(mode);
        let file = patiently(path, || options.open(path))?;
        if let Some(model) = model {
            file.set_permissions(model)?;
        }
        let identity = Identity::of(&file.metadata()?);
        Ok(Box::new(RealFile { file, identity }))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        open(OpenOptions::new().read(true), OFlags::empty(), fs::metadata(path)?, path)
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        open(OpenOptions::new().read(true).write(true), OFlags::NOFOLLOW, fs::symlink_metadata(path)?, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match patiently(dir, || File::open(dir))?.sync_all() {
            // Some network file systems can't sync directories; they keep names by other means.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
            result => result,
        }
    }

    fn hold_dir(&self, dir: &Path) -> io::Result<Box<dyn HeldDir>> {
        let held = patiently(dir, || File::open(dir))?;
        let identity = Identity::of(&held.metadata()?);
        Ok(Box::new(RealDir { _dir: held, identity, path: dir.to_owned() }))
    }

    fn is_open_to_others(&self, dir: &Path) -> io::Result<bool> {
        const BY_OTHERS: u32 = 0o002;
        Ok(fs::metadata(dir)?.mode() & BY_OTHERS != 0)
    }

    fn modified(&self, path: &Path) -> io::Result<SystemTime> {
        fs::metadata(path)?.modified()
    }
}

/// Opens a regular file. To open a pipe would wait for its other end, and to open a device may set something off, so the look comes first;
/// should the path lead elsewhere a moment later, the second look sees it and the first flag has kept it from waiting.
fn open(options: &mut OpenOptions, flags: OFlags, found: Metadata, path: &Path) -> io::Result<Box<dyn DiskFile>> {
    refuse_special(found.file_type())?;
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
    options.custom_flags(flags.bits() as i32);
    let file = patiently(path, || options.open(path))?;
    let found = file.metadata()?;
    refuse_special(found.file_type())?;
    Ok(Box::new(RealFile { file, identity: Identity::of(&found) }))
}

/// Whatever is no regular file is refused by name.
pub(crate) fn refuse_special(found: FileType) -> io::Result<()> {
    let what = match found {
        file if file.is_file() => return Ok(()),
        dir if dir.is_dir() => "a directory",
        link if link.is_symlink() => "a symbolic link",
        pipe if pipe.is_fifo() => "a named pipe",
        socket if socket.is_socket() => "a socket",
        _ => "a device",
    };
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("it is {what} where a regular file belongs")))
}

/// Tells what is open from everything else. While a file is open no other one can get its number, so this is asked for once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(found: &Metadata) -> Identity {
        Identity { device: found.dev(), inode: found.ino() }
    }
}

/// Whether a path leads to what is open.
///
/// A log's file is looked at after every sync. A look that asks for the times of a file makes Linux (6.13 and later) give the file an
/// exact time at the next write, and that makes each write cost a change of the inode in the journal. So only the number is asked for.
fn leads_to(path: &Path, open: Identity) -> io::Result<bool> {
    let found = match statx(CWD, path, AtFlags::empty(), StatxFlags::INO) {
        Ok(found) => Ok(Identity { device: makedev(found.stx_dev_major, found.stx_dev_minor), inode: found.stx_ino }),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
        // Old kernels and some sandboxes do not know the call.
        Err(_) => fs::metadata(path).map(|found| Identity::of(&found)),
    };
    match found {
        Ok(found) => Ok(found == open),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error),
    }
}

#[derive(Debug)]
struct RealDir {
    /// Only held: what is open keeps its number.
    _dir: File,
    identity: Identity,
    path: PathBuf,
}

impl HeldDir for RealDir {
    fn path(&self) -> &Path {
        &self.path
    }

    fn is_in_place(&self) -> io::Result<bool> {
        leads_to(&self.path, self.identity)
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    identity: Identity,
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn preallocate(&mut self, length: u64) -> io::Result<()> {
        let present = self.length()?;
        if length <= present {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), present, length - present) {
            Ok(()) => Ok(()),
            Err(Errno::IO) => Err(Errno::IO.into()),
            // Not every file system can reserve; and one that is nearly full may still have room for what is to come.
            Err(_) => self.file.set_len(length),
        }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        leads_to(path, self.identity)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(next) => Ok(Some(next)),
            Err(Errno::NXIO) => Ok(None),
            Err(_) => Ok((offset < self.length()?).then_some(offset)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::{Mode, mkfifoat};

    use super::*;

    fn refusal(result: io::Result<Box<dyn DiskFile>>) -> String {
        let error = result.expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        error.to_string()
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        mkfifoat(CWD, path("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for (name, word) in [("pipe", "a named pipe"), ("socket", "a socket"), ("", "a directory")] {
            assert!(refusal(RealDisk.open_read(&path(name))).contains(word));
            assert!(refusal(RealDisk.open_write(&path(name))).contains(word));
        }
        assert!(refusal(RealDisk.open_read(Path::new("/dev/null"))).contains("a device"));
        // A file was there when it was looked at, and something else when it was opened.
        fs::write(path("file"), b"").unwrap();
        let file = fs::metadata(path("file")).unwrap();
        let opened = open(OpenOptions::new().read(true), OFlags::empty(), file, &path("pipe"));
        assert!(refusal(opened).contains("a named pipe"));
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, soft, hard) = (dir.path().join("victim"), dir.path().join("soft"), dir.path().join("hard"));
        fs::write(&victim, b"of somebody else").unwrap();
        symlink(&victim, &soft).unwrap();
        fs::hard_link(&victim, &hard).unwrap();
        assert!(refusal(RealDisk.open_write(&soft)).contains("a symbolic link"));
        // To read through one is harmless: people lay out their disks with them.
        assert_eq!(RealDisk.open_read(&soft).unwrap().length().unwrap(), 16);
        for link in [&soft, &hard] {
            RealDisk.create(link).unwrap().write_at(b"ours", 0).unwrap();
            assert_eq!(fs::read(link).unwrap(), b"ours");
        }
        assert_eq!(fs::read(&victim).unwrap(), b"of somebody else");
    }

    #[test]
    fn what_is_made_is_not_for_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("data/version-2");
        RealDisk.create_dir(&below).unwrap();
        RealDisk.create(&below.join("log.1")).unwrap();
        for path in [dir.path().join("data"), below.clone(), below.join("log.1")] {
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o007, 0, "{}", path.display());
        }
        assert!(!RealDisk.is_open_to_others(&below).unwrap());
        fs::set_permissions(&below, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(RealDisk.is_open_to_others(&below).unwrap());
        // What is there stays as its owner has it.
        RealDisk.create_dir(&below).unwrap();
        assert!(RealDisk.is_open_to_others(&below).unwrap());
    }

    #[test]
    fn a_file_or_directory_that_lost_its_place_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("version-2");
        let (path, moved) = (below.join("log.1"), dir.path().join("elsewhere"));
        RealDisk.create_dir(&below).unwrap();
        let (file, held) = (RealDisk.create(&path).unwrap(), RealDisk.hold_dir(&below).unwrap());
        let in_place = || (file.is_at(&path).unwrap(), held.is_in_place().unwrap());
        assert_eq!(in_place(), (true, true));
        fs::rename(&below, &moved).unwrap();
        assert_eq!(in_place(), (false, false));
        // Others with the same names are not the same.
        fs::create_dir(&below).unwrap();
        fs::copy(moved.join("log.1"), &path).unwrap();
        assert_eq!(in_place(), (false, false));
        fs::remove_dir_all(&below).unwrap();
        fs::rename(&moved, &below).unwrap();
        assert_eq!(in_place(), (true, true));
        fs::remove_file(&path).unwrap();
        assert_eq!(in_place(), (false, true));
    }
}
