//! What others do to a data directory: take it away from a running server, put things there that are no files, or stop a server while it
//! reads. And what a server does with a directory that holds less than a history.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rookeeper_acceptance::client::{Client, four_letter_word};
use rookeeper_acceptance::fixture::data_directories;
use rookeeper_acceptance::server::{Server, Setup, rookeeper_binary};
use rustix::fs::{CWD, Mode, mkfifoat};

const PATIENCE: Duration = Duration::from_secs(60);

fn unpack(name: &str, target: &Path) -> PathBuf {
    let directories = data_directories().expect("the recordings are readable");
    let directory = directories.into_iter().find(|directory| directory.name == name).expect("it was recorded");
    directory.unpack(target).expect("it unpacks")
}

/// Ports that nobody else gets while a server names them that ends before it opens them.
#[derive(Default)]
struct HeldPorts(Vec<TcpListener>);

impl HeldPorts {
    fn of_members(&mut self, setup: Setup, count: u64) -> Setup {
        let mut setup = setup.config("initLimit", "5").config("syncLimit", "2");
        for server in 1..=count {
            let [quorum, election] = [0; 2].map(|_| {
                let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
                let port = listener.local_addr().expect("an address").port();
                self.0.push(listener);
                port
            });
            setup = setup.config(&format!("server.{server}"), &format!("127.0.0.1:{quorum}:{election}"));
        }
        setup
    }
}

fn await_end(server: &mut Server) -> Option<i32> {
    server.wait_exit().expect("the server ends").code()
}

#[test]
fn a_server_whose_directory_is_taken_away_acknowledges_nothing_more() {
    type TakeAway = fn(&Path);
    let ways: [TakeAway; 3] = [
        |version_dir| fs::remove_dir_all(version_dir).expect("it is removed"),
        |version_dir| fs::rename(version_dir, version_dir.with_file_name("elsewhere")).expect("it is moved"),
        |version_dir| {
            for entry in fs::read_dir(version_dir).expect("it can be read") {
                let path = entry.expect("an entry").path();
                if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log.")) {
                    fs::remove_file(path).expect("the log is removed");
                }
            }
        },
    ];
    for take_away in ways {
        let mut server = Setup::new().start().expect("the server starts");
        let mut client = Client::connect(server.address()).expect("it serves");
        client.create("/before", b"").expect("it writes");
        take_away(&server.data_dir().join("version-2"));
        client.create("/after", b"").expect_err("what can't be kept is not acknowledged");
        assert_eq!(await_end(&mut server), Some(1), "{}", server.log());
        let log = server.log();
        assert!(log.contains("was removed or moved while this server was using it"), "{log}");
        assert!(log.contains("nothing more is acknowledged"), "{log}");
    }
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    for (name, code) in
        [("version-2/snapshot.5", 1), ("version-2/log.1", 1), ("version-2/currentEpoch", 1), ("myid", 2)]
    {
        let home = tempfile::tempdir().expect("a directory");
        let data_dir = home.path().join("data");
        fs::create_dir_all(data_dir.join("version-2")).expect("a directory");
        let (path, mut ports) = (data_dir.join(name), HeldPorts::default());
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("a pipe");
        let mut setup = Setup::new().data_dir(&data_dir);
        if name.ends_with("currentEpoch") {
            fs::write(data_dir.join("myid"), "1").expect("a file");
            setup = ports.of_members(setup, 3);
        }
        let failure = setup.start_and_fail().expect("it does not start");
        assert_eq!(failure.code, Some(code), "{name}: {}", failure.log);
        let word = if name == "myid" { "no regular file" } else { "a named pipe" };
        assert!(failure.log.contains(word) && failure.log.contains(name), "{name}: {}", failure.log);
        assert!(fs::symlink_metadata(&path).expect("it is there").file_type().is_fifo());
    }
}

#[test]
fn a_lock_that_leads_elsewhere_is_refused_and_what_it_leads_to_is_left() {
    let home = tempfile::tempdir().expect("a directory");
    let (data_dir, victim) = (home.path().join("data"), home.path().join("victim"));
    fs::create_dir(&data_dir).expect("a directory");
    fs::write(&victim, "of somebody else").expect("a file");
    symlink(&victim, data_dir.join(".rookeeper.lock")).expect("a link");
    let failure = Setup::new().data_dir(&data_dir).start_and_fail().expect("it does not start");
    assert_eq!(failure.code, Some(3), "{}", failure.log);
    assert!(failure.log.contains("a symbolic link"), "{}", failure.log);
    assert_eq!(fs::read(&victim).expect("it is there"), b"of somebody else");
}

#[test]
fn data_is_not_for_everybody() {
    let server = Setup::new().start().expect("the server starts");
    let mut client = Client::connect(server.address()).expect("it serves");
    client.create("/secret", b"secret").expect("it writes");
    let version_dir = server.data_dir().join("version-2");
    let mut paths: Vec<_> =
        fs::read_dir(&version_dir).expect("it can be read").map(|entry| entry.expect("an entry").path()).collect();
    assert!(paths.len() >= 2, "{paths:?}");
    paths.push(version_dir);
    for path in paths {
        let mode = fs::metadata(&path).expect("it is there").mode();
        assert_eq!(mode & 0o007, 0, "{}: {mode:o}", path.display());
    }
}

fn adler32(bytes: &[u8]) -> u64 {
    let (mut low, mut high) = (1_u64, 0_u64);
    for byte in bytes {
        low = (low + u64::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    high << 16 | low
}

/// A log of so many failed requests that it takes a while to read.
fn long_log(records: i64) -> Vec<u8> {
    let mut log = b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0".to_vec();
    for zxid in 1..=records {
        let mut body = Vec::with_capacity(36);
        body.extend_from_slice(&1_i64.to_be_bytes());
        body.extend_from_slice(&1_i32.to_be_bytes());
        body.extend_from_slice(&zxid.to_be_bytes());
        body.extend_from_slice(&1_i64.to_be_bytes());
        body.extend_from_slice(&(-1_i32).to_be_bytes());
        body.extend_from_slice(&(-101_i32).to_be_bytes());
        log.extend_from_slice(&adler32(&body).to_be_bytes());
        log.extend_from_slice(&(body.len() as u32).to_be_bytes());
        log.extend_from_slice(&body);
        log.push(b'B');
    }
    log
}

#[test]
fn a_signal_ends_a_start_that_still_reads() {
    let home = tempfile::tempdir().expect("a directory");
    let data_dir = home.path().join("data");
    fs::create_dir_all(data_dir.join("version-2")).expect("a directory");
    fs::write(data_dir.join("version-2/log.1"), long_log(1_000_000)).expect("a log");
    let (config, log_path) = (home.path().join("zoo.cfg"), home.path().join("log"));
    let mut file = fs::File::create(&config).expect("a file");
    // Any port that is free.
    write!(file, "clientPort=0\ndataDir={}\nsnapshot.trust.empty=true\n", data_dir.display()).expect("a configuration");
    let mut process = Command::new(rookeeper_binary().expect("the binary is built"))
        .arg("server")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log_path).expect("a file"))
        .spawn()
        .expect("it starts");
    let log = || fs::read_to_string(&log_path).unwrap_or_default();
    let began = Instant::now();
    while !log().contains("data directory") && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let process_id = rustix::process::Pid::from_child(&process);
    rustix::process::kill_process(process_id, rustix::process::Signal::TERM).expect("it runs");
    let status = process.wait().expect("it ends");
    let log = log();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("SIGTERM: stopping, before the start was complete"), "{log}");
    assert!(!log.contains("read the transaction log"), "it read to the end first: {log}");
}

#[test]
fn a_snapshot_alone_that_was_taken_while_the_data_changed() {
    let home = tempfile::tempdir().expect("a directory");
    let data_dir = unpack("fuzzy-snapshot", home.path());
    let version_dir = data_dir.join("version-2");
    for entry in fs::read_dir(&version_dir).expect("it can be read") {
        let path = entry.expect("an entry").path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log.")) {
            fs::remove_file(path).expect("the log is removed");
        }
    }
    let mut ports = HeldPorts::default();
    // No member may take it for a history, for others could have the same numbers with other contents.
    fs::write(data_dir.join("myid"), "1").expect("a file");
    let failure = ports.of_members(Setup::new().data_dir(&data_dir), 2).start_and_fail().expect("it does not start");
    assert_eq!(failure.code, Some(1), "{}", failure.log);
    assert!(failure.log.contains("it holds a part of the changes up to"), "{}", failure.log);
    fs::remove_file(data_dir.join("myid")).expect("it was there");

    let forbidden = Setup::new().data_dir(&data_dir).config("snapshot.trust.partial", "false");
    let failure = forbidden.start_and_fail().expect("it does not start");
    assert!(failure.log.contains("it holds a part of the changes up to"), "{}", failure.log);

    let mut server = Setup::new().data_dir(&data_dir).start().expect("a standalone server starts");
    server.wait_log("the log of that time is missing").expect("it says so");
    let mut client = Client::connect(server.address()).expect("it serves");
    client.create("/after", b"").expect("it writes");
    server.kill().expect("it is killed");
    // The next start finds a snapshot that is exact, with the log behind it.
    let told = server.log().len();
    server.restart().expect("it starts again");
    assert!(!server.log()[told..].contains("the log of that time is missing"), "{}", server.log());
    let mut client = Client::connect(server.address()).expect("it serves");
    assert!(client.exists("/after").expect("it answers").is_some());
    let srvr = four_letter_word(server.address(), "srvr").expect("it answers");
    assert!(!srvr.contains("Digest mismatch"), "{srvr}");
}

/// The same log with another digest behind its first transaction, and a checksum that is right for it.
fn with_wrong_digest(mut log: Vec<u8>) -> Vec<u8> {
    const HEADER: usize = 16;
    let length = u32::from_be_bytes(log[HEADER + 8..HEADER + 12].try_into().expect("four bytes")) as usize;
    let body = HEADER + 12..HEADER + 12 + length;
    log[body.end - 1] ^= 1;
    let checksum = adler32(&log[body]);
    log[HEADER..HEADER + 8].copy_from_slice(&checksum.to_be_bytes());
    log
}

#[test]
fn a_tree_with_another_digest_is_shown_and_served_or_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let data_dir = unpack("clean-shutdown", home.path());
    let path = data_dir.join("version-2/log.1");
    fs::write(&path, with_wrong_digest(fs::read(&path).expect("a log"))).expect("it is ours");

    let failure = Setup::new().data_dir(&data_dir).config("digest.onMismatch", "stop").start_and_fail();
    let failure = failure.expect("it does not start");
    assert_eq!(failure.code, Some(1), "{}", failure.log);
    assert!(
        failure.log.contains("after transaction 0x1 the tree's digest is not the one in the log"),
        "{}",
        failure.log
    );

    let server = Setup::new().data_dir(&data_dir).config("4lw.commands.whitelist", "*").start().expect("it starts");
    server.wait_log("tree digests differ, the first after transaction 0x1").expect("it says so");
    let srvr = four_letter_word(server.address(), "srvr").expect("it answers");
    assert!(srvr.contains("\nDigest mismatch: this tree can't be trusted since 0x1\n"), "{srvr}");
    let mntr = four_letter_word(server.address(), "mntr").expect("it answers");
    assert!(mntr.contains("zk_digest_mismatches_count\t1\n"), "{mntr}");
    let loaded = mntr.lines().find_map(|line| line.strip_prefix("zk_sum_startup_txns_loaded\t"));
    assert!(loaded.is_some_and(|count| count.parse::<u64>().is_ok_and(|count| count > 0)), "{mntr}");
    // What is reset is what is counted, not what is known.
    four_letter_word(server.address(), "srst").expect("it answers");
    let srvr = four_letter_word(server.address(), "srvr").expect("it answers");
    assert!(srvr.contains("Digest mismatch"), "{srvr}");
}
