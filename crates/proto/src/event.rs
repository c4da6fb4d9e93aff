//! Watch events and the modes of watches.

use rookeeper_jute::Text;
use serde::{Deserialize, Serialize};

/// What happened to a node, by the number the wire has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum EventType {
    NodeCreated = 1,
    NodeDeleted = 2,
    NodeDataChanged = 3,
    NodeChildrenChanged = 4,
}

/// The only state a server ever puts into an event.
pub const STATE_SYNC_CONNECTED: i32 = 3;

/// The xid of the reply header in front of an event.
pub const NOTIFICATION_XID: i32 = -1;

/// The body of a notification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatcherEvent<'a> {
    pub event_type: i32,
    pub state: i32,
    #[serde(borrow)]
    pub path: Text<'a>,
}

/// How a watch of `addWatch` behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum AddWatchMode {
    Persistent = 0,
    PersistentRecursive = 1,
}

impl AddWatchMode {
    /// The mode by its number; `None` for a number that is no mode.
    pub fn from_i32(number: i32) -> Option<AddWatchMode> {
        match number {
            0 => Some(AddWatchMode::Persistent),
            1 => Some(AddWatchMode::PersistentRecursive),
            _ => None,
        }
    }
}

/// Which watches `checkWatches` and `removeWatches` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum WatcherType {
    Children = 1,
    Data = 2,
    Any = 3,
    Persistent = 4,
    PersistentRecursive = 5,
}

impl WatcherType {
    /// The type by its number; `None` for a number that is no type.
    pub fn from_i32(number: i32) -> Option<WatcherType> {
        match number {
            1 => Some(WatcherType::Children),
            2 => Some(WatcherType::Data),
            3 => Some(WatcherType::Any),
            4 => Some(WatcherType::Persistent),
            5 => Some(WatcherType::PersistentRecursive),
            _ => None,
        }
    }
}
