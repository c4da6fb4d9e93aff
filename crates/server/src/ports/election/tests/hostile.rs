//! Whatever connects to the port, servers go on talking over it.

use rookeeper_proto::election::MAX_NOTIFICATION_BYTES;

use super::super::{MAX_STRANGERS, MAX_UNKNOWN_PER_ADDRESS};
use super::*;

/// Server 2 with members 1 and 3, of which 1 is not there.
async fn server() -> (Server, Reserved, Reserved) {
    let (me, other) = (reserve(), reserve());
    let memberships = members(&[(1, other.port), (2, me.port), (3, other.port)]);
    (Server::open(2, &memberships).await, me, other)
}

/// Nothing happened before this, and the port still works.
async fn works(server: &mut Server, port: u16) {
    let mut fake = Fake::connect(port, &introduction(3, &["127.0.0.1:1"])).await;
    assert_eq!(server.next().await, Up(3));
    fake.send(1).await;
    assert_eq!(server.next().await, Notified(3, 1));
    server.send(3, 2);
    assert_eq!(fake.receive().await, 2);
    drop(fake);
    assert_eq!(server.next().await, Down(3));
}

fn versioned(version: i64, server: i64, length: i32, address: &[u8]) -> Vec<u8> {
    [&version.to_be_bytes()[..], &server.to_be_bytes(), &length.to_be_bytes(), address].concat()
}

#[tokio::test]
async fn who_cannot_be_a_peer_is_closed() {
    let (mut server, me, _other) = server().await;
    let (listener, port) = listener().await;
    let listening = loopback(port).to_string();
    let wrong = [
        introduction(2, &[&listening]),
        introduction(i64::MAX, &[&listening]),
        introduction(-1, &[&listening]),
        introduction(i64::MIN, &[&listening]),
        2i64.to_be_bytes().to_vec(),
        i64::MAX.to_be_bytes().to_vec(),
        // Lower, unknown, and nowhere to call back.
        0i64.to_be_bytes().to_vec(),
        introduction(0, &["0.0.0.0:3888"]),
        introduction(0, &["nonsense"]),
        (-1i64).to_be_bytes().to_vec(),
        (-65_537i64).to_be_bytes().to_vec(),
        versioned(-65_536, 3, 0, b""),
        versioned(-65_536, 3, -1, b""),
        versioned(-65_536, 3, 2049, b""),
        versioned(-65_535, 3, i32::MAX, b""),
        versioned(-65_535, 3, i32::MIN, b""),
    ];
    for first in wrong {
        Fake::connect(me.port, &first).await.is_closed().await;
        assert!(server.is_quiet(), "{first:?}");
    }
    // Whoever says more than anybody reads sees the end too, and no reset.
    for first in [introduction(2, &[&listening]), versioned(-65_536, 3, -1, b"")] {
        Fake::connect(me.port, &[first, vec![0; 8 << 10]].concat()).await.ends().await;
    }
    works(&mut server, me.port).await;
    assert!(nobody_waits(&listener).await, "none of them is called back");
}

#[tokio::test]
async fn frames_that_cannot_be_end_the_connection() {
    let (mut server, me, _other) = server().await;
    for length in [0, -1, i32::MIN, i32::MAX, MAX_NOTIFICATION_BYTES as i32 + 1] {
        let mut fake = Fake::connect(me.port, &introduction(3, &["127.0.0.1:1"])).await;
        assert_eq!(server.next().await, Up(3));
        fake.send_frame(length, b"").await;
        assert_eq!(server.next().await, Down(3));
        fake.is_closed().await;
    }
    // Cut in the middle.
    let mut fake = Fake::connect(me.port, &introduction(3, &["127.0.0.1:1"])).await;
    assert_eq!(server.next().await, Up(3));
    fake.send_frame(1000, b"not a thousand bytes").await;
    drop(fake);
    assert_eq!(server.next().await, Down(3));
    works(&mut server, me.port).await;
}

#[tokio::test]
async fn a_notification_that_makes_no_sense_is_passed_over() {
    let (mut server, me, _other) = server().await;
    let mut fake = Fake::connect(me.port, &introduction(3, &["127.0.0.1:1"])).await;
    assert_eq!(server.next().await, Up(3));
    let mut payload = Vec::new();
    notification(1).append(&mut payload);
    fake.send_frame(27, &payload[..27]).await;
    fake.send_frame(4, &9i32.to_be_bytes()).await;
    let length_of_config = 40..44;
    payload[length_of_config.clone()].copy_from_slice(&(-2i32).to_be_bytes());
    fake.send_frame(payload.len() as i32, &payload).await;
    payload[length_of_config].copy_from_slice(&i32::MAX.to_be_bytes());
    fake.send_frame(payload.len() as i32, &payload).await;
    fake.send(5).await;
    assert_eq!(server.next().await, Notified(3, 5));
}

#[tokio::test]
async fn the_longest_notification_passes_both_ways() {
    let (mut server, me, _other) = server().await;
    let mut fake = Fake::connect(me.port, &introduction(3, &["127.0.0.1:1"])).await;
    assert_eq!(server.next().await, Up(3));
    let longest = Notification { config: Some(vec![b'x'; MAX_NOTIFICATION_BYTES - 44]), ..notification(1) };
    let writes = fake.send_notification(&longest);
    let (_, event) = tokio::join!(writes, server.next());
    assert_eq!(event, Notified(3, 1));
    server.port.send(ServerId(3), longest);
    assert_eq!(fake.receive().await, 1);
}

#[tokio::test]
async fn the_first_bytes_may_come_one_by_one_or_with_what_follows() {
    let (mut server, me, _other) = server().await;
    let mut bytes = introduction(3, &["127.0.0.1:1"]);
    let mut fake = Fake::connect(me.port, b"").await;
    fake.stream.set_nodelay(true).unwrap();
    for byte in &bytes {
        fake.stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(server.next().await, Up(3));
    let mut payload = Vec::new();
    notification(9).append(&mut payload);
    bytes.extend((payload.len() as i32).to_be_bytes());
    bytes.extend(payload);
    let _together = Fake::connect(me.port, &bytes).await;
    assert_eq!(server.next().await, Up(3));
    assert_eq!(server.next().await, Notified(3, 9));
}

#[tokio::test]
async fn silent_clients_are_closed_and_delay_nobody() {
    let (me, other) = (reserve(), reserve());
    let memberships = members(&[(2, me.port), (3, other.port)]);
    let patient = ElectionPortSettings { handshake_timeout_ms: 60_000, ..settings(2, &memberships) };
    let mut server = Server::open_with(patient).await;
    let mut silent = Vec::new();
    for number in 0..200 {
        // Those who come too late have said something already.
        silent.push(Fake::connect(me.port, &introduction(3, &["127.0.0.1:1"])[..25]).await);
        // So many are too many from one address; the others are closed at once, and in order. Another address is served.
        if number >= MAX_UNKNOWN_PER_ADDRESS {
            silent.pop().unwrap().ends().await;
        }
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut stream = soon(socket.connect(loopback(me.port))).await.unwrap();
    stream.write_all(&introduction(3, &["127.0.0.1:1"])).await.unwrap();
    assert_eq!(server.next().await, Up(3));
    server.port.stop().await;

    let hasty = ElectionPortSettings { handshake_timeout_ms: 50, ..settings(2, &memberships) };
    let mut server = Server::open_with(hasty).await;
    for first in [&b""[..], &introduction(3, &["127.0.0.1:1"])[..25]] {
        Fake::connect(me.port, first).await.ends().await;
    }
    works(&mut server, me.port).await;
}

#[tokio::test]
async fn strangers_may_ask_but_only_so_many() {
    let (mut server, me, _other) = server().await;
    let mut strangers = Vec::new();
    for id in 0..MAX_STRANGERS as i64 {
        let mut fake = Fake::connect(me.port, &introduction(1000 + id, &["127.0.0.1:1"])).await;
        fake.send(id).await;
        // No word of a connection: nothing is for them to hear unasked.
        assert_eq!(server.next().await, Notified(1000 + id, id));
        server.send(1000 + id, id);
        assert_eq!(fake.receive().await, id);
        strangers.push(fake);
    }
    let mut one_too_many = Fake::connect(me.port, &introduction(2000, &["127.0.0.1:1"])).await;
    one_too_many.is_closed().await;
    // A server of ours is no stranger.
    works(&mut server, me.port).await;
    // The last one leaves, which nobody is told; its seat is free once the port has noticed.
    drop(strangers.pop());
    loop {
        let mut fake = Fake::connect(me.port, &introduction(2000, &["127.0.0.1:1"])).await;
        fake.stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0]).await.unwrap();
        fake.send(7).await;
        if let Ok(Some(Input::Notified { from, .. })) =
            tokio::time::timeout(Duration::from_millis(50), server.events.recv()).await
        {
            assert_eq!(from, ServerId(2000));
            break;
        }
    }
}

#[tokio::test]
async fn a_stranger_with_a_lower_id_is_called_back_where_it_says_it_is() {
    let (mut server, me, _other) = server().await;
    let (listener, port) = listener().await;
    let mut announcing = Fake::connect(me.port, &introduction(0, &[&loopback(port).to_string()])).await;
    announcing.is_closed().await;
    let (mut fake, message) = Fake::accept(&listener).await;
    assert_eq!(message.server, ServerId(2));
    fake.send(4).await;
    assert_eq!(server.next().await, Notified(0, 4));
    server.send(0, 5);
    assert_eq!(fake.receive().await, 5);
    drop(fake);
    // Nobody is there: given up, and told to nobody.
    drop(listener);
    let mut announcing = Fake::connect(me.port, &introduction(0, &[&loopback(port).to_string()])).await;
    announcing.is_closed().await;
    server.send(0, 6);
    works(&mut server, me.port).await;
}
