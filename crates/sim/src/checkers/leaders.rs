//! For each epoch at most one server decides, and epochs of leaders only grow.

use std::collections::BTreeMap;

use rookeeper_proto::Epoch;

use super::Verdict;

#[derive(Debug, Default)]
pub struct Leaders(BTreeMap<Epoch, usize>);

impl Leaders {
    /// A server begins to decide.
    pub fn leads(&mut self, server: usize, epoch: Epoch) -> Verdict {
        if let Some((newest, other)) = self.0.last_key_value()
            && *newest > epoch
        {
            return Err(format!("leaders: server {server} leads epoch {epoch:x} after server {other} led {newest:x}"));
        }
        match self.0.insert(epoch, server) {
            Some(other) => Err(format!("leaders: server {server} and server {other} lead epoch {epoch:x}")),
            None => Ok(()),
        }
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }
}
