//! What a start would find before it reads the database: ports, certificates, keys. Nothing is left behind.
//!
//! What always holds here: what is found is found by the functions of the start itself, so it cannot differ.

use std::sync::Arc;

use super::open;
use crate::config::{Config, QuorumTls};
use crate::failure::{ExitCode, Failure};
use crate::net::bind::Port;
use crate::net::tls::context::TlsContext;

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
    fn note_port(&mut self, reserved: Result<open::Reserved, Failure>) {
        match reserved {
            Ok(_) => {}
            Err(failure) if failure.exit_code == ExitCode::Misconfigured => self.failures.push(failure),
            Err(failure) => self.taken.push(failure.message),
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
