//! The shell as a person has it: in a pseudo-terminal, key by key.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use site::{CTRL_C, CTRL_D, Site, UP};

#[test]
fn tab_lists_and_completes_commands_options_and_paths() {
    let site = Site::new();
    for path in ["/app", "/app/alpha", "/app/alpine", "/app/alpine/hut", "/two words", "/two words/below"] {
        site.create(path, format!("of {path}").as_bytes());
    }
    let mut shell = site.shell(&[]);
    shell.press("getA\t\t");
    let listed = shell.wait_for("getAllChildrenNumber");
    assert!(listed.contains("getAcl"), "{listed}");
    shell.wait_for("] getA");
    shell.press("c\t-\t\t");
    let listed = shell.wait_for("--json");
    assert!(listed.contains("-s"), "{listed}");
    shell.wait_for("] getAcl -");
    shell.give_up();

    // What all candidates begin with is completed at once, the second time they are listed.
    shell.press("get /app/a\t");
    shell.wait_for("/app/alp");
    shell.press("\t");
    let listed = shell.wait_for("alpine");
    assert!(listed.contains("alpha   alpine"), "{listed}");
    shell.press("i\t");
    // A node with children goes on.
    shell.wait_for("/app/alpine/");
    shell.press("\t");
    shell.wait_for("/app/alpine/hut ");
    shell.press("\r");
    shell.wait_for("of /app/alpine/hut");

    shell.prompt();
    shell.press("get /tw\t");
    shell.wait_for("\"/two words/");
    shell.press("\t");
    shell.wait_for("\"/two words/below\" ");
    shell.press("\r");
    shell.wait_for("of /two words/below");
    shell.prompt();
    shell.press(CTRL_D);
    assert_eq!(shell.end().0, 0);
}

#[test]
fn lines_come_back_in_the_next_shell_but_no_credentials() {
    let site = Site::new();
    let mut shell = site.shell(&[]);
    shell.line("ls /zookeeper");
    shell.line("addauth digest bob:verysecret");
    // In the same shell the line is still there.
    shell.press(UP);
    shell.wait_for("verysecret");
    shell.give_up();
    shell.press(CTRL_D);
    let (code, rest) = shell.end();
    assert_eq!(code, 0);
    assert!(rest.contains("-- the session is closed"), "{rest}");

    let file = site.home.path().join(".local/state/rookeeper/cli_history");
    assert_eq!(fs::read_to_string(&file).unwrap(), "ls /zookeeper\n");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let mut shell = site.shell(&[]);
    shell.press(UP);
    shell.wait_for("ls /zookeeper");
    shell.press("\r");
    shell.wait_for("[config, quota]");
    let elsewhere = site.home.path().join("state");
    let mut shell = site.shell(&[("XDG_STATE_HOME", elsewhere.to_str().unwrap())]);
    shell.line("stat /");
    assert_eq!(fs::read_to_string(elsewhere.join("rookeeper/cli_history")).unwrap(), "stat /\n");
}

#[test]
fn ctrl_c_ends_the_command_and_not_the_shell() {
    let mut site = Site::new();
    site.create("/app", b"");
    let mut shell = site.shell(&[]);
    // A line that is given up.
    shell.press("get /no");
    shell.wait_for("get /no");
    shell.press(CTRL_C);
    shell.wait_for("(CONNECTED) 0] ");
    site.freeze();
    shell.press("ls /\r");
    shell.wait_for("-- this takes longer than 5 s; Ctrl-C ends the command");
    shell.press(CTRL_C);
    shell.wait_for("Interrupted");
    shell.wait_for("1] ");
    site.server.thaw().unwrap();
    let listed = shell.line("ls /");
    assert!(listed.contains("[app, zookeeper]"), "{listed}");
    shell.press("quit\r");
    assert_eq!(shell.end().0, 0);
}

#[test]
fn a_command_takes_no_longer_than_it_may() {
    let mut site = Site::new();
    let mut shell = site.terminal(&["--timeout", "4s"], &[]);
    shell.prompt();
    assert!(shell.line("ls /").contains("[zookeeper]"));
    site.freeze();
    let shown = shell.line("ls /");
    assert!(shown.contains("Not done within 4s (--timeout): given up."), "{shown:?}");
    site.server.thaw().unwrap();
    shell.press(CTRL_D);
    assert_eq!(shell.end().0, 124);
}

#[test]
fn the_new_commands_are_at_hand() {
    let site = Site::new();
    site.create("/app", b"x");
    site.create("/app/below", b"y");
    let file = site.home.path().join("a file");
    fs::write(&file, "x").unwrap();
    let mut shell = site.shell(&[("EDITOR", "ed -s -p ready:"), ("TMPDIR", site.home.path().to_str().unwrap())]);
    assert!(shell.line("tree /app").contains("/app\r\n\u{2514}\u{2500}\u{2500} below\r\n\r\n2 nodes\r\n"));
    shell.press("find /app --ow\ta\t");
    shell.wait_for("--owner any ");
    shell.give_up();
    // An editor has the terminal to itself, its interruptions too.
    shell.press("edit /app\r");
    shell.wait_for("ready:");
    shell.press("p\r");
    shell.wait_for("x\r\nready:");
    shell.press(CTRL_C);
    shell.wait_for("?\r\nready:");
    site.create("/app/meanwhile", b"");
    shell.press("s/x/xyz/\rw\rq\r");
    shell.wait_for("Changed /app, which has version 1 now");
    shell.prompt();
    assert_eq!(site.data("/app"), b"xyz");
    assert!(shell.line("cp -r /app /copy").contains("Copied 3 nodes with 4 bytes, in one transaction"));
    let shown = shell.line("diff /app /copy");
    assert!(!["~", "+ ", "- "].iter().any(|sign| shown.contains(sign)), "{shown:?}");
    shell.line("set /copy/below z");
    assert!(shell.line("diff /app /copy").contains("~ /app/below: data of 1 and 1 bytes, different from byte 0 on"));
}

#[test]
fn a_lost_connection_is_told_and_spoils_no_input() {
    let mut site = Site::new();
    site.create("/app", b"still here");
    let mut shell = site.shell(&[]);
    shell.press("get /ap");
    shell.wait_for("get /ap");
    site.server.kill().unwrap();
    let told = shell.wait_for("(CONNECTING) 0]");
    assert!(told.contains(&format!("-- the connection to {} is lost: waiting for a server", site.address())), "{told}");
    shell.wait_for("get /ap");
    shell.press("p\r");
    shell.wait_for(&format!("-- waiting for a server: {} does not answer; Ctrl-C ends the command", site.address()));
    site.server.restart().unwrap();
    let told = shell.wait_for("(CONNECTED) 1] ");
    assert!(told.contains("still here") && told.contains("-- connected to"), "{told}");

    // Typed while there is no server, and given up.
    site.server.kill().unwrap();
    shell.wait_for("(CONNECTING) 1]");
    shell.press("stat /app\r");
    shell.wait_for("-- waiting for a server");
    shell.press(CTRL_C);
    shell.wait_for("Interrupted");
    shell.wait_for("(CONNECTING) 2] ");
}

#[test]
fn an_event_stands_above_the_line_that_is_typed() {
    let site = Site::new();
    site.create("/app", b"");
    let mut shell = site.shell(&[]);
    shell.line("addWatch /app");
    shell.press("stat /ap");
    shell.wait_for("stat /ap");
    site.create("/app/new", b"");
    shell.wait_for("-- NodeCreated /app/new (zxid 0x");
    shell.wait_for("stat /ap");
    shell.press("p\r");
    let shown = shell.wait_for("numChildren = 1");
    assert!(shown.contains("cZxid = 0x"), "{shown}");
    shell.prompt();
    shell.line("printwatches off");
    site.create("/app/unseen", b"");
    let shown = shell.line("ls /app");
    assert!(shown.contains("[new, unseen]") && !shown.contains("--"), "{shown}");
}

#[test]
fn hostile_names_and_data_leave_the_terminal_alone() {
    let site = Site::new();
    let hostile = b"\x1b]0;owned\x07\x1b[2J\xff\xfe\r\xe2\x80\xae\xe6\xbc\xa2\xe5\xad\x97\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb";
    site.create("/data", hostile);
    site.create("/\u{202e}dlrow", b"");
    site.create("/漢字漢字", b"wide");
    let mut shell = site.shell(&[]);
    let shown = shell.line("get /data");
    assert!(shown.contains("\\u{1b}]0;owned\\u{7}\\u{1b}[2J\\xff\\xfe\\r\\u{202e}漢字👩\u{200d}💻\r\n"), "{shown:?}");
    let shown = shell.line("ls /");
    assert!(shown.contains("[data, zookeeper, \\u{202e}dlrow, 漢字漢字]"), "{shown:?}");
    let shown = shell.line("get /\u{202e}nowhere");
    assert!(shown.contains("Node does not exist: /\\u{202e}nowhere"), "{shown:?}");
    // A name that turns the line around is not offered.
    shell.press("get /\t\t");
    let listed = shell.wait_for("zookeeper");
    assert!(!listed.contains("dlrow"), "{listed:?}");
    shell.press("漢\t");
    shell.wait_for("漢字漢字 ");
    shell.press("\r");
    shell.wait_for("wide");
}

#[test]
fn what_is_longer_than_the_screen_goes_through_the_pager() {
    let site = Site::new();
    site.create("/many", b"");
    site.with(async |client| {
        let options = zookeeper_client::CreateMode::Persistent.with_acls(zookeeper_client::Acls::anyone_all());
        for round in 0..3 {
            let mut writer = client.new_multi_writer();
            for number in 0..1_000 {
                writer.add_create(&format!("/many/{}", round * 1_000 + number), b"", &options).unwrap();
            }
            writer.commit().await.unwrap();
        }
    });
    // nl numbers lines: what it has seen shows by that.
    let mut shell = site.shell(&[("PAGER", "nl -w1 -s:")]);
    let shown = shell.line("ls -R /many");
    assert!(shown.contains("1:/many\r\n") && shown.contains("\n3001:/many/"), "{} bytes", shown.len());
    assert!(shell.line("ls /").contains("[many, zookeeper]"));
    // A reader that has seen enough ends the command, which is still at it.
    let mut shell = site.shell(&[("PAGER", "head -n 2")]);
    let shown = shell.line("find /many --name *");
    assert_eq!(shown.matches("/many").count(), 2, "{shown:?}");
    assert!(shell.line("ls /").contains("[many, zookeeper]"));
    // A pager that is not there is done without.
    let mut shell = site.shell(&[("PAGER", "no-such-pager")]);
    assert!(shell.line("ls -R /many").contains("/many/2999"));
}

#[test]
fn the_session_goes_on_while_somebody_reads() {
    let site = Site::new();
    site.create("/many", b"");
    site.with(async |client| {
        let options = zookeeper_client::CreateMode::Persistent.with_acls(zookeeper_client::Acls::anyone_all());
        let mut writer = client.new_multi_writer();
        for number in 0..1_500 {
            writer.add_create(&format!("/many/{}{number}", "long".repeat(100)), b"", &options).unwrap();
        }
        writer.commit().await.unwrap();
    });
    // A pager that takes nothing before a key is pressed: a page that is read for long.
    let pager = "sh -c 'echo reading; read key < /dev/tty; cat > /dev/null'";
    let mut shell = site.terminal(&["-timeout", "3000"], &[("PAGER", pager)]);
    shell.prompt();
    shell.press("create -e /alive\r");
    shell.wait_for("Created /alive");
    shell.press("find /many --name *\r");
    shell.wait_for("reading");
    // The session of somebody who died meanwhile expires, and has no longer a timeout.
    let is_there = |path: &str| site.with(async |client| client.check_stat(path).await).unwrap().is_some();
    site.bash("mkfifo $HOME/lines; rookeeper cli -server $SERVER -timeout 3000 < $HOME/lines > /dev/null 2>&1 & exec 3> $HOME/lines; echo 'create -e /dying' >&3; \
               until rookeeper cli -server $SERVER -q stat /dying > /dev/null 2>&1; do :; done; kill -9 $!");
    while is_there("/dying") {
        std::thread::yield_now();
    }
    assert!(is_there("/alive"));
    shell.press("\r");
    shell.wait_for("(CONNECTED) 2] ");
}

#[test]
fn help_tells_of_commands_and_of_typing_errors() {
    let site = Site::new();
    let mut shell = site.shell(&[("PAGER", "cat")]);
    let shown = shell.line("help");
    assert!(shown.contains("deleteall") && shown.contains("Tab completes"), "{shown}");
    let shown = shell.line("help get");
    assert!(shown.contains("--pretty  JSON, with a member on each line") && shown.contains("Example: get"), "{shown}");
    let shown = shell.line("gte /");
    assert!(shown.contains("Did you mean get? help lists the commands."), "{shown}");
    let shown = shell.line("close");
    assert!(shown.contains("-- the session is closed") && shown.ends_with("(CLOSED) 4] "), "{shown}");
    let shown = shell.line("ls /");
    assert!(shown.contains("Not connected: connect begins a session"), "{shown}");
    let shown = shell.line("connect");
    assert!(shown.contains("-- connected to") && shown.ends_with("(CONNECTED) 6] "), "{shown}");
}

#[test]
fn one_command_at_a_terminal_prints_its_result_alone() {
    let site = Site::new();
    let (code, shown) = site.terminal(&["ls", "/"], &[]).end();
    assert_eq!((code, shown.as_str()), (0, "[zookeeper]\r\n"));
    let (code, shown) = site.terminal(&["create", "/a"], &[]).end();
    assert_eq!((code, shown.as_str()), (0, "Created /a\r\n"));
}
