//! The rules of the broadcast that a leader could break by itself, one test each; and all of them at once under random orders of events.
//! The numbers are those of the published properties: I1 to I8 are ZAB's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::{Epoch, MonotonicMs, ServerId, Zxid};
use rookeeper_zab::leader::LeaderOutput;
use rookeeper_zab::{History, LinkId, LinkOutput, Memberships};

use crate::story::{Story, history, membership, packets, settings, zxid};

/// I1: one leader for an epoch. It is newer than what a quorum has accepted, durable before it is told, and changes no more then.
#[test]
fn i1_an_epoch_is_newer_than_a_quorum_has_seen_and_stored_before_it_is_told() {
    let mut story = Story::of_three();
    story.connects(4);
    // Observers raise it, strangers do not, and neither counts.
    story.introduces_observer(4, 4, 6);
    story.connects(9);
    story.introduces(9, 9, 6);
    assert!(story.outputs.is_empty(), "{}", story.text);
    story.connects(1);
    story.introduces(1, 1, 4);
    assert_eq!(story.outputs, [LeaderOutput::AcceptedEpoch(Epoch(7))]);
    // Whoever comes now can't change it, and waits.
    story.connects(2);
    story.introduces(2, 2, 11);
    assert_eq!(story.outputs.len(), 1, "{}", story.text);
    story.stores_accepted();
    for link in [1, 2, 4, 9] {
        assert_eq!(story.sent_to(link), [QuorumPacket::LeaderInfo { epoch: zxid(7, 0) }]);
    }
    // A promise made before (-1), an observer's and a stranger's are no quorum.
    story.promises(1, None, zxid(1, 9));
    story.promises(4, Some(1), zxid(1, 9));
    story.promises(9, Some(1), zxid(1, 9));
    assert!(!story.has(|output| matches!(output, LeaderOutput::CurrentEpoch(_))), "{}", story.text);
    story.promises(2, Some(1), zxid(1, 9));
    assert!(story.has(|output| *output == LeaderOutput::CurrentEpoch(Epoch(7))));
}

/// I6: what one leader proposes goes to each follower in that order and without gaps, also to one that comes in between.
#[test]
fn i6_proposals_keep_their_order_on_every_link() {
    let mut story = Story::established();
    story.writes();
    story.joins(2, 2, zxid(1, 8));
    story.writes();
    story.writes();
    let proposed = |link| -> Vec<Zxid> {
        let packets = story.sent_to(link).into_iter();
        let zxids = packets.filter_map(|packet| match packet {
            QuorumPacket::Proposal { zxid, .. } => Some(zxid),
            _ => None,
        });
        zxids.collect()
    };
    assert_eq!(proposed(1), [zxid(2, 1), zxid(2, 2), zxid(2, 3)]);
    assert_eq!(proposed(2), [zxid(1, 9), zxid(2, 1), zxid(2, 2), zxid(2, 3)]);
}

/// I8: a leader proposes only when a quorum has taken over its whole history, itself included only once that is durable.
#[test]
fn i8_nothing_is_proposed_before_the_history_is_everybodys() {
    let mut story = Story::of_three();
    story.connects(1);
    story.introduces(1, 1, 1);
    story.stores_accepted();
    story.promises(1, Some(1), zxid(1, 7));
    story.acks(1, zxid(2, 0));
    assert!(!story.has(|output| matches!(output, LeaderOutput::Activate { .. })), "its own disk is not done");
    let sent = story.sent_to(1);
    assert!(!sent.contains(&QuorumPacket::UpToDate));
    let position = |wanted: &dyn Fn(&QuorumPacket<'_>) -> bool| sent.iter().position(wanted).unwrap();
    let last_of_history = position(&|packet| *packet == QuorumPacket::Commit { zxid: zxid(1, 9) });
    assert!(last_of_history < position(&|packet| matches!(packet, QuorumPacket::NewLeader { .. })));
    story.stores_current();
    assert!(story.has(|output| *output == LeaderOutput::Activate { epoch: Epoch(2) }));
    assert_eq!((story.leader.committed(), story.leader.next_zxid()), (zxid(1, 9), zxid(2, 1)));
}

/// I8: who has more than this server can't be among those who acknowledge its epoch.
#[test]
fn i8_a_follower_that_is_ahead_is_no_part_of_the_quorum() {
    for (current_epoch, last) in [(1, zxid(1, 10)), (2, zxid(1, 1))] {
        let mut story = Story::of_three();
        story.connects(1);
        story.introduces(1, 1, 1);
        story.stores_accepted();
        story.promises(1, Some(current_epoch), last);
        assert!(
            story.has(|output| matches!(output, LeaderOutput::ToLearner(_, LinkOutput::Drop(_)))),
            "{}",
            story.text
        );
        assert!(!story.has(|output| matches!(output, LeaderOutput::CurrentEpoch(_))), "{}", story.text);
    }
}

/// I10: epochs only grow, and the current one never passes the accepted one.
#[test]
fn i10_the_current_epoch_follows_the_accepted_one() {
    let mut story = Story::of_three();
    story.connects(1);
    story.introduces(1, 1, 5);
    // Too early, and about another epoch.
    story.leader.current_epoch_stored(MonotonicMs(0), Epoch(3));
    story.leader.accepted_epoch_stored(MonotonicMs(0), Epoch(3));
    assert_eq!(story.leader.poll(), None);
    story.stores_accepted();
    story.promises(1, Some(1), zxid(1, 9));
    let epochs: Vec<_> = story
        .outputs
        .iter()
        .filter(|output| matches!(output, LeaderOutput::AcceptedEpoch(_) | LeaderOutput::CurrentEpoch(_)))
        .collect();
    assert_eq!(epochs, [&LeaderOutput::AcceptedEpoch(Epoch(6)), &LeaderOutput::CurrentEpoch(Epoch(6))]);
}

/// I13: what a server acknowledged before it was told to cut its log is not on its disk any more.
#[test]
fn i13_what_was_cut_is_not_counted() {
    let mut story = Story::established();
    let write = story.writes();
    story.acks(1, write);
    story.leaves(1);
    story.connects(2);
    story.introduces(2, 1, 2);
    story.promises(2, None, write);
    assert!(story.sent_to(2).contains(&QuorumPacket::Trunc { zxid: zxid(1, 9) }));
    story.syncs(write);
    assert_eq!(story.committed(), [], "only this server has it");
    story.acks(2, zxid(2, 0));
    assert_eq!(story.committed(), []);
    story.acks(2, write);
    assert_eq!(story.committed(), [write]);
}

/// I14: commits come in the order of the proposals, after UPTODATE those that were held back first.
#[test]
fn i14_commits_come_in_order_whatever_the_order_of_acknowledgements() {
    let mut story = Story::established();
    for _ in 0..3 {
        story.writes();
    }
    story.joins(2, 2, zxid(1, 9));
    story.acks(2, zxid(2, 3));
    story.acks(1, zxid(2, 1));
    story.acks(1, zxid(2, 3));
    let commits = |link| -> Vec<Zxid> {
        let packets = story.sent_to(link).into_iter();
        let zxids = packets.filter_map(|packet| match packet {
            QuorumPacket::Commit { zxid } => Some(zxid),
            _ => None,
        });
        zxids.collect()
    };
    assert_eq!(commits(1), [zxid(2, 1), zxid(2, 2), zxid(2, 3)]);
    assert_eq!(commits(2), [zxid(2, 1), zxid(2, 2), zxid(2, 3)]);
}

/// I25: a packet that has no place where it comes ends the link and does nothing else.
#[test]
fn i25_what_has_no_place_is_refused() {
    let packets = |epoch| {
        [
            QuorumPacket::FollowerInfo { accepted_epoch: zxid(1, 0), info: Story::info(1) },
            QuorumPacket::ObserverInfo { accepted_epoch: zxid(1, 0), info: Story::info(1) },
            QuorumPacket::AckEpoch { last_logged: Some(zxid(1, 9)), current_epoch: Some(Epoch(1)) },
            QuorumPacket::Ack { zxid: zxid(epoch, 0) },
            QuorumPacket::Ack { zxid: zxid(epoch, 99) },
            QuorumPacket::Ping { zxid: zxid(epoch, 0), touches: Some(Vec::new()) },
            QuorumPacket::Revalidate { session: rookeeper_proto::SessionId(1), timeout_ms: 1 },
            QuorumPacket::UpToDate,
            QuorumPacket::Diff { zxid: zxid(1, 9) },
            QuorumPacket::Commit { zxid: zxid(1, 9) },
            QuorumPacket::Proposal { zxid: zxid(1, 10), record: b"x" },
        ]
    };
    // By stage, the packets above that are in place there.
    let in_place: [&[usize]; 5] = [&[0, 1], &[], &[2], &[3, 5], &[3, 5, 6]];
    for (stage, allowed) in in_place.into_iter().enumerate() {
        for (index, packet) in packets(2).into_iter().enumerate() {
            let mut story = Story::of_three();
            story.connects(1);
            if stage > 0 {
                story.introduces(1, 1, 1);
            }
            if stage > 1 {
                story.stores_accepted();
            }
            if stage > 2 {
                story.promises(1, Some(1), zxid(1, 9));
            }
            if stage > 3 {
                story.stores_current();
                story.acks(1, zxid(2, 0));
            }
            story.outputs.clear();
            story.receives(1, &packet);
            let dropped = story.has(|output| matches!(output, LeaderOutput::ToLearner(_, LinkOutput::Drop(_))));
            assert_eq!(!dropped, allowed.contains(&index), "stage {stage}, {packet:?}: {}", story.text);
            if dropped {
                assert_eq!(story.outputs.len(), 3, "a line for the log and the end: {}", story.text);
            }
        }
    }
}

/// A follower that does what it is told, and looks at everything that comes.
#[derive(Debug, Default)]
struct Follower {
    link: Option<u64>,
    /// What came and was not read.
    inbox: VecDeque<Vec<u8>>,
    /// What is to be sent.
    outbox: VecDeque<QuorumPacket<'static>>,
    /// On its disk.
    log: Vec<Zxid>,
    uncommitted: VecDeque<Zxid>,
    stage: usize,
}

const GREETED: usize = 1;
const PROMISED: usize = 2;
const SYNCING: usize = 3;
const ENTERED: usize = 4;
const SERVING: usize = 5;

impl Follower {
    fn hang_up(&mut self) {
        *self = Follower { log: std::mem::take(&mut self.log), ..Follower::default() };
    }

    fn last(&self) -> Zxid {
        self.log.last().copied().unwrap_or(Zxid::ZERO)
    }

    /// Takes the next packet, which has its place (I25).
    fn read(&mut self) {
        let Some(bytes) = self.inbox.pop_front() else { return };
        for packet in packets(&bytes) {
            match (self.stage, packet) {
                (GREETED, QuorumPacket::LeaderInfo { .. }) => {
                    let ack = QuorumPacket::AckEpoch { last_logged: Some(self.last()), current_epoch: Some(Epoch(0)) };
                    self.outbox.push_back(ack);
                    self.stage = PROMISED;
                }
                (PROMISED, QuorumPacket::Diff { .. }) => self.stage = SYNCING,
                (PROMISED, QuorumPacket::Trunc { zxid }) => {
                    assert!(self.log.contains(&zxid) || zxid == Zxid::ZERO, "it is cut at what it has");
                    self.log.retain(|logged| *logged <= zxid);
                    self.stage = SYNCING;
                }
                (SYNCING | ENTERED | SERVING, QuorumPacket::Proposal { zxid, .. }) => {
                    let follows = self.last().next() == Some(zxid) || (zxid.counter() == 1 && zxid > self.last());
                    assert!(follows, "I6: {zxid} after {}", self.last());
                    self.log.push(zxid);
                    self.uncommitted.push_back(zxid);
                    self.outbox.push_back(QuorumPacket::Ack { zxid });
                }
                (SYNCING | SERVING, QuorumPacket::Commit { zxid }) => {
                    assert_eq!(self.uncommitted.pop_front(), Some(zxid), "I14");
                }
                (SYNCING, QuorumPacket::NewLeader { epoch, .. }) => {
                    self.outbox.push_back(QuorumPacket::Ack { zxid: epoch });
                    self.stage = ENTERED;
                }
                (ENTERED, QuorumPacket::UpToDate) => self.stage = SERVING,
                (SYNCING | ENTERED | SERVING, QuorumPacket::Ping { .. }) => {}
                (stage, packet) => panic!("I25: {packet:?} in stage {stage}"),
            }
        }
    }
}

struct World {
    story: Story,
    followers: BTreeMap<i64, Follower>,
    next_link: u64,
    seen: usize,
    memberships: Memberships,
}

impl World {
    fn new() -> World {
        let memberships = Memberships::settled(membership(5, 0, 7));
        let story = Story::new(settings(), memberships.clone(), History::new(Zxid::ZERO, 500));
        let followers = [1, 2, 4, 5].map(|server| (server, Follower::default())).into();
        World { story, followers, next_link: 0, seen: 0, memberships }
    }

    fn act(&mut self, action: u8, server: i64, amount: u8) {
        let Some(follower) = self.followers.get_mut(&server) else { return };
        match (action, follower.link) {
            (0, None) => {
                self.next_link += 1;
                let link = self.next_link;
                (follower.link, follower.stage) = (Some(link), GREETED);
                self.story.connects(link);
                self.story.introduces(link, server, 0);
            }
            (1, Some(link)) if amount == 0 => {
                follower.hang_up();
                self.story.leaves(link);
            }
            (2 | 3, Some(_)) => (0..amount).for_each(|_| follower.read()),
            (4 | 5, Some(link)) => {
                for _ in 0..amount {
                    let Some(packet) = follower.outbox.pop_front() else { break };
                    self.story.receives(link, &packet);
                }
            }
            (6, _) if self.story.leader.phase() == rookeeper_zab::leader::LeaderPhase::Broadcast => {
                self.story.writes();
            }
            (7, _) => {
                let zxids = self.story.history.after(self.story.history.durable()).map(|record| record.zxid);
                let some = zxids.take(usize::from(amount)).last();
                if let Some(zxid) = some {
                    self.story.syncs(zxid);
                }
            }
            (8, _) => {
                self.story.stores_accepted();
                self.story.stores_current();
            }
            _ => {}
        }
        self.look();
    }

    /// Hands on what was sent, and checks what was committed (I13).
    fn look(&mut self) {
        for output in &self.story.outputs[self.seen..] {
            match output {
                LeaderOutput::ToLearner(link, LinkOutput::Send(bytes)) => {
                    let to = self.followers.values_mut().find(|follower| follower.link.map(LinkId) == Some(*link));
                    to.expect("only to links that stand").inbox.push_back(bytes.to_vec());
                }
                LeaderOutput::Committed(zxid) => {
                    let has = self.followers.iter().filter(|(_, follower)| follower.log.contains(zxid));
                    let mut having: BTreeSet<ServerId> = has.map(|(server, _)| ServerId(*server)).collect();
                    if self.story.history.durable() >= *zxid {
                        having.insert(ServerId(3));
                    }
                    assert!(self.memberships.is_reached_by(&having), "I13: {zxid} is on {having:?} only");
                }
                LeaderOutput::ToLearner(link, LinkOutput::Drop(why)) => {
                    panic!("an honest follower was dropped: {link} {why}")
                }
                LeaderOutput::StepDown { why, .. } => panic!("{why}"),
                _ => {}
            }
        }
        self.seen = self.story.outputs.len();
    }
}

proptest! {
    #[test]
    fn honest_followers_in_any_order(actions in prop::collection::vec((0..9u8, 1..6i64, 0..6u8), 0..400)) {
        let mut world = World::new();
        for (action, server, amount) in actions {
            world.act(action, server, amount);
        }
        // In the end, all who are there are brought to the same.
        for server in [1, 2, 4, 5] {
            world.act(0, server, 0);
        }
        for _ in 0..2000 {
            for action in [2, 4, 7, 8] {
                for server in [1, 2, 4, 5] {
                    world.act(action, server, 5);
                }
            }
            if world.followers.values().all(|follower| follower.stage == SERVING && follower.inbox.is_empty() && follower.outbox.is_empty()) {
                break;
            }
        }
        let leader = &world.story.leader;
        prop_assert_eq!(leader.outstanding(), 0, "{}", &world.story.text);
        for follower in world.followers.values() {
            prop_assert_eq!(follower.last(), world.story.history.last());
            prop_assert!(follower.uncommitted.is_empty());
        }
    }
}

/// A server that may have lost its disk does not help to establish a leader: it may have promised itself to a newer one, and have
/// acknowledged there what is now on no other disk of this quorum. Found by simulated lives.
#[test]
fn a_server_without_its_disk_gets_a_history_from_an_established_leader_only() {
    let mut story = Story::of_three();
    for server in [1, 2] {
        story.connects(server);
        story.introduces(server, server as i64, 1);
    }
    story.stores_accepted();
    story.promises(1, Some(1), zxid(1, 9));
    story.promises(2, Some(0), None);
    story.stores_current();
    let gets_a_snapshot = |story: &Story| {
        story.has(
            |output| matches!(output, LeaderOutput::ToLearner(link, LinkOutput::StreamSnapshot) if *link == LinkId(2)),
        )
    };
    assert!(!gets_a_snapshot(&story), "{}", story.text);
    story.acks(1, zxid(2, 0));
    story.acks(1, zxid(2, 0));
    assert!(story.has(|output| matches!(output, LeaderOutput::Activate { .. })), "{}", story.text);
    assert!(!gets_a_snapshot(&story), "{}", story.text);
    story.echoes(1, zxid(2, 0));
    assert!(gets_a_snapshot(&story), "{}", story.text);
}

/// Others may follow a newer leader by now, with the help of that server before it lost its disk, while this one stood still: then nobody is
/// left who says that this one leads. Found by simulated lives.
#[test]
fn a_server_without_its_disk_gets_no_history_from_a_leader_of_yesterday() {
    let gets_a_snapshot = |story: &Story| {
        story.has(
            |output| matches!(output, LeaderOutput::ToLearner(link, LinkOutput::StreamSnapshot) if *link == LinkId(2)),
        )
    };
    for observes in [false, true] {
        let mut story = match observes {
            true => Story::new(settings(), Memberships::settled(membership(3, 1, 7)), history()),
            false => Story::of_three(),
        };
        story.establish();
        story.connects(2);
        match observes {
            true => story.introduces_observer(2, 4, 0),
            false => story.introduces(2, 2, 0),
        }
        story.promises(2, Some(0), None);
        assert_eq!(gets_a_snapshot(&story), observes, "{}", story.text);
        if observes {
            continue;
        }
        story.echoes(1, zxid(2, 0));
        assert!(gets_a_snapshot(&story), "{}", story.text);
    }
}
