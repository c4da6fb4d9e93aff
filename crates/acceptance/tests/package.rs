//! The Debian package that `cargo deb` is told to build: built here with dpkg-deb from the same description, then installed, used, upgraded and
//! removed in a scratch root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rookeeper_acceptance::fixture::repository;
use rookeeper_acceptance::server::rookeeper_binary;
use serde_json::Value;

/// What stands in the manifest of the binary.
fn description() -> Value {
    let manifest = repository().join("crates/cli/Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(manifest)
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("the metadata");
    let packages = metadata["packages"].as_array().expect("packages");
    let cli = packages.iter().find(|package| package["name"] == "rookeeper-cli").expect("the binary's package");
    cli["metadata"]["deb"].clone()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is described"))
}

/// The files that a source in the description means.
fn sources(source: &str) -> Vec<PathBuf> {
    if source == "target/release/rookeeper" {
        return vec![rookeeper_binary().expect("the binary is built")];
    }
    let path = repository().join("crates/cli").join(source);
    let Some(suffix) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix('*')) else {
        return vec![path];
    };
    let entries = fs::read_dir(path.parent().expect("a directory")).expect("a directory");
    let all = entries.map(|entry| entry.expect("an entry").path());
    let found: Vec<PathBuf> = all.filter(|path| path.to_string_lossy().ends_with(suffix)).collect();
    assert!(!found.is_empty(), "{source} means something");
    found
}

/// Builds the package of a version, as cargo-deb lays it out.
fn build(home: &Path, version: &str) -> PathBuf {
    let description = description();
    let root = home.join(format!("stage-{version}"));
    let control = root.join("DEBIAN");
    fs::create_dir_all(&control).expect("a directory");
    for asset in description["assets"].as_array().expect("assets") {
        let [source, target, mode] = [0, 1, 2].map(|at| asset[at].as_str().expect("three words"));
        for source in sources(source) {
            let mut path = root.join(target);
            if target.ends_with('/') {
                path.push(source.file_name().expect("a name"));
            }
            fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            fs::copy(&source, &path).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
            let mode = u32::from_str_radix(mode, 8).expect("rights");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("rights");
        }
    }
    let scripts = repository().join("crates/cli").join(text(&description, "maintainer-scripts"));
    for name in ["postinst", "prerm", "postrm"] {
        fs::copy(scripts.join(name), control.join(name)).expect("a script");
    }
    let files = description["conf-files"].as_array().expect("files");
    let files: String = files.iter().map(|file| format!("{}\n", file.as_str().expect("a path"))).collect();
    fs::write(control.join("conffiles"), files).expect("a file");
    // Without what it depends on: nothing is installed in the scratch root.
    let fields = format!(
        "Package: {}\nVersion: {version}\nArchitecture: all\nMaintainer: {}\nDescription: {}\n",
        text(&description, "name"),
        text(&description, "maintainer"),
        text(&description, "extended-description")
    );
    fs::write(control.join("control"), fields).expect("a file");
    let package = home.join(format!("rookeeper-{version}.deb"));
    let built =
        Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "--build"]).arg(&root).arg(&package).output();
    let built = built.expect("dpkg-deb runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    package
}

fn dpkg(root: &Path, arguments: &[&str], package: &str) -> Output {
    let mut command = Command::new("dpkg");
    command.arg(format!("--root={}", root.display())).args(["--force-script-chrootless", "--force-not-root"]);
    let output = command.args(arguments).arg(package).output().expect("dpkg runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn the_package_is_installed_used_upgraded_and_removed_and_the_data_stays() {
    let me = Command::new("id").arg("-u").output().expect("a user").stdout;
    if String::from_utf8_lossy(&me).trim() != "0" || Command::new("dpkg").arg("--version").output().is_err() {
        return eprintln!("this user is not root, or there is no dpkg: the package was not installed");
    }
    let home = tempfile::tempdir().expect("a directory");
    let root = home.path().join("root");
    for directory in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "etc", "var/log"] {
        fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    for file in
        ["var/lib/dpkg/status", "var/lib/dpkg/available", "etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"]
    {
        fs::write(root.join(file), "").expect("a file");
    }
    let package = build(home.path(), "0.1.0");
    dpkg(&root, &["-i"], package.to_str().expect("a path"));
    let passwd = fs::read_to_string(root.join("etc/passwd")).expect("users");
    assert!(passwd.starts_with("rookeeper:"), "{passwd}");
    let owner = |path: &str| fs::metadata(root.join(path)).expect("a path").uid().to_string();
    for path in ["var/lib/rookeeper", "var/log/rookeeper", "etc/rookeeper", "etc/rookeeper/zoo.cfg"] {
        assert_eq!(Some(owner(path).as_str()), passwd.split(':').nth(2), "{path}");
    }
    assert_eq!(fs::metadata(root.join("var/lib/rookeeper")).expect("a directory").mode() & 0o777, 0o750);

    // The unit, the scripts and the configuration name what is there.
    let unit = fs::read_to_string(root.join("usr/lib/systemd/system/rookeeper.service")).expect("the unit");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    let [binary, verb, config] = start.split(' ').collect::<Vec<_>>()[..] else { panic!("{start}") };
    let (binary, config) = (root.join(&binary[1..]), root.join(&config[1..]));
    assert_eq!(verb, "server");
    let text = fs::read_to_string(&config).expect("the configuration");
    let data = root.join("var/lib/rookeeper");
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let scratch = home.path().join("conf");
    fs::create_dir(&scratch).expect("a directory");
    let scratch_text =
        text.replace("/var/lib/rookeeper", &data.display().to_string()).replace("2181", &port.to_string());
    fs::write(scratch.join("zoo.cfg"), scratch_text + "admin.enableServer=false\n").expect("a configuration");
    let script = |verb: &str| {
        let mut command = Command::new(root.join("usr/share/rookeeper/bin/zkServer.sh"));
        command.env("ROOKEEPER", &binary).env("ZOOCFGDIR", &scratch).env("ZOO_LOG_DIR", home.path().join("logs"));
        let output = command.arg(verb).output().expect("the script runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(script("start").ends_with("STARTED\n"));
    let (status, stopped) = (script("status"), script("stop"));
    assert!(status.ends_with("Mode: standalone\n") && stopped.ends_with("STOPPED\n"), "{status} {stopped}");
    assert!(data.join("version-2/snapshot.0").exists());

    // What an operator wrote outlives an upgrade, and the data a purge.
    fs::write(&config, text + "# mine\n").expect("the configuration");
    let package = build(home.path(), "0.1.1");
    dpkg(&root, &["--force-confold", "-i"], package.to_str().expect("a path"));
    assert!(fs::read_to_string(&config).expect("the configuration").ends_with("# mine\n"));
    dpkg(&root, &["--remove"], "rookeeper");
    assert!(!binary.exists() && config.exists());
    dpkg(&root, &["--purge"], "rookeeper");
    assert!(!config.exists() && data.join("version-2/snapshot.0").exists());
}
