//! One simulated server: the shipping replica on a simulated disk, with a storage that does what it is asked in order and takes its time.
//!
//! What always holds here: outputs are carried out in the order in which they are polled; the storage answers in the order in which it
//! was asked, and only for what it has done; a process that ended takes nothing with it but what its disk has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use rookeeper_proto::election::Notification;
use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::{Epoch, ServerId, Txn, TxnRecord, Zxid};
use rookeeper_replica::{
    Connection, EnsembleSettings, Epochs, Input, Output, Reaping, Replica, Serving, Settings, Shared, Time,
};
use rookeeper_store::catch_up::{CatchUpStart, plan_catch_up};
use rookeeper_store::epoch_files::{ACCEPTED, CURRENT, INITIALIZE, read_epoch};
use rookeeper_store::log_reader::{LogReader, Next};
use rookeeper_store::member::read_epochs;
use rookeeper_store::names::{self, Listing};
use rookeeper_store::recovery::UNEXPECTED_EMPTY;
use rookeeper_store::truncate::truncate;
use rookeeper_store::{
    Directories, Disk, LogOptions, LogWriter, Purger, RecoveryOptions, RollLimits, SimDisk, SnapshotOptions,
    StoreError, recover, write_snapshot,
};
use rookeeper_tree::access::AccessConfig;
use rookeeper_zab::link::MAX_PACKET_BYTES;
use rookeeper_zab::{LinkId, Membership, Memberships, Quorum, SyncPlan};

use crate::checkers::durability::{self, Promises};
use crate::faults::Sabotage;
use crate::network::Item;
use crate::storage::Job;
use crate::world::{Event, MS, World};

/// Where the wall clocks begin.
const WALL_MS: i64 = 1_700_000_000_000;
/// A server may fail to start this often before it is a bug; a disk without room is one reason.
const MAX_START_FAILURES: u32 = 200;
/// One commit in so many is checked by reading the disks of a quorum.
const DEEP_CHECK: u64 = 400;

#[derive(Debug)]
pub(crate) struct Server {
    pub id: ServerId,
    pub disk: SimDisk,
    pub directories: Directories,
    /// Counts starts; what belongs to an earlier one is late.
    pub life: u32,
    pub process: Option<Process>,
    /// False while the whole host is off.
    pub powered: bool,
    pub frozen: bool,
    /// What waits for a frozen process.
    pub deferred: VecDeque<Event>,
    /// How far its wall clock is off.
    pub wall_offset_ms: i64,
    monotonic_offset_ms: i64,
    /// The disk takes this many times as long.
    pub slowness: i64,
    /// Nothing that the storage is at ends before.
    pub disk_hangs_until_us: i64,
    pub promises: Promises,
    /// The transactions of its log, durable or not.
    pub log: BTreeMap<Zxid, Arc<[u8]>>,
    start_failures: u32,
    /// What the files of its configuration say, once they were changed.
    pub memberships: Option<Memberships>,
    /// Where the last snapshot of a leader ended that took the place of its history.
    pub installed: Zxid,
    /// A leader's snapshot is on its disk that it has not served behind yet.
    pub has_foreign_snapshot: bool,
    /// Its operator has taken it out of service.
    pub retired: bool,
    /// It has lost its disk, which had everything up to here, and has not everything again.
    pub lost: Option<Zxid>,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub shared: Arc<Shared>,
    pub replica: Replica,
    pub writer: LogWriter,
    pub jobs: VecDeque<Job>,
    pub busy: bool,
    tick_at_us: i64,
    pub serving: Serving,
    pub applied: Zxid,
    pub purger: Purger,
    pub snapshot_due: bool,
    /// What the replica goes by, where it has said so.
    pub memberships: Option<Arc<Memberships>>,
}

impl Server {
    pub fn new(number: usize, seed: u64, monotonic_offset_ms: i64) -> Server {
        let disk = SimDisk::new(seed);
        let directories = prepare(&disk);
        Server {
            id: ServerId(number as i64 + 1),
            disk,
            directories,
            life: 0,
            process: None,
            powered: true,
            frozen: false,
            deferred: VecDeque::new(),
            wall_offset_ms: 0,
            monotonic_offset_ms,
            slowness: 1,
            disk_hangs_until_us: 0,
            promises: Promises::default(),
            log: BTreeMap::new(),
            start_failures: 0,
            memberships: None,
            installed: Zxid::ZERO,
            has_foreign_snapshot: false,
            retired: false,
            lost: None,
        }
    }

    /// As the operator of a new ensemble does.
    pub fn permit_to_begin_empty(&self) {
        self.disk.put(&self.directories.data_dir.join(INITIALIZE), b"");
    }

    /// The disk is as new. The configuration is not on it.
    pub fn wipe(&mut self, seed: u64) {
        self.disk = SimDisk::new(seed);
        self.directories = prepare(&self.disk);
        self.promises = Promises::default();
        self.log.clear();
        self.installed = Zxid::ZERO;
        self.has_foreign_snapshot = false;
    }

    pub fn serves(&self) -> bool {
        self.process.as_ref().is_some_and(|process| matches!(process.serving, Serving::Deciding | Serving::Forwarding))
    }

    /// What a power cut right now would leave, read as the next boot would.
    fn after_power_cut(&self, seed: u64) -> SimDisk {
        self.disk.restart(seed)
    }
}

fn prepare(disk: &SimDisk) -> Directories {
    let data = Path::new("/data");
    Directories::prepare(disk, data, data, true).expect("a new disk has room")
}

pub(crate) fn recovery(empty_is_expected: bool) -> RecoveryOptions {
    RecoveryOptions { db_autocreate: empty_is_expected, ..RecoveryOptions::default() }
}

/// The epoch that a power cut would leave.
fn durable_epoch(disk: &SimDisk, directories: &Directories, name: &str) -> Option<Epoch> {
    read_epoch(disk, &directories.snapshot_dir, name).ok().flatten()
}

fn read_log(disk: &dyn Disk, directories: &Directories) -> Result<BTreeMap<Zxid, Arc<[u8]>>, StoreError> {
    let mut log = BTreeMap::new();
    for start in Listing::read(disk, &directories.log_dir)?.logs {
        let path = directories.log_dir.join(names::log(start));
        let mut reader = LogReader::open(disk, &path, rookeeper_store::MAX_RECORD_BYTES)?;
        while let Next::Record { zxid, body, .. } = reader.next_record()? {
            log.insert(zxid, body.into());
        }
    }
    Ok(log)
}

impl World {
    pub(crate) fn time_at(&self, server: usize) -> Time {
        let server = &self.servers[server];
        let monotonic_ms = self.now_us / MS + server.monotonic_offset_ms;
        Time { monotonic_ms, wall_ms: WALL_MS + self.now_us / MS + server.wall_offset_ms }
    }

    pub(crate) fn log_options(&self, server: usize) -> LogOptions {
        LogOptions {
            preallocate_bytes: self.plan.preallocate_bytes,
            force_sync: true,
            roll: RollLimits { records: self.plan.snap_count, bytes: None, file_bytes: self.plan.log_file_bytes },
            seed: self.plan.seed ^ server as u64,
        }
    }

    /// Boots the process from what its disk has.
    pub(crate) fn start(&mut self, server: usize) {
        if self.servers[server].process.is_some() || self.servers[server].retired {
            return;
        }
        self.servers[server].powered = true;
        self.servers[server].frozen = false;
        if !self.is_configured(server) {
            return self.wait_for_operator(server);
        }
        self.servers[server].life += 1;
        match self.try_start(server) {
            Ok(()) => {}
            Err(error) => {
                self.servers[server].start_failures += 1;
                let failures = self.servers[server].start_failures;
                self.note(8, server as u64, 0, || format!("server {} can't start: {error}", server + 1));
                if failures > MAX_START_FAILURES || (self.healed && failures > 3) || is_damage(&error) {
                    self.violated(format!("recovery: server {} can't start: {error}", server + 1));
                }
                let crashed = self.servers[server].disk.has_crashed();
                if crashed {
                    self.lose_power(server);
                }
                let life = self.servers[server].life;
                self.schedule(self.now_us + 500 * MS, Event::Start { server, life });
            }
        }
    }

    fn try_start(&mut self, server: usize) -> Result<(), StoreError> {
        let options = self.log_options(server);
        let now = self.time_at(server);
        let ensemble = self.configured(server);
        let this = &mut self.servers[server];
        let disk: Arc<dyn Disk> = Arc::new(this.disk.clone());
        if self.plan.sabotage == Some(Sabotage::LosesOnRecovery) && this.life > 1 {
            // A planted bug: the last transaction is gone after a start.
            let last = recover(&*disk, &this.directories, &recovery(true))?.tree.last_zxid();
            if last.counter() > 1 {
                truncate(&*disk, &this.directories, Zxid(last.0 - 1))?;
            }
        }
        let empty_is_expected =
            self.plan.empty_is_expected || self.plan.sabotage == Some(Sabotage::VotesWithoutItsDisk);
        let recovered = recover(&*disk, &this.directories, &recovery(empty_is_expected))?;
        let last = recovered.tree.last_zxid();
        if !matches!(recovered.report.origin, rookeeper_store::Origin::Snapshot { .. }) && last != UNEXPECTED_EMPTY {
            write_snapshot(
                &*disk,
                &this.directories.snapshot_dir,
                &SnapshotOptions::default(),
                &mut |read| read(&recovered.tree),
                &mut |_| Ok(()),
            )?;
        }
        this.log = read_log(&*disk, &this.directories)?;
        let digest = recovered.tree.digest();
        let standalone = ensemble.is_none();
        let settings = Settings {
            server: this.id,
            tick_time_ms: self.plan.tick_ms,
            min_session_timeout_ms: 2 * self.plan.tick_ms as i32,
            max_session_timeout_ms: 20 * self.plan.tick_ms as i32,
            reconfig: self.plan.reconfigures,
            extended_types: true,
            enforce_quota: self.plan.habits.quotas,
            reaping: Reaping {
                interval_ms: 3 * self.plan.tick_ms,
                max_per_minute: 10_000,
                max_never_used_ms: 8 * self.plan.tick_ms,
            },
            access: AccessConfig { skip_acl: self.plan.reconfigures, ..AccessConfig::default() },
            ..Settings::default()
        };
        let epochs = if standalone {
            Epochs { accepted: last.epoch(), current: last.epoch() }
        } else {
            let epochs = read_epochs(&*disk, &this.directories, last)?;
            Epochs { accepted: epochs.accepted, current: epochs.current }
        };
        let verdict = this.promises.recovered(server + 1, last.max(Zxid::ZERO), epochs.accepted, epochs.current);
        let epochs = match self.plan.sabotage {
            // A planted bug.
            Some(Sabotage::ForgetsPromises) => Epochs { accepted: epochs.current, ..epochs },
            _ => epochs,
        };
        let writer = LogWriter::new(disk, &this.directories.log_dir, options, last);
        let shared = Arc::new(Shared::new(settings, recovered.tree, now.wall_ms));
        let replica = match ensemble {
            None => Replica::new(shared.clone(), now),
            Some(memberships) => {
                let settings = EnsembleSettings {
                    commit_log_count: self.plan.commit_log_count,
                    force_snapshot_sync: self.plan.force_snapshots,
                    local_sessions: self.plan.habits.local_sessions,
                    local_sessions_upgrading: self.plan.habits.local_sessions_upgrading,
                    read_only_mode: self.plan.habits.read_only,
                    rollover: self.plan.rollover,
                    ..EnsembleSettings::new(this.id, memberships)
                };
                Replica::member(shared.clone(), settings, epochs, now)
            }
        };
        this.process = Some(Process {
            shared,
            replica,
            writer,
            jobs: VecDeque::new(),
            busy: false,
            tick_at_us: i64::MAX,
            serving: Serving::Nobody,
            applied: last,
            purger: Purger::new(),
            snapshot_due: false,
            memberships: None,
        });
        this.start_failures = 0;
        self.figures.starts += 1;
        self.note(9, server as u64, last.0 as u64, || {
            format!("server {} starts at {last}, epochs {}/{}", server + 1, epochs.accepted, epochs.current)
        });
        self.judge(verdict);
        // A snapshot from a leader shows more than its zxid until the transactions behind it are there too.
        if !self.servers[server].has_foreign_snapshot {
            let verdict = self.chronicle.compare_digest(server + 1, last, digest);
            self.judge(verdict);
        }
        self.feed(server, Input::Tick);
        Ok(())
    }

    /// The process ends. `power`: so does everything that its disk was not made to keep.
    pub(crate) fn stop(&mut self, server: usize, power: bool) {
        if self.servers[server].process.take().is_some() {
            self.process_gone(server, !power);
            self.lines_gone(server, !power);
        }
        self.inbox.retain(|(to, _)| *to != server);
        let this = &mut self.servers[server];
        this.deferred.clear();
        if std::mem::take(&mut this.frozen) {
            self.flush_held();
        }
        if power {
            self.lose_power(server);
        }
    }

    fn lose_power(&mut self, server: usize) {
        let seed = self.random.draw();
        let this = &mut self.servers[server];
        this.powered = false;
        this.disk = this.disk.restart(seed);
    }

    /// Takes inputs in until there are none.
    pub(crate) fn run_inbox(&mut self) {
        while let Some((server, input)) = self.inbox.pop_front() {
            if self.servers[server].process.is_some() {
                self.handle(server, input);
            }
        }
    }

    fn handle(&mut self, server: usize, input: Input) {
        let now = self.time_at(server);
        let Some(process) = &mut self.servers[server].process else { return };
        process.replica.handle(now, input);
        self.figures.inputs += 1;
        let mut woken: BTreeMap<u64, Arc<Connection>> = BTreeMap::new();
        while let Some(output) = self.servers[server].process.as_mut().and_then(|process| process.replica.poll()) {
            match output {
                Output::Wake(connection) => {
                    woken.insert(connection.id.0, connection);
                }
                output => self.carry_out(server, output),
            }
        }
        self.observe(server);
        for line in woken.into_keys() {
            self.flush_line(line);
            self.look_at_line(line);
        }
        self.schedule_tick(server);
    }

    fn schedule_tick(&mut self, server: usize) {
        let offset_ms = self.servers[server].monotonic_offset_ms;
        let (now_us, life) = (self.now_us, self.servers[server].life);
        let Some(process) = &mut self.servers[server].process else { return };
        let Some(due_ms) = process.replica.deadline_ms() else { return };
        let due_us = due_ms.saturating_sub(offset_ms).saturating_mul(MS).max(now_us + 200);
        if process.tick_at_us <= now_us || due_us < process.tick_at_us {
            process.tick_at_us = due_us;
            self.schedule(due_us, Event::Tick { server, life });
        }
    }

    pub(crate) fn tick(&mut self, server: usize) {
        if let Some(process) = &mut self.servers[server].process
            && process.tick_at_us <= self.now_us
        {
            process.tick_at_us = i64::MAX;
            self.feed(server, Input::Tick);
        }
    }

    fn carry_out(&mut self, server: usize, output: Output) {
        match output {
            Output::Append(record) => {
                if self.plan.sabotage == Some(Sabotage::AcksBeforeSync) {
                    self.feed(server, Input::Synced { zxid: record.zxid });
                }
                let body: Arc<[u8]> = record.body().into();
                // A standalone server gives the numbers that it lost unsynced to others.
                if self.plan.members() > 1 {
                    let verdict = self.chronicle.proposed(server + 1, record.zxid, body.clone());
                    self.judge(verdict);
                }
                self.servers[server].log.insert(record.zxid, body);
                self.ask_storage(server, Job::Append(record));
            }
            Output::Store(store) => self.ask_storage(server, Job::Store(store)),
            Output::Notify { to, notification } => {
                if notification.leader == self.servers[server].id
                    && notification.state == rookeeper_proto::election::PeerState::Looking
                {
                    let verdict =
                        self.servers[server].promises.votes(server + 1, notification.election_epoch, notification.zxid);
                    self.judge(verdict);
                }
                let to = to.0 as usize - 1;
                self.note(1, server as u64, to as u64, || {
                    let Notification { state, leader, zxid, election_epoch, peer_epoch, .. } = &notification;
                    format!(
                        "vote {} -> {}: {state:?}, server {} at {zxid} of epoch {peer_epoch}, round {election_epoch}",
                        server + 1,
                        to + 1,
                        leader.0
                    )
                });
                if to < self.servers.len() && to != server {
                    self.notify(server, to, notification);
                }
            }
            Output::Dial { link, server: target, .. } => self.dial(server, link, target.0 as usize - 1),
            Output::Hangup { link } | Output::DropLearner { link, .. } if self.is_dialed(server, link) => {
                self.hang_up(server, link);
            }
            Output::Hangup { link } => self.hang_up(server, link),
            Output::DropLearner { link, why } => {
                self.note(2, server as u64, 0, || format!("server {} drops a learner: {why}", server + 1));
                self.send_to_learner(server, link, Item::End(why));
            }
            Output::ToLeader { link, bytes } => {
                self.check_to_leader(server, &bytes);
                self.send_to_leader(server, link, bytes);
            }
            Output::ToLearner { link, bytes } => {
                self.check_to_learner(server, &bytes);
                self.send_to_learner(server, link, Item::Bytes(bytes));
            }
            Output::StreamLog { link, after, before } => {
                self.send_to_learner(server, link, Item::Log { after, before })
            }
            Output::StreamSnapshot { link } => self.send_to_learner(server, link, Item::Snapshot),
            Output::PlanSync { link, after, before } => self.plan_sync(server, link, after, before),
            Output::Log { text, .. } => {
                if text.contains("is nearly used up") {
                    self.figures.note("epochs used up");
                }
                self.note(3, server as u64, 0, || format!("server {}: {text}", server + 1));
            }
            Output::DigestMismatch { zxid, expected, actual } => self.violated(format!(
                "history: server {} computed digest {actual:x} at {zxid}, the transaction says {expected:x}",
                server + 1
            )),
            Output::Members(memberships) => {
                if let Some(process) = &mut self.servers[server].process {
                    process.memberships = Some(memberships);
                }
            }
            Output::SessionExpired { session, .. } => {
                self.figures.expired += 1;
                self.note(4, server as u64, session.0 as u64, || format!("session {session} expires"));
            }
            Output::SessionOpened { .. } | Output::SessionClosed { .. } => {}
            Output::Wake(_) => unreachable!("wakes are collected"),
        }
    }

    fn is_dialed(&self, _server: usize, link: LinkId) -> bool {
        link.0 < 1_000_000
    }

    fn plan_sync(&mut self, server: usize, link: LinkId, after: Zxid, before: Zxid) {
        let this = &self.servers[server];
        let plan = match plan_catch_up(&this.disk, &this.directories, after, before, Some(self.plan.size_factor)) {
            Ok(CatchUpStart::Continues) => SyncPlan::Log,
            Ok(CatchUpStart::TruncateTo(zxid)) => SyncPlan::TruncateThenLog(zxid),
            Ok(CatchUpStart::Unavailable) => SyncPlan::Snapshot,
            Err(error) => {
                self.note(5, server as u64, 0, || format!("server {} can't look at its log: {error}", server + 1));
                SyncPlan::Snapshot
            }
        };
        let life = self.servers[server].life;
        let at_us = self.now_us + self.random.skewed(100, 20 * MS);
        self.schedule(at_us, Event::Input { server, life, input: Box::new(Input::SyncPlanned { link, plan }) });
    }

    // --- what others are told is checked against the disk ---

    fn check_to_leader(&mut self, server: usize, bytes: &[u8]) {
        let mut rest = bytes;
        while let Ok(Some((packet, length))) = QuorumPacket::split(rest, MAX_PACKET_BYTES) {
            rest = &rest[length..];
            let verdict = match packet {
                QuorumPacket::Ack { zxid } if zxid.counter() == 0 => {
                    let disk = self.servers[server].after_power_cut(self.now_us as u64);
                    let this = &self.servers[server];
                    let stored = durable_epoch(&disk, &this.directories, CURRENT);
                    this.promises.acknowledges_leader(server + 1, zxid.epoch(), stored)
                }
                QuorumPacket::Ack { zxid } => self.servers[server].promises.acknowledges(server + 1, zxid),
                QuorumPacket::AckEpoch { last_logged, current_epoch } => {
                    let disk = self.servers[server].after_power_cut(self.now_us as u64);
                    let this = &self.servers[server];
                    let accepted = durable_epoch(&disk, &this.directories, ACCEPTED);
                    let promised = current_epoch.map_or(0, |current| current.max(this.promises.accepted));
                    this.promises
                        .promises(server + 1, promised, accepted)
                        .and_then(|()| this.promises.claims(server + 1, last_logged))
                }
                _ => Ok(()),
            };
            self.judge(verdict);
        }
    }

    fn check_to_learner(&mut self, server: usize, bytes: &[u8]) {
        if let Ok(Some((QuorumPacket::LeaderInfo { epoch }, _))) = QuorumPacket::split(bytes, MAX_PACKET_BYTES) {
            let disk = self.servers[server].after_power_cut(self.now_us as u64);
            let this = &self.servers[server];
            let accepted = durable_epoch(&disk, &this.directories, ACCEPTED);
            let verdict = this.promises.promises(server + 1, epoch.epoch(), accepted);
            self.judge(verdict);
        }
    }

    /// What the last input has made of the server.
    fn observe(&mut self, server: usize) {
        let Some(process) = &self.servers[server].process else { return };
        let serving = process.shared.bulletin.serving();
        let (applied, digest) = {
            let tree = process.shared.tree();
            (tree.last_zxid(), tree.digest())
        };
        let began = serving != process.serving;
        let before = process.applied;
        if !began && applied == before {
            return;
        }
        let leads = began && serving == Serving::Deciding;
        // A leader may decide before its own currentEpoch is stored; the epoch it leads is the last one it accepted.
        let epoch = self.servers[server].promises.accepted;
        if let Some(process) = &mut self.servers[server].process {
            process.serving = serving;
            process.applied = applied;
        }
        if began {
            self.note(10, server as u64, applied.0 as u64, || {
                format!("server {} serves {serving:?} at {applied}", server + 1)
            });
        }
        if leads && self.plan.membership().is_some() {
            let verdict = self.leaders.leads(server + 1, epoch);
            self.judge(verdict);
            let last = |server: &Server| server.log.last_key_value().map_or(Zxid::ZERO, |(zxid, _)| *zxid);
            let own = last(&self.servers[server]).max(applied);
            if self.servers.iter().any(|other| last(other) > own) {
                self.figures.note("leaders that had less than another server");
            }
        }
        if !matches!(serving, Serving::Deciding | Serving::Forwarding) {
            return;
        }
        if self.servers[server].promises.durable >= applied {
            self.servers[server].has_foreign_snapshot = false;
        }
        // What a server that serves has applied is committed.
        let new: Vec<(Zxid, Arc<[u8]>)> = self.servers[server]
            .log
            .iter()
            .rev()
            .skip_while(|(zxid, _)| **zxid > applied)
            .take_while(|(zxid, _)| began || **zxid > before)
            .map(|(zxid, body)| (*zxid, body.clone()))
            .collect();
        // Of what came in snapshots only, nobody's log has the records any more.
        let in_snapshots = self.chronicle.missing_up_to(self.servers[server].installed.min(applied));
        for (zxid, body) in in_snapshots.into_iter().chain(new.into_iter().rev()) {
            let mut body = body;
            if self.plan.sabotage == Some(Sabotage::KeepsEphemeral) {
                body = keep_an_ephemeral(&body);
            }
            match self.chronicle.applied(server + 1, self.now_us, zxid, &body) {
                Ok(true) => {
                    self.note_reaped(&body);
                    self.check_quorum(zxid, &body);
                }
                Ok(false) => {}
                Err(problem) => self.violated(problem),
            }
        }
        self.note_recovery(server);
        if self.chronicle.last() < applied {
            // They can't be told from what another leader gave up: this life can't be judged any further.
            self.is_blind = true;
            return;
        }
        let mut digest = digest;
        if self.plan.sabotage == Some(Sabotage::WrongState) && server == 1 {
            digest ^= 1;
        }
        if self.plan.sabotage == Some(Sabotage::UndigestedRights) {
            digest ^= self.chronicle.model.lists_set();
        }
        let verdict = self.chronicle.digest(server + 1, applied, digest);
        self.judge(verdict);
        if leads {
            self.check_membership_of_leader(server);
        }
    }

    fn note_reaped(&mut self, body: &[u8]) {
        if TxnRecord::decode(body).is_ok_and(|record| matches!(record.txn, Txn::DeleteContainer { .. })) {
            self.figures.note("nodes reaped");
        }
    }

    /// A leader begins with the newest membership that it has seen, also where the power took the record of it everywhere.
    fn check_membership_of_leader(&mut self, server: usize) {
        let Some(process) = &self.servers[server].process else { return };
        let Some(membership) = process.memberships.as_ref().map(|memberships| memberships.committed.clone()) else {
            return;
        };
        let Some(before) = &self.membership else { return };
        if membership.version <= before.version || membership.members == before.members {
            return;
        }
        let knows = |memberships: Memberships| {
            memberships.committed.version.max(memberships.last_seen.version) >= membership.version
        };
        let holders: BTreeSet<ServerId> = (0..self.servers.len())
            .filter(|server| self.configured(*server).is_some_and(knows))
            .map(|server| self.servers[server].id)
            .collect();
        let verdict = durability::known(&before.quorum(), &membership, &holders);
        self.judge(verdict);
        self.members_change(membership);
    }

    /// Who has a transaction on disk that was just committed.
    pub(crate) fn check_quorum(&mut self, zxid: Zxid, body: &[u8]) {
        let has = |server: &&Server| {
            let has = server.promises.durable >= zxid && server.log.get(&zxid).is_none_or(|own| **own == *body);
            // What was on a disk that is lost was acknowledged all the same. No more of them are lost than an ensemble bears.
            has || server.lost >= Some(zxid)
        };
        let mut holders: BTreeSet<ServerId> = self.servers.iter().filter(has).map(|server| server.id).collect();
        if self.random.one_in(DEEP_CHECK) {
            let seed = self.now_us as u64;
            let directories = self.servers[0].directories.clone();
            let survives = |server: &&Server| {
                let disk = server.after_power_cut(seed);
                server.lost >= Some(zxid)
                    || recover(&disk, &directories, &recovery(true)).is_ok_and(|found| found.tree.last_zxid() >= zxid)
            };
            let ids: BTreeSet<ServerId> = self.servers.iter().filter(survives).map(|server| server.id).collect();
            holders.retain(|id| ids.contains(id));
            self.figures.deep_checks += 1;
        }
        let quorum = self.membership.as_ref().map_or_else(|| Quorum::majority([ServerId(1)]), Membership::quorum);
        let verdict = durability::committed(&quorum, &holders, zxid);
        self.judge(verdict);
        if let Some(membership) = reconfigured(body)
            && self.membership.as_ref().is_some_and(|before| before.version < membership.version)
        {
            // It takes quorums of both.
            let verdict = durability::committed(&membership.quorum(), &holders, zxid);
            self.judge(verdict);
            self.members_change(membership);
        }
    }
}

/// Whether the error says that what is on disk can't be right.
fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Damaged { .. } | StoreError::Misuse(_) | StoreError::Newer { .. })
}

/// The membership that a transaction puts into force.
pub(crate) fn reconfigured(body: &[u8]) -> Option<Membership> {
    match TxnRecord::decode(body).ok()?.txn {
        Txn::Reconfig { data: Some(text), .. } => Membership::parse_text(text, false).ok(),
        _ => None,
    }
}

/// A planted bug: the end of a session leaves one of its nodes.
fn keep_an_ephemeral(body: &[u8]) -> Arc<[u8]> {
    if let Ok(mut record) = TxnRecord::decode(body)
        && let Txn::CloseSession { paths: Some(paths) } = &mut record.txn
        && paths.pop().is_some()
    {
        let mut changed = Vec::new();
        record.append(&mut changed);
        return changed.into();
    }
    body.into()
}
