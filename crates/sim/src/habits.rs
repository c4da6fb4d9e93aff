//! Habits of clients besides reading, writing and watching once: lists of rights, quotas, nodes that end by themselves, watches that stay,
//! several operations at once, large values. Bad manners are habits too: clients fall silent, or do not read.
//!
//! What always holds here: which habits a life has is part of its plan; a client under a habit is judged as any other.

use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::event::{AddWatchMode, WatcherType};
use rookeeper_proto::jute::{self, ByteBuf};
use rookeeper_proto::multi::MultiHeader;
use rookeeper_proto::request::{CreateRequest, CreateTtlRequest, PathVersionRequest, SetAclRequest, SetDataRequest};
use rookeeper_proto::{Id, OpCode, Permissions, path};

use crate::checkers::rights::{self, USERS, User};
use crate::checkers::watches::Lasting;
use crate::clients::{Asked, PATHS, Pause};
use crate::world::{MS, World};
use rookeeper_proto::random::Random;

/// A request with this much fits the limit of the servers.
const LARGE_BYTES: usize = 1_000_000;

/// Nodes with lists of their own, containers and what is in them, nodes with a time to live.
const LISTED: [&str; 3] = ["/u", "/u/a", "/d/e"];
const CONTAINERS: [&str; 2] = ["/k", "/d/k"];
const IN_CONTAINERS: [&str; 3] = ["/k/a", "/k/b", "/d/k/a"];
const MORTAL: [&str; 2] = ["/t", "/d/t"];

/// The habits of the clients of one life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Habits {
    /// Clients are users, and some nodes are not for all of them.
    pub users: bool,
    /// Hard quotas are set and enforced.
    pub quotas: bool,
    /// Containers and nodes with a time to live.
    pub passing_nodes: bool,
    pub lasting_watches: bool,
    pub mixed_multis: bool,
    pub large_values: bool,
    /// Clients fall silent, or do not read, for up to some timeouts of their sessions.
    pub pauses: bool,
    pub local_sessions: bool,
    pub local_sessions_upgrading: bool,
    /// Servers without a leader may be read.
    pub read_only: bool,
    /// Servers read no more from their clients while a few requests are on their way.
    pub few_outstanding: bool,
}

impl Habits {
    /// The habits of a seed. They have a draw of their own, which keeps the rest of the plan as it is.
    pub(crate) fn of_seed(seed: u64, reconfigures: bool) -> Habits {
        let mut random = Random::new(seed ^ 0x6861_6269_7473);
        let read_only = random.one_in(8);
        // Without a leader only local sessions begin.
        let local_sessions = random.one_in(if read_only { 2 } else { 8 });
        Habits {
            // The client that changes the members may do anything in these lives.
            users: random.one_in(2) && !reconfigures,
            quotas: random.one_in(4),
            passing_nodes: random.one_in(3),
            lasting_watches: random.one_in(2),
            mixed_multis: random.one_in(2),
            large_values: random.one_in(25),
            pauses: random.one_in(3),
            local_sessions,
            local_sessions_upgrading: local_sessions && !random.one_in(3),
            read_only,
            few_outstanding: random.one_in(4),
        }
    }

    /// `globalOutstandingLimit`.
    pub(crate) fn outstanding_limit(self) -> usize {
        if self.few_outstanding { 2 } else { 1000 }
    }

    pub(crate) fn user_of(self, client: usize) -> User {
        if self.users { (client % (usize::from(USERS) + 1)) as User } else { rights::ANYBODY }
    }
}

impl World {
    /// Lets a client follow one of this life's habits. False if none was drawn.
    pub(crate) fn ask_by_habit(&mut self, client: usize) -> bool {
        let habits = self.plan.habits;
        if !self.random.one_in(4) {
            return false;
        }
        match self.random.below(12) {
            0 | 1 if habits.users => self.ask_about_rights(client),
            2 if habits.quotas => self.ask_for_quota(client),
            3..=5 if habits.passing_nodes => self.ask_for_passing_node(client),
            6 | 7 if habits.lasting_watches => self.ask_for_lasting_watch(client),
            8..=10 if habits.mixed_multis => self.ask_for_several(client),
            11 if habits.large_values && self.random.one_in(4) => self.ask_for_large_value(client),
            _ => return false,
        }
        true
    }

    fn ask_about_rights(&mut self, client: usize) {
        let path = (*self.random.pick(&LISTED)).to_owned();
        let user = self.plan.habits.user_of(client);
        let floor = self.floor.now();
        let write = Some(Asked::Write { floor });
        let xid = self.next_xid(client);
        match self.random.below(6) {
            0 | 1 => {
                let acl = Some(self.some_list(user));
                let create = CreateRequest { path: Some(path), data: Some(ByteBuf(Vec::new())), acl, flags: 0 };
                self.ask(client, xid, OpCode::Create, &jute::to_vec(&create), write);
            }
            2 | 3 => {
                let version = if self.random.one_in(3) { self.random.between(0, 3) as i32 } else { -1 };
                let set = SetAclRequest { path: Some(path), acl: Some(self.some_list(user)), version };
                self.figures.note("lists of rights set");
                self.ask(client, xid, OpCode::SetAcl, &jute::to_vec(&set), write);
            }
            4 => self.ask(client, xid, OpCode::GetAcl, &jute::to_vec(&Some(&path)), Some(Asked::Acl { path })),
            _ => {
                let body = jute::to_vec(&(Some(&path), true));
                let asked = Asked::Get { path, watch: true, synced_floor: None };
                self.ask(client, xid, OpCode::GetData, &body, Some(asked));
            }
        }
    }

    /// A list of rights: for everybody, for the client alone, for the client with reading for all, or for any user who asks.
    fn some_list(&mut self, user: User) -> Vec<AclRequest> {
        let entry = |permissions, id: Id| AclRequest { permissions, scheme: Some(id.scheme), id: Some(id.id) };
        let own = |permissions| entry(permissions, rights::identity(user.max(1)));
        let anyone = |permissions| entry(permissions, Id::anyone());
        match self.random.below(5) {
            0 | 1 => vec![anyone(Permissions::ALL)],
            2 => vec![own(Permissions::ALL)],
            3 => vec![own(Permissions::ALL), anyone(Permissions::READ)],
            // Without the right to replace it nobody could ever free the node again.
            _ => vec![anyone(Permissions::ADMIN.union(Permissions::DELETE)), own(Permissions::READ)],
        }
    }

    /// Makes a quota as tools do, or removes it.
    fn ask_for_quota(&mut self, client: usize) {
        let top = *self.random.pick(&["/d", "/d", "/k"]);
        let quota = format!("{}{top}", path::QUOTA);
        let (limits, statistics) =
            (format!("{quota}/{}", path::QUOTA_LIMITS), format!("{quota}/{}", path::QUOTA_STATS));
        let text = format!("count=-1,bytes=-1=;byteHardLimit=60;countHardLimit={}", self.random.between(2, 8));
        let mut body = Vec::new();
        if self.random.one_in(4) {
            for path in [statistics, limits, quota] {
                let delete = PathVersionRequest { path: Some(path), version: -1 };
                jute::append(&mut body, &(MultiHeader { op: OpCode::Delete.number(), done: false, err: -1 }, delete));
            }
        } else {
            let nodes = [(quota, ""), (limits, &*text), (statistics, "count=0,bytes=0")];
            for (path, data) in nodes {
                let create = open(path, data.as_bytes().to_vec(), 0);
                jute::append(&mut body, &(MultiHeader { op: OpCode::Create.number(), done: false, err: -1 }, create));
            }
        }
        jute::append(&mut body, &MultiHeader::END);
        let floor = self.floor.now();
        let xid = self.next_xid(client);
        self.ask(client, xid, OpCode::Multi, &body, Some(Asked::Write { floor }));
    }

    fn ask_for_passing_node(&mut self, client: usize) {
        let data = format!("{client}").into_bytes();
        let floor = self.floor.now();
        let write = Some(Asked::Write { floor });
        let xid = self.next_xid(client);
        let (op, body) = match self.random.below(8) {
            0 | 1 => {
                let path = (*self.random.pick(&CONTAINERS)).to_owned();
                (OpCode::CreateContainer, jute::to_vec(&open(path, data, 4)))
            }
            2 | 3 => {
                let path = (*self.random.pick(&IN_CONTAINERS)).to_owned();
                (OpCode::Create, jute::to_vec(&open(path, data, 0)))
            }
            4 | 5 => {
                let path = Some((*self.random.pick(&IN_CONTAINERS)).to_owned());
                (OpCode::Delete, jute::to_vec(&PathVersionRequest { path, version: -1 }))
            }
            6 => {
                let path = (*self.random.pick(&MORTAL)).to_owned();
                let ttl_ms = self.random.between(1, 6 * self.plan.tick_ms);
                let request = CreateTtlRequest { create: open(path, data, 5), ttl_ms };
                (OpCode::CreateTtl, jute::to_vec(&request))
            }
            _ => {
                let path = (*self.random.pick(&MORTAL)).to_owned();
                let body = jute::to_vec(&(Some(&path), true));
                return self.ask(client, xid, OpCode::Exists, &body, Some(Asked::Exists { path, watch: true }));
            }
        };
        self.ask(client, xid, op, &body, write);
    }

    fn ask_for_lasting_watch(&mut self, client: usize) {
        let recursive = self.random.one_in(2);
        // The node of the membership changes without a request, so that nobody watches everything where the members change.
        let tops: &[&str] = match (recursive, self.plan.reconfigures) {
            (true, false) => &["/", "/d", "/u", "/k"],
            (true, true) => &["/d", "/k"],
            (false, _) => &["/a", "/b", "/d", "/u"],
        };
        let path = (*self.random.pick(tops)).to_owned();
        let (mode, kind) = match recursive {
            true => (AddWatchMode::PersistentRecursive, WatcherType::PersistentRecursive),
            false => (AddWatchMode::Persistent, WatcherType::Persistent),
        };
        let watch = Lasting { path: path.clone(), recursive };
        let xid = self.next_xid(client);
        if self.random.one_in(5) {
            let body = jute::to_vec(&(Some(&path), kind as i32));
            self.ask(client, xid, OpCode::RemoveWatches, &body, Some(Asked::Unwatch { watch }));
        } else {
            let body = jute::to_vec(&(Some(&path), mode as i32));
            self.ask(client, xid, OpCode::AddWatch, &body, Some(Asked::Watch { watch }));
        }
    }

    /// Several operations of all kinds in one request, of which one may fail; or several reads.
    fn ask_for_several(&mut self, client: usize) {
        let xid = self.next_xid(client);
        let count = self.random.between(1, 4);
        if self.random.one_in(3) {
            let reads: Vec<(bool, String)> =
                (0..count).map(|_| (self.random.one_in(2), (*self.random.pick(&PATHS)).to_owned())).collect();
            let mut body = Vec::new();
            for (children, path) in &reads {
                let op = if *children { OpCode::GetChildren } else { OpCode::GetData };
                jute::append(&mut body, &(MultiHeader { op: op.number(), done: false, err: -1 }, (Some(path), false)));
            }
            jute::append(&mut body, &MultiHeader::END);
            return self.ask(client, xid, OpCode::MultiRead, &body, Some(Asked::Several { reads }));
        }
        let mut body = Vec::new();
        for number in 0..count {
            let path = (*self.random.pick(&PATHS)).to_owned();
            let version = if self.random.one_in(3) { self.random.between(0, 5) as i32 } else { -1 };
            let data = format!("{client}.{xid}.{number}").into_bytes();
            let mut member = |op: OpCode, record: Vec<u8>| {
                jute::append(&mut body, &MultiHeader { op: op.number(), done: false, err: -1 });
                body.extend(record);
            };
            match self.random.below(10) {
                0..=2 => {
                    let set = SetDataRequest { path: Some(path), data: Some(ByteBuf(data)), version };
                    member(OpCode::SetData, jute::to_vec(&set));
                }
                3 | 4 => {
                    let flags = if path == "/d" { 0 } else { *self.random.pick(&[0, 1]) };
                    member(OpCode::Create, jute::to_vec(&open(path, data, flags)));
                }
                5 => member(OpCode::Create2, jute::to_vec(&open("/d/s-".to_owned(), data, 2))),
                6 | 7 => {
                    member(OpCode::Delete, jute::to_vec(&PathVersionRequest { path: Some(path), version }));
                }
                _ => member(OpCode::Check, jute::to_vec(&PathVersionRequest { path: Some(path), version })),
            }
        }
        jute::append(&mut body, &MultiHeader::END);
        let floor = self.floor.now();
        self.figures.note("mixed multis");
        self.ask(client, xid, OpCode::Multi, &body, Some(Asked::Write { floor }));
    }

    fn ask_for_large_value(&mut self, client: usize) {
        let xid = self.next_xid(client);
        let length = self.random.skewed(50_000, LARGE_BYTES as i64) as usize;
        let data = vec![xid as u8; length];
        let set = SetDataRequest { path: Some("/b".to_owned()), data: Some(ByteBuf(data)), version: -1 };
        let floor = self.floor.now();
        self.figures.note("large values");
        self.ask(client, xid, OpCode::SetData, &jute::to_vec(&set), Some(Asked::Write { floor }));
    }

    // --- bad manners ---

    /// Lets a client fall silent, or stop to read, for a while; or takes it away without a word.
    pub(crate) fn may_pause(&mut self, client: usize) {
        let is_pausing = self.clients[client].pause.is_some();
        if self.healed || is_pausing || !self.plan.habits.pauses || !self.random.one_in(80) {
            return;
        }
        if self.random.one_in(4) {
            return self.vanish(client);
        }
        let timeout_us = i64::from(self.clients[client].timeout_ms()) * MS;
        let until_us = self.now_us + self.random.skewed(MS, 4 * timeout_us);
        let (pause, name) = *self.random.pick(&[
            (Pause::Silent, "silences"),
            (Pause::Sipping, "clients that read a little"),
            (Pause::Absent, "clients that stop to read and to send"),
            (Pause::Deaf, "clients that stop to read"),
        ]);
        self.figures.note(name);
        self.note(34, client as u64, until_us as u64, || format!("client {client} pauses until {until_us}: {pause:?}"));
        self.clients[client].pause = Some((pause, until_us));
    }

    /// The client's host is gone, so the server is not told. The host is back soon, or after the client's session is over.
    fn vanish(&mut self, client: usize) {
        let Some(line) = self.part(client) else { return };
        self.figures.note("clients that vanish");
        self.note(36, client as u64, line, || format!("client {client} vanishes"));
        if let Some(state) = self.lines.get_mut(&line) {
            state.is_left = true;
        }
        if self.random.one_in(2) {
            let timeout_us = i64::from(self.clients[client].timeout_ms()) * MS;
            self.clients[client].pause = Some((Pause::Absent, self.now_us + self.random.skewed(MS, 3 * timeout_us)));
        }
    }

    /// Whether a client that has just connected says nothing.
    pub(crate) fn forgets_to_speak(&mut self) -> bool {
        let forgets = self.plan.habits.pauses && !self.healed && self.random.one_in(30);
        if forgets {
            self.figures.note("clients that do not introduce themselves");
        }
        forgets
    }

    /// The misbehaviour that goes on. A client that reads again finds the answers that have gathered, and its server goes on sending.
    pub(crate) fn pause_of(&mut self, client: usize) -> Option<Pause> {
        let (pause, until_us) = self.clients[client].pause?;
        if self.now_us < until_us && !self.healed {
            return Some(pause);
        }
        self.clients[client].pause = None;
        self.read(client, usize::MAX);
        None
    }

    /// Reads and pings of a client that does not take the answers.
    pub(crate) fn ask_without_reading(&mut self, client: usize) {
        // Where values are large, more requests than this could take longer to answer than a life lasts.
        if !self.clients[client].is_welcome() || self.clients[client].is_waiting_for_more_than(60) {
            return;
        }
        for _ in 0..self.random.between(1, 8) {
            let path = (*self.random.pick(&PATHS)).to_owned();
            let xid = self.next_xid(client);
            let body = jute::to_vec(&(Some(&path), false));
            let asked = Asked::Get { path, watch: false, synced_floor: None };
            self.ask(client, xid, OpCode::GetData, &body, Some(asked));
        }
    }
}

fn open(path: String, data: Vec<u8>, flags: i32) -> CreateRequest {
    let acl = AclRequest { permissions: Permissions::ALL, scheme: Some("world".into()), id: Some("anyone".into()) };
    CreateRequest { path: Some(path), data: Some(ByteBuf(data)), acl: Some(vec![acl]), flags }
}
