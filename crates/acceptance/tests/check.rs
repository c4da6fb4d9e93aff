//! `rookeeper check`: tells sound directories from damaged ones, and changes nothing by looking.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use rookeeper_acceptance::fixture::{DataDirectory, data_directories};
use rookeeper_acceptance::server::{Setup, rookeeper_binary};

fn recorded(name: &str) -> DataDirectory {
    let mut all = data_directories().expect("the recordings are readable").into_iter();
    all.find(|directory| directory.name == name).expect("the directory is recorded")
}

/// Every file below a directory, with its bytes.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            let bytes = std::fs::read(&path).expect("a file");
            files.insert(path, bytes);
        }
    }
    files
}

fn check(arguments: &[&Path]) -> (i32, String) {
    let mut command = Command::new(rookeeper_binary().expect("the binary is built"));
    let output = command.arg("check").args(arguments).output().expect("the command runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().expect("no signal"), text)
}

#[test]
fn sound_and_damaged_directories_are_told_apart_and_left_alone() {
    for (name, code, words) in [
        ("basic-tree-snapshot", 0, "sound"),
        ("fuzzy-snapshot", 0, "sound"),
        ("snapshot-gz", 0, "sound"),
        ("torn-body-eof", 1, "log.1"),
        ("flip-crc-middle", 1, "a server would not start"),
        ("missing-middle-log", 1, "a server would not start"),
        ("snapshot-flipped", 1, "not sound"),
    ] {
        let home = tempfile::tempdir().expect("a directory");
        let directory = recorded(name).unpack(home.path()).expect("it unpacks");
        let before = contents(&directory);
        let (found, text) = check(&[&directory]);
        assert_eq!(found, code, "{name}:\n{text}");
        assert!(text.contains(words), "{name}:\n{text}");
        assert!(contents(&directory) == before, "{name}: looking changed something");
    }
}

#[test]
fn a_path_that_is_something_else_is_named_for_what_it_is() {
    let home = tempfile::tempdir().expect("a directory");
    let directory = recorded("basic-tree-snapshot").unpack(home.path()).expect("it unpacks");
    let (nowhere, empty, file) = (home.path().join("nowhere"), home.path().join("empty"), home.path().join("file"));
    std::fs::create_dir(&empty).expect("a directory");
    std::fs::write(&file, "").expect("a file");
    let version_dir = directory.join("version-2");
    for (arguments, words) in [
        (vec![nowhere.as_path()], "nowhere does not exist: give the dataDir"),
        (vec![&file], "file is no directory: give the dataDir"),
        (vec![&empty], "empty holds no version-2: give the dataDir"),
        (vec![&version_dir], "version-2 is the version-2 of a data directory"),
        (vec![&directory, Path::new("--log-dir"), &nowhere], "nowhere does not exist: give the dataLogDir"),
        (vec![&directory, Path::new("--cut-log"), &nowhere], "nowhere does not exist: --cut-log wants"),
        (vec![&directory, Path::new("--cut-log"), &empty], "empty is no file: --cut-log wants"),
    ] {
        let (code, text) = check(&arguments);
        assert!(code == 3 && text.contains(words), "{arguments:?}: {code} {text}");
    }
}

#[test]
fn a_log_is_cut_after_its_last_good_record_as_a_last_resort() {
    let home = tempfile::tempdir().expect("a directory");
    let directory = recorded("flip-crc-middle").unpack(home.path()).expect("it unpacks");
    let log = directory.join("version-2/log.1");
    let before = std::fs::read(&log).expect("the damaged log");
    let (code, text) = check(&[Path::new("--cut-log"), &log, &directory]);
    assert_eq!(code, 0, "{text}");
    assert!(contents(&directory).values().any(|bytes| *bytes == before), "the log as it was is kept");
    let (code, text) = check(&[&directory]);
    assert_eq!(code, 0, "{text}");
    Setup::new().data_dir(&directory).start().expect("a server starts from what is left");
}
