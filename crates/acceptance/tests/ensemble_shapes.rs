//! The shapes an ensemble can have: observers, groups and weights, a leader without clients, read-only and local sessions, a
//! membership that changes, and what each server says of its role.

use std::thread;
use std::time::{Duration, Instant};

use rookeeper_acceptance::client::{Client, Hello, refusal};
use rookeeper_acceptance::ensemble::{DEADLINE, Ensemble, Plan};
use rookeeper_acceptance::load::Load;
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::server::Product;
use rookeeper_acceptance::verdict::judge;
use rookeeper_acceptance::wire::{self, Acl, Body, Fields};

const EPHEMERAL: i32 = 1;

#[test]
fn observers_serve_and_do_not_count() {
    let mut random = Random::from_environment("observers_serve_and_do_not_count");
    let plan = Plan::under_test(4).observer(4);
    let mut ensemble = plan.start().expect("three servers and an observer form an ensemble");
    assert_eq!(ensemble.mode(4).as_deref(), Some("observer"));
    let load = Load::start(&[ensemble.address(4)], &mut random).expect("an observer serves clients");
    let follower = ensemble.followers().expect("two follow")[0];
    ensemble.kill(follower).expect("it runs");
    load.wait_progress().expect("two of three voters are a quorum");
    ensemble.stop(4).expect("it runs");
    ensemble.start(4).expect("it starts again");
    ensemble.wait_formed().expect("it observes again");
    load.wait_progress().expect("its clients come back");
    ensemble.start(follower).expect("it starts again");
    judge(&mut ensemble, load).expect("the observer has everything");

    let leader = ensemble.leader().expect("one leads");
    let follower = ensemble.followers().expect("two follow")[0];
    ensemble.kill(leader).expect("it runs");
    ensemble.kill(follower).expect("it runs");
    let alone = |ensemble: &mut Ensemble| Ok(ensemble.running().into_iter().all(|id| ensemble.mode(id).is_none()));
    ensemble.wait_for("one voter and an observer do not serve", alone).expect("the observer is no voter");
}

/// {1,2}, {3}, {4,5}: two whole groups are a quorum, three servers of five are not always one.
#[test]
fn groups_decide_together() {
    let plan = Plan::under_test(5).config("group.1", "1:2").config("group.2", "3").config("group.3", "4:5");
    let mut ensemble = plan.start().expect("five servers form an ensemble");
    let mut client = ensemble.connect(1).expect("a session");
    client.create("/all", b"").expect("three groups of three");
    ensemble.kill(4).expect("it runs");
    ensemble.wait_formed().expect("groups 1 and 2 are whole");
    let mut client = ensemble.connect(1).expect("a session");
    client.create("/two-groups", b"").expect("two groups of three");
    ensemble.kill(3).expect("it runs");
    ensemble
        .wait_for("nobody serves", |ensemble| Ok(ensemble.running().iter().all(|id| ensemble.mode(*id).is_none())))
        .expect("1, 2 and 5 are three of five, but only one group");
    ensemble.start(3).expect("it starts again");
    ensemble.wait_formed().expect("groups 1 and 2 are whole again");
    let mut client = ensemble.connect(3).expect("a session");
    client.create("/again", b"").expect("a quorum");
    client.get_data("/two-groups").expect("nothing is lost");
}

/// A server of weight 0 follows and never leads.
#[test]
fn no_weight_no_leader() {
    let plan = Plan::under_test(3).config("group.1", "1:2:3").config("weight.1", "1").config("weight.2", "1");
    let mut ensemble = plan.config("weight.3", "0").start().expect("three servers form an ensemble");
    assert_ne!(ensemble.leader().expect("one leads"), 3, "although its id is the greatest");
    ensemble.kill(3).expect("it runs");
    ensemble.connect(1).expect("a session").create("/without-it", b"").expect("1 and 2 have all the weight");
}

#[test]
fn a_leader_may_leave_the_clients_to_others() {
    let plan = Plan::under_test(3).config("leaderServes", "no").property("-Dzookeeper.leaderServes=no");
    let mut ensemble = plan.prepare().expect("directories");
    ensemble.start_all().expect("they start");
    let followers = |ensemble: &Ensemble| -> Vec<u64> {
        ensemble.ids().into_iter().filter(|id| ensemble.mode(*id).as_deref() == Some("follower")).collect()
    };
    ensemble.wait_for("two follow", |ensemble| Ok(followers(ensemble).len() == 2)).expect("they form an ensemble");
    let following = followers(&ensemble);
    let leader = ensemble.ids().into_iter().find(|id| !following.contains(id)).expect("the third one leads");
    assert!(ensemble.connect_within(leader, Duration::from_secs(3)).is_err(), "the leader takes no clients");
    let mut client = ensemble.connect(following[0]).expect("a follower does");
    client.create("/x", b"").expect("a write");
    ensemble.connect(following[1]).expect("a session").sync().expect("the leader answers");
}

fn read_only_connection(ensemble: &Ensemble, id: u64) -> anyhow::Result<Client> {
    Hello { read_only: true, deadline: Duration::from_secs(5), ..Hello::default() }.connect(ensemble.address(id))
}

#[test]
fn a_lonely_server_may_be_read() {
    let plan = Plan::under_test(3).property("-Dreadonlymode.enabled=true").config("localSessionsEnabled", "true");
    let mut ensemble = plan.start().expect("three servers form an ensemble");
    let mut client = ensemble.connect(1).expect("a session");
    client.create("/old", b"x").expect("a node");
    ensemble.wait_same_zxid().expect("all have it");
    assert_eq!(ensemble.word(1, "isro").expect("an answer"), "rw");
    ensemble.kill(2).expect("it runs");
    ensemble.kill(3).expect("it runs");
    ensemble
        .wait_for("read-only mode", |ensemble| Ok(ensemble.mode(1).as_deref() == Some("read-only")))
        .expect("it serves what it has");
    assert_eq!(ensemble.word(1, "isro").expect("an answer"), "ro");
    assert!(ensemble.connect_within(1, Duration::from_secs(5)).is_err(), "who did not ask for it is not served");
    let mut reader = read_only_connection(&ensemble, 1).expect("who asked for it is");
    assert_eq!(reader.get_data("/old").expect("a read").0.as_deref(), Some(&b"x"[..]));
    assert_eq!(refusal(&reader.create("/new", b"")), Some(wire::NOT_READ_ONLY));
    ensemble.start_all().expect("they start again");
    ensemble.wait_formed().expect("they form an ensemble");
    assert_eq!(ensemble.word(1, "isro").expect("an answer"), "rw");
    ensemble.connect(1).expect("a session").create("/new", b"").expect("a write");
}

/// Local sessions live where they began, until an ephemeral node makes them known to all.
#[test]
fn local_sessions_are_upgraded() {
    let plan = Plan::under_test(3).config("localSessionsEnabled", "true");
    let mut ensemble = plan.config("localSessionsUpgradingEnabled", "true").start().expect("an ensemble");
    let followers = ensemble.followers().expect("two follow");
    let (home, other) = (followers[0], followers[1]);
    let before = ensemble.word(home, "srvr").expect("an answer");
    let zxid = |text: &str| text.lines().find(|line| line.starts_with("Zxid: ")).map(str::to_owned);
    let mut local = ensemble.connect(home).expect("a session");
    local.get_data("/").expect("a read");
    let after = ensemble.word(home, "srvr").expect("an answer");
    assert_eq!(zxid(&before), zxid(&after), "a local session takes no transaction");
    let refused = Client::resume(ensemble.address(other), &local.session).expect("an answer");
    assert_eq!(refused.session.id, 0, "nobody else knows it");
    local.create("/plain", b"").expect("it may write");
    local.create_with("/mine", None, &Acl::open(), EPHEMERAL).expect("it becomes a session of all");
    let stat = local.exists("/mine").expect("an answer").expect("the node");
    assert_eq!(stat.ephemeral_owner, local.session.id, "under the same id");
    let mut moved = Client::resume(ensemble.address(other), &local.session).expect("an answer");
    assert_eq!(moved.session.id, local.session.id, "now it can move");
    moved.sync().expect("the leader answers");
    assert!(moved.exists("/mine").expect("an answer").is_some());
    moved.close().expect("an orderly end");
    let mut witness = ensemble.connect(home).expect("a session");
    witness.sync().expect("the leader answers");
    assert!(witness.exists("/mine").expect("an answer").is_none(), "the node went with the session");
}

/// reconfig as the super user: the new membership, or the error.
pub fn reconfig(client: &mut Client, joining: &str, leaving: &str) -> anyhow::Result<String> {
    let body = Body::new().string(joining).string(leaving).buffer(None).long(-1);
    let reply = client.call(wire::RECONFIG, &body)?.ok()?;
    Ok(String::from_utf8_lossy(Fields(&reply.body).buffer()?.unwrap_or_default()).into_owned())
}

fn super_user(ensemble: &Ensemble, id: u64) -> Client {
    let mut client = ensemble.connect(id).expect("a session");
    client.authenticate("digest", "super:admin").expect("the super user");
    client
}

/// A server joins, another one leaves, the leader leaves; writes go on all the time.
#[test]
fn the_membership_changes_under_load() {
    let mut random = Random::from_environment("the_membership_changes_under_load");
    let mut ensemble = Plan::under_test(3).reconfigurable().start().expect("an ensemble");
    let product = Product::under_test();
    let joiner = ensemble.add(product, false).expect("a fourth directory");
    let load = Load::start(&ensemble.addresses(), &mut random).expect("clients are served");
    ensemble.start(joiner).expect("it starts");
    ensemble.wait_formed().expect("it follows without a vote");

    let leader = ensemble.leader().expect("one leads");
    let mut client = super_user(&ensemble, leader);
    let line = format!("server.{joiner}={}", ensemble.server_line(joiner));
    let members = retry_reconfig(&mut client, &line, "");
    assert!(members.contains(&format!("server.{joiner}=")), "{members}");
    load.wait_progress().expect("four servers serve");
    let config = "/zookeeper/config";
    for id in ensemble.ids() {
        let mut witness = ensemble.connect(id).expect("a session");
        witness.sync().expect("the leader answers");
        let (data, _) = witness.get_data(config).expect("anybody may read it");
        let text = String::from_utf8(data.unwrap_or_default()).expect("text");
        assert!(text.contains(&format!("server.{joiner}=")), "member {id}: {text}");
    }

    let follower =
        ensemble.followers().expect("three follow").into_iter().find(|id| *id != joiner).expect("an old one");
    let members = retry_reconfig(&mut client, "", &follower.to_string());
    assert!(!members.contains(&format!("server.{follower}=")), "{members}");
    ensemble.stop(follower).expect("nobody needs it any more");
    load.wait_progress().expect("three servers serve");

    // The leader leaves: it may be gone before it can answer.
    let _ = reconfig(&mut client, "", &leader.to_string());
    let successor = ensemble.wait_leader_other_than(leader).expect("another one leads");
    load.wait_progress().expect("two servers serve");
    ensemble.stop(leader).expect("nobody needs it any more");
    let mut witness = super_user(&ensemble, successor);
    let (data, _) = witness.get_data(config).expect("anybody may read it");
    let text = String::from_utf8(data.unwrap_or_default()).expect("text");
    assert!(!text.contains(&format!("server.{leader}=")), "{text}");
    judge(&mut ensemble, load).expect("nothing is lost");

    // What was stored is what they start with.
    for id in ensemble.running() {
        ensemble.stop(id).expect("it runs");
        ensemble.start(id).expect("it starts again");
    }
    ensemble.wait_formed().expect("two members are an ensemble");
    let mut witness = ensemble.connect(joiner).expect("a session");
    let (data, _) = witness.get_data(config).expect("anybody may read it");
    assert_eq!(String::from_utf8(data.unwrap_or_default()).expect("text"), text);
}

/// The joiner may not be synchronised yet: that is told by an error, and asked again.
fn retry_reconfig(client: &mut Client, joining: &str, leaving: &str) -> String {
    const NO_QUORUM: i32 = -13;
    let until = Instant::now() + DEADLINE;
    loop {
        let result = reconfig(client, joining, leaving);
        match refusal(&result) {
            Some(NO_QUORUM) if Instant::now() < until => thread::sleep(Duration::from_millis(20)),
            _ => return result.expect("the membership changes"),
        }
    }
}

#[test]
fn reconfig_is_refused_where_it_must_be() {
    let ensemble = Plan::under_test(3).reconfigurable().start().expect("an ensemble");
    let mut nobody = ensemble.connect(1).expect("a session");
    assert_eq!(refusal(&reconfig(&mut nobody, "", "1")), Some(wire::NO_AUTH));
    let mut client = super_user(&ensemble, 2);
    assert_eq!(refusal(&reconfig(&mut client, "server.9=nonsense", "")), Some(-8), "not a server line");
    let away = "server.9=127.0.0.1:1:2:participant;127.0.0.1:3";
    let stale = Body::new().string("").string("1").buffer(None).long(77);
    let reply = client.call(wire::RECONFIG, &stale).expect("an answer");
    assert_eq!(reply.error, wire::BAD_VERSION, "of another membership");
    let gone = reconfig(&mut client, away, "1,2");
    assert_eq!(refusal(&gone), Some(-13), "servers 3 and 9 would need both, and 9 is not there");
    client.create("/still", b"").expect("nothing has changed");
}

#[test]
fn reconfig_is_off_by_default() {
    let ensemble = Plan::under_test(3).with_super_user().start().expect("an ensemble");
    let mut client = super_user(&ensemble, 1);
    assert_eq!(refusal(&reconfig(&mut client, "", "1")), Some(-123));
}

#[test]
fn members_tell_their_role() {
    let mut ensemble = Plan::under_test(4).observer(4).start().expect("an ensemble");
    let leader = ensemble.leader().expect("one leads");
    ensemble.connect(leader).expect("a session").create("/x", b"").expect("a write");
    let mntr = |ensemble: &Ensemble, id: u64, key: &str| -> Option<String> {
        let text = ensemble.word(id, "mntr").expect("an answer");
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('\t'));
        line.map(str::to_owned)
    };
    for (key, expected) in [
        ("zk_server_state", "leader"),
        ("zk_synced_followers", "2"),
        ("zk_synced_observers", "1"),
        ("zk_learners", "3"),
        ("zk_quorum_size", "3"),
    ] {
        assert_eq!(mntr(&ensemble, leader, key).as_deref(), Some(expected), "{key}");
    }
    for id in ensemble.ids().into_iter().filter(|id| *id != leader) {
        let role = if id == 4 { "observer" } else { "follower" };
        assert_eq!(mntr(&ensemble, id, "zk_server_state").as_deref(), Some(role), "member {id}");
        assert_eq!(mntr(&ensemble, id, "zk_synced_followers"), None, "member {id} does not lead");
    }
    // The session and the node, for each in its part; learners hear of a commit after the client.
    for id in ensemble.ids() {
        for (key, counts) in [
            ("zk_proposal_count", id == leader),
            ("zk_cnt_quorum_ack_latency", id == leader),
            ("zk_learner_proposal_received_count", id != leader && id != 4),
            ("zk_learner_commit_received_count", id != leader),
            ("zk_cnt_unavailable_time", true),
            ("zk_cnt_observer_sync_time", id == 4),
        ] {
            let moves =
                |ensemble: &mut Ensemble| Ok(mntr(ensemble, id, key).is_some_and(|value| (value != "0") == counts));
            let what = format!("{key} of member {id}, which counts: {counts}");
            ensemble.wait_for(&what, moves).unwrap_or_else(|why| panic!("{what}: {why}"));
        }
    }
    for id in ensemble.ids() {
        assert_eq!(ensemble.word(id, "ruok").expect("an answer"), "imok");
        assert_eq!(ensemble.word(id, "isro").expect("an answer"), "rw");
        let conf = ensemble.word(id, "conf").expect("an answer");
        for expected in [format!("serverId={id}\n"), "initLimit=40\n".to_owned(), "syncLimit=7\n".to_owned()] {
            assert!(conf.contains(&expected), "{expected} of member {id} is not in {conf}");
        }
        let membership = conf.split_once("membership: \n").expect("the members").1;
        for other in ensemble.ids() {
            assert!(membership.contains(&format!("server.{other}=")), "{membership}");
        }
        let stat = ensemble.word(id, "stat").expect("an answer");
        assert!(stat.contains("Clients:") && stat.contains("Mode: "), "{stat}");
        assert_eq!(stat.contains("Proposal sizes last/min/max: "), id == leader, "{stat}");
    }
    for id in ensemble.ids().into_iter().filter(|id| *id != leader) {
        ensemble.kill(id).expect("it runs");
    }
    ensemble.wait_for("it stops to serve", |ensemble| Ok(ensemble.mode(leader).is_none())).expect("it notices");
    assert_eq!(ensemble.word(leader, "ruok").expect("an answer"), "imok");
    let text = ensemble.word(leader, "srvr").expect("an answer");
    assert_eq!(text.trim_end(), "This ZooKeeper instance is not currently serving requests");
}
