//! How far the log is on disk, and who may rely on it: what the storage thread and the snapshot thread tell each other.
//!
//! What always holds here: no snapshot is taken while the end of the history is rewritten; a snapshot that waits for transactions to
//! become durable which are cut off instead gives up.

use parking_lot::{Condvar, Mutex, MutexGuard};
use rookeeper_proto::Zxid;

#[derive(Debug)]
pub(crate) struct LogPosition {
    state: Mutex<State>,
    changed: Condvar,
    /// Held while a snapshot is taken, and while the history is rewritten.
    history: Mutex<()>,
}

#[derive(Debug)]
struct State {
    synced: Zxid,
    /// The history is about to be rewritten, or nothing more is ever logged.
    interrupted: bool,
}

impl LogPosition {
    pub fn new(synced: Zxid) -> LogPosition {
        LogPosition {
            state: Mutex::new(State { synced, interrupted: false }),
            changed: Condvar::new(),
            history: Mutex::new(()),
        }
    }

    /// Everything up to here is durable.
    pub fn advance(&self, synced: Zxid) {
        self.state.lock().synced = synced;
        self.changed.notify_all();
    }

    /// Waits until everything up to `zxid` is durable; false where that is not to come.
    pub fn wait_for(&self, zxid: Zxid) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| state.synced < zxid && !state.interrupted);
        state.synced >= zxid
    }

    /// The history stays as it is, apart from growing, while the guard lives.
    pub fn hold_history(&self) -> MutexGuard<'_, ()> {
        self.history.lock()
    }

    /// Rewrites the history, which then ends at the zxid that `rewrite` returns, and is durable.
    pub fn rewrite<E>(&self, rewrite: impl FnOnce() -> Result<Zxid, E>) -> Result<(), E> {
        self.interrupt();
        let history = self.history.lock();
        let zxid = rewrite()?;
        *self.state.lock() = State { synced: zxid, interrupted: false };
        drop(history);
        Ok(())
    }

    /// Nobody need wait any more.
    pub fn interrupt(&self) {
        self.state.lock().interrupted = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn a_snapshot_waits_for_the_log_and_gives_up_when_it_is_cut() {
        let position = Arc::new(LogPosition::new(Zxid(5)));
        assert!(position.wait_for(Zxid(5)));
        let waits_for = |zxid: i64| {
            let position = position.clone();
            thread::spawn(move || {
                let _history = position.hold_history();
                position.wait_for(Zxid(zxid))
            })
        };
        let waiting = waits_for(7);
        position.advance(Zxid(6));
        position.advance(Zxid(7));
        assert!(waiting.join().unwrap());
        let waiting = waits_for(9);
        position.rewrite(|| Ok::<_, ()>(Zxid(6))).unwrap();
        // It may also begin only now.
        position.interrupt();
        assert!(!waiting.join().unwrap());
        assert!(position.wait_for(Zxid(6)) && !position.wait_for(Zxid(7)));
    }
}
