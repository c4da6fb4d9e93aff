//! Access control lists as stored and as sent.

use std::borrow::Cow;
use std::fmt;

use rookeeper_jute::Text;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Permission bits. Unknown bits are kept as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Permissions(pub i32);

impl Permissions {
    /// Reading the data and the names of the children. Whether a node exists is told to everybody.
    pub const READ: Permissions = Permissions(1);
    /// setData; on the node that holds the membership, reconfig.
    pub const WRITE: Permissions = Permissions(2);
    /// Creating children of the node.
    pub const CREATE: Permissions = Permissions(4);
    /// Deleting children of the node; the node itself is not asked.
    pub const DELETE: Permissions = Permissions(8);
    /// setACL.
    pub const ADMIN: Permissions = Permissions(16);
    /// The five above.
    pub const ALL: Permissions = Permissions(31);

    /// Whether the two have a bit in common.
    pub fn intersects(self, other: Permissions) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits of both.
    pub fn union(self, other: Permissions) -> Permissions {
        Permissions(self.0 | other.0)
    }
}

/// A scheme or an id of one. Nearly all of them are a few words, which are not copied.
pub type Word = Cow<'static, str>;

/// The words that are not copied.
const WORDS: [&str; 8] = ["world", "anyone", "digest", "auth", "ip", "sasl", "x509", "super"];

struct WordVisitor;

impl Visitor<'_> for WordVisitor {
    type Value = Word;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Word, E> {
        let known = WORDS.iter().find(|word| **word == text);
        Ok(known.map_or_else(|| Word::Owned(text.to_owned()), |word| Word::Borrowed(word)))
    }
}

fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Word, D::Error> {
    deserializer.deserialize_str(WordVisitor)
}

fn word_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Word>, D::Error> {
    #[derive(Deserialize)]
    struct Present(#[serde(deserialize_with = "word")] Word);
    Ok(Option::<Present>::deserialize(deserializer)?.map(|Present(word)| word))
}

/// Who: a scheme (`world`, `digest`, `ip`, `sasl`…) and an identity within it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Id {
    #[serde(deserialize_with = "word")]
    pub scheme: Word,
    #[serde(deserialize_with = "word")]
    pub id: Word,
}

impl Id {
    /// An identity of a scheme, unchecked.
    pub fn new(scheme: impl Into<Word>, id: impl Into<Word>) -> Id {
        Id { scheme: scheme.into(), id: id.into() }
    }

    /// Everybody, in the scheme `world`.
    pub fn anyone() -> Id {
        Id::new("world", "anyone")
    }
}

/// One entry of an access control list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Acl {
    pub permissions: Permissions,
    pub id: Id,
}

impl Acl {
    /// An entry, unchecked.
    pub fn new(permissions: Permissions, id: Id) -> Acl {
        Acl { permissions, id }
    }

    /// The list that allows everything to everybody.
    pub fn open() -> Vec<Acl> {
        vec![Acl::new(Permissions::ALL, Id::anyone())]
    }

    /// The list that allows reading to everybody.
    pub fn read_only() -> Vec<Acl> {
        vec![Acl::new(Permissions::READ, Id::anyone())]
    }
}

/// An entry as a client sends it: both parts of the id may be null, which validation answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclRequest {
    pub permissions: Permissions,
    #[serde(deserialize_with = "word_or_null")]
    pub scheme: Option<Word>,
    #[serde(deserialize_with = "word_or_null")]
    pub id: Option<Word>,
}

/// An identity of the calling connection as `whoAmI` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo<'a> {
    #[serde(borrow)]
    pub auth_scheme: Text<'a>,
    #[serde(borrow)]
    pub user: Text<'a>,
}
