//! What a start would find before it reads the database: ports, certificates, keys. Nothing is left behind.
//!
//! What always holds here: what is found is found by the functions of the start itself, so it cannot differ.

use std::io;
use std::sync::Arc;

use rookeeper_replica::EnsembleSettings;
use rookeeper_zab::{HostPort, MemberAddress};

use super::open;
use crate::config::{Config, Ensemble, QuorumTls};
use crate::failure::{ExitCode, Failure};
use crate::net::bind::{CannotBind, Place, Port};
use crate::net::tls::context::TlsContext;
use crate::registry::RegistryPort;

/// What a start would find.
#[derive(Debug, Default)]
pub struct Rehearsal {
    /// What the start would end with.
    pub failures: Vec<Failure>,
    /// Ports that somebody has, in a sentence each. It may be the server that runs by this configuration.
    pub taken: Vec<String>,
    /// Whose certificate, and the whole days that are left of it; negative when it is over.
    pub certificates: Vec<(&'static str, i64)>,
    /// What strangers could do, in a sentence each.
    pub exposure: Vec<String>,
}

impl Rehearsal {
    fn note_port<P>(&mut self, reserved: Result<P, Failure>) {
        match reserved {
            Ok(_) => {}
            Err(failure) if failure.exit_code == ExitCode::Misconfigured => self.failures.push(failure),
            Err(failure) => self.taken.push(failure.message),
        }
    }

    /// The quorum port and the election port. One that somebody has may be had by the server of this configuration; a start ends where none of the
    /// addresses of a port can be had.
    async fn note_ports_of_servers(&mut self, ensemble: &Ensemble) {
        let EnsembleSettings { me, memberships, .. } = &ensemble.settings;
        let own = memberships.committed.members.get(me).or_else(|| memberships.last_seen.members.get(me));
        let addresses = own.map(|member| member.addresses.as_slice()).unwrap_or_default();
        for port in [Port::Quorum, Port::Election] {
            let number = |address: &MemberAddress| {
                if port == Port::Quorum { address.quorum_port } else { address.election_port }
            };
            let at = |address: &MemberAddress| HostPort { host: address.host.clone(), port: number(address) };
            let places =
                Place::of_server(&addresses.iter().map(at).collect::<Vec<_>>(), ensemble.quorum_listen_on_all_ips);
            let mut failed = Vec::new();
            for place in &places {
                let bound = async { place.bind_first(&place.addresses().await?) };
                let Err(error) = bound.await else { continue };
                let is_taken = error.kind() == io::ErrorKind::AddrInUse;
                let why = CannotBind { port, place: place.to_string(), error }.to_string();
                if is_taken { self.taken.push(why) } else { failed.push(why) }
            }
            if !failed.is_empty() && failed.len() == places.len() {
                self.failures.push(Failure::new(ExitCode::ServerPort, failed.join("; ")));
            }
        }
    }

    fn note_store(&mut self, whose: &'static str, opened: Result<Arc<TlsContext>, Failure>) {
        match opened {
            Ok(context) => self.certificates.push((whose, context.days_left())),
            Err(failure) => self.failures.push(failure),
        }
    }
}

/// Does what a start does before it reads the database.
pub async fn rehearse(config: &Config) -> Rehearsal {
    let mut found = Rehearsal { exposure: config.exposure(), ..Rehearsal::default() };
    found.note_port(open::reserve(Port::Client, config.client.clone()).await);
    found.note_port(open::reserve(Port::SecureClient, open::secure_port(config)).await);
    found.note_port(open::reserve(Port::Metrics, open::metrics_port(config)).await);
    if let Some(registry) = config.registry.clone() {
        found.note_port(RegistryPort::reserve(registry).await);
    }
    if let Some(Err(why)) = open::try_admin_port(config).await {
        found.taken.push(why);
    }
    if let Some(ensemble) = &config.ensemble {
        found.note_ports_of_servers(ensemble).await;
    }
    if let Some(settings) = &config.client_tls {
        found.note_store("clients see", open::read_tls(settings.tls.clone()).await);
    }
    if let Some(QuorumTls { tls, .. }) = &config.quorum_tls {
        found.note_store("the other servers see", open::read_tls(tls.clone()).await);
    }
    if let Some(admin) = config.admin.as_ref().and_then(|admin| admin.tls.clone()) {
        found.note_store("the admin port shows", open::read_tls(admin.tls).await);
    }
    if let Err(failure) = open::kerberos(config).await {
        found.failures.push(failure);
    }
    if let Some(ensemble) = &config.ensemble
        && let Err(failure) = open::quorum_auth(ensemble).await
    {
        found.failures.push(failure);
    }
    found
}
