//! Many that meet on a tree in memory, again and again, under everything that can happen to them.
//!
//! Checked: nobody enters before so many were there at once; nobody's leaving ends while another of the round is there; everybody gets through; and
//! nothing is left.

use super::*;
use crate::model::Model;

const COUNT: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Coming; whether so many were there at once meanwhile, or somebody whom the barrier had opened for.
    Entering {
        was_full: bool,
    },
    Inside,
    Leaving,
    Away,
}

struct One {
    session: i64,
    member: Member,
    phase: Phase,
    rounds: u32,
}

struct World {
    model: Model,
    all: Vec<One>,
    sessions: i64,
    ids: u64,
}

impl World {
    fn member(&mut self) -> Member {
        self.ids += 1;
        Member::new("/b", &format!("m{}", self.ids), Vec::new(), COUNT)
    }

    fn there(&self) -> usize {
        // The node of one that leaves may still be there.
        self.all.iter().filter(|one| one.phase != Phase::Away).count()
    }

    fn enter(&mut self, at: usize) {
        let member = self.member();
        let open = [Phase::Entering { was_full: true }, Phase::Inside, Phase::Leaving];
        let was_full = self.all.iter().any(|one| open.contains(&one.phase));
        (self.all[at].member, self.all[at].phase) = (member, Phase::Entering { was_full });
        if self.there() >= COUNT {
            for one in &mut self.all {
                if let Phase::Entering { was_full } = &mut one.phase {
                    *was_full = true;
                }
            }
        }
    }

    fn run(mut self) {
        for step in 0..9_000 {
            if step == 6_000 {
                self.model.faults = 0;
            }
            let faults = self.model.faults > 0;
            let at = self.model.random.below(self.all.len() as u64) as usize;
            if faults && self.model.random.one_in(300) {
                self.sessions += 1;
                self.model.expire(self.all[at].session);
                (self.all[at].session, self.all[at].phase) = (self.sessions, Phase::Away);
                continue;
            }
            match self.all[at].phase {
                Phase::Away => {
                    self.enter(at);
                    continue;
                }
                Phase::Inside if self.model.random.one_in(4) => {
                    self.all[at].member.leave(true);
                    self.all[at].phase = Phase::Leaving;
                }
                Phase::Inside => continue,
                // Given up: out, and in again later.
                Phase::Entering { .. } if faults && self.model.random.one_in(80) => {
                    self.all[at].member.leave(false);
                    self.all[at].phase = Phase::Leaving;
                }
                _ => {}
            }
            let One { session, member, .. } = &mut self.all[at];
            match member.step(0) {
                Step::Ask(Ask::Wait { .. }) => {
                    let mut has_fired = false;
                    let nothing = Ask::Exists { path: "/".to_owned(), watch: false };
                    self.model.ask(*session, &nothing, &mut |_| has_fired = true);
                    if has_fired {
                        member.handle(Reply::Waited);
                    }
                }
                Step::Ask(ask) => {
                    let reply = self.model.ask(*session, &ask, &mut |_| {});
                    member.handle(reply);
                }
                Step::Done(Passage::Entered) => {
                    let Phase::Entering { was_full } = self.all[at].phase else { panic!("entered twice") };
                    assert!(was_full, "entered too early: {:?}", self.model.paths());
                    (self.all[at].phase, self.all[at].rounds) = (Phase::Inside, self.all[at].rounds + 1);
                }
                Step::Done(Passage::Left) => self.all[at].phase = Phase::Away,
            }
        }
        for one in &self.all {
            assert!(one.rounds > 5, "{} rounds: {:?}", one.rounds, one.member);
        }
        self.all_leave();
        assert_eq!(self.model.paths(), ["/", "/b"], "nothing is left");
    }

    /// One after the other, none of them waiting for the others.
    fn all_leave(&mut self) {
        for One { session, member, .. } in &mut self.all {
            member.leave(false);
            while let Step::Ask(ask) = member.step(0) {
                let reply = self.model.ask(*session, &ask, &mut |_| {});
                member.handle(reply);
            }
        }
    }
}

#[test]
fn nobody_enters_before_all_are_there() {
    for seed in 1..80 {
        let mut world = World { model: Model::new(seed), all: Vec::new(), sessions: 0, ids: 0 };
        for _ in 0..COUNT {
            world.sessions += 1;
            let (session, member) = (world.sessions, world.member());
            world.all.push(One { session, member, phase: Phase::Away, rounds: 0 });
        }
        world.run();
    }
}

/// A door that was closed before somebody came is not seen open by whoever has not heard of it.
#[test]
fn a_door_is_not_open_because_a_server_is_behind() {
    let mut closed = 0;
    for seed in 1..200 {
        let mut model = Model::new(seed);
        model.faults = 0;
        let close = Ask::Create { path: "/door".to_owned(), data: Vec::new(), kind: Kind::Persistent };
        model.ask(1, &close, &mut |_| {});
        let mut waiting = Watching::until_gone("/door");
        for _ in 0..5 {
            match waiting.step(0) {
                Step::Done(()) => panic!("open"),
                Step::Ask(Ask::Wait { .. }) => {
                    closed += 1;
                    break;
                }
                Step::Ask(ask) => {
                    let reply = model.ask(2, &ask, &mut |_| {});
                    waiting.handle(reply);
                }
            }
        }
    }
    assert_eq!(closed, 199);
}
