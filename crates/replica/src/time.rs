//! Time as an argument.

/// The two clocks, both in milliseconds. Only the first decides anything; the second is written into nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    pub monotonic_ms: i64,
    pub wall_ms: i64,
}

impl Time {
    /// Wall-clock milliseconds since then. Clocks of two servers differ: it may be negative.
    pub(crate) fn ms_since(self, wall_ms: i64) -> i64 {
        self.wall_ms.saturating_sub(wall_ms)
    }
}
