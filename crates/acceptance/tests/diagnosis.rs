//! `rookeeper config check` and `rookeeper doctor`: what they say of configurations, and of an ensemble with a member of the original.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::foreign::{Output, output};
use rookeeper_acceptance::server::{Product, rookeeper_binary};

fn rookeeper(arguments: &[&str], config: &Path) -> Output {
    let mut command = Command::new(rookeeper_binary().expect("a binary"));
    command.args(arguments).arg(config).env_remove("JVMFLAGS").env_remove("SERVER_JVMFLAGS");
    command.env("ROOKEEPER_LOG", "error");
    output(command, "").expect("it ends")
}

#[track_caller]
fn expect(output: &Output, code: i32, lines: &[&str]) {
    assert_eq!(output.code, Some(code), "{output:?}");
    for line in lines {
        assert!(output.stdout.contains(line), "{line:?} in\n{}{}", output.stdout, output.stderr);
    }
}

/// A server that starts by it must end with the same code, and say the same.
#[test]
fn a_check_says_what_a_start_says() {
    let home = tempfile::tempdir().expect("a folder");
    let config = home.path().join("zoo.cfg");
    let data = home.path().join("data");
    let sound =
        format!("dataDir={}\nclientPort=0\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n", data.display());
    let unwell = [
        "tickTime=never\n",
        "authProvider.1=com.example.Unknown\n",
        "secureClientPort=0\nssl.keyStore.location=/not/there.pem\nssl.trustStore.location=/nor/there.pem\n",
        "clientPortAddress=no-such-host.invalid\n",
        "server.1=127.0.0.1:1:2\nserver.2=127.0.0.1:3:4\nserver.3=127.0.0.1:5:6\n",
    ];
    for addition in unwell {
        fs::write(&config, format!("{sound}{addition}")).expect("a file");
        let started = rookeeper(&["server"], &config);
        let checked = rookeeper(&["config", "check"], &config);
        assert!(started.code.is_some_and(|code| code > 1), "{started:?}");
        assert_eq!(checked.code, started.code, "{checked:?}\n{started:?}");
        let said = checked.stdout.lines().find_map(|line| line.strip_prefix("problem  configuration "));
        let said = said.unwrap_or_else(|| panic!("no problem in {checked:?}"));
        let all = started.stdout.clone() + &started.stderr;
        assert!(all.contains(said.trim()), "{said:?} in {all}");
    }
    fs::write(&config, &sound).expect("a file");
    expect(&rookeeper(&["config", "check"], &config), 0, &["0 problems, 0 warnings"]);
    // Nothing was made by looking.
    assert!(!data.exists());
}

fn config_of(ensemble: &Ensemble, id: u64) -> PathBuf {
    ensemble.data_dir(id).with_file_name("zoo.cfg")
}

#[test]
fn an_ensemble_is_looked_at() {
    let plan = Plan::of(&[Product::Rookeeper, Product::Apache, Product::Rookeeper]);
    let mut ensemble = plan.reconfigurable().start().expect("an ensemble");
    // A member takes the number of an epoch with its first transaction.
    let leader = ensemble.leader().expect("a leader");
    ensemble.connect(leader).expect("a session").create("/epoch", b"").expect("a node");
    ensemble.wait_same_zxid().expect("all have it");
    let config = config_of(&ensemble, 1);
    let leads = format!("server {leader} leads, 2 follow, 0 observe");
    expect(
        &rookeeper(&["doctor"], &config),
        0,
        &[
            &leads,
            "syncs in",
            "are free in",
            "names         all 3 resolve",
            "drift         the same as at server 2, 3",
            "members run different versions: 3.9.",
            "at each member that answers",
            "currentEpoch",
            "0 problems",
        ],
    );
    let check = rookeeper(&["config", "check"], &config);
    expect(&check, 0, &["client port", "the same as at server 2, 3"]);
    assert!(!check.stdout.contains("leads"), "{check:?}");

    // A member by another configuration.
    let text = fs::read_to_string(&config).expect("a file");
    let other = config.with_file_name("other.cfg");
    fs::write(&other, format!("{text}\nsyncLimit=77\n")).expect("a file");
    expect(&rookeeper(&["config", "check", "--alone"], &other), 0, &["0 problems"]);
    expect(&rookeeper(&["config", "check"], &other), 1, &["syncLimit is 77 here and", "at server 2", "at server 3"]);

    // Without the other two nobody leads.
    for id in [2, 3] {
        ensemble.kill(id).expect("it dies");
    }
    ensemble.wait_for("it has no leader", |ensemble| Ok(ensemble.mode(1).is_none())).expect("it looks for one");
    expect(
        &rookeeper(&["doctor"], &config),
        1,
        &[
            "server 1 runs, and serves nobody",
            "server 2 at",
            "server 3 at",
            "gives no answer",
            "remedy: Look at its log",
        ],
    );
}
