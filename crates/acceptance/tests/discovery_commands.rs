//! `rookeeper register` and `rookeeper discover`: an instance is there while its command runs, comes back after its session, and is found by Java programs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::{Duration, Instant};

use rookeeper_acceptance::client::Client;
use rookeeper_acceptance::foreign::{Dialogue, Output, curator_program, output};
use rookeeper_acceptance::server::{Server, Setup, rookeeper_binary};
use rustix::process::Signal;

const DEADLINE: Duration = Duration::from_secs(60);

fn server() -> Server {
    Setup::new().config("tickTime", "200").config("maxSessionTimeout", "60000").start().unwrap()
}

fn command(server: &Server, subcommand: &str, options: &[&str]) -> Command {
    let mut command = Command::new(rookeeper_binary().unwrap());
    command.args([subcommand, "--server", &server.address().to_string()]).args(options);
    command
}

fn register(server: &Server, options: &[&str]) -> Dialogue {
    Dialogue::of("rookeeper register", command(server, "register", options)).unwrap()
}

fn discover(server: &Server, options: &[&str]) -> Output {
    output(command(server, "discover", options), "").unwrap()
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "did not happen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_instance_is_there_while_its_command_runs() {
    let server = server();
    let script = r#"echo "$ROOKEEPER_SERVICE $ROOKEEPER_INSTANCE"; read line; exit 7"#;
    let mut running = register(
        &server,
        &["web", "10.0.0.7:8080", "--id", "one", "--payload", r#""rack 4""#, "--", "sh", "-c", script],
    );
    assert_eq!(running.answer().unwrap(), "web one");
    let listed = discover(&server, &["web"]);
    assert_eq!((listed.stdout.as_str(), listed.code), ("10.0.0.7:8080\tone\t\"rack 4\"\n", Some(0)));
    assert_eq!(discover(&server, &[]).stdout, "web\n");
    running.tell("go").unwrap();
    assert_eq!(running.end().unwrap(), Some(7));
    // Gone at once, and not when the session expires.
    assert_eq!(discover(&server, &["web"]).stdout, "");
}

#[test]
fn without_a_command_it_is_there_until_a_signal_comes() {
    let server = server();
    let mut registered = register(&server, &["web", "[::1]:80", "--id", "one"]);
    assert_eq!(registered.answer().unwrap(), "/services/web/one");
    assert_eq!(discover(&server, &["web"]).stdout, "[::1]:80\tone\t\n");
    registered.signal(Signal::TERM).unwrap();
    assert_eq!(registered.end().unwrap(), Some(128 + 15));
    assert_eq!(discover(&server, &["web"]).stdout, "");
    // The command gets the signal, and decides.
    let mut running = register(
        &server,
        &["web", "h", "--", "sh", "-c", "trap 'exit 9' TERM; echo runs; while :; do sleep 0.01; done"],
    );
    assert_eq!(running.answer().unwrap(), "runs");
    running.signal(Signal::TERM).unwrap();
    assert_eq!(running.end().unwrap(), Some(9));
}

/// A registration that was killed goes with its session; one that was frozen past it comes back.
#[test]
fn killed_it_goes_and_frozen_it_comes_back() {
    let server = server();
    let mut watch = Dialogue::of("rookeeper discover", command(&server, "discover", &["web", "--watch"])).unwrap();
    let start = || register(&server, &["web", "h:1", "--id", "one", "--session-timeout", "600"]);
    let mut registered = start();
    assert_eq!(watch.answer().unwrap(), "up\th:1\tone\t");
    registered.kill().unwrap();
    assert_eq!(watch.answer().unwrap(), "down\th:1\tone\t");
    let registered = start();
    assert_eq!(watch.answer().unwrap(), "up\th:1\tone\t");
    registered.signal(Signal::STOP).unwrap();
    assert_eq!(watch.answer().unwrap(), "down\th:1\tone\t");
    registered.signal(Signal::CONT).unwrap();
    assert_eq!(watch.answer().unwrap(), "up\th:1\tone\t");
    // The watch too goes on behind a server that was away.
    watch.signal(Signal::INT).unwrap();
    assert_eq!(watch.end().unwrap(), Some(128 + 2));
}

#[test]
fn a_server_that_comes_again_changes_nothing() {
    let mut server = server();
    let mut registered = register(&server, &["web", "h:1", "--id", "one"]);
    registered.answer().unwrap();
    let mut watch = Dialogue::of("rookeeper discover", command(&server, "discover", &["web", "--watch"])).unwrap();
    assert_eq!(watch.answer().unwrap(), "up\th:1\tone\t");
    server.kill().unwrap();
    server.restart().unwrap();
    let mut other = register(&server, &["web", "h:2", "--id", "two"]);
    other.answer().unwrap();
    assert_eq!(watch.answer().unwrap(), "up\th:2\ttwo\t");
    assert_eq!(discover(&server, &["web"]).stdout.lines().count(), 2);
}

#[test]
fn all_that_can_be_said_of_an_instance() {
    let server = server();
    let options = [
        "web",
        "h:80",
        "--base",
        "/app/services",
        "--id",
        "one",
        "--ssl-port",
        "443",
        "--uri",
        "{scheme}://{address}",
        "--payload",
        r#"{"rack":4}"#,
        "--type",
        "permanent",
        "--",
        "true",
    ];
    assert_eq!(register(&server, &options).end().unwrap(), Some(0));
    let mut client = Client::connect(server.address()).unwrap();
    let content = String::from_utf8(client.get_data("/app/services/web/one").unwrap().0.unwrap()).unwrap();
    let listed = discover(&server, &["web", "--base", "/app/services", "--json"]);
    assert_eq!(listed.stdout, format!("{content}\n"), "it is permanent, and shown as it is");
    let object: serde_json::Value = serde_json::from_str(&content).unwrap();
    assert_eq!((&object["sslPort"], &object["payload"]["rack"]), (&443.into(), &4.into()));
    assert_eq!(object["uriSpec"]["parts"][0], serde_json::json!({"value": "scheme", "variable": true}));
    // An operator says that it is not to be used, and leaves something odd beside it.
    let disabled = content.replace(r#"{"name""#, r#"{"enabled":false,"name""#);
    client.set_data("/app/services/web/one", disabled.as_bytes(), -1).unwrap();
    client.create("/app/services/web/odd", b"text").unwrap();
    let listed = discover(&server, &["web", "--base", "/app/services"]);
    assert_eq!((listed.stdout.as_str(), listed.stderr.contains("/app/services/web/odd is no instance")), ("", true));
    assert_eq!(discover(&server, &["web", "--base", "/app/services", "--all"]).stdout, "h:80\tone\t{\"rack\":4}\n");
}

/// `rookeeper discover NAME --watch | head -1` ends, although nothing else happens.
#[test]
fn a_closed_pipe_ends_the_watch() {
    let server = server();
    let mut ours = register(&server, &["web", "10.0.0.7:80", "--id", "ours"]);
    ours.answer().unwrap();
    let mut command = Command::new("bash");
    let binary = rookeeper_binary().unwrap();
    let line = format!(
        "{} discover web --watch --server {} | head -1; echo ${{PIPESTATUS[0]}}",
        binary.display(),
        server.address()
    );
    command.args(["-c", &line]);
    let mut piped = Dialogue::of("a pipe", command).unwrap();
    assert_eq!(piped.answer().unwrap(), "up\t10.0.0.7:80\tours\t");
    assert_eq!(piped.answer().unwrap(), "0");
}

#[test]
fn with_curator() {
    let server = server();
    let mut curator =
        Dialogue::start("Curator", curator_program("Directory.java").unwrap(), &server.address().to_string()).unwrap();
    let mut ours = register(
        &server,
        &["web", "10.0.0.7:80", "--id", "ours", "--payload", "\"a shell\"", "--session-timeout", "600"],
    );
    ours.answer().unwrap();
    assert_eq!(curator.ask("register web theirs 81 DYNAMIC").unwrap(), "registered");
    let both = "ours|10.0.0.7|80|a shell|DYNAMIC theirs|10.0.0.1|81|Curator|DYNAMIC";
    wait("Curator sees both", || curator.ask("discover web").unwrap() == both);
    assert_eq!(
        discover(&server, &["web"]).stdout,
        "10.0.0.7:80\tours\t\"a shell\"\n10.0.0.1:81\ttheirs\t\"Curator\"\n"
    );
    ours.kill().unwrap();
    wait("ours has gone", || !curator.ask("discover web").unwrap().contains("ours"));
    curator.kill().unwrap();
    wait("theirs has gone", || discover(&server, &["web"]).stdout.is_empty());
}

#[test]
fn what_cannot_be() {
    let server = server();
    for (code, options) in [
        (2, &["web", "host:port"][..]),
        (2, &["web", "h:1", "--payload", "text"]),
        (2, &["web", "h:1", "--uri", "{"]),
        (1, &["a/b", "h:1"]),
        (127, &["web", "h:1", "--", "/no/such/program"]),
        (126, &["web", "h:1", "--", "/etc/passwd"]),
    ] {
        assert_eq!(register(&server, options).end().unwrap(), Some(code), "{options:?}");
    }
    assert_eq!(discover(&server, &["web"]).stdout, "");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for arguments in [&["register", "web", "h"][..], &["discover", "web"]] {
        let mut command = Command::new(rookeeper_binary().unwrap());
        command.args(arguments).args(["--server", &closed]);
        assert_eq!(output(command, "").unwrap().code, Some(69));
    }
    // Taken out of service by hand.
    let mut registered = register(&server, &["web", "h", "--id", "one"]);
    registered.answer().unwrap();
    Client::connect(server.address()).unwrap().delete("/services/web/one").unwrap();
    assert_eq!(registered.end().unwrap(), Some(70));
}
