//! A history that can't be cut where a leader demands it. Found in simulation: a snapshot that a leader had sent, whom nobody followed in the end,
//! took the place of everything that was older; it held a transaction that no other server had, and no later leader could bring that
//! server back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::ensemble::{World, is_proposal, membership, settings};
use rookeeper_replica::EnsembleSettings;

/// Whether leaders would have what is missing in memory or not, a snapshot takes the place of what can't be cut.
#[test]
fn who_can_not_go_back_gets_everything() {
    for (commit_log_count, attempts) in [(1, 1), (500, 2)] {
        let mut world = World::with(EnsembleSettings { commit_log_count, ..settings(membership(3, &[])) });
        world.pass_ms(1000);
        let old = world.leader();
        let others: Vec<usize> = (0..3).filter(|node| *node != old).collect();
        let mut client = world.connect(old);
        world.create(&mut client, "/everywhere", 0);
        world.settle();
        others.iter().for_each(|node| world.hold_back(*node, is_proposal));
        world.create(&mut client, "/nowhere-else", 0);
        world.settle();
        world.kill(old);
        world.let_go();
        world.pass_ms(3000);
        assert!(world.nodes[others[0]].shared.tree().node("/everywhere").is_some());

        world.nodes[old].disk.leads_nowhere_back = true;
        world.restart(old);
        world.pass_ms(3000);
        world.is_in_agreement();
        let said = |text: &str| world.nodes[old].log.iter().filter(|line| line.contains(text)).count();
        let asked = said("nothing here leads back to") + said("asked for all of the history");
        assert_eq!((asked, said("(SNAP)")), (attempts, 1), "{}", world.logs());
    }
}
