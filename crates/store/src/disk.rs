//! The disk as this crate sees it, so that the same code runs on a real one and on a simulated one that fails at will.
//!
//! What always holds: data is durable only after [`DiskFile::sync_data`], a name (new, renamed or removed) only after
//! [`Disk::sync_dir`] of its directory. Nothing here buffers.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

/// Names and whole files.
pub trait Disk: Send + Sync + fmt::Debug {
    /// The names in a directory, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a directory and those above it; one that is there is no error.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    fn is_dir(&self, path: &Path) -> bool;
    fn exists(&self, path: &Path) -> bool;
    /// Creates a file for writing, empty; one that is there loses its content.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file for writing in place.
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Replaces `to` if it is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// When the file was last written.
    fn modified(&self, path: &Path) -> io::Result<SystemTime>;
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
    /// The first offset from `offset` on that may hold anything but zeros; `None` where nothing but zeros is left.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>>;
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not UTF-8 is none that we know; shown with replacements it stays unknown.
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn exists(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok()
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        open(OpenOptions::new().read(true).write(true).create(true).truncate(true), path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        open(OpenOptions::new().read(true), path)
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        open(OpenOptions::new().read(true).write(true), path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match File::open(dir)?.sync_all() {
            // Some network file systems can't sync directories; they keep names by other means.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
            result => result,
        }
    }

    fn modified(&self, path: &Path) -> io::Result<SystemTime> {
        fs::metadata(path)?.modified()
    }
}

fn open(options: &OpenOptions, path: &Path) -> io::Result<Box<dyn DiskFile>> {
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(Box::new(RealFile(file)))
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn preallocate(&mut self, length: u64) -> io::Result<()> {
        let present = self.length()?;
        if length <= present {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), present, length - present) {
            Ok(()) => Ok(()),
            Err(Errno::IO) => Err(Errno::IO.into()),
            // Not every file system can reserve; and one that is nearly full may still have room for what is to come.
            Err(_) => self.0.set_len(length),
        }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        match rustix::fs::seek(&self.0, SeekFrom::Data(offset)) {
            Ok(next) => Ok(Some(next)),
            Err(Errno::NXIO) => Ok(None),
            Err(_) => Ok((offset < self.length()?).then_some(offset)),
        }
    }
}
