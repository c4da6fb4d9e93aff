//! Which commands there are, who may ask for each, and what it needs.
//!
//! Counterpart in the original: `Commands`.

use axum::http::StatusCode;

use super::access::Guard;
use super::json::{self, Object, TooLong};
use super::{frame, listings, lookout, members, overview, settings};
use crate::commands::Cost;
use crate::context::Context;
use crate::observe::NotWanted;
use crate::observe::view::View;
use crate::ports::quorum::LinkedLearner;

use Cost::{AtOnce, Long, Short};
use Guard::{Open, Private, Root};

/// Everything there is to know about a command.
#[derive(Debug)]
pub(super) struct Command {
    /// The one in answers and links.
    pub name: &'static str,
    others: &'static [&'static str],
    /// Whether it is refused while nobody is served.
    pub needs_service: bool,
    pub guard: Guard,
    pub cost: Cost,
    /// Asked for by POST; others by GET.
    pub is_post: bool,
    way: Way,
}

/// How an answer is made.
#[derive(Debug, Clone, Copy)]
enum Way {
    Written(fn(&mut Object<'_>, &Question<'_>) -> Answer),
    /// By another thread, and sent as a file.
    Snapshot,
    /// The same, with the log behind it.
    Backup,
    /// By other threads, from the file that is sent along.
    Restore,
}

/// What an answer is made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub context: &'a Context,
    pub view: &'a View,
    /// The links of learners to this server.
    pub learners: &'a [LinkedLearner],
    /// What stands behind the question mark.
    pub query: &'a str,
    /// Bytes that the answer, and what is gathered for it, may have.
    pub limit: usize,
}

/// Whether the answer is written.
pub(super) type Answer = Result<(), Failed>;

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// In words of the original.
    Because(String),
    TooLong,
}

const COMMANDS: &[Command] = &[
    Command { way: Way::Backup, ..command("backup", &[], Root, Short, |_, _| Ok(())) },
    command("configuration", &["conf", "config"], Private, Short, settings::configuration),
    command("connection_stat_reset", &["crst"], Private, Short, overview::connection_stat_reset),
    command("connections", &["cons"], Private, Long, listings::connections),
    command("dirs", &[], Open, Short, overview::dirs),
    command("dump", &[], Private, Long, listings::dump),
    always(command("environment", &["env", "envi"], Private, Short, settings::environment)),
    always(command("get_trace_mask", &["gtmk"], Open, AtOnce, settings::get_trace_mask)),
    command("hash", &[], Open, Short, overview::hash),
    command("initial_configuration", &["icfg"], Private, Short, settings::initial_configuration),
    command("is_read_only", &["isro"], Open, AtOnce, overview::is_read_only),
    command("last_snapshot", &["lsnp"], Open, Short, overview::last_snapshot),
    command("leader", &["lead"], Open, AtOnce, members::leader),
    command("monitor", &["mntr"], Open, Short, overview::monitor),
    command("observer_connection_stat_reset", &["orst"], Private, AtOnce, members::observer_connection_stat_reset),
    command("observers", &["obsr"], Private, Short, members::observers),
    Command { is_post: true, way: Way::Restore, ..command("restore", &["rest"], Root, Short, |_, _| Ok(())) },
    command("ruok", &[], Open, AtOnce, |_, _| Ok(())),
    command("server_stats", &["srvr"], Open, Short, overview::server_stats),
    always(command("set_trace_mask", &["stmk"], Private, AtOnce, settings::set_trace_mask)),
    command("slow_operations", &[], Private, Short, lookout::slow_operations),
    Command { way: Way::Snapshot, ..command("snapshot", &["snap"], Root, Short, |_, _| Ok(())) },
    command("stat_reset", &["srst"], Private, Short, overview::stat_reset),
    command("stats", &["stat"], Private, Long, listings::stats),
    always(command("system_properties", &["sysp"], Private, Short, settings::system_properties)),
    command("top", &[], Private, Short, lookout::top),
    command("voting_view", &[], Open, AtOnce, members::voting_view),
    command("watch_summary", &["wchs"], Open, Short, listings::watch_summary),
    command("watches", &["wchc"], Private, Long, listings::watches),
    command("watches_by_path", &["wchp"], Private, Long, listings::watches_by_path),
    always(command("zabstate", &[], Open, Short, members::zabstate)),
];

const fn command(
    name: &'static str,
    others: &'static [&'static str],
    guard: Guard,
    cost: Cost,
    answer: fn(&mut Object<'_>, &Question<'_>) -> Answer,
) -> Command {
    Command { name, others, needs_service: true, guard, cost, is_post: false, way: Way::Written(answer) }
}

/// Also while nobody is served.
const fn always(command: Command) -> Command {
    Command { needs_service: false, ..command }
}

/// All commands, by their names.
pub(super) fn all() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter()
}

/// The command of this name, be it the first one or another.
pub(super) fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name || command.others.contains(&name))
}

impl Command {
    /// Whether the answer is a file, see `snapshot.rs`.
    pub fn is_snapshot(&self) -> bool {
        matches!(self.way, Way::Snapshot)
    }

    /// Whether the answer is a snapshot with the log behind it, see `backup.rs`.
    pub fn is_backup(&self) -> bool {
        matches!(self.way, Way::Backup)
    }

    /// Whether a file comes with it, see `restore.rs`.
    pub fn is_restore(&self) -> bool {
        matches!(self.way, Way::Restore)
    }
}

/// The status and the text of an answer. It blocks.
pub(super) fn answer(command: &Command, question: &Question<'_>) -> (StatusCode, String) {
    let written = json::document(question.limit, |answer| {
        if let Way::Written(write) = command.way {
            write(answer, question)?;
        }
        answer.scalar("command", command.name);
        answer.scalar("error", None::<&str>);
        Ok(())
    });
    match written {
        Ok(text) => (StatusCode::OK, text),
        // As in the original, what the command itself says stands first.
        Err(Failed::Because(why)) => {
            let text = json::document(question.limit, |answer| {
                answer.scalar("error", why.as_str());
                answer.scalar("command", command.name);
                Ok::<(), TooLong>(())
            });
            (StatusCode::OK, text.unwrap_or_default())
        }
        Err(Failed::TooLong) => {
            let why = format!("The answer would take more than {} bytes of memory", question.limit);
            (StatusCode::SERVICE_UNAVAILABLE, frame(command.name, Some(&why)))
        }
    }
}

impl From<TooLong> for Failed {
    fn from(_: TooLong) -> Failed {
        Failed::TooLong
    }
}

impl From<NotWanted> for Failed {
    fn from(_: NotWanted) -> Failed {
        Failed::TooLong
    }
}

impl Question<'_> {
    /// Whether so much may be gathered. Some more is to be written.
    pub fn gathered(&self, bytes: usize) -> Result<(), NotWanted> {
        if bytes > self.limit { Err(NotWanted) } else { Ok(()) }
    }
}

/// What the query says of this name.
pub(super) fn argument(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| super::decoded(value))
}

/// The section of COMPAT.md about the commands, in Markdown.
pub fn compat_table() -> String {
    let mut text = String::from(
        "| command | other names | while no clients are served | who may ask |\n| --- | --- | --- | --- |\n",
    );
    for Command { name, others, needs_service, guard, .. } in COMMANDS {
        let others = others.iter().map(|other| format!("`{other}`")).collect::<Vec<_>>().join(", ");
        let without = if *needs_service { "refused in the original's words" } else { "answered" };
        let who = match guard {
            Open => "everybody",
            Private => "this machine; from elsewhere, whoever shows who they are",
            Root => "whoever has every permission on `/`",
        };
        text.push_str(&format!("| `{name}` | {others} | {without} | {who} |\n"));
    }
    text
}
