//! The report of a server that is asked by SIGQUIT: threads, queues, role, which client waits for what.
//!
//! An operator asks for the report when nothing goes on any more. So what always holds here is: nothing is asked of a thread that may be stuck;
//! what needs no lock is told first, and the tree's lock is not waited for.
//!
//! Counterpart in the original: the thread dump of the Java machine.

use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rookeeper_replica::{Connection, Serving};

use crate::context::Context;
use crate::logging;
use crate::observe::activity::Activities;
use crate::ports::quorum::LinkView;
use crate::version;
use rookeeper_proto::MonotonicMs;

/// Clients that are named; of more there is a number.
const MAX_NAMED: usize = 10;

/// How often the tree's lock is tried, and the pause between. A thread that keeps it longer is what the report is about.
const TREE_ATTEMPTS: u32 = 100;
const TREE_PAUSE: Duration = Duration::from_millis(1);

/// Where a report looks, besides what connections share.
#[derive(Debug)]
pub(crate) struct ReportSources {
    pub activities: Arc<Activities>,
    /// Bytes of transactions that wait for this server's disk.
    pub unwritten_bytes: Arc<AtomicUsize>,
    /// Of a member.
    pub links: Option<LinkView>,
}

/// Tells everything, line by line, what needs no lock first: a thread that is stuck may hold one.
pub(crate) fn tell(context: &Context, sources: &ReportSources, mut line: impl FnMut(String)) {
    line(server(context));
    threads(sources).into_iter().for_each(&mut line);
    queues(sources).into_iter().for_each(&mut line);
    line(role(context));
    line(clients(context));
    waiting(context).into_iter().for_each(&mut line);
    line(format!("{} watches are set", context.shared.watches().watch_count()));
}

fn server(context: &Context) -> String {
    let descriptors =
        crate::observe::process::open_file_descriptors().map_or("unknown".to_owned(), |open| open.to_string());
    format!(
        "Rookeeper {}, up for {} s; {descriptors} of {} file descriptors in use; {} lines of this log are missing",
        version::NUMBER,
        context.clock.uptime_ms() / 1000,
        crate::observe::process::max_file_descriptors(),
        logging::missing_lines(),
    )
}

fn role(context: &Context) -> String {
    let status_board = &context.shared.status_board;
    let status = status_board.status();
    let serving = match status_board.serving() {
        Serving::Nobody => "nobody",
        Serving::Deciding => "clients, and decides about writes",
        Serving::Forwarding => "clients, and sends writes to the leader",
        Serving::ReadOnly => "clients that only read",
    };
    let zxid = (0..TREE_ATTEMPTS).find_map(|attempt| {
        if attempt > 0 {
            std::thread::sleep(TREE_PAUSE);
        }
        context.shared.try_tree().map(|tree| tree.last_zxid())
    });
    let zxid = zxid.map_or_else(
        || "somebody keeps the tree locked, and so what was applied last is not known".to_owned(),
        |zxid| format!("the last transaction applied is {zxid}"),
    );
    let mut text = format!("role: {:?}, phase {:?}; serves {serving}; {zxid}", status.role, status.phase);
    if status.membership.is_some() {
        let leader = status.leader.map_or("none".to_owned(), |leader| leader.to_string());
        let _ = write!(text, "; epoch {:x}, leader {leader}", status.epoch);
    }
    if let Some(leadership) = status.leadership {
        let _ = write!(
            text,
            "; {} learners, of which {} followers and {} observers are synced; {} proposals wait for a quorum",
            leadership.learners, leadership.synced_followers, leadership.synced_observers, leadership.outstanding
        );
    }
    text
}

fn clients(context: &Context) -> String {
    let shared = &context.shared;
    format!(
        "clients: {} connections; {} requests wait for an answer; queue to the replica {} of {}",
        shared.connection_count(),
        shared.outstanding(),
        context.inputs.max_capacity() - context.inputs.capacity(),
        context.inputs.max_capacity(),
    )
}

/// The clients that wait, the longest first.
fn waiting(context: &Context) -> Vec<String> {
    let now_ms = context.clock.monotonic_ms();
    let mut waiting: Vec<Arc<Connection>> = context.shared.connections();
    waiting.retain(|connection| connection.in_flight() > 0);
    let answered_ms = |connection: &Connection| MonotonicMs(connection.statistics.last_response_ms.load(Relaxed));
    waiting.sort_by_cached_key(|connection| answered_ms(connection));
    let mut lines: Vec<String> = waiting
        .iter()
        .take(MAX_NAMED)
        .map(|connection| {
            format!(
                "client {}, session {}: {} requests wait, the last answer was {} ms ago, the last request {} ms ago",
                connection.peer,
                connection.session(),
                connection.in_flight(),
                now_ms - answered_ms(connection),
                now_ms - connection.last_heard_ms(),
            )
        })
        .collect();
    if waiting.len() > MAX_NAMED {
        lines.push(format!("and {} more clients wait", waiting.len() - MAX_NAMED));
    }
    lines
}

fn queues(sources: &ReportSources) -> Vec<String> {
    let mut lines = vec![format!("disk: {} bytes of transactions wait for it", sources.unwritten_bytes.load(Relaxed))];
    if let Some(links) = &sources.links {
        lines.push(format!("queue from other servers to the replica: {} of {}", links.queued(), links.queue_limit()));
        lines.extend(links.waiting().into_iter().map(|(link, peer, bytes)| {
            format!("connection {link} of the quorum port, {peer}: {bytes} bytes wait for it")
        }));
    }
    lines
}

fn threads(sources: &ReportSources) -> Vec<String> {
    let Activities { clock, replica, storage, snapshot } = &*sources.activities;
    let now_ms = clock.monotonic_ms();
    let named = [("replica", replica), ("storage", storage), ("snapshot", snapshot)];
    let mut lines: Vec<String> =
        named.iter().map(|(name, activity)| format!("the {name} thread {}", activity.told(now_ms))).collect();
    let Ok(entries) = fs::read_dir("/proc/self/task") else { return lines };
    for entry in entries.flatten() {
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let id = entry.file_name().to_string_lossy().into_owned();
        lines.extend(thread(&id, &read("stat"), &read("wchan")));
    }
    lines
}

/// A thread, by what Linux says of it.
fn thread(id: &str, stat: &str, waits_in: &str) -> Option<String> {
    // The name stands in parentheses and may hold anything, also parentheses.
    let (_, rest) = stat.split_once('(')?;
    let (name, rest) = rest.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let state = match *fields.first()? {
        "R" => "runs",
        "S" => "sleeps",
        "D" => "waits for a disk",
        "T" | "t" => "is stopped",
        _ => "ends",
    };
    // User and system time, in hundredths of a second.
    let used = ticks(11)? + ticks(12)?;
    let place = match waits_in.trim() {
        "" | "0" => String::new(),
        place => format!(" in {place}"),
    };
    Some(format!("thread {name} ({id}) {state}{place}; it has used {}.{:02} s", used / 100, used % 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_told_by_name_and_state() {
        let stat = "77 (a) b) S 1 2 3 4 5 6 7 8 9 10 120 5 0 0 20 0 1";
        let told = thread("77", stat, "ep_poll").unwrap();
        assert_eq!(told, "thread a) b (77) sleeps in ep_poll; it has used 1.25 s");
        for damaged in ["", "77", "77 (a", "77 (a) S", "77 (a)"] {
            assert_eq!(thread("77", damaged, ""), None, "{damaged:?}");
        }
    }
}
