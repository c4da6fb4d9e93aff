//! TLS, for every port that takes encrypted connections: those of clients, those between servers.
//!
//! What always holds here: a connection is handed on only after its handshake; a handshake is bounded in time and bytes, and their number is bounded
//! where strangers connect; what the peers of a port are told to do is said with the key that decides it; secrets appear in no message.
//!
//! - [`store`]: key stores and trust stores, as Java and OpenSSL write them
//! - `suites.rs`: protocols and cipher suites by the names that Java has for them
//! - `certificate.rs`: what a certificate says
//! - `framing.rs`: how files and certificates are read at all
//! - `trust.rs`: which certificates are trusted
//! - `context.rs`: all of this as the files say now, and again when they change
//! - `reload.rs`: when they do
//! - `handshake.rs`: from a connection to an encrypted one; which of the two a stranger begins
//! - [`dial`]: the same for a client of our own, which stands on a library with its own TLS
//! - `peers.rs`: which of that members of an ensemble do with each other
//! - [`strangers`]: what becomes of a connection that begins with any bytes
//! - `records.rs`: an encrypted connection of a client
//! - `failure.rs`: why that did not work, and what to do
//!
//! Counterparts in the original: `X509Util`, `ZKTrustManager`, `UnifiedServerSocket`, and what is around TLS in `NettyServerCnxnFactory`.

pub(crate) mod certificate;
pub(crate) mod context;
pub mod dial;
pub(crate) mod failure;
mod framing;
pub(crate) mod handshake;
pub(crate) mod peers;
pub(crate) mod records;
pub(crate) mod reload;
pub mod store;
pub mod strangers;
pub(crate) mod suites;
pub(crate) mod trust;

#[cfg(test)]
mod tests;

pub use store::StoreType;
pub use suites::Protocol;
