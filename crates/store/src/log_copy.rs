//! A log file that is written anew from the records of another, for somebody who repairs.
//!
//! What always holds: the new file has its name only when it is whole and durable; an attempt that was given up leaves nothing behind; a
//! checksum is written as it is told, so a record that was damaged stays recognisable unless the caller decides otherwise.

use std::path::{Path, PathBuf};

use rookeeper_proto::jute;
use rookeeper_proto::snapshot::FileHeader;

use crate::disk::{Disk, DiskFile};
use crate::error::{Result, StoreError};
use crate::log_writer::END_MARK;
use crate::{log_mark, names, replace};

/// Records gather up to this many bytes before they are written.
const BLOCK: usize = 1 << 20;

/// The checksum that a record of this body should have.
pub fn checksum(body: &[u8]) -> u64 {
    u64::from(simd_adler32::adler32(&body))
}

/// A file that is being written.
#[derive(Debug)]
pub struct LogCopy<'a> {
    disk: &'a dyn Disk,
    file: Box<dyn DiskFile>,
    path: PathBuf,
    temporary: PathBuf,
    header: FileHeader,
    buffer: Vec<u8>,
    written: u64,
    is_published: bool,
}

impl<'a> LogCopy<'a> {
    /// Begins a file that will be called `path`, under a name beside it that nobody reads.
    pub fn create(disk: &'a dyn Disk, path: &Path, header: FileHeader) -> Result<LogCopy<'a>> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(names::temporary(&name));
        let file = disk.create(&temporary).map_err(|error| StoreError::disk("create", &temporary, error))?;
        let mut buffer = Vec::with_capacity(2 * BLOCK);
        jute::append(&mut buffer, &header);
        let (path, written, is_published) = (path.to_owned(), 0, false);
        Ok(LogCopy { disk, file, path, temporary, header, buffer, written, is_published })
    }

    /// Adds a record.
    pub fn append(&mut self, checksum: u64, body: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(&checksum.to_be_bytes());
        self.buffer.extend_from_slice(&(body.len() as i32).to_be_bytes());
        self.buffer.extend_from_slice(body);
        self.buffer.push(END_MARK);
        if self.buffer.len() >= BLOCK { self.drain() } else { Ok(()) }
    }

    /// Gives the file its name, durably, in place of any other that has it.
    pub fn publish(mut self) -> Result<()> {
        self.drain()?;
        // The mark of the file it was copied from speaks of offsets in that one.
        let marked = match log_mark::in_header(&self.header) {
            Some(_) => log_mark::write_in_header(&mut *self.file, self.written),
            None => Ok(()),
        };
        let synced = marked.and_then(|()| self.file.sync_data());
        synced.map_err(|error| StoreError::disk("sync", &self.temporary, error))?;
        self.is_published = true;
        replace::publish(self.disk, &self.temporary, &self.path)
            .map_err(|error| StoreError::disk("rename", &self.path, error))
    }

    fn drain(&mut self) -> Result<()> {
        let written = self.file.write_at(&self.buffer, self.written);
        written.map_err(|error| StoreError::disk("write", &self.temporary, error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Drop for LogCopy<'_> {
    fn drop(&mut self) {
        if !self.is_published {
            // What can't be removed is in nobody's way.
            let _ = self.disk.remove(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_reader::{Framed, LogReader};
    use crate::sim_disk::{Fault, SimDisk};

    const PATH: &str = "/d/log.1.fixed";

    fn copy(disk: &SimDisk, header: FileHeader) -> Result<()> {
        let mut copy = LogCopy::create(disk, Path::new(PATH), header)?;
        copy.append(checksum(&[7; 40]), &[7; 40])?;
        copy.append(99, &[8; 40])?;
        copy.publish()
    }

    #[test]
    fn a_copy_holds_what_it_was_told_and_is_durable() {
        let disk = SimDisk::new(1);
        disk.create_dir(Path::new("/d")).unwrap();
        let marked = FileHeader { dbid: (0x524b << 48) | 5000, ..FileHeader::LOG };
        copy(&disk, marked).unwrap();
        let disk = disk.restart(1);
        let mut reader = LogReader::open(&disk, Path::new(PATH), 1 << 20).unwrap();
        // A mark beyond the end would say that durable records are missing.
        assert_eq!(reader.durable(), Some(reader.length()));
        let mut found = Vec::new();
        while let Framed::Record { is_sound, body, end_mark, checksum, .. } = reader.next_framed().unwrap() {
            found.push((is_sound, body.to_vec(), end_mark, checksum == 99));
        }
        assert_eq!(found, [(true, vec![7; 40], Some(b'B'), false), (false, vec![8; 40], Some(b'B'), true)]);
    }

    #[test]
    fn a_copy_that_fails_leaves_nothing() {
        for at in 2..=5 {
            let disk = SimDisk::new(1);
            disk.create_dir(Path::new("/d")).unwrap();
            disk.inject(Fault::Broken { at });
            copy(&disk, FileHeader::LOG).unwrap_err();
            let left = disk.list(Path::new("/d")).unwrap_or_default();
            assert!(left.is_empty(), "{at}: {left:?}");
        }
    }
}
