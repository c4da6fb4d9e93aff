//! The port on which Prometheus asks for metrics: `GET /metrics`, over HTTP, without authentication, as in the original.
//!
//! What always holds here: there are few connections, each has a limited time for its head and in all, and one page is made at a time, so that
//! those who ask cost the clients nothing; a page is made off the network threads, for it takes locks.

mod exposition;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tracing::debug;

use crate::context::Context;
use crate::logging::{Cause, PER_MINUTE, limited};
use crate::net::accept::Acceptor;
use crate::net::bind::Port;
use crate::net::seats::Seats;

/// Connections in all, and of one address.
const SEATS: (usize, usize) = (64, 16);

/// How long a request's head may take, and a connection may be silent between requests. Those who scrape every quarter of a minute keep theirs.
const HEAD_LIMIT: Duration = Duration::from_secs(75);

/// How long a connection may last; also one whose reader does not read. Those who scrape connect again.
const CONNECTION_LIMIT: Duration = Duration::from_secs(3600);

const MAX_HEAD_BYTES: usize = 16 << 10;

/// What Prometheus calls this form of text.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a page is made from.
struct Scraped {
    context: Arc<Context>,
    /// Held by whoever makes a page.
    turn: Mutex<()>,
}

/// Serves until the server stops.
pub(crate) async fn serve(listener: TcpListener, context: Arc<Context>, mut stopped: watch::Receiver<bool>) {
    let router = Router::new().route("/metrics", get(metrics));
    let router = router.with_state(Arc::new(Scraped { context, turn: Mutex::new(()) }));
    let seats = Seats::new(SEATS.0, SEATS.1);
    let mut acceptor = Acceptor::new(Port::Metrics);
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.next(&listener) => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let Some((stream, peer)) = accepted else { continue };
        let Ok(seat) = seats.take(peer.ip()) else {
            limited!(warn, Cause::Named("scrapes beyond the limit of connections"), PER_MINUTE;
                "closed a connection of {peer} to the metrics port: there are too many");
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut stopped = stopped.clone();
        tokio::spawn(async move {
            tokio::select! {
                ended = tokio::time::timeout(CONNECTION_LIMIT, connection) => note_end(peer, ended),
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
            drop(seat);
        });
    }
}

fn note_end(peer: SocketAddr, ended: Result<hyper::Result<()>, tokio::time::error::Elapsed>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("a connection of {peer} to the metrics port ended: {error}"),
        Err(_) => debug!("a connection of {peer} to the metrics port ended: it lasted {CONNECTION_LIMIT:?}"),
    }
}

async fn metrics(State(scraped): State<Arc<Scraped>>) -> Result<([(HeaderName, &'static str); 1], String), StatusCode> {
    let _turn = scraped.turn.lock().await;
    let context = scraped.context.clone();
    let page = tokio::task::spawn_blocking(move || exposition::page(&context)).await;
    page.map(|page| ([(CONTENT_TYPE, TEXT)], page)).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
