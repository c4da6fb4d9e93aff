//! The thread that owns the replica: feeds it with inputs and the time, carries out its outputs.
//!
//! Two queues lead here: one from the connections, bounded, and one from the log, which always has precedence. While too many
//! transactions wait for the disk, the first is not read; connections then wait, and so do their clients.

use std::thread;

use rookeeper_proto::Zxid;
use rookeeper_replica::{Input, Level, Output, Replica};
use rookeeper_zab::Record;
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use crate::clock::Clock;
use crate::log_thread::LogQueue;

/// Requests taken from the connections' queue at once.
const INPUTS_AT_ONCE: usize = 256;

/// Transactions that may wait for the disk.
pub(crate) const MAX_IN_FLIGHT: usize = 20_000;

/// Room in the queue from the connections to the replica.
pub(crate) const INPUT_QUEUE: usize = 4096;

pub(crate) struct ReplicaThread {
    pub replica: Replica,
    pub clock: Clock,
    pub inputs: mpsc::Receiver<Input>,
    pub synced: mpsc::UnboundedReceiver<Zxid>,
    pub log: LogQueue,
}

/// Runs the replica until every sender of inputs is gone and everything accepted is answered.
pub(crate) fn spawn(mut this: ReplicaThread) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("replica".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime with only timers needs nothing that could fail");
        runtime.block_on(this.run());
    })
}

impl ReplicaThread {
    async fn run(&mut self) {
        let mut inputs = Vec::with_capacity(INPUTS_AT_ONCE);
        let mut records = Vec::new();
        let mut open = true;
        while open || self.replica.in_flight() > 0 {
            let deadline = self.replica.deadline_ms().map(|due_ms| self.clock.instant(due_ms));
            let accepting = open && self.replica.in_flight() < MAX_IN_FLIGHT;
            let synced = tokio::select! {
                biased;
                zxid = self.synced.recv() => match zxid {
                    Some(zxid) => Some(zxid),
                    // The log thread has failed and said so; nothing can be committed any more.
                    None => return,
                },
                count = self.inputs.recv_many(&mut inputs, INPUTS_AT_ONCE), if accepting => {
                    open = count > 0;
                    None
                }
                () = sleep_until(deadline) => None,
            };
            let now = self.clock.now();
            match synced {
                Some(zxid) => self.replica.handle(now, Input::Synced { zxid }),
                None if inputs.is_empty() => self.replica.handle(now, Input::Tick),
                None => inputs.drain(..).for_each(|input| self.replica.handle(now, input)),
            }
            while let Some(output) = self.replica.poll() {
                carry_out(output, &mut records);
            }
            if !records.is_empty() {
                self.log.append(&mut records);
            }
        }
    }
}

async fn sleep_until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn carry_out(output: Output, records: &mut Vec<Record>) {
    match output {
        Output::Append(record) => records.push(record),
        Output::Wake(connection) => connection.outbox.wake(),
        Output::SessionOpened { session, timeout_ms, connection } => {
            debug!(%session, timeout_ms, client = %connection.peer, "session opened");
        }
        Output::SessionExpired { session, timeout_ms } => {
            info!("Expiring session {session}, timeout of {timeout_ms}ms exceeded");
        }
        Output::SessionClosed { session } => debug!(%session, "session closed"),
        Output::Log { level: Level::Info, text } => info!("{text}"),
        Output::Log { level: Level::Warn, text } => warn!("{text}"),
        // A standalone server has nobody to talk to.
        Output::Store(_)
        | Output::Notify { .. }
        | Output::Members(_)
        | Output::Dial { .. }
        | Output::Hangup { .. }
        | Output::ToLeader { .. }
        | Output::ToLearner { .. }
        | Output::PlanSync { .. }
        | Output::StreamLog { .. }
        | Output::StreamSnapshot { .. }
        | Output::DropLearner { .. } => {}
        Output::DigestMismatch { zxid, expected, actual } => error!(
            %zxid,
            expected,
            actual,
            "the tree's digest is not the one that was predicted: this server's state can't be trusted; keep its data directory, \
             restart it from a snapshot, and report this"
        ),
    }
}
