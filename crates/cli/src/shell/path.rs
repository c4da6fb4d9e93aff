//! The rules of node paths, with the words in which zkCli refuses one.
//!
//! A path is checked before it is sent, so that a typing error costs no round trip and says where it is. Positions count UTF-16
//! units, as the original's do.

/// Why `path` is no path, in the original's words (`PathUtils`); `Ok` when a server would take it.
pub(crate) fn validate(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("Path length must be > 0".to_owned());
    }
    if !path.starts_with('/') {
        return Err("Path must start with / character".to_owned());
    }
    if path.len() == 1 {
        return Ok(());
    }
    if path.ends_with('/') {
        return Err("Path must not end with / character".to_owned());
    }
    match fault(path) {
        Some(reason) => Err(format!("Invalid path string \"{path}\" caused by {reason}")),
        None => Ok(()),
    }
}

/// A sequential node is named by appending a number, so its path may end with a slash.
pub(crate) fn validate_sequential(path: &str) -> Result<(), String> {
    validate(&format!("{path}1"))
        .map_err(|refusal| refusal.replacen(&format!("\"{path}1\""), &format!("\"{path}\""), 1))
}

fn fault(path: &str) -> Option<String> {
    let units: Vec<u16> = path.encode_utf16().collect();
    let slash = u16::from(b'/');
    let dot = u16::from(b'.');
    let component_ends = |index: usize| units.get(index + 1).is_none_or(|next| *next == slash);
    for index in 1..units.len() {
        let (previous, unit) = (units[index - 1], units[index]);
        match unit {
            0 => return Some(format!("null character not allowed @{index}")),
            _ if unit == slash && previous == slash => return Some(format!("empty node name specified @{index}")),
            _ if unit == dot && component_ends(index) => {
                let relative = previous == slash || (previous == dot && index >= 2 && units[index - 2] == slash);
                if relative {
                    return Some(format!("relative paths not allowed @{index}"));
                }
            }
            0x01..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff => {
                return Some(format!("invalid character @{index}"));
            }
            _ => {}
        }
    }
    None
}

/// The path of a child, also under the root.
pub(crate) fn join(parent: &str, child: &str) -> String {
    if parent == "/" { format!("/{child}") } else { format!("{parent}/{child}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_place() {
        let cases = [
            ("", "Path length must be > 0"),
            ("nope", "Path must start with / character"),
            ("/a/", "Path must not end with / character"),
            ("/a//b", "Invalid path string \"/a//b\" caused by empty node name specified @3"),
            ("/a/../b", "Invalid path string \"/a/../b\" caused by relative paths not allowed @4"),
            ("/a/./b", "Invalid path string \"/a/./b\" caused by relative paths not allowed @3"),
            ("/.", "Invalid path string \"/.\" caused by relative paths not allowed @1"),
            ("/a\u{1}", "Invalid path string \"/a\u{1}\" caused by invalid character @2"),
            ("/a\0", "Invalid path string \"/a\0\" caused by null character not allowed @2"),
        ];
        for (path, refusal) in cases {
            assert_eq!(validate(path), Err(refusal.to_owned()), "{path:?}");
        }
    }

    #[test]
    fn good_paths_pass() {
        for path in ["/", "/a", "/a.b/..c", "/...", "/ü"] {
            assert_eq!(validate(path), Ok(()), "{path:?}");
        }
        assert_eq!(validate_sequential("/a/"), Ok(()));
        assert!(validate_sequential("/a//").is_err());
    }

    #[test]
    fn children_of_the_root_have_one_slash() {
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(join("/a", "b"), "/a/b");
    }
}
