//! Where a server says that it can be called back, in its initial message.

use std::net::IpAddr;

use rookeeper_zab::HostPort;

/// Most addresses that are taken from one initial message.
const MAX_HINTS: usize = 8;

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
