//! `rookeeper watch`: prints each change of a node or a subtree, or runs a command on it.
//!
//! Reading order:
//! - [`changes`]: from whole trees to changes of single nodes
//! - `runner.rs`: the command
//!
//! What always holds: the newest state of each node is told last, over lost connections and expired sessions too; a command never runs beside itself.

pub mod changes;
mod runner;

use std::io::ErrorKind;
use std::pin::pin;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use rookeeper_recipes::{Followed, Node, Problem, Scope, State, Tree};
use rustix::process::Signal;
use serde_json::json;

use crate::exclusive::{SessionFlags, Signals, end, run, sessions};
use crate::print;
use changes::{Change, Changes, Kind};
use runner::{End, Running};

/// `EX_UNAVAILABLE`: no server gives a session.
const NO_SERVER: u8 = 69;
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;
const FAILED: u8 = 1;
const FOR_THE_COMMAND_ALONE: [i32; 2] = [Signal::USR1.as_raw(), Signal::USR2.as_raw()];

/// Follow a node.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Tells what is there, and then each change: exists, created, changed or deleted. Without COMMAND as a line: that word, the path, the version of the data
and the data, with tabs between. The watch goes on when connections are lost and sessions expire; what changed meanwhile is told then. Changes that follow
each other faster than they are told are told as the last of them.

COMMAND has the data on its standard input, and ROOKEEPER_NODE, ROOKEEPER_CHANGE (one of these words), ROOKEEPER_VERSION and ROOKEEPER_ZXID in its
environment; both numbers are empty where the node is deleted. It runs once at a time, and again when something has changed meanwhile. An exit code
other than 0 is told on standard error, and the watch goes on.

Exit code: with --once that of COMMAND, or 0; 69 no server gives a session, 126 COMMAND can't be run, 127 it does not exist; 128 + N signal N ended the watch,
when COMMAND, to which it is passed on, has ended; 1 anything else. USR1 and USR2 are for COMMAND alone.")]
pub struct Options {
    /// The node, which need not be there yet
    pub path: String,

    #[command(flatten)]
    pub session: SessionFlags,

    /// Follow all nodes below it too
    #[arg(long)]
    pub recursive: bool,

    /// End when one change was told: what is there, if it is, or the first that comes
    #[arg(long)]
    pub once: bool,

    /// Take what has not changed after this zxid as known, and do not tell it
    #[arg(long, value_name = "ZXID", value_parser = zxid)]
    pub after: Option<i64>,

    /// Print each line as an object of JSON, with the zxid of the change
    #[arg(long, conflicts_with = "command")]
    pub json: bool,

    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

fn zxid(text: &str) -> Result<i64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "not a number, such as 0x100000007".to_owned())
}

/// Runs `rookeeper watch` and returns the exit code.
pub fn main(options: &Options) -> u8 {
    run(async |signals| {
        let sessions = sessions(&options.session, signals).await?;
        let scope = if options.recursive { Scope::Subtree } else { Scope::Node };
        let followed = Followed::tree(&sessions, &options.path, scope, |tree| Ok(tree.clone()));
        let code = watch(options, followed, signals).await;
        end(sessions).await;
        Ok(code)
    })
}

async fn watch(options: &Options, followed: Followed<Tree>, signals: &mut Signals) -> u8 {
    let mut states = followed.changes();
    let mut changes = Changes::default();
    let mut running: Option<Running> = None;
    let mut ending = None;
    let mut complaint = None;
    let mut reader = pin!(print::reader_has_gone());
    loop {
        while running.is_none() {
            if let Some(code) = ending {
                return code;
            }
            let Some(change) = changes.tell() else { break };
            let path = full_path(&options.path, &change.path);
            if options.command.is_empty() {
                if let Some(code) = print::result_of_many(&line(&path, &change, options.json)) {
                    return code;
                }
                if options.once {
                    return 0;
                }
                continue;
            }
            match Running::start(&options.command, &path, &change) {
                Ok(started) => running = Some(started),
                Err(error) => {
                    print::complaint(&format_args!("{}: {error}", options.command[0]));
                    return if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
                }
            }
        }
        tokio::select! {
            state = states.next() => {
                let Some(State { value, problem, .. }) = state else { return NO_SERVER };
                // The same refusal comes every second, and is told once.
                if problem != complaint {
                    match &problem {
                        // It names the node.
                        Some(problem @ Problem::Refused(_)) => print::complaint(problem),
                        Some(problem) => print::complaint(&format_args!("{}: {problem}", options.path)),
                        None => {}
                    }
                    complaint = problem;
                }
                match (value, &complaint) {
                    (_, Some(Problem::Stopped(_))) => return NO_SERVER,
                    // There never was anything to watch.
                    (None, Some(_)) => return FAILED,
                    (Some(tree), None) => changes.take(&tree, options.after),
                    _ => {}
                }
            }
            // What a command prints is its own affair.
            () = &mut reader, if options.command.is_empty() => return 0,
            end = end_of(&mut running) => {
                running = None;
                if options.once || end.interrupted {
                    return end.code;
                }
                if end.code != 0 && ending.is_none() {
                    print::complaint(&format_args!("{} ended with exit code {}", options.command[0], end.code));
                }
            }
            number = signals.next() => {
                if let Some(running) = &running {
                    running.signal(number);
                }
                if !FOR_THE_COMMAND_ALONE.contains(&number) {
                    ending = Some(128 + number as u8);
                }
            }
        }
    }
}

async fn end_of(running: &mut Option<Running>) -> End {
    match running {
        Some(running) => running.end().await,
        None => std::future::pending().await,
    }
}

fn full_path(root: &str, below: &str) -> String {
    if below.is_empty() { root.to_owned() } else { format!("{}/{below}", root.trim_end_matches('/')) }
}

fn line(path: &str, change: &Change, json: bool) -> String {
    let Change { kind, node: Node { data, version, changed, .. }, .. } = change;
    let is_there = *kind != Kind::Deleted;
    if json {
        let mut object = json!({ "change": kind.name(), "path": path });
        if is_there {
            object["version"] = (*version).into();
            object["zxid"] = format!("{changed:#x}").into();
            match std::str::from_utf8(data) {
                Ok(text) => object["data"] = text.into(),
                Err(_) => object["base64"] = BASE64_STANDARD.encode(data).into(),
            }
        }
        return object.to_string();
    }
    let path = print::visible(path.as_bytes());
    match is_there {
        true => format!("{}\t{path}\t{version}\t{}", kind.name(), print::visible(data)),
        false => format!("{}\t{path}", kind.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_any_data() {
        let node = |data: &[u8]| Node { data: data.to_vec(), version: 3, created: 1, changed: 255 };
        let change = |kind, data| Change { kind, path: "b".to_owned(), node: node(data) };
        assert_eq!(line("/a/b", &change(Kind::Changed, b"x\n\x1b[m"), false), "changed\t/a/b\t3\tx\\n\\u{1b}[m");
        assert_eq!(line("/a/b", &change(Kind::Deleted, b"x"), false), "deleted\t/a/b");
        let object: serde_json::Value =
            serde_json::from_str(&line("/b", &change(Kind::Exists, b"\xff"), true)).unwrap();
        assert_eq!(object, json!({"change": "exists", "path": "/b", "version": 3, "zxid": "0xff", "base64": "/w=="}));
        assert_eq!(full_path("/", "b"), "/b");
    }

    #[test]
    fn zxids_as_they_are_printed() {
        assert_eq!((zxid("0x100000007"), zxid("9")), (Ok(0x1_0000_0007), Ok(9)));
        assert!(zxid("x").is_err());
    }
}
