//! The links on which servers elect a leader.
//!
//! What always holds here: of the votes that wait for a link only the newest is sent, and never on a later link.

use rookeeper_proto::election::Notification;
use rookeeper_replica::Input;

use super::{CONNECT_TIMEOUT_US, ElectionLink, pair};
use crate::world::{Event, World};

impl World {
    pub(crate) fn notify(&mut self, from: usize, to: usize, notification: Notification) {
        let life = self.servers[from].life;
        let side = usize::from(from > to);
        if let Some(link) = self.network.elections.get(&pair(from, to))
            && link.lives[side] == life
        {
            let generation = link.generation;
            let delay_us = self.network_delay_us();
            let now_us = self.now_us;
            if let Some(link) = self.network.elections.get_mut(&pair(from, to)) {
                let at_us = (now_us + delay_us).max(link.arrive_us[1 - side]);
                link.arrive_us[1 - side] = at_us;
                self.schedule(at_us, Event::Vote { from, to, generation, notification: Box::new(notification) });
            }
            return;
        }
        self.network.waiting.insert((from, to), notification);
        if self.network.dialing.insert((from, to)) {
            let at_us = self.now_us + self.network_delay_us();
            self.schedule(at_us, Event::ElectionDialed { from, life, to });
        }
    }

    pub(crate) fn election_dialed(&mut self, from: usize, life: u32, to: usize) {
        if self.servers[from].life != life {
            return;
        }
        let silent = !self.servers[to].powered
            || self.servers[to].frozen
            || self.network.is_blocked(from, to)
            || self.network.is_blocked(to, from);
        if silent {
            let at_us = self.now_us + CONNECT_TIMEOUT_US;
            self.schedule(at_us, Event::ElectionRefused { from, life, to });
        } else if self.servers[to].process.is_none() {
            self.election_refused(from, life, to);
        } else {
            self.network.dialing.remove(&(from, to));
            self.network.next += 1;
            let generation = self.network.next;
            let (low, high) = pair(from, to);
            let lives = [self.servers[low].life, self.servers[high].life];
            let now_us = self.now_us;
            let link = ElectionLink { generation, lives, arrive_us: [now_us; 2], held: Default::default() };
            self.network.elections.insert((low, high), link);
            self.feed(from, Input::ElectionLinkUp { server: self.servers[to].id });
            self.feed(to, Input::ElectionLinkUp { server: self.servers[from].id });
            if let Some(notification) = self.network.waiting.remove(&(from, to)) {
                self.notify(from, to, notification);
            }
        }
    }

    pub(crate) fn election_refused(&mut self, from: usize, life: u32, to: usize) {
        if self.servers[from].life != life {
            return;
        }
        self.network.dialing.remove(&(from, to));
        self.network.waiting.remove(&(from, to));
        self.feed(from, Input::ElectionLinkDown { server: self.servers[to].id });
    }

    pub(crate) fn vote_arrives(&mut self, from: usize, to: usize, generation: u64, notification: Notification) {
        let blocked = self.network.is_blocked(from, to) || self.servers[to].frozen;
        let receiver_life = self.servers[to].life;
        let side = usize::from(to > from);
        let Some(link) = self.network.elections.get_mut(&pair(from, to)) else { return };
        if link.generation != generation {
            return;
        }
        if blocked || !link.held[side].is_empty() {
            link.held[side].push_back(notification);
            return;
        }
        if self.servers[to].process.is_none() || link.lives[side] != receiver_life {
            if self.servers[to].powered {
                let life = self.servers[from].life;
                let at_us = self.now_us + self.network_delay_us();
                self.schedule(at_us, Event::ElectionReset { server: from, life, peer: to, generation });
            }
            return;
        }
        if notification.leader == Some(self.servers[to].id)
            && let Some(zxid) = notification.zxid
        {
            self.servers[to].promises.hears_vote(notification.election_epoch, zxid);
        }
        self.feed(to, Input::Notified { from: self.servers[from].id, notification });
    }

    /// One side of a link hears that the other side is gone.
    pub(crate) fn election_reset(&mut self, server: usize, life: u32, peer: usize, generation: u64) {
        let current = self.network.elections.get(&pair(server, peer)).is_some_and(|link| link.generation == generation);
        if !current || self.network.is_blocked(peer, server) {
            return;
        }
        self.network.elections.remove(&pair(server, peer));
        if self.servers[server].life == life {
            self.feed(server, Input::ElectionLinkDown { server: self.servers[peer].id });
        }
    }

    pub(super) fn reset_elections(&mut self, server: usize) {
        let pairs: Vec<(usize, usize)> = self.network.elections.keys().copied().collect();
        for (low, high) in pairs.into_iter().filter(|(low, high)| *low == server || *high == server) {
            let Some(link) = self.network.elections.get(&(low, high)) else { continue };
            let generation = link.generation;
            for (side, peer) in [(low, high), (high, low)] {
                let life = self.servers[side].life;
                let at_us = self.now_us + self.network_delay_us();
                self.schedule(at_us, Event::ElectionReset { server: side, life, peer, generation });
            }
        }
    }
}
