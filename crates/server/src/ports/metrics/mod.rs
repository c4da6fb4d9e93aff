//! The port on which Prometheus asks for metrics: `GET /metrics`, over HTTP, without authentication, as in the original.
//!
//! What always holds here: one page is made at a time, so that those who ask cost the clients nothing; a page is made off the network threads, for
//! it takes locks. What holds of the connections: `ports/http.rs`.

mod exposition;
#[cfg(test)]
mod packaged_tests;

pub(crate) use self::exposition::process_page;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::routing::get;
use tokio::sync::Mutex;

use crate::context::Context;
use crate::net::bind::Port;
use crate::ports::http::{HttpPort, SEATS};

/// How long a connection may be silent between requests. Those who scrape every quarter of a minute keep theirs.
const SILENCE_LIMIT: Duration = Duration::from_secs(75);

/// What Prometheus calls this form of text.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a page is made from.
struct Scraped {
    context: Arc<Context>,
    /// Held by whoever makes a page.
    turn: Mutex<()>,
}

/// The port, to be served.
pub(crate) fn port(context: Arc<Context>) -> HttpPort {
    let figures = context.figures.clone();
    let router = Router::new().route("/metrics", get(metrics));
    let router = router.with_state(Arc::new(Scraped { context, turn: Mutex::new(()) }));
    HttpPort { port: Port::Metrics, seats: SEATS, silence_limit: SILENCE_LIMIT, tls: None, router, figures }
}

async fn metrics(State(scraped): State<Arc<Scraped>>) -> Result<([(HeaderName, &'static str); 1], String), StatusCode> {
    let _turn = scraped.turn.lock().await;
    let context = scraped.context.clone();
    let page = tokio::task::spawn_blocking(move || exposition::page(&context)).await;
    page.map(|page| ([(CONTENT_TYPE, TEXT)], page)).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
