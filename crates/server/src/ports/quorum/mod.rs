//! The quorum port: connections from learners while this server leads, and the one to the leader while it follows. And the port for observers:
//! connections from observers while this server follows and feeds them.
//!
//! Reading order:
//! - `listener.rs` accepts, `learner_link.rs` serves one learner, `streams.rs` reads what one that fell behind gets
//! - `leader_link.rs` connects to the leader, and receives a snapshot
//! - `packets.rs`: boundaries of packets; `recent.rs`: the last of them; `outgoing.rs`: what waits to be sent; `inputs.rs`: the way to the replica
//!
//! What always holds here: nothing that the replica asks for blocks it; a link is known here from before the replica hears of it until it
//! has ended; what the replica says about a link that has ended is ignored.

mod inputs;
mod leader_link;
mod learner_link;
mod listener;
mod outgoing;
mod packets;
mod recent;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use rookeeper_proto::{ServerId, WallMs, Zxid};
use rookeeper_replica::{Input, Shared};
use rookeeper_storage::Files;
use rookeeper_store::catch_up::{CatchUpStart, plan_catch_up};
use rookeeper_zab::{DropReason, HostPort, LinkId, Memberships, SyncPlan};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tracing::warn;

use self::leader_link::{LeaderContext, TooSlow, Wanted};
use self::learner_link::{LearnerContext, Stop};
use self::outgoing::{Job, JobQueue, Overflow};
use crate::auth::between_servers::Proofs;
use crate::clock::wall_ms;
use crate::failure::Failure;
use crate::logging::{Cause, PER_MINUTE, limited};
use crate::net::bind::{Place, Port};
use crate::net::door::Door;
use crate::net::linger::linger;
use crate::net::seats::Seat;
use crate::net::stream::{self, Stream};
use crate::net::tls::peers::{self, PeerTls};

pub(crate) use self::inputs::{PeerInputs, PeerQueue, queue as peer_queue};
pub(crate) use self::outgoing::MAX_WAITING_BYTES;

/// Connections that never become those of a learner: one is told of, the others are counted.
const STRANGERS: Cause = Cause::Named("strangers at the quorum port");

/// How this server's quorum port works. Every field as in the configuration of the ensemble.
#[derive(Debug, Clone)]
pub(crate) struct QuorumPortSettings {
    pub me: ServerId,
    pub memberships: Memberships,
    pub listen_on_all: bool,
    /// Where this server feeds observers while it follows; none where it never does.
    pub observer_master_port: Option<u16>,
    /// For one attempt to reach the leader.
    pub connect_timeout: Duration,
    /// The log is preferred to a snapshot up to this part of the snapshot's size; none for never.
    pub snapshot_size_factor: Option<f64>,
    /// The largest data of a packet from a learner.
    pub max_packet_bytes: usize,
    pub door: Arc<Door>,
    /// How long a learner may take to say who it is.
    pub greeting_limit: Duration,
    /// Packets of each link that are told when it ends; 0 for none.
    pub told_packets: usize,
    /// What servers prove to each other before they speak.
    pub auth: Proofs,
    /// How members speak TLS; none where they do not.
    pub tls: Option<PeerTls>,
    /// Where links are served once it is known that they are such: the replica's thread.
    pub links: Handle,
}

/// Used by the replica thread. Dropped, it closes everything.
#[derive(Debug)]
pub(crate) struct QuorumPort {
    /// For what is not to keep the replica's thread.
    runtime: Handle,
    me: ServerId,
    snapshot_size_factor: Option<f64>,
    learners: Arc<Learners>,
    /// Something was put in for learners since the last flush.
    unflushed: bool,
    leader: Arc<LeaderContext>,
    /// The connection to the leader, or the attempt.
    leader_link: Option<LeaderHandle>,
    listen_on_all: bool,
    places: watch::Sender<Vec<Place>>,
    observers: Option<ObserverPort>,
    /// Where it was opened at the start.
    addresses: Vec<SocketAddr>,
}

/// Where observers come in.
#[derive(Debug)]
struct ObserverPort {
    number: u16,
    is_wanted: bool,
    /// The hosts of this server's line.
    hosts: Vec<HostPort>,
    places: watch::Sender<Vec<Place>>,
}

impl ObserverPort {
    fn update(&self, on_all: bool) {
        let at = |address: &HostPort| HostPort { host: address.host.clone(), port: self.number };
        let hosts: Vec<HostPort> = self.hosts.iter().map(at).collect();
        let wanted = if self.is_wanted { Place::of_server(&hosts, on_all) } else { Vec::new() };
        replace(&self.places, wanted);
    }
}

#[derive(Debug)]
struct Learners {
    context: LearnerContext,
    tls: Option<PeerTls>,
    links: Mutex<HashMap<LinkId, LearnerHandle>>,
    next_link: AtomicU64,
    /// The replica's thread.
    serving: Handle,
}

#[derive(Debug)]
struct LearnerHandle {
    peer: SocketAddr,
    server: ServerId,
    since_ms: WallMs,
    jobs: JobQueue,
    stop: oneshot::Sender<Stop>,
}

#[derive(Debug)]
struct LeaderHandle {
    link: LinkId,
    jobs: JobQueue,
    stop: oneshot::Sender<TooSlow>,
}

impl QuorumPort {
    /// Opens the port. Call on the runtime that is to serve it.
    pub async fn open(
        settings: QuorumPortSettings,
        shared: Arc<Shared>,
        files: Arc<Files>,
        inputs: PeerInputs,
    ) -> Result<QuorumPort, Failure> {
        let QuorumPortSettings {
            me,
            memberships,
            listen_on_all,
            observer_master_port,
            connect_timeout,
            snapshot_size_factor,
            max_packet_bytes,
            door,
            greeting_limit,
            told_packets,
            auth,
            tls,
            links,
        } = settings;
        let leader = Arc::new(LeaderContext {
            inputs: inputs.clone(),
            connect_timeout,
            auth: auth.clone(),
            tls: tls.clone(),
            ttl_encoding: shared.tree().ttl_encoding(),
            told_packets,
        });
        let context =
            LearnerContext { inputs, shared, files, max_packet_bytes, door, greeting_limit, told_packets, auth };
        let learners =
            Arc::new(Learners { context, tls, links: Mutex::default(), next_link: AtomicU64::new(1), serving: links });
        let hosts = addresses_of(&memberships, me);
        let places = Place::of_server(&hosts, listen_on_all);
        let (places, wanted) = watch::channel(places);
        let accept = |port| -> listener::Accept {
            let accepting = learners.clone();
            Arc::new(move |stream, peer, seat| accepting.clone().serve(port, stream, peer, seat))
        };
        let addresses = listener::open(wanted, accept(Port::Quorum)).await?;
        let observers = observer_master_port.map(|number| {
            let (places, wanted) = watch::channel(Vec::new());
            listener::follow(wanted, accept(Port::ObserverMaster));
            ObserverPort { number, is_wanted: false, hosts, places }
        });
        Ok(QuorumPort {
            runtime: Handle::current(),
            me,
            snapshot_size_factor,
            learners,
            unflushed: false,
            leader,
            leader_link: None,
            listen_on_all,
            places,
            observers,
            addresses,
        })
    }

    /// For a look from outside.
    pub fn view(&self) -> LinkView {
        LinkView(self.learners.clone())
    }

    /// Where it was opened at the start.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Listens where the newest membership says. A membership that this server is no part of changes nothing.
    pub fn set_members(&mut self, memberships: &Memberships) {
        let addresses = addresses_of(memberships, self.me);
        if addresses.is_empty() {
            return;
        }
        replace(&self.places, Place::of_server(&addresses, self.listen_on_all));
        if let Some(observers) = &mut self.observers {
            observers.hosts = addresses;
            observers.update(self.listen_on_all);
        }
    }

    /// Opens the port for observers, where there is to be one, or closes it.
    pub fn feed_observers(&mut self, open: bool) {
        if let Some(observers) = &mut self.observers {
            observers.is_wanted = open;
            observers.update(self.listen_on_all);
        }
    }

    /// Puts packets into the queue of a learner; a learner whose queue is full is dropped.
    pub fn send_to_learner(&mut self, link: LinkId, bytes: Arc<[u8]>) {
        self.push(link, Job::Bytes(bytes));
    }

    /// Has a part of the log sent behind what is in the queue: the transactions between the two, neither included.
    pub fn stream_log(&mut self, link: LinkId, after: Zxid, before: Zxid) {
        self.push(link, Job::Log { after, before });
    }

    /// Has the tree sent behind what is in the queue.
    pub fn stream_snapshot(&mut self, link: LinkId) {
        self.push(link, Job::Snapshot);
    }

    fn push(&mut self, link: LinkId, job: Job) {
        let mut links = self.learners.links.lock();
        let Some(handle) = links.get_mut(&link) else { return };
        self.unflushed = true;
        if handle.jobs.push(job) == Err(Overflow)
            && let Some(handle) = links.remove(&link)
        {
            let _ = handle.stop.send(Stop::TooSlow);
        }
    }

    /// Sends what was put in since the last time. Without it nothing is sure to leave.
    pub fn flush(&mut self) {
        if let Some(leader) = self.leader_link.take_if(|handle| handle.jobs.flush() == Err(Overflow)) {
            let _ = leader.stop.send(TooSlow);
        }
        if std::mem::take(&mut self.unflushed) {
            let mut links = self.learners.links.lock();
            for (_, handle) in links.extract_if(|_, handle| handle.jobs.flush() == Err(Overflow)) {
                let _ = handle.stop.send(Stop::TooSlow);
            }
        }
    }

    /// Ends a learner's connection, once it has what was put in before, if it takes that soon.
    pub fn drop_learner(&self, link: LinkId, why: DropReason) {
        if let Some(mut handle) = self.learners.links.lock().remove(&link) {
            let _ = handle.stop.send(Stop::Dropped(why));
            // A queue that is full ends without its last words.
            let _ = handle.jobs.push(Job::End);
        }
    }

    /// Looks into the log on disk, elsewhere; the answer comes as an input.
    pub fn plan_sync(&self, link: LinkId, after: Zxid, before: Zxid) {
        let (learners, size_factor) = (self.learners.clone(), self.snapshot_size_factor);
        self.runtime.spawn(async move {
            let files = learners.context.files.clone();
            let planning = move || plan_catch_up(&*files.disk, &files.directories, after, before, size_factor);
            let plan = match tokio::task::spawn_blocking(planning).await {
                Ok(Ok(CatchUpStart::Continues)) => SyncPlan::Log,
                Ok(Ok(CatchUpStart::Unavailable)) => SyncPlan::Snapshot,
                Ok(Err(error)) => {
                    warn!("the log can't be used for a learner, which gets a snapshot: {error}");
                    SyncPlan::Snapshot
                }
                // The runtime is going down.
                Err(_) => return,
            };
            let _ = learners.context.inputs.send(Input::SyncPlanned { link, plan }).await;
        });
    }

    /// Connects to a leader; the connection before it is over.
    pub fn dial(&mut self, link: LinkId, server: ServerId, addresses: Vec<HostPort>) {
        let (jobs, queue) = outgoing::queue(leader_link::MAX_WAITING_BYTES);
        let (stop, stopped) = oneshot::channel();
        self.leader_link = Some(LeaderHandle { link, jobs, stop });
        let context = self.leader.clone();
        let wanted = Wanted { link, server, addresses };
        self.learners.serving.spawn(async move { leader_link::serve(&context, wanted, queue, stopped).await });
    }

    /// Ends this link to the leader, if it is still the one that is open.
    pub fn hang_up(&mut self, link: LinkId) {
        // Its task ends with the handle.
        self.leader_link.take_if(|handle| handle.link == link);
    }

    /// Puts packets into the queue to the leader; the link is given up when the queue is full.
    pub fn send_to_leader(&mut self, link: LinkId, bytes: Vec<u8>) {
        let Some(handle) = self.leader_link.as_mut().filter(|handle| handle.link == link) else { return };
        if handle.jobs.push(Job::Bytes(bytes.into())) == Err(Overflow)
            && let Some(handle) = self.leader_link.take()
        {
            let _ = handle.stop.send(TooSlow);
        }
    }
}

impl Drop for QuorumPort {
    fn drop(&mut self) {
        self.learners.links.lock().clear();
    }
}

/// The link of a learner at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkedLearner {
    pub server: ServerId,
    pub peer: SocketAddr,
    /// Milliseconds since 1970.
    pub since_ms: WallMs,
    /// Bytes that wait to be sent to it.
    pub waiting_bytes: usize,
}

/// The queues of the links of learners, for reports.
#[derive(Debug, Clone)]
pub(crate) struct LinkView(Arc<Learners>);

impl LinkView {
    /// Inputs of other servers that wait for the replica.
    pub fn queued(&self) -> usize {
        self.0.context.inputs.queued()
    }

    /// How many inputs of other servers may wait for the replica.
    pub fn queue_limit(&self) -> usize {
        inputs::QUEUED_INPUTS
    }

    /// The links by their servers, of a server that comes twice the newer one last.
    pub fn learners(&self) -> Vec<LinkedLearner> {
        let links = self.0.links.lock();
        let mut learners: Vec<_> = links
            .iter()
            .map(|(link, LearnerHandle { peer, server, since_ms, jobs, .. })| {
                let (server, peer, since_ms) = (*server, *peer, *since_ms);
                (server, *link, LinkedLearner { server, peer, since_ms, waiting_bytes: jobs.waiting() })
            })
            .collect();
        learners.sort_by_key(|(server, link, _)| (*server, link.0));
        learners.into_iter().map(|(_, _, learner)| learner).collect()
    }

    /// Each link with its peer and the bytes that wait to be sent to it.
    pub fn waiting(&self) -> Vec<(LinkId, SocketAddr, usize)> {
        let links = self.0.links.lock();
        let mut waiting: Vec<_> =
            links.iter().map(|(link, handle)| (*link, handle.peer, handle.jobs.waiting())).collect();
        waiting.sort_by_key(|(link, ..)| link.0);
        waiting
    }
}

impl Learners {
    fn serve(self: Arc<Learners>, port: Port, stream: Stream, peer: SocketAddr, seat: Seat) {
        tokio::spawn(async move {
            if !self.context.admits(peer, port).await {
                return linger(stream).await;
            }
            let (names, limit) = (self.context.door.hosts(), self.context.greeting_limit);
            let mut stream = match peers::receive(self.tls.as_ref(), stream, peer, names, limit).await {
                Ok(stream) => stream,
                Err(failure) => {
                    let cause = failure.kind().of_servers();
                    limited!(warn, cause, PER_MINUTE; "closed a connection of {peer} to the {port}: {failure}");
                    return;
                }
            };
            // The replica never hears of those who do not begin as a learner does, and its thread does not read what they send.
            let Some(greeting) = learner_link::greeting(&self.context, peer, port, &mut stream).await else {
                return linger(stream).await;
            };
            let Ok(detached) = stream::detach_peer(stream) else { return };
            self.serving.clone().spawn(async move {
                let Ok(stream) = detached.attach() else { return };
                let (reader, writer) = stream::split(stream);
                let link = LinkId(self.next_link.fetch_add(1, Relaxed));
                let (jobs, queue) = outgoing::queue(outgoing::MAX_WAITING_BYTES);
                let (stop, stopped) = oneshot::channel();
                queue.connected(stream::socket(&writer));
                self.links
                    .lock()
                    .insert(link, LearnerHandle { peer, server: greeting.server, since_ms: wall_ms(), jobs, stop });
                let stream = (reader, writer);
                learner_link::serve(&self.context, link, peer, stream, greeting, queue, stopped).await;
                self.links.lock().remove(&link);
                drop(seat);
            });
        });
    }
}

fn replace(places: &watch::Sender<Vec<Place>>, wanted: Vec<Place>) {
    places.send_if_modified(|places| {
        let is_changed = *places != wanted;
        *places = wanted;
        is_changed
    });
}

/// The quorum addresses of this server, by the membership in force and by one that is proposed.
fn addresses_of(memberships: &Memberships, me: ServerId) -> Vec<HostPort> {
    let mut addresses = Vec::new();
    for membership in [&memberships.committed, &memberships.last_seen] {
        let own = membership.members.get(&me).map(|member| member.addresses.as_slice()).unwrap_or_default();
        for address in own {
            let address = HostPort { host: address.host.clone(), port: address.quorum_port };
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    addresses
}
