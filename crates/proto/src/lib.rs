//! Every record Apache ZooKeeper puts on the wire and on disk. No behaviour: what a record means is for the crates above.
//!
//! Reading order:
//! - [`ids`]: zxid, epoch, session id, server id
//! - [`opcode`] and [`error`]: the numbers of requests and refusals
//! - [`path`], [`acl`], [`stat`], [`node_kind`]: what nodes are made of
//! - [`frame`], [`connect`], [`request`], [`multi`], [`response`], [`event`]: the client port
//! - [`txn`], [`snapshot`]: what the log and the snapshots hold
//! - [`election`], [`quorum`]: what the servers of an ensemble tell each other
//! - [`time`]: the two clocks
//! - [`random`]: numbers that follow from a seed
//!
//! What always holds: decoding takes untrusted bytes and never panics; records of requests that only read borrow from the frame,
//! records of requests that change something own their parts, because these travel on into the log and the tree.

pub mod acl;
pub mod connect;
pub mod election;
pub mod error;
pub mod event;
pub mod frame;
pub mod ids;
pub mod multi;
pub mod node_kind;
pub mod opcode;
pub mod path;
pub mod quorum;
pub mod random;
pub mod request;
pub mod response;
pub mod snapshot;
pub mod stat;
pub mod time;
pub mod txn;

pub use acl::{Acl, Id, Permissions};
pub use error::ErrorCode;
pub use ids::{Epoch, ServerId, SessionId, Zxid};
pub use node_kind::{NodeKind, TtlEncoding};
pub use opcode::OpCode;
pub use rookeeper_jute as jute;
pub use stat::{Stat, StatPersisted};
pub use time::{MonotonicMs, WallMs};
pub use txn::{Digest, Txn, TxnHeader, TxnRecord};
