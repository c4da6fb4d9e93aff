//! The service registry: Eureka's protocol over HTTP, on a port of its own.
//!
//! - `config.rs`: what an operator can say, in Spring's keys; `spring.rs`: how those files are read; `secure.rs`: TLS
//! - `service.rs`: the registry, who may ask, and what time does to it
//! - `http.rs`: a request over HTTP, from its head to the last byte of the answer; `bodies.rs`: the room for bodies that are arriving
//! - `outlet.rs`: answers on their way; `followers.rs`: clients that wait for changes
//! - `peers.rs`: other servers, which hear what clients told this one; `link.rs`: one connection to such a server; `names.rs`: which they are, by a name
//! - `disk.rs`: what is known, on disk
//! - `ensemble.rs`: services that are kept in the coordination tree; `ensemble_link.rs`: a session with the servers that have it; `proof.rs`: who the registry is
//!   to them
//! - `page.rs`: what the registry does, in words; `metrics.rs`: the same in figures; `itself.rs`: what the server says of itself
//!
//! The registry itself is the crate `rookeeper-registry`, which has no IO.
//!
//! What always holds here: the registry is locked for the time of one change or of one copy of pointers, never while bytes are encoded, compressed
//! or sent, nor while they are read; bodies that are being read are bounded, each and all together, and so are answers on their way.

mod bodies;
mod config;
mod disk;
mod ensemble;
mod ensemble_link;
mod followers;
mod http;
mod itself;
mod link;
mod metrics;
mod names;
mod outlet;
mod page;
mod peers;
mod proof;
mod secure;
mod service;
mod spring;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpSocket;
use tokio::sync::watch;
use tracing::{info, warn};

pub use self::config::RegistryConfig;
use self::secure::Dialer;
pub(crate) use self::secure::in_springs_words;
use self::service::Service;
use crate::failure::{ExitCode, Failure};
use crate::net::bind::{CannotBind, Place, Port};
use crate::net::tls::context::TlsContext;
use crate::net::tls::reload;
use crate::observe::figures::Figures;
use crate::ports;
use crate::ports::http::HttpTls;

/// A registry that runs.
#[derive(Debug)]
pub struct RegistryServer {
    service: Arc<Service>,
    address: SocketAddr,
    scheme: &'static str,
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// A port that nobody else can have, and nobody can connect to yet.
#[derive(Debug)]
pub(crate) struct RegistryPort {
    config: RegistryConfig,
    place: Place,
    socket: TcpSocket,
}

impl RegistryPort {
    /// Resolves and binds.
    pub async fn reserve(config: RegistryConfig) -> Result<RegistryPort, Failure> {
        let place = Place { host: config.host.clone(), port: config.port };
        let addresses = place.addresses().await.map_err(|error| failed(&place, error))?;
        let socket = place.bind_first(&addresses).map_err(|error| failed(&place, error))?;
        Ok(RegistryPort { config, place, socket })
    }

    /// Begins to answer. `own`: where the server of this process takes clients, without TLS and with TLS.
    pub async fn serve(self, own: [Option<SocketAddr>; 2]) -> Result<RegistryServer, Failure> {
        let RegistryPort { mut config, place, socket } = self;
        config.reach_ensemble(own).map_err(|why| Failure::new(ExitCode::Misconfigured, why))?;
        let listener = socket.listen(1024).map_err(|error| failed(&place, error))?;
        let address = listener.local_addr().map_err(|error| failed(&place, error))?;
        let (stop, stopped) = watch::channel(false);
        let misused =
            |why: String| Failure::new(ExitCode::Misconfigured, format!("can't speak TLS as it is configured: {why}"));
        let figures = Arc::new(Figures::default());
        let tls = match config.secure.server.clone() {
            None => None,
            Some(tls) => {
                let opened = tokio::task::spawn_blocking(move || TlsContext::open(tls)).await;
                let opened = opened.map_err(|error| misused(error.to_string()))?;
                let context = Arc::new(opened.map_err(|error| misused(secure::sentence(&error)))?);
                Some(HttpTls { context, takes_plain: false, figures: figures.clone() })
            }
        };
        let dialer = match config
            .secure
            .dial
            .clone()
            .filter(|_| config.peers.iter().chain(&config.names).any(|peer| peer.is_secure))
        {
            None => None,
            Some(dial) => Some(Arc::new(Dialer::to_registries(dial).await.map_err(misused)?)),
        };
        let ensemble_dialer = match config.secure.ensemble.clone().filter(|_| config.ensemble.is_some()) {
            None => None,
            Some(dial) => Some(Dialer::to_ensemble(dial).await.map_err(misused)?),
        };
        let (service, questions) = Service::new(config, dialer);
        let service = Arc::new(service);
        // A server starts once.
        let _ = service.address.set(address);
        if let Some(directory) = service.config.snapshot.clone() {
            let reading = service.clone();
            let read = tokio::task::spawn_blocking(move || disk::read(&directory, &reading)).await;
            if let Some(remembered) = read.ok().flatten() {
                service.remember(remembered);
            }
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut tasks = Vec::new();
        tasks.extend(tls.iter().map(|tls| tokio::spawn(reload::follow(tls.context.clone()))));
        let port = http::port(service.clone(), tls, figures);
        tasks.push(tokio::spawn(ports::http::serve(port, listener, stopped)));
        tasks.push(tokio::spawn(service.clone().keep_time()));
        let waking = service.clone();
        tasks.push(tokio::spawn(async move { waking.followers.wake().await }));
        if let Some((config, questions)) = service.config.ensemble.clone().zip(questions) {
            tasks.push(tokio::spawn(ensemble::keep(service.clone(), config, ensemble_dialer, questions)));
        }
        tasks.extend(peers::start(&service));
        if let Some(directory) = service.config.snapshot.clone() {
            tasks.push(tokio::spawn(disk::keep(service.clone(), directory)));
        }
        info!("the service registry answers at {scheme}://{address}/eureka/");
        Ok(RegistryServer { service, address, scheme, stop, tasks })
    }
}

fn failed(place: &Place, error: io::Error) -> Failure {
    let failed = CannotBind { port: Port::Registry, place: place.to_string(), error };
    Failure::new(ExitCode::Failed, failed.to_string())
}

impl RegistryServer {
    /// Opens the port and begins to answer.
    pub async fn start(config: RegistryConfig) -> Result<RegistryServer, Failure> {
        RegistryPort::reserve(config).await?.serve([None; 2]).await
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients are told.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}/eureka/", self.scheme, self.address)
    }

    /// Says in the log how the registry is.
    pub fn report(&self) {
        let (instances, preservation) = self.service.with(|registry, now| (registry.len(), registry.preservation(now)));
        info!("the service registry has {instances} instances; {preservation:?}");
    }

    /// Ends in order: what clients said last is sent to the other servers, within a moment.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        self.service.flush().await;
        for task in &self.tasks {
            task.abort();
        }
        if let Some(directory) = self.service.config.snapshot.clone().filter(|_| self.service.is_open())
            && let Err(error) = disk::write(&self.service, &directory).await
        {
            warn!("what the registry knows can't be written to {}: {error}", directory.display());
        }
    }
}
