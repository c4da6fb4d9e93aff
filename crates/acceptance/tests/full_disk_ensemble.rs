//! Disks of an ensemble that fill up, those of followers and that of the leader, while clients write: nothing that was acknowledged is lost, deletes
//! go through, and the service returns when there is room again.
//!
//! The disks are small ones in memory, mounted where only the members see them. Takes root.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use rookeeper_acceptance::client::{Client, refusal};
use rookeeper_acceptance::disks::Disks;
use rookeeper_acceptance::ensemble::{DEADLINE, Ensemble, Plan};

const QUOTA_EXCEEDED: i32 = -125;

const DISK_BYTES: u64 = 40 << 20;
const FLOOR_BYTES: u64 = 8 << 20;
const NODE_BYTES: usize = 20_000;
/// Far more than the log has reserved.
const MANY: usize = 150;

/// Nodes with the bytes of their data, as clients know of them. Where the connection broke before the answer, both outcomes are right.
#[derive(Debug, Default)]
struct Known {
    nodes: BTreeMap<String, usize>,
    unsure: BTreeMap<String, Vec<Option<usize>>>,
}

impl Known {
    /// Takes in how a write ended that gives the node so many bytes, or removes it. False where the connection broke.
    fn note<T: std::fmt::Debug>(&mut self, path: &str, bytes: Option<usize>, outcome: &Result<T>) -> bool {
        match (outcome, bytes) {
            (Ok(_), Some(bytes)) => {
                self.nodes.insert(path.to_owned(), bytes);
            }
            (Ok(_), None) => {
                self.nodes.remove(path);
            }
            (Err(_), _) if refusal(outcome).is_some() => panic!("{path}: {outcome:?}"),
            (Err(_), _) => {
                let before = self.nodes.remove(path);
                let either = self.unsure.entry(path.to_owned()).or_default();
                either.extend([before, bytes]);
                return false;
            }
        }
        true
    }

    /// Every member shows what was acknowledged, and nothing else.
    fn assert_is_everywhere(&self, ensemble: &mut Ensemble) {
        ensemble.wait_same_zxid().expect("all have everything");
        for id in ensemble.ids() {
            let mut client = ensemble.connect(id).expect("a session");
            client.sync().expect("a sync");
            let mut found: BTreeMap<String, usize> = BTreeMap::new();
            for name in client.children("/").expect("a list").into_iter().filter(|name| name != "zookeeper") {
                let path = format!("/{name}");
                let data = client.get_data(&path).expect("a read").0.unwrap_or_default();
                found.insert(path, data.len());
            }
            for (path, either) in &self.unsure {
                assert!(either.contains(&found.remove(path)), "{path} at member {id}, of {either:?}");
            }
            assert_eq!(found, self.nodes, "at member {id}");
        }
    }
}

fn plan() -> Plan {
    Plan::under_test(3)
        .on_disks_of(DISK_BYTES)
        .config("preAllocSize", "1024")
        .config("disk.minFreeInMb", &(FLOOR_BYTES >> 20).to_string())
}

fn figure(ensemble: &Ensemble, id: u64, name: &str) -> i64 {
    let text = ensemble.word(id, "mntr").expect("an answer");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("zk_{name}\t"))).expect("the figure is there");
    line.trim().parse().expect("a number")
}

fn create(client: &mut Client, known: &mut Known, path: &str) {
    let created = client.create(path, &vec![b'x'; NODE_BYTES]);
    assert!(known.note(path, Some(NODE_BYTES), &created), "{path}: {created:?}");
}

#[test]
fn a_follower_whose_disk_is_full_leaves_and_comes_back_while_the_others_serve() {
    if !Disks::are_available() {
        return;
    }
    let mut ensemble = plan().start().expect("an ensemble");
    let leader = ensemble.leader().expect("a leader");
    let follower = ensemble.followers().expect("followers")[0];
    let mut client = ensemble.connect(leader).expect("a session");
    let mut known = Known::default();
    (0..10).for_each(|number| create(&mut client, &mut known, &format!("/before-{number}")));

    ensemble.fill_disk(follower, FLOOR_BYTES / 2).expect("it is filled");
    ensemble.wait_for("it says so", |ensemble| Ok(figure(ensemble, follower, "short_of_disk") == 1)).expect("it does");
    // The leader has room, so nothing is refused, and the follower goes on while its disk takes anything.
    (0..10).for_each(|number| create(&mut client, &mut known, &format!("/short-{number}")));
    ensemble.wait_same_zxid().expect("the follower has it too");
    ensemble.fill_disk(follower, 0).expect("it is filled");
    (0..MANY).for_each(|number| create(&mut client, &mut known, &format!("/full-{number}")));
    let status = ensemble.wait_end(follower).expect("it ends");
    assert!(!status.success(), "{status}");
    assert!(ensemble.log(follower).contains("No space left on device"), "{}", ensemble.log(follower));
    let deleted = client.delete("/before-0");
    assert!(known.note("/before-0", None, &deleted), "{deleted:?}");
    create(&mut client, &mut known, "/without-it");
    assert_eq!(figure(&ensemble, leader, "growing_writes_refused"), 0);

    ensemble.empty_disk(follower).expect("it is emptied");
    ensemble.start(follower).expect("it starts");
    ensemble.wait_formed().expect("it follows");
    known.assert_is_everywhere(&mut ensemble);
}

#[test]
fn a_leader_whose_disk_is_full_refuses_growth_then_leaves_and_the_service_goes_on() {
    if !Disks::are_available() {
        return;
    }
    let mut ensemble = plan().start().expect("an ensemble");
    let leader = ensemble.leader().expect("a leader");
    let follower = ensemble.followers().expect("followers")[0];
    let mut client = ensemble.connect(follower).expect("a session");
    let mut known = Known::default();
    (0..20).for_each(|number| create(&mut client, &mut known, &format!("/before-{number}")));

    // Its disk is short: what grows is refused, through whichever member it comes.
    ensemble.fill_disk(leader, FLOOR_BYTES - (1 << 20)).expect("it is filled");
    ensemble.wait_for("it says so", |ensemble| Ok(figure(ensemble, leader, "short_of_disk") == 1)).expect("it does");
    let refused = client.create("/refused", &[b'x'; 100]);
    assert_eq!(refusal(&refused), Some(QUOTA_EXCEEDED), "{refused:?}");
    for number in 0..5 {
        let path = format!("/before-{number}");
        let deleted = client.delete(&path);
        assert!(known.note(&path, None, &deleted), "{deleted:?}");
    }
    ensemble.connect(leader).expect("a session begins").close().expect("and ends");

    // Nothing is left at all, and shorter data is taken until the log has no place any more.
    ensemble.fill_disk(leader, 0).expect("it is filled");
    for round in 0..MANY {
        let path = format!("/before-{}", 5 + round % 10);
        let Some(bytes) = known.nodes.get(&path).map(|bytes| bytes - 1) else { continue };
        let set = client.set_data(&path, &vec![b'y'; bytes], -1);
        if !known.note(&path, Some(bytes), &set) {
            break;
        }
    }
    let status = ensemble.wait_end(leader).expect("it ends");
    assert!(!status.success(), "{status}");
    let other = ensemble.wait_leader_other_than(leader).expect("another one leads");
    ensemble.wait_formed().expect("the others serve");

    // Another leader has room.
    let mut client = ensemble.connect(other).expect("a session");
    create(&mut client, &mut known, "/with-another-leader");
    ensemble.empty_disk(leader).expect("it is emptied");
    ensemble.start(leader).expect("it starts");
    ensemble.wait_formed().expect("it follows");
    known.assert_is_everywhere(&mut ensemble);
}

#[test]
fn an_ensemble_takes_what_grows_again_when_its_leader_has_room() {
    if !Disks::are_available() {
        return;
    }
    let mut ensemble = plan().start().expect("an ensemble");
    let leader = ensemble.leader().expect("a leader");
    let mut client = ensemble.connect(leader).expect("a session");
    let mut known = Known::default();
    create(&mut client, &mut known, "/before");
    ensemble.fill_disk(leader, FLOOR_BYTES / 2).expect("it is filled");
    ensemble.wait_for("it says so", |ensemble| Ok(figure(ensemble, leader, "short_of_disk") == 1)).expect("it does");
    let refused = client.create("/refused", b"");
    assert_eq!(refusal(&refused), Some(QUOTA_EXCEEDED), "{refused:?}");
    assert_eq!(figure(&ensemble, leader, "growing_writes_refused"), 1);
    ensemble.empty_disk(leader).expect("it is emptied");
    let begin = Instant::now();
    loop {
        let created = client.create("/after", &[b'x'; 100]);
        if refusal(&created) != Some(QUOTA_EXCEEDED) {
            assert!(known.note("/after", Some(100), &created), "{created:?}");
            break;
        }
        assert!(begin.elapsed() < DEADLINE, "still refused after {DEADLINE:?}");
    }
    known.assert_is_everywhere(&mut ensemble);
}
