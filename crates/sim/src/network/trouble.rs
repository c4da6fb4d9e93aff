//! The work of faults on links: bytes that were held back go on, connections break, processes are gone.

use rookeeper_zab::LinkEnd;

use super::{Payload, Side};
use crate::world::{Event, World};

impl World {
    /// Bytes that a partition or a frozen receiver held back go on their way.
    pub(crate) fn flush_held(&mut self) {
        let numbers: Vec<u64> = self.network.links.keys().copied().collect();
        for number in numbers {
            for towards in [Side::Learner, Side::Leader] {
                let Some(link) = self.network.links.get_mut(&number) else { continue };
                let (from, to) = (link.ends[towards.other() as usize].server, link.ends[towards as usize].server);
                if self.servers[to].frozen || self.network.blocked.get(&(from, to)).is_some_and(|count| *count > 0) {
                    continue;
                }
                if !link.held[towards as usize].is_empty() {
                    let at_us = self.now_us + self.network_delay_us();
                    self.schedule(at_us, Event::Release { number, towards });
                }
            }
        }
        let pairs: Vec<(usize, usize)> = self.network.elections.keys().copied().collect();
        for (low, high) in pairs {
            for (from, to) in [(low, high), (high, low)] {
                let side = usize::from(to > from);
                if self.network.is_blocked(from, to) || self.servers[to].frozen {
                    continue;
                }
                let Some(link) = self.network.elections.get_mut(&(low, high)) else { continue };
                let (generation, held) = (link.generation, std::mem::take(&mut link.held[side]));
                for notification in held {
                    let delay_us = self.network_delay_us();
                    let now_us = self.now_us;
                    let Some(link) = self.network.elections.get_mut(&(low, high)) else { continue };
                    let at_us = (now_us + delay_us).max(link.arrive_us[side]);
                    link.arrive_us[side] = at_us;
                    self.schedule(at_us, Event::Vote { from, to, generation, notification: Box::new(notification) });
                }
            }
        }
    }

    /// Bytes of a server that a partition has held back will not arrive any more, because they never left the server.
    pub(crate) fn lose_held(&mut self, server: usize) {
        for link in self.network.links.values_mut() {
            for towards in [Side::Learner, Side::Leader] {
                if link.ends[towards.other() as usize].server == server && !link.held[towards as usize].is_empty() {
                    link.held[towards as usize].clear();
                    link.has_gap[towards as usize] = true;
                }
            }
        }
    }

    /// All connections of a server break; both sides notice.
    pub(crate) fn cut_links(&mut self, server: usize) {
        let numbers: Vec<u64> = self.network.links.keys().copied().collect();
        for number in numbers {
            let Some(link) = self.network.links.get(&number) else { continue };
            if link.ends.iter().all(|end| end.server != server) {
                continue;
            }
            for side in [Side::Learner, Side::Leader] {
                self.transmit(number, side, Payload::Close(LinkEnd::Io("connection reset".to_owned())));
            }
        }
        self.reset_elections(server);
    }

    /// The process is gone. Its peers hear of it unless the whole host is.
    pub(crate) fn process_gone(&mut self, server: usize, told: bool) {
        let numbers: Vec<u64> = self.network.links.keys().copied().collect();
        for number in numbers {
            for side in [Side::Learner, Side::Leader] {
                let Some(link) = self.network.links.get_mut(&number) else { continue };
                if link.ends[side as usize].server != server || !link.alive[side as usize] {
                    continue;
                }
                if told {
                    self.close(number, side, LinkEnd::Io("connection reset".to_owned()));
                } else {
                    link.alive[side as usize] = false;
                    link.stream = None;
                    link.outgoing.clear();
                    let end = link.ends[side as usize];
                    self.network.by_end.remove(&end);
                }
            }
        }
        self.network.links.retain(|_, link| link.alive[0] || link.alive[1]);
        self.network.waiting.retain(|(from, _), _| *from != server);
        // This includes attempts whose outcome was on its way to a frozen process, which never hears of it.
        self.network.dialing.retain(|(from, _)| *from != server);
        if told {
            self.reset_elections(server);
        }
    }
}
