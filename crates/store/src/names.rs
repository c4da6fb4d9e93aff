//! The names of the files. Only names that are exactly as written by us or the original are recognised; everything else is left alone.
//!
//! The original takes `log.1.bak` for a second log 1 and purges `log.old`. Here such a file is neither read nor removed, and our own
//! temporary files begin with a dot, so that the original never sees them.

use std::path::Path;

use rookeeper_proto::Zxid;

use crate::disk::Disk;
use crate::error::{Result, StoreError};

/// How a snapshot is stored; the suffix of its name says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
}

impl Compression {
    /// All forms a snapshot may have.
    pub const ALL: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Snappy];

    /// What the end of any file's name says, as the original goes by it.
    pub fn of_name(path: &Path) -> Compression {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => Compression::Gzip,
            Some("snappy") => Compression::Snappy,
            _ => Compression::None,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Snappy => ".snappy",
        }
    }
}

/// What a recognised name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileName {
    /// Named after its first transaction.
    Log(Zxid),
    /// Named after the last transaction applied when it was begun.
    Snapshot(Zxid, Compression),
    /// Ours, not finished: of no use to anyone.
    Temporary,
    /// Ours: the history is being cut behind this transaction, see [`truncate`](crate::truncate).
    Truncation(Zxid),
    /// Ours: this snapshot is being put in the place of everything else.
    Installation(Zxid, Compression),
    /// Known, but neither log nor snapshot: epochs, or copies that we keep of damaged files.
    Other,
}

/// The name of a log by its first transaction.
pub fn log(zxid: Zxid) -> String {
    format!("log.{:x}", zxid.0)
}

/// The name of a snapshot by the last transaction that was applied when it was begun.
pub fn snapshot(zxid: Zxid, compression: Compression) -> String {
    format!("snapshot.{:x}{}", zxid.0, compression.suffix())
}

/// The name under which a file is written before it is complete.
pub fn temporary(name: &str) -> String {
    format!(".{name}.tmp")
}

/// The name of a snapshot that comes from elsewhere and whose zxid is not known yet. A start removes what is left of it.
pub fn received() -> String {
    temporary(&snapshot(Zxid(i64::MAX), Compression::None))
}

/// Says that the history is being cut behind a transaction.
pub fn truncation(zxid: Zxid) -> String {
    format!("{TRUNCATION}{:x}", zxid.0)
}

/// The name of a whole snapshot that is to replace everything else, until it has.
pub fn installation(zxid: Zxid, compression: Compression) -> String {
    format!(".{}{INSTALLATION}", snapshot(zxid, compression))
}

const TRUNCATION: &str = ".truncate.";
const INSTALLATION: &str = ".install";

/// What recovery cuts off the end of a log.
pub const DROPPED: &str = "dropped";

/// The name under which a copy of a damaged file, or of its end, is kept.
pub fn kept(name: &str, what: &str) -> String {
    format!(".{name}.{what}")
}

impl FileName {
    /// What a name in `version-2` says; `None` for one that is nobody's, which is left alone.
    pub fn parse(name: &str) -> Option<FileName> {
        match name {
            "currentEpoch" | "acceptedEpoch" | "currentEpoch.tmp" | "acceptedEpoch.tmp" | "updatingEpoch" => {
                return Some(FileName::Other);
            }
            _ => {}
        }
        if let Some(digits) = name.strip_prefix(TRUNCATION)
            && let Some(zxid) = parse_zxid(digits)
        {
            return Some(FileName::Truncation(zxid));
        }
        if let Some(hidden) = name.strip_prefix('.') {
            if let Some(FileName::Snapshot(zxid, compression)) =
                hidden.strip_suffix(INSTALLATION).and_then(FileName::parse_visible)
            {
                return Some(FileName::Installation(zxid, compression));
            }
            let temporary = hidden.strip_suffix(".tmp").is_some_and(|name| FileName::parse_visible(name).is_some());
            return Some(if temporary { FileName::Temporary } else { FileName::Other });
        }
        FileName::parse_visible(name)
    }

    fn parse_visible(name: &str) -> Option<FileName> {
        if let Some(digits) = name.strip_prefix("log.") {
            return parse_zxid(digits).map(FileName::Log);
        }
        let rest = name.strip_prefix("snapshot.")?;
        let (digits, compression) = match rest.split_once('.') {
            None => (rest, Compression::None),
            Some((digits, "gz")) => (digits, Compression::Gzip),
            Some((digits, "snappy")) => (digits, Compression::Snappy),
            Some(_) => return None,
        };
        parse_zxid(digits).map(|zxid| FileName::Snapshot(zxid, compression))
    }
}

/// Lower-case hex as `{:x}` prints it, of a number that is not negative.
fn parse_zxid(digits: &str) -> Option<Zxid> {
    let canonical = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        && (digits == "0" || !digits.starts_with('0'));
    i64::from_str_radix(digits, 16).ok().filter(|_| canonical).map(Zxid)
}

/// What a `version-2` directory holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Oldest first.
    pub logs: Vec<Zxid>,
    /// Newest first.
    pub snapshots: Vec<(Zxid, Compression)>,
    pub temporaries: Vec<String>,
    pub truncations: Vec<Zxid>,
    pub installations: Vec<(Zxid, Compression)>,
    /// Names that are not ours to read or remove.
    pub strays: Vec<String>,
}

impl Listing {
    /// Lists a directory. Fails where the disk does.
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Listing> {
        let names = disk.list(dir).map_err(|error| StoreError::disk("list", dir, error))?;
        let mut listing = Listing::default();
        for name in names {
            match FileName::parse(&name) {
                Some(FileName::Log(zxid)) => listing.logs.push(zxid),
                Some(FileName::Snapshot(zxid, compression)) => listing.snapshots.push((zxid, compression)),
                Some(FileName::Temporary) => listing.temporaries.push(name),
                Some(FileName::Truncation(zxid)) => listing.truncations.push(zxid),
                Some(FileName::Installation(zxid, compression)) => listing.installations.push((zxid, compression)),
                Some(FileName::Other) => {}
                None => listing.strays.push(name),
            }
        }
        listing.logs.sort_unstable();
        listing.snapshots.sort_unstable_by_key(|(zxid, compression)| (std::cmp::Reverse(*zxid), *compression));
        listing.strays.sort_unstable();
        Ok(listing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_names_only() {
        for (name, expected) in [
            ("log.1", Some(FileName::Log(Zxid(1)))),
            ("log.10000000a", Some(FileName::Log(Zxid::new(1, 10)))),
            ("snapshot.0", Some(FileName::Snapshot(Zxid(0), Compression::None))),
            ("snapshot.5e.gz", Some(FileName::Snapshot(Zxid(0x5e), Compression::Gzip))),
            ("snapshot.5e.snappy", Some(FileName::Snapshot(Zxid(0x5e), Compression::Snappy))),
            (".snapshot.5e.gz.tmp", Some(FileName::Temporary)),
            (".log.1.tmp", Some(FileName::Temporary)),
            (".log.1.dropped", Some(FileName::Other)),
            (".truncate.10000000c", Some(FileName::Truncation(Zxid::new(1, 12)))),
            (&received(), Some(FileName::Temporary)),
            (".truncate.x", Some(FileName::Other)),
            (".snapshot.5e.gz.install", Some(FileName::Installation(Zxid(0x5e), Compression::Gzip))),
            (".log.5e.install", Some(FileName::Other)),
            (".nfs0001.tmp", Some(FileName::Other)),
            ("currentEpoch", Some(FileName::Other)),
            ("log.1.bak", None),
            ("log.old", None),
            ("log.", None),
            ("log.0x1", None),
            ("log.01", None),
            ("log.A", None),
            ("log.+1", None),
            ("log.1.gz", None),
            ("snapshot.ffffffffffffffff", None),
            ("snapshot.48.tmp", None),
            ("snapshot.save", None),
        ] {
            assert_eq!(FileName::parse(name), expected, "{name}");
        }
        for compression in Compression::ALL {
            let name = snapshot(Zxid(0xabc), compression);
            assert_eq!(FileName::parse(&name), Some(FileName::Snapshot(Zxid(0xabc), compression)));
            assert_eq!(FileName::parse(&temporary(&name)), Some(FileName::Temporary));
        }
    }
}
