//! Starts that cannot succeed: the server ends with the documented exit code, names the cause and what to do, and changes nothing.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rookeeper_acceptance::client::Client;
use rookeeper_acceptance::fixture::data_directories;
use rookeeper_acceptance::server::{Failure, Setup};

const UNEXPECTED: i32 = 1;
const BAD_CONFIGURATION: i32 = 2;
const BAD_DATA_DIRECTORY: i32 = 3;
const NOBODY: u32 = 65534;

/// The server ends with this code and a message that has all of these words.
fn assert_fails(setup: Setup, code: i32, words: &[&str]) {
    let failure: Failure = setup.start_and_fail().expect("the server does not start");
    let text = failure.log.to_lowercase();
    for word in words {
        assert!(text.contains(&word.to_lowercase()), "{word:?} is missing:\n{}", failure.log);
    }
    assert_eq!(failure.code, Some(code), "{}", failure.log);
    assert!(!text.contains("panicked"), "{}", failure.log);
}

fn unpack(name: &str, target: &Path) -> std::path::PathBuf {
    let directories = data_directories().expect("the recordings are readable");
    let directory = directories.into_iter().find(|directory| directory.name == name).expect("it was recorded");
    directory.unpack(target).expect("it unpacks")
}

#[test]
fn port_in_use() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = taken.local_addr().expect("it has an address").port();
    // The listener never answers `srvr`, so only the server's own end is waited for.
    assert_fails(Setup::new().port(port), UNEXPECTED, &[&port.to_string(), "in use"]);
}

#[test]
fn an_address_for_clients_that_means_nothing_or_another_machine() {
    let somewhere = |address: &str| Setup::new().config("clientPortAddress", address);
    assert_fails(somewhere("nowhere.invalid"), BAD_CONFIGURATION, &["nowhere.invalid", "clientPortAddress"]);
    // Of a network for documentation, so no machine has it.
    assert_fails(somewhere("192.0.2.1"), UNEXPECTED, &["192.0.2.1", "clientPortAddress"]);
}

#[test]
fn second_server_on_the_same_data() {
    let first = Setup::new().start().expect("the server starts");
    let data_dir = first.data_dir();
    let failure = Setup::new().data_dir(&data_dir).start_and_fail().expect("the second one does not start");
    assert!(failure.log.contains(&data_dir.display().to_string()), "{}", failure.log);
    assert_eq!(failure.code, Some(BAD_DATA_DIRECTORY), "{}", failure.log);
    let mut client = Client::connect(first.address()).expect("the first one serves");
    client.create("/still", b"").expect("and writes");
}

#[test]
fn wrong_values_in_the_configuration() {
    for (key, value) in [
        ("tickTime", "often"),
        ("tickTime", "0"),
        ("clientPort", "70000"),
        ("clientPort", "http"),
        ("maxClientCnxns", "many"),
        ("minSessionTimeout", "-5"),
        ("reconfigEnabled", "perhaps"),
    ] {
        assert_fails(Setup::new().config(key, value), BAD_CONFIGURATION, &[key, value]);
    }
    let crossed = Setup::new().config("minSessionTimeout", "9000").config("maxSessionTimeout", "8000");
    assert_fails(crossed, BAD_CONFIGURATION, &["minSessionTimeout", "maxSessionTimeout"]);
}

#[test]
fn unknown_keys_are_told_and_do_no_harm() {
    let server = Setup::new().config("tickTme", "2000").start().expect("the server starts");
    server.wait_log("tickTme").expect("it says so");
}

#[test]
fn data_directory_that_is_a_file() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = home.path().join("data");
    fs::write(&path, "not a directory").expect("a file");
    assert_fails(Setup::new().data_dir(&path), BAD_DATA_DIRECTORY, &[&path.display().to_string()]);
}

/// Root may do anything, so as root the server runs as somebody else.
fn without_rights(setup: Setup) -> Setup {
    if rustix::process::geteuid().is_root() { setup.run_as(NOBODY) } else { setup }
}

#[test]
fn data_directory_without_rights() {
    let home = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    for mode in [0o000, 0o500, 0o555] {
        let path = home.path().join(format!("mode-{mode:o}"));
        fs::create_dir(&path).expect("a directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        let setup = without_rights(Setup::new().data_dir(&path));
        assert_fails(setup, BAD_DATA_DIRECTORY, &[&path.display().to_string(), "permission"]);
    }
}

/// Data that another user wrote, readable but not writable.
#[test]
fn data_directory_of_another_owner() {
    let home = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let data_dir = unpack("basic-tree", home.path());
    let version_dir = data_dir.join("version-2");
    let files = || {
        let mut names: Vec<_> =
            fs::read_dir(&version_dir).expect("it can be read").map(|e| e.expect("an entry").path()).collect();
        names.sort();
        names
    };
    for path in files() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o444)).expect("it is ours");
    }
    for path in [&version_dir, &data_dir] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o555)).expect("it is ours");
    }
    let before = files();
    let setup = without_rights(Setup::new().data_dir(&data_dir));
    assert_fails(setup, BAD_DATA_DIRECTORY, &[&data_dir.display().to_string(), "permission"]);
    assert_eq!(files(), before);
    // So that the directory can be removed by its owner.
    for path in [&data_dir, &version_dir] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
}

/// Overwrites bytes of the only file with this prefix and returns its name.
fn damage(version_dir: &Path, prefix: &str, at: usize, bytes: &[u8]) -> String {
    let name = fs::read_dir(version_dir)
        .expect("it can be read")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
        .find(|name| name.starts_with(prefix))
        .expect("there is one");
    let path = version_dir.join(&name);
    let mut content = fs::read(&path).expect("it can be read");
    content[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(path, content).expect("it can be written");
    name
}

#[test]
fn files_of_a_newer_version() {
    for prefix in ["log.", "snapshot."] {
        let home = tempfile::tempdir().expect("a temporary directory");
        let data_dir = unpack("log-only", home.path());
        // Magic, then the version of the format.
        let name = damage(&data_dir.join("version-2"), prefix, 4, &3_i32.to_be_bytes());
        let setup = Setup::new().data_dir(&data_dir);
        assert_fails(setup, UNEXPECTED, &[&name, "version 3"]);
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let data_dir = unpack("log-only", home.path());
    fs::create_dir(data_dir.join("version-3")).expect("a directory");
    assert_fails(Setup::new().data_dir(&data_dir), UNEXPECTED, &["version-3"]);
}

#[test]
fn only_snapshot_is_damaged() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let data_dir = unpack("log-only", home.path());
    let name = damage(&data_dir.join("version-2"), "snapshot.", 60, b"damage");
    let failure = Setup::new().data_dir(&data_dir).start_and_fail().expect("the server does not start");
    assert!(failure.log.contains(&name), "{}", failure.log);
    assert_ne!(failure.code, Some(0));
}
