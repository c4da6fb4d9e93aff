//! A member whose tree is another one than that of the ensemble, at the same transaction. Nothing shows that before the next write, whose
//! digest the leader predicts.

use std::fs;
use std::path::Path;

use rookeeper_acceptance::client::Client;
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::server::Setup;

/// A history of three transactions, made by a standalone server.
fn make_history(data_dir: &Path, data: &[u8]) {
    let mut server = Setup::new().data_dir(data_dir).start().expect("a standalone server");
    let mut client = Client::connect(server.address()).expect("a session");
    client.create("/planted", data).expect("a write");
    client.close().expect("an orderly end");
    server.terminate().expect("it stops");
}

/// Three members, of which the first can't lead and has another tree than the two others.
fn with_another_tree_at_the_first(plan: Plan) -> Ensemble {
    let ensemble = plan.prepare().expect("three members");
    make_history(&ensemble.data_dir(1), b"of the first");
    make_history(&ensemble.data_dir(2), b"of the others");
    let version_dir = |id| ensemble.data_dir(id).join("version-2");
    fs::create_dir(version_dir(3)).expect("a directory");
    for entry in fs::read_dir(version_dir(2)).expect("it can be read") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), version_dir(3).join(entry.file_name())).expect("a copy");
    }
    ensemble
}

/// They agree on the numbers of the transactions, so nobody is sent anything.
fn form(ensemble: &mut Ensemble) -> u64 {
    ensemble.start_all().expect("they start");
    let leader = ensemble.wait_formed().expect("an ensemble");
    assert_ne!(leader, 1, "of servers with the same history the one with the greatest id leads");
    leader
}

#[test]
fn a_member_whose_tree_differs_stops_where_it_shall_and_the_others_go_on() {
    let mut ensemble = with_another_tree_at_the_first(Plan::under_test(3).config("digest.onMismatch", "stop"));
    let leader = form(&mut ensemble);
    let mut client = ensemble.connect(leader).expect("a session");
    assert_eq!(ensemble.wait_end(1).expect("it ends by itself").code(), Some(1), "{}", ensemble.log(1));
    let log = ensemble.log(1);
    assert!(log.contains("this server's state can't be trusted"), "{log}");
    assert!(log.contains("digest.onMismatch=stop ends it"), "{log}");

    client.create("/by-the-others", b"").expect("two are a quorum");
    assert_eq!(ensemble.wait_formed().expect("the others serve"), leader);
    // As the message says: without its data, and while a quorum of the others works, it gets theirs.
    ensemble.wipe(1).expect("its data is removed");
    ensemble.start(1).expect("it starts again");
    assert_eq!(ensemble.wait_formed().expect("all serve"), leader);
    client.create("/by-all", b"").expect("a write");
    ensemble.wait_same_zxid().expect("all have it");
    let (data, _) = ensemble.connect(1).expect("a session").get_data("/planted").expect("a read");
    assert_eq!(data.as_deref(), Some(&b"of the others"[..]));
}

#[test]
fn a_member_whose_tree_differs_says_so_and_serves_where_nothing_else_is_wanted() {
    let mut ensemble = with_another_tree_at_the_first(Plan::under_test(3));
    let leader = form(&mut ensemble);
    ensemble.connect(leader).expect("a session").create("/after", b"").expect("a write");
    ensemble.wait_same_zxid().expect("all have it");
    ensemble.wait_log(1, 0, &["this server's state can't be trusted"]).expect("it is said");
    for id in ensemble.ids() {
        let srvr = ensemble.word(id, "srvr").expect("it serves");
        let mntr = ensemble.word(id, "mntr").expect("it serves");
        assert_eq!(
            srvr.contains("\nDigest mismatch: this tree can't be trusted since 0x100000001\n"),
            id == 1,
            "{srvr}"
        );
        assert_eq!(!mntr.contains("zk_digest_mismatches_count\t0\n"), id == 1, "{mntr}");
    }
}
