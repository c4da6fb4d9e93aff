//! Opening and closing, and what changes with the membership.

use super::*;
use crate::failure::ExitCode;

async fn is_refused(host: &str, port: u16) -> bool {
    soon(TcpStream::connect((host, port))).await.is_err()
}

#[tokio::test]
async fn a_port_in_use_ends_the_start_with_the_originals_exit_code() {
    let (_taken, port) = listener().await;
    let memberships = members(&[(1, port)]);
    let (sender, _events) = mpsc::channel(1);
    let failure = ElectionPort::start(settings(1, &memberships), sender).await.unwrap_err();
    assert_eq!(failure.exit_code, ExitCode::ServerPort);
    assert!(failure.message.contains(&format!("127.0.0.1:{port}")), "{failure}");

    let (sender, _events) = mpsc::channel(1);
    let failure = ElectionPort::start(settings(2, &memberships), sender).await.unwrap_err();
    assert!(failure.message.contains("server.2"), "{failure}");
}

#[tokio::test]
async fn a_port_in_use_is_waited_for() {
    let (taken, port) = listener().await;
    let memberships = members(&[(1, port)]);
    let settings = ElectionPortSettings { bind_retries: None, ..settings(1, &memberships) };
    let (sender, _events) = mpsc::channel(1);
    let mut start = std::pin::pin!(ElectionPort::start(settings, sender));
    tokio::select! {
        biased;
        started = &mut start => panic!("{started:?}"),
        () = tokio::task::yield_now() => {}
    }
    drop(taken);
    let _open = soon(start).await.unwrap();
    assert!(!is_refused("127.0.0.1", port).await);
}

#[tokio::test]
async fn stopping_closes_everything() {
    let (me, other) = (reserve(), reserve());
    let memberships = members(&[(2, me.port), (3, other.port)]);
    let mut server = Server::open(2, &memberships).await;
    let mut fake = Fake::connect(me.port, &introduction(3, &["127.0.0.1:1"])).await;
    assert_eq!(server.next().await, Up(3));
    let mut silent = Fake::connect(me.port, b"").await;
    server.port.stop().await;
    assert!(is_refused("127.0.0.1", me.port).await);
    fake.is_closed().await;
    silent.is_closed().await;
    assert!(soon(server.events.recv()).await.is_none(), "nobody is left who could tell anything");
    Server::open(2, &memberships).await.port.stop().await;
}

#[tokio::test]
async fn all_addresses_of_the_machine_where_wanted() {
    let (me, other) = (reserve_on(&["127.0.0.1", "127.0.0.2"]), reserve());
    let memberships = members(&[(2, me.port), (3, other.port)]);
    let server = Server::open(2, &memberships).await;
    assert!(is_refused("127.0.0.2", me.port).await);
    server.port.stop().await;
    let server = Server::open_with(ElectionPortSettings { listen_on_all: true, ..settings(2, &memberships) }).await;
    assert!(!is_refused("127.0.0.1", me.port).await);
    assert!(!is_refused("127.0.0.2", me.port).await);
    server.port.stop().await;
}

#[tokio::test]
async fn ipv6_addresses_are_listened_on_dialled_and_told() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
    let port = listener.local_addr().unwrap().port();
    let me = {
        let socket = TcpSocket::new_v6().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind("[::1]:0".parse().unwrap()).unwrap();
        socket
    };
    let my_port = me.local_addr().unwrap().port();
    let memberships = membership([(1, member(&[("::1", port)])), (2, member(&[("::1", my_port)]))]);
    let mut server = Server::open(2, &memberships).await;
    server.send(1, 1);
    let (_fake, message) = Fake::accept(&listener).await;
    assert_eq!(message.addresses, [format!("[::1]:{my_port}")]);
    assert_eq!(server.next().await, Up(1));
    assert!(!is_refused("::1", my_port).await);
}

#[tokio::test]
async fn a_server_that_moves_listens_where_it_moved_to() {
    let (old, new, other) = (reserve(), reserve(), reserve());
    let mut server = Server::open(2, &members(&[(2, old.port), (3, other.port)])).await;
    let mut fake = Fake::connect(old.port, &introduction(3, &["127.0.0.1:1"])).await;
    assert_eq!(server.next().await, Up(3));
    server.port.set_members(members(&[(2, new.port), (3, other.port)]));
    // Where the others are has not changed: the connection stays.
    soon(async {
        while TcpStream::connect(loopback(new.port)).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(is_refused("127.0.0.1", old.port).await);
    server.send(3, 1);
    assert_eq!(fake.receive().await, 1);
    // A membership without this server leaves it where it is.
    server.port.set_members(members(&[(3, other.port)]));
    fake.send(2).await;
    assert_eq!(server.next().await, Notified(3, 2));
    assert!(!is_refused("127.0.0.1", new.port).await);
}

#[tokio::test]
async fn another_server_that_moves_is_called_where_it_moved_to() {
    let me = reserve();
    let (old, old_port) = listener().await;
    let (new, new_port) = listener().await;
    let mut server = Server::open(2, &members(&[(1, old_port), (2, me.port)])).await;
    server.send(1, 1);
    let (mut fake, _) = Fake::accept(&old).await;
    assert_eq!(server.next().await, Up(1));
    server.port.set_members(members(&[(1, old_port), (2, me.port), (7, 1)]));
    server.send(1, 2);
    assert_eq!(fake.receive().await, 2);
    server.port.set_members(members(&[(1, new_port), (2, me.port)]));
    assert_eq!(server.next().await, Down(1));
    fake.is_closed().await;
    server.send(1, 3);
    let (_fake, _) = Fake::accept(&new).await;
    assert_eq!(server.next().await, Up(1));
}

#[tokio::test]
async fn of_a_server_about_to_move_both_addresses_are_tried() {
    let (me, old) = (reserve(), reserve());
    let (new, new_port) = listener().await;
    let committed = members(&[(1, old.port), (2, me.port)]).committed.clone();
    let last_seen = members(&[(1, new_port), (2, 1)]).committed.clone();
    let mut server = Server::open(2, &Arc::new(Memberships::new(committed, last_seen))).await;
    server.send(1, 1);
    let (_fake, message) = Fake::accept(&new).await;
    assert_eq!(message.addresses, [loopback(me.port).to_string()]);
    assert_eq!(server.next().await, Up(1));
}

#[tokio::test]
async fn a_stranger_that_joins_is_told_of_and_one_that_leaves_is_a_stranger() {
    let (me, other) = (reserve(), reserve());
    let without = members(&[(2, me.port)]);
    let with = members(&[(2, me.port), (3, other.port)]);
    let mut server = Server::open(2, &without).await;
    let mut fake = Fake::connect(me.port, &introduction(3, &["127.0.0.1:1"])).await;
    fake.send(1).await;
    assert_eq!(server.next().await, Notified(3, 1));
    server.port.set_members(with.clone());
    assert_eq!(server.next().await, Up(3));
    server.port.set_members(without);
    fake.send(2).await;
    assert_eq!(server.next().await, Notified(3, 2));
    drop(fake);
    // Nothing is dialled, nothing is told: the next thing heard is of its next connection.
    server.send(3, 3);
    let mut fake = Fake::connect(me.port, &introduction(3, &["127.0.0.1:1"])).await;
    fake.send(4).await;
    assert_eq!(server.next().await, Notified(3, 4));
}
