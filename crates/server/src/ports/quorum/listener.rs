//! The quorum port: open all the time, on every address of this server's line, or on all of this machine. And the port for observers, on the same
//! addresses, as long as this server feeds observers.
//!
//! What always holds here: at least one address of the quorum port is open when the server starts; a change of the membership opens the new addresses before
//! it closes old ones, and one that can't be opened is tried again; no more than [`MAX_LEARNERS`] connections are served.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use crate::failure::{ExitCode, Failure};
use crate::logging::limited;
use crate::net::accept::Acceptor;
use crate::net::bind::{CannotBind, Place, Port};
use crate::net::descriptors;
use crate::net::linger::Farewells;
use crate::net::seats::{Seat, Seats};
use crate::net::stream::{self, KeepAlive, Stream};

/// Connections at a time. An ensemble with this many learners would be a very large one.
const MAX_LEARNERS: usize = 256;

/// Of these from one address: all members of a test on one machine, and behind a gateway more than one ensemble has.
const MAX_PER_ADDRESS: usize = 64;

/// Between attempts to open the addresses of a new membership.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

const BACKLOG: u32 = 128;

/// The part that takes the connections.
pub(crate) type Accept = Arc<dyn Fn(Stream, SocketAddr, Seat) + Send + Sync>;

type Listeners = BTreeMap<SocketAddr, Arc<TcpListener>>;

/// Opens the quorum port and accepts until `places` has no sender any more. Returns the addresses it is open on.
pub(crate) async fn open(mut places: watch::Receiver<Vec<Place>>, accept: Accept) -> Result<Vec<SocketAddr>, Failure> {
    let wanted = places.borrow_and_update().clone();
    let listeners = bind_all(Port::Quorum, &wanted, &Listeners::new())
        .await
        .map_err(|message| Failure::new(ExitCode::ServerPort, message))?;
    let opened = listeners.values().map(|listener| listener.local_addr()).collect::<io::Result<_>>();
    let opened = opened.map_err(|error| Failure::new(ExitCode::ServerPort, format!("the quorum port: {error}")))?;
    tokio::spawn(run(Port::Quorum, places, listeners, accept));
    Ok(opened)
}

/// Opens and closes the port for observers as `places` says, until that has no sender any more.
pub(crate) fn follow(places: watch::Receiver<Vec<Place>>, accept: Accept) {
    tokio::spawn(run(Port::ObserverMaster, places, Listeners::new(), accept));
}

async fn run(port: Port, mut places: watch::Receiver<Vec<Place>>, mut listeners: Listeners, accept: Accept) {
    let seats = Seats::new(MAX_LEARNERS, MAX_PER_ADDRESS);
    let farewells = Farewells::new(descriptors::room_for_farewells_of_servers());
    loop {
        let mut accepting = JoinSet::new();
        for listener in listeners.values() {
            accepting.spawn(accept_from(port, listener.clone(), accept.clone(), seats.clone(), farewells.clone()));
        }
        if places.changed().await.is_err() {
            return;
        }
        loop {
            let wanted = places.borrow_and_update().clone();
            match bind_all(port, &wanted, &listeners).await {
                Ok(new) => {
                    if new.is_empty() && !listeners.is_empty() {
                        info!("{port}: now closed");
                    } else if new.keys().ne(listeners.keys()) {
                        info!("{port}: now open on {}", listed(new.keys()));
                    }
                    listeners = new;
                    break;
                }
                Err(message) => {
                    limited!(warn, "ports for other servers that can't be opened", "{message}; trying again");
                }
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
async fn bind_all(port: Port, wanted: &[Place], open: &Listeners) -> Result<Listeners, String> {
    if wanted.is_empty() && port == Port::ObserverMaster {
        return Ok(Listeners::new());
    }
    let mut listeners = Listeners::new();
    let mut failure = String::from("this server's line has no address");
    for place in wanted {
        let addresses = match place.addresses().await {
            Ok(addresses) => addresses,
            Err(error) => {
                failure = format!("can't open {port} {place}: it can't be resolved: {error}");
                continue;
            }
        };
        for address in addresses {
            if listeners.contains_key(&address) {
                continue;
            }
            let listener = match open.get(&address) {
                Some(listener) => Ok(listener.clone()),
                None => place.bind(address).and_then(|socket| socket.listen(BACKLOG)).map(Arc::new),
            };
            match listener {
                Ok(listener) => drop(listeners.insert(address, listener)),
                Err(error) => {
                    let place = format!("{place} ({address})");
                    failure = CannotBind { port, place, error }.to_string();
                }
            }
        }
    }
    if listeners.is_empty() { Err(failure) } else { Ok(listeners) }
}

async fn accept_from(port: Port, listener: Arc<TcpListener>, accept: Accept, seats: Seats, farewells: Farewells) {
    let mut acceptor = Acceptor::new(port);
    loop {
        let Some((stream, peer)) = acceptor.next(&listener).await else { continue };
        match (stream::configure(&stream, KeepAlive::BySystem), seats.take(peer.ip())) {
            (Ok(()), Ok(seat)) => accept(stream, peer, seat),
            (Ok(()), Err(_)) => {
                farewells.bid(stream);
                limited!(
                    warn,
                    super::STRANGERS,
                    1;
                    "too many connections on the {port} - max is {MAX_LEARNERS}, of one address {MAX_PER_ADDRESS}; closed that of {peer}"
                );
            }
            (Err(_), _) => {}
        }
    }
}
