//! The body of a snapshot, which files and streams to learners have in common: sessions, lists of access control, nodes with parents
//! first, and the end mark. The file has a header, seals and trailers around it, the stream a signature behind it.
//!
//! What always holds: the parser takes bytes as they come, in any pieces, and asks for no more than one entry together; it believes no
//! count and no length for its memory; a list of access control may be long, so its entries are taken one by one.
//!
//! Counterpart in the original: `SerializeUtils.deserializeSnapshot`.

use rookeeper_proto::jute;
use rookeeper_proto::snapshot::{END_OF_NODES, NodeEntry, SessionEntry};
use rookeeper_proto::stat::StatPersisted;
use rookeeper_proto::{Acl, Zxid};
use rookeeper_tree::{RestoreError, Tree, TreeBuilder};

/// Of a count or a length.
const INT: usize = 4;
const SESSION: usize = 12;
/// A list's id and its count.
const LIST_HEAD: usize = 12;
/// What a node has behind its data: the id of its list, and the stat.
const NODE_END: usize = 68;

/// Everything that a body says of sessions and nodes, in the order of the file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Listed {
    pub sessions: Vec<SessionEntry>,
    /// Parents first, as written; that each of them is there is for the reader to check.
    pub nodes: Vec<ListedNode>,
}

/// A node as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedNode {
    /// Empty for the root.
    pub path: String,
    pub data: Option<Vec<u8>>,
    pub stat: StatPersisted,
}

/// What is made of a body.
#[derive(Debug)]
pub(crate) enum Target {
    /// Only its form is looked at.
    Nothing,
    Tree(Box<TreeBuilder>),
    List(Listed),
}

/// A body that is being parsed.
#[derive(Debug)]
pub(crate) struct SnapshotBody {
    target: Target,
    /// Of a string, a buffer or a whole list, in bytes.
    limit: usize,
    next: Part,
    /// How many bytes there must be before another look is worth it.
    needed: usize,
    pub sessions: u64,
    pub nodes: u64,
}

/// What comes next.
#[derive(Debug)]
enum Part {
    SessionCount,
    Sessions { left: usize },
    ListCount,
    Lists { left: usize },
    Entries { lists_left: usize, acl_id: i64, left: usize, list: Vec<Acl>, bytes: usize },
    Nodes,
    Over,
}

enum Step {
    Used(usize),
    /// There is too little to go on; more than there is.
    Needs(usize),
}

/// What is wrong with a body, and how far in the input.
#[derive(Debug)]
pub(crate) struct WrongBody {
    pub at: usize,
    pub problem: String,
}

type Result<T> = std::result::Result<T, String>;

impl SnapshotBody {
    /// Parses into a tree that is being built, into a list, or into nothing. `limit`: the largest string, buffer or list, in bytes.
    pub fn new(target: Target, limit: usize) -> SnapshotBody {
        SnapshotBody { target, limit, next: Part::SessionCount, needed: INT, sessions: 0, nodes: 0 }
    }

    /// Takes what is whole off the head of the input and returns the number of bytes taken; what is left is to be given again, with more
    /// behind it. After an error there is no going on.
    pub fn take(&mut self, input: &[u8]) -> std::result::Result<usize, WrongBody> {
        let mut at = 0;
        while !self.is_over() && input.len() - at >= self.needed {
            match self.step(&input[at..]).map_err(|problem| WrongBody { at, problem })? {
                Step::Used(count) => {
                    at += count;
                    self.needed = INT;
                }
                Step::Needs(count) => self.needed = count,
            }
        }
        Ok(at)
    }

    /// Whether the end mark was taken.
    pub fn is_over(&self) -> bool {
        matches!(self.next, Part::Over)
    }

    /// The tree as of `zxid`; none where the target was another.
    pub fn finish(self, zxid: Zxid) -> std::result::Result<Option<Tree>, RestoreError> {
        assert!(self.is_over(), "a tree comes out of a whole body only");
        match self.target {
            Target::Tree(builder) => builder.finish(zxid).map(Some),
            Target::Nothing | Target::List(_) => Ok(None),
        }
    }

    /// What was listed; nothing where the target was another.
    pub fn into_list(self) -> Listed {
        assert!(self.is_over(), "a list comes out of a whole body only");
        match self.target {
            Target::List(list) => list,
            Target::Nothing | Target::Tree(_) => Listed::default(),
        }
    }

    /// Takes one thing off the input, which has at least four bytes.
    fn step(&mut self, input: &[u8]) -> Result<Step> {
        match &mut self.next {
            Part::SessionCount => {
                self.next = after_sessions(count(input)?);
                Ok(Step::Used(INT))
            }
            Part::Sessions { left } => {
                let Some(bytes) = input.get(..SESSION) else { return Ok(Step::Needs(SESSION)) };
                let entry: SessionEntry = decode(bytes)?;
                self.next = after_sessions(*left - 1);
                self.sessions += 1;
                match &mut self.target {
                    Target::Nothing => {}
                    Target::Tree(builder) => builder.add_session(entry.session, entry.timeout_ms),
                    Target::List(list) => list.sessions.push(entry),
                }
                Ok(Step::Used(SESSION))
            }
            Part::ListCount => {
                self.next = after_lists(count(input)?);
                Ok(Step::Used(INT))
            }
            Part::Lists { left } => {
                let Some(bytes) = input.get(..LIST_HEAD) else { return Ok(Step::Needs(LIST_HEAD)) };
                let (acl_id, length): (i64, i32) = decode(bytes)?;
                let lists_left = *left;
                match length {
                    // A null list is the open one.
                    -1 => self.add_list(acl_id, Acl::open(), lists_left)?,
                    0 => self.add_list(acl_id, Vec::new(), lists_left)?,
                    _ => {
                        let left = count(&bytes[8..])?;
                        self.next = Part::Entries { lists_left, acl_id, left, list: Vec::new(), bytes: 0 };
                    }
                }
                Ok(Step::Used(LIST_HEAD))
            }
            Part::Entries { lists_left, acl_id, left, list, bytes } => {
                let end = match acl_extent(input, self.limit)? {
                    Extent::To(end) => end,
                    Extent::Needs(needed) => return Ok(Step::Needs(needed)),
                };
                list.push(decode(&input[..end])?);
                *bytes += end;
                *left -= 1;
                if *bytes > self.limit {
                    return Err("an access control list is unreasonably long".to_owned());
                }
                if *left == 0 {
                    let (acl_id, list, lists_left) = (*acl_id, std::mem::take(list), *lists_left);
                    self.add_list(acl_id, list, lists_left)?;
                }
                Ok(Step::Used(end))
            }
            Part::Nodes => self.node(input),
            Part::Over => Ok(Step::Used(0)),
        }
    }

    fn add_list(&mut self, acl_id: i64, list: Vec<Acl>, lists_left: usize) -> Result<()> {
        self.next = after_lists(lists_left - 1);
        match &mut self.target {
            Target::Tree(builder) => builder.add_acl(acl_id, list).map_err(|error| error.to_string()),
            Target::Nothing | Target::List(_) => Ok(()),
        }
    }

    fn node(&mut self, input: &[u8]) -> Result<Step> {
        let path_end = match text_extent(input, 0, self.limit)? {
            Extent::To(end) => end,
            Extent::Needs(needed) => return Ok(Step::Needs(needed)),
        };
        if input[INT..path_end] == *END_OF_NODES.as_bytes() {
            self.next = Part::Over;
            return Ok(Step::Used(path_end));
        }
        let data_end = match extent(input, path_end, self.limit)? {
            Extent::To(end) => end,
            Extent::Needs(needed) => return Ok(Step::Needs(needed)),
        };
        let end = data_end + NODE_END;
        let Some(bytes) = input.get(..end) else { return Ok(Step::Needs(end)) };
        self.nodes += 1;
        match &mut self.target {
            Target::Nothing => {}
            Target::Tree(builder) => {
                let NodeEntry { path, data, acl_id, stat } = decode(bytes)?;
                let added = builder.add_node(&path, data.map(|data| data.0), acl_id, stat);
                added.map_err(|error| error.to_string())?;
            }
            Target::List(list) => {
                let NodeEntry { path, data, stat, .. } = decode(bytes)?;
                let (path, data) = (path.to_string(), data.map(|data| data.0.to_vec()));
                list.nodes.push(ListedNode { path, data, stat });
            }
        }
        Ok(Step::Used(end))
    }
}

fn after_sessions(left: usize) -> Part {
    if left == 0 { Part::ListCount } else { Part::Sessions { left } }
}

fn after_lists(left: usize) -> Part {
    if left == 0 { Part::Nodes } else { Part::Lists { left } }
}

fn decode<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    jute::from_slice(bytes).map_err(|error| error.to_string())
}

/// The count at the head of the input.
fn count(input: &[u8]) -> Result<usize> {
    let count: i32 = decode(&input[..INT])?;
    usize::try_from(count).map_err(|_| format!("unreasonable count {count}"))
}

/// Where a string or buffer ends, if that can be told.
enum Extent {
    To(usize),
    Needs(usize),
}

/// The length at `at`, if it is there; a null is -1.
fn length(input: &[u8], at: usize, limit: usize) -> Result<Option<i32>> {
    let Some(bytes) = input.get(at..at + INT) else { return Ok(None) };
    let length: i32 = decode(bytes)?;
    match usize::try_from(length) {
        Ok(length) if length > limit => Err(format!("unreasonable length {length}")),
        Err(_) if length != -1 => Err(format!("unreasonable length {length}")),
        _ => Ok(Some(length)),
    }
}

/// Where the buffer that begins at an offset ends; it may be null.
fn extent(input: &[u8], at: usize, limit: usize) -> Result<Extent> {
    let Some(length) = length(input, at, limit)? else { return Ok(Extent::Needs(at + INT)) };
    let end = at + INT + usize::try_from(length).unwrap_or(0);
    Ok(if input.len() < end { Extent::Needs(end) } else { Extent::To(end) })
}

/// Where the string that begins at an offset ends.
fn text_extent(input: &[u8], at: usize, limit: usize) -> Result<Extent> {
    match length(input, at, limit)? {
        Some(-1) => Err("null in place of a string".to_owned()),
        _ => extent(input, at, limit),
    }
}

/// Where a permission with its scheme and id ends.
fn acl_extent(input: &[u8], limit: usize) -> Result<Extent> {
    match text_extent(input, INT, limit)? {
        Extent::To(scheme_end) => text_extent(input, scheme_end, limit),
        needs => Ok(needs),
    }
}
