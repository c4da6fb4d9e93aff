//! tree, find and du: looking at a whole subtree.
//!
//! What always holds: each prints while it walks, so that a subtree of any size takes little memory; a node that this session may not read is
//! named, the others are shown, and the exit code is 1.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use zookeeper_client::Stat;

use super::commands::JSON;
use super::failure::Failure;
use super::options::Arguments;
use super::walk::{Node, Step, Walk, Want, session_of};
use super::{Shell, arguments, format, pattern};

/// The walk of a command, with `--depth`.
fn walk(shell: &Shell, arguments: &Arguments) -> Result<Walk, Failure> {
    let path = arguments.words[0].as_str();
    shell.check_path(path)?;
    let walk = Walk::new(shell.client()?, path, Want::Stat);
    Ok(match number(arguments, "-depth")? {
        Some(depth) => walk.down_to(depth),
        None => walk,
    })
}

fn number(arguments: &Arguments, option: &str) -> Result<Option<usize>, Failure> {
    let parse = |text: &str| text.parse().map_err(|_| Failure::Refused(format!("-{option} {text}: expected a number")));
    arguments.value(option).map(parse).transpose()
}

/// Names the nodes that are closed to this session.
#[derive(Default)]
struct Closed {
    nodes: u64,
}

impl Closed {
    fn note(&mut self, shell: &Shell, node: &Node) -> Result<(), Failure> {
        if node.is_closed {
            self.nodes += 1;
            shell.output.complain(&format!("Insufficient permission : {}", node.path))?;
        }
        Ok(())
    }

    fn end(self) -> Result<(), Failure> {
        match self.nodes {
            0 => Ok(()),
            nodes => Err(Failure::Refused(format!("Not all was seen: {nodes} nodes are closed to this session"))),
        }
    }
}

pub(crate) async fn tree(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let mut walk = walk(shell, &arguments)?;
    let deepest = number(&arguments, "-depth")?;
    let (mut closed, mut nodes, mut branches) = (Closed::default(), 0_u64, String::new());
    // The lengths of the branches of the nodes that are open.
    let mut lengths = Vec::new();
    while let Some(step) = walk.next().await? {
        match step {
            Step::Leave { .. } => branches.truncate(lengths.pop().unwrap_or(0)),
            Step::Enter(node) => {
                nodes += 1;
                closed.note(shell, &node)?;
                if arguments.has(JSON) {
                    shell.output.json(
                        &json!({"path": node.path, "depth": node.depth, "stat": format::stat_json(&node.stat)}),
                    )?;
                } else {
                    let name = if node.depth == 0 { node.path.as_str() } else { name(&node.path) };
                    let twig = match (node.depth, node.is_last) {
                        (0, _) => "",
                        (_, true) => "\u{2514}\u{2500}\u{2500} ",
                        (_, false) => "\u{251c}\u{2500}\u{2500} ",
                    };
                    let is_cut = deepest == Some(node.depth) && node.stat.num_children > 0;
                    let marks = marks(&node, arguments.has("s"), is_cut);
                    shell.output.line(&format!("{branches}{twig}{name}{marks}"))?;
                }
                lengths.push(branches.len());
                if node.depth > 0 {
                    branches.push_str(if node.is_last { "    " } else { "\u{2502}   " });
                }
                shell.output.ready().await;
            }
        }
    }
    if !arguments.has(JSON) {
        shell.output.line(&format!("\n{nodes} nodes"))?;
    }
    closed.end()
}

fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// What is said of a node behind its name.
fn marks(node: &Node, with_size: bool, is_cut: bool) -> String {
    let mut marks = Vec::new();
    if let Some(session) = session_of(&node.stat) {
        marks.push(format!("ephemeral of 0x{session:x}"));
    }
    if with_size {
        marks.push(format!("{} bytes", node.stat.data_length));
    }
    if node.is_closed {
        marks.push("closed to this session".to_owned());
    } else if is_cut {
        marks.push(format!("{} children", node.stat.num_children));
    }
    if marks.is_empty() { String::new() } else { format!("  ({})", marks.join(", ")) }
}

pub(crate) async fn usage(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let path = arguments.words[0].as_str();
    shell.check_path(path)?;
    let shown = number(&arguments, "-depth")?.unwrap_or(1);
    let mut walk = Walk::new(shell.client()?, path, Want::Stat);
    let mut closed = Closed::default();
    // Bytes and nodes of each node that is open.
    let mut sums: Vec<(u64, u64)> = Vec::new();
    let mut has_head = arguments.has(JSON);
    while let Some(step) = walk.next().await? {
        match step {
            Step::Enter(node) => {
                closed.note(shell, &node)?;
                if !std::mem::replace(&mut has_head, true) {
                    shell.output.line(&format!("{:>14} {:>10}  path", "bytes", "nodes"))?;
                }
                sums.push((u64::try_from(node.stat.data_length).unwrap_or(0), 1));
            }
            Step::Leave { path, depth, .. } => {
                let (bytes, nodes) = sums.pop().unwrap_or_default();
                if let Some(parent) = sums.last_mut() {
                    *parent = (parent.0 + bytes, parent.1 + nodes);
                }
                if depth > shown {
                    continue;
                }
                if arguments.has(JSON) {
                    shell.output.json(&json!({"path": path, "bytes": bytes, "nodes": nodes}))?;
                } else {
                    shell.output.line(&format!("{bytes:>14} {nodes:>10}  {path}"))?;
                }
                shell.output.ready().await;
            }
        }
    }
    closed.end()
}

/// What a node must be to be found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    /// Of the name, or of the whole path where it has a slash.
    pattern: Option<String>,
    owner: Option<Owner>,
    /// Times of the last change, in milliseconds since 1970.
    changed_before: Option<i64>,
    changed_after: Option<i64>,
    larger: Option<i64>,
    smaller: Option<i64>,
}

#[derive(Debug, PartialEq, Eq)]
enum Owner {
    Any,
    None,
    Session(i64),
}

impl Wanted {
    fn of(arguments: &Arguments, now_ms: i64) -> Result<Wanted, Failure> {
        let wrong = |option: &str, text: &str, reason: &str| Failure::Refused(format!("-{option} {text}: {reason}"));
        let before = |option: &str| -> Result<Option<i64>, Failure> {
            let Some(text) = arguments.value(option) else { return Ok(None) };
            let age = arguments::duration(text).map_err(|reason| wrong(option, text, &reason))?;
            Ok(Some(now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))))
        };
        let size = |option: &str| -> Result<Option<i64>, Failure> {
            let Some(text) = arguments.value(option) else { return Ok(None) };
            bytes(text)
                .map(Some)
                .ok_or_else(|| wrong(option, text, "expected a number of bytes, such as 500, 10k or 1m"))
        };
        let owner = match arguments.value("-owner") {
            None => None,
            Some("any") => Some(Owner::Any),
            Some("none") => Some(Owner::None),
            Some(text) => {
                let number = text.strip_prefix("0x").map_or(text, |digits| digits);
                let session = u64::from_str_radix(number, 16);
                let session = session
                    .map_err(|_| wrong("-owner", text, "expected any, none, or a session such as 0x100002a3b4c0001"))?;
                Some(Owner::Session(session as i64))
            }
        };
        Ok(Wanted {
            pattern: arguments.value("-name").map(str::to_owned),
            owner,
            changed_before: before("-older")?,
            changed_after: before("-newer")?,
            larger: size("-larger")?,
            smaller: size("-smaller")?,
        })
    }

    fn is(&self, path: &str, stat: &Stat) -> bool {
        let name = |pattern: &str| if pattern.contains('/') { path } else { name(path) };
        let is_owner = |owner: &Owner| match (owner, session_of(stat)) {
            (Owner::Any, session) => session.is_some(),
            (Owner::None, session) => session.is_none(),
            (Owner::Session(wanted), session) => session == Some(*wanted),
        };
        self.pattern.as_deref().is_none_or(|wanted| pattern::matches(wanted, name(wanted)))
            && self.owner.as_ref().is_none_or(is_owner)
            && self.changed_before.is_none_or(|limit| stat.mtime <= limit)
            && self.changed_after.is_none_or(|limit| stat.mtime >= limit)
            && self.larger.is_none_or(|limit| i64::from(stat.data_length) > limit)
            && self.smaller.is_none_or(|limit| i64::from(stat.data_length) < limit)
    }
}

/// `500`, `10k`, `1m`.
fn bytes(text: &str) -> Option<i64> {
    let (number, unit) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1024),
        b'm' | b'M' => (&text[..text.len() - 1], 1024 * 1024),
        _ => (text, 1),
    };
    number.parse::<u32>().ok().map(|number| i64::from(number) * unit)
}

pub(crate) async fn find(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let now = Duration::from_millis(u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0));
    let wanted = Wanted::of(&arguments, i64::try_from(now.as_millis()).unwrap_or(i64::MAX))?;
    let mut walk = walk(shell, &arguments)?;
    let mut closed = Closed::default();
    while let Some(step) = walk.next().await? {
        let Step::Enter(node) = step else { continue };
        closed.note(shell, &node)?;
        if !wanted.is(&node.path, &node.stat) {
            continue;
        }
        if arguments.has(JSON) {
            shell.output.json(&json!({"path": node.path, "stat": format::stat_json(&node.stat)}))?;
        } else {
            shell.output.line(&node.path)?;
        }
        shell.output.ready().await;
    }
    closed.end()
}

#[cfg(test)]
mod tests {
    use super::super::format::tests::STAT;
    use super::super::options::{self, Choice, value};
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn wanted(line: &str) -> Result<Wanted, String> {
        let known = ["-name", "-owner", "-older", "-newer", "-larger", "-smaller"].map(value);
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Wanted::of(&options::parse(&words, &known, Choice::Any).unwrap(), NOW).map_err(|failure| failure.to_string())
    }

    #[test]
    fn all_that_is_asked_for_must_hold() {
        let stat = Stat { mtime: NOW - 3_600_000, data_length: 2_048, ephemeral_owner: 0x10, ..STAT };
        let is = |line: &str| wanted(line).unwrap().is("/app/lock-7", &stat);
        for yes in [
            "",
            "--name lock-*",
            "--name */app/*",
            "--owner any",
            "--owner 0x10",
            "--older 1h",
            "--newer 1h",
            "--older 59m --newer 61m",
            "--larger 2047",
            "--larger 1k --smaller 3k --name *7",
        ] {
            assert!(is(yes), "{yes}");
        }
        for no in [
            "--name lock",
            "--name app*",
            "--name /lock*",
            "--owner 0x11",
            "--owner none",
            "--older 61m",
            "--newer 59m",
            "--larger 2k",
            "--smaller 2048",
            "--name lock-* --smaller 1k",
        ] {
            assert!(!is(no), "{no}");
        }
        let lasting = Stat { ephemeral_owner: 0, ..STAT };
        assert!(
            wanted("--owner none").unwrap().is("/a", &lasting) && !wanted("--owner any").unwrap().is("/a", &lasting)
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (line, part) in [
            ("--older 5", "--older 5: expected a number with its unit"),
            ("--larger x", "--larger x: expected a number of bytes"),
            ("--owner bob", "--owner bob: expected any, none, or a session"),
        ] {
            let refusal = wanted(line).expect_err(line);
            assert!(refusal.starts_with(part), "{refusal}");
        }
    }
}
