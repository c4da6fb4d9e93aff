//! The fan-out of events: every connection watches all keys, one more connection changes all of them in one transaction, and it is measured how
//! long each event takes from then on.
//!
//! What always holds: a change is made only when every connection that is left has its watches; a round ends when each of them has its events,
//! or is given up, so that no event is counted for another round.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::connection::{Connection, Lost};
use super::load::{BULK_PIPELINE, Tally, record};
use super::wire;

/// What the connections do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Watch all keys, for the round with this number.
    Watch(u64),
    End,
}

/// What a connection that watches tells.
#[derive(Debug)]
enum Told {
    Watching,
    /// When its last event of the round came.
    Served(Instant),
    /// It takes part no more.
    Left,
}

/// The place of a connection that watches.
#[derive(Debug)]
pub(super) struct Watcher {
    phase: watch::Receiver<Phase>,
    changed_at: watch::Receiver<Option<Instant>>,
    told: mpsc::UnboundedSender<Told>,
}

/// The place of the connection that changes the keys.
#[derive(Debug)]
pub(super) struct Changer {
    phase: watch::Sender<Phase>,
    changed_at: watch::Sender<Option<Instant>>,
    told: mpsc::UnboundedReceiver<Told>,
    left: usize,
}

/// The places for so many connections.
pub(super) fn places(connections: usize) -> (Changer, Vec<Watcher>) {
    let (phase, phases) = watch::channel(Phase::Watch(0));
    let (changed_at, changes) = watch::channel(None);
    let (tell, told) = mpsc::unbounded_channel();
    let watcher = || Watcher { phase: phases.clone(), changed_at: changes.clone(), told: tell.clone() };
    let watchers = std::iter::repeat_with(watcher).take(connections).collect();
    (Changer { phase, changed_at, told, left: connections }, watchers)
}

impl Watcher {
    /// Watches the keys round after round, and counts events.
    pub(super) async fn run(
        mut self,
        connection: &mut Connection,
        (parent, keys): (&str, u32),
        begin: Instant,
        tally: &mut Tally,
    ) -> Result<(), Lost> {
        let outcome = self.watch(connection, (parent, keys), begin, tally).await;
        if outcome.is_err() {
            // Nobody is there any more where the run has ended.
            let _ = self.told.send(Told::Left);
        }
        outcome
    }

    async fn watch(
        &mut self,
        connection: &mut Connection,
        (parent, keys): (&str, u32),
        begin: Instant,
        tally: &mut Tally,
    ) -> Result<(), Lost> {
        while *self.phase.borrow_and_update() != Phase::End {
            let mut numbers = 0..keys;
            let next = |out: &mut Vec<u8>, xid, _| {
                let key = numbers.next()?;
                wire::watch_data(out, xid, format_args!("{parent}/{key}"));
                Some(())
            };
            connection
                .drive(BULK_PIPELINE, next, |answer| {
                    if answer.reply.error != 0 {
                        *tally.errors.entry(answer.reply.error).or_default() += 1;
                    }
                })
                .await?;
            let _ = self.told.send(Told::Watching);
            let mut last = Instant::now();
            let Watcher { changed_at, phase, .. } = self;
            let events = connection.take_events(keys.into(), |at| {
                last = at;
                if let Some(changed_at) = *changed_at.borrow()
                    && changed_at >= begin
                {
                    record(&mut tally.reads, at - changed_at);
                }
            });
            tokio::select! {
                taken = events => taken?,
                // Also where the connection that changes the keys is lost: no more events come.
                _ = phase.wait_for(|phase| *phase == Phase::End) => return Ok(()),
            }
            let _ = self.told.send(Told::Served(last));
            connection.wait_for(self.phase.changed()).await?;
        }
        Ok(())
    }
}

impl Changer {
    /// Changes the keys round after round until `is_over`, and counts how long the last event of each round took.
    pub(super) async fn run(
        mut self,
        connection: &mut Connection,
        (parent, keys): (&str, u32),
        begin: Instant,
        is_over: impl Fn() -> bool,
        tally: &mut Tally,
    ) -> Result<(), Lost> {
        for round in 1.. {
            let watching = async {
                self.wait(|told| matches!(told, Told::Watching)).await;
            };
            connection.wait_for(watching).await?;
            if self.left == 0 {
                break;
            }
            let changed_at = Instant::now();
            self.changed_at.send_replace(Some(changed_at));
            let mut asked = false;
            let next = |out: &mut Vec<u8>, xid, _| {
                let first = !std::mem::replace(&mut asked, true);
                first.then(|| wire::set_all(out, xid, parent, keys))
            };
            connection
                .drive(1, next, |answer| {
                    if answer.reply.error != 0 {
                        *tally.errors.entry(answer.reply.error).or_default() += 1;
                    }
                })
                .await?;
            let mut last = Duration::ZERO;
            let served = async {
                self.wait(|told| match told {
                    Told::Served(at) => {
                        last = last.max(*at - changed_at);
                        true
                    }
                    _ => false,
                })
                .await;
            };
            connection.wait_for(served).await?;
            if changed_at >= begin && self.left > 0 {
                record(&mut tally.last_events, last);
            }
            if is_over() {
                break;
            }
            self.phase.send_replace(Phase::Watch(round));
        }
        self.phase.send_replace(Phase::End);
        Ok(())
    }

    /// Until every connection that is left has told what counts.
    async fn wait(&mut self, mut counts: impl FnMut(&Told) -> bool) {
        let mut counted = 0;
        while counted < self.left {
            match self.told.recv().await {
                Some(Told::Left) => self.left -= 1,
                Some(told) => counted += usize::from(counts(&told)),
                None => self.left = 0,
            }
        }
    }
}
