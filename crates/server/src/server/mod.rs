//! From a configuration to a running server, and back.
//!
//! Start: reserve the port, lock and recover the data directory, make sure there is a snapshot, open the ports for other servers, start
//! the threads, accept. Stop, in the other direction: accept no more, close connections, let the replica and the storage finish what they
//! have, release the lock.
//!
//! Reading order: `recover.rs` and `data_directory.rs`, the files; `open.rs`, the ports; `spawn.rs`, the threads; here, how these follow each other. `starting.rs` tells
//! how far a start is that lasts, `membership_at_start.rs` finds which members count, `room.rs` whether the disk is full, `measure.rs` how
//! full the disks and the memory are from then on, `rehearsal.rs` what a start would find, for those who do not want one yet.

pub(crate) mod data_directory;
mod measure;
pub(crate) mod membership_at_start;
mod open;
mod oracle;
mod recover;
pub(crate) mod rehearsal;
mod room;
mod spawn;
pub(crate) mod starting;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rookeeper_replica::{Replica, Serving, Settings, Shared};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use self::recover::{Found, Recovered};
use self::spawn::{Common, OnDisk, Running};
use self::starting::{Starting, Step};
use crate::audit::{Audit, AuditEnd};
use crate::clock::{Clock, wall_ms};
use crate::config::{Config, QuorumTls};
use crate::context::Context;
use crate::failure::{Failure, Failures};
use crate::logging;
use crate::net::bind::Port;
use crate::net::tls::peers::PeerTls;
use crate::net::tls::reload;
use crate::observe::absence::Absence;
use crate::observe::figures::Figures;
use crate::observe::report::{self, ReportSources};
use crate::observe::top;
use crate::ports::admin::{Admin, Wishes};
use crate::ports::client::listener::Entrance;
use crate::ports::client::secure::SecureClients;
use crate::ports::client::{listener, memory};
use crate::ports::election::{Contacts, ElectionPort};
use crate::ports::{http, metrics};
use crate::registry::{RegistryPort, RegistryServer};
use crate::seed::secret_seed;
use crate::threads::client_threads::ClientThreads;
use crate::threads::replica_thread::ReplicaRuntime;
use crate::version;

/// How long an orderly stop may take before the process ends anyway; what is acknowledged is on disk all the same.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How often suppressed lines of the log are looked for.
const REMIND_EVERY: Duration = Duration::from_secs(5);

/// A running server.
#[derive(Debug)]
pub struct Server {
    context: Arc<Context>,
    address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    failures: mpsc::UnboundedReceiver<Failure>,
    accepting: Vec<tokio::task::JoinHandle<()>>,
    /// Follows the files of TLS, and tells of paths.
    following: Vec<tokio::task::JoinHandle<()>>,
    secure_address: Option<SocketAddr>,
    threads: Vec<JoinHandle<()>>,
    client_threads: ClientThreads,
    /// None for a standalone server.
    election_port: Option<Arc<ElectionPort>>,
    report: Arc<ReportSources>,
    /// None where this server is no service registry.
    registry: Option<RegistryServer>,
    reminding: tokio::task::JoinHandle<()>,
    /// None where it is not told who changed what.
    audit_end: Option<AuditEnd>,
    /// A member's, until it serves.
    _starting: Option<Starting>,
    /// Keeps a second server out of the data directory for as long as this one lives.
    _lock: rookeeper_store::DirectoryLock,
}

impl Server {
    /// Starts with a checked configuration. Returns once clients can connect.
    pub async fn start(config: Config) -> Result<Server, Failure> {
        let figures = Arc::new(Figures::default());
        let audit = config.audit.as_ref().map(|settings| Audit::start(settings, figures.clone())).transpose()?;
        let end = audit.clone().map(AuditEnd::new);
        match Server::start_audited(config, figures, audit).await {
            Ok(mut server) => {
                end.iter().for_each(AuditEnd::started);
                server.audit_end = end;
                Ok(server)
            }
            Err(failure) => {
                end.into_iter().for_each(AuditEnd::not_started);
                Err(failure)
            }
        }
    }

    async fn start_audited(config: Config, figures: Arc<Figures>, audit: Option<Audit>) -> Result<Server, Failure> {
        let clock = Clock::start();
        let starting = Starting::begin();
        let reserved = open::reserve(Port::Client, config.client.clone()).await?;
        let secure_reserved = open::reserve(Port::SecureClient, open::secure_port(&config)).await?;
        let metrics_reserved = open::reserve(Port::Metrics, open::metrics_port(&config)).await?;
        let registry_reserved = match config.registry.clone() {
            Some(registry) => Some(RegistryPort::reserve(registry).await?),
            None => None,
        };
        let client_tls = match &config.client_tls {
            Some(settings) => Some(open::read_tls(settings.tls.clone()).await?),
            None => None,
        };
        let peer_tls = match &config.quorum_tls {
            Some(QuorumTls { tls, dials, takes_plain }) => {
                let context = open::read_tls(tls.clone()).await?;
                Some(PeerTls { context, dials: *dials, takes_plain: *takes_plain })
            }
            None => None,
        };
        let kerberos = open::kerberos(&config).await?;
        let (stop, stopped) = watch::channel(false);
        let mut accepting = Vec::new();
        let admin_tls = open::admin_tls(&config, &figures).await?;
        let admin_context = admin_tls.as_ref().map(|tls| tls.context.clone());
        let admin = Admin::new(&config, &figures).zip(open::admin_port(&config).await);
        let admin = admin.map(|(admin, (address, listener))| {
            // Probes want an answer also while a large database is read.
            accepting.push(tokio::spawn(http::serve(admin.clone().port(admin_tls), listener, stopped.clone())));
            (admin, address)
        });
        let recovered = recover::recover(config, &figures, &starting).await?;
        let Recovered { config, lock, files, tree, epochs, mismatches, found, .. } = recovered;
        let room = measure::limits(&config);
        let settings = Settings { room, ..config.replica_settings(secret_seed(), memory::default_limit_bytes()) };
        let shared = Arc::new(Shared::new(settings, tree, wall_ms()));
        if let Some((count, first)) = mismatches {
            shared.statistics.note_digest_mismatches(count, first);
        }

        let (failures, failure_reports) = Failures::new();
        let (client_port, wanted_port) = watch::channel(None);
        let (runtime, links) = ReplicaRuntime::new().map_err(spawn::failure)?;
        let (replica, ensemble) = match config.ensemble.as_ref().zip(epochs) {
            None => (Replica::new(shared.clone(), clock.now()), None),
            Some((ensemble, epochs)) => {
                let ports = (client_port, links);
                let tls = peer_tls.clone();
                let ports =
                    open::server_ports(&config, ensemble, shared.clone(), files.clone(), ports, tls, &starting).await?;
                let replica = Replica::member(shared.clone(), ensemble.settings.clone(), epochs, clock.now());
                (replica, Some(ports))
            }
        };
        let election_port = ensemble.as_ref().map(|ensemble| ensemble.election_port.clone());
        let common = Common {
            config: &config,
            clock,
            shared: shared.clone(),
            figures: figures.clone(),
            failures,
            audit: audit.clone(),
        };
        let disk = OnDisk {
            files,
            zxid: found.zxid,
            first_snapshot: recovered.first_snapshot,
            wants_snapshot: recovered.wants_snapshot,
        };
        let Running { threads, inputs, report, snapshots, restores } =
            spawn::spawn(common, (replica, runtime), ensemble, disk)?;

        starting.at(Step::OpeningClientPort);
        let (address, listener) = reserved.open()?.unzip();
        let port = address.map_or(0, |address: SocketAddr| address.port());
        let (secure_address, secure_listener) = secure_reserved.open()?.unzip();
        let (metrics_address, metrics_listener) = metrics_reserved.open()?.unzip();
        let registry = match registry_reserved {
            Some(reserved) => Some(reserved.serve([address, secure_address]).await?),
            None => None,
        };
        let mut context = Context::new(config, shared, clock, inputs, port, figures);
        context.secure_clients = client_tls.zip(context.config.client_tls.as_ref()).map(|(tls, settings)| {
            SecureClients::new(tls, secure_address.map(|address: SocketAddr| address.port()), settings)
        });
        context.audit = audit;
        context.kerberos = kerberos;
        // Nothing has asked before.
        let _ = context.sources.set(report.clone());
        let context = Arc::new(context);
        tokio::spawn(memory::keep(context.shared.clone()));
        let (measured, directories) = (context.inputs.downgrade(), context.config.directories.clone());
        tokio::spawn(async move { measure::keep(measured, room, &directories).await });
        if let Some(path) = context.config.ensemble.as_ref().and_then(|ensemble| ensemble.oracle.clone()) {
            tokio::spawn(oracle::ask(context.inputs.downgrade(), path));
        }
        let telling = context.config.path_statistics;
        let telling = telling.is_told.then(|| tokio::spawn(top::tell(context.clone(), telling)));
        let client_threads = ClientThreads::start().map_err(spawn::failure)?;
        let entrance = Arc::new(Entrance::new(context.clone(), client_threads.clone(), stopped.clone()));
        accepting.push(tokio::spawn(listener::accept(listener, entrance.clone(), wanted_port)));
        accepting.extend(secure_listener.map(|listener| tokio::spawn(listener::accept_secure(listener, entrance))));
        let serve_metrics = |listener| tokio::spawn(http::serve(metrics::port(context.clone()), listener, stopped));
        accepting.extend(metrics_listener.map(serve_metrics));
        let contexts = context.secure_clients.as_ref().map(|clients| clients.tls.clone());
        let contexts = contexts.into_iter().chain(peer_tls.map(|tls| tls.context)).chain(admin_context);
        let following = contexts.map(|context| tokio::spawn(reload::follow(context))).chain(telling).collect();
        tell_ready(&context, address, secure_address, &found);
        if let Some(registry) = &registry {
            info!("this server is a service registry as well: clients of Eureka find it at {}", registry.url());
        }
        if let Some(address) = metrics_address {
            info!("tells Prometheus its metrics at http://{address}/metrics");
        }
        if let Some((admin, address)) = admin {
            admin.tell_of(context.clone(), Wishes { snapshots, restores }, report.links.clone());
            info!("answers admin commands at {}://{address}{}", admin.scheme(), admin.path());
        }
        context.config.exposure().iter().for_each(|line| warn!("{line}"));
        let starting = context.config.ensemble.is_some().then_some(starting);
        if let Some(starting) = &starting {
            starting.until_served(context.shared.clone());
        }
        let contacts = election_port.as_ref().map(|port| port.contacts());
        let reminding = tokio::spawn(remind(context.clone(), contacts));
        Ok(Server {
            context,
            address,
            stop,
            failures: failure_reports,
            accepting,
            following,
            secure_address,
            threads,
            client_threads,
            election_port,
            report,
            registry,
            reminding,
            audit_end: None,
            _starting: starting,
            _lock: lock,
        })
    }

    /// Logs what every part of the server does and waits for. Does not wait for it.
    pub fn report(&self) {
        self.registry.iter().for_each(RegistryServer::report);
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

    /// The same for clients that speak TLS, where they have a port of their own.
    pub fn secure_address(&self) -> Option<SocketAddr> {
        self.secure_address
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
        let Server {
            context,
            stop,
            mut failures,
            accepting,
            following,
            threads,
            client_threads,
            election_port,
            registry,
            reminding,
            mut audit_end,
            _lock,
            ..
        } = self;
        let begin = Instant::now();
        // The first to go: it uses the rest.
        if let Some(registry) = registry {
            registry.stop().await;
        }
        audit_end.iter_mut().for_each(AuditEnd::stopping);
        reminding.abort();
        following.iter().for_each(tokio::task::JoinHandle::abort);
        let _ = stop.send(true);
        for accepting in accepting {
            let _ = accepting.await;
        }
        let stop_timeout = Duration::from_millis(u64::from(context.config.requests.throttle_stop_timeout_ms));
        let no_turns = std::future::poll_fn(|task| context.shared.poll_no_turns(task));
        if tokio::time::timeout(stop_timeout, no_turns).await.is_err() {
            warn!(
                "requests still wait for their turn after {stop_timeout:?} (request_throttler.shutdownTimeout): they are dropped"
            );
        }
        for connection in context.shared.connections() {
            connection.outbox.close();
            connection.outbox.wake();
        }
        // The tasks hold the context, and with it the way to the replica; the replica ends when the last one is gone.
        drop(context);
        let joined = async {
            let threads = threads.into_iter().map(JoinHandle::join);
            let _ = tokio::task::spawn_blocking(move || threads.for_each(drop)).await;
            // Only now, for connections ended on them in order.
            drop(client_threads);
            if let Some(election_port) = election_port.and_then(Arc::into_inner) {
                election_port.stop().await;
            }
        };
        let joined = tokio::time::timeout(STOP_LIMIT, joined).await;
        // The last lines are those of clients that were answered while the server stopped.
        drop(audit_end);
        logging::tell_all_suppressed();
        match joined {
            Ok(()) => info!("stopped in {} ms", begin.elapsed().as_millis()),
            Err(_) => warn!("not everything ended within {STOP_LIMIT:?}; ending anyway"),
        }
        failures.try_recv().ok()
    }
}

fn tell_ready(context: &Context, address: Option<SocketAddr>, secure: Option<SocketAddr>, found: &Found) {
    let is_unified = context.config.client_tls.as_ref().is_some_and(|tls| tls.unified);
    let plain = address.map(|address| format!("{address}{}", if is_unified { " with or without TLS" } else { "" }));
    let places: Vec<String> = plain.into_iter().chain(secure.map(|address| format!("{address} with TLS"))).collect();
    let places = places.join(" and on ");
    let serves = match &context.config.ensemble {
        _ if places.is_empty() => "is a member without a client port".to_owned(),
        None => format!("serves clients on {places}"),
        Some(_) => format!("will serve clients, once it has a leader, on {places}"),
    };
    let Found { zxid, node_count, replayed, took } = found;
    info!(
        "Rookeeper {} {serves}; data in {}, log in {}; recovered to zxid {zxid} \
         ({node_count} nodes, {replayed} transactions replayed) in {} ms; ready after {} ms",
        version::NUMBER,
        context.config.directories.data_dir.display(),
        context.config.directories.data_log_dir.display(),
        took.as_millis(),
        context.clock.uptime_ms(),
    );
}

/// Tells how many lines about strangers were not logged, where no further line does, and of a member who is missing where there is no quorum.
/// Notes how much room the disks have.
async fn remind(context: Arc<Context>, contacts: Option<Contacts>) {
    let (clock, shared) = (context.clock, context.shared.clone());
    let mut ticks = tokio::time::interval(REMIND_EVERY);
    let mut absence = Absence::default();
    loop {
        ticks.tick().await;
        logging::tell_suppressed();
        let looking = context.clone();
        // A file system may take long to answer.
        let _ = tokio::task::spawn_blocking(move || looking.disks.look(&looking.config, clock.monotonic_ms())).await;
        let Some(contacts) = &contacts else { continue };
        let serves = matches!(shared.status_board.serving(), Serving::Deciding | Serving::Forwarding);
        if let Some(for_ms) = absence.look(serves, clock.monotonic_ms())
            && let Some(membership) = shared.status_board.status().membership
        {
            warn!("no leader that a quorum follows for {} s: {}", for_ms / 1000, contacts.missing(&membership));
        }
    }
}
