//! Bodies of requests, read to their end within a limited time and limited room. Who gets room and who is given up: `bodies.rs` in the registry.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use hyper::body::Body as _;
use parking_lot::Mutex;
use rookeeper_registry::{Bodies, BodyId, BodyLimits};
use tokio::sync::oneshot;

/// How long a body may take to arrive.
const BODY_LIMIT: Duration = Duration::from_secs(20);

/// Registrations of ordinary instances are shorter than what is free.
const LIMITS: BodyLimits = BodyLimits { free_bytes: 4 << 10, most_bytes: 64 << 20, most_of_address: 32 << 20 };

/// Where bodies are read.
#[derive(Debug)]
pub(super) struct Intake(Mutex<Arriving>);

#[derive(Debug)]
struct Arriving {
    bodies: Bodies,
    /// How those that arrive hear that they are given up.
    waits: HashMap<BodyId, oneshot::Sender<()>>,
}

/// The room of a body, free again when dropped.
#[derive(Debug)]
pub(super) struct Room {
    intake: Arc<Intake>,
    id: BodyId,
}

impl Default for Intake {
    fn default() -> Intake {
        Intake(Mutex::new(Arriving { bodies: Bodies::new(LIMITS), waits: HashMap::new() }))
    }
}

impl Intake {
    /// A body of at most so many bytes, and the room that it takes.
    pub async fn read(self: &Arc<Intake>, body: Body, most: usize, of: IpAddr) -> Result<(Bytes, Room), StatusCode> {
        if body.size_hint().lower() > most as u64 {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let (given_up, is_given_up) = oneshot::channel();
        let room = self.room(of, given_up);
        tokio::select! {
            read = tokio::time::timeout(BODY_LIMIT, room.fill(body, most)) => {
                let bytes = read.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT))?;
                self.0.lock().bodies.complete(room.id);
                Ok((bytes, room))
            }
            // Other servers send a batch again upon this.
            _ = is_given_up => Err(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// Bytes for which room is taken, and how many bodies were given up for others.
    pub fn state(&self) -> (usize, u64) {
        let arriving = self.0.lock();
        (arriving.bodies.bytes(), arriving.bodies.given_up())
    }

    fn room(self: &Arc<Intake>, of: IpAddr, given_up: oneshot::Sender<()>) -> Room {
        let mut arriving = self.0.lock();
        let id = arriving.bodies.begin(of);
        arriving.waits.insert(id, given_up);
        Room { intake: self.clone(), id }
    }
}

impl Room {
    async fn fill(&self, mut body: Body, most: usize) -> Result<Bytes, StatusCode> {
        let (mut bytes, mut first) = (Vec::new(), Bytes::new());
        while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            let Ok(data) = frame.map_err(|_| StatusCode::BAD_REQUEST)?.into_data() else { continue };
            if first.len() + bytes.len() + data.len() > most {
                return Err(StatusCode::PAYLOAD_TOO_LARGE);
            }
            self.grow(data.len());
            // Most bodies come at once, and need no copy.
            if first.is_empty() && bytes.is_empty() {
                first = data;
            } else {
                if bytes.is_empty() {
                    bytes.extend_from_slice(&std::mem::take(&mut first));
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok(if bytes.is_empty() { first } else { bytes.into() })
    }

    fn grow(&self, bytes: usize) {
        let mut arriving = self.intake.0.lock();
        for gone in arriving.bodies.grow(self.id, bytes) {
            // Perhaps this one: the next wait ends it.
            drop(arriving.waits.remove(&gone));
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut arriving = self.intake.0.lock();
        arriving.bodies.end(self.id);
        arriving.waits.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bodies as a connection gives them: those that were sent as far as they were sent, without an end.
    struct Slow(tokio::sync::mpsc::Receiver<Bytes>);

    impl hyper::body::Body for Slow {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
            self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(hyper::body::Frame::data(bytes))))
        }
    }

    const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const INSTANCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
    const MOST: usize = 16 << 20;

    #[tokio::test(start_paused = true)]
    async fn slow_bodies_of_a_stranger_hold_up_nobody() {
        let intake = Arc::new(Intake::default());
        let mut slow = Vec::new();
        for _ in 0..100 {
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            sender.send(vec![b' '; 1 << 20].into()).await.unwrap();
            let intake = intake.clone();
            let reading = tokio::spawn(async move { intake.read(Body::new(Slow(receiver)), MOST, STRANGER).await });
            slow.push((sender, reading));
            tokio::task::yield_now().await;
        }
        let begin = tokio::time::Instant::now();
        for length in [1000, 1 << 20, MOST] {
            let (bytes, _room) = intake.read(Body::from(vec![b'x'; length]), MOST, INSTANCE).await.unwrap();
            assert_eq!(bytes.len(), length);
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
        let (held, given_up) = intake.state();
        assert!(held <= 32 << 20, "{held}");
        assert!(given_up >= 68, "{given_up}");
        // All of them end, and leave nothing behind.
        let mut statuses = Vec::new();
        for (_sender, reading) in slow {
            statuses.push(reading.await.unwrap().unwrap_err());
        }
        let first = statuses.iter().position(|status| *status != StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(first, Some(given_up as usize));
        assert!(statuses[given_up as usize..].iter().all(|status| *status == StatusCode::REQUEST_TIMEOUT));
        assert_eq!(intake.state().0, 0);
        assert_eq!(intake.0.lock().waits.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_long_is_refused_when_it_is_announced_or_when_it_comes() {
        let intake = Arc::new(Intake::default());
        let announced = intake.read(Body::from("four"), 3, INSTANCE).await.unwrap_err();
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        sender.send("two".into()).await.unwrap();
        sender.send("more".into()).await.unwrap();
        let came = intake.read(Body::new(Slow(receiver)), 5, INSTANCE).await.unwrap_err();
        assert_eq!([announced, came], [StatusCode::PAYLOAD_TOO_LARGE; 2]);
        assert_eq!(intake.state().0, 0);
    }
}
