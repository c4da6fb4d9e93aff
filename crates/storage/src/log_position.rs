//! How far the log is durable, and what snapshots and rewrites of the history must wait for from each other.
//!
//! What always holds here: no snapshot is taken, and no old file removed, while the history is rewritten; a snapshot that waits for
//! transactions to become durable which are cut off instead learns that they are not to come.

use rookeeper_proto::Zxid;

/// What the worker has made durable, as the snapshots see it.
#[derive(Debug)]
pub struct LogPosition {
    synced: Zxid,
    /// The history is about to be rewritten, or nothing more is ever logged.
    interrupted: bool,
    /// Somebody needs the history as it is, apart from growing.
    held: bool,
    /// Somebody is rewriting the history.
    rewriting: bool,
}

/// The right to rewrite the history, until it is given back to [`LogPosition::rewritten`].
#[derive(Debug)]
pub struct RewritePermit(());

/// The history as it is, apart from growing, until this is given back to [`LogPosition::release`].
#[derive(Debug)]
pub struct HistoryHold(());

impl LogPosition {
    /// Everything up to `synced` is durable, and nobody holds the history.
    pub fn new(synced: Zxid) -> LogPosition {
        LogPosition { synced, interrupted: false, held: false, rewriting: false }
    }

    /// Everything up to here is durable.
    pub fn advance(&mut self, synced: Zxid) {
        self.synced = synced;
    }

    /// Whether everything up to `zxid` is durable; none while that may still come.
    pub fn has(&self, zxid: Zxid) -> Option<bool> {
        if self.synced >= zxid {
            Some(true)
        } else if self.interrupted {
            Some(false)
        } else {
            None
        }
    }

    /// Keeps the history as it is, apart from growing, until [`LogPosition::release`]. None where somebody else has it now: to be asked for
    /// again then.
    #[must_use]
    pub fn hold(&mut self) -> Option<HistoryHold> {
        if self.held || self.rewriting {
            return None;
        }
        self.held = true;
        Some(HistoryHold(()))
    }

    /// The history may be rewritten again.
    pub fn release(&mut self, _hold: HistoryHold) {
        self.held = false;
    }

    /// Nobody need wait for the log any more.
    pub fn interrupt(&mut self) {
        self.interrupted = true;
    }

    /// Asks to rewrite the history, which interrupts whoever holds it. None where it is still held: to be asked for again then.
    #[must_use]
    pub fn rewrite(&mut self) -> Option<RewritePermit> {
        self.interrupt();
        if self.held || self.rewriting {
            return None;
        }
        self.rewriting = true;
        Some(RewritePermit(()))
    }

    /// The history was rewritten, and ends at `zxid`, durably.
    pub fn rewritten(&mut self, _permit: RewritePermit, zxid: Zxid) {
        *self = LogPosition::new(zxid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_waits_for_the_log_and_learns_that_it_is_cut() {
        let mut position = LogPosition::new(Zxid(5));
        assert_eq!((position.has(Zxid(5)), position.has(Zxid(7))), (Some(true), None));
        position.advance(Zxid(7));
        assert_eq!((position.has(Zxid(7)), position.has(Zxid(9))), (Some(true), None));
        position.interrupt();
        assert_eq!((position.has(Zxid(7)), position.has(Zxid(9))), (Some(true), Some(false)));
    }

    #[test]
    fn the_history_is_either_held_or_rewritten() {
        let mut position = LogPosition::new(Zxid(5));
        let hold = position.hold().unwrap();
        assert!(position.hold().is_none());
        assert!(position.rewrite().is_none());
        assert_eq!(position.has(Zxid(6)), Some(false), "whoever holds it must not wait");
        position.release(hold);
        let permit = position.rewrite().unwrap();
        assert!(position.hold().is_none() && position.rewrite().is_none());
        position.rewritten(permit, Zxid(3));
        assert_eq!((position.has(Zxid(3)), position.has(Zxid(4))), (Some(true), None));
        assert!(position.hold().is_some());
    }
}
