//! A disk in memory that keeps what was synced apart from what was not, and fails where it is told to. For tests and the simulator.
//!
//! What always holds: the same seed and the same operations give the same disk. After a crash each write that was not synced is
//! there, gone, cut off, or there in some of its sectors; each name that was not synced is the old or the new one; all
//! independent of each other, so that the end of a batch may survive without its beginning. Only aligned words are never torn. A failed sync loses writes and the
//! next sync does not bring them back, as on Linux.
//!
//! Operations are counted from 1; those that only read do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rookeeper_proto::random::Random;

use crate::disk::{Disk, DiskFile, HeldDir, Rights};

const SECTOR: u64 = 512;
/// What every disk and every processor writes whole where it is aligned.
const WORD: u64 = 8;

/// What goes wrong, and from which operation on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power goes during this operation; nothing works after it until [`SimDisk::restart`].
    Crash { at: u64 },
    /// Writing and creating fail with ENOSPC from this operation on, perhaps after a part was written.
    Full { from: u64 },
    /// This one operation fails with EIO.
    Broken { at: u64 },
}

/// Clones share the disk.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    random: u64,
    operations: u64,
    fault: Option<Fault>,
    crashed: bool,
    skips_syncs: bool,
    directories: BTreeSet<PathBuf>,
    files: Vec<Inode>,
    /// As programs see them.
    names: BTreeMap<PathBuf, usize>,
    /// As they are on the disk.
    durable_names: BTreeMap<PathBuf, usize>,
    unsynced_names: Vec<NameChange>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Create { path: PathBuf, file: usize },
    Rename { from: PathBuf, to: PathBuf, file: usize },
    Remove { path: PathBuf },
}

#[derive(Debug, Clone, Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// The operation that last wrote it.
    modified: u64,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

/// How much of one operation takes place.
enum Verdict {
    Done,
    Fails(io::Error),
    /// It fails, but a part of it may have happened.
    FailsHalfway(io::Error),
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State {
            random: seed,
            operations: 0,
            fault: None,
            crashed: false,
            skips_syncs: false,
            directories: BTreeSet::new(),
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
        })))
    }

    /// Lets something go wrong. Replaces an earlier fault.
    pub fn inject(&self, fault: Fault) {
        self.state().fault = Some(fault);
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// While it is set nothing that is synced gets durable, as where a program forgets to.
    pub fn skip_syncs(&self, skips: bool) {
        self.state().skips_syncs = skips;
    }

    /// Whether every operation fails until a restart.
    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// What the next boot finds: a disk with whatever survives of the writes and names that were not synced. The count of
    /// operations starts anew and no fault is set. Files that are still open belong to the old disk.
    pub fn restart(&self, seed: u64) -> SimDisk {
        let mut state = self.state();
        state.random = Random::new(seed ^ 0x5eed).draw();
        // What no name can lead to any more need not be carried along.
        let mut named: BTreeSet<usize> = state.durable_names.values().copied().collect();
        for change in &state.unsynced_names {
            if let NameChange::Create { file, .. } | NameChange::Rename { file, .. } = change {
                named.insert(*file);
            }
        }
        let keep =
            |(number, file): (usize, &Inode)| if named.contains(&number) { file.clone() } else { Inode::default() };
        let mut files: Vec<Inode> = state.files.iter().enumerate().map(keep).collect();
        for file in &mut files {
            for change in std::mem::take(&mut file.unsynced) {
                state.survive(&mut file.durable, &change);
            }
            file.content = file.durable.clone();
        }
        let mut names = state.durable_names.clone();
        for change in state.unsynced_names.clone() {
            if state.draw(2) == 0 {
                change.apply(&mut names);
            }
        }
        SimDisk(Arc::new(Mutex::new(State {
            random: state.random,
            operations: 0,
            fault: None,
            crashed: false,
            skips_syncs: false,
            directories: state.directories.clone(),
            files,
            durable_names: names.clone(),
            names,
            unsynced_names: Vec::new(),
        })))
    }

    /// The content of a file as programs see it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(path).map(|file| state.files[*file].content.clone())
    }

    /// Puts a file there, durable, without counting.
    pub fn put(&self, path: &Path, content: &[u8]) {
        let mut state = self.state();
        if let Some(dir) = path.parent() {
            state.create_dirs(dir);
        }
        let file = state.files.len();
        state.files.push(Inode { content: content.to_vec(), durable: content.to_vec(), ..Inode::default() });
        state.names.insert(path.to_owned(), file);
        state.durable_names.insert(path.to_owned(), file);
    }

    /// Somebody else takes a file away, durably, without counting. Programs that have it open go on with it.
    pub fn take_away(&self, path: &Path) {
        let mut state = self.state();
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameChange::Create { path, file } => {
                names.insert(path, file);
            }
            NameChange::Rename { from, to, file } => {
                names.remove(&from);
                names.insert(to, file);
            }
            NameChange::Remove { path } => {
                names.remove(&path);
            }
        }
    }

    fn dir(&self) -> Option<&Path> {
        match self {
            NameChange::Create { path, .. } | NameChange::Remove { path } => path.parent(),
            NameChange::Rename { to, .. } => to.parent(),
        }
    }
}

fn no_such(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no such file: {}", path.display()))
}

fn full() -> io::Error {
    rustix::io::Errno::NOSPC.into()
}

fn broken() -> io::Error {
    rustix::io::Errno::IO.into()
}

fn power_cut() -> io::Error {
    io::Error::other("the power went")
}

fn write(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..end].copy_from_slice(bytes);
}

impl State {
    fn draw(&mut self, below: u64) -> u64 {
        self.random = Random::new(self.random).draw();
        self.random % below
    }

    /// Counts an operation and says what becomes of it. `needs_space`: whether a full disk refuses it.
    fn operation(&mut self, needs_space: bool) -> Verdict {
        if self.crashed {
            return Verdict::Fails(power_cut());
        }
        self.operations += 1;
        match self.fault {
            Some(Fault::Crash { at }) if self.operations >= at => {
                self.crashed = true;
                Verdict::FailsHalfway(power_cut())
            }
            Some(Fault::Full { from }) if needs_space && self.operations >= from => Verdict::FailsHalfway(full()),
            Some(Fault::Broken { at }) if self.operations == at => Verdict::FailsHalfway(broken()),
            _ => Verdict::Done,
        }
    }

    /// Lets a change that was not synced survive a crash in full, in part, or not at all.
    fn survive(&mut self, durable: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Length(length) => {
                if self.draw(2) == 0 {
                    durable.resize(*length as usize, 0);
                }
            }
            Change::Write { offset, bytes } => match self.draw(4) {
                0 => write(durable, *offset, bytes),
                1 => {
                    // The length may reach the disk without the bytes.
                    if self.draw(2) == 0 {
                        durable.resize(durable.len().max(*offset as usize + bytes.len()), 0);
                    }
                }
                2 => {
                    let cut = *offset + self.draw(bytes.len() as u64 + WORD);
                    let kept = (cut / WORD * WORD).saturating_sub(*offset).min(bytes.len() as u64) as usize;
                    write(durable, *offset, &bytes[..kept]);
                }
                _ => {
                    let end = *offset + bytes.len() as u64;
                    let mut start = *offset;
                    while start < end {
                        let next = ((start / SECTOR + 1) * SECTOR).min(end);
                        if self.draw(2) == 0 {
                            write(durable, start, &bytes[(start - offset) as usize..(next - offset) as usize]);
                        }
                        start = next;
                    }
                }
            },
        }
    }

    fn create_dirs(&mut self, dir: &Path) {
        for dir in dir.ancestors() {
            self.directories.insert(dir.to_owned());
        }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| no_such(path))
    }

    fn change_name(&mut self, verdict: Verdict, change: NameChange) -> io::Result<()> {
        let (happens, result) = match verdict {
            Verdict::Done => (true, Ok(())),
            Verdict::Fails(error) => (false, Err(error)),
            // Of a name there is no half; when the power goes it may have changed.
            Verdict::FailsHalfway(error) => (self.crashed, Err(error)),
        };
        if happens {
            change.clone().apply(&mut self.names);
            self.unsynced_names.push(change);
        }
        result
    }
}

impl Disk for SimDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        if !state.directories.contains(dir) {
            return Err(no_such(dir));
        }
        let inside = |path: &&PathBuf| path.parent() == Some(dir);
        let entries = state.names.keys().filter(inside).chain(state.directories.iter().filter(inside));
        Ok(entries.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        match state.operation(true) {
            Verdict::Done => {
                state.create_dirs(dir);
                Ok(())
            }
            Verdict::Fails(error) | Verdict::FailsHalfway(error) => Err(error),
        }
    }

    fn is_dir(&self, path: &Path) -> bool {
        self.state().directories.contains(path)
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.state();
        state.names.contains_key(path) || state.directories.contains(path)
    }

    fn create_with(&self, path: &Path, _rights: Rights<'_>) -> io::Result<Box<dyn DiskFile>> {
        if self.state().names.contains_key(path) {
            // Replaced, not emptied.
            self.remove(path)?;
        }
        let mut state = self.state();
        if !path.parent().is_some_and(|dir| state.directories.contains(dir)) {
            return Err(no_such(path));
        }
        let verdict = state.operation(true);
        let file = state.files.len();
        state.files.push(Inode::default());
        state.change_name(verdict, NameChange::Create { path: path.to_owned(), file })?;
        Ok(Box::new(SimFile { disk: self.clone(), file }))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.state().file(path)?;
        Ok(Box::new(SimFile { disk: self.clone(), file }))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open_read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let file = state.file(from)?;
        let verdict = state.operation(false);
        state.change_name(verdict, NameChange::Rename { from: from.to_owned(), to: to.to_owned(), file })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.file(path)?;
        let verdict = state.operation(false);
        state.change_name(verdict, NameChange::Remove { path: path.to_owned() })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        match state.operation(false) {
            Verdict::Done if state.skips_syncs => Ok(()),
            Verdict::Done => {
                let changes = std::mem::take(&mut state.unsynced_names);
                for change in changes {
                    if change.dir() == Some(dir) {
                        change.apply(&mut state.durable_names);
                    } else {
                        state.unsynced_names.push(change);
                    }
                }
                Ok(())
            }
            Verdict::Fails(error) | Verdict::FailsHalfway(error) => Err(error),
        }
    }

    fn hold_dir(&self, dir: &Path) -> io::Result<Box<dyn HeldDir>> {
        Ok(Box::new(SimDir { disk: self.clone(), path: dir.to_owned() }))
    }

    fn is_open_to_others(&self, _dir: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn modified(&self, path: &Path) -> io::Result<SystemTime> {
        let state = self.state();
        let file = state.file(path)?;
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(state.files[file].modified))
    }
}

#[derive(Debug)]
struct SimDir {
    disk: SimDisk,
    path: PathBuf,
}

impl HeldDir for SimDir {
    fn path(&self) -> &Path {
        &self.path
    }

    fn is_in_place(&self) -> io::Result<bool> {
        Ok(self.disk.is_dir(&self.path))
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    file: usize,
}

impl SimFile {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.disk.state();
        let needs_space = match &change {
            Change::Write { .. } => true,
            Change::Length(length) => *length > state.files[self.file].content.len() as u64,
        };
        let (change, result) = match state.operation(needs_space) {
            Verdict::Done => (change, Ok(())),
            Verdict::Fails(error) => return Err(error),
            Verdict::FailsHalfway(error) => match change {
                Change::Write { offset, mut bytes } => {
                    if !state.crashed {
                        let kept = state.draw(bytes.len() as u64 + 1);
                        bytes.truncate(kept as usize);
                    }
                    (Change::Write { offset, bytes }, Err(error))
                }
                Change::Length(_) if !state.crashed => return Err(error),
                length => (length, Err(error)),
            },
        };
        let now = state.operations;
        let file = &mut state.files[self.file];
        file.modified = now;
        match &change {
            Change::Write { offset, bytes } => write(&mut file.content, *offset, bytes),
            Change::Length(length) => file.content.resize(*length as usize, 0),
        }
        file.unsynced.push(change);
        result
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let content = &state.files[self.file].content;
        let start = (offset as usize).min(content.len());
        let count = buffer.len().min(content.len() - start);
        buffer[..count].copy_from_slice(&content[start..start + count]);
        Ok(count)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write { offset, bytes: bytes.to_vec() })
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        match state.operation(false) {
            Verdict::Done if state.skips_syncs => Ok(()),
            Verdict::Done => {
                let file = &mut state.files[self.file];
                for change in std::mem::take(&mut file.unsynced) {
                    match change {
                        Change::Write { offset, bytes } => write(&mut file.durable, offset, &bytes),
                        Change::Length(length) => file.durable.resize(length as usize, 0),
                    }
                }
                Ok(())
            }
            Verdict::Fails(error) => Err(error),
            Verdict::FailsHalfway(error) => {
                if !state.crashed {
                    // What reached the disk reached it; the rest counts as written and never will be.
                    let mut durable = std::mem::take(&mut state.files[self.file].durable);
                    for change in std::mem::take(&mut state.files[self.file].unsynced) {
                        state.survive(&mut durable, &change);
                    }
                    state.files[self.file].durable = durable;
                }
                Err(error)
            }
        }
    }

    fn preallocate(&mut self, length: u64) -> io::Result<()> {
        self.change(Change::Length(length))
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.change(Change::Length(length))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.file].content.len() as u64)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(self.disk.state().names.get(path) == Some(&self.file))
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok((offset < self.length()?).then_some(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: [u8; 16] = *b"old-old-old-old-";
    const NEW: [u8; 20] = *b"new.new.new.new.new.";

    fn disk_with_file(seed: u64) -> (SimDisk, PathBuf, Box<dyn DiskFile>) {
        let disk = SimDisk::new(seed);
        let dir = Path::new("/d");
        disk.create_dir(dir).unwrap();
        let path = dir.join("f");
        let mut file = disk.create(&path).unwrap();
        file.write_at(&OLD, 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(dir).unwrap();
        (disk, path, file)
    }

    /// Everything a crash may leave, over many seeds.
    fn outcomes(run: impl Fn(u64) -> Option<Vec<u8>>) -> BTreeSet<Option<Vec<u8>>> {
        (0..500).map(run).collect()
    }

    #[test]
    fn synced_bytes_and_names_survive_and_others_may_not() {
        let unsynced = outcomes(|seed| {
            let (disk, path, mut file) = disk_with_file(seed);
            file.write_at(&NEW, 0).unwrap();
            disk.restart(seed).content(&path)
        });
        for possible in [&OLD[..], &NEW, b"new.new.old-old-", b"old-old-old-old-\0\0\0\0"] {
            assert!(unsynced.contains(&Some(possible.to_vec())), "{possible:?} never happened: {unsynced:?}");
        }
        assert!(!unsynced.contains(&None));
        let synced = outcomes(|seed| {
            let (disk, path, mut file) = disk_with_file(seed);
            file.write_at(&NEW, 0).unwrap();
            file.sync_data().unwrap();
            disk.restart(seed).content(&path)
        });
        assert_eq!(synced, BTreeSet::from([Some(NEW.to_vec())]));
        let renamed = outcomes(|seed| {
            let (disk, path, _) = disk_with_file(seed);
            disk.rename(&path, Path::new("/d/g")).unwrap();
            disk.restart(seed).content(&path)
        });
        assert_eq!(renamed, BTreeSet::from([None, Some(OLD.to_vec())]));
    }

    #[test]
    fn a_failed_sync_loses_writes_for_good() {
        let outcomes = outcomes(|seed| {
            let (disk, path, mut file) = disk_with_file(seed);
            file.write_at(&NEW, 0).unwrap();
            disk.inject(Fault::Broken { at: disk.operations() + 1 });
            assert!(file.sync_data().is_err());
            file.sync_data().unwrap();
            assert_eq!(disk.content(&path).unwrap(), NEW);
            disk.restart(seed).content(&path)
        });
        assert!(outcomes.contains(&Some(OLD.to_vec())), "{outcomes:?}");
    }

    #[test]
    fn nothing_works_after_the_power_went() {
        let (disk, path, mut file) = disk_with_file(1);
        disk.inject(Fault::Crash { at: disk.operations() + 1 });
        assert!(file.write_at(b"x", 0).is_err() && disk.has_crashed());
        assert!(disk.remove(&path).is_err() && file.sync_data().is_err());
        assert!(disk.restart(1).remove(&path).is_ok());
    }

    #[test]
    fn a_full_disk_keeps_what_it_has() {
        let (disk, path, mut file) = disk_with_file(1);
        disk.inject(Fault::Full { from: 0 });
        assert_eq!(file.write_at(b"x", 16).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(disk.create(Path::new("/d/g")).is_err());
        file.sync_data().unwrap();
        assert_eq!(disk.restart(1).content(&path).unwrap()[..16], OLD);
    }
}
