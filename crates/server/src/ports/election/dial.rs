//! Connecting to whichever address of a server answers first.
//!
//! Names are resolved anew every time, in the background and with a time limit. Addresses are tried in their order; the next one does not
//! wait for the end of the one before, only a moment, so that an address that swallows everything costs next to nothing.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rookeeper_zab::HostPort;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The head start of one address over the next.
const HEAD_START: Duration = Duration::from_millis(250);

/// Most addresses of one name that are tried.
const MAX_ADDRESSES_PER_NAME: usize = 8;

/// Most addresses that are taken from one initial message.
const MAX_HINTS: usize = 8;

/// A connection, or what went wrong at each address. Resolving a name and connecting to an address have `limit` each.
pub(super) async fn connect(addresses: Vec<HostPort>, limit: Duration) -> Result<TcpStream, String> {
    if addresses.is_empty() {
        return Err("no address is known".to_owned());
    }
    race(addresses.into_iter().map(|address| connect_by_name(address, limit)).collect()).await
}

async fn connect_by_name(address: HostPort, limit: Duration) -> Result<TcpStream, String> {
    let lookup = timeout(limit, tokio::net::lookup_host((address.host.as_str(), address.port))).await;
    let resolved: Vec<SocketAddr> = match lookup {
        Ok(Ok(resolved)) => resolved.take(MAX_ADDRESSES_PER_NAME).collect(),
        Ok(Err(error)) => return Err(format!("can't resolve {}: {error}", address.host)),
        Err(_) => return Err(format!("can't resolve {} within {} ms", address.host, limit.as_millis())),
    };
    if resolved.is_empty() {
        return Err(format!("{} resolves to no address", address.host));
    }
    race(resolved.into_iter().map(|address| connect_to(address, limit)).collect()).await
}

async fn connect_to(address: SocketAddr, limit: Duration) -> Result<TcpStream, String> {
    match timeout(limit, TcpStream::connect(address)).await {
        // Where nobody listens, the system may happen to connect a port to itself.
        Ok(Ok(stream)) if stream.local_addr().is_ok_and(|mine| mine == address) => Err(format!("{address}: refused")),
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("{address}: {error}")),
        Err(_) => Err(format!("{address}: no answer within {} ms", limit.as_millis())),
    }
}

/// The first success. Each attempt starts when the one before has failed, or after a moment.
async fn race<F>(attempts: Vec<F>) -> Result<TcpStream, String>
where
    F: Future<Output = Result<TcpStream, String>> + Send + 'static,
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

/// The addresses of an initial message that can be dialled: not those that say "all addresses of this machine".
pub(super) fn hints(addresses: &[String]) -> Vec<HostPort> {
    addresses.iter().take(MAX_HINTS).filter_map(|text| hint(text)).collect()
}

fn hint(text: &str) -> Option<HostPort> {
    let (host, port) = text.trim().rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_wildcard = host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_unspecified());
    (!host.is_empty() && !is_wildcard).then(|| HostPort { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_addresses_that_can_be_dialled() {
        let addresses = [
            "127.0.0.1:3888",
            "[::1]:3888",
            "zoo-1.zoo:3888",
            "0.0.0.0:3888",
            "[::]:3888",
            "[0:0:0:0:0:0:0:0]:3888",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            ":3888",
            "nonsense",
            "",
        ]
        .map(str::to_owned);
        let understood = |texts: &[String]| hints(texts).iter().map(HostPort::to_string).collect::<Vec<_>>();
        assert_eq!(understood(&addresses[..8]), ["127.0.0.1:3888", "[::1]:3888", "zoo-1.zoo:3888"]);
        assert_eq!(understood(&addresses[8..]), [""; 0]);
        let many = vec!["a:1".to_owned(); 1000];
        assert_eq!(hints(&many).len(), MAX_HINTS);
    }
}
