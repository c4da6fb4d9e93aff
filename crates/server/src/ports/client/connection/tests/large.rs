//! Large requests: how many bytes of them may be in process, and that what is answered counts no more.

use std::sync::atomic::Ordering::Relaxed;

use super::*;

const LIMITS: &str = "largeRequestThreshold=1000\nlargeRequestMaxBytes=3500\n";

fn set(bytes: usize) -> Vec<u8> {
    jute::to_vec(&SetDataRequest { path: Some("/a".into()), data: Some(jute::ByteBuf(vec![7; bytes])), version: -1 })
}

fn refused(world: &World) -> u64 {
    world.context.shared.statistics.large_requests_refused.load(Relaxed)
}

#[tokio::test(start_paused = true)]
async fn a_large_request_has_no_place_beside_one_that_is_on_its_way_and_a_small_one_has() {
    let mut world = World::configured(LIMITS);
    let (mut first, mut second, mut third) = (world.connect().await, world.connect().await, world.connect().await);
    first.create("/a", &[]).await;
    world.takes_requests.send_replace(false);
    first.ask(OpCode::SetData, &set(2000)).await;
    sleep(Duration::from_millis(1)).await;
    third.ask(OpCode::SetData, &set(900)).await;
    second.ask(OpCode::SetData, &set(2000)).await;
    sleep(Duration::from_millis(1)).await;
    assert!(!second.connection.outbox.is_open());
    world.takes_requests.send_replace(true);
    second.ended().await;
    assert_eq!(refused(&world), 1);
    for client in [&mut first, &mut third] {
        assert_eq!(client.receive().await[12..16], [0; 4]);
    }
    // What is answered counts no more, and neither do reads.
    for _ in 0..10 {
        first.ask(OpCode::SetData, &set(3000)).await;
        assert_eq!(first.receive().await[12..16], [0; 4]);
        third.ask(OpCode::GetData, &jute::to_vec(&(Some(format!("/{}", "x".repeat(2000))), false))).await;
        assert_eq!(third.receive().await[12..16], (-101_i32).to_be_bytes());
    }
    assert_eq!(refused(&world), 1);
    assert!(world.has_session(&second), "it may go on elsewhere");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_announces_too_much_is_not_waited_for() {
    let mut world = World::configured(LIMITS);
    let mut client = world.connect().await;
    client.pipe.write_all(&4000_i32.to_be_bytes()).await.unwrap();
    let took = client.ended().await;
    // What the closing in order takes.
    assert!(took <= Duration::from_secs(2), "{took:?}");
    assert_eq!(refused(&world), 1);
}

#[tokio::test(start_paused = true)]
async fn several_large_reads_that_arrive_together_are_looked_at_one_by_one() {
    let mut world = World::configured("largeRequestThreshold=1000\nlargeRequestMaxBytes=1500\n");
    let mut client = world.connect().await;
    let read = jute::to_vec(&(Some(format!("/{}", "x".repeat(1200))), false));
    let mut bytes = Vec::new();
    for _ in 0..3 {
        let payload = client.request(OpCode::GetData, &read);
        frame::append(&mut bytes, |output| output.extend_from_slice(&payload));
    }
    client.pipe.write_all(&bytes).await.unwrap();
    for _ in 0..3 {
        assert_eq!(client.receive().await[12..16], (-101_i32).to_be_bytes());
    }
    assert_eq!(refused(&world), 0);
}
