//! `rookeeper barrier`: nobody begins before all are there, nobody ends before all have ended.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rookeeper_acceptance::foreign::{Dialogue, curator_program, python};
use rookeeper_acceptance::server::{Server, Setup, rookeeper_binary};

const DEADLINE: Duration = Duration::from_secs(60);

fn server() -> Server {
    Setup::new().config("tickTime", "200").config("maxSessionTimeout", "60000").start().unwrap()
}

fn barrier(server: &Server, options: &[&str]) -> Command {
    let mut command = Command::new(rookeeper_binary().unwrap());
    command.args(["barrier", "/app/start", "--session-timeout", "1500", "--server"]);
    command.arg(server.address().to_string()).args(options);
    command
}

fn end(mut child: Child) -> Option<i32> {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(Instant::now() < until, "the barrier does not open");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn all_begin_together_and_end_together() {
    let server = server();
    let home = tempfile::tempdir().unwrap();
    // Each says when it begins and when it ends; later ones take longer.
    let script = format!("cd {} && date +%s%N > begin-$0; sleep 0.$0; date +%s%N > end-$0", home.path().display());
    let time = |name: String| fs::read_to_string(home.path().join(name)).unwrap().trim().parse::<u64>().unwrap();
    let mut came = Vec::new();
    let mut children = Vec::new();
    for number in ["1", "2", "3"] {
        assert!(!home.path().join("begin-1").exists());
        came.push(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64);
        children.push(barrier(&server, &["-n", "3", "--", "sh", "-c", &script, number]).spawn().unwrap());
    }
    let mut ended = Vec::new();
    for child in children {
        assert_eq!(end(child), Some(0));
        ended.push(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64);
    }
    for number in 1..=3 {
        assert!(time(format!("begin-{number}")) > came[2], "begun before all were there");
        assert!(time(format!("end-{number}")) < ended[0], "gone before all had ended");
    }
    // And once more at the same place; nothing was left behind.
    let children: Vec<Child> = (0..2).map(|_| barrier(&server, &["-n", "2"]).spawn().unwrap()).collect();
    for child in children {
        assert_eq!(end(child), Some(0));
    }
}

#[test]
fn a_time_limit_and_a_command_that_fails() {
    let server = server();
    assert_eq!(end(barrier(&server, &["-n", "2", "--timeout", "0.3"]).spawn().unwrap()), Some(75));
    assert_eq!(end(barrier(&server, &["-n", "1", "--", "sh", "-c", "exit 4"]).spawn().unwrap()), Some(4));
    assert_eq!(end(barrier(&server, &["-n", "0"]).spawn().unwrap()), Some(2));
}

#[test]
fn with_kazoo_and_curator() {
    let server = server();
    let address = server.address().to_string();
    let mut kazoo = Dialogue::start("kazoo", python("coordinator.py").unwrap(), &address).unwrap();
    let mut curator = Dialogue::start("Curator", curator_program("Coordinator.java").unwrap(), &address).unwrap();
    kazoo.tell("enter /app/start 3").unwrap();
    curator.tell("enter /app/start 3").unwrap();
    assert_eq!(end(barrier(&server, &["-n", "3"]).spawn().unwrap()), Some(0));
    assert_eq!((kazoo.answer().unwrap().as_str(), curator.answer().unwrap().as_str()), ("entered", "entered"));
}
