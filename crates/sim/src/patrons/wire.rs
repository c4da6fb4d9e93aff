//! From what a recipe asks for to a request, and from an answer to what the recipe is told. Bugs of recipes are planted here.

use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::event::AddWatchMode;
use rookeeper_proto::jute::{self, ByteBuf, Deserializer};
use rookeeper_proto::multi::MultiHeader;
use rookeeper_proto::request::{CreateRequest, PathVersionRequest, SetDataRequest};
use rookeeper_proto::response::{Create2Response, ErrorResponse, GetDataResponse};
use rookeeper_proto::{ErrorCode, OpCode, Permissions, Stat, Zxid};
use rookeeper_recipes::ask::{Ask, Facts, Kind, Op, Refusal, Reply};

use crate::checkers::watches::Lasting;
use crate::clients::Asked;
use crate::faults::Sabotage;

/// What a request for a container says.
const CONTAINER: i32 = 4;

/// The request, its body, and how its answer is checked.
pub(super) fn request(ask: &Ask, floor: Zxid, sabotage: Option<Sabotage>) -> (OpCode, Vec<u8>, Asked) {
    let write = Asked::Write { floor };
    match ask {
        Ask::Create { path, data, kind: Kind::Container } => {
            (OpCode::CreateContainer, jute::to_vec(&create(path, data, Kind::Container)), write)
        }
        Ask::Create { path, data, kind } => (OpCode::Create2, jute::to_vec(&create(path, data, *kind)), write),
        Ask::Delete { path } => (OpCode::Delete, jute::to_vec(&path_version(path, None)), write),
        Ask::Set { path, data, version } => (OpCode::SetData, jute::to_vec(&set(path, data, *version)), write),
        Ask::Get { path, watch } => {
            let asked = Asked::Get { path: path.clone(), watch: *watch, synced_floor: None };
            (OpCode::GetData, jute::to_vec(&(Some(path), *watch)), asked)
        }
        Ask::Exists { path, watch } => {
            (OpCode::Exists, jute::to_vec(&(Some(path), *watch)), Asked::Exists { path: path.clone(), watch: *watch })
        }
        Ask::Children { path, watch } => {
            let asked = Asked::Children { path: path.clone(), watch: *watch };
            (OpCode::GetChildren, jute::to_vec(&(Some(path), *watch)), asked)
        }
        Ask::List { path } => {
            (OpCode::GetChildren2, jute::to_vec(&(Some(path), false)), Asked::List { path: path.clone() })
        }
        Ask::Follow { path } => {
            let body = jute::to_vec(&(Some(path), AddWatchMode::PersistentRecursive as i32));
            (OpCode::AddWatch, body, Asked::Watch { watch: Lasting { path: path.clone(), recursive: true } })
        }
        Ask::Sync { .. } => (OpCode::Sync, jute::to_vec(&"/"), Asked::Sync),
        Ask::Multi(ops) => (OpCode::Multi, multi(ops, sabotage), write),
        Ask::MakePath { .. } | Ask::MakeContainer { .. } | Ask::Wait { .. } => {
            unreachable!("these are no requests")
        }
    }
}

/// Planted bugs: what such a recipe asks for instead.
fn planted(op: &Op, sabotage: Option<Sabotage>) -> Op {
    match (op, sabotage) {
        (Op::Create { path, data, kind: Kind::Ephemeral }, Some(Sabotage::KeepsItemsTaken)) => {
            Op::Create { path: path.clone(), data: data.clone(), kind: Kind::Persistent }
        }
        (Op::Set { path, .. }, Some(Sabotage::PushesWithoutTicket)) if path.starts_with("/r/pushers/") => {
            Op::Check { path: path.clone(), version: None }
        }
        (Op::Set { path, .. }, Some(Sabotage::CountsWithoutTicket)) if path.starts_with("/r/c") => {
            Op::Check { path: path.clone(), version: None }
        }
        _ => op.clone(),
    }
}

fn multi(ops: &[Op], sabotage: Option<Sabotage>) -> Vec<u8> {
    let mut body = Vec::new();
    for op in ops {
        let header = |op: OpCode| MultiHeader { op: op.number(), done: false, err: -1 };
        match &planted(op, sabotage) {
            Op::Check { path, version } => {
                jute::append(&mut body, &(header(OpCode::Check), path_version(path, *version)));
            }
            Op::Create { path, data, kind } => {
                jute::append(&mut body, &(header(OpCode::Create2), create(path, data, *kind)));
            }
            Op::Set { path, data, version } => {
                jute::append(&mut body, &(header(OpCode::SetData), set(path, data, *version)));
            }
            Op::Delete { path } => jute::append(&mut body, &(header(OpCode::Delete), path_version(path, None))),
        }
    }
    jute::append(&mut body, &MultiHeader::END);
    body
}

fn create(path: &str, data: &[u8], kind: Kind) -> CreateRequest {
    let acl = AclRequest { permissions: Permissions::ALL, scheme: Some("world".into()), id: Some("anyone".into()) };
    let flags = match kind {
        Kind::Container => CONTAINER,
        kind => i32::from(kind.is_ephemeral()) + 2 * i32::from(kind.is_sequential()),
    };
    CreateRequest { path: Some(path.to_owned()), data: Some(ByteBuf(data.to_vec())), acl: Some(vec![acl]), flags }
}

fn path_version(path: &str, version: Option<i32>) -> PathVersionRequest {
    PathVersionRequest { path: Some(path.to_owned()), version: version.unwrap_or(-1) }
}

fn set(path: &str, data: &[u8], version: Option<i32>) -> SetDataRequest {
    SetDataRequest { path: Some(path.to_owned()), data: Some(ByteBuf(data.to_vec())), version: version.unwrap_or(-1) }
}

/// What the recipe is told. A refusal that no recipe knows is an answer that says nothing: the recipe looks for itself.
pub(super) fn reply(ask: &Ask, err: i32, body: &[u8]) -> Reply {
    if err != 0 {
        return refusal(err).map_or(Reply::Unknown, Reply::Refused);
    }
    let read = || -> Result<Reply, jute::Error> {
        Ok(match ask {
            Ask::Create { .. } => {
                let made: Create2Response<'_> = jute::from_slice(body)?;
                Reply::Created { path: made.path.to_string(), czxid: made.stat.czxid.0 }
            }
            Ask::Set { .. } | Ask::Exists { .. } => Reply::Facts(facts(&jute::from_slice::<Stat>(body)?)),
            Ask::Get { .. } => {
                let read: GetDataResponse<'_> = jute::from_slice(body)?;
                let data = read.data.map_or(Vec::new(), |data| data.0.to_vec());
                Reply::Data { data, facts: facts(&read.stat) }
            }
            Ask::Children { .. } => Reply::Names(jute::from_slice(body)?),
            Ask::List { .. } => {
                let (names, stat): (Vec<String>, Stat) = jute::from_slice(body)?;
                Reply::Listed { names, as_of: stat.pzxid.0 }
            }
            Ask::Multi(_) => results(body)?,
            _ => Reply::Done,
        })
    };
    read().unwrap_or_else(|error| panic!("an answer to {ask:?} can't be read: {error}"))
}

fn results(body: &[u8]) -> Result<Reply, jute::Error> {
    let mut input = Deserializer::new(body);
    let mut made = Vec::new();
    for index in 0.. {
        let header: MultiHeader = input.read()?;
        if header.done {
            break;
        }
        match OpCode::from_i32(header.op) {
            Some(OpCode::Create2) => {
                let create: Create2Response<'_> = input.read()?;
                made.push(create.path.to_string());
            }
            Some(OpCode::SetData) => drop(input.read::<Stat>()?),
            Some(OpCode::Check | OpCode::Delete) => {}
            _ => {
                let result: ErrorResponse = input.read()?;
                // Those before the refused one are told with 0, those behind it with another code of their own.
                if result.err != 0 {
                    return Ok(refusal(result.err).map_or(Reply::Unknown, |why| Reply::Failed { index, why }));
                }
            }
        }
    }
    Ok(Reply::Made(made))
}

fn facts(stat: &Stat) -> Facts {
    Facts {
        czxid: stat.czxid.0,
        mzxid: stat.mzxid.0,
        version: stat.version,
        children: usize::try_from(stat.num_children).unwrap_or_default(),
        owner: stat.ephemeral_owner,
    }
}

fn refusal(err: i32) -> Option<Refusal> {
    match ErrorCode::from_i32(err)? {
        ErrorCode::NoNode => Some(Refusal::NoNode),
        ErrorCode::NodeExists => Some(Refusal::NodeExists),
        ErrorCode::BadVersion => Some(Refusal::BadVersion),
        ErrorCode::NotEmpty => Some(Refusal::NotEmpty),
        _ => None,
    }
}
