//! A walk over a node and all below it that may be interrupted while the tree goes on changing.
//!
//! What always holds: a node is met after its parent and at most once; one that was there all the time is met; one that was created after
//! the walk began is not. A node is known by its id and by not being younger than the walk, since ids are used again. No single step
//! takes longer because a node has many children.

use rookeeper_proto::Zxid;

use crate::nodes::{Node, NodeId};
use crate::tree::Tree;

/// Children looked up at once.
const PORTION: usize = 256;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct SubtreeWalk {
    zxid: Zxid,
    levels: Vec<Level>,
    next: Option<NodeId>,
}

/// A node whose children are being visited.
#[derive(Debug)]
struct Level {
    parent: NodeId,
    portion: std::vec::IntoIter<NodeId>,
    /// The last name of the portion. Children come in the order of their names, so the next ones are found whatever changed meanwhile.
    last_name: Option<Box<str>>,
}

/// What one step came upon.
pub(crate) enum Step<'t> {
    Node(&'t Node),
    /// A node that is too young, or gone.
    Skipped,
    End,
}

impl SubtreeWalk {
    /// A walk over what is there now, when the tree's last zxid is `zxid`.
    pub(crate) fn new(top: NodeId, zxid: Zxid) -> SubtreeWalk {
        SubtreeWalk { zxid, levels: Vec::new(), next: Some(top) }
    }

    fn node<'t>(&self, tree: &'t Tree, id: NodeId) -> Option<&'t Node> {
        tree.nodes.get(id).filter(|node| node.stat.czxid <= self.zxid)
    }

    pub(crate) fn step<'t>(&mut self, tree: &'t Tree) -> Step<'t> {
        loop {
            if let Some(id) = self.next.take() {
                let Some(node) = self.node(tree, id) else { return Step::Skipped };
                if node.child_count() > 0 {
                    self.levels.push(Level { parent: id, portion: Vec::new().into_iter(), last_name: None });
                }
                return Step::Node(node);
            }
            let Some(level) = self.levels.last_mut() else { return Step::End };
            self.next = level.portion.next();
            if self.next.is_none() && !self.refill(tree) {
                self.levels.pop();
            }
        }
    }

    /// Looks up the next children of the deepest level. False where there are none.
    fn refill(&mut self, tree: &Tree) -> bool {
        let Some(level) = self.levels.last() else { return false };
        // A younger node with this id has nothing to do with the walk.
        let Some(children) = self.node(tree, level.parent).and_then(Node::children) else { return false };
        let Some(level) = self.levels.last_mut() else { return false };
        let portion: Vec<_> = children.behind(level.last_name.as_deref(), PORTION).collect();
        let Some((_, last_name)) = portion.last() else { return false };
        level.last_name = Some((*last_name).into());
        level.portion = portion.into_iter().map(|(id, _)| id).collect::<Vec<_>>().into_iter();
        true
    }
}
