//! Each finding of `rookeeper doctor` that is no fault of the command line, brought about: by a configuration, a directory, a machine, or servers that
//! really are so. What it says of a sound ensemble with a member of the original is in `diagnosis.rs`.
//!
//! Not here: a disk whose free space is not told, which is no finding.

use std::fs;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use rookeeper_acceptance::certificates::{Authority, Wish, shown};
use rookeeper_acceptance::disks::Disks;
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::foreign::{Output, output};
use rookeeper_acceptance::kerberos::faketime;
use rookeeper_acceptance::server::{Setup, rookeeper_binary};
use rookeeper_acceptance::wire::{self, Body};
use tempfile::TempDir;

/// Runs `doctor` in a certain way.
fn doctor_by(mut command: Command, config: &Path) -> Output {
    command.arg("doctor").arg(config).env_remove("JVMFLAGS").env_remove("SERVER_JVMFLAGS");
    command.env("ROOKEEPER_LOG", "error");
    output(command, "").expect("it ends")
}

fn program() -> String {
    shown(&rookeeper_binary().expect("a binary"))
}

fn doctor(config: &Path) -> Output {
    doctor_by(Command::new(program()), config)
}

/// Expects findings, each with its grade and subject in front, and that those which ask for something to be done say what.
#[track_caller]
fn expect(output: &Output, code: i32, findings: &[(&str, &str, &str)]) {
    assert_eq!(output.code, Some(code), "{output:?}");
    for (grade, subject, seen) in findings {
        let front = format!("{grade:<8} {subject:<13} ");
        let mut lines = output.stdout.lines();
        let found = lines.any(|line| line.strip_prefix(&front).is_some_and(|rest| rest.contains(seen)));
        assert!(found, "{front}{seen:?} in\n{}{}", output.stdout, output.stderr);
        // What a start would say has its remedy in the same line.
        if matches!(*grade, "warning" | "problem") && !matches!(*subject, "configuration" | "exposure") {
            let next = lines.next().unwrap_or_default();
            assert!(next.trim_start().starts_with("remedy: "), "no remedy below {seen:?} in\n{}", output.stdout);
        }
    }
}

/// A directory and a configuration of a machine on which no server runs.
struct Machine {
    home: TempDir,
}

impl Machine {
    fn new() -> Machine {
        let home = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(home.path().join("data/version-2")).expect("a folder");
        fs::write(home.path().join("data/myid"), "1\n").expect("a file");
        Machine { home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The configuration of a server that is sound but for these lines.
    fn config(&self, lines: &str) -> PathBuf {
        let config = self.path("zoo.cfg");
        let text = format!(
            "dataDir={}\nclientPort=0\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n{lines}",
            shown(&self.path("data"))
        );
        fs::write(&config, text).expect("a file");
        config
    }
}

#[test]
fn what_a_start_would_say() {
    let machine = Machine::new();
    let sound = [("ok", "configuration", "a server would start by it")];
    expect(&doctor(&machine.config("autopurge.purgeInterval=0\n")), 0, &sound);
    let told = [("note", "configuration", "old snapshots and logs are deleted")];
    expect(&doctor(&machine.config("")), 0, &told);
    expect(&doctor(&machine.config("tickTime=never\n")), 2, &[("problem", "configuration", "tickTime")]);
    expect(&doctor(&machine.config("no.such.key=1\n")), 0, &[("warning", "configuration", "no.such.key")]);
    let exposed = machine.config("clientPortAddress=0.0.0.0\n");
    expect(&doctor(&exposed), 0, &[("warning", "exposure", "is open beyond this machine")]);

    // The port of a server that runs.
    let server = Setup::new().start().expect("the server starts");
    let taken = machine.config(&format!(
        "clientPort={}\nclientPortAddress={}\n",
        server.address().port(),
        server.address().ip()
    ));
    expect(&doctor(&taken), 0, &[("note", "ports", "client port")]);
}

#[test]
fn every_port_that_somebody_has_or_that_cannot_be_had() {
    let machine = Machine::new();
    let listeners = [0; 4].map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let [admin, registry, quorum, election] =
        listeners.each_ref().map(|held| held.local_addr().expect("it is bound").port());
    let ports = format!(
        "admin.enableServer=true\nadmin.serverPort={admin}\nregistry.port={registry}\nregistry.server.address=127.0.0.1\n"
    );
    let member = |host: &str| {
        format!(
            "initLimit=10\nsyncLimit=5\nserver.1={host}:{quorum}:{election}\nserver.2=127.0.0.2:{quorum}:{election}\n"
        )
    };
    let taken = doctor(&machine.config(&(ports + &member("127.0.0.1"))));
    let note = |seen| ("note", "ports", seen);
    let said = ["goes on without admin commands", "registry", "quorum port", "election port"].map(note);
    expect(&taken, 0, &said);
    // An address that is kept for documents.
    let elsewhere = doctor(&machine.config(&member("192.0.2.1")));
    let problem = |seen| ("problem", "configuration", seen);
    expect(&elsewhere, 14, &["quorum port", "election port"].map(problem));
}

#[test]
fn certificates_by_the_days_that_are_left() {
    let machine = Machine::new();
    let authority = Authority::new(&machine.path("tls"), "authority").expect("openssl works");
    let issue = |wish| shown(&authority.issue("server", &wish).expect("a certificate").pem);
    let config = |store: &str| {
        let trust = shown(&authority.trust());
        machine.config(&format!("secureClientPort=0\nssl.keyStore.location={store}\nssl.trustStore.location={trust}\n"))
    };
    // It ends with the year 2098.
    let good = config(&issue(Wish::of("server")));
    expect(&doctor(&good), 0, &[("ok", "certificates", "more days")]);
    let late = doctor_by(faketime("@2098-12-20 12:00:00", &program()), &good);
    expect(&late, 0, &[("warning", "certificates", "is good for 11 more days")]);
    let expired = config(&issue(Wish::of("server").expired()));
    expect(&doctor(&expired), 1, &[("problem", "certificates", "expired ")]);
}

#[test]
fn epochs_of_the_data_directory() {
    let machine = Machine::new();
    let config = machine.config("");
    let write = |name: &str, text: &str| fs::write(machine.path("data/version-2").join(name), text).expect("a file");
    write("acceptedEpoch", "3");
    write("currentEpoch", "three");
    expect(&doctor(&config), 1, &[("problem", "epochs", "currentEpoch")]);
    write("currentEpoch", "5");
    expect(&doctor(&config), 1, &[("problem", "epochs", "currentEpoch 5 is beyond acceptedEpoch 3")]);
    write("currentEpoch", "3");
    expect(&doctor(&config), 0, &[("ok", "epochs", "currentEpoch 3, acceptedEpoch 3 on this disk")]);
}

/// A library that is put before that of the system, by which what is timed takes longer.
fn slow_system(machine: &Machine) -> PathBuf {
    let (source, library) = (machine.path("slow.c"), machine.path("slow.so"));
    let code = "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <netdb.h>\n#include <unistd.h>\n\
                int fdatasync(int file) { usleep(20000); return 0; }\n\
                int getaddrinfo(const char *n, const char *s, const struct addrinfo *h, struct addrinfo **r) {\n\
                int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, \"getaddrinfo\");\n\
                usleep(1100000); return real(n, s, h, r); }\n";
    fs::write(&source, code).expect("a file");
    let mut compiler = Command::new("gcc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let compiled = output(compiler, "").expect("gcc is there");
    assert_eq!(compiled.code, Some(0), "{compiled:?}");
    library
}

#[test]
fn names_and_disks_of_this_machine() {
    let machine = Machine::new();
    let members = |second: &str| {
        machine.config(&format!(
            "initLimit=10\nsyncLimit=5\nserver.1=127.0.0.1:21011:21012\nserver.2={second}:21011:21012\n"
        ))
    };
    let unknown = doctor(&members("no-such-host.invalid"));
    expect(&unknown, 1, &[("problem", "names", "no-such-host.invalid of server 2 does not resolve")]);
    if let Some(elsewhere) = address_of_this_machine() {
        let found =
            ("problem", "names", "127.0.0.1 of server 1 is an address of loopback, which no other machine reaches");
        expect(&doctor(&members(&elsewhere.to_string())), 1, &[found]);
    }

    let mut slow = Command::new(program());
    slow.env("LD_PRELOAD", slow_system(&machine));
    let found = [("warning", "names", "localhost of server 2 took 1"), ("warning", "disk", "took 20.")];
    expect(&doctor_by(slow, &members("localhost")), 0, &found);

    let log_dir = |path: &Path| machine.config(&format!("dataLogDir={}\n", shown(path)));
    let missing = doctor(&log_dir(&machine.path("log")));
    expect(&missing, 0, &[("note", "disk", "is not there yet, so its disk was not tried")]);
    // Root may write everywhere, but not into a file as if it were a directory.
    let file = machine.path("file");
    fs::write(&file, "").expect("a file");
    expect(&doctor(&log_dir(&file)), 1, &[("problem", "disk", "/file cannot be written")]);
}

/// An address that is not on loopback, where there is one.
fn address_of_this_machine() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback() && !address.is_unspecified())
}

#[test]
fn little_room() {
    if !Disks::are_available() {
        return;
    }
    let machine = Machine::new();
    let config = machine.config("");
    let mut full = Command::new("unshare");
    let script =
        "mount -t tmpfs -o size=4m none \"$1\" && head -c 4000000 /dev/zero >\"$1/ballast\" && shift && exec \"$@\"";
    full.args(["--mount", "bash", "-c", script, "bash"]).arg(machine.path("data")).arg(program());
    expect(&doctor_by(full, &config), 0, &[("warning", "disk", "0 MiB of 4 MiB are free in")]);
}

fn config_of(ensemble: &Ensemble, id: u64) -> PathBuf {
    ensemble.data_dir(id).with_file_name("zoo.cfg")
}

/// The configuration of the first member with other lines, for a look from its place.
fn other_config(ensemble: &Ensemble, change: impl Fn(&str) -> String) -> PathBuf {
    let own = config_of(ensemble, 1);
    let other = own.with_file_name("other.cfg");
    fs::write(&other, change(&fs::read_to_string(own).expect("a file"))).expect("a file");
    other
}

#[test]
fn members_that_differ_or_do_not_tell() {
    let plan = Plan::under_test(3).reconfigurable().config("reconfigEnabled", "false").config("syncLimit", "300");
    let mut ensemble = plan.config("admin.enableServer", "true").prepare().expect("folders");
    // One port for all, each at an address of its own.
    let port = std::net::TcpListener::bind((ensemble.address(1).ip(), 0))
        .and_then(|port| port.local_addr())
        .expect("a port")
        .port();
    for id in ensemble.ids() {
        let ip = ensemble.address(id).ip().to_string();
        ensemble.set_config(id, "admin.serverPort", &port.to_string()).expect("its file can be written");
        ensemble.set_config(id, "admin.serverAddress", &ip).expect("its file can be written");
    }
    ensemble.start_led_by_last().expect("an ensemble forms");
    let leader = ensemble.leader().expect("one leads");
    ensemble.connect(leader).expect("a session").create("/epoch", b"").expect("a node");
    ensemble.wait_same_zxid().expect("all have it");
    let config = config_of(&ensemble, 1);
    let sound = [
        ("ok", "members", format!("server {leader} leads, 2 follow, 0 observe")),
        ("ok", "versions", "at each member that answers".to_owned()),
        ("ok", "epochs", "at each member that answers".to_owned()),
        ("ok", "drift", "the same as at server 2, 3".to_owned()),
        ("ok", "clock", "within 2 s of that of server 2, 3".to_owned()),
    ];
    expect(&doctor(&config), 0, &sound.each_ref().map(|(grade, subject, seen)| (*grade, *subject, seen.as_str())));
    for (clock, side) in [("+90s", "s behind that of this machine"), ("-90s", "s ahead of that of this machine")] {
        let found = doctor_by(faketime(clock, &program()), &config);
        expect(&found, 0, &[("warning", "clock", side)]);
        assert!(found.stdout.contains("the clock of server 2 is "), "{found:?}");
    }

    let election = ensemble.election_address(2).port();
    let differing = other_config(&ensemble, |text| {
        let lines = text.lines().filter(|line| !line.starts_with("server.3=") && !line.starts_with("tickTime="));
        let lines = lines.map(|line| match line.starts_with("server.2=") {
            true => line.replacen(&format!(":{election}:"), ":7:", 1),
            false => line.to_owned(),
        });
        let more = "tickTime=301\nmaxClientCnxns=7\nserver.9=127.0.0.1:1:2:participant;127.0.0.1:3";
        lines.collect::<Vec<_>>().join("\n") + "\n" + more
    });
    let found = [
        ("problem", "drift", "tickTime is 301 here and 300 at server 2"),
        ("warning", "drift", "maxClientCnxns is 7 here and 0 at server 2"),
        ("problem", "drift", "server.2 is "),
        ("problem", "drift", "server.3 is a member at server 2, and not here"),
        ("problem", "drift", "server.9 is a member here, and not at server 2"),
    ];
    expect(&doctor(&differing), 1, &found);

    // A member that does not tell its configuration, and no clock that is told.
    let follower = ensemble.followers().expect("two follow").into_iter().find(|id| *id != 1).expect("another one");
    let restarted = |ensemble: &mut Ensemble, id: u64, key: &str, value: &str| {
        let ip = ensemble.address(id).ip().to_string();
        ensemble.stop(id).expect("it ends");
        ensemble.set_config(id, "admin.serverAddress", &ip).expect("its file can be written");
        ensemble.set_config(id, key, value).expect("its file can be written");
        ensemble.start(id).expect("it starts again");
    };
    restarted(&mut ensemble, follower, "4lw.commands.whitelist", "srvr");
    ensemble.wait_formed().expect("all serve");
    let seen = format!("server {follower} does not tell its configuration");
    let found = doctor(&other_config(&ensemble, |text| format!("{text}\nadmin.serverPort=1\n")));
    expect(&found, 0, &[("note", "drift", &seen), ("note", "clock", "no other member tells its time")]);

    // This member is down.
    ensemble.stop(1).expect("it ends");
    let seen = "server 1 (this configuration) at ";
    expect(&doctor(&config), 0, &[("note", "members", seen)]);
    ensemble.start(1).expect("it starts again");
    ensemble.wait_formed().expect("all serve");

    // A leader that says nothing, and is not lost yet.
    let leader = ensemble.leader().expect("one leads");
    let looks_from = if leader == 1 { 2 } else { 1 };
    ensemble.freeze(leader).expect("it is stopped");
    let silent = format!("server {leader} at ");
    let found = [("warning", "members", silent.as_str()), ("problem", "members", "no member that answers leads")];
    expect(&doctor(&config_of(&ensemble, looks_from)), 1, &found);
}

/// As many changes of one node, without waiting for each.
fn write(ensemble: &Ensemble, id: u64, count: usize) {
    let mut client = ensemble.connect(id).expect("a session");
    client.create("/written", b"").expect("a node");
    let body = Body::new().string("/written").buffer(Some(b"x")).int(-1);
    for _ in 0..count.div_ceil(100) {
        for _ in 0..100 {
            client.send(wire::SET_DATA, &body).expect("it is sent");
        }
        for _ in 0..100 {
            client.receive().and_then(|reply| reply.ok().map(drop)).expect("an answer");
        }
    }
}

/// Server lines that mix those of two ensembles and of a standalone server.
#[test]
fn members_that_do_not_belong_together() {
    let mut one = Plan::under_test(1).reconfigurable().start().expect("an ensemble");
    let mut two = Plan::under_test(1).reconfigurable().start().expect("another one");
    let alone = Setup::new().start().expect("the server starts");
    let line = |ensemble: &Ensemble| ensemble.server_line(1);
    let (other, alone) = (line(&two), format!("127.0.0.1:1:2:participant;{}", alone.address()));
    let machine = Machine::new();
    let lines = format!("server.1={}\nserver.2={other}\nserver.3={alone}\n", line(&one));
    let config = machine.path("zoo.cfg");
    fs::write(&config, format!("dataDir={}\ninitLimit=10\nsyncLimit=5\n{lines}", shown(&machine.path("data"))))
        .expect("a file");
    // A member takes the number of an epoch with its first transaction.
    write(&one, 1, 100);
    write(&two, 1, 10_200);
    let found = [
        ("problem", "members", "servers 1, 2 all lead"),
        ("problem", "members", "server 3 runs standalone, although it is a member"),
        ("warning", "epochs", "server 1 is 10"),
        ("warning", "epochs", "server 3 stands in epoch 0x0, the newest is 0x1"),
    ];
    expect(&doctor(&config), 1, &found);
    for ensemble in [&mut one, &mut two] {
        ensemble.stop(1).expect("it ends");
    }
}
