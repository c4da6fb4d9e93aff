//! The threads that serve the connections of clients.
//!
//! Each has a reactor of its own, and a connection stays with the thread that got it. So whatever wakes a connection, its socket or the
//! replica, wakes the one thread that goes on with it. Where threads share a reactor and take work from one another, a wake-up often reaches
//! another thread first, which costs two switches more for each request.
//!
//! What always holds here: a new connection goes to a thread that has no more of them than any other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

use crate::net::stream::{self, Detached, Stream};
use crate::observe::stages;

/// More threads than the machine has cores only cost switches; more than this were never seen to help.
const MAX_THREADS: usize = 16;

/// The threads end with the last clone of this, and what they still serve with them.
#[derive(Debug, Clone)]
pub(crate) struct ClientThreads(Arc<Vec<ClientThread>>);

#[derive(Debug)]
struct ClientThread {
    handle: Handle,
    connections: Arc<AtomicUsize>,
    /// The thread ends when this is dropped.
    _ends: oneshot::Sender<()>,
}

/// Counts a connection of a thread until it is dropped.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl ClientThreads {
    pub fn start() -> io::Result<ClientThreads> {
        let count = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let threads: io::Result<Vec<ClientThread>> = (0..count).map(ClientThread::start).collect();
        threads.map(|threads| ClientThreads(Arc::new(threads)))
    }

    /// Lets one of the threads serve this connection, or deal with what is in the way of that.
    pub fn serve<F>(&self, connection: Stream, serve: impl FnOnce(io::Result<Stream>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send,
    {
        let thread = self.0.iter().min_by_key(|thread| thread.connections.load(Relaxed)).expect("there are threads");
        let (detached, place) = (stream::detach(connection), Place::take(&thread.connections));
        thread.handle.spawn(async move {
            serve(detached.and_then(Detached::attach)).await;
            drop(place);
        });
    }
}

impl ClientThread {
    fn start(number: usize) -> io::Result<ClientThread> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (ends, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("clients".into()).spawn(move || {
            stages::count_alone(number);
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(ClientThread { handle, connections: Arc::default(), _ends: ends })
    }
}

impl Place {
    fn take(connections: &Arc<AtomicUsize>) -> Place {
        connections.fetch_add(1, Relaxed);
        Place(connections.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::thread::ThreadId;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn connections_are_spread_over_the_threads_and_end_with_them() {
        let threads = ClientThreads::start().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut clients = Vec::new();
        for _ in 0..threads.0.len() * 3 {
            clients.push(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
            let (connection, _) = listener.accept().await.unwrap();
            let tell = tell.clone();
            threads.serve(connection, |connection| async move {
                let mut connection = connection.unwrap();
                let _ = tell.send(thread::current().id());
                let mut byte = [0];
                while connection.read_exact(&mut byte).await.is_ok() {
                    let _ = connection.write_all(&byte).await;
                }
            });
        }
        let mut served: HashMap<ThreadId, usize> = HashMap::new();
        for _ in &clients {
            *served.entry(told.recv().await.unwrap()).or_default() += 1;
        }
        assert_eq!(served.values().copied().collect::<Vec<usize>>(), vec![3; threads.0.len()]);
        for client in &mut clients {
            client.write_all(b"x").await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x');
        }
        drop(threads);
        for client in &mut clients {
            assert!(client.read_u8().await.is_err());
        }
    }
}
