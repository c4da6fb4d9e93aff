//! The way from one member to a port of another, which can be cut: then nothing passes in either direction, and nobody is told.
//!
//! What always holds: bytes pass in order and whole; what was held back while the link was cut arrives when it is mended, as far as the two ends
//! still have the connection.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

const BUFFER_BYTES: usize = 64 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct State {
    is_cut: bool,
    is_over: bool,
}

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the link is cut; `false` when it is over.
    fn pass(&self) -> bool {
        let state = self.changed.wait_while(self.lock(), |state| state.is_cut && !state.is_over);
        !state.unwrap_or_else(PoisonError::into_inner).is_over
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    gate: Arc<Gate>,
}

impl Link {
    /// Listens on a port of its own and passes on to `target`.
    pub(crate) fn to(target: SocketAddr) -> io::Result<Link> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let gate = Arc::new(Gate::default());
        let theirs = Arc::clone(&gate);
        thread::spawn(move || {
            for client in listener.incoming().map_while(io::Result::ok) {
                if theirs.lock().is_over {
                    return;
                }
                let gate = Arc::clone(&theirs);
                thread::spawn(move || serve(client, target, &gate));
            }
        });
        Ok(Link { address, gate })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn cut(&self, is_cut: bool) {
        self.gate.set(|state| state.is_cut = is_cut);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.gate.set(|state| state.is_over = true);
        // The thread that listens sees it.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(client: TcpStream, target: SocketAddr, gate: &Arc<Gate>) {
    if !gate.pass() {
        return;
    }
    let Ok(server) = TcpStream::connect_timeout(&target, CONNECT_TIMEOUT) else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (Ok(from_server), Ok(to_client)) = (server.try_clone(), client.try_clone()) else { return };
    let theirs = Arc::clone(gate);
    thread::spawn(move || pass(from_server, to_client, &theirs));
    pass(client, server, gate);
}

fn pass(mut from: TcpStream, mut to: TcpStream, gate: &Gate) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !gate.pass() || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // An end is a message as well, and does not pass while the link is cut.
    gate.pass();
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
