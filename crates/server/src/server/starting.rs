//! What a server does that was started and does not serve yet, said again and again while that lasts: a start that hangs and says nothing leaves
//! nobody a trace of where.
//!
//! What always holds here: the step that is told is the one that is under way. Nothing is told of a start that is over, or was given up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookeeper_replica::{Serving, Shared};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::info;

const EVERY: Duration = Duration::from_secs(10);

/// A step that lasts longer is told of every minute. Which members are missing is told by `absence.rs`.
const OFTEN_FOR: Duration = Duration::from_secs(60);

const RARELY_EVERY: Duration = Duration::from_secs(60);

/// The steps of a start, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Reserving,
    Recovering,
    FindingMembers,
    TakingFirstSnapshot,
    ReadingEpochs,
    OpeningQuorumPort,
    OpeningElectionPort,
    OpeningClientPort,
    LookingForLeader,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Step::Reserving => "resolving and reserving the client port",
            Step::Recovering => "reading the database",
            Step::FindingMembers => "comparing the members in the configuration with those in the log",
            Step::TakingFirstSnapshot => "writing the first snapshot",
            Step::ReadingEpochs => "reading the epochs",
            Step::OpeningQuorumPort => "opening the quorum port",
            Step::OpeningElectionPort => "opening the election port",
            Step::OpeningClientPort => "opening the client port",
            Step::LookingForLeader => "looking for a leader, or catching up with one",
        })
    }
}

#[derive(Debug)]
struct Current {
    step: Step,
    since: Instant,
    /// The state that says whether a member serves; none before the member could.
    shared: Option<Arc<Shared>>,
}

/// A start that is under way. Dropping it says that it is over.
#[derive(Debug)]
pub(crate) struct Starting {
    current: Arc<Mutex<Current>>,
    telling: JoinHandle<()>,
}

impl Starting {
    /// Begins with the first step, and tells from time to time which step lasts.
    pub fn begin() -> Starting {
        Starting::told_by(|text| info!("{text}"))
    }

    fn told_by(tell: impl Fn(String) + Send + 'static) -> Starting {
        let current = Arc::new(Mutex::new(Current { step: Step::Reserving, since: Instant::now(), shared: None }));
        let telling = tokio::spawn(keep_telling(current.clone(), tell));
        Starting { current, telling }
    }

    /// The start has come to this step.
    pub fn at(&self, step: Step) {
        let mut current = self.current.lock();
        (current.step, current.since) = (step, Instant::now());
    }

    /// All ports are open. The member lacks a leader only.
    pub fn until_served(&self, shared: Arc<Shared>) {
        self.at(Step::LookingForLeader);
        self.current.lock().shared = Some(shared);
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.telling.abort();
    }
}

async fn keep_telling(current: Arc<Mutex<Current>>, tell: impl Fn(String)) {
    let begin = Instant::now();
    let mut told = begin;
    loop {
        tokio::time::sleep(EVERY).await;
        let (step, lasts) = {
            let current = current.lock();
            if current.shared.as_ref().is_some_and(|shared| shared.status_board.serving() != Serving::Nobody) {
                return;
            }
            (current.step, current.since.elapsed())
        };
        if lasts <= OFTEN_FOR || told.elapsed() >= RARELY_EVERY {
            told = Instant::now();
            tell(format!("still starting after {} s: {step}, for {} s", begin.elapsed().as_secs(), lasts.as_secs()));
        }
    }
}

#[cfg(test)]
mod tests {
    use rookeeper_replica::Settings;
    use rookeeper_tree::Tree;
    use tokio::sync::mpsc;
    use tokio::time::sleep;

    use rookeeper_proto::WallMs;

    use super::*;

    fn starting() -> (Starting, mpsc::UnboundedReceiver<String>) {
        let (sender, lines) = mpsc::unbounded_channel();
        let tell = move |text| {
            let _ = sender.send(text);
        };
        (Starting::told_by(tell), lines)
    }

    fn all(lines: &mut mpsc::UnboundedReceiver<String>) -> Vec<String> {
        std::iter::from_fn(|| lines.try_recv().ok()).collect()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_step_under_way_is_told_every_ten_seconds_and_later_every_minute() {
        let (starting, mut lines) = starting();
        sleep(5 * SECOND).await;
        starting.at(Step::Recovering);
        sleep(17 * SECOND).await;
        starting.at(Step::TakingFirstSnapshot);
        sleep(9 * SECOND).await;
        assert_eq!(
            all(&mut lines),
            [
                "still starting after 10 s: reading the database, for 5 s",
                "still starting after 20 s: reading the database, for 15 s",
                "still starting after 30 s: writing the first snapshot, for 8 s"
            ]
        );
        starting.at(Step::OpeningElectionPort);
        sleep(240 * SECOND).await;
        let later: Vec<String> = (4..=9)
            .map(|tens| tens * 10)
            .chain([150, 210, 270])
            .map(|second| format!("still starting after {second} s: opening the election port, for {} s", second - 31))
            .collect();
        assert_eq!(all(&mut lines), later);

        drop(starting);
        sleep(60 * SECOND).await;
        assert_eq!(all(&mut lines), Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_is_not_told_of_any_more_once_it_serves() {
        let (starting, mut lines) = starting();
        let shared = Arc::new(Shared::new(Settings::default(), Tree::with_seed(1), WallMs(0)));
        assert_ne!(shared.status_board.serving(), Serving::Nobody);
        starting.until_served(shared);
        sleep(60 * SECOND).await;
        assert_eq!(all(&mut lines), Vec::<String>::new());
    }
}
