//! Exchanges recorded from the original: its learners get from this leader the bytes that they got from theirs. In the files `<` is what
//! the learner sent.

use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::{MonotonicMs, ServerId, Zxid};
use rookeeper_zab::leader::LeaderOutput;
use rookeeper_zab::{History, LinkId, LinkOutput, Membership, Memberships, Record};

use crate::golden;
use crate::story::{Story, packets, settings};

struct Exchange {
    learner: Vec<Vec<u8>>,
    leader: Vec<(String, Vec<u8>)>,
}

impl Exchange {
    fn read(name: &str) -> Exchange {
        let text = std::fs::read_to_string(golden::path(&format!("recorded/{name}.txt"))).unwrap();
        let mut exchange = Exchange { learner: Vec::new(), leader: Vec::new() };
        for line in text.lines() {
            let mut words = line.split(' ');
            let (from, packet_type, hex) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            let digits = hex.as_bytes().chunks_exact(2);
            let bytes = digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect();
            match from {
                "<" => exchange.learner.push(bytes),
                _ => exchange.leader.push((packet_type.to_owned(), bytes)),
            }
        }
        exchange
    }

    fn membership(&self) -> Membership {
        let new_leader = self.leader.iter().find(|(packet_type, _)| packet_type == "NEWLEADER").unwrap();
        let [QuorumPacket::NewLeader { config, .. }] = packets(&new_leader.1)[..] else { panic!("one packet a line") };
        Membership::parse_text(config, false).unwrap()
    }

    /// What the learner missed.
    fn proposals(&self) -> Vec<Record> {
        let proposals = self.leader.iter().flat_map(|(_, bytes)| packets(bytes));
        let records = proposals.filter_map(|packet| match packet {
            QuorumPacket::Proposal { zxid, record } => Some(Record::new(zxid, record)),
            _ => None,
        });
        records.collect()
    }

    /// Lets a leader commit what the learner missed, behind what it did not miss.
    fn write_before(&self, story: &mut Story, last: Zxid) {
        let mut missed = self.proposals().into_iter();
        loop {
            let zxid = story.leader.next_zxid();
            let record = if zxid <= last { Some(Record::new(zxid, b"known")) } else { missed.next() };
            let Some(record) = record else { return };
            story.leader.propose(MonotonicMs(0), &record);
            story.history.push(record).unwrap();
            story.syncs(zxid);
            story.acks(1, zxid);
        }
    }

    /// The learner says all it said, and hears what it heard.
    fn replay(&self, mut story: Story) {
        let link = LinkId(77);
        story.outputs.clear();
        story.connects(77);
        for bytes in &self.learner {
            let [packet] = &packets(bytes)[..] else { panic!("one packet a line") };
            story.receives(77, packet);
            story.stores_accepted();
            story.stores_current();
        }
        let sent: Vec<u8> = story.outputs.iter().fold(Vec::new(), |mut sent, output| {
            match output {
                LeaderOutput::ToLearner(to, LinkOutput::Send(bytes)) if *to == link => sent.extend_from_slice(bytes),
                _ => {}
            }
            sent
        });
        let expected: Vec<u8> = self.leader.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        assert_eq!(packets(&sent), packets(&expected));
        assert_eq!(sent, expected);
        assert!(
            !story.has(|output| matches!(output, LeaderOutput::ToLearner(_, LinkOutput::Drop(_)))),
            "{}",
            story.text
        );
    }
}

fn leader(me: i64, membership: Membership, last: Zxid) -> Story {
    let settings = rookeeper_zab::leader::LeaderSettings { me: ServerId(me), ..settings() };
    Story::new(settings, Memberships::settled(membership), History::new(last, 500))
}

#[test]
fn the_first_epoch() {
    let exchange = Exchange::read("first_epoch");
    // The version is the one that the membership gets from its first epoch.
    let membership = Membership { version: Zxid::ZERO, ..exchange.membership() };
    exchange.replay(leader(3, membership, Zxid::ZERO));
}

fn rejoins(name: &str, last: Zxid) {
    let exchange = Exchange::read(name);
    let mut story = leader(3, exchange.membership(), Zxid::ZERO);
    // Another follower, known as link 1, makes the quorum.
    story.connects(1);
    story.introduces(1, 2, 0);
    story.stores_accepted();
    story.promises(1, Some(0), Zxid::ZERO);
    story.stores_current();
    story.acks(1, Zxid::new(1, 0));
    exchange.write_before(&mut story, last);
    exchange.replay(story);
}

#[test]
fn nothing_is_missing() {
    rejoins("nothing_missing", Zxid::new(1, 0x1f));
}

#[test]
fn a_part_is_missing() {
    rejoins("missing_part", Zxid::new(1, 0x1f));
}

#[test]
fn a_follower_of_3_8_0_acknowledges_late() {
    rejoins("older_follower", Zxid::new(1, 0x6));
}

#[test]
fn a_follower_has_too_much() {
    let exchange = Exchange::read("too_much");
    let last = Zxid::new(1, 0x25);
    let mut story = leader(2, exchange.membership(), last);
    story.connects(1);
    story.introduces(1, 1, 1);
    story.stores_accepted();
    story.promises(1, Some(1), last);
    story.stores_current();
    story.acks(1, Zxid::new(2, 0));
    exchange.replay(story);
}
