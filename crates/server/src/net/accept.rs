//! Accepting connections, also where the system has none to give.
//!
//! What always holds here: no failed accept ends the loop of a port or makes it spin; a connection for which there is no file descriptor is
//! closed, so that its client hears something; peers of IPv4 are known by their addresses of IPv4, also on a socket that is for both.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::logging::{Cause, PER_MINUTE, limited};
use crate::net::bind::Port;
use crate::net::descriptors::{self, Spare};
use crate::net::stream::Stream;

/// After a failed accept, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// What accepts at one listener.
#[derive(Debug)]
pub(crate) struct Acceptor {
    port: Port,
    spare: Spare,
}

impl Acceptor {
    pub fn new(port: Port) -> Acceptor {
        Acceptor { port, spare: Spare::new() }
    }

    /// The next connection and whose it is. None: one was closed because there is no file descriptor for it. May be cancelled.
    pub async fn next(&mut self, listener: &TcpListener) -> Option<(Stream, SocketAddr)> {
        let Acceptor { port, spare } = self;
        let (stream, peer) = next(*port, || listener.accept(), || spare.refuse_one(listener).is_some()).await?;
        Some((stream, SocketAddr::new(peer.ip().to_canonical(), peer.port())))
    }
}

async fn next<T, A: Future<Output = io::Result<T>>>(
    port: Port,
    accept: impl Fn() -> A,
    mut refuse_one: impl FnMut() -> bool,
) -> Option<T> {
    loop {
        let error = match accept().await {
            Ok(accepted) => return Some(accepted),
            Err(error) => error,
        };
        let (refused, failed) = causes(port);
        if descriptors::are_exhausted(&error) && refuse_one() {
            limited!(warn, refused, PER_MINUTE; "closed a connection to the {port}: {error}");
            return None;
        }
        limited!(warn, failed, PER_MINUTE; "can't accept a connection to the {port}: {error}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Of a connection that was closed because there is no descriptor, and of one that can't be accepted.
fn causes(port: Port) -> (Cause, Cause) {
    let (refused, failed) = match port {
        Port::Client | Port::SecureClient => {
            ("clients for which there are no file descriptors", "connections that can't be accepted")
        }
        Port::Quorum => (
            "learners for which there are no file descriptors",
            "connections on the quorum port that can't be accepted",
        ),
        Port::ObserverMaster => (
            "observers for which there are no file descriptors",
            "connections on the port for observers that can't be accepted",
        ),
        Port::Metrics => (
            "scrapes for which there are no file descriptors",
            "connections on the metrics port that can't be accepted",
        ),
        Port::Admin => (
            "admin commands for which there are no file descriptors",
            "connections on the admin port that can't be accepted",
        ),
        Port::Registry => (
            "clients of the service registry for which there are no file descriptors",
            "connections to the service registry that can't be accepted",
        ),
        Port::Election => {
            ("election connections without file descriptors", "election connections that can't be accepted")
        }
    };
    (Cause::Named(refused), Cause::Named(failed))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use rustix::io::Errno;
    use tokio::time::Instant;

    use super::*;

    /// Accepts what is there, as far as it goes; how often it was asked and how long it took.
    async fn accepted(from: &[Result<u32, Errno>], may_refuse: bool) -> (Option<u32>, usize, Duration) {
        let (begin, left) = (Instant::now(), RefCell::new(from.iter()));
        let accept = || {
            let next = left.borrow_mut().next().expect("asked too often");
            std::future::ready(next.map_err(io::Error::from))
        };
        let found = next(Port::Client, accept, || may_refuse).await;
        (found, from.len() - left.borrow().len(), begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_accept_is_tried_again_after_a_pause() {
        let twice = [Err(Errno::CONNABORTED), Err(Errno::NOBUFS), Ok(7), Ok(8)];
        assert_eq!(accepted(&twice, true).await, (Some(7), 3, 2 * PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_descriptor_is_left_a_connection_is_closed_at_once() {
        for exhausted in [Errno::MFILE, Errno::NFILE] {
            assert_eq!(accepted(&[Err(exhausted), Ok(7)], true).await, (None, 1, Duration::ZERO));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_connection_can_be_closed_either_the_loop_does_not_spin() {
        let exhausted = [Err(Errno::MFILE), Err(Errno::MFILE), Err(Errno::MFILE), Ok(7)];
        assert_eq!(accepted(&exhausted, false).await, (Some(7), 4, 3 * PAUSE));
    }

    #[tokio::test]
    async fn a_peer_of_ipv4_is_known_by_that_address() {
        let Ok(listener) = TcpListener::bind("[::]:0").await else { return };
        let port = listener.local_addr().unwrap().port();
        let client = Stream::connect(("127.0.0.1", port)).await.unwrap();
        let (_, peer) = Acceptor::new(Port::Client).next(&listener).await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    }
}
