//! `rookeeper queue`: items go in and come out once, a command that fails gives its item back, and so does one whose process is killed, frozen or cut off.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rookeeper_acceptance::foreign::{Dialogue, Output, output, python};
use rookeeper_acceptance::server::{Server, Setup, rookeeper_binary};
use rustix::process::Signal;

const DEADLINE: Duration = Duration::from_secs(60);

struct Scene {
    server: Server,
}

impl Scene {
    fn new() -> Scene {
        Scene { server: Setup::new().config("tickTime", "200").start().unwrap() }
    }

    fn command(&self, subcommand: &str, options: &[&str], rest: &[&str]) -> Command {
        let mut command = Command::new(rookeeper_binary().unwrap());
        command.args(["queue", subcommand, "/app/queue", "--session-timeout", "1000", "--server"]);
        command.arg(self.server.address().to_string()).args(options).args(rest);
        command
    }

    fn push(&self, options: &[&str], items: &[&str], input: &str) -> Output {
        output(self.command("push", options, items), input).unwrap()
    }

    fn pop(&self, options: &[&str], command: &[&str]) -> Output {
        let rest: Vec<&str> = if command.is_empty() { Vec::new() } else { [&["--"], command].concat() };
        output(self.command("pop", options, &rest), "").unwrap()
    }

    fn size(&self) -> String {
        output(self.command("size", &[], &[]), "").unwrap().stdout
    }
}

#[test]
fn items_go_in_and_come_out() {
    let scene = Scene::new();
    assert_eq!(scene.pop(&[], &[]).code, Some(75), "there is nothing");
    assert_eq!(scene.push(&[], &["one", "two words"], "").code, Some(0));
    let many: String = (0..250).map(|number| format!("line {number}\n")).collect();
    assert_eq!(scene.push(&[], &[], &many).code, Some(0));
    assert_eq!(scene.push(&["--priority", "1"], &["urgent"], "").code, Some(0));
    assert_eq!(scene.push(&["--delay", "3600"], &["later"], "").code, Some(0));
    assert_eq!(scene.size(), "254\n");
    assert_eq!(scene.pop(&["--count", "3"], &[]).stdout, "urgent\none\ntwo words\n");
    let rest = scene.pop(&["--count", "0"], &[]);
    assert_eq!((rest.code, rest.stdout), (Some(0), many));
    assert_eq!(scene.size(), "1\n");
    let start = Instant::now();
    assert_eq!(scene.pop(&["--timeout", "0.3"], &[]).code, Some(75));
    assert!(start.elapsed() >= Duration::from_millis(300));
    // Whoever waits is given what comes.
    let mut waiting =
        Dialogue::start("pop", scene.command("pop", &["--wait", "--count", "0"], &["--"]), "cat").unwrap();
    assert_eq!(scene.push(&[], &["for cat\n"], "").code, Some(0));
    assert_eq!(waiting.answer().unwrap(), "for cat");
}

#[test]
fn a_limit_keeps_items_out() {
    let scene = Scene::new();
    let push = |timeout: &str, item: &str| scene.push(&["--limit", "2", "--timeout", timeout], &[item], "").code;
    assert_eq!((push("0", "one"), push("5", "two")), (Some(0), Some(0)));
    assert_eq!((push("0", "three"), push("0.2", "four")), (Some(75), Some(75)));
    let mut waiting = scene.command("push", &["--limit", "2"], &["five"]).spawn().unwrap();
    assert_eq!(scene.pop(&[], &[]).stdout, "one\n");
    assert_eq!(waiting.wait().unwrap().code(), Some(0));
    assert_eq!(scene.pop(&["--count", "0"], &[]).stdout, "two\nfive\n");
}

#[test]
fn an_item_whose_command_fails_comes_again() {
    let scene = Scene::new();
    assert_eq!(scene.push(&[], &["work", "more"], "").code, Some(0));
    let failed = scene.pop(&[], &["sh", "-c", "cat; exit 3"]);
    assert_eq!((failed.code, failed.stdout.as_str()), (Some(3), "work"));
    assert_eq!(scene.pop(&[], &["/no/such/command"]).code, Some(127));
    let all = scene.pop(&["--count", "0"], &["sh", "-c", "cat; echo \" $ROOKEEPER_ITEM\""]);
    assert_eq!(all.code, Some(0));
    let lines: Vec<&str> = all.stdout.lines().collect();
    assert!(lines[0].starts_with("work /app/queue/segments/0000000000/entries/100-0000000000"), "{lines:?}");
    assert!(lines[1].starts_with("more "), "{lines:?}");
    assert_eq!(scene.size(), "0\n");
}

/// The item of a process that is killed, or frozen past its session, is given to another, and its command has ended by then.
#[test]
fn an_item_of_a_process_that_dies_comes_again() {
    let scene = Scene::new();
    let home = tempfile::tempdir().unwrap();
    let beats = home.path().join("beats");
    let beat = format!("while :; do date +%s%N > {0}.new; mv {0}.new {0}; sleep 0.01; done", beats.display());
    for (signal, is_frozen) in [(Signal::KILL, false), (Signal::STOP, true)] {
        let _ = fs::remove_file(&beats);
        assert_eq!(scene.push(&[], &["work"], "").code, Some(0));
        let mut first = scene.command("pop", &[], &["--", "sh", "-c", &beat]).stdin(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + DEADLINE;
        while !beats.exists() {
            assert!(Instant::now() < until, "the command does not begin");
            std::thread::sleep(Duration::from_millis(5));
        }
        let pid = rustix::process::Pid::from_child(&first);
        rustix::process::kill_process(pid, signal).unwrap();
        let next = scene.pop(&["--timeout", "60"], &["date", "+%s%N"]);
        assert_eq!(next.code, Some(0));
        let (last, began): (u64, u64) =
            (fs::read_to_string(&beats).unwrap().trim().parse().unwrap(), next.stdout.trim().parse().unwrap());
        assert!(last < began, "both worked on the item");
        if is_frozen {
            rustix::process::kill_process(pid, Signal::CONT).unwrap();
            assert_eq!(first.wait().unwrap().code(), Some(70), "the item was lost");
        }
        let _ = first.wait();
        assert_eq!(scene.size(), "0\n");
    }
}

#[test]
fn a_queue_with_kazoo() {
    let scene = Scene::new();
    let address = scene.server.address().to_string();
    let mut kazoo = Dialogue::start("kazoo", python("coordinator.py").unwrap(), &address).unwrap();
    assert_eq!(kazoo.ask("put /app/queue 100 theirs").unwrap(), "put");
    assert_eq!(scene.push(&["--layout", "kazoo", "--priority", "7"], &["ours"], "").code, Some(0));
    assert_eq!(kazoo.ask("get /app/queue").unwrap(), "ours");
    assert_eq!(scene.pop(&["--layout", "kazoo", "--count", "0"], &[]).stdout, "theirs\n");
    assert_eq!(kazoo.ask("consume /app/queue").unwrap(), "consumed");
}
