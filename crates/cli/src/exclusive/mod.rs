//! `rookeeper lock` and `rookeeper elect`: a command that runs only while this process holds.
//!
//! Reading order:
//! - [`options`]: what the user says
//! - [`holder`]: connects, waits for its turn, keeps the hold proved, ends with the command's exit code
//! - [`keeper`]: a second process between the holder and the command, which ends the command when the holder can't
//! - [`descendants`]: all that the command has started
//!
//! What always holds: the command, and all that it has started, is gone before another can hold. Three processes see to that:
//!
//! ```text
//! holder  session, proofs ----> keeper  deadlines, signals ----> command
//! ```
//!
//! | what happens | who ends the command |
//! | --- | --- |
//! | the session ends, the node is deleted | the holder, at once |
//! | no server confirms the hold for half a session timeout | holder and keeper: TERM then, KILL after two thirds |
//! | the holder is killed | the keeper, at once: the pipe between them ends |
//! | the holder is frozen, or the machine sleeps | the keeper, by the clock that goes on while the machine sleeps |
//! | the keeper is killed or frozen | the holder, at once or at the same deadlines |
//!
//! Both are subreapers, so that processes that the command leaves behind stay their descendants.

mod descendants;
mod holder;
mod keeper;
mod options;

pub(crate) use holder::{
    CLOSE_TIMEOUT, Held, NOT_IN_TIME, Signals, close, complain, connect, end, hold, run, sessions,
};
pub use holder::{elect, lock};
pub(crate) use keeper::LOST;
pub use keeper::main as keep;
pub(crate) use options::seconds;
pub use options::{ElectOptions, KeeperOptions, LockOptions, SessionFlags};
