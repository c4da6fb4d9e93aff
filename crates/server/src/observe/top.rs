//! Who asks for the most: which requests of this thread's clients are looked at, and the line in the log about it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use rookeeper_proto::OpCode;
use rookeeper_replica::Stamp;
use rookeeper_replica::top::{About, Measure, Sample, Sampler, asks_for_watch, path_of};
use tracing::info;

use crate::config::PathStatistics;
use crate::context::Context;

/// Requests of so many bytes are looked at in any case.
const LARGE_BYTES: usize = 64 << 10;

thread_local! {
    static SAMPLER: Cell<Sampler> = const { Cell::new(Sampler::new(0x9e37_79b9)) };
}

/// A request that is to be looked at; none for most of them.
pub(crate) fn look(now: Stamp, op: OpCode, body: &[u8]) -> Option<Sample> {
    let weight = if body.len() >= LARGE_BYTES {
        1
    } else {
        let mut sampler = SAMPLER.get();
        let weight = sampler.take(now);
        SAMPLER.set(sampler);
        weight?
    };
    Some(Sample {
        path: path_of(op, body).map(Box::from),
        op,
        bytes: body.len() as u64,
        watches: u64::from(asks_for_watch(op, body)),
        weight,
    })
}

/// Tells the log from time to time which paths are asked for the most, as long as the runtime lives.
pub(crate) async fn tell(context: Arc<Context>, settings: PathStatistics) {
    tokio::time::sleep(settings.initial_delay).await;
    loop {
        let largest = context.shared.top.largest(context.clock.stamp(), About::Path, Measure::Requests, settings.paths);
        let told: Vec<String> = largest.iter().map(|entry| format!("{:?} {}", entry.name, entry.count)).collect();
        if !told.is_empty() {
            info!("the paths with the most requests within a minute, with their number: {}", told.join(", "));
        }
        tokio::time::sleep(settings.delay.max(Duration::from_secs(1))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_requests_are_always_looked_at_and_stand_for_themselves() {
        let mut large = vec![0, 0, 0, 2, b'/', b'a'];
        large.resize(LARGE_BYTES, 0);
        let now = Stamp(1);
        for _ in 0..100 {
            let sample = look(now, OpCode::SetData, &large).expect("it is large");
            assert_eq!((sample.path.as_deref(), sample.weight, sample.bytes), (Some("/a"), 1, LARGE_BYTES as u64));
        }
        let small = (0..10_000).filter(|_| look(now, OpCode::SetData, b"").is_some()).count();
        assert!(small < 100, "{small}");
    }
}
