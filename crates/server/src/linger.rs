//! Closing a client's connection in order.
//!
//! A socket that is closed while bytes of its peer are unread, or with more of them on their way, makes the kernel send a reset: the
//! client loses what was sent to it last, and can't tell a refusal from a fault of the network. So the sending side is closed first
//! and what still comes is thrown away. What always holds here: both the bytes and the time are bounded.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// How long a peer may take to see the end and close.
const LINGER: Duration = Duration::from_secs(2);

/// Thrown away at most; more than the largest frame of a client that is configured as this server is by default.
const LINGER_BYTES: usize = 4 << 20;

/// Tells the peer that nothing more comes, and waits for its end.
pub(crate) async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    _ = tokio::time::timeout(LINGER, discard(&stream)).await;
}

async fn discard(stream: &TcpStream) {
    let mut left = LINGER_BYTES;
    let mut bytes = [0; 4096];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut bytes) {
            Ok(0) => return,
            Ok(count) if count < left => left -= count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return,
        }
    }
}
