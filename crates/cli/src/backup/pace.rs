//! How fast a backup or an archive writes: beside a server its syncs hold up those of the server.
//!
//! What makes the writes of clients wait beside a backup is the disk, and not the processor: a copy that is synced in large portions, or as fast as it
//! goes, keeps the disk from the log (docs/BENCHMARKS.md). So a copy goes to the disk a MiB at a time, and no faster than it may.
//!
//! What always holds: the bytes that are written stay below the rate over every tenth of a second, but for one portion; what was not used in time is not made up
//! for later. Without a rate nothing is held up.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rookeeper_store::disk::{DiskFile, HeldDir};
use rookeeper_store::{Disk, RealDisk, Rights};

/// What may be made up for: less than anybody notices.
const MOST_BEHIND: Duration = Duration::from_millis(100);

/// So many bytes are written and synced at a time.
const PORTION: usize = 1 << 20;

/// A disk that is written no faster than this.
#[derive(Debug)]
pub struct PacedDisk(Option<Arc<Mutex<Pace>>>);

/// What has been written, and by when.
#[derive(Debug)]
struct Pace {
    bytes_per_second: u64,
    /// When what was written so far is paid for.
    paid_at: Instant,
}

impl Pace {
    /// After so many bytes at this moment: how long to wait before the next.
    fn pause(&mut self, now: Instant, bytes: usize) -> Duration {
        let costs = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let earliest = now.checked_sub(MOST_BEHIND).unwrap_or(now);
        self.paid_at = self.paid_at.max(earliest) + costs;
        self.paid_at.saturating_duration_since(now)
    }
}

impl PacedDisk {
    /// So many MiB a second; at 0 as fast as it can be.
    pub fn new(mib_per_second: u64) -> PacedDisk {
        let pace = |mib: u64| Pace { bytes_per_second: mib.saturating_mul(1 << 20), paid_at: Instant::now() };
        PacedDisk((mib_per_second > 0).then(|| Arc::new(Mutex::new(pace(mib_per_second)))))
    }

    fn paced(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        match &self.0 {
            Some(pace) => Box::new(PacedFile { file, unsynced: 0, pace: pace.clone() }),
            None => file,
        }
    }
}

#[derive(Debug)]
struct PacedFile {
    file: Box<dyn DiskFile>,
    /// Bytes since the last sync.
    unsynced: usize,
    pace: Arc<Mutex<Pace>>,
}

impl PacedFile {
    /// Waits until what was just synced is paid for.
    fn pause(&mut self) {
        let bytes = std::mem::take(&mut self.unsynced);
        thread::sleep(self.pace.lock().unwrap_or_else(PoisonError::into_inner).pause(Instant::now(), bytes));
    }
}

impl Disk for PacedDisk {
    fn create_with(&self, path: &Path, rights: Rights<'_>) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.create_with(path, rights).map(|file| self.paced(file))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.open_read(path)
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.open_write(path).map(|file| self.paced(file))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }

    fn is_dir(&self, path: &Path) -> bool {
        RealDisk.is_dir(path)
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn hold_dir(&self, dir: &Path) -> io::Result<Box<dyn HeldDir>> {
        RealDisk.hold_dir(dir)
    }

    fn is_open_to_others(&self, dir: &Path) -> io::Result<bool> {
        RealDisk.is_open_to_others(dir)
    }

    fn modified(&self, path: &Path) -> io::Result<SystemTime> {
        RealDisk.modified(path)
    }
}

impl DiskFile for PacedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], mut offset: u64) -> io::Result<()> {
        for portion in bytes.chunks(PORTION) {
            self.file.write_at(portion, offset)?;
            offset += portion.len() as u64;
            self.unsynced += portion.len();
            if self.unsynced >= PORTION {
                self.file.sync_data()?;
                self.pause();
            }
        }
        Ok(())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.pause();
        Ok(())
    }

    fn preallocate(&mut self, length: u64) -> io::Result<()> {
        self.file.preallocate(length)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.file.is_at(path)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.file.next_data(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time_and_what_was_not_used_is_lost() {
        let begin = Instant::now() + Duration::from_secs(3600);
        let at = |ms| begin + Duration::from_millis(ms);
        let mut pace = Pace { bytes_per_second: 1 << 20, paid_at: begin };
        // A quarter of a second's worth, twice.
        assert_eq!(pace.pause(at(0), 1 << 18), Duration::from_millis(250));
        assert_eq!(pace.pause(at(0), 1 << 18), Duration::from_millis(500));
        assert_eq!(pace.pause(at(500), 1 << 18), Duration::from_millis(250));
        // A minute of doing something else gives a tenth of a second.
        assert_eq!(pace.pause(at(60_000), 1 << 18), Duration::from_millis(150));
    }

    #[test]
    fn files_are_written_at_the_rate_and_are_what_was_written() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        let (disk, begin) = (PacedDisk::new(10), Instant::now());
        let bytes: Vec<u8> = (0..3 * PORTION + 5).map(|number| (number / 7) as u8).collect();
        let mut file = disk.create(&path).unwrap();
        file.write_at(&bytes[..9], 0).unwrap();
        file.write_at(&bytes[9..], 9).unwrap();
        file.sync_data().unwrap();
        // Three tenths of a second's worth, of which one is given.
        assert!(begin.elapsed() >= Duration::from_millis(190), "{:?}", begin.elapsed());
        assert!(std::fs::read(&path).unwrap() == bytes);
    }
}
