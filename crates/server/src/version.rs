//! What this server says it is.

/// The version of Rookeeper.
pub const NUMBER: &str = env!("CARGO_PKG_VERSION");

/// The release of the original whose protocol and formats this server speaks.
pub const COMPATIBLE_WITH: &str = "3.9.5";

/// Stands where the original shows its build time. A constant of the release, so that the same sources give the same binary.
const RELEASED: &str = "2026-11-24 00:00 UTC";

/// What the server calls its version: in the original's form, beginning with the release it is compatible with, which is what
/// tools and clients look for.
pub(crate) fn full() -> String {
    format!("{COMPATIBLE_WITH}-rookeeper-{NUMBER}, built on {RELEASED}")
}
