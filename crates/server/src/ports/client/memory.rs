//! Keeps what clients make this server hold within its limit.
//!
//! What always holds here: whoever takes the sum over the limit is not made to wait for the relief; what the system is asked for is
//! asked for once, at the start. Which clients are cut is decided in `rookeeper_replica` (`relief.rs`).

use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rookeeper_replica::Shared;

use crate::logging::limited;

/// The part of the memory that clients may make the server hold where nothing is configured; the rest is for the tree and the log.
const MEMORY_SHARE: u64 = 4;

/// However little memory there is.
const LEAST_BYTES: u64 = 64 << 20;

/// Tasks that were cut need a moment to let go of what they hold.
const PAUSE: Duration = Duration::from_millis(20);

/// A quarter of what this process may use, by the machine and by the control group that it is in.
pub(crate) fn default_limit_bytes() -> usize {
    let info = rustix::system::sysinfo();
    let machine = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit.max(1)));
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let memory = groups.iter().filter_map(|path| limit_in(Path::new(path))).fold(machine, u64::min);
    usize::try_from((memory / MEMORY_SHARE).max(LEAST_BYTES)).unwrap_or(usize::MAX)
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
