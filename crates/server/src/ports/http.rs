//! What all ports that speak HTTP have in common: how connections are let in, with TLS or without, and when each is over.
//!
//! What always holds here: there are few connections, in all and of one address; each has a limited time for the head of a request, for its silence,
//! and in all; heads are small. So those who ask cost the clients nothing, whatever they send or leave unsent.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Sleep};
use tracing::debug;

use crate::logging::{Cause, PER_MINUTE, limited};
use crate::net::accept::Acceptor;
use crate::net::bind::Port;
use crate::net::seats::{Seat, Seats};
use crate::net::stream::Stream;
use crate::net::tls::context::TlsContext;
use crate::net::tls::failure::Wording;
use crate::net::tls::handshake::{self, Peer, Shown};
use crate::observe::drops::Dropped;
use crate::observe::figures::Figures;
use crate::registry::in_springs_words;

/// Connections in all, and of one address, to ports that only operators ask.
pub(crate) const SEATS: (usize, usize) = (64, 16);

/// How long a connection may last. Those who ask again and again connect again.
const CONNECTION_LIMIT: Duration = Duration::from_secs(3600);

/// How long a handshake of TLS may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

const MAX_HEAD_BYTES: usize = 16 << 10;

const OF_REGISTRY: Wording = Wording {
    prefix: "server.ssl.",
    own: "this server",
    peer: "client of the service registry",
    demand: Some("server.ssl.client-auth=need"),
};

const WORDING: Wording = Wording {
    prefix: "ssl.quorum.",
    own: "this server",
    peer: "client of the admin port",
    demand: Some("admin.needClientAuth=true"),
};

/// How a port works.
pub(crate) struct HttpPort {
    pub port: Port,
    /// Connections in all, and of one address.
    pub seats: (usize, usize),
    /// How long a request's head may take, and a connection may neither send nor take anything.
    pub silence_limit: Duration,
    /// None where nobody speaks TLS.
    pub tls: Option<HttpTls>,
    pub router: Router,
    /// Where those are counted for whom there is no room.
    pub figures: Arc<Figures>,
}

/// How TLS is spoken.
#[derive(Debug, Clone)]
pub(crate) struct HttpTls {
    pub context: Arc<TlsContext>,
    /// Whether the first byte tells; without that, everybody speaks TLS.
    pub takes_plain: bool,
    /// Where those are counted who come without.
    pub figures: Arc<Figures>,
}

/// Whoever asks. Every request carries it as an extension.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub address: SocketAddr,
    /// What was shown in a handshake.
    pub shown: Arc<Shown>,
    /// Answers that are being made on this connection.
    making: Arc<AtomicUsize>,
    /// The connection is to end.
    over: Arc<Notify>,
}

/// An answer that is being made. Its connection is not given up for its silence meanwhile.
#[derive(Debug)]
pub(crate) struct Making(Arc<AtomicUsize>);

impl Caller {
    /// One from this address, with what it has shown.
    pub fn new(address: SocketAddr, shown: Shown) -> Caller {
        Caller { address, shown: Arc::new(shown), making: Arc::default(), over: Arc::default() }
    }

    /// Ends the connection, with whatever is on its way.
    pub fn end(&self) {
        self.over.notify_one();
    }

    /// Keeps the connection until an answer is made.
    pub fn making(&self) -> Making {
        self.making.fetch_add(1, Relaxed);
        Making(self.making.clone())
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Serves until the server stops.
pub(crate) async fn serve(this: HttpPort, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
    let port = this.port;
    let this = Arc::new(this);
    let seats = Seats::new(this.seats.0, this.seats.1);
    let mut acceptor = Acceptor::new(port);
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.next(&listener) => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let Some((stream, peer)) = accepted else { continue };
        let Ok(seat) = seats.take(peer.ip()) else {
            this.figures.drops.note(Dropped::HttpLimit);
            limited!(warn, beyond_limit(port), PER_MINUTE; "closed a connection of {peer} to the {port}: there are too many");
            continue;
        };
        let (this, mut stopped) = (this.clone(), stopped.clone());
        tokio::spawn(async move {
            tokio::select! {
                ended = tokio::time::timeout(CONNECTION_LIMIT, this.connection(stream, peer, seat)) => {
                    if ended.is_err() {
                        debug!("a connection of {peer} to the {port} ended: it lasted {CONNECTION_LIMIT:?}");
                    }
                }
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    }
}

/// Of connections for which there is no seat.
fn beyond_limit(port: Port) -> Cause {
    Cause::Named(match port {
        Port::Metrics => "scrapes beyond the limit of connections",
        Port::Registry => "connections to the service registry beyond the limit",
        _ => "connections to the admin port beyond the limit",
    })
}

impl HttpPort {
    /// Serves one connection to its end.
    async fn connection(&self, stream: Stream, peer: SocketAddr, seat: Seat) {
        let _seat = seat;
        let Some(HttpTls { context: tls, takes_plain, figures }) = &self.tls else {
            return self.serve(stream, peer, Shown::default()).await;
        };
        if *takes_plain && !handshake::begins_with_tls(&stream, tls.settings.detection_limit).await {
            figures.insecure_admin_connections.fetch_add(1, Relaxed);
            return self.serve(stream, peer, Shown::default()).await;
        }
        let (wording, cause) = match self.port {
            Port::Registry => (OF_REGISTRY, "handshakes at the service registry that failed"),
            _ => (WORDING, "handshakes at the admin port that failed"),
        };
        match handshake::accept(tls, stream, &Peer::at(peer), HANDSHAKE_LIMIT, wording).await {
            Ok((stream, shown)) => self.serve(stream, peer, shown).await,
            Err(failure) => {
                let (port, cause) = (self.port, Cause::Named(cause));
                let why = match self.port {
                    Port::Registry => in_springs_words(&failure.to_string()),
                    _ => failure.to_string(),
                };
                limited!(warn, cause, PER_MINUTE; "no connection of {peer} to the {port}: {why}");
            }
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr, shown: Shown) {
        let caller = Caller::new(peer, shown);
        let stream = Impatient::new(stream, self.silence_limit, caller.making.clone());
        let over = caller.over.clone();
        let service = TowerToHyperService::new(self.router.clone().layer(Extension(caller)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.silence_limit)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let ended = tokio::select! {
            ended = connection => ended,
            () = over.notified() => return,
        };
        if let Err(error) = ended {
            debug!("a connection of {peer} to the {} ended: {error}", self.port);
        }
    }
}

impl fmt::Debug for HttpPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HttpPort").field("port", &self.port).field("tls", &self.tls).finish_non_exhaustive()
    }
}

/// A connection that fails once nothing has moved on it for some time, in neither direction: a peer that does not read would otherwise keep an answer in
/// memory for as long as it likes.
struct Impatient<S> {
    stream: S,
    limit: Duration,
    over: Pin<Box<Sleep>>,
    /// Answers that are being made: the silence is ours then.
    making: Arc<AtomicUsize>,
}

impl<S> Impatient<S> {
    fn new(stream: S, limit: Duration, making: Arc<AtomicUsize>) -> Impatient<S> {
        Impatient { stream, limit, over: Box::pin(tokio::time::sleep(limit)), making }
    }

    fn put_off(&mut self) {
        let deadline = Instant::now() + self.limit;
        self.over.as_mut().reset(deadline);
    }

    /// What came of an attempt to move something.
    fn noted<T>(&mut self, moved: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        match moved {
            Poll::Ready(Ok(moved)) => {
                self.put_off();
                Poll::Ready(Ok(moved))
            }
            Poll::Pending => {
                while self.over.as_mut().poll(context).is_ready() {
                    if self.making.load(Relaxed) == 0 {
                        let why = format!("nothing moved for {:?}", self.limit);
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
                    }
                    self.put_off();
                }
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.noted(moved, context)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.noted(moved, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.noted(moved, context)
    }

    /// So that an answer is sent from where it stands, without a copy behind its head.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            // There may have been nothing to flush, which moves nothing.
            Poll::Ready(flushed) => Poll::Ready(flushed),
            Poll::Pending => self.noted(Poll::Pending, context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Ready(over) => Poll::Ready(over),
            Poll::Pending => self.noted(Poll::Pending, context),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn impatient<S>(stream: S) -> Impatient<S> {
        Impatient::new(stream, LIMIT, Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_answer_is_being_made_is_not_given_up() {
        let caller = Caller::new(([127, 0, 0, 1], 1).into(), Shown::default());
        let (_peer, ours) = tokio::io::duplex(4);
        let (mut ours, begin) = (Impatient::new(ours, LIMIT, caller.making.clone()), Instant::now());
        let making = caller.making();
        let made = async {
            tokio::time::sleep(LIMIT * 7 / 2).await;
            drop(making);
        };
        let (read, ()) = tokio::join!(ours.read_u8(), made);
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed(), LIMIT * 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_lasts_while_something_moves_and_ends_when_nothing_does() {
        let (mut peer, ours) = tokio::io::duplex(4);
        let (mut ours, begin) = (impatient(ours), Instant::now());
        for _ in 0..5 {
            tokio::time::sleep(LIMIT * 2 / 3).await;
            peer.write_all(b"x").await.unwrap();
            ours.read_u8().await.unwrap();
        }
        assert_eq!(begin.elapsed(), LIMIT * 10 / 3);
        assert_eq!(ours.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed(), LIMIT * 13 / 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_not_waited_for() {
        let (_peer, ours) = tokio::io::duplex(4);
        let (mut ours, begin) = (impatient(ours), Instant::now());
        assert_eq!(ours.write_all(b"more than four").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed(), LIMIT);
    }
}
