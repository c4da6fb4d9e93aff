//! What this server turns away or gives up, by the reason.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Why something was turned away or given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Clients beyond `maxCnxns`, `maxClientCnxns` or the file descriptors.
    ConnectionLimit,
    /// Clients that the connection throttle refused.
    ConnectionThrottle,
    /// Clients that came while nobody, or nobody here, was served.
    NotServing,
    /// Clients that sent no ConnectRequest in time.
    NoHandshake,
    /// Clients that failed, or were too many, with TLS.
    Tls,
    /// Clients that did not show who they are, or are not the ones meant.
    Identity,
    /// Clients that sent a frame beyond `jute.maxbuffer`.
    FrameTooLarge,
    /// Clients that sent what is no request.
    Undecodable,
    /// Clients that made this server hold too much.
    Memory,
    /// Clients that did not read their answers.
    NotReading,
    /// Clients whose large request had no room.
    LargeRequest,
    /// Clients whose request had waited for its turn until nobody waited for it any more.
    StaleRequest,
    /// Those who asked for metrics or admin commands while too many did.
    HttpLimit,
}

const ALL: [(Dropped, &str); 13] = [
    (Dropped::ConnectionLimit, "connection_limit"),
    (Dropped::ConnectionThrottle, "connection_throttle"),
    (Dropped::NotServing, "not_serving"),
    (Dropped::NoHandshake, "no_handshake"),
    (Dropped::Tls, "tls"),
    (Dropped::Identity, "identity"),
    (Dropped::FrameTooLarge, "frame_too_large"),
    (Dropped::Undecodable, "undecodable"),
    (Dropped::Memory, "memory"),
    (Dropped::NotReading, "not_reading"),
    (Dropped::LargeRequest, "large_request"),
    (Dropped::StaleRequest, "stale_request"),
    (Dropped::HttpLimit, "http_limit"),
];

/// How often something was dropped, by the reason. Never reset.
#[derive(Debug, Default)]
pub(crate) struct Drops([AtomicU64; ALL.len()]);

impl Drops {
    pub fn note(&self, why: Dropped) {
        self.0[why as usize].fetch_add(1, Relaxed);
    }

    /// Each reason by its name.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, i64)> {
        ALL.iter().zip(&self.0).map(|((_, name), count)| (*name, count.load(Relaxed) as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_under_its_own_name() {
        for (index, (why, name)) in ALL.into_iter().enumerate() {
            assert_eq!(why as usize, index, "{name}");
            let drops = Drops::default();
            drops.note(why);
            let counted: Vec<_> = drops.counts().filter(|(_, count)| *count > 0).collect();
            assert_eq!(counted, [(name, 1)]);
        }
    }
}
