//! multi and multiRead: several operations in one request.
//!
//! The shape is a header and a record per operation, then a header with type -1 and `done`. The peculiarities of decoding a create
//! entry are the original's; clients see them.

use rookeeper_jute::{self as jute, Deserializer, Error};
use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;
use crate::opcode::OpCode;
use crate::request::{CreateRequest, CreateTtlRequest, PathVersionRequest, PathWatchRequest, SetDataRequest};

/// In front of every entry of a multi and of every result of one; [`MultiHeader::END`] ends both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MultiHeader {
    /// Of the entry or the result behind it; -1 in front of an error, and at the end.
    pub op: i32,
    /// Whether this is the end.
    pub done: bool,
    /// Of a result: 0, or its error. Clients send -1 with their entries.
    pub err: i32,
}

impl MultiHeader {
    /// Behind the last entry or result.
    pub const END: MultiHeader = MultiHeader { op: -1, done: true, err: -1 };

    /// The header of a result in a multi that succeeded.
    pub fn ok(op: OpCode) -> MultiHeader {
        MultiHeader { op: op.number(), done: false, err: 0 }
    }

    /// The header of a result in a multi that failed; 0 for the operations before the failing one.
    pub fn error(err: i32) -> MultiHeader {
        MultiHeader { op: OpCode::Error.number(), done: false, err }
    }
}

/// One entry of a multi.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteOp {
    Create(CreateRequest),
    Create2(CreateRequest),
    CreateContainer(CreateRequest),
    CreateTtl(CreateTtlRequest),
    Delete(PathVersionRequest),
    SetData(SetDataRequest),
    Check(PathVersionRequest),
}

/// One entry of a multiRead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadOp<'a> {
    GetData(PathWatchRequest<'a>),
    GetChildren(PathWatchRequest<'a>),
    /// An operation that has no place here: answering stops at it.
    Foreign,
}

/// The create flags as numbers: 4 is a container, 5 and 6 carry a TTL.
pub const FLAG_CONTAINER: i32 = 4;
/// The largest number that is a create flag.
pub const FLAG_MAX: i32 = 6;

fn is_ttl(flags: i32) -> bool {
    matches!(flags, 5 | 6)
}

fn create_entry(input: &mut Deserializer<'_>) -> jute::Result<CreateRequest> {
    let create: CreateRequest = input.read()?;
    if !(0..=FLAG_MAX).contains(&create.flags) || is_ttl(create.flags) {
        return Err(Error::Custom(format!("create flags {} in a multi", create.flags)));
    }
    if create.acl.is_none() {
        return Err(Error::Custom("null ACL in a multi".to_owned()));
    }
    Ok(create)
}

/// Decodes the body of a multi. Fails, and with it the whole request, where an entry is of another kind or a create has flags or a null list
/// that the original refuses already while it decodes.
pub fn decode_writes(body: &[u8]) -> jute::Result<Vec<WriteOp>> {
    let mut input = Deserializer::new(body);
    let mut ops = Vec::new();
    loop {
        let header: MultiHeader = input.read()?;
        if header.done {
            return Ok(ops);
        }
        ops.push(match OpCode::from_i32(header.op) {
            Some(op @ (OpCode::Create | OpCode::Create2 | OpCode::CreateContainer)) => {
                let create = create_entry(&mut input)?;
                match op {
                    _ if create.flags == FLAG_CONTAINER => WriteOp::CreateContainer(create),
                    OpCode::Create => WriteOp::Create(create),
                    OpCode::Create2 => WriteOp::Create2(create),
                    _ => WriteOp::CreateContainer(create),
                }
            }
            Some(OpCode::CreateTtl) => {
                let request: CreateTtlRequest = input.read()?;
                if is_ttl(request.create.flags) || !(0..=FLAG_MAX).contains(&request.create.flags) {
                    WriteOp::CreateTtl(request)
                } else {
                    // The TTL is dropped where the flags do not ask for one.
                    WriteOp::Create(request.create)
                }
            }
            Some(OpCode::Delete) => WriteOp::Delete(input.read()?),
            Some(OpCode::SetData) => WriteOp::SetData(input.read()?),
            Some(OpCode::Check) => WriteOp::Check(input.read()?),
            _ => return Err(Error::Custom(format!("operation {} in a multi", header.op))),
        });
    }
}

/// Decodes the body of a multiRead, up to the first operation that is a write. Fails where an entry is no operation of a multi at all.
pub fn decode_reads(body: &[u8]) -> jute::Result<Vec<ReadOp<'_>>> {
    let mut input = Deserializer::new(body);
    let mut ops = Vec::new();
    loop {
        let header: MultiHeader = input.read()?;
        if header.done {
            return Ok(ops);
        }
        match OpCode::from_i32(header.op) {
            Some(OpCode::GetData) => ops.push(ReadOp::GetData(input.read()?)),
            Some(OpCode::GetChildren) => ops.push(ReadOp::GetChildren(input.read()?)),
            Some(OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl | OpCode::Delete)
            | Some(OpCode::SetData | OpCode::Check) => {
                ops.push(ReadOp::Foreign);
                return Ok(ops);
            }
            _ => return Err(Error::Custom(format!("operation {} in a multiRead", header.op))),
        }
    }
}

/// The code of each result in a multi that failed at `failed_at`: 0 before it, its own, then `RuntimeInconsistency`.
pub fn failure_codes(count: usize, failed_at: usize, code: ErrorCode) -> impl Iterator<Item = i32> {
    (0..count).map(move |index| match index.cmp(&failed_at) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Equal => code.number(),
        std::cmp::Ordering::Greater => ErrorCode::RuntimeInconsistency.number(),
    })
}
