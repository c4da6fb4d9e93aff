//! Bodies of replies that are more than one field of another record.

use rookeeper_jute::{Buffer, Text};
use serde::{Deserialize, Serialize};

use crate::acl::Acl;
use crate::stat::Stat;

/// create, sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathResponse<'a> {
    #[serde(borrow)]
    pub path: Option<Text<'a>>,
}

/// create2, createContainer, createTTL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create2Response<'a> {
    #[serde(borrow)]
    pub path: Text<'a>,
    pub stat: Stat,
}

/// getData, reconfig.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetDataResponse<'a> {
    #[serde(borrow)]
    pub data: Option<Buffer<'a>>,
    pub stat: Stat,
}

/// getACL's reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetAclResponse {
    pub acl: Vec<Acl>,
    pub stat: Stat,
}

/// The body of addWatch's reply, and of a failed result inside a multi.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorResponse {
    pub err: i32,
}
