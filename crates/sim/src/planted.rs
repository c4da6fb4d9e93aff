//! How often the checkers see each planted bug, and as what: a table that says what the simulator is worth.
//!
//! A bug that no life shows has one of two causes: no checker looks for the bug, or no life brings it about.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::faults::{Plan, Sabotage};
use crate::patrons::Recipe;
use crate::scenes::Play;
use crate::world::live;

impl Sabotage {
    /// All bugs that can be planted.
    pub const ALL: [Sabotage; 56] = [
        Sabotage::AcksBeforeSync,
        Sabotage::AcksNobodySent,
        Sabotage::CountsJoinersUnheard,
        Sabotage::LosesOnRecovery,
        Sabotage::ForgetsEpochs,
        Sabotage::DropsEvent,
        Sabotage::DelaysEvent,
        Sabotage::ReordersReplies,
        Sabotage::WrongAnswer,
        Sabotage::SkipsSync,
        Sabotage::KeepsEphemeral,
        Sabotage::WrongState,
        Sabotage::NeverHeals,
        Sabotage::KeepsAcknowledgements,
        Sabotage::FollowsWhoIsBehind,
        Sabotage::LeadsWithoutPromises,
        Sabotage::CountsRepeatedPromises,
        Sabotage::ForgetsPromises,
        Sabotage::VotesWithoutItsDisk,
        Sabotage::SnapshotsWhoHasMore,
        Sabotage::TruncatesUnsynced,
        Sabotage::SnapshotAheadOfLog,
        Sabotage::UndigestedRights,
        Sabotage::HearsItself,
        Sabotage::IgnoresHangUps,
        Sabotage::ExcusesWhoDoesNotRead,
        Sabotage::TakesFromAnybody,
        Sabotage::ForgetsOwners,
        Sabotage::ExpiresAtOnce,
        Sabotage::ExpiresEarly,
        Sabotage::NeverExpires,
        Sabotage::IgnoresTouches,
        Sabotage::WrongRefusal,
        Sabotage::MisreportsRefusals,
        Sabotage::JoinsRoundInFlight,
        Sabotage::IgnoresWeights,
        Sabotage::TrustsOldFiles,
        Sabotage::IgnoresShortages,
        Sabotage::StaysShort,
        Sabotage::OracleGrantsBoth,
        Sabotage::RestoresUnsynced,
        Sabotage::RestoresSessions,
        Sabotage::InformsEarly,
        Sabotage::RelaysForAnybody,
        Sabotage::ProvesFromTheAnswer,
        Sabotage::LeadsUnproved,
        Sabotage::ReadsBesideWriters,
        Sabotage::LeasesOneTooMany,
        Sabotage::KeepsItemsTaken,
        Sabotage::PushesWithoutTicket,
        Sabotage::CountsItselfTwice,
        Sabotage::CountsWithoutTicket,
        Sabotage::LeavesByName,
        Sabotage::LeavesTwice,
        Sabotage::FollowsOnce,
        Sabotage::ListsThenFollows,
    ];

    /// The life of a seed with this bug in it: of three servers where nothing else is needed, and of the kind that can show the bug.
    pub fn plan(self, seed: u64) -> Plan {
        let servers = match self {
            Sabotage::TrustsOldFiles => 5,
            Sabotage::RestoresUnsynced | Sabotage::RestoresSessions => 1,
            _ => 3,
        };
        let mut plan = Plan::of_seed(seed, Some(servers));
        if self == Sabotage::OracleGrantsBoth {
            plan = Plan::with_oracle(seed);
        }
        if self == Sabotage::CountsJoinersUnheard {
            plan = plan.reconfiguring();
        }
        if self == Sabotage::VotesWithoutItsDisk {
            plan = plan.losing_disks();
        }
        match self {
            Sabotage::SnapshotsWhoHasMore => plan = plan.playing(Play::Stray),
            Sabotage::TruncatesUnsynced => {
                plan = plan.playing(Play::Stray);
                plan.darkens_after_cuts = true;
                // Behind a snapshot nobody reads the part of the log that was cut.
                plan.snap_count = 1000;
            }
            Sabotage::IgnoresWeights => plan = plan.weighted(),
            Sabotage::InformsEarly => plan = plan.with_observer_masters(),
            Sabotage::RelaysForAnybody => plan = plan.with_observer_masters().with_observers_unheard(),
            Sabotage::TrustsOldFiles => {
                plan = plan.reconfiguring();
                plan.files_fail = true;
            }
            Sabotage::JoinsRoundInFlight => plan = plan.playing(Play::Standstill),
            Sabotage::SnapshotAheadOfLog => {
                plan.snap_count = 15;
                plan.darkens_after_cuts = true;
                plan = plan.with_slow_disks();
            }
            Sabotage::ExcusesWhoDoesNotRead => plan.habits.pauses = true,
            Sabotage::ProvesFromTheAnswer => plan = plan.with_recipe(Recipe::Lock),
            Sabotage::LeadsUnproved => plan = plan.with_recipe(Recipe::Election),
            Sabotage::ReadsBesideWriters => plan = plan.with_recipe(Recipe::ReadWrite),
            Sabotage::LeasesOneTooMany => plan = plan.with_recipe(Recipe::Semaphore),
            Sabotage::KeepsItemsTaken | Sabotage::PushesWithoutTicket => plan = plan.with_recipe(Recipe::Queue),
            Sabotage::CountsItselfTwice => plan = plan.with_recipe(Recipe::Meeting),
            Sabotage::CountsWithoutTicket => plan = plan.with_recipe(Recipe::Counter),
            Sabotage::LeavesByName | Sabotage::LeavesTwice | Sabotage::FollowsOnce | Sabotage::ListsThenFollows => {
                plan = plan.with_recipe(Recipe::Group);
            }
            Sabotage::KeepsAcknowledgements => plan = plan.playing(Play::Relapse),
            Sabotage::FollowsWhoIsBehind => {
                plan = plan.playing(Play::Stray);
                plan.stumbles = true;
            }
            Sabotage::LeadsWithoutPromises | Sabotage::CountsRepeatedPromises | Sabotage::ForgetsPromises => {
                plan.stumbles = true;
            }
            _ => {}
        }
        plan.sabotage = Some(self);
        plan
    }
}

/// The outcome of the lives with one bug.
#[derive(Debug, Default)]
pub struct Seen {
    pub lives: u64,
    /// In how many lives a checker of this name spoke first.
    pub by: BTreeMap<String, u64>,
}

impl Seen {
    /// In how many lives a checker has seen the bug.
    pub fn count(&self) -> u64 {
        self.by.values().sum()
    }
}

/// Lives the first `lives` seeds with a bug.
pub fn seen(sabotage: Sabotage, lives: u64, threads: usize) -> Seen {
    let next = AtomicU64::new(0);
    let seen = Mutex::new(Seen::default());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= lives {
                        return;
                    }
                    let violation = live(sabotage.plan(seed), false).violation;
                    let mut seen = seen.lock().expect("a panic within a life is its violation");
                    seen.lives += 1;
                    if let Some(violation) = violation {
                        *seen.by.entry(checker(&violation).to_owned()).or_default() += 1;
                    }
                }
            });
        }
    });
    seen.into_inner().expect("a panic within a life is its violation")
}

/// A violation says when, then the name of the property, then what was found.
fn checker(violation: &str) -> &str {
    let problem = violation.split_once("ms: ").map_or(violation, |(_, problem)| problem);
    problem.split_once(':').map_or(problem, |(name, _)| name)
}
