//! Services that live in the coordination tree: the registry answers for them only what the tree says, and nothing while it cannot see the tree.
//!
//! A client of Eureka registers and renews at a registry, which keeps an ephemeral node for the instance in a session of its own; the node goes when the
//! lease ends, and when the session does. Whoever knows Apache Curator's service discovery finds the node, and what is registered there is found here.
//! `layout.rs` says what is in a node; `leases.rs` when it is to go.
//!
//! A [`Desk`] decides and does no IO: whoever drives it tells what is in the tree, carries out transactions, and tells when the tree is out of sight.
//! What always holds:
//!
//! - **An instance has one node**, kept by the registry that heard its heartbeat last: a heartbeat at another one moves it there in one transaction.
//! - **Nothing is decided on what is out of date.** Each transaction asks for the version of the service's node that the decision saw, and raises it, so of
//!   two that decide at the same time one has to decide again.
//! - **Out of sight nothing is shown and nothing is taken.** The instances of consistent services are then in no list, and whoever asks for them hears why.
//! - **Leases are those of Eureka, without its old defect**: one duration after the last heartbeat the instance is gone. While the tree is out of sight
//!   heartbeats are refused, so leases begin anew when it is back.

mod layout;
mod leases;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::layout::{Content, MAX_BYTES};
use self::leases::Leases;
use crate::Now;
use crate::instance::{Instance, Pair};
use crate::registry::Registry;
use crate::status::{Status, shown};

/// Metadata with which an instance says that its service is consistent.
pub const CONSISTENCY_KEY: &str = "rookeeper.consistency";
/// The value of it.
pub const CONSISTENT: &str = "cp";

/// What is held of the tree, at most.
const MAX_SERVICES: usize = 10_000;
const MAX_NODES: usize = 200_000;
const MAX_ALL_BYTES: usize = 256 << 20;

/// Leases that are said to be over at once.
const MAX_DUE: usize = 100;

/// Whether an instance says of itself that its service is consistent.
pub fn wants_consistency(instance: &Instance) -> bool {
    instance.metadata.iter().any(|(key, value)| &**key == CONSISTENCY_KEY && value.eq_ignore_ascii_case(CONSISTENT))
}

/// What a client wants of an instance. Applications are in upper case.
#[derive(Debug, Clone)]
pub enum Job {
    Register(Box<Instance>),
    Renew {
        app: String,
        id: String,
        dirty_ms: Option<i64>,
    },
    Cancel {
        app: String,
        id: String,
    },
    SetStatus {
        app: String,
        id: String,
        status: Status,
        dirty_ms: Option<i64>,
    },
    /// Takes the override away and shows this status.
    ClearStatus {
        app: String,
        id: String,
        status: Status,
        dirty_ms: Option<i64>,
    },
    Metadata {
        app: String,
        id: String,
        pairs: Vec<Pair>,
    },
    /// The lease is over.
    End {
        app: String,
        id: String,
    },
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// There is no such instance, or it is to register again.
    Unknown,
    /// Somebody else registered it in the tree, and changes it.
    Foreign,
    /// There is no room.
    Full,
    /// No node can have such a name.
    BadName,
    /// The tree is out of sight, for this reason.
    Blind(Arc<str>),
}

/// What is to be done for a job.
#[derive(Debug, Clone)]
pub enum Decision {
    Answer(Outcome),
    /// To be carried out; then [`Desk::written`], or after a conflict the job is decided again.
    Write(Transaction),
}

/// A change of one service, all or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Transaction {
    /// The name of the service's node, below the base.
    pub service: String,
    /// The version that the service's node must have, and that is raised; none where the node is to be made, as a container.
    pub version: Option<i32>,
    pub ops: Vec<TreeOp>,
    app: String,
    after: Option<Box<Content>>,
}

/// On the node of an instance, below that of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeOp {
    /// Of an ephemeral node in the own session.
    Create {
        id: String,
        data: Vec<u8>,
    },
    Set {
        id: String,
        data: Vec<u8>,
        version: i32,
    },
    Delete {
        id: String,
        version: i32,
    },
}

/// Something that is in the tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    Service { service: String, version: i32 },
    NoService { service: String },
    Node { service: String, id: String, node: Box<Node> },
    NoNode { service: String, id: String },
}

impl Seen {
    /// The node of an instance, read before anybody waits for the registry. `owner`: the session of an ephemeral node, 0 of others.
    pub fn node(service: String, id: String, owner: i64, version: i32, data: &[u8], now: Now) -> Seen {
        let content = layout::read(&service.to_uppercase(), &id, data, now);
        let node = Node { owner, version, bytes: data.len() + 512, content };
        Seen::Node { service, id, node: Box::new(node) }
    }
}

/// More in the tree than is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the tree has more than {MAX_SERVICES} services, {MAX_NODES} instances or {MAX_ALL_BYTES} bytes of them below the base path"
)]
pub struct TooMuch;

#[derive(Debug, Default)]
struct Service {
    version: i32,
    nodes: BTreeMap<String, Node>,
}

/// The node of an instance, or of something else.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    owner: i64,
    version: i32,
    bytes: usize,
    /// None for what is no instance.
    content: Option<Content>,
}

/// What one registry knows of the tree, and the leases that it keeps.
#[derive(Debug)]
pub struct Desk {
    /// Services that are consistent whether they are there or not: the application, and the name of the node.
    named: BTreeMap<String, String>,
    /// Why the tree is out of sight; none while it is seen.
    blind: Option<Arc<str>>,
    session: i64,
    services: BTreeMap<String, Service>,
    /// The service that an application's instances are in, of those that are there: another one whose name differs in case only is not shown.
    services_of: BTreeMap<String, String>,
    leases: Leases,
    nodes: usize,
    bytes: usize,
}

impl Desk {
    /// `named`: services that are consistent, as their nodes are called.
    pub fn new(named: &[String]) -> Desk {
        Desk {
            named: named.iter().map(|name| (name.to_uppercase(), name.clone())).collect(),
            blind: Some("the ensemble has not answered yet".into()),
            session: 0,
            services: BTreeMap::new(),
            services_of: BTreeMap::new(),
            leases: Leases::default(),
            nodes: 0,
            bytes: 0,
        }
    }

    /// Clients and other registries have no say in the services that are named, from the start on.
    pub fn claim_named(&self, registry: &mut Registry, now: Now) {
        self.named.keys().for_each(|app| registry.claim(app, now));
    }

    /// Whether the instances of an application are in the tree, as far as is known: a service that is named is consistent for certain, another one once it
    /// was seen there.
    pub fn is_consistent(&self, app: &str) -> bool {
        self.named.contains_key(app) || self.services_of.contains_key(app)
    }

    /// Why the tree is out of sight.
    pub fn blind(&self) -> Option<Arc<str>> {
        self.blind.clone()
    }

    /// The tree is out of sight: what was seen of it is shown no more. Which services are consistent stays known.
    pub fn lose_sight(&mut self, why: &str, registry: &mut Registry, now: Now) {
        self.blind = Some(why.into());
        for (service, known) in std::mem::take(&mut self.services) {
            let app = service.to_uppercase();
            for id in known.nodes.keys() {
                registry.hide(&app, id, now);
            }
        }
        (self.nodes, self.bytes) = (0, 0);
    }

    /// The tree is seen, all of it, in this session. Leases of nodes that this session has begin anew; others are kept elsewhere.
    pub fn gain_sight(
        &mut self,
        session: i64,
        all: Vec<Seen>,
        registry: &mut Registry,
        now: Now,
    ) -> Result<(), TooMuch> {
        self.lose_sight("the tree is being read", registry, now);
        self.services_of.clear();
        self.session = session;
        for seen in all {
            self.see(seen, registry, now)?;
        }
        self.leases.clear();
        for (service, known) in &self.services {
            for (id, node) in known.nodes.iter().filter(|(_, node)| node.owner == session) {
                let Some(content) = &node.content else { continue };
                self.leases.begin((service.to_uppercase(), id.clone()), &content.instance, now);
            }
        }
        self.blind = None;
        Ok(())
    }

    /// Something has changed in the tree, or is as it was.
    pub fn see(&mut self, seen: Seen, registry: &mut Registry, now: Now) -> Result<(), TooMuch> {
        match seen {
            Seen::Service { service, version } => {
                if self.services.len() >= MAX_SERVICES && !self.services.contains_key(&service) {
                    return Err(TooMuch);
                }
                let app = service.to_uppercase();
                self.services_of.entry(app.clone()).or_insert_with(|| service.clone());
                self.services.entry(service).or_default().version = version;
                registry.claim(&app, now);
            }
            Seen::NoService { service } => {
                let ids = self.services.get(&service).map(|known| known.nodes.keys().cloned().collect::<Vec<_>>());
                for id in ids.unwrap_or_default() {
                    self.forget(&service, &id, registry, now);
                }
                self.services.remove(&service);
                let app = service.to_uppercase();
                if self.services_of.get(&app) == Some(&service) {
                    self.services_of.remove(&app);
                    if !self.named.contains_key(&app) {
                        registry.release(&app);
                    }
                }
            }
            Seen::Node { service, id, node } => self.keep(&service, id, *node, registry, now)?,
            Seen::NoNode { service, id } => self.forget(&service, &id, registry, now),
        }
        Ok(())
    }

    fn keep(
        &mut self,
        service: &str,
        id: String,
        node: Node,
        registry: &mut Registry,
        now: Now,
    ) -> Result<(), TooMuch> {
        let app = service.to_uppercase();
        let is_shown = self.services_of.get(&app).is_some_and(|shown| shown == service);
        // A node of a service that is gone meanwhile is gone as well.
        let Some(known) = self.services.get_mut(service) else { return Ok(()) };
        let old = known.nodes.get(&id);
        let bytes = self.bytes - old.map_or(0, |old| old.bytes) + node.bytes;
        let nodes = self.nodes + usize::from(old.is_none());
        if bytes > MAX_ALL_BYTES || nodes > MAX_NODES {
            return Err(TooMuch);
        }
        (self.bytes, self.nodes) = (bytes, nodes);
        let is_same = old.is_some_and(|old| old.content == node.content);
        if node.owner != self.session {
            // Another registry heard the instance since.
            self.leases.remove(&(app.clone(), id.clone()));
        }
        match &node.content {
            _ if is_same || !is_shown => {}
            Some(content) => registry.show(content.instance.clone(), content.registered_ms, now),
            None => registry.hide(&app, &id, now),
        }
        known.nodes.insert(id, node);
        Ok(())
    }

    fn forget(&mut self, service: &str, id: &str, registry: &mut Registry, now: Now) {
        let Some(node) = self.services.get_mut(service).and_then(|known| known.nodes.remove(id)) else { return };
        self.bytes -= node.bytes;
        self.nodes -= 1;
        let app = service.to_uppercase();
        if self.services_of.get(&app).is_some_and(|shown| shown == service) {
            self.leases.remove(&(app.clone(), id.to_owned()));
            registry.hide(&app, id, now);
        }
    }

    /// What is to be done for a job.
    pub fn decide(&mut self, job: &Job, registry: &mut Registry, now: Now) -> Decision {
        if let Some(why) = &self.blind {
            return Decision::Answer(Outcome::Blind(why.clone()));
        }
        let (app, id) = job.about();
        let service = self.services_of.get(app).or_else(|| self.named.get(app)).cloned();
        let service = service.unwrap_or_else(|| app.to_lowercase());
        if !is_name(&service) || !is_name(id) || service.to_uppercase() != app {
            return Decision::Answer(Outcome::BadName);
        }
        let known = self.services.get(&service);
        let node = known.and_then(|known| known.nodes.get(id));
        let standing = node.and_then(|node| node.content.as_ref());
        let of_registry = standing.filter(|content| content.is_of_registry);
        let done = |outcome| Decision::Answer(outcome);
        let content = match job {
            Job::Register(instance) => registered(of_registry, instance, now),
            Job::End { .. } => {
                let key = (app.to_owned(), id.to_owned());
                let is_over = self.leases.is_over(&key, now);
                return match node.filter(|node| is_over && node.owner == self.session) {
                    Some(node) => Decision::Write(self.removal(app, service, id, node.version)),
                    None => {
                        if is_over {
                            self.leases.remove(&key);
                        }
                        done(Outcome::Done)
                    }
                };
            }
            _ if standing.is_none() => return done(Outcome::Unknown),
            // Who registers over Eureka what another way has registered takes it over, as Curator's clients do among each other.
            Job::Renew { .. } if of_registry.is_none() => return done(Outcome::Unknown),
            _ => match (of_registry, node) {
                (None, _) | (_, None) => return done(Outcome::Foreign),
                (Some(_), Some(node)) if matches!(job, Job::Cancel { .. }) => {
                    return Decision::Write(self.removal(app, service, id, node.version));
                }
                (Some(content), Some(_)) => match changed(content, job) {
                    Some(content) => content,
                    None => return done(Outcome::Unknown),
                },
            },
        };
        let is_own = node.is_some_and(|node| node.owner == self.session);
        let says_newer =
            matches!(job, Job::Renew { dirty_ms: Some(dirty_ms), .. } if *dirty_ms > content.instance.dirty_ms);
        if is_own && standing == Some(&content) {
            self.renew(app, id, &content.instance, registry, now);
            return done(if says_newer { Outcome::Unknown } else { Outcome::Done });
        }
        if says_newer {
            return done(Outcome::Unknown);
        }
        let data = layout::write(&service, &content.instance, content.registered_ms);
        if data.len() > MAX_BYTES || self.bytes + data.len() > MAX_ALL_BYTES || self.nodes >= MAX_NODES {
            return done(Outcome::Full);
        }
        let (version, id) = (known.map(|known| known.version), id.to_owned());
        let ops = match node {
            Some(node) if is_own => vec![TreeOp::Set { id, data, version: node.version }],
            Some(node) => vec![TreeOp::Delete { id: id.clone(), version: node.version }, TreeOp::Create { id, data }],
            None => vec![TreeOp::Create { id, data }],
        };
        Decision::Write(Transaction { app: app.to_owned(), service, version, ops, after: Some(content.into()) })
    }

    fn removal(&self, app: &str, service: String, id: &str, version: i32) -> Transaction {
        let at = self.services.get(&service).map(|known| known.version);
        let ops = vec![TreeOp::Delete { id: id.to_owned(), version }];
        Transaction { app: app.to_owned(), service, version: at, ops, after: None }
    }

    /// A transaction was carried out.
    pub fn written(&mut self, written: Transaction, registry: &mut Registry, now: Now) -> Result<(), TooMuch> {
        let Transaction { app, service, version, ops, after } = written;
        let seen =
            Seen::Service { service: service.clone(), version: version.map_or(0, |version| version.wrapping_add(1)) };
        self.see(seen, registry, now)?;
        for op in ops {
            let (id, version, bytes) = match op {
                TreeOp::Delete { id, .. } => {
                    self.forget(&service, &id, registry, now);
                    continue;
                }
                TreeOp::Create { id, data } => (id, 0, data.len()),
                TreeOp::Set { id, data, version } => (id, version.wrapping_add(1), data.len()),
            };
            let Some(content) = after.as_deref().cloned() else { continue };
            let instance = content.instance.clone();
            let node = Node { owner: self.session, version, bytes: bytes + 512, content: Some(content) };
            self.keep(&service, id.clone(), node, registry, now)?;
            self.renew(&app, &id, &instance, registry, now);
        }
        Ok(())
    }

    fn renew(&mut self, app: &str, id: &str, instance: &Instance, registry: &mut Registry, now: Now) {
        self.leases.begin((app.to_owned(), id.to_owned()), instance, now);
        registry.beat(app, id, now);
    }

    /// Instances whose leases are over, as jobs, some of them where there are many, and when the next lease ends.
    pub fn due(&self, now: Now) -> (Vec<Job>, Option<u64>) {
        if self.blind.is_some() {
            return (Vec::new(), None);
        }
        let over = self.leases.over(now).take(MAX_DUE);
        let jobs = over.map(|(app, id)| Job::End { app: app.clone(), id: id.clone() }).collect();
        (jobs, self.leases.next_ms())
    }
}

impl Job {
    /// The application and the id.
    pub fn about(&self) -> (&str, &str) {
        match self {
            Job::Register(instance) => (&instance.app, &instance.id),
            Job::Renew { app, id, .. }
            | Job::Cancel { app, id }
            | Job::SetStatus { app, id, .. }
            | Job::ClearStatus { app, id, .. }
            | Job::Metadata { app, id, .. }
            | Job::End { app, id } => (app, id),
        }
    }
}

fn override_of(instance: &Instance) -> Option<Status> {
    Some(instance.overridden_status).filter(|set| *set != Status::Unknown)
}

/// What stands after a registration: of two versions the newer one, of an override the one that stands.
fn registered(standing: Option<&Content>, newcomer: &Instance, now: Now) -> Content {
    let Some(standing) = standing else {
        let mut instance = newcomer.clone();
        instance.status = shown(instance.status, override_of(&instance), None);
        return Content { instance, registered_ms: now.wall_ms, is_of_registry: true };
    };
    if standing.instance.dirty_ms > newcomer.dirty_ms {
        return standing.clone();
    }
    let mut instance = newcomer.clone();
    let set = override_of(&standing.instance).or_else(|| override_of(newcomer));
    instance.overridden_status = set.unwrap_or(Status::Unknown);
    instance.status = shown(instance.status, set, Some(standing.instance.status));
    Content { instance, registered_ms: standing.registered_ms, is_of_registry: true }
}

/// What stands after a change; none where the instance is to register anew.
fn changed(standing: &Content, job: &Job) -> Option<Content> {
    let mut content = standing.clone();
    let instance = &mut content.instance;
    match job {
        Job::Renew { .. } => {
            instance.status = shown(instance.status, override_of(instance), Some(instance.status));
            if instance.status == Status::Unknown {
                return None;
            }
        }
        Job::SetStatus { status, dirty_ms, .. } if instance.status != *status => {
            instance.status = *status;
            instance.overridden_status = *status;
            instance.dirty_ms = instance.dirty_ms.max(dirty_ms.unwrap_or(0));
        }
        Job::ClearStatus { status, dirty_ms, .. } if instance.overridden_status != Status::Unknown => {
            instance.status = *status;
            instance.overridden_status = Status::Unknown;
            instance.dirty_ms = instance.dirty_ms.max(dirty_ms.unwrap_or(0));
        }
        Job::Metadata { pairs, .. } => {
            for (key, value) in pairs {
                match instance.metadata.iter_mut().find(|(known, _)| known == key) {
                    Some(pair) => pair.1 = value.clone(),
                    None => instance.metadata.push((key.clone(), value.clone())),
                }
            }
        }
        _ => {}
    }
    Some(content)
}

/// Whether a node can be called so.
fn is_name(name: &str) -> bool {
    let is_bad = |character: char| {
        character == '/'
            || character.is_control()
            || matches!(character, '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}')
    };
    !matches!(name, "" | "." | "..") && name.len() <= 1024 && !name.contains(is_bad)
}
