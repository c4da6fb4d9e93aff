//! Clients that come while a leader is being looked for wait for it, for a moment. Found by use: ClickHouse, sent away in the milliseconds of
//! an election, came again after ten seconds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::ensemble::{Client, World, is_revalidation};
use rookeeper_proto::{SessionId, Zxid};
use rookeeper_replica::Serving;

const WAIT_MS: i64 = 1_000;
const MAX_WAITING: usize = 10_000;

/// Three servers, of which one, the second value, is left without the others since this moment. It was a follower.
fn left_alone() -> (World, usize) {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let (leader, last) = (world.leader(), world.follower());
    world.kill((0..3).find(|node| *node != leader && *node != last).unwrap());
    world.kill(leader);
    assert_eq!(world.serving(last), Serving::Nobody);
    (world, last)
}

fn come(world: &mut World, node: usize) -> Client {
    world.dial(node, SessionId::NONE, Zxid(0))
}

fn waits(client: &Client) -> bool {
    client.is_open() && !client.connection.is_established()
}

#[test]
fn a_client_that_comes_without_a_leader_is_served_by_the_next_one() {
    let (mut world, last) = left_alone();
    let other = (0..3).find(|node| *node != last).unwrap();
    world.pass_ms(WAIT_MS / 2);
    let client = come(&mut world, last);
    assert!(waits(&client));
    world.restart(other);
    // The two wait a little for the vote of the third.
    world.pass_ms(WAIT_MS / 2 - 1);
    assert!(client.connection.is_established(), "{}", world.logs());
    assert_ne!(world.serving(last), Serving::Nobody);
}

#[test]
fn nobody_waits_for_longer_than_a_moment_after_the_loss_of_the_leader() {
    let (mut world, last) = left_alone();
    let first = come(&mut world, last);
    world.pass_ms(WAIT_MS - 1);
    let second = come(&mut world, last);
    assert!(waits(&first) && waits(&second));
    world.pass_ms(1);
    assert!(!first.is_open() && !second.is_open());
    // The moment is not prolonged by whoever comes.
    assert!(!come(&mut world, last).is_open());
    world.pass_ms(10_000);
    assert!(!come(&mut world, last).is_open());
}

#[test]
fn whether_a_session_lives_is_asked_again_where_the_leader_dies_before_it_has_answered() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let (leader, follower) = (world.leader(), world.follower());
    let client = world.connect(follower);
    world.hold_back(follower, is_revalidation);
    let back = world.dial(follower, client.session, Zxid(0));
    assert!(waits(&back));
    world.kill(leader);
    world.let_go();
    world.pass_ms(WAIT_MS - 1);
    assert!(back.connection.is_established(), "{}", world.logs());
    assert_eq!(back.connection.session(), client.session);
}

#[test]
fn who_has_waited_is_judged_by_what_holds_then() {
    let (mut world, last) = left_alone();
    let other = (0..3).find(|node| *node != last).unwrap();
    let gone = come(&mut world, last);
    let ahead = world.dial(last, SessionId::NONE, Zxid(i64::MAX));
    assert!(waits(&gone) && waits(&ahead));
    gone.connection.outbox.close();
    world.restart(other);
    world.pass_ms(WAIT_MS - 1);
    assert_ne!(world.serving(last), Serving::Nobody);
    assert!(!gone.connection.is_established());
    // It has seen what this server has not.
    assert!(!ahead.is_open() && !ahead.connection.is_established());
}

#[test]
fn only_so_many_wait() {
    let (mut world, last) = left_alone();
    let clients: Vec<Client> = (0..MAX_WAITING).map(|_| come(&mut world, last)).collect();
    assert!(clients.iter().all(waits));
    assert!(!come(&mut world, last).is_open());
    let other = (0..3).find(|node| *node != last).unwrap();
    world.restart(other);
    // They are let in by portions.
    world.pass_ms(WAIT_MS - 1);
    assert!(clients.iter().all(|client| client.connection.is_established()));
}
