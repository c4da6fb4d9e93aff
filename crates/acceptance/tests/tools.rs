//! The tools for logs and snapshots, by their scripts: what they print is what the original prints, and they change nothing that they look
//! at.

use std::fs;
use std::path::PathBuf;

use rookeeper_acceptance::fixture::data_directories;
use rookeeper_acceptance::script::{Home, Ran, part, recorded};
use rookeeper_acceptance::server::Setup;

/// A home with a recorded data directory in it.
fn home_with(name: &str) -> (Home, PathBuf) {
    let home = Home::new().expect("a home");
    let mut all = data_directories().expect("the recordings are readable").into_iter();
    let directory = all.find(|directory| directory.name == name).expect("the directory is recorded");
    let unpacked = directory.unpack(home.path()).expect("it unpacks");
    (home, unpacked)
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

/// What was read is as it was, and what was written has its place beside it.
fn names(directory: &PathBuf) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn logs_are_printed_as_the_original_prints_them() {
    for (directory, recording) in [
        ("multi-and-errors", "txnlogtoolkit-dump"),
        ("clean-shutdown", "txnlogtoolkit-verbose"),
        ("flip-body-middle", "txnlogtoolkit-crcerror"),
    ] {
        let (home, _) = home_with(directory);
        let ran = home.run("zkTxnLogToolkit.sh", &[&format!("{directory}/version-2/log.1")]).expect("it runs");
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{directory}");
        assert_eq!(ran.stdout, recorded(&format!("tools/{recording}.txt")).unwrap(), "{directory}");
    }
}

#[test]
fn the_end_of_a_torn_log_is_told_as_by_the_original_and_what_is_lost_beside_it() {
    for (directory, code, end, complaint) in [
        (
            "torn-body-eof",
            0,
            "EOF reached after 14 txns.",
            "the file ends within a record at offset 1583, 47 bytes are no record",
        ),
        ("torn-len-zero", 0, "EOF reached after 14 txns.", "a record without length at offset 1583"),
        ("torn-eor-zero", 1, "],true,13", "Last transaction was partial."),
        ("torn-eor-eof", 1, "],true,13", "Last transaction was partial."),
        ("flip-len-middle", 1, "],false,5", "Last transaction was partial."),
        ("flip-len-huge", 1, "],false,4", "Unreasonable length = 2130706536"),
        ("flip-header-magic", 2, "", "Invalid magic number for log.1"),
    ] {
        let (home, _) = home_with(directory);
        let ran = home.run("zkTxnLogToolkit.sh", &[&format!("{directory}/version-2/log.1")]).expect("it runs");
        assert_eq!(ran.code, code, "{directory}: {}", ran.stderr);
        assert!(ran.stderr.contains(complaint), "{directory}: {}", ran.stderr);
        assert!(ran.stdout.contains(end), "{directory}: {}", ran.stdout);
    }
}

#[test]
fn records_behind_the_end_are_not_passed_over_in_silence() {
    let (home, unpacked) = home_with("log-only");
    let log = unpacked.join("version-2/log.1");
    let mut bytes = fs::read(&log).expect("the log");
    // The head of the sixth record: reading stops there, and nine whole records lie behind.
    let mut at = 16;
    for _ in 0..5 {
        let length = bytes[at + 8..at + 12].try_into().map(u32::from_be_bytes).expect("a length");
        at += 12 + length as usize + 1;
    }
    bytes[at..at + 12].fill(0);
    fs::write(&log, &bytes).expect("the log is damaged");
    for (arguments, words) in [
        (vec!["log-only/version-2/log.1"], "a whole record stands at offset"),
        (vec!["-r", "-y", "log-only/version-2/log.1"], "so nothing is written"),
    ] {
        let ran = home.run("zkTxnLogToolkit.sh", &arguments).expect("it runs");
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stdout.contains("EOF reached after 5 txns.") && ran.stderr.contains(words), "{ran:?}");
    }
    assert_eq!(names(&unpacked.join("version-2")), ["log.1", "snapshot.0"]);
    assert!(fs::read(&log).expect("the log") == bytes, "the log is as it was");
}

#[test]
fn checksums_are_repaired_into_a_file_beside_the_log() {
    let (home, unpacked) = home_with("flip-body-middle");
    let (log, file) = (unpacked.join("version-2/log.1"), "flip-body-middle/version-2/log.1");
    let before = fs::read(&log).expect("the log");

    // Whoever looks first is told the same, and nothing is written.
    let dry = home.run("zkTxnLogToolkit.sh", &["-r", "--dry-run", file]).expect("it runs");
    assert!(dry.code == 0 && dry.stdout.contains("would be written with 1 fixed CRC error(s)"), "{dry:?}");
    assert_eq!(names(&unpacked.join("version-2")), ["log.1", "snapshot.0"]);

    for (answer, code, end, left) in [
        ("x\nno\n", 0, "has been written with 0 fixed CRC error(s)", true),
        ("Abort\n", 0, "Recovery aborted.", false),
        ("", 1, "There is nobody to answer", false),
        ("y\n", 0, "has been written with 1 fixed CRC error(s)", true),
    ] {
        let ran = home.run_with(&[], "zkTxnLogToolkit.sh", &["-r", file], answer).expect("it runs");
        assert_eq!(ran.code, code, "{answer:?}: {ran:?}");
        assert!(ran.stdout.contains("CRC ERROR - ") && ran.stdout.contains("(Yes/No/Abort) ? "), "{answer:?}: {ran:?}");
        assert!(ran.stdout.contains(end) || ran.stderr.contains(end), "{answer:?}: {ran:?}");
        let fixed = unpacked.join("version-2/log.1.fixed");
        assert_eq!(fixed.exists(), left, "{answer:?}");
        if left {
            fs::remove_file(fixed).expect("the file goes");
        }
    }

    let ran = home.run("zkTxnLogToolkit.sh", &["-ry", file]).expect("it runs");
    let expected = recorded("tools/txnlogtoolkit-recover.txt").unwrap().replace("fixme", "flip-body-middle");
    assert_eq!(ran, Ran { code: 0, stdout: expected, stderr: String::new() });
    let again = home.run("zkTxnLogToolkit.sh", &["-r", "-y", file]).expect("it runs");
    assert!(again.code == 1 && again.stderr.contains("log.1.fixed already exists"), "{again:?}");
    assert!(fs::read(&log).expect("the log") == before, "the log is as it was");

    // The repaired log takes the place of the damaged one.
    fs::rename(unpacked.join("version-2/log.1.fixed"), &log).expect("a file is renamed");
    Setup::new().data_dir(&unpacked).start().expect("a server starts from the repaired log");
}

#[test]
fn logs_are_chopped_behind_a_transaction() {
    let (home, unpacked) = home_with("log-only");
    let file = "log-only/version-2/log.1";
    let recording = recorded("tools/txnlogtoolkit-chop.txt").unwrap();
    let ran = home.run("zkTxnLogToolkit.sh", &["-c", "-z", "0x5", file]).expect("it runs");
    assert_eq!((ran.code, lines(&ran.stdout)), (0, lines(&recording)[1..3].to_vec()));
    let chopped = unpacked.join("version-2/log.1.chopped5");
    assert_eq!(fs::metadata(&chopped).expect("the chopped log").len(), 545);
    let ran = home.run("zkTxnLogToolkit.sh", &["log-only/version-2/log.1.chopped5"]).expect("it runs");
    let end: String = lines(&recording)[8..].iter().map(|line| format!("{line}\n")).collect();
    assert!(ran.stdout.ends_with(&end), "{}", ran.stdout);
    fs::remove_file(chopped).expect("the file goes");

    // The original ends with 0 in these cases, and leaves a part of the log under that name.
    for (zxid, said) in [("99", "EOF reached after 15 txns."), ("0", "This log does not contain zxid 0")] {
        let ran = home.run("zkTxnLogToolkit.sh", &["-c", "-z", zxid, file]).expect("it runs");
        assert_eq!(ran.code, 2, "{zxid}: {ran:?}");
        assert!(
            ran.stdout.contains(said) && ran.stdout.contains("Got exception: Failed to chop log.1"),
            "{zxid}: {ran:?}"
        );
        assert_eq!(names(&unpacked.join("version-2")), ["log.1", "snapshot.0"], "{zxid}");
    }
    let (home, _) = home_with("flip-body-middle");
    let ran = home.run("zkTxnLogToolkit.sh", &["-c", "-z", "9", "flip-body-middle/version-2/log.1"]).expect("it runs");
    assert!(ran.code == 1 && ran.stdout.contains("Got exception: CRC doesn't match"), "{ran:?}");
}

#[test]
fn wrong_invocations_of_the_log_tool() {
    let home = Home::new().expect("a home");
    let usage = recorded("tools/txnlogtoolkit-usage.txt").unwrap();
    let usage = part(&format!("$ \n{usage}"), "$ ");
    let ran = home.run("zkTxnLogToolkit.sh", &[]).expect("it runs");
    assert_eq!(ran.code, 1);
    // One line more than the original has: the dry run.
    let without: Vec<&str> = ran.stdout.lines().filter(|line| !line.contains("--dry-run")).collect();
    assert_eq!(without, lines(&usage));
    assert_eq!(home.run("zkTxnLogToolkit.sh", &["-h"]).expect("it runs").code, 0);
    let ran = home.run("zkTxnLogToolkit.sh", &["-x", "log.1"]).expect("it runs");
    assert!(ran.code == 1 && ran.stderr == "Unrecognized option: -x\n\n", "{ran:?}");
    let ran = home.run("zkTxnLogToolkit.sh", &["log.1"]).expect("it runs");
    assert_eq!((ran.code, ran.stderr.as_str()), (1, "File doesn't exist or not readable: log.1\n"));
}

#[test]
fn snapshots_are_printed_as_the_original_prints_them() {
    let (home, _) = home_with("basic-tree-snapshot");
    let file = "basic-tree-snapshot/version-2/snapshot.2e";
    for (option, recording) in [(None, "default"), (Some("-d"), "data"), (Some("-json"), "json")] {
        let arguments: Vec<&str> = option.into_iter().chain([file]).collect();
        let ran = home.run("zkSnapShotToolkit.sh", &arguments).expect("it runs");
        let expected = recorded(&format!("tools/snapshotformatter-{recording}.txt")).unwrap();
        // The time of the call.
        let hidden = |text: &str| match text.split_once("\"timestamp\":") {
            Some((front, rest)) => format!("{front}{}", rest.trim_start_matches(|digit: char| digit.is_ascii_digit())),
            None => text.to_owned(),
        };
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert_eq!(hidden(&ran.stdout), hidden(&expected), "{option:?}");
    }
    let usage = recorded("tools/snapshotformatter-usage.txt").unwrap();
    let ran = home.run("zkSnapShotToolkit.sh", &[]).expect("it runs");
    assert_eq!((ran.code, lines(&ran.stderr)), (2, lines(&usage)[..3].to_vec()));
    let ran = home.run("zkSnapShotToolkit.sh", &["-d", "-json", file]).expect("it runs");
    let both = recorded("tools/snapshotformatter-json-data.txt").unwrap();
    assert_eq!((ran.code, lines(&ran.stderr)), (2, lines(&both)[..1].to_vec()));
    let ran = home.run("zkSnapShotToolkit.sh", &["nowhere"]).expect("it runs");
    assert_eq!((ran.code, ran.stderr.as_str()), (2, "File '/opt/zookeeper/nowhere' does not exist.\n"));
}

#[test]
fn compressed_and_damaged_snapshots() {
    for (directory, code, words) in [
        ("snapshot-gz", 0, ""),
        ("snapshot-snappy", 0, ""),
        ("snapshot-flipped", 1, "what was printed may be wrong"),
        ("snapshot-truncated", 1, "the file ends early"),
        ("snapshot-gz-truncated", 1, "the file ends early"),
    ] {
        let (home, unpacked) = home_with(directory);
        let in_version_dir = names(&unpacked.join("version-2"));
        let zxid = |name: &String| i64::from_str_radix(name.strip_prefix("snapshot.")?.split('.').next()?, 16).ok();
        let newest = in_version_dir.iter().max_by_key(|name| zxid(name)).expect("a snapshot");
        let ran = home.run("zkSnapShotToolkit.sh", &[&format!("{directory}/version-2/{newest}")]).expect("it runs");
        assert_eq!(ran.code, code, "{directory}/{newest}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{directory}/{newest}: {}", ran.stderr);
        let is_printed = !words.contains("ends early");
        assert_eq!(ran.stdout.contains("Session Details (sid, timeout, ephemeralCount):"), is_printed, "{directory}");
    }
}

#[test]
fn snapshots_are_compared_as_by_the_original() {
    let (home, unpacked) = home_with("snapshots-and-logs");
    let recording = recorded("tools/snapshotcomparer.txt").unwrap();
    for number in ["5", "15", "e"] {
        let name = format!("snapshot.{number}");
        fs::copy(unpacked.join("version-2").join(&name), home.path().join(&name)).expect("a copy");
    }
    let timeless = |text: &str| -> Vec<String> {
        let line = |line: &str| line.split(" in 0.").next().unwrap_or_default().to_owned();
        text.trim_end().lines().map(line).collect()
    };
    let ran = home.run("zkSnapshotComparer.sh", &["-l", "snapshot.5", "-r", "snapshot.15", "-b", "2", "-n", "1"]);
    let ran = ran.expect("it runs");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(timeless(&ran.stdout), timeless(&part(&recording, "$ -l snapshot.5 -r snapshot.15 -b 2 -n 1")));
    let arguments = ["--left=snapshot.5", "--right=snapshot.e", "--bytes=2", "--nodes=1", "--debug"];
    let ran = home.run("zkSnapshotComparer.sh", &arguments).expect("it runs");
    let expected = timeless(&part(&recording, "$ ... -d (debug)"));
    // The recording was cut off.
    assert_eq!(timeless(&ran.stdout)[..expected.len()], expected);

    let ran = home.run("zkSnapshotComparer.sh", &[]).expect("it runs");
    let told: String = ran.stderr + &ran.stdout;
    assert_eq!(
        (ran.code, lines(&told)),
        (2, lines(&part(&recording, "$ (no arguments)")).into_iter().filter(|line| !line.is_empty()).collect())
    );

    let arguments = ["-i", "-l", "snapshot.5", "-r", "snapshot.15", "-b", "2", "-n", "1"];
    let ran = home.run_with(&[], "zkSnapshotComparer.sh", &arguments, "9\n/n\n/nowhere\nx\n1\n\n\n").expect("it runs");
    assert_eq!(ran.code, 0, "{ran:?}");
    for said in [
        "Depth must be in range [0, 2]",
        "Analysis for node /n\nFiltered node /n/e of left size 1, right size 1",
        "Path /nowhere is neither found in left tree nor right tree.",
        "Input x is not valid.",
        "Current depth is 2",
        "All layers compared.",
    ] {
        assert!(ran.stdout.contains(said), "{said}: {}", ran.stdout);
    }
}

#[test]
fn snapshots_are_summed_up_as_by_the_original() {
    let (home, unpacked) = home_with("basic-tree-snapshot");
    fs::copy(unpacked.join("version-2/snapshot.2e"), home.path().join("snapshot.2e")).expect("a copy");
    let recording = recorded("tools/snapshotrecursivesummary.txt").unwrap();
    let ran = home.run("zkSnapshotRecursiveSummaryToolkit.sh", &["snapshot.2e", "/", "2"]).expect("it runs");
    let expected = part(&recording, "$ snapshot.2e / 2");
    assert_eq!((ran.code, ran.stdout.trim_end()), (0, expected.trim_end()));
    let ran = home.run("zkSnapshotRecursiveSummaryToolkit.sh", &["snapshot.2e", "/nope", "2"]).expect("it runs");
    assert_eq!((ran.code, ran.stderr.as_str()), (1, "there is no node /nope in snapshot.2e\n"));
    for arguments in [vec![], vec!["snapshot.2e", "/", "x"]] {
        let ran = home.run("zkSnapshotRecursiveSummaryToolkit.sh", &arguments).expect("it runs");
        assert_eq!((ran.code, ran.stderr.trim_end()), (2, part(&recording, "$ (no arguments)").trim_end()));
    }
}

#[test]
fn cleanup_keeps_what_the_original_keeps_and_what_recovery_needs() {
    let (home, unpacked) = home_with("snapshots-and-logs");
    let recording = recorded("tools/purgetxnlog.txt").unwrap();
    let conf = format!("dataDir={}\nclientPort=1\n", unpacked.display());
    fs::write(home.path().join("conf/zoo.cfg"), conf).expect("a configuration");
    let usage = part(&recording, "$ (no arguments)");
    let usage = usage.trim_end();

    let ran = home.run("zkCleanup.sh", &[]).expect("it runs");
    assert_eq!((ran.code, ran.stdout.trim_end(), ran.stderr.as_str()), (1, usage, ""));
    let ran = home.run("zkCleanup.sh", &["-n", "2"]).expect("it runs");
    assert_eq!((ran.code, ran.stdout.trim_end()), (1, usage));
    assert_eq!(ran.stderr, "count should be greater than or equal to 3\n");

    // While the history is being cut, the newest snapshots are the ones that will go.
    let version_dir = unpacked.join("version-2");
    let before = names(&version_dir);
    fs::write(version_dir.join(".truncate.20"), "").expect("a marker");
    let ran = home.run("zkCleanup.sh", &["-n", "3"]).expect("it runs");
    assert!(ran.code == 0 && ran.stdout.is_empty() && ran.stderr.contains("nothing is removed while"), "{ran:?}");
    fs::remove_file(version_dir.join(".truncate.20")).expect("the marker goes");
    assert_eq!(names(&version_dir), before);

    let ran = home.run("zkCleanup.sh", &["-n", "3"]).expect("it runs");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let removed = |text: &str| -> Vec<String> {
        let name = |line: &str| line.strip_prefix("Removing file: ")?.rsplit_once('/').map(|(_, name)| name.to_owned());
        let mut removed: Vec<String> = text.lines().map(|line| name(line).expect("a removed file")).collect();
        removed.sort();
        removed
    };
    assert_eq!(removed(&ran.stdout), removed(part(&recording, "$ DATADIR -n 3").trim_end()));
    assert!(ran.stdout.lines().all(|line| line.contains("M\t/opt/zookeeper/")), "{}", ran.stdout);
    assert_eq!(names(&version_dir), lines(part(&recording, "$ ls DATADIR/version-2").trim_end()));
    Setup::new().data_dir(&unpacked).start().expect("a server starts from what is left");
}
