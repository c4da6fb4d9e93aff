//! The words of a member of an ensemble, in each of its parts, against what was recorded from the original. What differs from run to run
//! (sizes, counts, ports) is masked; what a tool looks for is not.

use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::{Epoch, ServerId, SessionId};
use rookeeper_replica::{LeaderStatus, Phase, ServerRole, ServerStatus, Serving};
use rookeeper_zab::Membership;

use super::tests::{World, dump_of, names, with_our_version};
use super::*;
use crate::observe::metrics::{METRICS, Source};

fn recorded(part: &str, word: &str) -> String {
    let path = format!("{}/../../tests/fixtures/operations/{part}/4lw-{word}.txt", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

const MEMBERS: &str = "server.1=127.0.0.1:33021:33031:participant\nserver.2=127.0.0.1:33022:33032:participant\n\
                       server.3=127.0.0.1:33023:33033:participant\nserver.4=127.0.0.1:33024:33034:observer\n";

/// A member of the recorded ensemble.
pub(crate) fn member(id: i64, more: &str) -> World {
    let text = format!("clientPort={}\ninitLimit=10\nsyncLimit=5\n{MEMBERS}{more}", 33_010 + id);
    World::configured(&text, Some(&id.to_string()))
}

pub(crate) fn view(serving: Serving, role: ServerRole) -> View {
    let membership = Membership::parse_text(format!("{MEMBERS}version=100000000"), false).unwrap();
    let status = ServerStatus {
        role,
        leader: Some(ServerId(2)),
        fed_by: (role == ServerRole::Observing).then_some(ServerId(2)),
        epoch: Epoch(1),
        membership: Some(membership),
        ..ServerStatus::standalone()
    };
    View { serving, status }
}

fn leading() -> View {
    let mut view = view(Serving::Deciding, ServerRole::Leading);
    view.status.leadership = Some(LeaderStatus {
        learners: 3,
        synced_followers: 2,
        synced_observers: 1,
        last_proposal_bytes: 95,
        min_proposal_bytes: 48,
        max_proposal_bytes: 162,
        ..LeaderStatus::default()
    });
    view
}

/// Every part in which clients are served, by the name of its recording, with a server that plays it.
pub(crate) fn parts() -> [(&'static str, World, View); 4] {
    let mut read_only = view(Serving::ReadOnly, ServerRole::Looking);
    read_only.status.phase = Phase::Election;
    read_only.status.leader = None;
    [
        ("leader", member(2, ""), leading()),
        ("follower", member(1, ""), view(Serving::Forwarding, ServerRole::Following)),
        ("observer", member(4, ""), view(Serving::Forwarding, ServerRole::Observing)),
        ("read-only", member(1, "readonlymode.enabled=true\n"), read_only),
    ]
}

impl World {
    fn ask_as(&self, view: &View, word: &str) -> String {
        let command = find(word.as_bytes().try_into().unwrap()).unwrap();
        let mut page = Page::new(&self.asking);
        let question = Question { context: &self.context, view, asking: &self.asking, argument: [0; 8] };
        answer(&mut page, command, &question).unwrap();
        page.into_text()
    }
}

/// Without what differs from run to run: the values of counters, and the connections.
fn masked(text: &str) -> String {
    let mask = |line: &str| match line.split_once(": ") {
        Some(("Mode" | "Proposal sizes last/min/max" | "Zookeeper version", _)) => line.to_owned(),
        Some((name, _)) => name.to_owned(),
        None => line.to_owned(),
    };
    text.lines().filter(|line| !line.starts_with(" /")).map(|line| mask(line) + "\n").collect()
}

#[test]
fn srvr_and_stat_are_the_recorded_ones() {
    for (part, world, view) in parts() {
        for word in ["srvr", "stat"] {
            let expected = with_our_version(&recorded(part, word));
            assert_eq!(masked(&world.ask_as(&view, word)), masked(&expected), "{part} {word}");
        }
        let connections = world.ask_as(&view, "cons").lines().count();
        assert_eq!(connections, 2, "{part}");
    }
}

#[test]
fn conf_is_the_recorded_one() {
    for (part, mut world, view) in parts() {
        let directory = tempfile::tempdir().unwrap();
        world.context.config.directories.data_dir = directory.path().to_owned();
        world.context.config.directories.data_log_dir = directory.path().to_owned();
        world.context.client_port = world.context.config.client.port.unwrap().into();
        let expected = recorded(part, "conf");
        let size = expected.lines().find_map(|line| line.strip_prefix("dataDirSize=")).unwrap().parse().unwrap();
        let files = directory.path().join("version-2");
        std::fs::create_dir(&files).unwrap();
        std::fs::File::create(files.join("log.1")).unwrap().set_len(size).unwrap();
        let answer = world.ask_as(&view, "conf").replace(&directory.path().display().to_string(), "/var/lib/zookeeper");
        assert_eq!(answer, expected, "{part}");
    }
}

#[test]
fn isro_tells_whether_writes_have_a_chance() {
    for (part, world, view) in parts() {
        assert_eq!(world.ask_as(&view, "isro"), recorded(part, "isro"), "{part}");
    }
}

#[test]
fn who_does_not_serve_says_so_and_answers_only_for_itself() {
    let world = member(1, "");
    let mut view = view(Serving::Nobody, ServerRole::Looking);
    for word in "conf cons crst dirs dump gtmk hash isro mntr ruok srst srvr stat wchs".split(' ') {
        assert_eq!(world.ask_as(&view, word), recorded("not-serving", word), "{word}");
    }
    assert!(world.ask_as(&view, "envi").starts_with("Environment:\n"));
    // A leader without clients of its own is none of theirs either.
    view = leading();
    view.serving = Serving::Nobody;
    assert_eq!(world.ask_as(&view, "srvr"), recorded("not-serving", "srvr"));
}

#[test]
fn mntr_has_the_recorded_names_of_each_part_in_the_recorded_order() {
    for (part, world, view) in parts() {
        let answer = world.ask_as(&view, "mntr");
        let expected = recorded(part, "mntr");
        let ours: Vec<String> = names(&answer).iter().map(|name| (*name).to_owned()).collect();
        // Each present metric must stand where the original has it; what is absent is listed in COMPAT.md.
        let (mut rest, mut own) = (ours.iter().peekable(), Vec::new());
        for name in names(&expected) {
            rest.next_if(|next| *next == name);
        }
        own.extend(rest.cloned());
        let known = [
            "zk_log_lines_missing",
            "zk_audit_lines_written",
            "zk_audit_lines_dropped",
            "zk_fsync_threshold_exceed_count",
            "zk_snapshots_purged",
            "zk_logs_purged",
            "zk_short_of_disk",
            "zk_short_of_memory",
            "zk_memory_resident_bytes",
            "zk_memory_limit_bytes",
            "zk_growing_writes_refused",
            "zk_client_memory_bytes",
            "zk_client_memory_limit_bytes",
            "zk_connections_cut_for_memory",
            "zk_epoch",
            "zk_leader_id",
        ];
        let of_part = if part == "read-only" { &known[..14] } else { &known };
        // Behind them stand those with labels.
        let labelled = own.split_off(of_part.len());
        assert_eq!(own, of_part, "{part}");
        assert_eq!(labelled[0], "zk_cnt_write_queue", "{part}");
        for name in METRICS.iter().filter(|metric| matches!(metric.source, Source::Only(..))).map(|metric| metric.name)
        {
            let line = |text: &str| text.lines().any(|line| line.starts_with(&format!("zk_{name}\t")));
            let own = known.contains(&format!("zk_{name}").as_str());
            assert!(own || line(&answer) == line(&expected), "{part} {name}");
        }
        for name in ["server_state", "peer_state", "quorum_size", "observer_master_id", "learners", "synced_followers"]
        {
            let line =
                |text: &str| text.lines().find(|line| line.starts_with(&format!("zk_{name}\t"))).map(str::to_owned);
            assert_eq!(line(&answer), line(&expected), "{part} {name}");
        }
    }
}

/// Each is told by another number, so that no name can stand for its neighbour.
#[test]
fn mntr_tells_what_a_member_counted_and_timed_until_srst() {
    let world = member(2, "");
    let statistics = &world.context.shared.statistics;
    let member = &statistics.member;
    let counters = [
        ("looking_count", &member.searches),
        ("quit_leading_due_to_disloyal_voter", &member.disloyal_voters),
        ("learner_proposal_received_count", &member.proposals_received),
        ("learner_commit_received_count", &member.commits_received),
        ("proposal_count", &member.proposals),
        ("commit_count", &member.commits),
        ("diff_count", &member.log_syncs),
        ("snap_count", &member.snapshot_syncs),
        ("revalidate_count", &member.revalidations),
        ("connection_revalidate_count", &statistics.sessions_presented),
    ];
    let series = [
        ("election_time", &member.election_ms),
        ("unavailable_time", &member.unavailable_ms),
        ("leader_unavailable_time", &member.unavailable_until_leading_ms),
        ("follower_sync_time", &member.follower_sync_ms),
        ("observer_sync_time", &member.observer_sync_ms),
        ("proposal_latency", &member.proposal_latency_ms),
        ("commit_propagation_latency", &member.commit_latency_ms),
        ("proposal_ack_creation_latency", &member.acknowledgement_latency_ms),
        ("quorum_ack_latency", &member.quorum_latency_ms),
        ("inflight_diff_count", &member.log_syncs_under_way),
        ("inflight_snap_count", &member.snapshot_syncs_under_way),
    ];
    for (number, (_, counter)) in (1..).zip(counters) {
        counter.store(number, Relaxed);
    }
    for (number, (_, series)) in (101..).zip(series) {
        series.record(number);
    }
    let lines = |first_counter: u64, first_sum: u64, step: u64| {
        let mut lines = Vec::new();
        let numbers = |first: u64| (0..).map(move |index| first + index * step);
        lines.extend(
            counters.iter().zip(numbers(first_counter)).map(|((name, _), value)| format!("zk_{name}\t{value}")),
        );
        lines.extend(series.iter().zip(numbers(first_sum)).map(|((name, _), value)| format!("zk_sum_{name}\t{value}")));
        lines
    };
    let view = leading();
    for (lines, when) in [(lines(1, 101, 1), "counted"), (lines(0, 0, 0), "reset")] {
        let answer = world.ask_as(&view, "mntr");
        let missing: Vec<_> = lines.iter().filter(|line| answer.lines().all(|found| found != line.as_str())).collect();
        assert!(missing.is_empty(), "{when}: {missing:?} in {answer}");
        world.ask_as(&view, "srst");
    }
}

#[test]
fn the_time_as_a_leader_is_counted_from_its_beginning() {
    let world = member(2, "");
    let mut view = leading();
    let since_ms = world.context.clock.now().monotonic_ms - 5000;
    view.status.leadership.as_mut().unwrap().since_ms = since_ms;
    let answer = world.ask_as(&view, "mntr");
    let uptime_ms: i64 =
        answer.lines().find_map(|line| line.strip_prefix("zk_leader_uptime\t")).unwrap().parse().unwrap();
    assert!((5000..=world.context.clock.now().monotonic_ms - since_ms).contains(&uptime_ms), "{uptime_ms}");
}

pub(crate) const SESSIONS: [i64; 4] =
    [0x100_0014_a4c3_0000, 0x200_0014_a4dd_0000, 0x300_0014_a7de_0000, 0x400_0014_adc0_0000];

/// The part of `dump` about sessions, with dates masked.
fn sessions_of(dump: &str) -> String {
    let (sessions, _) = dump.split_once("ephemeral nodes dump:").unwrap();
    let mask =
        |line: &str| line.split_once(" expire at ").map_or(line.to_owned(), |(count, _)| format!("{count} expire"));
    sessions.lines().map(|line| mask(line) + "\n").collect()
}

#[test]
fn learners_list_the_sessions_of_all_servers_without_times() {
    for (part, world, view) in parts() {
        if !matches!(part, "follower" | "observer") {
            continue;
        }
        let sessions = SESSIONS.map(|id| (SessionId(id), 30_000)).into_iter();
        world.context.shared.sessions().restart(false, sessions, world.now.monotonic_ms);
        let answer = dump_of(&world, &view);
        assert_eq!(sessions_of(&answer), sessions_of(&recorded(part, "dump")), "{part}");
    }
}

#[test]
fn a_leader_lists_them_by_the_time_at_which_they_expire() {
    let [(_, world, view), ..] = parts();
    let sessions = SESSIONS.map(|id| (SessionId(id), 30_000)).into_iter();
    world.context.shared.sessions().restart(true, sessions, world.now.monotonic_ms);
    let answer = sessions_of(&dump_of(&world, &view));
    assert!(answer.starts_with("SessionTracker dump:\nSession Sets (1)/(4):\n4 expire\n\t0x"), "{answer}");
}

#[test]
fn sessions_of_one_server_are_listed_apart() {
    let [(_, leader, leading), .., (part, reader, read_only)] = parts();
    let session = SessionId(0x100_0018_4396_0000);
    reader.context.shared.sessions().add_local(session, 30_000, reader.asking.clone(), reader.now.monotonic_ms);
    let answer = dump_of(&reader, &read_only);
    assert_eq!(sessions_of(&answer), sessions_of(&recorded(part, "dump")));
    assert!(reader.ask_as(&read_only, "mntr").contains("zk_local_sessions\t1\n"));

    drop(leader);
    let leader = member(2, "localSessionsEnabled=true\n");
    let mut sessions = leader.context.shared.sessions();
    sessions.add_local(session, 30_000, leader.asking.clone(), leader.now.monotonic_ms);
    sessions.add(SessionId(SESSIONS[0]), 30_000, None, leader.now.monotonic_ms);
    drop(sessions);
    let answer = sessions_of(&dump_of(&leader, &leading));
    assert_eq!(
        answer,
        "SessionTracker dump:\nLocal Session Sets (1)/(1):\n1 expire\n\t0x100001843960000\n\
         Global Session Sets (1)/(1):\n1 expire\n\t0x1000014a4c30000\n"
    );
}
