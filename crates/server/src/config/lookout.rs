//! Settings of what is told of those who ask for much, and of operations that take long.

use std::time::Duration;

use super::settings::Settings;

/// When an operation is slow.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct SlowOperations {
    /// Milliseconds from the arrival of a read to its answer; none where no read is told.
    pub read_ms: Option<u32>,
    /// The same of a write, until it is committed.
    pub write_ms: Option<u32>,
}

impl SlowOperations {
    pub(super) fn read(settings: &Settings) -> SlowOperations {
        SlowOperations {
            read_ms: settings.positive("slowOperations.readMs"),
            write_ms: settings.positive("slowOperations.writeMs"),
        }
    }
}

/// How paths, clients and identities are counted and told.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct PathStatistics {
    /// Whether any request is looked at.
    pub is_counted: bool,
    /// Whether the log is told of the largest.
    pub is_told: bool,
    pub initial_delay: Duration,
    pub delay: Duration,
    /// Paths that are told.
    pub paths: usize,
    /// Parts of a path that count as a prefix.
    pub prefix_depth: usize,
}

impl PathStatistics {
    pub(super) fn read(settings: &Settings) -> PathStatistics {
        let positive = |name: &str, least: u32| settings.positive(name).unwrap_or(least);
        let (is_counted, is_told) = (settings.flag("top.enabled"), settings.flag("pathStats.enabled"));
        if is_told && !is_counted {
            settings.warn("pathStats.enabled=true tells nothing, for top.enabled=false counts no paths".to_owned());
        }
        let minutes = |name: &str| Duration::from_secs(60 * u64::from(positive(name, 0)));
        PathStatistics {
            is_counted,
            is_told: is_told && is_counted,
            initial_delay: minutes("pathStats.initialDelay"),
            delay: minutes("pathStats.delay"),
            paths: positive("pathStats.topPathMax", 1) as usize,
            prefix_depth: positive("pathStats.maxDepth", 1).min(64) as usize,
        }
    }
}
