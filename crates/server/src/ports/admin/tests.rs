//! Every command of a server alone against what was recorded from the original; and what the port itself says of methods, paths and callers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::body::to_bytes;
use axum::http::header::AUTHORIZATION;
use rookeeper_proto::{OpCode, WallMs};
use rookeeper_tree::WatchKind;
use serde_json::Value;

use super::commands::find;
use super::*;
use crate::commands::tests::{World, names, with_our_version};
use crate::net::tls::handshake::Shown;

/// An answer of the original in this part.
pub(super) fn recorded(part: &str, file: &str) -> String {
    let path = format!("{}/../../tests/fixtures/operations/{part}/admin-{file}", env!("CARGO_MANIFEST_DIR"));
    with_our_version(&std::fs::read_to_string(path).unwrap())
}

/// The answer of a server in this part.
pub(super) fn ask_as(world: &World, view: &View, name: &str, query: &str) -> (StatusCode, String) {
    let context = &world.context;
    commands::answer(find(name).unwrap(), &Question { context, view, learners: &[], query, limit: 1 << 20 })
}

fn ask(world: &World, name: &str) -> String {
    let (status, text) = ask_as(world, &View::of(&world.context), name, "");
    assert_eq!(status, StatusCode::OK, "{name}: {text}");
    text
}

/// The commands that the original does not have.
const OURS: [&str; 3] = ["backup", "slow_operations", "top"];

/// The list of commands without those.
fn of_the_original((status, text): (StatusCode, String)) -> (StatusCode, String) {
    let link = |name: &str| format!("<a href=\"/commands/{name}\">{name}</a>\n<br/>\n");
    (status, OURS.iter().fold(text, |text, name| text.replace(&link(name), "")))
}

/// With every number in the place of its value: what differs from run to run is a number.
pub(super) fn without_numbers(text: &str) -> String {
    let mask = |line: &str| match line.split_once(" : ") {
        Some((name, value)) if value.trim_end_matches(',').parse::<f64>().is_ok() => {
            format!("{name} : 0{}\n", if value.ends_with(',') { "," } else { "" })
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(mask).collect()
}

/// The original counts connections of two kinds that are not counted here.
pub(super) fn without_counts_of_connections(text: &str) -> String {
    let counts = ["non_mtlsremote_conn_count", "non_mtlslocal_conn_count"];
    counts
        .iter()
        .fold(text.to_owned(), |text, name| text.replace(&format!("\"{name}\" : null"), &format!("\"{name}\" : 0")))
}

#[test]
fn the_commands_are_those_of_the_original_and_each_of_their_names_leads_to_one() {
    let links: Vec<&str> = commands::all().map(|command| command.name).collect();
    assert!(links.is_sorted() && links.len() == 28 + OURS.len(), "{links:?}");
    let others = "conf config crst cons env envi gtmk icfg isro lsnp lead mntr orst obsr rest srvr stmk snap srst stat sysp wchs wchc wchp";
    for other in others.split(' ') {
        let name = find(other).unwrap_or_else(|| panic!("{other} is no command")).name;
        assert_ne!(name, other);
    }
    assert!(find("nosuchcommand").is_none() && find("").is_none() && find("Ruok").is_none());
}

#[test]
fn what_is_the_same_on_every_such_server_is_the_recorded_text() {
    let world = World::configured("clientPort=33000\nmaxClientCnxns=60\n", None);
    for name in "configuration connection_stat_reset get_trace_mask hash is_read_only leader observer_connection_stat_reset observers \
                 ruok stat_reset voting_view zabstate"
        .split(' ')
    {
        assert_eq!(ask(&world, name), recorded("standalone", &format!("{name}.json")).trim_end(), "{name}");
    }
    for part in ["leader", "follower", "observer"] {
        let view = View::of(&world.context);
        let set = |query| ask_as(&world, &view, "stmk", query).1;
        assert_eq!(set(""), recorded(part, "set_trace_mask.json").trim_end());
        assert_eq!(set("x=1&traceMask=306"), recorded(part, "set_trace_mask-ok.json").trim_end());
    }
    assert!(ask_as(&world, &View::of(&world.context), "stmk", "traceMask=x%22").1.contains("argument, got x\\\""));
    assert_eq!(
        ask_as(&world, &View::of(&world.context), "stmk", "traceMask=-3").1.lines().nth(1),
        Some("  \"tracemask\" : -3,")
    );
}

/// One client, as when most of the recordings were made.
fn with_one_client() -> World {
    let mut world = World::new();
    world.context.shared.remove_connection(&world.asking.clone());
    world.now.wall_ms = WallMs(1_795_399_503_199);
    let [first, second, third] = [1, 2, 4].map(|id| world.connect(id, 49_847 + id as u16, 20_000));
    for gone in [first, second] {
        world.context.shared.remove_connection(&gone);
    }
    let statistics = &third.statistics;
    statistics.received.store(3, Relaxed);
    statistics.sent.store(3, Relaxed);
    statistics.last_op.store(OpCode::GetData.number(), Relaxed);
    statistics.last_cxid.store(2, Relaxed);
    statistics.last_zxid.store(54, Relaxed);
    statistics.last_response_ms.store(1_611_129, Relaxed);
    for figure in [&statistics.last_latency_ms, &statistics.min_latency_ms] {
        figure.store(0, Relaxed);
    }
    statistics.max_latency_ms.store(2, Relaxed);
    world.context.shared.watches().add(WatchKind::Data, "/app", third.id);
    world.context.shared.watches().add(WatchKind::Child, "/app", third.id);
    world
}

#[test]
fn clients_and_what_they_watch_are_told_as_recorded() {
    let world = with_one_client();
    for name in ["connections", "watches", "watches_by_path", "watch_summary"] {
        let expected = recorded("standalone", &format!("{name}.json"));
        // The port and the number of the session are those of this test.
        let ours = ask(&world, name).replace("127.0.0.1:49851", "127.0.0.1:49850");
        assert_eq!(ours, expected.trim_end(), "{name}");
    }
    ask(&world, "connection_stat_reset");
    assert!(ask(&world, "connections").contains("\"last_operation\" : \"NA\""));
}

#[test]
fn a_connection_with_tls_stands_among_those() {
    let world = with_one_client();
    let [connection] = world.context.shared.connections().try_into().unwrap();
    connection.note_secure();
    for name in ["connections", "stats"] {
        let answer: Value = serde_json::from_str(&ask(&world, name)).unwrap();
        assert_eq!(answer["connections"], Value::Array(Vec::new()), "{name}");
        assert_eq!(answer["secure_connections"][0]["packets_received"], 3, "{name}");
    }
}

#[test]
fn the_server_as_a_whole_is_told_as_recorded() {
    let world = with_one_client();
    for name in ["server_stats", "stats"] {
        let sorted = |text: &str| serde_json::from_str::<Value>(&without_numbers(text)).unwrap();
        let expected = recorded("standalone", &format!("{name}.json"));
        // In this recording alone the fields of one object stand in another order.
        let ours = without_counts_of_connections(&ask(&world, name)).replace("127.0.0.1:49851", "127.0.0.1:49850");
        assert_eq!(sorted(&ours), sorted(&expected), "{name}");
    }
    world.context.shared.statistics.packets_received.store(7, Relaxed);
    let answer: Value = serde_json::from_str(&ask(&world, "srvr")).unwrap();
    assert_eq!(answer["server_stats"]["packets_received"], 7);
    assert_eq!(answer["server_stats"]["num_alive_client_connections"], 1);
    ask(&world, "stat_reset");
    assert_eq!(world.context.shared.statistics.packets_received.load(Relaxed), 0);
}

#[test]
fn sessions_and_what_they_own_are_told_by_their_numbers() {
    let (world, [first, second]) = World::recorded();
    let answer: Value = serde_json::from_str(&ask(&world, "dump")).unwrap();
    let ids = |connection: &rookeeper_replica::Connection| connection.session().0.to_string();
    let expected = serde_json::json!({ ids(&first): ["/app/e1"], ids(&second): ["/app/e2", "/app/lock-0000000003"] });
    assert_eq!(answer["session_id_to_ephemeral_paths"], expected);
    let times = answer["expiry_time_to_session_ids"].as_object().unwrap();
    let listed: Vec<i64> =
        times.values().flat_map(|ids| ids.as_array().unwrap()).map(|id| id.as_i64().unwrap()).collect();
    assert_eq!(listed, [second.session().0, first.session().0]);
    assert!(times.keys().all(|time| time.parse::<i64>().is_ok()), "{times:?}");
}

#[test]
fn monitor_has_the_figures_of_mntr() {
    let (world, _) = World::recorded();
    let answer = ask(&world, "monitor");
    let mntr = world.ask("mntr");
    let expected: Vec<&str> = names(&mntr).into_iter().map(|name| name.strip_prefix("zk_").unwrap()).collect();
    let ours: Vec<&str> = answer.lines().filter_map(|line| line.trim().strip_prefix('"')?.split('"').next()).collect();
    assert_eq!(ours, [expected, vec!["command", "error"]].concat());
    // Each name that both have comes with the same kind of value.
    let (ours, theirs): (Value, Value) = (
        serde_json::from_str(&answer).unwrap(),
        serde_json::from_str(&recorded("standalone", "monitor.json")).unwrap(),
    );
    let mut common = 0;
    for (name, value) in ours.as_object().unwrap() {
        let Some(expected) = theirs.get(name) else { continue };
        assert_eq!(value.is_string(), expected.is_string(), "{name}");
        assert_eq!(value.is_f64(), expected.is_f64(), "{name}");
        common += 1;
    }
    assert!(common > 150, "{common}");
}

#[test]
fn the_last_snapshot_is_that_of_the_data_directory() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new();
    world.context.config.directories.data_dir = directory.path().to_owned();
    assert!(ask(&world, "lsnp").contains("\"zxid\" : \"ffffffffffffffff\",\n  \"timestamp\" : -1,"));
    std::fs::create_dir(directory.path().join("version-2")).unwrap();
    std::fs::write(directory.path().join("version-2/snapshot.0"), "").unwrap();
    assert_eq!(
        without_numbers(&ask(&world, "last_snapshot")),
        without_numbers(&recorded("standalone", "last_snapshot.json"))
    );
}

#[test]
fn where_it_runs_is_told_without_java_and_how_it_is_set_up_without_secrets() {
    let keys = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| Some(line.trim().strip_prefix('"')?.split('"').next()?.to_owned())).collect()
    };
    let world = World::configured("clientPort=33000\nssl.keyStore.password=se\"cret\n", None);
    let mut expected = keys(&recorded("standalone", "environment.json"));
    expected.retain(|key| !key.starts_with("java."));
    assert_eq!(keys(&ask(&world, "environment")), expected);
    let properties = ask(&world, "system_properties");
    assert!(
        properties.contains("\"zookeeper.ssl.keyStore.password\" : \"*****\"") && properties.contains("\"os.name\""),
        "{properties}"
    );
    let file = ask(&world, "initial_configuration");
    assert!(file.contains("tickTime=2000\\n") && file.contains("ssl.keyStore.password=*****\\n"), "{file}");
    assert!(![properties, file].iter().any(|text| text.contains("cret")));
}

#[test]
fn an_answer_that_would_be_too_long_is_not_made() {
    let world = with_one_client();
    let [connection] = world.context.shared.connections().try_into().unwrap();
    let mut watches = world.context.shared.watches();
    (0..2000).for_each(|number| watches.add(WatchKind::Data, &format!("/{number:020}"), connection.id));
    drop(watches);
    for (limit, expected) in [(1 << 20, StatusCode::OK), (1 << 10, StatusCode::SERVICE_UNAVAILABLE)] {
        for name in ["watches", "watches_by_path"] {
            let (context, view) = (&world.context, &View::of(&world.context));
            let (status, text) =
                commands::answer(find(name).unwrap(), &Question { context, view, learners: &[], query: "", limit });
            assert_eq!(status, expected, "{name}");
            assert!(serde_json::from_str::<Value>(&text).is_ok(), "{name}: {text}");
        }
    }
}

/// The port of a server that has started.
struct Port(Arc<Admin>);

/// On this machine, and elsewhere.
const HERE: &str = "127.0.0.1:9";
const ELSEWHERE: &str = "192.0.2.7:9";

impl Port {
    fn configured(more: &str) -> Port {
        let more = format!(
            "clientPort=33000\nDigestAuthenticationProvider.superDigest=super:xQJmxLMiHGwaqBvst5y6rkB6HQs=\n{more}"
        );
        let world = World::configured(&more, None);
        let admin = Admin::new(&world.context.config, &world.context.figures).unwrap();
        let (requests, _) = SnapshotRequests::new();
        admin.tell_of(Arc::new(world.context), Wishes { snapshots: requests, restores: Arc::default() }, None);
        Port(admin)
    }

    async fn asked(&self, from: &str, method: Method, path: &str, authorization: &str) -> (StatusCode, String) {
        let mut request = Request::builder().method(method).uri(path);
        if !authorization.is_empty() {
            request = request.header(AUTHORIZATION, authorization);
        }
        let caller = Caller::new(from.parse::<SocketAddr>().unwrap(), Shown::default());
        let response = answer(State(self.0.clone()), Extension(caller), request.body(Body::empty()).unwrap()).await;
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn got(&self, path: &str) -> (StatusCode, String) {
        self.asked(HERE, Method::GET, path, "").await
    }

    async fn status(&self, from: &str, path: &str, authorization: &str) -> u16 {
        self.asked(from, Method::GET, path, authorization).await.0.as_u16()
    }
}

#[tokio::test]
async fn the_index_and_the_refusals_are_the_recorded_ones() {
    let port = Port::configured("");
    assert_eq!(of_the_original(port.got("/commands").await), (StatusCode::OK, recorded("leader", "index.html")));
    assert_eq!(of_the_original(port.got("/commands/").await), (StatusCode::OK, recorded("leader", "index.html")));
    let unknown = recorded("leader", "unknown-command.json");
    assert_eq!(port.got("/commands/nosuchcommand").await, (StatusCode::OK, unknown.trim_end().to_owned()));
    let missing = recorded("leader", "snapshot-without-auth.json");
    assert_eq!(port.got("/commands/snapshot").await, (StatusCode::UNAUTHORIZED, missing.trim_end().to_owned()));
    for path in ["/", "/command", "/commandsruok", "/health/other", "/metrics"] {
        assert_eq!(port.got(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    assert!(port.got("/commands/a%22%0Ab").await.1.contains("\"Unknown command: a\\\"\\nb\""));
    assert!(port.got("/commands/a%2").await.1.contains("Unknown command: a%2\""));
}

#[tokio::test]
async fn a_command_is_asked_for_by_its_own_method() {
    let port = Port::configured("");
    for (method, path, expected) in [
        (Method::GET, "/commands/ruok", 200),
        (Method::HEAD, "/commands/ruok", 200),
        (Method::POST, "/commands/ruok", 405),
        (Method::GET, "/commands/restore", 405),
        (Method::POST, "/commands/restore", 401),
        (Method::TRACE, "/commands/ruok", 403),
        (Method::TRACE, "/commands", 403),
        (Method::OPTIONS, "/commands/ruok", 200),
        (Method::POST, "/commands", 200),
        (Method::POST, "/commands/nosuchcommand", 200),
        (Method::PUT, "/commands", 405),
        (Method::PUT, "/commands/ruok", 405),
        (Method::DELETE, "/commands/nosuchcommand", 405),
        (Method::DELETE, "/health/live", 405),
    ] {
        assert_eq!(port.asked(HERE, method.clone(), path, "").await.0.as_u16(), expected, "{method} {path}");
    }
    let disabled = Port::configured("admin.restore.enabled=false\n");
    let (status, text) = disabled.asked(HERE, Method::POST, "/commands/rest", "digest super:admin").await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && text.contains("restore is disabled"), "{text}");
}

#[tokio::test]
async fn another_path_of_commands_is_theirs_alone() {
    let port = Port::configured("admin.commandURL=/zk/admin/\n");
    assert_eq!(port.got("/zk/admin/ruok").await.0, StatusCode::OK);
    assert!(port.got("/zk/admin").await.1.contains("<a href=\"/zk/admin/configuration\">"));
    assert_eq!(port.got("/commands/ruok").await.0, StatusCode::NOT_FOUND);
    assert_eq!(port.got("/health/live").await.0, StatusCode::OK);
}

#[tokio::test]
async fn what_tells_of_clients_is_for_this_machine_and_for_those_who_have_proven_who_they_are() {
    let port = Port::configured("admin.serverAddress=0.0.0.0\n");
    for path in ["/commands/ruok", "/commands/srvr", "/commands/mntr", "/commands/zabstate", "/health/ready"] {
        assert_eq!(port.status(ELSEWHERE, path, "").await, 200, "{path}");
    }
    for name in "conf cons crst dump env icfg orst obsr stmk srst stat sysp wchc wchp".split(' ') {
        let path = format!("/commands/{name}");
        assert_eq!(port.status(HERE, &path, "").await, 200, "{path}");
        assert_eq!(port.status("[::1]:9", &path, "").await, 200, "{path}");
        assert_eq!(port.status(ELSEWHERE, &path, "").await, 401, "{path}");
        assert_eq!(port.status(ELSEWHERE, &path, "digest super:admin").await, 200, "{path}");
        // The root lets in everybody, which proves nothing, and an address may be anybody's.
        for (nobody, expected) in
            [("digest a:b", 403), ("ip", 403), ("digest super:guess", 403), ("x509", 401), ("basic a", 401)]
        {
            assert_eq!(port.status(ELSEWHERE, &path, nobody).await, expected, "{path} {nobody}");
        }
    }
}

#[tokio::test]
async fn a_trusted_certificate_is_proof_enough() {
    let world = World::configured("clientPort=33000\nadmin.serverAddress=0.0.0.0\n", None);
    let (settings, config) = (world.context.config.admin.clone().unwrap(), &world.context.config);
    let judge = Judge { port: &settings, access: &config.access, shared: &world.context.shared };
    let facts = crate::net::tls::certificate::Facts {
        subject: "CN=a".to_owned(),
        issuer: "CN=b".to_owned(),
        not_before: Duration::ZERO,
        not_after: Duration::MAX,
        hosts: Default::default(),
    };
    let caller = |certificate| Caller::new(ELSEWHERE.parse().unwrap(), Shown { certificate });
    let admits = |guard, certificate| judge.admit(guard, &caller(certificate), &HeaderMap::new()).is_ok();
    assert!(admits(Guard::Private, Some(facts.clone())) && !admits(Guard::Private, None));
    // The database as a whole is given away by the list of the root alone.
    assert!(!admits(Guard::Root, Some(facts)));
}

#[tokio::test]
async fn a_snapshot_takes_every_permission_on_the_root() {
    let at = |path| async move {
        let port = Port::configured(path);
        [
            port.status(HERE, "/commands/snapshot", "digest a:b").await,
            port.status(ELSEWHERE, "/commands/snapshot", "digest a:b").await,
            port.status(ELSEWHERE, "/commands/snapshot", "").await,
            port.status(HERE, "/commands/snapshot", "nonsense").await,
            port.status(HERE, "/commands/backup", "digest a:b").await,
            port.status(ELSEWHERE, "/commands/backup", "digest a:b").await,
            port.status(HERE, "/commands/backup", "").await,
        ]
    };
    // There is no thread that takes snapshots in this test: whoever comes as far is told so.
    assert_eq!(at("admin.rateLimiterIntervalInMS=0\n").await, [500, 500, 401, 401, 500, 500, 401]);
    assert_eq!(
        at("admin.serverAddress=0.0.0.0\nadmin.rateLimiterIntervalInMS=0\n").await,
        [500, 403, 401, 401, 500, 403, 401]
    );
    assert_eq!(at("admin.snapshot.enabled=false\n").await, [503, 503, 401, 401, 503, 503, 401]);
}

#[tokio::test]
async fn a_server_that_starts_lives_and_is_not_ready() {
    let world = World::new();
    let port = Port(Admin::new(&world.context.config, &world.context.figures).unwrap());
    assert_eq!(port.got("/health/live").await.0, StatusCode::OK);
    let (status, text) = port.got("/health/ready").await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && text.contains("reads its database"), "{text}");
    let (status, text) = port.got("/commands/server_stats").await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, recorded("not-serving", "server_stats.json").trim_end()));
    port.0.tell_of(
        Arc::new(world.context),
        Wishes { snapshots: SnapshotRequests::new().0, restores: Arc::default() },
        None,
    );
    let (status, text) = port.got("/health/ready").await;
    assert!(status == StatusCode::OK && text.contains("\"server_state\" : \"standalone\""), "{text}");
}

#[tokio::test]
async fn long_answers_are_few_until_they_are_sent() {
    let port = Port::configured("");
    let ask = || async {
        let caller = Caller::new(HERE.parse().unwrap(), Shown::default());
        let request = Request::get("/commands/cons").body(Body::empty()).unwrap();
        answer(State(port.0.clone()), Extension(caller), request).await
    };
    let (first, second) = (ask().await, ask().await);
    assert_eq!(port.0.unsent.available_permits(), 0);
    tokio::time::pause();
    assert_eq!(ask().await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(port.got("/commands/ruok").await.0, StatusCode::OK);
    drop((first, second));
    assert_eq!(ask().await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn what_is_there_at_once_waits_for_nobody() {
    let port = Port::configured("");
    let _all = port.0.answers.acquire_many(ANSWERS_AT_ONCE as u32).await.unwrap();
    for path in ["ruok", "isro", "lead", "voting_view", "gtmk"].map(|name| format!("/commands/{name}")) {
        assert_eq!(port.got(&path).await.0, StatusCode::OK, "{path}");
    }
    assert_eq!(port.got("/health/ready").await.0, StatusCode::OK);
    let (status, text) = port.got("/commands/srvr").await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && text.contains("within 20s"), "{text}");
}
