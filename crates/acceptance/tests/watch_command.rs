//! `rookeeper watch`: each change as a line, or as a run of a command that is never doubled and has the newest state last.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rookeeper_acceptance::client::{Client, four_letter_word};
use rookeeper_acceptance::foreign::Dialogue;
use rookeeper_acceptance::server::{Server, Setup, rookeeper_binary};
use rustix::process::Signal;

const DEADLINE: Duration = Duration::from_secs(60);

fn scene() -> (Server, Client) {
    let server = Setup::new()
        .config("tickTime", "200")
        .config("maxSessionTimeout", "60000")
        .config("4lw.commands.whitelist", "*")
        .start()
        .unwrap();
    let client = Client::connect(server.address()).unwrap();
    (server, client)
}

fn watch(server: &Server, options: &[&str]) -> Dialogue {
    let mut command = Command::new(rookeeper_binary().unwrap());
    command.args(["watch", "--server", &server.address().to_string()]).args(options);
    Dialogue::of("rookeeper watch", command).unwrap()
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "did not happen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn each_change_is_a_line() {
    let (mut server, mut client) = scene();
    client.create("/app", b"one").unwrap();
    let mut watch = watch(&server, &["/app"]);
    assert_eq!(watch.answer().unwrap(), "exists\t/app\t0\tone");
    client.set_data("/app", b"two\nlines \x1b[31m", -1).unwrap();
    assert_eq!(watch.answer().unwrap(), "changed\t/app\t1\ttwo\\nlines \\u{1b}[31m");
    client.delete("/app").unwrap();
    assert_eq!(watch.answer().unwrap(), "deleted\t/app");
    client.create("/app", b"three").unwrap();
    assert_eq!(watch.answer().unwrap(), "created\t/app\t0\tthree");
    // A server that comes again, and what was changed behind the back of the watch.
    server.kill().unwrap();
    server.restart().unwrap();
    let mut client = Client::connect(server.address()).unwrap();
    client.set_data("/app", b"four", -1).unwrap();
    assert_eq!(watch.answer().unwrap(), "changed\t/app\t1\tfour");
    watch.signal(Signal::TERM).unwrap();
    assert_eq!(watch.end().unwrap(), Some(128 + 15));
}

#[test]
fn a_subtree_as_json() {
    let (server, mut client) = scene();
    client.create("/app", b"").unwrap();
    client.create("/app/a", b"1").unwrap();
    let mut watch = watch(&server, &["/app", "--recursive", "--json"]);
    let mut next = || -> serde_json::Value { serde_json::from_str(&watch.answer().unwrap()).unwrap() };
    let mut first = [next(), next()].map(|line| (line["change"].clone(), line["path"].clone()));
    first.sort_by_key(|(_, path)| path.to_string());
    assert_eq!(first, [("exists".into(), "/app".into()), ("exists".into(), "/app/a".into())]);
    client.create("/app/a/b", &[0xff]).unwrap();
    let line = next();
    assert_eq!(
        (&line["change"], &line["path"], &line["base64"]),
        (&"created".into(), &"/app/a/b".into(), &"/w==".into())
    );
    assert!(line["zxid"].as_str().unwrap().starts_with("0x"));
    client.delete("/app/a/b").unwrap();
    assert_eq!(next(), serde_json::json!({"change": "deleted", "path": "/app/a/b"}));
}

/// A session that is over is followed by another: the process was frozen for longer than it.
#[test]
fn a_frozen_watch_goes_on_where_it_was() {
    let (server, mut client) = scene();
    client.create("/app", b"one").unwrap();
    let mut watch = watch(&server, &["/app", "--session-timeout", "600"]);
    assert_eq!(watch.answer().unwrap(), "exists\t/app\t0\tone");
    watch.signal(Signal::STOP).unwrap();
    let sessions = || four_letter_word(server.address(), "mntr").unwrap().contains("zk_global_sessions\t1\n");
    wait("its session expires", sessions);
    client.set_data("/app", b"two", -1).unwrap();
    client.set_data("/app", b"three", -1).unwrap();
    watch.signal(Signal::CONT).unwrap();
    assert_eq!(watch.answer().unwrap(), "changed\t/app\t2\tthree");
}

#[test]
fn once_waits_for_what_is_not_known() {
    let (server, mut client) = scene();
    client.create("/app", b"one").unwrap();
    let mut first = watch(&server, &["/app", "--once", "--json"]);
    let line: serde_json::Value = serde_json::from_str(&first.answer().unwrap()).unwrap();
    assert_eq!(first.end().unwrap(), Some(0));
    let mut second = watch(&server, &["/app", "--once", "--after", line["zxid"].as_str().unwrap()]);
    let mut missing = watch(&server, &["/missing", "--once"]);
    client.set_data("/app", b"two", -1).unwrap();
    client.create("/missing", b"there").unwrap();
    assert!(second.answer().unwrap().ends_with("\t/app\t1\ttwo"));
    assert!(missing.answer().unwrap().ends_with("\t/missing\t0\tthere"));
    assert_eq!((second.end().unwrap(), missing.end().unwrap()), (Some(0), Some(0)));
}

/// The command has its content, runs alone, and runs at last with the newest state.
#[test]
fn a_command_runs_once_at_a_time_and_last_with_the_newest() {
    let (server, mut client) = scene();
    let home = tempfile::tempdir().unwrap();
    let runs = home.path().join("runs");
    client.create("/app", b"0").unwrap();
    let script = format!(
        r#"mkdir {0}/alone || {{ echo doubled >> {0}/runs; exit 1; }}
        sleep 0.02; echo "$ROOKEEPER_NODE $ROOKEEPER_CHANGE $ROOKEEPER_VERSION $(cat)" >> {0}/runs; rmdir {0}/alone; exit 3"#,
        home.path().display()
    );
    let mut watch = watch(&server, &["/app", "--", "sh", "-c", &script]);
    let read = || fs::read_to_string(&runs).unwrap_or_default();
    wait("the state that is there", || read().contains("/app exists 0 0\n"));
    for number in 1..=100 {
        client.set_data("/app", number.to_string().as_bytes(), -1).unwrap();
    }
    wait("the newest", || read().ends_with("/app changed 100 100\n"));
    let text = read();
    assert!(!text.contains("doubled"), "{text}");
    assert!(text.lines().count() < 100, "those in between may be left out: {text}");
    client.delete("/app").unwrap();
    wait("the deletion", || read().ends_with("/app deleted  \n"));
    watch.signal(Signal::INT).unwrap();
    assert_eq!(watch.end().unwrap(), Some(128 + 2));
}

#[test]
fn signals_and_exit_codes_of_commands() {
    let (server, mut client) = scene();
    client.create("/app", &vec![b'x'; 500_000]).unwrap();
    assert_eq!(watch(&server, &["/app", "--once", "--", "sh", "-c", "exit 7"]).end().unwrap(), Some(7));
    assert_eq!(watch(&server, &["/app", "--", "/no/such/program"]).end().unwrap(), Some(127));
    assert_eq!(watch(&server, &["/app", "--", "/etc/passwd"]).end().unwrap(), Some(126));
    // All of a large content arrives.
    let mut counting = watch(&server, &["/app", "--once", "--", "wc", "-c"]);
    assert_eq!(counting.answer().unwrap().trim(), "500000");
    assert_eq!(counting.end().unwrap(), Some(0));
    // The command gets the signal, and the watch ends behind it.
    let mut running = watch(
        &server,
        &["/app", "--", "sh", "-c", r#"trap 'echo stopped; exit 0' TERM; echo runs; while :; do sleep 0.01; done"#],
    );
    assert_eq!(running.answer().unwrap(), "runs");
    running.signal(Signal::TERM).unwrap();
    assert_eq!(running.answer().unwrap(), "stopped");
    assert_eq!(running.end().unwrap(), Some(128 + 15));
}

#[test]
fn what_cannot_be() {
    let (server, _client) = scene();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut command = Command::new(rookeeper_binary().unwrap());
    command.args(["watch", "/app", "--server", &closed]);
    assert_eq!(Dialogue::of("rookeeper watch", command).unwrap().end().unwrap(), Some(69));
    assert_eq!(watch(&server, &["no-path"]).end().unwrap(), Some(1));
    assert_eq!(watch(&server, &["/app", "--after", "x"]).end().unwrap(), Some(2));
}

/// `rookeeper watch / | head -1` ends.
#[test]
fn a_closed_pipe_ends_the_watch() {
    let (server, mut client) = scene();
    client.create("/app", b"").unwrap();
    let mut command = Command::new("bash");
    let binary = rookeeper_binary().unwrap();
    let line =
        format!("{} watch /app --server {} | head -1; echo ${{PIPESTATUS[0]}}", binary.display(), server.address());
    command.args(["-c", &line]);
    let mut piped = Dialogue::of("a pipe", command).unwrap();
    assert_eq!(piped.answer().unwrap(), "exists\t/app\t0\t");
    // Nothing else happens: the watch notices by itself that nobody reads any more.
    assert_eq!(piped.answer().unwrap(), "0");
    assert_eq!(piped.end().unwrap(), Some(0));
}
