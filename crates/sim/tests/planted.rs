//! The checkers see: for each of them a bug is planted in the world, and found.

use rookeeper_proto::Epoch;
use rookeeper_sim::checkers::leaders::Leaders;
use rookeeper_sim::{Plan, Sabotage, live};

/// So many that a change of the simulator, which shifts all lives, hides no bug that is seen now and then.
const MOST_LIVES: u64 = 1000;

/// Lives with this bug until one is seen; all that are seen must be called by one of these names.
fn is_seen(sabotage: Sabotage, servers: usize, names: &[&str]) {
    is_seen_in(sabotage, names, |seed| Plan::of_seed(seed, Some(servers)));
}

fn is_seen_in(sabotage: Sabotage, names: &[&str], plan: impl Fn(u64) -> Plan) {
    let mut seen = Vec::new();
    for seed in 0..MOST_LIVES {
        let mut plan = plan(seed);
        plan.sabotage = Some(sabotage);
        let Some(violation) = live(plan, false).violation else { continue };
        let (_, problem) = violation.split_once("ms: ").expect("a violation has a time");
        assert!(names.iter().any(|name| problem.starts_with(name)), "seed {seed}, {sabotage:?}: {violation}");
        seen.push(seed);
        if problem.starts_with(names[0]) {
            return;
        }
    }
    panic!("{sabotage:?} was not seen as {}, only something in {seen:?}", names[0]);
}

#[test]
fn an_acknowledgement_before_the_sync() {
    is_seen(Sabotage::AcksBeforeSync, 3, &["durability:", "acknowledged:", "history:", "panic:"]);
}

#[test]
fn a_commit_without_a_quorum() {
    is_seen(Sabotage::AcksNobodySent, 3, &["durability:"]);
}

#[test]
fn members_that_join_without_a_word() {
    is_seen_in(Sabotage::CountsJoinersUnheard, &["durability:"], |seed| Plan::of_seed(seed, Some(3)).reconfiguring());
}

#[test]
fn an_oracle_that_says_yes_to_both() {
    is_seen_in(
        Sabotage::OracleGrantsBoth,
        &["durability:", "history:", "acknowledged:", "linearizable:", "ephemerals:"],
        Plan::with_oracle,
    );
}

#[test]
fn observers_that_hear_of_what_is_only_proposed() {
    is_seen_in(Sabotage::InformsEarly, &["durability:"], |seed| Sabotage::InformsEarly.plan(seed));
}

#[test]
fn requests_of_observers_that_their_clients_have_left() {
    is_seen_in(Sabotage::RelaysForAnybody, &["session moved:", "write order:", "session order:"], |seed| {
        Sabotage::RelaysForAnybody.plan(seed)
    });
}

#[test]
fn a_transaction_lost_at_a_start() {
    is_seen(Sabotage::LosesOnRecovery, 3, &["durability:"]);
    is_seen(
        Sabotage::LosesOnRecovery,
        1,
        &["linearizable:", "history:", "acknowledged:", "durability:", "session order:", "restores:"],
    );
}

#[test]
fn an_epoch_that_was_promised_and_not_kept() {
    is_seen(Sabotage::ForgetsEpochs, 3, &["durability:"]);
}

#[test]
fn a_watch_event_that_is_lost() {
    is_seen(Sabotage::DropsEvent, 3, &["watches:"]);
}

#[test]
fn a_watch_event_that_comes_late() {
    is_seen(Sabotage::DelaysEvent, 3, &["watches:", "session order:"]);
}

#[test]
fn answers_that_change_places() {
    is_seen(Sabotage::ReordersReplies, 3, &["session order:"]);
}

#[test]
fn an_answer_that_names_another_transaction() {
    is_seen(Sabotage::WrongAnswer, 3, &["acknowledged:", "linearizable:", "session order:", "watches:"]);
}

#[test]
fn a_sync_that_asks_nobody() {
    is_seen(Sabotage::SkipsSync, 3, &["linearizable: a read behind a sync"]);
}

#[test]
fn an_ephemeral_node_that_survives_its_session() {
    is_seen(Sabotage::KeepsEphemeral, 3, &["ephemerals:"]);
}

#[test]
fn a_state_that_differs() {
    is_seen(Sabotage::WrongState, 3, &["history:"]);
}

#[test]
fn a_digest_that_misses_what_was_set() {
    is_seen(Sabotage::UndigestedRights, 3, &["history:"]);
}

#[test]
fn an_ensemble_that_does_not_come_right() {
    is_seen(Sabotage::NeverHeals, 3, &["progress:"]);
}

#[test]
fn an_end_that_is_not_seen_while_bytes_are_unsent() {
    is_seen(Sabotage::IgnoresHangUps, 3, &["connections:"]);
}

#[test]
fn a_session_that_answers_to_a_connection_its_client_has_left() {
    is_seen(Sabotage::TakesFromAnybody, 3, &["session moved:", "write order:"]);
    is_seen(Sabotage::ForgetsOwners, 3, &["session moved:", "write order:"]);
}

#[test]
fn a_session_that_ends_early_or_never() {
    is_seen(Sabotage::ExpiresAtOnce, 3, &["expiry:", "progress:"]);
    is_seen(Sabotage::ExpiresEarly, 3, &["expiry:"]);
    is_seen(Sabotage::NeverExpires, 3, &["expiry:"]);
    is_seen(Sabotage::IgnoresTouches, 3, &["expiry:"]);
}

#[test]
fn a_server_that_hears_itself() {
    is_seen(Sabotage::HearsItself, 3, &["touches:", "expiry:"]);
}

#[test]
fn a_refusal_for_another_reason() {
    is_seen(Sabotage::WrongRefusal, 3, &["refusals:"]);
    is_seen(Sabotage::MisreportsRefusals, 3, &["acknowledged:"]);
}

#[test]
fn a_log_that_is_cut_and_not_synced() {
    is_seen_in(Sabotage::TruncatesUnsynced, &["history:", "durability:", "recovery:"], |seed| {
        Sabotage::TruncatesUnsynced.plan(seed)
    });
}

#[test]
fn a_snapshot_that_shows_more_than_the_log_on_disk() {
    let plan = |seed| Sabotage::SnapshotAheadOfLog.plan(seed);
    is_seen_in(Sabotage::SnapshotAheadOfLog, &["recovery:", "history:", "durability:"], plan);
}

#[test]
fn a_client_that_is_excused_although_it_does_not_read() {
    is_seen_in(Sabotage::ExcusesWhoDoesNotRead, &["connections:"], |seed| Sabotage::ExcusesWhoDoesNotRead.plan(seed));
}

#[test]
fn a_promise_that_is_forgotten() {
    let names = ["durability:", "promises:", "leaders:", "progress:"];
    is_seen_in(Sabotage::ForgetsPromises, &names, |seed| Sabotage::ForgetsPromises.plan(seed));
}

#[test]
fn heads_that_are_counted_where_voices_have_weights() {
    is_seen_in(Sabotage::IgnoresWeights, &["durability:"], |seed| Sabotage::IgnoresWeights.plan(seed));
}

#[test]
fn files_that_are_trusted_although_the_log_knows_better() {
    is_seen_in(Sabotage::TrustsOldFiles, &["members:"], |seed| Sabotage::TrustsOldFiles.plan(seed));
}

#[test]
fn growth_that_is_let_through_without_room_and_refused_with_room() {
    is_seen(Sabotage::IgnoresShortages, 3, &["refusals:"]);
    is_seen(Sabotage::StaysShort, 3, &["refusals:"]);
}

#[test]
fn a_restored_tree_that_is_answered_for_before_it_is_durable() {
    is_seen_in(Sabotage::RestoresUnsynced, &["restores:", "durability:"], |seed| Sabotage::RestoresUnsynced.plan(seed));
}

#[test]
fn a_restored_tree_that_brings_its_sessions_back() {
    let names = ["ephemerals:", "history:", "linearizable:", "refusals:"];
    is_seen_in(Sabotage::RestoresSessions, &names, |seed| Sabotage::RestoresSessions.plan(seed));
}

#[test]
fn a_snapshot_for_who_has_more() {
    let names = ["durability:", "history:", "session order:", "linearizable:", "acknowledged:"];
    is_seen_in(Sabotage::SnapshotsWhoHasMore, &names, |seed| Sabotage::SnapshotsWhoHasMore.plan(seed));
}

#[test]
fn an_acknowledgement_that_counts_although_it_was_taken_back() {
    is_seen_in(Sabotage::KeepsAcknowledgements, &["durability:"], |seed| Sabotage::KeepsAcknowledgements.plan(seed));
}

#[test]
fn a_sync_that_joins_a_round_of_pings_in_flight() {
    let names = ["linearizable: a read behind a sync"];
    is_seen_in(Sabotage::JoinsRoundInFlight, &names, |seed| Sabotage::JoinsRoundInFlight.plan(seed));
}

/// What comes of it has many names: whatever was acknowledged by the disk that is gone.
#[test]
fn a_server_that_lost_its_disk_and_is_counted() {
    for seed in 0..600 {
        let plan = Plan::of_seed(seed, Some(3)).losing_disks();
        let planted = Plan { sabotage: Some(Sabotage::VotesWithoutItsDisk), ..plan.clone() };
        if live(planted, false).violation.is_some() {
            assert_eq!(live(plan, false).violation, None, "it is the bug that is seen (seed {seed})");
            return;
        }
    }
    panic!("it was not seen");
}

#[test]
fn two_leaders_of_an_epoch() {
    let mut leaders = Leaders::default();
    assert_eq!(leaders.leads(1, Epoch(3)), Ok(()));
    assert_eq!(leaders.leads(2, Epoch(4)), Ok(()));
    assert!(leaders.leads(1, Epoch(4)).is_err());
    assert!(leaders.leads(1, Epoch(2)).is_err());
    assert_eq!(leaders.leads(3, Epoch(2)), Ok(()), "it was acknowledged long ago, and stood still");
}
