//! Transactions: what the log holds and what the servers of an ensemble propose to each other.
//!
//! A transaction states results, not wishes: sequential names are resolved, `auth` entries expanded, versions are the ones after
//! the change. Old shapes that Apache wrote before 3.6 decode too; see the notes at the records.
//!
//! Counterpart in the original: `SerializeUtils.deserializeTxn` and the records of `zookeeper.jute`, module `txn`.

use rookeeper_jute::{self as jute, Buffer, ByteBuf, Deserializer, Error};
use serde::{Deserialize, Serialize};

use crate::acl::Acl;
use crate::ids::{SessionId, Zxid};
use crate::opcode::OpCode;

/// Who asked for a transaction, its place in the order, and when it was prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxnHeader {
    pub session: SessionId,
    /// The xid of the client's request.
    pub cxid: i32,
    pub zxid: Zxid,
    /// Wall-clock milliseconds at the server that prepared it.
    pub time_ms: i64,
}

/// A node that was created, under the name it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTxn {
    pub path: String,
    pub data: Option<Vec<u8>>,
    /// Null in very old logs, where it means the open list.
    pub acl: Option<Vec<Acl>>,
    pub kind: CreateKind,
    /// The parent's count of created children after this one; -1 in logs before 3.4: the parent's count plus one.
    pub parent_cversion: i32,
}

/// What is created, and by which request: the opcode is part of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateKind {
    Node { ephemeral: bool, with_stat: bool },
    Container,
    Ttl { ttl_ms: i64 },
}

/// What a transaction changes. Versions are those after the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Txn {
    Create(CreateTxn),
    Delete {
        path: String,
    },
    /// A container or TTL node that was reaped.
    DeleteContainer {
        path: String,
    },
    SetData {
        path: String,
        data: Option<Vec<u8>>,
        version: i32,
    },
    Reconfig {
        path: String,
        data: Option<Vec<u8>>,
        version: i32,
    },
    SetAcl {
        path: String,
        acl: Option<Vec<Acl>>,
        version: i32,
    },
    CreateSession {
        timeout_ms: i32,
    },
    /// The ephemeral nodes that go with the session. `None` in logs without the list (before 3.6): all that the session owns.
    /// ZOOKEEPER-3145: without the list a replay on a snapshot that was taken meanwhile would miss the parents' pzxid.
    CloseSession {
        paths: Option<Vec<String>>,
    },
    /// A request that failed; it takes its place in the order all the same.
    Error {
        code: i32,
    },
    /// All or nothing. In a multi that failed, the members from the failing one on are errors and nothing is applied.
    Multi(Vec<Txn>),
    /// Only inside a multi; `version` is the expected one plus one.
    Check {
        path: String,
        version: i32,
    },
}

/// The tree digest after a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Of the way of computing it.
    pub version: i32,
    /// The sum over all nodes, as an unsigned number.
    pub value: i64,
}

impl Digest {
    /// The version this crate's users compute; digests of other versions are not compared.
    pub const VERSION: i32 = 2;

    /// Of the version computed here.
    pub fn new(value: i64) -> Digest {
        Digest { version: Digest::VERSION, value }
    }
}

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnRecord {
    pub header: TxnHeader,
    pub txn: Txn,
    /// Never present on error transactions, nor where digests are off.
    pub digest: Option<Digest>,
}

#[derive(Serialize, Deserialize)]
struct HeaderFields {
    session: SessionId,
    cxid: i32,
    zxid: Zxid,
    time_ms: i64,
    op: i32,
}

impl Txn {
    /// The opcode of its record.
    pub fn op(&self) -> OpCode {
        match self {
            Txn::Create(create) => match create.kind {
                CreateKind::Node { with_stat: false, .. } => OpCode::Create,
                CreateKind::Node { with_stat: true, .. } => OpCode::Create2,
                CreateKind::Container => OpCode::CreateContainer,
                CreateKind::Ttl { .. } => OpCode::CreateTtl,
            },
            Txn::Delete { .. } => OpCode::Delete,
            Txn::DeleteContainer { .. } => OpCode::DeleteContainer,
            Txn::SetData { .. } => OpCode::SetData,
            Txn::Reconfig { .. } => OpCode::Reconfig,
            Txn::SetAcl { .. } => OpCode::SetAcl,
            Txn::CreateSession { .. } => OpCode::CreateSession,
            Txn::CloseSession { .. } => OpCode::CloseSession,
            Txn::Error { .. } => OpCode::Error,
            Txn::Multi(_) => OpCode::Multi,
            Txn::Check { .. } => OpCode::Check,
        }
    }

    /// Its record alone, as it stands behind the header in a log body, and in a multi.
    pub fn append(&self, output: &mut Vec<u8>) {
        match self {
            Txn::Create(create) => {
                let data = create.data.as_deref().map(Buffer);
                jute::append(output, &(&create.path, data, &create.acl));
                match create.kind {
                    CreateKind::Node { ephemeral, .. } => jute::append(output, &(ephemeral, create.parent_cversion)),
                    CreateKind::Container => jute::append(output, &create.parent_cversion),
                    CreateKind::Ttl { ttl_ms } => jute::append(output, &(create.parent_cversion, ttl_ms)),
                }
            }
            Txn::Delete { path } | Txn::DeleteContainer { path } => jute::append(output, path),
            Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
                jute::append(output, &(path, data.as_deref().map(Buffer), version));
            }
            Txn::SetAcl { path, acl, version } => jute::append(output, &(path, acl, version)),
            Txn::CreateSession { timeout_ms } => jute::append(output, timeout_ms),
            Txn::CloseSession { paths: Some(paths) } => jute::append(output, paths),
            Txn::CloseSession { paths: None } => {}
            Txn::Error { code } => jute::append(output, code),
            Txn::Multi(members) => {
                output.extend_from_slice(&(members.len() as i32).to_be_bytes());
                for member in members {
                    output.extend_from_slice(&member.op().number().to_be_bytes());
                    let length_at = output.len();
                    output.extend_from_slice(&[0; 4]);
                    member.append(output);
                    let length = (output.len() - length_at - 4) as u32;
                    output[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
                }
            }
            Txn::Check { path, version } => jute::append(output, &(path, version)),
        }
    }

    fn decode(op: OpCode, input: &mut Deserializer<'_>, in_multi: bool) -> jute::Result<Txn> {
        Ok(match op {
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
                Txn::Create(decode_create(op, input)?)
            }
            OpCode::Delete => Txn::Delete { path: input.read()? },
            OpCode::DeleteContainer => Txn::DeleteContainer { path: input.read()? },
            OpCode::SetData | OpCode::Reconfig => {
                let (path, data, version): (String, Option<ByteBuf>, i32) = input.read()?;
                let data = data.map(|data| data.0);
                match op {
                    OpCode::SetData => Txn::SetData { path, data, version },
                    _ => Txn::Reconfig { path, data, version },
                }
            }
            OpCode::SetAcl => {
                let (path, acl, version) = input.read()?;
                Txn::SetAcl { path, acl, version }
            }
            OpCode::CreateSession if !in_multi => Txn::CreateSession { timeout_ms: input.read()? },
            OpCode::CloseSession if !in_multi => Txn::CloseSession { paths: decode_close_session(input)? },
            OpCode::Error => Txn::Error { code: input.read()? },
            OpCode::Multi if !in_multi => {
                let count: i32 = input.read()?;
                let mut members = Vec::new();
                for _ in 0..count {
                    let (op, record): (i32, Buffer<'_>) = input.read()?;
                    members.push(Txn::decode(known(op)?, &mut Deserializer::new(record.0), true)?);
                }
                Txn::Multi(members)
            }
            OpCode::Check if in_multi => {
                let (path, version) = input.read()?;
                Txn::Check { path, version }
            }
            _ => return Err(Error::Custom(format!("transaction of type {}", op.number()))),
        })
    }
}

fn known(op: i32) -> jute::Result<OpCode> {
    OpCode::from_i32(op).ok_or_else(|| Error::Custom(format!("transaction of unknown type {op}")))
}

fn decode_create(op: OpCode, input: &mut Deserializer<'_>) -> jute::Result<CreateTxn> {
    let (path, data, acl): (String, Option<ByteBuf>, Option<Vec<Acl>>) = input.read()?;
    let ephemeral = matches!(op, OpCode::Create | OpCode::Create2) && input.read()?;
    // Before 3.4 the record ended here.
    let parent_cversion = if input.rest().is_empty() { -1 } else { input.read()? };
    let kind = match op {
        OpCode::CreateContainer => CreateKind::Container,
        OpCode::CreateTtl => CreateKind::Ttl { ttl_ms: input.read()? },
        _ => CreateKind::Node { ephemeral, with_stat: op == OpCode::Create2 },
    };
    Ok(CreateTxn { path, data: data.map(|data| data.0), acl, kind, parent_cversion })
}

/// Three shapes: the list; nothing (before 3.6); or only a digest, which `closeSessionTxn.enabled=false` leaves where the list should
/// be: twelve bytes that begin with the digest version.
fn decode_close_session(input: &mut Deserializer<'_>) -> jute::Result<Option<Vec<String>>> {
    let rest = input.rest();
    if rest.is_empty() || (rest.len() == 12 && rest[..4] == Digest::VERSION.to_be_bytes()) {
        return Ok(None);
    }
    input.read()
}

impl TxnRecord {
    /// What a log body holds besides its transaction: header and digest.
    pub const OVERHEAD: usize = 32 + 12;

    /// The body of a log record: header, transaction, digest.
    pub fn append(&self, output: &mut Vec<u8>) {
        let TxnHeader { session, cxid, zxid, time_ms } = self.header;
        jute::append(output, &HeaderFields { session, cxid, zxid, time_ms, op: self.txn.op().number() });
        self.txn.append(output);
        if let Some(digest) = &self.digest {
            jute::append(output, digest);
        }
    }

    /// The header of a log body, whatever comes behind it.
    pub fn decode_header(body: &[u8]) -> jute::Result<TxnHeader> {
        let HeaderFields { session, cxid, zxid, time_ms, .. } = Deserializer::new(body).read()?;
        Ok(TxnHeader { session, cxid, zxid, time_ms })
    }

    /// Whether a log body is that of a request that failed. It changes nothing but the last zxid.
    pub fn is_error(body: &[u8]) -> bool {
        let header: jute::Result<HeaderFields> = Deserializer::new(body).read();
        header.is_ok_and(|header| header.op == OpCode::Error.number())
    }

    /// Decodes a log body. The digest is whatever twelve bytes follow the transaction.
    pub fn decode(body: &[u8]) -> jute::Result<TxnRecord> {
        let mut input = Deserializer::new(body);
        let HeaderFields { session, cxid, zxid, time_ms, op } = input.read()?;
        let txn = Txn::decode(known(op)?, &mut input, false)?;
        let digest = if input.rest().len() >= 12 { Some(input.read()?) } else { None };
        Ok(TxnRecord { header: TxnHeader { session, cxid, zxid, time_ms }, txn, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::Acl;

    fn record(txn: Txn) -> TxnRecord {
        let digest = (!matches!(txn, Txn::Error { .. })).then(|| Digest::new(-5));
        let header = TxnHeader { session: SessionId(7), cxid: 3, zxid: Zxid(9), time_ms: 11 };
        TxnRecord { header, txn, digest }
    }

    fn create(kind: CreateKind) -> Txn {
        let (path, data) = ("/a".to_owned(), Some(vec![1]));
        Txn::Create(CreateTxn { path, data, acl: Some(Acl::open()), kind, parent_cversion: 4 })
    }

    #[test]
    fn records_round_trip() {
        let txns = [
            create(CreateKind::Node { ephemeral: true, with_stat: false }),
            create(CreateKind::Node { ephemeral: false, with_stat: true }),
            create(CreateKind::Container),
            create(CreateKind::Ttl { ttl_ms: 5 }),
            Txn::Delete { path: "/a".into() },
            Txn::DeleteContainer { path: "/a".into() },
            Txn::SetData { path: "/a".into(), data: None, version: 2 },
            Txn::Reconfig { path: "/a".into(), data: Some(vec![]), version: -1 },
            Txn::SetAcl { path: "/a".into(), acl: None, version: 1 },
            Txn::CreateSession { timeout_ms: 4000 },
            Txn::CloseSession { paths: Some(vec!["/e".into()]) },
            Txn::CloseSession { paths: None },
            Txn::Error { code: -101 },
            Txn::Multi(vec![Txn::Check { path: "/a".into(), version: 3 }, Txn::Error { code: -2 }]),
        ];
        for txn in txns {
            let record = record(txn);
            let mut body = Vec::new();
            record.append(&mut body);
            let mut expected = record.clone();
            if expected.txn == (Txn::CloseSession { paths: None }) {
                // The digest stands where the list should be, and is taken for what it is: no list.
                assert_eq!(TxnRecord::decode(&body).unwrap().txn, expected.txn);
                expected.digest = Some(Digest::new(-5));
            }
            assert_eq!(TxnRecord::decode_header(&body), Ok(expected.header));
            assert_eq!(TxnRecord::decode(&body), Ok(expected));
        }
    }

    #[test]
    fn the_recorded_first_transaction_of_an_apache_log() {
        let body = [
            0x01, 0x00, 0x00, 0x1e, 0xc8, 0xd5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x01, 0xa2, 0x06, 0x2c,
            0x82, 0x3c, 0xff, 0xff, 0xff, 0xf6, 0, 0x09, 0x27, 0xc0, 0, 0, 0, 2, 0, 0, 0, 0, 0x51, 0xc6, 0xd6, 0x60,
        ];
        let record = TxnRecord::decode(&body).unwrap();
        assert_eq!(record.txn, Txn::CreateSession { timeout_ms: 600_000 });
        assert_eq!(record.digest, Some(Digest::new(1_371_985_504)));
        let mut encoded = Vec::new();
        record.append(&mut encoded);
        assert_eq!(encoded, body);
    }

    #[test]
    fn a_hostile_member_count_is_an_error() {
        let mut body = Vec::new();
        record(Txn::Multi(vec![])).append(&mut body);
        body.truncate(36);
        body[32..36].copy_from_slice(&i32::MAX.to_be_bytes());
        assert!(TxnRecord::decode(&body).is_err());
    }

    #[test]
    fn a_create_from_before_parent_cversion_existed() {
        let mut body = Vec::new();
        let mut old = record(create(CreateKind::Node { ephemeral: false, with_stat: false }));
        old.digest = None;
        old.append(&mut body);
        body.truncate(body.len() - 4);
        let Txn::Create(create) = TxnRecord::decode(&body).unwrap().txn else { panic!("a create") };
        assert_eq!(create.parent_cversion, -1);
    }
}
