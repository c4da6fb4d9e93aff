//! What recovery found and did, in words for whoever reads it at three in the morning.

use std::fmt;
use std::path::PathBuf;

use rookeeper_proto::{SessionId, Zxid};

use crate::log_reader::RecordFault;
use crate::names;

/// Where the tree came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origin {
    /// There was nothing: a new database. `expected` is false where `db.autocreate=false` and no `initialize` file vouched for that.
    Empty {
        expected: bool,
    },
    Snapshot {
        name: String,
        nodes: u64,
    },
    /// `snapshot.trust.empty=true` and no snapshot.
    #[default]
    LogsAlone,
}

/// How the reading of a log file ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEnd {
    /// With padding, or exactly with its last record.
    Whole,
    /// It was created and never got a record.
    NoRecords,
    /// Reading stopped before it, where it was told to.
    NotRead,
    /// A record that was being written when the power went. It was never acknowledged.
    Torn { offset: u64, fault: RecordFault, dropped_bytes: u64 },
}

/// A log file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogReport {
    pub name: String,
    pub records: u64,
    /// Those above the snapshot.
    pub replayed: u64,
    pub end: LogEnd,
}

/// Records of errors that carry the zxid of the record before them. They change nothing and are skipped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepeatedErrors {
    pub count: u64,
    /// The log that holds the first one, and its zxid.
    pub first: Option<(String, Zxid)>,
}

impl RepeatedErrors {
    pub(crate) fn count(&mut self, log: Zxid, zxid: Zxid) {
        self.count += 1;
        self.first.get_or_insert_with(|| (names::log(log), zxid));
    }
}

/// Everything recovery found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    pub origin: Origin,
    /// Snapshots that could not be used, newest first, and why.
    pub skipped_snapshots: Vec<(String, String)>,
    pub logs: Vec<LogReport>,
    pub last_zxid: Zxid,
    /// Where the snapshot was begun, if changes from then up to `last_zxid` are in it in part only.
    pub partial_since: Option<Zxid>,
    /// Nodes whose access control lists are missing for that reason.
    pub closed_nodes: Vec<String>,
    pub replayed: u64,
    pub repeated_errors: RepeatedErrors,
    pub digests_checked: u64,
    pub digest_mismatches: u64,
    /// The first transaction after which the tree was not the one its writer had.
    pub first_mismatch: Option<Zxid>,
    /// Whether the digest of the tree at its end was recorded, and so compared.
    pub end_is_compared: bool,
    pub removed_ephemerals: Vec<(SessionId, String)>,
    /// Unfinished or empty files of servers that were stopped, removed or (when only looking) to be removed.
    pub removed_files: Vec<PathBuf>,
    /// Names in the directories that nobody knows. They are left alone.
    pub strays: Vec<PathBuf>,
    /// What `/zookeeper/config` said before the last reconfiguration that was replayed.
    pub membership_before: Option<Vec<u8>>,
}

impl RecoveryReport {
    /// What an operator should look at, one sentence each. Empty after an ordinary start.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, reason) in &self.skipped_snapshots {
            warnings.push(format!("{name} was not used: {reason}"));
        }
        for log in &self.logs {
            if let LogEnd::Torn { offset, fault, dropped_bytes } = &log.end {
                let name = &log.name;
                warnings.push(format!(
                    "{name} ends at offset {offset}: {fault}. {dropped_bytes} bytes of an unfinished write were dropped, no valid \
                     record follows them"
                ));
            }
        }
        if let Some(since) = self.partial_since {
            let last = self.last_zxid;
            warnings.push(format!(
                "the snapshot was taken while the data changed, and the log of that time is missing: of the changes after {since} and up to \
                 {last} some are in it and others are not, and nothing later is. A standalone server takes it as it is, unless \
                 snapshot.trust.partial=false; a member of an ensemble refuses it"
            ));
        }
        if let Some(node) = self.closed_nodes.first() {
            warnings.push(format!(
                "the access control lists of {} nodes are missing too (the first is {node}): only a super user can use them, until setAcl",
                self.closed_nodes.len()
            ));
        }
        if let RepeatedErrors { count, first: Some((log, zxid)) } = &self.repeated_errors {
            warnings.push(format!(
                "{count} records of failed requests carry the zxid of the record before them (the first in {log}, {zxid}): another \
                 server wrote them, they change nothing and were skipped"
            ));
        }
        if let Some(zxid) = self.first_mismatch {
            let (mismatches, checked) = (self.digest_mismatches, self.digests_checked);
            warnings.push(format!(
                "{mismatches} of {checked} tree digests differ, the first after transaction {zxid}: this tree is not the one its writer \
                 had; compare it with other members"
            ));
        }
        for stray in &self.strays {
            warnings.push(format!("{} is neither a log nor a snapshot by its name; it is left alone", stray.display()));
        }
        if self.origin == (Origin::Empty { expected: false }) {
            warnings.push(
                "the database is empty, db.autocreate=false, and there is no file initialize: as a member of an ensemble this server waits \
                 for a leader that has the data, and its vote does not count until then. If the whole ensemble is new, stop this \
                 server, create an empty file initialize in its dataDir and start it again"
                    .to_owned(),
            );
        }
        if self.origin == Origin::LogsAlone {
            warnings.push(
                "there is no snapshot; the tree comes from the logs alone, as snapshot.trust.empty allows".to_owned(),
            );
        }
        warnings
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Empty { .. } => writeln!(f, "an empty database")?,
            Origin::Snapshot { name, nodes } => writeln!(f, "{name}: {nodes} nodes")?,
            Origin::LogsAlone => writeln!(f, "no snapshot")?,
        }
        for LogReport { name, records, replayed, end } in &self.logs {
            let end = match end {
                LogEnd::Whole => "whole".to_owned(),
                LogEnd::NoRecords => "no records".to_owned(),
                LogEnd::NotRead => "read as far as was asked for".to_owned(),
                LogEnd::Torn { offset, fault, dropped_bytes } => {
                    format!("cut at offset {offset} ({fault}; {dropped_bytes} bytes dropped)")
                }
            };
            writeln!(f, "{name}: {records} records, {replayed} replayed, {end}")?;
        }
        let (checked, mismatches) = (self.digests_checked, self.digest_mismatches);
        writeln!(f, "last transaction {}; {checked} digests checked, {mismatches} differ", self.last_zxid)?;
        if !self.removed_ephemerals.is_empty() {
            writeln!(f, "{} ephemeral nodes of sessions that are gone were removed", self.removed_ephemerals.len())?;
        }
        for file in &self.removed_files {
            writeln!(f, "{}: unfinished, of no use", file.display())?;
        }
        for warning in self.warnings() {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}
