//! From a connection to an encrypted one.
//!
//! What always holds here: a handshake has a time limit and, through the library, a limit in bytes; whoever comes out has shown a certificate that is
//! valid now, where one is asked for, also where a session was resumed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, server};

use super::certificate::{Facts, printable};
use super::context::TlsContext;
use super::failure::{self, Failure, Wording};
use super::trust::check_dates;
use crate::net::bind::resolve;
use crate::net::linger::linger;

/// The first byte of a record of a handshake. A plain frame that begins so would be longer than any that is taken.
const HANDSHAKE_RECORD: u8 = 0x16;

/// Plain bytes that wait for room in the socket.
const WAITING_BYTES: usize = 64 << 10;

/// Names in a certificate that are looked up at most.
const MAX_LOOKUPS: usize = 8;

/// Whether the peer begins with TLS. One that says nothing within the limit is taken for a plain one.
pub(crate) async fn begins_with_tls(stream: &TcpStream, limit: Duration) -> bool {
    let mut first = [0];
    match timeout(limit, stream.peek(&mut first)).await {
        Ok(Ok(1)) => first[0] == HANDSHAKE_RECORD,
        _ => false,
    }
}

/// The other end of an encrypted connection, as far as it has shown a certificate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    pub certificate: Option<Facts>,
}

/// Takes the handshake of one who connected. A connection that is refused is closed in order.
pub(crate) async fn accept(
    context: &TlsContext,
    stream: TcpStream,
    peer: SocketAddr,
    limit: Duration,
    wording: Wording,
) -> Result<(server::TlsStream<TcpStream>, Shown), Failure> {
    let acceptor = TlsAcceptor::from(context.loaded().server.clone());
    let mut refused = None;
    let handshake = async {
        let accepting = acceptor.accept_with(stream, |connection| connection.set_buffer_limit(Some(WAITING_BYTES)));
        let accepted = failure::remembering(async {
            accepting.into_fallible().await.map_err(|(error, stream)| {
                refused = Some(stream);
                error
            })
        });
        let stream = accepted.await.map_err(|(error, shown)| Failure::of(error, shown, wording))?;
        let shown = judge(context, stream.get_ref().1.peer_certificates(), peer.ip(), wording).await?;
        Ok((stream, shown))
    };
    let accepted = timeout(limit, handshake).await.unwrap_or(Err(Failure::TooSlow(limit)));
    if let Some(stream) = refused {
        // The alert that says why is lost where the connection is cut at once. The caller's seat is kept meanwhile, as the file descriptor is.
        linger(stream).await;
    }
    accepted
}

/// What a handshake does not look at: a resumed session brings its certificate along, and whose address it is for nobody has asked.
async fn judge(
    context: &TlsContext,
    certificates: Option<&[CertificateDer<'static>]>,
    peer: IpAddr,
    Wording { prefix, peer: who }: Wording,
) -> Result<Shown, Failure> {
    let Some(certificate) = certificates.and_then(|chain| chain.first()) else { return Ok(Shown::default()) };
    let refuse = |why: String| {
        let why = format!("this server refused the certificate of the {who}: {why}");
        Err(Failure::Refused { kind: failure::CERTIFICATES, why })
    };
    if let Err(reason) = check_dates(certificate, UnixTime::now()) {
        return refuse(failure::judged(&reason, prefix));
    }
    let Some(facts) = Facts::of(certificate) else { return refuse("it makes no sense".to_owned()) };
    if context.settings.verifies_clients && !is_for(&facts, peer, context.settings.looks_up_names).await {
        return refuse(format!(
            "the certificate of {} is for {} and not for the address {peer}; issue it for that address too, or set \
             {prefix}clientHostnameVerification=false",
            printable(&facts.subject),
            facts.hosts.written()
        ));
    }
    Ok(Shown { certificate: Some(facts) })
}

/// Whether the certificate is for this address, or for a name that leads there.
async fn is_for(facts: &Facts, peer: IpAddr, looks_up_names: bool) -> bool {
    if facts.hosts.has_address(peer) {
        return true;
    }
    if !looks_up_names {
        return false;
    }
    for name in facts.hosts.names.iter().filter(|name| !name.contains('*')).take(MAX_LOOKUPS) {
        if let Ok(addresses) = resolve(name, 0).await
            && addresses.iter().any(|address| address.ip().to_canonical() == peer.to_canonical())
        {
            return true;
        }
    }
    false
}

/// Handshakes under way at a port, at most so many.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<tokio::sync::Semaphore>, usize);

impl Places {
    pub fn new(limit: usize) -> Places {
        Places(Arc::new(tokio::sync::Semaphore::new(limit)), limit)
    }

    /// A place for one more, until it is dropped.
    pub fn take(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        self.0.clone().try_acquire_owned().ok()
    }

    pub fn limit(&self) -> usize {
        self.1
    }

    pub fn taken(&self) -> usize {
        self.1 - self.0.available_permits()
    }
}
