//! Changes at once, beside the polling of the original: `apps/delta?since=VERSION&wait=SECONDS`.
//!
//! Each answer with everything, or with a delta, names its version. Whoever asks with that version hears what came after it, as soon as there is
//! something, and the next version. The original knows neither parameter and answers with its ordinary delta, without a version: so clients tell both apart.
//!
//! What always holds here: a version names one moment of one process; who follows the versions misses no change, or is told to fetch everything (410).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::application::Applications;
use crate::recent::Since;
use crate::registry::Registry;

/// The header with the version.
pub const VERSION_HEADER: &str = "x-rookeeper-version";

/// Where nothing is said of the time.
const USUAL_WAIT_S: u64 = 30;

/// Nobody waits longer, so that a connection is never silent for long.
const LONGEST_WAIT_S: u64 = 60;

/// Answers that several clients are likely to want.
const KEPT: usize = 8;

/// A moment of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Of the process.
    pub(crate) identity: u64,
    /// Of the first change that came later.
    pub(crate) number: u64,
}

impl Version {
    /// Grows with each change.
    pub fn number(self) -> u64 {
        self.number
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}-{}", self.identity, self.number)
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Version, ()> {
        let (identity, number) = text.split_once('-').ok_or(())?;
        let identity = u64::from_str_radix(identity, 16).map_err(|_| ())?;
        Ok(Version { identity, number: number.parse().map_err(|_| ())? })
    }
}

/// A question for what came after a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Follows {
    /// None for what is no version, and so is none of this process.
    pub since: Option<Version>,
    /// How long nothing may come.
    pub wait_ms: u64,
}

impl Follows {
    /// None where nobody follows; an error for a time that is none.
    pub fn read<'a>(parameter: impl Fn(&str) -> Option<&'a str>) -> Result<Option<Follows>, ()> {
        let Some(since) = parameter("since") else { return Ok(None) };
        let wait_s = match parameter("wait") {
            None => 0,
            Some("") => USUAL_WAIT_S,
            Some(text) => text.strip_suffix('s').unwrap_or(text).parse().map_err(|_| ())?,
        };
        Ok(Some(Follows { since: since.parse().ok(), wait_ms: wait_s.min(LONGEST_WAIT_S) * 1000 }))
    }
}

/// What came after a version.
#[derive(Debug)]
pub(super) enum Came {
    Nothing(Arc<Applications>),
    /// The version is none of this process, too old, or far behind: everything is to be fetched.
    Unknown,
    Changes(Arc<Applications>),
}

/// The last answers, by the number from which on they tell.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// For which number all of them are.
    at: u64,
    answers: Vec<(u64, Arc<Applications>)>,
}

impl Registry {
    /// The moment that lists and deltas show now.
    pub fn mark(&self) -> Version {
        Version { identity: self.settings.identity, number: self.recent.next() }
    }

    pub(super) fn since(&mut self, version: Option<Version>) -> Came {
        let now = self.mark();
        let Some(version) = version.filter(|version| version.identity == now.identity) else { return Came::Unknown };
        if self.told_since.at != now.number {
            self.told_since = Told { at: now.number, answers: Vec::new() };
        }
        let is_news = version.number != now.number;
        let told = self.told_since.answers.iter().find(|(number, _)| *number == version.number);
        if let Some((_, answer)) = told {
            return if is_news { Came::Changes(answer.clone()) } else { Came::Nothing(answer.clone()) };
        }
        let records = match self.recent.since(version.number) {
            Since::Unknown => return Came::Unknown,
            Since::Nothing => Vec::new(),
            Since::Changes(records) => records.into_iter().cloned().collect(),
        };
        let hash = Some(self.holdings.counts().hash());
        let answer = Arc::new(Applications::group(now.number as i64, hash, records));
        let answers = &mut self.told_since.answers;
        if answers.len() == KEPT {
            answers.remove(0);
        }
        answers.push((version.number, answer.clone()));
        if is_news { Came::Changes(answer) } else { Came::Nothing(answer) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::encoding::{Format, read_instance};
    use crate::{Caller, Heartbeat, Now, Settings, Status};

    #[test]
    fn what_the_original_changes_without_telling_is_heard_by_those_who_follow() {
        let now = Now { wall_ms: 1000, steady_ms: 1000 };
        let mut registry = Registry::new(Settings::default(), now);
        let text = r#"{"instance":{"instanceId":"i","hostName":"h","app":"A","ipAddr":"1.2.3.4","lastDirtyTimestamp":5,
            "dataCenterInfo":{"@class":"com.netflix.appinfo.MyDataCenterInfo","name":"MyOwn"}}}"#;
        let instance = read_instance(Format::Json, text.as_bytes(), "A", now).unwrap();
        registry.register(instance, Caller::Client, now);
        let later = Now { wall_ms: 200_000, steady_ms: 200_000 };
        registry.advance(later);
        assert!(registry.delta(later).applications.is_empty(), "the registration is forgotten");
        let version = registry.mark();
        // Another server knows a newer registration, and an override.
        let heartbeat = registry.renew("A", "i", Some(9), Some(Status::OutOfService), Caller::Replica, later);
        assert!(matches!(heartbeat, Heartbeat::Outdated));
        let Came::Changes(changes) = registry.since(Some(version)) else { panic!("nothing came") };
        let instance = &changes.applications[0].records[0].instance;
        assert_eq!(instance.overridden_status, Status::OutOfService);
        assert!(registry.delta(later).applications.is_empty(), "the original's delta is as it was");
    }
}
