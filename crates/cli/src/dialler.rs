//! Connections to servers, with TLS and without, and the flags that say which.
//!
//! What always holds: a connection is handed out after its handshake; what is written to one with TLS goes out when it is flushed.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rookeeper_server::config::{ClientFlags, ClientSide, Environment, Level};
use rookeeper_server::dial::{Dial, Encrypted, host_of};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::print;

/// A connection, and a handshake, that take longer are given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// TLS with the servers, in the flags that `rookeeper cli` has for it. Each of them turns it on.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "TLS (any of these turns it on)")]
pub struct TlsFlags {
    /// Speak TLS, with what CLIENT_JVMFLAGS says
    #[arg(long)]
    tls: bool,

    /// Trust the certificates in FILE: PEM, PKCS#12 or JKS
    #[arg(long = "tls-ca", value_name = "FILE")]
    authorities: Option<PathBuf>,

    /// Show the certificate in FILE, which has its key too
    #[arg(long = "tls-cert", value_name = "FILE")]
    certificate: Option<PathBuf>,

    /// The key of --tls-cert, where it has a file of its own (PEM)
    #[arg(long = "tls-key", value_name = "FILE")]
    key: Option<PathBuf>,

    /// The password of these files stands in FILE
    #[arg(long = "tls-password-file", value_name = "FILE")]
    store_password: Option<PathBuf>,

    /// Take a server's certificate for another host
    #[arg(long = "tls-any-host")]
    any_host: bool,
}

impl From<&TlsFlags> for ClientFlags {
    fn from(flags: &TlsFlags) -> ClientFlags {
        let TlsFlags { tls, authorities, certificate, key, store_password, any_host } = flags.clone();
        ClientFlags { properties: None, tls, authorities, certificate, key, store_password, any_host }
    }
}

/// Why a server cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NoConnection {
    /// The system says so.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// Nothing came back.
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    TooSlow,
    /// A sentence with the remedy.
    #[error("{0}")]
    Unwelcome(String),
}

/// How servers are dialled.
#[derive(Debug, Clone)]
pub struct Dialler {
    tls: Option<Arc<Dial>>,
}

impl Dialler {
    /// Without TLS, whatever the environment says.
    pub fn plain() -> Dialler {
        Dialler { tls: None }
    }

    /// Reads the files that the flags name. It blocks.
    pub fn open(flags: &ClientFlags) -> anyhow::Result<Dialler> {
        // A user is named, so that no JAAS file is asked for: the connections are nobody's.
        let (side, notices) = ClientSide::load(flags, true, &Environment::of_process())?;
        for notice in notices.iter().filter(|notice| notice.level == Level::Warn) {
            print::complaint(&notice.text);
        }
        let tls = side.tls.as_ref().map(Dial::open).transpose().context("TLS")?;
        Ok(Dialler { tls: tls.map(Arc::new) })
    }

    /// Whether the connections speak TLS.
    pub fn speaks_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects to `host:port`.
    pub async fn dial(&self, server: &str) -> Result<Socket, NoConnection> {
        let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(server)).await {
            Ok(stream) => stream?,
            Err(_) => return Err(NoConnection::TooSlow),
        };
        stream.set_nodelay(true)?;
        let Some(dial) = &self.tls else { return Ok(Socket::Plain(stream)) };
        match dial.secure(stream, host_of(server), CONNECT_TIMEOUT).await {
            Ok(stream) => Ok(Socket::Encrypted(Box::new(stream))),
            Err(unwelcome) => Err(NoConnection::Unwelcome(unwelcome.why)),
        }
    }
}

/// A connection that is ready.
#[derive(Debug)]
pub enum Socket {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS, after its handshake.
    Encrypted(Box<Encrypted>),
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, free: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_read(context, free),
            Socket::Encrypted(stream) => Pin::new(stream).poll_read(context, free),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Encrypted(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_flush(context),
            Socket::Encrypted(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Encrypted(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Program {
        #[command(flatten)]
        tls: TlsFlags,
    }

    fn parse(line: &str) -> ClientFlags {
        let program = Program::try_parse_from(["program"].into_iter().chain(line.split_whitespace()));
        ClientFlags::from(&program.expect("flags that are known").tls)
    }

    #[test]
    fn flags_of_tls_are_those_of_the_shell() {
        let line = "--tls --tls-ca a --tls-cert b --tls-key d --tls-password-file e --tls-any-host";
        let expected = ClientFlags {
            properties: None,
            tls: true,
            authorities: Some("a".into()),
            certificate: Some("b".into()),
            key: Some("d".into()),
            store_password: Some("e".into()),
            any_host: true,
        };
        assert_eq!(parse(line), expected);
        assert_eq!(parse(""), ClientFlags::default());
    }
}
