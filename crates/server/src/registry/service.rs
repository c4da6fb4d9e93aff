//! The registry as it runs: its lock, its clock, and who is told of changes.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use rookeeper_registry::encoding::Remembered;
use rookeeper_registry::rest::{Asked, Change, Request};
use rookeeper_registry::{Now, Registry, UNCONFIRMED};
use tracing::info;

use super::bodies::Intake;
use super::config::RegistryConfig;
use super::ensemble::{Ensemble, Questions};
use super::followers::Followers;
use super::metrics::Answered;
use super::outlet::Outlet;
use super::peers::Peers;
use super::secure::Dialer;
use crate::clock::Clock;
use crate::logging::{Cause, PER_MINUTE, limited};

/// How often leases are looked at that may have ended, at least.
const TICK: Duration = Duration::from_millis(500);

/// How long the last changes may take to reach other servers at a stop.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Service {
    pub config: RegistryConfig,
    /// Distinguishes this process from every other server.
    pub id: String,
    /// The same as a header.
    pub id_header: Option<axum::http::HeaderValue>,
    clock: Clock,
    /// When this server began.
    pub began: Now,
    /// Where clients connect.
    pub address: OnceLock<SocketAddr>,
    /// Requests that were answered.
    pub answered: Answered,
    registry: Mutex<Registry>,
    pub peers: Peers,
    /// Services that are kept in the coordination tree; none where there are no such.
    pub ensemble: Option<Ensemble>,
    /// How peers are dialled with TLS.
    pub dialer: Option<Arc<Dialer>>,
    /// Held by whoever writes to the disk.
    pub writing: Arc<Mutex<()>>,
    /// What was known before the start, until the registry is open.
    remembered: Mutex<Option<Remembered>>,
    /// Where bodies are read.
    pub intake: Arc<Intake>,
    /// Where answers leave.
    pub outlet: Arc<Outlet>,
    /// Clients that wait for changes.
    pub followers: Followers,
}

impl Service {
    /// With the questions to the task that has the session with an ensemble, where there is one.
    pub fn new(config: RegistryConfig, dialer: Option<Arc<Dialer>>) -> (Service, Option<Questions>) {
        let clock = Clock::start();
        let id = format!("{:016x}", crate::seed::secret_seed());
        let mut settings = config.settings.clone();
        settings.seed = crate::seed::secret_seed();
        settings.identity = crate::seed::secret_seed();
        settings.remembers_cancelled = config.has_peers();
        let began = now(&clock);
        let mut registry = Registry::new(settings, began);
        let (ensemble, questions) = config.ensemble.as_ref().map(Ensemble::new).unzip();
        if let Some(ensemble) = &ensemble {
            ensemble.desk.lock().claim_named(&mut registry, began);
        }
        let service = Service {
            ensemble,
            peers: Peers::new(&config),
            dialer,
            id_header: id.parse().ok(),
            id,
            registry: Mutex::new(registry),
            writing: Arc::default(),
            remembered: Mutex::default(),
            intake: Arc::default(),
            outlet: Arc::default(),
            followers: Followers::default(),
            began,
            address: OnceLock::new(),
            answered: Answered::default(),
            config,
            clock,
        };
        (service, questions)
    }

    pub fn now(&self) -> Now {
        now(&self.clock)
    }

    /// With the registry locked. Whatever is done must be short.
    pub fn with<T>(&self, act: impl FnOnce(&mut Registry, Now) -> T) -> T {
        let mut registry = self.registry.lock();
        // Read under the lock, so that time never goes back for the registry.
        let now = self.now();
        let done = act(&mut registry, now);
        self.followers.note(registry.mark().number());
        done
    }

    /// Asks the registry, and notes for other servers what a client changed.
    pub fn ask(&self, request: Request) -> Asked {
        self.with(|registry, now| {
            let asked = request.ask(registry, now);
            self.note(&asked.changes, registry, now);
            asked
        })
    }

    fn note(&self, changes: &[Change], registry: &Registry, now: Now) {
        if !changes.is_empty() {
            self.peers.note(changes, registry, now);
        }
    }

    /// Opens the registry for clients, with so many instances that came from a peer.
    pub fn open(&self, copied: u64) {
        self.with(|registry, now| registry.open(copied, now));
        self.remembered.lock().take();
    }

    /// Opens the registry, which heard nothing from a peer, with what was known before the start.
    pub fn open_alone(&self) {
        let mut remembered = self.remembered.lock().take().unwrap_or_default();
        let (taken_ms, mut restored) = (remembered.taken_ms, 0);
        while !remembered.instances.is_empty() {
            restored += self.with(|registry, now| registry.restore(&mut remembered, now));
        }
        self.with(|registry, now| registry.open(0, now));
        if restored > 0 {
            let age_s = self.now().wall_ms.saturating_sub(taken_ms).max(0) / 1000;
            info!(
                "{restored} instances that were known {age_s} s ago are shown, with {UNCONFIRMED} in their metadata until each is heard of"
            );
        }
    }

    /// Takes what was known before the start.
    pub fn remember(&self, remembered: Remembered) {
        self.with(|registry, now| registry.restore_cancelled(&remembered, now));
        *self.remembered.lock() = Some(remembered);
    }

    pub fn is_open(&self) -> bool {
        self.with(|registry, _| registry.is_open())
    }

    /// Ends leases, for as long as the server runs.
    pub async fn keep_time(self: Arc<Service>) {
        loop {
            let due_ms = self.with(|registry, _| registry.next_eviction_ms());
            let wait_ms = due_ms.map(|due_ms| due_ms.saturating_sub(self.now().steady_ms));
            match wait_ms {
                // Others are served between two slices of a run.
                Some(0) => tokio::task::yield_now().await,
                wait_ms => tokio::time::sleep(wait_ms.map_or(TICK, |ms| Duration::from_millis(ms + 1)).min(TICK)).await,
            }
            let evicted = self.with(Registry::advance);
            for (app, id) in evicted {
                let cause = Cause::Named("leases that ended without a heartbeat");
                limited!(info, cause, PER_MINUTE; "the lease of {id:?} of {app:?} ended without a heartbeat: the instance is removed");
            }
        }
    }

    /// Waits until other servers have heard what there is to hear, for a limited time.
    pub async fn flush(&self) {
        let empty = async {
            while self.peers.any_waiting() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(FLUSH_LIMIT, empty).await;
    }
}

fn now(clock: &Clock) -> Now {
    let time = clock.now();
    Now { wall_ms: time.wall_ms.0, steady_ms: time.monotonic_ms.0.unsigned_abs() }
}
