//! The queue of what is to be sent to another server, in order, and the sending.
//!
//! A few small packets that nothing waits before go from the replica's thread to the socket at once: waking the link's task for them takes
//! longer than sending them. All else goes through the queue to the task.
//!
//! What always holds here: the order of jobs is that in which they were put in; what waits in the queue is bounded in bytes, and a peer
//! that does not take it is given up rather than waited for; one write carries all that has gathered; the replica's thread never blocks.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

use parking_lot::Mutex;
use rookeeper_proto::Zxid;
use rustix::net::SendFlags;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Bytes that may wait for one learner. A learner that loads a snapshot for minutes finds all that was written meanwhile here.
pub(crate) const MAX_WAITING_BYTES: usize = 256 << 20;

/// Jobs gathered into one write.
const WRITE_BYTES: usize = 64 << 10;

/// No more than this is sent from the replica's thread at once.
const DIRECT_BYTES: usize = 4 << 10;

/// A piece of work for a peer.
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
    state: Arc<State>,
    limit_bytes: usize,
    /// To be sent from the replica's thread. Nothing waits in the queue while there is something here.
    direct: Vec<u8>,
}

/// The peer does not take what it is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overflow;

/// The link's end.
#[derive(Debug)]
pub(super) struct Jobs {
    receiver: mpsc::UnboundedReceiver<Job>,
    state: Arc<State>,
    /// Bytes to be sent with the next write.
    gathered: Vec<u8>,
    /// The weight of the job that was returned last.
    returned: usize,
}

/// The state that both ends of the queue see.
#[derive(Debug, Default)]
struct State {
    /// Bytes that were put in and that the kernel does not have yet. Zero: the link's task has nothing to do.
    waiting_bytes: AtomicUsize,
    /// The socket of the link, while there is one.
    socket: Mutex<Option<OwnedFd>>,
}

pub(super) fn queue(limit_bytes: usize) -> (JobQueue, Jobs) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let state = Arc::new(State::default());
    let jobs = Jobs { receiver, state: state.clone(), gathered: Vec::new(), returned: 0 };
    (JobQueue { sender, state, limit_bytes, direct: Vec::new() }, jobs)
}

impl JobQueue {
    /// Puts a job in. Bytes are sure to leave with the next [`JobQueue::flush`], one for all of them.
    pub fn push(&mut self, job: Job) -> Result<(), Overflow> {
        if let Job::Bytes(bytes) = &job
            && self.direct.len() + bytes.len() <= DIRECT_BYTES
            && self.state.waiting_bytes.load(Acquire) == 0
        {
            self.direct.extend_from_slice(bytes);
            return Ok(());
        }
        self.enqueue_direct()?;
        self.enqueue(job)
    }

    /// Bytes that the kernel does not have yet.
    pub fn waiting(&self) -> usize {
        self.direct.len() + self.state.waiting_bytes.load(Acquire)
    }

    /// Sends what was put in, or leaves it to the link's task.
    pub fn flush(&mut self) -> Result<(), Overflow> {
        if self.direct.is_empty() {
            return Ok(());
        }
        if let Some(socket) = &*self.state.socket.lock() {
            // After an error the link's task tries, meets the same error, and says so.
            let sent = rustix::net::send(socket, &self.direct, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            self.direct.drain(..sent.unwrap_or(0));
        }
        self.enqueue_direct()
    }

    fn enqueue_direct(&mut self) -> Result<(), Overflow> {
        if self.direct.is_empty() {
            return Ok(());
        }
        let job = Job::Bytes(self.direct.as_slice().into());
        self.direct.clear();
        self.enqueue(job)
    }

    fn enqueue(&self, job: Job) -> Result<(), Overflow> {
        let weight = job.weight();
        if self.state.waiting_bytes.fetch_add(weight, AcqRel) + weight > self.limit_bytes {
            return Err(Overflow);
        }
        // A link that has ended says so itself.
        let _ = self.sender.send(job);
        Ok(())
    }
}

impl Jobs {
    /// From now on the replica's thread may send to this socket while nothing waits for the link's task. The socket is closed with the last of the
    /// two that hold it, so the task drops this where the link ends.
    pub fn connected(&self, socket: Option<BorrowedFd<'_>>) {
        // Without a second descriptor the task sends everything.
        *self.state.socket.lock() = socket.and_then(|socket| socket.try_clone_to_owned().ok());
    }

    /// Sends bytes as they come and returns the next job that is something else; [`Job::End`] also where the replica is gone. The job before
    /// must be done when this is called.
    pub async fn send_bytes(&mut self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<Job> {
        self.done(self.returned);
        self.returned = 0;
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
                        stream.flush().await?;
                        self.done(weight);
                    }
                    job => {
                        self.write_gathered(stream).await?;
                        self.returned = weight;
                        return Ok(job);
                    }
                }
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
        stream.flush().await?;
        self.done(self.gathered.len());
        self.gathered.clear();
        Ok(())
    }

    fn done(&self, weight: usize) {
        self.state.waiting_bytes.fetch_sub(weight, AcqRel);
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        *self.state.socket.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::*;

    fn bytes(length: usize, value: u8) -> Job {
        Job::Bytes(vec![value; length].into())
    }

    fn sockets() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // A test that waits for bytes which never arrive fails.
        theirs.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        (ours, theirs)
    }

    fn is_pending(future: impl Future) -> bool {
        matches!(pin!(future).poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
    }

    #[tokio::test]
    async fn bytes_go_out_in_order_and_streams_take_their_turn() {
        let (mut queue, mut jobs) = queue(1 << 20);
        for (length, value) in [(10, 1), (WRITE_BYTES, 2), (WRITE_BYTES - 5, 3), (10, 4)] {
            queue.push(bytes(length, value)).unwrap();
        }
        queue.push(Job::Snapshot).unwrap();
        queue.push(bytes(3, 5)).unwrap();
        queue.flush().unwrap();
        let mut sent = Vec::new();
        assert!(matches!(jobs.send_bytes(&mut sent).await, Ok(Job::Snapshot)));
        let expected: Vec<u8> = [vec![1; 10], vec![2; WRITE_BYTES], vec![3; WRITE_BYTES - 5], vec![4; 10]].concat();
        assert_eq!(sent, expected);
        drop(queue);
        assert!(matches!(jobs.send_bytes(&mut sent).await, Ok(Job::End)));
        assert_eq!(sent[expected.len()..], [5; 3]);
        assert_eq!(jobs.state.waiting_bytes.load(Acquire), 0);
    }

    #[tokio::test]
    async fn what_nothing_waits_before_is_sent_at_once() {
        let (ours, mut theirs) = sockets();
        let (mut queue, mut jobs) = queue(1 << 20);
        let mut take = |length: usize| {
            let mut taken = vec![0; length];
            theirs.read_exact(&mut taken).unwrap();
            taken
        };
        // Not connected yet.
        queue.push(bytes(2, 1)).unwrap();
        queue.flush().unwrap();
        jobs.connected(Some(ours.as_fd()));
        queue.push(bytes(2, 2)).unwrap();
        queue.push(Job::Snapshot).unwrap();
        queue.flush().unwrap();
        let mut sent = Vec::new();
        assert!(matches!(jobs.send_bytes(&mut sent).await, Ok(Job::Snapshot)));
        assert_eq!(sent, [1, 1, 2, 2]);
        // The snapshot is on its way.
        queue.push(bytes(2, 3)).unwrap();
        queue.flush().unwrap();
        queue.push(Job::Snapshot).unwrap();
        assert!(matches!(jobs.send_bytes(&mut sent).await, Ok(Job::Snapshot)));
        assert_eq!(sent, [1, 1, 2, 2, 3, 3]);
        // The link's task has come back for more, and finds nothing.
        assert!(is_pending(jobs.send_bytes(&mut sent)));
        queue.push(bytes(2, 4)).unwrap();
        queue.push(bytes(1, 5)).unwrap();
        queue.flush().unwrap();
        assert_eq!(take(3), [4, 4, 5]);
        // Before something that is too much, and after it.
        queue.push(bytes(1, 6)).unwrap();
        queue.push(bytes(DIRECT_BYTES, 7)).unwrap();
        queue.push(bytes(1, 8)).unwrap();
        queue.flush().unwrap();
        assert!(is_pending(jobs.send_bytes(&mut sent)));
        assert_eq!(sent[6..], [vec![6], vec![7; DIRECT_BYTES], vec![8]].concat());
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_waits_and_a_link_that_ended_takes_nothing() {
        let (ours, mut theirs) = sockets();
        ours.set_nonblocking(true).unwrap();
        let (mut queue, mut jobs) = queue(1 << 20);
        jobs.connected(Some(ours.as_fd()));
        let mut pushed = Vec::new();
        while queue.state.waiting_bytes.load(Acquire) == 0 {
            let value = pushed.len() as u8;
            pushed.resize(pushed.len() + DIRECT_BYTES - 1, value);
            queue.push(bytes(DIRECT_BYTES - 1, value)).unwrap();
            queue.flush().unwrap();
            assert!(pushed.len() < 64 << 20, "the socket takes everything, or something is lost");
        }
        let mut rest = Vec::new();
        assert!(is_pending(jobs.send_bytes(&mut rest)));
        let mut sent = vec![0; pushed.len() - rest.len()];
        theirs.read_exact(&mut sent).unwrap();
        assert_eq!([sent, rest].concat(), pushed);
        drop(jobs);
        queue.push(bytes(1, 1)).unwrap();
        queue.flush().unwrap();
        drop(ours);
        assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn a_peer_that_takes_nothing_is_told_apart() {
        let (mut queue, _jobs) = queue(100);
        for (length, outcome) in [(60, Ok(())), (40, Ok(())), (1, Err(Overflow))] {
            let pushed = queue.push(bytes(length, 0)).and_then(|()| queue.flush());
            assert_eq!(pushed, outcome);
        }
    }
}
