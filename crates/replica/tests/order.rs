//! The order in which one session sees its answers.

mod common;

use common::World;
use proptest::prelude::*;
use rookeeper_proto::OpCode;
use rookeeper_proto::jute::{self, Buffer};
use rookeeper_proto::request::WriteRequest;

#[test]
fn a_read_between_two_writes_sees_the_first_and_not_the_second() {
    let mut world = World::new();
    let mut client = world.connect();
    world.create(&mut client, "/a");
    world.sync();
    client.received();

    world.set(&mut client, "/a", b"1");
    world.get(&mut client, "/a", false);
    world.set(&mut client, "/a", b"2");
    world.get(&mut client, "/a", false);
    assert_eq!(client.received(), Vec::<String>::new(), "nothing is answered before it is durable");
    world.sync();

    let values: Vec<(i32, String)> = client
        .bodies()
        .into_iter()
        .filter(|(xid, _)| matches!(xid, 3 | 5))
        .map(|(xid, body)| (xid, String::from_utf8_lossy(&jute::from_slice::<Buffer<'_>>(&body).unwrap()).into_owned()))
        .collect();
    assert_eq!(values, [(3, "1".to_owned()), (5, "2".to_owned())]);
}

#[test]
fn answers_come_in_the_order_of_requests_failed_ones_included() {
    let mut world = World::new();
    let mut client = world.connect();
    world.create(&mut client, "/a");
    world.create(&mut client, "/a");
    world.get(&mut client, "/nothing", false);
    world.read(&mut client, OpCode::Ping, vec![]);
    world.delete(&mut client, "/a");
    world.sync();
    assert_eq!(
        client.received(),
        ["1 ok at 0x2", "2 NodeExists at 0x3", "3 NoNode at 0x3", "-2 ok at 0x3", "4 ok at 0x4",]
            .map(|line| line.replace("4 ok", "5 ok"))
    );
}

#[test]
fn what_follows_a_close_is_refused_and_the_connection_ends() {
    let mut world = World::new();
    let mut client = world.connect();
    world.create_with(&mut client, "/e", b"", 1);
    world.write(&mut client, OpCode::CloseSession, WriteRequest::CloseSession);
    world.create(&mut client, "/late");
    world.sync();
    assert_eq!(client.received()[..2], ["1 ok at 0x2", "2 ok at 0x3"]);
    let mut other = world.connect();
    world.exists(&mut other, "/e", false);
    world.exists(&mut other, "/late", false);
    assert_eq!(other.received(), ["1 NoNode at 0x5", "2 NoNode at 0x5"]);
}

/// A small request that names a large node many times must not make a huge answer.
#[test]
fn the_answer_to_a_multi_read_is_bounded() {
    let mut world = World::new();
    let mut client = world.connect();
    world.create_with(&mut client, "/large", &vec![7; 1 << 20], 0);
    world.sync();
    client.received();
    let reads = |count: usize| {
        let mut body = Vec::new();
        for _ in 0..count {
            jute::append(&mut body, &(OpCode::GetData.number(), false, -1, Some("/large"), false));
        }
        jute::append(&mut body, &(-1, true, -1));
        body
    };
    world.read(&mut client, OpCode::MultiRead, reads(3));
    assert_eq!(client.received(), ["2 ok at 0x2"]);
    world.read(&mut client, OpCode::MultiRead, reads(1000));
    let bodies = client.bodies();
    assert_eq!((bodies.len(), bodies[0].1.len()), (1, 0), "refused, without a body");
}

proptest! {
    /// Clients write and read counters at random while the disk answers at random: each read sees the last write of its own session
    /// and never an older state than the session saw before; each answer comes in order.
    #[test]
    fn every_session_sees_its_own_writes_in_order(steps in prop::collection::vec((0..3usize, 0..4u8), 1..120)) {
        let mut world = World::new();
        let mut clients: Vec<_> = (0..3).map(|_| world.connect()).collect();
        for index in 0..3 {
            let mut client = world.connect();
            world.create(&mut client, &format!("/{index}"));
        }
        world.sync();
        let mut written = [0u32; 3];
        let mut expected: Vec<Vec<(i32, Option<u32>)>> = vec![Vec::new(); 3];
        let mut received: Vec<Vec<(i32, Vec<u8>)>> = vec![Vec::new(); 3];
        for (index, step) in steps {
            let client = &mut clients[index];
            let path = format!("/{index}");
            match step {
                0 => {
                    written[index] += 1;
                    world.set(client, &path, &written[index].to_be_bytes());
                    let xid = expected[index].len() as i32 + 1;
                    expected[index].push((xid, None));
                }
                1 => {
                    world.get(client, &path, false);
                    let xid = expected[index].len() as i32 + 1;
                    expected[index].push((xid, Some(written[index])));
                }
                2 => world.sync_one(),
                _ => received[index].extend(client.bodies()),
            }
        }
        world.sync();
        for index in 0..3 {
            received[index].extend(clients[index].bodies());
            let xids: Vec<i32> = received[index].iter().map(|(xid, _)| *xid).collect();
            let expected_xids: Vec<i32> = expected[index].iter().map(|(xid, _)| *xid).collect();
            prop_assert_eq!(xids, expected_xids);
            for ((_, body), (_, value)) in received[index].iter().zip(&expected[index]) {
                let Some(value) = value else { continue };
                let data = jute::from_slice::<Buffer<'_>>(body).unwrap();
                let seen = if data.is_empty() { 0 } else { u32::from_be_bytes(data.0.try_into().unwrap()) };
                prop_assert_eq!(seen, *value);
            }
        }
    }
}
