//! A disk that is full when the server starts: said before the port opens, so that a supervisor that starts the server again and again does
//! not show clients a server that fails at their first write.
//!
//! The disk is a small one in memory, mounted where only the server sees it. Takes root.

use std::process::Command;

use rookeeper_acceptance::client::Client;
use rookeeper_acceptance::server::{Failure, Server, Setup};

fn can_mount() -> bool {
    let mount = "mount -t tmpfs -o size=64k none /mnt";
    let mounted = Command::new("unshare").args(["--mount", "bash", "-c", mount]).output();
    let can = mounted.is_ok_and(|output| output.status.success());
    if !can {
        println!("skipped: this user can't mount a disk of its own (unshare --mount, mount -t tmpfs)");
    }
    can
}

/// A server whose data directory is a disk of this size; `before` is done with the disk, as `data`, before the server starts.
fn on_a_disk_of(size: &str, before: &str) -> Setup {
    let inside = format!("mkdir -p data && mount -t tmpfs -o size={size} none data && {{ {before}; }} && exec \"$@\"");
    Setup::new().script(&format!("exec unshare --mount bash -c '{inside}' bash \"$@\""))
}

/// So that not one page is left.
const FILL: &str = "cat /dev/zero 2>/dev/null >data/filler || true";

fn assert_is_told(failure: &Failure) {
    let Failure { code, log } = failure;
    assert_eq!(*code, Some(3), "{log}");
    assert!(log.contains("there is no room for") && log.contains("make room"), "{log}");
    assert!(!log.contains("serves clients"), "the port was open: {log}");
}

#[test]
fn a_disk_too_small_for_the_log_is_told_of_before_the_port_opens() {
    if !can_mount() {
        return;
    }
    // The log reserves 64 MiB at a time, where nothing else is said.
    let too_small = on_a_disk_of("16m", "true").config("preAllocSize", "65536").start_and_fail();
    assert_is_told(&too_small.expect("it does not start"));

    let large_enough = on_a_disk_of("16m", "true").config("preAllocSize", "1024").start();
    let server: Server = large_enough.expect("the same disk is enough for a log that reserves less");
    Client::connect(server.address()).expect("a session").create("/fits", b"").expect("a write");
}

#[test]
fn a_full_disk_is_told_of_before_the_port_opens() {
    if !can_mount() {
        return;
    }
    let full = on_a_disk_of("4m", FILL).start_and_fail().expect("it does not start");
    assert_is_told(&full);

    // With a database, which is read before.
    let home = tempfile::tempdir().expect("a directory");
    let mut server = Setup::new().data_dir(home.path()).start().expect("a server with room");
    Client::connect(server.address()).expect("a session").create("/before", b"").expect("a write");
    server.terminate().expect("it stops");
    let with_database = format!("cp -r {}/. data; {FILL}", home.path().display());
    let full = on_a_disk_of("4m", &with_database).start_and_fail().expect("it does not start");
    assert_is_told(&full);
}
