//! The scripts that run a server: their outputs and exit codes are those recorded of the original, and they stop nobody else.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rookeeper_acceptance::fixture::repository;
use rookeeper_acceptance::script::{Home, part, recorded};
use rookeeper_acceptance::server::rookeeper_binary;

/// For what takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// A home with a configuration, of which a server may run; that ends with it.
struct Site {
    home: Home,
    port: u16,
}

impl Site {
    fn new() -> Site {
        let home = Home::new().expect("a home");
        let port = free_port();
        let data = home.path().join("data");
        let text = format!(
            "# a comment\n  dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\npreAllocSize=64\n",
            data.display()
        );
        fs::write(home.path().join("conf/zoo.cfg"), text).expect("a configuration");
        Site { home, port }
    }

    /// The exit code, standard output, and standard error, with the port of the recordings.
    fn run(&self, script: &str, arguments: &[&str]) -> (i32, String, String) {
        let ran = self.home.run(script, arguments).expect("the script runs");
        let shown =
            |text: String| text.replace(&self.port.to_string(), "33500").replace("/opt/zookeeper/bin/zk", "bin/zk");
        (ran.code, shown(ran.stdout), shown(ran.stderr))
    }

    fn pid(&self) -> String {
        fs::read_to_string(self.home.path().join("data/zookeeper_server.pid")).expect("a pid file")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Only what the script takes for the server of this home.
        let _ = self.home.run("zkServer.sh", &["stop"]);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// What the original prints, without what tells of Java.
fn original(recording: &str, command: &str) -> String {
    let lines = part(recording, command);
    let ours = |line: &&str| *line != "/usr/bin/java" && !line.contains("JMX");
    lines.lines().filter(ours).filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_server_is_started_asked_and_stopped_as_by_the_original() {
    let site = Site::new();
    let recording = recorded("scripts/zkserver.txt").expect("the recording");
    // The second command of a kind stands behind the first.
    let second = |command: &str| {
        let at = recording.find(command).expect("the command was recorded") + command.len();
        let at = at + recording[at..].find(command).expect("the command was recorded twice");
        original(&recording[at..], command)
    };
    let both = |ran: &(i32, String, String)| format!("{}{}", ran.2, ran.1);

    let ran = site.run("zkServer.sh", &["status"]);
    assert_eq!((ran.0, both(&ran)), (1, original(&recording, "$ bin/zkServer.sh status")));
    let ran = site.run("zkServer.sh", &["start"]);
    assert_eq!((ran.0, both(&ran)), (0, original(&recording, "$ bin/zkServer.sh start")));
    let pid = site.pid();
    let ran = site.run("zkServer.sh", &["start"]);
    assert_eq!((ran.0, both(&ran)), (1, second("$ bin/zkServer.sh start").replace("7472", &pid)));
    assert_eq!(site.pid(), pid);
    let ran = site.run("zkServer.sh", &["status"]);
    let expected = second("$ bin/zkServer.sh status");
    // The listing of the data directory stands behind it.
    assert!(ran.0 == 0 && expected.starts_with(&both(&ran)), "{ran:?} {expected}");
    assert!(ran.1.ends_with("Mode: standalone\n"), "{ran:?}");

    let ran = site.run("zkServer.sh", &["restart"]);
    assert_eq!(ran.0, 0, "{ran:?}");
    let stdout_of = |text: String| -> String {
        text.lines().filter(|line| !line.starts_with("Using")).map(|line| format!("{line}\n")).collect()
    };
    let expected = original(&recording, "$ bin/zkServer.sh restart");
    assert_eq!((ran.1, ran.2.lines().count()), (stdout_of(expected), 3));
    assert_ne!(site.pid(), pid, "another process serves");

    let ran = site.run("zkServer.sh", &["stop"]);
    assert_eq!((ran.0, both(&ran)), (0, original(&recording, "$ bin/zkServer.sh stop")));
    let ran = site.run("zkServer.sh", &["stop"]);
    assert_eq!((ran.0, both(&ran)), (0, second("$ bin/zkServer.sh stop")));
    let ran = site.run("zkServer.sh", &["status"]);
    assert_eq!((ran.0, ran.1.lines().last()), (1, Some("Error contacting service. It is probably not running.")));

    for (arguments, command) in [(vec![], "$ bin/zkServer.sh"), (vec!["bogus"], "$ bin/zkServer.sh bogus")] {
        let ran = site.run("zkServer.sh", &arguments);
        assert_eq!((ran.0, ran.2), (0, original(&recording, command)));
    }
    let ran = site.run("zkServer.sh", &["print-cmd"]);
    assert!(ran.0 == 0 && ran.1.contains("server \"/opt/zookeeper/bin/../conf/zoo.cfg\""), "{ran:?}");
    let ran = site.run("zkServer.sh", &["version"]);
    assert!(ran.0 == 0 && ran.1.starts_with("rookeeper "), "{ran:?}");
}

#[test]
fn nobody_else_is_stopped_whatever_the_pid_file_says() {
    let site = Site::new();
    let pid_file = site.home.path().join("data/zookeeper_server.pid");
    let mut bystander = Command::new("sleep").arg("600").spawn().expect("a process");
    fs::write(&pid_file, bystander.id().to_string()).expect("a pid file");
    let ran = site.run("zkServer.sh", &["stop"]);
    assert_eq!(ran.0, 1, "{ran:?}");
    assert!(ran.1.contains("is sleep and no rookeeper server"), "{ran:?}");
    assert!(bystander.try_wait().expect("a process").is_none(), "the process lives");

    // Nor does it keep a server from starting, as it does with the original.
    let ran = site.run("zkServer.sh", &["start"]);
    assert_eq!((ran.0, ran.1.as_str()), (0, "Starting zookeeper ... STARTED\n"), "{ran:?}");
    assert_ne!(site.pid(), bystander.id().to_string());
    assert_eq!(site.run("zkServer.sh", &["stop"]).0, 0);
    assert!(bystander.try_wait().expect("a process").is_none(), "the process lives");
    bystander.kill().expect("a process of the test");
    let gone = bystander.id().to_string();
    bystander.wait().expect("a process of the test");

    // The number of a process that is gone.
    fs::write(&pid_file, &gone).expect("a pid file");
    let ran = site.run("zkServer.sh", &["stop"]);
    assert_eq!((ran.0, ran.1.as_str()), (0, "Stopping zookeeper ... STOPPED\n"), "{ran:?}");
    assert!(!pid_file.exists());
}

#[test]
fn a_start_that_fails_says_so_and_leaves_the_first_server_its_pid_file() {
    let site = Site::new();
    assert_eq!(site.run("zkServer.sh", &["start"]).0, 0);
    let pid = site.pid();
    let conf = site.home.path().join("conf");
    // The same data under another pid file: the lock of the directory keeps the second server out.
    let other = site.home.path().join("run/other.pid");
    let variables = [("ZOOPIDFILE", other.to_str().expect("a path"))];
    let ran = site.home.run_with(&variables, "zkServer.sh", &["start"], "").expect("the script runs");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "Starting zookeeper ... FAILED TO START\n"), "{ran:?}");
    assert!(!other.exists() && site.pid() == pid);
    assert_eq!(site.run("zkServer.sh", &["status"]).0, 0);
    assert_eq!(site.run("zkServer.sh", &["stop"]).0, 0);

    // With --config, a file by its name, and a pid file of its own.
    fs::rename(conf.join("zoo.cfg"), site.home.path().join("other.cfg")).expect("a file is renamed");
    let text = fs::read_to_string(site.home.path().join("other.cfg")).expect("the configuration");
    fs::write(site.home.path().join("other.cfg"), text + "noSuchMode=\nsyncLimit=x\ninitLimit=x\n")
        .expect("a configuration");
    let home = site.home.path().to_str().expect("a path");
    let ran = site.home.run_with(&variables, "zkServer.sh", &["--config", home, "start", "other.cfg"], "");
    let ran = ran.expect("the script runs");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "Starting zookeeper ... FAILED TO START\n"), "{ran:?}");
    assert!(ran.stderr.contains("Using config: /opt/zookeeper/other.cfg") && ran.stderr.contains("see /"), "{ran:?}");
    let ran = site.home.run("zkServer.sh", &["stop"]).expect("the script runs");
    assert_eq!(ran.code, 1, "there is no configuration, and so no pid file: {ran:?}");
}

#[test]
fn a_server_that_is_started_without_the_script_writes_its_log_beside_the_pid_file() {
    let site = Site::new();
    let config = site.home.path().join("conf/zoo.cfg");
    let ran = Command::new(rookeeper_binary().expect("the program")).arg("start").arg(&config).output();
    let ran = ran.expect("the program runs");
    assert!(ran.status.success(), "{ran:?}");
    let log = site.home.path().join("data/zookeeper_server.out");
    let log = fs::read_to_string(log).expect("the log is there");
    assert!(log.contains("serves clients on"), "{log}");
}

#[test]
fn a_data_directory_is_prepared_as_by_the_original() {
    let site = Site::new();
    let recording = recorded("scripts/zkserver.txt").expect("the recording");
    let script = "zkServer-initialize.sh";
    let command = |arguments: &str| format!("$ bin/zkServer-initialize.sh {arguments}");
    let stdout = |arguments: &[&str], code: i32| {
        let (found, stdout, stderr) = site.run(script, arguments);
        assert_eq!((found, stderr.as_str()), (code, ""), "{arguments:?}: {stdout}");
        stdout
    };
    // The recorded path had another length than this one, so the blanks behind differ.
    let squeezed = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(squeezed(stdout(&["--help"], 1)), squeezed(original(&recording, &command("--help"))));
    assert_eq!(squeezed(stdout(&["--bogus"], 1)), squeezed(original(&recording, &command("--bogus"))));
    assert_eq!(stdout(&["--myid=1"], 0), "Using myid of 1\n");
    let refused =
        "ZooKeeper data directory already exists at /opt/zookeeper/data (or use --force to force re-initialization)\n";
    assert_eq!(stdout(&["--myid=1"], 1), refused);
    let data = site.home.path().join("data");
    fs::write(data.join("version-2/log.1"), "x").expect("a file");
    assert_eq!(stdout(&["--force", "--myid", "7"], 0), original(&recording, &command("--force --myid=7")));
    assert_eq!(fs::read_to_string(data.join("myid")).expect("myid"), "7\n");
    assert!(data.join("initialize").is_file() && !data.join("version-2/log.1").exists());

    // Nothing is taken away under a server that runs.
    assert_eq!(site.run("zkServer.sh", &["start"]).0, 0);
    let ran = site.run(script, &["--force"]);
    assert!(ran.0 == 1 && ran.1.contains("uses it"), "{ran:?}");
    assert!(data.join("version-2/snapshot.0").exists());
    assert_eq!(site.run("zkServer.sh", &["status"]).0, 0);
}

/// A member that will never have a quorum, with a manager that listens.
struct Member {
    process: Child,
    manager: UnixDatagram,
    _home: tempfile::TempDir,
}

impl Member {
    fn start() -> Member {
        let home = tempfile::tempdir().expect("a directory");
        let socket = home.path().join("notify");
        let manager = UnixDatagram::bind(&socket).expect("a socket");
        manager.set_read_timeout(Some(DEADLINE)).expect("a limit");
        let (data, [client, mine, election, other, others]) = (home.path().join("data"), [(); 5].map(|()| free_port()));
        fs::create_dir(&data).expect("a directory");
        fs::write(data.join("myid"), "1").expect("a file");
        let text = format!(
            "dataDir={}\nclientPort={client}\nclientPortAddress=127.0.0.1\ninitLimit=5\nsyncLimit=2\nadmin.enableServer=false\n\
             server.1=127.0.0.1:{mine}:{election}\nserver.2=127.0.0.1:{other}:{others}\n",
            data.display()
        );
        fs::write(home.path().join("zoo.cfg"), text).expect("a configuration");
        let mut command = Command::new(rookeeper_binary().expect("the binary is built"));
        command.arg("server").arg(home.path().join("zoo.cfg")).env("NOTIFY_SOCKET", &socket);
        let process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a server");
        Member { process, manager, _home: home }
    }

    fn told(&self) -> String {
        let mut bytes = [0; 256];
        let count = self.manager.recv(&mut bytes).expect("the manager is told something");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}

#[test]
fn a_member_without_a_quorum_is_ready_for_its_service_manager_and_tells_when_it_stops() {
    let mut member = Member::start();
    assert_eq!(member.told(), "READY=1");
    let id = member.process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().expect("a signal").success());
    assert_eq!(member.told(), "STOPPING=1");
    let deadline = Instant::now() + DEADLINE;
    let mut log = String::new();
    member.process.stderr.take().expect("a log").read_to_string(&mut log).expect("the log ends with the server");
    assert!(Instant::now() < deadline && member.process.wait().expect("an end").success(), "{log}");
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let Ok(analyze) = Command::new("systemd-analyze").arg("--version").output() else {
        return eprintln!("systemd-analyze is not there: the unit was not looked at");
    };
    assert!(analyze.status.success());
    let home = tempfile::tempdir().expect("a directory");
    let text = fs::read_to_string(repository().join("packaging/systemd/rookeeper.service")).expect("the unit");
    assert!(text.contains("\nType=notify\n"), "the server tells when it is ready");
    // The binary and the user are not installed here.
    let binary = fs::canonicalize(rookeeper_binary().expect("the binary is built")).expect("a path");
    let text = text
        .replace("/usr/bin/rookeeper", &binary.display().to_string())
        .replace("=rookeeper\nGroup=rookeeper", "=root\nGroup=root");
    let unit = home.path().join("rookeeper.service");
    fs::write(&unit, text).expect("a unit");
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().expect("it runs");
    let said = String::from_utf8_lossy(&verified.stderr);
    let about_it: Vec<&str> = said.lines().filter(|line| line.contains("rookeeper")).collect();
    assert!(verified.status.success() && about_it.is_empty(), "{said}");
}
