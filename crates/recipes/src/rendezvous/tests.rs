//! What a member of a meeting asks for in the moments that a run by chance seldom brings about.

use super::*;
use crate::ask::Facts;

const NODE: &str = "/b/m1";

fn member() -> Member {
    Member::new("/b", "m1", Vec::new(), 2)
}

fn facts(czxid: i64, version: i32) -> Reply {
    Reply::Facts(Facts { czxid, version, ..Facts::default() })
}

fn names(names: &[&str]) -> Reply {
    Reply::Names(names.iter().map(|name| (*name).to_owned()).collect())
}

fn created(czxid: i64) -> Reply {
    Reply::Created { path: NODE.to_owned(), czxid }
}

const NO_NODE: Reply = Reply::Refused(Refusal::NoNode);

/// What comes next, after each of these answers.
fn after(member: &mut Member, replies: impl IntoIterator<Item = Reply>) -> Step<Passage> {
    for reply in replies {
        assert!(matches!(member.step(0), Step::Ask(_)), "{member:?} has nothing to ask");
        member.handle(reply);
    }
    member.step(0)
}

fn exists(path: &str, watch: bool) -> Step<Passage> {
    Step::Ask(Ask::Exists { path: path.to_owned(), watch })
}

/// The removal of `ready`, unless another member has removed one since the barrier had this version.
fn removal(version: i32) -> Step<Passage> {
    let claim = Op::Set { path: "/b".to_owned(), data: Vec::new(), version: Some(version) };
    Step::Ask(Ask::Multi(vec![claim, Op::Delete { path: "/b/ready".to_owned() }]))
}

/// Until the member has seen that it is one of two, and has opened.
fn entered() -> Member {
    let mut member = member();
    let opened = Reply::Created { path: "/b/ready".to_owned(), czxid: 12 };
    let step = after(&mut member, [created(11), NO_NODE, names(&["m0", "m1"]), opened]);
    assert_eq!(step, Step::Done(Passage::Entered));
    member
}

#[test]
fn a_member_whose_node_is_gone_comes_again() {
    let mut member = member();
    let step = after(&mut member, [created(11), NO_NODE, names(&["m0", "m2"])]);
    assert_eq!(step, Step::Ask(Ask::Create { path: NODE.to_owned(), data: Vec::new(), kind: Kind::Ephemeral }));
}

#[test]
fn whoever_finds_it_opened_by_another_looks_whether_that_is_of_this_round() {
    let mut member = member();
    let taken = Reply::Refused(Refusal::NodeExists);
    let step = after(&mut member, [created(11), NO_NODE, names(&["m0", "m1"]), taken]);
    assert_eq!(step, exists("/b/ready", true));
    assert_eq!(after(&mut member, [facts(12, 0)]), Step::Done(Passage::Entered));
}

/// The barrier was opened before this member came, and one of that round is still there.
#[test]
fn whoever_comes_late_goes_through() {
    let mut member = member();
    let step = after(&mut member, [created(11), facts(9, 0), facts(3, 5), facts(9, 0), names(&["m0", "m1", "ready"])]);
    assert_eq!(step, exists("/b/m0", false));
    assert_eq!(after(&mut member, [facts(8, 0)]), Step::Done(Passage::Entered));
}

/// The barrier was opened before this member came, and nobody of that round is there any more.
#[test]
fn what_was_left_behind_is_removed_and_not_that_of_a_later_round() {
    let mut member = member();
    let replies = [created(11), facts(9, 0), facts(3, 5), facts(9, 0), names(&["m0", "m1", "ready"]), facts(10, 0)];
    assert_eq!(after(&mut member, replies), removal(5));
    let removed_by_another = Reply::Failed { index: 0, why: Refusal::BadVersion };
    assert_eq!(after(&mut member, [removed_by_another]), exists("/b/ready", true));
}

#[test]
fn the_last_to_leave_closes_the_barrier() {
    let mut member = entered();
    member.leave(true);
    let step = after(&mut member, [Reply::Done, facts(3, 7), names(&["ready"])]);
    assert_eq!(step, removal(7));
    assert_eq!(after(&mut member, [Reply::Made(Vec::new())]), Step::Done(Passage::Left));
}

#[test]
fn whoever_leaves_waits_for_those_of_its_round_and_for_nobody_else() {
    let mut member = entered();
    member.leave(true);
    let step = after(&mut member, [Reply::Done, facts(3, 7), names(&["m0", "m2", "ready"]), facts(13, 0)]);
    // The last of the list came after the opening.
    assert_eq!(step, exists("/b/m0", true));
    assert_eq!(after(&mut member, [facts(10, 0)]), Step::Ask(Ask::Wait { until_ms: None }));
    let step = after(&mut member, [Reply::Waited, facts(3, 7), names(&["m2", "ready"]), facts(13, 0)]);
    assert_eq!(step, Step::Done(Passage::Left));
}

#[test]
fn whoever_gives_up_with_a_create_on_its_way_deletes_behind_a_sync() {
    let mut member = member();
    member.step(0);
    member.leave(false);
    assert_eq!(member.step(0), Step::Ask(Ask::Sync { path: "/b".to_owned() }));
    assert_eq!(after(&mut member, [Reply::Done]), Step::Ask(Ask::Delete { path: NODE.to_owned() }));
}
