//! The commands of `rookeeper cli` that zkCli does not have, at our server and at the original: tree, find, du, cp, mv, diff, edit.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use rookeeper_acceptance::client::{Client, refusal};
use rookeeper_acceptance::foreign::{self, Output};
use rookeeper_acceptance::server::{Product, Server, Setup, rookeeper_binary};
use rookeeper_acceptance::wire::Acl;

const NO_NODE: i32 = -101;

/// The same at a server of either kind.
fn at_both(test: impl Fn(&Server)) {
    for product in [Product::Rookeeper, Product::Apache] {
        let setup = Setup::of(product).with_super_user().property("-Dzookeeper.extendedTypesEnabled=true");
        test(&setup.start().expect("it starts"));
    }
}

fn cli_with(server: &Server, variables: &[(&str, &Path)], arguments: &[&str]) -> Output {
    let mut command = Command::new(rookeeper_binary().expect("a binary"));
    command.args(["cli", "-server", &server.address().to_string(), "-q"]).args(arguments);
    command.env_remove("JVMFLAGS").env_remove("CLIENT_JVMFLAGS").env_remove("VISUAL").envs(variables.iter().copied());
    foreign::output(command, "").expect("it ends")
}

fn cli(server: &Server, arguments: &[&str]) -> Output {
    cli_with(server, &[], arguments)
}

/// What a command prints that is done.
#[track_caller]
fn done(server: &Server, arguments: &[&str]) -> String {
    let output = cli(server, arguments);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    output.stdout
}

#[track_caller]
fn ends(server: &Server, arguments: &[&str], code: i32, part: &str) {
    let output = cli(server, arguments);
    assert_eq!(output.code, Some(code), "{arguments:?}: {output:?}");
    assert!(output.stderr.contains(part), "{part:?} in {output:?}");
}

/// An application with a bit of everything. The session owns the ephemeral node.
fn application(server: &Server) -> Client {
    let mut client = Client::connect(server.address()).expect("a session");
    client.authenticate("digest", "bob:secret").expect("bob");
    client.create("/app", b"app").expect("a node");
    client.create("/app/config", b"12345").expect("a node");
    client.create("/app/locks", b"").expect("a node");
    client.create("/app/locks/lock-2", b"\xff").expect("a node");
    client
        .create_with("/app/mine", Some(b"m"), &[Acl::new(31, "world", "anyone"), Acl::new(31, "auth", "")], 0)
        .expect("a node");
    client.create_ttl("/app/short", b"ttl", 3_600_000).expect("a node");
    done(server, &["create", "-c", "/app/works"]);
    client
}

#[test]
fn a_subtree_is_looked_at() {
    at_both(|server| {
        let mut client = application(server);
        client.create_with("/app/locks/lock-1", Some(b""), &Acl::open(), 1).expect("an ephemeral node");
        let session = format!("0x{:x}", client.session.id);
        let expected = format!(
            "/app\n├── config\n├── locks\n│   ├── lock-1  (ephemeral of {session})\n│   └── lock-2\n├── mine\n├── short\n\
             └── works\n\n8 nodes\n"
        );
        assert_eq!(done(server, &["tree", "/app"]), expected);
        let cut = "/app  (3 bytes)\n├── config  (5 bytes)\n├── locks  (0 bytes, 2 children)\n├── mine  (1 bytes)\n\
                   ├── short  (3 bytes)\n└── works  (0 bytes)\n\n6 nodes\n";
        assert_eq!(done(server, &["tree", "-s", "--depth", "1", "/app"]), cut);

        let usage = "         bytes      nodes  path\n             5          1  /app/config\n             1          3  /app/locks\n             \
                     1          1  /app/mine\n             3          1  /app/short\n             0          1  /app/works\n            13          8  /app\n";
        assert_eq!(done(server, &["du", "/app"]), usage);
        assert_eq!(
            done(server, &["--json", "du", "--depth", "0", "/app"]),
            "{\"bytes\":13,\"nodes\":8,\"path\":\"/app\"}\n"
        );

        let found = |arguments: &[&str]| done(server, &[&["find", "/app"], arguments].concat());
        assert_eq!(found(&["--name", "lock-*"]), "/app/locks/lock-1\n/app/locks/lock-2\n");
        assert_eq!(found(&["--owner", "any"]), "/app/locks/lock-1\n");
        assert_eq!(found(&["--owner", &session]), "/app/locks/lock-1\n");
        assert_eq!(found(&["--owner", "0x1"]), "");
        assert_eq!(found(&["--owner", "none", "--name", "lock-*"]), "/app/locks/lock-2\n");
        assert_eq!(found(&["--larger", "3"]), "/app/config\n");
        assert_eq!(found(&["--name", "*/locks/*", "--larger", "0"]), "/app/locks/lock-2\n");
        assert_eq!(found(&["--older", "1h"]), "");
        assert_eq!(found(&["--newer", "1h", "--depth", "0"]), "/app\n");
        ends(server, &["find", "/nowhere"], 1, "Node does not exist: /nowhere");

        client.set_acl("/app/locks", &[Acl::new(31, "auth", "")]).expect("the list is set");
        let closed = cli(server, &["tree", "/app"]);
        assert!(closed.stdout.contains("├── locks  (closed to this session)\n├── mine"), "{closed:?}");
        let told = "Insufficient permission : /app/locks\nNot all was seen: 1 nodes are closed to this session\n";
        assert_eq!((closed.code, closed.stderr.as_str()), (Some(1), told));
    });
}

#[test]
fn a_copy_is_made_at_once_and_is_equal() {
    at_both(|server| {
        let mut client = application(server);
        client.create_with("/app/locks/lock-1", Some(b""), &Acl::open(), 1).expect("an ephemeral node");
        let listed = "/app -> /copy\n/app/config -> /copy/config\n/app/locks -> /copy/locks\n/app/locks/lock-2 -> /copy/locks/lock-2\n\
                      /app/mine -> /copy/mine\n/app/short -> /copy/short\n/app/works -> /copy/works\n";
        let dry = cli(server, &["cp", "-r", "--dry-run", "/app", "/copy"]);
        let told = "Would copy 7 nodes with 13 bytes, in one transaction, all or nothing; nothing was done; ephemeral, left out: 1\n";
        assert_eq!((dry.code, dry.stdout.as_str(), dry.stderr.as_str()), (Some(0), listed, told));
        assert!(client.exists("/copy").expect("an answer").is_none());

        let report = done(server, &["--json", "cp", "-r", "/app", "/copy"]);
        let expected = "{\"atomic\":true,\"bytes\":13,\"from\":\"/app\",\"left_out\":1,\"nodes\":7,\"to\":\"/copy\",\"transactions\":1}\n";
        assert_eq!(report, expected);
        let differences = cli(server, &["diff", "/app", "/copy"]);
        assert_eq!((differences.code, differences.stdout.as_str()), (Some(1), "- /app/locks/lock-1\n"));
        let root = client.exists("/copy").expect("an answer").expect("it is there");
        let works = client.exists("/copy/works").expect("an answer").expect("it is there");
        assert_eq!(root.czxid, works.czxid, "not one transaction");

        ends(server, &["cp", "-r", "/app", "/copy"], 1, "Node already exists: /copy");
        ends(server, &["cp", "-r", "/app", "/app/locks/app"], 1, "/app/locks/app is inside of /app");
        ends(server, &["cp", "-r", "/app", "/nowhere/app"], 1, "Node does not exist: /nowhere");
        ends(server, &["cp", "/app/locks/lock-1", "/lock"], 1, "/app/locks/lock-1 is ephemeral");
        assert_eq!(done(server, &["cp", "/app", "/alone"]), "");
        assert_eq!(done(server, &["ls", "/alone"]), "[]\n");
        client
            .set_acl("/app/mine", &[Acl::new(1, "world", "anyone"), Acl::new(31, "auth", "")])
            .expect("the list is set");
        ends(server, &["cp", "-r", "/app", "/again"], 1, "The access control of /app/mine is shown in part only");
        client.set_acl("/app/mine", &[Acl::new(31, "auth", "")]).expect("the list is set");
        ends(server, &["cp", "-r", "/app", "/again"], 1, "Insufficient permission : /app/mine");
        assert!(client.exists("/again").expect("an answer").is_none());
    });
}

#[test]
fn a_move_takes_all_or_nothing() {
    at_both(|server| {
        let mut client = application(server);
        done(server, &["cp", "-r", "/app", "/reference"]);
        ends(server, &["mv", "--dry-run", "/app", "/moved"], 0, "Would move 7 nodes with 13 bytes, in one transaction");
        assert!(client.exists("/moved").expect("an answer").is_none());
        assert_eq!(done(server, &["mv", "/app", "/moved"]), "");
        assert!(client.exists("/app").expect("an answer").is_none());
        assert_eq!(done(server, &["diff", "/reference", "/moved"]), "");

        client.create_with("/moved/locks/lock-1", Some(b""), &Acl::open(), 1).expect("an ephemeral node");
        ends(server, &["mv", "/moved", "/app"], 1, "/moved/locks/lock-1 is ephemeral: it belongs to a session");
        assert!(client.exists("/app").expect("an answer").is_none());
        ends(server, &["mv", "/", "/x"], 1, "the server keeps its own nodes there");
        ends(server, &["mv", "/zookeeper", "/x"], 1, "the server keeps its own nodes there");
        ends(server, &["mv", "/moved", "/moved/x"], 1, "is inside of");
    });
}

fn many(client: &mut Client, root: &str, count: usize) {
    client.create(root, b"the root").expect("a node");
    for number in 0..count {
        client.create(&format!("{root}/{number:05}"), number.to_string().as_bytes()).expect("a node");
    }
}

#[test]
fn a_subtree_that_is_too_large_for_one_transaction_goes_in_several() {
    at_both(|server| {
        let mut client = Client::connect(server.address()).expect("a session");
        many(&mut client, "/many", 1_200);
        ends(
            server,
            &["cp", "-r", "--dry-run", "/many", "/copy"],
            0,
            "in several transactions, each of them all or nothing",
        );
        let report = done(server, &["--json", "cp", "-r", "/many", "/copy"]);
        assert!(report.contains("\"atomic\":false") && report.contains("\"transactions\":3"), "{report}");
        assert_eq!(done(server, &["diff", "/many", "/copy"]), "");
        let report = done(server, &["--json", "mv", "/copy", "/moved"]);
        assert!(report.contains("\"nodes\":1201") && report.contains("\"transactions\":5"), "{report}");
        assert!(client.exists("/copy").expect("an answer").is_none());
        assert_eq!(done(server, &["diff", "/many", "/moved"]), "");
    });
}

/// Writes to a node while it is moved.
const WRITES: usize = 1_000;

/// Somebody writes to a node all the time while it is moved.
#[test]
fn no_write_is_lost_by_a_move() {
    at_both(|server| {
        for count in [3, 700] {
            let mut client = Client::connect(server.address()).expect("a session");
            many(&mut client, "/from", count);
            let hot = format!("/from/{:05}", count - 1);
            let (address, written_to) = (server.address(), hot.clone());
            let (begun, began) = std::sync::mpsc::channel();
            let writer = thread::spawn(move || {
                let mut client = Client::connect(address).expect("a session");
                for number in 1..=WRITES {
                    let written = client.set_data(&written_to, number.to_string().as_bytes(), -1);
                    if refusal(&written) == Some(NO_NODE) {
                        return number - 1;
                    }
                    written.expect("it is written");
                    let _ = begun.send(());
                }
                WRITES
            });
            began.recv().expect("the writer writes");
            // A move that is refused because of the writer is begun again, with what is left.
            let mut attempts = 0;
            while client.exists(&hot).expect("an answer").is_some() {
                attempts += 1;
                let moved = cli(server, &["mv", "/from", &format!("/to-{attempts}")]);
                assert!(moved.code == Some(0) || moved.stderr.contains("meanwhile"), "{moved:?}");
            }
            let last = writer.join().expect("the writer ends");
            let (data, _) = client.get_data(&format!("/to-{attempts}/{:05}", count - 1)).expect("it is there");
            assert_eq!(data.expect("data"), last.to_string().into_bytes(), "a write was lost");
            for number in 1..=attempts {
                // A move that was refused whole has made nothing.
                let _ = cli(server, &["deleteall", &format!("/to-{number}")]);
            }
            let _ = cli(server, &["deleteall", "/from"]);
        }
    });
}

#[test]
fn what_is_changed_while_it_is_moved_in_parts_stays() {
    at_both(|server| {
        let mut client = Client::connect(server.address()).expect("a session");
        for attempt in 0.. {
            let (from, to) = (format!("/from-{attempt}"), format!("/to-{attempt}"));
            many(&mut client, &from, 1_300);
            let changed = format!("{from}/00000");
            let moved = thread::scope(|scope| {
                let moving = scope.spawn(|| cli(server, &["mv", &from, &to]));
                // The first part is there: the node is copied, and others are not.
                while client.exists(&to).expect("an answer").is_none() && !moving.is_finished() {}
                let in_time = client.set_data(&changed, b"later", -1).is_ok();
                let moved = moving.join().expect("it ends");
                in_time.then_some(moved)
            });
            let Some(moved) = moved else { continue };
            assert_eq!(moved.code, Some(1), "{moved:?}");
            let told = format!("{changed} was changed while it was copied, and stays\n");
            assert!(moved.stderr.contains(&told), "{moved:?}");
            assert_eq!(client.get_data(&changed).expect("it stays").0.expect("data"), b"later");
            assert_eq!(client.children(&from).expect("its parent stays"), ["00000"]);
            assert_eq!(client.children(&to).expect("it is there").len(), 1_300);
            return;
        }
    });
}

#[test]
fn differences_are_told_with_their_exit_codes() {
    let home = tempfile::tempdir().expect("a directory");
    let shown = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    at_both(|server| {
        let mut client = application(server);
        let file = shown(&home.path().join("app.export"));
        let mut export = Command::new(rookeeper_binary().expect("a binary"));
        export.args(["export", "-server", &server.address().to_string(), "--output", &file, "/app"]);
        assert_eq!(foreign::output(export, "").expect("it ends").code, Some(0));
        assert_eq!(done(server, &["diff", "/app", "--export", &file]), "");

        done(server, &["cp", "-r", "/app", "/other"]);
        assert_eq!(done(server, &["diff", "/app", "/other"]), "");
        client.set_data("/other/config", b"12x45", -1).expect("it is set");
        client.delete("/other/locks/lock-2").expect("it goes");
        client.create("/other/locks-", b"").expect("a node");
        client.set_acl("/other/locks", &[Acl::new(1, "world", "anyone")]).expect("the list is set");
        let expected = "~ /app/config: data of 5 and 5 bytes, different from byte 2 on\n\
                        ~ /app/locks: access control world:anyone:cdrwa and world:anyone:r\n- /app/locks/lock-2\n+ /other/locks-\n";
        let output = cli(server, &["diff", "/app", "/other"]);
        assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (Some(1), expected, ""));
        let output = cli(server, &["diff", "--no-acl", "/app", "/other"]);
        assert!(output.code == Some(1) && !output.stdout.contains("access control"), "{output:?}");
        let output = cli(server, &["diff", "/other", "--export", &file]);
        assert_eq!(output.code, Some(1));
        assert!(output.stdout.contains("+ /app/locks/lock-2\n- /other/locks-\n"), "{output:?}");

        let data = home.path().join("data");
        fs::write(&data, "12345").expect("a file");
        assert_eq!(done(server, &["diff", "/app/config", "--file", &shown(&data)]), "");
        let output = cli(server, &["diff", "/other/config", "--file", &shown(&data)]);
        assert_eq!((output.code, output.stdout.lines().count()), (Some(1), 1), "{output:?}");

        ends(server, &["diff", "/app", "/nowhere"], 2, "Node does not exist: /nowhere");
        ends(server, &["diff", "/app", "--export", "/nowhere"], 2, "/nowhere: No such file");
        ends(server, &["diff", "/app", "--export", &shown(&data)], 2, "line 1");
        ends(server, &["diff", "/app"], 2, "diff [--no-acl] path path");
        ends(server, &["diff"], 2, "diff [--no-acl] path path");
    });
}

#[test]
fn an_edit_is_written_only_over_what_was_read() {
    at_both(|server| {
        let home = tempfile::tempdir().expect("a directory");
        let mut client = application(server);
        let editor = |name: &str, script: &str| {
            let file = home.path().join(name);
            fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("a file");
            fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
            file
        };
        let temporary = home.path().join("tmp");
        fs::create_dir(&temporary).expect("a directory");
        let edit = |editor: &Path, arguments: &[&str]| {
            let variables = [("EDITOR", editor), ("TMPDIR", temporary.as_path())];
            cli_with(server, &variables, &[&["edit"], arguments].concat())
        };
        let left = || {
            let mut names: Vec<_> =
                fs::read_dir(&temporary).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
            names.sort();
            names
        };

        // The editor ends the last line, which had no end.
        let output = edit(&editor("more", "echo 67 >> \"$1\""), &["/app/config"]);
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
        assert_eq!(client.get_data("/app/config").expect("a node").0.expect("data"), b"1234567");
        let output = edit(&editor("nothing", ""), &["/app/config"]);
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), "Not changed\n"));
        let output = edit(&editor("fails", "exit 3"), &["/app/config"]);
        assert!(output.code == Some(1) && output.stderr.contains("exit status: 3: nothing was written"), "{output:?}");
        assert_eq!(left(), Vec::<std::path::PathBuf>::new());

        // Somebody else is quicker.
        let binary = rookeeper_binary().expect("a binary");
        let quicker = format!(
            "echo mine > \"$1\"; '{}' cli -server {} set /app/config theirs",
            binary.display(),
            server.address()
        );
        let output = edit(&editor("slow", &quicker), &["/app/config"]);
        assert!(
            output.code == Some(1) && output.stderr.contains("/app/config was changed meanwhile: nothing was written."),
            "{output:?}"
        );
        assert_eq!(client.get_data("/app/config").expect("a node").0.expect("data"), b"theirs");
        let files = left();
        assert_eq!(files.len(), 2, "{files:?}");
        assert_eq!(fs::read_to_string(&files[0]).expect("a file"), "mine\n");
        assert_eq!(fs::read_to_string(&files[1]).expect("a file"), "theirs");
        assert!(output.stderr.contains(&format!("edit --from {} /app/config", files[0].display())), "{output:?}");
        let output = edit(&editor("nothing", ""), &["--from", files[0].to_str().expect("UTF-8"), "/app/config"]);
        assert_eq!(output.code, Some(0), "{output:?}");
        assert_eq!(client.get_data("/app/config").expect("a node").0.expect("data"), b"mine\n");
    });
}

#[test]
fn what_would_be_deleted_is_shown() {
    at_both(|server| {
        let mut client = application(server);
        let output = cli(server, &["deleteall", "--dry-run", "/app/locks"]);
        assert_eq!((output.code, output.stdout.as_str()), (Some(0), "/app/locks/lock-2\n/app/locks\n"));
        assert_eq!(output.stderr, "Would delete 2 nodes; nothing was done\n");
        assert!(client.exists("/app/locks/lock-2").expect("an answer").is_some());
    });
}
