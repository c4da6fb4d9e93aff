//! The admin command `restore`: what is restored is what was saved, outlives every end of the server, and a refused snapshot changes nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use rookeeper_acceptance::client::{Client, DEADLINE, server_zxid};
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::fixture::data_directories;
use rookeeper_acceptance::server::{Product, Server, Setup, rookeeper_binary};
use rookeeper_acceptance::tree;
use rookeeper_acceptance::wire::Acl;

const SUPER: &str = "digest super:admin";

/// Without a limit for how often commands are answered.
fn setup() -> Setup {
    Setup::of(Product::Rookeeper)
        .config("admin.enableServer", "true")
        .config("admin.serverPort", "0")
        .config("admin.rateLimiterIntervalInMS", "0")
        .with_super_user()
}

/// Of the admin port of a server that has started once, or another time.
fn admin_address(server: &Server) -> SocketAddr {
    let tells = "answers admin commands at http://";
    let log = server.wait_log(tells).expect("the port is told");
    log.rsplit(tells).next().and_then(|rest| rest.split('/').next()).expect("an address").parse().expect("an address")
}

/// Status and body of the answer.
fn asked(address: SocketAddr, head: &str, authorization: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    let length = body.len();
    let head = format!(
        "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {authorization}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it is sent");
    // A refusal may come before all is sent.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let status = String::from_utf8_lossy(&answer[9..12]).parse().expect("a status");
    (status, answer.split_off(end))
}

fn snapshot(address: SocketAddr) -> Vec<u8> {
    let (status, bytes) = asked(address, "GET /commands/snapshot", SUPER, b"");
    assert_eq!(status, 200);
    bytes
}

fn restore(address: SocketAddr, snapshot: &[u8]) -> (u16, String) {
    let (status, body) = asked(address, "POST /commands/restore", SUPER, snapshot);
    (status, String::from_utf8(body).expect("text"))
}

/// Whatever is left of a snapshot that was received.
fn leftovers(server: &Server) -> Vec<String> {
    let entries = std::fs::read_dir(server.data_dir().join("version-2")).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with('.') && name != ".rookeeper.lock").collect()
}

/// The files lead to what is served, and a copy of all of them is sound.
fn backup(server: &Server) {
    let home = tempfile::tempdir().expect("a directory");
    let target = home.path().join("backup");
    let run = |arguments: &[&std::ffi::OsStr]| {
        let output = Command::new(rookeeper_binary().expect("the binary is built")).args(arguments).output();
        let output = output.expect("the command runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {text}");
        text
    };
    let data_dir = server.data_dir();
    let taken =
        run(&["backup".as_ref(), "--history".as_ref(), "--data-dir".as_ref(), data_dir.as_ref(), target.as_ref()]);
    let last = server_zxid(server.address()).expect("srvr");
    assert!(taken.contains(&format!("to 0x{last:x}")), "{taken}");
    run(&["verify".as_ref(), target.as_ref()]);
}

#[test]
fn what_is_restored_is_what_was_saved_and_outlives_the_server() {
    for product in [Product::Rookeeper, Product::Apache] {
        let mut server = setup().start().expect("the server starts");
        let mut client = Client::connect(server.address()).expect("a session");
        for number in 0..300 {
            client.create(&format!("/n{number}"), &vec![b'x'; number]).expect("a node");
        }
        client.set_data("/n7", b"seven", -1).expect("a change");
        let expected = tree::fetch(&mut client).expect("the tree");
        let address = admin_address(&server);
        let saved = snapshot(address);
        client.delete("/n1").expect("a change");
        client.create("/later", b"").expect("a node");
        let before = server_zxid(server.address()).expect("srvr");
        let (status, told) = restore(address, &saved);
        assert_eq!(status, 200, "{told}");
        assert!(told.contains(&format!("\"last_zxid\" : {}", before + 1)), "above {before}: {told}");
        assert!(client.at_end().expect("its connection ends"), "what its client knows is not so any more");
        let mut client = Client::connect(server.address()).expect("another session");
        assert_eq!(tree::differences(&expected, &tree::fetch(&mut client).expect("the tree")), Vec::<String>::new());
        // There is no log behind what was restored yet, and then there is.
        backup(&server);
        client.create("/after", b"kept").expect("a node");
        backup(&server);
        let expected = tree::fetch(&mut client).expect("the tree");
        // Without a word, and by another product.
        server.kill().expect("it runs");
        let data_dir = server.data_dir();
        let other = Setup::of(product).data_dir(&data_dir).start().expect("it starts from what was restored");
        let mut client = Client::connect(other.address()).expect("a session");
        assert_eq!(tree::differences(&expected, &tree::fetch(&mut client).expect("the tree")), Vec::<String>::new());
    }
}

#[test]
fn sessions_and_what_they_own_are_over() {
    let server = setup().start().expect("the server starts");
    let mut client = Client::connect(server.address()).expect("a session");
    client.create_with("/lock", Some(b""), &Acl::open(), 1).expect("a node");
    let address = admin_address(&server);
    let saved = snapshot(address);
    // The client gives up what it had, and would not know that it has it again.
    client.delete("/lock").expect("a change");
    let session = client.session;
    assert_eq!(restore(address, &saved).0, 200);
    let resumed = Client::resume(server.address(), &session).expect("an answer");
    assert_eq!((resumed.session.id, resumed.session.timeout_ms), (0, 0), "the session is over");
    let mut client = Client::connect(server.address()).expect("a session");
    assert_eq!(client.exists("/lock").expect("an answer"), None);
}

#[test]
fn a_damaged_snapshot_changes_nothing() {
    let server = setup().start().expect("the server starts");
    let mut client = Client::connect(server.address()).expect("a session");
    client.create("/saved", &[7; 500]).expect("a node");
    let address = admin_address(&server);
    let saved = snapshot(address);
    client.create("/kept", b"").expect("a node");
    let mut refused = 0;
    for at in (0..saved.len()).step_by(37) {
        let mut damaged = saved.clone();
        damaged[at] ^= 1 << (at % 8);
        let (status, told) = restore(address, &damaged);
        assert!(status == 500 && told.contains("The snapshot can't be restored: "), "byte {at}: {status} {told}");
        refused += 1;
    }
    for cut in [0, 1, saved.len() / 2, saved.len() - 1] {
        let (status, told) = restore(address, &saved[..cut]);
        assert!(status == 500 && told.contains("The snapshot can't be restored: "), "cut at {cut}: {status} {told}");
    }
    assert!(client.exists("/kept").expect("the session goes on").is_some() && refused > 20);
    assert_eq!(leftovers(&server), Vec::<String>::new());
    let (_, metrics) = asked(address, "GET /commands/monitor", SUPER, b"");
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    assert!(metrics.contains(&format!("\"restore_error_count\" : {}", refused + 4)), "{metrics}");
    // Sound, it is taken.
    assert_eq!(restore(address, &saved).0, 200);
    assert_eq!(leftovers(&server), Vec::<String>::new());
    let mut client = Client::connect(server.address()).expect("a session");
    assert!(
        client.exists("/saved").expect("an answer").is_some() && client.exists("/kept").expect("an answer").is_none()
    );
}

/// A recorded directory's newest snapshot.
fn recorded(name: &str, home: &Path) -> Vec<u8> {
    let mut all = data_directories().expect("the recordings are readable").into_iter();
    let directory = all.find(|directory| directory.name == name).expect("the directory is recorded");
    let version_dir = directory.unpack(home).expect("it unpacks").join("version-2");
    let names = std::fs::read_dir(&version_dir).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.starts_with("snapshot."));
    let zxid = |name: &String| {
        let digits = name.split('.').nth(1).unwrap_or_default().to_owned();
        i64::from_str_radix(&digits, 16).unwrap_or(-1)
    };
    std::fs::read(version_dir.join(names.max_by_key(zxid).expect("a snapshot"))).expect("a file")
}

#[test]
fn a_snapshot_of_no_one_moment_is_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let server = setup().start().expect("the server starts");
    let (status, told) = restore(admin_address(&server), &recorded("fuzzy-snapshot", home.path()));
    assert!(status == 500 && told.contains("it was written while the data changed, up to 0x"), "{status} {told}");
}

#[test]
fn whoever_may_not_or_comes_too_often_is_refused() {
    let server = setup().config("admin.rateLimiterIntervalInMS", "300000").start().expect("the server starts");
    let mut client = Client::connect(server.address()).expect("a session");
    client.set_acl("/", &[Acl::new(31, "digest", "bob:x"), Acl::new(1, "world", "anyone")]).expect("a change");
    let address = admin_address(&server);
    let saved = snapshot(address);
    assert_eq!(asked(address, "GET /commands/restore", SUPER, b"").0, 405);
    assert_eq!(asked(address, "POST /commands/rest", "digest bob:wrong", &saved).0, 403);
    assert_eq!(asked(address, "POST /commands/rest", "nothing", &saved).0, 401);
    // An attempt that fails counts.
    assert_eq!(restore(address, b"no snapshot").0, 500);
    assert_eq!(restore(address, &saved).0, 429);
    let server = setup().config("admin.restore.enabled", "false").start().expect("the server starts");
    let (status, told) = restore(admin_address(&server), &saved);
    assert!(status == 503 && told.contains("admin.restore.enabled"), "{told}");
}

#[test]
fn a_member_of_an_ensemble_says_what_to_do_instead() {
    let plan = Plan::under_test(3).config("admin.enableServer", "true").config("admin.serverPort", "0");
    let ensemble: Ensemble = plan.with_super_user().start().expect("the ensemble starts");
    let log = ensemble.log(1);
    let tells = "answers admin commands at http://";
    let address = log.rsplit(tells).next().and_then(|rest| rest.split('/').next()).expect("an address");
    let (status, told) = restore(address.parse().expect("an address"), b"x");
    assert!(status == 503 && told.contains("rookeeper restore"), "{status} {told}");
}
