//! The names of nodes in a line: `_c_<id>-lock-0000000007`.
//!
//! What always holds: the id is unique to one attempt, so that the attempt finds its node although the answer to its create was lost (Apache
//! Curator calls such names protected). A node is recognised by its marker, the text before the sequence number, whatever stands
//! before that: other libraries write other ids.

/// Which library's names a new node gets. Nodes of both are recognised everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// `_c_<id>-lock-0000000007`: shared with Apache Curator, with the lock of the crate `zookeeper-client`, and with a kazoo whose lock is
    /// given `extra_lock_patterns=("-lock-",)`.
    #[default]
    Curator,
    /// `<id>__lock__0000000007`: shared with kazoo as it comes.
    Kazoo,
}

impl Layout {
    /// The name before the sequence number, of a node with this marker.
    pub(crate) fn prefix(self, id: &str, marker: &str) -> String {
        match self {
            Layout::Curator => format!("_c_{id}-{marker}"),
            Layout::Kazoo => format!("{id}{marker}"),
        }
    }
}

/// The sequence number behind the last of these markers in a name. Numbers overflow at 2^31 and are negative then.
pub(crate) fn sequence(name: &str, markers: &[&str]) -> Option<i64> {
    markers.iter().find_map(|marker| number(name.rsplit_once(marker)?.1))
}

/// Whether a server has made this name by writing a number behind `prefix`, which may itself be a number.
pub(crate) fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).and_then(number).is_some()
}

/// What a server writes behind the name of a sequential node: ten digits, and a sign where there are too many for that.
fn number(text: &str) -> Option<i64> {
    const DIGITS: usize = 10;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number =
        (digits.len() == DIGITS || text.len() == DIGITS) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// A path below `parent`, which may be the root.
pub(crate) fn join(parent: &str, name: &str) -> String {
    format!("{}/{name}", parent.trim_end_matches('/'))
}

/// The path above one, which may be the root.
pub(crate) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some((parent, _)) if !parent.is_empty() => parent,
        _ => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_libraries_are_recognised() {
        let markers = &["lock-", "__lock__"];
        assert_eq!(sequence("_c_2b6e-lock-0000000012", markers), Some(12));
        assert_eq!(sequence("9f00__lock__0000000007", markers), Some(7));
        assert_eq!(sequence("_c_2b6e-lock--2147483648", markers), Some(-2_147_483_648));
        for other in
            ["_c_2b6e-lock-", "lock-12", "lock-000000001x", "_c_2b6e-latch-0000000001", "9f00__rlock__0000000001"]
        {
            assert_eq!(sequence(other, markers), None, "{other}");
        }
    }

    #[test]
    fn a_number_may_stand_behind_a_number() {
        assert!(is_numbered("40000000004", "4"));
        assert!(is_numbered("4-2147483648", "4"));
        assert!(is_numbered("4-000000012", "4"));
        for (name, prefix) in
            [("410000000004", "4"), ("4", "4"), ("4000000004", "4"), ("50000000004", "4"), ("4x000000004", "4")]
        {
            assert!(!is_numbered(name, prefix), "{name}");
        }
    }

    #[test]
    fn what_is_written_is_recognised() {
        for (layout, marker) in [(Layout::Curator, "lock-"), (Layout::Kazoo, "__lock__")] {
            let name = layout.prefix("5d", marker) + "0000000003";
            assert_eq!(sequence(&name, &["lock-", "__lock__"]), Some(3), "{name}");
        }
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(join("/a", "b"), "/a/b");
        assert_eq!(["/a/b", "/a"].map(parent), ["/a", "/"]);
    }
}
