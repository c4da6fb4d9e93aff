//! A backup from elsewhere: the command `snapshot` of a server's admin port, Rookeeper's or Apache ZooKeeper's.
//!
//! What it sends was written while the data went on changing, and the log of that time stays on the server. So a snapshot counts only if nothing was
//! changed while it was written, which its trailers tell, and its digest proves; another one is asked for otherwise, a few times.
//!
//! What always holds: no more is read than the server has announced; credentials come from a file and stand in no message.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use rookeeper_proto::Zxid;
use rookeeper_server::config::ClientFlags;
use rookeeper_store::{Compression, MAX_RECORD_BYTES, RealDisk, names, snapshot_reader};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::manifest::{Content, FileEntry, SnapshotContent};
use super::{copy, take};
use crate::dialler::{Dialler, Socket, TlsFlags};

/// How often a snapshot is asked for.
const ATTEMPTS: usize = 10;
/// A server takes no more than one in 0.3 seconds, unless it is told otherwise.
const PAUSE: Duration = Duration::from_secs(1);
/// For the text of a refusal.
const REFUSAL_LIMIT: Duration = Duration::from_secs(10);
/// A server writes its snapshot before the first byte comes.
const SILENCE_LIMIT: Duration = Duration::from_secs(600);
/// Of the head of an answer, and of a text that says why there is none, in bytes.
const HEAD_LIMIT: usize = 64 << 10;
const BLOCK: usize = 256 << 10;

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

impl Admin {
    /// Fetches a snapshot of which nothing is missing. It blocks.
    pub fn fetch(&self, url: &str, to: &Path) -> Result<FileEntry> {
        let parsed = Url::parse(url)?;
        let dialler = self.dialler(&parsed)?;
        let authorization = match &self.auth_file {
            None => None,
            Some(file) => {
                let text = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
                Some(text.lines().next().unwrap_or_default().trim().to_owned())
            }
        };
        let request = request(&parsed, authorization.as_deref())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut last = String::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(PAUSE);
            }
            let asked = runtime.block_on(ask(&parsed, &dialler, &request, to));
            let (zxid, compression) = match asked.with_context(|| format!("{url}/snapshot"))? {
                Answer::Snapshot(zxid, compression) => (zxid, compression),
                Answer::Later => {
                    last = "the server takes no more snapshots for now".to_owned();
                    continue;
                }
            };
            let info = snapshot_reader::verify(&RealDisk, to, zxid, compression, MAX_RECORD_BYTES)?;
            ensure!(
                info.digest.is_some() || info.last_zxid.is_some(),
                "the server does not tell in its snapshots whether they are of one moment (digest.enabled=false): take the backup on its machine, with \
                 --config or --data-dir"
            );
            let entry = copy::snapshot_entry(&RealDisk, to, zxid, compression)?;
            match entry.content {
                Content::Snapshot(SnapshotContent { complete_at, .. }) if complete_at == zxid => return Ok(entry),
                Content::Snapshot(SnapshotContent { complete_at, .. }) => {
                    last = format!("the data changed from {zxid} to {complete_at} while it was written");
                }
                Content::Log(_) => {}
            }
            take::empty(to)?;
        }
        bail!(
            "{ATTEMPTS} snapshots were asked for, and none is of one moment ({last}): the log of that time stays on the server. Take the backup on the \
             machine of the server, with --config or --data-dir, or when fewer clients write"
        )
    }

    fn dialler(&self, url: &Url) -> Result<Dialler> {
        match url.is_https {
            true => Dialler::open(&ClientFlags { tls: true, ..ClientFlags::from(&self.tls) }),
            false => Ok(Dialler::plain()),
        }
    }
}

/// As HTTP/1.0, so that the answer is one piece that ends with the connection.
fn request(url: &Url, authorization: Option<&str>) -> Result<String> {
    let mut request = format!("GET {}/snapshot?streaming=true HTTP/1.0\r\nHost: {}\r\n", url.path, url.address);
    if let Some(authorization) = authorization {
        ensure!(!authorization.contains(['\r', '\n']), "--auth-file: its first line is not text");
        request += &format!("Authorization: {authorization}\r\n");
    }
    Ok(request + "\r\n")
}

enum Answer {
    Snapshot(Zxid, Compression),
    /// Others were just taken.
    Later,
}

async fn ask(url: &Url, dialler: &Dialler, request: &str, to: &Path) -> Result<Answer> {
    let mut stream = dialler.dial(&url.address).await?;
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        ensure!(bytes.len() < HEAD_LIMIT, "the answer is not one of HTTP");
        let mut block = [0; 4096];
        let count = timeout(SILENCE_LIMIT, stream.read(&mut block)).await.context("no answer within ten minutes")??;
        ensure!(count > 0, "the connection ended before an answer; a port with TLS is named by https://");
        bytes.extend_from_slice(&block[..count]);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let rest = bytes.split_off(end + 4);
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    match status {
        "200" => {}
        "429" => return Ok(Answer::Later),
        _ => {
            let mut text = rest;
            let limited = (&mut stream).take(HEAD_LIMIT as u64);
            let _ = timeout(REFUSAL_LIMIT, { limited }.read_to_end(&mut text)).await;
            bail!("the server refuses: status {status}{}", why(&String::from_utf8_lossy(&text)));
        }
    }
    let header = |name: &str| {
        head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let zxid = header("last_zxid").and_then(|text| i64::from_str_radix(text.strip_prefix("0x")?, 16).ok());
    let size = header("snapshot_size").and_then(|text| text.parse::<u64>().ok());
    let (Some(zxid), Some(size)) = (zxid.filter(|zxid| *zxid >= 0), size) else {
        // What is told without a snapshot, as while nobody is served, has the status 200 too.
        let mut text = rest;
        let limited = (&mut stream).take(HEAD_LIMIT as u64);
        let _ = timeout(REFUSAL_LIMIT, { limited }.read_to_end(&mut text)).await;
        bail!("the answer is no snapshot{}", why(&String::from_utf8_lossy(&text)));
    };
    receive(&mut stream, rest, size, Zxid(zxid), to).await
}

/// The error in an answer in JSON.
fn why(text: &str) -> String {
    let value: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let error = value.as_ref().and_then(|value| value["error"].as_str()).map(str::to_owned);
    error.map(|error| format!(": {error}")).unwrap_or_default()
}

async fn receive(stream: &mut Socket, first: Vec<u8>, size: u64, zxid: Zxid, to: &Path) -> Result<Answer> {
    let incoming = to.join(".incoming");
    let mut file = std::fs::File::create(&incoming).with_context(|| format!("can't create {}", incoming.display()))?;
    let failed = || format!("can't write {}", incoming.display());
    let first = &first[..first.len().min(usize::try_from(size).unwrap_or(usize::MAX))];
    file.write_all(first).with_context(failed)?;
    let (mut received, mut block) = (first.len() as u64, vec![0; BLOCK]);
    while received < size {
        let wanted = usize::try_from(size - received).unwrap_or(BLOCK).min(BLOCK);
        let read = timeout(SILENCE_LIMIT, stream.read(&mut block[..wanted])).await;
        let count = read.context("nothing came for ten minutes")??;
        ensure!(count > 0, "the connection ended after {received} of {size} bytes");
        file.write_all(&block[..count]).with_context(failed)?;
        received += count as u64;
    }
    file.sync_all().with_context(failed)?;
    let mut magic = [0; 8];
    let count = std::fs::File::open(&incoming).and_then(|mut file| file.read(&mut magic)).with_context(failed)?;
    let compression = match &magic[..count] {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', ..] => Compression::Snappy,
        _ => Compression::None,
    };
    let path = to.join(names::snapshot(zxid, compression));
    std::fs::rename(&incoming, &path).with_context(failed)?;
    Ok(Answer::Snapshot(zxid, compression))
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
