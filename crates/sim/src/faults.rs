//! Faults: the plan of a life, drawn from its seed, and how each fault is carried out.
//!
//! The plan is made before the life begins, so that a shrinker can leave parts of it out.

use rookeeper_replica::{Serving, Shortage};
use rookeeper_storage::Batching;
use rookeeper_store::Fault as DiskFault;
use rookeeper_zab::leader::Rollover;
use rookeeper_zab::{Membership, Memberships};

use crate::habits::Habits;
use crate::lost_disks::{self, DiskLoss};
use crate::oracle;
use crate::patrons::{self, Recipe};
use crate::restores::{self, PlannedRestore};
use crate::scenes::{self, Scene};
use crate::shortages::{self, PlannedShortage};
use crate::world::{Event, MS, SEC, World};
use rookeeper_proto::random::Random;

/// Everything that a life is made of besides the choices drawn on the way.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    /// Participants; 1 is a standalone server.
    pub servers: usize,
    pub observers: usize,
    pub clients: usize,
    pub tick_ms: i64,
    pub safety_us: i64,
    pub healed_us: i64,
    pub faults: Vec<PlannedFault>,
    pub snap_count: u64,
    pub commit_log_count: usize,
    pub force_snapshots: bool,
    pub size_factor: f64,
    pub preallocate_bytes: u64,
    pub log_file_bytes: Option<u64>,
    /// How many transactions are synced together, and how long they are gathered.
    pub batching: Batching,
    /// How long the thread of a replica may be busy before it looks at its queues, where inputs gather meanwhile. 0: it handles each at once.
    pub busy_us: i64,
    /// The longest pause of a client between two requests.
    pub think_us: i64,
    /// Whether followers feed observers, which look for followers then.
    pub observer_masters: bool,
    /// How long observers wait before they connect, at most.
    pub observer_reconnect_ms: i64,
    /// Bytes that an observer may be behind such a follower.
    pub observer_size_limit_bytes: usize,
    /// Whether a client now and then asks for other members, or other roles of them.
    pub reconfigures: bool,
    /// Lines of groups and weights; none where each participant has one voice.
    pub groups: String,
    /// Whether writing the files of the configuration fails now and then, and starts now and then find older files.
    pub files_fail: bool,
    /// `db.autocreate`.
    pub empty_is_expected: bool,
    pub disk_losses: Vec<DiskLoss>,
    pub shortages: Vec<PlannedShortage>,
    pub scenes: Vec<Scene>,
    pub restores: Vec<PlannedRestore>,
    pub habits: Habits,
    /// Where the numbers of an epoch end.
    pub rollover: Rollover,
    /// Whether servers stumble while an epoch begins.
    pub stumbles: bool,
    /// Whether the power goes, now and then, right after a log was cut.
    pub darkens_after_cuts: bool,
    /// Whether somebody lets one of two voters go on alone.
    pub has_oracle: bool,
    /// The recipe that some clients drive.
    pub play: Option<Recipe>,
    /// A bug on purpose, to show that it is seen.
    pub sabotage: Option<Sabotage>,
}

/// Bugs planted in the world, one for each checker to find. Never part of a plan that a seed makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The storage says that a transaction is durable when it is only asked for.
    AcksBeforeSync,
    /// The leader hears acknowledgements that no follower sent.
    AcksNobodySent,
    /// The leader counts acknowledgements of a change of the members from the servers that join by it, before they have received the change.
    CountsJoinersUnheard,
    /// The last transaction of the log is gone after a start.
    LosesOnRecovery,
    /// acceptedEpoch is answered for and not written.
    ForgetsEpochs,
    /// A watch event does not arrive.
    DropsEvent,
    /// A watch event arrives behind the answer that follows it.
    DelaysEvent,
    /// Two answers change places.
    ReordersReplies,
    /// An answer names another transaction than its own.
    WrongAnswer,
    /// A sync is answered without asking anybody.
    SkipsSync,
    /// The end of a session leaves an ephemeral node.
    KeepsEphemeral,
    /// One server's state differs.
    WrongState,
    /// The network never heals.
    NeverHeals,
    /// A learner's acknowledgements still count after the learner is brought to the leader's history anew.
    KeepsAcknowledgements,
    /// A leader does not turn away a learner that is ahead.
    FollowsWhoIsBehind,
    /// A leader goes on without a quorum that has acknowledged its epoch.
    LeadsWithoutPromises,
    /// A leader counts servers that had promised its epoch before, maybe to another leader.
    CountsRepeatedPromises,
    /// A learner follows into an epoch that is older than one it has accepted.
    ForgetsPromises,
    /// A server that has lost its disk votes as if the disk had always been empty, although its configuration does not allow that.
    VotesWithoutItsDisk,
    /// A learner gets a snapshot although it has more than that.
    SnapshotsWhoHasMore,
    /// A log that was cut because the leader said so is not synced.
    TruncatesUnsynced,
    /// A snapshot holds transactions that are not in the log on disk yet.
    SnapshotAheadOfLog,
    /// The digest of a tree leaves out a list of rights that was set, until the tree is read from disk.
    UndigestedRights,
    /// The server takes its own sending for a sign of life of the client.
    HearsItself,
    /// The end of a client is not seen while bytes wait to be sent to it.
    IgnoresHangUps,
    /// A client that does not take its answers is excused as if the server did not read.
    ExcusesWhoDoesNotRead,
    /// The leader takes a session's requests from any server, also from one that the session has left.
    TakesFromAnybody,
    /// The leader does not note through which server a session is resumed.
    ForgetsOwners,
    /// Sessions expire at the first look at the time.
    ExpiresAtOnce,
    /// After an election sessions expire after a tenth of their time.
    ExpiresEarly,
    NeverExpires,
    /// The leader ignores the sessions that learners report as alive.
    IgnoresTouches,
    /// A request is refused with a wrong reason.
    WrongRefusal,
    /// A client is told another reason than the history has.
    MisreportsRefusals,
    /// A sync is answered by a round of pings that had begun before the sync came.
    JoinsRoundInFlight,
    /// Servers count heads where voices have weights.
    IgnoresWeights,
    /// A tree that was to be restored is answered for before it is durable.
    RestoresUnsynced,
    /// A tree that is restored comes with its sessions and what they own.
    RestoresSessions,
    /// A server begins with the members that its files name, although its log knows of later ones.
    TrustsOldFiles,
    /// A server that is short of room goes on as if it had some.
    IgnoresShortages,
    /// A server that has room again goes on as if it had none.
    StaysShort,
    /// The oracle of two members says yes to both.
    OracleGrantsBoth,
    /// A follower tells its observers of a transaction as soon as it is proposed.
    InformsEarly,
    /// A follower sends requests of its observers on also where the session has left the observer.
    RelaysForAnybody,
    /// A recipe: a holder counts the time of a proof from the answer, not from the question.
    ProvesFromTheAnswer,
    /// A recipe: a leader leads as soon as it stands first in the line that it sees.
    LeadsUnproved,
    /// A recipe: a reader does not look whether a writer stands before it.
    ReadsBesideWriters,
    /// A recipe: a semaphore is one lease larger than it should be.
    LeasesOneTooMany,
    /// A recipe: the node of an item that is taken outlives its taker.
    KeepsItemsTaken,
    /// A recipe: whoever pushes does not note that in its own node.
    PushesWithoutTicket,
    /// A recipe: a member of a meeting counts itself twice.
    CountsItselfTwice,
    /// A recipe: whoever changes a number does not note that in its own node.
    CountsWithoutTicket,
    /// A recipe: a member that leaves does not look whose the node of its name is.
    LeavesByName,
    /// A recipe: a member deletes again where the answer to a deletion was lost, and does not look.
    LeavesTwice,
    /// A recipe: whoever follows a group does so no more once the connection was lost.
    FollowsOnce,
    /// A recipe: whoever follows a group lists it first, and asks to hear of it then.
    ListsThenFollows,
}

/// A fault of the plan, and when it strikes, in virtual microseconds.
#[derive(Debug, Clone)]
pub struct PlannedFault {
    pub at_us: i64,
    pub target: Target,
    pub kind: Fault,
    /// How long the fault lasts, or how long the server is down.
    pub lasts_us: i64,
    /// Seed of all other choices about the fault.
    pub draw: u64,
}

/// The servers that a fault hits, as a role: which server has the role shows when the fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Server(usize),
    Leader,
    Follower,
    All,
}

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The process is killed; its host and what it wrote stay.
    Crash,
    /// The host loses its power, and what was not synced.
    PowerCut,
    /// The same, in the middle of one of the next operations on the disk.
    PowerCutWithinWrite,
    Freeze,
    /// The server is cut off from all others.
    Isolate,
    /// The server hears others, but they do not hear the server.
    Mute,
    /// Others hear the server, but the server does not hear them.
    Deaf,
    /// The ensemble falls apart into two.
    Partition,
    /// All connections of the server break.
    CutLinks,
    SlowNetwork,
    SlowDisk,
    /// An operation on the disk takes very long and then ends well; others may not wait that long for its outcome.
    HungDisk,
    FullDisk,
    /// One operation on the disk fails.
    BrokenDisk,
    /// The wall clock jumps.
    ClockJump,
    /// The connections of the server's clients break.
    CutClients,
}

/// All kinds of faults, in the order in which the figures tell them.
pub const FAULTS: [Fault; 16] = [
    Fault::Crash,
    Fault::PowerCut,
    Fault::PowerCutWithinWrite,
    Fault::Freeze,
    Fault::Isolate,
    Fault::Mute,
    Fault::Deaf,
    Fault::Partition,
    Fault::CutLinks,
    Fault::SlowNetwork,
    Fault::SlowDisk,
    Fault::HungDisk,
    Fault::FullDisk,
    Fault::BrokenDisk,
    Fault::ClockJump,
    Fault::CutClients,
];

impl Plan {
    /// The life of a seed. `servers` overrides the number of participants. In a life whose number is not overridden clients may drive a recipe.
    pub fn of_seed(seed: u64, servers: Option<usize>) -> Plan {
        let is_ordinary = servers.is_none();
        let mut random = Random::new(seed ^ 0x706c_616e);
        let drawn = *random.pick(&[1, 3, 3, 3, 3, 3, 5, 5]);
        let has_oracle = servers.is_none() && drawn > 1 && oracle::of_seed(seed);
        let servers = if has_oracle { 2 } else { servers.unwrap_or(drawn) };
        let observers = if servers > 1 && random.one_in(4) { 1 } else { 0 };
        let mut apart = Random::new(seed ^ 0x6d61_7374);
        let observer_masters = apart.one_in(2);
        let observers = observers + if observers > 0 && observer_masters { apart.index(2) } else { 0 };
        let tick_ms = *random.pick(&[200, 500, 500, 1000, 2000]);
        // In ticks, so that timeouts play their part whatever a tick is.
        let safety_us = random.between(15, 45) * tick_ms * MS;
        let mut plan = Plan {
            seed,
            servers,
            observers,
            clients: random.between(2, 5) as usize,
            tick_ms,
            safety_us,
            healed_us: 40 * tick_ms * MS + 10 * SEC,
            faults: Vec::new(),
            snap_count: *random.pick(&[15, 60, 200, 1000]),
            commit_log_count: *random.pick(&[1, 5, 20, 100]),
            force_snapshots: random.one_in(10),
            size_factor: *random.pick(&[0.33, 2.0, 100.0]),
            preallocate_bytes: *random.pick(&[0, 0, 8192]),
            log_file_bytes: *random.pick(&[None, None, Some(2000)]),
            batching: Batching { max_records: *random.pick(&[Some(1), Some(4), None]), flush_delay_us: 0 },
            busy_us: *Random::new(seed ^ 0x6275_7379).pick(&[0, 0, 200, 2000, 20_000]),
            think_us: *random.pick(&[100, 300, 1000]) * MS,
            observer_masters,
            observer_size_limit_bytes: *apart.pick(&[4000, 32 << 20]),
            observer_reconnect_ms: *apart.pick(&[0, 0, tick_ms, 4 * tick_ms]),
            reconfigures: false,
            groups: String::new(),
            files_fail: false,
            empty_is_expected: true,
            disk_losses: Vec::new(),
            shortages: shortages::of_seed(seed, safety_us, tick_ms),
            scenes: scenes::of_seed(seed, servers, safety_us),
            restores: restores::of_seed(seed, servers, safety_us),
            habits: Habits::default(),
            rollover: Rollover::default(),
            stumbles: false,
            darkens_after_cuts: false,
            has_oracle,
            play: None,
            sabotage: None,
        };
        // Some lives know one kind of fault only, and a few none.
        let only = random.one_in(3).then(|| *random.pick(&FAULTS));
        let count = if random.one_in(20) { 0 } else { random.between(1, 14) };
        for _ in 0..count {
            let kind = only.unwrap_or_else(|| *random.pick(&FAULTS));
            let target = match random.below(10) {
                0..=3 => Target::Leader,
                4..=5 => Target::Follower,
                9 if random.one_in(2) => Target::All,
                _ => Target::Server(random.index(servers + observers)),
            };
            plan.faults.push(PlannedFault {
                at_us: random.between(0, safety_us),
                target,
                kind,
                lasts_us: random.skewed(50 * MS, 12 * tick_ms * MS),
                draw: random.draw(),
            });
        }
        plan.reconfigures = plan.members() > 2 && random.one_in(5) && !has_oracle;
        if !plan.reconfigures {
            (plan.empty_is_expected, plan.disk_losses) = lost_disks::of_seed(seed, servers, safety_us, tick_ms);
        }
        plan.files_fail = plan.reconfigures && random.one_in(2);
        if !plan.reconfigures && servers > 1 && random.one_in(6) && !has_oracle {
            plan.groups = groups(&mut random, servers);
        }
        plan.habits = Habits::of_seed(seed, plan.reconfigures);
        let delays_ms = [0, 0, 0, 0, 2, plan.tick_ms / 50];
        plan.batching.flush_delay_us = MS * *Random::new(seed ^ 0x666c_7573).pick(&delays_ms);
        plan.aim(&mut random);
        plan.faults.sort_by_key(|fault| fault.at_us);
        match patrons::of_seed(seed).filter(|_| is_ordinary) {
            Some(recipe) => plan.with_recipe(recipe),
            None => plan,
        }
    }

    /// The same life with an operator who changes the members. An operator is nobody in particular, so the servers of such a life check no
    /// access, and no node may be for some clients only. Members join with empty disks, so an empty disk must be expected, and no other disk may
    /// be lost.
    pub fn reconfiguring(mut self) -> Plan {
        self.reconfigures = true;
        self.groups.clear();
        self.habits.users = false;
        self.empty_is_expected = true;
        self.disk_losses.clear();
        self
    }

    /// The same life with observers, and followers that feed them.
    pub fn with_observer_masters(mut self) -> Plan {
        self.observer_masters = true;
        if self.servers > 1 {
            self.observers = self.observers.max(2);
        }
        self
    }

    /// The same life with observers that nobody hears for a while, and whose clients leave meanwhile: what they had asked for comes late.
    pub fn with_observers_unheard(mut self) -> Plan {
        let mut random = Random::new(self.seed ^ 0x7265_7374);
        let tick_us = self.tick_ms * MS;
        for _ in 0..10 {
            let target = Target::Server(self.servers + random.index(self.observers.max(1)));
            let at_us = random.between(0, self.safety_us);
            let lasts_us = random.between(2, 4) * tick_us;
            let (left_us, draw) = (at_us + random.between(tick_us / 10, tick_us), random.draw());
            self.faults.push(PlannedFault { at_us, target, kind: Fault::Mute, lasts_us, draw });
            self.faults.push(PlannedFault { at_us: left_us, target, kind: Fault::CutClients, lasts_us: MS, draw });
        }
        self
    }

    /// The same life with voices that have weights, and nobody who changes the members.
    pub fn weighted(mut self) -> Plan {
        (self.reconfigures, self.files_fail) = (false, false);
        self.groups = groups(&mut Random::new(self.seed ^ 0x7765_6967_6874), self.servers);
        self
    }

    /// The same life with disks that are often slow.
    pub fn with_slow_disks(mut self) -> Plan {
        let mut random = Random::new(self.seed ^ 0x736c_6f77);
        for _ in 0..8 {
            self.faults.push(PlannedFault {
                at_us: random.between(0, self.safety_us),
                target: Target::Follower,
                kind: Fault::SlowDisk,
                lasts_us: random.between(2, 8) * self.tick_ms * MS,
                draw: random.draw(),
            });
        }
        self
    }

    /// Adds chains of events that chance alone brings too seldom.
    fn aim(&mut self, random: &mut Random) {
        if random.one_in(8) {
            let calm = random.between(20, 200) as u32;
            self.rollover = Rollover { calm, last: calm + random.between(1, 40) as u32 };
        }
        self.darkens_after_cuts = random.one_in(2);
        self.stumbles = random.one_in(4);
        // A leader that can't be heard goes on logging requests of its clients until it gives up. The others elect a leader that does not have
        // these transactions, so the old leader must take them back.
        for _ in 0..random.below(3) {
            let kind = *random.pick(&[Fault::Mute, Fault::Isolate, Fault::CutLinks, Fault::Freeze]);
            self.faults.push(PlannedFault {
                at_us: random.between(self.safety_us / 10, self.safety_us),
                target: Target::Leader,
                kind,
                lasts_us: random.between(2, 14) * self.tick_ms * MS,
                draw: random.draw(),
            });
        }
    }

    /// How many servers the ensemble begins with, observers among them.
    pub fn members(&self) -> usize {
        self.servers + self.observers
    }

    /// None for a standalone server.
    pub(crate) fn membership(&self) -> Option<Memberships> {
        if self.members() == 1 {
            return None;
        }
        let role = |number| if number <= self.servers { "participant" } else { "observer" };
        let lines: String = (1..=self.members()).map(|number| member_line(number, role(number)) + "\n").collect();
        let text = lines + &self.groups;
        Some(Memberships::settled(Membership::parse_text(text, false).expect("these lines are a membership")))
    }
}

/// Each server in one of some groups, and with a weight of its own. One of the servers has more than none.
fn groups(random: &mut Random, servers: usize) -> String {
    let count = random.between(1, 3) as usize;
    let mut members = vec![Vec::new(); count];
    let mut text = String::new();
    for server in 1..=servers {
        members[random.index(count)].push(server.to_string());
        let weight = if server == 1 { 1 } else { *random.pick(&[1, 1, 1, 2, 3, 0]) };
        text += &format!("weight.{server}={weight}\n");
    }
    for (group, members) in members.into_iter().enumerate().filter(|(_, members)| !members.is_empty()) {
        text += &format!("group.{}={}\n", group + 1, members.join(":"));
    }
    text
}

/// A member as memberships and requests to change them name it.
pub(crate) fn member_line(number: usize, role: &str) -> String {
    format!("server.{number}=127.0.0.{number}:2888:3888:{role};127.0.0.{number}:2181")
}

impl World {
    pub(crate) fn leader(&self) -> Option<usize> {
        (0..self.servers.len()).find(|server| {
            self.servers[*server].process.as_ref().is_some_and(|process| process.serving == Serving::Deciding)
        })
    }

    fn targets(&self, fault: &PlannedFault) -> Vec<usize> {
        self.servers_hit(fault.target, fault.draw)
    }

    pub(crate) fn servers_hit(&self, target: Target, draw: u64) -> Vec<usize> {
        let leader = self.leader();
        match target {
            Target::Server(server) => vec![server % self.servers.len()],
            Target::Leader => leader.into_iter().collect(),
            Target::Follower => {
                let followers: Vec<usize> = (0..self.servers.len()).filter(|server| Some(*server) != leader).collect();
                if followers.is_empty() { Vec::new() } else { vec![followers[draw as usize % followers.len()]] }
            }
            Target::All => (0..self.servers.len()).collect(),
        }
    }

    pub(crate) fn strike(&mut self, index: usize) {
        let fault = self.plan.faults[index].clone();
        let targets = self.targets(&fault);
        if self.healed || targets.is_empty() {
            return;
        }
        *self.figures.faults.entry(fault.kind).or_default() += 1;
        self.note(20, index as u64, 0, || {
            format!("FAULT {:?} hits {targets:?} for {} ms", fault.kind, fault.lasts_us / MS)
        });
        let over_us = self.now_us + fault.lasts_us;
        let all: Vec<usize> = (0..self.servers.len()).collect();
        for target in targets.clone() {
            let life = self.servers[target].life;
            match fault.kind {
                Fault::Crash | Fault::PowerCut => {
                    if self.servers[target].process.is_some() {
                        self.stop(target, fault.kind == Fault::PowerCut);
                        self.schedule(over_us, Event::Start { server: target, life });
                    }
                }
                Fault::PowerCutWithinWrite => {
                    let disk = &self.servers[target].disk;
                    disk.inject(DiskFault::Crash { at: disk.operations() + 1 + fault.draw % 12 });
                }
                Fault::BrokenDisk => {
                    let disk = &self.servers[target].disk;
                    disk.inject(DiskFault::Broken { at: disk.operations() + 1 + fault.draw % 12 });
                }
                Fault::FullDisk => {
                    let disk = &self.servers[target].disk;
                    disk.inject(DiskFault::Full { from: disk.operations() + 1 + fault.draw % 12 });
                    self.schedule(over_us, Event::FaultOver { index, server: target });
                }
                Fault::Freeze => {
                    if self.servers[target].process.is_some() && !self.servers[target].frozen {
                        self.freeze(target);
                        self.schedule(over_us, Event::Thaw { server: target, life });
                    }
                }
                Fault::CutLinks => self.cut_links(target),
                Fault::SlowDisk => {
                    self.servers[target].slowness = 1 + (fault.draw % 200) as i64;
                    self.schedule(over_us, Event::FaultOver { index, server: target });
                }
                Fault::HungDisk => self.servers[target].disk_hangs_until_us = over_us,
                Fault::ClockJump => {
                    self.servers[target].wall_offset_ms += fault.draw as i64 % 100_000;
                }
                Fault::CutClients => self.cut_lines(target),
                Fault::SlowNetwork => {
                    self.network.slowness = 1 + (fault.draw % 60) as i64;
                    self.schedule(over_us, Event::FaultOver { index, server: target });
                }
                Fault::Isolate | Fault::Mute | Fault::Deaf | Fault::Partition => {
                    for (from, to) in blocked_pairs(&fault, target, &all) {
                        self.network.block(from, to);
                    }
                    self.schedule(over_us, Event::FaultOver { index, server: target });
                }
            }
            if matches!(fault.kind, Fault::SlowNetwork | Fault::Partition) {
                break;
            }
        }
    }

    pub(crate) fn fault_over(&mut self, index: usize, server: usize) {
        let fault = self.plan.faults[index].clone();
        if self.healed {
            // The healing has put everything right at once.
            return;
        }
        match fault.kind {
            // A fault of an operation that is never reached does not count.
            Fault::FullDisk => self.servers[server].disk.inject(DiskFault::Broken { at: 0 }),
            Fault::SlowDisk => self.servers[server].slowness = 1,
            Fault::SlowNetwork => self.network.slowness = 1,
            Fault::Isolate | Fault::Mute | Fault::Deaf | Fault::Partition => {
                let all: Vec<usize> = (0..self.servers.len()).collect();
                for (from, to) in blocked_pairs(&fault, server, &all) {
                    self.network.unblock(from, to);
                }
                self.flush_held();
            }
            _ => {}
        }
    }

    pub(crate) fn freeze(&mut self, server: usize) {
        self.servers[server].frozen = true;
        let now_ms = self.now_ms();
        self.expiry.freezes(server, now_ms);
        self.lines_stand_still(server);
    }

    pub(crate) fn thaw(&mut self, server: usize) {
        if !std::mem::take(&mut self.servers[server].frozen) {
            return;
        }
        self.note(21, server as u64, 0, || format!("server {} goes on", server + 1));
        let now_ms = self.now_ms();
        self.expiry.thaws(server, now_ms);
        let deferred = std::mem::take(&mut self.servers[server].deferred);
        self.catch_up(deferred);
        self.flush_held();
    }

    /// All faults end, and all servers that are down start.
    pub(crate) fn heal(&mut self) {
        self.note(22, 0, 0, || "HEALED".to_owned());
        self.end_scene();
        self.healed = true;
        if self.plan.sabotage != Some(Sabotage::NeverHeals) {
            for from in 0..self.servers.len() {
                for to in 0..self.servers.len() {
                    while self.network.is_blocked(from, to) {
                        self.network.unblock(from, to);
                    }
                }
            }
        } else {
            for to in 0..self.servers.len() {
                self.network.block(0, to);
            }
        }
        self.network.slowness = 1;
        for server in 0..self.servers.len() {
            if self.servers[server].short_of != Shortage::default() {
                self.schedule(self.now_us, Event::HasRoom { server });
            }
            self.servers[server].slowness = 1;
            self.servers[server].disk_hangs_until_us = 0;
            // This includes a server that is no member, whose process does not start: clients that try the server are refused, and need not wait.
            self.servers[server].powered = true;
            self.servers[server].disk.inject(DiskFault::Broken { at: 0 });
            self.thaw(server);
            let life = self.servers[server].life;
            if self.servers[server].process.is_none() {
                self.schedule(self.now_us + 10 * MS, Event::Start { server, life });
            }
            self.tend(server);
        }
        for client in 0..self.clients.len() {
            self.pause_of(client);
        }
        self.flush_held();
    }
}

fn blocked_pairs(fault: &PlannedFault, target: usize, all: &[usize]) -> Vec<(usize, usize)> {
    let others = || all.iter().copied().filter(move |other| *other != target);
    match fault.kind {
        Fault::Mute => others().map(|other| (target, other)).collect(),
        Fault::Deaf => others().map(|other| (other, target)).collect(),
        Fault::Isolate => others().flat_map(|other| [(target, other), (other, target)]).collect(),
        Fault::Partition => {
            let inside = |server: usize| server == target || fault.draw >> server & 1 == 1;
            let pairs = all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to)));
            pairs.filter(|(from, to)| inside(*from) != inside(*to)).collect()
        }
        _ => Vec::new(),
    }
}
