//! What a server knows, as text that is kept on disk: a line for each instance and each cancelled one, between a first line with the version and the time,
//! and a last one with the number of lines and a checksum of all that stands before.
//!
//! What always holds here: text that was cut off or changed is recognised; what is read is bounded by its length.

use std::sync::Arc;

use serde::Deserialize;
use thiserror::Error;

use super::batch::{known_override, write_override};
use super::draft::{Draft, Number, Text};
use super::{Detail, json};
use crate::Now;
use crate::application::Record;
use crate::instance::Instance;
use crate::registry::Override;

const FIRST: &str = "rookeeper-registry-snapshot 1 ";
const LAST: &str = "end ";

/// Text that is no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Damaged {
    #[error("it does not begin as a snapshot of a registry does")]
    NoSnapshot,
    #[error("its end is missing")]
    CutOff,
    #[error("its checksum is not that of its contents")]
    Checksum,
    #[error("line {0} makes no sense")]
    Line(usize),
}

/// What a server knew.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// When, by its wall clock.
    pub taken_ms: i64,
    pub instances: Vec<(Instance, Override)>,
    pub cancelled: Vec<Cancelled>,
}

/// An instance that was cancelled, which replicas are not to bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancelled {
    pub app: Arc<str>,
    pub id: Arc<str>,
    pub dirty_ms: i64,
    /// For how long it is remembered.
    pub lasts_ms: u64,
}

/// The text, as it grows.
#[derive(Debug)]
pub struct SnapshotText {
    text: Vec<u8>,
    lines: u64,
}

impl SnapshotText {
    pub fn new(now: Now) -> SnapshotText {
        SnapshotText { text: format!("{FIRST}{}\n", now.wall_ms).into_bytes(), lines: 0 }
    }

    pub fn instance(&mut self, record: &Record, set: Override) {
        self.text.extend_from_slice(b"{\"instance\":");
        json::instance(&mut self.text, record, record.instance.status, Detail::Full);
        write_override(&mut self.text, Some(set));
        self.text.extend_from_slice(b"}\n");
        self.lines += 1;
    }

    pub fn cancelled(&mut self, cancelled: &Cancelled) {
        let Cancelled { app, id, dirty_ms, lasts_ms } = cancelled;
        self.text.extend_from_slice(b"{\"cancelled\":");
        json::string(&mut self.text, app);
        self.text.extend_from_slice(b",\"id\":");
        json::string(&mut self.text, id);
        self.text.extend_from_slice(format!(",\"dirty\":{dirty_ms},\"lasts\":{lasts_ms}}}\n").as_bytes());
        self.lines += 1;
    }

    pub fn len(&self) -> usize {
        self.text.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lines == 0
    }

    pub fn finish(mut self) -> Vec<u8> {
        let last = format!("{LAST}{} {:08x}\n", self.lines, crc32fast::hash(&self.text));
        self.text.extend_from_slice(last.as_bytes());
        self.text
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(default)]
    instance: Option<Draft>,
    #[serde(default)]
    overridden_at: Number,
    #[serde(default)]
    overridden_to: Text,
    #[serde(default)]
    cancelled: Option<String>,
    #[serde(default)]
    id: String,
    #[serde(default)]
    dirty: i64,
    #[serde(default)]
    lasts: u64,
}

/// Reads what [`SnapshotText`] wrote.
pub fn read_snapshot(bytes: &[u8], now: Now) -> Result<Remembered, Damaged> {
    let first = bytes.split(|byte| *byte == b'\n').next().and_then(|line| std::str::from_utf8(line).ok());
    let taken_ms = first.and_then(|line| line.strip_prefix(FIRST)?.parse().ok()).ok_or(Damaged::NoSnapshot)?;
    let ended = bytes.strip_suffix(b"\n").ok_or(Damaged::CutOff)?;
    let start = ended.iter().rposition(|byte| *byte == b'\n').ok_or(Damaged::CutOff)? + 1;
    let last = std::str::from_utf8(&ended[start..]).ok().and_then(|last| last.strip_prefix(LAST));
    let (lines, checksum) = last.and_then(|last| last.split_once(' ')).ok_or(Damaged::CutOff)?;
    if u32::from_str_radix(checksum, 16) != Ok(crc32fast::hash(&bytes[..start])) {
        return Err(Damaged::Checksum);
    }
    let mut remembered = Remembered { taken_ms, ..Remembered::default() };
    let mut count = 0u64;
    for (number, line) in bytes[..start - 1].split(|byte| *byte == b'\n').enumerate().skip(1) {
        let wrong = || Damaged::Line(number + 1);
        let line: Line = serde_json::from_slice(line).map_err(|_| wrong())?;
        match (line.instance, line.cancelled) {
            (Some(draft), None) => {
                let instance = draft.into_instance(None, now).map_err(|_| wrong())?;
                let set = known_override(line.overridden_at, &line.overridden_to).unwrap_or_default();
                remembered.instances.push((instance, set));
            }
            (None, Some(app)) => {
                let (app, id) = (app.into(), line.id.into());
                remembered.cancelled.push(Cancelled { app, id, dirty_ms: line.dirty, lasts_ms: line.lasts });
            }
            _ => return Err(wrong()),
        }
        count += 1;
    }
    if lines.parse() == Ok(count) { Ok(remembered) } else { Err(Damaged::CutOff) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Vec<u8> {
        let mut text = SnapshotText::new(Now { wall_ms: 77, steady_ms: 1 });
        for id in ["a\"b", "ü"] {
            text.cancelled(&Cancelled { app: "APP".into(), id: id.into(), dirty_ms: -5, lasts_ms: 90_000 });
        }
        text.finish()
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_recognised() {
        let (text, now) = (text(), Now::default());
        let read = read_snapshot(&text, now).expect("it is whole");
        assert_eq!((read.taken_ms, read.cancelled.len()), (77, 2));
        assert_eq!(&*read.cancelled[0].id, "a\"b");
        for end in 0..text.len() {
            assert!(read_snapshot(&text[..end], now).is_err(), "cut off at {end}");
        }
        for place in 0..text.len() {
            let mut changed = text.clone();
            changed[place] ^= 1;
            assert!(read_snapshot(&changed, now).is_err(), "changed at {place}");
        }
        assert!(read_snapshot(&[text.clone(), text].concat(), now).is_err());
    }
}
