//! The entry point of the container image, run in a plain directory: what it makes of the official image's variables, and that a server
//! starts from that.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rookeeper_acceptance::client::four_letter_word_within;
use rookeeper_acceptance::fixture::repository;
use rookeeper_acceptance::script::Home;

const DEADLINE: Duration = Duration::from_secs(30);

/// The directories of an image, and its variables.
struct Image {
    home: Home,
    variables: BTreeMap<String, String>,
}

impl Image {
    /// With the variables that the container file sets, their directories in the home.
    fn new() -> Image {
        let home = Home::new().expect("a home");
        let file = fs::read_to_string(repository().join("packaging/container/Containerfile")).expect("the file");
        let words = file.lines().flat_map(|line| line.strip_prefix("ENV ").unwrap_or(line).split_whitespace());
        let mut variables: BTreeMap<String, String> = words
            .filter(|word| word.starts_with("ZOO_"))
            .filter_map(|word| word.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        for (name, value) in &mut variables {
            if name.ends_with("_DIR") {
                *value = format!("{}{value}", home.path().display());
                fs::create_dir_all(value).expect("a directory");
            }
        }
        Image { home, variables }
    }

    fn set(mut self, name: &str, value: &str) -> Image {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn path(&self, variable: &str) -> PathBuf {
        PathBuf::from(&self.variables[variable])
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(repository().join("packaging/container/docker-entrypoint.sh"));
        let path = format!("{}:/usr/bin:/bin", self.home.path().join("bin").display());
        command.args(arguments).env_clear().env("PATH", path).envs(&self.variables);
        command.env("ZOOCFGDIR", &self.variables["ZOO_CONF_DIR"]).current_dir(self.home.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the entry point runs")
    }

    fn config(&self) -> String {
        let text = fs::read_to_string(self.path("ZOO_CONF_DIR").join("zoo.cfg")).expect("a configuration");
        text.replace(&self.home.path().display().to_string(), "")
    }
}

#[test]
fn the_configuration_is_that_of_the_official_image() {
    let image = Image::new();
    assert!(image.run(&["true"]).status.success());
    let defaults = "dataDir=/data\ndataLogDir=/datalog\ntickTime=2000\ninitLimit=5\nsyncLimit=2\nautopurge.snapRetainCount=3\n\
        autopurge.purgeInterval=0\nmaxClientCnxns=60\nstandaloneEnabled=true\nadmin.enableServer=true\n";
    assert_eq!(image.config(), format!("{defaults}server.1=localhost:2888:3888;2181\n"));
    assert_eq!(fs::read_to_string(image.path("ZOO_DATA_DIR").join("myid")).expect("myid"), "1\n");

    // What is there already stays.
    let image = image.set("ZOO_TICK_TIME", "1").set("ZOO_MY_ID", "5");
    assert!(image.run(&["true"]).status.success());
    assert!(image.config().contains("tickTime=2000\n"));
    assert_eq!(fs::read_to_string(image.path("ZOO_DATA_DIR").join("myid")).expect("myid"), "1\n");

    let image = Image::new()
        .set("ZOO_MY_ID", "3")
        .set("ZOO_SERVERS", "server.1=a:1:2;3 server.3=b:1:2;3")
        .set("ZOO_STANDALONE_ENABLED", "false")
        .set("ZOO_4LW_COMMANDS_WHITELIST", "srvr,mntr")
        .set("ZOO_CFG_EXTRA", "snapCount=7 admin.serverAddress=0.0.0.0");
    assert!(image.run(&["true"]).status.success());
    let end = "server.1=a:1:2;3\nserver.3=b:1:2;3\n4lw.commands.whitelist=srvr,mntr\nsnapCount=7\nadmin.serverAddress=0.0.0.0\n";
    let expected = defaults.replace("standaloneEnabled=true", "standaloneEnabled=false") + end;
    assert_eq!(image.config(), expected);
    assert_eq!(fs::read_to_string(image.path("ZOO_DATA_DIR").join("myid")).expect("myid"), "3\n");
}

#[test]
fn a_container_of_root_goes_on_as_the_user_of_the_service() {
    let me = Command::new("id").arg("-u").output().expect("a user").stdout;
    if String::from_utf8_lossy(&me).trim() != "0" {
        return eprintln!("this user is not root: nobody to become was tried");
    }
    let image = Image::new().set("ZOO_USER", "nobody");
    for directory in [image.home.path(), &image.path("ZOO_CONF_DIR"), &image.home.path().join("bin")] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("rights");
    }
    // Nobody may not see the repository.
    let entry = image.home.path().join("docker-entrypoint.sh");
    fs::copy(repository().join("packaging/container/docker-entrypoint.sh"), &entry).expect("a copy");
    let script = image.home.path().join("bin/zkServer.sh");
    fs::write(&script, "#!/bin/bash\necho \"$(id -un) $*\"\n").expect("a script");
    let started = |user: &str| {
        // A mistake could make the script start itself again for ever.
        let mut command = Command::new("timeout");
        command.arg("60").arg(&entry).args(["zkServer.sh", "start-foreground"]).env_clear().envs(&image.variables);
        command.env("PATH", format!("{}:/usr/bin:/bin", image.home.path().join("bin").display())).env("ZOO_USER", user);
        let output = command.output().expect("the entry point runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{user} start-foreground\n"), "{output:?}");
    };
    started("nobody");
    let owner = |path: &Path| fs::metadata(path).expect("a path").uid();
    assert_ne!(owner(&image.path("ZOO_DATA_DIR")), 0);
    assert_eq!(owner(&image.path("ZOO_DATA_DIR").join("myid")), owner(&image.path("ZOO_DATA_DIR")));
    // Somebody may want root all the same.
    started("root");
}

/// What is debugged by is most of the binary, and nobody debugs in a container.
#[test]
fn the_binary_of_an_image_is_stripped() {
    let file = fs::read_to_string(repository().join("packaging/container/Containerfile")).expect("the file");
    let built = file.lines().find(|line| line.contains("cargo build")).expect("it is built");
    assert!(built.ends_with("&& strip --strip-unneeded target/release/rookeeper"), "{built}");
}

/// The value that stands behind a key in the example, also over several lines.
fn value_behind(example: &str, key: &str) -> String {
    let (_, rest) = example.split_once(key).unwrap_or_else(|| panic!("{key:?} is not in the example"));
    let mut lines = rest.lines();
    match lines.next().expect("a line").trim() {
        ">-" => {
            let depth = |line: &str| line.len() - line.trim_start().len();
            let lines: Vec<&str> = lines.collect();
            let first = depth(lines[0]);
            lines.iter().take_while(|line| depth(line) >= first).map(|line| line.trim()).collect::<Vec<_>>().join(" ")
        }
        value => value.trim_matches(['"', '\'', '[', ']']).to_owned(),
    }
}

#[test]
fn the_example_for_kubernetes_gives_each_pod_its_number_and_all_of_them_the_same_members() {
    let example = fs::read_to_string(repository().join("packaging/kubernetes/rookeeper.yaml")).expect("the example");
    let variable = |name: &str| value_behind(&example, &format!("- name: {name}\n              value:"));
    let entry = repository().join("packaging/container/docker-entrypoint.sh");
    // What would start a server tells what it was given in its place.
    let command = value_behind(&example, "args:").replace("/docker-entrypoint.sh", &entry.display().to_string());
    assert!(command.ends_with(" zkServer.sh start-foreground"), "{command}");
    let replicas: usize = value_behind(&example, "replicas:").parse().expect("a number");
    let (set, service) =
        (value_behind(&example, "kind: StatefulSet\nmetadata:\n  name:"), value_behind(&example, "serviceName:"));
    assert!(example.contains(&format!("kind: Service\nmetadata:\n  name: {service}\n")), "{service}");
    for ordinal in 0..replicas {
        let mut image = Image::new();
        for name in ["ZOO_SERVERS", "ZOO_AUTOPURGE_PURGEINTERVAL", "ZOO_CFG_EXTRA"] {
            image = image.set(name, &variable(name));
        }
        let script = image.home.path().join("bin/zkServer.sh");
        fs::write(&script, "#!/bin/bash\necho \"$*\"\n").expect("a script");
        let mut pod = Command::new("bash");
        pod.args(["-c", &command]).env_clear().envs(&image.variables).env("HOSTNAME", format!("{set}-{ordinal}"));
        pod.env("ZOOCFGDIR", &image.variables["ZOO_CONF_DIR"]);
        pod.env("PATH", format!("{}:/usr/bin:/bin", image.home.path().join("bin").display()));
        let output = pod.output().expect("bash");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "start-foreground\n", "{output:?}");
        let config = image.config();
        let members: Vec<&str> = config.lines().filter(|line| line.starts_with("server.")).collect();
        let expected: Vec<String> =
            (0..replicas).map(|other| format!("server.{}={set}-{other}.{service}:2888:3888;2181", other + 1)).collect();
        assert_eq!(members, expected);
        assert!(
            config.contains("\nadmin.serverAddress=0.0.0.0\n") && config.contains("\nquorumListenOnAllIPs=true\n"),
            "{config}"
        );
        let number = fs::read_to_string(image.path("ZOO_DATA_DIR").join("myid")).expect("myid");
        assert_eq!(number.trim(), (ordinal + 1).to_string());
    }
    for port in [
        "client, containerPort: 2181",
        "quorum, containerPort: 2888",
        "election, containerPort: 3888",
        "admin, containerPort: 8080",
    ] {
        assert!(example.contains(&format!("{{name: {port}}}")), "{port}");
    }
    for (probe, path) in [("startupProbe", "live"), ("livenessProbe", "live"), ("readinessProbe", "ready")] {
        assert!(
            example.contains(&format!("{probe}:\n            httpGet: {{path: /health/{path}, port: admin}}")),
            "{probe}"
        );
    }
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[test]
fn a_server_starts_from_the_variables_and_stops_in_order() {
    let ports = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let [client, quorum, election] = ports.map(|port| port.local_addr().expect("an address"));
    let image = Image::new().set("ZOO_ADMINSERVER_ENABLED", "false").set(
        "ZOO_SERVERS",
        &format!("server.1=127.0.0.1:{}:{};127.0.0.1:{}", quorum.port(), election.port(), client.port()),
    );
    let script = image.home.path().join("bin/zkServer.sh");
    let mut command = image.command(&[script.to_str().expect("a path"), "start-foreground"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the entry point runs");
    let mut running = Running(child);
    let begun = Instant::now();
    let answer = loop {
        match four_letter_word_within(client, "srvr", DEADLINE) {
            Ok(answer) if answer.contains("Mode") => break answer,
            _ => {}
        }
        assert!(begun.elapsed() < DEADLINE, "nobody serves");
        assert!(running.0.try_wait().expect("a process").is_none(), "the server ended");
        thread::sleep(Duration::from_millis(5));
    };
    assert!(answer.contains("Mode: standalone"), "{answer}");
    assert!(image.path("ZOO_DATA_LOG_DIR").join("version-2").is_dir());
    // The entry point and the script have become the server, which so gets the signals of the container.
    let id = running.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().expect("a signal").success());
    assert!(running.0.wait().expect("an end").success());
}
