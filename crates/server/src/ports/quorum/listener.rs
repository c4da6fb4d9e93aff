//! The quorum port: open all the time, on every address of this server's line, or on all of this machine.
//!
//! What always holds here: at least one address is open when the server starts; a change of the membership opens the new addresses before
//! it closes old ones, and one that can't be opened is tried again; no more than [`MAX_LEARNERS`] connections are served.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rookeeper_zab::HostPort;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::failure::Failure;
use crate::logging::limited;
use crate::net::descriptors::{self, Spare};
use crate::net::door::{Seat, Seats};
use crate::net::linger::Farewells;

/// Connections at a time. An ensemble with this many learners would be a very large one.
const MAX_LEARNERS: usize = 256;

/// Of these from one address: all members of a test on one machine, and behind a gateway more than one ensemble has.
const MAX_PER_ADDRESS: usize = 64;

/// After a failed accept (no file descriptors, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Between attempts to open the addresses of a new membership.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

const BACKLOG: u32 = 128;

/// The exit code of the original for a port between servers that can't be bound.
const EXIT_BIND: u8 = 14;

/// Where this server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    pub addresses: Vec<HostPort>,
    /// On all addresses of this machine, whatever the hosts are.
    pub all: bool,
}

/// What takes the connections.
pub(crate) type Accept = Arc<dyn Fn(TcpStream, SocketAddr, Seat) + Send + Sync>;

type Listeners = BTreeMap<SocketAddr, Arc<TcpListener>>;

/// Opens the port and accepts until `places` has no sender any more. Returns the addresses it is open on.
pub(crate) async fn open(mut places: watch::Receiver<Places>, accept: Accept) -> Result<Vec<SocketAddr>, Failure> {
    let wanted = places.borrow_and_update().clone();
    let listeners =
        bind_all(&wanted, &Listeners::new()).await.map_err(|message| Failure { exit_code: EXIT_BIND, message })?;
    let opened = listeners.values().map(|listener| listener.local_addr()).collect::<io::Result<_>>();
    let opened =
        opened.map_err(|error| Failure { exit_code: EXIT_BIND, message: format!("the quorum port: {error}") })?;
    tokio::spawn(run(places, listeners, accept));
    Ok(opened)
}

async fn run(mut places: watch::Receiver<Places>, mut listeners: Listeners, accept: Accept) {
    let seats = Seats::new(MAX_LEARNERS, MAX_PER_ADDRESS);
    let farewells = Farewells::new(descriptors::room_for_farewells_of_servers());
    loop {
        let mut accepting = JoinSet::new();
        for listener in listeners.values() {
            accepting.spawn(accept_from(listener.clone(), accept.clone(), seats.clone(), farewells.clone()));
        }
        if places.changed().await.is_err() {
            return;
        }
        loop {
            let wanted = places.borrow_and_update().clone();
            match bind_all(&wanted, &listeners).await {
                Ok(new) => {
                    if new.keys().ne(listeners.keys()) {
                        info!("quorum port: now open on {}", listed(new.keys()));
                    }
                    listeners = new;
                    break;
                }
                Err(message) => warn!("{message}; trying again"),
            }
            if let Ok(Err(_)) = tokio::time::timeout(REOPEN_PAUSE, places.changed()).await {
                return;
            }
        }
    }
}

fn listed<'a>(addresses: impl Iterator<Item = &'a SocketAddr>) -> String {
    addresses.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Opens every address that is wanted and can be opened, or goes on with the listener that is there. An error where none can.
async fn bind_all(wanted: &Places, open: &Listeners) -> Result<Listeners, String> {
    let mut listeners = Listeners::new();
    let mut failure = String::from("this server's line has no address");
    for place in &wanted.addresses {
        let resolved: Vec<SocketAddr> = if wanted.all {
            vec![SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), place.port)]
        } else {
            match tokio::net::lookup_host((place.host.as_str(), place.port)).await {
                Ok(resolved) => resolved.collect(),
                Err(error) => {
                    failure = format!("can't open quorum port {place}: it can't be resolved: {error}");
                    Vec::new()
                }
            }
        };
        for address in resolved {
            if listeners.contains_key(&address) {
                continue;
            }
            let listener = match open.get(&address) {
                Some(listener) => Ok(listener.clone()),
                None => bind(address, wanted.all).map(Arc::new),
            };
            match listener {
                Ok(listener) => drop(listeners.insert(address, listener)),
                Err(error) => failure = format!("can't open quorum port {place} ({address}): {}", explained(&error)),
            }
        }
    }
    if listeners.is_empty() { Err(failure) } else { Ok(listeners) }
}

fn explained(error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "another process has it: stop that one, or correct the ports of this server's line",
        io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: choose another in this server's line",
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: correct this server's line or the file myid, or set quorumListenOnAllIPs=true"
        }
        _ => "check this server's line",
    };
    format!("{error}; {remedy}")
}

fn bind(address: SocketAddr, all: bool) -> io::Result<TcpListener> {
    let listen = |address: SocketAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restarted server must not wait for old connections to time out.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    match listen(address) {
        // A machine without IPv6.
        Err(error) if all && error.kind() != io::ErrorKind::AddrInUse => {
            listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        result => result,
    }
}

async fn accept_from(listener: Arc<TcpListener>, accept: Accept, seats: Seats, farewells: Farewells) {
    let mut spare = Spare::new();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if descriptors::are_exhausted(&error) && spare.refuse_one(&listener).is_some() => {
                limited!(
                    warn,
                    "learners for which there are no file descriptors",
                    "closed the connection of a learner: {error}"
                );
                continue;
            }
            Err(error) => {
                limited!(
                    warn,
                    "connections on the quorum port that can't be accepted",
                    "cannot accept a connection on the quorum port: {error}"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let configured = stream
            .set_nodelay(true)
            .and_then(|()| rustix::net::sockopt::set_socket_keepalive(&stream, true).map_err(io::Error::from));
        match (configured, seats.take(peer.ip())) {
            (Ok(()), Some(seat)) => accept(stream, peer, seat),
            (Ok(()), None) => {
                farewells.bid(stream);
                limited!(
                    warn,
                    super::STRANGERS,
                    1;
                    "too many connections on the quorum port - max is {MAX_LEARNERS}, of one address {MAX_PER_ADDRESS}; closed that of {peer}"
                );
            }
            (Err(_), _) => {}
        }
    }
}
