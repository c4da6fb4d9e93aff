//! For each epoch at most one server decides, and the epochs in which a server does only grow.
//!
//! A leader that stood still may begin to decide after a newer leader has, because it had been acknowledged before. No server follows the old
//! leader any more.

use std::collections::BTreeMap;

use rookeeper_proto::Epoch;

use super::Verdict;

/// Which server led each epoch.
#[derive(Debug, Default)]
pub struct Leaders(BTreeMap<Epoch, usize>);

impl Leaders {
    /// A server begins to decide.
    pub fn leads(&mut self, server: usize, epoch: Epoch) -> Verdict {
        let own = self.0.iter().rev().find(|(_, leader)| **leader == server);
        if let Some((newest, _)) = own.filter(|(newest, _)| **newest > epoch) {
            return Err(format!("leaders: server {server} leads epoch {epoch:x} after it led {newest:x}"));
        }
        match self.0.insert(epoch, server) {
            Some(other) => Err(format!("leaders: server {server} and server {other} lead epoch {epoch:x}")),
            None => Ok(()),
        }
    }

    /// The newest epoch in which somebody has decided.
    pub fn newest(&self) -> Epoch {
        self.0.last_key_value().map_or(Epoch::ZERO, |(epoch, _)| *epoch)
    }

    /// How many epochs had a leader that decided something.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}
