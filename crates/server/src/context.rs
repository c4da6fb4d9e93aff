//! The parts that all connections of this server share.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU64};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rookeeper_proto::SessionId;
use rookeeper_proto::connect::ConnectRequest;
use rookeeper_replica::{Connection, Identities, Input, Serving, Shared};
use tokio::sync::{Semaphore, mpsc};

use crate::audit::{Audit, Event};
use crate::auth::kerberos::acceptor::Acceptor;
use crate::clock::Clock;
use crate::config::Config;
use crate::net::descriptors;
use crate::observe::disk::Disks;
use crate::observe::drops::Dropped;
use crate::observe::figures::Figures;
use crate::observe::report::ReportSources;
use crate::ports::client::large_requests::LargeRequests;
use crate::ports::client::secure::SecureClients;
use crate::ports::client::throttle::ConnectionTokens;
use crate::seed::secret_seed;

/// Answers to four-letter words that are made at the same time, besides a long one.
const ANSWERS_AT_ONCE: usize = 4;

#[derive(Debug)]
pub(crate) struct Context {
    pub config: Config,
    pub shared: Arc<Shared>,
    pub clock: Clock,
    /// To the replica. Bounded: a full queue makes connections wait.
    pub inputs: mpsc::Sender<Input>,
    /// The port that is really open; the configured one may be 0, and a reconfiguration may move it.
    pub client_port: AtomicU16,
    /// What clients that speak TLS are received with; none where no port for clients does.
    pub secure_clients: Option<SecureClients>,
    /// Where it is told who changed what; none where it is not.
    pub audit: Option<Audit>,
    /// Lets clients in by Kerberos; none where that is not configured.
    pub kerberos: Option<Arc<Acceptor>>,
    /// The number that `gtmk` and `stmk` show and set. Nothing traces by it.
    pub trace_mask: AtomicI64,
    /// Figures of the log and the snapshots.
    pub figures: Arc<Figures>,
    pub disks: Disks,
    /// What is told of the threads; none before they run.
    pub sources: OnceLock<Arc<ReportSources>>,
    pub next_connection: AtomicU64,
    /// Connections of clients for which there are file descriptors.
    pub room_for_clients: usize,
    /// Whose turn it is to make an answer to a four-letter word that looks at locks, files or the system. There are more threads than that,
    /// so those who ask do not keep the rest of the server from getting one.
    pub answers: Semaphore,
    /// Whose turn it is to make a long answer.
    pub long_answers: Semaphore,
    /// What is in process of large requests; none where they have no limit.
    pub large_requests: Option<Arc<LargeRequests>>,
    tokens: Mutex<ConnectionTokens>,
}

impl Context {
    /// `client_port` is the port that is open, 0 for a member without one.
    pub fn new(
        config: Config,
        shared: Arc<Shared>,
        clock: Clock,
        inputs: mpsc::Sender<Input>,
        client_port: u16,
        figures: Arc<Figures>,
    ) -> Context {
        let local_sessions = config.ensemble.as_ref().is_some_and(|ensemble| ensemble.settings.local_sessions);
        let tokens =
            ConnectionTokens::new(&config.connections.throttle, local_sessions, clock.monotonic_ms(), secret_seed());
        let large_requests = config
            .requests
            .large_threshold_bytes
            .map(|threshold_bytes| Arc::new(LargeRequests::new(threshold_bytes, config.requests.large_max_bytes)));
        Context {
            shared,
            clock,
            inputs,
            client_port: AtomicU16::new(client_port),
            secure_clients: None,
            audit: None,
            kerberos: None,
            trace_mask: AtomicI64::new(crate::config::DEFAULT_TRACE_MASK),
            figures,
            disks: Disks::default(),
            sources: OnceLock::new(),
            next_connection: AtomicU64::new(1),
            room_for_clients: descriptors::room_for_clients(config.ensemble.is_some()),
            answers: Semaphore::new(ANSWERS_AT_ONCE),
            long_answers: Semaphore::new(1),
            large_requests,
            tokens: Mutex::new(tokens),
            config,
        }
    }

    /// Whether clients are served at the moment, all or some of them.
    pub fn serves(&self) -> bool {
        self.shared.status_board.serving() != Serving::Nobody && !self.turns_clients_away()
    }

    /// Whether this is a leader that leaves clients to the other servers (`leaderServes=no`). Without a leader it is not known yet.
    pub fn turns_clients_away(&self) -> bool {
        self.shared.status_board.serving() == Serving::Deciding
            && self.config.ensemble.as_ref().is_some_and(|ensemble| !ensemble.settings.leader_serves)
    }

    /// Counts a client for whom there is no room.
    pub fn note_beyond_limit(&self) {
        self.shared.statistics.connections_rejected.fetch_add(1, Relaxed);
        self.figures.drops.note(Dropped::ConnectionLimit);
    }

    /// The connection throttle: whether a session may be opened or resumed now.
    pub fn admit_session(&self, request: &ConnectRequest) -> bool {
        let (admitted, deficit) = {
            let mut tokens = self.tokens.lock();
            (tokens.take(request.session, self.clock.monotonic_ms()), tokens.deficit())
        };
        if admitted {
            self.shared.statistics.connection_token_deficit.record(deficit);
        } else {
            self.shared.statistics.connections_rejected.fetch_add(1, Relaxed);
            self.figures.drops.note(Dropped::ConnectionThrottle);
        }
        admitted
    }

    /// The share of clients that the connection throttle refuses by chance at the moment, from 0 to 1.
    pub fn drop_probability(&self) -> f64 {
        self.tokens.lock().drop_probability()
    }

    /// Tells the audit log of a client that did not show who it is.
    pub fn audit_refusal(&self, session: SessionId, client: SocketAddr, identities: Option<&Identities>) {
        if let Some(audit) = &self.audit {
            let (client, identities) = (client.ip().to_canonical(), identities.cloned());
            audit.tell(Event::NotAuthenticated { session, client, identities });
        }
    }

    /// Counts the frames that a task took from its outbox. `noted` is what was counted before; the statistics can be reset meanwhile.
    pub fn note_sent(&self, connection: &Connection, noted: &mut u64) {
        let frames = connection.outbox.frames();
        let new = frames - std::mem::replace(noted, frames);
        connection.statistics.sent.fetch_add(new, Relaxed);
        self.shared.statistics.packets_sent.fetch_add(new, Relaxed);
    }
}
