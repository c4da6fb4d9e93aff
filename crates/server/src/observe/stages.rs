//! How long each stage of a request takes, as the threads of this server measure it. The stages that the replica sees are in its statistics.
//!
//! What always holds here: each histogram is written by one thread at a time, so nobody waits for anybody to count.

use std::cell::Cell;

use rookeeper_replica::{Counts, Histogram, Stages};

use super::figures::Figures;

/// Histograms of threads that serve clients, besides one for all others.
const SLOTS: usize = 17;

thread_local! {
    static SLOT: Cell<usize> = const { Cell::new(0) };
}

/// Stages that the replica thread and whoever writes the log measure.
#[derive(Debug, Default)]
pub(crate) struct ServerStages {
    /// From the replica's taking of a batch of requests until their transactions are made. Written by the replica thread.
    pub prepare: Histogram,
    /// From handing a transaction to the log until the system has it. Written by whoever drives the storage.
    pub log_write: Histogram,
    /// Until the disk has it. Written by whoever drives the storage.
    pub sync: Histogram,
    /// From a commit until the tree and the outboxes of the clients have what follows from it. Written by the replica thread.
    pub apply: Histogram,
}

/// Stages that a thread measures which serves clients.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ClientSlot {
    /// From the arrival of a read until it is its turn, and the tree is locked for it.
    pub read_queue: Histogram,
    /// Until its answer is in the outbox.
    pub read_answer: Histogram,
    /// From there until the socket has the answer.
    pub read_reply: Histogram,
    pub write_reply: Histogram,
}

/// The same of all such threads.
#[derive(Debug)]
pub(crate) struct ClientStages(Box<[ClientSlot; SLOTS]>);

impl Default for ClientStages {
    fn default() -> ClientStages {
        ClientStages(Box::new(std::array::from_fn(|_| ClientSlot::default())))
    }
}

impl ClientStages {
    /// Where the calling thread counts.
    pub fn mine(&self) -> &ClientSlot {
        &self.0[SLOT.get()]
    }

    fn sum(&self, of: fn(&ClientSlot) -> &Histogram) -> Counts {
        let mut sum = Counts::default();
        self.0.iter().for_each(|slot| of(slot).add_to(&mut sum));
        sum
    }
}

/// From now on the calling thread, which is the one of this number among those that serve clients, counts for itself.
pub(crate) fn count_alone(number: usize) {
    SLOT.set(1 + number % (SLOTS - 1));
}

/// Each stage of a write by its name, in the order in which a write goes through them.
pub(crate) fn of_writes(replica: &Stages, figures: &Figures) -> Vec<(&'static str, Counts)> {
    let ServerStages { prepare, log_write, sync, apply } = &figures.stages;
    vec![
        ("queue", replica.queue.counts()),
        ("prepare", prepare.counts()),
        ("log_write", log_write.counts()),
        ("sync", sync.counts()),
        ("quorum", replica.quorum.counts()),
        ("apply", apply.counts()),
        ("reply", figures.client_stages.sum(|slot| &slot.write_reply)),
    ]
}

/// The same of a read. What waits for a write of its session before it waits in the queue.
pub(crate) fn of_reads(replica: &Stages, figures: &Figures) -> Vec<(&'static str, Counts)> {
    let clients = &figures.client_stages;
    let mut queue = clients.sum(|slot| &slot.read_queue);
    replica.read_queue.add_to(&mut queue);
    vec![
        ("queue", queue),
        ("answer", clients.sum(|slot| &slot.read_answer)),
        ("reply", clients.sum(|slot| &slot.read_reply)),
    ]
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rookeeper_replica::Stamp;

    use super::*;

    #[test]
    fn threads_count_without_losing_what_others_count() {
        let stages = ClientStages::default();
        thread::scope(|scope| {
            for number in 0..4 {
                let stages = &stages;
                scope.spawn(move || {
                    count_alone(number);
                    (0..10_000).for_each(|_| stages.mine().read_answer.record(Stamp(0), Stamp(1000)));
                });
            }
        });
        assert_eq!(stages.sum(|slot| &slot.read_answer).count(), 40_000);
    }
}
