//! The client port's frames and the requests in them, decoded as the server does.
//!
//! What always holds: a frame is never longer than the limit nor than what arrived; a request that decodes is the same request when
//! written and read again.

use std::fmt::Debug;

use rookeeper_proto::connect::{ConnectRequest, ConnectResponse};
use rookeeper_proto::frame::{self, DEFAULT_MAX_BUFFER_BYTES, RequestHeader};
use rookeeper_proto::jute::{self, Buffer};
use rookeeper_proto::multi::{MultiHeader, ReadOp, WriteOp};
use rookeeper_proto::request::{AuthRequest, ReadRequest, SetWatchesRequest, WriteRequest};
use rookeeper_proto::{OpCode, jute::Text};

pub fn run(bytes: &[u8]) {
    for limit_bytes in [0, 100, DEFAULT_MAX_BUFFER_BYTES] {
        let mut rest = bytes;
        while let Ok(Some((payload, length))) = frame::split(rest, limit_bytes) {
            assert!(payload.len() <= limit_bytes && length == payload.len() + 4);
            let mut written = Vec::new();
            frame::append(&mut written, |output| output.extend_from_slice(payload));
            assert_eq!(written, rest[..length], "a frame written again");
            if limit_bytes == DEFAULT_MAX_BUFFER_BYTES {
                look_into(payload);
            }
            rest = &rest[length..];
        }
    }
    // Where the frames are wrong, what would be in them is tried all the same.
    look_into(bytes);
}

fn look_into(payload: &[u8]) {
    connect(payload);
    let Some((header, body)) = RequestHeader::split(payload) else { return };
    if let Ok(auth) = jute::from_slice::<AuthRequest<'_>>(body) {
        same(&jute::from_slice(&jute::to_vec(&auth)), &auth);
    }
    // An opcode that is none stands for any.
    let any = OpCode::ALL[header.op.unsigned_abs() as usize % OpCode::ALL.len()];
    let op = OpCode::from_i32(header.op).unwrap_or(any);
    if let Ok(request) = WriteRequest::decode(op, body) {
        write(op, &request);
    }
    if let Ok(request) = ReadRequest::decode(op, body) {
        read(op, &request);
    }
}

fn connect(payload: &[u8]) {
    if let Ok(request) = ConnectRequest::decode(payload) {
        same(&ConnectRequest::decode(&request.encode()), &request);
    }
    if let Ok(response) = ConnectResponse::decode(payload) {
        let mut written = Vec::new();
        response.append(&mut written);
        same(&ConnectResponse::decode(&written), &response);
    }
}

fn same<T: PartialEq + Debug>(again: &jute::Result<T>, before: &T) {
    assert_eq!(again.as_ref(), Ok(before), "read, written and read again");
}

fn write(op: OpCode, request: &WriteRequest) {
    let body = match request {
        WriteRequest::Create(inner) | WriteRequest::Create2(inner) | WriteRequest::CreateContainer(inner) => {
            jute::to_vec(inner)
        }
        WriteRequest::CreateTtl(inner) => jute::to_vec(inner),
        WriteRequest::Delete(inner) => jute::to_vec(inner),
        WriteRequest::SetData(inner) => jute::to_vec(inner),
        WriteRequest::SetAcl(inner) => jute::to_vec(inner),
        WriteRequest::Reconfig(inner) => jute::to_vec(inner),
        WriteRequest::CloseSession => Vec::new(),
        WriteRequest::Multi(ops) => match write_ops(ops) {
            Some(body) => body,
            None => return,
        },
    };
    same(&WriteRequest::decode(op, &body), request);
}

/// `None` where an entry came from a form that drops something: a TTL that the flags do not ask for, without a list.
fn write_ops(ops: &[WriteOp]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    for op in ops {
        let mut entry = |op, record: Vec<u8>| {
            jute::append(&mut body, &MultiHeader::ok(op));
            body.extend(record);
        };
        match op {
            WriteOp::Create(create) if create.acl.is_none() => return None,
            WriteOp::Create(create) if create.flags == rookeeper_proto::multi::FLAG_CONTAINER => return None,
            WriteOp::Create(create) => entry(OpCode::Create, jute::to_vec(create)),
            WriteOp::Create2(create) => entry(OpCode::Create2, jute::to_vec(create)),
            WriteOp::CreateContainer(create) => entry(OpCode::CreateContainer, jute::to_vec(create)),
            WriteOp::CreateTtl(create) => entry(OpCode::CreateTtl, jute::to_vec(create)),
            WriteOp::Delete(delete) => entry(OpCode::Delete, jute::to_vec(delete)),
            WriteOp::SetData(set) => entry(OpCode::SetData, jute::to_vec(set)),
            WriteOp::Check(check) => entry(OpCode::Check, jute::to_vec(check)),
        }
    }
    jute::append(&mut body, &MultiHeader::END);
    Some(body)
}

fn read(op: OpCode, request: &ReadRequest<'_>) {
    let body = match request {
        ReadRequest::Exists(inner)
        | ReadRequest::GetData(inner)
        | ReadRequest::GetChildren(inner)
        | ReadRequest::GetChildren2(inner) => jute::to_vec(inner),
        ReadRequest::GetAcl(inner)
        | ReadRequest::GetAllChildrenNumber(inner)
        | ReadRequest::GetEphemerals(inner)
        | ReadRequest::Sync(inner) => jute::to_vec(inner),
        ReadRequest::AddWatch(inner) | ReadRequest::CheckWatches(inner) | ReadRequest::RemoveWatches(inner) => {
            jute::to_vec(inner)
        }
        ReadRequest::MultiRead(ops) => read_ops(ops),
        ReadRequest::SetWatches(watches) => set_watches(op, watches),
        ReadRequest::WhoAmI | ReadRequest::Ping => Vec::new(),
    };
    same(&ReadRequest::decode(op, &body), request);
}

fn read_ops(ops: &[ReadOp<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for op in ops {
        match op {
            ReadOp::GetData(request) => jute::append(&mut body, &(MultiHeader::ok(OpCode::GetData), request)),
            ReadOp::GetChildren(request) => jute::append(&mut body, &(MultiHeader::ok(OpCode::GetChildren), request)),
            ReadOp::Foreign => jute::append(&mut body, &(MultiHeader::ok(OpCode::Delete), Buffer(&[]))),
        }
    }
    jute::append(&mut body, &MultiHeader::END);
    body
}

fn set_watches(op: OpCode, watches: &SetWatchesRequest<'_>) -> Vec<u8> {
    let one_shot: [&[Text<'_>]; 3] = [&watches.data, &watches.exist, &watches.child];
    let mut body = jute::to_vec(&(watches.relative_zxid, one_shot));
    if op == OpCode::SetWatches2 {
        jute::append(&mut body, &(&watches.persistent, &watches.persistent_recursive));
    }
    body
}
