//! collectd's plugin for ZooKeeper reads every member: it finds the same metrics as of the original in the same role, and the same values
//! where they depend on nothing but what was written.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rookeeper_acceptance::client::DEADLINE;
use rookeeper_acceptance::ensemble::Plan;
use rookeeper_acceptance::foreign::collectd_root;
use rookeeper_acceptance::server::Product;
use tempfile::TempDir;

/// So many rounds of questions have been answered when the first ones are looked at.
const ROUNDS: usize = 5;

/// Metrics with their last values.
type Metrics = BTreeMap<String, String>;

/// The values of these follow from what was written and by whom; the last five are a leader's alone.
const OF_THE_DATA: [&str; 8] = [
    "gauge-znode",
    "gauge-ephemerals",
    "gauge-watch",
    "count-quorum",
    "count-synced_followers",
    "count-pending_syncs",
    "bytes-last_proposal",
    "bytes-max_proposal",
];

/// A collectd that asks one server, often, and writes what it gets into files.
struct Collectd {
    process: Child,
    directory: TempDir,
}

impl Collectd {
    fn start(address: SocketAddr) -> Collectd {
        let root = collectd_root().expect("it is installed");
        // Nothing is written into a directory whose name begins with a dot.
        let directory = tempfile::Builder::new().prefix("rookeeper-collectd-").tempdir().expect("a directory");
        let (home, root_text) = (directory.path().display(), root.display());
        let config = format!(
            "Hostname \"here\"\nFQDNLookup false\nBaseDir \"{home}\"\nPIDFile \"{home}/pid\"\n\
             PluginDir \"{root_text}/usr/lib/collectd\"\nTypesDB \"{root_text}/usr/share/collectd/types.db\"\nInterval 0.1\n\
             LoadPlugin csv\nLoadPlugin zookeeper\n<Plugin csv>\nDataDir \"{home}/csv\"\n</Plugin>\n\
             <Plugin zookeeper>\nHost \"{}\"\nPort \"{}\"\n</Plugin>\n",
            address.ip(),
            address.port()
        );
        let file = directory.path().join("collectd.conf");
        fs::write(&file, config).expect("it is written");
        let log = fs::File::create(directory.path().join("log")).expect("a file");
        let mut command = Command::new(root.join("usr/sbin/collectd"));
        command.args(["-f", "-C"]).arg(file).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a copy")).stderr(log);
        Collectd { process: command.spawn().expect("it starts"), directory }
    }

    /// The metrics that are there after [`ROUNDS`] answers.
    fn metrics(&mut self) -> Metrics {
        let until = Instant::now() + DEADLINE;
        loop {
            let ended = self.process.try_wait().expect("it is ours");
            assert!(ended.is_none() && Instant::now() < until, "{ended:?}, log of collectd:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
            // A file a metric and day: latency-avg-2026-11-28. Its last line is a time and the value.
            let Ok(entries) = fs::read_dir(self.directory.path().join("csv/here/zookeeper")) else { continue };
            let mut metrics = Metrics::new();
            let mut rounds = usize::MAX;
            for entry in entries {
                let entry = entry.expect("an entry");
                let name = entry.file_name().into_string().expect("text");
                let name = name[..name.len() - "-2026-11-28".len()].to_owned();
                let text = fs::read_to_string(entry.path()).expect("text");
                // A line that is still being written counts when it is whole.
                let lines: Vec<&str> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).skip(1).collect();
                rounds = rounds.min(lines.len());
                let value = lines.last().and_then(|line| line.trim().split_once(',')).map(|(_, value)| value);
                metrics.insert(name, value.unwrap_or_default().to_owned());
            }
            if rounds != usize::MAX && rounds >= ROUNDS {
                return metrics;
            }
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Collectd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What collectd reads of the leader and of a follower after the same writes.
fn read(product: Product) -> [Metrics; 2] {
    let mut ensemble = Plan::of(&[product; 3]).start().expect("an ensemble");
    let leader = ensemble.leader().expect("a leader");
    let follower = ensemble.followers().expect("followers")[0];
    let clients = [leader, follower].map(|id| {
        let mut client = ensemble.connect(id).expect("a session");
        client.create(&format!("/of-{id}"), b"some data").expect("a node");
        client
    });
    ensemble.wait_same_zxid().expect("all have it");
    let mut readers = [leader, follower].map(|id| Collectd::start(ensemble.address(id)));
    let metrics = readers.each_mut().map(Collectd::metrics);
    for reader in &readers {
        // It says in its log where an answer is not as it wants.
        assert!(!reader.log().contains("zookeeper: "), "{}", reader.log());
    }
    drop(clients);
    metrics
}

#[test]
fn it_finds_the_same_metrics_as_of_the_original() {
    let (ours, original) = (read(Product::under_test()), read(Product::Apache));
    for (role, (ours, original)) in ["leader", "follower"].into_iter().zip(ours.iter().zip(&original)) {
        let names = |metrics: &Metrics| metrics.keys().cloned().collect::<Vec<String>>();
        assert_eq!(names(ours), names(original), "of a {role}: {ours:#?}\nand of the original {original:#?}");
        for name in OF_THE_DATA {
            assert_eq!(ours.get(name), original.get(name), "{name} of a {role}");
        }
    }
    let told_of_a_leader = OF_THE_DATA.iter().all(|name| ours[0].contains_key(*name));
    assert!(told_of_a_leader, "{:#?}", ours[0]);
    println!("{ours:#?}\n{original:#?}");
}
