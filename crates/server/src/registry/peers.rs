//! Other registries: what clients told this one is passed on, and at a start the others are asked for what they know.
//!
//! What always holds here: each server has its own queue and its own task, so one that is slow, gone or talks nonsense holds up nobody; a server that
//! turns out to be this one is left alone.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::http::StatusCode;
use parking_lot::{Mutex, RwLock};
use rookeeper_registry::encoding::{read_answers, read_applications};
use rookeeper_registry::outbox::{Failure, Outbox};
use rookeeper_registry::rest::Change;
use rookeeper_registry::{Caller, Now, Registered, Registry};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use super::config::{PeerAddress, RegistryConfig};
use super::http::SERVER_ID;
use super::link::{Answered, Link};
use super::names;
use super::service::Service;

/// Between two rounds of questions at a start.
const ROUND: Duration = Duration::from_secs(1);

/// Those that count now.
#[derive(Debug)]
pub(super) struct Peers(RwLock<Arc<Vec<Arc<Peer>>>>);

#[derive(Debug)]
pub(super) struct Peer {
    pub address: PeerAddress,
    outbox: Mutex<Outbox>,
    /// Something is to be sent.
    wake: Notify,
    /// This server, under another name.
    is_own: AtomicBool,
    /// It counts no more.
    is_gone: AtomicBool,
}

impl Peers {
    pub fn new(config: &RegistryConfig) -> Peers {
        Peers(RwLock::new(Arc::new(config.peers.iter().map(Peer::new).collect())))
    }

    pub fn all(&self) -> Arc<Vec<Arc<Peer>>> {
        self.0.read().clone()
    }

    /// Notes changes for all of them.
    pub fn note(&self, changes: &[Change], registry: &Registry, now: Now) {
        for peer in self.all().iter().filter(|peer| !peer.is_own.load(Relaxed)) {
            let mut outbox = peer.outbox.lock();
            changes.iter().for_each(|change| outbox.note(change, registry, now));
            drop(outbox);
            peer.wake.notify_one();
        }
    }

    /// Whether a server that answers has not heard everything yet.
    pub fn any_waiting(&self) -> bool {
        self.all().iter().any(|peer| peer.waits())
    }
}

impl Peer {
    fn new(address: &PeerAddress) -> Arc<Peer> {
        Arc::new(Peer {
            address: address.clone(),
            outbox: Mutex::default(),
            wake: Notify::new(),
            is_own: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
        })
    }

    /// Instances whose changes the server has not heard of, and whether it answers.
    pub fn state(&self) -> (usize, bool) {
        let outbox = self.outbox.lock();
        (outbox.waiting().0, !outbox.fails())
    }

    /// Changes that the server will not hear of, for want of room.
    pub fn dropped(&self) -> u64 {
        self.outbox.lock().waiting().1
    }

    pub fn is_own(&self) -> bool {
        self.is_own.load(Relaxed)
    }

    fn waits(&self) -> bool {
        let outbox = self.outbox.lock();
        !self.is_own() && !outbox.fails() && (outbox.waiting().0 > 0 || outbox.is_sending())
    }
}

/// Opens the registry once it may be opened, and passes changes on from now on.
pub(super) fn start(service: &Arc<Service>) -> Vec<JoinHandle<()>> {
    let senders = service.peers.all();
    let senders = senders.iter().map(|peer| tokio::spawn(send(service.clone(), peer.clone())));
    let mut tasks: Vec<JoinHandle<()>> = senders.collect();
    if !service.config.names.is_empty() {
        tasks.push(tokio::spawn(names::follow(service.clone())));
    }
    if !service.config.has_peers() || !service.config.fetches {
        service.open_alone();
    } else {
        tasks.push(tokio::spawn(copy(service.clone())));
    }
    tasks
}

/// Asks the others for what they know until one answers, or the time is over.
async fn copy(service: Arc<Service>) {
    let limit = Duration::from_millis(service.config.sync_wait_ms);
    let begin = Instant::now();
    loop {
        if !service.config.names.is_empty() {
            let found = names::look_up(&service.config.names).await;
            names::take(&service, found);
        }
        let (peers, mut starting) = (service.peers.all(), 0);
        for peer in peers.iter() {
            let mut link = Link::new(peer.address.clone(), service.dialer.clone());
            let answered = match link.fetch().await {
                Ok(answered) => answered,
                Err(_) => continue,
            };
            if is_own(&service, peer, &answered) || answered.status == StatusCode::FORBIDDEN {
                starting += 1;
                continue;
            }
            let instances = match answered.status {
                StatusCode::OK => {
                    // What others know may be much, and clients are answered meanwhile.
                    let (body, now) = (answered.body, service.now());
                    match tokio::task::spawn_blocking(move || read_applications(&body, now)).await {
                        Ok(read) => read,
                        Err(_) => continue,
                    }
                }
                _ => continue,
            };
            match instances {
                Ok(instances) => {
                    let (copied, mut confirmed) = (instances.len(), 0);
                    for instance in instances {
                        let is_remembered = instance.is_unconfirmed();
                        let taken = service.with(|registry, now| registry.register(instance, Caller::Replica, now));
                        // What is not taken sends no heartbeats here, and must not be waited for by self-preservation.
                        let is_here =
                            !matches!(taken, Registered::Elsewhere | Registered::Cancelled | Registered::Full);
                        confirmed += u64::from(is_here && !is_remembered);
                    }
                    info!("{} told {copied} instances: the registry is open", peer.address);
                    return service.open(confirmed);
                }
                Err(_) => warn!("{} answered with something that is no list of applications", peer.address),
            }
        }
        if starting == peers.len() {
            info!("all other registries are starting as well: nobody knows an instance, the registry is open");
            return service.open_alone();
        }
        if begin.elapsed() + ROUND > limit {
            warn!("no other registry told what it knows within {limit:?}: the registry is open with what clients said");
            return service.open_alone();
        }
        tokio::time::sleep(ROUND).await;
    }
}

/// From now on these servers count. Those that counted before go on as they are.
pub(super) fn replace(service: &Arc<Service>, addresses: Vec<PeerAddress>) {
    let mut all = service.peers.0.write();
    let mut next = Vec::new();
    for address in &addresses {
        match all.iter().find(|peer| peer.address == *address) {
            Some(peer) => next.push(peer.clone()),
            None => {
                let peer = Peer::new(address);
                // It ends when the peer is gone, or with the runtime.
                tokio::spawn(send(service.clone(), peer.clone()));
                next.push(peer);
            }
        }
    }
    for peer in all.iter().filter(|peer| !addresses.contains(&peer.address)) {
        peer.is_gone.store(true, Relaxed);
        peer.wake.notify_one();
    }
    *all = Arc::new(next);
}

/// Sends what is to be sent, for as long as the server runs.
async fn send(service: Arc<Service>, peer: Arc<Peer>) {
    let mut link = Link::new(peer.address.clone(), service.dialer.clone());
    let mut told = false;
    while !peer.is_own() && !peer.is_gone.load(Relaxed) {
        let due_ms = peer.outbox.lock().due_ms();
        let Some(due_ms) = due_ms else {
            peer.wake.notified().await;
            continue;
        };
        let wait_ms = due_ms.saturating_sub(service.now().steady_ms);
        if wait_ms > 0 {
            // Something that is due sooner may come meanwhile.
            let _ = tokio::time::timeout(Duration::from_millis(wait_ms), peer.wake.notified()).await;
            continue;
        }
        let Some(batch) = service.with(|registry, now| peer.outbox.lock().batch(registry, now)) else { continue };
        let failure = match link.send(batch.write()).await {
            Ok(answered) if is_own(&service, &peer, &answered) => return,
            Ok(answered) if answered.status == StatusCode::OK => {
                let answers = read_answers(&answered.body, service.now()).unwrap_or_default();
                service.with(|registry, now| {
                    let mut outbox = peer.outbox.lock();
                    outbox.is_our_kind(answered.headers.contains_key(SERVER_ID));
                    outbox.answered(answers, registry, now);
                });
                if told {
                    info!("{} answers again", peer.address);
                    told = false;
                }
                continue;
            }
            Ok(answered) if answered.status == StatusCode::SERVICE_UNAVAILABLE => {
                (Failure::Away, answered.status.to_string())
            }
            Ok(answered) => (Failure::Refused, answered.status.to_string()),
            Err(error) => (Failure::Away, error),
        };
        if !told {
            warn!(
                "{} does not take what clients change here: {}. It is tried again, less and less often",
                peer.address, failure.1
            );
            told = true;
        }
        service.with(|_, now| peer.outbox.lock().failed(failure.0, now));
    }
}

/// Whether a server is this one, which then is left alone.
fn is_own(service: &Service, peer: &Peer, answered: &Answered) -> bool {
    let own = answered.headers.get(SERVER_ID).is_some_and(|id| id.as_bytes() == service.id.as_bytes());
    if own && !peer.is_own.swap(true, Relaxed) {
        info!("{} is this server", peer.address);
        *peer.outbox.lock() = Outbox::default();
    }
    own
}
