//! What a backup says of itself: one line of JSON about the whole, one for each file, and one that seals those before it.
//!
//! What always holds: the last line is the only text there can be for the lines before it, byte for byte, so that no bit of the file can change
//! unseen; names lead to nothing outside of the backup; nothing is believed before the seal is right.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use rookeeper_proto::{Epoch, ServerId, TtlEncoding, Zxid};
use rookeeper_store::names::FileName;
use rookeeper_store::{Disk, Rights, replace};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The name of the file.
pub const NAME: &str = "manifest.jsonl";

/// Larger than this no manifest is believed to be, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// The one format there is.
const FORMAT: u32 = 1;

/// Everything a manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub head: Head,
    /// Snapshots and logs, each in the order of their zxids.
    pub files: Vec<FileEntry>,
}

/// What holds of the whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub rookeeper_backup: u32,
    pub kind: Kind,
    /// When it was taken, for people and in milliseconds since 1970.
    pub taken: String,
    pub taken_ms: i64,
    /// What it was taken from.
    pub source: String,
    /// What the server said of its version, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<i64>,
    /// Whether nodes count as the server takes them with `emulate353TTLNodes`: which of them have a time to live.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub emulate353_ttl_nodes: bool,
    /// The epochs of a member when it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_epoch: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_epoch: Option<u32>,
    /// The first and the last transaction that can be restored.
    #[serde(with = "hex")]
    pub first_zxid: Zxid,
    #[serde(with = "hex")]
    pub last_zxid: Zxid,
    /// Of the tree at its end. An archive does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u64>,
}

/// How a backup came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// At once. Nothing is added any more.
    Backup,
    /// Followed from a server, perhaps still.
    Archive,
}

/// One file in `version-2`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    pub file: String,
    pub bytes: u64,
    /// In lower-case hex.
    pub sha256: String,
    pub content: Content,
}

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    Snapshot(SnapshotContent),
    Log(LogContent),
}

/// What is in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotContent {
    #[serde(with = "hex")]
    pub zxid: Zxid,
    /// The last transaction of which it may hold a part.
    #[serde(with = "hex")]
    pub complete_at: Zxid,
    pub nodes: u64,
}

/// What is in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogContent {
    #[serde(with = "hex")]
    pub first: Zxid,
    #[serde(with = "hex")]
    pub last: Zxid,
    pub records: u64,
    /// The times of the first and the last record, in milliseconds since 1970.
    pub first_ms: i64,
    pub last_ms: i64,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    files: usize,
    sha256: String,
}

impl Head {
    /// For a backup that is being taken now; what is in it is still to be said.
    pub fn begin(kind: Kind, source: String) -> Head {
        let now = jiff::Timestamp::now();
        Head {
            rookeeper_backup: FORMAT,
            kind,
            taken: now.to_string(),
            taken_ms: now.as_millisecond(),
            source,
            server: None,
            server_id: None,
            emulate353_ttl_nodes: false,
            current_epoch: None,
            accepted_epoch: None,
            first_zxid: Zxid::ZERO,
            last_zxid: Zxid::ZERO,
            digest: None,
            nodes: None,
        }
    }

    /// Which nodes have a time to live.
    pub fn ttl_encoding(&self) -> TtlEncoding {
        if self.emulate353_ttl_nodes { TtlEncoding::Also353 } else { TtlEncoding::Current }
    }

    /// Notes where a member stands.
    pub fn of_member(&mut self, id: Option<ServerId>, current: Option<Epoch>, accepted: Option<Epoch>) {
        self.server_id = id.map(|id| id.0);
        self.current_epoch = current.map(|epoch| epoch.0);
        self.accepted_epoch = accepted.map(|epoch| epoch.0);
    }
}

impl Manifest {
    /// The snapshots, oldest first.
    pub fn snapshots(&self) -> impl DoubleEndedIterator<Item = (&FileEntry, SnapshotContent)> {
        self.files.iter().filter_map(|file| match file.content {
            Content::Snapshot(snapshot) => Some((file, snapshot)),
            Content::Log(_) => None,
        })
    }

    /// The logs, oldest first.
    pub fn logs(&self) -> impl DoubleEndedIterator<Item = (&FileEntry, LogContent)> {
        self.files.iter().filter_map(|file| match file.content {
            Content::Log(log) => Some((file, log)),
            Content::Snapshot(_) => None,
        })
    }

    /// Writes it into a backup, durably, in place of one that is there.
    pub fn write(&self, disk: &dyn Disk, backup: &Path) -> Result<()> {
        let path = backup.join(NAME);
        replace::replace(disk, &path, self.text()?.as_bytes(), Rights::Owner)
            .with_context(|| format!("can't write {}", path.display()))
    }

    fn text(&self) -> Result<String> {
        let mut text = serde_json::to_string(&self.head)? + "\n";
        for file in &self.files {
            text += &serde_json::to_string(file)?;
            text.push('\n');
        }
        text += &seal(self.files.len(), &text)?;
        Ok(text)
    }

    /// Reads that of a backup.
    pub fn read(disk: &dyn Disk, backup: &Path) -> Result<Manifest> {
        let path = backup.join(NAME);
        let shown = path.display();
        if !disk.exists(&path) {
            bail!(
                "{} is no backup: it has no {NAME}. Name the directory that rookeeper backup has made",
                backup.display()
            );
        }
        let read = || {
            let file = disk.open_read(&path)?;
            let length = file.length()?;
            if length > MAX_BYTES {
                return Ok(None);
            }
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            let count = file.read_at(&mut bytes, 0)?;
            bytes.truncate(count);
            Ok(Some(bytes))
        };
        let bytes = std::io::Result::<Option<Vec<u8>>>::from(read()).with_context(|| format!("can't read {shown}"))?;
        let bytes = bytes.with_context(|| format!("{shown} is unreasonably long"))?;
        Manifest::parse(&bytes).with_context(|| format!("{shown} is damaged: take another backup"))
    }

    fn parse(bytes: &[u8]) -> Result<Manifest> {
        let text = std::str::from_utf8(bytes).context("it is no text")?;
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let [head, files @ .., last] = lines.as_slice() else { bail!("it is cut off") };
        let sealed = &text[..text.len() - last.len()];
        ensure!(*last == seal(files.len(), sealed)?, "its checksum is wrong");
        let head: Head = serde_json::from_str(head)?;
        ensure!(
            head.rookeeper_backup == FORMAT,
            "it has format {}, this version knows {FORMAT}: use the version that wrote it, or a newer one",
            head.rookeeper_backup
        );
        let files: Vec<FileEntry> = files.iter().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<_>>()?;
        for file in &files {
            let fits = match (FileName::parse(&file.file), file.content) {
                (Some(FileName::Snapshot(zxid, _)), Content::Snapshot(snapshot)) => zxid == snapshot.zxid,
                (Some(FileName::Log(zxid)), Content::Log(log)) => zxid == log.first,
                _ => false,
            };
            ensure!(fits, "the name {:?} does not fit", file.file);
        }
        Ok(Manifest { head, files })
    }
}

fn seal(files: usize, text: &str) -> Result<String> {
    let sha256 = in_hex(&Sha256::digest(text.as_bytes()));
    Ok(serde_json::to_string(&Seal { files, sha256 })? + "\n")
}

/// Bytes as people compare them.
pub fn in_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Zxids as the logs and commands show them.
mod hex {
    use rookeeper_proto::Zxid;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(zxid: &Zxid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(zxid)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zxid, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.strip_prefix("0x").and_then(|digits| i64::from_str_radix(digits, 16).ok());
        number.map(Zxid).ok_or_else(|| serde::de::Error::custom("not a zxid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let snapshot = SnapshotContent { zxid: Zxid(5), complete_at: Zxid(9), nodes: 4 };
        let log = LogContent { first: Zxid(1), last: Zxid(12), records: 12, first_ms: 1000, last_ms: 2000 };
        let head = Head { digest: Some(-7), ..Head::begin(Kind::Backup, "a directory".to_owned()) };
        let entry =
            |file: &str, content| FileEntry { file: file.to_owned(), bytes: 7, sha256: "ab".to_owned(), content };
        let files = vec![entry("snapshot.5", Content::Snapshot(snapshot)), entry("log.1", Content::Log(log))];
        Manifest { head, files }
    }

    #[test]
    fn a_manifest_comes_back_and_every_flipped_bit_and_cut_is_seen() {
        let manifest = manifest();
        let text = manifest.text().unwrap();
        assert_eq!(Manifest::parse(text.as_bytes()).unwrap(), manifest);
        let mut bytes = text.into_bytes();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                assert!(Manifest::parse(&bytes).is_err(), "byte {at} bit {bit}");
                bytes[at] ^= 1 << bit;
            }
            assert!(Manifest::parse(&bytes[..at]).is_err(), "cut at {at}");
        }
        bytes.push(b'\n');
        assert!(Manifest::parse(&bytes).is_err());
    }

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["../log.1", "log.2", "snapshot.1", "log.1.bak", "/etc/log.1", "currentEpoch"] {
            let mut manifest = manifest();
            manifest.files[1].file = name.to_owned();
            let error = Manifest::parse(manifest.text().unwrap().as_bytes()).unwrap_err();
            assert!(error.to_string().contains("does not fit"), "{name}: {error}");
        }
    }
}
