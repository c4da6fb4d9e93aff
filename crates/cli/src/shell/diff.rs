//! diff: two subtrees side by side, or a subtree and an export; a node and a file.
//!
//! What always holds: both sides are read in the same order, a node of each at a time, so that trees of any size take little memory. Nothing
//! is changed. Data, access control and whether a node is ephemeral count; versions, times and owners do not, for no two nodes share them.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufReader, Read as _};

use serde_json::json;
use zookeeper_client::Acl;

use super::commands::JSON;
use super::failure::{Failure, refused};
use super::options::Arguments;
use super::transfer::line::{Lines, Node as Exported};
use super::walk::{Node, Step, Walk, Want, session_of};
use super::{Shell, format};

/// What a file may have that is compared with a node, in bytes: far more than a node.
const FILE_BYTES_LIMIT: u64 = 64 << 20;

/// A node of one side.
struct Item {
    /// Below the root of its side; empty is the root itself.
    below: String,
    path: String,
    data: Vec<u8>,
    acl: Vec<Acl>,
    kind: &'static str,
}

enum Side {
    Tree { walk: Box<Walk>, root: String },
    Export { lines: Box<Lines<BufReader<File>>>, root: String, name: String, last: Option<String> },
}

impl Side {
    fn tree(shell: &Shell, path: &str) -> Result<Side, Failure> {
        shell.check_path(path)?;
        let walk = Walk::new(shell.client()?, path, Want::All).without_system();
        Ok(Side::Tree { walk: Box::new(walk), root: path.to_owned() })
    }

    fn export(name: &str) -> Result<Side, Failure> {
        let file = File::open(name).map_err(|error| Failure::Refused(format!("{name}: {error}")))?;
        let opened =
            Lines::open(BufReader::new(file)).map_err(|reason| Failure::Refused(format!("{name}: {reason}")))?;
        let (head, lines) = opened;
        Ok(Side::Export { lines: Box::new(lines), root: head.path, name: name.to_owned(), last: None })
    }

    /// The next node in order; none at the end.
    async fn next(&mut self) -> Result<Option<Item>, Failure> {
        match self {
            Side::Tree { walk, root } => loop {
                match walk.next().await? {
                    None => return Ok(None),
                    Some(Step::Leave { .. }) => {}
                    Some(Step::Enter(node)) if node.is_closed => {
                        return Err(Failure::Refused(format!("Insufficient permission : {}", node.path)));
                    }
                    Some(Step::Enter(node)) => return Ok(Some(of_tree(node, root))),
                }
            },
            Side::Export { lines, root, name, last } => {
                let wrong = |reason: String| Failure::Refused(format!("{name}: {reason}"));
                let Some(node) = lines.next_node().map_err(wrong)? else { return Ok(None) };
                let item = of_export(node, root).map_err(wrong)?;
                if last.as_deref().is_some_and(|last| order(last, &item.below) != Ordering::Less) {
                    return Err(wrong(format!("{} is not in the order in which an export is written", item.path)));
                }
                *last = Some(item.below.clone());
                Ok(Some(item))
            }
        }
    }
}

fn below(path: &str, root: &str) -> String {
    let below = if root == "/" { path } else { path.strip_prefix(root).unwrap_or(path) };
    if below == "/" { String::new() } else { below.to_owned() }
}

fn kind(is_ephemeral: bool) -> &'static str {
    if is_ephemeral { "ephemeral" } else { "persistent" }
}

fn of_tree(node: Node, root: &str) -> Item {
    let kind = kind(session_of(&node.stat).is_some());
    Item { below: below(&node.path, root), path: node.path, data: node.data, acl: node.acl, kind }
}

fn of_export(node: Exported, root: &str) -> Result<Item, String> {
    let (data, acl, kind) = (node.data()?, node.acl()?, kind(node.is_ephemeral()));
    Ok(Item { below: below(&node.path, root), path: node.path, data, acl, kind })
}

/// The order of a walk: parents first, children by name.
fn order(one: &str, other: &str) -> Ordering {
    one.split('/').cmp(other.split('/'))
}

/// In what two nodes differ.
fn differences(one: &Item, other: &Item, with_acl: bool) -> Vec<(&'static str, String)> {
    let mut differences = Vec::new();
    if one.data != other.data {
        let common = one.data.iter().zip(&other.data).take_while(|(one, other)| one == other).count();
        let text =
            format!("data of {} and {} bytes, different from byte {common} on", one.data.len(), other.data.len());
        differences.push(("data", text));
    }
    let acl = |item: &Item| {
        let mut entries: Vec<String> = item.acl.iter().map(format::short_acl).collect();
        entries.sort_unstable();
        entries.join(",")
    };
    if with_acl && acl(one) != acl(other) {
        differences.push(("acl", format!("access control {} and {}", acl(one), acl(other))));
    }
    if one.kind != other.kind {
        differences.push(("kind", format!("{} and {}", one.kind, other.kind)));
    }
    differences
}

pub(crate) async fn diff(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let compared = match (arguments.words.as_slice(), arguments.value("-export"), arguments.value("-file")) {
        ([one, other], None, None) => {
            let sides = [Side::tree(shell, one), Side::tree(shell, other)];
            let [one, other] = sides;
            trees(shell, one?, other?, &arguments).await
        }
        ([path], Some(export), None) => match (Side::tree(shell, path), Side::export(export)) {
            (Ok(one), Ok(other)) => trees(shell, one, other, &arguments).await,
            (Err(failure), _) | (_, Err(failure)) => Err(failure),
        },
        ([path], None, Some(file)) => with_file(shell, path, file, &arguments).await,
        _ => Err(shell.usage("diff")),
    };
    match compared {
        Ok(0) => Ok(()),
        Ok(_) => Err(Failure::No),
        Err(failure) => Err(failure.unanswered()),
    }
}

/// How many nodes are only at one side, or different.
async fn trees(shell: &Shell, mut one: Side, mut other: Side, arguments: &Arguments) -> Result<u64, Failure> {
    let mut count = 0;
    let with_acl = !arguments.has("-no-acl");
    let (mut left, mut right) = (one.next().await?, other.next().await?);
    loop {
        let ordered = match (&left, &right) {
            (None, None) => return Ok(count),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => order(&left.below, &right.below),
        };
        match ordered {
            Ordering::Less => {
                tell(shell, arguments, '-', left.take(), Vec::new())?;
                left = one.next().await?;
                count += 1;
            }
            Ordering::Greater => {
                tell(shell, arguments, '+', right.take(), Vec::new())?;
                right = other.next().await?;
                count += 1;
            }
            Ordering::Equal => {
                if let (Some(left), Some(right)) = (left.take(), right.take()) {
                    let differences = differences(&left, &right, with_acl);
                    if !differences.is_empty() {
                        tell(shell, arguments, '~', Some(left), differences)?;
                        count += 1;
                    }
                }
                (left, right) = (one.next().await?, other.next().await?);
            }
        }
        shell.output.ready().await;
    }
}

fn tell(
    shell: &Shell,
    arguments: &Arguments,
    sign: char,
    item: Option<Item>,
    differences: Vec<(&'static str, String)>,
) -> Result<(), Failure> {
    let Some(item) = item else { return Ok(()) };
    if arguments.has(JSON) {
        let change = match sign {
            '-' => "only in the first",
            '+' => "only in the second",
            _ => "different",
        };
        let fields: Vec<&str> = differences.iter().map(|(field, _)| *field).collect();
        return Ok(shell.output.json(&json!({"path": item.path, "is": change, "in": fields}))?);
    }
    let texts: Vec<String> = differences.into_iter().map(|(_, text)| text).collect();
    let texts = if texts.is_empty() { String::new() } else { format!(": {}", texts.join("; ")) };
    Ok(shell.output.line(&format!("{sign} {}{texts}", item.path))?)
}

async fn with_file(shell: &Shell, path: &str, name: &str, arguments: &Arguments) -> Result<u64, Failure> {
    shell.check_path(path)?;
    let wrong = |reason: String| Failure::Refused(format!("{name}: {reason}"));
    let mut contents = Vec::new();
    let file = File::open(name).map_err(|error| wrong(error.to_string()))?;
    file.take(FILE_BYTES_LIMIT).read_to_end(&mut contents).map_err(|error| wrong(error.to_string()))?;
    let (data, _) = shell.client()?.get_data(path).await.map_err(|error| refused(&error, path))?;
    let item = |data: Vec<u8>| Item { below: String::new(), path: path.to_owned(), data, acl: Vec::new(), kind: "" };
    let (one, other) = (item(data), item(contents));
    let differences = differences(&one, &other, false);
    if differences.is_empty() {
        return Ok(0);
    }
    tell(shell, arguments, '~', Some(one), differences)?;
    Ok(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_a_walk() {
        let walked = ["", "/a", "/a/b", "/a/b/c", "/a/c", "/a-", "/a-/b", "/b"];
        for pair in walked.windows(2) {
            assert_eq!(order(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
    }

    #[test]
    fn what_is_below_a_root() {
        assert_eq!(below("/a/b", "/a"), "/b");
        assert_eq!(below("/a", "/a"), "");
        assert_eq!(below("/", "/"), "");
        assert_eq!(below("/a", "/"), "/a");
    }
}
