//! A request over HTTP, from its head to the last byte of the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use rookeeper_registry::rest::{self, Answer, Asked, Parts, Way};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::service::Service;
use super::{itself, page};
use crate::net::bind::Port;
use crate::observe::figures::Figures;
use crate::ports::http::{Caller, HttpPort, HttpTls};

/// Connections in all, and of one address: many clients may stand behind one.
const SEATS: (usize, usize) = (20_000, 20_000);

/// How long a connection may be silent. Clients send heartbeats every half a minute.
const SILENCE_LIMIT: Duration = Duration::from_secs(75);

/// The longest registration.
const MAX_REGISTRATION_BYTES: usize = 1 << 20;

/// The longest batch of another server.
const MAX_BATCH_BYTES: usize = 16 << 20;

/// A body from this length on is not read beside other connections.
const LONG_BYTES: usize = 256 << 10;

const REPLICATION: &str = "x-netflix-discovery-replication";

/// Tells other servers of this kind which one answers.
pub(super) const SERVER_ID: &str = "x-rookeeper-registry";

/// The port, to be served.
pub(super) fn port(service: Arc<Service>, tls: Option<HttpTls>, figures: Arc<Figures>) -> HttpPort {
    let router = Router::new().fallback(answer).with_state(service);
    HttpPort { port: Port::Registry, seats: SEATS, silence_limit: SILENCE_LIMIT, tls, router, figures }
}

async fn answer(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let is_eureka = request.uri().path().starts_with("/eureka");
    let response = answer_to(&service, &caller, request).await;
    if is_eureka {
        service.answered.count(response.status().as_u16());
    }
    response
}

async fn answer_to(service: &Service, caller: &Caller, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if !service.config.lets_in(head.headers.get(header::AUTHORIZATION)) {
        let mut refused = plain(StatusCode::UNAUTHORIZED, "Name and password are wanted.\n");
        let realm = HeaderValue::from_static("Basic realm=\"service registry\"");
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
        return refused;
    }
    let path = head.uri.path();
    if path != "/eureka" && !path.starts_with("/eureka/") {
        return page::answer(service, caller, path);
    }
    let text = |name: HeaderName| header_text(&head.headers, name);
    let parts = Parts {
        method: head.method.as_str(),
        path,
        query: head.uri.query().unwrap_or_default(),
        accept: text(header::ACCEPT),
        accept_encoding: text(header::ACCEPT_ENCODING),
        content_type: text(header::CONTENT_TYPE),
        eureka_accept: text(HeaderName::from_static("x-eureka-accept")),
        replication: text(HeaderName::from_static(REPLICATION)),
        wall_ms: service.now().wall_ms,
    };
    let request = match rest::read(&parts) {
        Ok(request) => request,
        Err(answer) => return sent(service, caller, answer),
    };
    if let Some(format) = request.about_server() {
        return sent(service, caller, rest::about_server(&itself::server(service), format));
    }
    let most = if request.is_batch() { MAX_BATCH_BYTES } else { MAX_REGISTRATION_BYTES };
    let body = match request.has_body() {
        true => match service.intake.read(body, most, caller.address.ip()).await {
            Ok(read) => Some(read),
            Err(status) => return plain(status, "The body is too long, or came too slowly.\n"),
        },
        false => None,
    };
    let mut request = match body {
        Some((bytes, _room)) if bytes.len() < LONG_BYTES => request.with_body(&bytes, service.now()),
        // Reading much takes long, and others want to be answered meanwhile.
        Some((bytes, room)) => {
            let now = service.now();
            let reading = move || (request.with_body(&bytes, now), drop(room)).0;
            match tokio::task::spawn_blocking(reading).await {
                Ok(request) => request,
                Err(_) => return plain(StatusCode::INTERNAL_SERVER_ERROR, "The body could not be read.\n"),
            }
        }
        None => request,
    };
    let way = {
        let desk = service.ensemble.as_ref().map(|ensemble| ensemble.desk.lock());
        request.way(desk.as_deref())
    };
    match (way, &service.ensemble) {
        (Way::Answered(answer), _) => return sent(service, caller, answer),
        // Who is available is looked up without a word to the ensemble.
        (Way::Look, Some(ensemble))
            if service.with(|registry, _| request.is_available(&ensemble.desk.lock(), registry)) => {}
        (Way::Look, Some(ensemble)) => {
            ensemble.look().await;
            let hidden = service.with(|registry, _| request.hidden(&ensemble.desk.lock(), registry));
            if let Some(answer) = hidden {
                return sent(service, caller, answer);
            }
        }
        (Way::Work(job), Some(ensemble)) => return sent(service, caller, request.outcome(ensemble.work(job).await)),
        _ => {}
    }
    let follows = request.follows();
    let asked = match follows {
        false => {
            while service.with(|registry, now| request.take_slice(registry, now)) {
                tokio::task::yield_now().await;
            }
            service.ask(request)
        }
        true => match follow(service, request).await {
            Some(asked) => asked,
            None => return busy(),
        },
    };
    if asked.is_ready() {
        let answer = asked.answer();
        return if follows { followed(service, caller, answer) } else { sent(service, caller, answer) };
    }
    // Encoding much takes long, and others want to be answered meanwhile.
    match tokio::task::spawn_blocking(|| asked.answer()).await {
        Ok(answer) if follows => followed(service, caller, answer),
        Ok(answer) => sent(service, caller, answer),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "The answer could not be made.\n"),
    }
}

/// Asks until something has changed, or the time is over for which the client wants to wait. None where too many wait.
async fn follow(service: &Service, request: rest::Request) -> Option<Asked> {
    let begin = Instant::now();
    let mut follower = None;
    loop {
        let asked = service.ask(request.clone());
        let Some(waits_ms) = asked.waits_ms() else { return Some(asked) };
        match &mut follower {
            // Whatever changes from here on is heard of.
            None => follower = Some(service.followers.follow()?),
            Some(follower) => {
                let over = begin + Duration::from_millis(waits_ms);
                if tokio::time::timeout_at(over, follower.news()).await.is_err() {
                    return Some(asked);
                }
            }
        }
    }
}

/// An answer to a client that follows the changes. Too many of them are not on their way at once.
fn followed(service: &Service, caller: &Caller, answer: Answer) -> Response {
    match service.followers.room(answer.body.length) {
        Some(room) => sent_with(service, caller, answer, Some(room)),
        None => busy(),
    }
}

fn busy() -> Response {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "Too many clients follow the changes. Ask again soon.\n");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn sent(service: &Service, caller: &Caller, answer: Answer) -> Response {
    sent_with(service, caller, answer, None)
}

fn sent_with(service: &Service, caller: &Caller, answer: Answer, room: Option<OwnedSemaphorePermit>) -> Response {
    let Answer { status, content_type, gzip, allow, version, body } = answer;
    let mut response = Response::new(service.outlet.body(body, caller, room));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    let mut put = |name, value| headers.insert(name, HeaderValue::from_static(value));
    if let Some(content_type) = content_type {
        put(header::CONTENT_TYPE, content_type);
    }
    if let Some(allow) = allow {
        put(header::ALLOW, allow);
    }
    if gzip {
        put(header::CONTENT_ENCODING, "gzip");
    }
    if let Some(version) = version.and_then(|version| HeaderValue::try_from(version.to_string()).ok()) {
        headers.insert(HeaderName::from_static(rest::VERSION_HEADER), version);
    }
    if let Some(id) = service.id_header.clone() {
        headers.insert(HeaderName::from_static(SERVER_ID), id);
    }
    response
}

/// A short answer in words.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn header_text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
