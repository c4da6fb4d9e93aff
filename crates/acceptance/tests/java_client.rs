//! The Java client, its shell `zkCli`, and Apache Curator. What the programs check stands in `tests/clients/java`.

use std::process::Command;

use rookeeper_acceptance::foreign::{java_program, output, run, zk_cli};
use rookeeper_acceptance::server::{Server, Setup};

fn start() -> Server {
    Setup::new()
        .property("-Dzookeeper.extendedTypesEnabled=true")
        .property("-Dznode.container.checkIntervalMs=500")
        .config("4lw.commands.whitelist", "*")
        .start()
        .expect("the server starts")
}

fn run_program(source: &str) {
    let mut server = start();
    let program = java_program(source).expect("the jars are installed");
    run(program, &mut server).unwrap_or_else(|error| panic!("{source}: {error:#}"));
}

#[test]
fn plain_client() {
    run_program("PlainClient.java");
}

#[test]
fn curator_recipes() {
    run_program("CuratorRecipes.java");
}

/// One command per process, as scripts use it: what it prints and its exit code.
#[test]
fn shell_with_single_commands() {
    let server = start();
    let shell = |arguments: &[&str]| {
        let mut command = zk_cli().expect("the jars are installed");
        command.args(["-server", &server.address().to_string()]).args(arguments);
        output(command, "").expect("the shell ends")
    };
    let created = shell(&["create", "/s", "hello"]);
    assert_eq!(created.code, Some(0), "{created:?}");
    assert!((created.stdout.clone() + &created.stderr).contains("Created /s"), "{created:?}");
    let read = shell(&["get", "-s", "/s"]);
    assert_eq!(read.code, Some(0), "{read:?}");
    assert!(read.stdout.contains("hello") && read.stdout.contains("dataLength = 5"), "{read:?}");
    let missing = shell(&["get", "/nope"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!((missing.stdout.clone() + &missing.stderr).contains("Node does not exist: /nope"), "{missing:?}");
}

/// The installed script with a session full of commands on its standard input.
#[test]
fn shell_session_through_the_script() {
    let server = start();
    let mut command = Command::new("/usr/share/zookeeper/bin/zkCli.sh");
    command.args(["-server", &server.address().to_string()]);
    let session = "create /a one\nset /a two\nget /a\ncreate -e /a/e x\ncreate -s /a/s- x\ncreate -c /a/c\n\
                   create -t 100000 /a/t x\nls -R /a\nstat /a\nsetquota -n 100 /a\nlistquota /a\ngetAcl /a\n\
                   addauth digest bob:secret\nsetAcl /a auth::cdrwa\ngetAcl /a\ngetEphemerals\ngetAllChildrenNumber /a\n\
                   whoami\nsync /a\nconfig\nversion\ndeleteall /a\nls /\nquit\n";
    let run = output(command, session).expect("the shell ends");
    let text = run.stdout.clone() + &run.stderr;
    assert_eq!(run.code, Some(0), "{text}");
    let expected = [
        "Created /a",
        "two",
        "Created /a/e",
        "Created /a/s-0000000001",
        "Created /a/c",
        "Created /a/t",
        "/a/s-0000000001",
        "numChildren = 4",
        "Output quota for /a",
        "'world,'anyone",
        "'digest,'bob:",
        "[/a/e]",
        "digest: bob",
        "Sync is OK",
        "[zookeeper]",
    ];
    for part in expected {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    for sign in ["Exception", "does not exist", "ConnectionLoss"] {
        assert!(!text.contains(sign), "{sign:?} was not expected:\n{text}");
    }
}
