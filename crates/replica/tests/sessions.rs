//! The life of sessions: expiry, reconnection, takeover.

mod common;

use common::World;
use rookeeper_proto::{SessionId, Txn, Zxid};

#[test]
fn an_expired_session_takes_its_ephemerals_along_in_one_transaction() {
    let mut world = World::new();
    let (mut client, mut other) = (world.connect(), world.connect());
    world.create_with(&mut client, "/e1", b"", 1);
    world.create_with(&mut client, "/e2", b"", 1);
    world.sync();
    world.children(&mut other, "/", true);
    other.received();
    for _ in 0..6 {
        world.pass_ms(1000);
        other.connection.heard(world.now_ms);
    }
    world.sync();
    assert_eq!(world.log.last().unwrap().txn, Txn::CloseSession { paths: Some(vec!["/e1".into(), "/e2".into()]) });
    assert!(client.is_cut());
    assert_eq!(other.received(), ["event ChildrenChanged / at 0x5"]);
    assert!(world.notices[0].contains("SessionExpired"), "{:?}", world.notices);
    assert!(world.reconnect(&client).is_none());
}

#[test]
fn a_session_moves_to_a_new_connection_and_the_old_one_is_cut() {
    let mut world = World::new();
    let client = world.connect();
    let mut again = world.reconnect(&client).expect("the session lives");
    assert!(client.is_cut());
    world.create(&mut again, "/a");
    world.sync();
    assert_eq!(again.received(), ["100 ok at 0x2"]);
}

/// Stricter than the original: whoever does not know the password can't cut a session's connection.
#[test]
fn a_wrong_password_is_refused_and_changes_nothing() {
    let mut world = World::new();
    let mut client = world.connect();
    let intruder = world.dial(client.session, [7; 16], Zxid(0));
    let mut refusal = Vec::new();
    intruder.outbox.take(&mut refusal);
    assert_eq!(refusal.len(), 4 + 37);
    assert!(refusal[4..].iter().enumerate().all(|(index, byte)| *byte == 0 || index == 19));
    world.create(&mut client, "/a");
    world.sync();
    assert_eq!(client.received(), ["1 ok at 0x2"]);
}

#[test]
fn a_client_that_has_seen_more_than_this_server_is_sent_away_without_a_word() {
    let mut world = World::new();
    let connection = world.dial(SessionId::NONE, [0; 16], Zxid(1));
    let mut bytes = Vec::new();
    connection.outbox.take(&mut bytes);
    assert!(bytes.is_empty() && !connection.outbox.is_open());
    assert!(world.log.is_empty());
}

#[test]
fn an_ephemeral_on_its_way_goes_with_its_session_too() {
    let mut world = World::new();
    let mut client = world.connect();
    world.create_with(&mut client, "/e", b"", 1);
    // Expires while the create waits for the disk.
    world.pass_ms(6001);
    world.sync();
    assert_eq!(world.log.last().unwrap().txn, Txn::CloseSession { paths: Some(vec!["/e".into()]) });
    assert!(world.shared.tree().node("/e").is_none());
    assert_eq!(world.shared.tree().ephemeral_count(), 0);
}
