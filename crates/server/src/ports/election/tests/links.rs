//! Who connects to whom, what goes over it, and what the replica hears of it.

use super::super::peer::{ATTEMPTS, LONGEST_PAUSE};
use super::*;

/// Both say something whenever they hear of a connection, as the election does.
async fn talk(first: &mut Server, first_id: i64, second: &mut Server, second_id: i64) {
    first.until(Up(second_id)).await;
    second.until(Up(first_id)).await;
    first.send(second_id, 100);
    second.send(first_id, 200);
    first.until(Notified(second_id, 200)).await;
    second.until(Notified(first_id, 100)).await;
}

#[tokio::test]
async fn the_higher_id_connects_and_both_talk() {
    let (low, high) = (reserve(), reserve());
    let memberships = members(&[(1, low.port), (2, high.port)]);
    let (mut low, mut high) = (Server::open(1, &memberships).await, Server::open(2, &memberships).await);
    high.send(1, 1);
    talk(&mut low, 1, &mut high, 2).await;
    low.send(2, 3);
    assert_eq!(high.next().await, Notified(1, 3));
    assert!(low.is_quiet());
}

#[tokio::test]
async fn the_lower_id_is_called_back_and_both_talk() {
    let (low, high) = (reserve(), reserve());
    let memberships = members(&[(1, low.port), (2, high.port)]);
    let (mut low, mut high) = (Server::open(1, &memberships).await, Server::open(2, &memberships).await);
    low.send(2, 1);
    talk(&mut low, 1, &mut high, 2).await;
    assert!(low.is_quiet() && high.is_quiet());
}

#[tokio::test]
async fn three_servers_find_each_other_whoever_begins() {
    let reserved = [reserve(), reserve(), reserve()];
    let memberships = members(&[(1, reserved[0].port), (2, reserved[1].port), (3, reserved[2].port)]);
    let mut servers = Vec::new();
    for me in 1..=3 {
        servers.push(Server::open(me, &memberships).await);
    }
    for (index, server) in servers.iter().enumerate() {
        for to in (1..=3).filter(|to| *to != index as i64 + 1) {
            server.send(to, 0);
        }
    }
    // Announcements cross connections here, so a connection may be replaced; the last news is of one that lasts.
    let mut heard = vec![Vec::new(); 3];
    let mut tasks = tokio::task::JoinSet::new();
    for (index, mut server) in servers.into_iter().enumerate() {
        let me = index as i64 + 1;
        tasks.spawn(async move {
            let mut from = std::collections::BTreeSet::new();
            while from.len() < 2 {
                match server.next().await {
                    Up(peer) => server.send(peer, me),
                    Notified(peer, number) => {
                        assert_eq!(peer, number);
                        from.insert(peer);
                    }
                    Down(_) => {}
                }
            }
            (index, from.into_iter().collect::<Vec<_>>(), server)
        });
    }
    // All stay open until all have heard everybody.
    let mut finished = Vec::new();
    while let Some(result) = soon(tasks.join_next()).await {
        let (index, from, server) = result.unwrap();
        heard[index] = from;
        finished.push(server);
    }
    assert_eq!(heard, [vec![2, 3], vec![1, 3], vec![1, 2]]);
}

#[tokio::test]
async fn only_the_newest_notification_is_sent() {
    let me = reserve();
    let (listener, port) = listener().await;
    let memberships = members(&[(1, port), (2, me.port)]);
    let mut server = Server::open(2, &memberships).await;
    server.send(1, 0);
    let (mut fake, message) = Fake::accept(&listener).await;
    assert_eq!(message.server, ServerId(2));
    assert_eq!(server.next().await, Up(1));
    // The runtime has one thread, which is busy here.
    (1..=100).for_each(|number| server.send(1, number));
    assert_eq!(fake.receive().await, 100);
    server.send(1, 101);
    assert_eq!(fake.receive().await, 101);
}

#[tokio::test]
async fn nothing_is_carried_over_to_another_connection() {
    let me = reserve();
    let (listener, port) = listener().await;
    let memberships = members(&[(1, port), (2, me.port)]);
    let mut server = Server::open(2, &memberships).await;
    server.send(1, 1);
    let (mut fake, _) = Fake::accept(&listener).await;
    assert_eq!(server.next().await, Up(1));
    server.send(1, 2);
    assert_eq!(fake.receive().await, 2);
    drop(fake);
    assert_eq!(server.next().await, Down(1));
    server.send(1, 3);
    let (mut fake, _) = Fake::accept(&listener).await;
    assert_eq!(server.next().await, Up(1));
    server.send(1, 4);
    assert_eq!(fake.receive().await, 4);
}

#[tokio::test]
async fn a_newer_connection_takes_the_place_of_the_older_one_silently() {
    let (me, other) = (reserve(), reserve());
    let memberships = members(&[(2, me.port), (3, other.port)]);
    let mut server = Server::open(2, &memberships).await;
    let mut first = Fake::connect(me.port, &introduction(3, &["127.0.0.1:1"])).await;
    assert_eq!(server.next().await, Up(3));
    let mut second = Fake::connect(me.port, &introduction(3, &["127.0.0.1:1"])).await;
    assert_eq!(server.next().await, Up(3));
    first.is_closed().await;
    second.send(7).await;
    assert_eq!(server.next().await, Notified(3, 7));
    server.send(3, 8);
    assert_eq!(second.receive().await, 8);
    drop(second);
    assert_eq!(server.next().await, Down(3));
}

#[tokio::test]
async fn the_lower_id_announces_itself_until_it_is_called_back() {
    let me = reserve();
    let (listener, port) = listener().await;
    let memberships = members(&[(2, me.port), (3, port)]);
    let mut server = Server::open(2, &memberships).await;
    server.send(3, 1);
    for _ in 0..2 {
        let (mut fake, message) = Fake::accept(&listener).await;
        let addresses = vec![loopback(me.port).to_string()];
        assert_eq!(message, InitialMessage { server: ServerId(2), addresses, multi_address: false });
        fake.is_closed().await;
        assert_eq!(server.next().await, Down(3));
    }
    let mut fake = Fake::connect(me.port, &introduction(3, &["127.0.0.1:1"])).await;
    server.until(Up(3)).await;
    server.send(3, 2);
    assert_eq!(fake.receive().await, 2);
}

#[tokio::test]
async fn a_lower_id_is_closed_and_called_back() {
    let me = reserve();
    let (listener, port) = listener().await;
    let memberships = members(&[(1, port), (2, me.port)]);
    let mut server = Server::open(2, &memberships).await;
    let mut connections = Vec::new();
    for number in [5, 6] {
        // The second time it has lost a connection that still stands at the server, as after a crash of its machine. An announcement
        // right after the connection counts as one that crossed it.
        let (mut fake, message) = loop {
            let mut announcing = Fake::connect(me.port, &introduction(1, &["127.0.0.1:1"])).await;
            announcing.is_closed().await;
            let called = tokio::time::timeout(Duration::from_millis(50), Fake::accept(&listener)).await;
            if let Ok(called) = called {
                break called;
            }
        };
        assert_eq!(message.server, ServerId(2));
        assert_eq!(server.next().await, Up(1));
        server.send(1, number);
        assert_eq!(fake.receive().await, number);
        fake.send(number).await;
        assert_eq!(server.next().await, Notified(1, number));
        connections.push(fake);
    }
    connections[0].is_closed().await;
}

#[tokio::test]
async fn a_server_that_comes_back_is_heard_again() {
    let (low, high) = (reserve(), reserve());
    let memberships = members(&[(1, low.port), (2, high.port)]);
    for restarted in [1, 2] {
        let staying = 3 - restarted;
        let mut stays = Server::open(staying, &memberships).await;
        let mut comes = Server::open(restarted, &memberships).await;
        comes.send(staying, 0);
        talk(&mut comes, restarted, &mut stays, staying).await;
        comes.port.stop().await;
        stays.until(Down(restarted)).await;
        let mut comes = Server::open(restarted, &memberships).await;
        comes.send(staying, 0);
        talk(&mut comes, restarted, &mut stays, staying).await;
        comes.port.stop().await;
        stays.port.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_down_until_it_is() {
    let (low, high) = (reserve(), reserve());
    let memberships = members(&[(1, low.port), (2, high.port)]);
    for (me, other) in [(1, 2), (2, 1)] {
        let mut server = Server::open(me, &memberships).await;
        server.send(other, 1);
        assert_eq!(server.next().await, Down(other));
        // It goes on trying.
        assert_eq!(server.next().await, Down(other));
        let mut late = Server::open(other, &memberships).await;
        talk(&mut server, me, &mut late, other).await;
        late.port.stop().await;
        server.port.stop().await;
    }
}

#[tokio::test]
async fn what_cannot_be_told_is_given_up_and_tried_anew_with_the_next() {
    let (me, other) = (reserve(), reserve());
    let memberships = members(&[(1, other.port), (2, me.port)]);
    let mut server = Server::open(2, &memberships).await;
    server.send(1, 1);
    for _ in 0..ATTEMPTS {
        assert_eq!(server.next().await, Down(1));
    }
    let is_quiet = tokio::time::timeout(2 * LONGEST_PAUSE, server.events.recv()).await.is_err();
    assert!(is_quiet);
    server.send(1, 1);
    assert_eq!(server.next().await, Down(1));
    assert_eq!(server.next().await, Down(1));
}

#[tokio::test]
async fn all_addresses_of_a_server_are_tried_and_told() {
    let (me, closed) = (reserve_on(&["127.0.0.1", "127.0.0.2"]), reserve());
    let (listener, port) = listener().await;
    let memberships = membership([
        (1, member(&[("127.0.0.1", closed.port), ("no-such-host.invalid", 1), ("127.0.0.1", port)])),
        (2, member(&[("127.0.0.1", me.port), ("127.0.0.2", me.port)])),
    ]);
    for multi_address in [false, true] {
        let server = Server::open_with(ElectionPortSettings { multi_address, ..settings(2, &memberships) }).await;
        server.send(1, 1);
        let (_fake, message) = Fake::accept(&listener).await;
        let mut addresses = vec![format!("127.0.0.1:{}", me.port), format!("127.0.0.2:{}", me.port)];
        addresses.truncate(if multi_address { 2 } else { 1 });
        assert_eq!(message, InitialMessage { server: ServerId(2), addresses, multi_address });
        // It listens on both.
        for host in ["127.0.0.1", "127.0.0.2"] {
            soon(TcpStream::connect((host, me.port))).await.unwrap();
        }
        server.port.stop().await;
    }
}

#[tokio::test]
async fn where_a_server_says_it_is_comes_after_where_the_server_list_says_it_is() {
    let (me, closed) = (reserve(), reserve());
    let (told, told_port) = listener().await;
    let memberships = members(&[(1, closed.port), (2, me.port)]);
    let server = Server::open(2, &memberships).await;
    let _announcing = Fake::connect(me.port, &introduction(1, &[&loopback(told_port).to_string()])).await;
    let (_fake, message) = Fake::accept(&told).await;
    assert_eq!(message.server, ServerId(2));
    server.port.stop().await;

    let (listed, listed_port) = listener().await;
    let memberships = members(&[(1, listed_port), (2, me.port)]);
    let mut server = Server::open(2, &memberships).await;
    let _announcing = Fake::connect(me.port, &introduction(1, &[&loopback(told_port).to_string()])).await;
    let (_fake, _) = Fake::accept(&listed).await;
    assert_eq!(server.next().await, Up(1));
    assert!(nobody_waits(&told).await);
}
