//! One life: an ensemble, its clients, its faults, and everything that watches them, in virtual time.
//!
//! What always holds: events happen in the order of their times, and events of one time in the order in which they were scheduled. Every
//! choice follows from the seed, so the same plan gives the same life; the hash of its trace shows that.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rookeeper_proto::election::Notification;
use rookeeper_replica::{Input, Serving};
use rookeeper_zab::Membership;

use crate::checkers::Verdict;
use crate::checkers::expiry::Expiry;
use crate::checkers::history::Chronicle;
use crate::checkers::leaders::Leaders;
use crate::checkers::linearizable::Floor;
use crate::checkers::progress::{self, Standpoint};
use crate::checkers::refusals::Rules;
use crate::clients::Client;
use crate::faults::{Fault, Plan};
use crate::lines::Line;
use crate::network::{End, Network, Payload, Side};
use crate::patrons::Patrons;
use crate::scenes::{Cue, Stage};
use crate::server::Server;
use rookeeper_proto::random::Random;

/// Virtual time counts in microseconds.
pub(crate) const MS: i64 = 1000;
pub(crate) const SEC: i64 = 1_000_000;

/// More events than this mean that somebody turns in circles.
const MAX_EVENTS: u64 = 3_000_000;

#[derive(Debug)]
pub(crate) enum Event {
    Tick {
        server: usize,
        life: u32,
    },
    Input {
        server: usize,
        life: u32,
        input: Box<Input>,
    },
    /// The thread of a replica looks at its queues.
    Round {
        server: usize,
        life: u32,
    },
    Storage {
        server: usize,
        life: u32,
    },
    Snapshot {
        server: usize,
        life: u32,
    },
    Start {
        server: usize,
        life: u32,
    },
    Thaw {
        server: usize,
        life: u32,
    },
    /// The host loses its power for a moment.
    PowerCut {
        server: usize,
        life: u32,
        why: &'static str,
    },
    Vote {
        from: usize,
        to: usize,
        generation: u64,
        notification: Box<Notification>,
    },
    ElectionDialed {
        from: usize,
        life: u32,
        to: usize,
    },
    ElectionRefused {
        from: usize,
        life: u32,
        to: usize,
    },
    ElectionReset {
        server: usize,
        life: u32,
        peer: usize,
        generation: u64,
    },
    Dialed {
        end: End,
        /// A server, and a port of it.
        target: (usize, u16),
    },
    Arrival {
        number: u64,
        towards: Side,
        payload: Payload,
    },
    Release {
        number: u64,
        towards: Side,
    },
    StreamStep {
        number: u64,
    },
    /// A client has connected.
    LineOpened {
        line: u64,
    },
    /// The task of a connection has something to look at, or to wait for no longer.
    LineWoken {
        line: u64,
    },
    /// A frame of a client arrives.
    Frame {
        line: u64,
        frame: Vec<u8>,
    },
    /// The client closed.
    LineClosed {
        line: u64,
    },
    /// Bytes for a client arrive.
    Answers {
        line: u64,
        bytes: Vec<u8>,
    },
    /// The server closed, or there is none.
    LineLost {
        line: u64,
    },
    Act {
        client: usize,
    },
    /// A server that was removed goes out of service.
    Retire {
        server: usize,
    },
    /// The operator looks at a server that is out of service.
    Tend {
        server: usize,
    },
    Fault {
        index: usize,
    },
    FaultOver {
        index: usize,
        server: usize,
    },
    LoseDisk {
        index: usize,
    },
    FallShort {
        index: usize,
    },
    HasRoom {
        server: usize,
    },
    /// The oracle of two members looks whom to let go on alone.
    Oracle,
    Scene {
        index: usize,
    },
    Restore {
        index: usize,
    },
    SceneStep,
    /// Time to look for connections that nobody needs.
    Sweep,
    Heal,
}

#[derive(Debug)]
struct Scheduled {
    at_us: i64,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest, as the heap wants it.
    fn cmp(&self, other: &Scheduled) -> Ordering {
        (other.at_us, other.number).cmp(&(self.at_us, self.number))
    }
}

/// Figures of a life.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    pub virtual_us: i64,
    pub events: u64,
    pub inputs: u64,
    pub starts: u64,
    pub leaders: u64,
    pub committed: u64,
    pub requests: u64,
    pub answers: u64,
    pub watch_events: u64,
    pub expired: u64,
    pub snapshots_sent: u64,
    pub snapshots_installed: u64,
    pub snapshots_taken: u64,
    pub truncations: u64,
    pub disk_failures: u64,
    pub deep_checks: u64,
    pub reconfigured: u64,
    /// Members that came and went with them, and disks emptied in between.
    pub joins: u64,
    pub removals: u64,
    pub wipes: u64,
    /// Disks of members that were lost.
    pub lost_disks: u64,
    /// Lives that ended early because nobody had the records of what was committed.
    pub blind: u64,
    pub faults: BTreeMap<Fault, u64>,
    /// How often what is rare has happened.
    pub rare: BTreeMap<&'static str, u64>,
}

impl Figures {
    pub(crate) fn note(&mut self, what: &'static str) {
        *self.rare.entry(what).or_default() += 1;
    }

    /// Adds the figures of another life.
    pub fn add(&mut self, other: &Figures) {
        self.virtual_us += other.virtual_us;
        self.events += other.events;
        self.inputs += other.inputs;
        self.starts += other.starts;
        self.leaders += other.leaders;
        self.committed += other.committed;
        self.requests += other.requests;
        self.answers += other.answers;
        self.watch_events += other.watch_events;
        self.expired += other.expired;
        self.snapshots_sent += other.snapshots_sent;
        self.snapshots_installed += other.snapshots_installed;
        self.snapshots_taken += other.snapshots_taken;
        self.truncations += other.truncations;
        self.disk_failures += other.disk_failures;
        self.deep_checks += other.deep_checks;
        self.reconfigured += other.reconfigured;
        self.joins += other.joins;
        self.removals += other.removals;
        self.wipes += other.wipes;
        self.lost_disks += other.lost_disks;
        self.blind += other.blind;
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (what, count) in &other.rare {
            *self.rare.entry(what).or_default() += count;
        }
    }
}

/// How a life went.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    /// The first violation, and when it was seen.
    pub violation: Option<String>,
    pub figures: Figures,
    pub trace_hash: u64,
    /// Only where it was asked for.
    pub trace: Vec<String>,
}

/// One life: all servers and clients, the network between them, and the checkers that look on.
#[derive(Debug)]
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) now_us: i64,
    queue: BinaryHeap<Scheduled>,
    next_number: u64,
    pub(crate) random: Random,
    pub(crate) servers: Vec<Server>,
    pub(crate) network: Network,
    pub(crate) clients: Vec<Client>,
    pub(crate) lines: BTreeMap<u64, Line>,
    pub(crate) next_line: u64,
    pub(crate) inbox: VecDeque<(usize, Input)>,
    pub(crate) chronicle: Chronicle,
    pub(crate) leaders: Leaders,
    pub(crate) floor: Floor,
    pub(crate) expiry: Expiry,
    /// What the clients behind the plan's own do.
    pub(crate) patrons: Patrons,
    /// The scene that is on.
    pub(crate) stage: Option<Stage>,
    /// Whom the oracle lets go on alone.
    pub(crate) oracle_for: Option<usize>,
    pub(crate) healed: bool,
    pub(crate) figures: Figures,
    /// The one in force.
    pub(crate) membership: Option<Membership>,
    /// Set where nobody can tell any more what is right.
    pub(crate) is_blind: bool,
    violation: Option<String>,
    hash: u64,
    trace: Option<Vec<String>>,
}

/// Lives through a plan. A panic of the product ends the life as any other violation does, where panics do not end the process.
pub fn live(plan: Plan, traced: bool) -> Outcome {
    let mut world = World::new(plan, traced);
    if let Err(cause) = catch_unwind(AssertUnwindSafe(|| world.run())) {
        let text = cause.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("for no stated reason").to_owned();
        world.violated(format!("panic: {text}"));
    }
    world.outcome()
}

impl World {
    fn new(plan: Plan, traced: bool) -> World {
        let mut random = Random::new(plan.seed);
        let servers = (0..plan.members())
            .map(|number| Server::new(number, random.draw(), random.between(0, 1_000_000)))
            .collect::<Vec<Server>>();
        if !plan.empty_is_expected {
            servers.iter().for_each(Server::permit_to_begin_empty);
        }
        let mut clients: Vec<Client> = (0..plan.clients).map(|number| Client::new(number, plan.tick_ms)).collect();
        let patrons = Patrons::new(&plan);
        clients.extend(patrons.clients(&plan));
        let mut chronicle = Chronicle::default();
        chronicle.model.local_sessions = plan.habits.local_sessions;
        // An operator is nobody in particular.
        let (checks_access, enforces_quotas) = (!plan.reconfigures, plan.habits.quotas);
        chronicle.refusals.rules = Rules { checks_access, enforces_quotas };
        World {
            now_us: 0,
            queue: BinaryHeap::new(),
            next_number: 0,
            random,
            servers,
            network: Network::default(),
            clients,
            lines: BTreeMap::new(),
            next_line: 1,
            inbox: VecDeque::new(),
            chronicle,
            leaders: Leaders::default(),
            floor: Floor::default(),
            // A round or two for answers and for other servers come before that of the clients.
            expiry: Expiry::new(plan.tick_ms, 5 * plan.busy_us / MS),
            patrons,
            stage: None,
            oracle_for: None,
            healed: false,
            figures: Figures::default(),
            membership: plan.membership().map(|memberships| memberships.committed.clone()),
            is_blind: false,
            violation: None,
            hash: 0xcbf2_9ce4_8422_2325,
            trace: traced.then(Vec::new),
            plan,
        }
    }

    pub(crate) fn schedule(&mut self, at_us: i64, event: Event) {
        self.next_number += 1;
        self.queue.push(Scheduled { at_us, number: self.next_number, event });
    }

    /// What waited for a server that stood still happens now, in the order in which it was to happen, and before what is due now and was
    /// scheduled later: the frames of a connection stay in their order.
    pub(crate) fn catch_up(&mut self, deferred: impl IntoIterator<Item = (u64, Event)>) {
        let at_us = self.now_us;
        self.queue.extend(deferred.into_iter().map(|(number, event)| Scheduled { at_us, number, event }));
    }

    pub(crate) fn feed(&mut self, server: usize, input: Input) {
        if self.plan.busy_us == 0 {
            return self.inbox.push_back((server, input));
        }
        if let Some(process) = &mut self.servers[server].process {
            process.inputs.push(input);
            self.expect_round(server);
        }
    }

    /// Puts something into the trace: three numbers into its hash, the text where somebody reads it.
    pub(crate) fn note(&mut self, what: u64, one: u64, other: u64, text: impl FnOnce() -> String) {
        for number in [what, one, other, self.now_us as u64] {
            self.hash = (self.hash ^ number).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.3} {}", self.now_us as f64 / 1000.0, text()));
        }
    }

    pub(crate) fn violated(&mut self, problem: String) {
        if self.violation.is_none() {
            self.note(99, 0, 0, || format!("VIOLATION {problem}"));
            self.violation = Some(format!("at {} ms: {problem}", self.now_us / MS));
        }
    }

    pub(crate) fn judge(&mut self, verdict: Verdict) {
        if let Err(problem) = verdict {
            self.violated(problem);
        }
    }

    fn run(&mut self) {
        if !self.plan.groups.is_empty() {
            self.figures.note("lives with groups and weights");
        }
        if self.plan.play.is_some() {
            self.figures.note("lives with recipes");
        }
        for server in 0..self.servers.len() {
            let at_us = self.random.skewed(1, 300 * MS);
            self.schedule(at_us, Event::Start { server, life: 0 });
        }
        for client in 0..self.clients.len() {
            self.schedule(500 * MS, Event::Act { client });
        }
        for index in 0..self.plan.faults.len() {
            self.schedule(self.plan.faults[index].at_us, Event::Fault { index });
        }
        for index in 0..self.plan.disk_losses.len() {
            self.schedule(self.plan.disk_losses[index].at_us, Event::LoseDisk { index });
        }
        for index in 0..self.plan.shortages.len() {
            self.schedule(self.plan.shortages[index].at_us, Event::FallShort { index });
        }
        if self.plan.has_oracle {
            self.figures.note("lives with an oracle");
            self.schedule(0, Event::Oracle);
        }
        for index in 0..self.plan.scenes.len() {
            self.schedule(self.plan.scenes[index].at_us, Event::Scene { index });
        }
        for index in 0..self.plan.restores.len() {
            self.schedule(self.plan.restores[index].at_us, Event::Restore { index });
        }
        self.schedule(self.plan.safety_us, Event::Heal);
        self.schedule(self.plan.tick_ms * MS, Event::Sweep);
        let end_us = self.plan.safety_us + self.plan.healed_us;
        let mut settled_us = None;
        while self.violation.is_none() && !self.is_blind {
            let Some(Scheduled { at_us, number, event }) = self.queue.pop() else { break };
            if at_us > end_us {
                self.now_us = end_us;
                break;
            }
            self.now_us = at_us;
            self.figures.events += 1;
            if self.figures.events > MAX_EVENTS {
                self.violated("progress: somebody turns in circles".to_owned());
            }
            self.dispatch(number, event);
            self.run_inbox();
            // The healed phase need not last longer than it takes.
            if self.healed && self.figures.events.is_multiple_of(64) {
                match settled_us {
                    None if self.has_recovered() => settled_us = Some(self.now_us),
                    Some(since_us) if self.now_us > since_us + 2 * SEC && self.is_quiet() => break,
                    _ => {}
                }
            }
        }
        if self.is_blind {
            self.figures.blind += 1;
        } else if self.violation.is_none() {
            self.judge_the_end();
        }
    }

    fn outcome(mut self) -> Outcome {
        self.figures.virtual_us = self.now_us;
        self.figures.committed = self.chronicle.len() as u64;
        self.figures.leaders = self.leaders.count() as u64;
        Outcome {
            seed: self.plan.seed,
            violation: self.violation,
            figures: self.figures,
            trace_hash: self.hash,
            trace: self.trace.unwrap_or_default(),
        }
    }

    fn has_recovered(&self) -> bool {
        self.members().all(|(_, server)| server.serves())
            && self.clients.iter().take(self.plan.clients).all(Client::is_content)
            && self.patrons_are_content()
    }

    /// The servers that are to be there in the end.
    fn members(&self) -> impl Iterator<Item = (usize, &Server)> {
        self.servers.iter().enumerate().filter(|(number, _)| self.is_member(*number))
    }

    /// Nothing is on its way, so that all members must be equal.
    fn is_quiet(&self) -> bool {
        self.has_recovered() && {
            let last = self.chronicle.last();
            self.members().all(|(_, server)| {
                server
                    .process
                    .as_ref()
                    .is_some_and(|process| process.applied == last && process.replica.in_flight() == 0)
            })
        }
    }

    fn judge_the_end(&mut self) {
        if let Err(problem) = self.judge_patrons() {
            return self.violated(problem);
        }
        if let Some(client) = self.clients.iter().take(self.plan.clients).find(|client| !client.is_content()) {
            let problem =
                format!("progress: client {} got no answer without faults: {}", client.number, client.describe());
            return self.violated(problem);
        }
        let mut standpoints = Vec::new();
        for (number, server) in self.servers.iter().enumerate() {
            let Some(process) = &server.process else {
                if !self.is_member(number) {
                    continue;
                }
                return self.violated(format!("progress: server {} is down although there are no faults", number + 1));
            };
            if !self.is_member(number) {
                // Such a server may follow, or look for a leader, for ever. The server must not lead.
                if process.serving == Serving::Deciding {
                    return self.violated(format!("progress: server {}, which is no member, leads", number + 1));
                }
                continue;
            }
            if self.is_kept_out_by_its_promise(number) {
                continue;
            }
            let tree = process.shared.tree();
            standpoints.push(Standpoint {
                server: number + 1,
                serving: process.serving,
                last: tree.last_zxid(),
                digest: tree.digest(),
                portrait: progress::portrait(&tree),
            });
        }
        let verdict = progress::agreed(&standpoints);
        self.judge(verdict);
        let verdict = self.judge_history();
        self.judge(verdict);
    }

    /// The state is what the history gives, transaction by transaction from the first on.
    fn judge_history(&self) -> Verdict {
        let mut tree = rookeeper_tree::Tree::new();
        let mut changes = Vec::new();
        for (zxid, entry) in self.chronicle.records() {
            if let Some(from) = entry.restored {
                tree = self.chronicle.tree_restored(zxid, from)?;
                self.chronicle.compare_digest(0, zxid, tree.digest())?;
                continue;
            }
            let record = rookeeper_proto::TxnRecord::decode(&entry.body).map_err(|error| error.to_string())?;
            changes.clear();
            let (digest, txn) = (record.digest, record.txn.clone());
            tree.apply(&record.header, record.txn, &mut changes);
            if let Some(digest) = digest.filter(|digest| digest.value != tree.digest()) {
                let (given, found) = (digest.value, tree.digest());
                return Err(format!("history: replayed it has digest {found:x} at {zxid}, not {given:x}, by {txn:?}"));
            }
            self.chronicle.compare_digest(0, zxid, tree.digest())?;
        }
        let is_up_to_date = |(number, _): &(usize, _)| !self.is_kept_out_by_its_promise(*number);
        let Some((number, server)) = self.members().find(is_up_to_date) else { return Ok(()) };
        let Some(process) = &server.process else { return Ok(()) };
        let (replayed, live) = (progress::portrait(&tree), progress::portrait(&process.shared.tree()));
        match replayed.iter().zip(&live).find(|(one, other)| one != other) {
            Some((one, other)) => {
                Err(format!("history: replayed it gives {one}, but server {} has {other}", number + 1))
            }
            None if replayed.len() != live.len() => {
                Err("history: replayed it gives another number of nodes".to_owned())
            }
            None => Ok(()),
        }
    }

    /// The process that an event is for, which may be frozen. Packets from other servers wait in their links.
    fn concerned(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Tick { server, .. }
            | Event::Input { server, .. }
            | Event::Round { server, .. }
            | Event::HasRoom { server }
            | Event::Storage { server, .. }
            | Event::Snapshot { server, .. }
            | Event::ElectionReset { server, .. } => Some(*server),
            Event::ElectionDialed { from, .. } | Event::ElectionRefused { from, .. } => Some(*from),
            Event::Dialed { end, .. } => Some(end.server),
            Event::StreamStep { number } => self.streamer(*number),
            Event::LineOpened { line }
            | Event::LineWoken { line }
            | Event::Frame { line, .. }
            | Event::LineClosed { line } => self.lines.get(line).map(|line| line.server),
            _ => None,
        }
    }

    fn dispatch(&mut self, number: u64, event: Event) {
        if let Some(server) = self.concerned(&event)
            && self.servers[server].frozen
        {
            self.servers[server].deferred.push_back((number, event));
            return;
        }
        let alive = |world: &World, server: usize, life: u32| {
            world.servers[server].life == life && world.servers[server].process.is_some()
        };
        match event {
            Event::Tick { server, life } if alive(self, server, life) => self.tick(server),
            Event::Input { server, life, input } if alive(self, server, life) => self.feed(server, *input),
            Event::Round { server, life } if alive(self, server, life) => self.round(server),
            Event::Storage { server, life } if alive(self, server, life) => self.storage_step(server),
            Event::Snapshot { server, life } if alive(self, server, life) => self.snapshot(server),
            Event::Thaw { server, life } if self.servers[server].life == life => self.thaw(server),
            Event::PowerCut { server, life, why } if alive(self, server, life) && !self.healed => {
                self.figures.note(why);
                self.stop(server, true);
                let at_us = self.now_us + self.random.skewed(50 * MS, 2 * SEC);
                self.schedule(at_us, Event::Start { server, life });
            }
            Event::Start { server, life } if self.servers[server].life == life => self.start(server),
            Event::Vote { from, to, generation, notification } => {
                self.vote_arrives(from, to, generation, *notification)
            }
            Event::ElectionDialed { from, life, to } => self.election_dialed(from, life, to),
            Event::ElectionRefused { from, life, to } => self.election_refused(from, life, to),
            Event::ElectionReset { server, life, peer, generation } => {
                self.election_reset(server, life, peer, generation)
            }
            Event::Dialed { end, target } => self.dialed(end, target),
            Event::Arrival { number, towards, payload } => self.arrives(number, towards, payload),
            Event::Release { number, towards } => self.release(number, towards),
            Event::StreamStep { number } => self.stream_step(number),
            Event::LineOpened { line } => self.line_opened(line),
            Event::LineWoken { line } => self.run_line(line),
            Event::Frame { line, frame } => self.frame_arrives(line, frame),
            Event::LineClosed { line } => self.line_closed(line),
            Event::Answers { line, bytes } => self.answers_arrive(line, &bytes),
            Event::LineLost { line } => self.line_lost(line),
            Event::Act { client } => self.act(client),
            Event::Retire { server } => self.retire(server),
            Event::Tend { server } => self.tend(server),
            Event::Fault { index } => self.strike(index),
            Event::FaultOver { index, server } => self.fault_over(index, server),
            Event::LoseDisk { index } => self.lose_disk(index),
            Event::FallShort { index } => self.fall_short(index),
            Event::HasRoom { server } => self.have_room(server),
            Event::Oracle => self.consult_oracle(),
            Event::Scene { index } => self.begin_scene(index),
            Event::Restore { index } => self.begin_restore(index),
            Event::SceneStep => self.cue(Cue::Step),
            Event::Sweep => {
                self.look_for_lingering();
                self.schedule(self.now_us + self.plan.tick_ms * MS, Event::Sweep);
            }
            Event::Heal => self.heal(),
            Event::Tick { .. }
            | Event::Input { .. }
            | Event::Round { .. }
            | Event::Storage { .. }
            | Event::Snapshot { .. }
            | Event::Thaw { .. }
            | Event::PowerCut { .. }
            | Event::Start { .. } => {}
        }
    }
}
