//! TLS between members: who is dialled with it, and who may come without.
//!
//! What always holds here: a connection that comes out is plain only where plain ones are wanted.
//!
//! Counterpart in the original: `UnifiedServerSocket`, and the sockets of `Learner` and `QuorumCnxManager`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rookeeper_zab::HostPort;
use tokio_rustls::TlsStream;

use super::context::TlsContext;
use super::failure::{Failure, Wording};
use super::handshake::{self, Peer};
use crate::net::stream::{PeerStream, Stream};

const WORDING: Wording = Wording { prefix: "ssl.quorum.", own: "this server", peer: "other server", demand: None };

/// How this member meets others.
#[derive(Debug, Clone)]
pub(crate) struct PeerTls {
    pub context: Arc<TlsContext>,
    /// `sslQuorum`.
    pub dials: bool,
    /// `portUnification`.
    pub takes_plain: bool,
}

impl PeerTls {
    /// What others are dialled with.
    pub fn for_dialing(tls: Option<&PeerTls>) -> Option<Arc<TlsContext>> {
        tls.filter(|tls| tls.dials).map(|tls| tls.context.clone())
    }
}

/// Brings a connection of another member to where its first message can be read. `names` are the hosts of members.
pub(crate) async fn receive(
    tls: Option<&PeerTls>,
    stream: Stream,
    peer: SocketAddr,
    names: Vec<String>,
    limit: Duration,
) -> Result<PeerStream, Failure> {
    let Some(tls) = tls else { return Ok(PeerStream::Plain(stream)) };
    if tls.takes_plain && !handshake::begins_with_tls(&stream, tls.context.settings.detection_limit).await {
        return Ok(PeerStream::Plain(stream));
    }
    let peer = Peer { address: peer.ip(), names };
    let (stream, _) = handshake::accept(&tls.context, stream, &peer, limit, WORDING).await?;
    Ok(PeerStream::Secure(Box::new(TlsStream::Server(stream))))
}

/// Begins a handshake with a member that was dialled.
pub(crate) async fn connect(
    context: &TlsContext,
    stream: Stream,
    address: &HostPort,
    limit: Duration,
) -> Result<PeerStream, String> {
    match handshake::connect(context, stream, &address.host, limit, WORDING).await {
        Ok(stream) => Ok(PeerStream::Secure(Box::new(TlsStream::Client(stream)))),
        Err(failure) => Err(format!("{address}: {failure}")),
    }
}

/// Why reading an encrypted connection failed. With TLS 1.3 the member that dials has finished its handshake before the other one looks at its
/// certificate, so a refusal comes in place of the first message.
pub(crate) fn explained(error: io::Error) -> io::Error {
    if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        return io::Error::new(io::ErrorKind::PermissionDenied, Failure::of(error, None, WORDING).to_string());
    }
    error
}
