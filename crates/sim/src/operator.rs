//! The operator of a simulated ensemble: asks for other members, and prepares configurations, disks and processes for them by hand.
//!
//! What always holds here:
//! - a disk is emptied, and a configuration replaced, only of a server that no other server's configuration names any more, so that nobody
//!   counts with what it had;
//! - a server joins with a configuration that names the members in force and itself, or while it follows already;
//! - a server that is a member, or may become a member by a change on its way, is not kept out of service.
//!
//! The ensemble decides whether a change is possible, and refuses some changes.

use std::collections::BTreeSet;

use rookeeper_proto::request::ReconfigRequest;
use rookeeper_proto::{ServerId, Zxid};
use rookeeper_replica::Serving;
use rookeeper_zab::{Membership, Memberships, Role};

use crate::config_files::ConfigFiles;
use crate::faults::member_line;
use crate::world::{Event, MS, World};

/// Requests that the operator considers.
enum Wish {
    Role(usize, &'static str),
    Leaving(usize),
    /// One server goes, another server comes.
    Replacing(usize, usize, &'static str),
    Joining(usize, &'static str),
    /// The whole list.
    Members(Vec<(usize, &'static str)>),
}

impl World {
    fn in_force(&self) -> BTreeSet<usize> {
        self.membership.iter().flat_map(|membership| membership.members.keys()).map(|id| id.0 as usize - 1).collect()
    }

    /// Whether a server is to be there in the end.
    pub(crate) fn is_member(&self, server: usize) -> bool {
        self.membership.as_ref().is_none_or(|membership| membership.members.contains_key(&self.servers[server].id))
    }

    /// Whether this is an observer that has promised an epoch newer than the leader's, from the time when it had a vote. An established leader
    /// gives way to a voter that has, and turns an observer away until another epoch begins, as in the original.
    pub(crate) fn is_kept_out_by_its_promise(&self, server: usize) -> bool {
        let Some(membership) = &self.membership else { return false };
        let leader = self
            .servers
            .iter()
            .find(|other| other.process.as_ref().is_some_and(|process| process.serving == Serving::Deciding));
        let observes = membership.members.get(&self.servers[server].id).is_some_and(|me| me.role == Role::Observer);
        observes && leader.is_some_and(|leader| leader.promises.accepted < self.servers[server].promises.accepted)
    }

    /// The memberships that a server goes by after its next start.
    pub(crate) fn configured(&self, server: usize) -> Option<Memberships> {
        self.servers[server].memberships.clone().or_else(|| self.plan.membership())
    }

    /// Whether the server starts: a server that its own configuration does not name does not start.
    pub(crate) fn is_configured(&self, server: usize) -> bool {
        let me = &self.servers[server].id;
        self.configured(server).is_none_or(|memberships| memberships.committed.members.contains_key(me))
    }

    /// Whether another server counts with this one, or may.
    fn is_named(&self, server: usize) -> bool {
        let id = self.servers[server].id;
        let names = |memberships: &Memberships| {
            memberships.committed.members.contains_key(&id) || memberships.last_seen.members.contains_key(&id)
        };
        (0..self.servers.len()).filter(|other| *other != server).any(|other| {
            let process = self.servers[other].process.as_ref();
            let known = process.and_then(|process| process.memberships.as_deref());
            known.is_some_and(names) || self.configured(other).as_ref().is_some_and(names)
        })
    }

    fn is_needed(&self, server: usize) -> bool {
        self.is_member(server) || self.is_named(server)
    }

    // --- requests ---

    /// A request for other members; none where the operator has only prepared something this time.
    pub(crate) fn next_change(&mut self) -> Option<ReconfigRequest> {
        let server = self.random.index(self.servers.len());
        let role = *self.random.pick(&["participant", "participant", "observer"]);
        let wish = self.wish(server, role);
        let mut request =
            ReconfigRequest { joining_servers: None, leaving_servers: None, new_members: None, current_config_id: -1 };
        let joining = match &wish {
            Wish::Role(..) | Wish::Leaving(_) => Vec::new(),
            Wish::Replacing(_, joining, _) | Wish::Joining(joining, _) => vec![*joining],
            Wish::Members(list) => {
                list.iter().map(|(server, _)| *server).filter(|server| !self.is_member(*server)).collect()
            }
        };
        let mut wait = false;
        for server in joining {
            if !self.prepare_to_join(server) {
                return None;
            }
            // A server may be added while it is still starting, or when it has had time to catch up.
            wait |= !self.servers[server].serves() && self.random.one_in(2);
        }
        if wait {
            return None;
        }
        match wish {
            Wish::Role(server, role) | Wish::Joining(server, role) => {
                request.joining_servers = Some(member_line(server + 1, role));
            }
            Wish::Leaving(server) => request.leaving_servers = Some((server + 1).to_string()),
            Wish::Replacing(leaving, joining, role) => {
                request.leaving_servers = Some((leaving + 1).to_string());
                request.joining_servers = Some(member_line(joining + 1, role));
            }
            Wish::Members(list) => {
                let lines: Vec<String> = list.iter().map(|(server, role)| member_line(server + 1, role)).collect();
                request.new_members = Some(lines.join(","));
            }
        }
        if let Some(membership) = self.membership.as_ref().filter(|membership| membership.version > Zxid::ZERO)
            && self.random.one_in(4)
        {
            request.current_config_id = membership.version.0;
        }
        Some(request)
    }

    fn wish(&mut self, server: usize, role: &'static str) -> Wish {
        let others: Vec<usize> = (0..self.servers.len()).filter(|server| !self.is_member(*server)).collect();
        if !self.is_member(server) {
            return Wish::Joining(server, role);
        }
        if !others.is_empty() && self.random.one_in(3) {
            return Wish::Joining(*self.random.pick(&others), role);
        }
        let wish = match self.random.below(10) {
            0..=3 => Wish::Role(server, role),
            4..=6 => Wish::Leaving(self.whom_to_remove(server)),
            7 if !others.is_empty() => Wish::Replacing(server, *self.random.pick(&others), role),
            8 => self.whole_list(),
            _ => Wish::Leaving(server),
        };
        let stay: BTreeSet<usize> = match &wish {
            Wish::Leaving(leaving) | Wish::Replacing(leaving, ..) => {
                self.in_force().into_iter().filter(|server| server != leaving).collect()
            }
            Wish::Members(list) => list.iter().map(|(server, _)| *server).collect(),
            Wish::Role(..) | Wish::Joining(..) => self.in_force(),
        };
        if self.find_each_other(&stay) { wish } else { Wish::Role(server, role) }
    }

    /// This server, or the leader, or a server that is down.
    fn whom_to_remove(&mut self, server: usize) -> usize {
        let leader = self.leader().filter(|leader| self.is_member(*leader));
        let down = self.in_force().into_iter().find(|server| self.servers[*server].process.is_none());
        let choice = *self.random.pick(&[None, leader, down]);
        choice.unwrap_or(server)
    }

    /// Most of the members, and some servers that are no members.
    fn whole_list(&mut self) -> Wish {
        let mut list = Vec::new();
        for server in 0..self.servers.len() {
            let stays = if self.is_member(server) { !self.random.one_in(4) } else { self.random.one_in(2) };
            let role = if self.random.one_in(6) { "observer" } else { "participant" };
            if stays {
                list.push((server, role));
            }
        }
        Wish::Members(list)
    }

    /// A member that missed a change finds the others by the members that it knows.
    fn find_each_other(&self, stay: &BTreeSet<usize>) -> bool {
        let knows_another = |server: &usize| {
            self.configured(*server).is_some_and(|memberships| {
                stay.iter().any(|other| {
                    other != server
                        && self.is_member(*other)
                        && memberships.committed.is_participant(ServerId(*other as i64 + 1))
                })
            })
        };
        stay.iter().filter(|server| self.is_member(**server)).all(knows_another)
    }

    // --- what is done by hand ---

    /// Sees to it that a server can join: it follows already, or starts with a configuration by which it finds the members. Some come
    /// with an empty disk. False where nothing can be done about it now.
    fn prepare_to_join(&mut self, server: usize) -> bool {
        let free = !self.is_named(server);
        if self.servers[server].serves() && !(free && self.random.one_in(3)) {
            return true;
        }
        if !free {
            let finds = self.find_each_other_from(server);
            if finds {
                self.put_into_service(server);
            }
            return finds;
        }
        if self.servers[server].process.is_some() {
            self.stop(server, false);
        }
        self.servers[server].retired = true;
        if self.random.one_in(2) {
            let seed = self.random.draw();
            self.servers[server].wipe(seed);
            self.figures.wipes += 1;
            self.note(41, server as u64, 0, || format!("OPERATOR empties the disk of server {}", server + 1));
        }
        self.configure(server);
        self.put_into_service(server);
        true
    }

    /// Whether a server that others know of knows one of the members itself.
    fn find_each_other_from(&self, server: usize) -> bool {
        let Some(memberships) = self.configured(server) else { return false };
        let knows = |other: &usize| memberships.committed.is_participant(ServerId(*other as i64 + 1));
        self.in_force().iter().filter(|other| **other != server).any(knows)
    }

    /// The lines of the members in force and one for the server itself, as written by hand. What the server keeps of a change that it
    /// has seen and that is not in force stays.
    fn configure(&mut self, server: usize) {
        let Some(in_force) = self.membership.clone() else { return };
        let mut membership = Membership { version: Zxid::ZERO, ..in_force.clone() };
        let me = self.servers[server].id;
        let line = member_line(server + 1, "participant");
        let own = Membership::parse_text(line, false).expect("this line is a membership");
        if !membership.members.contains_key(&me) {
            membership.members.extend(own.members);
        }
        let seen = self.servers[server].memberships.take().map(|memberships| memberships.last_seen);
        let seen = seen.filter(|seen| seen.version > in_force.version).unwrap_or_else(|| membership.clone());
        self.note(42, server as u64, membership.members.len() as u64, || {
            format!("OPERATOR configures server {}: {}", server + 1, membership.to_string().replace('\n', " "))
        });
        self.servers[server].memberships = Some(Memberships::new(membership, seen));
        self.servers[server].config_files = ConfigFiles::default();
    }

    /// Starts a server that is not in service, with another configuration if its own does not name it.
    pub(crate) fn put_into_service(&mut self, server: usize) {
        if !self.is_configured(server) || self.servers[server].config_files.is_refused {
            self.configure(server);
        }
        if std::mem::take(&mut self.servers[server].retired) {
            let life = self.servers[server].life;
            let at_us = self.now_us + self.random.skewed(MS, 200 * MS);
            self.schedule(at_us, Event::Start { server, life });
        }
    }

    /// A server that can't start without the operator.
    pub(crate) fn wait_for_operator(&mut self, server: usize) {
        self.note(43, server as u64, 0, || {
            format!("server {} does not start: it is no member by its own configuration", server + 1)
        });
        self.servers[server].retired = true;
        let at_us = self.now_us + self.random.between(200, 2000) * MS;
        self.schedule(at_us, Event::Tend { server });
    }

    pub(crate) fn tend(&mut self, server: usize) {
        if self.servers[server].retired && self.is_needed(server) {
            self.put_into_service(server);
        }
    }

    /// The process of a server that was removed ends, unless it is coming back.
    pub(crate) fn retire(&mut self, server: usize) {
        if self.healed || self.is_needed(server) || self.servers[server].retired {
            return;
        }
        self.note(44, server as u64, 0, || format!("OPERATOR stops server {}, which is no member", server + 1));
        self.stop(server, false);
        self.servers[server].retired = true;
    }

    /// Another membership is in force.
    pub(crate) fn members_change(&mut self, membership: Membership) {
        self.figures.reconfigured += 1;
        let before = self.in_force();
        self.note(40, membership.version.0 as u64, 0, || {
            format!("IN FORCE {}", membership.to_string().replace('\n', " "))
        });
        self.membership = Some(membership);
        let after = self.in_force();
        for server in after.difference(&before).copied() {
            self.figures.joins += 1;
            self.put_into_service(server);
        }
        for server in before.difference(&after).copied() {
            self.figures.removals += 1;
            // Some are stopped some time later, others left running.
            if self.random.one_in(2) {
                let at_us = self.now_us + self.random.skewed(10 * MS, 5 * self.plan.tick_ms * MS);
                self.schedule(at_us, Event::Retire { server });
            }
        }
    }
}
