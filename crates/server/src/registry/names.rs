//! Other registries that are found by a name: each address of the name is one. The name is looked up with the system's resolver, again and again.
//!
//! What always holds here: a name that cannot be looked up changes nothing; an address that is gone gets nothing more, and one that comes back begins
//! with nothing waiting for it.
//!
//! Eureka's own way, lists in TXT records, is not supported and refused at the start: the system's resolver does not ask for them, and where names are kept for services today, as in
//! Kubernetes, they have addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::config::PeerAddress;
use super::peers;
use super::service::Service;

/// Between two look-ups.
const EVERY: Duration = Duration::from_secs(5);

/// How long one may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Addresses of one name, at most.
const MAX_ADDRESSES: usize = 64;

/// Looks up the names once. None for a name that could not be looked up.
pub(super) async fn look_up(names: &[PeerAddress]) -> Vec<Option<Vec<PeerAddress>>> {
    let mut found = Vec::new();
    for name in names {
        let lookup = tokio::time::timeout(LIMIT, tokio::net::lookup_host((name.host.as_str(), name.port))).await;
        found.push(match lookup {
            Ok(Ok(addresses)) => Some(at(name, addresses.map(|address| address.ip()))),
            _ => None,
        });
    }
    found
}

/// The servers at these addresses of a name.
fn at(name: &PeerAddress, addresses: impl Iterator<Item = IpAddr>) -> Vec<PeerAddress> {
    let addresses: BTreeSet<IpAddr> = addresses.collect();
    let server = |address| PeerAddress { at: Some(address), ..name.clone() };
    addresses.into_iter().take(MAX_ADDRESSES).map(server).collect()
}

/// The servers that count from now on: those of each name that was looked up, and those from before of each that was not.
fn next(names: &[PeerAddress], found: Vec<Option<Vec<PeerAddress>>>, before: &[PeerAddress]) -> Vec<PeerAddress> {
    let of = |name: &PeerAddress| {
        let is_of = |peer: &&PeerAddress| peer.at.is_some() && PeerAddress { at: None, ..(*peer).clone() } == *name;
        before.iter().filter(is_of).cloned().collect()
    };
    let lists = names.iter().zip(found).map(|(name, found)| found.unwrap_or_else(|| of(name)));
    lists.flatten().collect()
}

/// Follows the names for as long as the server runs.
pub(super) async fn follow(service: Arc<Service>) {
    let names = service.config.names.clone();
    let mut fails = false;
    loop {
        let found = look_up(&names).await;
        let failing = found.iter().any(Option::is_none);
        if failing && !fails {
            let hosts: Vec<&str> = names.iter().map(|name| name.host.as_str()).collect();
            warn!("{} can't be looked up: the other registries stay those that are known", hosts.join(", "));
        }
        fails = failing;
        take(&service, found);
        tokio::time::sleep(EVERY).await;
    }
}

/// Takes what was found.
pub(super) fn take(service: &Arc<Service>, found: Vec<Option<Vec<PeerAddress>>>) {
    let all = service.peers.all();
    let before: Vec<PeerAddress> = all.iter().map(|peer| peer.address.clone()).collect();
    let named = next(&service.config.names, found, &before);
    let (fixed, were) = before.into_iter().partition::<Vec<_>, _>(|peer| peer.at.is_none());
    if named.iter().collect::<BTreeSet<_>>() == were.iter().collect() {
        return;
    }
    for peer in named.iter().filter(|peer| !were.contains(peer)) {
        info!("{peer} is another registry from now on");
    }
    for peer in were.iter().filter(|peer| !named.contains(peer)) {
        info!("{peer} is no other registry any more");
    }
    peers::replace(service, fixed.into_iter().chain(named).collect());
}

#[cfg(test)]
mod tests {
    use rookeeper_registry::rest::{self, Parts};

    use super::super::{RegistryConfig, RegistryServer};
    use super::*;

    #[test]
    fn a_name_that_cannot_be_looked_up_changes_nothing() {
        let names = ["http://one:1/", "http://two:2/"].map(|url| PeerAddress::parse(url).unwrap());
        let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
        let first = next(&names, vec![Some(at(&names[0], [ip(2), ip(1), ip(2)].into_iter())), None], &[]);
        assert_eq!(first, [1, 2].map(|last| PeerAddress { at: Some(ip(last)), ..names[0].clone() }));
        let second = next(&names, vec![None, Some(at(&names[1], [ip(9)].into_iter()))], &first);
        assert_eq!(second.len(), 3);
        let third = next(&names, vec![Some(at(&names[0], [ip(2)].into_iter())), None], &second);
        let places: Vec<String> = third.iter().map(PeerAddress::to_string).collect();
        assert_eq!(places, ["http://one:1/ at 10.0.0.2", "http://two:2/ at 10.0.0.9"]);
        assert_eq!(next(&names, vec![Some(Vec::new()), Some(Vec::new())], &third), []);
    }
    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let waiting = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), waiting).await.expect(what);
    }

    fn register(server: &RegistryServer, id: &str) {
        let text = format!(
            r#"{{"instance":{{"instanceId":"{id}","hostName":"h","app":"A","ipAddr":"1.2.3.4",
            "dataCenterInfo":{{"@class":"com.netflix.appinfo.MyDataCenterInfo","name":"MyOwn"}}}}}}"#
        );
        let parts = Parts {
            method: "POST",
            path: "/eureka/apps/A",
            content_type: Some("application/json"),
            accept: Some("application/json"),
            ..Parts::default()
        };
        server.service.ask(rest::read(&parts).unwrap().with_body(text.as_bytes(), server.service.now()));
    }

    fn knows(server: &RegistryServer, id: &str) -> bool {
        server.service.with(|registry, _| registry.record("A", id).is_some())
    }

    /// Two servers with one port, at two addresses that the name has. The resolver of the system does not know it, which changes nothing.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn servers_at_the_addresses_of_a_name_are_peers_until_an_address_is_gone() {
        let addresses = ["127.0.0.1", "127.0.0.2"];
        let free = std::net::TcpListener::bind((addresses[0], 0)).unwrap().local_addr().unwrap().port();
        let name = format!("http://registries.invalid:{free}/eureka/");
        let mut servers = Vec::new();
        for address in addresses {
            let given = [("registry.peers-from-dns", &name), ("server.address", &address.to_owned())];
            let given = given.map(|(key, value)| (key.to_owned(), value.clone()));
            let (mut config, _) = RegistryConfig::load(None, &given).unwrap();
            config.port = free;
            servers.push(RegistryServer::start(config).await.unwrap());
        }
        let name = PeerAddress::parse(&name).unwrap();
        let found = |addresses: &[&str]| {
            vec![Some(at(&name, addresses.iter().map(|address| address.parse::<IpAddr>().unwrap())))]
        };
        for server in &servers {
            take(&server.service, found(&addresses));
        }
        for (number, server) in servers.iter().enumerate() {
            let (id, other) = (format!("at-{number}"), &servers[1 - number]);
            register(server, &id);
            until("the other one does not hear", || knows(other, &id)).await;
        }
        // A server that has not opened copies what others know.
        for server in &servers {
            until("a server is not open", || server.service.with(|registry, _| registry.is_open())).await;
        }
        // Each has found out which address is its own.
        for server in &servers {
            until("nobody is oneself", || server.service.peers.all().iter().filter(|peer| peer.is_own()).count() == 1)
                .await;
        }
        let before = servers[0].service.peers.all();
        take(&servers[0].service, found(&addresses));
        assert!(Arc::ptr_eq(&before, &servers[0].service.peers.all()), "the same addresses change nothing");
        let last = before.iter().find(|peer| peer.address.at.is_some_and(|at| at.to_string() == addresses[1]));
        let gone = Arc::downgrade(last.unwrap());
        drop(before);
        take(&servers[0].service, found(&addresses[..1]));
        until("who is gone is held on to", || gone.strong_count() == 0).await;
        register(&servers[0], "unheard");
        register(&servers[1], "heard");
        until("the other one does not speak", || knows(&servers[0], "heard")).await;
        assert!(!knows(&servers[1], "unheard"), "who is gone is told");
        for server in servers {
            server.stop().await;
        }
    }
}
