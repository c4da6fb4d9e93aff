//! Where the nodes of a queue are, and how they are called.
//!
//! What always holds: an item has one name, under which it stands among the entries, and, while it is taken, a node of the same name among the taken.
//! The name says everything that its turn depends on.

use crate::error::Error;
use crate::name::join;

/// Whose nodes a queue has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum QueueLayout {
    /// Our own: items in segments of about a thousand, so that no list of names is long, however many items there are.
    #[default]
    Segments,
    /// Those of kazoo's `LockingQueue`: `entries` and `taken`. One list has all items.
    Kazoo,
    /// Those of Apache Curator's `DistributedQueue`, `DistributedPriorityQueue` and `DistributedDelayQueue` with a lock path, which is named here. One
    /// list has all items.
    Curator {
        /// The lock path.
        locks: String,
    },
}

/// Items in a segment of a queue. A list of so many names is some 20 kB.
#[cfg(not(test))]
pub(crate) const SEGMENT_ITEMS: i64 = 1_000;
/// Few, so that tests fill many.
#[cfg(test)]
pub(crate) const SEGMENT_ITEMS: i64 = 7;
/// The priority of an item for which none is named, as in kazoo; a smaller one goes first.
pub const DEFAULT_PRIORITY: i32 = 100;

const CURATOR_ITEM: &str = "queue-";
const KAZOO_ITEM: &str = "entry-";
const CURATOR_VERSION: [u8; 4] = [0, 1, 0, 1];
const CURATOR_PART: u8 = 1;
const CURATOR_END: u8 = 2;

/// What decides about the turn of an item: the smaller goes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    pub(crate) priority: i32,
    pub(crate) segment: u64,
    pub(crate) sequence: i64,
    pub(crate) name: String,
}

/// Where the nodes of one queue are.
#[derive(Debug, Clone)]
pub struct Places {
    root: String,
    layout: QueueLayout,
}

impl Places {
    pub fn new(root: &str, layout: QueueLayout) -> Places {
        Places { root: root.to_owned(), layout }
    }

    pub(crate) fn is_segmented(&self) -> bool {
        self.layout == QueueLayout::Segments
    }

    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    pub(crate) fn segments(&self) -> String {
        join(&self.root, "segments")
    }

    pub(crate) fn segment(&self, segment: u64) -> String {
        join(&self.segments(), &format!("{segment:010}"))
    }

    pub(crate) fn entries(&self, segment: u64) -> String {
        match &self.layout {
            QueueLayout::Segments => join(&self.segment(segment), "entries"),
            QueueLayout::Kazoo => join(&self.root, "entries"),
            QueueLayout::Curator { .. } => self.root.clone(),
        }
    }

    pub(crate) fn taken(&self, segment: u64) -> String {
        match &self.layout {
            QueueLayout::Segments => join(&self.segment(segment), "taken"),
            QueueLayout::Kazoo => join(&self.root, "taken"),
            QueueLayout::Curator { locks } => locks.clone(),
        }
    }

    /// Where pushers have their nodes.
    pub(crate) fn pushers(&self) -> String {
        match &self.layout {
            // In the queue's own path Curator would take it for an item that it does not know.
            QueueLayout::Curator { locks } => join(locks, "pushers"),
            QueueLayout::Segments | QueueLayout::Kazoo => join(&self.root, "pushers"),
        }
    }

    /// The name of an item without its number.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] where the layout has no such name.
    pub fn prefix(&self, priority: Option<i32>, due_ms: Option<u64>) -> Result<String, Error> {
        let refused = |why: &str| Err(Error::Unsupported(why.to_owned()));
        match &self.layout {
            QueueLayout::Segments | QueueLayout::Kazoo => {
                let priority = priority.unwrap_or(DEFAULT_PRIORITY);
                if !(0..1_000).contains(&priority) {
                    return refused("the priority of an item is between 0 and 999 in this layout");
                }
                match due_ms {
                    None if self.is_segmented() => Ok(format!("{priority:03}-")),
                    Some(due_ms) if self.is_segmented() => Ok(format!("{priority:03}-{due_ms:013}-")),
                    None => Ok(format!("{KAZOO_ITEM}{priority:03}-")),
                    Some(_) => refused("kazoo's queue knows no delay"),
                }
            }
            QueueLayout::Curator { .. } => match (priority, due_ms) {
                (None, None) => Ok(CURATOR_ITEM.to_owned()),
                (Some(priority), None) => {
                    Ok(format!("{CURATOR_ITEM}{}{:08X}", u8::from(priority >= 0), priority as u32))
                }
                (None, Some(due_ms)) => Ok(format!("{CURATOR_ITEM}|{due_ms:08X}|")),
                (Some(_), Some(_)) => refused("an item of Apache Curator's queues has a priority or a delay, not both"),
            },
        }
    }

    /// What a name says: the spot, and when the item is due. `None` for what is no item.
    pub(crate) fn read(&self, segment: u64, name: &str) -> Option<(Spot, u64)> {
        let (priority, due_ms, sequence) = match &self.layout {
            QueueLayout::Segments => {
                let (priority, rest) = name.split_once('-')?;
                match rest.split_once('-') {
                    Some((due_ms, sequence)) => (priority.parse().ok()?, due_ms.parse().ok()?, sequence),
                    None => (priority.parse().ok()?, 0, rest),
                }
            }
            QueueLayout::Kazoo => {
                let (priority, sequence) = name.strip_prefix(KAZOO_ITEM)?.split_once('-')?;
                (priority.parse().ok()?, 0, sequence)
            }
            QueueLayout::Curator { .. } => {
                let rest = name.strip_prefix(CURATOR_ITEM)?;
                match rest.strip_prefix('|') {
                    Some(rest) => {
                        let (due_ms, sequence) = rest.split_once('|')?;
                        (DEFAULT_PRIORITY, u64::from_str_radix(due_ms, 16).ok()?, sequence)
                    }
                    None if rest.len() > 11 && rest.is_char_boundary(9) => {
                        let (priority, sequence) = rest.split_at(9);
                        (u32::from_str_radix(priority.get(1..)?, 16).ok()? as i32, 0, sequence)
                    }
                    None => (DEFAULT_PRIORITY, 0, rest),
                }
            }
        };
        let sequence = sequence.parse().ok()?;
        Some((Spot { priority, segment, sequence, name: name.to_owned() }, due_ms))
    }

    /// The number at the end of a path that a push made.
    pub(crate) fn sequence(&self, path: &str) -> i64 {
        let name = path.rsplit('/').next().unwrap_or_default();
        self.read(0, name).map_or(0, |(spot, _)| spot.sequence)
    }

    /// The content of an item's node.
    pub fn encode(&self, data: Vec<u8>) -> Vec<u8> {
        match &self.layout {
            QueueLayout::Segments | QueueLayout::Kazoo => data,
            QueueLayout::Curator { .. } => {
                let length = (data.len() as u32).to_be_bytes();
                [&CURATOR_VERSION[..], &[CURATOR_PART], &length, &data, &[CURATOR_END]].concat()
            }
        }
    }

    /// The other way: one part, or several where Curator's `putMulti` wrote it. What is no such content is taken as it is.
    pub fn decode(&self, data: Vec<u8>) -> Vec<Vec<u8>> {
        if !matches!(self.layout, QueueLayout::Curator { .. }) {
            return vec![data];
        }
        parts(&data).unwrap_or_else(|| vec![data])
    }
}

fn parts(data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = data.strip_prefix(&CURATOR_VERSION)?;
    let mut parts = Vec::new();
    loop {
        let (code, after) = rest.split_first()?;
        if *code == CURATOR_END {
            return Some(parts);
        }
        let (length, after) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        parts.push(after.get(..length)?.to_vec());
        rest = after.get(length..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curator() -> Places {
        Places::new("/q", QueueLayout::Curator { locks: "/l".to_owned() })
    }

    fn read(places: &Places, name: &str) -> Option<(i32, u64, i64)> {
        places.read(7, name).map(|(spot, due_ms)| (spot.priority, due_ms, spot.sequence))
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let segments = Places::new("/q", QueueLayout::Segments);
        let kazoo = Places::new("/q", QueueLayout::Kazoo);
        for (places, priority, due_ms, name) in [
            (&segments, Some(5), None, "005-0000000012"),
            (&segments, None, Some(1_764_340_000_123), "100-1764340000123-0000000012"),
            (&kazoo, None, None, "entry-100-0000000012"),
            (&curator(), None, None, "queue-0000000012"),
            (&curator(), Some(5), None, "queue-1000000050000000012"),
            (&curator(), Some(-5), None, "queue-0FFFFFFFB0000000012"),
            (&curator(), None, Some(0x199_1234_5678), "queue-|19912345678|0000000012"),
        ] {
            assert_eq!(places.prefix(priority, due_ms).unwrap() + "0000000012", name);
            let expected = (priority.unwrap_or(DEFAULT_PRIORITY), due_ms.unwrap_or(0), 12);
            assert_eq!(read(places, name), Some(expected), "{name}");
        }
        assert_eq!(read(&kazoo, "entry-100--2147483648"), Some((100, 0, -2_147_483_648)));
        assert_eq!(read(&curator(), "queue--2147483648"), Some((100, 0, -2_147_483_648)));
        for other in ["queue-x", "pushers", "entry-100", "é-1"] {
            assert_eq!((read(&curator(), other), read(&kazoo, other), read(&segments, other)), (None, None, None));
        }
        assert!(kazoo.prefix(None, Some(1)).is_err());
        assert!(segments.prefix(Some(1_000), None).is_err());
        assert!(curator().prefix(Some(1), Some(1)).is_err());
    }

    /// The bytes are those that Curator's `ItemSerializer` writes.
    #[test]
    fn content_of_curator() {
        let bytes = b"\0\x01\0\x01\x01\0\0\0\x02ab\x02".to_vec();
        assert_eq!(curator().encode(b"ab".to_vec()), bytes);
        assert_eq!(curator().decode(bytes), [b"ab"]);
        let two = b"\0\x01\0\x01\x01\0\0\0\x01a\x01\0\0\0\0\x02".to_vec();
        assert_eq!(curator().decode(two), [b"a".to_vec(), Vec::new()]);
        for broken in [&b"\0\x01\0\x01\x01\xff\xff\xff\xffa"[..], b"\0\x01\0\x01", b"plain"] {
            assert_eq!(curator().decode(broken.to_vec()), [broken]);
        }
    }
}
