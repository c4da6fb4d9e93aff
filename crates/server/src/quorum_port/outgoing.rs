//! What waits to be sent to another server, in order, and the sending.
//!
//! What always holds here: the order of jobs is that in which they were put in; what waits in the queue is bounded in bytes, and a peer
//! that does not take it is given up rather than waited for; one write carries all that has gathered.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::Zxid;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Bytes that may wait for one learner. A learner that loads a snapshot for minutes finds all that was written meanwhile here.
pub(super) const MAX_WAITING_BYTES: usize = 256 << 20;

/// Jobs gathered into one write.
const WRITE_BYTES: usize = 64 << 10;

/// What is to be done for a peer.
#[derive(Debug)]
pub(super) enum Job {
    Bytes(Arc<[u8]>),
    /// PROPOSAL and COMMIT for each record of the log between the two.
    Log {
        after: Zxid,
        before: Zxid,
    },
    /// SNAP and the tree.
    Snapshot,
    /// Nothing follows.
    End,
}

impl Job {
    fn weight(&self) -> usize {
        match self {
            Job::Bytes(bytes) => bytes.len(),
            Job::Log { .. } | Job::Snapshot | Job::End => 1,
        }
    }
}

/// The replica's end.
#[derive(Debug)]
pub(super) struct JobQueue {
    sender: mpsc::UnboundedSender<Job>,
    waiting_bytes: Arc<AtomicUsize>,
    limit_bytes: usize,
}

/// The peer does not take what it is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overflow;

/// The link's end.
#[derive(Debug)]
pub(super) struct Jobs {
    receiver: mpsc::UnboundedReceiver<Job>,
    waiting_bytes: Arc<AtomicUsize>,
    /// Bytes to be sent with the next write.
    gathered: Vec<u8>,
}

pub(super) fn queue(limit_bytes: usize) -> (JobQueue, Jobs) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let jobs = Jobs { receiver, waiting_bytes: waiting_bytes.clone(), gathered: Vec::new() };
    (JobQueue { sender, waiting_bytes, limit_bytes }, jobs)
}

impl JobQueue {
    pub fn push(&self, job: Job) -> Result<(), Overflow> {
        let weight = job.weight();
        if self.waiting_bytes.fetch_add(weight, Relaxed) + weight > self.limit_bytes {
            return Err(Overflow);
        }
        // A link that has ended says so itself.
        let _ = self.sender.send(job);
        Ok(())
    }
}

impl Jobs {
    /// Sends bytes as they come and returns the next job that is something else; [`Job::End`] also where the replica is gone.
    pub async fn send_bytes(&mut self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<Job> {
        loop {
            let Some(mut job) = self.receiver.recv().await else { return Ok(Job::End) };
            loop {
                let weight = job.weight();
                match job {
                    Job::Bytes(bytes) if bytes.len() + self.gathered.len() <= WRITE_BYTES => {
                        self.gathered.extend_from_slice(&bytes);
                    }
                    Job::Bytes(bytes) => {
                        self.write_gathered(stream).await?;
                        stream.write_all(&bytes).await?;
                    }
                    job => {
                        self.write_gathered(stream).await?;
                        self.waiting_bytes.fetch_sub(weight, Relaxed);
                        return Ok(job);
                    }
                }
                self.waiting_bytes.fetch_sub(weight, Relaxed);
                match self.receiver.try_recv() {
                    Ok(next) => job = next,
                    Err(_) => break,
                }
            }
            self.write_gathered(stream).await?;
        }
    }

    async fn write_gathered(&mut self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        stream.write_all(&self.gathered).await?;
        self.gathered.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: usize, value: u8) -> Job {
        Job::Bytes(vec![value; length].into())
    }

    #[tokio::test]
    async fn bytes_go_out_in_order_and_streams_take_their_turn() {
        let (queue, mut jobs) = queue(1 << 20);
        for (length, value) in [(10, 1), (WRITE_BYTES, 2), (WRITE_BYTES - 5, 3), (10, 4)] {
            queue.push(bytes(length, value)).unwrap();
        }
        queue.push(Job::Snapshot).unwrap();
        queue.push(bytes(3, 5)).unwrap();
        let mut sent = Vec::new();
        assert!(matches!(jobs.send_bytes(&mut sent).await, Ok(Job::Snapshot)));
        let expected: Vec<u8> = [vec![1; 10], vec![2; WRITE_BYTES], vec![3; WRITE_BYTES - 5], vec![4; 10]].concat();
        assert_eq!(sent, expected);
        drop(queue);
        assert!(matches!(jobs.send_bytes(&mut sent).await, Ok(Job::End)));
        assert_eq!(sent[expected.len()..], [5; 3]);
        assert_eq!(jobs.waiting_bytes.load(Relaxed), 0);
    }

    #[test]
    fn a_peer_that_takes_nothing_is_told_apart() {
        let (queue, _jobs) = queue(100);
        assert_eq!(queue.push(bytes(60, 0)), Ok(()));
        assert_eq!(queue.push(bytes(40, 0)), Ok(()));
        assert_eq!(queue.push(bytes(1, 0)), Err(Overflow));
    }
}
