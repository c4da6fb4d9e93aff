//! The bytes of requests and replies, written and read field by field. All numbers are big-endian; -1 is the length of null.

use anyhow::{Context, Result, bail};

pub const CREATE: i32 = 1;
pub const DELETE: i32 = 2;
pub const EXISTS: i32 = 3;
pub const GET_DATA: i32 = 4;
pub const SET_DATA: i32 = 5;
pub const GET_ACL: i32 = 6;
pub const SET_ACL: i32 = 7;
pub const GET_CHILDREN: i32 = 8;
pub const SYNC: i32 = 9;
pub const PING: i32 = 11;
pub const GET_CHILDREN2: i32 = 12;
pub const CHECK: i32 = 13;
pub const MULTI: i32 = 14;
pub const RECONFIG: i32 = 16;
pub const CREATE_CONTAINER: i32 = 19;
pub const DELETE_CONTAINER: i32 = 20;
pub const CREATE_TTL: i32 = 21;
pub const AUTH: i32 = 100;
pub const SET_WATCHES: i32 = 101;
pub const WHO_AM_I: i32 = 107;
pub const CREATE_SESSION: i32 = -10;
pub const CLOSE_SESSION: i32 = -11;

pub const NO_NODE: i32 = -101;
pub const NO_AUTH: i32 = -102;
pub const BAD_VERSION: i32 = -103;
pub const NODE_EXISTS: i32 = -110;
pub const NOT_EMPTY: i32 = -111;
pub const SESSION_EXPIRED: i32 = -112;
pub const SESSION_MOVED: i32 = -118;
pub const NOT_READ_ONLY: i32 = -119;

/// The body of a request under construction.
#[derive(Debug, Clone, Default)]
pub struct Body(pub Vec<u8>);

impl Body {
    pub fn new() -> Body {
        Body::default()
    }

    pub fn bool(mut self, value: bool) -> Body {
        self.0.push(u8::from(value));
        self
    }

    pub fn int(mut self, value: i32) -> Body {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn long(mut self, value: i64) -> Body {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn buffer(mut self, value: Option<&[u8]>) -> Body {
        match value {
            None => self.int(-1),
            Some(bytes) => {
                self = self.int(bytes.len() as i32);
                self.0.extend(bytes);
                self
            }
        }
    }

    pub fn string(self, value: &str) -> Body {
        self.buffer(Some(value.as_bytes()))
    }

    pub fn acls(mut self, acls: &[Acl]) -> Body {
        self = self.int(acls.len() as i32);
        for acl in acls {
            self = self.int(acl.permissions).string(&acl.scheme).string(&acl.id);
        }
        self
    }

    pub fn append(mut self, other: Body) -> Body {
        self.0.extend(other.0);
        self
    }

    /// One member of a multi.
    pub fn member(self, opcode: i32, body: Body) -> Body {
        self.int(opcode).bool(false).int(-1).append(body)
    }

    /// What follows the last member of a multi.
    pub fn end_of_multi(self) -> Body {
        self.int(-1).bool(true).int(-1)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    pub permissions: i32,
    pub scheme: String,
    pub id: String,
}

impl Acl {
    pub fn new(permissions: i32, scheme: &str, id: &str) -> Acl {
        Acl { permissions, scheme: scheme.to_owned(), id: id.to_owned() }
    }

    pub fn open() -> Vec<Acl> {
        vec![Acl::new(31, "world", "anyone")]
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stat {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: i64,
}

/// Reads the fields of a reply, one after the other.
#[derive(Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count).context("the reply ends early")?;
        self.0 = rest;
        Ok(head)
    }

    pub fn bool(&mut self) -> Result<bool> {
        Ok(self.bytes(1)?[0] != 0)
    }

    pub fn int(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.bytes(4)?.try_into()?))
    }

    pub fn long(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.bytes(8)?.try_into()?))
    }

    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>> {
        match self.int()? {
            -1 => Ok(None),
            length if length < 0 => bail!("negative length {length}"),
            length => Ok(Some(self.bytes(length as usize)?)),
        }
    }

    pub fn string(&mut self) -> Result<String> {
        Ok(String::from_utf8_lossy(self.buffer()?.unwrap_or_default()).into_owned())
    }

    pub fn strings(&mut self) -> Result<Vec<String>> {
        let count = self.int()?;
        (0..count).map(|_| self.string()).collect()
    }

    pub fn acls(&mut self) -> Result<Vec<Acl>> {
        let count = self.int()?;
        (0..count).map(|_| Ok(Acl { permissions: self.int()?, scheme: self.string()?, id: self.string()? })).collect()
    }

    pub fn stat(&mut self) -> Result<Stat> {
        Ok(Stat {
            czxid: self.long()?,
            mzxid: self.long()?,
            ctime: self.long()?,
            mtime: self.long()?,
            version: self.int()?,
            cversion: self.int()?,
            aversion: self.int()?,
            ephemeral_owner: self.long()?,
            data_length: self.int()?,
            num_children: self.int()?,
            pzxid: self.long()?,
        })
    }
}
