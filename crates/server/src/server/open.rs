//! Opening the ports: the client port, which is reserved first and opened last, and those for the other servers of an ensemble.
//!
//! What always holds: a port in use is told before a large database is read; clients find the port open only when they can be served.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rookeeper_replica::Shared;
use rookeeper_storage::Files;
use rookeeper_zab::HostPort;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{info, warn};

use super::starting::{Starting, Step};
use crate::auth::between_servers::Proofs;
use crate::auth::kerberos::acceptor::Acceptor;
use crate::config::{AdminTls, ClientPort, Config, Ensemble, Tls};
use crate::failure::{ExitCode, Failure};
use crate::net::bind::{CannotBind, Place, Port};
use crate::net::door::Door;
use crate::net::tls::context::TlsContext;
use crate::net::tls::peers::PeerTls;
use crate::observe::figures::Figures;
use crate::ports::client::{listener, moving};
use crate::ports::election::{ElectionPort, ElectionPortSettings};
use crate::ports::http::HttpTls;
use crate::ports::quorum::{self, QuorumPort, QuorumPortSettings};
use crate::threads::replica_thread::EnsemblePorts;

/// Milliseconds that a server which connects may take to say who it is, where nothing else is configured. A server does so at once; the time
/// is for a server whose machine stands still.
const GREETING_MS: u64 = 5_000;

/// Bytes that a learner may send at once besides a client's request: the sessions it has heard of, the identities of a client.
const MAX_LEARNER_PACKET_BYTES: usize = 64 << 20;

/// A client port that nobody else can have, and nobody can connect to yet. None of a member without a client port.
pub(super) struct Reserved {
    port: Port,
    client: ClientPort,
    socket: Option<TcpSocket>,
}

/// Resolves and binds a port of clients.
pub(super) async fn reserve(port: Port, client: ClientPort) -> Result<Reserved, Failure> {
    let socket = match client.port {
        Some(_) => {
            let place = moving::place_of(&client);
            let addresses =
                place.addresses().await.map_err(|error| failure(port, &client, error, ExitCode::Misconfigured))?;
            Some(place.bind_first(&addresses).map_err(|error| failure(port, &client, error, ExitCode::Failed))?)
        }
        None => None,
    };
    Ok(Reserved { port, client, socket })
}

/// The port of clients that speak TLS, as a port of clients.
pub(super) fn secure_port(config: &Config) -> ClientPort {
    let tls = config.client_tls.as_ref();
    let (host, port) = (tls.and_then(|tls| tls.host.clone()), tls.and_then(|tls| tls.port));
    ClientPort { host, port, ..config.client.clone() }
}

/// The port of metrics, as a port of clients.
pub(super) fn metrics_port(config: &Config) -> ClientPort {
    let metrics = config.metrics.as_ref();
    let (host, port) = (metrics.and_then(|metrics| metrics.host.clone()), metrics.map(|metrics| metrics.port));
    ClientPort { host, port, ..config.client.clone() }
}

/// Opens the port of admin commands, where the configuration wants it. A port that can't be had is told of, and the server does without: several servers of
/// one machine would otherwise have to be told apart before the first of them starts.
pub(super) async fn admin_port(config: &Config) -> Option<(SocketAddr, TcpListener)> {
    let opened = try_admin_port(config).await?;
    opened.inspect_err(|why| warn!("{why}")).ok()
}

/// The same; an error says what the start would say.
pub(super) async fn try_admin_port(config: &Config) -> Option<Result<(SocketAddr, TcpListener), String>> {
    let admin = config.admin.as_ref()?;
    let place = Place { host: admin.host.clone(), port: admin.port };
    let opened = async {
        let listener = listener::listen(place.bind_first(&place.addresses().await?)?, None)?;
        Ok((listener.local_addr()?, listener))
    };
    let without = |error| {
        let failed = CannotBind { port: Port::Admin, place: place.to_string(), error };
        format!("{failed}; this server goes on without admin commands over HTTP")
    };
    Some(opened.await.map_err(without))
}

/// Reads how TLS is spoken at the port of admin commands.
pub(super) async fn admin_tls(config: &Config, figures: &Arc<Figures>) -> Result<Option<HttpTls>, Failure> {
    let Some(AdminTls { tls, takes_plain }) = config.admin.as_ref().and_then(|admin| admin.tls.clone()) else {
        return Ok(None);
    };
    Ok(Some(HttpTls { context: read_tls(tls).await?, takes_plain, figures: figures.clone() }))
}

/// Reads the keys and certificates of one side.
pub(super) async fn read_tls(settings: Tls) -> Result<Arc<TlsContext>, Failure> {
    let reading = tokio::task::spawn_blocking(move || TlsContext::open(settings)).await;
    let opened =
        reading.map_err(|error| Failure::new(ExitCode::Failed, format!("the start was broken off: {error}")))?;
    opened.map(Arc::new).map_err(|error| Failure::new(ExitCode::Misconfigured, error.to_string()))
}

/// Loads what lets clients in by Kerberos, if they may come so.
pub(super) async fn kerberos(config: &Config) -> Result<Option<Arc<Acceptor>>, Failure> {
    let Some(login) = config.access.sasl.kerberos.as_ref().map(|kerberos| kerberos.login.clone()) else {
        return Ok(None);
    };
    let opening = tokio::task::spawn_blocking(move || Acceptor::open(&login)).await;
    let opened =
        opening.map_err(|error| Failure::new(ExitCode::Failed, format!("the start was broken off: {error}")))?;
    opened.map(|acceptor| Some(Arc::new(acceptor))).map_err(|why| Failure::new(ExitCode::Misconfigured, why))
}

impl Reserved {
    /// Opens the port, and says where it is.
    pub fn open(self) -> Result<Option<(SocketAddr, TcpListener)>, Failure> {
        let Reserved { port, client, socket } = self;
        let listen = |socket| {
            let listener = listener::listen(socket, client.backlog)?;
            Ok((listener.local_addr()?, listener))
        };
        socket.map(listen).transpose().map_err(|error| failure(port, &client, error, ExitCode::Failed))
    }
}

fn failure(port: Port, client: &ClientPort, error: io::Error, exit_code: ExitCode) -> Failure {
    let (address, number) = (client.host.as_deref().unwrap_or("0.0.0.0"), client.port.unwrap_or(0));
    let failed = CannotBind { port, place: format!("{address}:{number}"), error };
    Failure::new(exit_code, failed.to_string())
}

/// Loads what servers prove to each other.
pub(super) async fn quorum_auth(ensemble: &Ensemble) -> Result<Proofs, Failure> {
    let auth = ensemble.auth.clone();
    let opening = tokio::task::spawn_blocking(move || Proofs::open(auth)).await;
    let opened =
        opening.map_err(|error| Failure::new(ExitCode::Failed, format!("the start was broken off: {error}")))?;
    opened.map_err(|why| Failure::new(ExitCode::Misconfigured, why))
}

/// Opens the ports for the other servers.
pub(super) async fn server_ports(
    config: &Config,
    ensemble: &Ensemble,
    shared: Arc<Shared>,
    files: Arc<Files>,
    (client_port, links): (watch::Sender<Option<HostPort>>, Handle),
    tls: Option<PeerTls>,
    starting: &Starting,
) -> Result<EnsemblePorts, Failure> {
    let (peers, queue) = quorum::peer_queue();
    let memberships = Arc::new(ensemble.settings.memberships.clone());
    let sync_limit_ms = u64::from(config.sessions.tick_time_ms) * u64::from(ensemble.settings.sync_limit_ticks);
    let connect_timeout_ms = u64::from(ensemble.connect_timeout_ms);
    let greeting_limit_ms = ensemble.quorum_connection_timeout_ms.map_or(sync_limit_ms.min(GREETING_MS), u64::from);
    let auth = quorum_auth(ensemble).await?;
    let door = Arc::new(Door::new(ensemble.only_members, &memberships));
    starting.at(Step::OpeningQuorumPort);
    let quorum_port = QuorumPort::open(
        QuorumPortSettings {
            me: ensemble.settings.me,
            memberships: (*memberships).clone(),
            listen_on_all: ensemble.quorum_listen_on_all_ips,
            observer_master_port: ensemble.settings.observer_master_port,
            connect_timeout: Duration::from_millis(connect_timeout_ms),
            snapshot_size_factor: ensemble.snapshot_size_factor,
            max_packet_bytes: config.requests.jute_max_buffer + MAX_LEARNER_PACKET_BYTES,
            door: door.clone(),
            greeting_limit: Duration::from_millis(greeting_limit_ms),
            told_packets: ensemble.told_packets,
            auth: auth.clone(),
            tls: tls.clone(),
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
            me: ensemble.settings.me,
            memberships: memberships.clone(),
            listen_on_all: ensemble.quorum_listen_on_all_ips,
            connect_timeout_ms,
            handshake_timeout_ms: greeting_limit_ms,
            bind_retries: ensemble.election_port_bind_retries,
            multi_address: ensemble.settings.multi_address,
            door,
            auth,
            tls,
        },
        peers.small_inputs(),
    )
    .await?;
    info!(
        "server {} of {} in the membership of version {:x}; quorum port on {}",
        ensemble.settings.me,
        memberships.committed.members.len(),
        memberships.committed.version,
        quorum_port.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    );
    Ok(EnsemblePorts {
        inputs: queue,
        election_port: Arc::new(election_port),
        quorum_port,
        client_port,
        me: ensemble.settings.me,
    })
}
