//! Election ports among themselves and against hand-made peers, on loopback. Every wait is for an event; its limit only ends a
//! test that has failed.

mod hostile;
mod links;
mod members;
mod recorded;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rookeeper_proto::election::{InitialMessage, Notification, PeerState};
use rookeeper_proto::{Epoch, ServerId, Zxid};
use rookeeper_replica::Input;
use rookeeper_zab::{Member, MemberAddress, Membership, Memberships, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;

use super::{ElectionPort, ElectionPortSettings};

const LIMIT: Duration = Duration::from_secs(20);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, what).await.expect("nothing happens")
}

/// Keeps a port for a server that is not open: connecting to it is refused, nobody else gets it.
struct Reserved {
    _sockets: Vec<TcpSocket>,
    port: u16,
}

fn reserve() -> Reserved {
    reserve_on(&["127.0.0.1"])
}

/// The same port on each of these addresses. What is free on one of them need not be so on another.
fn reserve_on(hosts: &[&str]) -> Reserved {
    let bound = |host: &str, port: u16| {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((host.parse::<std::net::Ipv4Addr>().unwrap(), port).into())?;
        std::io::Result::Ok(socket)
    };
    for _ in 0..100 {
        let first = bound(hosts[0], 0).unwrap();
        let port = first.local_addr().unwrap().port();
        let others: Result<Vec<TcpSocket>, _> = hosts[1..].iter().map(|host| bound(host, port)).collect();
        if let Ok(mut sockets) = others {
            sockets.push(first);
            return Reserved { _sockets: sockets, port };
        }
    }
    panic!("no port is free on all of {hosts:?}");
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn member(addresses: &[(&str, u16)]) -> Member {
    let address =
        |(host, port): &(&str, u16)| MemberAddress { host: (*host).to_owned(), quorum_port: 1, election_port: *port };
    Member { addresses: addresses.iter().map(address).collect(), role: Role::Participant, client: None }
}

fn membership(members: impl IntoIterator<Item = (i64, Member)>) -> Arc<Memberships> {
    let members = members.into_iter().map(|(id, member)| (ServerId(id), member)).collect();
    Arc::new(Memberships::settled(Membership { members, groups: None, version: Zxid::ZERO }))
}

/// Servers on 127.0.0.1, by id and port.
fn members(ports: &[(i64, u16)]) -> Arc<Memberships> {
    membership(ports.iter().map(|(id, port)| (*id, member(&[("127.0.0.1", *port)]))))
}

fn settings(me: i64, memberships: &Arc<Memberships>) -> ElectionPortSettings {
    ElectionPortSettings {
        me: ServerId(me),
        memberships: memberships.clone(),
        listen_on_all: false,
        connect_timeout_ms: 5_000,
        handshake_timeout_ms: 5_000,
        bind_retries: Some(1),
        multi_address: false,
        door: Arc::new(crate::net::door::Door::new(false, memberships)),
        auth: Default::default(),
        tls: None,
    }
}

/// Told apart by the number that stands in for its zxid.
fn notification(number: i64) -> Notification {
    Notification {
        state: PeerState::Looking,
        leader: Some(ServerId(1)),
        zxid: Some(Zxid(number)),
        election_epoch: 1,
        peer_epoch: Some(Epoch(1)),
        config: Some(b"version=0".to_vec()),
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Up(i64),
    Down(i64),
    /// From whom, and the number.
    Notified(i64, i64),
}
use Event::{Down, Notified, Up};

/// A port, and the place of the replica behind it.
struct Server {
    port: ElectionPort,
    events: mpsc::Receiver<Input>,
}

impl Server {
    async fn open(me: i64, memberships: &Arc<Memberships>) -> Server {
        Server::open_with(settings(me, memberships)).await
    }

    async fn open_with(settings: ElectionPortSettings) -> Server {
        let (sender, events) = mpsc::channel(1);
        Server { port: ElectionPort::start(settings, sender).await.unwrap(), events }
    }

    fn send(&self, to: i64, number: i64) {
        self.port.send(ServerId(to), notification(number));
    }

    async fn next(&mut self) -> Event {
        match soon(self.events.recv()).await.unwrap() {
            Input::ElectionLinkUp { server } => Up(server.0),
            Input::ElectionLinkDown { server } => Down(server.0),
            Input::Notified { from, notification } => Notified(from.0, notification.zxid.unwrap().0),
            other => panic!("{other:?}"),
        }
    }

    /// Passes over everything before it.
    async fn until(&mut self, event: Event) {
        while self.next().await != event {}
    }

    fn is_quiet(&mut self) -> bool {
        self.events.try_recv().is_err()
    }
}

/// A peer made by hand.
struct Fake {
    stream: TcpStream,
}

fn introduction(server: i64, addresses: &[&str]) -> Vec<u8> {
    let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
    let message = InitialMessage { server: ServerId(server), addresses, multi_address: false };
    let mut bytes = Vec::new();
    message.append(&mut bytes);
    bytes
}

impl Fake {
    async fn connect(port: u16, first: &[u8]) -> Fake {
        let mut stream = soon(TcpStream::connect(("127.0.0.1", port))).await.unwrap();
        stream.write_all(first).await.unwrap();
        Fake { stream }
    }

    /// A connection with its initial message, which arrived as one.
    async fn accept(listener: &TcpListener) -> (Fake, InitialMessage) {
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        let mut bytes = [0; 4096];
        let length = soon(stream.read(&mut bytes)).await.unwrap();
        let (message, used) = InitialMessage::split(&bytes[..length]).unwrap().expect("it is cut");
        assert_eq!(used, length, "nothing may be sent before the replica knows of the connection");
        (Fake { stream }, message)
    }

    async fn send(&mut self, number: i64) {
        self.send_notification(&notification(number)).await;
    }

    async fn send_notification(&mut self, notification: &Notification) {
        let mut payload = Vec::new();
        notification.append(&mut payload);
        self.send_frame(payload.len() as i32, &payload).await;
    }

    async fn send_frame(&mut self, length: i32, payload: &[u8]) {
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend(payload);
        self.stream.write_all(&frame).await.unwrap();
    }

    async fn receive(&mut self) -> i64 {
        let length = soon(self.stream.read_i32()).await.unwrap();
        let mut payload = vec![0; length as usize];
        soon(self.stream.read_exact(&mut payload)).await.unwrap();
        Notification::decode(&payload).unwrap().zxid.unwrap().0
    }

    /// The other end closes without another byte.
    /// The connection ends in order.
    async fn ends(&mut self) {
        assert_eq!(soon(self.stream.read(&mut [0])).await.map_err(|error| error.kind()), Ok(0));
    }

    async fn is_closed(&mut self) {
        let mut byte = [0];
        // Bytes that it did not read make it a reset.
        let closed = matches!(soon(self.stream.read(&mut byte)).await, Ok(0) | Err(_));
        assert!(closed, "got {byte:?}");
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

async fn nobody_waits(listener: &TcpListener) -> bool {
    tokio::select! {
        biased;
        _ = listener.accept() => false,
        () = tokio::task::yield_now() => true,
    }
}
