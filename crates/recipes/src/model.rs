//! A tree in memory for recipes without IO: its answers get lost, its writes arrive late, its reads are old, its sessions end.

use std::collections::BTreeMap;

use crate::ask::{Ask, Facts, Kind, Op, Refusal, Reply};

/// xorshift: a seed is the whole run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    data: Vec<u8>,
    version: i32,
    owner: i64,
    czxid: i64,
    mzxid: i64,
    /// The number of the next sequential child.
    next: i64,
}

type Nodes = BTreeMap<String, Node>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    Node,
    Children,
}

#[derive(Debug, Default)]
struct Session {
    /// What this session has seen: it is never shown anything older.
    seen: usize,
    watches: Vec<(Watched, String, usize)>,
    /// A write that is still on the way over a connection that was lost.
    late: Option<Ask>,
}

pub(crate) struct Model {
    /// `versions[zxid]` is the tree after that change.
    versions: Vec<Nodes>,
    sessions: BTreeMap<i64, Session>,
    pub(crate) random: Random,
    /// One answer of so many is lost; 0 for none.
    pub(crate) faults: u64,
    pub(crate) lost: u64,
}

impl Model {
    pub(crate) fn new(seed: u64) -> Model {
        let root = Node { data: Vec::new(), version: 0, owner: 0, czxid: 0, mzxid: 0, next: 0 };
        let versions = vec![Nodes::from([("/".to_owned(), root)])];
        Model { versions, sessions: BTreeMap::new(), random: Random::new(seed), faults: 8, lost: 0 }
    }

    fn last(&self) -> usize {
        self.versions.len() - 1
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.versions[self.last()].keys().cloned().collect()
    }

    /// The session is over: its nodes go, and what was on its way comes to nothing.
    pub(crate) fn expire(&mut self, session: i64) {
        self.sessions.remove(&session);
        let mut nodes = self.versions[self.last()].clone();
        nodes.retain(|_, node| node.owner != session);
        self.versions.push(nodes);
    }

    /// Answers, or loses the answer. Watches that fire meanwhile are told first.
    pub(crate) fn ask(&mut self, session: i64, ask: &Ask, notice: &mut dyn FnMut(&str)) -> Reply {
        if self.random.one_in(10) {
            self.arrive(session);
        }
        let is_lost = self.faults > 0 && self.random.one_in(self.faults) && !matches!(ask, Ask::Wait { .. });
        let is_write = !matches!(
            ask,
            Ask::Get { .. } | Ask::Exists { .. } | Ask::Children { .. } | Ask::Sync { .. } | Ask::Wait { .. }
        );
        self.lost += u64::from(is_lost);
        if is_lost {
            match self.random.below(3) {
                0 => {}
                1 if is_write => self.sessions.entry(session).or_default().late = Some(ask.clone()),
                _ if is_write => drop(self.write(session, ask)),
                _ => {}
            }
            return Reply::Unknown;
        }
        if is_write {
            let reply = self.write(session, ask);
            self.see(session, self.last(), notice);
            return reply;
        }
        if let Ask::Sync { .. } = ask {
            self.arrive(session);
            self.see(session, self.last(), notice);
            return Reply::Done;
        }
        let seen = self.sessions.entry(session).or_default().seen;
        let seen = seen + self.random.below((self.last() - seen) as u64 + 1) as usize;
        self.see(session, seen, notice);
        self.read(session, ask, seen)
    }

    fn arrive(&mut self, session: i64) {
        if let Some(ask) = self.sessions.entry(session).or_default().late.take() {
            drop(self.write(session, &ask));
        }
    }

    /// Shows the session the tree as it was after this change; its watches fire first.
    fn see(&mut self, session: i64, seen: usize, notice: &mut dyn FnMut(&str)) {
        let versions = &self.versions;
        let this = self.sessions.entry(session).or_default();
        this.seen = seen;
        this.watches.retain_mut(|(watched, path, since)| {
            let has_fired = (*since..seen).any(|at| match watched {
                Watched::Node => versions[at].get(path) != versions[at + 1].get(path),
                Watched::Children => children(&versions[at], path) != children(&versions[at + 1], path),
            });
            if has_fired {
                notice(path);
            }
            *since = seen;
            !has_fired
        });
    }

    fn read(&mut self, session: i64, ask: &Ask, seen: usize) -> Reply {
        let nodes = &self.versions[seen];
        let (watched, path, watch, reply) = match ask {
            Ask::Get { path, watch } => {
                let data =
                    nodes.get(path).map(|node| Reply::Data { data: node.data.clone(), facts: facts(nodes, path) });
                (Watched::Node, path, *watch && data.is_some(), data)
            }
            Ask::Exists { path, watch } => {
                let found = nodes.get(path).map(|_| Reply::Facts(facts(nodes, path)));
                (Watched::Node, path, *watch, found)
            }
            Ask::Children { path, watch } => {
                let names = nodes.get(path).map(|_| Reply::Names(children(nodes, path)));
                (Watched::Children, path, *watch && names.is_some(), names)
            }
            _ => return Reply::Waited,
        };
        if watch {
            self.sessions.entry(session).or_default().watches.push((watched, path.clone(), seen));
        }
        reply.unwrap_or(Reply::Refused(Refusal::NoNode))
    }

    fn write(&mut self, session: i64, ask: &Ask) -> Reply {
        let ops = match ask {
            Ask::MakePath { path } | Ask::MakeContainer { path } => {
                let mut nodes = self.versions[self.last()].clone();
                let ends = path.char_indices().skip(1).filter(|(_, char)| *char == '/').map(|(at, _)| at);
                for end in ends.chain([path.len()]) {
                    let op = Op::Create { path: path[..end].to_owned(), data: Vec::new(), kind: Kind::Persistent };
                    let _ = apply(&mut nodes, &op, session, self.versions.len() as i64);
                }
                self.versions.push(nodes);
                return Reply::Done;
            }
            Ask::Create { path, data, kind } => {
                vec![Op::Create { path: path.clone(), data: data.clone(), kind: *kind }]
            }
            Ask::Delete { path } => vec![Op::Delete { path: path.clone() }],
            Ask::Set { path, data, version } => {
                vec![Op::Set { path: path.clone(), data: data.clone(), version: *version }]
            }
            Ask::Multi(ops) => ops.clone(),
            _ => unreachable!("no write"),
        };
        let (mut nodes, zxid) = (self.versions[self.last()].clone(), self.versions.len() as i64);
        let mut made = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            match apply(&mut nodes, op, session, zxid) {
                Ok(path) => made.extend(path),
                Err(why) if matches!(ask, Ask::Multi(_)) => return Reply::Failed { index, why },
                Err(why) => return Reply::Refused(why),
            }
        }
        let reply = match ask {
            Ask::Multi(_) => Reply::Made(made),
            Ask::Create { .. } => Reply::Created { path: made.remove(0), czxid: zxid },
            Ask::Set { path, .. } => Reply::Facts(facts(&nodes, path)),
            _ => Reply::Done,
        };
        self.versions.push(nodes);
        reply
    }
}

fn facts(nodes: &Nodes, path: &str) -> Facts {
    let node = &nodes[path];
    Facts {
        czxid: node.czxid,
        mzxid: node.mzxid,
        version: node.version,
        children: children(nodes, path).len(),
        owner: node.owner,
    }
}

fn children(nodes: &Nodes, path: &str) -> Vec<String> {
    let prefix = format!("{}/", path.trim_end_matches('/'));
    let below = nodes.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
    below
        .filter_map(|(path, _)| {
            Some(&path[prefix.len()..]).filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned)
        })
        .collect()
}

fn apply(nodes: &mut Nodes, op: &Op, session: i64, zxid: i64) -> Result<Option<String>, Refusal> {
    match op {
        Op::Check { path, version } => {
            let node = nodes.get(path).ok_or(Refusal::NoNode)?;
            if version.is_some_and(|version| version != node.version) { Err(Refusal::BadVersion) } else { Ok(None) }
        }
        Op::Create { path, data, kind } => {
            let parent = path.rsplit_once('/').map_or("/", |(parent, _)| if parent.is_empty() { "/" } else { parent });
            let parent = nodes.get_mut(parent).ok_or(Refusal::NoNode)?;
            let number = parent.next;
            let path = if kind.is_sequential() { format!("{path}{number:010}") } else { path.clone() };
            if nodes.contains_key(&path) {
                return Err(Refusal::NodeExists);
            }
            let parent = path.rsplit_once('/').map_or("/", |(parent, _)| if parent.is_empty() { "/" } else { parent });
            if let Some(parent) = nodes.get_mut(parent) {
                parent.next += 1;
            }
            let owner = if kind.is_ephemeral() { session } else { 0 };
            nodes.insert(
                path.clone(),
                Node { data: data.clone(), version: 0, owner, czxid: zxid, mzxid: zxid, next: 0 },
            );
            Ok(Some(path))
        }
        Op::Set { path, data, version } => {
            let node = nodes.get_mut(path).ok_or(Refusal::NoNode)?;
            if version.is_some_and(|version| version != node.version) {
                return Err(Refusal::BadVersion);
            }
            (node.data, node.version, node.mzxid) = (data.clone(), node.version + 1, zxid);
            Ok(None)
        }
        Op::Delete { path } => {
            if !nodes.contains_key(path) {
                return Err(Refusal::NoNode);
            }
            if !children(nodes, path).is_empty() {
                return Err(Refusal::NotEmpty);
            }
            nodes.remove(path);
            Ok(None)
        }
    }
}
