//! `rookeeper lock` and `rookeeper elect`: the command of one holder is gone before the command of another begins, whatever is done to the processes
//! in between. Shown by the beats of the commands, each with its fencing token and the time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rookeeper_acceptance::proxy::Proxy;
use rookeeper_acceptance::server::{Server, Setup, rookeeper_binary};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);
const SESSION_MS: &str = "1500";

/// Beats until it is killed: it does not obey TERM, and what it leaves in the background beats too, in a session of its own.
const STUBBORN: &str = r#"
trap '' TERM HUP INT
beat() { while :; do echo "$ROOKEEPER_FENCING_TOKEN $(date +%s%N)" >> "$BEATS"; sleep 0.01; done; }
export -f beat
setsid bash -c 'trap "" TERM HUP INT; beat' &
beat
"#;

/// Beats for a moment.
const SHORT: &str =
    r#"for n in 1 2 3 4 5; do echo "$ROOKEEPER_FENCING_TOKEN $(date +%s%N)" >> "$BEATS"; sleep 0.01; done; exit 7"#;

struct Scene {
    server: Server,
    home: TempDir,
}

impl Scene {
    fn new() -> Scene {
        let server = Setup::new().config("tickTime", "200").start().unwrap();
        Scene { server, home: tempfile::tempdir().unwrap() }
    }

    fn beats_file(&self) -> PathBuf {
        self.home.path().join("beats")
    }

    fn command(&self, subcommand: &str, address: &str, options: &[&str], script: &str) -> Command {
        let mut command = Command::new(rookeeper_binary().unwrap());
        command.args([subcommand, "/held", "--server", address]).args(options);
        if !options.contains(&"--session-timeout") {
            command.args(["--session-timeout", SESSION_MS]);
        }
        command.args(["--", "bash", "-c", script]).env("BEATS", self.beats_file()).stdin(Stdio::null());
        command
    }

    fn start(&self, subcommand: &str, options: &[&str], script: &str) -> Holder {
        let address = self.server.address().to_string();
        Holder(self.command(subcommand, &address, options, script).spawn().unwrap())
    }

    /// The first and the last beat of each token, in nanoseconds.
    fn beats(&self) -> BTreeMap<i64, (u64, u64)> {
        let mut beats: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
        for line in fs::read_to_string(self.beats_file()).unwrap_or_default().lines() {
            let Some((token, time)) = line.split_once(' ') else { continue };
            let (token, time) = (token.parse().unwrap(), time.parse().unwrap());
            let beat = beats.entry(token).or_insert((time, time));
            *beat = (beat.0.min(time), beat.1.max(time));
        }
        beats
    }

    fn wait_beats_of(&self, tokens: usize) {
        wait("the commands beat", || self.beats().len() >= tokens);
    }

    /// No command beats after the next has begun, and tokens grow.
    fn check(&self, tokens: usize) {
        let beats: Vec<_> = self.beats().into_iter().collect();
        assert_eq!(beats.len(), tokens, "{beats:?}");
        for pair in beats.windows(2) {
            assert!(pair[0].1.1 < pair[1].1.0, "two commands at once: {pair:?}");
        }
    }

    /// A holder comes to the lock behind the one that something is done to.
    fn follow(&self, subcommand: &str) {
        let mut next = self.start(subcommand, &[], SHORT);
        assert_eq!(next.end(), 7);
        self.check(2);
    }
}

struct Holder(Child);

impl Holder {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    fn end(&mut self) -> i32 {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < until, "the holder does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The process between this one and the command.
    fn keeper(&self) -> Pid {
        children(self.0.id())[0]
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        for pid in [Some(self.pid()), children(self.0.id()).first().copied()].into_iter().flatten() {
            let _ = kill_process(pid, Signal::CONT);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn children(pid: u32) -> Vec<Pid> {
    let text = fs::read_to_string(Path::new(&format!("/proc/{pid}/task/{pid}/children"))).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.contains(") Z ")
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "did not happen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn one_command_at_a_time_with_growing_tokens() {
    let scene = Scene::new();
    let mut holders: Vec<Holder> = (0..5).map(|_| scene.start("lock", &[], SHORT)).collect();
    for holder in &mut holders {
        assert_eq!(holder.end(), 7, "the exit code of the command");
    }
    scene.check(5);
    assert_eq!(scene.server.log().matches("panic").count(), 0);
}

#[test]
fn a_holder_that_is_killed() {
    for subcommand in ["lock", "elect"] {
        let scene = Scene::new();
        let holder = scene.start(subcommand, &[], STUBBORN);
        scene.wait_beats_of(1);
        holder.signal(Signal::KILL);
        scene.follow(subcommand);
    }
}

/// Long before any deadline: the pipe between the two has ended.
#[test]
fn the_command_of_a_killed_holder_ends_at_once() {
    let mut scene = Scene::new();
    scene.server = Setup::new().config("maxSessionTimeout", "600000").start().unwrap();
    let holder = scene.start("lock", &["--session-timeout", "600000"], STUBBORN);
    scene.wait_beats_of(1);
    let keeper = holder.keeper();
    holder.signal(Signal::KILL);
    wait("the keeper has ended the command, and itself", || test_kill_process(keeper).is_err() || is_zombie(keeper));
}

#[test]
fn a_holder_that_is_frozen_past_its_session() {
    for subcommand in ["lock", "elect"] {
        let scene = Scene::new();
        let holder = scene.start(subcommand, &[], STUBBORN);
        scene.wait_beats_of(1);
        holder.signal(Signal::STOP);
        scene.follow(subcommand);
    }
}

#[test]
fn a_keeper_that_is_killed() {
    let scene = Scene::new();
    let mut holder = scene.start("lock", &[], STUBBORN);
    scene.wait_beats_of(1);
    kill_process(holder.keeper(), Signal::KILL).unwrap();
    assert_eq!(holder.end(), 70);
    scene.follow("lock");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_cut_off_also_with_a_frozen_keeper() {
    for freeze_keeper in [false, true] {
        let scene = Scene::new();
        let proxy = Proxy::to(scene.server.address(), 1).await.unwrap();
        let mut holder = Holder(scene.command("lock", &proxy.address().to_string(), &[], STUBBORN).spawn().unwrap());
        scene.wait_beats_of(1);
        if freeze_keeper {
            kill_process(holder.keeper(), Signal::STOP).unwrap();
        }
        proxy.silence();
        scene.follow("lock");
        assert_eq!(holder.end(), 70);
    }
}

#[test]
fn a_node_that_somebody_deletes() {
    let scene = Scene::new();
    let mut holder = scene.start("lock", &[], STUBBORN);
    scene.wait_beats_of(1);
    let address = scene.server.address().to_string();
    let shell = |words: &[&str]| {
        let output = Command::new(rookeeper_binary().unwrap()).args(["cli", "-server", &address]).args(words).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let listed = shell(&["ls", "/held"]);
    let name = listed.lines().last().unwrap().trim_matches(['[', ']']);
    shell(&["delete", &format!("/held/{name}")]);
    assert_eq!(holder.end(), 70);
}

#[test]
fn an_election_goes_on_after_a_loss() {
    let scene = Scene::new();
    let leader = scene.start("elect", &["--again", "--id", "one"], STUBBORN);
    scene.wait_beats_of(1);
    // Frozen until another leads, then it stands again.
    leader.signal(Signal::STOP);
    let mut next = scene.start("elect", &["--id", "two"], SHORT);
    assert_eq!(next.end(), 7);
    leader.signal(Signal::CONT);
    scene.wait_beats_of(3);
    leader.signal(Signal::KILL);
    scene.check(3);
}

/// The code of a loss may be that of the command as well.
#[test]
fn a_command_that_ends_by_itself_ends_the_candidacy_whatever_its_code() {
    let scene = Scene::new();
    assert_eq!(scene.start("elect", &["--again"], "exit 70").end(), 70);
}

#[test]
fn limits_and_signals() {
    let scene = Scene::new();
    let mut holder = scene.start(
        "lock",
        &[],
        r#"trap 'exit 9' TERM; echo "$ROOKEEPER_FENCING_TOKEN 1" >> "$BEATS"; while :; do sleep 0.01; done"#,
    );
    scene.wait_beats_of(1);
    for limit in ["0", "0.1"] {
        assert_eq!(scene.start("lock", &["--timeout", limit], "exit 0").end(), 75);
    }
    let mut waiting = scene.start("lock", &[], "exit 0");
    let contenders = || {
        let output = Command::new(rookeeper_binary().unwrap())
            .args(["cli", "-server", &scene.server.address().to_string(), "ls", "/held"])
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap().matches("lock-").count()
    };
    wait("it waits", || contenders() == 2);
    waiting.signal(Signal::TERM);
    assert_eq!(waiting.end(), 128 + 15);
    assert_eq!(contenders(), 1, "whoever gave up has no node left");
    holder.signal(Signal::TERM);
    assert_eq!(holder.end(), 9, "the command got the signal, and decides");
    assert_eq!(contenders(), 0);
    assert_eq!(scene.start("lock", &["--shared"], "exit 0").end(), 0);
    assert_eq!(scene.start("lock", &["--exclusive"], "kill -9 $$").end(), 128 + 9);
}

#[test]
fn what_cannot_be() {
    let scene = Scene::new();
    let address = scene.server.address().to_string();
    let run = |address: &str, command: &str| {
        let mut lock = Command::new(rookeeper_binary().unwrap());
        Holder(lock.args(["lock", "/held", "--server", address, "--", command]).stderr(Stdio::null()).spawn().unwrap())
            .end()
    };
    assert_eq!(run(&address, "/no/such/program"), 127);
    assert_eq!(run(&address, "/etc/passwd"), 126);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert_eq!(run(&closed, "true"), 69);
}

#[test]
fn what_a_command_leaves_running_is_ended_with_it() {
    let scene = Scene::new();
    let file = scene.home.path().join("pid");
    let script = format!("setsid sleep 1000 & echo $! > {}; exit 3", file.display());
    assert_eq!(scene.start("lock", &[], &script).end(), 3);
    let pid = Pid::from_raw(fs::read_to_string(file).unwrap().trim().parse().unwrap()).unwrap();
    assert!(test_kill_process(pid).is_err(), "it is gone before the lock is");
}
