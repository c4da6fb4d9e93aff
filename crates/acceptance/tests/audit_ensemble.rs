//! The audit log in an ensemble: which member tells of what.
//!
//! A member of the original among ours tells by its own log what the original does: of a request the member to which the client is connected, of
//! nodes that go with their session all members that apply it.

use std::fs;

use rookeeper_acceptance::client::{Client, refusal};
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::server::Product::{self, Apache, Rookeeper};
use rookeeper_acceptance::wire::Acl;

const EPHEMERAL: i32 = 1;
const NO_NODE: i32 = -101;

/// Long enough for its first request on a machine that is busy.
const MORTAL_MS: i32 = 5_000;

/// The lines of a member's audit log. That of the original is a part of its log.
fn audit(ensemble: &Ensemble, id: u64) -> Vec<String> {
    let text = match ensemble.product(id) {
        Rookeeper => {
            let folder = ensemble.data_dir(id).parent().expect("the folder of the member").to_owned();
            fs::read_to_string(folder.join("audit.log")).unwrap_or_default()
        }
        Apache => ensemble.log(id),
    };
    text.lines().filter(|line| line.contains("audit.Slf4jAuditLogger")).map(str::to_owned).collect()
}

/// The members that tell of this, once `of` do.
fn tellers(ensemble: &mut Ensemble, parts: &[&str], of: &[u64]) -> Vec<u64> {
    let tells = |ensemble: &Ensemble, id: u64| {
        audit(ensemble, id).iter().any(|line| parts.iter().all(|part| line.contains(part)))
    };
    let awaited = of.to_vec();
    let what = format!("members {of:?} tell of {parts:?}");
    ensemble.wait_for(&what, |ensemble| Ok(awaited.iter().all(|id| tells(ensemble, *id)))).expect("they tell");
    ensemble.ids().into_iter().filter(|id| tells(ensemble, *id)).collect()
}

/// Each member tells of its own clients, and all of what goes with a session.
fn each_tells_of_its_own(products: &[Product]) {
    let plan = Plan::of(products).config("audit.enable", "true").config("audit.file", "audit.log");
    let mut ensemble = plan.start().expect("an ensemble forms");
    let (leader, ids) = (ensemble.leader().expect("a leader"), ensemble.ids());
    let mut ids_of_sessions = Vec::new();
    for id in &ids {
        let mut client = ensemble.connect(*id).expect("a session");
        let node = format!("/of-{id}");
        client.create(&node, b"").expect("a node");
        assert_eq!(refusal(&client.set_data(&format!("/not-{id}"), b"", -1)), Some(NO_NODE));
        ids_of_sessions.push(format!("session=0x{:x}\t", client.session.id));
    }
    // Its client is gone without a word.
    let follower = *ids.iter().find(|id| **id != leader && ensemble.product(**id) == Rookeeper).expect("a follower");
    let mut mortal = Client::connect_with(ensemble.address(follower), MORTAL_MS, None, 0).expect("a session");
    mortal.create_with("/mortal", None, &Acl::open(), EPHEMERAL).expect("a node");
    let session = format!("session=0x{:x}\t", mortal.session.id);
    drop(mortal);
    let gone =
        ["operation=ephemeralZNodeDeletionOnSessionCloseOrExpire\t", &session, "znode=/mortal\t", "result=success"];
    assert_eq!(tellers(&mut ensemble, &gone, &ids), ids, "all that apply it tell of it");
    assert!(tellers(&mut ensemble, &["operation=create\t", &session], &[follower]) == [follower]);
    let opened = ["operation=sessionOpen\t", session.as_str()];
    assert_eq!(tellers(&mut ensemble, &opened, &[follower]), [follower]);
    if ensemble.product(leader) == Rookeeper {
        // Whoever leads decides it. The original does not tell of it.
        assert_eq!(tellers(&mut ensemble, &["operation=sessionExpire\t", &session], &[leader]), [leader]);
    }

    // Now, when another member would have told of it too.
    for (id, session) in ids.iter().zip(&ids_of_sessions) {
        let done = ["operation=create\t", session, &format!("znode=/of-{id}\t"), "\tip=127.0.0.1\t", "result=success"];
        assert_eq!(
            tellers(&mut ensemble, &done, &[*id]),
            [*id],
            "a write is told of where its client is, {leader} leads"
        );
        let failed = ["operation=setData\t", session, "result=failure"];
        assert_eq!(tellers(&mut ensemble, &failed, &[*id]), [*id], "so is one that fails, {leader} leads");
    }
}

#[test]
fn members_of_ours() {
    each_tells_of_its_own(&[Rookeeper; 3]);
}

#[test]
fn a_member_of_the_original_tells_of_the_same() {
    each_tells_of_its_own(&[Rookeeper, Apache, Rookeeper]);
}
