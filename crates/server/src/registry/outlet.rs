//! The answers that are on their way to clients, and the connections that end to make room for others.
//!
//! What always holds here: an answer counts for as long as bytes of it wait in this process, also those that the connection has taken over to send them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use rookeeper_registry::{AnswerId, Outgoing, encoding};
use tokio::sync::OwnedSemaphorePermit;

use crate::logging::{Cause, PER_MINUTE, limited};
use crate::ports::http::Caller;

/// Bytes of answers on their way, those that several clients are sent counted once.
const MOST_BYTES: usize = 512 << 20;

#[derive(Debug)]
pub(super) struct Outlet(Mutex<Leaving>);

#[derive(Debug)]
struct Leaving {
    outgoing: Outgoing,
    callers: HashMap<AnswerId, Caller>,
}

/// An answer that counts until this is dropped.
#[derive(Debug)]
struct UnderWay {
    outlet: Arc<Outlet>,
    id: AnswerId,
    _room: Option<OwnedSemaphorePermit>,
}

impl Default for Outlet {
    fn default() -> Outlet {
        Outlet::new(MOST_BYTES)
    }
}

impl Outlet {
    fn new(most_bytes: usize) -> Outlet {
        Outlet(Mutex::new(Leaving { outgoing: Outgoing::new(most_bytes), callers: HashMap::new() }))
    }

    /// The body of an answer to a caller.
    pub fn body(self: &Arc<Outlet>, body: encoding::Body, caller: &Caller, room: Option<OwnedSemaphorePermit>) -> Body {
        if body.length <= Outgoing::FREE_BYTES && room.is_none() {
            return match &*body.pieces {
                [] => Body::empty(),
                [piece] => piece.clone().into(),
                pieces => Bytes::from(pieces.concat()).into(),
            };
        }
        let under_way = Arc::new(self.begin(&body, caller, room));
        Body::new(Pieces { left: body.length as u64, pieces: body.pieces, next: 0, under_way })
    }

    /// Bytes on their way, and how many answers were given up for others.
    pub fn state(&self) -> (usize, u64) {
        let leaving = self.0.lock();
        (leaving.outgoing.bytes(), leaving.outgoing.given_up())
    }

    fn begin(
        self: &Arc<Outlet>,
        body: &encoding::Body,
        caller: &Caller,
        room: Option<OwnedSemaphorePermit>,
    ) -> UnderWay {
        let mut leaving = self.0.lock();
        let (id, gone) = leaving.outgoing.begin(body);
        leaving.callers.insert(id, caller.clone());
        let gone: Vec<Caller> = gone.iter().filter_map(|id| leaving.callers.remove(id)).collect();
        drop(leaving);
        for caller in gone {
            caller.end();
            too_slow(caller.address);
        }
        UnderWay { outlet: self.clone(), id, _room: room }
    }
}

fn too_slow(client: SocketAddr) {
    let most = MOST_BYTES >> 20;
    limited!(
        warn,
        Cause::Named("clients of the service registry that take their answers slowly"),
        PER_MINUTE;
        "closed the connection of {client} to the service registry: answers of more than {most} MiB are on their way, and that one has been for the longest; the \
         client can ask again"
    );
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut leaving = self.outlet.0.lock();
        leaving.outgoing.end(self.id);
        leaving.callers.remove(&self.id);
    }
}

/// A body of shared pieces.
struct Pieces {
    left: u64,
    pieces: Arc<[Bytes]>,
    next: usize,
    under_way: Arc<UnderWay>,
}

/// A piece in the hands of the connection, which lets go of the body before the last piece is sent.
struct Held {
    piece: Bytes,
    _under_way: Arc<UnderWay>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(piece) = self.pieces.get(self.next).cloned() else { return Poll::Ready(None) };
        self.left -= piece.len() as u64;
        self.next += 1;
        let held = Bytes::from_owner(Held { piece, _under_way: self.under_way.clone() });
        Poll::Ready(Some(Ok(Frame::data(held))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::response::Response;
    use axum::{Extension, Router};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;

    use super::*;
    use crate::net::bind::Port;
    use crate::ports::http::{self, HttpPort};

    /// More than the sockets of both sides hold.
    const LENGTH: usize = 48 << 20;

    async fn ask(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'H');
        stream
    }

    #[tokio::test]
    async fn whoever_takes_an_answer_slowly_makes_room_for_others() {
        let outlet = Arc::new(Outlet::new(LENGTH + LENGTH / 2));
        let answering = outlet.clone();
        let router = Router::new().fallback(move |Extension(caller): Extension<Caller>| async move {
            Response::new(answering.body(Bytes::from(vec![b'x'; LENGTH]).into(), &caller, None))
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_stop, stopped) = watch::channel(false);
        let silence_limit = Duration::from_secs(600);
        let port =
            HttpPort { port: Port::Registry, seats: (9, 9), silence_limit, tls: None, router, figures: Arc::default() };
        let serving = tokio::spawn(http::serve(port, listener, stopped));

        let mut slow = ask(address).await;
        assert_eq!(outlet.state(), (LENGTH, 0), "the whole body is in the hands of the connection");
        let mut quick = ask(address).await;
        // The connection ends, however much of the answer was on its way.
        let mut came = Vec::new();
        let ends = tokio::time::timeout(Duration::from_secs(120), slow.read_to_end(&mut came)).await;
        assert!(ends.is_ok() && came.len() < LENGTH, "after {} bytes", came.len());
        let mut left = vec![0; LENGTH];
        quick.read_exact(&mut left).await.unwrap();
        drop(quick);
        let sent = async {
            while outlet.state() != (0, 1) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), sent).await.expect("what was sent counts no more");
        serving.abort();
    }
}
