//! Who may come in at the ports between servers: where the operator wants it, only members.
//!
//! What always holds here: nobody waits for a name of somebody else to be resolved; what is not known to be a member's address is not let in
//! where only members are.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rookeeper_zab::Memberships;

use crate::net::bind::resolve;

/// How long resolved names count without being looked up again.
const FRESH: Duration = Duration::from_secs(60);

/// Lookups are this far apart, however many strangers come.
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);

const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

/// Lets in those who are or may be members.
#[derive(Debug)]
pub(crate) struct Door {
    only_members: bool,
    hosts: Mutex<HashSet<String>>,
    resolved: tokio::sync::Mutex<Resolved>,
}

#[derive(Debug, Default)]
struct Resolved {
    addresses: HashSet<IpAddr>,
    hosts: HashSet<String>,
    at: Option<Instant>,
}

impl Door {
    pub fn new(only_members: bool, memberships: &Memberships) -> Door {
        let door = Door { only_members, hosts: Mutex::default(), resolved: tokio::sync::Mutex::default() };
        door.set_members(memberships);
        door
    }

    /// Those in force and those proposed.
    pub fn set_members(&self, memberships: &Memberships) {
        let members = memberships.committed.members.values().chain(memberships.last_seen.members.values());
        let hosts = members.flat_map(|member| &member.addresses).map(|address| address.host.clone());
        *self.hosts.lock() = hosts.collect();
    }

    /// The hosts of all members.
    pub fn hosts(&self) -> Vec<String> {
        self.hosts.lock().iter().cloned().collect()
    }

    /// Whether somebody at this address is let in. Names are looked up where that may change the answer.
    pub async fn admits(&self, peer: IpAddr) -> bool {
        if !self.only_members {
            return true;
        }
        let peer = peer.to_canonical();
        let hosts = self.hosts.lock().clone();
        let mut resolved = self.resolved.lock().await;
        let age = resolved.at.map(|at| at.elapsed());
        let is_known =
            resolved.addresses.contains(&peer) && resolved.hosts == hosts && age.is_some_and(|age| age < FRESH);
        if is_known {
            return true;
        }
        if resolved.hosts != hosts || age.is_none_or(|age| age >= LOOKUP_PAUSE) {
            resolved.addresses = look_up(&hosts).await;
            resolved.hosts = hosts;
            resolved.at = Some(Instant::now());
        }
        resolved.addresses.contains(&peer)
    }
}

/// All addresses of all names that can be resolved.
async fn look_up(hosts: &HashSet<String>) -> HashSet<IpAddr> {
    let mut lookups = tokio::task::JoinSet::new();
    for host in hosts {
        let host = host.clone();
        lookups.spawn(async move {
            let lookup = tokio::time::timeout(LOOKUP_LIMIT, resolve(&host, 0));
            let found: Vec<IpAddr> = match lookup.await {
                Ok(Ok(found)) => found.into_iter().map(|address| address.ip().to_canonical()).collect(),
                Ok(Err(_)) | Err(_) => Vec::new(),
            };
            found
        });
    }
    lookups.join_all().await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use rookeeper_zab::Membership;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    fn memberships(hosts: &[&str]) -> Memberships {
        let lines: Vec<String> =
            hosts.iter().enumerate().map(|(id, host)| format!("server.{}={host}:1:2", id + 1)).collect();
        Memberships::settled(Membership::parse_text(lines.join("\n"), false).unwrap())
    }

    #[tokio::test]
    async fn only_members_are_let_in_where_that_is_wanted() {
        let members = memberships(&["127.0.0.5", "localhost", "nowhere.invalid"]);
        let door = Door::new(true, &members);
        assert!(door.admits(address(5)).await);
        assert!(door.admits("::ffff:127.0.0.1".parse().unwrap()).await);
        assert!(!door.admits(address(9)).await);
        // The membership changes, and that counts at once.
        door.set_members(&memberships(&["127.0.0.9"]));
        assert!(door.admits(address(9)).await);
        assert!(!door.admits(address(5)).await);
        assert!(Door::new(false, &members).admits(address(9)).await);
    }
}
