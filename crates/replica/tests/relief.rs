//! What clients make the server hold, together: who is cut when that is too much, and what a watch weighs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{Client, World};
use rookeeper_proto::event::{AddWatchMode, WatcherType};
use rookeeper_proto::{OpCode, SessionId, jute};
use rookeeper_replica::outbox::Excess;
use rookeeper_replica::{Connection, Settings};
use rookeeper_tree::Tree;

const LIMIT: usize = 4 << 20;

fn world() -> World {
    World::with(Settings { max_client_bytes: LIMIT, ..Settings::default() }, Tree::new())
}

/// A connection with so many KiB that are not sent.
fn holding(world: &mut World, peer: &str, kib: usize) -> Arc<Connection> {
    let connection = world.accept_from(peer);
    connection.outbox.append(|output| output.resize(kib << 10, 0));
    connection
}

fn ports(cut: &[(Arc<Connection>, usize)]) -> Vec<u16> {
    cut.iter().map(|(connection, _)| connection.peer.port()).collect()
}

#[test]
fn the_largest_of_the_largest_address_go_first_and_no_more_than_it_takes() {
    let mut world = world();
    // Together 4,300 KiB of 4,096. The single largest connection is not of the largest address.
    let single = holding(&mut world, "10.0.0.1:1", 1000);
    let many: Vec<_> = [(21, 500), (22, 800), (23, 600), (24, 700)]
        .map(|(port, kib)| holding(&mut world, &format!("10.0.0.2:{port}"), kib))
        .into();
    let small = holding(&mut world, "10.0.0.3:3", 700);
    let relief = world.shared.relieve().unwrap();
    assert_eq!(relief.held_bytes, 4300 << 10);
    // 80 % of the limit are 3,276 KiB: two have to go.
    assert_eq!(ports(&relief.cut), [22, 24]);
    assert_eq!(relief.cut[0].1, 800 << 10);
    for (connection, held) in &relief.cut {
        assert_eq!(connection.outbox.excess(), Some(Excess::Share { held: *held, limit: LIMIT }));
    }
    for connection in [&single, &many[0], &many[2], &small] {
        assert!(connection.outbox.is_open(), "{}", connection.peer);
    }
    assert_eq!(world.shared.budget.held_bytes(), 2800 << 10, "what was unsent is free at once");
    assert!(world.shared.relieve().is_none());
}

#[test]
fn an_address_pays_until_another_holds_more() {
    let mut world = world();
    (1..=9).for_each(|port| _ = holding(&mut world, &format!("10.0.0.1:{port}"), 300));
    (11..=13).for_each(|port| _ = holding(&mut world, &format!("[2001:db8::1]:{port}"), 600));
    // 2,700 and 1,800: after three of the first the second holds as much, and of equal ones the higher address is asked.
    let relief = world.shared.relieve().unwrap();
    assert_eq!(ports(&relief.cut), [9, 8, 7, 13]);
    let open = |world: &World| world.shared.connections().iter().filter(|other| other.outbox.is_open()).count();
    assert_eq!(open(&world), 8);
    (21..=24).for_each(|port| _ = holding(&mut world, &format!("10.0.0.3:{port}"), 290));
    assert_eq!(ports(&world.shared.relieve().unwrap().cut), [6, 5, 12]);
}

#[test]
fn nobody_is_cut_within_the_limit_nor_twice_for_the_same_bytes() {
    let mut world = world();
    let slow = holding(&mut world, "10.0.0.1:1", 1000);
    (2..=5).for_each(|host| _ = holding(&mut world, &format!("10.0.0.{host}:1"), 774));
    assert!(!world.shared.budget.is_exceeded() && world.shared.relieve().is_none(), "4,096 are allowed");
    // Its task does not let go of what it took out of the outbox before it has run.
    let mut meter = rookeeper_replica::budget::Meter::default();
    meter.note(slow.account(), 1000 << 10);
    let relief = world.shared.relieve().unwrap();
    assert_eq!(ports(&relief.cut), [1], "one holds 2,000");
    meter.note(slow.account(), 3000 << 10);
    assert!(world.shared.budget.is_exceeded());
    assert!(world.shared.relieve().is_none(), "it is about to go");
    meter.note(slow.account(), 0);
    world.shared.remove_connection(&slow);
    assert_eq!(world.shared.budget.held_bytes(), (4 * 774) << 10);
}

/// A client that does not have to be asked for.
fn client(world: &mut World, peer: &str) -> Client {
    let connection = world.accept_from(peer);
    Client::on(connection, SessionId(1))
}

/// Waits for a node with a name of a megabyte.
fn watch_long(world: &mut World, client: &mut Client, number: usize) {
    world.exists(client, &format!("/{number:06}{}", "x".repeat(1_000_000)), true);
    client.received();
}

#[test]
fn watches_are_weighed_by_their_paths() {
    let mut world = World::with(Settings { max_client_bytes: 40 << 20, ..Settings::default() }, Tree::new());
    let mut lone = client(&mut world, "10.0.0.1:1");
    // One connection may hold a quarter.
    let mut watched = 0;
    while lone.connection.outbox.is_open() {
        watch_long(&mut world, &mut lone, watched);
        watched += 1;
        assert!(watched <= 600, "600 names of a megabyte are held");
    }
    assert_eq!(watched, 11);
    assert_eq!(lone.connection.outbox.excess(), Some(Excess::WatchBytes(10 << 20)));
    let held = world.shared.budget.held_bytes();
    assert!((10_000_000..10_100_000).contains(&held), "{held}");
    world.shared.remove_connection(&lone.connection);
    assert_eq!(world.shared.budget.held_bytes(), 0);

    // And many connections of one address together no more than all may.
    let mut modest = client(&mut world, "10.0.0.9:1");
    watch_long(&mut world, &mut modest, 0);
    let mut many: Vec<_> = (1..=60).map(|port| client(&mut world, &format!("10.0.0.2:{port}"))).collect();
    let mut cut = 0;
    for number in 0..600 {
        watch_long(&mut world, &mut many[number / 10], number + 1);
        if let Some(relief) = world.shared.relieve() {
            for (connection, _) in &relief.cut {
                assert_eq!(connection.peer.ip().to_string(), "10.0.0.2");
                world.shared.remove_connection(connection);
                cut += 1;
            }
        }
        assert!(world.shared.budget.held_bytes() <= 40 << 20);
    }
    assert!(cut >= 56, "{cut} of 60 were cut");
    assert!(modest.connection.outbox.is_open());
}

#[test]
fn every_kind_of_watch_is_weighed_and_given_back() {
    let mut world = world();
    let mut one = client(&mut world, "10.0.0.1:1");
    let mut other = client(&mut world, "10.0.0.2:1");
    let long = format!("/{}", "x".repeat(20_000));
    let held = |world: &World| world.shared.budget.held_bytes();
    let weight_of = |world: &World, client: &Client| world.shared.watches().bytes_of(client.connection.id);
    for (mode, kind) in
        [(AddWatchMode::Persistent, WatcherType::Any), (AddWatchMode::PersistentRecursive, WatcherType::Any)]
    {
        world.read(&mut one, OpCode::AddWatch, jute::to_vec(&(Some(&long), mode as i32)));
        let alone = held(&world);
        // A persistent watch stands in both tables, a recursive one in a table and in the index by ancestors.
        assert!((40_000..41_000).contains(&alone), "{mode:?}: {alone}");
        assert!(weight_of(&world, &one) >= 40_000, "{mode:?}: {}", weight_of(&world, &one));
        world.read(&mut other, OpCode::AddWatch, jute::to_vec(&(Some(&long), mode as i32)));
        assert!((alone..alone + 400).contains(&held(&world)), "a second watcher shares the path");
        for client in [&mut one, &mut other] {
            world.read(client, OpCode::RemoveWatches, jute::to_vec(&(Some(&long), kind as i32)));
            assert_eq!(weight_of(&world, client), 0);
        }
        assert_eq!(held(&world), 0, "{mode:?}");
        assert_eq!((one.received().len(), other.received().len()), (2, 2));
    }
}
