//! Reads that take long are told, also where no single read of a batch did, and requests are counted for `top`, unless that is off. Time is real here,
//! and every duration is a long one.

use rookeeper_replica::top::{About, Measure};

use super::*;
use crate::observe::slow::SlowRecord;

fn world() -> World {
    World::with("", Settings { slow_read_ns: 1, ..Settings::default() })
}

/// What was told of reads, the newest first.
fn told(world: &World) -> Vec<SlowRecord> {
    world.context.figures.slow.newest()
}

async fn ask_together(client: &mut Client, asked: &[(OpCode, &str)]) {
    let mut bytes = Vec::new();
    for (op, path) in asked {
        let request = client.request(*op, &jute::to_vec(&(Some((*path).to_owned()), false)));
        frame::append(&mut bytes, |output| output.extend_from_slice(&request));
    }
    client.pipe.write_all(&bytes).await.expect("the pipe has room");
    for _ in asked {
        client.receive().await;
    }
}

#[tokio::test]
async fn a_batch_of_reads_is_told_as_a_whole_by_the_read_with_the_largest_answer() {
    let mut world = world();
    let mut client = world.connect().await;
    client.create("/little", b"x").await;
    client.create("/much", &[b'x'; 1000]).await;
    let batch = [
        (OpCode::GetChildren, "/little"),
        (OpCode::Exists, "/none"),
        (OpCode::GetData, "/much"),
        (OpCode::GetData, "/little"),
    ];
    ask_together(&mut client, &batch).await;
    let records = told(&world);
    let named = |record: &SlowRecord| (record.operation.clone(), record.path.clone(), record.requests);
    let expected = ("getData".to_owned(), Some("/much".into()), 4);
    assert_eq!(records.iter().map(named).collect::<Vec<_>>(), [expected]);
    assert_eq!(world.context.figures.slow.count(), 4);
    let stages: Vec<&str> = records[0].stages_us.iter().map(|(stage, _)| *stage).collect();
    assert_eq!((stages.as_slice(), records[0].session), (["queue", "answer"].as_slice(), client.session));

    // One alone stands for itself.
    ask_together(&mut client, &[(OpCode::GetChildren2, "/")]).await;
    assert_eq!(named(&told(&world)[0]), ("getChildren2".to_owned(), Some("/".into()), 1));
}

/// Its answer is made in portions.
#[tokio::test]
async fn a_long_list_is_told() {
    let mut world = world();
    let mut client = world.connect().await;
    client.create("/many", b"").await;
    for number in 0..4000 {
        client.create(&format!("/many/{}{number}", "x".repeat(100)), b"").await;
    }
    ask_together(&mut client, &[(OpCode::Exists, "/many"), (OpCode::GetChildren, "/many"), (OpCode::Exists, "/many")])
        .await;
    let records: Vec<(String, u64)> =
        told(&world).into_iter().map(|record| (record.operation, record.requests)).collect();
    let expected = [("exists", 1), ("getChildren", 1), ("exists", 1)];
    assert_eq!(records, expected.map(|(operation, requests)| (operation.to_owned(), requests)));
}

#[tokio::test]
async fn what_is_quick_is_not_told() {
    let mut world = World::with("", Settings { slow_read_ns: 3_600_000_000_000, ..Settings::default() });
    let mut client = world.connect().await;
    ask_together(&mut client, &[(OpCode::Exists, "/a"), (OpCode::Exists, "/b")]).await;
    assert_eq!((told(&world), world.context.figures.slow.count()), (Vec::new(), 0));
}

#[tokio::test]
async fn requests_are_counted_by_their_paths_unless_that_is_off() {
    for (more, is_counted) in [("", true), ("top.enabled=false\n", false)] {
        let mut world = World::configured(more);
        let mut client = world.connect().await;
        client.create("/written", b"").await;
        ask_together(&mut client, &[(OpCode::Exists, "/read"), (OpCode::GetData, "/read")]).await;
        let (context, now) = (&world.context, world.context.clock.stamp());
        // Of those that come at the same time some stand for the others.
        let counted = |measure| !context.shared.top.largest(now, About::Path, measure, 10).is_empty();
        let all = [Measure::Requests, Measure::Bytes, Measure::Time].map(counted);
        assert_eq!(all, [is_counted; 3], "{more}");
    }
}
