//! The audit log: who changed what, and what became of it (`audit.enable`).
//!
//! What always holds here: nobody who serves a client waits for the audit log. An event is put into a queue of bounded size, and a thread of its
//! own writes it; what finds no room, or can't be written, is counted (`audit_lines_dropped`) and said in the log.
//!
//! Reading order: `event.rs`, what is told; `line.rs`, how it is written; `queue.rs`, the way to the thread; `file.rs`, where it ends; `writer.rs`,
//! the thread.
//!
//! Counterpart in the original: `ZKAuditProvider`, `Slf4jAuditLogger`, which write on the thread of the request.

mod event;
mod file;
mod line;
mod queue;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::event::{Event, SessionEvent};

use self::event::Result;
use self::file::Destination;
use self::line::Lines;
use self::queue::Queue;
use crate::config::AuditLog;
use crate::failure::{ExitCode, Failure};
use crate::observe::figures::Figures;
use crate::observe::process::user_name;

/// Bytes of events that may wait to be written, about.
const MAX_WAITING_BYTES: usize = 16 << 20;

/// How long the end of the process waits for what is still to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The way to the audit log.
#[derive(Debug, Clone)]
pub(crate) struct Audit(Arc<Queue>);

impl Audit {
    /// Opens the audit log and starts its thread. Fails where the file can't be opened.
    pub fn start(settings: &AuditLog, figures: Arc<Figures>) -> std::result::Result<Audit, Failure> {
        let destination = Destination::open(settings).map_err(|error| {
            let message = format!(
                "can't open the audit log: {error}; audit.file must name a file that this server can write, or nothing for standard output"
            );
            Failure::new(ExitCode::Failed, message)
        })?;
        let lines = Lines::new(settings.format, user_name());
        let queue = Arc::new(Queue::new(MAX_WAITING_BYTES, figures));
        writer::spawn(queue.clone(), destination, lines)
            .map_err(|error| Failure::new(ExitCode::Failed, format!("can't start a thread: {error}")))?;
        Ok(Audit(queue))
    }

    /// Bytes of events that wait to be written.
    pub fn waiting_bytes(&self) -> usize {
        self.0.waiting_bytes()
    }

    /// How many these may be.
    pub fn limit_bytes(&self) -> usize {
        self.0.limit_bytes()
    }

    /// Tells of an event, unless too much waits. Never waits.
    pub fn tell(&self, event: Event) {
        self.0.push(event);
    }
}

/// The end of the audit log, which comes when this goes: what was told before is written, unless that takes too long.
#[derive(Debug)]
pub(crate) struct AuditEnd {
    audit: Audit,
    /// What is to be told of the end of the server, which was not told yet.
    untold: Option<Event>,
}

impl AuditEnd {
    pub fn new(audit: Audit) -> AuditEnd {
        AuditEnd { audit, untold: Some(Event::stopping()) }
    }

    /// The server started.
    pub fn started(&self) {
        self.audit.tell(Event::started(Result::Success));
    }

    /// The server could not start, so it does not stop either.
    pub fn not_started(mut self) {
        self.untold = Some(Event::started(Result::Failure));
    }

    /// The server was told to stop.
    pub fn stopping(&mut self) {
        self.untold.take().into_iter().for_each(|event| self.audit.tell(event));
    }
}

impl Drop for AuditEnd {
    /// A server that fails ends without being told to.
    fn drop(&mut self) {
        self.stopping();
        self.audit.0.close(LAST_WORDS);
    }
}
