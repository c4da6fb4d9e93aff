//! A real port on loopback, a fake server at the other end, and the test in the place of the replica.

use std::sync::Arc;
use std::time::Duration;

use rookeeper_proto::quorum::{LearnerInfo, QuorumPacket};
use rookeeper_proto::txn::{CreateKind, CreateTxn};
use rookeeper_proto::{Acl, ServerId, SessionId, TtlEncoding, Txn, TxnHeader, TxnRecord, WallMs, Zxid};
use rookeeper_replica::{Input, Settings, Shared};
use rookeeper_storage::Files;
use rookeeper_store::snapshot_stream::{Progress, SnapshotReceiver};
use rookeeper_tree::Tree;
use rookeeper_zab::{DropReason, HostPort, LinkId, Membership, Memberships, SyncPlan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{PeerQueue, QuorumPort, QuorumPortSettings, outgoing, peer_queue};
use crate::failure::ExitCode;
use crate::net::door::Door;
use crate::server::data_directory::files_of_test;

/// Nothing here takes longer unless it hangs.
const LIMIT: Duration = Duration::from_secs(30);

struct Fixture {
    port: QuorumPort,
    inputs: PeerQueue,
    waiting: Vec<Input>,
    files: Arc<Files>,
    shared: Arc<Shared>,
    _directory: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Fixture {
        Fixture::with_nodes(0).await
    }

    async fn with_nodes(nodes: i64) -> Fixture {
        Fixture::open(nodes, false, LIMIT).await
    }

    async fn feeding(observer_master_port: Option<u16>) -> Fixture {
        Fixture::open_with(0, false, LIMIT, observer_master_port).await
    }

    async fn open(nodes: i64, only_members: bool, greeting_limit: Duration) -> Fixture {
        Fixture::open_with(nodes, only_members, greeting_limit, None).await
    }

    async fn open_with(
        nodes: i64,
        only_members: bool,
        greeting_limit: Duration,
        observer_master_port: Option<u16>,
    ) -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let files = files_of_test(directory.path());
        let mut tree = Tree::with_seed(1);
        for record in (1..=nodes).map(create) {
            tree.apply(&record.header, record.txn, &mut Vec::new());
        }
        let shared = Arc::new(Shared::new(Settings::default(), tree, WallMs(0)));
        let (sender, inputs) = peer_queue();
        let settings = QuorumPortSettings {
            me: ServerId(1),
            memberships: memberships("127.0.0.1:0"),
            listen_on_all: false,
            observer_master_port,
            connect_timeout: LIMIT,
            snapshot_size_factor: Some(0.33),
            max_packet_bytes: 1 << 20,
            door: Arc::new(Door::new(only_members, &memberships("127.0.0.1:0"))),
            greeting_limit,
            told_packets: 0,
            auth: Default::default(),
            tls: None,
            links: tokio::runtime::Handle::current(),
        };
        let port = QuorumPort::open(settings, shared.clone(), files.clone(), sender).await.unwrap();
        Fixture { port, inputs, waiting: Vec::new(), files, shared, _directory: directory }
    }

    async fn next_input(&mut self) -> Input {
        if self.waiting.is_empty() {
            let received = tokio::time::timeout(LIMIT, self.inputs.receive_many(&mut self.waiting, 100)).await;
            assert!(received.expect("an input in time") > 0);
        }
        self.waiting.remove(0)
    }

    /// Connects as a learner that has said who it is.
    async fn learner(&mut self) -> (LinkId, TcpStream) {
        let mut stream = self.stranger().await;
        stream.write_all(&packets(&[FOLLOWER_INFO])).await.unwrap();
        (self.greeted(&stream).await, stream)
    }

    /// The replica hears of the learner at the other end of this stream.
    async fn greeted(&mut self, stream: &TcpStream) -> LinkId {
        let own = stream.local_addr().unwrap().to_string();
        let link = match self.next_input().await {
            Input::LearnerConnected { link, peer } if peer == own => link,
            other => panic!("{other:?}"),
        };
        let hello = packets(&[FOLLOWER_INFO]);
        assert!(
            matches!(self.next_input().await, Input::FromLearner { link: from, packets } if from == link && packets == hello)
        );
        link
    }

    /// A stranger at this address who has said something before the port knows of him, where the runtime has one thread.
    fn talker(&self, from: &str, bytes: &[u8]) -> TcpStream {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &std::net::SocketAddrV4::new(from.parse().unwrap(), 0)).unwrap();
        connect(&socket, &self.port.addresses()[0]).unwrap();
        let mut stream = std::net::TcpStream::from(socket);
        std::io::Write::write_all(&mut stream, bytes).unwrap();
        stream.set_nonblocking(true).unwrap();
        TcpStream::from_std(stream).unwrap()
    }

    async fn stranger(&self) -> TcpStream {
        TcpStream::connect(self.port.addresses()[0]).await.unwrap()
    }

    /// Dials a fake leader, which accepts.
    async fn leader(&mut self) -> (LinkId, TcpStream) {
        let (link, listener) = (LinkId(70), TcpListener::bind("127.0.0.1:0").await.unwrap());
        self.dial(link, listener.local_addr().unwrap().port());
        let (stream, _) = listener.accept().await.unwrap();
        assert!(matches!(self.next_input().await, Input::LeaderConnected { link: connected } if connected == link));
        (link, stream)
    }

    fn dial(&mut self, link: LinkId, port: u16) {
        self.port.dial(link, ServerId(2), vec![HostPort { host: "127.0.0.1".to_owned(), port }]);
    }

    async fn gone(&mut self) -> String {
        match self.next_input().await {
            Input::LearnerGone { why, .. } | Input::LeaderGone { why, .. } => why.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

/// The connection ends in order.
async fn ends(stream: &mut TcpStream) {
    let end = tokio::time::timeout(LIMIT, stream.read(&mut [0; 1])).await.expect("an end in time");
    assert_eq!(end.map_err(|error| error.kind()), Ok(0));
}

const FOLLOWER_INFO: QuorumPacket<'_> = QuorumPacket::FollowerInfo {
    accepted_epoch: Zxid(0),
    info: LearnerInfo { server: ServerId(2), protocol_version: 0x10000, config_version: Zxid::ZERO },
};

fn memberships(address: &str) -> Memberships {
    let text = format!("server.1={address}:1\nserver.2=127.0.0.1:1:2");
    Memberships::settled(Membership::parse_text(text, false).unwrap())
}

fn create(counter: i64) -> TxnRecord {
    let header = TxnHeader { session: SessionId(1), cxid: 1, zxid: Zxid(counter), time_ms: 1 };
    let txn = Txn::Create(CreateTxn {
        path: format!("/node-{counter:05}"),
        data: Some(vec![7; 100]),
        acl: Some(Acl::open()),
        kind: CreateKind::Node { ephemeral: false, with_stat: false },
        parent_cversion: counter as i32,
    });
    TxnRecord { header, txn, digest: None }
}

fn packets(packets: &[QuorumPacket<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packets.iter().for_each(|packet| packet.append(&mut bytes));
    bytes
}

async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    tokio::time::timeout(LIMIT, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
    bytes
}

async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_gets_everything_in_the_order_in_which_it_was_asked_for() {
    let mut fixture = Fixture::with_nodes(3000).await;
    let (mut writer, bodies): (_, Vec<Vec<u8>>) = (
        fixture.files.log_writer(Zxid::ZERO),
        (1..=20)
            .map(|counter| {
                let mut body = Vec::new();
                create(counter).append(&mut body);
                body
            })
            .collect(),
    );
    for (counter, body) in (1..).zip(&bodies) {
        writer.append(Zxid(counter), body).unwrap();
    }
    writer.commit().unwrap();
    let (link, mut stream) = fixture.learner().await;
    fixture.port.plan_sync(link, Zxid(5), Zxid(18));
    let planned = fixture.next_input().await;
    assert!(matches!(planned, Input::SyncPlanned { link: of, plan: SyncPlan::Log } if of == link), "{planned:?}");

    let (first, last) = (packets(&[QuorumPacket::Diff { zxid: Zxid(20) }]), packets(&[QuorumPacket::UpToDate]));
    fixture.port.send_to_learner(link, first.clone().into());
    fixture.port.stream_log(link, Zxid(5), Zxid(18));
    fixture.port.stream_snapshot(link);
    fixture.port.send_to_learner(link, last.clone().into());
    fixture.port.flush();

    let mut expected = first;
    for counter in 6..18 {
        let zxid = Zxid(counter);
        let record = &bodies[counter as usize - 1];
        expected.extend(packets(&[QuorumPacket::Proposal { zxid, record }, QuorumPacket::Commit { zxid }]));
    }
    expected.extend(packets(&[QuorumPacket::Snap { zxid: Zxid(3000) }]));
    // The log and the tree of this test have nothing to do with one another.
    assert_eq!(read(&mut stream, expected.len()).await, expected);
    let mut rest = Vec::new();
    while !rest.ends_with(&last) {
        let read = tokio::time::timeout(LIMIT, stream.read_buf(&mut rest)).await.unwrap().unwrap();
        assert!(read > 0, "the stream ends early");
    }
    // What is still being streamed would be cut.
    fixture.port.drop_learner(link, DropReason::NotLeading);
    assert_eq!(read_to_end(&mut stream).await, b"");
    match SnapshotReceiver::new(Zxid(3000), 1, TtlEncoding::Current).feed(&rest).unwrap() {
        Progress::Done { tree, used } => {
            let sent = fixture.shared.tree();
            assert_eq!((tree.node_count(), tree.digest()), (sent.node_count(), sent.digest()));
            assert_eq!(rest[used..], last);
        }
        progress => panic!("{progress:?}"),
    }
    // Nothing more is said of a link that the replica gave up.
    let (other, _stream) = fixture.learner().await;
    assert_ne!(other, link);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_packet_ends_its_connection_and_nothing_else() {
    let mut fixture = Fixture::new().await;
    let (link, mut good) = fixture.learner().await;
    let (zxid, record) = (Zxid(1), &[0; 2000][..]);
    // A stranger has little to say, and nothing before it has said who it is.
    let strangers = [
        b"GET / HTTP/1.1\r\nHost: zookeeper\r\n\r\n".to_vec(),
        packets(&[QuorumPacket::Proposal { zxid, record }]),
        packets(&[QuorumPacket::UpToDate]),
        packets(&[QuorumPacket::Ack { zxid }, FOLLOWER_INFO]),
    ];
    for bytes in strangers {
        let mut stranger = fixture.stranger().await;
        stranger.write_all(&bytes).await.unwrap();
        assert_eq!(stranger.read(&mut [0; 9]).await.map_err(|error| error.kind()), Ok(0), "{bytes:?}");
    }
    // The replica has heard of none of them: what it hears next is this. Whoever has said who it is may say more.
    let large = packets(&[QuorumPacket::Proposal { zxid, record }]);
    good.write_all(&large).await.unwrap();
    let mut received = Vec::new();
    while received.len() < large.len() {
        match fixture.next_input().await {
            Input::FromLearner { link: from, packets } if from == link => received.extend(packets),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received, large);
    good.write_all(&large[..100]).await.unwrap();
    drop(good);
    assert!(fixture.gone().await.contains("within a packet"));
}

#[tokio::test]
async fn strangers_are_few_of_one_address_and_not_for_long() {
    let fixture = Fixture::open(0, false, LIMIT * 10).await;
    let mut silent = Vec::new();
    for number in 0..100 {
        let mut stranger = fixture.talker("127.0.0.1", &packets(&[FOLLOWER_INFO])[..25]);
        // So many are too many from one address; the others are closed at once, and in order. Another address is served.
        if number >= 64 {
            ends(&mut stranger).await;
        } else {
            silent.push(stranger);
        }
    }
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(fixture.port.addresses()[0]).await.unwrap();
    other.write_all(&packets(&[FOLLOWER_INFO])).await.unwrap();
    let mut fixture = fixture;
    fixture.greeted(&other).await;

    let fixture = Fixture::open(0, false, Duration::from_millis(20)).await;
    for first in [vec![], packets(&[FOLLOWER_INFO])[..25].to_vec()] {
        let mut slow = fixture.stranger().await;
        slow.write_all(&first).await.unwrap();
        assert_eq!(tokio::time::timeout(LIMIT, slow.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn learners_of_many_addresses_are_not_without_number() {
    crate::net::descriptors::raise_limit();
    let fixture = Fixture::open(0, false, LIMIT * 10).await;
    let place = fixture.port.addresses()[0];
    let caller = async |from: &str| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(place).await.unwrap()
    };
    let mut seated = Vec::new();
    for address in 1..=4 {
        for _ in 0..64 {
            seated.push(caller(&format!("127.0.0.{address}")).await);
        }
    }
    let mut one_too_many = caller("127.0.0.5").await;
    ends(&mut one_too_many).await;
    // A seat that was given up is the next one's.
    drop(seated.pop());
    let mut fixture = fixture;
    loop {
        let (mut next, mut byte) = (caller("127.0.0.5").await, [0; 1]);
        // Closed at once, it may not take what is said to it.
        let _ = next.write_all(&packets(&[FOLLOWER_INFO])).await;
        tokio::select! {
            input = fixture.next_input() => {
                assert!(matches!(input, Input::LearnerConnected { .. }), "{input:?}");
                break;
            }
            _ = next.read(&mut byte) => {}
        }
    }
}

#[tokio::test]
async fn only_members_come_in_where_that_is_wanted() {
    let mut fixture = Fixture::open(0, true, LIMIT).await;
    let mut stranger = fixture.talker("127.0.0.2", &packets(&[FOLLOWER_INFO]));
    ends(&mut stranger).await;
    fixture.learner().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_does_not_read_is_dropped() {
    let mut fixture = Fixture::new().await;
    let (link, stream) = fixture.learner().await;
    let bytes: Arc<[u8]> = vec![0; 1 << 20].into();
    // Some go into the buffers of the sockets.
    for _ in 0..2 * outgoing::MAX_WAITING_BYTES / bytes.len() {
        fixture.port.send_to_learner(link, bytes.clone());
    }
    assert!(fixture.gone().await.contains("does not read"));
    // What was asked for afterwards is for nobody.
    fixture.port.send_to_learner(link, bytes);
    fixture.port.flush();
    fixture.port.drop_learner(link, DropReason::NotLeading);
    drop(stream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_is_heard_and_its_snapshot_becomes_a_tree() {
    let mut fixture = Fixture::new().await;
    let (link, mut leader) = fixture.leader().await;
    let hello = packets(&[FOLLOWER_INFO]);
    fixture.port.send_to_leader(link, hello.clone());
    fixture.port.flush();
    assert_eq!(read(&mut leader, hello.len()).await, hello);

    let source = Fixture::with_nodes(2000).await;
    let mut stream = packets(&[QuorumPacket::Snap { zxid: Zxid(2000) }]);
    let snap = stream.clone();
    let mut sender = rookeeper_store::snapshot_stream::SnapshotSender::begin(&source.shared.tree(), 1000);
    while sender.next_portion(&source.shared.tree(), &mut stream).unwrap() {}
    let after = packets(&[QuorumPacket::NewLeader { epoch: Zxid::new(1, 0), config: b"" }, QuorumPacket::UpToDate]);
    stream.extend(&after);
    // Pieces end anywhere.
    for piece in stream.chunks(7777) {
        leader.write_all(piece).await.unwrap();
    }
    assert!(matches!(fixture.next_input().await, Input::FromLeader { packets, .. } if packets == snap));
    let (mut tree_at, mut received) = (None, Vec::new());
    while received.len() < after.len() {
        match fixture.next_input().await {
            Input::LeaderHeard { link: heard } => assert_eq!(heard, link),
            Input::SnapshotReceived { tree, bytes, .. } => {
                assert_eq!(bytes as usize, stream.len() - snap.len() - after.len());
                assert_eq!(tree.digest(), source.shared.tree().digest());
                tree_at = Some(tree.last_zxid());
            }
            Input::FromLeader { packets, .. } if tree_at.is_some() => received.extend(packets),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((tree_at, received), (Some(Zxid(2000)), after));
    // Hung up, it ends without a word to the replica.
    fixture.port.hang_up(link);
    assert_eq!(leader.read(&mut [0; 9]).await.unwrap_or(0), 0);
    fixture.dial(LinkId(71), 1);
    assert!(matches!(fixture.next_input().await, Input::LeaderGone { link: LinkId(71), .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_breaks_off_or_is_none_ends_the_connection() {
    let mut fixture = Fixture::new().await;
    let snap = packets(&[QuorumPacket::Snap { zxid: Zxid(9) }]);
    for (stream, why) in [(vec![0, 0], "within a packet"), (vec![0xff; 40], "snapshot")] {
        let (_, mut leader) = fixture.leader().await;
        leader.write_all(&[snap.clone(), stream].concat()).await.unwrap();
        assert!(matches!(fixture.next_input().await, Input::FromLeader { .. }));
        leader.shutdown().await.unwrap();
        let end = loop {
            match fixture.next_input().await {
                Input::LeaderHeard { .. } => {}
                Input::LeaderGone { why, .. } => break why.to_string(),
                other => panic!("{other:?}"),
            }
        };
        assert!(end.contains(why), "{end}");
    }
}

/// The port is there as long as this server feeds observers, and takes nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observers_come_in_while_they_are_fed() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut fixture = Fixture::feeding(Some(free.port())).await;
    assert!(TcpStream::connect(free).await.is_err(), "it is closed at first");
    fixture.port.feed_observers(true);
    let mut follower = connected(free).await;
    follower.write_all(&packets(&[FOLLOWER_INFO])).await.unwrap();
    ends(&mut follower).await;
    let mut observer = connected(free).await;
    let QuorumPacket::FollowerInfo { accepted_epoch, info } = FOLLOWER_INFO else { unreachable!() };
    observer.write_all(&packets(&[QuorumPacket::ObserverInfo { accepted_epoch, info }])).await.unwrap();
    let link = match fixture.next_input().await {
        Input::ObserverConnected { link, .. } => link,
        other => panic!("{other:?}"),
    };
    assert!(matches!(fixture.next_input().await, Input::FromLearner { link: from, .. } if from == link));

    // Whoever came in stays when the port closes.
    fixture.port.feed_observers(false);
    let closed = async {
        while TcpStream::connect(free).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, closed).await.expect("it closes");
    fixture.port.send_to_learner(link, packets(&[QuorumPacket::UpToDate]).into());
    fixture.port.flush();
    let length = packets(&[QuorumPacket::UpToDate]).len();
    assert_eq!(read(&mut observer, length).await, packets(&[QuorumPacket::UpToDate]));
}

/// As soon as somebody listens there.
async fn connected(address: std::net::SocketAddr) -> TcpStream {
    let connecting = async {
        loop {
            match TcpStream::connect(address).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(LIMIT, connecting).await.expect("somebody listens in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_follows_the_membership() {
    let mut fixture = Fixture::new().await;
    let (_, mut old) = fixture.learner().await;
    // A port that is free now, and an address of another machine, which can't be opened.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fixture.port.set_members(&memberships(&free.to_string()));
    let mut stream = connected(free).await;
    stream.write_all(&packets(&[FOLLOWER_INFO])).await.unwrap();
    fixture.greeted(&stream).await;
    // Connections that stand go on.
    old.write_all(&packets(&[QuorumPacket::UpToDate])).await.unwrap();
    assert!(matches!(fixture.next_input().await, Input::FromLearner { .. }));
    let (sender, _inputs) = peer_queue();
    let settings = QuorumPortSettings {
        me: ServerId(1),
        memberships: memberships(&free.to_string()),
        listen_on_all: false,
        observer_master_port: None,
        connect_timeout: LIMIT,
        snapshot_size_factor: None,
        max_packet_bytes: 1,
        door: Arc::new(Door::new(false, &memberships("127.0.0.1:0"))),
        greeting_limit: LIMIT,
        told_packets: 0,
        auth: Default::default(),
        tls: None,
        links: tokio::runtime::Handle::current(),
    };
    let failure = QuorumPort::open(settings, fixture.shared.clone(), fixture.files.clone(), sender).await.unwrap_err();
    assert_eq!(failure.exit_code, ExitCode::ServerPort);
    assert!(failure.message.contains("another process has it"), "{failure}");
}
