//! What is known about a configuration key, and how a key is found by the spelling an operator used.
//!
//! The list itself is in `table`; it is the single source of truth: defaults, ranges and statuses used anywhere come from
//! there, and so does the section of COMPAT.md about configuration.

use std::fmt::Write as _;
use std::sync::LazyLock;

use super::table::{ALIASES, KEYS, TOPICS};

/// How Apache ZooKeeper takes the key. Here all three can be set both in the file and with `-D`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// In `zoo.cfg` only.
    File,
    /// In `zoo.cfg` and as `-Dzookeeper.<name>`.
    Property,
    /// As `-D<name>` only, without a prefix.
    Bare,
}

/// What values a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// A whole number of `unit` from `min` to `max`.
    Number { min: i64, max: i64, unit: &'static str },
    /// A fraction in this range.
    Ratio { min: f64, max: f64 },
    /// `true` or `false` in any case. Behind a property everything but `true` counts as false.
    Switch,
    /// On only when it is this word.
    OnlyWith(&'static str),
    /// Off only when it is this word.
    UnlessWord(&'static str),
    /// Text; what it is.
    Text(&'static str),
    /// Text that must not appear in logs; what it is.
    Secret(&'static str),
}

/// What the key does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// As in the original.
    Used,
    /// As in the original; it acts in an ensemble only.
    Ensemble,
    /// Accepted without effect, because.
    NoEffect(&'static str),
    /// Refused at start when it asks for something, because.
    Refused(&'static str),
}

/// One line of the table.
#[derive(Debug)]
pub(super) struct Key {
    /// Name in `zoo.cfg`. A trailing `*` stands for any ending.
    pub(super) name: &'static str,
    pub(super) spelling: Spelling,
    pub(super) kind: Kind,
    /// Default as one would write it, or in words when it depends on other keys; empty when there is none.
    pub(super) default: &'static str,
    pub(super) status: Status,
}

impl Key {
    /// The name of its `-D` option; what it is in the original, or would be by its rule.
    pub(super) fn flag(&self) -> String {
        flag_of(self, self.name)
    }

    fn matches(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => self.name == name,
        }
    }

    /// What may be written, for messages: "a whole number of milliseconds from 1".
    pub(super) fn allowed(&self) -> String {
        match self.kind {
            Kind::Number { min, max, unit } => {
                let mut text = String::from("a whole number");
                if !unit.is_empty() {
                    let _ = write!(text, " of {unit}");
                }
                let unbounded = max == i64::from(i32::MAX) || max == i64::MAX;
                match (min == i64::from(i32::MIN) || min == i64::MIN, unbounded) {
                    (true, _) => {}
                    (false, true) => drop(write!(text, ", at least {min}")),
                    (false, false) => drop(write!(text, " from {min} to {max}")),
                }
                text
            }
            Kind::Ratio { min, max } if max == f64::MAX && min == f64::MIN => "a number such as 0.33".to_owned(),
            Kind::Ratio { min, max } => format!("a number from {min} to {max}"),
            Kind::Switch => "true or false".to_owned(),
            Kind::OnlyWith(word) => format!("{word} for on, anything else for off"),
            Kind::UnlessWord(word) => format!("{word} for off, anything else for on"),
            Kind::Text(what) | Kind::Secret(what) => what.to_owned(),
        }
    }
}

/// A key as an operator wrote it, recognised.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) key: &'static Key,
    /// What to tell the operator about the spelling.
    pub(super) remark: Option<Remark>,
}

/// Why a spelling that works here would not work in the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remark {
    /// The documented name of a key that the original reads under another name.
    Alias,
    /// In the file, while the original takes it as `-D` only.
    OnlyAsFlag,
    /// As `-D`, while the original takes it from the file only.
    OnlyInFile,
    /// As `-Dzookeeper.…`, while the original takes it without the prefix.
    WithoutPrefix,
}

/// The name of the `-D` option of a setting; `name` is that in `zoo.cfg`, whole also where the key ends in `*`.
pub(super) fn flag_of(key: &Key, name: &str) -> String {
    match key.spelling {
        Spelling::Bare => name.to_owned(),
        Spelling::File | Spelling::Property => format!("zookeeper.{name}"),
    }
}

/// The key of the table with this exact name, `*` included.
pub(super) fn by_name(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

fn find(name: &str) -> Option<Known> {
    let exact = KEYS.iter().find(|key| key.name == name);
    if let Some(key) = exact.or_else(|| KEYS.iter().find(|key| key.matches(name))) {
        return Some(Known { key, remark: None });
    }
    let (_, effective) = ALIASES.iter().find(|(documented, _)| *documented == name)?;
    Some(Known { key: by_name(effective)?, remark: Some(Remark::Alias) })
}

/// Recognises a key of `zoo.cfg`.
pub(super) fn in_file(name: &str) -> Option<Known> {
    let mut known = find(name)?;
    if known.key.spelling == Spelling::Bare {
        known.remark = Some(Remark::OnlyAsFlag);
    }
    Some(known)
}

/// Recognises the name of a `-D` option.
pub(super) fn in_flag(name: &str) -> Option<Known> {
    /// Read by the original both with and without the prefix.
    const BOTH: [&str; 4] =
        ["fsync.warningthresholdms", "leader.closeSocketAsync", "learner.closeSocketAsync", "learner.asyncSending"];
    match name.strip_prefix("zookeeper.") {
        Some(name) => {
            let mut known = find(name)?;
            match known.key.spelling {
                Spelling::File => known.remark = Some(Remark::OnlyInFile),
                Spelling::Bare => known.remark = Some(Remark::WithoutPrefix),
                Spelling::Property => {}
            }
            Some(known)
        }
        None => find(name).filter(|known| known.key.spelling == Spelling::Bare || BOTH.contains(&known.key.name)),
    }
}

/// The known name closest to a misspelt one, if any is close.
pub(super) fn closest(name: &str) -> Option<&'static str> {
    const MAX_CHARACTERS: usize = 64;
    let name: String = name.strip_prefix("zookeeper.").unwrap_or(name).to_lowercase();
    if name.is_empty() || name.chars().count() > MAX_CHARACTERS {
        return None;
    }
    let limit = name.len().div_ceil(4).max(1);
    let letters = Letters::of(&name);
    let mut best: Option<(usize, &'static str)> = None;
    for candidate in &*CANDIDATES {
        let distance_to = |(other, other_letters): &(String, Letters), added: usize| {
            let is_close = letters.least_distance(other_letters) + added <= limit;
            if is_close { strsim::damerau_levenshtein(&name, other) + added } else { usize::MAX }
        };
        let last = candidate.last.as_ref().map_or(usize::MAX, |last| distance_to(last, 1));
        let distance = distance_to(&candidate.whole, 0).min(last);
        if distance <= limit && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate.name));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// A name that may be meant, in small letters.
struct Candidate {
    name: &'static str,
    whole: (String, Letters),
    /// `purgeInterval` for `autopurge.purgeInterval`: the last part alone counts as one mistake more.
    last: Option<(String, Letters)>,
}

static CANDIDATES: LazyLock<Vec<Candidate>> = LazyLock::new(|| {
    let names = KEYS.iter().map(|key| key.name).chain(ALIASES.iter().map(|(documented, _)| *documented));
    let counted = |text: &str| (text.to_owned(), Letters::of(text));
    let candidate = |name: &'static str| {
        let whole = name.to_lowercase();
        let last = whole.rsplit('.').next().filter(|last| last.len() > 5 && last.len() < whole.len());
        Candidate { name, last: last.map(counted), whole: counted(&whole) }
    };
    names.filter(|name| !name.ends_with('*')).map(candidate).collect()
});

/// How often each letter is in a name; those that have one remainder count as one letter.
struct Letters([u8; 32]);

impl Letters {
    fn of(name: &str) -> Letters {
        let mut counts = [0_u8; 32];
        for letter in name.chars() {
            let count = &mut counts[letter as usize % 32];
            *count = count.saturating_add(1);
        }
        Letters(counts)
    }

    /// No fewer changes make one of these names of the other: each change adds a letter, takes one away, or both. To count letters is much
    /// quicker than to compare names, and a file may be full of names that nobody knows.
    fn least_distance(&self, other: &Letters) -> usize {
        let surplus = |more: &[u8; 32], less: &[u8; 32]| -> usize {
            more.iter().zip(less).map(|(more, less)| usize::from(more.saturating_sub(*less))).sum()
        };
        surplus(&self.0, &other.0).max(surplus(&other.0, &self.0))
    }
}

/// The section of COMPAT.md about configuration keys, as Markdown.
pub fn compat_table() -> String {
    let mut text = String::from(
        "Every key can be written into `zoo.cfg` under its name, or passed as the `-D` option below in `SERVER_JVMFLAGS` or\n\
         `JVMFLAGS`. The file wins over the option. Where Apache ZooKeeper does not read a spelling (keys marked *file* as\n\
         an option, keys without prefix in the file, the documented names below), it is accepted here with a note in the\n\
         log, and a spelling that Apache ZooKeeper does read wins over it.\n",
    );
    for (topic, first, last) in topic_ranges() {
        let _ = write!(
            text,
            "\n### {topic}\n\n| key | `-D` option | default | allowed | status |\n| --- | --- | --- | --- | --- |\n"
        );
        for key in &KEYS[first..last] {
            let flag = match key.spelling {
                Spelling::File => "*file*".to_owned(),
                Spelling::Property => "`zookeeper.`".to_owned(),
                Spelling::Bare => "no prefix".to_owned(),
            };
            let default = if key.default.is_empty() { "–".to_owned() } else { format!("`{}`", key.default) };
            let status = match key.status {
                Status::Used => "used".to_owned(),
                Status::Ensemble => "used in ensembles".to_owned(),
                Status::NoEffect(why) => format!("accepted without effect: {why}"),
                Status::Refused(why) => format!("refused at start: {why}"),
            };
            let _ = writeln!(text, "| `{}` | {flag} | {default} | {} | {status} |", key.name, key.allowed());
        }
    }
    text.push_str(
        "\n### Documented names\n\nNames that the documentation of Apache ZooKeeper gives and its code does not read; \
         accepted here.\n\n| documented | read as |\n| --- | --- |\n",
    );
    for (documented, effective) in ALIASES {
        let _ = writeln!(text, "| `{documented}` | `{effective}` |");
    }
    text
}

/// (heading, first key, key after the last).
fn topic_ranges() -> impl Iterator<Item = (&'static str, usize, usize)> {
    let start = |name: &str| KEYS.iter().position(|key| key.name == name).unwrap_or(KEYS.len());
    TOPICS.iter().enumerate().map(move |(index, (topic, first_key))| {
        let end = TOPICS.get(index + 1).map_or(KEYS.len(), |(_, next)| start(next));
        (*topic, start(first_key), end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_aliases_lead_to_a_key() {
        let mut names: Vec<_> = KEYS.iter().map(|key| key.name).chain(ALIASES.iter().map(|(name, _)| *name)).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for (documented, effective) in ALIASES {
            let known = in_file(documented).unwrap();
            assert_eq!((known.key.name, known.remark), (*effective, Some(Remark::Alias)));
        }
    }

    #[test]
    fn every_key_of_the_table_is_in_the_document_once() {
        let table = compat_table();
        for key in KEYS {
            assert_eq!(table.matches(&format!("\n| `{}` |", key.name)).count(), 1, "{}", key.name);
        }
        assert_eq!(TOPICS[0].1, KEYS[0].name, "the first topic begins with the first key");
        assert!(topic_ranges().all(|(_, first, last)| first < last));
    }

    #[test]
    fn spellings() {
        let file = |name| in_file(name).map(|known| (known.key.name, known.remark));
        let flag = |name| in_flag(name).map(|known| (known.key.name, known.remark));
        assert_eq!(file("tickTime"), Some(("tickTime", None)));
        assert_eq!(file("ticktime").map(|_| ()), None);
        assert_eq!(file("snapCount"), Some(("snapCount", None)));
        assert_eq!(file("zookeeper.snapCount"), None);
        assert_eq!(file("jute.maxbuffer"), Some(("jute.maxbuffer", Some(Remark::OnlyAsFlag))));
        assert_eq!(file("server.1"), Some(("server.*", None)));
        assert_eq!(file("superUser"), Some(("superUser", None)));
        assert_eq!(file("superUser.2"), Some(("superUser.*", None)));
        assert_eq!(flag("zookeeper.snapCount"), Some(("snapCount", None)));
        assert_eq!(flag("snapCount"), None);
        assert_eq!(flag("zookeeper.tickTime"), Some(("tickTime", Some(Remark::OnlyInFile))));
        assert_eq!(flag("jute.maxbuffer"), Some(("jute.maxbuffer", None)));
        assert_eq!(flag("zookeeper.jute.maxbuffer"), Some(("jute.maxbuffer", Some(Remark::WithoutPrefix))));
        assert_eq!(flag("fsync.warningthresholdms"), Some(("fsync.warningthresholdms", None)));
        assert_eq!(flag("zookeeper.fsync.warningthresholdms"), Some(("fsync.warningthresholdms", None)));
    }

    /// As [`closest`], with every name compared.
    fn closest_of_all(name: &str) -> Option<&'static str> {
        let limit = name.len().div_ceil(4).max(1);
        let distances = CANDIDATES.iter().map(|candidate| {
            let last = candidate.last.as_ref().map(|(last, _)| strsim::damerau_levenshtein(name, last) + 1);
            let whole = strsim::damerau_levenshtein(name, &candidate.whole.0);
            (whole.min(last.unwrap_or(usize::MAX)), candidate.name)
        });
        distances.filter(|(distance, _)| *distance <= limit).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
    }

    #[test]
    fn names_that_are_passed_over_are_not_the_closest() {
        for (number, key) in KEYS.iter().enumerate().step_by(12) {
            let mut letters: Vec<char> = key.name.to_lowercase().chars().collect();
            let place = number % (letters.len() - 1);
            letters.swap(place, place + 1);
            let swapped: String = letters.iter().collect();
            letters.remove(place);
            let shorter: String = letters.iter().collect();
            letters.splice(0..letters.len() / 4, "xyz".chars());
            let other: String = letters.iter().collect();
            for name in [swapped, shorter, other] {
                assert_eq!(closest(&name), closest_of_all(&name), "{name}");
            }
        }
    }

    #[test]
    fn misspelt_names_lead_to_the_closest_known_one() {
        for (wrong, right) in [
            ("ticktime", "tickTime"),
            ("tickTiem", "tickTime"),
            ("maxClientCnxn", "maxClientCnxns"),
            ("purgeInterval", "autopurge.purgeInterval"),
            ("autopurge.snapretainCount", "autopurge.snapRetainCount"),
            ("zookeeper.snapCount", "snapCount"),
            ("4lw.command.whitelist", "4lw.commands.whitelist"),
            ("connectionMaxToken", "connectionMaxTokens"),
        ] {
            assert_eq!(closest(wrong), Some(right), "{wrong}");
        }
        for strange in ["", "zookeeper.", "frobnicate", "x", &"tickTime".repeat(1000)] {
            assert_eq!(closest(strange), None, "{strange}");
        }
    }
}
