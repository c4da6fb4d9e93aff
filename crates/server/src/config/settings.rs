//! All settings of one start, gathered from flags, command line and file, each checked against the table of keys.
//!
//! After [`Settings::gather`] every value that is present is valid: a wrong value of a file key was an error, as in the
//! original; a wrong value of a property was reported and dropped, so that its default applies, as in the original.
//! Of two spellings of one key, one that the original reads wins over one that it does not; among equals the file wins
//! over flags, and the later over the earlier.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::environment::Flag;
use super::error::{ConfigError, Fault, Notice, Place, excerpt};
use super::keys::{self, Key, Kind, Remark, Spelling, Status};

/// A file full of nonsense must not fill the log.
const MAX_NOTICES: usize = 500;

/// `key=value` as found somewhere.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) place: Place,
}

impl From<&Flag> for Found {
    fn from((variable, name, value): &Flag) -> Found {
        Found { name: name.clone(), value: value.clone(), place: Place::Flag(variable) }
    }
}

/// A recognised setting.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) key: &'static Key,
    /// Name in `zoo.cfg`; for a key ending in `*` the whole name.
    pub(super) name: String,
    pub(super) value: String,
    pub(super) place: Place,
    written: String,
    remark: Option<Remark>,
}

impl Setting {
    /// The value, unless it is a secret.
    pub(super) fn shown(&self) -> &str {
        if matches!(self.key.kind, Kind::Secret(_)) { "…" } else { &self.value }
    }

    pub(super) fn fault(&self, problem: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault::new(problem, remedy).at(&self.place).about(&self.name, self.shown())
    }

    fn described(&self) -> String {
        format!("{}={} ({})", self.written, excerpt(self.shown()), self.place)
    }
}

/// The settings, and the notices that came up while reading them.
#[derive(Debug, Default)]
pub(super) struct Settings {
    values: BTreeMap<String, Setting>,
    notices: RefCell<Vec<Notice>>,
    /// Names asked for, so that a test can compare them with the table.
    asked: RefCell<BTreeSet<&'static str>>,
}

impl Settings {
    /// `flags` are `-D` options by their full name, `file` what `zoo.cfg` or the command line says.
    pub(super) fn gather(flags: Vec<Found>, file: Vec<Found>, notices: Vec<Notice>) -> Result<Settings, ConfigError> {
        let settings = Settings { notices: RefCell::new(notices), ..Settings::default() };
        settings.note_repetitions(&file);
        let mut found: Vec<Setting> = flags.into_iter().filter_map(|flag| settings.recognise_flag(flag)).collect();
        found.extend(file.into_iter().filter_map(|entry| settings.recognise(entry, keys::in_file)));
        settings.resolve(found).checked()
    }

    fn note_repetitions(&self, file: &[Found]) {
        let mut seen: BTreeMap<&str, &Found> = BTreeMap::new();
        for entry in file {
            if let Some(earlier) = seen.insert(&entry.name, entry) {
                self.warn(format!(
                    "{}: {} was already set at {}; this one counts",
                    entry.place, entry.name, earlier.place
                ));
            }
        }
    }

    fn recognise_flag(&self, flag: Found) -> Option<Setting> {
        let place = flag.place.clone();
        let setting = self.recognise(flag, keys::in_flag)?;
        if matches!(setting.key.name, "server.*" | "group*" | "weight*" | "dynamicConfigFile") {
            self.warn(format!("{place}: {} is ignored; members can only be given in a file", setting.written));
            return None;
        }
        Some(setting)
    }

    fn recognise(&self, found: Found, lookup: impl Fn(&str) -> Option<keys::Known>) -> Option<Setting> {
        let Found { name: written, value, place } = found;
        let Some(keys::Known { key, remark }) = lookup(&written) else {
            // A flag without the prefix belongs to Java or to one of its libraries.
            let foreign = matches!(place, Place::Flag(_)) && !written.starts_with("zookeeper.");
            if !foreign && self.notices.borrow().len() < MAX_NOTICES {
                let suggestion = keys::closest(&written)
                    .map_or_else(|| "nothing is known by that name".to_owned(), |name| format!("did you mean {name}?"));
                self.warn(format!("{place}: unknown key {} is ignored; {suggestion}", excerpt(&written)));
            }
            return None;
        };
        let name = match key.name.ends_with('*') {
            true => written.strip_prefix("zookeeper.").unwrap_or(&written).to_owned(),
            false => key.name.to_owned(),
        };
        Some(Setting { key, name, value, place, written, remark })
    }

    /// Keeps one setting per name.
    fn resolve(mut self, found: Vec<Setting>) -> Settings {
        let (unread, read): (Vec<_>, Vec<_>) = found.into_iter().partition(|setting| setting.remark.is_some());
        let mut lost = Vec::new();
        for setting in unread.into_iter().chain(read) {
            let same_source = |earlier: &Setting| {
                matches!((&earlier.place, &setting.place), (Place::Line { .. }, Place::Line { .. }))
            };
            if let Some(earlier) = self.values.insert(setting.name.clone(), setting.clone())
                && !same_source(&earlier)
                && earlier.value != setting.value
            {
                lost.push((earlier, setting));
            }
        }
        for (loser, winner) in lost {
            self.notice(Notice::info(format!("{} is overridden by {}", loser.described(), winner.described())));
        }
        for setting in self.values.values() {
            let remark = match setting.remark {
                None => continue,
                Some(Remark::Alias) => format!("Apache ZooKeeper ignores this name; it is read as {}", setting.name),
                Some(Remark::OnlyAsFlag) => {
                    format!("Apache ZooKeeper takes it as -D{} only; it is accepted here", setting.key.flag())
                }
                Some(Remark::OnlyInFile) => {
                    "Apache ZooKeeper takes it from zoo.cfg only; it is accepted here".to_owned()
                }
                Some(Remark::WithoutPrefix) => {
                    format!("Apache ZooKeeper takes it as -D{} only; it is accepted here", setting.key.flag())
                }
            };
            self.notice(Notice::info(format!("{}: {remark}", setting.described())));
        }
        self
    }

    /// Checks every value against its kind, in the order of the places so that the first wrong line is named.
    fn checked(mut self) -> Result<Settings, ConfigError> {
        let mut settings: Vec<_> = std::mem::take(&mut self.values).into_values().collect();
        settings.sort_by_key(|setting| match &setting.place {
            Place::Line { line, .. } => *line,
            _ => 0,
        });
        for setting in settings {
            let strict = setting.key.spelling == Spelling::File;
            let harmless = matches!(setting.key.status, Status::NoEffect(_));
            let keep = match wrong(&setting) {
                None => true,
                Some(problem) if strict => {
                    let mut remedy = format!("Allowed: {}.", setting.key.allowed());
                    if setting.value.contains('#') {
                        remedy.push_str(" A comment must stand on a line of its own.");
                    }
                    return Err(setting.fault(problem, remedy).into());
                }
                Some(_) if harmless => true,
                Some(problem) => {
                    let (allowed, default) = (setting.key.allowed(), setting.key.default);
                    match setting.key.kind {
                        Kind::Switch | Kind::OnlyWith(_) | Kind::UnlessWord(_) => {
                            self.warn(format!("{}: {problem}; allowed: {allowed}", setting.described()));
                            true
                        }
                        _ => {
                            let described = setting.described();
                            self.warn(format!(
                                "{described}: {problem}; the default {default} is used; allowed: {allowed}"
                            ));
                            false
                        }
                    }
                }
            };
            if keep {
                self.values.insert(setting.name.clone(), setting);
            }
        }
        Ok(self)
    }

    pub(super) fn notice(&self, notice: Notice) {
        let mut notices = self.notices.borrow_mut();
        match notices.len() {
            MAX_NOTICES => notices.push(Notice::warn("there are more notices about the configuration")),
            count if count < MAX_NOTICES => notices.push(notice),
            _ => {}
        }
    }

    pub(super) fn warn(&self, text: String) {
        self.notice(Notice::warn(text));
    }

    pub(super) fn into_notices(self) -> Vec<Notice> {
        self.notices.into_inner()
    }

    #[cfg(test)]
    pub(super) fn asked(&self) -> BTreeSet<&'static str> {
        self.asked.borrow().clone()
    }

    fn key(&self, name: &str) -> &'static Key {
        let key = keys::by_name(name).expect("the code asks for keys of the table only");
        self.asked.borrow_mut().insert(key.name);
        key
    }

    /// What was set, if anything.
    pub(super) fn setting(&self, name: &str) -> Option<&Setting> {
        let key = self.key(name);
        self.values.get(key.name)
    }

    /// All settings of a key that ends in `*`.
    pub(super) fn family(&self, name: &str) -> impl Iterator<Item = &Setting> {
        let key = self.key(name);
        self.values.values().filter(move |setting| std::ptr::eq(setting.key, key))
    }

    /// Every setting.
    pub(super) fn all(&self) -> impl Iterator<Item = &Setting> {
        self.values.values()
    }

    /// The text that was set, or the default; an empty default is none.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let default = Some(self.key(name).default).filter(|default| !default.is_empty());
        self.setting(name).map(|setting| setting.value.as_str()).or(default)
    }

    /// The number that was set, or the default, unless that depends on something else.
    pub(super) fn number_if_any(&self, name: &str) -> Option<i64> {
        let key = self.key(name);
        let set = self.setting(name).and_then(|setting| number(key, &setting.value));
        set.or_else(|| number(key, key.default))
    }

    /// The number that was set, or the default.
    pub(super) fn number(&self, name: &str) -> i64 {
        self.number_if_any(name).expect("the table gives this key a number as default")
    }

    /// The number, 0 for a negative one.
    pub(super) fn whole(&self, name: &str) -> u32 {
        u32::try_from(self.number(name).max(0)).unwrap_or(u32::MAX)
    }

    /// The number, 0 for a negative one.
    pub(super) fn long(&self, name: &str) -> u64 {
        u64::try_from(self.number(name)).unwrap_or(0)
    }

    /// The number, none when it is 0 or less, which switches the matter off.
    pub(super) fn positive(&self, name: &str) -> Option<u32> {
        Some(self.whole(name)).filter(|number| *number > 0)
    }

    pub(super) fn ratio(&self, name: &str) -> f64 {
        let key = self.key(name);
        let set = self.setting(name).and_then(|setting| setting.value.parse().ok());
        set.or_else(|| key.default.parse().ok()).expect("the table gives this key a number as default")
    }

    /// Whether it is on.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.flag_if_set(name).unwrap_or_else(|| on(self.key(name).kind, self.key(name).default))
    }

    /// Whether it is on, if it was set at all.
    pub(super) fn flag_if_set(&self, name: &str) -> Option<bool> {
        let kind = self.key(name).kind;
        self.setting(name).map(|setting| on(kind, &setting.value))
    }
}

fn on(kind: Kind, value: &str) -> bool {
    match kind {
        Kind::OnlyWith(word) => value == word,
        Kind::UnlessWord(word) => value != word,
        _ => value.eq_ignore_ascii_case("true"),
    }
}

/// Java's `Integer.parseInt` for file keys, `Integer.getInteger` for properties, which also takes hexadecimal and octal
/// numbers.
fn number(key: &Key, value: &str) -> Option<i64> {
    let number = match key.spelling {
        Spelling::File => value.parse().ok()?,
        Spelling::Property | Spelling::Bare => decode(value)?,
    };
    match key.kind {
        Kind::Number { min, max, .. } => (min..=max).contains(&number).then_some(number),
        _ => None,
    }
}

fn decode(value: &str) -> Option<i64> {
    let (negative, digits) = match value.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, value.strip_prefix('+').unwrap_or(value)),
    };
    let hexadecimal =
        digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")).or_else(|| digits.strip_prefix('#'));
    let (digits, radix) = match (hexadecimal, digits.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(octal)) if !octal.is_empty() => (octal, 8),
        _ => (digits, 10),
    };
    // A second sign would be taken by the parser.
    if !digits.starts_with(|character: char| character.is_ascii_hexdigit()) {
        return None;
    }
    let magnitude = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -magnitude } else { magnitude })
}

/// What is wrong with the value, in the original's words where there are any.
fn wrong(setting: &Setting) -> Option<String> {
    let Setting { key, value, .. } = setting;
    let shown = excerpt(value);
    match key.kind {
        Kind::Number { max, .. } if number(key, value).is_none() => Some(match value.parse::<i64>() {
            Ok(0) if key.name == "tickTime" => "tickTime is not set".to_owned(),
            Ok(port) if max == 65535 && i32::try_from(port).is_ok() => format!("port out of range:{port}"),
            Ok(number) if max == i64::MAX || i32::try_from(number).is_ok() => "out of range".to_owned(),
            _ => format!("For input string: \"{shown}\""),
        }),
        Kind::Ratio { min, max } => match value.parse::<f64>() {
            Ok(ratio) if (min..=max).contains(&ratio) => None,
            Ok(_) => Some("out of range".to_owned()),
            Err(_) => Some(format!("For input string: \"{shown}\"")),
        },
        Kind::Switch if !value.eq_ignore_ascii_case("true") && !value.eq_ignore_ascii_case("false") => {
            Some(match key.spelling {
                Spelling::File => format!("Invalid option {shown} for {}. Choose 'true' or 'false.'", setting.name),
                Spelling::Property | Spelling::Bare => "this counts as false".to_owned(),
            })
        }
        Kind::OnlyWith(word) if value != word && value != opposite(word) => Some("this counts as off".to_owned()),
        Kind::UnlessWord(word) if value != word && value != opposite(word) => Some("this counts as on".to_owned()),
        _ => None,
    }
}

fn opposite(word: &str) -> &'static str {
    match word {
        "yes" => "no",
        "no" => "yes",
        _ => "true",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize, name: &str, value: &str) -> Found {
        let place = Place::Line { file: "zoo.cfg".to_owned(), line: number };
        Found { name: name.to_owned(), value: value.to_owned(), place }
    }

    fn flag(name: &str, value: &str) -> Found {
        Found { name: name.to_owned(), value: value.to_owned(), place: Place::Flag("JVMFLAGS") }
    }

    fn gather(flags: &[(&str, &str)], file: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let flags = flags.iter().map(|(name, value)| flag(name, value)).collect();
        let file = file.iter().enumerate().map(|(index, (name, value))| line(index + 1, name, value)).collect();
        Settings::gather(flags, file, Vec::new())
    }

    fn texts(settings: Settings) -> Vec<String> {
        settings.into_notices().into_iter().map(|notice| notice.text).collect()
    }

    #[test]
    fn the_file_wins_over_a_flag() {
        let settings = gather(&[("zookeeper.snapCount", "5")], &[("snapCount", "7")]).unwrap();
        assert_eq!(settings.number("snapCount"), 7);
        assert_eq!(
            texts(settings),
            ["zookeeper.snapCount=5 (-D in JVMFLAGS) is overridden by snapCount=7 (zoo.cfg:1)"]
        );
    }

    #[test]
    fn a_spelling_that_the_original_reads_wins_over_one_that_it_does_not() {
        let settings = gather(&[("jute.maxbuffer", "0x400")], &[("jute.maxbuffer", "2048")]).unwrap();
        assert_eq!(settings.number("jute.maxbuffer"), 1024);
        let settings = gather(&[], &[("throttled_op_wait_time", "5"), ("throttledOpWaitTime", "6")]).unwrap();
        assert_eq!(settings.number("throttled_op_wait_time"), 5);
        let settings = gather(&[("zookeeper.tickTime", "5")], &[]).unwrap();
        assert_eq!(settings.number("tickTime"), 5);
        assert_eq!(
            texts(settings),
            ["zookeeper.tickTime=5 (-D in JVMFLAGS): Apache ZooKeeper takes it from zoo.cfg only; it is accepted here"]
        );
    }

    #[test]
    fn the_last_of_a_repeated_key_wins_with_a_warning() {
        let settings = gather(&[], &[("tickTime", "1000"), ("snapCount", "9"), ("tickTime", "2000")]).unwrap();
        assert_eq!(settings.number("tickTime"), 2000);
        assert_eq!(texts(settings), ["zoo.cfg:3: tickTime was already set at zoo.cfg:1; this one counts"]);
    }

    #[test]
    fn unknown_keys_warn_and_foreign_flags_do_not() {
        let settings =
            gather(&[("java.net.preferIPv4Stack", "true"), ("zookeeper.snapcount", "9")], &[("tickTiem", "1")])
                .unwrap();
        assert_eq!(
            texts(settings),
            [
                "-D in JVMFLAGS: unknown key zookeeper.snapcount is ignored; did you mean snapCount?",
                "zoo.cfg:1: unknown key tickTiem is ignored; did you mean tickTime?",
            ]
        );
    }

    #[test]
    fn a_wrong_number_of_a_property_warns_and_leaves_the_default() {
        let settings = gather(&[], &[("snapCount", "many"), ("snapshotSizeFactor", "a third")]).unwrap();
        assert_eq!(settings.number("snapCount"), 100_000);
        assert_eq!(settings.ratio("snapshotSizeFactor"), 0.33);
        assert_eq!(
            texts(settings),
            [
                "snapCount=many (zoo.cfg:1): For input string: \"many\"; the default 100000 is used; allowed: a whole number of \
             transactions, 2 or more",
                "snapshotSizeFactor=a third (zoo.cfg:2): For input string: \"a third\"; the default 0.33 is used; allowed: a number \
             such as 0.33",
            ]
        );
    }

    #[test]
    fn words_of_properties_mean_what_they_mean_in_the_original() {
        for (name, value, expected, warns) in [
            ("forceSync", "no", false, false),
            ("forceSync", "yes", true, false),
            ("forceSync", "false", true, true),
            ("skipACL", "yes", true, false),
            ("skipACL", "true", false, true),
            ("digest.enabled", "TRUE", true, false),
            ("digest.enabled", "yes", false, true),
            ("enforceQuota", "False", false, false),
        ] {
            let settings = gather(&[], &[(name, value)]).unwrap();
            assert_eq!(settings.flag(name), expected, "{name}={value}");
            assert_eq!(!texts(settings).is_empty(), warns, "{name}={value}");
        }
    }

    #[test]
    fn a_wrong_file_key_names_everything_one_needs() {
        let error = gather(&[], &[("dataDir", "/data"), ("tickTime", "2000 # ms")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid configuration: zoo.cfg:2: tickTime=2000 # ms: For input string: \"2000 # ms\"\n  \
             Allowed: a whole number of milliseconds, at least 1. A comment must stand on a line of its own."
        );
        for (value, problem) in [
            ("70000", "port out of range:70000"),
            ("99999999999", "For input string: \"99999999999\""),
            ("0x10", "For input string: \"0x10\""),
            ("", "For input string: \"\""),
        ] {
            assert_eq!(gather(&[], &[("clientPort", value)]).unwrap_err().fault().problem, problem);
        }
    }

    #[test]
    fn the_first_wrong_line_is_named() {
        let error = gather(&[], &[("tickTime", "x"), ("clientPort", "y")]).unwrap_err();
        assert_eq!(error.fault().setting.as_deref(), Some("tickTime=x"));
    }

    #[test]
    fn properties_take_the_number_forms_of_java() {
        for (text, number) in [
            ("10", Some(10)),
            ("+10", Some(10)),
            ("-10", Some(-10)),
            ("0x10", Some(16)),
            ("0XfF", Some(255)),
            ("#10", Some(16)),
            ("-0x10", Some(-16)),
            ("010", Some(8)),
            ("0", Some(0)),
            ("", None),
            ("-", None),
            ("0x", None),
            ("+-1", None),
            ("0x-1", None),
            ("1 ", None),
            ("9223372036854775808", None),
        ] {
            assert_eq!(decode(text), number, "{text:?}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let superuser = [("DigestAuthenticationProvider.superDigest", "super:secret")];
        let settings =
            gather(&[("zookeeper.DigestAuthenticationProvider.superDigest", "super:other")], &superuser).unwrap();
        let notices = texts(settings).join("\n");
        assert!(
            notices.contains("overridden") && !notices.contains("secret") && !notices.contains("other"),
            "{notices}"
        );
    }

    #[test]
    fn members_cannot_come_from_flags() {
        let settings = gather(&[("zookeeper.server.1", "a:1:2")], &[]).unwrap();
        assert_eq!(settings.family("server.*").count(), 0);
        assert_eq!(
            texts(settings),
            ["-D in JVMFLAGS: zookeeper.server.1 is ignored; members can only be given in a file"]
        );
    }
}
