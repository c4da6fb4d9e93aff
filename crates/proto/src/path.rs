//! Rules of node paths.
//!
//! A path that a client wants to store under or to change is a [`NodePath`] once it has passed the rules. Reads and deletions do not ask for
//! them, for an impossible path simply has no node. Transactions, logs and snapshots carry plain strings on purpose: what another leader
//! has taken for a path is history, and is applied whatever the rules say here. The rules are the original's, stated in UTF-16 terms there: characters beyond the basic plane are refused because each
//! half of a surrogate pair is.

use std::ops::Deref;

/// Why a string is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("path is empty")]
    Empty,
    #[error("path does not start with /")]
    NotAbsolute,
    #[error("path ends with /")]
    TrailingSlash,
    #[error("path has an empty component")]
    EmptyComponent,
    #[error("path has a component . or ..")]
    RelativeComponent,
    #[error("path has the forbidden character U+{0:04X}")]
    ForbiddenCharacter(u32),
}

/// The root. Snapshots write it as the empty path.
pub const ROOT: &str = "/";
/// What the servers keep for themselves. Clients can't delete it, nor the two below it.
pub const SYSTEM: &str = "/zookeeper";
/// Its data is the text of the membership.
pub const CONFIG: &str = "/zookeeper/config";
/// Quotas stand below it: under the whole path of a node that has a quota are [`QUOTA_LIMITS`] and [`QUOTA_STATS`].
pub const QUOTA: &str = "/zookeeper/quota";
/// The node below a path with a quota that holds the limits.
pub const QUOTA_LIMITS: &str = "zookeeper_limits";
/// The node beside the limits that holds what is used.
pub const QUOTA_STATS: &str = "zookeeper_stats";

/// A path that keeps all rules, so that a node may be created under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePath(String);

impl NodePath {
    /// Checks all rules; the first that is broken is the error.
    pub fn new(text: String) -> Result<NodePath, PathError> {
        validate(&text).map(|()| NodePath(text))
    }
}

impl Deref for NodePath {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<NodePath> for String {
    fn from(path: NodePath) -> String {
        path.0
    }
}

fn validate(path: &str) -> Result<(), PathError> {
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    let Some(rest) = path.strip_prefix('/') else { return Err(PathError::NotAbsolute) };
    if rest.is_empty() {
        return Ok(());
    }
    if rest.ends_with('/') {
        return Err(PathError::TrailingSlash);
    }
    // One look at each byte: every write comes here.
    let (mut start, mut is_plain) = (0, true);
    for (index, byte) in rest.bytes().chain([b'/']).enumerate() {
        if byte == b'/' {
            match &rest.as_bytes()[start..index] {
                b"" => return Err(PathError::EmptyComponent),
                b"." | b".." => return Err(PathError::RelativeComponent),
                _ => start = index + 1,
            }
        }
        is_plain &= (0x20..0x7f).contains(&byte);
    }
    // Printable ASCII is the common case and needs no table.
    if is_plain {
        return Ok(());
    }
    match rest.chars().find(|character| is_forbidden(*character)) {
        Some(character) => Err(PathError::ForbiddenCharacter(character as u32)),
        None => Ok(()),
    }
}

fn is_forbidden(character: char) -> bool {
    matches!(character as u32, 0x00..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..)
}

/// The parent's path: the text before the last slash, `/` for a top-level node. `None` for the root, for text without a slash, and for `//a`,
/// which would be the same child of the root as `/a`.
pub fn parent(path: &str) -> Option<&str> {
    match last_slash(path) {
        Some(0) if path.len() > 1 => Some(ROOT),
        Some(0) | None => None,
        Some(slash) if &path[..slash] == ROOT => None,
        Some(slash) => Some(&path[..slash]),
    }
}

/// The last component.
pub fn name(path: &str) -> &str {
    last_slash(path).map_or(path, |slash| &path[slash + 1..])
}

/// The last component mostly is short, so that it is faster to look at its bytes than to begin a search.
pub fn last_slash(path: &str) -> Option<usize> {
    path.bytes().rposition(|byte| byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_paths() {
        for path in ["/", "/a", "/a/b", "/...", "/.a", "/a..", "/a b", "/\u{a0}", "/\u{f900}", "/\u{ffef}", "/ü/日本"]
        {
            assert_eq!(validate(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn bad_paths() {
        for path in [
            "",
            "a",
            "/a/",
            "//",
            "/a//b",
            "/.",
            "/..",
            "/a/./b",
            "/a/../b",
            "/\0",
            "/\u{1f}",
            "/\u{7f}",
            "/\u{9f}",
            "/\u{e000}",
            "/\u{f8ff}",
            "/\u{fff0}",
            "/\u{ffff}",
            "/\u{1f600}",
        ] {
            assert!(validate(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn parents_and_names() {
        assert_eq!(parent("/a/b"), Some("/a"));
        assert_eq!(parent("/a"), Some("/"));
        assert_eq!(parent("/"), None);
        assert_eq!((parent("a"), parent("//"), parent("//a")), (None, None, None));
        assert_eq!((name("/a/b"), name("/a/"), name("/")), ("b", "", ""));
    }
}
