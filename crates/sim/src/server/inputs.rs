//! Inputs that wait for the replica of a server whose thread is busy. As in the shipping server there are three queues: for the storage's answers,
//! for other servers, and for clients. A round takes one answer, or the inputs that have gathered in one of the other queues. Only then the
//! outputs of all these inputs are carried out.

use std::collections::VecDeque;

use rookeeper_replica::Input;

/// As many as the shipping server takes at once.
const INPUTS_AT_ONCE: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Inputs {
    answers: VecDeque<Input>,
    peers: VecDeque<Input>,
    clients: VecDeque<Input>,
    /// Time has passed.
    has_ticked: bool,
    /// The thread is about to look.
    pub is_round_due: bool,
}

impl Inputs {
    /// Puts an input into the queue that it would come through.
    pub fn push(&mut self, input: Input) {
        match input {
            Input::Synced { .. } | Input::Stored(_) => self.answers.push_back(input),
            Input::Connect { .. }
            | Input::Write { .. }
            | Input::Read { .. }
            | Input::Disconnected { .. }
            | Input::Restore { .. } => {
                self.clients.push_back(input);
            }
            Input::Tick => self.has_ticked = true,
            _ => self.peers.push_back(input),
        }
    }

    /// Whether the replica has nothing to handle.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.peers.is_empty() && self.clients.is_empty() && !self.has_ticked
    }

    /// The inputs of the next round.
    pub fn take(&mut self) -> Vec<Input> {
        if let Some(answer) = self.answers.pop_front() {
            return vec![answer];
        }
        let queue = if self.peers.is_empty() { &mut self.clients } else { &mut self.peers };
        let inputs: Vec<Input> = queue.drain(..queue.len().min(INPUTS_AT_ONCE)).collect();
        if inputs.is_empty() && std::mem::take(&mut self.has_ticked) { vec![Input::Tick] } else { inputs }
    }
}
