//! `rookeeper backup`: a consistent copy of the data of a server, running or stopped, Rookeeper or Apache ZooKeeper.
//!
//! From a data directory: the snapshot first, and then the log from it on to where it has got by now, so that whatever was changing while the
//! snapshot was written is in the log. What the copy leads to is replayed and compared with the digests that the server has recorded.
//!
//! What always holds: the backup gets its name last, when it is durable and proven; an attempt that was cut off has another name, and the next one
//! removes it; files that the server removes meanwhile lead to another attempt, and never to a backup with a hole.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use rookeeper_proto::Zxid;
use rookeeper_proto::snapshot::FileHeader;
use rookeeper_store::log_reader::LogReader;
use rookeeper_store::names::{self, Listing};
use rookeeper_store::{
    Compression, Directories, DirectoryLock, Disk, MAX_RECORD_BYTES, RealDisk, RecoveryReport, epoch_files,
    snapshot_reader,
};

use super::admin::Admin;
use super::manifest::{Content, FileEntry, Head, Kind, Manifest};
use super::pace::PacedDisk;
use super::{VERSION_DIR, copy, failed, verify, when};
use crate::config_file::ConfigFile;
use crate::print;
use crate::service::status;
use crate::ttl_nodes::TtlNodes;

/// How often the files of a server that changes them are tried.
const ATTEMPTS: usize = 5;

/// The end of a log that is compared, in bytes.
const COMPARED: usize = 4096;

/// How much a backup stands back behind a server on the same machine.
const NICENESS: i32 = 10;

/// MiB a second that are written where nothing else is asked for. On one small disk the writes of clients beside a backup then take hardly longer.
pub(super) const DEFAULT_RATE: u64 = 16;

/// The arguments of `rookeeper backup`.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    ttl_nodes: TtlNodes,
    /// Copy all snapshots and logs that are there, not only the newest snapshot and the log behind it: earlier points can be restored then
    #[arg(long)]
    history: bool,
    /// How many MiB a second are written at most, so that the server's own writes come to the disk; 0 for as fast as it goes
    #[arg(long, value_name = "MIB_PER_SECOND", default_value_t = DEFAULT_RATE)]
    max_rate: u64,
    /// The backup: a directory that is not there yet
    #[arg(value_name = "BACKUP")]
    target: PathBuf,
}

/// A server on this machine.
#[derive(Args, Debug)]
pub struct Source {
    /// The configuration of a server on this machine, running or stopped, which names its directories
    #[arg(long, value_name = "ZOO_CFG", conflicts_with_all = ["data_dir", "log_dir"])]
    config: Option<PathBuf>,
    /// The dataDir of a server on this machine
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Its dataLogDir, where that differs
    #[arg(long, value_name = "DIR", requires = "data_dir")]
    log_dir: Option<PathBuf>,
}

/// Exit code 0: there is a backup, and it is proven; 1: there is none.
pub fn main(options: &Options) -> u8 {
    // A backup should use the time that requests leave, not take theirs.
    let _ = rustix::process::nice(NICENESS);
    match run(options) {
        Ok(text) => u8::from(!print::result(&text)),
        Err(error) => failed("backup", &error),
    }
}

/// Takes the backup, and says what is in it.
pub fn run(options: &Options) -> Result<String> {
    let disk = &PacedDisk::new(options.max_rate);
    if let Some(url) = &options.admin.admin {
        let unfinished = Unfinished::begin(&options.target)?;
        let mut head = Head::begin(Kind::Backup, url.clone());
        let fetched = options.admin.fetch(disk, url, &unfinished.version_dir())?;
        head.emulate353_ttl_nodes = options.ttl_nodes.emulated(None);
        head.server = fetched.server;
        return finish(disk, unfinished, head, fetched.files);
    }
    let directories = options.source.directories()?;
    let unfinished = Unfinished::begin(&options.target)?;
    let mut head = Head::begin(Kind::Backup, directories.data_dir.display().to_string());
    let mut attempt = 1;
    let files = loop {
        match files(disk, &directories, &unfinished.version_dir(), options.history) {
            Ok(files) => break files,
            Err(error) if attempt == ATTEMPTS || !error.is::<Changed>() => return Err(error),
            Err(_) => attempt += 1,
        }
    };
    let epoch = |name| epoch_files::read_epoch(disk, &directories.snapshot_dir, name);
    let id = epoch_files::read_my_id(disk, &directories.data_dir).ok().flatten();
    head.emulate353_ttl_nodes = options.ttl_nodes.emulated(options.source.config.as_deref());
    head.server = options.source.server(disk, &directories);
    head.of_member(id, epoch(epoch_files::CURRENT)?, epoch(epoch_files::ACCEPTED)?);
    finish(disk, unfinished, head, files)
}

/// Proves what was gathered, and gives it its name.
pub(super) fn finish(disk: &dyn Disk, unfinished: Unfinished, mut head: Head, files: Vec<FileEntry>) -> Result<String> {
    let mut manifest = Manifest { head: head.clone(), files };
    (head.first_zxid, head.last_zxid) = reach(&manifest)?;
    let (tree, report) =
        verify::replay(disk, unfinished.path(), head.ttl_encoding(), oldest(&manifest)?, head.last_zxid)?;
    head.digest = Some(tree.digest());
    head.nodes = Some(tree.node_count() as u64);
    let text = summary(&unfinished.target, &head, &manifest, &report);
    manifest.head = head;
    manifest.write(disk, unfinished.path())?;
    unfinished.publish()?;
    Ok(text)
}

fn summary(target: &Path, head: &Head, manifest: &Manifest, report: &RecoveryReport) -> String {
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let compared = if report.end_is_compared {
        "its digest is the one that the server recorded"
    } else {
        "the server recorded no digest to compare it with"
    };
    let times = match (manifest.logs().next(), manifest.logs().next_back()) {
        (Some((_, first)), Some((_, last))) => {
            format!(" (log from {} to {})", when::shown(first.first_ms), when::shown(last.last_ms))
        }
        _ => String::new(),
    };
    format!(
        "{}: {} nodes at {}, {bytes} bytes in {} files; {compared}. It can be restored to any transaction from {} to {}{times}",
        target.display(),
        head.nodes.unwrap_or_default(),
        head.last_zxid,
        manifest.files.len(),
        head.first_zxid,
        head.last_zxid,
    )
}

/// The oldest snapshot.
pub(super) fn oldest(manifest: &Manifest) -> Result<Zxid> {
    Ok(manifest.snapshots().next().context("there is no snapshot")?.1.zxid)
}

/// The first and the last place in the history to which a backup leads.
pub(super) fn reach(manifest: &Manifest) -> Result<(Zxid, Zxid)> {
    let (_, oldest) = manifest.snapshots().next().context("there is no snapshot")?;
    let end = manifest.logs().next_back().map_or(Zxid::ZERO, |(_, log)| log.last);
    ensure!(
        end >= oldest.complete_at || oldest.zxid == oldest.complete_at,
        "the snapshot holds a part of the changes up to {}, and the log ends at {end}: it was taken while the data changed, and the log of that \
         time is missing",
        oldest.complete_at
    );
    Ok((oldest.complete_at, end.max(oldest.complete_at)))
}

impl Source {
    /// Where its files are.
    pub fn directories(&self) -> Result<Directories> {
        let (data_dir, log_dir) = match (&self.config, &self.data_dir) {
            (Some(config), _) => {
                let config = ConfigFile::read(config).map_err(anyhow::Error::msg)?;
                (config.data_dir().context("the configuration has no dataDir")?, config.data_log_dir())
            }
            (None, Some(data_dir)) => (data_dir.clone(), self.log_dir.clone()),
            (None, None) => {
                bail!(
                    "what is to be copied? Name --config ZOO_CFG or --data-dir DIR of a server on this machine, or --admin URL of one elsewhere"
                )
            }
        };
        let directories = Directories::new(&data_dir, log_dir.as_deref().unwrap_or(&data_dir));
        for dir in [&directories.snapshot_dir, &directories.log_dir] {
            ensure!(dir.is_dir(), "{} is not there: name the directory that holds version-2", dir.display());
        }
        Ok(directories)
    }
}

impl Source {
    /// The configuration, where it is named.
    pub fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// What the server says of its version where it can be asked, and what its files say otherwise.
    pub fn server(&self, disk: &dyn Disk, directories: &Directories) -> Option<String> {
        const VERSION: &str = "Zookeeper version: ";
        let config = self.config.as_deref().and_then(|config| ConfigFile::read(config).ok());
        let answer = config.as_ref().and_then(status::srvr).unwrap_or_default();
        if let Some(version) = answer.lines().find_map(|line| line.strip_prefix(VERSION)) {
            return Some(version.trim().to_owned());
        }
        let newest = *Listing::read(disk, &directories.log_dir).ok()?.logs.last()?;
        let log = LogReader::open(disk, &directories.log_dir.join(names::log(newest)), MAX_RECORD_BYTES).ok()?;
        log.header()?;
        Some(match (log.durable(), DirectoryLock::last_user(&directories.data_dir)) {
            (Some(_), Some(version)) => version,
            (Some(_), None) => "Rookeeper; its version is not known".to_owned(),
            (None, _) => "Apache ZooKeeper; its version is not in its files".to_owned(),
        })
    }
}

/// The server has changed the files under us.
#[derive(Debug, thiserror::Error)]
#[error(
    "the server has removed or cut files {ATTEMPTS} times while they were copied ({0}): take the backup again, or from another member"
)]
struct Changed(String);

/// Copies a snapshot and the log behind it, or all of them.
fn files(disk: &dyn Disk, directories: &Directories, to: &Path, history: bool) -> Result<Vec<FileEntry>> {
    empty(to)?;
    let before = listing(disk, directories)?;
    let copied = copied(disk, directories, &before, to, history);
    let after = listing(disk, directories)?;
    // What is gone explains what went wrong, and what went well without it is no worse.
    if copied.is_err() && after != before {
        return Err(copied.err().map_or(Changed(String::new()), |error| Changed(format!("{error:#}"))).into());
    }
    let files = copied?;
    if let Some(newest) = files.iter().rfind(|file| matches!(file.content, Content::Log(_))) {
        is_still_there(disk, &directories.log_dir, to, newest)?;
    }
    Ok(files)
}

type Found = (Vec<(Zxid, Compression)>, Vec<Zxid>);

/// Snapshots, newest first, and logs, oldest first.
fn listing(disk: &dyn Disk, directories: &Directories) -> Result<Found> {
    let found = Listing::read(disk, &directories.snapshot_dir)?;
    ensure!(
        found.truncations.is_empty() && found.installations.is_empty(),
        "the history in {} is being cut or replaced. If the server runs, take the backup again in a moment; if it is stopped, start it, which \
         finishes that",
        directories.snapshot_dir.display()
    );
    Ok((found.snapshots, Listing::read(disk, &directories.log_dir)?.logs))
}

fn copied(
    disk: &dyn Disk,
    directories: &Directories,
    (snapshots, logs): &Found,
    to: &Path,
    history: bool,
) -> Result<Vec<FileEntry>> {
    ensure!(
        !snapshots.is_empty() || !logs.is_empty(),
        "{} holds no data: there is nothing to copy",
        directories.snapshot_dir.display()
    );
    let mut files = Vec::new();
    let mut damaged: Option<(Zxid, String)> = None;
    for (zxid, compression) in snapshots {
        let found = snapshot_reader::verify(disk, &directories.snapshot_dir, *zxid, *compression, MAX_RECORD_BYTES);
        if let Err(error) = found {
            // An older one leads further with the log, which is seen below.
            damaged.get_or_insert((*zxid, error.to_string()));
            continue;
        }
        files.push(copy::snapshot(disk, &directories.snapshot_dir, to, *zxid, *compression)?);
        if !history {
            break;
        }
    }
    files.reverse();
    let oldest = files.iter().find_map(|file| match file.content {
        Content::Snapshot(snapshot) => Some(snapshot.zxid),
        Content::Log(_) => None,
    });
    let Some(oldest) = oldest else {
        bail!(
            "{} has no snapshot that can be used{}. See rookeeper check, or take the backup from another member",
            directories.snapshot_dir.display(),
            damaged.map(|(_, why)| format!(" ({why})")).unwrap_or_default()
        );
    };
    let first = if history { 0 } else { logs.iter().rposition(|log| *log <= oldest).unwrap_or(0) };
    if let Some(log) = logs.get(first) {
        files = leading_to(files, *log, to)?;
    }
    let mut last = None;
    for (index, log) in logs.iter().enumerate().skip(first) {
        let is_newest = index + 1 == logs.len();
        let mut copied = copy::log(disk, &directories.log_dir, to, *log, last, is_newest)?;
        if copied == Err(copy::NoLog::Elsewhere) {
            // A leader's snapshot has taken the place of what lies between; it leads on, and what was before it does not.
            files = leading_to(files, *log, to)?;
            copied = copy::log(disk, &directories.log_dir, to, *log, None, is_newest)?;
        }
        match copied {
            Ok(file) => {
                if let Content::Log(log) = file.content {
                    last = Some(log.last);
                }
                files.push(file);
            }
            Err(_) if is_newest => {}
            Err(_) => {
                bail!("{} has no records: see rookeeper check", directories.log_dir.join(names::log(*log)).display())
            }
        }
    }
    if let Some((zxid, why)) = damaged.filter(|(zxid, _)| last.is_none_or(|last| last < *zxid)) {
        bail!(
            "the snapshot of {zxid} can't be used, and nothing else leads as far: {why}. Take the backup from another member, or look with rookeeper check"
        );
    }
    Ok(files)
}

/// The snapshots to which a log can be added that does not follow the one before it. The other files are removed.
fn leading_to(files: Vec<FileEntry>, log: Zxid, to: &Path) -> Result<Vec<FileEntry>> {
    let leads_on = |file: &FileEntry| match file.content {
        Content::Snapshot(snapshot) => snapshot.zxid >= log || log.follows(snapshot.zxid),
        Content::Log(_) => false,
    };
    let (kept, dropped): (Vec<FileEntry>, Vec<FileEntry>) = files.into_iter().partition(leads_on);
    for file in dropped {
        fs::remove_file(to.join(&file.file)).with_context(|| format!("can't remove {}", file.file))?;
    }
    ensure!(
        !kept.is_empty(),
        "transactions before {log} are missing, and no snapshot holds them: see rookeeper check, or take the backup from another member"
    );
    Ok(kept)
}

/// A leader may have had the end of the log cut off while it was copied.
fn is_still_there(disk: &dyn Disk, log_dir: &Path, to: &Path, newest: &FileEntry) -> Result<()> {
    // The header has a mark that the server moves.
    let records = newest.bytes.saturating_sub(FileHeader::LENGTH as u64);
    let count = usize::try_from(records).unwrap_or(COMPARED).min(COMPARED);
    let end = |dir: &Path| -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        let read = disk.open_read(&dir.join(&newest.file))?.read_at(&mut bytes, newest.bytes - count as u64)?;
        bytes.truncate(read);
        Ok(bytes)
    };
    match (end(log_dir), end(to)) {
        (Ok(there), Ok(copied)) if there == copied => Ok(()),
        _ => Err(Changed(format!("{} is not as it was", newest.file)).into()),
    }
}

/// Removes what an attempt has left.
pub(super) fn empty(dir: &Path) -> Result<()> {
    let shown = dir.display();
    for entry in fs::read_dir(dir).with_context(|| format!("can't read {shown}"))? {
        let path = entry?.path();
        fs::remove_file(&path).with_context(|| format!("can't remove {}", path.display()))?;
    }
    Ok(())
}

/// A directory that has not its name yet. Dropped, it goes.
#[derive(Debug)]
pub struct Unfinished {
    target: PathBuf,
    path: PathBuf,
    lock: Option<DirectoryLock>,
}

impl Unfinished {
    /// Makes a directory with an empty `version-2` beside the place of the target, which must be free.
    pub fn begin(target: &Path) -> Result<Unfinished> {
        let target = std::path::absolute(target).with_context(|| format!("no path: {}", target.display()))?;
        let shown = target.display();
        ensure!(
            fs::symlink_metadata(&target).is_err(),
            "{shown} is there already, and no backup is written over another: give another name"
        );
        let name = target.file_name().with_context(|| format!("{shown} is no name for a directory"))?;
        let parent = target.parent().with_context(|| format!("{shown} has no parent"))?;
        ensure!(parent.is_dir(), "{} is no directory: make it first", parent.display());
        let path = parent.join(format!(".{}.unfinished", name.to_string_lossy()));
        let begun = || -> Result<DirectoryLock> {
            RealDisk.create_dir(&path).with_context(|| format!("can't create {}", path.display()))?;
            let lock = DirectoryLock::acquire(&path)?;
            // Of an attempt that was cut off.
            let version_dir = path.join(VERSION_DIR);
            match fs::remove_dir_all(&version_dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("can't remove {}", version_dir.display()));
                }
                _ => {}
            }
            RealDisk.create_dir(&version_dir).with_context(|| format!("can't create {}", version_dir.display()))?;
            Ok(lock)
        };
        let lock = begun()?;
        Ok(Unfinished { target, path, lock: Some(lock) })
    }

    /// Where it is for now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the files go.
    pub fn version_dir(&self) -> PathBuf {
        self.path.join(VERSION_DIR)
    }

    /// Gives it its name, durably. All files in it must be durable.
    pub fn publish(mut self) -> Result<()> {
        let (disk, parent) = (&RealDisk, self.target.parent().unwrap_or(Path::new("/")));
        let lock = self.lock.take();
        if let Some(lock) = &lock {
            fs::remove_file(lock.path()).context("can't remove the lock")?;
        }
        for dir in [&self.version_dir(), &self.path] {
            disk.sync_dir(dir).with_context(|| format!("can't sync {}", dir.display()))?;
        }
        // A directory that somebody has made there meanwhile is replaced if it is empty, and refuses otherwise.
        disk.rename(&self.path, &self.target)
            .and_then(|()| disk.sync_dir(parent))
            .with_context(|| format!("can't give {} its name", self.target.display()))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // What can't be removed has a name that is no backup's, and goes with the next attempt.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
