//! The audit log: the lines of the original for the same requests, what the original leaves out, and a log that takes nothing and stops nobody.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rookeeper_acceptance::client::{Client, four_letter_word, refusal};
use rookeeper_acceptance::fixture;
use rookeeper_acceptance::foreign::{python, run};
use rookeeper_acceptance::server::{Server, Setup};
use tempfile::TempDir;

/// What the original tells of.
const ORIGINALS: [&str; 9] = [
    "serverStart",
    "serverStop",
    "create",
    "delete",
    "setData",
    "setAcl",
    "multiOperation",
    "reconfig",
    "ephemeralZNodeDeletionOnSessionCloseOrExpire",
];

const NO_NODE: i32 = -101;

fn setup(file: &Path) -> Setup {
    Setup::new()
        .config("audit.enable", "true")
        .config("audit.file", file.to_str().expect("a path in UTF-8"))
        .config("4lw.commands.whitelist", "*")
}

struct Log {
    _directory: TempDir,
    file: PathBuf,
}

impl Log {
    fn new() -> Log {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("audit.log");
        Log { _directory: directory, file }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).expect("an audit log")
    }

    /// The whole log, once it has a line with this.
    fn wait(&self, part: &str) -> String {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.text().contains(part) {
            assert!(Instant::now() < until, "{part:?} is not in the audit log:\n{}", self.text());
            std::thread::yield_now();
        }
        self.text()
    }
}

fn operation(line: &str) -> &str {
    line.split(['\t', ' ']).find_map(|field| field.strip_prefix("operation=")).expect("each line has an operation")
}

/// The lines of operations of the original, without what differs from run to run: the time, the ids of sessions, and who runs the server.
fn normalized(text: &str) -> Vec<String> {
    let mut sessions = BTreeMap::new();
    let lines = text.lines().filter(|line| ORIGINALS.contains(&operation(line)));
    let normalize = |line: &str| {
        let (stamp, rest) = line.split_at(23);
        let digits: String = stamp.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(digits, "0000-00-00T00:00:00,000", "{line}");
        let (head, fields) = rest.split_once(": ").expect("a logger");
        let is_of_server = !fields.contains("\tip=");
        let fields = fields.split('\t').map(|field| match field.split_once('=').expect("key=value") {
            ("session", id) => {
                let next = sessions.len();
                format!("session=#{}", sessions.entry(id.to_owned()).or_insert(next))
            }
            ("user", _) if is_of_server => "user=server".to_owned(),
            _ => field.to_owned(),
        });
        format!("{head}: {}", fields.collect::<Vec<_>>().join("\t"))
    };
    lines.map(normalize).collect()
}

#[test]
fn the_lines_of_the_original_for_the_same_requests() {
    let log = Log::new();
    let mut server = setup(&log.file).start().expect("the server starts");
    run(python("audit.py").expect("kazoo is installed"), &mut server).unwrap_or_else(|error| panic!("{error:#}"));
    // The recorded session was cut off by the end of its server; the ephemeral node of the first client is still there.
    log.wait("znode=/e2\tresult=success");
    assert!(server.terminate().expect("it ends").success());

    let recorded =
        fs::read_to_string(fixture::directory().join("operations/audit/audit-log.txt")).expect("a recording");
    let mut ours = normalized(&log.text());
    // The recorded node had a time to live, of which the original tells since 3.9.4.
    let before = ours.len();
    ours.retain(|line| !line.contains("operation=create\tznode=/t\t"));
    assert_eq!(ours.len(), before - 1);
    // The first client is asked to go when its program ends.
    ours.retain(|line| !(line.contains("operation=ephemeral") && line.contains("znode=/a/e")));
    assert_eq!(ours, normalized(&recorded), "{}", log.text());
}

#[test]
fn what_the_original_leaves_out() {
    let log = Log::new();
    let server = setup(&log.file).start().expect("the server starts");
    let mut client = Client::connect(server.address()).expect("a session");
    client.create("/a", b"").expect("a node");
    assert!(client.authenticate("nosuch", "x").is_err());
    Client::connect(server.address()).expect("a session").close().expect("an end");
    let text = log.wait("operation=sessionClose\tresult=success");
    for (operation, result) in [("sessionOpen", "success"), ("authentication", "failure")] {
        let line = text.lines().find(|line| line.contains(&format!("operation={operation}\t"))).expect(operation);
        assert!(
            line.contains("\tuser=127.0.0.1\tip=127.0.0.1\t") && line.ends_with(&format!("result={result}")),
            "{line}"
        );
    }
}

#[test]
fn json_and_standard_output() {
    let server = Setup::new()
        .config("audit.enable", "true")
        .config("audit.format", "json")
        .script("exec \"$@\" >audit.json")
        .start()
        .expect("the server starts");
    let mut client = Client::connect(server.address()).expect("a session");
    client.create("/\"quoted\"", b"").expect("a node");
    let file = server.log_file().with_file_name("audit.json");
    let until = Instant::now() + Duration::from_secs(60);
    let created = loop {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if let Some(line) = text.lines().find(|line| line.contains("\"create\"") && line.ends_with('}')) {
            break serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        }
        assert!(Instant::now() < until, "no line in time: {text}");
        std::thread::yield_now();
    };
    assert_eq!((&created["znode"], &created["result"]), (&"/\"quoted\"".into(), &"success".into()));
    assert_eq!((&created["znode_type"], &created["ip"]), (&"persistent".into(), &"127.0.0.1".into()));
}

fn metric(server: &Server, name: &str) -> u64 {
    let text = four_letter_word(server.address(), "mntr").expect("an answer");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}:\n{text}"));
    line.trim().parse().expect("a number")
}

fn lose(server: &Server, file_of_audit: &str) {
    let mut client = Client::connect(server.address()).expect("a session");
    // More than may wait to be written.
    let long = format!("/{}", "x".repeat(500_000));
    for _ in 0..50 {
        assert_eq!(refusal(&client.set_data(&long, b"", -1)), Some(NO_NODE));
    }
    client.create("/still-there", b"x").expect("requests go on");
    let until = Instant::now() + Duration::from_secs(60);
    while metric(server, "zk_audit_lines_dropped") == 0 {
        assert!(Instant::now() < until, "nothing lost is counted with {file_of_audit}");
    }
}

#[test]
fn a_full_disk_under_the_audit_log_stops_no_request() {
    let mut server = setup(Path::new("/dev/full")).start().expect("the server starts");
    lose(&server, "a full disk");
    server.wait_log("the audit log can't be written: No space left on device").expect("it is said");
    server.wait_log("the audit log lost ").expect("it is said");
    assert!(server.terminate().expect("it ends").success());
}

#[test]
fn a_pipe_without_a_reader_stops_no_request_and_no_end() {
    let log = Log::new();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &log.file, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
    let mut server = setup(&log.file).start().expect("the server starts");
    lose(&server, "a pipe");
    assert!(server.terminate().expect("it ends").success());
}

#[test]
fn an_audit_log_that_can_not_be_opened_is_no_server() {
    let failure = setup(Path::new("/nowhere/audit.log")).start_and_fail().expect("it does not start");
    assert_eq!(failure.code, Some(1));
    assert!(failure.log.contains("can't open the audit log: /nowhere/audit.log: No such file"), "{}", failure.log);
}

#[test]
fn another_class_is_refused_by_name() {
    let failure = Setup::new().config("audit.enable", "true").config("audit.impl.class", "com.example.Mine");
    let failure = failure.start_and_fail().expect("it does not start");
    assert_eq!(failure.code, Some(2));
    assert!(failure.log.contains("com.example.Mine") && failure.log.contains("audit.impl.class"), "{}", failure.log);
}
