//! Clients that speak TLS: on a port of their own, or on the plain one, where the first byte tells.
//!
//! What always holds here: a client is a client only after its handshake; until then it holds a seat, for a limited time, and one of the limited
//! places for handshakes; the task of a plain connection is the same as without TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rookeeper_proto::{Id, SessionId};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::config::{Access, ClientTls};
use crate::context::Context;
use crate::logging::{PER_MINUTE, limited};
use crate::net::linger::linger;
use crate::net::stream::Stream;
use crate::net::tls::context::TlsContext;
use crate::net::tls::failure::{Failure, Wording};
use crate::net::tls::handshake::{self, Peer, Places, Shown};
use crate::net::tls::records::FrameRecords;
use crate::observe::drops::Dropped;

/// Handshakes under way at a time where nothing else is configured: each holds some ten kilobytes, and the work of one is a millisecond or two.
const DEFAULT_HANDSHAKES: usize = 1024;

const WORDING: Wording = Wording { prefix: "ssl.", own: "this server", peer: "client", demand: None };

/// What clients that speak TLS are received with.
#[derive(Debug)]
pub(crate) struct SecureClients {
    pub tls: Arc<TlsContext>,
    /// The port that is open for them alone; none where the plain one takes them.
    pub port: Option<u16>,
    places: Places,
    is_limit_configured: bool,
    drops_early: bool,
}

/// How a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Without TLS.
    Plain,
    /// With TLS.
    Secure,
    /// By the first byte.
    Either,
}

/// A connection of a client that can begin.
pub(crate) enum Begun {
    Plain(TcpStream),
    Secure(Box<FrameRecords>, Shown),
}

impl SecureClients {
    pub fn new(tls: Arc<TlsContext>, port: Option<u16>, settings: &ClientTls) -> SecureClients {
        let configured = settings.handshake_limit.map(|limit| limit as usize);
        SecureClients {
            tls,
            port,
            places: Places::new(configured.unwrap_or(DEFAULT_HANDSHAKES)),
            is_limit_configured: configured.is_some(),
            drops_early: settings.drops_early,
        }
    }

    /// Handshakes under way.
    pub fn handshakes(&self) -> usize {
        self.places.taken()
    }
}

/// Brings a connection to where its first frame can be read. None for one that is over, or when the server stops.
pub(crate) async fn begin(
    context: &Context,
    stream: Stream,
    peer: SocketAddr,
    beginning: Beginning,
    mut stop: watch::Receiver<bool>,
) -> Option<Begun> {
    let Some(clients) = context.secure_clients.as_ref().filter(|_| beginning != Beginning::Plain) else {
        return Some(Begun::Plain(stream));
    };
    tokio::select! {
        begun = receive(context, clients, stream, peer, beginning) => begun,
        _ = stop.wait_for(|stop| *stop) => None,
    }
}

async fn receive(
    context: &Context,
    clients: &SecureClients,
    stream: Stream,
    peer: SocketAddr,
    beginning: Beginning,
) -> Option<Begun> {
    let statistics = &context.shared.statistics;
    if beginning == Beginning::Either
        && !handshake::begins_with_tls(&stream, clients.tls.settings.detection_limit).await
    {
        return Some(Begun::Plain(stream));
    }
    if clients.drops_early && !context.serves() {
        statistics.tls_connections_not_served.fetch_add(1, Relaxed);
        context.figures.drops.note(Dropped::NotServing);
        linger(stream).await;
        return None;
    }
    let Some(_place) = clients.places.take() else {
        statistics.tls_handshakes_beyond_limit.fetch_add(1, Relaxed);
        context.figures.drops.note(Dropped::Tls);
        let by = if clients.is_limit_configured { "" } else { ", the default" };
        limited!(
            warn,
            "clients beyond the limit on handshakes",
            "closed the connection of a client at {}: {} handshakes of TLS are under way, as many as \
             netty.server.outstandingHandshake.limit{by} lets; the client tries again",
            peer.ip(),
            clients.places.limit()
        );
        linger(stream).await;
        return None;
    };
    let limit = Duration::from_millis(u64::from(context.config.client.sessionless_connection_timeout_ms));
    match handshake::accept(&clients.tls, stream, &Peer::at(peer), limit, WORDING).await {
        Ok((stream, shown)) => Some(Begun::Secure(Box::new(FrameRecords::new(stream)), shown)),
        Err(failure) => {
            statistics.tls_handshakes_failed.fetch_add(1, Relaxed);
            context.figures.drops.note(Dropped::Tls);
            if failure.is_of_identity() {
                context.audit_refusal(SessionId::NONE, peer, None);
            }
            tell(peer, &failure);
            None
        }
    }
}

/// What a client is by the certificate that it showed.
pub(crate) fn identities(access: &Access, shown: &Shown) -> Vec<Id> {
    let Some(certificate) = &shown.certificate else { return Vec::new() };
    let subject = &certificate.subject;
    let super_user = (access.x509_super_user.as_ref() == Some(subject)).then(|| Id::new("super", subject.clone()));
    super_user.into_iter().chain([Id::new("x509", subject.clone())]).collect()
}

fn tell(peer: SocketAddr, failure: &Failure) {
    limited!(warn, failure.kind().of_clients(), PER_MINUTE; "no connection with the client {peer}: {failure}");
}
