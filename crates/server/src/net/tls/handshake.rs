//! From a connection to an encrypted one.
//!
//! What always holds here: a handshake has a time limit and, through the library, a limit in bytes; whoever comes out has shown a certificate that is
//! valid now, where one is asked for, also where a session was resumed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::certificate::{Facts, Hosts, printable};
use super::context::TlsContext;
use super::failure::{self, Failure, Kind, Wording};
use super::trust::check_dates;
use crate::net::bind::resolve;
use crate::net::linger::linger;

/// The first byte of a record of a handshake. A plain frame that begins so would be longer than any that is taken.
const HANDSHAKE_RECORD: u8 = 0x16;

/// Plain bytes that wait for room in the socket.
const WAITING_BYTES: usize = 64 << 10;

/// Names in a certificate that are looked up at most.
const MAX_LOOKUPS: usize = 8;

/// Whether what begins so is TLS.
pub(super) fn is_handshake(first: u8) -> bool {
    first == HANDSHAKE_RECORD
}

/// Whether the peer begins with TLS. One that says nothing within the limit is taken for a plain one.
pub(crate) async fn begins_with_tls(stream: &TcpStream, limit: Duration) -> bool {
    let mut first = [0];
    match timeout(limit, stream.peek(&mut first)).await {
        Ok(Ok(1)) => is_handshake(first[0]),
        _ => false,
    }
}

/// The other end of an encrypted connection, as far as it has shown a certificate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    pub certificate: Option<Facts>,
}

/// Somebody who connected.
#[derive(Debug)]
pub(crate) struct Peer {
    pub address: IpAddr,
    /// Names that are looked up besides those of a certificate, where it is for them: a certificate may be for all hosts of a domain.
    pub names: Vec<String>,
}

impl Peer {
    /// Of whom nothing else is known.
    pub fn at(address: SocketAddr) -> Peer {
        Peer { address: address.ip(), names: Vec::new() }
    }
}

/// Takes the handshake of one who connected. A connection that is refused is closed in order.
pub(crate) async fn accept(
    context: &TlsContext,
    stream: TcpStream,
    peer: &Peer,
    limit: Duration,
    wording: Wording,
) -> Result<(server::TlsStream<TcpStream>, Shown), Failure> {
    let acceptor = TlsAcceptor::from(context.loaded().server.clone());
    let (mut refused, mut unwelcome) = (None, None);
    let handshake = async {
        let accepting = acceptor.accept_with(stream, |connection| connection.set_buffer_limit(Some(WAITING_BYTES)));
        let accepted = failure::remembering(async {
            accepting.into_fallible().await.map_err(|(error, stream)| {
                refused = Some(stream);
                error
            })
        });
        let stream = accepted.await.map_err(|(error, shown)| Failure::of(error, shown, wording))?;
        match judge(context, stream.get_ref().1.peer_certificates(), peer, wording).await {
            Ok(shown) => Ok((stream, shown)),
            Err(failure) => {
                unwelcome = Some(stream);
                Err(failure)
            }
        }
    };
    let accepted = timeout(limit, handshake).await.unwrap_or(Err(Failure::TooSlow(limit)));
    if let Some(stream) = refused {
        // The alert that says why is lost where the connection is cut at once. The caller's seat is kept meanwhile, as the file descriptor is.
        linger(stream).await;
    }
    if let Some(stream) = unwelcome {
        linger(stream).await;
    }
    accepted
}

/// Begins a handshake with a server that was dialled as `host`.
pub(crate) async fn connect(
    context: &TlsContext,
    stream: TcpStream,
    host: &str,
    limit: Duration,
    wording: Wording,
) -> Result<client::TlsStream<TcpStream>, Failure> {
    let address = stream.peer_addr().map_err(Failure::Io)?.ip();
    // An address may name its network interface.
    let plain_host = host.split_once('%').map_or(host, |(address, _)| address).trim_matches(['[', ']']);
    // Whether the certificate is for the host is decided by what was dialled, not by the name that the peer is told, which can't be any name.
    let name = ServerName::try_from(plain_host.to_owned()).unwrap_or(ServerName::IpAddress(address.into()));
    let Some(config) = context.loaded().for_dialing(host, address) else {
        return Err(Failure::Io(io::Error::other(format!("{}trustStore.location names nobody", wording.prefix))));
    };
    let connector = TlsConnector::from(Arc::new(config));
    let connecting =
        connector.connect_with(name, stream, |connection| connection.set_buffer_limit(Some(WAITING_BYTES)));
    let handshake = failure::remembering(connecting);
    match timeout(limit, handshake).await {
        Ok(connected) => connected.map_err(|(error, shown)| Failure::of(error, shown, wording)),
        Err(_) => Err(Failure::TooSlow(limit)),
    }
}

/// What a handshake does not look at: a resumed session brings its certificate along, and whose address it is for nobody has asked.
pub(super) async fn judge(
    context: &TlsContext,
    certificates: Option<&[CertificateDer<'static>]>,
    peer: &Peer,
    Wording { prefix, own, peer: who, .. }: Wording,
) -> Result<Shown, Failure> {
    let Some(certificate) = certificates.and_then(|chain| chain.first()) else { return Ok(Shown::default()) };
    let refuse = |why: String| {
        let why = format!("{own} refused the certificate of the {who}: {why}");
        Err(Failure::Refused { kind: Kind::Certificate, why })
    };
    if let Err(reason) = check_dates(certificate, UnixTime::now()) {
        return refuse(failure::judged(&reason, prefix));
    }
    let Some(facts) = Facts::of(certificate) else { return refuse("it makes no sense".to_owned()) };
    if context.settings.verifies_clients && !is_for(&facts.hosts, peer, context.settings.looks_up_names).await {
        return refuse(format!(
            "the certificate of {} is for {} and not for the address {}; issue it for that address too, or set \
             {prefix}clientHostnameVerification=false",
            printable(&facts.subject),
            facts.hosts.written(),
            peer.address
        ));
    }
    Ok(Shown { certificate: Some(facts) })
}

/// Whether the certificate is for this address, or for a name that leads there.
pub(super) async fn is_for(hosts: &Hosts, peer: &Peer, looks_up_names: bool) -> bool {
    if hosts.has_address(peer.address) {
        return true;
    }
    if !looks_up_names {
        return false;
    }
    let known = peer.names.iter().filter(|name| hosts.has(name));
    let shown = hosts.names.iter().filter(|name| !name.contains('*') && !peer.names.contains(name));
    for name in known.chain(shown.take(MAX_LOOKUPS)) {
        if let Ok(addresses) = resolve(name, 0).await
            && addresses.iter().any(|address| address.ip().to_canonical() == peer.address.to_canonical())
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
