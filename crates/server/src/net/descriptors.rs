//! File descriptors: as many as the system allows, some kept back for files and other servers, and a word to whoever gets none.
//!
//! What always holds here: clients never take the descriptors that logs, snapshots and other servers need; a connection for which there
//! is no descriptor is closed rather than left waiting in the backlog, where its client would hear nothing.

use std::fs::File;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tracing::{info, warn};

pub(crate) use rookeeper_store::descriptors::are_exhausted;

use crate::net::linger;

/// What files and threads need: logs, a snapshot, those of a learner that catches up, and a reserve.
const FOR_FILES: usize = 64;

/// What links between servers need: each takes two descriptors of the quorum port and one of the election port.
const FOR_SERVERS: usize = 128;

/// What clients hold that were refused and are still closed in order.
const FOR_FAREWELLS: usize = 64;

/// The same at each port between servers; these are among those for servers.
const FOR_FAREWELLS_OF_SERVERS: usize = 16;

/// Raises the limit of this process to the most it may have, as a Java machine does, and tells of it.
pub fn raise_limit() {
    let before = getrlimit(Resource::Nofile);
    if before.current == before.maximum {
        return;
    }
    let wanted = rustix::process::Rlimit { current: before.maximum, maximum: before.maximum };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => info!(
            "file descriptors: the limit is {}; it was raised from {}",
            shown(before.maximum),
            shown(before.current)
        ),
        Err(error) => {
            warn!("file descriptors: the limit stays at {}: it can't be raised: {error}", shown(before.current))
        }
    }
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

/// How many connections clients may have together, so that enough is left for everything else.
pub(crate) fn room_for_clients(is_member: bool) -> usize {
    room_below(limit(), is_member)
}

/// How many connections may be closed in order that were refused.
pub(crate) fn room_for_farewells() -> usize {
    farewells_below(limit())
}

/// The same at a port between servers.
pub(crate) fn room_for_farewells_of_servers() -> usize {
    FOR_FAREWELLS_OF_SERVERS.min(farewells_below(limit()))
}

fn limit() -> usize {
    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

fn room_below(limit: usize, is_member: bool) -> usize {
    let kept = FOR_FILES + farewells_below(limit) + if is_member { FOR_SERVERS } else { 0 };
    // With a limit that is far too small clients get at least half.
    limit - kept.min(limit / 2)
}

fn farewells_below(limit: usize) -> usize {
    FOR_FAREWELLS.min(limit / 16)
}

/// One descriptor that is in nobody's way, to be given up for a moment where there is no other.
#[derive(Debug)]
pub(crate) struct Spare(Option<File>);

impl Spare {
    pub fn new() -> Spare {
        Spare(File::open("/dev/null").ok())
    }

    /// Accepts a connection that waits and closes it, which tells its client more than silence. Returns whose it was; nobody's where
    /// another thread was faster to take the descriptor.
    pub fn refuse_one(&mut self, listener: &TcpListener) -> Option<SocketAddr> {
        drop(self.0.take());
        let accepted = match listener.poll_accept(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok((stream, peer))) => {
                // The descriptor is needed again at once.
                linger::part(stream);
                Some(peer)
            }
            Poll::Ready(Err(_)) | Poll::Pending => None,
        };
        *self = Spare::new();
        accepted
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn clients_leave_room_for_the_rest() {
        assert_eq!(room_below(1024, false), 1024 - FOR_FILES - FOR_FAREWELLS);
        assert_eq!(room_below(1024, true), 1024 - FOR_FILES - FOR_FAREWELLS - FOR_SERVERS);
        assert_eq!((room_below(100, true), farewells_below(100)), (50, 6));
        assert_eq!(room_below(usize::MAX, false), usize::MAX - FOR_FILES - FOR_FAREWELLS);
    }

    #[tokio::test]
    async fn whoever_gets_no_descriptor_is_told_by_a_close() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"a request that nobody reads").unwrap();
        let mut spare = Spare::new();
        // The system may take a moment to show the connection to the listener.
        let refused = loop {
            match spare.refuse_one(&listener) {
                Some(refused) => break refused,
                None => tokio::task::yield_now().await,
            }
        };
        assert_eq!(refused, client.local_addr().unwrap());
        assert_eq!(client.read(&mut [0; 1]).map_err(|error| error.kind()), Ok(0), "an end in order");
        assert!(spare.0.is_some());
        assert_eq!(spare.refuse_one(&listener), None);
    }
}
