//! Every word against what was recorded from the original, on a server brought into the same state where the state is simple.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use jiff::tz::TimeZone;
use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::jute::ByteBuf;
use rookeeper_proto::request::{CreateRequest, SetDataRequest, WriteRequest};
use rookeeper_proto::{MonotonicMs, OpCode, Permissions, SessionId, WallMs, Zxid};
use rookeeper_replica::{Connection, Input, Output, Replica, Settings, Shared, Stamp, Time};
use rookeeper_tree::{Tree, WatchKind, WatcherId};
use tokio::sync::mpsc;

use super::*;
use crate::clock::Clock;
use crate::config::{Config, Environment, FourLetterWords, Source};
use crate::observe::figures::Figures;
use crate::observe::{Gathered, NotWanted, sessions, watches};
use crate::version;

/// The wall-clock time of the recordings when the replica's clock was at 0: Mon Nov 23 01:58:42 UTC 2026.
const START_WALL_MS: i64 = 1_795_399_122_000;

/// What telnet sends when it is interrupted.
const TELNET_INTERRUPT: [u8; 4] = [0xff, 0xf4, 0xff, 0xfd];

fn recorded(word: &str) -> String {
    let path = format!("{}/../../tests/fixtures/operations/standalone/4lw-{word}.txt", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// A server with a replica whose disk answers at once.
pub(crate) struct World {
    pub context: Context,
    replica: Replica,
    /// The connection that asks.
    pub asking: Arc<Connection>,
    pub now: Time,
}

impl World {
    /// Empty but for the connection that asks. All words are allowed.
    pub(crate) fn new() -> World {
        World::configured("clientPort=33000\n", None)
    }

    /// The same with these lines, and this content of `myid`.
    pub fn configured(more: &str, my_id: Option<&str>) -> World {
        World::with_settings(more, my_id, |_| {})
    }

    fn with_settings(more: &str, my_id: Option<&str>, change: impl FnOnce(&mut Settings)) -> World {
        let text = format!("dataDir=/var/lib/zookeeper\ntickTime=2000\n4lw.commands.whitelist=*\n{more}");
        let source = Source::File("zoo.cfg".into());
        let read = |path: &Path| match (path.to_str(), my_id) {
            (Some("zoo.cfg"), _) => Ok(text.clone().into()),
            (Some("/var/lib/zookeeper/myid"), Some(my_id)) => Ok(my_id.into()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        };
        let (config, _) = Config::load_with(source, &Environment::default(), &read).unwrap();
        let mut settings = Settings {
            tick_time_ms: 2000,
            min_session_timeout_ms: 4000,
            max_session_timeout_ms: 40_000,
            ..Settings::default()
        };
        change(&mut settings);
        // The first session id of the recordings was made from this.
        let shared = Arc::new(Shared::new(settings, Tree::new(), WallMs(0x11e51b)));
        let now = Time::of_ms(MonotonicMs(7000), WallMs(START_WALL_MS + 7000));
        let replica = Replica::new(shared.clone(), now);
        let (inputs, _) = mpsc::channel(1);
        let context = Context::new(config, shared, Clock::start(), inputs, 33_000, Arc::new(Figures::default()));
        let mut world = World { asking: connection(&context.shared, 3, 59_406, now), context, replica, now };
        world.asking = world.accept(3, 59_406);
        world
    }

    fn accept(&mut self, id: u64, port: u16) -> Arc<Connection> {
        let connection = connection(&self.context.shared, id, port, self.now);
        self.context.shared.add_connection(connection.clone());
        connection
    }

    fn handle(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.replica.handle(self.now, input);
            while let Some(output) = self.replica.poll() {
                if let Output::Append(record) = output {
                    inputs.push_back(Input::Synced { zxid: record.zxid });
                }
            }
        }
    }

    pub(crate) fn connect(&mut self, id: u64, port: u16, timeout_ms: i32) -> Arc<Connection> {
        let connection = self.accept(id, port);
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms,
            session: SessionId::NONE,
            password: vec![0; 16],
            read_only: Some(false),
        };
        self.handle(Input::Connect { connection: connection.clone(), request });
        assert!(connection.is_established());
        connection
    }

    fn write(&mut self, connection: &Arc<Connection>, op: OpCode, request: WriteRequest) {
        let (connection, identities) = (connection.clone(), connection.identities());
        self.context.shared.submit(&connection);
        self.handle(Input::Write {
            connection,
            xid: 1,
            op,
            request: Some(request),
            body: Vec::new(),
            identities,
            arrived: Stamp::default(),
            sampled: None,
        });
    }

    pub(crate) fn create(&mut self, connection: &Arc<Connection>, path: &str, flags: i32) {
        let anyone =
            AclRequest { permissions: Permissions::ALL, scheme: Some("world".into()), id: Some("anyone".into()) };
        let (path, data) = (Some(path.into()), Some(ByteBuf::default()));
        let request = CreateRequest { path, data, acl: Some(vec![anyone]), flags };
        self.write(connection, OpCode::Create, WriteRequest::Create(request));
    }

    fn set(&mut self, connection: &Arc<Connection>, path: &str) {
        let request = SetDataRequest { path: Some(path.into()), data: Some(ByteBuf::default()), version: -1 };
        self.write(connection, OpCode::SetData, WriteRequest::SetData(request));
    }

    /// Two sessions with their nodes, as when most of the recordings were made.
    pub(crate) fn recorded() -> (World, [Arc<Connection>; 2]) {
        let mut world = World::new();
        let first = world.connect(1, 59_374, 40_000);
        let second = world.connect(2, 59_380, 20_000);
        for (path, flags) in [("/app", 0), ("/app/config", 0), ("/app/e1", 1), ("/app/s0000000000", 0), ("/app/s2", 0)]
        {
            world.create(&first, path, flags);
        }
        world.create(&second, "/app/e2", 1);
        world.create(&second, "/app/lock-0000000003", 1);
        world.create(&first, "/app/more", 0);
        while world.context.shared.tree().last_zxid() < Zxid(0x33) {
            world.set(&first, "/app/config");
        }
        (world, [first, second])
    }

    pub(crate) fn ask(&self, word: &str) -> String {
        self.ask_with(word, 0)
    }

    fn ask_with(&self, word: &str, argument: i64) -> String {
        let command = find(word.as_bytes().try_into().unwrap()).unwrap();
        run(&self.context, command, &self.asking, argument.to_be_bytes()).into_text()
    }
}

/// `dump` with the dates of the recordings.
pub(crate) fn dump_of(world: &World, view: &View) -> String {
    let mut page = Page::new(&world.asking);
    let question = Question { context: &world.context, view, asking: &world.asking, argument: [0; 8] };
    dump::dump_at(&mut page, &question, world.now, &TimeZone::UTC).unwrap();
    page.into_text()
}

fn connection(shared: &Shared, id: u64, port: u16, now: Time) -> Arc<Connection> {
    let peer = ([127, 0, 0, 1], port).into();
    Arc::new(Connection::within(shared.budget.clone(), WatcherId(id), peer, now))
}

/// The recorded version is another one, of course.
pub(crate) fn with_our_version(recorded: &str) -> String {
    recorded.replace("3.9.3-c26634f34490bb0ea7a09cc51e05ede3b4e320ee, built on 2024-10-17 23:21 UTC", &version::full())
}

fn sorted_lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn the_words_are_those_of_the_whitelist_and_nothing_else_is_one() {
    for word in FourLetterWords::KNOWN {
        let command = find(word.as_bytes().try_into().unwrap()).unwrap();
        assert_eq!(command.name, word);
        assert_eq!(command.takes_argument(), word == "stmk");
    }
    assert_eq!(find(TELNET_INTERRUPT).unwrap().name, "telnet close");
    for other in [*b"RUOK", *b"help", [0, 0, 0, 44], [0; 4], [0xff; 4]] {
        assert!(find(other).is_none());
    }
}

#[test]
fn what_looks_at_no_more_than_a_few_bytes_is_answered_at_once_and_nothing_else() {
    let at_once = COMMANDS.iter().filter(|command| command.cost == AtOnce).map(|command| command.name);
    assert_eq!(at_once.collect::<Vec<_>>(), ["gtmk", "isro", "ruok", "stmk", "telnet close"]);
}

#[test]
fn only_listed_words_are_answered_and_srvr_always() {
    let mut world = World::new();
    world.context.config.four_letter_words = FourLetterWords::Only(["srvr".to_owned()].into());
    for word in FourLetterWords::KNOWN.into_iter().filter(|word| *word != "srvr") {
        assert_eq!(world.ask(word), format!("{word} is not executed because it is not in the whitelist.\n"));
    }
    assert!(world.ask("srvr").starts_with("Zookeeper version: "));
    let interrupted = run(&world.context, find(TELNET_INTERRUPT).unwrap(), &world.asking, [0; 8]).into_text();
    assert_eq!(interrupted, "telnet close is not executed because it is not in the whitelist.\n");
    world.context.config.four_letter_words = FourLetterWords::All;
    assert_eq!(run(&world.context, find(TELNET_INTERRUPT).unwrap(), &world.asking, [0; 8]).into_text(), "");
}

#[test]
fn one_liners_are_the_recorded_ones() {
    let world = World::new();
    for word in ["ruok", "isro", "gtmk", "crst", "srst", "hash"] {
        assert_eq!(world.ask(word), recorded(word), "{word}");
    }
}

#[test]
fn a_trace_mask_is_a_signed_number_and_stays() {
    let world = World::new();
    assert_eq!(world.ask_with("stmk", -3), "-3");
    assert_eq!(world.ask("gtmk"), "-3");
}

#[test]
fn conf_is_the_recorded_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new();
    world.context.config.directories.data_dir = directory.path().to_owned();
    world.context.config.directories.data_log_dir = directory.path().to_owned();
    let files = directory.path().join("version-2");
    std::fs::create_dir(&files).unwrap();
    std::fs::File::create(files.join("log.1")).unwrap().set_len(67_108_880).unwrap();
    std::fs::write(files.join("snapshot.0"), [0; 478]).unwrap();
    let answer = world.ask("conf").replace(&directory.path().display().to_string(), "/var/lib/zookeeper");
    // 3.9.3 numbers a standalone server 0, which this answer keeps.
    assert_eq!(answer, recorded("conf"));
    assert_eq!(world.ask("dirs"), recorded("dirs"));
}

/// What the statistics were when srvr was recorded, before it was asked.
fn recall_requests(world: &World) {
    let statistics = &world.context.shared.statistics;
    statistics.reset();
    statistics.packets_received.store(262, Relaxed);
    statistics.packets_sent.store(262, Relaxed);
    statistics.request_latency_ms.record(16);
    statistics.request_latency_ms.record_many(1, 169);
    statistics.request_latency_ms.record_many(0, 87);
}

#[test]
fn srvr_and_stat_are_the_recorded_ones() {
    let (mut world, [first, second]) = World::recorded();
    recall_requests(&world);
    assert_eq!(world.ask("srvr"), with_our_version(&recorded("srvr")));

    for (connection, packets) in [(&first, 251), (&second, 6)] {
        connection.statistics.received.store(packets, Relaxed);
        connection.statistics.sent.store(packets, Relaxed);
    }
    world.context.shared.remove_connection(&world.asking);
    world.asking = world.accept(4, 59_434);
    let answer = world.ask("stat");
    assert_eq!(sorted_lines(&answer), sorted_lines(&with_our_version(&recorded("stat"))));
    let shape = |text: &str| text.lines().map(|line| line.chars().take(5).collect::<String>()).collect::<Vec<_>>();
    assert_eq!(shape(&answer), shape(&recorded("stat")));
    assert_eq!(world.ask("srvr").lines().nth(2), Some("Received: 265"));
}

#[test]
fn cons_is_the_recorded_one_and_crst_makes_it_new() {
    let mut world = World::new();
    world.context.shared.remove_connection(&world.asking);
    world.asking = world.accept(3, 59_398);
    world.now.wall_ms = WallMs(1_795_399_129_307);
    let first = world.connect(1, 59_374, 40_000);
    world.now.wall_ms = WallMs(1_795_399_129_333);
    let second = world.connect(2, 59_380, 20_000);
    for (connection, packets, op, cxid, zxid, times, latencies) in [
        (&first, 251, i32::MIN, 0xfa, 0x33, 1_237_726, [2, 0, 16, 115]),
        (&second, 6, OpCode::Exists.number(), 5, 0x32, 1_237_719, [1, 0, 2, 6]),
    ] {
        let statistics = &connection.statistics;
        statistics.received.store(packets, Relaxed);
        statistics.sent.store(packets, Relaxed);
        statistics.answered.store(packets, Relaxed);
        statistics.last_op.store(op, Relaxed);
        statistics.last_cxid.store(cxid, Relaxed);
        statistics.last_zxid.store(zxid, Relaxed);
        statistics.last_response_ms.store(times, Relaxed);
        let fields = [
            &statistics.last_latency_ms,
            &statistics.min_latency_ms,
            &statistics.max_latency_ms,
            &statistics.total_latency_ms,
        ];
        fields.into_iter().zip(latencies).for_each(|(field, latency)| field.store(latency, Relaxed));
    }
    let answer = world.ask("cons");
    assert_eq!(sorted_lines(&answer), sorted_lines(&recorded("cons")));
    assert!(answer.ends_with(")\n\n"));

    assert_eq!(world.ask("crst"), recorded("crst"));
    let first_line = world.ask("cons").lines().next().unwrap().to_owned();
    assert_eq!(
        first_line,
        " /127.0.0.1:59374[1](queued=0,recved=0,sent=0,sid=0x1000011e51b0000,lop=NA,est=1795399129307,to=40000,\
         lzxid=0xffffffffffffffff,lresp=0,llat=0,minlat=0,avglat=0,maxlat=0)"
    );
}

#[test]
fn dump_is_the_recorded_one() {
    let (world, _) = World::recorded();
    assert_eq!(dump_of(&world, &View::of(&world.context)), recorded("dump"));
}

#[test]
fn more_ephemerals_than_fit_under_one_lock_are_all_listed() {
    let mut world = World::new();
    let first = world.connect(1, 59_374, 40_000);
    let second = world.connect(2, 59_380, 40_000);
    let third = world.connect(4, 59_381, 40_000);
    for (connection, name, count) in [(&first, 'a', 700), (&second, 'b', 2100), (&third, 'c', 700)] {
        for number in 0..count {
            world.create(connection, &format!("/{name}{number}"), 1);
        }
    }
    let answer = world.ask("dump");
    assert!(answer.contains("\nSessions with Ephemerals (3):\n"));
    let listed = answer.lines().filter(|line| line.starts_with("\t/")).count();
    assert_eq!(listed, 3500);
}

#[test]
fn watches_are_the_recorded_ones() {
    let (world, [first, second]) = World::recorded();
    for connection in [&first, &second] {
        let mut watches = world.context.shared.watches();
        watches.add(WatchKind::Data, "/app", connection.id);
        watches.add(WatchKind::Data, "/app/config", connection.id);
    }
    world.context.shared.watches().add(WatchKind::Data, "/nope", second.id);
    world.context.shared.watches().add(WatchKind::Child, "/app", second.id);
    assert_eq!(world.ask("wchs"), recorded("wchs"));
    assert_eq!(world.ask("wchc"), recorded("wchc"));
    // Within a path the original has no order.
    let by_path = "/app\n\t0x1000011e51b0000\n\t0x1000011e51b0001\n/app/config\n\t0x1000011e51b0000\n\t0x1000011e51b0001\n\
                   /nope\n\t0x1000011e51b0001\n\n";
    assert_eq!(world.ask("wchp"), by_path);
    assert_eq!(sorted_lines(by_path), sorted_lines(&recorded("wchp")));
}

/// The memory for what clients make a server hold is 1 MiB, and a connection may have a quarter of it.
fn small() -> World {
    let mut world = World::with_settings("clientPort=33000\n", None, |settings| settings.max_client_bytes = 1 << 20);
    world.asking = world.accept(5, 59_999);
    world
}

fn watch(world: &World, watcher: &Connection, count: usize) {
    let mut watches = world.context.shared.watches();
    (0..count).for_each(|number| watches.add(WatchKind::Data, &format!("/{number:020}"), watcher.id));
}

#[test]
fn an_answer_counts_as_held_from_the_time_it_is_made() {
    let mut world = small();
    let first = world.connect(1, 59_374, 40_000);
    watch(&world, &first, 1500);
    let held = || world.asking.account().held_bytes();
    for word in ["wchp", "wchc"] {
        let page = run(&world.context, find(word.as_bytes().try_into().unwrap()).unwrap(), &world.asking, [0; 8]);
        assert!((33_000..200_000).contains(&held()), "{word}: {}", held());
        let length = page.into_text().len();
        assert!(length > 33_000, "{word}: {length}");
        assert_eq!(held(), 0, "{word}");
    }
    run(&world.context, find(*b"wchp").unwrap(), &world.asking, [0; 8]).send();
    let mut sent = Vec::new();
    assert_eq!(world.asking.outbox.take(&mut sent), rookeeper_replica::Drained::Last);
    assert_eq!(String::from_utf8(sent).unwrap().lines().count(), 3001);
    assert_eq!(held(), 0, "the outbox has given everything away");
}

#[test]
fn an_answer_that_is_too_long_ends_its_connection_before_it_is_made() {
    let mut world = small();
    let first = world.connect(1, 59_374, 40_000);
    let second = world.connect(2, 59_375, 40_000);
    watch(&world, &first, 30_000);
    for number in 0..3000 {
        world.create(&first, &format!("/{number:0100}"), 1);
    }
    for (id, word) in (10..).zip(["wchp", "wchc", "dump"]) {
        world.asking = world.accept(id, 59_999);
        let command = find(word.as_bytes().try_into().unwrap()).unwrap();
        let page = run(&world.context, command, &world.asking, [0; 8]);
        let limit = world.context.shared.budget.connection_bytes();
        assert_eq!(world.asking.outbox.excess(), Some(rookeeper_replica::Excess::Unsent(limit)), "{word}");
        assert_eq!(page.into_text(), "", "{word}");
        assert_eq!(world.asking.account().held_bytes(), 0, "{word}");
        assert!(second.outbox.is_open());
    }
    // Nor is anything written for a connection that was cut meanwhile.
    world.asking = world.accept(20, 59_999);
    world.asking.outbox.close();
    assert_eq!(world.ask("cons"), "");
}

/// How many bytes a gatherer tells of after each portion, where it is told to stop after this many of them.
fn portions<T>(most: usize, gather: impl FnOnce(Gathered<'_>) -> Result<T, NotWanted>) -> (bool, Vec<usize>) {
    let mut told = Vec::new();
    let mut gathered = |bytes| {
        told.push(bytes);
        if told.len() < most { Ok(()) } else { Err(NotWanted) }
    };
    let is_complete = gather(&mut gathered).is_ok();
    (is_complete, told)
}

#[test]
fn what_is_gathered_is_told_of_in_portions_and_given_up_where_it_is_not_wanted() {
    let mut world = World::new();
    let first = world.connect(1, 59_374, 40_000);
    watch(&world, &first, 2500);
    for number in 0..2500 {
        world.create(&first, &format!("/{number:0100}"), 1);
    }
    let sessions = (1..=2500).map(|id| (SessionId(id), 30_000));
    world.context.shared.sessions().restart(true, sessions, world.now.monotonic_ms);
    let (context, owner) = (&world.context, first.session());
    type Gather<'a> = &'a dyn Fn(Gathered<'_>) -> Result<(), NotWanted>;
    let gathers: [(&str, usize, Gather<'_>); 4] = [
        ("sessions", 24 * 2500, &|gathered| sessions::all(context, gathered).map(drop)),
        ("ephemerals", 165 * 2500, &|gathered| sessions::ephemerals(context, owner, gathered).map(drop)),
        ("watches by session", 24 * 2500, &|gathered| watches::by_session(context, gathered).map(drop)),
        ("watches by path", 24 * 2500, &|gathered| watches::by_path(context, gathered).map(drop)),
    ];
    for (name, least_bytes, gather) in gathers {
        let (is_complete, told) = portions(usize::MAX, gather);
        assert!(is_complete && told.len() == 3 && told.is_sorted(), "{name}: {told:?}");
        assert!((least_bytes..2 * least_bytes).contains(&told[2]), "{name}: {told:?}");
        let (is_complete, stopped) = portions(2, gather);
        assert!(!is_complete && stopped == told[..2], "{name}: {stopped:?}");
    }
}

#[test]
fn no_watches_are_an_empty_line() {
    let world = World::new();
    assert_eq!((world.ask("wchc"), world.ask("wchp")), ("\n".to_owned(), "\n".to_owned()));
    assert_eq!(world.ask("wchs"), "0 connections watching 0 paths\nTotal watches:0\n");
}

#[test]
fn envi_has_the_recorded_keys_without_java() {
    let answer = World::new().ask("envi");
    let keys =
        |text: &str| -> Vec<String> { text.lines().map(|line| line.split('=').next().unwrap().to_owned()).collect() };
    let mut expected = keys(&recorded("envi"));
    expected.retain(|key| !key.starts_with("java."));
    assert_eq!(keys(&answer), expected);
    assert!(answer.contains(&format!("\nzookeeper.version={}\n", version::full())));
    assert!(answer.lines().skip(1).all(|line| line.split_once('=').is_some_and(|(_, value)| !value.is_empty())));
}

#[test]
fn the_version_begins_with_three_numbers_and_has_a_build_time() {
    let version = version::full();
    let (numbers, rest) = version.split_once('-').unwrap();
    assert_eq!(numbers.split('.').filter(|number| number.parse::<u32>().is_ok()).count(), 3, "{version}");
    let (name, built) = rest.split_once(", built on ").unwrap();
    assert_eq!(name, format!("rookeeper-{}", env!("CARGO_PKG_VERSION")));
    assert!(built.ends_with(" UTC") && built.len() == "2024-10-17 23:21 UTC".len(), "{version}");
}

#[test]
fn hash_tells_every_128th_zxid() {
    let mut world = World::new();
    let first = world.connect(1, 59_374, 40_000);
    let mut expected = String::new();
    while world.context.shared.tree().last_zxid() < Zxid(300) {
        world.set(&first, "/");
        let tree = world.context.shared.tree();
        if [128, 256].contains(&tree.last_zxid().0) {
            expected.push_str(&format!("{:x}: {}\n", tree.last_zxid().0, tree.digest()));
        }
    }
    assert_eq!(expected.lines().map(|line| &line[..line.find(':').unwrap()]).collect::<Vec<_>>(), ["80", "100"]);
    assert_eq!(world.ask("hash"), expected);
}

/// The names in a line of `mntr`.
pub(crate) fn names(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split_once('\t').unwrap().0).collect()
}

/// The names that a metric is printed under.
fn printed(metric: &crate::observe::metrics::Metric) -> Vec<String> {
    use crate::observe::metrics::Kind;
    let parts: &[&str] = match metric.kind {
        Kind::Text | Kind::Gauge | Kind::Ratio | Kind::Counter => return vec![format!("zk_{}", metric.name)],
        Kind::Summary => &["avg_", "min_", "max_", "cnt_", "sum_"],
        Kind::SummaryWithQuantiles => &["avg_", "min_", "max_", "cnt_", "sum_", "p50_", "p95_", "p99_", "p999_"],
        // The one namespace of the recordings.
        Kind::SummaryPerNamespace => &["avg_app_", "min_app_", "max_app_", "cnt_app_", "sum_app_"],
        // The recordings have no quotas.
        Kind::GaugePerNamespace | Kind::CounterPerNamespace => return Vec::new(),
        Kind::SummaryPerLearner | Kind::GaugePerLearner => return Vec::new(),
        // The names depend on the labels; these metrics are the last ones.
        Kind::GaugePer(_) | Kind::RatioPer(_) | Kind::CounterPer(_) | Kind::Stages => return Vec::new(),
    };
    parts.iter().map(|part| format!("zk_{part}{}", metric.name)).collect()
}

#[test]
fn the_table_of_metrics_is_the_recorded_list() {
    let recorded = recorded("mntr");
    let standalone =
        METRICS[..crate::observe::metrics::ORIGINALS].iter().filter(|metric| !matches!(metric.source, From::Only(..)));
    let known: Vec<String> = standalone.flat_map(printed).collect();
    assert_eq!(known, names(&recorded));
}

use crate::observe::metrics::{METRICS, Source as From};

#[test]
fn mntr_prints_what_is_not_absent_in_the_recorded_order() {
    let world = World::new();
    let written = &world.context.shared.statistics.written_bytes;
    written.record(written.slot("/app/config").unwrap().1, 80, 1);
    let answer = world.ask("mntr");
    let is_present =
        |metric: &&crate::observe::metrics::Metric| !matches!(metric.source, From::Absent(_) | From::Only(..));
    let present: Vec<String> = METRICS.iter().filter(is_present).flat_map(printed).collect();
    let told = names(&answer);
    let (told, labelled) = told.split_at(present.len());
    assert_eq!(told, present);
    assert_eq!(&labelled[..3], ["zk_cnt_write_queue", "zk_p50_write_queue_us", "zk_p95_write_queue_us"]);
    assert!(
        ["zk_cnt_read_answer", "zk_clients_to_replica_queue_length", "zk_memory_drops", "zk_elected_events"]
            .iter()
            .all(|name| labelled.contains(name)),
        "{labelled:?}"
    );
    assert!(answer.contains("\nzk_sum_app_write_per_namespace\t80\n"), "{answer}");
}

#[test]
fn the_names_that_dashboards_have_used_since_3_4_are_all_there() {
    let answer = World::new().ask("mntr");
    for name in [
        "version",
        "server_state",
        "avg_latency",
        "max_latency",
        "min_latency",
        "packets_received",
        "packets_sent",
        "num_alive_connections",
        "outstanding_requests",
        "znode_count",
        "watch_count",
        "ephemerals_count",
        "approximate_data_size",
        "open_file_descriptor_count",
        "max_file_descriptor_count",
    ] {
        assert!(answer.contains(&format!("zk_{name}\t")), "{name}");
    }
}

#[test]
fn metrics_of_the_recorded_state_have_the_recorded_values() {
    let (world, [first, _]) = World::recorded();
    recall_requests(&world);
    let (statistics, figures) = (&world.context.shared.statistics, &world.context.figures);
    statistics.packets_received.store(268, Relaxed);
    statistics.packets_sent.store(268, Relaxed);
    statistics.bytes_received.store(7950, Relaxed);
    statistics.bytes_sent.store(22_430, Relaxed);
    statistics.connection_requests.store(2, Relaxed);
    figures.fsync_time_ms.record(4);
    figures.fsync_time_ms.record_many(1, 8);
    figures.fsync_time_ms.record_many(0, 42);
    figures.sync_batch_size.record_many(1, 51);
    figures.snapshot_time_ms.record(3);
    figures.recovery_time_ms.store(11, Relaxed);
    statistics.update_latency_ms.record_many(1, 50);
    statistics.update_latency_ms.record(16);
    for path in ["/app", "/app/config", "/nope", "/a", "/b", "/c"] {
        world.context.shared.watches().add(WatchKind::Data, path, first.id);
    }
    let answer = world.ask("mntr");
    let line = |text: &str, name: &str| {
        let found = text.lines().find(|line| line.split_once('\t').unwrap().0 == name);
        found.unwrap_or_else(|| panic!("{name} is missing")).to_owned()
    };
    let recorded = recorded("mntr");
    for name in "server_state ephemerals_count num_alive_connections avg_latency outstanding_requests znode_count \
                 global_sessions packets_sent packets_received connection_drop_probability watch_count min_latency \
                 max_latency local_sessions bytes_received_count response_bytes connection_request_count proposal_count \
                 avg_fsynctime min_fsynctime max_fsynctime cnt_fsynctime sum_fsynctime avg_sync_processor_batch_size \
                 cnt_sync_processor_batch_size sum_sync_processor_batch_size avg_snapshottime cnt_snapshottime \
                 avg_dbinittime min_dbinittime max_dbinittime cnt_dbinittime sum_dbinittime cnt_updatelatency \
                 max_updatelatency min_updatelatency p999_updatelatency avg_election_time cnt_quorum_ack_latency"
        .split_whitespace()
    {
        let name = format!("zk_{name}");
        assert_eq!(line(&answer, &name), line(&recorded, &name));
    }
    let size = world.context.shared.tree().approximate_data_size();
    assert_eq!(line(&answer, "zk_approximate_data_size"), format!("zk_approximate_data_size\t{size}"));
    assert_eq!(line(&answer, "zk_version"), format!("zk_version\t{}", version::full()));
}

#[test]
fn uptime_and_file_descriptors_are_true() {
    let world = World::new();
    let before_ms = world.context.clock.uptime_ms();
    let answer = world.ask("mntr");
    let after_ms = world.context.clock.uptime_ms();
    let value = |name: &str| -> i64 {
        answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t')).unwrap().parse().unwrap()
    };
    assert!((before_ms..=after_ms).contains(&value("zk_uptime")));
    let (open, max) = (value("zk_open_file_descriptor_count"), value("zk_max_file_descriptor_count"));
    assert!(open >= 3 && open <= max, "{open} of {max}");
}

#[test]
fn srst_begins_anew_but_for_what_happened_at_start() {
    let (world, _) = World::recorded();
    let figures = &world.context.figures;
    world.context.shared.statistics.authentications_refused.store(2, Relaxed);
    figures.fsync_time_ms.record(4);
    figures.snapshot_errors.store(1, Relaxed);
    figures.recovery_time_ms.store(11, Relaxed);
    assert_eq!(world.ask("srst"), recorded("srst"));
    let answer = world.ask("mntr");
    for line in [
        "zk_packets_received\t1",
        "zk_packets_sent\t1",
        "zk_max_latency\t0",
        "zk_cnt_updatelatency\t0",
        "zk_cnt_propagation_latency\t0",
        "zk_cnt_fsynctime\t0",
        "zk_snapshot_error_count\t0",
        "zk_max_dbinittime\t11",
        "zk_auth_failed_count\t2",
        "zk_ephemerals_count\t3",
    ] {
        assert!(answer.lines().any(|found| found == line), "{line}");
    }
}
