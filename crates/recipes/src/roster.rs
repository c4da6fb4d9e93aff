//! Who is in a group as one watcher has been told, without IO: from lists and events to joins and leaves.
//!
//! What always holds: changes of one member come in order (joined, changed, left), and a member that is known is exactly one whose join was told and
//! whose leave was not.

use std::collections::{BTreeMap, VecDeque};

/// One member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name of its node.
    pub id: String,
    /// What it says of itself.
    pub data: Vec<u8>,
    /// The zxid of its joining: the order in which members joined. -1 of a member that had left before it could be asked, where nothing else tells.
    pub joined: i64,
    /// The zxid of the last change of its data.
    pub changed: i64,
}

/// What happened in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A member has joined. One that has left again before it could be asked has no data.
    Joined(Member),
    /// A member says something else of itself.
    Changed(Member),
    /// A member has left, of its own will or by the end of its session.
    Left(Member),
}

#[derive(Debug, Default)]
pub(crate) struct Roster {
    known: BTreeMap<String, Member>,
    changes: VecDeque<Change>,
}

impl Roster {
    /// Whether every change was told.
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The next change that was not told yet.
    pub(crate) fn next(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// All members as they are now: at the beginning, and after a time in which events may have been missed. Of those in `gone` only the names are known,
    /// because they left again before they could be asked; their leaves follow.
    pub(crate) fn listed(&mut self, mut members: Vec<Member>, gone: &[String]) {
        members.sort_by_key(|member| member.joined);
        let is_same = |known: &Member, member: &Member| known.id == member.id && known.joined == member.joined;
        let is_there =
            |known: &&Member| members.iter().any(|member| is_same(known, member)) || gone.contains(&known.id);
        let left: Vec<String> =
            self.known.values().filter(|known| !is_there(known)).map(|known| known.id.clone()).collect();
        left.iter().for_each(|id| self.left(id));
        for id in gone {
            if !self.known.contains_key(id) {
                self.seen(Member { id: id.clone(), data: Vec::new(), joined: -1, changed: -1 });
            }
        }
        members.into_iter().for_each(|member| self.seen(member));
    }

    /// A member was created at `zxid`, -1 where the servers do not tell; asked for then, it is `now`, which may be a later one of this name.
    pub(crate) fn created(&mut self, id: &str, zxid: i64, now: Option<Member>) {
        if zxid > 0 && self.known.get(id).is_some_and(|known| known.joined >= zxid) {
            // The list showed it already, or a later one.
            return;
        }
        match now {
            Some(member) if zxid <= 0 || member.joined == zxid => self.seen(member),
            // Gone before it could be asked: its deletion is told next.
            _ if self.known.contains_key(id) => {}
            _ => self.seen(Member { id: id.to_owned(), data: Vec::new(), joined: zxid, changed: zxid }),
        }
    }

    /// The data of a member changed; asked for then, it is `now`, which may be a later one of this name, and that is told by its creation.
    pub(crate) fn data_changed(&mut self, now: Member) {
        if self.known.get(&now.id).is_some_and(|known| known.joined == now.joined) {
            self.seen(now);
        }
    }

    /// A member was deleted at `zxid`, -1 where the servers do not tell.
    pub(crate) fn deleted(&mut self, id: &str, zxid: i64) {
        if zxid <= 0 || self.known.get(id).is_some_and(|known| known.joined < zxid) {
            self.left(id);
        }
    }

    fn seen(&mut self, member: Member) {
        match self.known.get(&member.id) {
            Some(known) if known.joined == member.joined => {
                if known.changed >= member.changed {
                    return;
                }
                self.changes.push_back(Change::Changed(member.clone()));
            }
            known => {
                if known.is_some() {
                    self.left(&member.id);
                }
                self.changes.push_back(Change::Joined(member.clone()));
            }
        }
        self.known.insert(member.id.clone(), member);
    }

    fn left(&mut self, id: &str) {
        if let Some(member) = self.known.remove(id) {
            self.changes.push_back(Change::Left(member));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, joined: i64, changed: i64) -> Member {
        Member { id: id.to_owned(), data: changed.to_string().into_bytes(), joined, changed }
    }

    fn told(roster: &mut Roster) -> Vec<Change> {
        std::iter::from_fn(|| roster.next()).collect()
    }

    #[test]
    fn a_list_tells_joins_in_their_order() {
        let mut roster = Roster::default();
        roster.listed(vec![member("a", 9, 9), member("b", 4, 5)], &[]);
        assert_eq!(told(&mut roster), [Change::Joined(member("b", 4, 5)), Change::Joined(member("a", 9, 9))]);
        roster.listed(vec![member("a", 9, 9), member("b", 4, 5)], &[]);
        assert_eq!(told(&mut roster), []);
    }

    #[test]
    fn a_list_after_a_gap_tells_leaves_first_and_who_came_again() {
        let mut roster = Roster::default();
        roster.listed(vec![member("a", 1, 1), member("b", 2, 2), member("c", 3, 3)], &[]);
        told(&mut roster);
        roster.listed(vec![member("b", 7, 7), member("c", 3, 8), member("d", 6, 6)], &[]);
        assert_eq!(
            told(&mut roster),
            [
                Change::Left(member("a", 1, 1)),
                Change::Left(member("b", 2, 2)),
                Change::Changed(member("c", 3, 8)),
                Change::Joined(member("d", 6, 6)),
                Change::Joined(member("b", 7, 7)),
            ]
        );
    }

    #[test]
    fn of_one_that_is_gone_already_the_name_is_known() {
        let mut roster = Roster::default();
        roster.listed(vec![member("a", 1, 1)], &[]);
        told(&mut roster);
        roster.listed(vec![member("c", 3, 3)], &["a".to_owned(), "b".to_owned()]);
        let b = Member { data: Vec::new(), ..member("b", -1, -1) };
        assert_eq!(told(&mut roster), [Change::Joined(b.clone()), Change::Joined(member("c", 3, 3))]);
        roster.deleted("a", 4);
        roster.deleted("b", 5);
        assert_eq!(told(&mut roster), [Change::Left(member("a", 1, 1)), Change::Left(b)]);
    }

    #[test]
    fn a_member_that_is_gone_before_it_is_asked_is_told_all_the_same() {
        let mut roster = Roster::default();
        roster.created("a", 5, None);
        roster.deleted("a", 6);
        roster.deleted("a", 6);
        let a = Member { data: Vec::new(), ..member("a", 5, 5) };
        assert_eq!(told(&mut roster), [Change::Joined(a.clone()), Change::Left(a)]);
    }

    #[test]
    fn an_older_answer_changes_nothing() {
        let mut roster = Roster::default();
        roster.created("a", 1, Some(member("a", 1, 4)));
        roster.data_changed(member("a", 1, 3));
        roster.deleted("a", 0x7fff);
        roster.data_changed(member("a", 1, 5));
        assert_eq!(told(&mut roster), [Change::Joined(member("a", 1, 4)), Change::Left(member("a", 1, 4))]);
    }

    #[test]
    fn each_of_one_name_is_told_although_the_answer_is_about_a_later_one() {
        let mut roster = Roster::default();
        let later = member("a", 8, 8);
        roster.created("a", 5, Some(later.clone()));
        roster.data_changed(later.clone());
        roster.deleted("a", 6);
        roster.created("a", 8, Some(later.clone()));
        let first = Member { data: Vec::new(), ..member("a", 5, 5) };
        let expected = [Change::Joined(first.clone()), Change::Left(first), Change::Joined(later)];
        assert_eq!(told(&mut roster), expected);
    }

    #[test]
    fn events_of_before_the_list_change_nothing() {
        let mut roster = Roster::default();
        roster.listed(vec![member("a", 8, 8)], &[]);
        told(&mut roster);
        roster.created("a", 5, Some(member("a", 8, 8)));
        roster.deleted("a", 6);
        roster.created("a", 8, None);
        assert_eq!(told(&mut roster), []);
    }
}
