//! The queue of requests that wait for their turn: nobody passes it.

mod common;

use common::World;
use rookeeper_proto::{MonotonicMs, OpCode};
use rookeeper_replica::{Arrival, Ruling, Settings, ThrottleSettings, Turn};
use rookeeper_tree::Tree;

const SET: Arrival = Arrival { op: OpCode::SetData, hung_up: false, timeout_ms: 4000 };

#[test]
fn a_newcomer_does_not_pass_those_that_wait_when_a_place_is_free() {
    let throttle = ThrottleSettings { max_requests: 1, stall_ms: 100, drops_stale: true, refuse_after_ms: None };
    let mut world = World::with(Settings { throttle: Some(throttle), ..Settings::default() }, Tree::new());
    let clients = [world.connect(), world.connect(), world.connect()];
    let mut busy = world.connect();
    world.create(&mut busy, "/on-its-way");
    assert_eq!(world.shared.outstanding(), 1);

    let mut turns: [Option<Turn>; 3] = Default::default();
    let shared = world.shared.clone();
    let mut ask =
        |client: usize| shared.take_turn(&clients[client].connection, &mut turns[client], SET, || MonotonicMs(0));
    assert_eq!((ask(0), ask(1)), (Ruling::Waits, Ruling::Waits));
    world.sync();
    assert_eq!(world.shared.outstanding(), 0);
    // The third has no place yet, and the second is not the first.
    assert_eq!((ask(2), ask(1)), (Ruling::Waits, Ruling::Waits));
    assert_eq!(ask(0), Ruling::Goes);
    // Now that one is on its way.
    assert_eq!((world.shared.outstanding(), ask(1)), (1, Ruling::Waits));
}
