//! Requests that wait for their turn, and what becomes of them.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_replica::Statistics;

use super::*;

/// Clients with a session each, of which the first has a write on its way that the replica does not take, and nothing else may go.
async fn behind_a_stall<const COUNT: usize>(more: &str) -> (World, Client, [Client; COUNT]) {
    let mut world = World::configured(&format!("request_throttle_max_requests=1\n{more}"));
    let mut first = world.connect().await;
    let mut others = Vec::new();
    for _ in 0..COUNT {
        others.push(world.connect().await);
    }
    first.create("/a", &[]).await;
    world.takes_requests.send_replace(false);
    first.set("/a", 0).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(world.context.shared.outstanding(), 1);
    (world, first, others.try_into().expect("as many as were asked for"))
}

impl Client {
    async fn set(&mut self, path: &str, version: i32) {
        let request = SetDataRequest { path: Some(path.into()), data: Some(jute::ByteBuf::default()), version };
        self.ask(OpCode::SetData, &jute::to_vec(&request)).await;
    }

    /// The error of the next answer.
    async fn refusal(&mut self) -> i32 {
        let answer = self.receive().await;
        i32::from_be_bytes(answer[12..16].try_into().expect("four bytes"))
    }
}

impl World {
    fn count(&self, counter: fn(&Statistics) -> &AtomicU64) -> u64 {
        counter(&self.context.shared.statistics).load(Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_limit_have_their_turn_in_the_order_in_which_they_came_and_reads_do_not_wait() {
    let (world, mut first, [mut second, mut third, mut reader]) = behind_a_stall("").await;
    // Each names the version that only the one before it can have made.
    second.set("/a", 1).await;
    sleep(Duration::from_millis(1)).await;
    third.set("/a", 2).await;
    second.set("/a", 3).await;
    sleep(Duration::from_millis(950)).await;
    assert_eq!(world.context.shared.outstanding(), 1, "the others wait");
    let waits = world.count(|statistics| &statistics.throttle_waits);
    assert!((9..=12).contains(&waits), "the first one looks again every 100 ms: {waits}");
    reader.ask(OpCode::GetData, &jute::to_vec(&(Some("/a"), false))).await;
    assert_eq!(timeout(Duration::from_millis(1), reader.refusal()).await, Ok(0));
    world.takes_requests.send_replace(true);
    assert_eq!((first.refusal().await, second.refusal().await), (0, 0));
    assert_eq!((third.refusal().await, second.refusal().await), (0, 0));
    let statistics = &world.context.shared.statistics;
    assert_eq!((statistics.throttle_wait_ms.count(), statistics.throttle_wait_ms.max()), (5, 951));
    assert_eq!(world.count(|statistics| &statistics.throttled_requests), 0);
}

#[tokio::test(start_paused = true)]
async fn what_has_waited_too_long_is_refused_in_its_place_and_what_comes_next_is_not() {
    let (world, mut first, [mut second]) = behind_a_stall("throttled_op_wait_time=500\n").await;
    second.set("/a", -1).await;
    sleep(Duration::from_millis(501)).await;
    second.ask(OpCode::Ping, &[]).await;
    world.takes_requests.send_replace(true);
    assert_eq!(first.refusal().await, 0);
    assert_eq!(second.refusal().await, -127);
    assert_eq!(second.refusal().await, 0, "the ping");
    // Neither was the node changed a second time.
    second.set("/a", 1).await;
    assert_eq!(second.refusal().await, 0);
    assert_eq!(world.count(|statistics| &statistics.throttled_requests), 1);
    assert_eq!(world.context.shared.outstanding(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_comes_behind_what_its_client_asked_for_before() {
    let (world, mut first, []) = behind_a_stall("throttled_op_wait_time=500\n").await;
    first.set("/a", 1).await;
    sleep(Duration::from_millis(501)).await;
    world.takes_requests.send_replace(true);
    assert_eq!((first.refusal().await, first.refusal().await), (0, -127));
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_client_hangs_up_while_it_waits_is_dropped_with_its_connection() {
    let (world, mut first, [mut second]) = behind_a_stall("").await;
    second.set("/a", 1).await;
    sleep(Duration::from_millis(10)).await;
    second.pipe.shutdown().await.unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(world.count(|statistics| &statistics.stale_requests_dropped), 1);
    world.takes_requests.send_replace(true);
    second.ended().await;
    assert_eq!(first.refusal().await, 0);
    first.set("/a", 1).await;
    assert_eq!(first.refusal().await, 0, "nobody changed it since");
    assert!(world.has_session(&second));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_outlives_its_session_timeout_is_dropped_where_that_is_asked_for() {
    for (more, dropped) in [("request_stale_latency_check=true\n", 1), ("", 0)] {
        let (world, _first, [mut second]) = behind_a_stall(more).await;
        second.set("/a", 1).await;
        // It goes on living meanwhile.
        for _ in 0..3 {
            sleep(Duration::from_millis(TIMEOUT_MS as u64 / 2)).await;
            _ = timeout(Duration::from_millis(1), second.ask(OpCode::Ping, &[])).await;
        }
        assert_eq!(world.count(|statistics| &statistics.stale_requests_dropped), dropped, "{more}");
        assert_eq!(world.count(|statistics| &statistics.stale_requests), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_stale_and_not_to_be_dropped_goes_and_is_counted() {
    let (world, mut first, [mut second]) = behind_a_stall("request_throttle_drop_stale=false\n").await;
    second.set("/a", 1).await;
    sleep(Duration::from_millis(10)).await;
    second.pipe.shutdown().await.unwrap();
    sleep(Duration::from_millis(10)).await;
    world.takes_requests.send_replace(true);
    assert_eq!(first.refusal().await, 0);
    sleep(Duration::from_millis(10)).await;
    first.set("/a", 2).await;
    assert_eq!(first.refusal().await, 0, "the second one has changed it");
    let stale = [
        world.count(|statistics| &statistics.stale_requests),
        world.count(|statistics| &statistics.stale_requests_dropped),
    ];
    assert_eq!(stale, [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_hears_when_nobody_waits_for_a_turn_any_more() {
    let (world, mut first, [mut second]) = behind_a_stall("").await;
    second.set("/a", 1).await;
    sleep(Duration::from_millis(10)).await;
    let nobody_waits = || std::future::poll_fn(|task| world.context.shared.poll_no_turns(task));
    assert!(timeout(Duration::from_secs(1), nobody_waits()).await.is_err());
    let (_, ()) = tokio::join!(async { world.takes_requests.send_replace(true) }, nobody_waits());
    assert_eq!((first.refusal().await, second.refusal().await), (0, 0));
}
