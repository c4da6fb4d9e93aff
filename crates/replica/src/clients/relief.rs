//! Who is cut when clients make this server hold more than they may together.
//!
//! What always holds here: the address with the most is asked first, and of its connections the largest, so that many small users do
//! not pay for a large one, nor one address for another; no more are cut than it takes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::clients::connection::Connection;
use crate::clients::outbox::Excess;
use crate::clients::shared::Shared;

/// After a relief this much of the limit is taken at most, in percent: clients that come right after find room.
const AFTER_RELIEF_PERCENT: usize = 80;

/// Connections weighed under one lock of the watch tables.
const AT_ONCE: usize = 1000;

/// What was done.
#[derive(Debug)]
pub struct Relief {
    /// Held by all before.
    pub held_bytes: usize,
    /// Who was cut, with what each held. Their tasks are still to be woken.
    pub cut: Vec<(Arc<Connection>, usize)>,
}

/// The connections of one address.
#[derive(Default)]
struct Address {
    bytes: usize,
    users: Vec<(usize, Arc<Connection>)>,
}

impl Shared {
    /// Cuts the largest users where clients make this server hold too much. `None` where they do not, or where those who were cut
    /// before have not let go of everything yet.
    pub fn relieve(&self) -> Option<Relief> {
        let budget = &self.budget;
        if !budget.is_exceeded() {
            return None;
        }
        let held_bytes = budget.held_bytes();
        let limit = budget.limit_bytes();
        let mut leaving = 0;
        let mut addresses: HashMap<IpAddr, Address> = HashMap::new();
        for (connection, bytes) in self.holdings() {
            if !connection.outbox.is_open() {
                leaving += bytes;
                continue;
            }
            let address = addresses.entry(connection.peer.ip()).or_default();
            address.bytes += bytes;
            address.users.push((bytes, connection));
        }
        for address in addresses.values_mut() {
            address.users.sort_unstable_by_key(|(bytes, connection)| (*bytes, connection.id));
        }
        let target = limit / 100 * AFTER_RELIEF_PERCENT;
        let mut excess = held_bytes.saturating_sub(leaving).saturating_sub(target);
        if held_bytes.saturating_sub(leaving) <= limit {
            return None;
        }
        let mut cut = Vec::new();
        while excess > 0 {
            // In a fixed order where addresses have the same.
            let Some(address) = addresses.iter_mut().max_by_key(|(ip, address)| (address.bytes, **ip)) else { break };
            let Some((held, connection)) = address.1.users.pop().filter(|(held, _)| *held > 0) else { break };
            address.1.bytes -= held;
            excess = excess.saturating_sub(held);
            connection.outbox.close_for(Excess::Share { held, limit });
            cut.push((connection, held));
        }
        Some(Relief { held_bytes, cut })
    }

    /// What each connection makes this server hold.
    fn holdings(&self) -> Vec<(Arc<Connection>, usize)> {
        let connections = self.connections();
        let mut holdings = Vec::with_capacity(connections.len());
        for portion in connections.chunks(AT_ONCE) {
            let watches = self.watches();
            holdings.extend(portion.iter().map(|connection| {
                (connection.clone(), connection.account().held_bytes() + watches.bytes_of(connection.id))
            }));
        }
        holdings
    }
}
