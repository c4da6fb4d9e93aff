//! `rookeeper snapshot`: prints what a snapshot holds, and leads to the other tools for snapshots.
//!
//! Counterpart in the original: `SnapshotFormatter`.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::tz::TimeZone;
use rookeeper_proto::Zxid;

use super::snapshot_tree::{SnapshotTree, Step, name};
use super::{FAILED, MISUSED, compare, summary};
use crate::{java, print};

const USAGE: &str = "USAGE: SnapshotFormatter [-d|-json] snapshot_file
       -d dump the data for each znode
       -json dump znode info in json format";

/// The original numbers nodes from here on, as a disk usage viewer wants it.
const FIRST_INODE: u64 = 1001;

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Details { with_data: bool },
    Json,
}

/// Runs the tool that the first argument names; without one of these names, prints a snapshot.
pub fn main(arguments: &[String]) -> u8 {
    match arguments.split_first() {
        Some((tool, rest)) if tool == "compare" => compare::main(rest),
        Some((tool, rest)) if tool == "summary" => summary::main(rest),
        _ => show(arguments),
    }
}

/// Exit code 0: printed; 1: the snapshot is damaged; 2: a wrong invocation.
fn show(arguments: &[String]) -> u8 {
    let (mut with_data, mut as_json) = (false, false);
    let mut rest = arguments.iter();
    let file = rest.find(|argument| {
        match argument.as_str() {
            "-d" => with_data = true,
            "-json" => as_json = true,
            _ => return true,
        }
        false
    });
    let Some(file) = file.filter(|_| rest.next().is_none()) else {
        print::complaint(&USAGE);
        return MISUSED;
    };
    let path = PathBuf::from(file);
    if let Some(problem) = unusable(&path) {
        print::complaint(&problem);
        return MISUSED;
    }
    if with_data && as_json {
        print::complaint(&"Cannot specify both data dump (-d) and json mode (-json) in same call");
        return MISUSED;
    }
    let form = if as_json { Form::Json } else { Form::Details { with_data } };
    with_tree(&path, |tree| {
        let mut output = BufWriter::new(io::stdout().lock());
        let printed = match form {
            Form::Json => json(&tree, &mut output),
            Form::Details { with_data } => details(&tree, &path, with_data, &mut output),
        };
        printed.and_then(|()| output.flush())
    })
}

/// Reads a snapshot and prints of it. Where a seal is wrong, what could be read is printed all the same, and the end is not a good one.
pub(super) fn with_tree(path: &Path, output: impl FnOnce(SnapshotTree) -> io::Result<()>) -> u8 {
    let (tree, unsealed) = match SnapshotTree::read(path) {
        Ok(read) => read,
        Err(problem) => {
            print::complaint(&problem);
            return FAILED;
        }
    };
    match output(tree) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            print::complaint(&format_args!("can't write to standard output: {error}"));
            FAILED
        }
        _ => match unsealed {
            Some(error) => {
                print::complaint(&format_args!("what was printed may be wrong: {error}"));
                FAILED
            }
            None => 0,
        },
    }
}

/// What the original says of a path that is no file to read.
fn unusable(path: &Path) -> Option<String> {
    let shown = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let shown = shown.display();
    if !path.exists() {
        Some(format!("File '{shown}' does not exist."))
    } else if path.is_dir() {
        Some(format!("'{shown}' is a directory. it must be a file."))
    } else if std::fs::File::open(path).is_err() {
        Some(format!("Read permission is denied on the file '{shown}'"))
    } else {
        None
    }
}

fn details(tree: &SnapshotTree, path: &Path, with_data: bool, output: &mut dyn Write) -> io::Result<()> {
    let zone = TimeZone::system();
    // The original counts the root twice, by both of its names.
    writeln!(output, "ZNode Details (count={}):", tree.nodes.len() + 1)?;
    let mut last = zxid_of_name(path);
    for step in tree.walk(0) {
        let Step::Enter { node, .. } = step else { continue };
        let stat = &tree.nodes[node].stat;
        last = last.max(stat.mzxid).max(stat.pzxid);
        writeln!(output, "----\n{}", shown(&tree.nodes[node].path))?;
        writeln!(output, "  cZxid = {:#016x}", stat.czxid.0)?;
        writeln!(output, "  ctime = {}", java::date(stat.ctime_ms, &zone))?;
        writeln!(output, "  mZxid = {:#016x}", stat.mzxid.0)?;
        writeln!(output, "  mtime = {}", java::date(stat.mtime_ms, &zone))?;
        writeln!(output, "  pZxid = {:#016x}", stat.pzxid.0)?;
        writeln!(output, "  cversion = {}", stat.cversion)?;
        writeln!(output, "  dataVersion = {}", stat.version)?;
        writeln!(output, "  aclVersion = {}", stat.aversion)?;
        writeln!(output, "  ephemeralOwner = {:#016x}", stat.ephemeral_owner)?;
        match with_data {
            true => {
                let data = tree.nodes[node].data.as_deref().unwrap_or_default();
                writeln!(output, "  data = {}", STANDARD.encode(data))?;
            }
            false => writeln!(output, "  dataLength = {}", tree.data_length(node))?,
        }
    }
    writeln!(output, "----\nSession Details (sid, timeout, ephemeralCount):")?;
    for entry in &tree.sessions {
        let session = entry.session.0;
        let owned = tree.nodes.iter().filter(|node| node.stat.ephemeral_owner == session).count();
        writeln!(output, "{session:#016x}, {}, {owned}", entry.timeout_ms)?;
    }
    writeln!(output, "----\nLast zxid: 0x{:x}", last.0)
}

/// From `snapshot.N` and whatever comes behind; -1 where the name is another.
fn zxid_of_name(path: &Path) -> Zxid {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let digits = name.strip_prefix("snapshot.").and_then(|rest| rest.split('.').next());
    Zxid(digits.and_then(|digits| i64::from_str_radix(digits, 16).ok()).unwrap_or(-1))
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

fn json(tree: &SnapshotTree, output: &mut dyn Write) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    write!(output, "[1,0,{{\"progname\":\"SnapshotFormatter.java\",\"progver\":\"0.01\",\"timestamp\":{now}}}")?;
    let mut inode = FIRST_INODE;
    for step in tree.walk(0) {
        match step {
            Step::Enter { node, .. } => {
                let bracket = if tree.children[node].is_empty() { "" } else { "[" };
                let (name, length) = (quoted(json_name(&tree.nodes[node].path)), tree.data_length(node));
                write!(
                    output,
                    ",{bracket}{{\"name\":\"{name}\",\"asize\":{length},\"dsize\":{length},\"dev\":0,\"ino\":{inode}}}"
                )?;
                inode += 1;
            }
            Step::Leave { node, .. } if !tree.children[node].is_empty() => output.write_all(b"]")?,
            Step::Leave { .. } => {}
        }
    }
    output.write_all(b"]")
}

/// The root has no name of its own.
fn json_name(path: &str) -> &str {
    if path.is_empty() { "/" } else { name(path) }
}

/// The inside of a JSON string.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{8}' => quoted.push_str("\\b"),
            '\t' => quoted.push_str("\\t"),
            '\n' => quoted.push_str("\\n"),
            '\u{c}' => quoted.push_str("\\f"),
            '\r' => quoted.push_str("\\r"),
            control if (control as u32) < 0x20 => {
                let _ = write!(quoted, "\\u{:04X}", control as u32);
            }
            other => quoted.push(other),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zxids_of_names() {
        for (name, zxid) in [("snapshot.2e", 0x2e), ("snapshot.2e.gz", 0x2e), ("x.2e", -1), ("snapshot.x", -1)] {
            assert_eq!(zxid_of_name(Path::new(name)), Zxid(zxid), "{name}");
        }
    }

    #[test]
    fn names_in_json() {
        assert_eq!(quoted("a\"b\\c\u{1f}\té"), "a\\\"b\\\\c\\u001F\\té");
    }
}
