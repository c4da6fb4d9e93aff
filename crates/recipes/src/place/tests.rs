//! Transcripts of single places: what is asked for, in order, after each answer.

use super::*;

const MUTEX: Rule = Rule::NobodyBefore(&["lock-", "__lock__"]);

fn place(rule: Rule) -> Place {
    Place::new("/l", "_c_7-lock-".to_owned(), b"me".to_vec(), rule)
}

fn names(names: &[&str]) -> Answer {
    Answer::Names(names.iter().map(|name| (*name).to_owned()).collect())
}

fn created() -> Answer {
    Answer::Created { name: "_c_7-lock-0000000005".to_owned(), czxid: 50 }
}

fn create() -> Step {
    Step::Create { prefix: "/l/_c_7-lock-".to_owned(), data: b"me".to_vec() }
}

fn list() -> Step {
    Step::List { path: "/l".to_owned() }
}

fn sync() -> Step {
    Step::Sync { path: "/l".to_owned() }
}

fn delete() -> Step {
    Step::Delete { path: "/l/_c_7-lock-0000000005".to_owned() }
}

fn hold() -> Step {
    Step::Hold(Holding { path: "/l/_c_7-lock-0000000005".to_owned(), czxid: 50 })
}

/// Answers what is asked for, and returns all that was asked for, with what comes after the last answer.
fn play(place: &mut Place, answers: &[Answer]) -> Vec<Step> {
    let mut steps = Vec::new();
    for answer in answers {
        steps.push(place.step());
        place.handle(answer.clone());
    }
    steps.push(place.step());
    steps
}

#[test]
fn the_first_in_the_line_holds_after_two_requests() {
    let steps =
        play(&mut place(MUTEX), &[created(), names(&["_c_9-lock-0000000006", "_c_7-lock-0000000005", "other"])]);
    assert_eq!(steps, [create(), list(), hold()]);
}

#[test]
fn a_line_that_does_not_exist_is_made() {
    let steps = play(&mut place(MUTEX), &[Answer::NoNode, Answer::Done]);
    assert_eq!(steps, [create(), Step::MakeParent { path: "/l".to_owned() }, create()]);
}

#[test]
fn only_the_nearest_before_is_watched() {
    let line = names(&["x__lock__0000000004", "_c_7-lock-0000000005", "_c_2-lock-0000000002", "_c_9-lock-0000000006"]);
    let watch = Step::Watch { path: "/l/x__lock__0000000004".to_owned() };
    let steps =
        play(&mut place(MUTEX), &[created(), line, Answer::Done, Answer::Changed, names(&["_c_7-lock-0000000005"])]);
    assert_eq!(steps, [create(), list(), watch, Step::Wait, list(), hold()]);
}

#[test]
fn a_reader_passes_readers() {
    let rule = Rule::NobodyBefore(&["__WRIT__"]);
    let line = names(&["_c_1-__READ__0000000004", "_c_7-lock-0000000005"]);
    assert_eq!(play(&mut place(rule), &[created(), line]).last(), Some(&hold()));
}

#[test]
fn an_unknown_create_is_looked_for_behind_a_sync_and_never_repeated() {
    let steps = play(
        &mut place(MUTEX),
        &[Answer::Unknown, Answer::Unknown, Answer::Done, names(&["_c_7-lock-0000000005"]), Answer::Czxid(50)],
    );
    let stat = Step::Stat { path: "/l/_c_7-lock-0000000005".to_owned() };
    assert_eq!(steps, [create(), sync(), sync(), list(), stat, list()]);
}

#[test]
fn a_create_that_was_not_carried_out_is_made_again() {
    let steps = play(&mut place(MUTEX), &[Answer::Unknown, Answer::Done, names(&["_c_8-lock-0000000005"])]);
    assert_eq!(steps, [create(), sync(), list(), create()]);
}

#[test]
fn whoever_was_deleted_by_others_stands_at_the_end_again() {
    let steps = play(&mut place(MUTEX), &[created(), names(&["_c_2-lock-0000000002"])]);
    assert_eq!(steps, [create(), list(), create()]);
}

#[test]
fn a_lease_is_held_when_there_are_few_enough() {
    let list = Step::ListAndWatch { path: "/l".to_owned() };
    let steps = play(
        &mut place(Rule::AtMost(1)),
        &[created(), names(&["a", "_c_7-lock-0000000005"]), Answer::Changed, names(&["_c_7-lock-0000000005"])],
    );
    assert_eq!(steps, [create(), list.clone(), Step::Wait, list, hold()]);
}

#[test]
fn leaving_deletes_wherever_the_place_was() {
    let mut untouched = place(MUTEX);
    untouched.leave();
    assert!(!untouched.may_exist());

    let mut underway = place(MUTEX);
    assert_eq!(underway.step(), create());
    underway.leave();
    assert!(underway.may_exist());
    let steps = play(&mut underway, &[Answer::Done, names(&["_c_7-lock-0000000005"]), Answer::Unknown, Answer::NoNode]);
    assert_eq!(steps, [sync(), list(), delete(), delete(), Step::Gone]);

    let mut held = place(MUTEX);
    play(&mut held, &[created(), names(&["_c_7-lock-0000000005"])]);
    held.leave();
    assert_eq!(play(&mut held, &[Answer::Done]), [delete(), Step::Gone]);
    assert!(!held.may_exist());
}
