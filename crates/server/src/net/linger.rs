//! Closing a connection in order.
//!
//! A socket that is closed while bytes of its peer are unread, or with more of them on their way, makes the kernel send a reset: the
//! peer loses what was sent to it last, and can't tell a refusal from a fault of the network. So the sending side is closed first
//! and what still comes is thrown away. What always holds here: both the bytes and the time are bounded, and of connections for which
//! there was no place only so many are waited for at a time; the others are closed without a wait, in order as far as what they had to say
//! has arrived.

use std::io::Read;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

use crate::net::stream::Stream;

/// How long a peer may take to see the end and close.
const LINGER: Duration = Duration::from_secs(2);

/// Thrown away at most; more than the largest frame of a client that is configured as this server is by default.
const LINGER_BYTES: usize = 4 << 20;

/// The same where nobody may be waited for.
const PARTING_BYTES: usize = 64 << 10;

/// The connections that were refused and are still closed in order, at most so many at a time: each holds a file descriptor.
#[derive(Debug, Clone)]
pub(crate) struct Farewells(Arc<Semaphore>);

impl Farewells {
    pub fn new(places: usize) -> Farewells {
        Farewells(Arc::new(Semaphore::new(places)))
    }

    /// Closes a connection in order, without a wait where too many others are being closed.
    pub fn bid(&self, stream: Stream) {
        let Ok(place) = self.0.clone().try_acquire_owned() else { return part(stream) };
        tokio::spawn(async move {
            linger(stream).await;
            drop(place);
        });
    }
}

/// Tells the peer that nothing more comes, and waits for its end.
pub(crate) async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    if stream.shutdown().await.is_err() {
        return;
    }
    _ = tokio::time::timeout(LINGER, discard(&mut stream)).await;
}

/// The same without a wait: a peer whose words have all arrived sees the end, another one a reset.
pub(crate) fn part(stream: Stream) {
    let Ok(mut stream) = stream.into_std() else { return };
    if stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let mut left = PARTING_BYTES;
    let mut bytes = [0; 4096];
    while let Ok(count) = stream.read(&mut bytes)
        && count > 0
        && count < left
    {
        left -= count;
    }
}

async fn discard(stream: &mut (impl AsyncRead + Unpin)) {
    let mut left = LINGER_BYTES;
    let mut bytes = [0; 4096];
    while let Ok(count) = stream.read(&mut bytes).await
        && count > 0
        && count < left
    {
        left -= count;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A client that has said something before it is accepted, and the server's end of it.
    async fn talker(listener: &TcpListener) -> (std::net::TcpStream, TcpStream) {
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"a request that nobody reads").unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        (client, stream)
    }

    fn end_of(mut client: std::net::TcpStream) -> Result<usize, ErrorKind> {
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        client.read(&mut [0; 1]).map_err(|error| error.kind())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_refused_client_sees_the_end_and_is_waited_for_while_there_is_a_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let farewells = Farewells::new(1);
        let (first, stream) = talker(&listener).await;
        farewells.bid(stream);
        // The first one holds the only place until its client closes.
        let (second, stream) = talker(&listener).await;
        farewells.bid(stream);
        assert_eq!(end_of(second), Ok(0));
        assert_eq!(farewells.0.available_permits(), 0);
        assert_eq!(end_of(first), Ok(0));
        // Its client has closed, so the place is free again.
        let free = farewells.0.acquire().await.unwrap();
        drop(free);
        let (third, stream) = talker(&listener).await;
        farewells.bid(stream);
        assert_eq!(end_of(third), Ok(0));
    }

    #[tokio::test]
    async fn what_nobody_reads_ends_in_a_reset_and_a_parting_reads_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (dropped, stream) = talker(&listener).await;
        drop(stream);
        assert_eq!(end_of(dropped), Err(ErrorKind::ConnectionReset));
        let (parted, stream) = talker(&listener).await;
        part(stream);
        assert_eq!(end_of(parted), Ok(0));
    }
}
