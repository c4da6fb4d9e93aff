//! The files of the configuration in which servers keep the members, in lives where the members change. Two faults strike them: a file can't
//! be written, or a server starts with an older file. A file appears whole or not at all, so no file is torn.
//!
//! What always holds here:
//! - a server that could not write its files knows this at its next start;
//! - files written by hand are not replaced by older files, because an operator's files count against any log.

use rookeeper_proto::Zxid;
use rookeeper_replica::FoundMembership;
use rookeeper_store::Recovered;
use rookeeper_zab::{Membership, Memberships};

use crate::checkers::{Verdict, durability};
use crate::faults::Sabotage;
use crate::world::World;

/// One write in so many fails, and one start in so many finds an old file.
const ONE_IN: u64 = 4;

/// The files beside the configuration of a server.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigFiles {
    /// The memberships that the last write replaced.
    before: Option<Memberships>,
    /// A write has failed since the members in force were written last.
    is_behind: bool,
    /// The server has found in its log that it is no member.
    pub is_refused: bool,
}

impl World {
    /// A server is about to write a membership that it has proposed or seen proposed, or one that is in force. Says whether it can.
    pub(crate) fn can_write_membership(&mut self, server: usize) -> bool {
        let fails = self.plan.files_fail && !self.healed && self.random.one_in(ONE_IN);
        if fails {
            self.servers[server].config_files.is_behind = true;
            self.figures.note("memberships that could not be written");
            self.note(46, server as u64, 0, || format!("server {} can't write its membership", server + 1));
        }
        !fails
    }

    /// A server has written a membership.
    pub(crate) fn membership_is_written(&mut self, server: usize, memberships: Memberships, is_in_force: bool) {
        let this = &mut self.servers[server];
        this.config_files.is_behind &= !is_in_force;
        this.config_files.before = this.memberships.replace(memberships);
    }

    /// A server is about to start, and finds what somebody has put back.
    pub(crate) fn may_find_old_files(&mut self, server: usize) {
        if !self.plan.files_fail || self.healed || !self.random.one_in(ONE_IN) {
            return;
        }
        let this = &mut self.servers[server];
        let Some(before) = this.config_files.before.take().filter(|before| before.committed.version > Zxid::ZERO)
        else {
            return;
        };
        if before.committed.members.contains_key(&this.id) {
            this.memberships = Some(before);
            self.figures.note("files of an earlier day");
            self.note(47, server as u64, 0, || format!("server {} finds files of an earlier day", server + 1));
        }
    }

    /// The memberships with which a server begins, by its files and its log. None where the server does not begin at all.
    pub(crate) fn begins_with(
        &mut self,
        server: usize,
        files: Memberships,
        recovered: &Recovered,
    ) -> Option<Memberships> {
        let is_by_hand = files.committed.version == Zxid::ZERO && !self.servers[server].config_files.is_behind;
        if !self.plan.reconfigures || is_by_hand {
            return Some(files);
        }
        let before = recovered.report.membership_before.as_deref();
        let found = FoundMembership::in_tree(&recovered.tree, before, false);
        let trusts = self.plan.sabotage == Some(Sabotage::TrustsOldFiles);
        let corrected = found.as_ref().filter(|_| !trusts).and_then(|found| found.corrects(&files));
        let with = corrected.as_ref().unwrap_or(&files);
        let in_log = found.map(|found| found.newest.version);
        let verdict = durability::begins(server + 1, with, in_log).and_then(|()| self.is_in_force(&with.committed));
        self.judge(verdict);
        let Some(corrected) = corrected else { return Some(files) };
        self.figures.note("starts with members of the log");
        let this = &mut self.servers[server];
        if !corrected.committed.members.contains_key(&this.id) {
            this.config_files.is_refused = true;
            return None;
        }
        this.config_files.is_behind &= corrected.last_seen.version > corrected.committed.version;
        this.memberships = Some(corrected.clone());
        Some(corrected)
    }

    /// Checks a membership that a server takes for being in force. The membership is in force, or will be as soon as a server leads: a quorum
    /// of the membership before and a quorum of its own have it.
    fn is_in_force(&self, membership: &Membership) -> Verdict {
        let Some(before) = &self.membership else { return Ok(()) };
        // The first leader gives those that were written by hand a version.
        if membership.version <= before.version || membership.members == before.members {
            return Ok(());
        }
        let knows = (0..self.servers.len()).filter(|server| self.would_know(*server, membership));
        durability::known(&before.quorum(), membership, &knows.map(|server| self.servers[server].id).collect())
    }

    /// Whether a server would know of a membership after a power cut right now.
    pub(crate) fn would_know(&self, server: usize, membership: &Membership) -> bool {
        let files = self.configured(server);
        let in_files = |files: Memberships| files.committed.version.max(files.last_seen.version) >= membership.version;
        files.is_some_and(in_files) || self.log_of_membership(server) >= Some(membership.version)
    }
}
