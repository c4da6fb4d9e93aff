//! From a configuration to a running server, and back.
//!
//! Start: reserve the port, lock and recover the data directory, make sure there is a snapshot, open the ports for other servers, start
//! the threads, accept. Stop, in the other direction: accept no more, close connections, let the replica and the storage finish what they
//! have, release the lock.

pub(crate) mod membership_at_start;
mod room;
pub(crate) mod starting;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rookeeper_proto::ServerId;
use rookeeper_replica::settings::MAX_WATCHES_PER_CONNECTION;
use rookeeper_replica::{Reaping, Replica, Serving, Settings, Shared};
use rookeeper_storage::{Batching, Files, Secured, Snapshotter, StorageWorker};
use rookeeper_tree::AccessConfig;
use rookeeper_zab::HostPort;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::clock::{Clock, wall_ms};
use crate::config::{Config, Ensemble, OnMismatch};
use crate::context::Context;
use crate::failure::{ExitCode, Failure, Failures};
use crate::logging;
use crate::net::bind::{CannotBind, Port};
use crate::net::door::Door;
use crate::observe::absence::Absence;
use crate::observe::activity::Activities;
use crate::observe::figures::Figures;
use crate::observe::report::{self, ReportSources};
use crate::ports::client::listener;
use crate::ports::client::memory;
use crate::ports::client::moving;
use crate::ports::election::{Contacts, ElectionPort, ElectionPortSettings};
use crate::ports::quorum::{self, QuorumPort, QuorumPortSettings};
use crate::storage::{self, Opened};
use crate::threads::log_position::LogPosition;
use crate::threads::replica_thread::{self, EnsemblePorts, INPUT_QUEUE, ReplicaRuntime, ReplicaThread};
use crate::threads::snapshot_thread::{self, SnapshotRequests, SnapshotThread};
use crate::threads::storage_thread::{self, StorageQueue, StorageThread};
use crate::version;
use starting::{Starting, Step};

/// How long an orderly stop may take before the process ends anyway; what is acknowledged is on disk all the same.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How long a server that connects may take to say who it is, where nothing else is configured. It does so at once; time is for one whose
/// machine stands still.
const GREETING_MS: u64 = 5_000;

/// How often suppressed lines of the log are looked for.
const REMIND_EVERY: Duration = Duration::from_secs(5);

/// Clients refuse answers above their own `jute.maxbuffer`, which is the server's as a rule; this leaves room for those with more.
const MULTI_READ_ANSWERS: usize = 4;

/// What a learner may send at once besides a client's request: the sessions it has heard of, the identities of a client.
const MAX_LEARNER_PACKET_BYTES: usize = 64 << 20;

/// A running server.
#[derive(Debug)]
pub struct Server {
    context: Arc<Context>,
    address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    failures: mpsc::UnboundedReceiver<Failure>,
    accepting: tokio::task::JoinHandle<()>,
    threads: Vec<JoinHandle<()>>,
    /// None for a standalone server.
    election_port: Option<Arc<ElectionPort>>,
    report: Arc<ReportSources>,
    reminding: tokio::task::JoinHandle<()>,
    /// A member's, until it serves.
    _starting: Option<Starting>,
    /// Keeps a second server out of the data directory for as long as this one lives.
    _lock: rookeeper_store::DirectoryLock,
}

impl Server {
    /// Starts with a checked configuration. Returns once clients can connect.
    pub async fn start(mut config: Config) -> Result<Server, Failure> {
        let clock = Clock::start();
        let starting = Starting::begin();
        let client = &config.client.clone();
        let port_failure = |error: io::Error, exit_code| {
            let (address, port) = (client.host.as_deref().unwrap_or("0.0.0.0"), client.port.unwrap_or(0));
            let failed = CannotBind { port: Port::Client, place: format!("{address}:{port}"), error };
            Failure::new(exit_code, failed.to_string())
        };
        // Reserved first, so that a port in use is told before a large database is loaded; opened when it can be served.
        let socket = match client.port {
            Some(_) => {
                let place = moving::place_of(client);
                let unresolved = |error| port_failure(error, ExitCode::Misconfigured);
                let addresses = place.addresses().await.map_err(unresolved)?;
                Some(place.bind_first(&addresses).map_err(|error| port_failure(error, ExitCode::Failed))?)
            }
            None => None,
        };
        let figures = Arc::new(Figures::default());
        starting.at(Step::Recovering);
        let opened = {
            let config = config.clone();
            without_waiting(move || {
                let opened = storage::open(&config)?;
                room::check(&config.directories.log_dir(), config.log.pre_alloc_size_kib << 10)?;
                Ok(opened)
            })
            .await?
        };
        let Opened { lock, files, start, took, membership } = opened;
        let (recovered_zxid, node_count) = (start.recovered.tree.last_zxid(), start.recovered.tree.node_count());
        let (report, load_times) = (&start.recovered.report, start.recovered.load_times);
        let (replayed, mismatches) =
            (report.replayed, report.first_mismatch.map(|first| (report.digest_mismatches, first)));
        starting.at(Step::FindingMembers);
        let config =
            without_waiting(move || membership_at_start::correct(&mut config, membership).map(|()| config)).await?;
        figures.recovery_time_ms.store(took.as_millis() as u64, Relaxed);
        figures.snapshot_load_time_ms.store(load_times.snapshots.as_millis() as u64, Relaxed);
        figures.log_load_time_ms.store(load_times.log.as_millis() as u64, Relaxed);
        figures.transactions_loaded.store(replayed, Relaxed);

        if start.needs_snapshot() {
            starting.at(Step::TakingFirstSnapshot);
        }
        let securing = Instant::now();
        let secured = without_waiting(move || Ok(start.secure()?)).await?;
        let securing = securing.elapsed();
        let (epochs, secured) = match &config.ensemble {
            None => (None, secured),
            Some(_) => {
                starting.at(Step::ReadingEpochs);
                without_waiting(move || Ok((Some(secured.epochs()?), secured))).await?
            }
        };
        let Secured { recovered, first_snapshot, wants_snapshot, .. } = secured;

        let (failures, failure_reports) = Failures::new();
        let shared = Arc::new(Shared::new(settings(&config), recovered.tree, wall_ms()));
        if let Some((count, first)) = mismatches {
            shared.statistics.note_digest_mismatches(count, first);
        }
        let (inputs, input_queue) = mpsc::channel(INPUT_QUEUE);
        let (answers, answer_queue) = mpsc::unbounded_channel();
        let (storage, jobs) = StorageQueue::new();
        let activities = Arc::new(Activities::new(clock));
        let position = Arc::new(LogPosition::new(recovered_zxid));
        let (snapshots, snapshot_requests) = SnapshotRequests::new();
        let snapshot_thread = SnapshotThread {
            snapshotter: Snapshotter::new(
                files.clone(),
                shared.clone(),
                storage::purge_options(&config),
                first_snapshot.as_ref(),
            ),
            position: position.clone(),
            purge_interval: storage::purge_interval(&config),
            figures: figures.clone(),
            failures: failures.clone(),
            activities: activities.clone(),
        };
        if let Some(written) = &first_snapshot {
            snapshot_thread::note_taken(&figures, written, securing);
        } else if wants_snapshot {
            snapshots.request(0);
        }
        let (client_port, wanted_port) = watch::channel(None);
        let thread_failure =
            |error: io::Error| Failure::new(ExitCode::Failed, format!("can't start a thread: {error}"));
        let (replica_runtime, links) = ReplicaRuntime::new().map_err(thread_failure)?;
        let (replica, ensemble) = match config.ensemble.as_ref().zip(epochs) {
            None => (Replica::new(shared.clone(), clock.now()), None),
            Some((ensemble, epochs)) => {
                let ports = (client_port, links);
                let ports = open_ports(&config, ensemble, shared.clone(), files.clone(), ports, &starting).await?;
                let replica = Replica::member(shared.clone(), ensemble.settings(&config), epochs, clock.now());
                (replica, Some(ports))
            }
        };
        let report = Arc::new(ReportSources {
            activities: activities.clone(),
            unwritten_bytes: storage.gauge(),
            links: ensemble.as_ref().map(|ensemble| ensemble.quorum_port.view()),
        });
        let election_port = ensemble.as_ref().map(|ensemble| ensemble.election_port.clone());
        let threads = vec![
            replica_thread::spawn(
                ReplicaThread {
                    replica,
                    clock,
                    inputs: input_queue,
                    answers: answer_queue,
                    storage,
                    activities: activities.clone(),
                    ensemble,
                    stop_on_mismatch: match config.formats.on_digest_mismatch {
                        OnMismatch::Log => None,
                        OnMismatch::Stop => Some(failures.clone()),
                    },
                },
                replica_runtime,
            )
            .map_err(thread_failure)?,
            storage_thread::spawn(StorageThread {
                config_files: storage::config_files(&config, &files),
                worker: StorageWorker::new(files, shared.clone(), recovered_zxid, batching(&config)),
                jobs,
                answers,
                position,
                snapshots,
                fsync_warning_threshold_ms: config.log.fsync_warning_threshold_ms,
                figures: figures.clone(),
                failures: failures.clone(),
                activities,
            })
            .map_err(thread_failure)?,
            snapshot_thread::spawn(snapshot_thread, snapshot_requests).map_err(thread_failure)?,
        ];

        starting.at(Step::OpeningClientPort);
        let backlog = client.backlog;
        let listen = |socket| {
            let listener = listener::listen(socket, backlog)?;
            Ok((listener.local_addr()?, listener))
        };
        let opened = socket.map(listen).transpose().map_err(|error| port_failure(error, ExitCode::Failed))?;
        let (address, listener) = opened.unzip();
        let port = address.map_or(0, |address: SocketAddr| address.port());
        let context = Context::new(config, shared, clock, inputs, port, figures);
        let context = Arc::new(context);
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(memory::keep(context.shared.clone()));
        let accepting = tokio::spawn(listener::accept(listener, context.clone(), stopped, wanted_port));
        let serves = match (&context.config.ensemble, address) {
            (_, None) => "is a member without a client port".to_owned(),
            (None, Some(address)) => format!("serves clients on {address}"),
            (Some(_), Some(address)) => format!("will serve clients, once it has a leader, on {address}"),
        };
        info!(
            "Rookeeper {} {serves}; data in {}, log in {}; recovered to zxid {recovered_zxid} \
             ({node_count} nodes, {replayed} transactions replayed) in {} ms; ready after {} ms",
            version::NUMBER,
            context.config.directories.data_dir.display(),
            context.config.directories.data_log_dir.display(),
            took.as_millis(),
            clock.monotonic_ms(),
        );
        let starting = context.config.ensemble.is_some().then_some(starting);
        if let Some(starting) = &starting {
            starting.until_served(context.shared.clone());
        }
        let contacts = election_port.as_ref().map(|port| port.contacts());
        let reminding = tokio::spawn(remind(clock, context.shared.clone(), contacts));
        Ok(Server {
            context,
            address,
            stop,
            failures: failure_reports,
            accepting,
            threads,
            election_port,
            report,
            reminding,
            _starting: starting,
            _lock: lock,
        })
    }

    /// Logs what every part of the server does and waits for. Does not wait for it.
    pub fn report(&self) {
        let (context, sources) = (self.context.clone(), self.report.clone());
        tokio::task::spawn_blocking(move || {
            info!("a report of the state of this server:");
            report::tell(&context, &sources, |line| info!("report: {line}"));
            info!("end of the report");
        });
    }

    /// Where clients connected when the server started; nowhere, for a member without a client port.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Returns when something failed that the server can't go on without.
    pub async fn failed(&mut self) -> Failure {
        match self.failures.recv().await {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// Stops in order: everything acknowledged is on disk, sessions stay alive in the log.
    /// Returns a failure that this did not prevent, or met.
    pub async fn stop(self) -> Option<Failure> {
        let Server { context, stop, mut failures, accepting, threads, election_port, reminding, _lock, .. } = self;
        let begin = Instant::now();
        reminding.abort();
        let _ = stop.send(true);
        let _ = accepting.await;
        for connection in context.shared.connections() {
            connection.outbox.close();
            connection.outbox.wake();
        }
        // The tasks hold the context, and with it the way to the replica; the replica ends when the last one is gone.
        drop(context);
        let joined = async {
            let threads = threads.into_iter().map(JoinHandle::join);
            let _ = tokio::task::spawn_blocking(move || threads.for_each(drop)).await;
            if let Some(election_port) = election_port.and_then(Arc::into_inner) {
                election_port.stop().await;
            }
        };
        let joined = tokio::time::timeout(STOP_LIMIT, joined).await;
        logging::tell_all_suppressed();
        match joined {
            Ok(()) => info!("stopped in {} ms", begin.elapsed().as_millis()),
            Err(_) => warn!("not everything ended within {STOP_LIMIT:?}; ending anyway"),
        }
        failures.try_recv().ok()
    }
}

/// Tells how many lines about strangers were not logged, where no further line does, and of a member who is missing where there is no quorum.
async fn remind(clock: Clock, shared: Arc<Shared>, contacts: Option<Contacts>) {
    let mut ticks = tokio::time::interval(REMIND_EVERY);
    let mut absence = Absence::default();
    loop {
        ticks.tick().await;
        logging::tell_suppressed();
        let Some(contacts) = &contacts else { continue };
        let serves = matches!(shared.status_board.serving(), Serving::Deciding | Serving::Forwarding);
        if let Some(for_ms) = absence.look(serves, clock.monotonic_ms())
            && let Some(membership) = shared.status_board.status().membership
        {
            warn!("no leader that a quorum follows for {} s: {}", for_ms / 1000, contacts.missing(&membership));
        }
    }
}

/// Long work with files, on a thread of its own, so that whoever waits for the start can give it up.
async fn without_waiting<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let ended = |error| Failure::new(ExitCode::Failed, format!("the start was broken off: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(ended)?
}

/// Opens the ports for the other servers.
async fn open_ports(
    config: &Config,
    ensemble: &Ensemble,
    shared: Arc<Shared>,
    files: Arc<Files>,
    (client_port, links): (watch::Sender<Option<HostPort>>, Handle),
    starting: &Starting,
) -> Result<EnsemblePorts, Failure> {
    let (peers, queue) = quorum::peer_queue();
    let memberships = Arc::new(ensemble.settings(config).memberships);
    let sync_limit_ms = u64::from(config.sessions.tick_time_ms) * u64::from(ensemble.sync_limit_ticks);
    let connect_timeout_ms = u64::from(ensemble.connect_timeout_ms);
    let greeting_limit_ms = ensemble.quorum_connection_timeout_ms.map_or(sync_limit_ms.min(GREETING_MS), u64::from);
    let door = Arc::new(Door::new(ensemble.only_members, &memberships));
    starting.at(Step::OpeningQuorumPort);
    let quorum_port = QuorumPort::open(
        QuorumPortSettings {
            me: ensemble.server_id,
            memberships: (*memberships).clone(),
            listen_on_all: ensemble.quorum_listen_on_all_ips,
            connect_timeout: Duration::from_millis(connect_timeout_ms),
            snapshot_size_factor: ensemble.snapshot_size_factor,
            max_packet_bytes: config.requests.jute_max_buffer as usize + MAX_LEARNER_PACKET_BYTES,
            door: door.clone(),
            greeting_limit: Duration::from_millis(greeting_limit_ms),
            links,
        },
        shared,
        files,
        peers.clone(),
    )
    .await?;
    starting.at(Step::OpeningElectionPort);
    let election_port = ElectionPort::start(
        ElectionPortSettings {
            me: ensemble.server_id,
            memberships: memberships.clone(),
            listen_on_all: ensemble.quorum_listen_on_all_ips,
            connect_timeout_ms,
            handshake_timeout_ms: greeting_limit_ms,
            bind_retries: ensemble.election_port_bind_retries,
            multi_address: ensemble.multi_address_enabled,
            door,
        },
        peers.small_inputs(),
    )
    .await?;
    info!(
        "server {} of {} in the membership of version {:x}; quorum port on {}",
        ensemble.server_id,
        memberships.committed.members.len(),
        memberships.committed.version,
        quorum_port.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    );
    Ok(EnsemblePorts {
        inputs: queue,
        election_port: Arc::new(election_port),
        quorum_port,
        client_port,
        me: ensemble.server_id,
    })
}

fn batching(config: &Config) -> Batching {
    Batching {
        flush_delay_us: i64::try_from(config.log.flush_delay_ms).unwrap_or(i64::MAX).saturating_mul(1000),
        max_records: config.log.max_batch_size.map(|limit| limit as usize),
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        server: config.ensemble.as_ref().map_or(ServerId(1), |ensemble| ensemble.server_id),
        tick_time_ms: i64::from(config.sessions.tick_time_ms),
        min_session_timeout_ms: i32::try_from(config.sessions.min_timeout_ms).unwrap_or(i32::MAX),
        max_session_timeout_ms: i32::try_from(config.sessions.max_timeout_ms).unwrap_or(i32::MAX),
        extended_types: config.formats.extended_types_enabled,
        enforce_quota: config.access.enforce_quota,
        eager_acl_check: config.access.enable_eager_acl_check,
        digests: config.formats.digest_enabled,
        reconfig: config.reconfig_enabled,
        seed: storage::secret_seed(),
        max_watches_per_connection: MAX_WATCHES_PER_CONNECTION,
        max_client_bytes: config.connections.memory_limit_bytes.unwrap_or_else(memory::default_limit_bytes),
        max_record_bytes: (config.requests.jute_max_buffer as usize + config.requests.extra_size as usize)
            .min(rookeeper_store::MAX_RECORD_BYTES),
        max_multi_read_bytes: MULTI_READ_ANSWERS * config.requests.jute_max_buffer as usize,
        access: AccessConfig {
            skip_acl: config.access.skip_acl,
            digest_enabled: config.access.digest_enabled,
            ..AccessConfig::default()
        },
        reaping: Reaping {
            interval_ms: i64::from(config.containers.check_interval_ms),
            max_per_minute: i64::from(config.containers.max_per_minute),
            max_never_used_ms: config
                .containers
                .max_never_used_interval_ms
                .map_or(0, |ms| i64::try_from(ms).unwrap_or(i64::MAX)),
        },
    }
}
