//! What an audit log tells of requests: who asked for what, and what became of it.
//!
//! What always holds here: where `Settings::audits` is off nothing of this is made. A request that was handed to the replica is told exactly
//! once, whatever became of its connection in the meantime: a client must not hide a change by not waiting for the answer.
//!
//! Counterpart in the original: `AuditHelper`, which is asked behind each request that is answered.

use std::net::IpAddr;
use std::sync::Arc;

use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::multi::WriteOp;
use rookeeper_proto::request::{CreateRequest, WriteRequest};
use rookeeper_proto::{OpCode, SessionId};
use rookeeper_tree::Outcome;

use crate::clients::connection::{Connection, Identities};
use crate::contract::Output;
use crate::core::Core;

/// A request of a client, as an audit log tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    pub session: SessionId,
    /// The client's address.
    pub client: IpAddr,
    /// As they were when the request arrived.
    pub identities: Identities,
    pub operation: Operation,
}

/// What was asked for. A path is absent where the request had none, or could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// With the flags of the request, which say the kind of the node.
    Create {
        path: Option<String>,
        flags: i32,
    },
    Delete {
        path: Option<String>,
    },
    SetData {
        path: Option<String>,
    },
    SetAcl {
        path: Option<String>,
        acl: Option<Vec<AclRequest>>,
    },
    /// Its members; checks are left out.
    Multi(Vec<Operation>),
    Reconfig,
    CloseSession,
    /// A session was to be resumed with a password that is not its own.
    ResumeSession,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is done. These are the names that sequential nodes got, in the order of their creation.
    Done { sequential: Vec<String> },
    /// It changed nothing.
    Failed,
    /// It was sent to a leader, and this server lost that leader before the answer: it may be done or not.
    Unknown,
}

impl Audited {
    pub(crate) fn new(connection: &Connection, identities: &Identities, operation: Operation) -> Arc<Audited> {
        Arc::new(Audited {
            session: connection.session(),
            client: connection.peer.ip().to_canonical(),
            identities: identities.clone(),
            operation,
        })
    }

    fn fate(&self, outcome: &Outcome) -> Fate {
        let mut sequential = Vec::new();
        match note_sequential(&self.operation, outcome, &mut sequential) {
            true => Fate::Done { sequential },
            false => Fate::Failed,
        }
    }
}

impl Operation {
    /// None for what is no change that a client may ask for.
    pub(crate) fn of(op: OpCode, request: Option<&WriteRequest>) -> Option<Operation> {
        Some(match request {
            Some(request) => Operation::asked_for(request),
            None => match op {
                OpCode::Create | OpCode::Create2 => Operation::Create { path: None, flags: 0 },
                OpCode::CreateContainer => Operation::Create { path: None, flags: 4 },
                OpCode::CreateTtl => Operation::Create { path: None, flags: 5 },
                OpCode::Delete => Operation::Delete { path: None },
                OpCode::SetData => Operation::SetData { path: None },
                OpCode::SetAcl => Operation::SetAcl { path: None, acl: None },
                OpCode::Multi => Operation::Multi(Vec::new()),
                OpCode::Reconfig => Operation::Reconfig,
                OpCode::CloseSession => Operation::CloseSession,
                _ => return None,
            },
        })
    }

    fn asked_for(request: &WriteRequest) -> Operation {
        match request {
            WriteRequest::Create(create) | WriteRequest::Create2(create) | WriteRequest::CreateContainer(create) => {
                Operation::create(create)
            }
            WriteRequest::CreateTtl(request) => Operation::create(&request.create),
            WriteRequest::Delete(delete) => Operation::Delete { path: delete.path.clone() },
            WriteRequest::SetData(set) => Operation::SetData { path: set.path.clone() },
            WriteRequest::SetAcl(set) => Operation::SetAcl { path: set.path.clone(), acl: set.acl.clone() },
            WriteRequest::Multi(members) => Operation::Multi(members.iter().filter_map(Operation::member).collect()),
            WriteRequest::Reconfig(_) => Operation::Reconfig,
            WriteRequest::CloseSession => Operation::CloseSession,
        }
    }

    fn member(member: &WriteOp) -> Option<Operation> {
        Some(match member {
            WriteOp::Create(create) | WriteOp::Create2(create) | WriteOp::CreateContainer(create) => {
                Operation::create(create)
            }
            WriteOp::CreateTtl(request) => Operation::create(&request.create),
            WriteOp::Delete(delete) => Operation::Delete { path: delete.path.clone() },
            WriteOp::SetData(set) => Operation::SetData { path: set.path.clone() },
            WriteOp::Check(_) => return None,
        })
    }

    fn create(create: &CreateRequest) -> Operation {
        Operation::Create { path: create.path.clone(), flags: create.flags }
    }

    /// Whether this makes a node whose name the server completes.
    pub fn is_sequential(&self) -> bool {
        matches!(self, Operation::Create { flags: 2 | 3 | 6, .. })
    }
}

/// False where the request failed.
fn note_sequential(operation: &Operation, outcome: &Outcome, sequential: &mut Vec<String>) -> bool {
    match (operation, outcome) {
        (_, Outcome::Failed(_)) => false,
        (Operation::Multi(operations), Outcome::Multi(outcomes)) => {
            let changes = outcomes.iter().filter(|outcome| !matches!(outcome, Outcome::Checked));
            let failed = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Failed(_)));
            !failed && operations.iter().zip(changes).all(|(one, outcome)| note_sequential(one, outcome, sequential))
        }
        (create, Outcome::Created { path, .. }) => {
            if create.is_sequential() {
                sequential.push(path.clone());
            }
            true
        }
        _ => true,
    }
}

impl Core {
    /// What the audit log is to tell of a request; none where there is no such log.
    pub fn audited(
        &self,
        connection: &Connection,
        identities: &Identities,
        op: OpCode,
        request: Option<&WriteRequest>,
    ) -> Option<Arc<Audited>> {
        if !self.shared.settings.audits {
            return None;
        }
        Some(Audited::new(connection, identities, Operation::of(op, request)?))
    }

    /// A request has met this fate.
    pub fn audit(&mut self, request: Option<&Arc<Audited>>, fate: Fate) {
        if let Some(request) = request {
            self.put(Output::Audited { request: request.clone(), fate });
        }
    }

    /// A request was carried out with this outcome.
    pub fn audit_outcome(&mut self, request: Option<&Arc<Audited>>, outcome: &Outcome) {
        if let Some(request) = request {
            self.audit(Some(request), request.fate(outcome));
        }
    }
}
