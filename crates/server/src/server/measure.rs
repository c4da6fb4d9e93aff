//! How much room there is on the disks and in memory, measured again and again for the replica, which decides what follows.
//!
//! What always holds here: nothing is measured where nothing is limited; whoever measures keeps nothing of the server alive.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rookeeper_replica::{Input, Measured, RoomSettings};
use tokio::sync::mpsc;

use crate::config::{Config, DataDirectories};
use crate::observe::disk;
use crate::ports::client::memory;

/// A quick disk takes some hundred megabytes in a second.
const EVERY: Duration = Duration::from_millis(500);

/// What stays free on a disk where nothing is configured: so much, or this part of a small disk.
const FLOOR_BYTES: u64 = 256 << 20;
const FLOOR_SHARE: u64 = 20;

/// What is limited, by the configuration, the disks and the control group.
pub(super) fn limits(config: &Config) -> RoomSettings {
    let min_free_bytes = config.room.min_free_bytes.unwrap_or_else(|| {
        let smallest = places(&config.directories).iter().filter_map(|path| disk::total_bytes(path)).min();
        default_floor_bytes(smallest)
    });
    let memory_bytes = config.room.memory_bytes.unwrap_or_else(|| memory::group_limit_bytes().unwrap_or(0));
    RoomSettings { min_free_bytes, memory_bytes }
}

fn default_floor_bytes(total_bytes: Option<u64>) -> u64 {
    total_bytes.map_or(FLOOR_BYTES, |total_bytes| FLOOR_BYTES.min(total_bytes / FLOOR_SHARE))
}

fn places(directories: &DataDirectories) -> [PathBuf; 2] {
    [directories.data_dir.clone(), directories.data_log_dir.clone()]
}

/// Tells the replica until the server stops.
pub(super) async fn keep(inputs: mpsc::WeakSender<Input>, limits: RoomSettings, directories: &DataDirectories) {
    if limits == RoomSettings::default() {
        return;
    }
    let places = places(directories);
    loop {
        let places = places.clone();
        // A disk that hangs must not keep a network worker.
        let measuring = tokio::task::spawn_blocking(move || measure(limits, &places));
        let Ok(measured) = measuring.await else { return };
        let Some(inputs) = inputs.upgrade() else { return };
        if inputs.send(Input::Measured(measured)).await.is_err() {
            return;
        }
        drop(inputs);
        tokio::time::sleep(EVERY).await;
    }
}

fn measure(limits: RoomSettings, places: &[PathBuf]) -> Measured {
    let free = || places.iter().filter_map(|path| disk::free_bytes(path)).min();
    Measured {
        free_bytes: (limits.min_free_bytes > 0).then(free).flatten(),
        resident_bytes: (limits.memory_bytes > 0).then(|| resident_bytes(Path::new("/proc/self/statm"))).flatten(),
    }
}

/// Bytes of memory that this process has and that are no copy of a file.
fn resident_bytes(statm: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(statm).ok()?;
    let mut pages = text.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok());
    let (resident, shared) = (pages.next()?, pages.next()?);
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_has_a_lower_floor() {
        assert_eq!(default_floor_bytes(Some(1 << 40)), 256 << 20);
        assert_eq!(default_floor_bytes(Some(20 << 20)), 1 << 20);
        assert_eq!(default_floor_bytes(None), 256 << 20);
    }

    #[test]
    fn what_is_limited_is_measured_and_nothing_else() {
        let here = [std::env::temp_dir(), std::env::temp_dir()];
        let both = measure(RoomSettings { min_free_bytes: 1, memory_bytes: 1 }, &here);
        assert!(both.free_bytes.is_some_and(|bytes| bytes > 0));
        // This process has some megabytes, and not all of the machine's memory.
        assert!(both.resident_bytes.is_some_and(|bytes| (1 << 20..1 << 40).contains(&bytes)), "{both:?}");
        assert_eq!(measure(RoomSettings::default(), &here), Measured::default());
    }
}
