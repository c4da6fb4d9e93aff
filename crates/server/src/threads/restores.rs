//! Hands a tree that is to be restored to the replica, and what becomes of it back to whoever asked.
//!
//! What always holds here: the replica answers trees in the order in which they were handed over, so answers find their askers by their order.

use std::collections::VecDeque;

use parking_lot::Mutex;
use rookeeper_proto::Zxid;
use rookeeper_replica::{Input, NotRestored};
use rookeeper_tree::Tree;
use tokio::sync::{mpsc, oneshot};

/// What became of a tree.
pub(crate) type Restored = Result<Zxid, NotRestored>;

/// Whoever waits for a tree to be restored.
#[derive(Debug, Default)]
pub(crate) struct Restores {
    waiting: Mutex<VecDeque<oneshot::Sender<Restored>>>,
}

impl Restores {
    /// Has a tree restored; `inputs` leads to the replica. None where this server is stopping.
    pub async fn restore(&self, inputs: &mpsc::Sender<Input>, tree: Box<Tree>) -> Option<Restored> {
        let place = inputs.reserve().await.ok()?;
        self.hand_over(place, tree).await.ok()
    }

    /// Noted before the tree can be answered, and in the order in which trees are handed over.
    fn hand_over(&self, place: mpsc::Permit<'_, Input>, tree: Box<Tree>) -> oneshot::Receiver<Restored> {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        waiting.push_back(sender);
        place.send(Input::Restore { tree });
        answer
    }

    /// What became of the tree that waits longest.
    pub fn answer(&self, restored: Restored) {
        if let Some(sender) = self.waiting.lock().pop_front() {
            // Whoever asked may have gone.
            let _ = sender.send(restored);
        }
    }
}
