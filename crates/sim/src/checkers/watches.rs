//! A watch event reaches the client before any answer that shows the change, bears the zxid of the change, and comes once.
//!
//! One value per client: what it waits for, and since which zxid.

use std::collections::BTreeMap;

use rookeeper_proto::Zxid;

use super::Verdict;
use super::model::{Happening, Model};

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

#[derive(Debug, Default)]
pub struct Watches {
    /// The zxid after which a change is to be told.
    pending: BTreeMap<(String, Kind), Zxid>,
}

impl Watches {
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// A read with a watch was answered.
    pub fn registered(&mut self, kind: Kind, path: &str, zxid: Zxid) {
        let there = self.pending.keys().any(|(known, other)| known == path && other.same_table(kind));
        if !there {
            self.pending.insert((path.to_owned(), kind), zxid);
        }
    }

    /// What a client names when it reconnects.
    pub fn of_kind(&self, kind: Kind) -> Vec<String> {
        self.pending.keys().filter(|(_, other)| *other == kind).map(|(path, _)| path.clone()).collect()
    }

    /// The session is over, and its watches with it.
    pub fn clear(&mut self) {
        self.pending.clear();
    }

    /// An event; `zxid` is -1 for what a reconnecting client missed.
    pub fn event(&mut self, model: &Model, happening: Happening, path: &str, zxid: Zxid) -> Verdict {
        let mut waited = false;
        let mut verdict = Ok(());
        self.pending.retain(|(known, kind), since| {
            if known != path || !kind.hears(happening) {
                return true;
            }
            waited = true;
            let after = model.happenings(path, *since);
            let first = after.iter().find(|(_, what)| kind.hears(*what));
            match first {
                None => {
                    verdict = Err(format!(
                        "watches: {happening:?} of {path} at {zxid} was told, but nothing happened after {since}"
                    ))
                }
                Some((at, what)) if zxid.0 > 0 && (*at, *what) != (zxid, happening) => {
                    verdict = Err(format!(
                        "watches: {happening:?} of {path} at {zxid} was told in place of {what:?} at {at}"
                    ));
                }
                Some(_) => {}
            }
            false
        });
        // What a reconnecting client missed is told for each of its lists.
        if !waited && zxid.0 > 0 {
            return Err(format!("watches: {happening:?} of {path} at {zxid} was told, but nobody waits for it"));
        }
        verdict
    }

    /// An answer showed the state at `zxid`: everything up to there must have been told.
    pub fn shown(&self, model: &Model, zxid: Zxid) -> Verdict {
        for ((path, kind), since) in &self.pending {
            let missed = model.happenings(path, *since).iter().find(|(at, what)| *at <= zxid && kind.hears(*what));
            if let Some((at, what)) = missed {
                return Err(format!("watches: {what:?} of {path} at {at} was not told before an answer showed {zxid}"));
            }
        }
        Ok(())
    }

    /// The answer to the renewal of all watches on another connection, whose state is that at `zxid`.
    pub fn renewed(&mut self, model: &Model, zxid: Zxid) -> Verdict {
        for ((path, kind), since) in &mut self.pending {
            let missed = match kind {
                // One that came and went again is as it was.
                Kind::Exist => model.at(path, zxid).is_some(),
                _ => model.happenings(path, *since).iter().any(|(at, what)| *at <= zxid && kind.hears(*what)),
            };
            if missed {
                return Err(format!(
                    "watches: a change of {path} after {since} was missed when watches were renewed at {zxid}"
                ));
            }
            *since = zxid;
        }
        Ok(())
    }
}
