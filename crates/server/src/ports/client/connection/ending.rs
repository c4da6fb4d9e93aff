//! How a connection ends: why, what is counted and said of it, and in which order its parts are given back.
//!
//! What always holds here: what the connection holds is free before its socket is closed in order, which can take a while; the replica is
//! told after everything else, so that nothing of this connection follows.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::frame;
use rookeeper_replica::{Connection, Excess, Input};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::Task;
use crate::context::Context;
use crate::logging::limited;
use crate::net::disguise;
use crate::net::linger::linger;
use crate::observe::drops::Dropped;

/// Why a connection ends. Only for its log line and its count.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("closed by the client")]
    ByClient,
    #[error("closed by the server")]
    ByServer,
    #[error("{0}")]
    Excess(Excess),
    #[error("the client took nothing of what was to be sent to it for {0} ms")]
    NotReading(i64),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}; raise jute.maxbuffer on server and client if requests of this size are meant")]
    FrameTooLarge(#[from] frame::FrameTooLarge),
    #[error("undecodable {0}")]
    Undecodable(&'static str),
    #[error("the client means an ensemble of another name (ensembleAuthName)")]
    OtherEnsemble,
    #[error(
        "it sends a request of {0} bytes, and too many bytes of large requests are in process \
         (largeRequestThreshold, largeRequestMaxBytes)"
    )]
    LargeRequest(usize),
    #[error("a request of it that waited for its turn is stale (request_throttle_drop_stale)")]
    StaleRequest,
    #[error("no ConnectRequest within {0} ms")]
    NoHandshake(i64),
}

/// Ends the connection of a task that has nothing more to do.
pub(super) async fn end<S: AsyncRead + AsyncWrite + Unpin>(task: Task<S>, end: End) {
    let end = match end {
        End::ByServer => task.connection.outbox.excess().map_or(End::ByServer, End::Excess),
        end => end,
    };
    let statistics = &task.context.shared.statistics;
    note(&task.context, &end);
    match end {
        End::ByClient => statistics.connections_dropped.fetch_add(1, Relaxed),
        End::NoHandshake(_) => statistics.sessionless_connections_expired.fetch_add(1, Relaxed),
        End::LargeRequest(_) => statistics.large_requests_refused.fetch_add(1, Relaxed),
        End::Excess(_) => statistics.connections_cut_for_memory.fetch_add(1, Relaxed),
        _ => 0,
    };
    let is_established = task.connection.is_established();
    let disguise = if is_established { None } else { disguise::recognized(task.input.pending()) };
    let (context, connection, stream) = task.into_parts();
    while !context.shared.remove_some_of(&connection) {
        // The connection's watches may be many, and this worker has others to serve.
        tokio::task::yield_now().await;
    }
    if is_established {
        let _ = context.inputs.send(Input::Disconnected { connection: connection.clone() }).await;
    }
    tell(&end, &connection, disguise);
    // A stop waits for all tasks to let go of the context: it must not wait for clients.
    drop((context, connection));
    if !matches!(end, End::ByClient | End::Io(_)) {
        linger(stream).await;
    }
}

/// Counts the reason of an end that is this server's decision.
fn note(context: &Context, end: &End) {
    let why = match end {
        // Whoever means another ensemble is counted where that is found.
        End::ByClient | End::ByServer | End::Io(_) | End::OtherEnsemble => return,
        End::Excess(_) => Dropped::Memory,
        End::NotReading(_) => Dropped::NotReading,
        End::FrameTooLarge(_) => Dropped::FrameTooLarge,
        End::LargeRequest(_) => Dropped::LargeRequest,
        End::StaleRequest => Dropped::StaleRequest,
        End::Undecodable(_) => Dropped::Undecodable,
        End::NoHandshake(_) => Dropped::NoHandshake,
    };
    context.figures.drops.note(why);
}

/// Logs the end of a connection. `disguise` says what the bytes are that are no frames.
fn tell(end: &End, connection: &Connection, disguise: Option<&'static str>) {
    let (client, session) = (connection.peer, connection.session());
    match end {
        // Those who hold the most are told together by the task that cut them (`memory.rs`).
        End::Excess(Excess::Share { .. }) => debug!(%client, %session, "connection closed: {end}"),
        End::FrameTooLarge(_) | End::Undecodable(_) | End::OtherEnsemble => {
            limited!(
                warn,
                "connections closed for what they sent",
                "connection of {client}, session {session}, closed: {}",
                disguise::cause(end, disguise)
            );
        }
        End::LargeRequest(_) => {
            limited!(
                warn,
                "connections closed for large requests",
                "connection of {client}, session {session}, closed: {end}"
            );
        }
        End::Excess(_) => {
            limited!(
                warn,
                "connections closed for what they made this server hold",
                "connection of {client}, session {session}, closed: {end}"
            );
        }
        end => debug!(%client, %session, "connection closed: {end}"),
    }
}

impl<S> Task<S> {
    /// What an orderly end needs; everything else that the task holds is free from here on.
    fn into_parts(self) -> (Arc<Context>, Arc<Connection>, S) {
        (self.context, self.connection, self.stream)
    }
}
