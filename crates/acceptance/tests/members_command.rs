//! `rookeeper members`: a follower sees who joins, and who leaves in order or by its death.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use rookeeper_acceptance::foreign::{Dialogue, output};
use rookeeper_acceptance::server::{Setup, rookeeper_binary};
use rustix::process::Signal;

#[test]
fn members_come_and_go() {
    let server = Setup::new().config("tickTime", "200").start().unwrap();
    let address = server.address().to_string();
    let members = |options: &[&str]| {
        let mut command = Command::new(rookeeper_binary().unwrap());
        command.args(["members", "/group", "--session-timeout", "1000"]).args(options).arg("--server");
        command
    };
    let listed = |options: &[&str]| {
        let mut command = members(options);
        command.arg(&address);
        output(command, "").unwrap()
    };
    let empty = listed(&[]);
    assert_eq!((empty.code, empty.stdout.as_str()), (Some(0), ""), "a group that does not exist has nobody in it");

    let mut follower = Dialogue::start("the follower", members(&["--follow"]), &address).unwrap();
    let one = Dialogue::start("one", members(&["--join", "one", "--data", "4 cores"]), &address).unwrap();
    assert_eq!(follower.answer().unwrap(), "joined\tone\t4 cores");
    let mut two = Dialogue::start("two", members(&["--join", "two"]), &address).unwrap();
    assert_eq!(follower.answer().unwrap(), "joined\ttwo\t");
    assert_eq!(listed(&[]).stdout, "one\t4 cores\ntwo\t\n");
    let json = listed(&["--json"]).stdout;
    assert!(json.starts_with(r#"{"data":"4 cores","id":"one","joined":"0x"#), "{json}");

    one.signal(Signal::TERM).unwrap();
    assert_eq!(follower.answer().unwrap(), "left\tone\t4 cores");
    two.kill().unwrap();
    assert_eq!(follower.answer().unwrap(), "left\ttwo\t");
}

/// `rookeeper members --follow | head -1` ends.
#[test]
fn a_closed_pipe_ends_it() {
    let server = Setup::new().start().unwrap();
    let address = server.address();
    let binary = rookeeper_binary().unwrap();
    let mut command = Command::new("bash");
    let line =
        format!("{} members /group --follow --server {address} | head -1; echo ${{PIPESTATUS[0]}}", binary.display());
    command.args(["-c", &line]);
    let mut piped = Dialogue::of("a pipe", command).unwrap();
    let join = |id: &str| {
        let mut command = Command::new(&binary);
        command.args(["members", "/group", "--join", id, "--server", &address.to_string()]);
        Dialogue::of("a member", command).unwrap()
    };
    let _member = join("first");
    assert_eq!(piped.answer().unwrap(), "joined\tfirst\t");
    // Nothing else happens: it notices by itself that nobody reads any more.
    assert_eq!(piped.answer().unwrap(), "0");
}
