//! What is in an archive: segments of the log, to the last of which records are added, and snapshots.
//!
//! What always holds: the manifest says how far each file counts, and is written when that is durable; whatever a file holds behind that, or
//! what is there without being in the manifest, is of an attempt that was cut off, and goes when the archive is opened again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rookeeper_proto::snapshot::FileHeader;
use rookeeper_proto::{TxnRecord, Zxid, jute};
use rookeeper_store::log_copy::checksum;
use rookeeper_store::log_reader::{LogReader, Next};
use rookeeper_store::names::{self, FileName};
use rookeeper_store::{Compression, Disk, DiskFile, MAX_RECORD_BYTES};
use sha2::{Digest as _, Sha256};

use crate::backup::manifest::{self, Content, FileEntry, Head, Kind, LogContent, Manifest, in_hex};
use crate::backup::{VERSION_DIR, copy};

/// Where snapshots are until they are whole.
pub(in crate::backup) const INCOMING: &str = "incoming";

/// Where copies are of what a server has given up.
pub(in crate::backup) const GIVEN_UP: &str = "given-up";

/// Checksum and length before the body of a record, the end mark behind it.
const RECORD_OVERHEAD: u64 = 13;
const END_MARK: u8 = b'B';

/// Records gather up to this many bytes before they are written.
const BLOCK: usize = 1 << 20;

/// How often an archive says that nothing has come, so that moments can be restored at which nothing was written.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// An archive that is being written.
#[derive(Debug)]
pub(super) struct Segments<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    pub manifest: Manifest,
    /// A segment is ended when it is longer than this, in bytes.
    segment_bytes: u64,
    open: Option<Open>,
    /// When the manifest was written.
    told: Instant,
}

/// The segment that grows.
#[derive(Debug)]
struct Open {
    file: Box<dyn DiskFile>,
    name: String,
    /// Over everything up to `written`.
    sum: Sha256,
    written: u64,
    buffer: Vec<u8>,
    is_changed: bool,
    content: LogContent,
}

impl<'a> Segments<'a> {
    /// Opens an archive, or begins one in an empty directory.
    pub fn open(disk: &'a dyn Disk, path: &Path, source: &str, segment_bytes: u64) -> Result<Segments<'a>> {
        let dir = path.join(VERSION_DIR);
        for dir in [&dir, &path.join(INCOMING)] {
            disk.create_dir(dir).with_context(|| format!("can't create {}", dir.display()))?;
        }
        let manifest = if disk.exists(&path.join(manifest::NAME)) {
            let manifest = Manifest::read(disk, path)?;
            ensure!(manifest.head.kind == Kind::Archive, "{} is a backup, to which nothing is added", path.display());
            manifest
        } else {
            Manifest { head: Head::begin(Kind::Archive, source.to_owned()), files: Vec::new() }
        };
        let told = Instant::now();
        let segments = Segments { disk, path: path.to_owned(), manifest, segment_bytes, open: None, told };
        segments.remove_unlisted(&dir)?;
        segments.remove_unlisted(&path.join(INCOMING))?;
        Ok(segments)
    }

    fn dir(&self) -> PathBuf {
        self.path.join(VERSION_DIR)
    }

    fn remove_unlisted(&self, dir: &Path) -> Result<()> {
        let is_incoming = dir.ends_with(INCOMING);
        for name in self.disk.list(dir).with_context(|| format!("can't list {}", dir.display()))? {
            let is_listed = !is_incoming && self.manifest.files.iter().any(|file| file.file == name);
            let is_ours = matches!(FileName::parse(&name), Some(FileName::Log(_) | FileName::Snapshot(..)));
            if !is_listed && is_ours {
                let path = dir.join(name);
                self.disk.remove(&path).with_context(|| format!("can't remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// The last transaction, with the checksum of its record. None where there is no log yet.
    pub fn last(&self) -> Result<Option<(Zxid, u64)>> {
        let Some((file, content)) = self.manifest.logs().next_back() else { return Ok(None) };
        let mut last = None;
        self.read(file, &mut |zxid, sum, _| last = Some((zxid, sum)))?;
        ensure!(
            last.is_some_and(|(zxid, _)| zxid == content.last),
            "{} is damaged: begin another archive",
            self.dir().join(&file.file).display()
        );
        Ok(last)
    }

    /// Tells of the records of a segment, as far as it counts: zxid, checksum, and where each ends.
    fn read(&self, file: &FileEntry, tell: &mut dyn FnMut(Zxid, u64, u64)) -> Result<()> {
        let mut reader = LogReader::open(self.disk, &self.dir().join(&file.file), MAX_RECORD_BYTES)?;
        while let Next::Record { offset, zxid, body } = reader.next_record()? {
            let end = offset + body.len() as u64 + RECORD_OVERHEAD;
            if end > file.bytes {
                break;
            }
            tell(zxid, checksum(body), end);
        }
        Ok(())
    }

    /// Adds a record, which follows the last one. `begins`: whether it follows what is not in the archive.
    pub fn append(&mut self, zxid: Zxid, body: &[u8], begins: bool) -> Result<()> {
        let time_ms =
            TxnRecord::decode_header(body).with_context(|| format!("transaction {zxid} makes no sense"))?.time_ms;
        let is_full = self.open.as_ref().is_some_and(|open| open.length() >= self.segment_bytes);
        if begins || is_full {
            self.end_segment()?;
        }
        if self.open.is_none() {
            self.open = Some(self.begin_segment(zxid, time_ms, begins)?);
        }
        let open = self.open.as_mut().context("a segment was begun")?;
        open.buffer.extend_from_slice(&checksum(body).to_be_bytes());
        open.buffer.extend_from_slice(&(body.len() as i32).to_be_bytes());
        open.buffer.extend_from_slice(body);
        open.buffer.push(END_MARK);
        open.is_changed = true;
        open.content = LogContent { last: zxid, last_ms: time_ms, records: open.content.records + 1, ..open.content };
        if open.buffer.len() >= BLOCK { open.drain().with_context(|| self.cannot_write()) } else { Ok(()) }
    }

    /// The last segment, to go on with, or a new one.
    fn begin_segment(&self, zxid: Zxid, time_ms: i64, begins: bool) -> Result<Open> {
        let last = self.manifest.logs().next_back().filter(|(file, _)| !begins && file.bytes < self.segment_bytes);
        if let Some((file, content)) = last {
            return self.reopen(file, content);
        }
        let name = names::log(zxid);
        let path = self.dir().join(&name);
        let file = self.disk.create(&path).with_context(|| format!("can't create {}", path.display()))?;
        let content = LogContent { first: zxid, last: zxid, records: 0, first_ms: time_ms, last_ms: time_ms };
        Ok(Open {
            file,
            name,
            sum: Sha256::new(),
            written: 0,
            buffer: jute::to_vec(&FileHeader::LOG),
            is_changed: true,
            content,
        })
    }

    fn reopen(&self, entry: &FileEntry, content: LogContent) -> Result<Open> {
        let path = self.dir().join(&entry.file);
        let failed = || format!("can't go on with {}", path.display());
        let mut file = self.disk.open_write(&path).with_context(failed)?;
        file.truncate(entry.bytes).with_context(failed)?;
        let (mut sum, mut written) = (Sha256::new(), 0);
        let mut block = vec![0; BLOCK];
        loop {
            let count = file.read_at(&mut block, written).with_context(failed)?;
            if count == 0 {
                break;
            }
            sum.update(&block[..count]);
            written += count as u64;
        }
        let found = in_hex(&sum.clone().finalize());
        ensure!(
            written == entry.bytes && found == entry.sha256,
            "{} is damaged: begin another archive",
            path.display()
        );
        Ok(Open { file, name: entry.file.clone(), sum, written, buffer: Vec::new(), is_changed: false, content })
    }

    fn cannot_write(&self) -> String {
        format!("can't write to {}", self.path.display())
    }

    fn end_segment(&mut self) -> Result<()> {
        self.settle()?;
        self.open = None;
        Ok(())
    }

    /// Makes durable what was added, and lets it count.
    pub fn settle(&mut self) -> Result<()> {
        let cannot_write = self.cannot_write();
        let is_old = self.told.elapsed() >= TELL_EVERY && !self.manifest.files.is_empty();
        let Some(open) = self.open.as_mut().filter(|open| open.is_changed) else {
            // That nothing was done until now is worth knowing too.
            return if is_old { self.write_manifest() } else { Ok(()) };
        };
        open.is_changed = false;
        open.drain().and_then(|()| open.file.sync_data()).context(cannot_write)?;
        let sha256 = in_hex(&open.sum.clone().finalize());
        let entry =
            FileEntry { file: open.name.clone(), bytes: open.written, sha256, content: Content::Log(open.content) };
        match self.manifest.files.iter_mut().find(|file| file.file == entry.file) {
            Some(file) => *file = entry,
            None => self.manifest.files.push(entry),
        }
        self.write_manifest()
    }

    fn write_manifest(&mut self) -> Result<()> {
        let dir = self.dir();
        self.disk.sync_dir(&dir).with_context(|| format!("can't sync {}", dir.display()))?;
        // Snapshots in front, each kind in the order of its zxids.
        self.manifest.files.sort_by_key(|file| match file.content {
            Content::Snapshot(snapshot) => (0, snapshot.zxid),
            Content::Log(log) => (1, log.first),
        });
        let now = jiff::Timestamp::now();
        let first = self.manifest.snapshots().next().map_or(Zxid::ZERO, |(_, snapshot)| snapshot.complete_at);
        let last = self.manifest.logs().next_back().map_or(first, |(_, log)| log.last.max(first));
        let head = &mut self.manifest.head;
        (head.taken, head.taken_ms) = (now.to_string(), now.as_millisecond());
        (head.first_zxid, head.last_zxid) = (first, last);
        self.told = Instant::now();
        self.manifest.write(self.disk, &self.path)
    }

    /// Copies a snapshot to where it does not count yet.
    pub fn fetch_snapshot(&self, from: &Path, zxid: Zxid, compression: Compression) -> Result<FileEntry> {
        copy::snapshot(self.disk, from, &self.path.join(INCOMING), zxid, compression)
    }

    /// Lets a snapshot count that was fetched.
    pub fn add_snapshot(&mut self, entry: FileEntry) -> Result<()> {
        let (from, to) = (self.path.join(INCOMING).join(&entry.file), self.dir().join(&entry.file));
        self.disk.rename(&from, &to).with_context(|| format!("can't rename {}", from.display()))?;
        self.manifest.files.retain(|file| file.file != entry.file);
        self.manifest.files.push(entry);
        self.write_manifest()
    }

    /// Gives up everything behind the last transaction that `is_there`, as the server has done, but for a copy. Returns that transaction; none
    /// where none is there, and then nothing is given up.
    pub fn cut(&mut self, is_there: &dyn Fn(Zxid, u64) -> bool) -> Result<Option<Zxid>> {
        self.open = None;
        let logs: Vec<FileEntry> = self.manifest.logs().map(|(file, _)| file.clone()).collect();
        for file in logs.iter().rev() {
            let mut kept: Option<(Zxid, u64, u64)> = None;
            let mut records = 0;
            self.read(file, &mut |zxid, sum, end| {
                records += 1;
                if is_there(zxid, sum) {
                    kept = Some((zxid, end, records));
                }
            })?;
            let Some((zxid, bytes, records)) = kept else { continue };
            let Content::Log(content) = file.content else { continue };
            let path = self.dir().join(&file.file);
            let sha256 = prefix_sum(self.disk, &path, bytes)?;
            self.set_aside(content.first)?;
            let content = Content::Log(LogContent { last: zxid, records, ..self.times(file, content, bytes)? });
            self.manifest.files.retain(|other| match other.content {
                Content::Log(log) => log.first < zxid || other.file == file.file,
                Content::Snapshot(snapshot) => snapshot.complete_at <= zxid,
            });
            for other in &mut self.manifest.files {
                if other.file == file.file {
                    *other = FileEntry { file: file.file.clone(), bytes, sha256: sha256.clone(), content };
                }
            }
            self.write_manifest()?;
            self.remove_unlisted(&self.dir())?;
            return Ok(Some(zxid));
        }
        Ok(None)
    }

    /// Keeps a copy of the segments from one on: should the server have lost what it had acknowledged, this is where it is.
    fn set_aside(&self, from: Zxid) -> Result<()> {
        let aside = self.path.join(GIVEN_UP);
        self.disk.create_dir(&aside).with_context(|| format!("can't create {}", aside.display()))?;
        let now = jiff::Timestamp::now().as_millisecond();
        for (file, _) in self.manifest.logs().filter(|(_, log)| log.first >= from) {
            let copy = aside.join(format!("{}.{now}", file.file));
            fs::copy(self.dir().join(&file.file), &copy).with_context(|| format!("can't write {}", copy.display()))?;
        }
        Ok(())
    }

    fn times(&self, file: &FileEntry, content: LogContent, bytes: u64) -> Result<LogContent> {
        let mut reader = LogReader::open(self.disk, &self.dir().join(&file.file), MAX_RECORD_BYTES)?;
        let mut last_ms = content.first_ms;
        while let Next::Record { offset, body, .. } = reader.next_record()? {
            if offset + body.len() as u64 + RECORD_OVERHEAD > bytes {
                break;
            }
            last_ms = TxnRecord::decode_header(body)?.time_ms;
        }
        Ok(LogContent { last_ms, ..content })
    }

    /// Removes what is needed for no moment since `since_ms`.
    pub fn prune(&mut self, since_ms: i64) -> Result<usize> {
        let logs: Vec<LogContent> = self.manifest.logs().map(|(_, log)| log).collect();
        let was_by_then =
            |zxid: Zxid| logs.iter().any(|log| (log.first..=log.last).contains(&zxid) && log.last_ms < since_ms);
        let Some((_, needed)) = self.manifest.snapshots().rfind(|(_, snapshot)| was_by_then(snapshot.complete_at))
        else {
            return Ok(0);
        };
        let before = self.manifest.files.len();
        let open = self.open.as_ref().map(|open| open.name.clone());
        self.manifest.files.retain(|file| match file.content {
            Content::Snapshot(snapshot) => snapshot.zxid >= needed.zxid,
            Content::Log(log) => log.last > needed.zxid || open.as_ref() == Some(&file.file),
        });
        let removed = before - self.manifest.files.len();
        if removed > 0 {
            self.write_manifest()?;
            self.remove_unlisted(&self.dir())?;
        }
        Ok(removed)
    }
}

impl Open {
    fn length(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn drain(&mut self) -> std::io::Result<()> {
        self.file.write_at(&self.buffer, self.written)?;
        self.sum.update(&self.buffer);
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// SHA-256 of the first bytes of a file.
pub(in crate::backup) fn prefix_sum(disk: &dyn Disk, path: &Path, bytes: u64) -> Result<String> {
    let file = disk.open_read(path).with_context(|| format!("can't open {}", path.display()))?;
    let (mut sum, mut offset, mut block) = (Sha256::new(), 0, vec![0; BLOCK]);
    while offset < bytes {
        let wanted = usize::try_from(bytes - offset).unwrap_or(BLOCK).min(BLOCK);
        let count =
            file.read_at(&mut block[..wanted], offset).with_context(|| format!("can't read {}", path.display()))?;
        ensure!(count > 0, "it has {offset} bytes, not {bytes}");
        sum.update(&block[..count]);
        offset += count as u64;
    }
    Ok(in_hex(&sum.finalize()))
}

/// Whether a directory is an archive, or may become one.
pub(super) fn may_be_archive(path: &Path) -> bool {
    path.join(manifest::NAME).is_file()
        || fs::read_dir(path).is_ok_and(|mut entries| {
            entries.all(|entry| {
                entry.is_ok_and(|entry| {
                    let name = entry.file_name();
                    [VERSION_DIR, INCOMING, ".rookeeper.lock", "lost+found"].iter().any(|known| name == *known)
                })
            })
        })
}
