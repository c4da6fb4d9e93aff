//! How long each stage of a request took, by the times that the replica was given.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::World;
use rookeeper_proto::OpCode;
use rookeeper_proto::jute;
use rookeeper_proto::request::PathRequest;
use rookeeper_replica::{Counts, Done, Histogram, Stamp};

/// Count and whole milliseconds of what was recorded since `before`.
fn since(histogram: &Histogram, before: &Counts) -> (u64, u64) {
    let now = histogram.counts();
    (now.count() - before.count(), (now.sum_ns() - before.sum_ns()) / 1_000_000)
}

#[test]
fn a_write_waits_for_the_quorum_from_where_it_is_handed_over_and_a_read_behind_it_from_its_arrival() {
    let mut world = World::new();
    let mut client = world.connect();
    let shared = world.shared.clone();
    let stages = &shared.statistics.stages;
    let (queue, quorum, reads) = (stages.queue.counts(), stages.quorum.counts(), stages.read_queue.counts());
    world.replica.take_done();
    client.connection.take_answered();
    world.pass_ms(10);
    world.create(&mut client, "/a");
    assert_eq!(world.replica.take_done(), Done { prepared: 1, answered: 0 });
    world.pass_ms(20);
    world.replica.note_handed_over(world.now().stamp);
    // A later hand-over is another transaction's.
    world.pass_ms(2);
    world.replica.note_handed_over(world.now().stamp);
    let mut body = Vec::new();
    jute::append(&mut body, &PathRequest { path: Some("/a".into()) });
    world.read(&mut client, OpCode::GetAllChildrenNumber, body);
    world.pass_ms(5);
    assert_eq!((since(&stages.queue, &queue).0, client.connection.take_answered()), (0, None));
    world.sync();
    assert_eq!(since(&stages.queue, &queue), (1, 0));
    assert_eq!(since(&stages.quorum, &quorum), (1, 7));
    assert_eq!(since(&stages.read_queue, &reads), (1, 5));
    assert_eq!(world.replica.take_done(), Done { prepared: 0, answered: 1 });
    assert_eq!(client.connection.take_answered(), Some((Stamp(37_000_000), 1)));
    assert_eq!(client.connection.take_answered(), None);
}
