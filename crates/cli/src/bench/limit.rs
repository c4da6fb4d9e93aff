//! What this machine allows: a server that does only what nobody can do without.
//!
//! The server answers at once, keeps no state, and makes writes durable the cheapest way there is: all that has arrived is one write and one
//! sync, within a file that is as long as it will ever be. Everything runs on one thread, so nothing is woken but by a socket or the disk. A real server beside it
//! shows how far it is from the limit of the machine; the load and the way to measure are the same.
//!
//! What always holds here: a write is answered after the sync behind it.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::thread;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{LocalSet, spawn_local, yield_now};

use super::connection::SESSION_TIMEOUT_MS;
use super::wire::{self, Request};

/// At its end, writing begins at the front again.
const FILE_BYTES: u64 = 64 << 20;

/// What a transaction of a set of 100 bytes takes in a log; larger values take more.
const RECORD_BYTES: usize = 200;

const READ_BYTES: usize = 64 << 10;

/// Serves until it is dropped.
#[derive(Debug)]
pub(super) struct LimitServer {
    pub(super) address: SocketAddr,
    _ends: oneshot::Sender<()>,
}

impl LimitServer {
    /// A server on a free port of the loopback interface, with a file in `dir` that has no name. Reads get `value_size` bytes.
    pub(super) fn start(dir: &Path, value_size: usize) -> anyhow::Result<LimitServer> {
        let file = Self::file(dir).with_context(|| format!("cannot make a file of 64 MiB in {}", dir.display()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (ends, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("limit".into()).spawn(move || {
            let disk = Rc::new(Disk::new(file));
            LocalSet::new().block_on(&runtime, async {
                spawn_local(accept(listener, disk.clone(), value_size));
                tokio::select! {
                    error = disk.sync_for_ever() => complain(&error),
                    _ = ended => {}
                }
            });
        })?;
        Ok(LimitServer { address, _ends: ends })
    }

    /// A file without a name, so that nothing of it is left behind.
    fn file(dir: &Path) -> io::Result<File> {
        let path = dir.join(format!("rookeeper-bench-limit-{}", std::process::id()));
        let file = File::options().write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        let zeros = vec![0; 1 << 20];
        for offset in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset)?;
        }
        file.sync_all()?;
        Ok(file)
    }
}

/// The connections end with the thread, which the load generator then tells.
fn complain(error: &io::Error) {
    crate::print::complaint(&format_args!("the file of the limit can't be written: {error}"));
}

async fn accept(listener: std::net::TcpListener, disk: Rc<Disk>, value_size: usize) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    while let Ok((stream, _)) = listener.accept().await {
        let disk = disk.clone();
        spawn_local(async move { serve(stream, &disk, value_size).await });
    }
    Ok(())
}

/// A connection that breaks is told by the load generator.
async fn serve(mut stream: TcpStream, disk: &Disk, value_size: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut input, mut output) = (Vec::with_capacity(READ_BYTES), Vec::with_capacity(READ_BYTES));
    let value = vec![0; value_size];
    let mut has_session = false;
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let (mut consumed, mut written) = (0, 0);
        while let Some((frame, length)) = wire::first_frame(&input[consumed..]).map_err(io::Error::other)? {
            if has_session {
                let request = Request::parse(frame).map_err(io::Error::other)?;
                written += usize::from(request.is_write()) * (RECORD_BYTES + value_size.saturating_sub(100));
                wire::answer(&mut output, &request, &value);
            } else {
                // A session is durable before its client hears of it, and so is its end.
                wire::grant_session(&mut output, SESSION_TIMEOUT_MS);
                (has_session, written) = (true, written + RECORD_BYTES);
            }
            consumed += length;
        }
        input.drain(..consumed);
        if written > 0 {
            disk.make_durable(written).await;
        }
        stream.write_all(&output).await?;
        output.clear();
    }
}

/// One file, and who waits for its next sync.
struct Disk {
    file: File,
    end: Cell<u64>,
    /// What the next sync makes durable.
    waiting: RefCell<Vec<u8>>,
    asked: Notify,
    /// How many syncs there were.
    synced: watch::Sender<u64>,
}

impl Disk {
    fn new(file: File) -> Disk {
        Disk { file, end: Cell::new(0), waiting: RefCell::default(), asked: Notify::new(), synced: watch::channel(0).0 }
    }

    /// Returns when so many bytes more are durable.
    async fn make_durable(&self, bytes: usize) {
        let mut synced = self.synced.subscribe();
        let next = *synced.borrow() + 1;
        {
            let mut waiting = self.waiting.borrow_mut();
            let end = waiting.len() + bytes;
            waiting.resize(end, 0x5a);
        }
        self.asked.notify_one();
        // The sender lives as long as this.
        let _ = synced.wait_for(|count| *count >= next).await;
    }

    /// Writes and syncs what has gathered, again and again. Returns only with an error.
    async fn sync_for_ever(&self) -> io::Error {
        loop {
            self.asked.notified().await;
            // Whatever else has arrived takes part.
            yield_now().await;
            if self.waiting.borrow().is_empty() {
                continue;
            }
            if let Err(error) = self.sync() {
                return error;
            }
            self.synced.send_modify(|count| *count += 1);
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut waiting = self.waiting.borrow_mut();
        let begin = if self.end.get() + waiting.len() as u64 > FILE_BYTES { 0 } else { self.end.get() };
        self.file.write_all_at(&waiting, begin)?;
        self.file.sync_data()?;
        self.end.set(begin + waiting.len() as u64);
        waiting.clear();
        Ok(())
    }
}
