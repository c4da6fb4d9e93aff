//! One simulated server: the shipping replica on a simulated disk, with a storage that does what it is asked in order and takes its time.
//! `boot.rs` is the server's start and end, `inputs.rs` the queues before its replica; `observe.rs` judges its outputs.
//!
//! What always holds here:
//! - outputs are carried out in the order in which they are polled, after all inputs of a round;
//! - the storage answers in the order in which it was asked, and only for work that is done;
//! - of a process that ended only the contents of its disk remain.

mod boot;
pub(crate) mod inputs;
pub(crate) mod observe;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use rookeeper_proto::election::Notification;
use rookeeper_proto::{MonotonicMs, ServerId, SessionId, WallMs, Zxid};
use rookeeper_replica::pulse::Pulse;
use rookeeper_replica::{
    Connection, Deadline, Event as LogEvent, Input, Output, Replica, RoleEnd, Serving, Shared, Shortage, Store, Time,
};
use rookeeper_store::catch_up::{CatchUpStart, plan_catch_up};
use rookeeper_store::epoch_files::INITIALIZE;
use rookeeper_store::{Directories, LogOptions, RecoveryOptions, RollLimits, SimDisk};
use rookeeper_zab::{DropReason, LinkEnd, LinkId, LinkOutput, Memberships, StepDownReason, SyncPlan};

use self::inputs::Inputs;
use crate::checkers::durability::Promises;
use crate::config_files::ConfigFiles;
use crate::faults::Sabotage;
use crate::network::Item;
use crate::restores::Restoring;
use crate::scenes::Cue;
use crate::snapshots::Snapshots;
use crate::storage::Storage;
use crate::world::{Event, MS, World};

/// Where the wall clocks begin.
const WALL_MS: i64 = 1_700_000_000_000;

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
    /// Events that wait for a frozen process, with their places in the order of all events.
    pub deferred: VecDeque<(u64, Event)>,
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
    /// The contents of the files of its configuration, once they were changed.
    pub memberships: Option<Memberships>,
    pub config_files: ConfigFiles,
    /// Where the last snapshot of a leader ended that took the place of its history.
    pub installed: Zxid,
    /// A leader's snapshot is on its disk that it has not served behind yet.
    pub has_foreign_snapshot: bool,
    /// A tree that the operator wants restored.
    pub restoring: Option<Restoring>,
    /// Whether the operator has taken the server out of service.
    pub retired: bool,
    /// Set while a server that lost its disk does not have everything again: the end of the history that the lost disk had.
    pub lost: Option<Zxid>,
    /// What there is too little of.
    pub short_of: Shortage,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub shared: Arc<Shared>,
    pub replica: Replica,
    /// Inputs that wait for the replica while its thread is busy.
    pub inputs: Inputs,
    /// Sessions whose clients were not read when the round began.
    pub not_read: BTreeSet<SessionId>,
    /// What there was too little of by the last measurement that the replica took in before the round began, and by the last of all.
    pub short_before: Shortage,
    pub short_now: Shortage,
    pub storage: Storage,
    pub snapshots: Snapshots,
    tick_at_us: i64,
    pulse: Pulse,
    pub serving: Serving,
    pub applied: Zxid,
    /// The memberships that the replica goes by, where it has told them.
    pub memberships: Option<Arc<Memberships>>,
    /// Whether the port for observers is open.
    pub feeds: bool,
    /// The follower that has fed this observer last.
    master: Option<ServerId>,
}

impl Server {
    /// A host with an empty disk. Its monotonic clock is off by `monotonic_offset_ms`.
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
            config_files: ConfigFiles::default(),
            installed: Zxid::ZERO,
            has_foreign_snapshot: false,
            restoring: None,
            retired: false,
            lost: None,
            short_of: Shortage::default(),
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

    /// Whether the process runs and serves clients that write.
    pub fn serves(&self) -> bool {
        self.process.as_ref().is_some_and(|process| matches!(process.serving, Serving::Deciding | Serving::Forwarding))
    }

    /// The state that a power cut right now would leave, read as the next boot would read it.
    pub(crate) fn after_power_cut(&self, seed: u64) -> SimDisk {
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

impl World {
    pub(crate) fn time_at(&self, server: usize) -> Time {
        let server = &self.servers[server];
        let monotonic_ms = MonotonicMs(self.now_us / MS + server.monotonic_offset_ms);
        Time::of_ms(monotonic_ms, WallMs(WALL_MS + self.now_us / MS + server.wall_offset_ms))
    }

    /// The moment of a monotonic millisecond of a server.
    pub(crate) fn when(&self, server: usize, monotonic_ms: MonotonicMs) -> i64 {
        let MonotonicMs(since_start_ms) = monotonic_ms - self.servers[server].monotonic_offset_ms;
        since_start_ms.saturating_mul(MS)
    }

    pub(crate) fn log_options(&self, server: usize) -> LogOptions {
        LogOptions {
            preallocate_bytes: self.plan.preallocate_bytes,
            force_sync: true,
            roll: RollLimits { records: self.plan.snap_count, bytes: None, file_bytes: self.plan.log_file_bytes },
            seed: self.plan.seed ^ server as u64,
        }
    }

    /// Takes inputs in until there are none.
    pub(crate) fn run_inbox(&mut self) {
        while let Some((server, input)) = self.inbox.pop_front() {
            if self.servers[server].process.is_some() {
                self.handle(server, vec![input]);
            }
        }
    }

    /// The thread of the replica looks at its queues.
    pub(crate) fn round(&mut self, server: usize) {
        let Some(process) = &mut self.servers[server].process else { return };
        process.inputs.is_round_due = false;
        let inputs = process.inputs.take();
        if inputs.len() > 1 {
            self.figures.note("inputs handled together");
        }
        self.handle(server, inputs);
        self.expect_round(server);
    }

    /// Another round, where something waits.
    pub(crate) fn expect_round(&mut self, server: usize) {
        let (life, busy_us) = (self.servers[server].life, self.plan.busy_us);
        let at_us = self.now_us + self.random.skewed(1, busy_us);
        let Some(process) = &mut self.servers[server].process else { return };
        if !process.inputs.is_empty() && !process.inputs.is_round_due {
            process.inputs.is_round_due = true;
            self.schedule(at_us, Event::Round { server, life });
        }
    }

    /// Takes these inputs in, and then carries out what they have caused.
    fn handle(&mut self, server: usize, inputs: Vec<Input>) {
        let now = self.time_at(server);
        let is_tick = inputs.iter().any(|input| matches!(input, Input::Tick));
        let Some(process) = &mut self.servers[server].process else { return };
        if let Some((from_ms, to_ms)) = process.pulse.woken(now.monotonic_ms) {
            process.replica.stood_still(from_ms, to_ms);
        }
        // In a round of several inputs a session may expire by one input before a later input tells of the session. Likewise a connection that was
        // not read may end by one input before the answer to an earlier input is sent.
        let is_round = inputs.len() > 1;
        process.short_before = process.short_now;
        process.not_read = if is_round { held_back(&process.shared) } else { BTreeSet::new() };
        let mut heard = Vec::new();
        let decides = process.shared.status_board.serving() == Serving::Deciding;
        for mut input in inputs {
            match &input {
                Input::FromLearner { link, packets } if is_round && decides => heard.push((*link, packets.clone())),
                Input::FromLearner { link, packets } => self.note_heard(server, *link, packets),
                _ => {}
            }
            if let Input::Measured(measured) = &mut input {
                self.note_measured(server, measured);
            }
            let before = self.tamper_before(server, &mut input);
            let Some(process) = &mut self.servers[server].process else { return };
            process.replica.handle(now, input);
            let checked = process.replica.check();
            if let Err(broken) = checked {
                self.violated(format!("state: server {}: {broken}", server + 1));
            }
            self.figures.inputs += 1;
            self.tamper_after(server, before, now.monotonic_ms);
        }
        let mut woken: BTreeMap<u64, Arc<Connection>> = BTreeMap::new();
        while let Some(output) = self.servers[server].process.as_mut().and_then(|process| process.replica.poll()) {
            match output {
                Output::Wake(connection) => {
                    woken.insert(connection.id.0, connection);
                }
                output => self.carry_out(server, output),
            }
        }
        heard.iter().for_each(|(link, packets)| self.note_heard(server, *link, packets));
        self.hand_over(server);
        self.observe(server);
        if is_tick {
            self.judge_overdue(server);
            self.judge_wait(server, now);
        }
        for line in woken.into_keys() {
            self.run_line(line);
        }
        self.schedule_tick(server);
    }

    /// A replica whose time has come does what there is to do, and then waits. The server's thread would turn in circles otherwise.
    fn judge_wait(&mut self, server: usize, now: Time) {
        let Some(process) = &self.servers[server].process else { return };
        // Portions of long work are not waited for.
        let deadline = process.replica.deadline();
        if deadline != Deadline::Now && deadline.is_due(now.monotonic_ms) {
            self.violated(format!("progress: server {} asks for time that has come already", server + 1));
        }
    }

    fn schedule_tick(&mut self, server: usize) {
        let (now_us, life) = (self.now_us, self.servers[server].life);
        let Some(process) = &self.servers[server].process else { return };
        let due_ms = process.replica.deadline().at_latest(process.pulse.due_ms());
        let due_us = due_ms.map_or(now_us, |due_ms| self.when(server, due_ms)).max(now_us + 200);
        let Some(process) = &mut self.servers[server].process else { return };
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
                self.note_proposal(server, &record);
                self.note(16, server as u64, record.zxid.0 as u64, || {
                    let txn = rookeeper_proto::TxnRecord::decode(record.body()).map(|record| record.txn);
                    format!("server {} logs {}: {txn:?}", server + 1, record.zxid)
                });
                if self.plan.sabotage == Some(Sabotage::InformsEarly) {
                    self.inform_early(server, &record);
                }
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
                self.log(server, record);
            }
            Output::Store(store) => {
                if let Store::Restore { zxid, .. } = &store {
                    self.note_restore_asked(server, *zxid);
                }
                self.ask_storage(server, store);
            }
            Output::Restored(restored) => self.note_restored(server, &restored),
            Output::Notify { to, notification } => {
                if notification.leader == Some(self.servers[server].id)
                    && let Some(zxid) = notification.zxid
                    && notification.state == rookeeper_proto::election::PeerState::Looking
                {
                    let verdict = self.servers[server].promises.votes(server + 1, notification.election_epoch, zxid);
                    self.judge(verdict);
                }
                let to = to.0 as usize - 1;
                self.note(1, server as u64, to as u64, || {
                    let Notification { state, leader, zxid, election_epoch, peer_epoch, .. } = &notification;
                    let leader = leader.map_or("nobody".to_owned(), |leader| format!("server {leader}"));
                    let zxid = zxid.map_or("no zxid".to_owned(), |zxid| zxid.to_string());
                    let epoch = peer_epoch.map_or("no epoch".to_owned(), |epoch| format!("epoch {epoch}"));
                    format!(
                        "vote {} -> {}: {state:?}, {leader} at {zxid} of {epoch}, round {election_epoch}",
                        server + 1,
                        to + 1,
                    )
                });
                if to < self.servers.len() && to != server {
                    self.notify(server, to, notification);
                }
            }
            Output::Dial { link, server: target, addresses } => {
                let through = addresses.first().map_or(0, |address| address.port);
                self.dial(server, link, (target.0 as usize - 1, through));
            }
            Output::ObserverMaster { open } => {
                if let Some(process) = &mut self.servers[server].process {
                    process.feeds = open;
                }
            }
            Output::Hangup { link } | Output::ToLearner(link, LinkOutput::Drop(_)) if self.is_dialed(server, link) => {
                self.hang_up(server, link);
            }
            Output::Hangup { link } => self.hang_up(server, link),
            Output::ToLearner(link, LinkOutput::Drop(why)) => {
                if let DropReason::FallsBehind { .. } = why {
                    self.figures.note("observers that fall behind");
                }
                self.note(2, server as u64, 0, || format!("server {} drops a learner: {why}", server + 1));
                self.send_to_learner(server, link, Item::End(LinkEnd::Dropped(why)));
            }
            Output::ToLeader { link, bytes } => {
                self.check_to_leader(server, &bytes);
                self.send_to_leader(server, link, bytes);
            }
            Output::ToLearner(link, LinkOutput::Send(bytes)) => {
                self.check_to_learner(server, &bytes);
                self.echo_of_the_round_before(server, link, &bytes);
                self.send_to_learner(server, link, Item::Bytes(bytes));
            }
            Output::ToLearner(link, LinkOutput::StreamLog { after, before }) => {
                self.send_to_learner(server, link, Item::Log { after, before })
            }
            Output::ToLearner(link, LinkOutput::StreamSnapshot) => {
                self.cue(Cue::Brings { leader: server });
                self.send_to_learner(server, link, Item::Snapshot);
            }
            Output::ToLearner(link, LinkOutput::PlanSync { after, before }) => {
                self.plan_sync(server, link, after, before);
            }
            Output::Log(event) => {
                if let LogEvent::NoLongerLeads(RoleEnd::SteppedDown(StepDownReason::EpochUsedUp(_))) = event {
                    self.figures.note("epochs used up");
                }
                if let LogEvent::FedBy { master, .. } = event
                    && let Some(process) = &mut self.servers[server].process
                {
                    let before = process.master.replace(master);
                    self.figures.note("observers fed by followers");
                    if before.is_some_and(|before| before != master) {
                        self.figures.note("observers that found another follower");
                    }
                }
                self.note(3, server as u64, 0, || format!("server {}: {event}", server + 1));
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
                self.judge_expiry(server, session);
            }
            Output::SessionOpened { session, timeout_ms, .. } => {
                let now_ms = self.now_ms();
                self.expiry.granted(server, now_ms, session, timeout_ms);
            }
            Output::SessionClosed { .. }
            | Output::Audited { .. }
            | Output::EphemeralsDeleted { .. }
            | Output::Slow(_) => {}
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
}

/// Sessions whose clients this server does not read for its own sake.
fn held_back(shared: &Shared) -> BTreeSet<SessionId> {
    let sessions = shared.sessions();
    let held_back = sessions
        .iter()
        .filter(|(_, session)| session.connection.as_ref().is_some_and(|connection| connection.is_held_back()));
    held_back.map(|(id, _)| id).collect()
}
