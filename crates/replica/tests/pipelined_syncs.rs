//! What comes behind a sync waits for it, also where that sync itself had to wait. Found in simulation: when the first sync of a client was
//! answered everything behind it went on at once, so that a read overtook the second sync.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::ensemble::World;

#[test]
fn what_comes_behind_a_second_sync_waits_for_it() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    for node in [world.leader(), world.follower()] {
        let mut client = world.connect(node);
        let requests = [
            world.sync(&mut client),
            world.get(&mut client, "/"),
            world.sync(&mut client),
            world.get(&mut client, "/"),
            world.set(&mut client, "/", b"1"),
            world.sync(&mut client),
            world.get(&mut client, "/"),
        ];
        world.settle();
        let answers: Vec<i32> = client.answers().into_iter().map(|(xid, _)| xid).collect();
        assert_eq!(answers, requests, "server {}\n{}", node + 1, world.logs());
        assert_eq!(client.connection.in_flight(), 0);
    }
}
