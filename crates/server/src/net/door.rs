//! Who may come in at the ports between servers: how many connections of one address, and, where the operator wants it, only members.
//!
//! What always holds here: one address can't take all seats; nobody waits for a name of somebody else to be resolved; what is not known
//! to be a member's address is not let in where only members are.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rookeeper_zab::Memberships;

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
            let lookup = tokio::time::timeout(LOOKUP_LIMIT, tokio::net::lookup_host((host.as_str(), 0)));
            let found: Vec<IpAddr> = match lookup.await {
                Ok(Ok(found)) => found.map(|address| address.ip().to_canonical()).collect(),
                Ok(Err(_)) | Err(_) => Vec::new(),
            };
            found
        });
    }
    lookups.join_all().await.into_iter().flatten().collect()
}

/// Seats for connections: some in all, some for one address.
#[derive(Debug, Clone)]
pub(crate) struct Seats(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    most: usize,
    most_per_address: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// Given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Seats,
    address: IpAddr,
}

impl Seats {
    pub fn new(most: usize, most_per_address: usize) -> Seats {
        Seats(Arc::new(Counted { most, most_per_address, taken: Mutex::default() }))
    }

    pub fn take(&self, address: IpAddr) -> Option<Seat> {
        let mut taken = self.0.taken.lock();
        let of_this = taken.get(&address).copied().unwrap_or(0);
        if of_this >= self.0.most_per_address || taken.values().sum::<usize>() >= self.0.most {
            return None;
        }
        taken.insert(address, of_this + 1);
        Some(Seat { seats: self.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.taken.lock();
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
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

    #[test]
    fn one_address_does_not_take_all_seats() {
        let seats = Seats::new(128, 16);
        let of_one: Vec<Seat> = std::iter::from_fn(|| seats.take(address(1))).collect();
        assert_eq!(of_one.len(), 16);
        let others: Vec<Seat> = (2..=255).filter_map(|last| seats.take(address(last))).collect();
        assert_eq!(of_one.len() + others.len(), 128);
        drop(of_one);
        assert!(seats.take(address(1)).is_some());
        drop(others);
        assert!(seats.0.taken.lock().is_empty());
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
