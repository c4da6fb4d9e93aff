//! How clients take the answers that they get.
//!
//! What always holds here: a client believes nothing that the checkers do not confirm.

use std::collections::BTreeSet;

use rookeeper_proto::connect::ConnectResponse;
use rookeeper_proto::event::{NOTIFICATION_XID, WatcherEvent};
use rookeeper_proto::frame::{self, PING_XID, ReplyHeader};
use rookeeper_proto::jute::{self, Buffer, Deserializer};
use rookeeper_proto::multi::MultiHeader;
use rookeeper_proto::response::{ErrorResponse, GetAclResponse, GetDataResponse};
use rookeeper_proto::{ErrorCode, OpCode, SessionId, Stat, Zxid};

use super::{AUTH_XID, Asked, Pause, Request};
use crate::checkers::history::Chronicle;
use crate::checkers::linearizable;
use crate::checkers::model::Happening;
use crate::checkers::rights::{self, User};
use crate::checkers::watches::Kind;
use crate::world::World;

impl World {
    pub(crate) fn answers_arrive(&mut self, line: u64, bytes: &[u8]) {
        let Some(state) = self.lines.get_mut(&line).filter(|state| !state.is_left) else { return };
        let client = state.client;
        state.arrived.extend_from_slice(bytes);
        if matches!(self.clients[client].pause, None | Some((Pause::Silent, _))) {
            self.read(client, usize::MAX);
        }
    }

    /// A client takes up to so many bytes of what has arrived.
    pub(crate) fn read(&mut self, client: usize, limit: usize) {
        let Some(line) = self.clients[client].line else { return };
        let Some(state) = self.lines.get_mut(&line) else { return };
        let count = state.arrived.len().min(limit);
        if count == 0 {
            return;
        }
        let mut bytes = std::mem::take(&mut state.begun);
        bytes.extend(state.arrived.drain(..count));
        self.note_read(line, count);
        let mut rest = &bytes[..];
        while let Ok(Some((payload, length))) = frame::split(rest, usize::MAX) {
            rest = &rest[length..];
            if self.clients[client].line != Some(line) {
                return;
            }
            self.clients[client].heard_us = self.now_us;
            if !self.clients[client].welcomed {
                self.welcome(client, payload);
                continue;
            }
            if let Err(problem) = self.answer_arrives(client, payload) {
                self.violated(format!("{problem} (client {client})"));
            }
        }
        if let Some(state) = self.lines.get_mut(&line) {
            state.begun = rest.to_vec();
        }
    }

    fn welcome(&mut self, client: usize, payload: &[u8]) {
        // Where sessions are not local none begins without a leader, which is told in a form of its own.
        let refusal = jute::from_slice::<ReplyHeader>(payload);
        if self.plan.habits.read_only && refusal.is_ok_and(|header| header.err == ErrorCode::NotReadOnly.number()) {
            self.figures.note("sessions refused without a leader");
            return self.leave(client);
        }
        let Ok(response) = ConnectResponse::decode(payload) else {
            return self.violated("session order: the first answer is no ConnectResponse".to_owned());
        };
        self.note(32, client as u64, response.session.0 as u64, || {
            format!("client {client} is granted session {} for {} ms", response.session, response.timeout_ms)
        });
        let this = &mut self.clients[client];
        if response.timeout_ms == 0 {
            this.forget_session();
            return self.leave(client);
        }
        if this.session != SessionId::NONE && this.session != response.session {
            return self.violated(format!("session order: client {client} asked for one session and got another"));
        }
        this.welcomed = true;
        this.session = response.session;
        this.is_read_only = response.read_only == Some(true);
        if this.is_read_only {
            self.figures.note("sessions without a leader");
            return;
        }
        // A session that only one server knows stays with that server, and its requests go to the leader on one link, in order. A server that
        // follows a deposed leader, or is one, can't speak for the leader that decides.
        let newest = self.leaders.newest();
        let is_granted_now = |line: &u64| {
            let server = self.lines.get(line).map(|line| &self.servers[line.server]);
            server.is_some_and(|server| server.promises.accepted >= newest)
                && self.chronicle.model.knows_session(response.session)
        };
        if let Some(line) = this.line.filter(is_granted_now) {
            self.chronicle.moves.granted(response.session.0, line);
        }
        let user = self.plan.habits.user_of(client);
        self.clients[client].watches.user = user;
        if user != rights::ANYBODY {
            let id = rights::identity(user);
            let body = jute::to_vec(&(0, id.scheme, Buffer(id.id.as_bytes())));
            self.ask(client, AUTH_XID, OpCode::Auth, &body, Some(Asked::Auth));
        }
        if self.is_patron(client) {
            // As the library that the recipes are written for: whoever follows has to ask for that again.
            self.clients[client].watches.forget_lasting();
        }
        if !self.clients[client].watches.is_empty() {
            let this = &self.clients[client];
            let of = |kind| this.watches.of_kind(kind);
            let once = (this.order.last_answered(), of(Kind::Data), of(Kind::Exist), of(Kind::Child));
            let body = jute::to_vec(&(once, this.watches.that_stay(false), this.watches.that_stay(true)));
            self.ask(client, -8, OpCode::SetWatches2, &body, Some(Asked::RenewWatches));
        }
    }

    fn answer_arrives(&mut self, client: usize, payload: &[u8]) -> Result<(), String> {
        let Ok((header, body)) = jute::from_slice_with_rest::<ReplyHeader>(payload) else {
            return Err("session order: an answer without header".to_owned());
        };
        let (xid, zxid) = (header.xid, header.zxid);
        self.note(33, client as u64, zxid.0 as u64, || {
            format!("client {client} hears {xid} at {zxid}, error {}", header.err)
        });
        let model = &self.chronicle.model;
        let this = &mut self.clients[client];
        if xid == NOTIFICATION_XID && this.is_read_only {
            return this.order.saw(zxid);
        }
        if xid == NOTIFICATION_XID {
            let event: WatcherEvent<'_> = jute::from_slice(body).map_err(|error| format!("watches: {error}"))?;
            let happening = Happening::from_number(event.event_type).ok_or("watches: an event of no kind")?;
            self.figures.watch_events += 1;
            this.watches.event(model, happening, &event.path, zxid)?;
            this.order.saw(zxid)?;
            self.patron_notices(client, &event.path, happening, zxid);
            return Ok(());
        }
        if xid == PING_XID {
            this.order.saw(zxid)?;
            return this.watches.shown(model, zxid);
        }
        this.order.answered(this.pending.front().map(|request| request.xid), xid, zxid)?;
        let Some(Request { asked, .. }) = this.pending.pop_front() else { return Ok(()) };
        self.figures.answers += 1;
        if this.is_read_only {
            return self.answer_without_leader(client, &asked, header.err);
        }
        if !matches!(asked, Asked::RenewWatches) {
            this.watches.shown(model, zxid)?;
        }
        let known = header.err == 0 || ErrorCode::from_i32(header.err).is_some();
        if !known {
            return Err(format!("session order: error {} is none", header.err));
        }
        let found = header.err == 0;
        let missing = header.err == ErrorCode::NoNode.number();
        let refused = header.err == ErrorCode::NoAuth.number();
        let user = this.watches.user;
        let is_of_a_recipe = !matches!(asked, Asked::RenewWatches | Asked::Auth);
        if let Asked::Get { path, .. } | Asked::Exists { path, .. } | Asked::Children { path, .. } = &asked
            && (found || refused)
        {
            linearizable::permitted(&self.chronicle, path, zxid, user, refused)?;
        }
        match asked {
            Asked::Write { floor } => {
                linearizable::acknowledged(&self.chronicle, this.session.0, xid, zxid)?;
                linearizable::refused_as_told(&self.chronicle, xid, zxid, header.err)?;
                self.floor.written(floor, zxid)?;
                if self.healed {
                    this.healed_writes += 1;
                }
            }
            Asked::Sync => {}
            Asked::Get { path, watch, synced_floor } => {
                if let Some(floor) = synced_floor {
                    self.floor.read(floor, zxid)?;
                }
                if found {
                    let read: GetDataResponse<'_> = jute::from_slice(body).map_err(|error| error.to_string())?;
                    let data = read.data.map_or(&[][..], |data| data.0);
                    if path != "/" {
                        linearizable::shows(&self.chronicle, &path, zxid, Some((data, read.stat.version)))?;
                    }
                    if watch {
                        this.watches.registered(Kind::Data, &path, zxid);
                    }
                } else if missing {
                    linearizable::shows(&self.chronicle, &path, zxid, None)?;
                }
            }
            Asked::Exists { path, watch } => {
                if found {
                    let stat: Stat = jute::from_slice(body).map_err(|error| error.to_string())?;
                    linearizable::exists(&self.chronicle, &path, zxid, Some((stat.version, stat.czxid)))?;
                } else if missing {
                    linearizable::exists(&self.chronicle, &path, zxid, None)?;
                }
                if watch && (found || missing) {
                    this.watches.registered(if found { Kind::Data } else { Kind::Exist }, &path, zxid);
                }
            }
            Asked::Children { path, watch } => {
                if found {
                    let names: Vec<String> = jute::from_slice(body).map_err(|error| error.to_string())?;
                    let names: BTreeSet<String> = names.into_iter().collect();
                    if path != "/" {
                        linearizable::lists(&self.chronicle, &path, zxid, Some(&names))?;
                    }
                    if watch {
                        this.watches.registered(Kind::Child, &path, zxid);
                    }
                } else if missing {
                    linearizable::lists(&self.chronicle, &path, zxid, None)?;
                }
            }
            Asked::List { path } => {
                if found {
                    let (names, stat): (Vec<String>, Stat) =
                        jute::from_slice(body).map_err(|error| error.to_string())?;
                    let names: BTreeSet<String> = names.into_iter().collect();
                    linearizable::lists(&self.chronicle, &path, zxid, Some(&names))?;
                    linearizable::lists(&self.chronicle, &path, stat.pzxid, Some(&names))?;
                } else if missing {
                    linearizable::lists(&self.chronicle, &path, zxid, None)?;
                }
            }
            Asked::Acl { path } => {
                if found {
                    let read: GetAclResponse = jute::from_slice(body).map_err(|error| error.to_string())?;
                    linearizable::acl(&self.chronicle, &path, zxid, user, (&read.acl, read.stat.aversion))?;
                }
            }
            Asked::Watch { watch } => {
                if found {
                    this.watches.stays(watch, zxid);
                }
            }
            Asked::Unwatch { watch } => this.watches.removed(&watch, found)?,
            Asked::Several { reads } => {
                if found {
                    several(&self.chronicle, &reads, body, zxid, user)?;
                }
            }
            Asked::Auth => {}
            Asked::RenewWatches => this.watches.renewed(model, zxid)?,
            Asked::Close => {
                // The end of a session that one server knows is no transaction.
                if model.knows_session(this.session) {
                    linearizable::acknowledged(&self.chronicle, this.session.0, xid, zxid)?;
                }
                this.forget_session();
                this.pending.clear();
                self.leave(client);
            }
        }
        if is_of_a_recipe {
            self.patron_hears(client, xid, header.err, body);
        }
        Ok(())
    }

    /// Without a leader nothing is changed, and reads may show transactions that are not committed.
    fn answer_without_leader(&mut self, client: usize, asked: &Asked, err: i32) -> Result<(), String> {
        match asked {
            Asked::Write { .. } if err == 0 => Err("read-only: a server without a leader took a write".to_owned()),
            Asked::Close => {
                self.clients[client].pending.clear();
                self.leave(client);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Results of several reads: each shows the state at `zxid`.
fn several(chronicle: &Chronicle, reads: &[(bool, String)], body: &[u8], zxid: Zxid, user: User) -> Result<(), String> {
    let mut input = Deserializer::new(body);
    let damaged = |error: jute::Error| format!("linearizable: several reads can't be read: {error}");
    for (children, path) in reads {
        let header: MultiHeader = input.read().map_err(damaged)?;
        if header.op == OpCode::Error.number() {
            let result: ErrorResponse = input.read().map_err(damaged)?;
            match ErrorCode::from_i32(result.err) {
                Some(ErrorCode::NoAuth) => linearizable::permitted(chronicle, path, zxid, user, true)?,
                _ if *children => linearizable::lists(chronicle, path, zxid, None)?,
                _ => linearizable::shows(chronicle, path, zxid, None)?,
            }
            continue;
        }
        linearizable::permitted(chronicle, path, zxid, user, false)?;
        if *children {
            let names: Vec<String> = input.read().map_err(damaged)?;
            linearizable::lists(chronicle, path, zxid, Some(&names.into_iter().collect()))?;
        } else {
            let read: GetDataResponse<'_> = input.read().map_err(damaged)?;
            let data = read.data.map_or(&[][..], |data| data.0);
            linearizable::shows(chronicle, path, zxid, Some((data, read.stat.version)))?;
        }
    }
    Ok(())
}
