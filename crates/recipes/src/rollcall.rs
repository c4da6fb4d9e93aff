//! Who comes to a group and who goes, without IO: from a list, and from what is heard since, to joins and leaves in their order.
//!
//! What always holds, on servers that say at which zxid something happened (3.9 or newer):
//! - What was told is the group as it was at one moment, and that moment never goes back. Where the connection was not lost it comes by every join and every
//!   leave.
//! - A list names the zxid at which it was true. Whatever was heard of before that is in the list; and a member that is read and is younger than the list
//!   has taken the name of one that was in the list.

use std::collections::VecDeque;
use std::mem;

use crate::ask::{Ask, Happened, News, Recipe, Reply, Step};
use crate::name::join;
use crate::roster::{Change, Member, Roster};

/// Something that happened to a member's node.
#[derive(Debug, Clone)]
struct Event {
    id: String,
    what: Happened,
    /// -1 where the servers do not tell.
    zxid: i64,
}

/// When the group was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Listed {
    /// How often it was.
    pub times: u64,
    /// The zxid of the last coming or going that the last list shows; nothing where the group had no node.
    pub as_of: Option<i64>,
}

#[derive(Debug, Clone)]
enum State {
    /// The watch comes first, so that nothing falls between it and the list.
    Following,
    Listing,
    /// Each of the list is asked for what it says.
    Asking {
        rest: Vec<String>,
        as_of: i64,
        members: Vec<Member>,
        /// Those that have gone before they could be asked.
        gone: Vec<String>,
    },
    Listening,
    /// What one says that has come or changed.
    Visiting(Event),
}

/// Follows one group.
#[derive(Debug)]
pub struct Rollcall {
    path: String,
    state: State,
    listed: Listed,
    /// What was heard and not looked into yet.
    events: VecDeque<Event>,
    /// The connection was lost and is there again: all begins anew.
    is_back: bool,
    roster: Roster,
}

impl Rollcall {
    /// Follows the group at `path`.
    pub fn new(path: &str) -> Rollcall {
        Rollcall {
            path: path.to_owned(),
            state: State::Following,
            listed: Listed::default(),
            events: VecDeque::new(),
            is_back: false,
            roster: Roster::default(),
        }
    }

    /// When the group was listed last.
    pub fn listed(&self) -> Listed {
        self.listed
    }

    /// Whether there are changes that were not told yet.
    pub fn has_changes(&self) -> bool {
        !self.roster.is_empty()
    }

    fn visit(&mut self, event: &Event, now: Option<Member>) {
        match (event.what, now) {
            (Happened::Created, now) => self.roster.created(&event.id, event.zxid, now),
            (Happened::Changed, Some(now)) => self.roster.data_changed(now),
            (Happened::Changed, None) => {}
            (Happened::Deleted, _) => self.roster.deleted(&event.id, event.zxid),
        }
    }

    /// All of the list were asked, or the next is.
    fn asked(&mut self, rest: Vec<String>, as_of: i64, members: Vec<Member>, gone: Vec<String>) -> State {
        if !rest.is_empty() {
            return State::Asking { rest, as_of, members, gone };
        }
        self.listed = Listed { times: self.listed.times + 1, as_of: Some(as_of) };
        self.roster.listed(members, &gone);
        self.events.retain(|event| event.zxid <= 0 || event.zxid > as_of);
        State::Listening
    }
}

impl Recipe for Rollcall {
    type Outcome = Change;

    fn step(&mut self, _now_ms: u64) -> Step<Change> {
        loop {
            if let Some(change) = self.roster.next() {
                return Step::Done(change);
            }
            if mem::take(&mut self.is_back) {
                self.events.clear();
                self.state = State::Following;
            }
            return Step::Ask(match &mut self.state {
                State::Following => Ask::Follow { path: self.path.clone() },
                State::Listing => {
                    // What was heard before this question is older than its answer.
                    self.events.clear();
                    Ask::List { path: self.path.clone() }
                }
                State::Asking { rest, .. } => {
                    let id = rest.last().map_or("", String::as_str);
                    Ask::Get { path: join(&self.path, id), watch: false }
                }
                State::Listening => match self.events.pop_front() {
                    Some(event) if event.what == Happened::Deleted => {
                        self.visit(&event, None);
                        continue;
                    }
                    Some(event) => {
                        self.state = State::Visiting(event);
                        continue;
                    }
                    None => Ask::Wait { until_ms: None },
                },
                State::Visiting(event) => Ask::Get { path: join(&self.path, &event.id), watch: false },
            });
        }
    }

    fn handle(&mut self, reply: Reply) {
        let member = |id: String, reply: Reply| match reply {
            Reply::Data { data, facts } => Some(Member { id, data, joined: facts.czxid, changed: facts.mzxid }),
            _ => None,
        };
        self.state = match (mem::replace(&mut self.state, State::Listening), reply) {
            (state, Reply::Unknown) => state,
            (State::Following, Reply::Done) => State::Listing,
            (State::Listing, Reply::Listed { names, as_of }) => self.asked(names, as_of, Vec::new(), Vec::new()),
            // The group had no node; who has come since was in none, or in one that has gone again.
            (State::Listing, Reply::Refused(_)) if self.events.is_empty() => {
                self.listed = Listed { times: self.listed.times + 1, as_of: None };
                self.roster.listed(Vec::new(), &[]);
                State::Listening
            }
            (State::Listing, Reply::Refused(_)) => State::Listing,
            (
                State::Asking { mut rest, as_of, mut members, mut gone },
                reply @ (Reply::Data { .. } | Reply::Refused(_)),
            ) => {
                let id = rest.pop().unwrap_or_default();
                match member(id.clone(), reply) {
                    Some(member) if member.joined <= as_of => members.push(member),
                    // Its deletion is heard of, after the list.
                    _ => gone.push(id),
                }
                self.asked(rest, as_of, members, gone)
            }
            (State::Visiting(event), reply @ (Reply::Data { .. } | Reply::Refused(_))) => {
                self.visit(&event, member(event.id.clone(), reply));
                State::Listening
            }
            (State::Listening, Reply::Waited) => State::Listening,
            (state, reply) => panic!("{reply:?} is no answer in the state {state:?}"),
        };
    }

    fn hear(&mut self, news: &News) {
        match news {
            News::Back => self.is_back = true,
            News::Node { path, what, zxid } => {
                let below = path.strip_prefix(self.path.trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/'));
                // Members have no children, but others may have put something there.
                if let Some(id) = below.filter(|id| !id.is_empty() && !id.contains('/')) {
                    self.events.push_back(Event { id: id.to_owned(), what: *what, zxid: *zxid });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::{Facts, Refusal};

    fn data(joined: i64) -> Reply {
        let facts = Facts { czxid: joined, mzxid: joined, ..Facts::default() };
        Reply::Data { data: joined.to_string().into_bytes(), facts }
    }

    fn member(id: &str, joined: i64) -> Member {
        let text = if joined > 0 { joined.to_string() } else { String::new() };
        Member { id: id.to_owned(), data: text.into_bytes(), joined, changed: joined }
    }

    fn hear(rollcall: &mut Rollcall, id: &str, what: Happened, zxid: i64) {
        rollcall.hear(&News::Node { path: format!("/g/{id}"), what, zxid });
    }

    fn list(names: &[&str], as_of: i64) -> Reply {
        Reply::Listed { names: names.iter().map(|name| (*name).to_owned()).collect(), as_of }
    }

    /// What is told and asked, up to the next question.
    fn told(rollcall: &mut Rollcall) -> (Vec<Change>, Ask) {
        let mut told = Vec::new();
        loop {
            match rollcall.step(0) {
                Step::Done(change) => told.push(change),
                Step::Ask(ask) => return (told, ask),
            }
        }
    }

    fn answered(rollcall: &mut Rollcall, reply: Reply) -> (Vec<Change>, Ask) {
        rollcall.handle(reply);
        told(rollcall)
    }

    fn get(id: &str) -> Ask {
        Ask::Get { path: format!("/g/{id}"), watch: false }
    }

    const WAIT: Ask = Ask::Wait { until_ms: None };

    /// A rollcall that is asked to list.
    fn listing() -> Rollcall {
        let mut rollcall = Rollcall::new("/g");
        assert_eq!(told(&mut rollcall).1, Ask::Follow { path: "/g".to_owned() });
        assert_eq!(answered(&mut rollcall, Reply::Done).1, Ask::List { path: "/g".to_owned() });
        rollcall
    }

    #[test]
    fn what_was_heard_before_the_list_is_in_the_list() {
        let mut rollcall = listing();
        hear(&mut rollcall, "a", Happened::Created, 3);
        hear(&mut rollcall, "x", Happened::Created, 4);
        hear(&mut rollcall, "x", Happened::Deleted, 5);
        hear(&mut rollcall, "b", Happened::Created, 6);
        assert_eq!(answered(&mut rollcall, list(&["a"], 5)).1, get("a"));
        let (changes, ask) = answered(&mut rollcall, data(3));
        assert_eq!((changes, ask), (vec![Change::Joined(member("a", 3))], get("b")));
        assert_eq!(answered(&mut rollcall, data(6)), (vec![Change::Joined(member("b", 6))], WAIT));
    }

    /// The list shows the first `a`; the answer is of a later one, and others came between the two.
    #[test]
    fn a_later_member_of_the_same_name_comes_at_its_time() {
        let mut rollcall = listing();
        answered(&mut rollcall, list(&["a"], 3));
        for (id, what, zxid) in [("b", Happened::Created, 4), ("a", Happened::Deleted, 5), ("a", Happened::Created, 6)]
        {
            hear(&mut rollcall, id, what, zxid);
        }
        let (changes, ask) = answered(&mut rollcall, data(6));
        assert_eq!((changes, ask), (vec![Change::Joined(member("a", -1))], get("b")));
        let (changes, ask) = answered(&mut rollcall, data(4));
        assert_eq!(changes, [Change::Joined(member("b", 4)), Change::Left(member("a", -1))]);
        assert_eq!(ask, get("a"));
        assert_eq!(answered(&mut rollcall, data(6)), (vec![Change::Joined(member("a", 6))], WAIT));
    }

    #[test]
    fn after_a_gap_all_begins_anew() {
        let mut rollcall = listing();
        answered(&mut rollcall, list(&["a", "b"], 3));
        answered(&mut rollcall, data(2));
        answered(&mut rollcall, data(1));
        hear(&mut rollcall, "c", Happened::Created, 4);
        assert_eq!(told(&mut rollcall).1, get("c"));
        rollcall.hear(&News::Back);
        // The answer belongs to the time before.
        assert_eq!(answered(&mut rollcall, Reply::Unknown).1, Ask::Follow { path: "/g".to_owned() });
        answered(&mut rollcall, Reply::Done);
        answered(&mut rollcall, list(&["a"], 9));
        let (changes, ask) = answered(&mut rollcall, data(8));
        assert_eq!(
            (changes, ask),
            (vec![Change::Left(member("a", 1)), Change::Left(member("b", 2)), Change::Joined(member("a", 8)),], WAIT)
        );
    }

    #[test]
    fn a_group_that_is_made_while_it_is_looked_for_is_looked_for_again() {
        let mut rollcall = listing();
        hear(&mut rollcall, "a", Happened::Created, 4);
        assert_eq!(answered(&mut rollcall, Reply::Refused(Refusal::NoNode)).1, Ask::List { path: "/g".to_owned() });
        assert_eq!(answered(&mut rollcall, Reply::Refused(Refusal::NoNode)), (vec![], WAIT));
        assert_eq!(rollcall.listed(), Listed { times: 1, as_of: None });
    }

    #[test]
    fn what_is_no_member_is_not_told() {
        let mut rollcall = listing();
        answered(&mut rollcall, list(&[], 3));
        for path in ["/g", "/g/a/b", "/other", "/group/a"] {
            rollcall.hear(&News::Node { path: path.to_owned(), what: Happened::Created, zxid: 5 });
        }
        assert_eq!(told(&mut rollcall), (vec![], WAIT));
    }
}
