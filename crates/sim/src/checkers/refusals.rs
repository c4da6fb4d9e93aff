//! Each request for a change has the outcome that the model says at its place in the history: it is done, or refused with this error.
//!
//! Written without a look at the product's rules, in the order of checks that clients of the original rely on. What is not judged here:
//! requests of sessions that one server knows, as far as their session is concerned, and requests for other members.
//!
//! Where the leader has little room on its disk, requests that make the log grow are refused, and where it has little memory those that make the data grow;
//! nothing else is. Where that changed in the same step both outcomes are right.
//!
//! Quotas are checked against what the leader has applied when it proposes, not against what is on its way, as in the original. Where the
//! two differ both outcomes are right.

use std::collections::BTreeMap;

use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::multi::WriteOp;
use rookeeper_proto::request::{CreateRequest, WriteRequest};
use rookeeper_proto::{Acl, ErrorCode, Id, Permissions, SessionId, Txn, TxnRecord, Zxid, path};
use rookeeper_replica::Shortage;

use super::Verdict;
use super::model::Model;
use super::requests::{Request, is_refused_unread};
use super::rights::{self, User};

/// Whether an operation may be done, or the error that refuses it.
type Checked = Result<(), ErrorCode>;

/// Nodes that are there from the beginning.
const BUILT_IN: [&str; 4] = [path::ROOT, path::SYSTEM, path::QUOTA, path::CONFIG];

/// How a life's servers are set up, as far as it matters here.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    pub checks_access: bool,
    pub enforces_quotas: bool,
}

/// Whether each refusal was right by the state that the leader may have seen.
#[derive(Debug, Default)]
pub struct Refusals {
    pub rules: Rules,
    /// The last transactions that the leader had applied when it proposed each transaction, at least and at most.
    applied: BTreeMap<Zxid, (Zxid, Zxid)>,
    /// What the leader had too little of before and after the step in which it proposed each transaction.
    shortages: BTreeMap<Zxid, (Shortage, Shortage)>,
}

impl Refusals {
    /// A leader proposes the transaction; `applied` is what it had applied by then, at least and at most, and `shortage` what it had too little of, before
    /// and after that step.
    pub fn proposed(&mut self, zxid: Zxid, applied: (Zxid, Zxid), shortage: (Shortage, Shortage)) {
        self.applied.insert(zxid, applied);
        self.shortages.insert(zxid, shortage);
    }

    /// A transaction is committed behind the state that `model` shows.
    pub fn committed(&mut self, model: &Model, record: &TxnRecord, request: Option<&Request>) -> Verdict {
        let zxid = record.header.zxid;
        let applied = self.applied.remove(&zxid);
        let shortage = self.shortages.remove(&zxid);
        let Some(request) = request else { return Ok(()) };
        let session = record.header.session;
        let is_over = model.is_over(session);
        if is_refused_unread(&record.txn) {
            let expired = matches!(record.txn, Txn::Error { code } if code == ErrorCode::SessionExpired.number());
            // An ephemeral node of a session that one server knows is refused so, too.
            let may = !expired || is_over || !model.knows_session(session);
            return if may { Ok(()) } else { Err(describe(record, request, "the session is alive")) };
        }
        if is_over {
            return Err(describe(record, request, "the session is over"));
        }
        let before = model.last();
        let applied = applied.unwrap_or((before, before));
        let mut stage = Stage {
            model,
            rules: self.rules,
            user: request.user,
            session,
            applied,
            shortage: shortage.unwrap_or_default(),
            before,
            changed: BTreeMap::new(),
            is_unsure: false,
        };
        let expected = match &request.write {
            WriteRequest::Reconfig(_) => return Ok(()),
            WriteRequest::CloseSession => Ok(()),
            WriteRequest::Create(create) | WriteRequest::Create2(create) | WriteRequest::CreateContainer(create) => {
                stage.create(create)
            }
            WriteRequest::CreateTtl(ttl) => stage.create(&ttl.create),
            WriteRequest::Delete(delete) => stage.delete(&delete.path, delete.version),
            WriteRequest::SetData(set) => {
                stage.set_data(&set.path, set.data.as_ref().map_or(0, |data| data.0.len()), set.version)
            }
            WriteRequest::SetAcl(set) => stage.set_acl(&set.path, set.acl.as_deref(), set.version),
            WriteRequest::Multi(ops) => return stage.multi(record, request, ops),
        };
        let found = match &record.txn {
            Txn::Error { code } => Err(*code),
            _ => Ok(()),
        };
        if stage.is_unsure || expected.map_err(ErrorCode::number) == found {
            return Ok(());
        }
        Err(describe(record, request, &format!("the model says {expected:?}")))
    }
}

fn describe(record: &TxnRecord, request: &Request, why: &str) -> String {
    let (header, txn) = (&record.header, &record.txn);
    let (cxid, session, zxid) = (header.cxid, header.session, header.zxid);
    format!(
        "refusals: request {cxid} of session {session} at {zxid}, {:?} of user {}, became {txn:?}, but {why}",
        request.write, request.user
    )
}

/// A node as the operations of one request find it.
#[derive(Debug, Clone)]
struct Found {
    version: i32,
    aversion: i32,
    bytes: usize,
    is_ephemeral: bool,
    acl: Vec<Acl>,
}

struct Stage<'a> {
    model: &'a Model,
    rules: Rules,
    user: User,
    session: SessionId,
    applied: (Zxid, Zxid),
    shortage: (Shortage, Shortage),
    /// The state behind which the request stands.
    before: Zxid,
    /// The nodes that the operations before have changed.
    changed: BTreeMap<String, Option<Found>>,
    is_unsure: bool,
}

impl Stage<'_> {
    fn multi(&mut self, record: &TxnRecord, request: &Request, ops: &[WriteOp]) -> Verdict {
        let outcome = ops.iter().enumerate().find_map(|(index, op)| {
            let outcome = match op {
                WriteOp::Create(create) | WriteOp::Create2(create) | WriteOp::CreateContainer(create) => {
                    self.create(create)
                }
                WriteOp::CreateTtl(ttl) => self.create(&ttl.create),
                WriteOp::Delete(delete) => self.delete(&delete.path, delete.version),
                WriteOp::SetData(set) => {
                    self.set_data(&set.path, set.data.as_ref().map_or(0, |data| data.0.len()), set.version)
                }
                WriteOp::Check(check) => self.check(&check.path, check.version),
            };
            outcome.err().map(|code| (index, code.number()))
        });
        let Txn::Multi(members) = &record.txn else {
            return Err(describe(record, request, "the request is a multi"));
        };
        let codes = members.iter().enumerate();
        let found = codes.clone().find_map(|(index, member)| match member {
            Txn::Error { code } if *code != 0 => Some((index, *code)),
            _ => None,
        });
        if self.is_unsure || outcome == found {
            return Ok(());
        }
        Err(describe(record, request, &format!("the model says {outcome:?}")))
    }

    fn find(&self, path: &str) -> Result<Found, ErrorCode> {
        if let Some(changed) = self.changed.get(path) {
            return changed.clone().ok_or(ErrorCode::NoNode);
        }
        match self.model.now(path) {
            Some(node) => Ok(Found {
                version: node.version,
                aversion: node.aversion,
                bytes: node.data.len(),
                is_ephemeral: node.owner != SessionId::NONE,
                acl: node.acl.to_vec(),
            }),
            None if BUILT_IN.contains(&path) => {
                let acl = Acl::open();
                Ok(Found { version: 0, aversion: 0, bytes: 0, is_ephemeral: false, acl })
            }
            None => Err(ErrorCode::NoNode),
        }
    }

    fn may(&self, node: &Found, wanted: Permissions) -> Checked {
        let may = !self.rules.checks_access || rights::may(&node.acl, self.user, wanted);
        if may { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }

    fn has_children(&self, path: &str) -> bool {
        let is_child = |other: &str| path::parent(other) == Some(path);
        let made = self.changed.iter().any(|(other, node)| is_child(other) && node.is_some());
        made || self.model.children_at(path, self.before).iter().any(|name| {
            let child = if path == path::ROOT { format!("/{name}") } else { format!("{path}/{name}") };
            !self.changed.contains_key(&child)
        })
    }

    fn create(&mut self, create: &CreateRequest) -> Checked {
        let is_ephemeral = matches!(create.flags, 1 | 3);
        let is_sequential = matches!(create.flags, 2 | 3 | 6);
        if is_ephemeral && !self.model.is_alive(self.session) {
            return Err(ErrorCode::SessionExpired);
        }
        let path = create.path.as_deref().ok_or(ErrorCode::MarshallingError)?;
        let parent = path::parent(path).ok_or(ErrorCode::BadArguments)?;
        let acl = list(create.acl.as_deref())?;
        let parent = self.find(parent)?;
        self.may(&parent, Permissions::CREATE)?;
        // Nobody else gives names like those of sequential nodes.
        if !is_sequential && self.find(path).is_ok() {
            return Err(ErrorCode::NodeExists);
        }
        if parent.is_ephemeral {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let bytes = create.data.as_ref().map_or(0, |data| data.0.len());
        self.fits(path, bytes as i64, 1)?;
        self.has_room(true, true)?;
        // A sequential node gets a name that no other operation of the request can know, but it is a child from now on.
        let path = if is_sequential { format!("{path}?") } else { path.to_owned() };
        self.changed.insert(path, Some(Found { version: 0, aversion: 0, bytes, is_ephemeral, acl }));
        Ok(())
    }

    fn delete(&mut self, path: &Option<String>, version: i32) -> Checked {
        let path = path.as_deref().ok_or(ErrorCode::MarshallingError)?;
        if BUILT_IN.contains(&path) {
            return Err(ErrorCode::BadArguments);
        }
        let parent = self.find(path::parent(path).ok_or(ErrorCode::BadArguments)?)?;
        self.may(&parent, Permissions::DELETE)?;
        let node = self.find(path)?;
        is_version(node.version, version)?;
        if self.has_children(path) {
            return Err(ErrorCode::NotEmpty);
        }
        self.changed.insert(path.to_owned(), None);
        Ok(())
    }

    fn set_data(&mut self, path: &Option<String>, bytes: usize, version: i32) -> Checked {
        let path = path.as_deref().ok_or(ErrorCode::MarshallingError)?;
        let mut node = self.find(path)?;
        self.may(&node, Permissions::WRITE)?;
        self.fits(path, bytes as i64 - node.bytes as i64, 0)?;
        is_version(node.version, version)?;
        self.has_room(bytes >= node.bytes, bytes > node.bytes)?;
        node.version += 1;
        node.bytes = bytes;
        self.changed.insert(path.to_owned(), Some(node));
        Ok(())
    }

    fn set_acl(&mut self, path: &Option<String>, acl: Option<&[AclRequest]>, version: i32) -> Checked {
        let path = path.as_deref().ok_or(ErrorCode::MarshallingError)?;
        list(acl)?;
        let node = self.find(path)?;
        self.may(&node, Permissions::ADMIN)?;
        is_version(node.aversion, version)?;
        self.has_room(true, false)
    }

    fn check(&mut self, path: &Option<String>, version: i32) -> Checked {
        let node = self.find(path.as_deref().ok_or(ErrorCode::MarshallingError)?)?;
        self.may(&node, Permissions::READ)?;
        is_version(node.version, version)
    }

    /// Whether the leader takes an operation that makes the log, or the data, grow.
    fn has_room(&mut self, log_grows: bool, data_grows: bool) -> Checked {
        let refuses = |shortage: Shortage| (shortage.disk && log_grows) || (shortage.memory && data_grows);
        let (before, after) = (refuses(self.shortage.0), refuses(self.shortage.1));
        self.is_unsure |= before != after;
        if before { Err(ErrorCode::QuotaExceeded) } else { Ok(()) }
    }

    /// Whether the nearest quota has room.
    fn fits(&mut self, path: &str, bytes: i64, count: i64) -> Checked {
        if !self.rules.enforces_quotas {
            return Ok(());
        }
        let (first, last) = (self.applied.0.min(self.before), self.applied.1.min(self.before));
        let mut states = vec![first];
        states.extend(self.model.changes_between(first, last));
        let fitting = states.iter().filter(|zxid| self.fits_at(**zxid, path, bytes, count)).count();
        self.is_unsure |= fitting != 0 && fitting != states.len();
        if fitting > 0 { Ok(()) } else { Err(ErrorCode::QuotaExceeded) }
    }

    fn fits_at(&self, zxid: Zxid, path: &str, bytes: i64, count: i64) -> bool {
        let mut top = Some(path);
        while let Some(limited) = top.filter(|top| *top != path::ROOT) {
            let quota = |name: &str| self.model.at(&format!("{}{limited}/{name}", path::QUOTA), zxid);
            if let Some(limits) = quota(path::QUOTA_LIMITS) {
                if quota(path::QUOTA_STATS).is_none() {
                    return true;
                }
                let (used_bytes, used_count) = self.model.used_below(limited, zxid);
                let text = String::from_utf8_lossy(&limits.data).into_owned();
                let exceeds = |name, used: i64, more: i64| {
                    limit(&text, name).is_some_and(|limit| more != 0 && used + more > limit)
                };
                return !exceeds("countHardLimit", used_count, count) && !exceeds("byteHardLimit", used_bytes, bytes);
            }
            top = path::parent(limited);
        }
        true
    }
}

/// The value of a limit in the text of a quota.
fn limit(text: &str, name: &str) -> Option<i64> {
    let mut words = text.split([',', ';', '=']).skip_while(|word| *word != name);
    words.nth(1)?.parse().ok().filter(|limit| *limit >= 0)
}

/// The meaning of a list that a client sends.
fn list(acl: Option<&[AclRequest]>) -> Result<Vec<Acl>, ErrorCode> {
    let entries = acl.filter(|acl| !acl.is_empty()).ok_or(ErrorCode::InvalidAcl)?;
    let entry = |entry: &AclRequest| {
        let id = Id::new(entry.scheme.clone()?, entry.id.clone()?);
        let makes_sense = id == Id::anyone() || id.scheme == "digest";
        makes_sense.then(|| Acl::new(entry.permissions, id))
    };
    entries.iter().map(|one| entry(one).ok_or(ErrorCode::InvalidAcl)).collect()
}

fn is_version(found: i32, wanted: i32) -> Checked {
    if wanted == -1 || wanted == found { Ok(()) } else { Err(ErrorCode::BadVersion) }
}
