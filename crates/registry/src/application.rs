//! What readers get: instances and their leases as they stood at one moment, shared and never changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::encoding::{Assembled, Encoded};
use crate::instance::{ActionType, Instance};
use crate::lease::LeaseTimes;
use crate::status::Status;

/// An instance as it is told.
#[derive(Debug, Clone)]
pub struct Record {
    pub instance: Arc<Instance>,
    pub times: LeaseTimes,
    /// When the registry last changed the instance, by its own clock; milliseconds since the Unix epoch.
    pub updated_ms: i64,
    pub action: ActionType,
}

/// The instances of one application. Encoded at most once in each form.
#[derive(Debug)]
pub struct Application {
    pub name: Arc<str>,
    pub records: Vec<Record>,
    pub(crate) encoded: Encoded,
}

impl Application {
    pub(crate) fn new(name: Arc<str>, records: Vec<Record>) -> Application {
        Application { name, records, encoded: Encoded::default() }
    }
}

/// A list of applications. Put together at most once in each form.
#[derive(Debug)]
pub struct Applications {
    /// 1 for the whole registry, -1 for a look-up by name, the number of deltas so far for a delta.
    pub version: i64,
    /// For each status that occurs, in the order of the names, the status and how often it occurs. It counts, it does not identify: two registries
    /// with other instances may have the same hash. For the whole registry and its deltas it is that of the whole registry.
    pub hash: String,
    pub applications: Vec<Arc<Application>>,
    pub(crate) assembled: Assembled,
}

impl Applications {
    pub(crate) fn new(version: i64, hash: String, applications: Vec<Arc<Application>>) -> Applications {
        Applications { version, hash, applications, assembled: Assembled::default() }
    }

    /// Groups records by application; within one the order stays.
    pub(crate) fn group(version: i64, hash: Option<String>, records: impl IntoIterator<Item = Record>) -> Applications {
        let mut groups: BTreeMap<Arc<str>, Vec<Record>> = BTreeMap::new();
        let mut counts = Counts::default();
        for record in records {
            counts.add(record.instance.status);
            groups.entry(record.instance.app.clone()).or_default().push(record);
        }
        let applications = groups.into_iter().map(|(name, records)| Arc::new(Application::new(name, records)));
        Applications::new(version, hash.unwrap_or_else(|| counts.hash()), applications.collect())
    }
}

/// How many instances have each status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts([u64; Status::ALL.len()]);

impl Counts {
    pub fn add(&mut self, status: Status) {
        self.0[status as usize] += 1;
    }

    pub fn remove(&mut self, status: Status) {
        self.0[status as usize] -= 1;
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub fn of(&self, status: Status) -> u64 {
        self.0[status as usize]
    }

    pub fn hash(&self) -> String {
        let mut hash = String::new();
        for status in Status::ALL {
            if self.of(status) > 0 {
                hash.push_str(&format!("{}_{}_", status.name(), self.of(status)));
            }
        }
        hash
    }
}
