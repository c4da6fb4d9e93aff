//! The commands of a member of an ensemble, in each of its parts, against what was recorded from the original.

use rookeeper_proto::SessionId;
use rookeeper_replica::{ServerRole, Serving};
use rookeeper_zab::observer_master::ObserverCounts;
use serde_json::Value;

use super::tests::{ask_as, recorded, without_counts_of_connections, without_numbers};
use super::*;
use crate::commands::ensemble_tests::{SESSIONS, member, parts, view};
use crate::commands::tests::World;
use crate::ports::quorum::LinkedLearner;

fn ask(world: &World, view: &View, name: &str) -> String {
    ask_as(world, view, name, "").1
}

/// What is told of clients is compared with a server alone.
fn without_clients(text: &str) -> String {
    let (head, rest) = text.split_once("  \"connections\" : [").unwrap_or((text, ""));
    let (_, tail) = rest.split_once("  \"secure_connections\"").unwrap_or(("", rest));
    format!("{head}{tail}")
}

#[test]
fn each_part_tells_of_itself_as_recorded() {
    for (part, world, view) in parts() {
        for name in ["server_stats", "stats", "is_read_only", "leader", "zabstate", "voting_view", "configuration"] {
            let file = format!("{name}.json");
            if part == "read-only" && matches!(name, "stats" | "voting_view" | "configuration") {
                continue;
            }
            let zxid = |text: &str| text.replace("\"0x1000000a6\"", "\"0x0\"");
            let expected = zxid(&without_numbers(&without_clients(&recorded(part, &file))));
            let ours = without_numbers(&without_clients(&without_counts_of_connections(&ask(&world, &view, name))));
            assert_eq!(ours, expected, "{part} {name}");
        }
    }
}

#[test]
fn numbers_that_say_which_part_a_server_has_are_right() {
    for (part, world, view) in parts() {
        let value = |name: &str| serde_json::from_str::<Value>(&ask(&world, &view, name)).unwrap();
        let theirs = |name: &str| serde_json::from_str::<Value>(&recorded(part, &format!("{name}.json"))).unwrap();
        for field in ["leader_id", "is_leader"] {
            assert_eq!(value("leader")[field], theirs("leader")[field], "{part}");
        }
        assert_eq!(value("zabstate")["myid"], theirs("zabstate")["myid"], "{part}");
        if part == "leader" {
            assert_eq!(value("srvr")["proposal_stats"], theirs("server_stats")["proposal_stats"]);
        }
        if part != "read-only" {
            assert_eq!(value("conf")["server_id"], theirs("configuration")["server_id"], "{part}");
            assert_eq!(value("obsr")["synced_observers"], theirs("observers")["synced_observers"], "{part}");
        }
    }
}

#[test]
fn a_leader_lists_its_observers_with_the_recorded_fields() {
    let [(part, world, mut view), ..] = parts();
    view.status.learner_lags_ms = [1, 3, 4].map(|server| (rookeeper_proto::ServerId(server), 7)).into();
    let learner = |server, port, since_ms| LinkedLearner {
        server: rookeeper_proto::ServerId(server),
        peer: ([127, 0, 0, 1], port).into(),
        since_ms: rookeeper_proto::WallMs(since_ms),
        waiting_bytes: 5,
    };
    // Of a server that comes again the newer link counts.
    let learners = &[learner(1, 1, 1), learner(4, 2, 2), learner(4, 39028, 1_795_399_247_250)];
    let (context, command) = (&world.context, commands::find("obsr").unwrap());
    let question = Question { context, view: &view, learners, query: "", limit: 1 << 20 };
    let ours: Value = serde_json::from_str(&commands::answer(command, &question).1).unwrap();
    let theirs: Value = serde_json::from_str(&recorded(part, "observers.json")).unwrap();
    let [ours] = &ours["observers"].as_array().unwrap()[..] else { panic!("{ours}") };
    assert_eq!(ours["sid"], 4);
    assert_eq!(ours["behind_ms"], 7);
    assert_eq!(ours["queued_packets_size"], 5);
    for name in ["remote_socket_address", "established"] {
        assert_eq!(ours[name], theirs["observers"][0][name], "{name}");
    }
    let missing: Vec<_> =
        theirs["observers"][0].as_object().unwrap().keys().filter(|name| ours.get(name).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_follower_lists_the_observers_that_it_feeds() {
    let [_, (_, world, mut view), ..] = parts();
    view.status.feeding = Some(ObserverCounts { links: 2, synced: 1 });
    view.status.learner_lags_ms = vec![(rookeeper_proto::ServerId(4), 7)];
    let ours: Value = serde_json::from_str(&ask(&world, &view, "observers")).unwrap();
    assert_eq!((&ours["synced_observers"], &ours["observers"][0]["sid"]), (&Value::from(1), &Value::from(4)));
    view.status.feeding = None;
    let ours: Value = serde_json::from_str(&ask(&world, &view, "observers")).unwrap();
    assert_eq!((&ours["synced_observers"], &ours["observers"]), (&Value::from(0), &Value::from(Vec::<i64>::new())));
}

#[test]
fn who_does_not_decide_knows_no_times_of_sessions() {
    for (part, world, view) in parts() {
        if part == "read-only" {
            continue;
        }
        let sessions = SESSIONS.map(|id| (SessionId(id), 30_000)).into_iter();
        world.context.shared.sessions().restart(part == "leader", sessions, world.now.monotonic_ms);
        let times = |text: &str| serde_json::from_str::<Value>(text).unwrap()["expiry_time_to_session_ids"].clone();
        let ids = |times: Value| {
            let lists = times.as_object().unwrap().values().cloned().collect::<Vec<_>>();
            let mut ids: Vec<i64> =
                lists.iter().flat_map(|ids| ids.as_array().unwrap()).map(|id| id.as_i64().unwrap()).collect();
            ids.sort_unstable();
            ids
        };
        let expected = ids(times(&recorded(part, "dump.json")));
        assert_eq!(ids(times(&ask(&world, &view, "dump"))), expected, "{part}");
        assert_eq!(expected.is_empty(), part != "leader");
    }
}

#[test]
fn who_does_not_serve_says_so_and_answers_only_for_itself() {
    let (world, nobody) = (member(1, ""), view(Serving::Nobody, ServerRole::Looking));
    for name in ["configuration", "leader", "ruok", "server_stats", "zabstate"] {
        let command = commands::find(name).unwrap();
        let ours = match command.needs_service {
            true => frame(name, Some(NOT_SERVING)),
            false => ask(&world, &nobody, name),
        };
        assert_eq!(ours, recorded("not-serving", &format!("{name}.json")).trim_end(), "{name}");
    }
    let always = commands::all().filter(|command| !command.needs_service).map(|command| command.name);
    assert_eq!(
        always.collect::<Vec<_>>(),
        ["environment", "get_trace_mask", "set_trace_mask", "system_properties", "zabstate"]
    );
}
