//! The names by which the resolver calls the machines of members (`kerberos.canonicalizeHostNames`): their principals are made out for those,
//! whatever the server lines call them.
//!
//! What always holds here: a name counts only where it leads back to the address that it was found for; a machine without such a name goes by
//! the one that its server line has; nobody is waited for longer than a limit.
//!
//! Counterpart in the original: `QuorumServer.initializeWithAddressString`, which looks names up once, while the configuration is read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::info;

use crate::auth::between_servers::Members;
use crate::logging::limited;
use crate::net::bind::resolve;

/// How long names that were found count without being looked up again.
const FRESH: Duration = Duration::from_secs(60);

/// Lookups of all members are this far apart, however many strangers come.
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);

/// For one name.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

/// Most addresses of one host whose names are asked for.
const MAX_ADDRESSES_PER_HOST: usize = 8;

/// The canonical names of members.
#[derive(Debug, Default)]
pub(crate) struct CanonicalNames {
    found: Mutex<Found>,
    /// What the log was told of each host.
    told: parking_lot::Mutex<BTreeMap<String, String>>,
}

#[derive(Debug, Default)]
struct Found {
    names: BTreeSet<String>,
    at: Option<Instant>,
}

impl CanonicalNames {
    /// What the machine is called that a host of a server line has led to.
    pub async fn of(&self, host: &str, address: SocketAddr) -> String {
        let Some(name) = name_of(address.ip()).await else {
            limited!(
                warn,
                "members without a canonical name",
                "the resolver has no name for {}, the address of {host}, that leads back to it (kerberos.canonicalizeHostNames): a ticket for \
                 {host} is asked for",
                address.ip()
            );
            return host.to_owned();
        };
        if !name.eq_ignore_ascii_case(host)
            && self.told.lock().insert(host.to_owned(), name.clone()).as_ref() != Some(&name)
        {
            info!(
                "the server line's host {host} is the machine {name} (kerberos.canonicalizeHostNames): a ticket for {name} is asked for"
            );
        }
        name
    }

    /// Members with what the resolver calls their machines besides what the server lines say, where that may make a difference for `principal`.
    pub async fn widened(&self, members: &Members, principal: &str) -> Members {
        let with = |names: &BTreeSet<String>| Members { hosts: &members.hosts | names, mine: members.mine.clone() };
        let mut found = self.found.lock().await;
        let age = found.at.map(|at| at.elapsed());
        let is_known = age.is_some_and(|age| age < FRESH) && with(&found.names).has_host_of(principal);
        if !is_known && age.is_none_or(|age| age >= LOOKUP_PAUSE) {
            found.names = look_up(&members.hosts).await;
            found.at = Some(Instant::now());
        }
        with(&found.names)
    }
}

/// All names of all hosts that can be resolved. All are asked for at once, so that many that do not answer take no longer than one.
async fn look_up(hosts: &BTreeSet<String>) -> BTreeSet<String> {
    let mut lookups = JoinSet::new();
    for host in hosts.clone() {
        lookups.spawn(async move {
            let resolved = timeout(LOOKUP_LIMIT, resolve(&host, 0)).await;
            let Ok(Ok(addresses)) = resolved else { return Vec::new() };
            let addresses = addresses.into_iter().take(MAX_ADDRESSES_PER_HOST);
            addresses.map(|address| name_of(address.ip())).collect::<JoinSet<_>>().join_all().await
        });
    }
    lookups.join_all().await.into_iter().flatten().flatten().collect()
}

/// The name of the machine at this address, if the name leads there too.
async fn name_of(address: IpAddr) -> Option<String> {
    let address = address.to_canonical();
    let looking = tokio::task::spawn_blocking(move || dns_lookup::lookup_addr(&address));
    let name = timeout(LOOKUP_LIMIT, looking).await.ok()?.ok()?.ok()?;
    let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
    let addresses = timeout(LOOKUP_LIMIT, resolve(&name, 0)).await.ok()?.ok()?;
    addresses.iter().any(|there| there.ip().to_canonical() == address).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every machine has in its file of hosts.
    const LOCAL: &str = "127.0.0.1:2888";

    /// An address that is kept for documents.
    const NOBODYS: &str = "192.0.2.7:2888";

    #[tokio::test]
    async fn a_machine_goes_by_its_name_and_where_it_has_none_by_the_one_of_its_server_line() {
        let names = CanonicalNames::default();
        let local = name_of("127.0.0.1".parse().unwrap()).await.expect("the file of hosts has it");
        assert_eq!(names.of("127.0.0.1", LOCAL.parse().unwrap()).await, local);
        assert_eq!(names.of("alias-of-it", LOCAL.parse().unwrap()).await, local);
        assert_eq!(names.of("zoo1", NOBODYS.parse().unwrap()).await, "zoo1");
    }

    #[tokio::test]
    async fn members_come_in_by_the_names_of_their_machines() {
        let names = CanonicalNames::default();
        let local = name_of("127.0.0.1".parse().unwrap()).await.expect("the file of hosts has it");
        let members = Members { hosts: BTreeSet::from(["127.0.0.1".to_owned()]), mine: None };
        let principal = format!("zkquorum/{local}@R");
        assert!(!members.has_host_of(&principal));
        assert!(names.widened(&members, &principal).await.has_host_of(&principal));
        assert!(names.widened(&members, "zkquorum/127.0.0.1@R").await.has_host_of("zkquorum/127.0.0.1@R"));
        assert!(!names.widened(&members, "zkquorum/elsewhere@R").await.has_host_of("zkquorum/elsewhere@R"));
    }
}
