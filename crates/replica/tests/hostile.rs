//! Packets and votes of any content, at any time, from anybody: they end connections, and nothing else. Seeded, so that a failure can be
//! played again.

use std::collections::VecDeque;
use std::sync::Arc;

use rookeeper_proto::election::{Notification, PeerState};
use rookeeper_proto::quorum::{ForwardedRequest, LearnerInfo, QuorumPacket, Touch};
use rookeeper_proto::{Epoch, MonotonicMs, ServerId, SessionId, Txn, TxnHeader, TxnRecord, WallMs, Zxid};
use rookeeper_replica::{EnsembleSettings, Epochs, Input, Output, Replica, Settings, Shared, Store, Stored, Time};
use rookeeper_tree::Tree;
use rookeeper_zab::{LinkEnd, LinkId, LinkOutput, Membership, Memberships, SyncPlan};

const ROUNDS: u64 = 400;
const STEPS: usize = 300;

struct Random(rookeeper_proto::random::Random);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0.draw()
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }

    /// Mostly small and plausible, sometimes extreme.
    fn zxid(&mut self) -> Zxid {
        match self.below(8) {
            0 => Zxid(i64::MAX - self.below(2) as i64),
            1 => Zxid(-(self.below(3) as i64)),
            2 => Zxid(self.draw() as i64),
            3 => Zxid::new(self.below(4) as u32, u32::MAX - self.below(2) as u32),
            _ => Zxid::new(self.below(4) as u32, self.below(4) as u32),
        }
    }

    fn server(&mut self) -> ServerId {
        match self.below(6) {
            0 => ServerId(i64::MIN),
            1 => ServerId(self.draw() as i64),
            small => ServerId(small as i64 - 1),
        }
    }
}

struct World {
    random: Random,
    replica: Replica,
    now_ms: MonotonicMs,
    queue: VecDeque<Input>,
    /// The link to a leader, and links of learners.
    leader: Option<LinkId>,
    learners: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let lines: String = (1..=3).map(|id| format!("server.{id}=127.0.0.{id}:2888:3888;2181\n")).collect();
        let membership = Membership::parse_text(lines, false).expect("a membership");
        let settings = EnsembleSettings {
            connect_retry_ms: 10,
            observer_election_delay_ms: 0,
            local_sessions: seed.is_multiple_of(3),
            local_sessions_upgrading: seed.is_multiple_of(2),
            read_only_mode: seed.is_multiple_of(5),
            commit_log_count: 5,
            force_snapshot_sync: seed.is_multiple_of(7),
            ..EnsembleSettings::new(ServerId(2), Memberships::settled(membership))
        };
        let shared_settings = Settings { server: ServerId(2), reconfig: seed % 2 == 1, ..Settings::default() };
        let shared = Arc::new(Shared::new(shared_settings, Tree::new(), WallMs(0)));
        let epochs = Epochs { accepted: Epoch(1), current: Epoch(1) };
        let replica = Replica::member(shared, settings, epochs, Time::of_ms(MonotonicMs(0), WallMs(0)));
        let mut world = World {
            random: Random(rookeeper_proto::random::Random::new(seed)),
            replica,
            now_ms: MonotonicMs(0),
            queue: VecDeque::new(),
            leader: None,
            learners: 0,
        };
        world.drain();
        world
    }

    fn feed(&mut self, input: Input) {
        self.queue.push_back(input);
        while let Some(input) = self.queue.pop_front() {
            self.replica.handle(Time::of_ms(self.now_ms, WallMs(self.now_ms.0)), input);
            self.drain();
        }
    }

    /// The disk does what it is asked for, at once.
    fn drain(&mut self) {
        while let Some(output) = self.replica.poll() {
            match output {
                Output::Append(record) => self.queue.push_back(Input::Synced { zxid: record.zxid }),
                Output::Store(store) => {
                    let stored = match store {
                        Store::AcceptedEpoch(epoch) => Stored::AcceptedEpoch(epoch),
                        Store::CurrentEpoch { epoch, .. } => Stored::CurrentEpoch(epoch),
                        Store::Truncate { zxid, reload } => {
                            Stored::Truncated { zxid, tree: reload.then(|| Box::new(Tree::new())) }
                        }
                        Store::InstallSnapshot { zxid } => Stored::SnapshotInstalled { zxid },
                        Store::Restore { zxid, tree } => Stored::Restored { zxid, tree },
                        Store::ProposedMembership(_) | Store::ActiveMembership(_) => continue,
                    };
                    self.queue.push_back(Input::Stored(stored));
                }
                Output::Dial { link, .. } => {
                    self.leader = Some(link);
                    self.queue.push_back(Input::LeaderConnected { link });
                }
                Output::ToLearner(link, LinkOutput::PlanSync { .. }) => {
                    let plan = [SyncPlan::Log, SyncPlan::Snapshot][self.random.below(2) as usize];
                    self.queue.push_back(Input::SyncPlanned { link, plan });
                }
                _ => {}
            }
        }
    }

    fn notification(&mut self) -> Notification {
        let states = [PeerState::Looking, PeerState::Following, PeerState::Leading, PeerState::Observing];
        Notification {
            state: states[self.random.below(4) as usize],
            leader: (self.random.below(8) > 0).then(|| self.random.server()),
            zxid: self.random.zxid().known(),
            election_epoch: self.random.below(4) as i64 - 1,
            peer_epoch: self.random.below(4).checked_sub(1).map(|epoch| Epoch(epoch as u32)),
            config: (self.random.below(4) == 0).then(|| b"server.9=a:1:2;3\nversion=ff".to_vec()),
        }
    }

    fn packets(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..=self.random.below(4) {
            self.packet(&mut bytes);
        }
        if self.random.below(16) == 0 {
            let at = self.random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << self.random.below(8);
        }
        bytes
    }

    fn packet(&mut self, bytes: &mut Vec<u8>) {
        let zxid = self.random.zxid();
        let session = SessionId(self.random.below(3) as i64);
        let info = LearnerInfo {
            server: self.random.server(),
            protocol_version: 0x10000,
            config_version: Zxid(self.random.below(3) as i64 - 1),
        };
        let mut record = Vec::new();
        let header = TxnHeader { session, cxid: 1, zxid, time_ms: 1 };
        TxnRecord { header, txn: Txn::CreateSession { timeout_ms: 4000 }, digest: None }.append(&mut record);
        let record = if self.random.below(6) == 0 { &b"no record"[..] } else { &record };
        let epoch = Epoch(self.random.below(4) as u32);
        let start = Zxid::new(epoch, 0);
        let packet = match self.random.below(22) {
            0 | 1 => QuorumPacket::FollowerInfo { accepted_epoch: start, info },
            2 => QuorumPacket::ObserverInfo { accepted_epoch: start, info },
            3 | 4 => QuorumPacket::LeaderInfo { epoch: start },
            5 => QuorumPacket::AckEpoch { last_logged: zxid.known(), current_epoch: Some(epoch) },
            6 => QuorumPacket::AckEpoch { last_logged: Some(Zxid::ZERO), current_epoch: Some(epoch) },
            7 => QuorumPacket::Diff { zxid },
            8 => QuorumPacket::Trunc { zxid },
            9 => QuorumPacket::Snap { zxid },
            10 | 11 => QuorumPacket::NewLeader { epoch: start, config: b"server.1=a:1:2;3\nversion=0" },
            12 => QuorumPacket::UpToDate,
            13 => QuorumPacket::Proposal { zxid, record },
            14 => QuorumPacket::Ack { zxid: start },
            15 => QuorumPacket::Ack { zxid },
            16 => QuorumPacket::Commit { zxid },
            17 => QuorumPacket::CommitAndActivate { zxid, designated_leader: self.random.server() },
            18 => QuorumPacket::Inform { zxid, record },
            19 => QuorumPacket::Ping { zxid, touches: Some(vec![Touch { session, timeout_ms: -1 }]) },
            20 => {
                let op = self.random.below(24) as i32 - 12;
                QuorumPacket::Request(ForwardedRequest { session, cxid: 0, op, body: record, identities: None })
            }
            _ => QuorumPacket::Revalidate { session, timeout_ms: i32::MIN },
        };
        packet.append(bytes);
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0 | 1 => {
                let (from, notification) = (self.random.server(), self.notification());
                self.feed(Input::Notified { from, notification });
            }
            2 => {
                let server = self.random.server();
                self.feed(Input::ElectionLinkUp { server });
                self.feed(Input::ElectionLinkDown { server });
            }
            3 => {
                self.learners += 1;
                self.feed(Input::LearnerConnected { link: LinkId(1 << 40 | self.learners), peer: "peer".to_owned() });
            }
            4..=6 => {
                let link = LinkId(1 << 40 | (self.random.below(self.learners + 1)));
                let packets = self.packets();
                self.feed(Input::FromLearner { link, packets });
            }
            7 | 8 => {
                let packets = self.packets();
                if let Some(link) = self.leader {
                    self.feed(Input::FromLeader { link, packets });
                }
            }
            9 => {
                if let Some(link) = self.leader {
                    let mut tree = Tree::new();
                    tree.set_last_zxid(self.random.zxid());
                    self.feed(Input::SnapshotReceived { link, tree: Box::new(tree), bytes: 1 });
                }
            }
            10 => {
                self.now_ms += self.random.below(3000) as i64;
                self.feed(Input::Tick);
            }
            _ => {
                let link = LinkId(1 << 40 | (self.random.below(self.learners + 1)));
                self.feed(Input::LearnerGone { link, why: LinkEnd::Closed });
            }
        }
    }
}

#[test]
fn nothing_that_arrives_ends_more_than_its_connection() {
    for seed in 0..ROUNDS {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
    }
}
