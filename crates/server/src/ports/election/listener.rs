//! Where other servers connect for elections.
//!
//! Every accepted connection says who it is in a task of its own, within a time limit, and there are only so many such tasks: a
//! silent or slow client delays nobody. When this server's own address changes, what listens on the old one is closed, then the new one
//! is opened, however often that must be tried.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rookeeper_proto::ServerId;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::logging::{Cause, PER_MINUTE, limited};
use crate::net::accept::Acceptor;
use crate::net::bind::{CannotBind, Place, Port};
use crate::net::linger::linger;
use crate::net::stream::{self, KeepAlive, PeerStream, Stream};
use crate::net::tls::peers;

use super::Shared;
use super::hints::hints;
use super::wire::Link;

/// Between attempts to bind, as in the original.
const BIND_PAUSE: Duration = Duration::from_secs(1);

const BACKLOG: u32 = 128;

/// Connections that have not said yet who they are, in all and from one address.
pub(super) const MAX_UNKNOWN: usize = 128;
pub(super) const MAX_UNKNOWN_PER_ADDRESS: usize = 16;

/// Connections that never become those of a server: one is told of, the others are counted.
const STRANGERS: Cause = Cause::Named("strangers at the election port");

/// The id that observers without one used before 3.5; they can't be connected back to.
const NAMELESS_OBSERVER: ServerId = ServerId(i64::MAX);

#[derive(Debug)]
struct Listening {
    place: Place,
    /// A listener for each address that the host has.
    accepting: JoinSet<()>,
}

/// All places where this server listens for elections.
#[derive(Debug)]
pub(super) struct Listeners {
    shared: Arc<Shared>,
    open: Vec<Listening>,
}

impl Listeners {
    /// Opens all of them, or none.
    pub async fn open(shared: Arc<Shared>, places: &[Place], attempts: Option<u32>) -> Result<Listeners, CannotBind> {
        let mut listeners = Listeners { shared, open: Vec::new() };
        listeners.move_to(places, attempts).await?;
        Ok(listeners)
    }

    /// Follows this server's own address for as long as it lives.
    pub async fn run(mut self, mut places: watch::Receiver<Vec<Place>>) {
        loop {
            if places.changed().await.is_err() {
                return;
            }
            loop {
                let wanted = places.borrow_and_update().clone();
                tokio::select! {
                    // There is no limit to the attempts, so there is no failure either.
                    _ = self.move_to(&wanted, None) => break,
                    changed = places.changed() => if changed.is_err() { return },
                }
            }
        }
    }

    async fn move_to(&mut self, places: &[Place], attempts: Option<u32>) -> Result<(), CannotBind> {
        while let Some(index) = self.open.iter().position(|listening| !places.contains(&listening.place)) {
            let mut closed = self.open.swap_remove(index);
            closed.accepting.shutdown().await;
            info!("no longer listens for elections on {}", closed.place);
        }
        for place in places {
            if self.open.iter().any(|listening| listening.place == *place) {
                continue;
            }
            let sockets = bind_patiently(place, attempts).await?;
            info!("listens for elections on {place}");
            let mut accepting = JoinSet::new();
            for socket in sockets {
                accepting.spawn(accept(socket, self.shared.clone()));
            }
            self.open.push(Listening { place: place.clone(), accepting });
        }
        Ok(())
    }
}

async fn bind_patiently(place: &Place, attempts: Option<u32>) -> Result<Vec<TcpListener>, CannotBind> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match bind(place).await {
            Ok(listeners) => return Ok(listeners),
            Err(error) if attempts.is_some_and(|attempts| attempt >= attempts) => {
                return Err(CannotBind { port: Port::Election, place: place.to_string(), error });
            }
            Err(error) => warn!("can't listen for elections on {place}: {error}; will try again"),
        }
        sleep(BIND_PAUSE).await;
    }
}

/// One listener for each address that the host resolves to and this machine has.
async fn bind(place: &Place) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut failure = None;
    for address in place.addresses().await? {
        if listeners.iter().any(|listener| listener.local_addr().is_ok_and(|bound| bound == address)) {
            continue;
        }
        match place.bind(address).and_then(|socket| socket.listen(BACKLOG)) {
            Ok(listener) => listeners.push(listener),
            // Another process would get a part of what is meant for this one.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut handshakes = JoinSet::new();
    let mut acceptor = Acceptor::new(Port::Election);
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.next(&listener) => accepted,
            Some(_) = handshakes.join_next() => continue,
        };
        let Some((stream, peer)) = accepted else { continue };
        let Ok(seat) = shared.unknown.take(peer.ip()) else {
            let why = "there are too many that do not say who they are";
            limited!(warn, STRANGERS, 1; "closes an election connection from {peer}: {why}");
            shared.farewells.bid(stream);
            continue;
        };
        let shared = shared.clone();
        handshakes.spawn(async move {
            if let Some(refused) = greet(&shared, stream, peer).await {
                linger(refused).await;
            }
            drop(seat);
        });
    }
}

/// Learns who connected. Returns a connection that is refused and still to be closed.
async fn greet(shared: &Arc<Shared>, stream: Stream, peer: SocketAddr) -> Option<PeerStream> {
    if let Err(error) = stream::configure(&stream, KeepAlive::Soon(shared.connect_timeout)) {
        debug!(%peer, %error, "election connection lost before it began");
        return None;
    }
    let stranger = |why: &str| limited!(warn, STRANGERS, 1; "closes an election connection from {peer}: {why}");
    if !shared.door.admits(peer.ip()).await {
        stranger("it is no member's address, and quorum.membersOnly=true");
        return Some(PeerStream::Plain(stream));
    }
    let names = shared.door.hosts();
    let stream = match peers::receive(shared.tls.as_ref(), stream, peer, names, shared.handshake_timeout).await {
        Ok(stream) => stream,
        Err(failure) => {
            let cause = failure.kind().of_servers();
            limited!(warn, cause, PER_MINUTE; "closed an election connection from {peer}: {failure}");
            return None;
        }
    };
    let mut link = Link::new(stream);
    let message = match timeout(shared.handshake_timeout, link.reader.initial_message()).await {
        Ok(Ok(message)) => message,
        Ok(Err(error)) => {
            stranger(&error.to_string());
            return link.into_stream();
        }
        Err(_) => {
            let limit_ms = shared.handshake_timeout.as_millis();
            stranger(&format!("does not say who it is within {limit_ms} ms"));
            return link.into_stream();
        }
    };
    let server = message.server;
    if server == shared.me {
        limited!(
            warn,
            "servers with the id of this one",
            "closes an election connection from {peer}: it says it is server {server}, as this one is ({}); two servers have the same \
             myid, or an address in the server list is wrong",
            shared.own_addresses()
        );
    } else if server == NAMELESS_OBSERVER {
        stranger("an observer without an id; give it one, and a server line");
    } else if server.0 < 0 {
        stranger(&format!("{server} is no server id"));
    } else if let Err(why) = proof(shared, &mut link).await {
        stranger(&format!("server {server}: {why}"));
    } else {
        shared.connected(server, hints(&message.addresses), link, peer);
        return None;
    }
    link.into_stream()
}

/// What is demanded of whoever connects, within a time limit.
async fn proof(shared: &Shared, link: &mut Link) -> Result<(), String> {
    if let Some(user) = link.demand_proof(&shared.auth, shared.handshake_timeout).await? {
        debug!("a server has shown for elections to be {user}");
    }
    Ok(())
}
