//! Members of a group, some of whom want the same name, and those who follow the group.
//!
//! What always holds here: a follower has been told what the tree's history says, and its view is that of one moment, which never goes back. As long as its
//! connection lasts the moment passes over no join and no leave.

use std::collections::BTreeMap;

use rookeeper_proto::random::Random;
use rookeeper_proto::{SessionId, Zxid};
use rookeeper_recipes::ask::{Ask, News, Recipe as _, Reply, Step};
use rookeeper_recipes::enrolment::{Attendance, Enrolment};
use rookeeper_recipes::rollcall::{Listed, Rollcall};
use rookeeper_recipes::{Change, Member};

use super::jobs::{Moment, Next, ROOT};
use super::ledger::Ledger;
use crate::checkers::model::{Happening, Model};
use crate::faults::Sabotage;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Coming,
    Inside,
    /// Inside, and saying something else.
    Saying,
    Going,
}

/// One who joins and leaves.
#[derive(Debug)]
pub(super) struct Attender {
    session: SessionId,
    enrolment: Enrolment,
    phase: Phase,
    asked: Option<Ask>,
    has_fired: bool,
}

impl Attender {
    /// Of three members two want the same name at any time.
    pub(super) fn new(number: usize, id: u64, session: SessionId) -> Attender {
        let name = if id.is_multiple_of(3) { format!("own{number}") } else { "host".to_owned() };
        Attender {
            session,
            enrolment: Enrolment::new(ROOT, &name, id.to_string().into_bytes(), session.0),
            phase: Phase::Coming,
            asked: None,
            has_fired: false,
        }
    }

    pub(super) fn notice(&mut self) {
        self.has_fired = true;
    }

    pub(super) fn told(&mut self, reply: Reply, sabotage: Option<Sabotage>) {
        let asked = self.asked.take();
        if self.phase == Phase::Saying {
            self.phase = Phase::Inside;
            return;
        }
        let reply = match (asked, reply, sabotage) {
            // Planted bugs: the node of a name is taken for the own one, and a deletion is made again without a look.
            (Some(Ask::Exists { watch: false, .. }), Reply::Facts(mut facts), Some(Sabotage::LeavesByName)) => {
                facts.owner = self.session.0;
                Reply::Facts(facts)
            }
            (Some(Ask::Delete { .. }), Reply::Unknown, Some(Sabotage::LeavesTwice)) => return,
            (_, reply, _) => reply,
        };
        self.enrolment.handle(reply);
    }

    pub(super) fn next(
        &mut self,
        ledger: &mut Ledger,
        random: &mut Random,
        moment: Moment<'_>,
        rests: bool,
    ) -> Result<Next, String> {
        match self.phase {
            Phase::Inside | Phase::Saying => self.is_there(moment.model)?,
            Phase::Coming | Phase::Going => {}
        }
        match self.phase {
            Phase::Inside if rests || !moment.is_awake => return Ok(Next::Rest),
            Phase::Inside if random.one_in(3) => {
                self.phase = Phase::Saying;
                let data = format!("{}.{}", moment.number, moment.now_us).into_bytes();
                return Ok(self.ask(Ask::Set { path: self.enrolment.node(), data, version: None }));
            }
            Phase::Inside if random.one_in(3) => {
                self.enrolment.leave();
                self.phase = Phase::Going;
            }
            Phase::Inside | Phase::Saying => return Ok(Next::Rest),
            // Given up at any moment, now and then.
            Phase::Coming if moment.is_awake && !moment.healed && random.one_in(30) => {
                self.enrolment.leave();
                self.phase = Phase::Going;
            }
            Phase::Coming | Phase::Going => {}
        }
        match self.enrolment.step(0) {
            Step::Ask(Ask::Wait { .. }) if !std::mem::take(&mut self.has_fired) => Ok(Next::Rest),
            Step::Ask(Ask::Wait { .. }) => {
                self.enrolment.handle(Reply::Waited);
                Ok(Next::Again)
            }
            Step::Ask(ask) => {
                // A watch that is set now must fire after this.
                self.has_fired &= !matches!(ask, Ask::Exists { watch: true, .. });
                Ok(self.ask(ask))
            }
            Step::Done(Attendance::Joined(_)) => {
                self.phase = Phase::Inside;
                self.is_there(moment.model)?;
                ledger.joins += 1;
                ledger.reached(moment);
                Ok(Next::Rest)
            }
            Step::Done(Attendance::Left) => {
                *self = Attender::new(moment.number, ledger.id(), self.session);
                Ok(Next::Rest)
            }
        }
    }

    fn ask(&mut self, ask: Ask) -> Next {
        self.asked = Some(ask.clone());
        Next::Ask(ask)
    }

    /// A member whose session lives is there until it leaves.
    fn is_there(&self, model: &Model) -> Result<(), String> {
        let (path, joined) = (self.enrolment.node(), self.enrolment.joined());
        let node = model.now(&path).map(|node| (node.created.0, node.owner));
        if model.is_alive(self.session) && node != Some((joined, self.session)) {
            return Err(format!(
                "group: {path} of {:?} is not there any more since {joined}, but {node:?}",
                self.session
            ));
        }
        Ok(())
    }
}

/// One who is told who comes and who goes.
#[derive(Debug)]
pub(super) struct Follower {
    rollcall: Rollcall,
    view: BTreeMap<String, Member>,
    /// When the view was right; nothing where the group had no node then.
    moment: Option<Zxid>,
    listed: Listed,
    /// A list is told whose end was not reached.
    is_listing: bool,
    is_right: bool,
    has_heard: bool,
    /// A planted bug: it is asked only later to hear of the group, or is being asked.
    follows_late: bool,
    swallows: bool,
}

impl Default for Follower {
    fn default() -> Follower {
        Follower {
            rollcall: Rollcall::new(ROOT),
            view: BTreeMap::new(),
            moment: None,
            listed: Listed::default(),
            is_listing: false,
            is_right: false,
            has_heard: false,
            follows_late: false,
            swallows: false,
        }
    }
}

impl Follower {
    /// Whether the view was that of the last moment, when this one was looked at last.
    pub(super) fn is_right(&self) -> bool {
        self.is_right
    }

    pub(super) fn hear(&mut self, news: &News, sabotage: Option<Sabotage>) {
        self.has_heard = true;
        // A planted bug: nothing is done about a connection that was lost.
        if *news == News::Back && sabotage == Some(Sabotage::FollowsOnce) {
            return;
        }
        self.rollcall.hear(news);
    }

    pub(super) fn told(&mut self, reply: Reply) {
        if std::mem::take(&mut self.swallows) {
            return;
        }
        self.rollcall.handle(reply);
    }

    pub(super) fn next(&mut self, ledger: &mut Ledger, moment: Moment<'_>) -> Result<Next, String> {
        let listed = self.rollcall.listed();
        self.is_listing |= std::mem::replace(&mut self.listed, listed) != listed;
        if self.is_listing && !self.rollcall.has_changes() {
            self.is_listing = false;
            self.agrees_with_the_list(moment.model)?;
        }
        self.is_right = is_now(&self.view, moment.model);
        let late = moment.sabotage == Some(Sabotage::ListsThenFollows);
        match self.rollcall.step(0) {
            Step::Ask(Ask::Wait { .. }) if std::mem::take(&mut self.follows_late) => {
                self.swallows = true;
                Ok(Next::Ask(Ask::Follow { path: ROOT.to_owned() }))
            }
            Step::Ask(Ask::Wait { .. }) if !std::mem::take(&mut self.has_heard) => {
                if self.is_right && moment.is_awake {
                    ledger.reached(moment);
                }
                Ok(Next::Rest)
            }
            Step::Ask(Ask::Wait { .. }) => {
                self.rollcall.handle(Reply::Waited);
                Ok(Next::Again)
            }
            Step::Ask(Ask::Follow { .. }) if late => {
                self.follows_late = true;
                self.rollcall.handle(Reply::Done);
                Ok(Next::Again)
            }
            Step::Ask(ask) => Ok(Next::Ask(ask)),
            Step::Done(change) => {
                ledger.told += 1;
                self.takes(change, moment.model)?;
                Ok(Next::Again)
            }
        }
    }

    fn takes(&mut self, change: Change, model: &Model) -> Result<(), String> {
        if !self.is_listing {
            self.comes_next(&change, model)?;
        }
        let is_true = match &change {
            Change::Joined(member) => {
                is_of_history(member, model) && self.view.insert(member.id.clone(), member.clone()).is_none()
            }
            Change::Changed(member) => {
                let known = self.view.insert(member.id.clone(), member.clone());
                is_of_history(member, model)
                    && known.is_some_and(|known| known.joined == member.joined && known.changed < member.changed)
            }
            Change::Left(member) => self.view.remove(&member.id).is_some_and(|known| known == *member),
        };
        if is_true { Ok(()) } else { Err(format!("group: {change:?} is told to one who knows {:?}", self.view)) }
    }

    /// Of what is heard each join and each leave is told, and nothing between two of them is left out.
    fn comes_next(&mut self, change: &Change, model: &Model) -> Result<(), String> {
        let (id, what) = match change {
            Change::Joined(member) => (&member.id, Happening::Created),
            Change::Left(member) => (&member.id, Happening::Deleted),
            Change::Changed(_) => return Ok(()),
        };
        let after = match (self.moment, change) {
            (Some(moment), _) => moment,
            // When the empty group was looked at, nobody knows; it was empty before this one joined.
            (None, Change::Joined(member)) => Zxid(member.joined - 1),
            (None, _) => return Err(format!("group: {change:?} in no group")),
        };
        let next = comings_and_goings(model, after).next();
        let (zxid, ..) =
            next.ok_or_else(|| format!("group: {change:?} is told, but nothing happened after {after}"))?;
        if next != Some((zxid, id.as_str(), what)) {
            return Err(format!("group: {change:?} is told after {after}, but next comes {next:?}"));
        }
        if let Change::Joined(member) = change
            && member.joined != zxid.0
        {
            return Err(format!("group: {change:?} is told of what happened at {zxid}"));
        }
        self.moment = Some(zxid);
        Ok(())
    }

    /// Behind a list the view is the group of the moment that the list names.
    fn agrees_with_the_list(&mut self, model: &Model) -> Result<(), String> {
        let as_of = self.listed.as_of.map(Zxid);
        if let (Some(before), Some(as_of)) = (self.moment, as_of)
            && as_of < before
        {
            return Err(format!("group: a list of {as_of} is told after {before}"));
        }
        let there = as_of.map_or_else(Default::default, |as_of| model.children_at(ROOT, as_of));
        if !there.iter().eq(self.view.keys()) {
            return Err(format!("group: the list of {as_of:?} is told as {:?}, but there are {there:?}", self.view));
        }
        self.moment = as_of;
        Ok(())
    }
}

/// Every join and every leave after `after`, in order.
fn comings_and_goings(model: &Model, after: Zxid) -> impl Iterator<Item = (Zxid, &str, Happening)> {
    let members = model.happenings_below(ROOT, after).filter_map(|(path, happened)| {
        let id = path.strip_prefix(ROOT)?.strip_prefix('/')?;
        matches!(happened.what, Happening::Created | Happening::Deleted).then_some((happened.zxid, id, happened.what))
    });
    let mut all: Vec<_> = members.collect();
    all.sort_by_key(|(zxid, ..)| *zxid);
    all.into_iter()
}

/// Whether there was such a member, and it said that then. One that was gone before it could be asked has no data, and may have no zxid.
fn is_of_history(member: &Member, model: &Model) -> bool {
    let path = format!("{ROOT}/{}", member.id);
    if member.joined < 0 {
        return member.data.is_empty();
    }
    let is_unasked = member.data.is_empty() && member.changed == member.joined;
    model
        .at(&path, Zxid(member.changed))
        .is_some_and(|node| node.created.0 == member.joined && (is_unasked || node.data == member.data))
}

/// Whether the view is that of the last moment, with what everybody says.
fn is_now(view: &BTreeMap<String, Member>, model: &Model) -> bool {
    let there = model.children_at(ROOT, model.last());
    there.iter().eq(view.keys())
        && view.values().all(|member| {
            let node = model.now(&format!("{ROOT}/{}", member.id));
            node.is_some_and(|node| node.created.0 == member.joined && node.data == member.data)
        })
}
