//! Who asks for the most: bounded tables of paths, prefixes, clients and identities by requests, bytes, watches and time.
//!
//! Only some requests are looked at, by chance and the fewer the more there are; each stands for those that were not. A table has room for the
//! names with the largest counts; a new name takes the place of the smallest one and inherits its count, so a count is never too small, and too
//! large by no more than is told with it ("Space-Saving", Metwally, Agrawal, El Abbadi, 2005).
//!
//! What always holds here: the memory is bounded, whatever clients send; a minute is told when it is over, and the one before it not any more;
//! nobody waits for the tables: where somebody reads them, a sample is lost.

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::Mutex;
use rookeeper_proto::{Id, MonotonicMs, OpCode};

use crate::clients::connection::Connection;
use crate::stages::COUNTS;
use crate::time::Stamp;

/// Names in a table.
const NAMES: usize = 64;

/// A longer name is cut.
const MAX_NAME_BYTES: usize = 200;

/// How long a minute is.
const MINUTE_MS: i64 = 60_000;

/// Parts of a path that count as a prefix, where nothing else is said.
pub const DEFAULT_DEPTH: usize = 6;

/// More requests than these in a second are not looked at by one thread, about.
const LEAST_GAP_NS: u64 = 500_000;

/// With a gap like this there is time to look at more of them.
const LARGE_GAP_NS: u64 = 4 * LEAST_GAP_NS;

/// So many requests may stand for one that is looked at.
const MAX_STEP: u32 = 4096;

/// What names are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    Path,
    /// The nodes above a path, but for the root.
    Prefix,
    /// The address of a client.
    Client,
    /// Who a client has shown to be.
    Identity,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    Requests,
    /// Of requests, and of answers to reads.
    Bytes,
    /// Watches that were asked for.
    Watches,
    /// Microseconds from the arrival of a request until its answer was ready to be sent.
    Time,
}

/// All of them, in the order of the tables.
pub const ABOUT: [About; 4] = [About::Path, About::Prefix, About::Client, About::Identity];
pub const MEASURES: [Measure; 4] = [Measure::Requests, Measure::Bytes, Measure::Watches, Measure::Time];

/// A request that is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// None for requests that name no node, or many.
    pub path: Option<Box<str>>,
    pub op: OpCode,
    pub bytes: u64,
    pub watches: u64,
    /// How many requests it stands for.
    pub weight: u32,
}

/// A name and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: Box<str>,
    pub count: u64,
    /// By how much the count may be too large.
    pub at_most_over: u64,
}

/// Decides which requests are looked at. Belongs to one thread.
#[derive(Debug, Clone, Copy)]
pub struct Sampler {
    /// Requests that are passed over until the next one is looked at.
    left: u32,
    /// How many each stands for.
    step: u32,
    last: Stamp,
    random: u32,
}

impl Sampler {
    /// One whose choice depends on `seed`.
    pub const fn new(seed: u32) -> Sampler {
        Sampler { left: 0, step: 1, last: Stamp(0), random: seed | 1 }
    }

    /// Whether the next request is looked at, and how many requests it stands for.
    pub fn take(&mut self, now: Stamp) -> Option<u32> {
        if !COUNTS {
            return None;
        }
        if self.left > 0 {
            self.left -= 1;
            return None;
        }
        let weight = self.step;
        let gap_ns = now.ns_since(self.last);
        if gap_ns < LEAST_GAP_NS {
            self.step = (self.step * 2).min(MAX_STEP);
        } else if gap_ns > LARGE_GAP_NS {
            self.step = (self.step / 2).max(1);
        }
        self.last = now;
        // By chance, for what clients do repeats itself.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.left = self.random % (2 * self.step - 1);
        Some(weight)
    }
}

/// The tables, for everybody who counts and everybody who looks.
#[derive(Debug, Default)]
pub struct Top(Mutex<Minutes>);

#[derive(Debug, Default)]
struct Minutes {
    began_ms: MonotonicMs,
    current: Option<Box<Tables>>,
    /// The last whole minute with a request, and when it was over.
    last: Option<(Box<Tables>, MonotonicMs)>,
}

#[derive(Debug, Default)]
struct Tables([[Table; MEASURES.len()]; ABOUT.len()]);

#[derive(Debug, Default)]
struct Table {
    places: HashMap<Box<str>, usize>,
    entries: Vec<Entry>,
}

impl Top {
    /// Counts a request of this connection. `took_ns` is the time from its arrival to its answer; prefixes have up to `depth` parts.
    pub fn note(&self, now: Stamp, connection: &Connection, sample: &Sample, took_ns: u64, depth: usize) {
        let Some(mut minutes) = self.0.try_lock() else { return };
        let tables = minutes.at(now.monotonic_ms());
        let weight = u64::from(sample.weight);
        let counts = [weight, sample.bytes * weight, sample.watches * weight, took_ns / 1000 * weight];
        if let Some(path) = &sample.path {
            tables.add(About::Path, path, counts);
            prefixes(path, depth).for_each(|prefix| tables.add(About::Prefix, prefix, counts));
        }
        let address: IpAddr = connection.peer.ip().to_canonical();
        tables.add(About::Client, &address.to_string(), counts);
        tables.add(About::Identity, &name_of(&connection.identities()), counts);
    }

    /// The names with the most, the largest first, of the last whole minute; of the first one while it lasts. None where nothing was asked for.
    pub fn largest(&self, now: Stamp, about: About, measure: Measure, limit: usize) -> Vec<Entry> {
        let mut minutes = self.0.lock();
        minutes.turn(now.monotonic_ms());
        let tables = minutes.last.as_ref().map(|(tables, _)| tables).or(minutes.current.as_ref());
        let table = tables.map(|tables| &tables.0[about as usize][measure as usize]);
        let mut entries: Vec<Entry> = table.map_or_else(Vec::new, |table| table.entries.clone());
        entries.retain(|entry| entry.count > 0);
        entries.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
        entries.truncate(limit);
        entries
    }
}

impl Minutes {
    fn at(&mut self, now_ms: MonotonicMs) -> &mut Tables {
        self.turn(now_ms);
        if self.current.is_none() {
            self.began_ms = now_ms;
        }
        self.current.get_or_insert_default()
    }

    /// Ends a minute that is over.
    fn turn(&mut self, now_ms: MonotonicMs) {
        if self.current.is_some() && now_ms - self.began_ms >= MINUTE_MS {
            self.last = self.current.take().map(|tables| (tables, self.began_ms + MINUTE_MS));
        }
        if self.last.as_ref().is_some_and(|(_, ended_ms)| now_ms - *ended_ms >= 2 * MINUTE_MS) {
            self.last = None;
        }
    }
}

impl Tables {
    fn add(&mut self, about: About, name: &str, counts: [u64; MEASURES.len()]) {
        let name = cut(name);
        for (table, count) in self.0[about as usize].iter_mut().zip(counts) {
            if count > 0 {
                table.add(name, count);
            }
        }
    }
}

impl Table {
    fn add(&mut self, name: &str, count: u64) {
        if let Some(place) = self.places.get(name) {
            self.entries[*place].count += count;
            return;
        }
        if self.entries.len() < NAMES {
            self.places.insert(name.into(), self.entries.len());
            self.entries.push(Entry { name: name.into(), count, at_most_over: 0 });
            return;
        }
        let smallest = (0..NAMES).min_by_key(|place| self.entries[*place].count).unwrap_or(0);
        let entry = &mut self.entries[smallest];
        self.places.remove(&entry.name);
        self.places.insert(name.into(), smallest);
        *entry = Entry { name: name.into(), count: entry.count + count, at_most_over: entry.count };
    }
}

/// The nodes above a path, the one below the root first.
fn prefixes(path: &str, depth: usize) -> impl Iterator<Item = &str> {
    path.match_indices('/').skip(1).take(depth).map(|(end, _)| &path[..end])
}

/// What a client has shown to be, besides its address. The part of an identity that may be a secret is left out.
fn name_of(identities: &[Id]) -> String {
    let shown = identities.iter().filter(|id| id.scheme != "ip");
    let names: Vec<String> = shown
        .map(|id| match &*id.scheme {
            // A user and the hash of a password.
            "digest" => format!("digest:{}", id.id.split(':').next().unwrap_or_default()),
            "super" if id.id.contains(':') => "super".to_owned(),
            scheme => format!("{scheme}:{}", id.id),
        })
        .collect();
    if names.is_empty() { "anybody".to_owned() } else { names.join(" ") }
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME_BYTES)]
}

/// The path that a request names, for requests that name one.
pub fn path_of(op: OpCode, body: &[u8]) -> Option<&str> {
    if matches!(
        op,
        OpCode::Ping
            | OpCode::SetWatches
            | OpCode::SetWatches2
            | OpCode::Multi
            | OpCode::MultiRead
            | OpCode::WhoAmI
            | OpCode::CloseSession
            | OpCode::Reconfig
            | OpCode::Auth
            | OpCode::Sasl
    ) {
        return None;
    }
    let (length, rest) = body.split_first_chunk()?;
    let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
    std::str::from_utf8(rest.get(..length)?).ok()
}

/// Whether a read asks for a watch: the byte behind its path says so.
pub fn asks_for_watch(op: OpCode, body: &[u8]) -> bool {
    match op {
        OpCode::AddWatch => true,
        OpCode::GetData | OpCode::Exists | OpCode::GetChildren | OpCode::GetChildren2 => body.last() == Some(&1),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rookeeper_tree::WatcherId;

    use super::*;
    use crate::time::Time;

    fn connection(number: u8) -> Connection {
        Connection::new(WatcherId(1), format!("10.0.0.{number}:1").parse().unwrap(), Time::default())
    }

    fn sample(path: &str) -> Sample {
        Sample { path: Some(path.into()), op: OpCode::GetData, bytes: 100, watches: 1, weight: 1 }
    }

    fn at(ms: u64) -> Stamp {
        Stamp(ms * 1_000_000)
    }

    fn told(top: &Top, now: Stamp, about: About, measure: Measure) -> Vec<(String, u64)> {
        top.largest(now, about, measure, 3).into_iter().map(|entry| (entry.name.into(), entry.count)).collect()
    }

    #[test]
    fn whoever_asks_for_the_most_is_on_top_of_every_table() {
        let top = Top::default();
        let (one, other) = (connection(1), connection(2));
        assert!(one.add_identities([Id::new("digest", "bob:c2VjcmV0")]));
        for number in 0..300 {
            top.note(at(1), &one, &sample(&format!("/app/locks/{number}")), 7_000, 6);
            if number % 3 == 0 {
                top.note(at(1), &other, &sample("/hot"), 9_000, 6);
            }
        }
        assert_eq!(
            told(&top, at(2), About::Client, Measure::Requests),
            [("10.0.0.1".to_owned(), 300), ("10.0.0.2".to_owned(), 100)]
        );
        assert_eq!(
            told(&top, at(2), About::Prefix, Measure::Bytes),
            [("/app".to_owned(), 30_000), ("/app/locks".to_owned(), 30_000)]
        );
        assert_eq!(
            told(&top, at(2), About::Identity, Measure::Time),
            [("digest:bob".to_owned(), 2100), ("anybody".to_owned(), 900)]
        );
        // Three hundred paths in a table of 64.
        let hot = &top.largest(at(2), About::Path, Measure::Watches, 1)[0];
        assert!(&*hot.name == "/hot" && (100..=100 + hot.at_most_over).contains(&hot.count), "{hot:?}");
        let all = top.largest(at(2), About::Path, Measure::Requests, 99);
        assert_eq!(all.len(), NAMES);
        // Each of the others was asked for once.
        let others = all.iter().filter(|entry| &*entry.name != "/hot");
        assert!(others.clone().all(|entry| entry.count - entry.at_most_over == 1), "{all:?}");
    }

    #[test]
    fn a_minute_is_told_until_the_next_one_is_over() {
        let top = Top::default();
        let client = connection(1);
        let paths = |now| told(&top, now, About::Path, Measure::Requests);
        top.note(at(1_000), &client, &sample("/first"), 0, 6);
        assert_eq!(paths(at(2_000)), [("/first".to_owned(), 1)]);
        top.note(at(61_000), &client, &sample("/second"), 0, 6);
        assert_eq!(paths(at(62_000)), [("/first".to_owned(), 1)]);
        top.note(at(121_500), &client, &sample("/third"), 0, 6);
        assert_eq!(paths(at(122_000)), [("/second".to_owned(), 1)]);
        assert_eq!(paths(at(200_000)), [("/third".to_owned(), 1)]);
        assert_eq!(paths(at(400_000)), []);
    }

    #[test]
    fn names_have_no_secrets_and_an_end() {
        let ids = |ids: &[(&'static str, &'static str)]| {
            name_of(&ids.iter().map(|(scheme, id)| Id::new(*scheme, *id)).collect::<Vec<_>>())
        };
        assert_eq!(ids(&[("ip", "10.0.0.1")]), "anybody");
        assert_eq!(
            ids(&[("ip", "10.0.0.1"), ("digest", "bob:hash"), ("sasl", "eve@REALM")]),
            "digest:bob sasl:eve@REALM"
        );
        assert_eq!(ids(&[("super", "admin:hash"), ("x509", "CN=a")]), "super x509:CN=a");
        assert_eq!(cut(&"ä".repeat(300)).len(), MAX_NAME_BYTES);
        assert_eq!(prefixes("/a/b/c/d", 2).collect::<Vec<_>>(), ["/a", "/a/b"]);
        assert_eq!(prefixes("/a", 2).count(), 0);
    }

    #[test]
    fn few_are_looked_at_where_there_are_many_and_they_stand_for_all() {
        let mut sampler = Sampler::new(7);
        let (mut looked_at, mut stood_for) = (0u32, 0u64);
        // Two hundred thousand a second, for ten seconds.
        for number in 0..2_000_000u64 {
            if let Some(weight) = sampler.take(Stamp(number * 5_000)) {
                looked_at += 1;
                stood_for += u64::from(weight);
            }
        }
        assert!((2_000..25_000).contains(&looked_at), "{looked_at}");
        assert!((1_700_000..2_300_000).contains(&stood_for), "{stood_for}");
        // A few in a second: all of them.
        let mut sampler = Sampler::new(7);
        assert!((1..1000).all(|number| sampler.take(Stamp(number * 10_000_000)) == Some(1)));
    }

    #[test]
    fn the_path_of_a_request_is_found_without_decoding_it() {
        let body = b"\0\0\0\x02/a\x01";
        assert_eq!(path_of(OpCode::GetData, body), Some("/a"));
        assert!(asks_for_watch(OpCode::GetData, body) && !asks_for_watch(OpCode::GetAcl, body));
        assert_eq!(path_of(OpCode::Multi, body), None);
        for damaged in [&b""[..], b"\0\0\0\x03/a", b"\xff\xff\xff\xff", b"\0\0\0\x01\xff"] {
            assert_eq!(path_of(OpCode::GetData, damaged), None, "{damaged:?}");
        }
    }
}
