//! Accepts the connections of clients within their limits and gives each a task.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_replica::Connection;
use rookeeper_tree::WatcherId;
use rookeeper_zab::HostPort;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tracing::debug;

use crate::context::Context;
use crate::logging::limited;
use crate::net::accept::Acceptor;
use crate::net::bind::Port;
use crate::net::descriptors;
use crate::net::linger::Farewells;
use crate::net::seats::{Full, Seat, Seats};
use crate::net::stream::{self, KeepAlive, Stream};
use crate::ports::client::connection;
use crate::ports::client::moving;
use crate::ports::client::secure::{self, Beginning, Begun};
use crate::threads::client_threads::ClientThreads;

/// The accept backlog where none is configured.
const BACKLOG: u32 = 1024;

/// Opens a reserved port.
pub(crate) fn listen(socket: TcpSocket, backlog: Option<u32>) -> io::Result<TcpListener> {
    socket.listen(backlog.unwrap_or(BACKLOG))
}

/// What the task of the port goes on with.
enum Happened {
    /// None: a connection was closed, for there is no file descriptor for it.
    Accepted(Option<(Stream, SocketAddr)>),
    /// Clients are to connect there from now on.
    Moves(Option<HostPort>),
}

/// What the connections of all ports of clients go through.
#[derive(Debug)]
pub(crate) struct Entrance {
    context: Arc<Context>,
    threads: ClientThreads,
    seats: Seats,
    farewells: Farewells,
    keep_alive: KeepAlive,
    stop: watch::Receiver<bool>,
}

impl Entrance {
    pub fn new(context: Arc<Context>, threads: ClientThreads, stop: watch::Receiver<bool>) -> Entrance {
        let keep_alive = if context.config.client.tcp_keep_alive { KeepAlive::BySystem } else { KeepAlive::Never };
        let limits = &context.config.connections;
        let of_one = limits.max_per_address.map_or(usize::MAX, |limit| limit as usize);
        let seats = Seats::new(context.room_for_clients, of_one);
        let farewells = Farewells::new(descriptors::room_for_farewells());
        Entrance { context, threads, seats, farewells, keep_alive, stop }
    }

    /// Gives a connection a task, or closes it.
    fn let_in(&self, stream: Stream, peer: SocketAddr, beginning: Beginning) {
        let Some(seat) = seat(&self.seats, peer.ip(), &self.context) else {
            self.farewells.bid(stream);
            return;
        };
        if let Err(error) = stream::configure(&stream, self.keep_alive) {
            debug!(client = %peer, %error, "connection lost before it began");
            return;
        }
        let context = self.context.clone();
        if beginning == Beginning::Plain {
            let connection = connection(&context, peer);
            self.threads.serve(stream, move |stream| async move {
                match stream {
                    Ok(stream) => connection::serve(context, stream, connection).await,
                    Err(error) => {
                        debug!(client = %connection.peer, %error, "connection lost before it began");
                        context.shared.remove_connection(&connection);
                    }
                }
                drop(seat);
            });
            return;
        }
        let stop = self.stop.clone();
        self.threads.serve(stream, move |stream| async move {
            let Ok(stream) = stream else { return };
            match secure::begin(&context, stream, peer, beginning, stop).await {
                Some(Begun::Plain(stream)) => {
                    let connection = connection(&context, peer);
                    connection::serve(context, stream, connection).await;
                }
                Some(Begun::Secure(stream, shown)) => {
                    let connection = connection(&context, peer);
                    connection.note_secure();
                    if !connection.add_identities(secure::identities(&context.config.access, &shown)) {
                        debug!(client = %peer, "the subject of its certificate is too long to be an identity");
                    }
                    connection::serve(context, stream, connection).await;
                }
                None => {}
            }
            drop(seat);
        });
    }
}

/// A connection that everybody can see from now on.
fn connection(context: &Context, peer: SocketAddr) -> Arc<Connection> {
    let id = WatcherId(context.next_connection.fetch_add(1, Relaxed));
    let connection = Arc::new(Connection::within(context.shared.budget.clone(), id, peer, context.clock.now()));
    context.shared.add_connection(connection.clone());
    connection
}

/// Accepts until the server stops, and where `wanted` says; nowhere while there is no listener. Tasks of connections end by themselves when
/// their outboxes are closed.
pub(crate) async fn accept(
    mut listener: Option<TcpListener>,
    entrance: Arc<Entrance>,
    mut wanted: watch::Receiver<Option<HostPort>>,
) {
    let context = &entrance.context;
    let mut stop = entrance.stop.clone();
    let mut place = context.config.client.clone();
    let is_unified = context.config.client_tls.as_ref().is_some_and(|tls| tls.unified);
    let beginning = if is_unified { Beginning::Either } else { Beginning::Plain };
    let mut acceptor = Acceptor::new(Port::Client);
    loop {
        let happened = tokio::select! {
            accepted = accept_one(&mut acceptor, &listener) => Happened::Accepted(accepted),
            Ok(()) = wanted.changed() => Happened::Moves(wanted.borrow_and_update().clone()),
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match happened {
            Happened::Accepted(Some((stream, peer))) => entrance.let_in(stream, peer, beginning),
            Happened::Accepted(None) => {
                context.note_beyond_limit();
            }
            Happened::Moves(Some(wanted)) => listener = moving::moved(listener, &mut place, &wanted, context).await,
            Happened::Moves(None) => {}
        }
    }
}

/// The same on the port for TLS, which does not move.
pub(crate) async fn accept_secure(listener: TcpListener, entrance: Arc<Entrance>) {
    let mut stop = entrance.stop.clone();
    let mut acceptor = Acceptor::new(Port::SecureClient);
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.next(&listener) => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Some((stream, peer)) => entrance.let_in(stream, peer, Beginning::Secure),
            None => {
                entrance.context.note_beyond_limit();
            }
        }
    }
}

async fn accept_one(acceptor: &mut Acceptor, listener: &Option<TcpListener>) -> Option<(Stream, SocketAddr)> {
    match listener {
        Some(listener) => acceptor.next(listener).await,
        None => std::future::pending().await,
    }
}

/// A seat for a client of this address. A connection that is still closed in order keeps its own, for it has its file descriptor.
fn seat(seats: &Seats, address: IpAddr, context: &Context) -> Option<Seat> {
    let limits = &context.config.connections;
    let beyond = |key: &str, limit: u32| {
        limited!(warn, "clients beyond a limit", "Too many connections from {address} - max is {limit} ({key})");
    };
    let taken = seats.take(address);
    let is_full = |limit: &u32| context.shared.connection_count() >= *limit as usize;
    match (taken, limits.max_total.filter(is_full), limits.max_per_address) {
        (Err(Full::InAll), ..) => limited!(
            warn,
            "clients for which there are no file descriptors",
            "closed the connection of a client at {address}: {} are connected, and the other file descriptors of this process are \
             for its files and other servers; raise its limit (ulimit -n, LimitNOFILE)",
            context.room_for_clients
        ),
        (_, Some(limit), _) => beyond("maxCnxns", limit),
        (Err(Full::OfAddress), None, limit) => beyond("maxClientCnxns", limit.unwrap_or(u32::MAX)),
        (Ok(seat), None, _) => return Some(seat),
    }
    context.note_beyond_limit();
    None
}
