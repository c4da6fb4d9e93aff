//! What no well-behaved client sends: broken frames, records and paths, unknown requests, sessions that are not one's own. The
//! answer is the documented error or a closed connection, and the server goes on as before.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::Result;
use rookeeper_acceptance::client::{Client, Session, create_body, open, receive_frame, refusal, send_frame};
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::server::{Product, Server, Setup};
use rookeeper_acceptance::wire::{self, Acl, Body, Fields};
use rustix::process::Signal;

const MARSHALLING_ERROR: i32 = -5;
const UNIMPLEMENTED: i32 = -6;
const BAD_ARGUMENTS: i32 = -8;
/// The default of jute.maxbuffer.
const LONGEST_FRAME: usize = 0xf_ffff;
/// Nothing a client says makes the server take more than this.
const MOST_MEMORY_KIB: u64 = 200 << 10;

fn start() -> Server {
    Setup::new().property("-Dzookeeper.extendedTypesEnabled=true").start().expect("the server starts")
}

/// The server is there, takes writes, and did not have to take much memory.
fn assert_healthy(server: &Server) {
    let mut client = Client::connect(server.address()).expect("a new session");
    let path = client.create_with("/healthy-", Some(b""), &Acl::open(), 3).expect("a write");
    assert!(client.exists(&path).expect("a read").is_some());
    client.close().expect("an orderly end");
    let status = format!("/proc/{}/status", server.process_id().expect("the server runs"));
    let status = fs::read_to_string(status).expect("the kernel knows the process");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let peak: u64 = peak.expect("the kernel counts memory").trim().parse().expect("a number");
    assert!(Product::under_test() == Product::Apache || peak < MOST_MEMORY_KIB, "{peak} KiB were taken");
}

#[test]
fn frames_of_impossible_length() {
    let server = start();
    for length in [-1, i32::MIN, i32::MAX, LONGEST_FRAME as i32 + 1, 0] {
        let mut stream = open(server.address()).expect("a connection");
        stream.write_all(&length.to_be_bytes()).expect("four bytes");
        assert_eq!(receive_frame(&mut stream).expect("the end"), None, "length {length} before the handshake");

        let client = Client::connect(server.address()).expect("a session");
        let mut stream = client.stream().expect("the same connection");
        stream.write_all(&length.to_be_bytes()).expect("four bytes");
        assert_eq!(receive_frame(&mut stream).expect("the end"), None, "length {length} in a session");
        let resumed = Client::resume(server.address(), &client.session).expect("an answer");
        assert_eq!(resumed.session.id, client.session.id, "the session outlives its connection");
    }
    // A frame too short for its header.
    let client = Client::connect(server.address()).expect("a session");
    let mut stream = client.stream().expect("the same connection");
    send_frame(&mut stream, &[0; 7]).expect("a frame");
    assert_eq!(receive_frame(&mut stream).expect("the end"), None);
    assert_healthy(&server);
}

#[test]
fn the_longest_frame_is_accepted() {
    let server = start();
    let mut client = Client::connect(server.address()).expect("a session");
    client.create("/long", b"").expect("a node");
    let overhead = 8 + Body::new().string("/long").buffer(Some(b"")).int(-1).0.len();
    let data = vec![b'x'; LONGEST_FRAME - overhead];
    client.set_data("/long", &data, -1).expect("a frame of the greatest length");
    assert_eq!(client.get_data("/long").expect("it can be read").0, Some(data));
    let too_long = vec![b'x'; LONGEST_FRAME - overhead + 1];
    assert!(client.set_data("/long", &too_long, -1).is_err(), "one byte more");
    assert_healthy(&server);
}

#[test]
fn random_bytes() {
    // The server notices later than we do that a connection is gone.
    let server = Setup::new().config("maxClientCnxns", "0").start().expect("the server starts");
    let mut random = Random::from_environment("random_bytes");
    for _ in 0..300 {
        let bytes: Vec<u8> = (0..random.below(200)).map(|_| random.number() as u8).collect();
        let mut stream = open(server.address()).expect("a connection");
        // The server may close before it has read everything.
        let _ = stream.write_all(&bytes);
    }
    for _ in 0..300 {
        let mut client = Client::connect(server.address()).expect("a session");
        let opcode = random.below(130) as i32 - 15;
        let body: Vec<u8> = (0..random.below(100)).map(|_| random.below(40) as u8).collect();
        client.send(opcode, &Body(body)).expect("a frame");
        // Any answer will do, or none. Sessions must stay whole, so the end is not waited for where there is an answer.
        client.receive_any().expect("an answer or the end");
    }
    assert_healthy(&server);
}

#[test]
fn records_that_lie_about_their_length() {
    let server = start();
    let mut client = Client::connect(server.address()).expect("a session");
    let mut expect_refusal = |opcode: i32, body: Body, what: &str| {
        let reply = client.call(opcode, &body).unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert_eq!(reply.error, MARSHALLING_ERROR, "{what}");
    };
    for length in [i32::MAX, 1 << 30, -2, i32::MIN, 1000] {
        expect_refusal(wire::GET_DATA, Body::new().int(length), "a path");
        expect_refusal(wire::CREATE, Body::new().string("/a").int(length), "data");
        expect_refusal(wire::MULTI, Body::new().int(wire::CREATE).bool(false).int(-1).int(length), "a path in a multi");
    }
    for count in [i32::MAX, 1 << 28, 1000] {
        expect_refusal(wire::CREATE, Body::new().string("/a").buffer(None).int(count), "a list of ACLs");
        expect_refusal(101, Body::new().long(0).int(count), "a list of watches");
    }
    client.close().expect("the session is as good as before");
    assert_healthy(&server);
}

#[test]
fn paths_that_cannot_be() {
    let server = start();
    let mut client = Client::connect(server.address()).expect("a session");
    let bad: [&[u8]; 14] = [
        b"",
        b"relative",
        b"//",
        b"/a//b",
        b"/a/",
        b"/.",
        b"/a/./b",
        b"/..",
        b"/a/../b",
        b"/nul\0",
        b"/control\x01",
        b"/\x7f",
        b"/broken\xff\xfe",
        b"/surrogate\xed\xa0\x80",
    ];
    client.create("/a", b"").expect("the parent of some");
    for path in bad {
        let shown = String::from_utf8_lossy(path);
        let body = Body::new().buffer(Some(path)).buffer(Some(b"")).acls(&Acl::open()).int(0);
        let reply = client.call(wire::CREATE, &body).expect("an answer");
        // A missing parent is noticed before an impossible name.
        assert!([BAD_ARGUMENTS, wire::NO_NODE].contains(&reply.error), "{shown:?}: {}", reply.error);
        let reply =
            client.call(wire::SET_DATA, &Body::new().buffer(Some(path)).buffer(None).int(-1)).expect("an answer");
        assert_eq!(reply.error, BAD_ARGUMENTS, "{shown:?}");
    }
    for path in ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
        assert_eq!(refusal(&client.delete(path)), Some(BAD_ARGUMENTS), "{path} must stay");
    }
    assert_eq!(client.children("/").expect("the root"), ["a", "zookeeper"]);
    assert_healthy(&server);
}

#[test]
fn impossible_create_modes() {
    let mut server = start();
    let mut client = Client::connect(server.address()).expect("a session");
    for flags in [-1, 7, 100, i32::MAX] {
        let reply = client.call(wire::CREATE, &create_body("/x", None, &Acl::open(), flags)).expect("an answer");
        assert_eq!(reply.error, BAD_ARGUMENTS, "flags {flags}");
    }
    for (flags, ttl_ms) in [(5, 0), (5, -1), (5, 1 << 40), (6, i64::MAX), (0, 5), (0, -1), (1, -1), (4, i64::MIN)] {
        let body = create_body("/x", None, &Acl::open(), flags).long(ttl_ms);
        let reply = client.call(wire::CREATE_TTL, &body).expect("an answer");
        assert_eq!(reply.error, BAD_ARGUMENTS, "flags {flags}, ttl {ttl_ms}");
    }
    server.restart().expect("the log holds nothing that the server cannot read");
    assert_healthy(&server);
}

/// Requests that only servers make, or nobody.
#[test]
fn unknown_requests() {
    let server = start();
    let mut witness = Client::connect(server.address()).expect("a session");
    witness.create("/empty", b"").expect("a node");
    for opcode in
        [0, 10, wire::CHECK, 23, 99, 108, 1000, -1, -2, i32::MAX, wire::CREATE_SESSION, wire::DELETE_CONTAINER]
    {
        let mut client = Client::connect(server.address()).expect("a session");
        let reply = client.call(opcode, &Body::new().string("/empty")).expect("an answer");
        assert_eq!((reply.error, reply.zxid, reply.body.len()), (UNIMPLEMENTED, -1, 0), "opcode {opcode}");
        assert!(client.at_end().expect("the end"), "opcode {opcode}: the connection is closed");
        let resumed = Client::resume(server.address(), &client.session).expect("an answer");
        assert_eq!(resumed.session.id, client.session.id, "opcode {opcode}: the session stays");
    }
    assert!(witness.exists("/empty").expect("an answer").is_some());
    assert_healthy(&server);
}

fn assert_refused(client: &mut Client) -> Result<()> {
    assert_eq!(client.session, Session { id: 0, password: vec![0; 16], timeout_ms: 0 });
    assert!(client.at_end()?, "the connection is closed");
    Ok(())
}

/// A stranger with a wrong password gets nothing, and does not even disturb the owner.
#[test]
fn wrong_password() {
    let server = start();
    let mut owner = Client::connect(server.address()).expect("a session");
    owner.create_with("/owned", Some(b""), &Acl::open(), 1).expect("an ephemeral node");
    for password in [vec![0; 16], vec![], vec![1; 15], owner.session.password.iter().rev().copied().collect()] {
        let session = Session { password, ..owner.session.clone() };
        let mut stranger = Client::resume(server.address(), &session).expect("an answer");
        assert_refused(&mut stranger).expect("the end");
    }
    assert!(owner.exists("/owned").expect("the connection is as before").is_some());
    let unknown = Session { id: owner.session.id + 1000, ..owner.session.clone() };
    let mut stranger = Client::resume(server.address(), &unknown).expect("an answer");
    assert_refused(&mut stranger).expect("the end");
    assert_healthy(&server);
}

#[test]
fn expired_session() {
    let server = Setup::new().config("tickTime", "100").start().expect("the server starts");
    let mut witness = Client::connect_with(server.address(), 2_000, None, 0).expect("a session");
    let mut mortal = Client::connect_with(server.address(), 1, None, 0).expect("a session");
    assert_eq!(mortal.session.timeout_ms, 200, "twice the tick is the least");
    mortal.create_with("/mortal", Some(b""), &Acl::open(), 1).expect("an ephemeral node");
    let session = mortal.session.clone();
    assert!(mortal.at_end().expect("the end"), "the connection of an expired session is closed");
    while witness.exists("/mortal").expect("an answer").is_some() {
        // Each question keeps the witness alive.
    }
    let mut late = Client::resume(server.address(), &session).expect("an answer");
    assert_refused(&mut late).expect("the end");
}

#[test]
fn client_that_has_seen_the_future() {
    let server = start();
    let ahead = Client::connect_with(server.address(), 10_000, None, i64::MAX);
    assert!(ahead.is_err(), "a client that is ahead of the server must go elsewhere");
    assert_healthy(&server);
}

#[test]
fn too_many_connections_from_one_address() {
    let server = Setup::new().config("maxClientCnxns", "3").start().expect("the server starts");
    let clients: Vec<Client> = (0..3).map(|_| Client::connect(server.address()).expect("a session")).collect();
    assert!(Client::connect(server.address()).is_err(), "the fourth connection");
    let gone = clients.into_iter().next().expect("there are three");
    gone.close().expect("an orderly end");
    connect_patiently(&server);
}

/// A client that has said its ConnectRequest while the server looks elsewhere, so that the server refuses it with the request unread.
fn client_with_an_unread_request(server: &Server) -> TcpStream {
    server.signal(Signal::STOP).expect("it runs");
    let mut stream = open(server.address()).expect("the kernel takes the connection");
    let request = Body::new().int(0).long(0).int(10_000).long(0).buffer(Some(&[0; 16])).bool(false);
    send_frame(&mut stream, &request.0).expect("and the request");
    server.signal(Signal::CONT).expect("it is there");
    stream
}

#[test]
fn whoever_is_refused_a_place_sees_the_end_and_no_reset() {
    for key in ["maxClientCnxns", "maxCnxns"] {
        let server = Setup::new().config(key, "1").start().expect("the server starts");
        let _first = connect_patiently(&server);
        let mut refused = client_with_an_unread_request(&server);
        let end = refused.read(&mut [0; 1]);
        assert_eq!(end.expect("an end in order"), 0, "{key}");
        server.wait_log(&format!("max is 1 ({key})")).expect("it was refused for this");
    }
}

/// The server notices the end of a connection before it a moment after its client does.
fn connect_patiently(server: &Server) -> Client {
    let mut client = Client::connect(server.address());
    for _ in 0..1000 {
        if client.is_ok() {
            break;
        }
        client = Client::connect(server.address());
    }
    client.expect("there is room")
}

#[test]
fn wrong_credentials() {
    let server = start();
    let mut client = Client::connect(server.address()).expect("a session");
    let reply = client.call(wire::AUTH, &Body::new().int(0).string("nope").string("x:y")).expect("an answer");
    assert_eq!(reply.error, -115, "an unknown scheme");
    assert!(client.at_end().expect("the end"));
    let mut client = Client::connect(server.address()).expect("a session");
    client.authenticate("digest", "bob:secret").expect("anybody may be bob");
    client.create_with("/bobs", Some(b""), &[Acl::new(31, "auth", "")], 0).expect("a node of bob's");
    let mut mallory = Client::connect(server.address()).expect("a session");
    mallory.authenticate("digest", "bob:guess").expect("a digest of something else");
    assert_eq!(refusal(&mallory.get_data("/bobs")), Some(wire::NO_AUTH));
    assert_eq!(refusal(&mallory.set_data("/bobs", b"", -1)), Some(wire::NO_AUTH));
    let who = mallory.call(wire::WHO_AM_I, &Body::new()).expect("an answer");
    assert_eq!(Fields(&who.body).int().expect("a count"), 2, "ip and digest");
}
