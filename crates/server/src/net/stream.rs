//! A connection as the ports see it: TCP, set up and taken apart here alone.
//!
//! What reads and writes goes by `AsyncRead` and `AsyncWrite`; what needs the socket itself asks for it here. So another kind of connection
//! changes this file, the places that accept and dial, and nothing behind them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

pub(crate) type Stream = TcpStream;
pub(crate) type Reading = OwnedReadHalf;
pub(crate) type Writing = OwnedWriteHalf;

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

/// Both directions, each for itself.
pub(crate) fn split(stream: Stream) -> (Reading, Writing) {
    stream.into_split()
}

/// The connection as a whole again, for its end.
pub(crate) fn whole(reading: Reading, writing: Writing) -> Option<Stream> {
    reading.reunite(writing).ok()
}

/// The socket under a connection, for whoever sends past its task.
pub(crate) fn socket(writing: &Writing) -> BorrowedFd<'_> {
    writing.as_ref().as_fd()
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
