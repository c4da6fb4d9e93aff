//! The thread that owns the replica: feeds it with inputs and the time, carries out its outputs.
//!
//! Three queues lead here: one from the storage, which always has precedence, one from the other servers, and one from the clients'
//! connections. While too many transactions wait, the last is not read; connections then wait, and so do their clients. The other
//! servers are still heard, because what they acknowledge is what makes room; only a disk that is very far behind stops them too.
//!
//! The tasks of the links to other servers run here as well, between two rounds of the replica.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use rookeeper_proto::ServerId;
use rookeeper_replica::pulse::Pulse;
use rookeeper_replica::{Done, Input, Level, Output, Replica, Stamp};
use rookeeper_storage::StorageError;
use rookeeper_zab::{HostPort, LinkOutput, Record};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info, warn};

use crate::audit::{Audit, Event, SessionEvent};
use crate::clock::Clock;
use crate::failure::{ExitCode, Failure, Failures};
use crate::logging::{Cause, limited};
use crate::observe::activity::Activities;
use crate::observe::figures::Figures;
use crate::ports::client::moving;
use crate::ports::election::ElectionPort;
use crate::ports::quorum::{PeerQueue, QuorumPort};
use crate::threads::restores::Restores;
use crate::threads::storage_thread::StorageQueue;

/// Requests taken from the connections' queue at once.
const INPUTS_AT_ONCE: usize = 256;

/// Transactions that may wait to be committed.
pub(crate) const MAX_IN_FLIGHT: usize = 20_000;

/// Events that may wait to reach all of their watchers before clients' requests wait for them.
pub(crate) const MAX_DEFERRED_EVENTS: usize = 1000;

/// Bytes of transactions that may wait for this server's disk before nobody is listened to.
pub(crate) const MAX_UNWRITTEN_BYTES: usize = 512 << 20;

/// Room in the queue from the connections to the replica.
pub(crate) const INPUT_QUEUE: usize = 4096;

/// Sessions that expire may be told of one by one, unless somebody opens them to let them expire.
const EXPIRIES_PER_MINUTE: u32 = 200;

/// Sentences of the replica of one shape: strangers on the quorum port cause some of them.
const TEXTS_PER_MINUTE: u32 = 30;

pub(crate) struct ReplicaThread {
    pub replica: Replica,
    pub clock: Clock,
    pub inputs: mpsc::Receiver<Input>,
    /// The storage's answers, no more than it was asked for.
    pub answers: mpsc::UnboundedReceiver<Input>,
    pub storage: StorageQueue,
    pub figures: Arc<Figures>,
    pub activities: Arc<Activities>,
    /// Where whoever wants a tree restored waits for what becomes of it.
    pub restores: Arc<Restores>,
    /// None where it is not told who changed what.
    pub audit: Option<Audit>,
    /// None for a standalone server.
    pub ensemble: Option<EnsemblePorts>,
    /// `digest.onMismatch=stop`.
    pub stops_on_mismatch: bool,
    pub failures: Failures,
}

/// The other servers, as a member sees them.
pub(crate) struct EnsemblePorts {
    pub inputs: PeerQueue,
    pub election_port: Arc<ElectionPort>,
    pub quorum_port: QuorumPort,
    /// Where clients connect by the membership in force; none where that says nothing.
    pub client_port: watch::Sender<Option<HostPort>>,
    pub me: ServerId,
}

/// Runs the replica until every sender of clients' inputs is gone and, where that depends on nobody else, everything accepted is
/// answered.
pub(crate) fn spawn(mut this: ReplicaThread, mut runtime: ReplicaRuntime) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("replica".into()).spawn(move || {
        if let Some(runtime) = &mut runtime.0 {
            runtime.block_on(this.run());
        }
    })
}

/// The runtime of the replica thread. Links between servers are served there too: their packets are for the replica, and to wake another
/// thread for a packet takes longer than to read it.
///
/// None once it is being dropped.
#[derive(Debug)]
pub(crate) struct ReplicaRuntime(Option<Runtime>);

impl ReplicaRuntime {
    /// The runtime, and where to spawn what is to run on it.
    pub fn new() -> io::Result<(ReplicaRuntime, Handle)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        Ok((ReplicaRuntime(Some(runtime)), handle))
    }
}

impl Drop for ReplicaRuntime {
    /// A stream from the disk to a learner may still be read. No thread waits for it: the stream ends by itself, and a start that fails must not
    /// be held up.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl ReplicaThread {
    async fn run(&mut self) {
        let mut inputs = Vec::with_capacity(INPUTS_AT_ONCE);
        let mut from_peers = Vec::new();
        let mut records = Vec::new();
        let mut open = true;
        let mut pulse = Pulse::new(self.replica.tick_time_ms(), self.clock.monotonic_ms());
        // A member has outputs before anything happens.
        let mut going = self.carry_out(&mut records, self.clock.stamp());
        let is_waited_for = |replica: &Replica| replica.in_flight() > 0 || replica.holds_requests();
        while going && (open || (self.ensemble.is_none() && is_waited_for(&self.replica))) {
            let due_ms = self.replica.deadline().at_latest(pulse.due_ms());
            let deadline = Some(due_ms.map_or_else(tokio::time::Instant::now, |due_ms| self.clock.instant(due_ms)));
            let listening = self.storage.waiting_bytes() < MAX_UNWRITTEN_BYTES;
            let accepting = open
                && listening
                && self.replica.in_flight() < MAX_IN_FLIGHT
                && !self.replica.holds_requests()
                && self.replica.deferred_events() < MAX_DEFERRED_EVENTS;
            let peers = self.ensemble.as_mut().map(|ensemble| &mut ensemble.inputs);
            let answer = tokio::select! {
                biased;
                answer = self.answers.recv() => match answer {
                    Some(answer) => Some(answer),
                    // The storage thread has failed and said so; nothing can be committed any more.
                    None => return,
                },
                () = receive(peers, &mut from_peers), if listening => None,
                count = self.inputs.recv_many(&mut inputs, INPUTS_AT_ONCE), if accepting => {
                    open = count > 0;
                    None
                }
                () = sleep_until(deadline) => None,
            };
            let now = self.clock.now();
            self.activities.replica.begin(now.monotonic_ms);
            if let Some((from_ms, to_ms)) = pulse.woken(now.monotonic_ms) {
                limited!(
                    warn,
                    "this server stood still",
                    "this server stood still for {} ms, which is not held against any session",
                    to_ms - from_ms
                );
                self.replica.stood_still(from_ms, to_ms);
            }
            match answer {
                Some(answer) => self.replica.handle(now, answer),
                None if inputs.is_empty() && from_peers.is_empty() => self.replica.handle(now, Input::Tick),
                None => from_peers.drain(..).chain(inputs.drain(..)).for_each(|input| self.replica.handle(now, input)),
            }
            going = self.carry_out(&mut records, now.stamp);
            self.figures.in_flight.store(self.replica.in_flight(), Relaxed);
            self.activities.replica.end();
        }
    }

    /// Carries out what the replica wants done after it was handed something at `taken`. False where this server must not go on.
    fn carry_out(&mut self, records: &mut Vec<Record>, taken: Stamp) -> bool {
        let mut handled = self.measure(taken);
        while self.carry_out_outputs(records, handled) {
            self.replica.note_handed_over(handled);
            let answer = match self.append_at_once(records, handled) {
                Ok(answer) => answer,
                Err(error) => {
                    self.failures.report(error.into());
                    return false;
                }
            };
            let Some(answer) = answer else {
                self.storage.append(records, handled);
                return true;
            };
            let now = self.clock.now();
            self.replica.handle(now, answer);
            handled = self.measure(now.stamp);
        }
        false
    }

    /// Notes how long the replica took for what it was handed at `taken`. Returns the time now, or `taken` where it made and answered nothing.
    fn measure(&mut self, taken: Stamp) -> Stamp {
        let Done { prepared, answered } = self.replica.take_done();
        if prepared == 0 && answered == 0 {
            return taken;
        }
        let handled = self.clock.stamp();
        let stages = &self.figures.stages;
        if prepared > 0 {
            stages.prepare.record_many(taken, handled, prepared);
        }
        if answered > 0 {
            stages.apply.record_many(taken, handled, answered);
        }
        handled
    }

    /// Waits for the disk here, where there is nothing else to do meanwhile: it answers sooner than another thread. A member of an ensemble
    /// always has something else to do: others' acknowledgements may be sooner than the disk, and their next proposals can be read.
    fn append_at_once(&self, records: &mut Vec<Record>, handled: Stamp) -> Result<Option<Input>, StorageError> {
        match self.ensemble.is_some() || !self.answers.is_empty() || !self.inputs.is_empty() {
            true => Ok(None),
            false => self.storage.append_at_once(records, handled),
        }
    }

    /// Leaves the records behind that are to be appended last. False where this server must not go on.
    fn carry_out_outputs(&mut self, records: &mut Vec<Record>, handled: Stamp) -> bool {
        let mut flushed = false;
        while let Some(output) = self.replica.poll() {
            match output {
                Output::Append(record) => records.push(record),
                Output::Store(store) => {
                    // In the order in which it was asked for.
                    self.storage.append(records, handled);
                    self.storage.store(store);
                }
                Output::Wake(connection) => {
                    // Packets for other servers leave first: a client that hears of its write may look for it there at once.
                    if !std::mem::replace(&mut flushed, true) {
                        self.flush();
                    }
                    connection.note_woken(handled);
                    connection.outbox.wake();
                }
                Output::SessionOpened { session, timeout_ms, connection, resumed } => {
                    debug!(%session, timeout_ms, client = %connection.peer, "session opened");
                    if let Some(audit) = &self.audit {
                        let event = if resumed { SessionEvent::Resumed } else { SessionEvent::Opened };
                        let (client, identities) = (connection.peer.ip().to_canonical(), connection.identities());
                        audit.tell(Event::Session { event, session, client, identities });
                    }
                }
                Output::SessionExpired { session, timeout_ms } => {
                    self.tell_audit(Event::Expired { session });
                    let cause = Cause::Named("sessions that expire");
                    limited!(info, cause, EXPIRIES_PER_MINUTE; "Expiring session {session}, timeout of {timeout_ms}ms exceeded");
                }
                Output::Audited { request, fate } => self.tell_audit(Event::Request { request, fate }),
                Output::EphemeralsDeleted { session, paths } => self.tell_audit(Event::Ephemerals { session, paths }),
                Output::Slow(operation) => self.figures.slow.note(&operation, 1),
                Output::Restored(restored) => {
                    match &restored {
                        Ok(zxid) => info!("another tree is restored and served as of {zxid}; every session is over"),
                        Err(why) => warn!("no other tree is restored: {why}; everything is as it was"),
                    }
                    self.restores.answer(restored);
                }
                Output::SessionClosed { session } => debug!(%session, "session closed"),
                Output::Log(event) => {
                    self.figures.events.note(&event);
                    let text = event.to_string();
                    match event.level() {
                        Level::Info => limited!(info, Cause::of_text(&text), TEXTS_PER_MINUTE; "{text}"),
                        Level::Warn => limited!(warn, Cause::of_text(&text), TEXTS_PER_MINUTE; "{text}"),
                    }
                }
                Output::DigestMismatch { zxid, expected, actual } => {
                    let message = format!(
                        "the tree's digest after {zxid} is {actual}, not {expected} as was predicted: this server's state can't be \
                         trusted. Keep a copy of its data directory and report this; a member of an ensemble gets a sound tree from the \
                         leader when it is started without its version-2, while a quorum of the others works without it"
                    );
                    if self.stops_on_mismatch {
                        let message = format!("{message}; digest.onMismatch=stop ends it");
                        self.failures.report(Failure::new(ExitCode::Failed, message));
                        return false;
                    }
                    error!("{message}");
                }
                Output::Notify { .. }
                | Output::Members(_)
                | Output::Dial { .. }
                | Output::Hangup { .. }
                | Output::ObserverMaster { .. }
                | Output::ToLeader { .. }
                | Output::ToLearner(..) => {
                    // A standalone server has nobody to talk to.
                    if let Some(ensemble) = &mut self.ensemble {
                        ensemble.carry_out(output);
                    }
                }
            }
        }
        // The way to the others' disks is longer.
        if !flushed {
            self.flush();
        }
        true
    }

    fn tell_audit(&self, event: Event) {
        if let Some(audit) = &self.audit {
            audit.tell(event);
        }
    }

    fn flush(&mut self) {
        if let Some(ensemble) = &mut self.ensemble {
            ensemble.quorum_port.flush();
        }
    }
}

impl EnsemblePorts {
    /// Does what an output asks of the ports for other servers.
    fn carry_out(&mut self, output: Output) {
        let port = &mut self.quorum_port;
        match output {
            Output::Notify { to, notification } => self.election_port.send(to, notification),
            Output::Members(memberships) => {
                port.set_members(&memberships);
                moving::follow(&self.client_port, self.me, &memberships);
                self.election_port.set_members(memberships);
            }
            Output::Dial { link, server, addresses } => port.dial(link, server, addresses),
            Output::Hangup { link } => port.hang_up(link),
            Output::ObserverMaster { open } => port.feed_observers(open),
            Output::ToLeader { link, bytes } => port.send_to_leader(link, bytes),
            Output::ToLearner(link, output) => match output {
                LinkOutput::Send(bytes) => port.send_to_learner(link, bytes),
                LinkOutput::PlanSync { after, before } => port.plan_sync(link, after, before),
                LinkOutput::StreamLog { after, before } => port.stream_log(link, after, before),
                LinkOutput::StreamSnapshot => port.stream_snapshot(link),
                LinkOutput::Drop(why) => port.drop_learner(link, why),
            },
            Output::Append(_)
            | Output::Store(_)
            | Output::Log(_)
            | Output::Wake(_)
            | Output::SessionOpened { .. }
            | Output::SessionExpired { .. }
            | Output::SessionClosed { .. }
            | Output::Audited { .. }
            | Output::EphemeralsDeleted { .. }
            | Output::Slow(_)
            | Output::Restored(_)
            | Output::DigestMismatch { .. } => unreachable!("the replica thread carries these out itself"),
        }
    }
}

async fn receive(peers: Option<&mut PeerQueue>, inputs: &mut Vec<Input>) {
    if let Some(peers) = peers
        && peers.receive_many(inputs, INPUTS_AT_ONCE).await > 0
    {
        return;
    }
    std::future::pending().await
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
