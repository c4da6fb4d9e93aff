//! The recipes in virtual time: their logic beside the ensembles, with clients that freeze past their sessions and connections that are lost between a
//! create and its answer. And each of them with a bug planted, which is seen.

use rookeeper_sim::patrons::{RECIPES, Recipe};
use rookeeper_sim::{Plan, Sabotage, live};

/// Lives for each recipe.
const LIVES: u64 = 40;

/// Every fourth life is that of a server alone.
fn servers(seed: u64) -> usize {
    if seed.is_multiple_of(4) { 1 } else { 3 }
}

fn lives_of(recipe: Recipe) {
    let (mut ended, mut lost, mut frozen) = (0, 0, 0);
    for seed in 0..LIVES {
        let outcome = live(Plan::of_seed(seed, Some(servers(seed))).with_recipe(recipe), false);
        assert_eq!(outcome.violation, None, "seed {seed}, {recipe:?}");
        let rare = |what: &str| outcome.figures.rare.get(what).copied().unwrap_or_default();
        ended += rare("patrons whose sessions ended");
        lost += rare("answers that patrons lost");
        frozen += rare("patrons that freeze within a request");
    }
    println!("{recipe:?}: {ended} sessions ended, {lost} answers lost, {frozen} freezes");
    assert!(ended > LIVES / 2 && lost > LIVES / 2 && frozen > LIVES / 2, "{ended} {lost} {frozen}");
}

#[test]
fn locks_whose_holders_act_on_leases() {
    lives_of(Recipe::Lock);
}

#[test]
fn elections() {
    lives_of(Recipe::Election);
}

#[test]
fn readers_and_writers() {
    lives_of(Recipe::ReadWrite);
}

#[test]
fn semaphores() {
    lives_of(Recipe::Semaphore);
}

#[test]
fn queues() {
    lives_of(Recipe::Queue);
}

#[test]
fn meetings() {
    lives_of(Recipe::Meeting);
}

#[test]
fn counters() {
    lives_of(Recipe::Counter);
}

#[test]
fn groups() {
    lives_of(Recipe::Group);
}

/// The first life in which the bug is seen tells it in one of these words.
fn is_seen(sabotage: Sabotage, words: &[&str]) {
    let violation = (0..300).find_map(|seed| live(sabotage.plan(seed), false).violation);
    let violation = violation.unwrap_or_else(|| panic!("{sabotage:?} is not seen"));
    assert!(words.iter().any(|words| violation.contains(words)), "{violation}");
}

#[test]
fn a_lease_that_counts_from_the_answer() {
    is_seen(Sabotage::ProvesFromTheAnswer, &["lock: "]);
}

#[test]
fn a_leader_without_a_proof() {
    is_seen(Sabotage::LeadsUnproved, &["election: "]);
}

#[test]
fn a_reader_that_does_not_look_for_writers() {
    is_seen(Sabotage::ReadsBesideWriters, &["read-write lock: "]);
}

#[test]
fn a_lease_too_many() {
    is_seen(Sabotage::LeasesOneTooMany, &["semaphore: "]);
}

#[test]
fn an_item_that_stays_taken_when_its_taker_is_gone() {
    is_seen(Sabotage::KeepsItemsTaken, &["recipes: "]);
}

#[test]
fn a_push_that_is_not_noted() {
    is_seen(Sabotage::PushesWithoutTicket, &["recipes: ", "queue: "]);
}

#[test]
fn a_member_that_counts_itself_twice() {
    is_seen(Sabotage::CountsItselfTwice, &["meeting: "]);
}

#[test]
fn a_change_that_is_not_noted() {
    is_seen(Sabotage::CountsWithoutTicket, &["counter: "]);
}

#[test]
fn the_same_seed_is_the_same_life() {
    for recipe in RECIPES {
        let plan = Plan::of_seed(7, Some(servers(7))).with_recipe(recipe);
        assert_eq!(live(plan.clone(), false).trace_hash, live(plan, false).trace_hash);
    }
}

#[test]
fn a_member_that_leaves_by_its_name() {
    is_seen(Sabotage::LeavesByName, &["group: "]);
}

#[test]
fn a_member_that_leaves_twice() {
    is_seen(Sabotage::LeavesTwice, &["group: "]);
}

#[test]
fn one_that_follows_until_the_connection_is_lost() {
    is_seen(Sabotage::FollowsOnce, &["recipes: ", "group: "]);
}

#[test]
fn one_that_follows_only_after_the_list() {
    is_seen(Sabotage::ListsThenFollows, &["group: ", "recipes: "]);
}
