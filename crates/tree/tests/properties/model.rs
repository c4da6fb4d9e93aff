//! A tree as simple as possible: a sorted map of paths. It prepares transactions as a leader does, so that a random sequence of
//! operations becomes a history that could have happened.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rookeeper_proto::txn::{CreateKind, CreateTxn};
use rookeeper_proto::{
    Acl, Id, NodeKind, Permissions, SessionId, StatPersisted, TtlEncoding, Txn, TxnHeader, Zxid, path,
};
use rookeeper_tree::{Tree, digest};

/// What a client may ask for; most of it is refused most of the time.
#[derive(Debug, Clone)]
pub enum Operation {
    Create {
        path: String,
        data: Option<Vec<u8>>,
        acl: Option<Vec<Acl>>,
        kind: CreateKind,
    },
    Delete {
        path: String,
    },
    SetData {
        path: String,
        data: Option<Vec<u8>>,
    },
    SetAcl {
        path: String,
        acl: Option<Vec<Acl>>,
    },
    OpenSession,
    CloseSession {
        with_paths: bool,
    },
    Multi(Vec<Operation>),
    FailedMulti(Vec<Operation>),
    /// As the tools of clients do it: limits and statistics in one go.
    AddQuota {
        path: String,
    },
    DeleteQuota {
        path: String,
    },
    Refused,
}

/// One inside the other, in all ways.
const QUOTA_PATHS: [&str; 5] = ["/a", "/b", "/a/b", "/a/b/a", "/zookeeper"];

/// An operation and the session (1 to 3) it comes from.
pub type Step = (i64, Operation);

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ü"]), 1..4)
        .prop_map(|names| format!("/{}", names.join("/")))
}

fn any_data() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..20))
}

fn any_acl() -> impl Strategy<Value = Option<Vec<Acl>>> {
    let user = |name: &'static str| vec![Acl::new(Permissions(3), Id::new("digest", name))];
    let lists =
        vec![None, Some(Acl::open()), Some(Acl::read_only()), Some(user("u:1")), Some(user("u:2")), Some(vec![])];
    prop::sample::select(lists)
}

fn any_kind() -> impl Strategy<Value = CreateKind> {
    prop_oneof![
        4 => Just(CreateKind::Node { ephemeral: false, with_stat: false }),
        2 => Just(CreateKind::Node { ephemeral: true, with_stat: true }),
        1 => Just(CreateKind::Container),
        1 => Just(CreateKind::Ttl { ttl_ms: 5 }),
    ]
}

fn any_simple_operation() -> impl Strategy<Value = Operation> {
    let quota_path = || prop::sample::select(QUOTA_PATHS.map(str::to_owned).to_vec());
    prop_oneof![
        8 => (any_path(), any_data(), any_acl(), any_kind())
            .prop_map(|(path, data, acl, kind)| Operation::Create { path, data, acl, kind }),
        6 => any_path().prop_map(|path| Operation::Delete { path }),
        4 => (any_path(), any_data()).prop_map(|(path, data)| Operation::SetData { path, data }),
        3 => (any_path(), any_acl()).prop_map(|(path, acl)| Operation::SetAcl { path, acl }),
        1 => quota_path().prop_map(|path| Operation::AddQuota { path }),
        1 => quota_path().prop_map(|path| Operation::DeleteQuota { path }),
    ]
}

fn any_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        20 => any_simple_operation(),
        2 => prop::collection::vec(any_simple_operation(), 0..5).prop_map(Operation::Multi),
        1 => prop::collection::vec(any_simple_operation(), 0..3).prop_map(Operation::FailedMulti),
        2 => Just(Operation::OpenSession),
        2 => any::<bool>().prop_map(|with_paths| Operation::CloseSession { with_paths }),
        1 => Just(Operation::Refused),
    ]
}

pub fn any_step() -> impl Strategy<Value = Step> {
    (1_i64..4, any_operation())
}

#[derive(Debug, Clone, PartialEq)]
pub struct ModelNode {
    pub data: Option<Vec<u8>>,
    pub acl: Vec<Acl>,
    pub stat: StatPersisted,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    pub nodes: BTreeMap<String, ModelNode>,
    pub sessions: BTreeMap<SessionId, i32>,
    pub zxid: Zxid,
}

impl Model {
    pub fn new() -> Model {
        let node = || ModelNode { data: Some(vec![]), acl: Acl::open(), stat: StatPersisted::default() };
        let mut nodes: BTreeMap<_, _> =
            ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"].map(|path| (path.to_owned(), node())).into();
        let config = nodes.get_mut("/zookeeper/config").unwrap();
        config.acl = Acl::read_only();
        config.stat.aversion = -1;
        Model { nodes, sessions: BTreeMap::new(), zxid: Zxid::ZERO }
    }

    pub fn header(&self, session: i64) -> TxnHeader {
        let zxid = Zxid(self.zxid.0 + 1);
        TxnHeader { session: SessionId(session), cxid: 0, zxid, time_ms: 1_000_000 + zxid.0 }
    }

    pub fn children(&self, path: &str) -> BTreeSet<&str> {
        let below = self.nodes.keys().filter(|other| path::parent(other) == Some(path));
        below.map(|other| path::name(other)).collect()
    }

    pub fn descendants(&self, path: &str) -> usize {
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        self.nodes.keys().filter(|other| other.starts_with(&prefix) && *other != "/").count()
    }

    pub fn ephemerals(&self, session: SessionId) -> BTreeSet<&str> {
        let owned =
            self.nodes.iter().filter(|(_, node)| node.stat.kind(TtlEncoding::Current) == NodeKind::Ephemeral(session));
        owned.map(|(path, _)| path.as_str()).collect()
    }

    /// The digest from nothing.
    pub fn digest(&self) -> i64 {
        let counted = self.nodes.iter().filter(|(path, _)| digest::counts(path));
        let sum = counted.fold(0_u64, |sum, (path, node)| {
            sum.wrapping_add(digest::node(digest::content_crc(path, node.data.as_deref()), &node.stat))
        });
        sum as i64
    }

    /// The transaction for an operation; `None` where a leader would refuse it.
    pub fn prepare(&self, session: i64, operation: &Operation) -> Option<Txn> {
        let session = SessionId(session);
        match operation {
            Operation::Create { path: node_path, data, acl, kind } => {
                let parent = self.nodes.get(path::parent(node_path)?)?;
                let ephemeral = matches!(kind, CreateKind::Node { ephemeral: true, .. });
                let possible = !self.nodes.contains_key(node_path)
                    && !matches!(parent.stat.kind(TtlEncoding::Current), NodeKind::Ephemeral(_))
                    && (!ephemeral || self.sessions.contains_key(&session));
                possible.then(|| {
                    Txn::Create(CreateTxn {
                        path: node_path.clone(),
                        data: data.clone(),
                        acl: acl.clone(),
                        kind: *kind,
                        parent_cversion: parent.stat.cversion + 1,
                    })
                })
            }
            Operation::Delete { path } => {
                let possible = self.nodes.contains_key(path) && self.children(path).is_empty();
                possible.then(|| Txn::Delete { path: path.clone() })
            }
            Operation::SetData { path, data } => {
                let version = self.nodes.get(path)?.stat.version + 1;
                Some(Txn::SetData { path: path.clone(), data: data.clone(), version })
            }
            Operation::SetAcl { path, acl } => {
                let version = self.nodes.get(path)?.stat.aversion + 1;
                Some(Txn::SetAcl { path: path.clone(), acl: acl.clone(), version })
            }
            Operation::OpenSession => {
                (!self.sessions.contains_key(&session)).then_some(Txn::CreateSession { timeout_ms: 4000 })
            }
            Operation::CloseSession { with_paths } => {
                self.sessions.get(&session)?;
                let paths = self.ephemerals(session).into_iter().map(str::to_owned).collect();
                Some(Txn::CloseSession { paths: with_paths.then_some(paths) })
            }
            Operation::Multi(operations) => Some(Txn::Multi(self.prepare_members(session.0, operations))),
            Operation::FailedMulti(operations) => {
                let mut members = self.prepare_members(session.0, operations);
                members.extend([Txn::Error { code: -101 }, Txn::Error { code: -2 }]);
                Some(Txn::Multi(members))
            }
            Operation::AddQuota { path } => {
                let create = |path: String, data: &str| {
                    let kind = CreateKind::Node { ephemeral: false, with_stat: false };
                    Operation::Create { path, data: Some(data.into()), acl: None, kind }
                };
                let top = format!("{}{path}", path::QUOTA);
                (!self.nodes.contains_key(&format!("{top}/zookeeper_limits"))).then(|| {
                    // Those above that are there already are left out.
                    let ends = path.match_indices('/').skip(1).map(|(end, _)| &path[..end]).chain([path.as_str()]);
                    let mut operations: Vec<_> = ends.map(|end| create(format!("{}{end}", path::QUOTA), "")).collect();
                    operations.push(create(format!("{top}/zookeeper_limits"), "count=5,bytes=-1"));
                    operations.push(create(format!("{top}/zookeeper_stats"), "count=0,bytes=0"));
                    Txn::Multi(self.prepare_members(session.0, &operations))
                })
            }
            Operation::DeleteQuota { path } => {
                let top = format!("{}{path}", path::QUOTA);
                let paths = [format!("{top}/zookeeper_stats"), format!("{top}/zookeeper_limits"), top.clone()];
                let deletions = paths.map(|path| Operation::Delete { path });
                self.nodes
                    .contains_key(&format!("{top}/zookeeper_limits"))
                    .then(|| Txn::Multi(self.prepare_members(session.0, &deletions)))
            }
            Operation::Refused => Some(Txn::Error { code: -101 }),
        }
    }

    /// Each member sees the effects of those before it; what would be refused is left out.
    fn prepare_members(&self, session: i64, operations: &[Operation]) -> Vec<Txn> {
        let mut ahead = self.clone();
        let mut members = Vec::new();
        for operation in operations {
            // A multi in a multi does not exist.
            if let Some(txn) = ahead.prepare(session, operation).filter(|txn| !matches!(txn, Txn::Multi(_))) {
                ahead.apply_one(&self.header(session), &txn);
                members.push(txn);
            }
        }
        members
    }

    pub fn apply(&mut self, header: &TxnHeader, txn: &Txn) {
        self.apply_one(header, txn);
        self.count_quotas();
        self.zxid = header.zxid;
    }

    fn apply_one(&mut self, header: &TxnHeader, txn: &Txn) {
        match txn {
            Txn::Create(create) => {
                let kind = match create.kind {
                    CreateKind::Node { ephemeral: true, .. } => NodeKind::Ephemeral(header.session),
                    CreateKind::Node { .. } => NodeKind::Persistent,
                    CreateKind::Container => NodeKind::Container,
                    CreateKind::Ttl { ttl_ms } => NodeKind::Ttl { ttl_ms },
                };
                let parent = self.nodes.get_mut(path::parent(&create.path).unwrap()).unwrap();
                parent.stat.cversion += 1;
                parent.stat.pzxid = header.zxid;
                let stat = StatPersisted::created(header.zxid, header.time_ms, kind.owner());
                let acl = create.acl.clone().unwrap_or_else(Acl::open);
                self.nodes.insert(create.path.clone(), ModelNode { data: create.data.clone(), acl, stat });
            }
            Txn::Delete { path } => self.delete(path, header.zxid),
            Txn::SetData { path, data, version } => {
                let node = self.nodes.get_mut(path).unwrap();
                node.data = data.clone();
                node.stat.version = *version;
                node.stat.mzxid = header.zxid;
                node.stat.mtime_ms = header.time_ms;
            }
            Txn::SetAcl { path, acl, version } => {
                let node = self.nodes.get_mut(path).unwrap();
                node.acl = acl.clone().unwrap_or_else(Acl::open);
                node.stat.aversion = *version;
            }
            Txn::CreateSession { timeout_ms } => {
                self.sessions.insert(header.session, *timeout_ms);
            }
            Txn::CloseSession { .. } => {
                self.sessions.remove(&header.session);
                let owned: Vec<_> = self.ephemerals(header.session).into_iter().map(str::to_owned).collect();
                owned.iter().for_each(|path| self.delete(path, header.zxid));
            }
            Txn::Multi(members) => {
                if !members.iter().any(|member| matches!(member, Txn::Error { .. })) {
                    members.iter().for_each(|member| self.apply_one(header, member));
                }
            }
            Txn::Error { .. } => {}
            other => unreachable!("{other:?} is never prepared"),
        }
    }

    fn delete(&mut self, node_path: &str, zxid: Zxid) {
        self.nodes.remove(node_path).unwrap();
        self.nodes.get_mut(path::parent(node_path).unwrap()).unwrap().stat.pzxid = zxid;
    }

    /// Statistics by definition: every node counts for the nearest path at or above it that has limits. Statistics have no bytes.
    fn count_quotas(&mut self) {
        let node_of = |limited: &str, name: &str| format!("{}{limited}/{name}", path::QUOTA);
        let is_armed = |limited: &&str| self.nodes.contains_key(&node_of(limited, "zookeeper_limits"));
        let armed: Vec<_> = QUOTA_PATHS.into_iter().filter(is_armed).collect();
        let is_at_or_above = |above: &str, path: &str| path == above || path.starts_with(&format!("{above}/"));
        let nearest =
            |path: &str| armed.iter().filter(|above| is_at_or_above(above, path)).max_by_key(|above| above.len());
        let mut used: BTreeMap<&str, (usize, usize)> = armed.iter().map(|limited| (*limited, (0, 0))).collect();
        for (path, node) in &self.nodes {
            if let Some(limited) = nearest(path) {
                let (count, bytes) = used.get_mut(limited).unwrap();
                *count += 1;
                if !path.ends_with("/zookeeper_stats") {
                    *bytes += node.data.as_ref().map_or(0, Vec::len);
                }
            }
        }
        for (limited, (count, bytes)) in used {
            if let Some(stats) = self.nodes.get_mut(&node_of(limited, "zookeeper_stats")) {
                stats.data = Some(format!("count={count},bytes={bytes}").into_bytes());
            }
        }
    }

    /// What a tree holds, as a model.
    pub fn of(tree: &Tree) -> Model {
        let nodes = tree.nodes().map(|node| {
            let (data, acl) = (node.data().map(<[u8]>::to_vec), node.acl().to_vec());
            (node.path().to_owned(), ModelNode { data, acl, stat: node.persisted() })
        });
        Model { nodes: nodes.collect(), sessions: tree.sessions().collect(), zxid: tree.last_zxid() }
    }
}

/// Everything a tree derives from its nodes is what the nodes say.
pub fn assert_consistent(tree: &Tree) {
    let model = Model::of(tree);
    assert_eq!(tree.digest(), model.digest(), "digest");
    assert_eq!(tree.node_count(), model.nodes.len());
    assert_eq!(tree.session_count(), model.sessions.len());
    let size =
        |(path, node): (&String, &ModelNode)| path.encode_utf16().count() + node.data.as_ref().map_or(0, Vec::len);
    assert_eq!(tree.approximate_data_size(), model.nodes.iter().map(size).sum::<usize>());
    for (path, expected) in &model.nodes {
        let node = tree.node(path).expect("every node is found by its path");
        let children = model.children(path);
        assert_eq!(
            node.children().collect::<Vec<_>>(),
            children.iter().copied().collect::<Vec<_>>(),
            "children of {path}"
        );
        let data_length = expected.data.as_ref().map_or(0, Vec::len);
        assert_eq!(
            node.stat(),
            expected.stat.visible(data_length, children.len(), TtlEncoding::Current),
            "stat of {path}"
        );
        assert_eq!(node.content_crc(), digest::content_crc(path, expected.data.as_deref()));
        let mut count = tree.count_descendants(path).expect("the node is there");
        assert_eq!(count.go_on(tree, usize::MAX), Some(model.descendants(path)));
    }
    let lists: BTreeSet<_> = model.nodes.values().map(|node| &node.acl).filter(|acl| **acl != Acl::open()).collect();
    assert_eq!(tree.acl_count(), lists.len());
    let mut ephemeral_count = 0;
    let owners: BTreeSet<_> = tree.owners_behind(None).collect();
    for session in (1..4).map(SessionId) {
        let owned = model.ephemerals(session);
        assert_eq!(tree.ephemerals(session).collect::<BTreeSet<_>>(), owned);
        assert_eq!(owners.contains(&session), !owned.is_empty());
        ephemeral_count += owned.len();
    }
    assert_eq!(tree.ephemeral_count(), ephemeral_count);
    let reapable =
        |node: &&ModelNode| matches!(node.stat.kind(TtlEncoding::Current), NodeKind::Container | NodeKind::Ttl { .. });
    let empty = model.nodes.iter().filter(|(path, _)| model.children(path).is_empty());
    let due: BTreeSet<_> = empty.filter(|(_, node)| reapable(node)).map(|(path, _)| path.clone()).collect();
    assert_eq!(tree.reap_candidates(i64::MAX, 1, None, usize::MAX).0.into_iter().collect::<BTreeSet<_>>(), due);
}
