//! The way from other servers to the replica: one bounded queue for all links, bounded in inputs and in bytes.
//!
//! What always holds here: what is in the queue and not yet handled takes no more than [`QUEUED_BYTES`], or is one input that is
//! larger. A link that can't hand on what it read reads no more, and its peer has to wait.

use std::sync::Arc;

use rookeeper_replica::Input;
use tokio::sync::{Semaphore, mpsc};

/// Inputs in the queue.
pub(super) const QUEUED_INPUTS: usize = 1024;

/// Bytes of packets in the queue.
const QUEUED_BYTES: u32 = 128 << 20;

/// Where links put what they receive.
#[derive(Debug, Clone)]
pub(crate) struct PeerInputs {
    sender: mpsc::Sender<Input>,
    room: Arc<Semaphore>,
}

/// The replica's end.
#[derive(Debug)]
pub(crate) struct PeerQueue {
    receiver: mpsc::Receiver<Input>,
    room: Arc<Semaphore>,
}

/// The replica is gone.
#[derive(Debug)]
pub(crate) struct Gone;

pub(crate) fn queue() -> (PeerInputs, PeerQueue) {
    let (sender, receiver) = mpsc::channel(QUEUED_INPUTS);
    let room = Arc::new(Semaphore::new(QUEUED_BYTES as usize));
    (PeerInputs { sender, room: room.clone() }, PeerQueue { receiver, room })
}

/// Bytes that an input takes of the room in the queue.
fn weight(input: &Input) -> u32 {
    match input {
        Input::FromLearner { packets, .. } | Input::FromLeader { packets, .. } => {
            u32::try_from(packets.len()).unwrap_or(u32::MAX).min(QUEUED_BYTES)
        }
        _ => 0,
    }
}

impl PeerInputs {
    /// Hands something to the replica, waiting where its queue is full.
    pub async fn send(&self, input: Input) -> Result<(), Gone> {
        let permit = self.room.acquire_many(weight(&input)).await.map_err(|_| Gone)?;
        self.sender.send(input).await.map_err(|_| Gone)?;
        // Given back by the replica's end.
        permit.forget();
        Ok(())
    }

    /// Inputs in the queue.
    pub fn queued(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }

    /// The same queue for what takes no room worth counting.
    pub fn small_inputs(&self) -> mpsc::Sender<Input> {
        self.sender.clone()
    }
}

impl PeerQueue {
    /// Up to `limit` inputs, once there are any; 0 when nobody can send any more.
    pub async fn receive_many(&mut self, inputs: &mut Vec<Input>, limit: usize) -> usize {
        let begin = inputs.len();
        let count = self.receiver.recv_many(inputs, limit).await;
        let weight: usize = inputs[begin..].iter().map(|input| weight(input) as usize).sum();
        self.room.add_permits(weight);
        count
    }
}

#[cfg(test)]
mod tests {
    use rookeeper_zab::LinkId;

    use super::*;

    fn packets(bytes: usize) -> Input {
        Input::FromLearner { link: LinkId(1), packets: vec![0; bytes] }
    }

    #[tokio::test]
    async fn bytes_in_the_queue_are_bounded() {
        let (inputs, mut queue) = queue();
        let most = QUEUED_BYTES as usize;
        inputs.send(packets(most - 10)).await.unwrap();
        inputs.send(packets(10)).await.unwrap();
        // Nothing that takes room fits any more, everything else does.
        inputs.send(Input::Tick).await.unwrap();
        let mut waiting = Box::pin(inputs.send(packets(1)));
        let polled = tokio::select! { biased; _ = &mut waiting => true, () = std::future::ready(()) => false };
        assert!(!polled);
        let mut received = Vec::new();
        assert_eq!(queue.receive_many(&mut received, 2).await, 2);
        waiting.await.unwrap();
        // An input that is larger than the whole room goes alone.
        assert_eq!(queue.receive_many(&mut received, 9).await, 2);
        inputs.send(packets(most + 1)).await.unwrap();
        assert_eq!(queue.receive_many(&mut received, 9).await, 1);
        inputs.send(packets(most)).await.unwrap();
    }
}
