//! The shell as a script has it: what `--quiet`, `--json` and `--timeout` promise, exit codes, and readers that go away.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use serde_json::{Value, json};
use site::{Site, freeze, text};

#[test]
fn quiet_gives_the_result_and_not_a_byte_more() {
    let site = Site::new();
    let data = b"\x1b[2J\xff\x00 no line feed";
    site.create("/binary", data);
    let output = site.run(&["--quiet", "get", "/binary"]);
    assert_eq!((output.status.code(), output.stdout.as_slice(), text(&output.stderr)), (Some(0), &data[..], ""));
    let output = site.run(&["get", "/binary"]);
    assert!(output.stdout.ends_with(b"\xff\x00 no line feed\n") && output.stdout.starts_with(b"Connecting to "));

    let output = site.run(&["--quiet", "create", "-s", "/binary/n-"]);
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("/binary/n-0000000000\n", ""));
    let output = site.run(&["--quiet", "get", "/nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("", "Node does not exist: /nowhere\n"));
    let output = site.bash("printf 'addWatch /\\nset /binary x\\nls /\\n' | rookeeper cli -server $SERVER -q");
    assert_eq!(text(&output.stdout), "[binary, zookeeper]\n");
    assert!(text(&output.stderr).starts_with("WatchedEvent state:SyncConnected type:NodeDataChanged path:/binary"));
}

#[test]
fn json_is_a_value_on_each_line() {
    let site = Site::new();
    site.create("/app", "Grüße \u{1b}".as_bytes());
    site.create("/app/binary", &[0xff]);
    let run = |arguments: &[&str]| -> Vec<Value> {
        let output = site.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let one = |arguments: &[&str]| run(arguments).pop().unwrap();
    assert_eq!(one(&["--json", "get", "/app"])["text"], "Grüße \u{1b}");
    assert_eq!(one(&["--json", "get", "/app/binary"])["base64"], "/w==");
    assert_eq!(one(&["--json", "ls", "/app"])["children"], json!(["binary"]));
    assert_eq!(run(&["--json", "ls", "-R", "/app"]), [json!({"path": "/app"}), json!({"path": "/app/binary"})]);
    assert_eq!(one(&["--json", "stat", "/app"])["stat"]["num_children"], 1);
    assert_eq!(
        one(&["--json", "getAcl", "/app"])["acl"],
        json!([{"perms": "cdrwa", "scheme": "world", "id": "anyone"}])
    );
    assert_eq!(one(&["--json", "create", "-s", "/app/s-"])["path"], "/app/s-0000000001");
    assert_eq!(one(&["--json", "set", "/app", "x"])["stat"]["version"], 1);
    assert_eq!(one(&["--json", "getAllChildrenNumber", "/app"])["descendants"], 2);
    assert_eq!(one(&["--json", "whoami"])["users"][0]["scheme"], "ip");
    assert_eq!(site.run(&["-q", "setquota", "-n", "5", "/app"]).status.code(), Some(0));
    let quota = one(&["--json", "listquota", "/app"]);
    assert_eq!((&quota["limits"]["count"], &quota["usage"]["count"]), (&json!(5), &json!(3)));
    assert_eq!(one(&["--json", "sync", "/app"])["synced"], true);
    assert_eq!(one(&["--json", "version"])["version"], env!("CARGO_PKG_VERSION"));
    // One command's own.
    let output = site.run(&["--quiet", "get", "--json", "/app"]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["text"], "x");
}

#[test]
fn data_are_shown_in_the_way_that_is_asked_for() {
    let site = Site::new();
    site.create("/json", br#"{"b":1.50,"a":[1,{}]}"#);
    site.create("/text", b"no json");
    let output = site.run(&["-q", "get", "--pretty", "/json"]);
    assert_eq!(text(&output.stdout), "{\n  \"b\": 1.50,\n  \"a\": [\n    1,\n    {}\n  ]\n}");
    let output = site.run(&["-q", "get", "--pretty", "/text"]);
    assert_eq!(text(&output.stdout), "no json");
    assert!(text(&output.stderr).contains("The data of /text are no JSON (expected"), "{output:?}");
    let [hex, dump] = ["--hex", "-x"].map(|option| site.run(&["-q", "get", option, "/text"]).stdout);
    assert_eq!(hex, dump);
    assert!(text(&hex).contains("|00000000| 6e 6f 20 6a 73 6f 6e                            |no json         |"));
}

#[test]
fn a_server_that_is_silent_costs_no_more_than_the_time_allowed() {
    let mut site = Site::new();
    site.freeze();
    let output = site.run(&["--timeout", "300ms", "ls", "/"]);
    assert_eq!(output.status.code(), Some(124), "{output:?}");
    assert!(text(&output.stderr).contains("Not done within 300ms (--timeout)"), "{output:?}");
    site.server.thaw().unwrap();
    assert_eq!(site.run(&["--timeout", "30s", "ls", "/"]).status.code(), Some(0));
}

/// Without `--timeout` a command ends with its session.
#[test]
fn nothing_waits_for_ever() {
    let mut site = Site::new();
    let folder = site.home.path().to_str().unwrap().to_owned();
    // The shell says that it is connected, and reads on when the server is silent.
    let script = format!(
        "mkfifo {folder}/lines; rookeeper cli -server $SERVER -timeout 3000 < {folder}/lines > {folder}/out 2> {folder}/err & exec 3> {folder}/lines; \
         echo 'printwatches' >&3; until grep -q 'printwatches is on' {folder}/out; do :; done; touch {folder}/ready; \
         until test -e {folder}/frozen; do :; done; echo 'ls /' >&3; exec 3>&-; wait $!; echo code $?"
    );
    let (address, home) = (site.address(), site.home.path().to_owned());
    let output = std::thread::scope(|scope| {
        let ran = scope.spawn(|| Site::bash_at(&address, &home, &script));
        while !home.join("ready").exists() {
            std::thread::yield_now();
        }
        freeze(&mut site.server);
        std::fs::write(home.join("frozen"), "").unwrap();
        ran.join().unwrap()
    });
    let complaints = std::fs::read_to_string(home.join("err")).unwrap();
    assert_eq!((text(&output.stdout), complaints.lines().count()), ("code 1\n", 1), "{complaints}");
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command_quietly() {
    let site = Site::new();
    site.create("/many", b"");
    for number in 0..40 {
        site.create(&format!("/many/{}{number}", "long".repeat(200)), b"");
    }
    let output = site.bash("set -o pipefail; rookeeper cli -server $SERVER -q ls -R / | head -n 1");
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(0), "/\n", ""));
    let output = site.bash("set -o pipefail; rookeeper export -server $SERVER / | head -n 1 > /dev/null");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let output = site.bash("rookeeper cli -server $SERVER -q ls -R / > /dev/full");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot write the output"), "{output:?}");
}

/// zkCli's words are for zkCli's commands.
#[test]
fn commands_of_ours_refuse_in_plain_words() {
    let site = Site::new();
    let output = site.bash("rookeeper cli -server $SERVER -q find / -name x");
    let told = "find: Unrecognized option: -name. `help find` lists the options.\n";
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(1), "", told));
    let output = site.bash("rookeeper cli -server $SERVER -q get / -x7");
    assert!(text(&output.stderr).starts_with("org.apache.commons.cli."), "{output:?}");
    let output = site.bash("rookeeper cli -server $SERVER -q du /nowhere");
    let told = "Node does not exist: /nowhere\n";
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(1), "", told));
}

#[test]
fn exit_codes_tell_what_happened() {
    let site = Site::new();
    for (arguments, code) in [
        (&["-q", "ls", "/"][..], 0),
        (&["-q", "ls", "/nowhere"], 1),
        (&["-q", "bogus"], 127),
        (&["-q", "help", "ls"], 0),
        (&["-q", "help", "bogus"], 127),
        (&["--timeout", "5x", "ls", "/"], 1),
    ] {
        assert_eq!(site.run(arguments).status.code(), Some(code), "{arguments:?}");
    }
}
