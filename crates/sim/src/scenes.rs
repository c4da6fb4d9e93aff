//! Scenes: chains of events that chance brings about too seldom, because several conditions must hold at once. A scene waits for the moment
//! and sees to the rest.
//!
//! What always holds here:
//! - no scene does what faults and clients could not do by themselves: connections are cut, processes stopped, disks made slow, requests sent;
//! - one scene is on at a time, and leaves nothing behind when it is over.

use std::collections::BTreeSet;

use rookeeper_proto::jute::{self, ByteBuf};
use rookeeper_proto::request::SetDataRequest;
use rookeeper_proto::{OpCode, Zxid};
use rookeeper_replica::Serving;

use crate::clients::{Asked, Pause};
use crate::faults::Plan;
use crate::world::{Event, MS, World};
use rookeeper_proto::random::Random;

/// A scene that is planned.
#[derive(Debug, Clone)]
pub struct Scene {
    pub at_us: i64,
    pub play: Play,
    /// For whatever else is to be chosen.
    pub draw: u64,
}

/// The scenes, each a chain of events that chance seldom brings about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Play {
    /// A leader that nobody hears logs transactions that no other server has, and then ends or stands still. The others elect a second leader. The
    /// first leader comes back while the second brings the others to its history, or before the second has decided anything.
    Stray,
    /// A leader stands still in the middle of a round of pings, until another leader has decided something. When the first leader goes on, a
    /// client asks for a sync before the answers to those pings are read.
    Standstill,
    /// A follower has acknowledged a transaction that is not committed, because all other disks hang. The follower loses its leader and comes
    /// back to the same leader. It must give the transaction up to get it anew, and in between the leader's disk goes on.
    Relapse,
}

/// All scenes.
pub const PLAYS: [Play; 3] = [Play::Stray, Play::Standstill, Play::Relapse];

/// Events that a scene may wait for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cue {
    /// A follower acknowledges a transaction.
    Acknowledges { server: usize, zxid: Zxid },
    /// A server's log is on disk further than before.
    Synced { server: usize },
    /// A leader begins to bring a learner to its history.
    Brings { leader: usize },
    /// A server begins to lead.
    Leads { server: usize },
    /// A server has cut its log.
    Cuts { server: usize },
    /// A request of a client has arrived at its server.
    Arrives { line: u64 },
    /// Some time has passed.
    Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Of the stray: it is to be cut off when a follower acknowledges something,
    Acknowledgement,
    /// is not heard, and to go when it has more than this on its disk,
    Unheard {
        has: Zxid,
    },
    /// ends, or stands still,
    Leaves,
    /// and is away.
    Away,
    /// Of the standstill: a sync is on its way on this line,
    SyncOnItsWay {
        line: u64,
    },
    /// the leader stands still,
    Still {
        line: u64,
    },
    /// and goes on.
    GoesOn,
    /// Of the relapse: this follower is to acknowledge something,
    AllHang {
        follower: usize,
    },
    /// loses its leader,
    Loses {
        follower: usize,
    },
    /// and comes back.
    ComesBack {
        follower: usize,
    },
    Over,
}

/// The scene that is on.
#[derive(Debug)]
pub(crate) struct Stage {
    act: Act,
    draw: u64,
    leader: usize,
    /// The process that leads.
    life: u32,
    until_us: i64,
    slow: BTreeSet<usize>,
    hung: BTreeSet<usize>,
}

/// The scenes of the life of a seed. Drawn apart from everything else.
pub(crate) fn of_seed(seed: u64, servers: usize, safety_us: i64) -> Vec<Scene> {
    let mut random = Random::new(seed ^ 0x7363_656e_6573);
    if servers < 3 || !random.one_in(2) {
        return Vec::new();
    }
    let count = random.between(1, 3);
    let mut scene = |_| Scene {
        at_us: random.between(safety_us / 10, safety_us * 4 / 5),
        play: *random.pick(&[Play::Stray, Play::Stray, Play::Standstill, Play::Relapse]),
        draw: random.draw(),
    };
    (0..count).map(&mut scene).collect()
}

impl Plan {
    /// The same life with many scenes of this kind.
    pub fn playing(self, play: Play) -> Plan {
        let mut random = Random::new(self.seed ^ 0x706c_6179);
        let scenes = (0..5).map(|_| Scene {
            at_us: random.between(self.safety_us / 20, self.safety_us * 9 / 10),
            play,
            draw: random.draw(),
        });
        Plan { scenes: scenes.collect(), ..self }
    }
}

impl World {
    /// A scene may begin, or waits until it can.
    pub(crate) fn begin_scene(&mut self, index: usize) {
        let Scene { play, draw, .. } = self.plan.scenes[index];
        if self.healed {
            return;
        }
        let tick_us = self.plan.tick_ms * MS;
        if !self.try_to_begin(play, draw) {
            self.schedule(self.now_us + tick_us / 2, Event::Scene { index });
        }
    }

    fn try_to_begin(&mut self, play: Play, draw: u64) -> bool {
        let Some(leader) = self.leader().filter(|leader| self.stage.is_none() && !self.servers[*leader].frozen) else {
            return false;
        };
        let followers: Vec<usize> = (0..self.servers.len()).filter(|server| self.follows(*server)).collect();
        if followers.len() < 2 {
            return false;
        }
        let tick_us = self.plan.tick_ms * MS;
        let (act, ticks) = match play {
            Play::Stray => (Act::Acknowledgement, 12),
            Play::Standstill => {
                let Some(asker) = self.asker(leader, draw) else { return false };
                // Writes of these clients would have to be committed before any sync is answered.
                for client in self.clients_of(leader) {
                    self.clients[client].pause = Some((Pause::Silent, self.now_us + 16 * tick_us));
                }
                let Some(line) = self.clients[asker].line() else { return false };
                let xid = self.next_xid(asker);
                self.ask(asker, xid, OpCode::Sync, &jute::to_vec(&"/"), Some(Asked::Sync));
                (Act::SyncOnItsWay { line }, 16)
            }
            Play::Relapse => (Act::AllHang { follower: followers[draw as usize % followers.len()] }, 5),
        };
        let until_us = self.now_us + ticks * tick_us;
        let mut stage = Stage {
            act,
            draw,
            leader,
            life: self.servers[leader].life,
            until_us,
            slow: BTreeSet::new(),
            hung: BTreeSet::new(),
        };
        self.note(50, leader as u64, draw, || format!("SCENE {play:?}, server {} leads", leader + 1));
        if let Act::AllHang { follower } = act {
            stage.hung = (0..self.servers.len()).filter(|server| *server != follower).collect();
            for server in stage.hung.clone() {
                self.servers[server].disk_hangs_until_us = until_us;
            }
            self.some_write();
        }
        self.stage = Some(stage);
        self.schedule(until_us, Event::SceneStep);
        true
    }

    fn follows(&self, server: usize) -> bool {
        let is_there = |serving| serving == Serving::Forwarding;
        server < self.plan.servers
            && !self.servers[server].frozen
            && self.servers[server].process.as_ref().is_some_and(|process| is_there(process.serving))
    }

    fn clients_of(&self, server: usize) -> Vec<usize> {
        let is_here = |client: &usize| {
            let line = self.clients[*client].line().and_then(|line| self.lines.get(&line));
            self.clients[*client].is_welcome() && line.is_some_and(|line| line.server == server)
        };
        (0..self.clients.len()).filter(is_here).collect()
    }

    /// A client of this server that can ask for a sync, where there is a further client that waits for nothing. That client comes here if it is
    /// with another server.
    fn asker(&mut self, leader: usize, draw: u64) -> Option<usize> {
        let is_free = |world: &World, client: &usize| {
            let this = &world.clients[*client];
            this.is_welcome() && this.pause.is_none() && !this.is_read_only() && !this.is_waiting_for_more_than(0)
        };
        let here = self.clients_of(leader);
        let free: Vec<usize> = here.iter().copied().filter(|client| is_free(self, client)).collect();
        if free.len() > 1 {
            return free.first().copied();
        }
        let elsewhere: Vec<usize> =
            (0..self.clients.len()).filter(|client| !here.contains(client) && is_free(self, client)).collect();
        if here.len() < 2 && !elsewhere.is_empty() {
            let client = elsewhere[draw as usize % elsewhere.len()];
            self.leave(client);
            self.connect_to(client, leader);
        }
        None
    }

    /// Clients write something, so that there is something to lose.
    fn some_write(&mut self) {
        let ready = |client: &usize| {
            let this = &self.clients[*client];
            this.is_welcome() && !this.is_read_only() && !this.is_waiting_for_more_than(3)
        };
        let ready: Vec<usize> = (0..self.clients.len()).filter(ready).collect();
        for client in ready.into_iter().take(3) {
            let xid = self.next_xid(client);
            let (floor, data) = (self.floor.now(), ByteBuf(format!("{client}.{xid}").into_bytes()));
            let set = SetDataRequest { path: Some("/a".to_owned()), data: Some(data), version: -1 };
            self.ask(client, xid, OpCode::SetData, &jute::to_vec(&set), Some(Asked::Write { floor }));
        }
    }

    /// Something has happened that the scene may wait for.
    pub(crate) fn cue(&mut self, cue: Cue) {
        let Some(stage) = &self.stage else { return };
        let (act, leader, life, draw, until_us) = (stage.act, stage.leader, stage.life, stage.draw, stage.until_us);
        let tick_us = self.plan.tick_ms * MS;
        if self.healed || self.now_us >= until_us {
            return self.end_scene();
        }
        let is_there = self.servers[leader].life == life && self.servers[leader].process.is_some();
        match (act, cue) {
            (Act::Acknowledgement, Cue::Acknowledges { server, zxid }) if is_there && server != leader => {
                if self.servers[leader].promises.accepted != zxid.epoch() {
                    return;
                }
                self.block_voice(leader, true);
                let has = self.servers[leader].log.last_key_value().map_or(zxid, |(last, _)| *last);
                self.go_on(Act::Unheard { has }, 2 * tick_us);
                self.some_write();
            }
            (Act::Unheard { has }, Cue::Synced { server })
                if server == leader && self.servers[leader].promises.durable > has =>
            {
                self.go_on(Act::Leaves, (draw % 5000) as i64);
            }
            // Nobody has written anything.
            (Act::Unheard { .. }, Cue::Step) => self.end_scene(),
            (Act::Leaves, Cue::Step) if is_there => {
                self.lose_held(leader);
                match draw >> 1 & 3 {
                    0 => self.stop(leader, true),
                    1 => self.stop(leader, false),
                    _ => {
                        if !self.servers[leader].frozen {
                            self.freeze(leader);
                        }
                        self.cut_links(leader);
                    }
                }
                self.block_voice(leader, false);
                self.figures.note("leaders that leave with what nobody else has");
                self.go_on(Act::Away, 12 * tick_us);
                if draw & 1 == 0 {
                    // The new leader is met while it brings the others to its history, and that takes a while.
                    self.slow_down((0..self.servers.len()).filter(|server| *server != leader).collect());
                }
            }
            (Act::Away, Cue::Brings { leader: other }) if other != leader && draw & 1 == 0 => self.comes_back(leader),
            (Act::Away, Cue::Leads { server }) if server != leader && draw & 1 == 1 => {
                // Nothing is asked for until the stray is back.
                for client in 0..self.clients.len() {
                    self.clients[client].pause.get_or_insert((Pause::Silent, self.now_us + 2 * tick_us));
                }
                self.comes_back(leader);
            }
            (Act::SyncOnItsWay { line }, Cue::Arrives { line: arrived }) if line == arrived && is_there => {
                self.go_on(Act::Still { line }, 0);
            }
            (Act::Still { .. }, Cue::Step) if is_there => self.watch_standstill(leader),
            (Act::GoesOn, Cue::Step) => {
                self.thaw(leader);
                self.end_scene();
            }
            (Act::AllHang { follower }, Cue::Acknowledges { server, zxid })
                if server == follower && zxid > self.servers[leader].promises.durable =>
            {
                self.go_on(Act::Loses { follower }, 5 * MS);
            }
            (Act::Loses { follower }, Cue::Step) => {
                self.figures.note("followers that lose a leader whose disk hangs");
                self.cut_links(follower);
                self.slow_down(BTreeSet::from([follower]));
                self.go_on(Act::ComesBack { follower }, 4 * tick_us);
            }
            (Act::ComesBack { follower }, Cue::Cuts { server }) if server == follower => {
                self.servers[leader].disk_hangs_until_us = self.now_us;
                self.go_on(Act::Over, tick_us / 2);
            }
            (Act::Over, Cue::Step) => self.end_scene(),
            _ => {}
        }
    }

    /// Keeps the leader frozen until a client knows of a decision of another leader.
    fn watch_standstill(&mut self, leader: usize) {
        let tick_us = self.plan.tick_ms * MS;
        if !self.servers[leader].frozen {
            self.figures.note("leaders that stand still in a round of pings");
            self.freeze(leader);
        } else if self.floor.now().epoch() > self.servers[leader].promises.accepted {
            for client in self.clients_of(leader) {
                self.clients[client].pause = None;
                let xid = self.next_xid(client);
                self.ask_behind_a_sync(client, xid, "/a".to_owned());
            }
            self.figures.note("syncs asked for where a leader stood still");
            return self.go_on(Act::GoesOn, tick_us / 2);
        }
        self.schedule(self.now_us + tick_us / 4, Event::SceneStep);
    }

    fn go_on(&mut self, act: Act, in_us: i64) {
        if let Some(stage) = &mut self.stage {
            stage.act = act;
            self.note(51, in_us as u64, 0, || format!("SCENE {act:?}"));
            self.schedule(self.now_us + in_us, Event::SceneStep);
        }
    }

    fn comes_back(&mut self, server: usize) {
        self.figures.note("leaders that come back with what nobody else has");
        let life = self.servers[server].life;
        self.schedule(self.now_us + 100, Event::Start { server, life });
        self.thaw(server);
        self.go_on(Act::Over, 2 * self.plan.tick_ms * MS);
    }

    fn block_voice(&mut self, server: usize, blocked: bool) {
        for other in (0..self.servers.len()).filter(|other| *other != server).collect::<Vec<_>>() {
            match blocked {
                true => self.network.block(server, other),
                false => self.network.unblock(server, other),
            }
        }
        if !blocked {
            self.flush_held();
        }
    }

    fn slow_down(&mut self, servers: BTreeSet<usize>) {
        for server in &servers {
            self.servers[*server].slowness = 20;
        }
        if let Some(stage) = &mut self.stage {
            stage.slow.extend(servers);
        }
    }

    /// Puts right everything that the scene has changed.
    pub(crate) fn end_scene(&mut self) {
        let Some(stage) = self.stage.take() else { return };
        self.note(52, stage.leader as u64, 0, || format!("SCENE over: {:?}", stage.act));
        for server in stage.slow {
            self.servers[server].slowness = 1;
        }
        for server in stage.hung {
            self.servers[server].disk_hangs_until_us = self.now_us;
        }
        match stage.act {
            Act::Unheard { .. } | Act::Leaves => self.block_voice(stage.leader, false),
            Act::Away => {
                let (server, life) = (stage.leader, self.servers[stage.leader].life);
                self.schedule(self.now_us, Event::Start { server, life });
                self.thaw(server);
            }
            Act::Still { .. } | Act::GoesOn => self.thaw(stage.leader),
            _ => {}
        }
    }
}
