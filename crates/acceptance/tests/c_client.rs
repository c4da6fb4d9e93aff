//! The C client, through the shell that comes with it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rookeeper_acceptance::client::Client;
use rookeeper_acceptance::foreign::CLI_MT;
use rookeeper_acceptance::server::Setup;

const DEADLINE: Duration = Duration::from_secs(60);

/// A running shell: commands in, lines out.
struct Shell {
    process: std::process::Child,
    input: std::process::ChildStdin,
    lines: Receiver<String>,
}

impl Shell {
    fn start(address: &str) -> Shell {
        let mut process = Command::new(CLI_MT)
            .arg(address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {CLI_MT}: {error}: run tests/provision"));
        let input = process.stdin.take().expect("it is piped");
        let (sender, lines) = channel();
        // The shell says some things on one stream and some on the other.
        let forward = |stream: Box<dyn std::io::Read + Send>| {
            let sender = sender.clone();
            thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
            });
        };
        forward(Box::new(process.stdout.take().expect("it is piped")));
        forward(Box::new(process.stderr.take().expect("it is piped")));
        Shell { process, input, lines }
    }

    fn send(&mut self, command: &str) {
        writeln!(self.input, "{command}").expect("the shell reads");
    }

    /// Reads on until `text` has come.
    fn expect(&mut self, text: &str) {
        self.expect_all(&[text]);
    }

    /// Reads on until all of the texts have come, in any order: they may be on different streams.
    fn expect_all(&mut self, texts: &[&str]) {
        let mut seen = String::new();
        while !texts.iter().all(|text| seen.contains(text)) {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => seen = seen + &line + "\n",
                Err(error) => panic!("{texts:?} did not come ({error}), but:\n{seen}"),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|status| status.is_none()) {
            self.process.kill().expect("a child can be killed");
            self.process.wait().expect("a child can be waited for");
        }
    }
}

#[test]
fn shell_session() {
    let server = Setup::new().start().expect("the server starts");
    let mut ours = Client::connect(server.address()).expect("the server accepts us");
    let mut shell = Shell::start(&server.address().to_string());
    shell.expect("CONNECTED_STATE");

    shell.send("create /c");
    shell.expect("name = /c");
    shell.send("set /c hello");
    shell.expect("/c: rc = 0");
    shell.send("get /c");
    shell.expect_all(&["hello", "version=1", "ephemeralOwner = 0"]);
    assert_eq!(ours.get_data("/c").expect("it exists").0.as_deref(), Some(&b"hello"[..]));

    shell.send("create +e /c/ephemeral");
    shell.expect("name = /c/ephemeral");
    shell.send("create +s /c/n-");
    shell.expect("name = /c/n-0000000001");
    shell.send("create2 +s /c/n-");
    shell.expect("name = /c/n-0000000002");
    shell.send("ls /c");
    shell.expect_all(&["ephemeral", "n-0000000001", "n-0000000002", "time ="]);
    shell.send("ls2 /c");
    shell.expect("ephemeralOwner = 0");
    shell.send("delete /c");
    shell.expect("/c: rc = -111");
    shell.send("get /nope");
    shell.expect("-101");
    shell.send("sync /c");
    shell.expect("rc = 0");

    // A watch set in C fires when somebody else makes the change.
    shell.send("wexists /watched");
    shell.expect("-101");
    ours.create("/watched", b"").expect("it can be created");
    shell.expect("CREATED_EVENT state = CONNECTED_STATE for path /watched");

    shell.send("delete /c/n-0000000001");
    shell.expect("/c/n-0000000001: rc = 0");
    assert_eq!(ours.exists("/c/n-0000000001").expect("an answer"), None);
    shell.send("quit");
    shell.expect("Quitting");
    shell.process.wait().expect("the shell ends");
    assert_eq!(ours.children("/c").expect("it exists"), ["n-0000000002"], "the session was closed");
}

#[test]
fn session_survives_a_restart_of_the_server() {
    let mut server = Setup::new().start().expect("the server starts");
    let mut shell = Shell::start(&server.address().to_string());
    shell.expect("CONNECTED_STATE");
    shell.send("create +e /ephemeral");
    shell.expect("name = /ephemeral");
    server.kill().expect("it can be killed");
    shell.expect("CONNECTING_STATE");
    server.restart().expect("the server starts again");
    shell.expect("CONNECTED_STATE");
    shell.send("get /ephemeral");
    shell.expect("/ephemeral: rc = 0");
    shell.send("quit");
}
