//! What is written below each child of the root, counted as the original does (`updateWriteStat`): the length of the path and of the data.

mod common;

use common::{Client, World};
use rookeeper_proto::multi::WriteOp;

fn told_writes(world: &World) -> Vec<(String, u64, u64)> {
    let all = world.shared.statistics.written_bytes.summaries();
    all.into_iter().map(|(name, series)| (name.to_owned(), series.count(), series.sum())).collect()
}

fn of(name: &str, count: u64, sum: u64) -> (String, u64, u64) {
    (name.to_owned(), count, sum)
}

fn with_nodes() -> (World, Client) {
    let mut world = World::new();
    let mut client = world.connect();
    world.create_with(&mut client, "/app", b"12345", 0);
    world.create_with(&mut client, "/app/e", b"", 1);
    world.sync();
    (world, client)
}

#[test]
fn writes_count_where_they_succeed_and_also_what_a_session_leaves() {
    let (mut world, mut client) = with_nodes();
    assert_eq!(told_writes(&world), [of("app", 2, 4 + 5 + 6)]);
    world.set(&mut client, "/app", b"123");
    world.set(&mut client, "/nope", b"123");
    world.create(&mut client, "/app");
    world.multi(
        &mut client,
        vec![
            WriteOp::Create(common::create("/other", b"1234567", 0)),
            WriteOp::Delete(common::path_version("/other", -1)),
        ],
    );
    world.sync();
    assert_eq!(told_writes(&world), [of("app", 3, 15 + 4 + 3), of("other", 2, 6 + 7 + 6)]);
    for _ in 0..4 {
        world.pass_ms(2000);
    }
    world.sync();
    assert_eq!(told_writes(&world)[0], of("app", 4, 22 + 6), "an ephemeral node of a session that ended");
    world.shared.statistics.reset();
    assert_eq!(told_writes(&world), []);
}
