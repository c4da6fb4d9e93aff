//! One's own membership of a group, without IO: from the wish to join until the node is gone.
//!
//! What always holds:
//! - A node of this name that belongs to another session is waited for, and never deleted. So a deletion whose answer was lost is not made again
//!   blindly: the name may have another owner meanwhile.
//! - A node of this name that belongs to the own session is the own one, whatever became of the answer to its create: nobody else may use the name in the
//!   same session.

use std::mem;

use crate::ask::{Ask, Kind, Recipe, Refusal, Reply, Step};
use crate::name::join;

/// What has become of a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attendance {
    /// The node is there, since this zxid.
    Joined(i64),
    /// The node is gone, or there was none.
    Left,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was asked yet.
    Outside,
    Creating,
    MakingPath,
    /// There is a node of this name: whose?
    Looking,
    /// Until the node of another session is gone.
    Waiting,
    Inside,
    // Leaving: a create or a deletion whose answer was lost is over behind a `sync`; then the own node is deleted, and no other.
    SyncingToLeave,
    LookingToLeave,
    Deleting,
    Left,
}

/// One member of a group, from its coming to its going.
#[derive(Debug, Clone)]
pub struct Enrolment {
    group: String,
    id: String,
    data: Vec<u8>,
    session: i64,
    joined: i64,
    state: State,
}

impl Enrolment {
    /// A member that is called `id`, and nobody else in this session is.
    pub fn new(group: &str, id: &str, data: Vec<u8>, session: i64) -> Enrolment {
        let (group, id) = (group.to_owned(), id.to_owned());
        Enrolment { group, id, data, session, joined: -1, state: State::Outside }
    }

    /// The whole path of the member's node.
    pub fn node(&self) -> String {
        join(&self.group, &self.id)
    }

    /// The zxid of the joining, -1 before that is known.
    pub fn joined(&self) -> i64 {
        self.joined
    }

    /// From now on all steps lead out, whatever is on its way.
    pub fn leave(&mut self) {
        self.state = match self.state {
            State::Outside | State::Left => State::Left,
            _ => State::SyncingToLeave,
        };
    }

    /// Whether the node is gone for certain, or never was.
    pub fn has_left(&self) -> bool {
        matches!(self.state, State::Outside | State::Left)
    }

    fn inside(&mut self, joined: i64) -> State {
        self.joined = joined;
        State::Inside
    }
}

impl Recipe for Enrolment {
    type Outcome = Attendance;

    fn step(&mut self, _now_ms: u64) -> Step<Attendance> {
        if self.state == State::Outside {
            self.state = State::Creating;
        }
        let path = self.node();
        Step::Ask(match self.state {
            State::Outside | State::Creating => Ask::Create { path, data: self.data.clone(), kind: Kind::Ephemeral },
            State::MakingPath => Ask::MakeContainer { path: self.group.clone() },
            State::Looking => Ask::Exists { path, watch: true },
            State::Waiting => Ask::Wait { until_ms: None },
            State::Inside => return Step::Done(Attendance::Joined(self.joined)),
            State::SyncingToLeave => Ask::Sync { path },
            State::LookingToLeave => Ask::Exists { path, watch: false },
            State::Deleting => Ask::Delete { path },
            State::Left => return Step::Done(Attendance::Left),
        })
    }

    fn handle(&mut self, reply: Reply) {
        self.state = match (mem::replace(&mut self.state, State::Left), reply) {
            (State::Creating, Reply::Created { czxid, .. }) => self.inside(czxid),
            (State::Creating, Reply::Refused(Refusal::NodeExists)) => State::Looking,
            (State::Creating, Reply::Refused(_)) => State::MakingPath,
            (State::MakingPath, Reply::Unknown) => State::MakingPath,
            (State::MakingPath, _) => State::Creating,
            // The answer to an earlier create was lost.
            (State::Looking, Reply::Facts(facts)) if facts.owner == self.session => self.inside(facts.czxid),
            (State::Looking, Reply::Facts(_)) => State::Waiting,
            (State::Looking, Reply::Refused(_)) => State::Creating,
            (State::Waiting, _) => State::Creating,
            // An answer to what was asked before the leaving says nothing that the looking will not.
            (State::SyncingToLeave, Reply::Done) => State::LookingToLeave,
            (State::SyncingToLeave, _) => State::SyncingToLeave,
            (State::LookingToLeave, Reply::Facts(facts)) if facts.owner == self.session => State::Deleting,
            (State::LookingToLeave, Reply::Facts(_) | Reply::Refused(_)) => State::Left,
            (State::Deleting, Reply::Done | Reply::Refused(_)) => State::Left,
            (State::Deleting, Reply::Unknown) => State::SyncingToLeave,
            (state, Reply::Unknown) => state,
            (state, reply) => panic!("{reply:?} is no answer in the state {state:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Facts;

    const OWN: i64 = 7;

    fn facts(owner: i64) -> Reply {
        Reply::Facts(Facts { czxid: 40, owner, ..Facts::default() })
    }

    fn asks(enrolment: &mut Enrolment) -> Ask {
        match enrolment.step(0) {
            Step::Ask(ask) => ask,
            Step::Done(outcome) => panic!("{outcome:?}"),
        }
    }

    /// What is asked, after each of these answers.
    fn after(enrolment: &mut Enrolment, replies: impl IntoIterator<Item = Reply>) -> Step<Attendance> {
        for reply in replies {
            asks(enrolment);
            enrolment.handle(reply);
        }
        enrolment.step(0)
    }

    fn delete() -> Step<Attendance> {
        Step::Ask(Ask::Delete { path: "/g/a".to_owned() })
    }

    fn member() -> Enrolment {
        Enrolment::new("/g", "a", Vec::new(), OWN)
    }

    #[test]
    fn a_node_of_the_own_session_is_the_own_node() {
        let mut member = member();
        let step = after(&mut member, [Reply::Unknown, Reply::Refused(Refusal::NodeExists), facts(OWN)]);
        assert_eq!(step, Step::Done(Attendance::Joined(40)));
    }

    #[test]
    fn the_node_of_another_session_is_waited_for_and_not_deleted() {
        let mut member = member();
        let step = after(&mut member, [Reply::Refused(Refusal::NodeExists), facts(8)]);
        assert_eq!(step, Step::Ask(Ask::Wait { until_ms: None }));
        member.leave();
        assert_eq!(after(&mut member, [Reply::Done, facts(8)]), Step::Done(Attendance::Left));
    }

    #[test]
    fn a_deletion_whose_answer_was_lost_is_looked_after() {
        let mut member = member();
        after(&mut member, [Reply::Created { path: "/g/a".to_owned(), czxid: 40 }]);
        member.leave();
        assert_eq!(after(&mut member, [Reply::Done, facts(OWN)]), delete());
        // It was made, and another has come.
        assert_eq!(after(&mut member, [Reply::Unknown, Reply::Done, facts(8)]), Step::Done(Attendance::Left));
    }

    #[test]
    fn a_deletion_that_was_not_made_is_made_again() {
        let mut member = member();
        after(&mut member, [Reply::Created { path: "/g/a".to_owned(), czxid: 40 }]);
        member.leave();
        after(&mut member, [Reply::Done, facts(OWN)]);
        assert_eq!(after(&mut member, [Reply::Unknown, Reply::Done, facts(OWN)]), delete());
        assert_eq!(after(&mut member, [Reply::Done]), Step::Done(Attendance::Left));
        assert!(member.has_left());
    }

    #[test]
    fn whoever_leaves_with_a_create_on_its_way_looks_for_its_node() {
        let mut member = member();
        asks(&mut member);
        member.leave();
        assert!(!member.has_left());
        assert_eq!(asks(&mut member), Ask::Sync { path: "/g/a".to_owned() });
        assert_eq!(after(&mut member, [Reply::Done, facts(OWN)]), delete());
    }

    #[test]
    fn whoever_never_came_has_left_at_once() {
        let mut member = member();
        member.leave();
        assert_eq!(member.step(0), Step::Done(Attendance::Left));
    }
}
