//! A backup from elsewhere: over a server's admin port, Rookeeper's or Apache ZooKeeper's.
//!
//! A Rookeeper is asked for `backup`, a snapshot with the log behind it, which always leads to one moment. Other servers have `snapshot`: what that
//! sends was written while the data went on changing, and the log of that time stays on the server. So such a snapshot counts only if nothing was
//! changed while it was written, which its trailers tell, and its digest proves; another one is asked for otherwise, a few times.
//!
//! What always holds: no more is read than the server has announced; credentials come from a file and stand in no message.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use rookeeper_server::config::ClientFlags;
use rookeeper_store::names::FileName;
use rookeeper_store::{Compression, Disk, MAX_RECORD_BYTES, names, snapshot_reader};

use super::http::Answer;
use super::manifest::{Content, FileEntry, SnapshotContent};
use super::unpack::unpack;
use super::{copy, take, verify};
use crate::dialler::{Dialler, TlsFlags};

/// How often a copy is asked for.
const ATTEMPTS: usize = 10;
/// A server takes no more than one in 0.3 seconds, unless it is told otherwise.
const PAUSE: Duration = Duration::from_secs(1);

/// Where the port is, and how to come in.
#[derive(Args, Debug)]
pub struct Admin {
    /// The commands of a server's admin port: http://HOST:8080/commands, in place of a directory
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "data_dir", "log_dir", "history"])]
    pub admin: Option<String>,
    /// A file with what stands behind Authorization, such as `digest super:password`; `ip` and `x509` stand alone
    #[arg(long, value_name = "FILE", requires = "admin")]
    auth_file: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsFlags,
}

/// The parts of a URL.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    is_https: bool,
    /// `host:port`
    address: String,
    path: String,
}

impl Url {
    fn parse(text: &str) -> Result<Url> {
        let mistake = || format!("--admin {text}: write it as http://HOST:8080/commands, or https://");
        let (scheme, rest) = text.split_once("://").with_context(mistake)?;
        let is_https = match scheme {
            "http" => false,
            "https" => true,
            _ => bail!(mistake()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        ensure!(
            !authority.is_empty() && !authority.contains('@') && text.chars().all(|letter| letter.is_ascii_graphic()),
            mistake()
        );
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let port = if is_https { 443 } else { 80 };
        let address = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
        let path = path.trim_end_matches('/');
        Ok(Url { is_https, address, path: if path.is_empty() { "/commands".to_owned() } else { path.to_owned() } })
    }
}

/// What a server has sent.
#[derive(Debug)]
pub struct Fetched {
    pub files: Vec<FileEntry>,
    /// What it says of its version.
    pub server: Option<String>,
}

/// What came of one attempt.
enum Attempt {
    Files(Vec<FileEntry>),
    /// None that counts, for this reason; another may.
    Again(String),
    /// The server has no such command.
    Unknown,
}

/// A server, and how to come in.
struct Connection {
    url: Url,
    dialler: Dialler,
    authorization: Option<String>,
}

impl Admin {
    /// Fetches what leads to one moment. It blocks.
    pub fn fetch(&self, disk: &dyn Disk, url: &str, to: &Path) -> Result<Fetched> {
        let parsed = Url::parse(url)?;
        let dialler = match parsed.is_https {
            true => Dialler::open(&ClientFlags { tls: true, ..ClientFlags::from(&self.tls) })?,
            false => Dialler::plain(),
        };
        let authorization = match &self.auth_file {
            None => None,
            Some(file) => {
                let text = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
                let line = text.lines().next().unwrap_or_default().trim().to_owned();
                ensure!(!line.contains(char::is_control), "--auth-file: its first line is not text");
                Some(line)
            }
        };
        let connection = Connection { url: parsed, dialler, authorization };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(connection.fetch(disk, to)).with_context(|| url.to_owned())
    }
}

impl Connection {
    async fn get(&self, command: &str) -> Result<Answer> {
        let path = format!("{}/{command}", self.url.path);
        Answer::get(&self.dialler, &self.url.address, &path, self.authorization.as_deref()).await
    }

    async fn fetch(&self, disk: &dyn Disk, to: &Path) -> Result<Fetched> {
        let server = self.get("server_stats").await?.json().await["version"].as_str().map(str::to_owned);
        let mut has_backup = true;
        let mut last = String::new();
        let mut attempts = 0;
        while attempts < ATTEMPTS {
            if attempts > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let attempt = match has_backup {
                true => self.backup(disk, to).await?,
                false => self.snapshot(disk, to).await?,
            };
            match attempt {
                Attempt::Files(files) => return Ok(Fetched { files, server }),
                Attempt::Unknown => {
                    has_backup = false;
                    continue;
                }
                Attempt::Again(why) => last = why,
            }
            attempts += 1;
            take::empty(to)?;
        }
        match has_backup {
            true => {
                bail!("a copy was asked for {ATTEMPTS} times: {last}. Take the backup later, or from another member")
            }
            false => bail!(
                "{ATTEMPTS} snapshots were asked for, and none is of one moment ({last}): this server sends no log with its snapshots, as Rookeeper \
                 does, so the log of that time stays there. Take the backup on the machine of the server, with --config or --data-dir, or when fewer \
                 clients write"
            ),
        }
    }

    /// A snapshot with the log behind it, which a Rookeeper sends.
    async fn backup(&self, disk: &dyn Disk, to: &Path) -> Result<Attempt> {
        let mut answer = self.get("backup").await?;
        if answer.status == 429 {
            return Ok(Attempt::Again("the server takes no more snapshots for now".to_owned()));
        }
        if answer.status != 200 || answer.header("content-type") != Some("application/x-tar") {
            let status = answer.status;
            let text = answer.json().await;
            let why = text["error"].as_str().unwrap_or_default();
            if why.starts_with("Unknown command") {
                return Ok(Attempt::Unknown);
            }
            return Err(refused(status, why));
        }
        let last = answer.zxid("last_zxid").context("the answer does not say how far the copy goes")?;
        let names = unpack(&mut answer, disk, to).await?;
        let entry = |name| match name {
            FileName::Snapshot(zxid, compression) => copy::snapshot_entry(disk, to, zxid, compression),
            FileName::Log(zxid) => verify::log_entry(disk, to, zxid),
            _ => bail!("the copy holds neither a snapshot nor a log"),
        };
        let files: Vec<FileEntry> = names.into_iter().map(entry).collect::<Result<_>>()?;
        let reached = files.iter().map(|file| match file.content {
            Content::Snapshot(snapshot) => snapshot.zxid,
            Content::Log(log) => log.last,
        });
        let reached = reached.max().context("the copy is empty")?;
        ensure!(reached == last, "the copy ends at {reached}, and the server says {last}");
        Ok(Attempt::Files(files))
    }

    /// A snapshot alone, which counts if it is of one moment.
    async fn snapshot(&self, disk: &dyn Disk, to: &Path) -> Result<Attempt> {
        let mut answer = self.get("snapshot?streaming=true").await?;
        if answer.status == 429 {
            return Ok(Attempt::Again("the server takes no more snapshots for now".to_owned()));
        }
        let size = answer.header("snapshot_size").and_then(|text| text.parse::<u64>().ok());
        let (Some(zxid), Some(size), 200) = (answer.zxid("last_zxid"), size, answer.status) else {
            let status = answer.status;
            return Err(refused(status, answer.json().await["error"].as_str().unwrap_or_default()));
        };
        let incoming = to.join(".incoming");
        answer.receive(disk, size, &incoming).await?;
        let mut magic = [0; 8];
        let failed = || format!("can't read {}", incoming.display());
        let count = std::fs::File::open(&incoming).and_then(|mut file| file.read(&mut magic)).with_context(failed)?;
        let compression = match &magic[..count] {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', ..] => Compression::Snappy,
            _ => Compression::None,
        };
        std::fs::rename(&incoming, to.join(names::snapshot(zxid, compression))).with_context(failed)?;
        let info = snapshot_reader::verify(disk, to, zxid, compression, MAX_RECORD_BYTES)?;
        ensure!(
            info.digest.is_some() || info.last_zxid.is_some(),
            "the server does not tell in its snapshots whether they are of one moment (digest.enabled=false): take the backup on its machine, with \
             --config or --data-dir"
        );
        let entry = copy::snapshot_entry(disk, to, zxid, compression)?;
        match entry.content {
            Content::Snapshot(SnapshotContent { complete_at, .. }) if complete_at != zxid => {
                Ok(Attempt::Again(format!("the data changed from {zxid} to {complete_at} while it was written")))
            }
            _ => Ok(Attempt::Files(vec![entry])),
        }
    }
}

/// What is told without a snapshot, as while nobody is served, has the status 200 too.
fn refused(status: u16, why: &str) -> anyhow::Error {
    let why = if why.is_empty() { "and does not say why" } else { why };
    anyhow::anyhow!("the server refuses with status {status}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, is_https, address, path) in [
            ("http://a:8080/commands", false, "a:8080", "/commands"),
            ("https://a/x/", true, "a:443", "/x"),
            ("http://[::1]:1", false, "[::1]:1", "/commands"),
            ("http://[::1]", false, "[::1]:80", "/commands"),
        ] {
            let (address, path) = (address.to_owned(), path.to_owned());
            assert_eq!(Url::parse(text).unwrap(), Url { is_https, address, path }, "{text}");
        }
        for text in ["a:8080", "ftp://a", "http://", "http://a b/", "http://user@a/", "http://a/\r\nX: y"] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
