//! SASL with passwords on the client port: clients that we did not write come in, and those who should not do not.
//!
//! With `ROOKEEPER_ACCEPTANCE_SERVER=apache` the same tests say what the original does.

use std::fs;

use rookeeper_acceptance::client::{Client, refusal};
use rookeeper_acceptance::foreign::{self, output, python, run};
use rookeeper_acceptance::server::{Product, Server, Setup};
use rookeeper_acceptance::wire::{self, Acl, Body};
use tempfile::TempDir;

const SASL: i32 = 102;
const AUTH_FAILED: i32 = -115;
const SESSION_CLOSED_REQUIRE_SASL_AUTH: i32 = -124;
const NULL_TOKEN: [u8; 4] = [0xff; 4];

const JAAS: &str = "Server {\n    org.apache.zookeeper.server.auth.DigestLoginModule required\n    user_super=\"fromthefile\"\n    \
                    user_boss=\"bosssecret\"\n    user_ann=\"pässwörd\"\n    user_jim=\"jimsecret\"\n    user_bob=\"bobsecret\";\n};\n";

/// A whole answer to a challenge of long ago.
const REPLAYED: &str = "charset=utf-8,username=\"bob\",realm=\"zk-sasl-md5\",nonce=\"/hAjfwc2zlGxZKXD5NhWJi99XdZY+uKUABENgicM\",\
                        nc=00000001,cnonce=\"Y25vbmNlLWZpeGVk\",digest-uri=\"zookeeper/zk-sasl-md5\",maxbuf=65536,\
                        response=524f38eed78807606605c7ff85219f87,qop=auth";

struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Files {
        Files { dir: tempfile::tempdir().expect("a directory") }
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("a file");
        path.to_str().expect("a path in UTF-8").to_owned()
    }
}

fn setup(files: &Files) -> Setup {
    Setup::new()
        .property(&format!("-Djava.security.auth.login.config={}", files.write("server.jaas", JAAS)))
        .property("-Dzookeeper.authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider")
        .property("-Dzookeeper.SASLAuthenticationProvider.superPassword=adminsecret")
        .property("-Dzookeeper.superUser=boss")
        .property("-Dzookeeper.fips-mode=false")
        .config("4lw.commands.whitelist", "*")
}

fn start(files: &Files) -> Server {
    setup(files).start().expect("the server starts")
}

fn token(text: &str) -> Body {
    Body::new().buffer(Some(text.as_bytes()))
}

/// A connection that has its challenge.
fn challenged(server: &Server) -> (Client, String) {
    let mut client = Client::connect(server.address()).expect("a session");
    let reply = client.call(SASL, &token("")).expect("an answer").ok().expect("a challenge");
    assert_eq!(reply.zxid, 0);
    let challenge = String::from_utf8(reply.body[4..].to_vec()).expect("text");
    (client, challenge)
}

fn nonce(challenge: &str) -> &str {
    challenge.split('"').nth(3).expect("the nonce is the second value in quotes")
}

#[test]
fn kazoo() {
    let files = Files::new();
    let mut server = start(&files);
    run(python("sasl.py").expect("kazoo is installed"), &mut server).unwrap_or_else(|error| panic!("{error:#}"));
}

fn zk_cli(files: &Files, server: &Server, user: &str, password: &str, command: &[&str]) -> foreign::Output {
    let jaas = format!(
        "Client {{\n  org.apache.zookeeper.server.auth.DigestLoginModule required\n  username=\"{user}\" password=\"{password}\";\n}};\n"
    );
    let file = files.write(&format!("{user}.jaas"), &jaas);
    let mut shell = foreign::zk_cli().expect("the jars are installed");
    shell.env("JDK_JAVA_OPTIONS", format!("-Djava.security.auth.login.config={file} -Dzookeeper.fips-mode=false"));
    shell.args(["-server", &server.address().to_string()]).args(command);
    output(shell, "").expect("the shell ends")
}

#[test]
fn java_client() {
    let files = Files::new();
    let server = start(&files);
    let made = zk_cli(&files, &server, "bob", "bobsecret", &["create", "/of-bob", "his", "sasl:bob:cdrwa"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let read = zk_cli(&files, &server, "bob", "bobsecret", &["get", "/of-bob"]);
    assert!(read.stdout.contains("his"), "{read:?}");
    let others = zk_cli(&files, &server, "ann", "pässwörd", &["get", "/of-bob"]);
    assert!(others.code == Some(1) && !(others.stdout.clone() + &others.stderr).contains("AuthFailed"), "{others:?}");
    let wrong = zk_cli(&files, &server, "bob", "wrong", &["get", "/of-bob"]);
    assert!(wrong.code != Some(0) && !wrong.stdout.contains("his"), "{wrong:?}");
    let who = zk_cli(&files, &server, "boss", "bosssecret", &["whoami"]);
    assert!(who.stdout.contains("sasl: boss") && who.stdout.contains("super"), "{who:?}");
}

#[test]
fn without_java_a_file_of_users_is_enough() {
    let files = Files::new();
    // printf %s bob:zk-sasl-md5:bobsecret | md5sum
    let users = files.write("users", "# who may come in\nbob:fff08f480333e7694a6455b4a1d5b656\n");
    if Product::under_test() == Product::Apache {
        return;
    }
    let server = Setup::new().config("sasl.users.file", &users).start().expect("the server starts");
    let made = zk_cli(&files, &server, "bob", "bobsecret", &["create", "/of-bob", "his", "sasl:bob:cdrwa"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let mut stranger = Client::connect(server.address()).expect("a session");
    assert_eq!(refusal(&stranger.get_data("/of-bob")), Some(wire::NO_AUTH));
}

/// Each is answered with AuthFailed and a null token, then the connection ends; the session and everybody else live on.
#[test]
fn whoever_fails_is_refused_and_disturbs_nobody() {
    let files = Files::new();
    let server = start(&files);
    let mut bystander = Client::connect(server.address()).expect("a session");
    bystander.create("/there", b"").expect("a node");

    // A valid answer to an old challenge, and answers to this one that lack the password or mean something else.
    let guesses: &[(&str, &str)] = &[
        ("/hAjfwc2zlGxZKXD5NhWJi99XdZY+uKUABENgicM", "/hAjfwc2zlGxZKXD5NhWJi99XdZY+uKUABENgicM"),
        ("", ""),
        ("realm=\"zk-sasl-md5\"", "realm=\"EXAMPLE.COM\""),
        ("\"bob\"", "\"nobody\""),
        ("nc=00000001", "nc=00000002"),
        ("digest-uri=\"zookeeper/zk-sasl-md5\"", "digest-uri=\"hdfs/host\""),
        ("qop=auth", "qop=auth-conf,cipher=3des"),
        ("response=524f38eed78807606605c7ff85219f87", "response="),
    ];
    for (number, (from, to)) in guesses.iter().enumerate() {
        let (mut client, challenge) = challenged(&server);
        let answer = match number {
            0 => REPLAYED.to_owned(),
            _ => REPLAYED.replace(nonce(REPLAYED_CHALLENGE), nonce(&challenge)).replacen(from, to, 1),
        };
        expect_refused(&mut client, &answer);
        let session = client.session.clone();
        Client::resume(server.address(), &session).expect("a connection").exists("/there").expect("its session lives");
    }
    for first in [&"x".repeat(5000), &"x".repeat(900_000)] {
        expect_refused(&mut Client::connect(server.address()).expect("a session"), first);
    }
    for second in ["", "\0\0\0\0", "username", "a=\"", &"a=b,".repeat(1000), &",".repeat(900_000), &"x".repeat(900_000)]
    {
        let (mut client, _) = challenged(&server);
        expect_refused(&mut client, second);
    }

    // No token at all.
    let mut client = Client::connect(server.address()).expect("a session");
    client.send(SASL, &Body::new().buffer(None)).expect("it is sent");
    assert!(client.at_end().expect("the end"));

    bystander.set_data("/there", b"x", -1).expect("others are served");
}

const REPLAYED_CHALLENGE: &str =
    "realm=\"zk-sasl-md5\",nonce=\"/hAjfwc2zlGxZKXD5NhWJi99XdZY+uKUABENgicM\",charset=utf-8,algorithm=md5-sess";

fn expect_refused(client: &mut Client, second: &str) {
    let reply = client.call(SASL, &token(second)).expect("an answer");
    let short: String = second.chars().take(80).collect();
    assert_eq!((reply.zxid, reply.error, reply.body.as_slice()), (0, AUTH_FAILED, &NULL_TOKEN[..]), "{short}");
    assert!(client.at_end().expect("the end"), "{short}");
}

#[test]
fn every_exchange_has_a_nonce_of_its_own() {
    let files = Files::new();
    let server = start(&files);
    let nonces: std::collections::BTreeSet<String> =
        (0..50).map(|_| nonce(&challenged(&server).1).to_owned()).collect();
    assert_eq!(nonces.len(), 50);
    assert!(nonces.iter().all(|nonce| nonce.len() == 40), "{nonces:?}");
}

#[test]
fn where_failing_is_allowed_the_steps_have_no_end_but_no_effect() {
    let files = Files::new();
    let server = setup(&files).property("-Dzookeeper.allowSaslFailedClients=true").start().expect("the server starts");
    let (mut client, _) = challenged(&server);
    for _ in 0..2000 {
        let reply = client.call(SASL, &token(REPLAYED)).expect("an answer").ok().expect("no refusal");
        assert_eq!(reply.body, NULL_TOKEN);
    }
    client.create("/open", b"").expect("it goes on without an identity");
    let only_bob = [Acl::new(31, "sasl", "bob")];
    client.create_with("/of-bob", Some(b""), &only_bob, 0).expect("a node");
    assert_eq!(refusal(&client.get_data("/of-bob")), Some(wire::NO_AUTH));
}

#[test]
fn where_sasl_is_required_nobody_does_anything_without() {
    let files = Files::new();
    let required = || setup(&files).property("-Dzookeeper.sessionRequireClientSASLAuth=true");
    // The tools of the tests ask with four-letter words, which need no authentication.
    let server = required().start().expect("the server starts");
    let mut stranger = Client::connect(server.address()).expect("a session");
    let refused = stranger.call(wire::EXISTS, &Body::new().string("/").bool(false)).expect("an answer");
    assert_eq!((refused.zxid, refused.error), (0, SESSION_CLOSED_REQUIRE_SASL_AUTH));
    assert!(stranger.at_end().expect("the end"));
    let mut digest = Client::connect(server.address()).expect("a session");
    digest.authenticate("digest", "bob:bobsecret").expect("it is taken");
    let refused = digest.call(wire::EXISTS, &Body::new().string("/").bool(false)).expect("an answer");
    assert_eq!(refused.error, SESSION_CLOSED_REQUIRE_SASL_AUTH);
    let (mut failing, _) = challenged(&server);
    let refused = failing.call(SASL, &token(REPLAYED)).expect("an answer");
    assert_eq!((refused.error, refused.body.as_slice()), (SESSION_CLOSED_REQUIRE_SASL_AUTH, &NULL_TOKEN[..]));
    assert!(failing.at_end().expect("the end"));
    let made = zk_cli(&files, &server, "bob", "bobsecret", &["create", "/b", "x"]);
    assert_eq!(made.code, Some(0), "{made:?}");
}

#[test]
fn passwords_are_in_no_log() {
    if Product::under_test() == Product::Apache {
        return;
    }
    let files = Files::new();
    let mut server = start(&files);
    let read = zk_cli(&files, &server, "bob", "bobsecret", &["ls", "/"]);
    assert_eq!(read.code, Some(0), "{read:?}");
    server.terminate().expect("it ends");
    let log = server.log();
    for secret in ["bobsecret", "adminsecret", "fromthefile", "bosssecret", "fff08f480333e7694a6455b4a1d5b656"] {
        assert!(!log.contains(secret), "{log}");
    }
}
