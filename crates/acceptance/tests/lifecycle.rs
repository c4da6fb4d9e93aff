//! Start, orderly end, and what survives: SIGTERM leaves sessions and their nodes for the next start, as the original does.

use rookeeper_acceptance::client::{Client, server_zxid};
use rookeeper_acceptance::server::{Product, Setup};
use rookeeper_acceptance::tree;
use rookeeper_acceptance::wire::Acl;

#[test]
fn orderly_end_and_return() {
    let mut server = Setup::new().start().expect("the server starts");
    let mut client = Client::connect(server.address()).expect("a session");
    client.create("/persistent", b"stays").expect("a node");
    client.create_with("/ephemeral", Some(b""), &Acl::open(), 1).expect("an ephemeral node");
    let before = tree::fetch(&mut client).expect("the tree");
    let zxid = server_zxid(server.address()).expect("a zxid");

    let status = server.terminate().expect("the server ends");
    assert!(Product::under_test() == Product::Apache || status.success(), "SIGTERM ends the server with {status}");
    assert!(client.at_end().expect("the end"), "connections are closed");

    server.restart().expect("the server starts again");
    assert_eq!(server_zxid(server.address()).expect("a zxid"), zxid, "nothing was written at the end or at the start");
    let mut resumed = Client::resume(server.address(), &client.session).expect("an answer");
    assert_eq!(resumed.session.id, client.session.id, "the session is still there");
    assert_eq!(tree::fetch(&mut resumed).expect("the tree"), before);
    resumed.close().expect("an orderly end");
    let mut other = Client::connect(server.address()).expect("a session");
    assert_eq!(other.exists("/ephemeral").expect("an answer"), None);
    assert_ne!(other.session.id, client.session.id, "ids do not come back");
}

#[test]
fn first_screen_says_what_matters() {
    let mut server = Setup::new().start().expect("the server starts");
    Client::connect(server.address()).expect("a session").create("/a", b"").expect("a node");
    let zxid = server_zxid(server.address()).expect("a zxid");
    server.kill().expect("it can be killed");
    server.restart().expect("the server starts again");
    if Product::under_test() == Product::Rookeeper {
        // The log is written while clients are served already.
        let log = server.wait_log("serves clients on").expect("it says so");
        let expected = [
            env!("CARGO_PKG_VERSION").to_owned(),
            server.address().port().to_string(),
            server.data_dir().display().to_string(),
            format!("0x{zxid:x}"),
        ];
        for part in expected {
            assert!(log.contains(&part), "{part} is missing:\n{log}");
        }
    }
    let log = server.log().to_lowercase();
    assert!(!log.contains("error"), "{log}");
}

/// The timeout of a session that was open at the end goes on counting after the return.
#[test]
fn sessions_expire_after_a_restart() {
    let mut server = Setup::new().config("tickTime", "200").start().expect("the server starts");
    let mut client = Client::connect_with(server.address(), 400, None, 0).expect("a session");
    client.create_with("/e", Some(b""), &Acl::open(), 1).expect("an ephemeral node");
    server.kill().expect("it can be killed");
    server.restart().expect("the server starts again");
    let mut witness = Client::connect_with(server.address(), 4_000, None, 0).expect("a session");
    // Nobody resumes it, so it expires, by a transaction of the server that came back.
    while witness.exists("/e").expect("an answer").is_some() {
        // Each question keeps the witness alive.
    }
    let late = Client::resume(server.address(), &client.session).expect("an answer");
    assert_eq!(late.session.id, 0, "the session has expired");
}
