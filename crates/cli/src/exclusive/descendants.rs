//! The processes below this one, as /proc shows them.
//!
//! What always holds: when [`end`] returns, no descendant of this process runs any more, if this process is a subreaper.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait};

const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Sends a signal to every descendant, those too that ignore it.
pub(super) fn signal(signal: Signal) {
    for pid in living() {
        let _ = kill_process(pid, signal);
    }
}

/// Ends every descendant, and those that are born meanwhile. Waits as long as the kernel takes.
pub(super) fn end() {
    loop {
        let living = living();
        for pid in &living {
            let _ = kill_process(*pid, Signal::KILL);
        }
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if living.is_empty() {
            return;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Whether there is any.
pub(super) fn exist() -> bool {
    !living().is_empty()
}

fn living() -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let mut dead = Vec::new();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // A process that has gone meanwhile is no descendant.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((state, parent)) = state_and_parent(&stat) else { continue };
        if state == 'Z' && !has_other_threads(pid) {
            dead.push(pid);
        }
        children.entry(parent).or_default().push(pid);
    }
    let mut found = Vec::new();
    let mut open = vec![getpid().as_raw_nonzero().get()];
    while let Some(parent) = open.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            open.push(child);
            if !dead.contains(&child) {
                found.extend(Pid::from_raw(child));
            }
        }
    }
    found
}

/// A process whose first thread has ended goes on with the others.
fn has_other_threads(pid: i32) -> bool {
    fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.count() > 1)
}

/// `PID (COMMAND) STATE PARENT …`, where the command may hold anything.
fn state_and_parent(stat: &str) -> Option<(char, i32)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_may_have_any_name() {
        assert_eq!(state_and_parent("12 (sh) S 7 12 12"), Some(('S', 7)));
        assert_eq!(state_and_parent("12 (a) R 1 (b) Z 9 12"), Some(('Z', 9)));
        assert_eq!(state_and_parent("12 (sh"), None);
    }
}
