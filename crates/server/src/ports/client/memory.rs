//! Keeps what clients make this server hold within its limit.
//!
//! What always holds here: whoever takes the sum over the limit is not made to wait for the relief; what the system is asked for is
//! asked for once, at the start. Which clients are cut is decided in `rookeeper_replica` (`relief.rs`).

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rookeeper_replica::Shared;

use crate::logging::limited;

/// The part of the memory that clients may make the server hold where nothing is configured; the rest is for the tree and the log.
const MEMORY_SHARE: u64 = 4;

/// However little memory there is.
const LEAST_BYTES: u64 = 64 << 20;

/// The first version of control groups writes a number beyond every machine where there is no limit.
const UNLIMITED_BYTES: u64 = 1 << 60;

/// Tasks that were cut need a moment to let go of what they hold.
const PAUSE: Duration = Duration::from_millis(20);

/// A quarter of what this process may use, by the machine and by the control group that it is in.
pub(crate) fn default_limit_bytes() -> usize {
    let info = rustix::system::sysinfo();
    let machine = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit.max(1)));
    let memory = group_limit_bytes().map_or(machine, |limit| limit.min(machine));
    usize::try_from((memory / MEMORY_SHARE).max(LEAST_BYTES)).unwrap_or(usize::MAX)
}

/// What the control groups that this process is in allow, the narrowest of them. None where they set no limit.
pub(crate) fn group_limit_bytes() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|path| limit_in(&path));
    limits.min().filter(|limit| *limit < UNLIMITED_BYTES)
}

/// Where the limits stand of the groups that this text names: each group's own, and those around it. What a process sees of the tree of groups may begin at
/// its own one, so the root is looked at in any case.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            controllers if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(group.trim_start_matches('/'));
        files.extend(group.ancestors().map(|group| Path::new(root).join(group).join(name)));
    }
    files
}

/// The limit of a control group. `None` where there is no such file, or where it says `max`.
fn limit_in(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Cuts the largest users whenever clients hold too much, for as long as the runtime lives.
pub(crate) async fn keep(shared: Arc<Shared>) {
    loop {
        poll_fn(|context| shared.budget.poll_exceeded(context)).await;
        if let Some(relief) = shared.relieve() {
            for (connection, _) in &relief.cut {
                connection.outbox.wake();
            }
            let largest = relief.cut.first().map_or_else(String::new, |(connection, bytes)| {
                format!(", the first {} (session {}), which held {bytes}", connection.peer, connection.session())
            });
            limited!(
                warn,
                "relief of the memory for clients",
                "clients make this server hold {} bytes, and {} are the limit (clientMemoryLimitInKb): {} connections of the largest \
                 users are cut{largest}",
                relief.held_bytes,
                shared.budget.limit_bytes(),
                relief.cut.len(),
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_a_group_are_its_own_and_those_around_it() {
        let files = |groups| limit_files(groups).into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            files("0::/system.slice/rookeeper.service\n"),
            [
                "/sys/fs/cgroup/system.slice/rookeeper.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            files("8:pids:/\n4:memory:/a\n"),
            ["/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
        assert_eq!(files("garbage\n1:name=systemd:/\n"), [""; 0]);
    }
}
