//! The registry: leases by application and id, and everything that clients and replicas do to them.
//!
//! What always holds here: each change that clients are to hear of is in the delta; the counter of self-preservation hears of each lease that begins or
//! ends, and of each renewal. Which instances are there, and under which names: `holdings.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::Now;
use crate::application::{Application, Applications, Record};
use crate::eviction::{Random, Schedule};
use crate::holdings::{Entry, Holdings, Vip, size};
use crate::instance::{ActionType, Instance, Pair};
use crate::lease::Lease;
use crate::preservation::{Counter, Preservation};
use crate::recent::Recent;
use crate::settings::Settings;
use crate::status::{Status, shown};
use crate::tally::{Last, LastLease, Tally};
use crate::tombstones::Tombstones;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// An instance, or whoever speaks for it.
    Client,
    /// Another server, which passes on what a client told it.
    Replica,
}

/// What became of a registration. The wire knows one answer for all of them but [`Registered::Full`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// The newcomer stands.
    Taken,
    /// The registry knows a newer version: that one stands, with a new lease.
    Older,
    /// The same version with other contents, of which those that stand won.
    Tied,
    /// A replica brought back what was cancelled here.
    Cancelled,
    /// Instances of this application are in the coordination tree alone, or this one is to be.
    Elsewhere,
    /// There is no room for another instance.
    Full,
}

/// What became of a heartbeat.
#[derive(Debug, Clone)]
pub enum Heartbeat {
    /// The lease is renewed.
    Renewed,
    /// Nothing is known of the instance, or its status is unknown: it shall register. The lease, if there is one, is not renewed.
    Unknown,
    /// The lease is renewed, but the sender knows a newer version: the instance shall register.
    Outdated,
    /// The lease is renewed, but this replica knows an older version than the one that stands.
    Conflict(Record),
}

/// What an instance may take, about: a registration's body is shorter, but metadata can be added to later.
const MAX_INSTANCE_BYTES: usize = 4 << 20;

/// The override of an instance, or that there is none, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Override {
    pub to: Option<Status>,
    /// By the wall clock of the server that was asked, in milliseconds since the Unix epoch; 0 where there never was one.
    pub at_ms: i64,
}

/// What a server of this kind knows of an instance, beyond what the protocol says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub status: Status,
    pub set: Override,
    /// See [`contents_checksum`].
    pub contents: u32,
}

/// Of all that a client said of an instance, its statuses apart.
pub(crate) fn contents_checksum(instance: &Instance) -> u32 {
    crc32fast::hash(&crate::encoding::contents(instance))
}

/// All instances that this server knows.
#[derive(Debug)]
pub struct Registry {
    pub(crate) settings: Settings,
    pub(crate) holdings: Holdings,
    pub(crate) recent: Recent,
    pub(crate) tombstones: Tombstones,
    pub(crate) counter: Counter,
    pub(crate) tally: Tally,
    last_registered: Last,
    last_cancelled: Last,
    pub(crate) random: Random,
    /// The delta, as last told.
    pub(crate) delta: Option<Arc<Applications>>,
    /// What was told to those who follow the changes.
    pub(crate) told_since: crate::rest::Told,
    deltas: i64,
    /// None before the opening.
    pub(crate) eviction: Option<Schedule>,
    /// Lists are refused until this moment, in steady time.
    lists_from_ms: Option<u64>,
    /// Applications that are found in the coordination tree alone.
    claimed: BTreeSet<Box<str>>,
}

impl Registry {
    /// An empty registry that is not open yet: it takes registrations, ends no lease, and shows no lists.
    pub fn new(settings: Settings, now: Now) -> Registry {
        Registry {
            holdings: Holdings::default(),
            recent: Recent::default(),
            tombstones: Tombstones::default(),
            counter: Counter::new(&settings, now.steady_ms),
            random: Random(settings.seed),
            tally: Tally::default(),
            last_registered: Last::default(),
            last_cancelled: Last::default(),
            delta: None,
            told_since: Default::default(),
            deltas: 0,
            eviction: None,
            lists_from_ms: None,
            claimed: BTreeSet::new(),
            settings,
        }
    }

    /// Opens for traffic after so many instances were copied from a peer. The count of clients starts from that number: registrations that came
    /// before are forgotten by it, as in the original.
    pub fn open(&mut self, copied: u64, now: Now) {
        let clients = if copied == 0 { self.settings.clients_when_empty } else { copied };
        self.counter.open(clients, now.steady_ms);
        self.eviction = Some(Schedule { due_steady_ms: now.steady_ms + self.settings.eviction_interval_ms, run: None });
        let wait_ms = if clients == 0 { self.settings.wait_when_empty_ms } else { 0 };
        self.lists_from_ms = Some(now.steady_ms + wait_ms);
    }

    pub fn is_open(&self) -> bool {
        self.eviction.is_some()
    }

    /// Whether lists may be shown. An empty list that is told too early is taken for the truth.
    pub fn shows_lists(&self, now: Now) -> bool {
        self.lists_from_ms.is_some_and(|from_ms| now.steady_ms >= from_ms)
    }

    /// Whether deltas are shown.
    pub fn shows_deltas(&self) -> bool {
        self.settings.deltas
    }

    /// Instances that are there.
    pub fn len(&self) -> usize {
        self.holdings.counts().total() as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many instances have this status.
    pub fn count(&self, status: Status) -> u64 {
        self.holdings.counts().of(status)
    }

    /// How many bytes the instances take, about.
    pub fn bytes(&self) -> usize {
        self.holdings.bytes()
    }

    pub fn preservation(&mut self, now: Now) -> Preservation {
        self.counter.look(now.steady_ms)
    }

    /// What was done since the start.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The last leases that began, and the last that ended, newest first.
    pub fn last_leases(&self) -> [Vec<LastLease>; 2] {
        [self.last_registered.all(), self.last_cancelled.all()]
    }

    /// How many applications there are.
    pub fn applications_count(&self) -> usize {
        self.holdings.applications_count()
    }

    pub fn register(&mut self, newcomer: Instance, caller: Caller, now: Now) -> Registered {
        self.register_set(newcomer, None, caller, now)
    }

    /// The same, with the override as a server of this kind knows it. The protocol cannot tell an override to `Unknown` from none.
    pub(crate) fn register_set(
        &mut self,
        mut newcomer: Instance,
        came: Option<Override>,
        caller: Caller,
        now: Now,
    ) -> Registered {
        // What another server says of an instance that asked for the tree is a second answer.
        let is_second = caller == Caller::Replica && crate::consistent::wants_consistency(&newcomer);
        if self.is_claimed(&newcomer.app) || is_second {
            return Registered::Elsewhere;
        }
        let key = (newcomer.app.clone(), newcomer.id.clone());
        match caller {
            Caller::Client => self.tombstones.remove(&key),
            Caller::Replica if self.tombstones.refuses(&key, newcomer.dirty_ms, now.steady_ms) => {
                self.tally.kept_out += 1;
                return Registered::Cancelled;
            }
            Caller::Replica => {}
        }
        let duration_s = newcomer.duration_s;
        // What another server only remembers confirms nothing.
        let is_remembered = newcomer.is_unconfirmed() && caller == Caller::Replica;
        newcomer.set_unconfirmed(false);
        let standing = self.holdings.entry(&key.0, &key.1);
        let (old_bytes, new_bytes) = (standing.map_or(0, |entry| size(&entry.instance)), size(&newcomer));
        let is_too_much = self.holdings.bytes() - old_bytes + new_bytes > self.settings.max_bytes;
        if new_bytes > old_bytes && (is_too_much || new_bytes > MAX_INSTANCE_BYTES) {
            self.tally.refused += 1;
            return Registered::Full;
        }
        let mut registered = Registered::Taken;
        let (stands, service_up_ms, set, set_at_ms) = match standing {
            Some(standing) => {
                let old = &standing.instance;
                if old.dirty_ms > newcomer.dirty_ms {
                    registered = Registered::Older;
                } else if caller == Caller::Replica && loses_tie(&newcomer, &confirmed(old)) {
                    registered = Registered::Tied;
                }
                if registered != Registered::Taken {
                    newcomer = Instance::clone(&confirmed(old));
                }
                let was_remembered = old.is_unconfirmed();
                newcomer.set_unconfirmed(is_remembered && was_remembered);
                if was_remembered && !is_remembered {
                    self.counter.joined();
                }
                (Some(old.status), standing.lease.times.service_up_ms, standing.set, standing.set_at_ms)
            }
            None => {
                newcomer.set_unconfirmed(is_remembered);
                if !is_remembered {
                    self.counter.joined();
                }
                (None, 0, None, 0)
            }
        };
        let said = Some(newcomer.overridden_status).filter(|set| *set != Status::Unknown);
        let (set, set_at_ms) = match came {
            Some(came) if came.at_ms > set_at_ms => (came.to, came.at_ms),
            Some(came) if came.at_ms < set_at_ms => (set, set_at_ms),
            Some(came) => (set.or(came.to), set_at_ms),
            None => (set.or(said), set_at_ms),
        };
        newcomer.overridden_status = set.unwrap_or(Status::Unknown);
        newcomer.status = shown(newcomer.status, set, stands.filter(|_| caller == Caller::Client));
        let mut lease = Lease::new(duration_s, service_up_ms, now);
        if newcomer.status == Status::Up {
            lease.service_up(now);
        }
        let entry = Entry {
            instance: Arc::new(newcomer),
            lease,
            set,
            set_at_ms,
            updated_ms: now.wall_ms,
            action: ActionType::Added,
            is_of_tree: false,
        };
        self.tally.registered.count(caller);
        self.last_registered.add(now.wall_ms, entry.key());
        self.note(entry.record(), now);
        self.holdings.put(entry);
        registered
    }

    /// Shows an instance that the coordination tree has. It takes no part in self-preservation, and no lease ends it.
    pub(crate) fn show(&mut self, instance: Instance, registered_ms: i64, now: Now) {
        let standing = self.holdings.entry(&instance.app, &instance.id);
        let action = if standing.is_some() { ActionType::Modified } else { ActionType::Added };
        let mut lease =
            Lease::new(instance.duration_s, standing.map_or(0, |entry| entry.lease.times.service_up_ms), now);
        lease.times.registered_ms = registered_ms;
        if instance.status == Status::Up {
            lease.service_up(now);
        }
        let set = Some(instance.overridden_status).filter(|set| *set != Status::Unknown);
        let entry = Entry {
            instance: Arc::new(instance),
            lease,
            set,
            set_at_ms: 0,
            updated_ms: now.wall_ms,
            action,
            is_of_tree: true,
        };
        self.note(entry.record(), now);
        self.holdings.put(entry);
    }

    /// Shows such an instance no more.
    pub(crate) fn hide(&mut self, app: &str, id: &str, now: Now) {
        if self.holdings.entry(app, id).is_some_and(|entry| entry.is_of_tree) {
            self.take(app, id, now);
        }
    }

    /// Such an instance was heard.
    pub(crate) fn beat(&mut self, app: &str, id: &str, now: Now) {
        if let Some(entry) = self.holdings.lease(app, id).filter(|entry| entry.is_of_tree) {
            entry.lease.renew(now);
        }
    }

    /// Whether an application is found in the coordination tree alone.
    pub(crate) fn is_claimed(&self, app: &str) -> bool {
        self.claimed.contains(app)
    }

    /// An application may be registered here as any other again.
    pub(crate) fn release(&mut self, app: &str) {
        self.claimed.remove(app);
    }

    /// An application is found in the coordination tree alone from now on: what clients registered of it elsewhere goes, and registers anew.
    pub(crate) fn claim(&mut self, app: &str, now: Now) {
        if !self.claimed.insert(app.into()) {
            return;
        }
        let Some(application) = self.holdings.application(app) else { return };
        for record in &application.records {
            let id = &record.instance.id;
            if self.holdings.entry(app, id).is_some_and(|entry| !entry.is_of_tree) {
                self.remove(app, id, now);
            }
        }
    }

    /// Takes the instance that another server knows better, with its override. `came`: the override as a server of this kind knows it.
    pub fn adopt(&mut self, instance: Instance, came: Option<Override>, now: Now) {
        let set = Some(instance.overridden_status).filter(|set| *set != Status::Unknown);
        if came.is_none()
            && let Some(entry) = self.holdings.lease(&instance.app, &instance.id)
        {
            entry.set = set.or(entry.set);
        }
        self.register_set(instance, came, Caller::Replica, now);
    }

    /// What a server of this kind says of an instance with a heartbeat that was taken: both then know the same. Returns what became of the heartbeat.
    pub(crate) fn compare(&mut self, app: &str, id: &str, known: &Known, now: Now) -> Heartbeat {
        let Some(entry) = self.holdings.entry(app, id) else { return Heartbeat::Unknown };
        if known.contents != contents_checksum(&entry.instance) {
            return Heartbeat::Outdated;
        }
        if known.set.at_ms < entry.set_at_ms {
            return Heartbeat::Conflict(entry.record());
        }
        let same_override = known.set == Override { to: entry.set, at_ms: entry.set_at_ms };
        if !same_override || known.status != entry.instance.status {
            // An instance is heard by one server at a time, and that one's word counts.
            self.override_with(app, id, known.set.to, known.status, None, Some(known.set.at_ms), now);
        }
        Heartbeat::Renewed
    }

    /// Sets or takes away an override, as a server of this kind heard it at `at_ms`. None where a newer one stands, or there is no such instance.
    pub(crate) fn override_from(
        &mut self,
        (app, id): (&str, &str),
        set: Option<Status>,
        status: Status,
        dirty_ms: Option<i64>,
        at_ms: i64,
        now: Now,
    ) -> Option<()> {
        let entry = self.holdings.lease(app, id).filter(|entry| at_ms >= entry.set_at_ms)?;
        entry.lease.renew(now);
        self.override_with(app, id, set, status, dirty_ms, Some(at_ms), now);
        Some(())
    }

    /// The override of an instance, and since when.
    pub fn override_since(&self, app: &str, id: &str) -> Override {
        let entry = self.holdings.entry(app, id);
        entry.map_or_else(Override::default, |entry| Override { to: entry.set, at_ms: entry.set_at_ms })
    }

    /// `dirty_ms`: the version that the sender knows. `overridden`: the override that it knows.
    pub fn renew(
        &mut self,
        app: &str,
        id: &str,
        dirty_ms: Option<i64>,
        overridden: Option<Status>,
        caller: Caller,
        now: Now,
    ) -> Heartbeat {
        let Some(entry) = self.holdings.lease(app, id) else {
            self.tally.unknown.count(caller);
            return Heartbeat::Unknown;
        };
        let says = entry.instance.status;
        let status = shown(says, entry.set, Some(says).filter(|_| caller == Caller::Client));
        if status == Status::Unknown {
            self.tally.unknown.count(caller);
            return Heartbeat::Unknown;
        }
        if entry.instance.is_unconfirmed() {
            self.confirm(app, id, now);
        }
        let Some(entry) = self.holdings.lease(app, id) else { return Heartbeat::Unknown };
        entry.lease.renew(now);
        self.tally.renewed.count(caller);
        self.counter.renewed(now.steady_ms);
        let stands_ms = entry.instance.dirty_ms;
        let outcome = match dirty_ms.filter(|_| self.settings.sync_when_timestamp_differs) {
            Some(dirty_ms) if dirty_ms > stands_ms => Heartbeat::Outdated,
            Some(dirty_ms) if dirty_ms < stands_ms && caller == Caller::Replica => {
                let mut record = entry.record();
                Arc::make_mut(&mut record.instance).status = status;
                Heartbeat::Conflict(record)
            }
            _ => Heartbeat::Renewed,
        };
        // Only a replica that knows a newer version is believed about the override.
        let adopted = match (&outcome, caller, overridden) {
            (Heartbeat::Outdated, Caller::Replica, Some(adopted)) if adopted != Status::Unknown => Some(adopted),
            _ => None,
        };
        if status != says || adopted.is_some_and(|adopted| entry.set != Some(adopted)) {
            self.holdings.change(app, id, |entry, instance| {
                instance.status = status;
                if let Some(adopted) = adopted {
                    entry.set = Some(adopted);
                    instance.overridden_status = adopted;
                }
            });
            if let Some(record) = self.record(app, id) {
                self.recent.add_quiet(record, now.steady_ms);
            }
            self.delta = None;
        }
        outcome
    }

    /// False when there is no such instance.
    pub fn cancel(&mut self, app: &str, id: &str, now: Now) -> bool {
        let Some(gone) = self.remove(app, id, now) else { return false };
        self.tally.cancelled += 1;
        if self.settings.remembers_cancelled {
            self.tombstones.add(gone.key(), gone.instance.dirty_ms, gone.lease.duration_ms(), now.steady_ms);
        }
        true
    }

    /// Sets an override and shows it. Nothing is stored where the instance shows that status already. False when there is no such instance.
    pub fn set_override(&mut self, app: &str, id: &str, status: Status, dirty_ms: Option<i64>, now: Now) -> bool {
        let Some(entry) = self.holdings.lease(app, id) else { return false };
        entry.lease.renew(now);
        if entry.instance.status != status {
            self.override_with(app, id, Some(status), status, dirty_ms, None, now);
        }
        true
    }

    /// Takes an override away and shows `status` instead. Nothing changes where there is none. False when there is no such instance.
    pub fn clear_override(&mut self, app: &str, id: &str, status: Status, dirty_ms: Option<i64>, now: Now) -> bool {
        let Some(entry) = self.holdings.lease(app, id) else { return false };
        entry.lease.renew(now);
        if entry.set.is_some() {
            self.override_with(app, id, None, status, dirty_ms, None, now);
        }
        true
    }

    /// Adds or replaces pairs of metadata. None when there is no such instance.
    pub fn set_metadata(
        &mut self,
        app: &str,
        id: &str,
        pairs: impl IntoIterator<Item = Pair>,
        now: Now,
    ) -> Option<Registered> {
        let entry = self.holdings.entry(app, id)?;
        let mut instance = Instance::clone(&entry.instance);
        for (key, value) in pairs {
            match instance.metadata.iter_mut().find(|(known, _)| *known == key) {
                Some(pair) => pair.1 = value,
                None => instance.metadata.push((key, value)),
            }
        }
        Some(self.register(instance, Caller::Client, now))
    }

    /// An instance of an application, as it stands now.
    pub fn record(&self, app: &str, id: &str) -> Option<Record> {
        self.holdings.entry(app, id).map(Entry::record)
    }

    /// The override of an instance, if there is one.
    pub fn override_of(&self, app: &str, id: &str) -> Option<Status> {
        self.holdings.entry(app, id).and_then(|entry| entry.set)
    }

    /// An instance of this id in whatever application, the first by name.
    pub fn record_by_id(&self, id: &str) -> Option<Record> {
        self.holdings.by_id(id).map(Entry::record)
    }

    /// Whether an application has instances.
    pub fn has_application(&self, app: &str) -> bool {
        self.holdings.has_application(app)
    }

    pub fn application(&mut self, app: &str) -> Option<Arc<Application>> {
        self.holdings.application(app)
    }

    /// Everything.
    pub fn applications(&mut self) -> Arc<Applications> {
        self.holdings.applications()
    }

    /// What changed within the retention.
    pub fn delta(&mut self, now: Now) -> Arc<Applications> {
        if self.recent.prune(self.settings.delta_retention_ms, now.steady_ms) {
            self.delta = None;
        }
        let Registry { recent, holdings, deltas, .. } = self;
        self.delta
            .get_or_insert_with(|| {
                *deltas += 1;
                Arc::new(Applications::new(*deltas, holdings.counts().hash(), recent.applications()))
            })
            .clone()
    }

    /// The instances that carry a name.
    pub fn by_vip(&self, kind: Vip, name: &str) -> Applications {
        self.holdings.by_vip(kind, name)
    }

    /// Removes an instance, which stays in the delta.
    pub(crate) fn remove(&mut self, app: &str, id: &str, now: Now) -> Option<Entry> {
        let gone = self.take(app, id, now)?;
        if !gone.instance.is_unconfirmed() {
            self.counter.left();
        }
        self.last_cancelled.add(now.wall_ms, gone.key());
        Some(gone)
    }

    fn take(&mut self, app: &str, id: &str, now: Now) -> Option<Entry> {
        let mut gone = self.holdings.take(app, id)?;
        gone.lease.end(now);
        gone.action = ActionType::Deleted;
        gone.updated_ms = now.wall_ms;
        self.note(gone.record(), now);
        Some(gone)
    }

    /// `at_ms`: when the override was set or taken away, none for now.
    #[expect(clippy::too_many_arguments, reason = "each is a fact of its own, and two callers have all of them")]
    fn override_with(
        &mut self,
        app: &str,
        id: &str,
        set: Option<Status>,
        status: Status,
        dirty_ms: Option<i64>,
        at_ms: Option<i64>,
        now: Now,
    ) {
        self.tally.overridden += 1;
        self.holdings.change(app, id, |entry, instance| {
            entry.set = set;
            // What is done now is newer than what stands, whatever the clock says.
            entry.set_at_ms = at_ms.unwrap_or_else(|| now.wall_ms.max(entry.set_at_ms + 1));
            instance.overridden_status = set.unwrap_or(Status::Unknown);
            instance.status = status;
            instance.dirty_ms = instance.dirty_ms.max(dirty_ms.unwrap_or(0));
            if status == Status::Up {
                entry.lease.service_up(now);
            }
            entry.action = ActionType::Modified;
            entry.updated_ms = now.wall_ms;
        });
        if let Some(record) = self.record(app, id) {
            self.note(record, now);
        }
    }

    /// Puts a change into the delta.
    pub(crate) fn note(&mut self, record: Record, now: Now) {
        self.recent.add(record, now.steady_ms);
        self.delta = None;
    }
}

/// An instance without the mark of those that are only remembered.
fn confirmed(instance: &Arc<Instance>) -> Arc<Instance> {
    let mut instance = instance.clone();
    if instance.is_unconfirmed() {
        Arc::make_mut(&mut instance).set_unconfirmed(false);
    }
    instance
}

/// Whether a replica's registration of the version that stands has other contents and those that stand win. The original lets the last one win, so
/// that two servers that pass theirs to each other end up with each other's. Any order will do that is the same at every server.
fn loses_tie(newcomer: &Instance, stands: &Instance) -> bool {
    newcomer.dirty_ms == stands.dirty_ms && crate::encoding::contents(newcomer) < crate::encoding::contents(stands)
}
