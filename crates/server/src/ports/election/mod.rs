//! The election port: one connection to each other server, over which votes go both ways.
//!
//! Reading order: `wire.rs`, the bytes; `listener.rs`, where others connect, and `hints.rs`, where they say they are; `peer.rs`, the connection
//! to each of them, made by either side. What
//! always holds: of two servers the one with the higher id keeps the connection it made, the other one only announces itself and
//! waits to be called back. A notification is sent once and at most; a newer one takes the place of one not sent yet; none is ever
//! carried over from one connection to the next. Nothing here waits for a slow peer, resolver or replica but the task of one peer.
//!
//! Counterpart in the original: `QuorumCnxManager`.

mod hints;
mod listener;
mod peer;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookeeper_proto::ServerId;
use rookeeper_proto::election::{InitialMessage, MAX_ADDRESS_BYTES, Notification};
use rookeeper_replica::Input;
use rookeeper_zab::{HostPort, Member, Membership, Memberships};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::warn;

use crate::auth::between_servers::Proofs;
use crate::failure::{ExitCode, Failure};
use crate::logging::limited;
use crate::net::bind::{CannotBind, Place};
use crate::net::descriptors;
use crate::net::door::Door;
use crate::net::linger::Farewells;
use crate::net::seats::Seats;
use crate::net::tls::peers::PeerTls;
use crate::observe::absence::{self, Contact};
use listener::{Listeners, MAX_UNKNOWN, MAX_UNKNOWN_PER_ADDRESS};
use peer::{Mailbox, Peer};
use wire::Link;

/// Most servers outside of the ensemble that are connected at once; they come to ask who leads before they join.
const MAX_STRANGERS: usize = 32;

#[derive(Debug)]
pub(crate) struct ElectionPortSettings {
    pub me: ServerId,
    /// With this server in it.
    pub memberships: Arc<Memberships>,
    /// Listen on all addresses of this machine rather than on those of this server's line.
    pub listen_on_all: bool,
    /// For resolving a name, for connecting to an address, and for the acknowledgement of what was sent.
    pub connect_timeout_ms: u64,
    /// For a client of the port to say who it is.
    pub handshake_timeout_ms: u64,
    /// How often to try to bind at the start, a second apart; none for no end.
    pub bind_retries: Option<u32>,
    /// Tell the others all addresses of this server, in the form that 3.5 does not read.
    pub multi_address: bool,
    pub door: Arc<Door>,
    pub auth: Proofs,
    /// How members speak TLS; none where they do not.
    pub tls: Option<PeerTls>,
}

/// The port while it is open. Dropped, it closes a moment later; [`ElectionPort::stop`] waits for that.
#[derive(Debug)]
pub(crate) struct ElectionPort {
    shared: Arc<Shared>,
    listen_on_all: bool,
    places: watch::Sender<Vec<Place>>,
}

impl ElectionPort {
    /// Opens the port. `events` gets `Notified`, `ElectionLinkUp` and `ElectionLinkDown`.
    pub async fn start(settings: ElectionPortSettings, events: mpsc::Sender<Input>) -> Result<ElectionPort, Failure> {
        let ElectionPortSettings { me, memberships, listen_on_all, bind_retries, .. } = settings;
        let directory = Directory::new(me, &memberships);
        if directory.mine.is_empty() {
            let message = format!("no server line names this server: add server.{me} or correct myid");
            return Err(Failure::new(ExitCode::ServerPort, message));
        }
        let wanted = Place::of_server(&directory.mine, listen_on_all);
        let shared = Arc::new(Shared {
            me,
            multi_address: settings.multi_address,
            connect_timeout: Duration::from_millis(settings.connect_timeout_ms),
            handshake_timeout: Duration::from_millis(settings.handshake_timeout_ms),
            runtime: Handle::current(),
            events,
            unknown: Seats::new(MAX_UNKNOWN, MAX_UNKNOWN_PER_ADDRESS),
            farewells: Farewells::new(descriptors::room_for_farewells_of_servers()),
            door: settings.door,
            auth: settings.auth,
            tls: settings.tls,
            contacts: Mutex::default(),
            state: Mutex::new(State { directory, peers: BTreeMap::new(), tasks: JoinSet::new(), is_closed: false }),
        });
        let listeners = Listeners::open(shared.clone(), &wanted, bind_retries).await.map_err(cannot_bind)?;
        let (places, wanted) = watch::channel(wanted);
        shared.state.lock().tasks.spawn(listeners.run(wanted));
        Ok(ElectionPort { shared, listen_on_all, places })
    }

    /// Sends as soon as there is a connection, and makes one where there is none. Replaces what was not sent yet. A server outside of
    /// the ensemble gets it only while it is connected.
    pub fn send(&self, to: ServerId, notification: Notification) {
        let mut state = self.shared.state.lock();
        let is_known = state.directory.others.contains_key(&to) || state.peers.contains_key(&to);
        if is_known && let Some(mailbox) = self.shared.mailbox(&mut state, to) {
            mailbox.send(notification);
        }
    }

    /// Listens on this server's new address if it has one, ends connections to servers that have new ones. A server that is no
    /// longer a member keeps its connection, to ask.
    pub fn set_members(&self, memberships: Arc<Memberships>) {
        self.shared.door.set_members(&memberships);
        let mut directory = Directory::new(self.shared.me, &memberships);
        let mut state = self.shared.state.lock();
        if directory.mine.is_empty() {
            directory.mine = std::mem::take(&mut state.directory.mine);
        }
        let wanted = Place::of_server(&directory.mine, self.listen_on_all);
        state.directory = directory;
        for mailbox in state.peers.values() {
            mailbox.members_changed();
        }
        drop(state);
        self.places.send_if_modified(|places| {
            let is_changed = *places != wanted;
            *places = wanted;
            is_changed
        });
    }

    /// For those who tell who is missing.
    pub fn contacts(&self) -> Contacts {
        Contacts(self.shared.clone())
    }

    /// Closes the port and all connections.
    pub async fn stop(self) {
        let mut tasks = self.shared.close();
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

impl Drop for ElectionPort {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// How members are seen from here, at any time.
#[derive(Debug)]
pub(crate) struct Contacts(Arc<Shared>);

impl Contacts {
    /// A sentence on each voter that is missing.
    pub fn missing(&self, membership: &Membership) -> String {
        absence::missing(self.0.me, membership, &self.0.contacts.lock())
    }
}

fn cannot_bind(error: CannotBind) -> Failure {
    Failure::new(ExitCode::ServerPort, error.to_string())
}

/// The addresses at which servers listen.
#[derive(Debug)]
struct Directory {
    mine: Vec<HostPort>,
    others: BTreeMap<ServerId, Vec<HostPort>>,
}

impl Directory {
    /// Of a server that is about to move, the address in force comes first. This server moves when it is decided.
    fn new(me: ServerId, memberships: &Memberships) -> Directory {
        let Memberships { committed, last_seen, .. } = memberships;
        let mut others: BTreeMap<ServerId, Vec<HostPort>> = BTreeMap::new();
        for (server, member) in committed.members.iter().chain(&last_seen.members) {
            let addresses = others.entry(*server).or_default();
            for address in election_addresses(member) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        others.remove(&me);
        let mine = committed.members.get(&me).or_else(|| last_seen.members.get(&me));
        Directory { mine: mine.map(|member| election_addresses(member).collect()).unwrap_or_default(), others }
    }
}

fn election_addresses(member: &Member) -> impl Iterator<Item = HostPort> {
    member.addresses.iter().map(|address| HostPort { host: address.host.clone(), port: address.election_port })
}

/// The parts that all tasks of the port share.
#[derive(Debug)]
struct Shared {
    me: ServerId,
    multi_address: bool,
    connect_timeout: Duration,
    handshake_timeout: Duration,
    runtime: Handle,
    events: mpsc::Sender<Input>,
    /// For connections that have not said yet who they are.
    unknown: Seats,
    /// For those who found no seat.
    farewells: Farewells,
    /// How members are seen from here.
    contacts: Mutex<BTreeMap<ServerId, Contact>>,
    door: Arc<Door>,
    auth: Proofs,
    tls: Option<PeerTls>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    directory: Directory,
    /// The servers that have a task. Mailboxes are filled only while this is locked, so that a task which finds its own empty can leave.
    peers: BTreeMap<ServerId, Arc<Mailbox>>,
    tasks: JoinSet<()>,
    is_closed: bool,
}

impl Shared {
    /// Starts the task where there is none; nothing once the port is closed.
    fn mailbox<'a>(self: &Arc<Shared>, state: &'a mut State, server: ServerId) -> Option<&'a Mailbox> {
        if state.is_closed {
            return None;
        }
        if !state.peers.contains_key(&server) {
            while let Some(ended) = state.tasks.try_join_next() {
                if let Err(error) = ended {
                    warn!(%error, "the task of an election connection ended");
                }
            }
            let mailbox = Arc::new(Mailbox::default());
            let addresses = state.directory.others.get(&server).cloned();
            let peer = Peer::new(self.clone(), server, mailbox.clone(), addresses);
            state.tasks.spawn_on(peer.run(), &self.runtime);
            state.peers.insert(server, mailbox);
        }
        state.peers.get(&server).map(|mailbox| &**mailbox)
    }

    /// Somebody said who it is.
    fn connected(self: &Arc<Shared>, server: ServerId, hints: Vec<HostPort>, link: Link, address: SocketAddr) {
        let mut state = self.state.lock();
        let is_stranger = !state.directory.others.contains_key(&server);
        if is_stranger && !state.peers.contains_key(&server) {
            let strangers = state.peers.keys().filter(|peer| !state.directory.others.contains_key(peer)).count();
            if strangers >= MAX_STRANGERS {
                limited!(
                    warn,
                    "servers that are no members",
                    "closes an election connection from {address}: server {server} is no member, and there are already \
                     {MAX_STRANGERS} like it"
                );
                return;
            }
            if server < self.me && hints.is_empty() {
                let me = self.me;
                limited!(
                    warn,
                    "servers that are no members",
                    "closes an election connection from {address}: server {server} is no member, and does not say where \
                     server {me} can call back"
                );
                return;
            }
            limited!(
                warn,
                "servers that are no members",
                "server {server} at {address} is no member; it may ask who leads, and its votes do not count"
            );
        }
        let is_higher = server > self.me;
        if let Some(mailbox) = self.mailbox(&mut state, server) {
            if is_higher {
                mailbox.accepted(link, address, hints);
            } else {
                // This side has to make the connection that lasts.
                mailbox.announced(address, hints);
            }
        }
    }

    /// For messages.
    fn own_addresses(&self) -> String {
        let mine = &self.state.lock().directory.mine;
        mine.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Where a server can be reached; nothing if it is no member.
    fn addresses_of(&self, server: ServerId) -> Option<Vec<HostPort>> {
        self.state.lock().directory.others.get(&server).cloned()
    }

    /// Forgets a peer without a connection, unless there is something new for it.
    fn leave(&self, server: ServerId, mailbox: &Mailbox) -> bool {
        let mut state = self.state.lock();
        let leaves = mailbox.is_empty();
        if leaves {
            state.peers.remove(&server);
        }
        leaves
    }

    fn introduction(&self) -> InitialMessage {
        let state = self.state.lock();
        let mut addresses: Vec<String> = Vec::new();
        let mut length = 0;
        for address in &state.directory.mine {
            let text = address.to_string();
            length += text.len() + 1;
            let is_one_too_many = !addresses.is_empty() && (!self.multi_address || length > MAX_ADDRESS_BYTES);
            if !is_one_too_many {
                addresses.push(text);
            }
        }
        InitialMessage { server: self.me, addresses, multi_address: self.multi_address }
    }

    fn close(&self) -> JoinSet<()> {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.peers.clear();
        let mut tasks = std::mem::take(&mut state.tasks);
        tasks.abort_all();
        tasks
    }
}
