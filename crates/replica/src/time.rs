//! Time as an argument.

/// The two clocks, both in milliseconds. Only the first decides anything; the second is written into nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    pub monotonic_ms: i64,
    pub wall_ms: i64,
}
