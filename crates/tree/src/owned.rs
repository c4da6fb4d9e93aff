//! Which nodes sessions own, looked through as a whole or in portions.
//!
//! What always holds: a look in portions meets everything that is there all the time, once; what comes or goes meanwhile may be met. Where
//! another tree takes this one's place between two portions, the rest is of that one.

use std::ops::Bound::{Excluded, Unbounded};

use rookeeper_proto::SessionId;

use crate::nodes::NodeId;
use crate::tree::Tree;

/// A place in a list of nodes that is looked through in portions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(pub(crate) NodeId);

impl Tree {
    /// The paths a session owns, in no particular order.
    pub fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = &str> {
        self.ephemerals_behind(session, None).map(|(_, path)| path)
    }

    /// The same, from the beginning or behind a node that was met before.
    pub fn ephemerals_behind(&self, session: SessionId, mark: Option<Mark>) -> impl Iterator<Item = (Mark, &str)> {
        let begin = mark.map_or(Unbounded, |mark| Excluded(mark.0));
        let owned = self.ephemerals.get(&session).into_iter().flat_map(move |owned| owned.range((begin, Unbounded)));
        owned.map(|id| (Mark(*id), &*self.nodes[*id].path))
    }

    /// The sessions that own something, in the order of their ids: all, or those behind one.
    pub fn owners_behind(&self, session: Option<SessionId>) -> impl Iterator<Item = SessionId> {
        let begin = session.map_or(Unbounded, Excluded);
        self.ephemerals.range((begin, Unbounded)).map(|(session, _)| *session)
    }
}

#[cfg(test)]
mod tests {
    use rookeeper_proto::txn::{CreateKind, CreateTxn};
    use rookeeper_proto::{Txn, TxnHeader, Zxid};

    use super::*;

    fn apply(tree: &mut Tree, session: i64, txn: Txn) {
        let zxid = Zxid(tree.last_zxid().0 + 1);
        tree.apply(&TxnHeader { session: SessionId(session), cxid: 0, zxid, time_ms: 0 }, txn, &mut Vec::new());
    }

    fn create(tree: &mut Tree, session: i64, path: String) {
        let kind = CreateKind::Node { ephemeral: true, with_stat: false };
        apply(tree, session, Txn::Create(CreateTxn { path, data: None, acl: None, kind, parent_cversion: -1 }));
    }

    #[test]
    fn what_is_owned_all_the_time_is_met_once_while_others_come_and_go() {
        let mut tree = Tree::new();
        (0..100).for_each(|number| create(&mut tree, 7, format!("/{number:02}")));
        let (mut met, mut mark, mut portions) = (Vec::new(), None, 0);
        loop {
            let portion: Vec<_> = tree
                .ephemerals_behind(SessionId(7), mark)
                .take(10)
                .map(|(mark, path)| (mark, path.to_owned()))
                .collect();
            let Some((last, _)) = portion.last() else { break };
            mark = Some(*last);
            met.extend(portion.into_iter().map(|(_, path)| path));
            // Of those that are met already one goes, of those to come another, and a new one takes a place that is free.
            apply(&mut tree, 7, Txn::Delete { path: format!("/{portions:02}") });
            apply(&mut tree, 7, Txn::Delete { path: format!("/{:02}", 99 - portions) });
            create(&mut tree, 7, format!("/new{portions}"));
            portions += 1;
        }
        assert!(portions >= 9, "{portions} portions");
        for number in 10..90 {
            assert_eq!(met.iter().filter(|path| **path == format!("/{number:02}")).count(), 1, "{number}");
        }
    }

    #[test]
    fn owners_come_in_order_and_go_with_their_last_node() {
        let mut tree = Tree::new();
        [5, -3, 9].into_iter().for_each(|session| create(&mut tree, session, format!("/{session}")));
        let owners = |tree: &Tree, behind: Option<i64>| {
            tree.owners_behind(behind.map(SessionId)).map(|session| session.0).collect::<Vec<_>>()
        };
        assert_eq!((owners(&tree, None), owners(&tree, Some(5))), (vec![-3, 5, 9], vec![9]));
        apply(&mut tree, 5, Txn::Delete { path: "/5".into() });
        assert_eq!(owners(&tree, None), [-3, 9]);
    }

    #[test]
    fn a_session_that_ends_in_parts_ends_as_at_once() {
        let tree = || {
            let mut tree = Tree::new();
            (0..100).for_each(|number| create(&mut tree, 7 + number % 2, format!("/{number:02}")));
            tree
        };
        let header = TxnHeader { session: SessionId(7), cxid: 0, zxid: Zxid(101), time_ms: 0 };
        let listed: Vec<String> = (0..40).step_by(2).map(|number| format!("/{number:02}")).collect();
        let (mut whole, mut parted) = (tree(), tree());
        let (mut at_once, mut in_parts) = (Vec::new(), Vec::new());
        whole.apply(&header, Txn::CloseSession { paths: Some(listed.clone()) }, &mut at_once);
        let mut listed = listed.into_iter();
        let gone = [(10, 0), (9, 3), (0, 20)].map(|(count, limit)| {
            let besides = parted.close_some(&header, listed.by_ref().take(count), limit, &mut in_parts);
            assert!(parted.is_between_zxids() && parted.last_zxid() == Zxid(100));
            besides
        });
        assert_eq!((gone, parted.ephemerals(SessionId(7)).count()), ([0, 3, 20], 8));
        parted.apply(&header, Txn::CloseSession { paths: Some(listed.collect()) }, &mut in_parts);
        assert!(!parted.is_between_zxids());
        assert_eq!((parted.digest(), parted.last_zxid()), (whole.digest(), whole.last_zxid()));
        assert_eq!(parted.ephemeral_count(), 50);
        let mut told = [at_once, in_parts].map(|changes| {
            changes.iter().map(|change| format!("{:?} {}", change.kind, change.path)).collect::<Vec<_>>()
        });
        told.iter_mut().for_each(|told| told.sort());
        assert_eq!(told[0], told[1]);
    }
}
