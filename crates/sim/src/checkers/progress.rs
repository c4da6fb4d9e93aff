//! An ensemble whose faults are over finds one leader, serves its clients, and agrees about everything.

use rookeeper_proto::{Zxid, path};
use rookeeper_replica::Serving;
use rookeeper_tree::Tree;

use super::Verdict;

/// Everything of a tree that must be equal on all servers, as text.
pub fn portrait(tree: &Tree) -> Vec<String> {
    let mut lines: Vec<String> =
        tree.sessions().map(|(session, timeout)| format!("session {session} {timeout}")).collect();
    // The node of the membership is written by each server for itself where nobody changed it.
    let nodes = tree.nodes().filter(|node| node.path() != path::CONFIG);
    lines.extend(nodes.map(|node| {
        let children: Vec<&str> = node.children().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        format!("{} {:?} {:?} {:?} {children:?}", node.path(), node.data(), node.stat(), node.acl())
    }));
    lines.sort_unstable();
    lines
}

/// The state of one server at the end of a life.
#[derive(Debug)]
pub struct Standpoint {
    pub server: usize,
    pub serving: Serving,
    pub last: Zxid,
    pub digest: i64,
    pub portrait: Vec<String>,
}

/// Whether one server leads, and all others follow it with the same state.
pub fn agreed(standpoints: &[Standpoint]) -> Verdict {
    let leaders: Vec<usize> =
        standpoints.iter().filter(|one| one.serving == Serving::Deciding).map(|one| one.server).collect();
    if leaders.len() != 1 {
        let all: Vec<_> = standpoints.iter().map(|one| (one.server, one.serving, one.last)).collect();
        return Err(format!("progress: without faults {leaders:?} lead: {all:?}"));
    }
    let Some(first) = standpoints.first() else { return Ok(()) };
    for one in standpoints {
        if !matches!(one.serving, Serving::Deciding | Serving::Forwarding) {
            return Err(format!("progress: server {} serves nobody although there are no faults", one.server));
        }
        if (one.last, one.digest) != (first.last, first.digest) {
            return Err(format!(
                "history: in the end server {} is at {} with digest {:x}, server {} at {} with {:x}",
                one.server, one.last, one.digest, first.server, first.last, first.digest
            ));
        }
        if one.portrait != first.portrait {
            let differs = one.portrait.iter().find(|line| !first.portrait.contains(line));
            let other = first.portrait.iter().find(|line| !one.portrait.contains(line));
            return Err(format!("history: servers {} and {} differ: {differs:?} {other:?}", one.server, first.server));
        }
    }
    Ok(())
}
