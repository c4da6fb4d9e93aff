//! The oracle of two members: who watches from outside and lets one of them go on alone.
//!
//! What always holds here: the oracle says yes to one server at most. It goes over to the other one only while the first is down, and only
//! where the other one has all that the first has on its disk and has followed into the first one's epoch. So nothing that was acknowledged
//! is lost; operators of such an ensemble must see to the same.

use std::collections::BTreeSet;

use rookeeper_proto::ServerId;
use rookeeper_proto::random::Random;
use rookeeper_replica::Input;
use rookeeper_store::epoch_files::CURRENT;

use crate::faults::{Plan, Sabotage};
use crate::server::observe::durable_epoch;
use crate::world::{Event, MS, World};

/// How often the oracle looks, and servers look what it says.
const EVERY_US: i64 = 100 * MS;

/// Whether the life of a seed is that of two voters and an oracle. Drawn apart from everything else.
pub(crate) fn of_seed(seed: u64) -> bool {
    Random::new(seed ^ 0x6f72_6163).one_in(16)
}

impl Plan {
    /// The life of two voters and an oracle.
    pub fn with_oracle(seed: u64) -> Plan {
        let plan = Plan::of_seed(seed, Some(2));
        Plan { reconfigures: false, groups: String::new(), has_oracle: true, ..plan }
    }
}

impl World {
    /// The oracle looks at both servers.
    pub(crate) fn consult_oracle(&mut self) {
        self.schedule(self.now_us + EVERY_US, Event::Oracle);
        let before = self.oracle_for;
        let next = match before {
            Some(server) if self.has_succeeded(1 - server) => Some(1 - server),
            Some(server) => Some(server),
            None => (0..2).find(|server| self.is_ahead(*server)),
        };
        if next != before {
            self.oracle_for = next;
            self.figures.note("words of an oracle");
            self.note(48, next.map_or(9, |server| server as u64), 0, || {
                format!("the oracle says yes to {:?}", next.map(|server| server + 1))
            });
            (0..2).for_each(|server| self.tell_oracle(server));
        }
    }

    /// Whether the other server is down, and this one lacks nothing that the other one may have decided.
    fn has_succeeded(&self, server: usize) -> bool {
        let other = &self.servers[1 - server];
        other.process.is_none() && self.is_ahead(server)
    }

    fn is_ahead(&self, server: usize) -> bool {
        let (this, other) = (&self.servers[server], &self.servers[1 - server]);
        let logged = other.log.last_key_value().map(|(zxid, _)| *zxid).unwrap_or_default();
        let all = other.promises.durable.max(logged).max(self.chronicle.last());
        // Of a server that is down the disk may have more than it could say.
        let stored = durable_epoch(&other.disk, &other.directories, CURRENT);
        let epoch = stored.unwrap_or_default().max(other.promises.current);
        this.process.is_some() && this.promises.durable >= all && this.promises.current >= epoch
    }

    /// What a server finds when it looks.
    pub(crate) fn tell_oracle(&mut self, server: usize) {
        if self.plan.has_oracle && server < 2 && self.servers[server].process.is_some() {
            // A planted bug: both are told to go on.
            let wrong = self.plan.sabotage == Some(Sabotage::OracleGrantsBoth);
            let grants = wrong || self.oracle_for == Some(server);
            self.feed(server, Input::Oracle { grants });
        }
    }

    /// Whether these servers decide without a quorum.
    pub(crate) fn may_go_on(&self, holders: &BTreeSet<ServerId>) -> bool {
        let granted = self.oracle_for.filter(|_| self.plan.has_oracle);
        granted.is_some_and(|server| holders.contains(&self.servers[server].id))
    }
}
