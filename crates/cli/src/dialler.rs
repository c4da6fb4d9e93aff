//! Connections to servers, with TLS and without.
//!
//! What always holds: a connection is handed out after its handshake, so a measurement holds none; what is written to one with TLS goes out when
//! it is flushed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use rookeeper_server::config::{ClientFlags, ClientSide, Environment, Level};
use rookeeper_server::dial::{Dial, Encrypted, host_of};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connection::Lost;
use super::options::TlsFlags;
use crate::print;

/// A connection, and a handshake, that take longer are given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How servers are dialled.
#[derive(Debug, Clone)]
pub(super) struct Dialler {
    tls: Option<Arc<Dial>>,
}

impl Dialler {
    /// Reads the files that the flags name. It blocks.
    pub(super) fn open(flags: &TlsFlags) -> anyhow::Result<Dialler> {
        // A user is named, so that no JAAS file is asked for: the load comes in as nobody.
        let (side, notices) = ClientSide::load(&ClientFlags::from(flags), true, &Environment::of_process())?;
        for notice in notices.iter().filter(|notice| notice.level == Level::Warn) {
            print::complaint(&notice.text);
        }
        let tls = side.tls.as_ref().map(Dial::open).transpose().context("TLS")?;
        Ok(Dialler { tls: tls.map(Arc::new) })
    }

    /// Whether the connections speak TLS.
    pub(super) fn speaks_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects to `host:port`.
    pub(super) async fn dial(&self, server: &str) -> Result<Socket, Lost> {
        let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(server)).await {
            Ok(stream) => stream?,
            Err(_) => return Err(Lost::Stalled),
        };
        stream.set_nodelay(true)?;
        let Some(dial) = &self.tls else { return Ok(Socket::Plain(stream)) };
        match dial.secure(stream, host_of(server), CONNECT_TIMEOUT).await {
            Ok(stream) => Ok(Socket::Encrypted(Box::new(stream))),
            Err(unwelcome) => Err(Lost::Unwelcome(unwelcome.why)),
        }
    }
}

/// A connection that is ready.
#[derive(Debug)]
pub(super) enum Socket {
    Plain(TcpStream),
    Encrypted(Box<Encrypted>),
}

impl Socket {
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>, free: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Plain(stream) => Pin::new(stream).poll_read(context, free),
            Socket::Encrypted(stream) => Pin::new(stream).poll_read(context, free),
        }
    }

    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Socket::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Encrypted(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Plain(_) => Poll::Ready(Ok(())),
            Socket::Encrypted(stream) => Pin::new(stream).poll_flush(context),
        }
    }
}
