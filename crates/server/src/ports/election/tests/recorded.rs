//! The bytes of the original, recorded.

use super::*;

const RECORDED: &str = include_str!("../../../../../../tests/fixtures/quorum/election.txt");

fn recorded(kind: &str) -> Vec<Vec<u8>> {
    let from_hex = |hex: &str| -> Vec<u8> {
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect()
    };
    let lines = RECORDED.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' '));
    lines.map(from_hex).collect()
}

#[tokio::test]
async fn every_recorded_notification_is_heard() {
    let (me, other) = (reserve(), reserve());
    let memberships = members(&[(1, me.port), (3, other.port)]);
    let mut server = Server::open(1, &memberships).await;
    let introduction = recorded("INITIAL").into_iter().find(|bytes| bytes[8..16] == 3i64.to_be_bytes()).unwrap();
    let mut fake = Fake::connect(me.port, &introduction).await;
    assert_eq!(server.next().await, Up(3));
    let frames = recorded("NOTIFICATION");
    assert!(frames.len() > 10);
    for frame in &frames {
        fake.stream.write_all(frame).await.unwrap();
        let heard = soon(server.events.recv()).await.unwrap();
        let Input::Notified { from, notification } = heard else { panic!("{heard:?}") };
        assert_eq!((from, &notification), (ServerId(3), &Notification::decode(&frame[4..]).unwrap()));
        // What it says comes out of this server as the same bytes.
        server.port.send(from, notification);
        let mut echo = vec![0; frame.len()];
        soon(fake.stream.read_exact(&mut echo)).await.unwrap();
        assert_eq!(&echo, frame);
    }
}

#[tokio::test]
async fn the_introduction_has_the_recorded_form() {
    let me = reserve();
    let (listener, port) = listener().await;
    let memberships = members(&[(2, port), (3, me.port)]);
    let server = Server::open(3, &memberships).await;
    server.send(2, 1);
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    let recorded = recorded("INITIAL").into_iter().find(|bytes| bytes[8..16] == 3i64.to_be_bytes()).unwrap();
    // Up to the length of the address, which tells another host and port.
    let address = loopback(me.port).to_string();
    let mut expected = recorded[..16].to_vec();
    expected.extend((address.len() as i32).to_be_bytes());
    expected.extend(address.as_bytes());
    let mut bytes = vec![0; expected.len()];
    soon(stream.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(bytes, expected);
}
