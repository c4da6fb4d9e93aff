//! What a server is: it leads or learns from a leader. One folder each.

pub(crate) mod leading;
pub(crate) mod learning;
