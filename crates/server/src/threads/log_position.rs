//! How far the log is on disk, and who may rely on it: what the storage thread and the snapshot thread tell each other, and how they wait.
//! The rules are those of [`rookeeper_storage::LogPosition`].

use std::ops::Deref;

use parking_lot::{Condvar, Mutex};
use rookeeper_proto::Zxid;
use rookeeper_storage::{HistoryHold, RewritePermit};

#[derive(Debug)]
pub(crate) struct LogPosition {
    position: Mutex<rookeeper_storage::LogPosition>,
    changed: Condvar,
}

/// The history stays as it is, apart from growing, while this lives.
#[derive(Debug)]
pub(crate) struct Hold<'a> {
    position: &'a LogPosition,
    /// None once it is given back.
    hold: Option<HistoryHold>,
}

impl LogPosition {
    /// The log as the start found it: everything up to `synced` is durable.
    pub fn new(synced: Zxid) -> LogPosition {
        LogPosition { position: Mutex::new(rookeeper_storage::LogPosition::new(synced)), changed: Condvar::new() }
    }

    /// Everything up to here is durable.
    pub fn advance(&self, synced: Zxid) {
        self.change(|position| position.advance(synced));
    }

    /// Whether everything up to `zxid` is durable; none while that may still come.
    pub fn has(&self, zxid: Zxid) -> Option<bool> {
        self.position.lock().has(zxid)
    }

    /// Waits until everything up to `zxid` is durable; false where that is not to come.
    pub fn wait_for(&self, zxid: Zxid) -> bool {
        self.wait(|position| position.has(zxid))
    }

    /// Waits while the history is rewritten.
    pub fn hold_history(&self) -> Hold<'_> {
        let hold = self.wait(rookeeper_storage::LogPosition::hold);
        Hold { position: self, hold: Some(hold) }
    }

    /// Waits until nobody holds the history any more.
    pub fn rewrite(&self) -> RewritePermit {
        self.wait(|position| {
            let permit = position.rewrite();
            // The thread that holds the history must learn that another one waits for it.
            self.changed.notify_all();
            permit
        })
    }

    /// The history was rewritten, and ends at `zxid`, durably.
    pub fn rewritten(&self, permit: RewritePermit, zxid: Zxid) {
        self.change(|position| position.rewritten(permit, zxid));
    }

    /// Ends every wait: the process is ending.
    pub fn interrupt(&self) {
        self.change(rookeeper_storage::LogPosition::interrupt);
    }

    fn change(&self, change: impl FnOnce(&mut rookeeper_storage::LogPosition)) {
        change(&mut self.position.lock());
        self.changed.notify_all();
    }

    fn wait<T>(&self, mut look: impl FnMut(&mut rookeeper_storage::LogPosition) -> Option<T>) -> T {
        let mut position = self.position.lock();
        loop {
            if let Some(found) = look(&mut position) {
                return found;
            }
            self.changed.wait(&mut position);
        }
    }
}

impl Deref for Hold<'_> {
    type Target = HistoryHold;

    fn deref(&self) -> &HistoryHold {
        self.hold.as_ref().expect("it is given back at its end")
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        if let Some(hold) = self.hold.take() {
            self.position.change(|position| position.release(hold));
        }
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
        let permit = position.rewrite();
        position.rewritten(permit, Zxid(6));
        // The wait may also begin only now.
        position.interrupt();
        assert!(!waiting.join().unwrap());
        assert!(position.wait_for(Zxid(6)) && !position.wait_for(Zxid(7)));
    }
}
