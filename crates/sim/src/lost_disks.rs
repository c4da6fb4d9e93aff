//! Disks that are lost: the process ends, and its host comes back with an empty disk and the same configuration.
//!
//! What always holds here: no more disks are lost than an ensemble bears.
//! - Where an empty database is not expected (`db.autocreate=false`), a voter that lost its disk is not counted until it has everything again.
//!   So at most as many voters are without their disks at a time as a quorum can do without.
//! - Where an empty database is expected, such a voter votes as if it had never had anything. An ensemble bears that only while all other
//!   servers have everything that was acknowledged, and have promised nothing since.

use std::collections::BTreeSet;

use rookeeper_proto::ServerId;
use rookeeper_replica::Serving;

use crate::faults::{Plan, Target};
use crate::world::{Event, MS, World};
use rookeeper_proto::random::Random;

/// A disk that is to be lost.
#[derive(Debug, Clone)]
pub struct DiskLoss {
    pub at_us: i64,
    pub target: Target,
    /// How long the server is down.
    pub lasts_us: i64,
}

/// Whether an empty database is expected, and the disks that are lost, of the life of a seed. Drawn apart from everything else.
pub(crate) fn of_seed(seed: u64, servers: usize, safety_us: i64, tick_ms: i64) -> (bool, Vec<DiskLoss>) {
    let mut random = Random::new(seed ^ 0x6469_736b);
    if servers < 3 || !random.one_in(4) {
        return (true, Vec::new());
    }
    let count = random.between(1, 6);
    let losses = (0..count).map(|_| DiskLoss {
        at_us: random.between(safety_us / 10, safety_us),
        target: *random.pick(&[
            Target::Leader,
            Target::Follower,
            Target::Server(0),
            Target::Server(1),
            Target::Server(2),
        ]),
        lasts_us: random.skewed(50 * MS, 8 * tick_ms * MS),
    });
    let losses = losses.collect();
    (random.one_in(3), losses)
}

impl Plan {
    /// The same life with many lost disks, none of which is expected to be empty.
    pub fn losing_disks(self) -> Plan {
        let mut random = Random::new(self.seed ^ 0x6c6f_7374);
        let disk_losses = (0..10).map(|_| DiskLoss {
            at_us: random.between(self.safety_us / 20, self.safety_us),
            target: *random.pick(&[Target::Leader, Target::Leader, Target::Follower]),
            lasts_us: random.skewed(20 * MS, 2 * self.tick_ms * MS),
        });
        let disk_losses = disk_losses.collect();
        Plan { reconfigures: false, empty_is_expected: false, disk_losses, ..self }
    }
}

impl World {
    pub(crate) fn lose_disk(&mut self, index: usize) {
        let DiskLoss { target, lasts_us, .. } = self.plan.disk_losses[index].clone();
        let draw = self.random.draw();
        let Some(server) = self.servers_hit(target, draw).first().copied() else { return };
        if self.healed || !self.bears_loss_of(server) {
            return;
        }
        self.note(45, server as u64, 0, || format!("FAULT server {} loses its disk", server + 1));
        self.figures.lost_disks += 1;
        self.stop(server, true);
        let this = &mut self.servers[server];
        let had = this.promises.durable.max(this.lost.unwrap_or_default());
        this.wipe(draw);
        this.lost = Some(had);
        let life = this.life;
        self.schedule(self.now_us + lasts_us, Event::Start { server, life });
    }

    fn bears_loss_of(&self, server: usize) -> bool {
        let alone = BTreeSet::from([self.servers[server].id]);
        if self.membership.as_ref().is_none_or(|membership| membership.quorum().is_reached_by(&alone)) {
            // A server of this weight decides alone, and transactions that no other server was asked to log are lost.
            return false;
        }
        let voters = self.plan.servers;
        let others: Vec<usize> = (0..voters).filter(|other| *other != server).collect();
        let lost = others.iter().filter(|other| self.servers[**other].lost.is_some()).count();
        if !self.plan.empty_is_expected {
            let whole = others.iter().filter(|other| self.servers[**other].lost.is_none());
            let whole: BTreeSet<ServerId> = whole.map(|other| self.servers[*other].id).collect();
            return self.membership.as_ref().is_some_and(|membership| membership.quorum().is_reached_by(&whole));
        }
        let accepted = self.servers[others[0]].promises.accepted;
        lost == 0
            && others.iter().all(|other| {
                let other = &self.servers[*other];
                other.promises.accepted == accepted
                    && other.promises.durable >= self.chronicle.last()
                    && other.process.as_ref().is_some_and(|process| {
                        matches!(process.serving, Serving::Deciding | Serving::Forwarding)
                            && process.applied == self.chronicle.last()
                            && process.replica.in_flight() == 0
                    })
            })
    }

    /// A server that lost its disk has everything again.
    pub(crate) fn note_recovery(&mut self, server: usize) {
        let last = self.chronicle.last();
        let this = &mut self.servers[server];
        if this.lost.is_some() && this.serves() && this.promises.durable >= last {
            this.lost = None;
        }
    }
}
