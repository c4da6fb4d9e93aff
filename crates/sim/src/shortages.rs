//! Servers that have little room left, on their disks or in memory, and have room again.
//!
//! What always holds here: only what is measured changes; the disks of the simulation take everything all the same. What servers refuse meanwhile is
//! judged by [`crate::checkers::refusals`].

use rookeeper_proto::random::Random;
use rookeeper_replica::{Input, Measured, RoomSettings, Shortage};

use crate::faults::{Sabotage, Target};
use crate::world::{Event, MS, World};

/// What servers of a simulation are limited to.
pub(crate) const LIMITS: RoomSettings = RoomSettings { min_free_bytes: 1000, memory_bytes: 1 << 40 };

/// A time in which there is little room.
#[derive(Debug, Clone)]
pub struct PlannedShortage {
    pub at_us: i64,
    pub target: Target,
    pub lasts_us: i64,
    pub what: Shortage,
}

/// The shortages of the life of a seed. Drawn apart from everything else.
pub(crate) fn of_seed(seed: u64, safety_us: i64, tick_ms: i64) -> Vec<PlannedShortage> {
    let mut random = Random::new(seed ^ 0x726f_6f6d);
    if !random.one_in(4) {
        return Vec::new();
    }
    let count = random.between(1, 5);
    let shortages = (0..count).map(|_| {
        let disk = !random.one_in(3);
        PlannedShortage {
            at_us: random.between(safety_us / 10, safety_us),
            target: *random.pick(&[Target::Leader, Target::Leader, Target::Leader, Target::Follower, Target::All]),
            lasts_us: random.skewed(200 * MS, 12 * tick_ms * MS),
            what: Shortage { disk, memory: !disk || random.one_in(4) },
        }
    });
    shortages.collect()
}

/// What is measured where there is so little.
fn measured(shortage: Shortage) -> Measured {
    let RoomSettings { min_free_bytes, memory_bytes } = LIMITS;
    // What is logged until the next measurement counts, and there is none for long.
    let free_bytes = if shortage.disk { min_free_bytes - 1 } else { 1 << 40 };
    let resident_bytes = if shortage.memory { memory_bytes } else { memory_bytes / 2 };
    Measured { free_bytes: Some(free_bytes), resident_bytes: Some(resident_bytes) }
}

/// What there is too little of where this was measured, by the figures of [`measured`] alone and not by what a server makes of them.
fn shown(measured: &Measured) -> Shortage {
    let RoomSettings { min_free_bytes, memory_bytes } = LIMITS;
    Shortage {
        disk: measured.free_bytes.is_some_and(|bytes| bytes < min_free_bytes),
        memory: measured.resident_bytes.is_some_and(|bytes| bytes >= memory_bytes),
    }
}

impl World {
    /// A replica takes a measurement in. Planted bugs: it never hears of a shortage, or never of its end.
    pub(crate) fn note_measured(&mut self, server: usize, measured: &mut Measured) {
        if let Some(process) = &mut self.servers[server].process {
            process.short_now = shown(measured);
        }
        let is_short = shown(measured) != Shortage::default();
        match self.plan.sabotage {
            Some(Sabotage::IgnoresShortages) if is_short => *measured = self::measured(Shortage::default()),
            Some(Sabotage::StaysShort) if !is_short => {
                *measured = self::measured(Shortage { disk: true, memory: true })
            }
            _ => {}
        }
    }

    pub(crate) fn fall_short(&mut self, index: usize) {
        let PlannedShortage { target, lasts_us, what, .. } = self.plan.shortages[index].clone();
        if self.healed {
            return;
        }
        for server in self.servers_hit(target, index as u64) {
            self.note(46, server as u64, index as u64, || format!("FAULT server {} is short of {what:?}", server + 1));
            self.figures.note("servers short of room");
            self.servers[server].short_of = what;
            self.measure(server);
            self.schedule(self.now_us + lasts_us, Event::HasRoom { server });
        }
    }

    /// Another shortage of the same server ends with this one.
    pub(crate) fn have_room(&mut self, server: usize) {
        self.note(47, server as u64, 0, || format!("server {} has room again", server + 1));
        self.servers[server].short_of = Shortage::default();
        self.measure(server);
    }

    /// As the shipping server does twice in a second, but only where something changed.
    pub(crate) fn measure(&mut self, server: usize) {
        if self.servers[server].process.is_some() {
            let input = Input::Measured(measured(self.servers[server].short_of));
            self.feed(server, input);
        }
    }
}
