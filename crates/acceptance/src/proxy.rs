//! A way to a server that a test can spoil: answers get lost, connections break, everything falls silent.
//!
//! What always holds: bytes that are passed on are passed on in order and whole; what is lost is lost with its connection, as on a real network.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::random::Random;

const BUFFER_BYTES: usize = 16 * 1024;

#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    rules: Arc<Rules>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Rules {
    target: SocketAddr,
    /// A connection ends instead of bringing one of so many answers; 0 for never.
    lost_one_in: AtomicU64,
    random: Mutex<Random>,
    /// Grows whenever all connections are to break.
    breaks: watch::Sender<u64>,
    silent: watch::Sender<bool>,
}

impl Rules {
    fn loses_this(&self) -> bool {
        let one_in = self.lost_one_in.load(Ordering::Relaxed);
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        one_in > 0 && random.below(one_in) == 0
    }
}

impl Proxy {
    /// Listens on an address of its own. Call on a runtime.
    pub async fn to(target: SocketAddr, seed: u64) -> std::io::Result<Proxy> {
        let mut random = Random::new(seed);
        let mut chosen = Random::from_clock();
        let [second, third, fourth] = [0; 3].map(|_| 1 + chosen.below(253) as u8);
        let listener = TcpListener::bind((Ipv4Addr::new(127, second, third, fourth), 0)).await?;
        let address = listener.local_addr()?;
        let rules = Arc::new(Rules {
            target,
            lost_one_in: AtomicU64::new(0),
            random: Random::new(random.number()).into(),
            breaks: watch::channel(0).0,
            silent: watch::channel(false).0,
        });
        let shared = Arc::clone(&rules);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&shared)));
            }
        });
        Ok(Proxy { address, rules, task })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on one of so many answers is lost, and its connection with it; 0 for none.
    pub fn lose_one_answer_in(&self, count: u64) {
        self.rules.lost_one_in.store(count, Ordering::Relaxed);
    }

    pub fn break_connections(&self) {
        self.rules.breaks.send_modify(|breaks| *breaks += 1);
    }

    /// Nothing is passed on, in either direction, and nobody is told.
    pub fn silence(&self) {
        self.rules.silent.send_replace(true);
    }

    /// What was held back arrives.
    pub fn resume(&self) {
        self.rules.silent.send_replace(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.break_connections();
    }
}

async fn serve(client: TcpStream, rules: Arc<Rules>) {
    let mut breaks = rules.breaks.subscribe();
    let Ok(server) = TcpStream::connect(rules.target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::select! {
        () = pass(&mut from_client, &mut to_server, &rules, false) => {}
        () = pass(&mut from_server, &mut to_client, &rules, true) => {}
        _ = breaks.changed() => {}
    }
}

async fn pass(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    rules: &Rules,
    answers: bool,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut silent = rules.silent.subscribe();
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        if silent.wait_for(|silent| !silent).await.is_err() {
            return;
        }
        let is_lost = answers && rules.loses_this();
        if is_lost || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
