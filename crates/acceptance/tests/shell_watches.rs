//! `rookeeper cli`: what is watched for ever is still watched when the connection was lost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::{Duration, Instant};

use rookeeper_acceptance::client::Client;
use rookeeper_acceptance::foreign::Dialogue;
use rookeeper_acceptance::proxy::Proxy;
use rookeeper_acceptance::server::{Setup, rookeeper_binary};

const DEADLINE: Duration = Duration::from_secs(30);

/// Reads up to a line that contains this, and says whether one before contains the other.
fn read_to(shell: &mut Dialogue, text: &str, other: &str) -> bool {
    let mut seen = false;
    loop {
        let line = shell.answer().unwrap();
        seen |= line.contains(other);
        if line.contains(text) {
            return seen;
        }
    }
}

#[test]
fn a_watch_outlives_the_connection() {
    let server = Setup::new().start().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let proxy = runtime.block_on(Proxy::to(server.address(), 1)).unwrap();
    let mut client = Client::connect(server.address()).unwrap();
    client.create("/watched", b"").unwrap();
    client.create("/marker", b"the marker").unwrap();
    for mode in ["PERSISTENT_RECURSIVE", "PERSISTENT"] {
        let mut command = Command::new(rookeeper_binary().unwrap());
        command.args(["cli", "-server"]);
        let mut shell = Dialogue::start("the shell", command, &proxy.address().to_string()).unwrap();
        shell.tell(&format!("addWatch -m {mode} /watched")).unwrap();
        shell.tell("set /watched first").unwrap();
        read_to(&mut shell, "path:/watched", "path:/watched");
        proxy.break_connections();
        read_to(&mut shell, "state:SyncConnected type:None", "");
        // The shell may set its watch a moment later, so what it must hear of happens until it does.
        let begin = Instant::now();
        loop {
            client.set_data("/watched", b"again", -1).unwrap();
            shell.tell("get /marker").unwrap();
            if read_to(&mut shell, "the marker", "type:NodeDataChanged path:/watched") {
                break;
            }
            assert!(begin.elapsed() < DEADLINE, "{mode}: the shell hears nothing of its watch any more");
        }
    }
}
