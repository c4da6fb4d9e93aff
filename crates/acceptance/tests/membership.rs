//! Members that change their part or their place while they run, by what their processes, ports and files say.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rookeeper_acceptance::client::{Client, four_letter_word_within, refusal};
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::wire::{self, Body, Fields};

/// reconfig as the super user, asked again while the new members are not there: the new membership.
fn reconfig(ensemble: &Ensemble, at: u64, joining: &str, leaving: &str) -> String {
    const NO_QUORUM: i32 = -13;
    let until = Instant::now() + Duration::from_secs(30);
    let body = Body::new().string(joining).string(leaving).buffer(None).long(-1);
    let mut client: Option<Client> = None;
    loop {
        let mut ask = || {
            let client = match &mut client {
                Some(client) => client,
                None => {
                    let new = client.insert(ensemble.connect(at)?);
                    new.authenticate("digest", "super:admin")?;
                    new
                }
            };
            client.call(wire::RECONFIG, &body)?.ok()
        };
        match ask() {
            Ok(reply) => {
                let text = Fields(&reply.body).buffer().expect("the new membership").unwrap_or_default();
                return String::from_utf8_lossy(text).into_owned();
            }
            error if Instant::now() >= until => panic!("the membership does not change: {error:?}"),
            error if refusal(&error) == Some(NO_QUORUM) => thread::sleep(Duration::from_millis(20)),
            // The leader may have changed under it.
            _ => client = None,
        }
    }
}

fn waits_for_mode(ensemble: &mut Ensemble, id: u64, mode: &str) {
    let what = format!("member {id} is a {mode}");
    ensemble.wait_for(&what, |ensemble| Ok(ensemble.mode(id).as_deref() == Some(mode))).expect("it changes its part");
}

/// As an operator for Kubernetes does: one member, an observer, which is removed and added again to vote. The new quorum needs both.
#[test]
fn an_observer_that_was_removed_is_given_a_vote() {
    let mut ensemble = Plan::under_test(2).observer(2).reconfigurable().start().expect("one voter and an observer");
    let observing = format!("server.2={}", ensemble.server_line(2));
    let voting = observing.replace("observer", "participant");
    reconfig(&ensemble, 1, "", "2");
    waits_for_mode(&mut ensemble, 2, "follower");
    let members = reconfig(&ensemble, 1, &voting, "");
    assert!(members.contains(&voting), "{members}");
    ensemble.connect(2).expect("a session").create("/by-both", b"").expect("both have it");

    reconfig(&ensemble, 1, &observing, "");
    waits_for_mode(&mut ensemble, 2, "observer");
    for id in [1, 2] {
        ensemble.kill(id).expect("it runs");
    }
    ensemble.start_all().expect("they start from what they wrote");
    ensemble.wait_formed().expect("the same voter and observer");
    waits_for_mode(&mut ensemble, 2, "observer");
    ensemble.connect(2).expect("a session").get_data("/by-both").expect("nothing is lost");
}

/// What a member answers to `word` at another place than the one that it was started with.
fn ask(address: SocketAddr, word: &str) -> Option<String> {
    four_letter_word_within(address, word, Duration::from_secs(1)).ok().filter(|answer| !answer.is_empty())
}

#[test]
fn clients_connect_where_a_reconfiguration_says() {
    let mut ensemble = Plan::under_test(3).reconfigurable().start().expect("an ensemble");
    let mover = ensemble.followers().expect("two follow")[0];
    let old = ensemble.address(mover);
    let mut stays = ensemble.connect(mover).expect("a session");
    let busy = TcpListener::bind((old.ip(), 0)).expect("a port");
    let taken = busy.local_addr().expect("an address");
    let free = TcpListener::bind((old.ip(), 0)).expect("a port").local_addr().expect("an address");
    let leader = ensemble.leader().expect("one leads");
    let present = format!("server.{mover}={}", ensemble.server_line(mover));
    let line = |port: u16| present.replace(&old.to_string(), &format!("{}:{port}", old.ip()));

    // A place that it cannot have is told, and clients go on connecting at the old one.
    reconfig(&ensemble, leader, &line(taken.port()), "");
    ensemble.wait_log(mover, 0, &["but that can't be opened"]).expect("it says why");
    assert!(ask(old, "srvr").is_some(), "the old port is open");
    stays.create("/first", b"").expect("its connection lives");
    drop(busy);

    reconfig(&ensemble, leader, &line(free.port()), "");
    ensemble.wait_for("the port moves", |_| Ok(ask(free, "srvr").is_some())).expect("the new port opens");
    let what = "the old port closes";
    ensemble.wait_for(what, |_| Ok(TcpStream::connect(old).is_err())).expect("nobody is accepted there");
    stays.create("/second", b"").expect("its connection lives");
    let conf = ask(free, "conf").expect("an answer");
    assert!(conf.contains(&format!("clientPort={}\n", free.port())), "{conf}");
    Client::connect(free).expect("a session").get_data("/second").expect("a read");

    // It starts there as well.
    ensemble.kill(mover).expect("it runs");
    ensemble.start(mover).expect("it starts again");
    ensemble
        .wait_for("it serves at the new port", |_| Ok(ask(free, "srvr").is_some_and(|text| text.contains("Mode: f"))))
        .expect("it does");
}

/// A member that only votes, and keeps the data, needs no port for clients; a reconfiguration may give it one.
#[test]
fn a_member_without_a_client_port_takes_part_and_gets_one_later() {
    let mut ensemble = Plan::under_test(2).reconfigurable().prepare().expect("two members");
    let place = ensemble.address(2);
    let complete = format!("server.2={}", ensemble.server_line(2));
    for id in [1, 2] {
        let path = ensemble.data_dir(id).with_file_name("zoo.cfg");
        let config = fs::read_to_string(&path).expect("its configuration");
        let without = config.replace(&format!(";{place}"), "");
        assert_ne!(config, without);
        fs::write(path, without).expect("it is ours");
    }
    ensemble.start_all().expect("both start");
    ensemble.wait_for("member 1 serves", |ensemble| Ok(ensemble.mode(1).is_some())).expect("both are the quorum");
    let mut client = ensemble.connect(1).expect("a session");
    client.create("/by-both", b"").expect("both have it");
    assert!(ensemble.log(2).contains("clientPort is not set"), "{}", ensemble.log(2));
    TcpStream::connect(place).expect_err("nobody listens there");

    reconfig(&ensemble, 1, &complete, "");
    ensemble.wait_for("the port opens", |_| Ok(ask(place, "srvr").is_some())).expect("it opens");
    Client::connect(place).expect("a session").get_data("/by-both").expect("a read");
}

/// Under which names a member writes its configuration anew, and a membership that was proposed, before they get their own.
const CONFIGURED: &str = "zoo.cfg.tmp";
const PROPOSED: &str = "zoo.cfg.dynamic.next.tmp";

fn directory(ensemble: &Ensemble, id: u64) -> PathBuf {
    ensemble.data_dir(id).parent().expect("the member's").to_owned()
}

/// Directories in the place of files stop whoever writes them, root as well.
fn put_in_the_way(ensemble: &Ensemble, names: &[&str]) {
    for id in ensemble.ids() {
        for name in names {
            fs::create_dir(directory(ensemble, id).join(name)).expect("a directory");
        }
    }
}

/// Until then members write.
fn wait_first_membership_is_written(ensemble: &mut Ensemble) {
    let is_written = |ensemble: &Ensemble, id| {
        let config = fs::read_to_string(directory(ensemble, id).join("zoo.cfg")).unwrap_or_default();
        config.contains("zoo.cfg.dynamic.") && !directory(ensemble, id).join(CONFIGURED).exists()
    };
    let what = "the first membership is in the files of all";
    ensemble
        .wait_for(what, |ensemble| Ok(ensemble.ids().into_iter().all(|id| is_written(ensemble, id))))
        .expect("it is");
}

/// Two of four leave, which nobody can write. Then all start again, those who stay last, and the last of them can write. By the files three of
/// four are a quorum, by the log the two that stay, and not without both. `is_found` says that a member went by its log.
fn two_leave_and_all_start_again(ensemble: &mut Ensemble, names: &[&str], is_found: Option<&str>) {
    let leader = ensemble.leader().expect("one leads");
    let followers = ensemble.followers().expect("three follow");
    let (gone, stays) = (followers[..2].to_vec(), [leader, followers[2]]);
    let members = reconfig(ensemble, leader, "", &format!("{},{}", gone[0], gone[1]));
    let version = members.rsplit("version=").next().expect("a version").to_owned();
    // Said after the change itself is on the disk.
    let not_stored = format!("the membership of version {version} is not in the files of the configuration: replacing");
    for id in ensemble.ids() {
        ensemble.wait_log(id, 0, &[&not_stored]).expect("it says so");
    }
    for id in ensemble.ids() {
        ensemble.kill(id).expect("it runs");
    }
    for id in [gone[0], gone[1], stays[0]] {
        let start = ensemble.log(id).len();
        ensemble.start(id).expect("it starts again");
        if let Some(text) = is_found {
            ensemble.wait_log(id, start, &[text]).expect("its log knows better");
        }
    }
    for name in names {
        fs::remove_dir(directory(ensemble, stays[1]).join(name)).expect("the directory");
    }
    ensemble.start(stays[1]).expect("it starts again");
    let what = "those who stay are a quorum";
    ensemble.wait_for(what, |ensemble| Ok(stays.iter().all(|id| ensemble.mode(*id).is_some()))).expect("they are");
    let mut witness = ensemble.connect(stays[1]).expect("a session");
    let (data, _) = witness.get_data("/zookeeper/config").expect("anybody may read it");
    let text = String::from_utf8(data.unwrap_or_default()).expect("text");
    assert_eq!(text, members);
    let is_written = |ensemble: &Ensemble| {
        let config = fs::read_to_string(directory(ensemble, stays[1]).join("zoo.cfg")).unwrap_or_default();
        config.contains(&format!("zoo.cfg.dynamic.{version}"))
    };
    ensemble.wait_for("it is written where that can be", |ensemble| Ok(is_written(ensemble))).expect("it is");
}

/// A membership that was proposed stands in a file of its own, so that a member knows of it where the others can't be written.
#[test]
fn members_start_with_what_was_proposed_where_their_configuration_could_not_be_written() {
    let mut ensemble = Plan::under_test(4).reconfigurable().start().expect("an ensemble");
    wait_first_membership_is_written(&mut ensemble);
    put_in_the_way(&ensemble, &[CONFIGURED]);
    two_leave_and_all_start_again(&mut ensemble, &[CONFIGURED], None);
}

/// What the log of a member says is in force counts after a restart, although no file tells of it.
#[test]
fn members_start_with_what_their_log_says_where_no_file_could_be_written() {
    let names = [CONFIGURED, PROPOSED];
    let mut ensemble = Plan::under_test(4).reconfigurable().start().expect("an ensemble");
    wait_first_membership_is_written(&mut ensemble);
    put_in_the_way(&ensemble, &names);
    two_leave_and_all_start_again(&mut ensemble, &names, Some("it begins with that and writes it again"));
}

/// Files that an operator wrote count against a log. A member that could not write its own knows that those are not newer.
#[test]
fn members_start_with_what_their_log_says_where_only_the_files_of_the_operator_are_there() {
    let names = [CONFIGURED, PROPOSED];
    let mut ensemble = Plan::under_test(4).reconfigurable().prepare().expect("four members");
    put_in_the_way(&ensemble, &names);
    ensemble.start_all().expect("all start");
    ensemble.wait_formed().expect("an ensemble");
    two_leave_and_all_start_again(&mut ensemble, &names, Some("it begins with that and writes it again"));
}
