//! What the replica shares with the connections' tasks: the tree, the watches, who is connected.
//!
//! What always holds here:
//! - locks are taken in the order tree, sessions, watches, connections, deferred events, outbox; `locks.rs` watches over the first of them;
//! - only the replica changes the tree; a watch event is in its outbox before the change that caused it can be read, or it is
//!   deferred and the reader of the change is served first ([`Shared::serve_deferred_to`]);
//! - a watch is registered while the tree is locked for the read that asked for it, so no change falls between the two.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use rookeeper_proto::event::{EventType, NOTIFICATION_XID, STATE_SYNC_CONNECTED, WatcherEvent};
use rookeeper_proto::frame::{self, ReplyHeader};
use rookeeper_proto::jute::Text;
use rookeeper_proto::{Permissions, WallMs, Zxid};
use rookeeper_tree::{AccessList, Change, Fired, Tree, WatchTables, WatcherId};

use crate::clients::budget::Budget;
use crate::clients::connection::Connection;
use crate::clients::locks::{Held, Rank};
use crate::clients::session::{Sessions, first_session_id};
use crate::clients::throttle::Throttle;
use crate::digest_log::DigestLog;
use crate::room::RoomBoard;
use crate::settings::Settings;
use crate::statistics::Statistics;
use crate::status::{Serving, StatusBoard};
use crate::top::Top;

/// So many events of one transaction are put into outboxes while the tree is locked. The others follow right after, in portions.
const DEFER_ABOVE: usize = 1000;

/// What the replica and the connections' tasks share. The head of this file says in which order its locks are taken.
#[derive(Debug)]
pub struct Shared {
    pub settings: Settings,
    pub statistics: Statistics,
    /// What this server is at the moment.
    pub status_board: StatusBoard,
    /// Whether this server has room for what grows. The replica notes it.
    pub room: RoomBoard,
    /// What this server's clients make it hold.
    pub budget: Arc<Budget>,
    /// Who asks for the most.
    pub top: Top,
    tree: RwLock<Tree>,
    sessions: Mutex<Sessions>,
    watches: Mutex<WatchTables>,
    /// Sorted, so that they can be looked through in portions.
    connections: Mutex<BTreeMap<WatcherId, Arc<Connection>>>,
    deferred: Mutex<VecDeque<Event>>,
    /// Length of `deferred`, to be asked without its lock.
    deferred_count: AtomicUsize,
    /// The number of the newest event that was deferred. Numbers go on for as long as the process lives.
    newest_deferred: AtomicU64,
    /// Requests handed to the replica and not answered, over all connections.
    outstanding: AtomicUsize,
    /// Where requests wait for their turn; none where no limit is set.
    pub(crate) throttle: Option<Throttle>,
    /// Locked on its own, or inside the tree's lock.
    digests: Mutex<DigestLog>,
}

/// Connections copied, or watches of one that is gone removed, under one lock.
const AT_ONCE: usize = 1000;

/// One event and those it still has to reach.
#[derive(Debug)]
struct Event {
    fired: Fired,
    acl: Arc<AccessList>,
    zxid: Zxid,
    /// Where it stands among those that were deferred.
    number: u64,
}

impl Shared {
    /// Around a recovered tree. The ids of new sessions begin at `wall_ms`, so that they do not repeat those of an earlier process.
    pub fn new(settings: Settings, tree: Tree, wall_ms: WallMs) -> Shared {
        let first_id = first_session_id(settings.server, wall_ms);
        let watches = WatchTables::with_seed(settings.seed);
        Shared {
            sessions: Mutex::new(Sessions::new(settings.tick_time_ms, first_id)),
            statistics: Statistics::default(),
            status_board: StatusBoard::new(),
            room: RoomBoard::default(),
            budget: Arc::new(Budget::new(settings.max_client_bytes)),
            top: Top::default(),
            tree: RwLock::new(tree),
            watches: Mutex::new(watches),
            connections: Mutex::default(),
            deferred: Mutex::default(),
            deferred_count: AtomicUsize::new(0),
            newest_deferred: AtomicU64::new(0),
            outstanding: AtomicUsize::new(0),
            throttle: settings.throttle.map(Throttle::new),
            digests: Mutex::default(),
            settings,
        }
    }

    /// Whether writes and syncs go to another server, which gets the requests as the clients sent them.
    pub fn forwards(&self) -> bool {
        self.status_board.serving() == Serving::Forwarding
    }

    /// The tree, for reading. Keep it for microseconds: the apply step waits for it.
    pub fn tree(&self) -> Held<RwLockReadGuard<'_, Tree>> {
        Held::take(self, Rank::Tree, || self.tree.read())
    }

    /// The same for whoever must not wait for the apply step.
    pub fn try_tree(&self) -> Option<Held<RwLockReadGuard<'_, Tree>>> {
        Held::try_take(self, Rank::Tree, || self.tree.try_read())
    }

    pub(crate) fn tree_mut(&self) -> Held<RwLockWriteGuard<'_, Tree>> {
        Held::take(self, Rank::Tree, || self.tree.write())
    }

    /// Who has a session. The replica changes it, commands look.
    pub fn sessions(&self) -> Held<MutexGuard<'_, Sessions>> {
        Held::take(self, Rank::Sessions, || self.sessions.lock())
    }

    /// The watches of all connections.
    pub fn watches(&self) -> Held<MutexGuard<'_, WatchTables>> {
        Held::take(self, Rank::Watches, || self.watches.lock())
    }

    /// Everybody connected, the oldest connection first. Who comes or goes meanwhile may be among them.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        let mut all: Vec<Arc<Connection>> = Vec::new();
        loop {
            let before = all.len();
            let begin = all.last().map_or(Unbounded, |last| Excluded(last.id));
            let connections = self.connections.lock();
            all.extend(connections.range((begin, Unbounded)).take(AT_ONCE).map(|(_, connection)| connection.clone()));
            drop(connections);
            if all.len() - before < AT_ONCE {
                return all;
            }
        }
    }

    /// How many clients are connected.
    pub fn connection_count(&self) -> usize {
        self.connections.lock().len()
    }

    /// Requests handed to the replica and not answered, over all connections.
    pub fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// The tree's digests at regular zxids. The replica notes them, commands look.
    pub fn digests(&self) -> Held<MutexGuard<'_, DigestLog>> {
        Held::take(self, Rank::Digests, || self.digests.lock())
    }

    /// A request goes to the replica.
    pub fn submit(&self, connection: &Connection) {
        connection.submit();
        self.outstanding.fetch_add(1, Ordering::Relaxed);
    }

    /// Its answer is in the outbox.
    pub(crate) fn settle(&self, connection: &Connection) {
        connection.settle();
        self.outstanding.fetch_sub(1, Ordering::Relaxed);
        if let Some(throttle) = &self.throttle {
            throttle.settled(&self.outstanding);
        }
    }

    /// A client has connected.
    pub fn add_connection(&self, connection: Arc<Connection>) {
        self.connections.lock().insert(connection.id, connection);
    }

    /// The connection is over: its watches go with it.
    pub fn remove_connection(&self, connection: &Connection) {
        while !self.remove_some_of(connection) {}
    }

    /// The same in portions, for whoever has others to serve between them: false where there is more to do. Nothing else may be done with
    /// the connection meanwhile.
    #[must_use = "what is left has to go too"]
    pub fn remove_some_of(&self, connection: &Connection) -> bool {
        let mut watches = self.watches();
        if !connection.is_gone() {
            connection.outbox.close();
            connection.mark_gone();
        }
        // No watch is added any more, so these can go while changes are applied.
        let is_last = watches.remove_some_of(connection.id, AT_ONCE);
        self.budget.note_watches(watches.bytes());
        // Whoever waits for the tables is next, and not the following portion.
        watches.unlock_fair();
        if is_last {
            // Until here it is known that what it holds is about to go.
            self.connections.lock().remove(&connection.id);
            if self.has_deferred() {
                for event in self.deferred.lock().iter_mut() {
                    event.fired.watchers.remove(connection.id);
                }
            }
        }
        is_last
    }

    /// Sends the events of one transaction. Called with the tree locked for writing.
    pub(crate) fn fire(&self, changes: &[Change], zxid: Zxid, to_wake: &mut Vec<Arc<Connection>>) {
        if changes.is_empty() {
            return;
        }
        let mut watches = self.watches();
        if watches.watch_count() == 0 {
            return;
        }
        let connections = self.connections.lock();
        let mut left = DEFER_ABOVE;
        for change in changes {
            for fired in watches.trigger(change) {
                self.statistics.note_fired(fired.event_type, fired.watchers.len());
                let mut event = Event { fired, acl: change.acl.clone(), zxid, number: 0 };
                if event.fired.watchers.len() > left {
                    // Whatever follows for the same watchers is behind it.
                    left = 0;
                    self.defer(event);
                    continue;
                }
                left -= event.fired.watchers.len();
                while let Some(watcher) = event.fired.watchers.pop() {
                    watches.settle(watcher, &event.fired);
                    let Some(connection) = connections.get(&watcher) else { continue };
                    self.serve_deferred(connection, &mut watches);
                    self.deliver(&event, connection, to_wake);
                }
            }
        }
        self.budget.note_watches(watches.bytes());
    }

    fn defer(&self, mut event: Event) {
        let mut deferred = self.deferred.lock();
        event.number = self.newest_deferred.fetch_add(1, Ordering::Relaxed) + 1;
        deferred.push_back(event);
        self.deferred_count.fetch_add(1, Ordering::Relaxed);
    }

    fn deliver(&self, event: &Event, connection: &Arc<Connection>, to_wake: &mut Vec<Arc<Connection>>) {
        let identities = connection.identities();
        if event.acl.allows(Permissions::READ, &identities, &self.settings.access)
            && self.append_event(connection, event)
        {
            to_wake.push(connection.clone());
        }
    }

    /// Whether events wait that were too many to send at once.
    pub(crate) fn has_deferred(&self) -> bool {
        self.deferred_count.load(Ordering::Relaxed) > 0
    }

    /// How many events still have to reach some of their watchers.
    pub fn deferred_events(&self) -> usize {
        self.deferred_count.load(Ordering::Relaxed)
    }

    /// Puts events that wait for this connection into its outbox, before it is shown anything newer. Called with the tree locked.
    pub fn serve_deferred_to(&self, connection: &Connection) {
        if self.has_deferred() {
            self.serve_deferred(connection, &mut self.watches());
        }
    }

    fn serve_deferred(&self, connection: &Connection, watches: &mut WatchTables) {
        if !self.has_deferred() {
            return;
        }
        let mut deferred = self.deferred.lock();
        // However many events wait, each is looked at once for each connection.
        let seen = connection.see_deferred(self.newest_deferred.load(Ordering::Relaxed));
        let first = deferred.front().map_or(0, |event| event.number);
        let passed = (seen + 1).saturating_sub(first) as usize;
        for event in deferred.iter_mut().skip(passed) {
            if event.fired.watchers.remove(connection.id) {
                watches.settle(connection.id, &event.fired);
                let identities = connection.identities();
                if event.acl.allows(Permissions::READ, &identities, &self.settings.access) {
                    self.append_event(connection, event);
                }
            }
        }
    }

    /// Returns whether the connection's task must be woken.
    fn append_event(&self, connection: &Connection, event: &Event) -> bool {
        connection.outbox.append(|output| {
            let start = output.len();
            put_event(output, event.zxid, event.fired.event_type, &event.fired.path);
            self.statistics.watch_bytes.fetch_add((output.len() - start) as u64, Ordering::Relaxed);
        })
    }

    /// Delivers up to `limit` of the events that wait.
    pub(crate) fn deliver_deferred(&self, limit: usize, to_wake: &mut Vec<Arc<Connection>>) {
        let mut watches = self.watches();
        let connections = self.connections.lock();
        let mut deferred = self.deferred.lock();
        for _ in 0..limit {
            let Some(event) = deferred.front_mut() else { break };
            match event.fired.watchers.pop() {
                Some(watcher) => {
                    watches.settle(watcher, &event.fired);
                    if let Some(connection) = connections.get(&watcher) {
                        self.deliver(event, connection, to_wake);
                    }
                }
                None => {
                    deferred.pop_front();
                    self.deferred_count.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
        self.budget.note_watches(watches.bytes());
    }
}

/// Appends a notification. `zxid` is that of the change, or -1 for one that a reconnecting client missed.
pub(crate) fn put_event(output: &mut Vec<u8>, zxid: Zxid, event_type: EventType, path: &str) {
    let event = WatcherEvent { event_type: event_type as i32, state: STATE_SYNC_CONNECTED, path: Text::from(path) };
    frame::append_reply(output, ReplyHeader { xid: NOTIFICATION_XID, zxid, err: 0 }, Some(&event));
}
