//! How much room the disks of this server have, and in how many days they are full if they go on as they did.
//!
//! What always holds here: a time is told only where the room was watched for an hour at least; before that nobody knows it.

use std::collections::VecDeque;
use std::path::Path;

use parking_lot::Mutex;
use rookeeper_proto::MonotonicMs;

use crate::config::Config;

/// How often the room is noted, and how many notes are kept: those of a day.
const EVERY_MS: i64 = 300_000;
const KEPT: usize = 288;

/// A shorter time says nothing about the next days.
const LEAST_MS: i64 = 3_600_000;

/// A disk that does not fill up.
const NEVER_DAYS: f64 = 36_500.0;

const DAY_MS: f64 = 86_400_000.0;

/// The room on the disks of the snapshots and of the log, as it was in the last day.
#[derive(Debug, Default)]
pub(crate) struct Disks(Mutex<[Growth; 2]>);

/// The room on one disk, in the order of time.
#[derive(Debug, Default)]
struct Growth(VecDeque<(MonotonicMs, u64)>);

/// The room on one disk at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Room {
    pub name: &'static str,
    pub free_bytes: u64,
    /// At most a hundred years, also where it does not fill up; none while that is not known.
    pub days_left: Option<f64>,
}

impl Disks {
    /// Notes the room, if it is time for that.
    pub fn look(&self, config: &Config, now_ms: MonotonicMs) {
        let mut disks = self.0.lock();
        for (growth, (_, path)) in disks.iter_mut().zip(places(config)) {
            if growth.0.back().is_none_or(|(last_ms, _)| now_ms - *last_ms >= EVERY_MS)
                && let Some(free_bytes) = free_bytes(path)
            {
                growth.note(now_ms, free_bytes);
            }
        }
    }

    /// The room now; what the system does not tell is left out.
    pub fn rooms(&self, config: &Config) -> Vec<Room> {
        let disks = self.0.lock();
        let rooms = disks.iter().zip(places(config)).filter_map(|(growth, (name, path))| {
            let free_bytes = free_bytes(path)?;
            Some(Room { name, free_bytes, days_left: growth.days_left(free_bytes) })
        });
        rooms.collect()
    }
}

fn places(config: &Config) -> [(&'static str, &Path); 2] {
    let directories = &config.directories;
    [("snapshots", directories.data_dir.as_path()), ("log", directories.data_log_dir.as_path())]
}

/// Bytes that this user may still write; none where the system does not tell.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let room = rustix::fs::statvfs(path).ok()?;
    Some(room.f_bavail.saturating_mul(room.f_frsize))
}

/// Bytes of a whole disk; none where the system does not tell.
pub(crate) fn total_bytes(path: &Path) -> Option<u64> {
    let room = rustix::fs::statvfs(path).ok()?;
    Some(room.f_blocks.saturating_mul(room.f_frsize))
}

impl Growth {
    fn note(&mut self, now_ms: MonotonicMs, free_bytes: u64) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((now_ms, free_bytes));
    }

    /// By the line that is nearest to all notes, for files come in steps and old ones go.
    fn days_left(&self, free_bytes: u64) -> Option<f64> {
        let ((first_ms, _), (last_ms, _)) = (self.0.front()?, self.0.back()?);
        if *last_ms - *first_ms < LEAST_MS {
            return None;
        }
        let count = self.0.len() as f64;
        let points = || self.0.iter().map(|(ms, free)| ((*ms - *first_ms) as f64, *free as f64));
        let (mean_ms, mean_free) =
            (points().map(|(ms, _)| ms).sum::<f64>() / count, points().map(|(_, free)| free).sum::<f64>() / count);
        let (above, below) = points().fold((0.0, 0.0), |(above, below), (ms, free)| {
            (above + (ms - mean_ms) * (free - mean_free), below + (ms - mean_ms) * (ms - mean_ms))
        });
        let lost_per_day = -(above / below) * DAY_MS;
        match lost_per_day > 0.0 {
            true => Some((free_bytes as f64 / lost_per_day).min(NEVER_DAYS)),
            false => Some(NEVER_DAYS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// Notes every five minutes for so many hours.
    fn watched(hours: i64, free: impl Fn(i64) -> u64) -> Growth {
        let mut growth = Growth::default();
        for minute in (0..=hours * 60).step_by(5) {
            growth.note(MonotonicMs(minute * 60_000), free(minute));
        }
        growth
    }

    #[test]
    fn the_days_are_those_of_the_growth_that_was_measured() {
        // A GiB a day, with ten left.
        let steady = watched(12, |minute| 20 * GIB - minute as u64 * GIB / 1440);
        let days = steady.days_left(10 * GIB).unwrap();
        assert!((9.9..10.1).contains(&days), "{days}");
        // The same in steps of a file each hour.
        let stepwise = watched(24, |minute| 20 * GIB - (minute / 60) as u64 * GIB / 24);
        let days = stepwise.days_left(10 * GIB).unwrap();
        assert!((9.5..10.5).contains(&days), "{days}");
    }

    #[test]
    fn a_short_time_tells_nothing_and_a_disk_that_does_not_fill_up_lasts() {
        assert_eq!(Growth::default().days_left(GIB), None);
        assert_eq!(watched(0, |_| GIB).days_left(GIB), None);
        let almost = Growth(watched(1, |minute| GIB - minute as u64).0.into_iter().take(12).collect());
        assert_eq!(almost.days_left(GIB), None);
        assert_eq!(watched(2, |_| GIB).days_left(GIB), Some(NEVER_DAYS));
        assert_eq!(watched(2, |minute| GIB + minute as u64).days_left(GIB), Some(NEVER_DAYS));
    }

    #[test]
    fn only_the_last_day_counts() {
        let growth = watched(72, |minute| if minute < 2880 { 90 * GIB - minute as u64 * GIB / 60 } else { GIB });
        assert_eq!((growth.0.len(), growth.days_left(GIB)), (KEPT, Some(NEVER_DAYS)));
    }
}
