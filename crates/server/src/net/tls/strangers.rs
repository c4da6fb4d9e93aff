//! A port that takes connections with TLS and without, but for its socket: what becomes of a connection whose peer sends these bytes. For tests with
//! any bytes.
//!
//! What always holds here: it is decided as in `handshake.rs`, and the handshake is that of the library which is used there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};

use super::context::TlsContext;
use super::handshake::is_handshake;
use super::{Protocol, StoreType};
use crate::config::{ClientAuth, Store, Tls};

/// A port with a certificate.
#[derive(Debug)]
pub struct Port(Arc<ServerConfig>);

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// It is a plain one, and none of its bytes has been taken.
    Plain,
    /// Its handshake goes on, or was broken off by this end.
    Handshake {
        /// How many bytes it is answered.
        answered: usize,
        /// Whether it was broken off.
        is_refused: bool,
    },
    /// Its handshake is over.
    Secure,
}

/// As members have it where nothing else is configured, with these stores of the type PEM.
pub(super) fn of_member(key_store: &Path, trust_store: &Path) -> Tls {
    let store = |location: &Path| Store::of(location, StoreType::Pem);
    Tls {
        key_store: store(key_store),
        trust_store: Some(store(trust_store)),
        client_auth: ClientAuth::Need,
        protocols: Protocol::ALL.to_vec(),
        suites: Vec::new(),
        verifies_servers: true,
        verifies_clients: true,
        looks_up_names: false,
        checks_revocation: false,
        revocation_lists: None,
        detection_limit: Duration::from_secs(5),
        reloads: false,
        resumes: false,
        prefix: "ssl.quorum.",
    }
}

impl Port {
    /// With stores of the type PEM, the trusted of which alone are let in. Says why they can't be used.
    pub fn open(key_store: &Path, trust_store: &Path) -> Result<Port, String> {
        let context = TlsContext::open(of_member(key_store, trust_store)).map_err(|error| error.to_string())?;
        Ok(Port(context.loaded().server.clone()))
    }

    /// Receives all of these bytes.
    pub fn receive(&self, mut bytes: &[u8]) -> Beginning {
        if !bytes.first().is_some_and(|first| is_handshake(*first)) {
            return Beginning::Plain;
        }
        let Ok(mut connection) = ServerConnection::new(self.0.clone()) else {
            return Beginning::Handshake { answered: 0, is_refused: true };
        };
        let (mut answer, mut is_refused) = (Vec::new(), false);
        while !is_refused && !bytes.is_empty() {
            is_refused = connection.read_tls(&mut bytes).is_err() || connection.process_new_packets().is_err();
            while connection.wants_write() {
                let Ok(1..) = connection.write_tls(&mut answer) else { break };
            }
        }
        if !is_refused && !connection.is_handshaking() {
            return Beginning::Secure;
        }
        Beginning::Handshake { answered: answer.len(), is_refused }
    }
}
