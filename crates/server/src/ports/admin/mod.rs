//! The admin port: commands over HTTP, answered in JSON, for monitoring and scripts, and whether the server lives and is ready, for probes.
//!
//! - `commands.rs`: which commands there are, who may ask for each and what it needs
//! - `access.rs`: who is asking
//! - `overview.rs`, `members.rs`, `listings.rs`, `lookout.rs`, `settings.rs`: the answers; what is told is gathered in `observe`
//! - `snapshot.rs`: a snapshot as a file; `backup.rs`: with the log behind it; `file_body.rs`: how files are sent; `restore.rs`: the way back
//! - `health.rs`: for probes
//! - `json.rs`: how answers are written
//!
//! What always holds here: a question is answered or refused within a limited time, whatever the server does, also before its database is read; no
//! body is read but a snapshot of somebody who may restore it; answers that look at locks, files or the system are made off the network threads, few at a time, and of those that grow with
//! the number of clients one is made at a time and few are kept in memory until they are sent. What holds of the connections: `ports/http.rs`.
//!
//! Counterpart in the original: `JettyAdminServer`, `Commands`.

mod access;
mod backup;
mod commands;
#[cfg(test)]
mod ensemble_tests;
mod file_body;
mod health;
mod json;
mod listings;
mod lookout;
mod members;
mod overview;
mod restore;
mod settings;
mod snapshot;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::access::{Guard, Judge};
pub use self::commands::compat_table;
use self::commands::{Command, Question};
use self::restore::Admission;
use self::snapshot::Snapshots;
use crate::commands::Cost;
use crate::config::{Access, AdminPort, Config};
use crate::context::Context;
use crate::net::bind::Port;
use crate::observe::figures::Figures;
use crate::observe::view::View;
use crate::ports::http::{Caller, HttpPort, HttpTls, SEATS};
use crate::ports::quorum::LinkView;
use crate::threads::restores::Restores;
use crate::threads::snapshot_thread::SnapshotRequests;

/// How long it may take until an answer begins. Also the time that one waits for its turn.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// The same for a snapshot, which is written first.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(600);

/// The same for a restore, whose snapshot is sent first.
const RESTORE_LIMIT: Duration = Duration::from_secs(3600);

/// How long a connection may be silent where nothing is configured for that.
const SILENCE_LIMIT: Duration = Duration::from_secs(3600);

/// Answers that are made at the same time, besides a long one.
const ANSWERS_AT_ONCE: usize = 4;

/// Long answers that are kept until they are sent.
const UNSENT_ANSWERS: usize = 2;

/// Bytes of a long answer where clients may make the server hold more: whoever asks holds them too.
const MAX_ANSWER_BYTES: usize = 1 << 30;

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";

/// What the port needs. It answers from the beginning of a start on.
#[derive(Debug)]
pub(crate) struct Admin {
    settings: AdminPort,
    access: Access,
    /// Set once clients may be served.
    context: OnceLock<Arc<Context>>,
    wishes: OnceLock<Wishes>,
    /// Of a member.
    links: OnceLock<LinkView>,
    snapshots: Snapshots,
    restores: Admission,
    figures: Arc<Figures>,
    /// Whose turn it is to make an answer that is not there at once.
    answers: Arc<Semaphore>,
    /// Whose turn it is to make a long answer.
    long_answers: Arc<Semaphore>,
    /// Whose turn it is to have a long answer in memory.
    unsent: Arc<Semaphore>,
}

/// Leads to the threads that do what is asked for.
#[derive(Debug)]
pub(crate) struct Wishes {
    pub snapshots: SnapshotRequests,
    pub restores: Arc<Restores>,
}

/// A command that is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refused {
    status: StatusCode,
    why: &'static str,
}

impl Admin {
    /// For a configuration that wants such a port.
    pub fn new(config: &Config, figures: &Arc<Figures>) -> Option<Arc<Admin>> {
        let settings = config.admin.clone()?;
        let [answers, long_answers, unsent] =
            [ANSWERS_AT_ONCE, 1, UNSENT_ANSWERS].map(|places| Arc::new(Semaphore::new(places)));
        let snapshots = Snapshots::new(settings.takes_snapshots, settings.rate_limit_ms);
        let restores = Admission::new(settings.restores, settings.rate_limit_ms);
        Some(Arc::new(Admin {
            settings,
            access: config.access.clone(),
            context: OnceLock::new(),
            wishes: OnceLock::new(),
            links: OnceLock::new(),
            snapshots,
            restores,
            figures: figures.clone(),
            answers,
            long_answers,
            unsent,
        }))
    }

    /// From now on there is something to tell.
    pub fn tell_of(&self, context: Arc<Context>, wishes: Wishes, links: Option<LinkView>) {
        // A server starts once.
        let _ = self.wishes.set(wishes);
        let _ = links.map(|links| self.links.set(links));
        let _ = self.context.set(context);
    }

    /// Where the commands are.
    pub fn path(&self) -> &str {
        &self.settings.command_path
    }

    /// How the port is to be spoken to: `https` where nothing else is taken.
    pub fn scheme(&self) -> &'static str {
        if self.settings.tls.as_ref().is_some_and(|tls| !tls.takes_plain) { "https" } else { "http" }
    }

    /// The port, to be served.
    pub fn port(self: Arc<Admin>, tls: Option<HttpTls>) -> HttpPort {
        let silence_limit = self.settings.silence_limit.unwrap_or(SILENCE_LIMIT);
        let figures = self.figures.clone();
        let router = Router::new().fallback(answer).with_state(self);
        HttpPort { port: Port::Admin, seats: SEATS, silence_limit, tls, router, figures }
    }

    /// What stands behind the path of the commands; empty for the list of them, none for another path.
    fn name_in<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(self.path())?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
    }

    /// How long it may take until the answer to this begins.
    fn limit(&self, path: &str) -> Duration {
        match self.name_in(path).and_then(commands::find) {
            Some(command) if command.is_snapshot() || command.is_backup() => SNAPSHOT_LIMIT,
            Some(command) if command.is_restore() => RESTORE_LIMIT,
            _ => ANSWER_LIMIT,
        }
    }

    async fn answer(self: Arc<Admin>, caller: Caller, request: Request) -> Response {
        let path = request.uri().path();
        if let Some(probe) = path.strip_prefix("/health/") {
            return self.probed(probe, request.method());
        }
        let Some(name) = self.name_in(path) else {
            return page(StatusCode::NOT_FOUND, format!("Nothing is here. The commands are under {}.\n", self.path()));
        };
        // As the original's HTTP server has it, whatever the command is.
        match *request.method() {
            Method::GET | Method::HEAD | Method::POST => {}
            Method::TRACE => return page(StatusCode::FORBIDDEN, "TRACE is not answered.\n".to_owned()),
            Method::OPTIONS => return (StatusCode::OK, [(ALLOW, METHODS)]).into_response(),
            _ => return wrong_method(METHODS, "a command", None),
        }
        if name.is_empty() {
            return index(self.path());
        }
        let Some(command) = commands::find(name) else {
            return framed(StatusCode::OK, &decoded(name), Some(&format!("Unknown command: {}", decoded(name))));
        };
        let is_right = if command.is_post { request.method() == Method::POST } else { is_read(request.method()) };
        if !is_right {
            let allowed = if command.is_post { "POST" } else { "GET, HEAD" };
            return wrong_method(allowed, command.name, Some(command.name));
        }
        let (headers, query) = (request.headers().clone(), request.uri().query().unwrap_or_default().to_owned());
        if command.is_restore() {
            return self.restore(command, caller, headers, request.into_body()).await;
        }
        self.run(command, caller, headers, query).await
    }

    /// Answers a command that may be asked for in this way.
    async fn run(
        self: Arc<Admin>,
        command: &'static Command,
        caller: Caller,
        headers: HeaderMap,
        query: String,
    ) -> Response {
        let busy = || {
            framed(
                StatusCode::SERVICE_UNAVAILABLE,
                command.name,
                Some("Too many answers are being made: ask again later"),
            )
        };
        if command.is_snapshot() || command.is_backup() {
            return self.snapshot(command, caller, headers, &query).await;
        }
        if command.cost == Cost::AtOnce && command.guard == Guard::Open {
            let (status, text) = self.made(command, &caller, &headers, &query);
            return json(status, text, None);
        }
        let is_long = command.cost == Cost::Long;
        let kept = match is_long {
            true => self.unsent.clone().acquire_owned().await.ok(),
            false => None,
        };
        let turns = if is_long { &self.long_answers } else { &self.answers };
        let Ok(turn) = turns.clone().acquire_owned().await else { return busy() };
        let this = self.clone();
        let making = move || {
            // Kept as long as this thread is, also where nobody waits for the answer any more.
            let _turn = turn;
            this.made(command, &caller, &headers, &query)
        };
        match tokio::task::spawn_blocking(making).await {
            Ok((status, text)) => json(status, text, kept),
            Err(_) => busy(),
        }
    }

    /// What a command may be answered from, or why it is not. It blocks.
    fn admitted(
        &self,
        command: &Command,
        caller: &Caller,
        headers: &HeaderMap,
    ) -> Result<(&Context, View), (StatusCode, String)> {
        let not_serving = || (StatusCode::OK, frame(command.name, Some(NOT_SERVING)));
        let context = self.context.get().ok_or_else(not_serving)?;
        let view = View::of(context);
        if command.needs_service && !view.serves() {
            return Err(not_serving());
        }
        let judge = Judge { port: &self.settings, access: &self.access, shared: &context.shared };
        match judge.admit(command.guard, caller, headers) {
            Ok(()) => Ok((context, view)),
            Err(refused) => Err((refused.status, frame(command.name, Some(refused.why)))),
        }
    }

    /// The answer to a command. It blocks.
    fn made(&self, command: &Command, caller: &Caller, headers: &HeaderMap, query: &str) -> (StatusCode, String) {
        match self.admitted(command, caller, headers) {
            Ok((context, view)) => {
                let limit = context.shared.budget.connection_bytes().min(MAX_ANSWER_BYTES);
                let learners = self.links.get().map(LinkView::learners).unwrap_or_default();
                commands::answer(command, &Question { context, view: &view, learners: &learners, query, limit })
            }
            Err(refusal) => refusal,
        }
    }

    /// Answers with a snapshot, or a backup. How long that takes depends on the database.
    async fn snapshot(
        self: Arc<Admin>,
        command: &'static Command,
        caller: Caller,
        headers: HeaderMap,
        query: &str,
    ) -> Response {
        let (context, wishes) = match self.judged(command, caller, headers).await {
            Ok(judged) => judged,
            Err(refusal) => return refusal,
        };
        let place = match self.snapshots.admit(Instant::now(), &self.figures.snapshots_rate_limited) {
            Ok(place) => place,
            Err(refused) => return framed(refused.status, command.name, Some(refused.why)),
        };
        if command.is_backup() {
            return backup::answer(context, &wishes.snapshots, place).await;
        }
        let streams = commands::argument(query, "streaming").is_none_or(|streams| streams.eq_ignore_ascii_case("true"));
        snapshot::answer(&wishes.snapshots, streams, place).await
    }

    /// Restores a snapshot that comes with the request.
    async fn restore(
        self: Arc<Admin>,
        command: &'static Command,
        caller: Caller,
        headers: HeaderMap,
        body: Body,
    ) -> Response {
        let (context, wishes) = match self.judged(command, caller, headers).await {
            Ok(judged) => judged,
            Err(refusal) => return refusal,
        };
        match self.restores.admit(Instant::now(), context, &self.figures) {
            Ok(place) => restore::answer(context, &wishes.restores, &self.figures, body, place).await,
            Err(refused) => framed(refused.status, command.name, Some(refused.why)),
        }
    }

    /// What a command is carried out with, or the refusal.
    async fn judged(
        self: &Arc<Admin>,
        command: &'static Command,
        caller: Caller,
        headers: HeaderMap,
    ) -> Result<(&Context, &Wishes), Response> {
        let this = self.clone();
        let judging = move || this.admitted(command, &caller, &headers).map(drop);
        let judged = tokio::task::spawn_blocking(judging).await;
        match (judged, self.context.get(), self.wishes.get()) {
            (Ok(Ok(())), Some(context), Some(wishes)) => Ok((context, wishes)),
            (Ok(Err((status, text))), ..) => Err(json(status, text, None)),
            _ => Err(framed(StatusCode::OK, command.name, Some(NOT_SERVING))),
        }
    }

    fn probed(&self, probe: &str, method: &Method) -> Response {
        if !is_read(method) {
            return wrong_method("GET, HEAD", "a probe", None);
        }
        let (status, text) = match probe {
            "live" => health::live(),
            "ready" => health::ready(self.context.get().map(|context| &**context)),
            _ => return page(StatusCode::NOT_FOUND, "There are /health/live and /health/ready.\n".to_owned()),
        };
        json(status, text, None)
    }
}

async fn answer(State(admin): State<Arc<Admin>>, Extension(caller): Extension<Caller>, request: Request) -> Response {
    let limit = admin.limit(request.uri().path());
    let _making = caller.making();
    let answer = tokio::time::timeout(limit, admin.answer(caller, request)).await;
    answer.unwrap_or_else(|_| {
        let why = format!("No answer could be made within {limit:?}: ask again later");
        json(StatusCode::SERVICE_UNAVAILABLE, frame("", Some(&why)), None)
    })
}

/// The methods by which the path of commands is asked, as the original tells them to who asks by OPTIONS; TRACE only by its name.
const METHODS: &str = "GET, HEAD, POST, TRACE, OPTIONS";

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// An answer without anything but an error, or nothing.
fn frame(command: &str, error: Option<&str>) -> String {
    let text = json::document(MAX_ANSWER_BYTES, |answer| {
        answer.scalar("command", command);
        answer.scalar("error", error);
        Ok::<(), json::TooLong>(())
    });
    text.unwrap_or_default()
}

/// An answer with one number.
fn told(command: &str, name: &'static str, value: i64) -> String {
    let text = json::document(MAX_ANSWER_BYTES, |answer| {
        answer.scalar(name, value);
        answer.scalar("command", command);
        answer.scalar("error", None::<&str>);
        Ok::<(), json::TooLong>(())
    });
    text.unwrap_or_default()
}

fn framed(status: StatusCode, command: &str, error: Option<&str>) -> Response {
    json(status, frame(command, error), None)
}

fn wrong_method(allowed: &'static str, what: &str, command: Option<&str>) -> Response {
    let why = format!("{what} is asked for by {allowed}");
    let mut response = framed(StatusCode::METHOD_NOT_ALLOWED, command.unwrap_or_default(), Some(&why));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn json(status: StatusCode, text: String, kept: Option<OwnedSemaphorePermit>) -> Response {
    let body = Body::new(Kept { bytes: Some(text.into()), _kept: kept });
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

fn page(status: StatusCode, text: String) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// Links to all commands.
fn index(path: &str) -> Response {
    let links: String =
        commands::all().map(|command| format!("<a href=\"{path}/{0}\">{0}</a>\n<br/>\n", command.name)).collect();
    (StatusCode::OK, [(CONTENT_TYPE, "text/html;charset=utf-8")], links).into_response()
}

/// A part of a URL as it is meant, and no longer than a name is.
fn decoded(text: &str) -> String {
    const MAX_BYTES: usize = 256;
    let mut bytes = Vec::new();
    let mut rest = text.bytes().take(MAX_BYTES);
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        let escaped = match byte {
            b'%' => [ahead.next(), ahead.next()]
                .into_iter()
                .try_fold(0u8, |value, digit| Some(value << 4 | u8::try_from(char::from(digit?).to_digit(16)?).ok()?)),
            _ => None,
        };
        match escaped {
            Some(escaped) => {
                bytes.push(escaped);
                rest = ahead;
            }
            None => bytes.push(if byte == b'+' { b' ' } else { byte }),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A body that keeps a place until it is sent.
struct Kept {
    bytes: Option<Bytes>,
    _kept: Option<OwnedSemaphorePermit>,
}

impl hyper::body::Body for Kept {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
