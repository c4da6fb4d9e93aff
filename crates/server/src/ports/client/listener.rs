//! The client port: accepts connections within their limits and gives each a task.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use rookeeper_replica::Connection;
use rookeeper_tree::WatcherId;
use rookeeper_zab::HostPort;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tracing::debug;

use crate::clock::wall_ms;
use crate::context::Context;
use crate::logging::limited;
use crate::net::descriptors::{self, Spare};
use crate::net::linger::Farewells;
use crate::ports::client::connection;
use crate::ports::client::moving;

/// After a failed accept (no file descriptors, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The accept backlog where none is configured.
const BACKLOG: u32 = 1024;

/// Opens a reserved port.
pub(crate) fn listen(socket: TcpSocket, backlog: Option<u32>) -> io::Result<TcpListener> {
    socket.listen(backlog.unwrap_or(BACKLOG))
}

/// Accepts until `stop` says so, and where `wanted` says; nowhere while there is no listener. Tasks of connections end by themselves when their outboxes are closed.
pub(crate) async fn accept(
    mut listener: Option<TcpListener>,
    context: Arc<Context>,
    mut stop: watch::Receiver<bool>,
    mut wanted: watch::Receiver<Option<HostPort>>,
) {
    let mut place = context.config.client.clone();
    let places: Arc<Mutex<Taken>> = Arc::default();
    let farewells = Farewells::new(descriptors::room_for_farewells());
    let mut spare = Spare::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept_one(&listener) => Some(accepted),
            Ok(()) = wanted.changed() => None,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Some(accepted) = accepted else {
            let wanted = wanted.borrow_and_update().clone();
            if let Some(wanted) = wanted {
                listener = moving::moved(listener, &mut place, &wanted, &context).await;
            }
            continue;
        };
        let mut refuse_one = || listener.as_ref().and_then(|listener| spare.refuse_one(listener)).is_some();
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if descriptors::are_exhausted(&error) && refuse_one() => {
                context.shared.statistics.connections_rejected.fetch_add(1, Relaxed);
                limited!(
                    warn,
                    "clients for which there are no file descriptors",
                    "closed the connection of a client: {error}"
                );
                continue;
            }
            Err(error) => {
                limited!(warn, "connections that can't be accepted", "cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let Some(place) = Place::take(&places, peer.ip(), &context) else {
            farewells.bid(stream);
            continue;
        };
        if let Err(error) = configure(&stream, &context) {
            debug!(client = %peer, %error, "connection lost before it began");
            continue;
        }
        let id = WatcherId(context.next_connection.fetch_add(1, Relaxed));
        let connection = Arc::new(Connection::within(
            context.shared.budget.clone(),
            id,
            peer,
            context.clock.monotonic_ms(),
            wall_ms(),
        ));
        context.shared.add_connection(connection.clone());
        let context = context.clone();
        tokio::spawn(async move {
            connection::serve(context, stream, connection).await;
            drop(place);
        });
    }
}

async fn accept_one(listener: &Option<TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

fn configure(stream: &TcpStream, context: &Context) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if context.config.client.tcp_keep_alive {
        rustix::net::sockopt::set_socket_keepalive(stream, true)?;
    }
    Ok(())
}

/// The places that are taken: of each address, and in all. A connection that is still closed in order has its place, for it has its
/// file descriptor.
#[derive(Debug, Default)]
struct Taken {
    per_address: HashMap<IpAddr, u32>,
    all: usize,
}

/// A connection's place among the others; given back when dropped.
struct Place {
    taken: Arc<Mutex<Taken>>,
    address: IpAddr,
}

impl Place {
    fn take(places: &Arc<Mutex<Taken>>, address: IpAddr, context: &Context) -> Option<Place> {
        let limits = &context.config.connections;
        let refuse = |key: &str, limit: u32| {
            context.shared.statistics.connections_rejected.fetch_add(1, Relaxed);
            limited!(warn, "clients beyond a limit", "Too many connections from {address} - max is {limit} ({key})");
        };
        let mut taken = places.lock();
        if taken.all >= context.room_for_clients {
            context.shared.statistics.connections_rejected.fetch_add(1, Relaxed);
            limited!(
                warn,
                "clients for which there are no file descriptors",
                "closed the connection of a client at {address}: {} are connected, and the other file descriptors of this process are \
                 for its files and other servers; raise its limit (ulimit -n, LimitNOFILE)",
                context.room_for_clients
            );
            return None;
        }
        if let Some(limit) = limits.max_total.filter(|limit| context.shared.connection_count() >= *limit as usize) {
            refuse("maxCnxns", limit);
            return None;
        }
        let count = taken.per_address.get(&address).copied().unwrap_or(0);
        if let Some(limit) = limits.max_per_address.filter(|limit| count >= *limit) {
            refuse("maxClientCnxns", limit);
            return None;
        }
        taken.per_address.insert(address, count + 1);
        taken.all += 1;
        Some(Place { taken: places.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        taken.all -= 1;
        if let Some(count) = taken.per_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.per_address.remove(&self.address);
            }
        }
    }
}
