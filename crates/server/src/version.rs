//! What this server says it is.

/// The version of Rookeeper.
pub const NUMBER: &str = env!("CARGO_PKG_VERSION");

/// The release of the original whose protocol and formats this server speaks.
pub const COMPATIBLE_WITH: &str = "3.9.5";
