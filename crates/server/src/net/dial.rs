//! Connecting to whichever address of a server answers first.
//!
//! Names are resolved anew every time, in the background and with a time limit. Names, and the addresses of each, are tried in their order;
//! the next one does not wait for the end of the one before, only a moment, so that an address that swallows everything costs next to
//! nothing. What always holds: a connection that is returned leads to somebody else than this end of it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rookeeper_zab::HostPort;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::net::bind::resolve;
use crate::net::stream::{PeerStream, Stream};
use crate::net::tls::context::TlsContext;
use crate::net::tls::peers;

/// The head start of one address over the next.
const HEAD_START: Duration = Duration::from_millis(250);

/// Most addresses of one name that are tried.
const MAX_ADDRESSES_PER_NAME: usize = 8;

/// A connection that was made.
#[derive(Debug)]
pub(crate) struct Dialed {
    pub stream: PeerStream,
    /// Which of the hosts asked for it leads to. A ticket of Kerberos is made out for that one.
    pub host: String,
}

/// A connection, or what went wrong at each address. Resolving a name, connecting to an address and a handshake have `limit` each.
pub(crate) async fn connect(
    addresses: Vec<HostPort>,
    limit: Duration,
    tls: Option<&Arc<TlsContext>>,
) -> Result<Dialed, String> {
    if addresses.is_empty() {
        return Err("no address is known".to_owned());
    }
    race(addresses.into_iter().map(|address| connect_by_name(address, limit, tls.cloned())).collect()).await
}

async fn connect_by_name(address: HostPort, limit: Duration, tls: Option<Arc<TlsContext>>) -> Result<Dialed, String> {
    let resolved = match timeout(limit, resolve(&address.host, address.port)).await {
        Ok(Ok(resolved)) => resolved.into_iter().take(MAX_ADDRESSES_PER_NAME),
        Ok(Err(error)) => return Err(format!("can't resolve {}: {error}", address.host)),
        Err(_) => return Err(format!("can't resolve {} within {} ms", address.host, limit.as_millis())),
    };
    let stream = race(resolved.map(|address| connect_to(address, limit)).collect()).await?;
    let stream = match tls {
        None => PeerStream::Plain(stream),
        Some(tls) => peers::connect(&tls, stream, &address, limit).await?,
    };
    Ok(Dialed { stream, host: address.host })
}

async fn connect_to(address: SocketAddr, limit: Duration) -> Result<Stream, String> {
    match timeout(limit, Stream::connect(address)).await {
        Ok(Ok(stream)) => not_to_itself(stream, address),
        Ok(Err(error)) => Err(format!("{address}: {error}")),
        Err(_) => Err(format!("{address}: no answer within {} ms", limit.as_millis())),
    }
}

/// Where nobody listens, the system may happen to connect a port to itself: then this server would talk to itself as to another one, and
/// keep that one from opening its port on the same machine.
fn not_to_itself(stream: Stream, address: SocketAddr) -> Result<Stream, String> {
    match stream.local_addr() {
        Ok(mine) if mine == address => Err(format!("{address}: refused")),
        _ => Ok(stream),
    }
}

/// The first success. Each attempt starts when the one before has failed, or after a moment.
async fn race<F, T>(attempts: Vec<F>) -> Result<T, String>
where
    F: Future<Output = Result<T, String>> + Send + 'static,
    T: Send + 'static,
{
    let mut waiting = attempts.into_iter();
    let mut running = JoinSet::new();
    let mut failures = Vec::new();
    loop {
        if let Some(attempt) = waiting.next() {
            running.spawn(attempt);
        }
        let joined = match waiting.len() {
            0 => running.join_next().await,
            _ => match timeout(HEAD_START, running.join_next()).await {
                Ok(joined) => joined,
                Err(_) => continue,
            },
        };
        match joined {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(failure))) => failures.push(failure),
            Some(Err(error)) => failures.push(error.to_string()),
            None => return Err(failures.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn at(address: SocketAddr) -> HostPort {
        HostPort { host: address.ip().to_string(), port: address.port() }
    }

    /// A port at which nobody listens, and which nobody else gets while the socket lives.
    fn nobody() -> (TcpSocket, SocketAddr) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[tokio::test]
    async fn a_port_that_is_connected_to_itself_is_no_connection() {
        let (socket, address) = nobody();
        let to_itself = socket.connect(address).await.unwrap();
        assert_eq!(to_itself.peer_addr().unwrap(), to_itself.local_addr().unwrap());
        assert_eq!(not_to_itself(to_itself, address).unwrap_err(), format!("{address}: refused"));
    }

    #[tokio::test]
    async fn the_address_that_answers_is_taken_and_every_failure_is_told() {
        let (_first, first) = nobody();
        let (_second, second) = nobody();
        let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let answers = listener.local_addr().unwrap();
        let Dialed { stream, host } = connect(vec![at(first), at(answers)], LIMIT, None).await.unwrap();
        assert_eq!((stream.tcp().peer_addr().unwrap(), host.as_str()), (answers, "127.0.0.2"));
        let failed = connect(vec![at(first), at(second)], LIMIT, None).await.unwrap_err();
        assert!(failed.contains(&format!("{first}: ")) && failed.contains(&format!("; {second}: ")), "{failed}");
        assert_eq!(connect(Vec::new(), LIMIT, None).await.unwrap_err(), "no address is known");
    }

    type Attempt = std::pin::Pin<Box<dyn Future<Output = Result<Stream, String>> + Send>>;

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_silent_delays_the_next_one_by_a_moment_and_one_that_fails_by_nothing() {
        let begin = Instant::now();
        let noted = move |name: &'static str| async move { Err(format!("{name} after {:?}", begin.elapsed())) };
        let silent =
            async { timeout(LIMIT, pending::<()>()).await.map_err(|_| "silent".to_owned()).map(|()| unreachable!()) };
        let attempts: Vec<Attempt> = vec![
            Box::pin(ready(Err("fails".to_owned()))),
            Box::pin(silent),
            Box::pin(noted("next")),
            Box::pin(noted("last")),
        ];
        assert_eq!(race(attempts).await.unwrap_err(), "fails; next after 250ms; last after 250ms; silent");
    }
}
