//! A connection as the ports see it: TCP, set up and taken apart here alone; between servers with TLS or without.
//!
//! What reads and writes goes by `AsyncRead` and `AsyncWrite`; what needs the socket itself asks for it here. What is written to an encrypted
//! connection may wait in it until it is flushed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::TlsStream;

use crate::net::tls::peers;

pub(crate) type Stream = TcpStream;

/// A peer that is silent for this long is probed, this often, and given up after so many probes without an answer.
const PROBE_AFTER: Duration = Duration::from_secs(10);
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;

/// How the system finds out that the other end is gone without a word.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeepAlive {
    /// It does not.
    Never,
    /// By probes, as often as the system is set up to send them.
    BySystem,
    /// By probes soon after the peer has become silent, and after this time where it does not acknowledge what was sent.
    Soon(Duration),
}

/// Sends at once, for all protocols here send whole messages, and keeps the connection alive.
pub(crate) fn configure(stream: &Stream, keep_alive: KeepAlive) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match keep_alive {
        KeepAlive::Never => {}
        KeepAlive::BySystem => sockopt::set_socket_keepalive(stream, true)?,
        KeepAlive::Soon(unacknowledged) => {
            sockopt::set_socket_keepalive(stream, true)?;
            sockopt::set_tcp_keepidle(stream, PROBE_AFTER)?;
            sockopt::set_tcp_keepintvl(stream, PROBE_EVERY)?;
            sockopt::set_tcp_keepcnt(stream, PROBES)?;
            #[cfg(target_os = "linux")]
            sockopt::set_tcp_user_timeout(stream, u32::try_from(unacknowledged.as_millis()).unwrap_or(u32::MAX))?;
        }
    }
    Ok(())
}

/// A connection with another server.
#[derive(Debug)]
pub(crate) enum PeerStream {
    Plain(Stream),
    /// With TLS.
    Secure(Box<TlsStream<Stream>>),
}

/// What a connection with another server is read from.
#[derive(Debug)]
pub(crate) enum Reading {
    Plain(OwnedReadHalf),
    Secure(ReadHalf<TlsStream<Stream>>),
}

/// What a connection with another server is written to.
#[derive(Debug)]
pub(crate) enum Writing {
    Plain(OwnedWriteHalf),
    Secure(WriteHalf<TlsStream<Stream>>),
}

impl PeerStream {
    /// The connection under the encryption.
    pub fn tcp(&self) -> &Stream {
        match self {
            PeerStream::Plain(stream) => stream,
            PeerStream::Secure(stream) => stream.get_ref().0,
        }
    }
}

/// Both directions, each for itself.
pub(crate) fn split(stream: PeerStream) -> (Reading, Writing) {
    match stream {
        PeerStream::Plain(stream) => {
            let (reading, writing) = stream.into_split();
            (Reading::Plain(reading), Writing::Plain(writing))
        }
        PeerStream::Secure(stream) => {
            let (reading, writing) = tokio::io::split(*stream);
            (Reading::Secure(reading), Writing::Secure(writing))
        }
    }
}

/// The connection as a whole again, for its end.
pub(crate) fn whole(reading: Reading, writing: Writing) -> Option<PeerStream> {
    match (reading, writing) {
        (Reading::Plain(reading), Writing::Plain(writing)) => reading.reunite(writing).ok().map(PeerStream::Plain),
        (Reading::Secure(reading), Writing::Secure(writing)) if reading.is_pair_of(&writing) => {
            Some(PeerStream::Secure(Box::new(reading.unsplit(writing))))
        }
        _ => None,
    }
}

/// The socket under a connection, for whoever sends past its task; none where what is sent must be encrypted first.
pub(crate) fn socket(writing: &Writing) -> Option<BorrowedFd<'_>> {
    match writing {
        Writing::Plain(writing) => Some(writing.as_ref().as_fd()),
        Writing::Secure(_) => None,
    }
}

/// A connection on its way from one runtime to another, which is served by neither of them.
#[derive(Debug)]
pub(crate) struct Detached(std::net::TcpStream);

pub(crate) fn detach(stream: Stream) -> io::Result<Detached> {
    stream.into_std().map(Detached)
}

impl Detached {
    /// Goes on in the runtime that this is called in.
    pub fn attach(self) -> io::Result<Stream> {
        TcpStream::from_std(self.0)
    }
}

/// The same between servers.
#[derive(Debug)]
pub(crate) enum DetachedPeer {
    Plain(Detached),
    /// What is encrypted stays with the events of the first runtime, which outlives the second.
    Secure(PeerStream),
}

pub(crate) fn detach_peer(stream: PeerStream) -> io::Result<DetachedPeer> {
    match stream {
        PeerStream::Plain(stream) => detach(stream).map(DetachedPeer::Plain),
        secure => Ok(DetachedPeer::Secure(secure)),
    }
}

impl DetachedPeer {
    /// Goes on in the runtime that this is called in.
    pub fn attach(self) -> io::Result<PeerStream> {
        match self {
            DetachedPeer::Plain(detached) => detached.attach().map(PeerStream::Plain),
            DetachedPeer::Secure(stream) => Ok(stream),
        }
    }
}

/// What reading an encrypted connection came to. A server that is killed does not say goodbye; that something is missing at the end is seen by
/// whoever reads, for all protocols between servers say how long their messages are.
fn heard(read: io::Result<()>) -> Poll<io::Result<()>> {
    Poll::Ready(match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        read => read.map_err(peers::explained),
    })
}

impl AsyncRead for PeerStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            PeerStream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            PeerStream::Secure(stream) => heard(ready!(Pin::new(stream).poll_read(context, buffer))),
        }
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            PeerStream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            PeerStream::Secure(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            PeerStream::Plain(stream) => Pin::new(stream).poll_flush(context),
            PeerStream::Secure(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            PeerStream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            PeerStream::Secure(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

impl AsyncRead for Reading {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Reading::Plain(half) => Pin::new(half).poll_read(context, buffer),
            Reading::Secure(half) => heard(ready!(Pin::new(half).poll_read(context, buffer))),
        }
    }
}

impl AsyncWrite for Writing {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Writing::Plain(half) => Pin::new(half).poll_write(context, bytes),
            Writing::Secure(half) => Pin::new(half).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Writing::Plain(half) => Pin::new(half).poll_flush(context),
            Writing::Secure(half) => Pin::new(half).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Writing::Plain(half) => Pin::new(half).poll_shutdown(context),
            Writing::Secure(half) => Pin::new(half).poll_shutdown(context),
        }
    }
}
