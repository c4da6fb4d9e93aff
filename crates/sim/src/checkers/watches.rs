//! A watch event reaches the client before any answer that shows the change, bears the zxid of the change, and comes once. A change of a
//! node that the client may not read never reaches the client; a watch for one event is used up by such a change.
//!
//! One value per client: the client's watches, and since which zxid each waits.

use std::collections::BTreeMap;

use rookeeper_proto::Zxid;

use super::Verdict;
use super::model::{Happened, Happening, Model, is_at_or_below};
use super::rights::{self, User};

/// The change that a watch for one event waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Of a node that was there: it changes or goes.
    Data,
    /// Of a node that was not: it comes.
    Exist,
    Child,
}

impl Kind {
    fn hears(self, happening: Happening) -> bool {
        match self {
            Kind::Data | Kind::Exist => happening != Happening::ChildrenChanged,
            Kind::Child => matches!(happening, Happening::ChildrenChanged | Happening::Deleted),
        }
    }

    /// The server keeps one table for the first two.
    fn same_table(self, other: Kind) -> bool {
        (self == Kind::Child) == (other == Kind::Child)
    }
}

/// A watch that stays after it fired.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lasting {
    pub path: String,
    /// Everything below is meant too, but not that children came or went.
    pub recursive: bool,
}

impl Lasting {
    fn hears(&self, path: &str, happening: Happening) -> bool {
        if self.recursive {
            happening != Happening::ChildrenChanged && is_at_or_below(path, &self.path)
        } else {
            path == self.path
        }
    }

    /// The changes behind `after` of which the watch has to tell.
    fn due<'a>(&'a self, model: &'a Model, after: Zxid) -> impl Iterator<Item = (&'a str, &'a Happened)> {
        let all = model.happenings_below(&self.path, after);
        all.filter(move |(path, happened)| self.hears(path, happened.what))
    }
}

/// The watches of one session, and what it must be told because of them.
#[derive(Debug, Default)]
pub struct Watches {
    pub user: User,
    /// The zxid after which a change is to be told.
    pending: BTreeMap<(String, Kind), Zxid>,
    lasting: BTreeMap<Lasting, Zxid>,
    /// Events that were told and that no answer has shown yet, and how often: each operation of a transaction is told.
    told: BTreeMap<(Zxid, String, Happening), usize>,
}

impl Watches {
    /// Whether no watch is set.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.lasting.is_empty()
    }

    /// A read with a watch was answered.
    pub fn registered(&mut self, kind: Kind, path: &str, zxid: Zxid) {
        let there = self.pending.keys().any(|(known, other)| known == path && other.same_table(kind));
        if !there {
            self.pending.insert((path.to_owned(), kind), zxid);
        }
    }

    /// A watch that stays was set.
    pub fn stays(&mut self, watch: Lasting, zxid: Zxid) {
        self.lasting.entry(watch).or_insert(zxid);
    }

    /// The watch was removed, or there was none.
    pub fn removed(&mut self, watch: &Lasting, was_there: bool) -> Verdict {
        if self.lasting.remove(watch).is_some() == was_there {
            Ok(())
        } else {
            Err(format!("watches: {watch:?} was removed, there according to the server: {was_there}"))
        }
    }

    /// The watches that a client names when it reconnects.
    pub fn of_kind(&self, kind: Kind) -> Vec<String> {
        self.pending.keys().filter(|(_, other)| *other == kind).map(|(path, _)| path.clone()).collect()
    }

    /// The paths of the watches that outlive an event, the recursive ones or the others.
    pub fn that_stay(&self, recursive: bool) -> Vec<String> {
        self.lasting.keys().filter(|watch| watch.recursive == recursive).map(|watch| watch.path.clone()).collect()
    }

    /// The client does not ask another server for the watches that outlive an event.
    pub fn forget_lasting(&mut self) {
        self.lasting.clear();
        self.told.clear();
    }

    /// The session is over, and its watches with it.
    pub fn clear(&mut self) {
        self.pending.clear();
        self.lasting.clear();
        self.told.clear();
    }

    /// An event; `zxid` is -1 for what a reconnecting client missed.
    pub fn event(&mut self, model: &Model, happening: Happening, path: &str, zxid: Zxid) -> Verdict {
        let user = self.user;
        let mut waited = false;
        let mut verdict = Ok(());
        self.pending.retain(|(known, kind), since| {
            if known != path || !kind.hears(happening) {
                return true;
            }
            let after = model.happenings(path, *since);
            let first = after.iter().find(|happened| kind.hears(happened.what));
            let is_another = |first: &&Happened| first.zxid <= zxid && (first.zxid, first.what) != (zxid, happening);
            if first.filter(is_another).is_some_and(|first| zxid.0 > 0 && !rights::may_read(&first.acl, user)) {
                // The watch fired at a change of which the client might not hear.
                return false;
            }
            waited = true;
            match first {
                None => {
                    verdict = Err(format!(
                        "watches: {happening:?} of {path} at {zxid} was told, but nothing happened after {since}"
                    ));
                }
                Some(first) if zxid.0 > 0 && (first.zxid, first.what) != (zxid, happening) => {
                    verdict = Err(format!(
                        "watches: {happening:?} of {path} at {zxid} was told in place of {:?} at {}",
                        first.what, first.zxid
                    ));
                }
                Some(_) => {}
            }
            false
        });
        verdict?;
        // A change that a reconnecting client missed is told for each of its lists.
        if zxid.0 <= 0 {
            return Ok(());
        }
        let lasts = self.lasting.iter().any(|(watch, since)| zxid > *since && watch.hears(path, happening));
        if !waited && !lasts {
            return Err(format!("watches: {happening:?} of {path} at {zxid} was told, but nobody waits for it"));
        }
        let same = |one: &&Happened| (one.zxid, one.what) == (zxid, happening);
        let happened = model.happenings(path, Zxid(zxid.0 - 1)).iter().filter(same);
        // Within one transaction a node may go and come and go again, with other rights.
        let events = happened.clone().filter(|event| rights::may_read(&event.acl, user)).count();
        if happened.count() == 0 {
            return Err(format!("watches: {happening:?} of {path} at {zxid} was told, but did not happen"));
        }
        if events == 0 {
            return Err(format!("rights: user {user} was told of {happening:?} of {path} at {zxid}"));
        }
        if lasts {
            let told = self.told.entry((zxid, path.to_owned(), happening)).or_default();
            *told += 1;
            if *told > events {
                return Err(format!("watches: {happening:?} of {path} at {zxid} was told too often"));
            }
        }
        Ok(())
    }

    /// An answer showed the state at `zxid`: everything up to there must have been told.
    pub fn shown(&mut self, model: &Model, zxid: Zxid) -> Verdict {
        let user = self.user;
        let mut verdict = Ok(());
        self.pending.retain(|(path, kind), since| {
            let after = model.happenings(path, *since);
            let Some(first) = after.iter().find(|first| first.zxid <= zxid && kind.hears(first.what)) else {
                return true;
            };
            if rights::may_read(&first.acl, user) {
                let (what, at) = (first.what, first.zxid);
                verdict =
                    Err(format!("watches: {what:?} of {path} at {at} was not told before an answer showed {zxid}"));
            }
            false
        });
        verdict?;
        for (watch, since) in self.lasting.iter_mut().filter(|(_, since)| **since < zxid) {
            for (path, due) in watch.due(model, *since) {
                if due.zxid > zxid || !rights::may_read(&due.acl, user) {
                    continue;
                }
                let same =
                    |one: &&Happened| (one.zxid, one.what) == (due.zxid, due.what) && rights::may_read(&one.acl, user);
                let times = model.happenings(path, Zxid(due.zxid.0 - 1)).iter().filter(same).count();
                if self.told.get(&(due.zxid, path.to_owned(), due.what)).is_none_or(|told| *told < times) {
                    let (what, at) = (due.what, due.zxid);
                    return Err(format!(
                        "watches: {what:?} of {path} at {at} was not told to {watch:?} before an answer showed {zxid}"
                    ));
                }
            }
            *since = zxid;
        }
        self.told = self.told.split_off(&(Zxid(zxid.0 + 1), String::new(), Happening::Created));
        Ok(())
    }

    /// The answer to the renewal of all watches on another connection, whose state is that at `zxid`.
    pub fn renewed(&mut self, model: &Model, zxid: Zxid) -> Verdict {
        let user = self.user;
        let mut verdict = Ok(());
        self.pending.retain(|(path, kind), since| {
            let now = model.at(path, zxid);
            let missed = match kind {
                // A node that came and went again is as it was.
                Kind::Exist => now.is_some(),
                _ => model.happenings(path, *since).iter().any(|one| one.zxid <= zxid && kind.hears(one.what)),
            };
            // Every watcher hears of a node that went; only those who may read a node hear of a node that is there.
            if missed && now.is_none_or(|node| rights::may_read(&node.acl, user)) {
                verdict = Err(format!(
                    "watches: a change of {path} after {since} was missed when watches were renewed at {zxid}"
                ));
            }
            *since = zxid;
            !missed
        });
        for since in self.lasting.values_mut() {
            *since = zxid;
        }
        self.told.clear();
        verdict
    }
}
