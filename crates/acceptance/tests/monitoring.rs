//! The alarms and the dashboard that come along, checked by Prometheus itself: it takes them, their own tests hold, and a real one that
//! scrapes an ensemble raises the alarm when a follower is frozen.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rookeeper_acceptance::client::DEADLINE;
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::fixture::repository;
use rookeeper_acceptance::foreign::{output, prometheus};
use serde_json::Value;
use tempfile::TempDir;

const TELLS: &str = "tells Prometheus its metrics at http://";

fn packaged(path: &str) -> String {
    fs::read_to_string(repository().join("packaging").join(path)).expect("it comes along")
}

/// Fails with what promtool says.
fn promtool(arguments: &[&str], directory: &Path) -> String {
    let mut command = prometheus("promtool").expect("it is installed");
    command.args(arguments).current_dir(directory);
    output(command, "").expect("promtool is content").stdout
}

#[test]
fn the_rules_are_sound_and_fire_when_they_must() {
    let directory = repository().join("packaging/prometheus");
    let checked = promtool(&["check", "rules", "rules.yml"], &directory);
    assert!(checked.contains("16 rules found"), "{checked}");
    promtool(&["test", "rules", "rules_test.yml"], &directory);
}

#[test]
fn every_query_of_the_dashboard_is_sound() {
    let dashboard: Value = serde_json::from_str(&packaged("grafana/rookeeper.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries: Vec<&str> = targets.map(|target| target["expr"].as_str().expect("a query")).collect();
    assert!(queries.len() > 30, "{}", queries.len());
    // As rules that record, which promtool can check.
    let rule = |(number, query): (usize, &&str)| serde_json::json!({ "record": format!("query:{number}"), "expr": query.replace("$__rate_interval", "5m") });
    let rules: Vec<Value> = queries.iter().enumerate().map(rule).collect();
    let directory = TempDir::new().expect("a directory");
    let file = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    // YAML has JSON in it.
    fs::write(directory.path().join("queries.yml"), file.to_string()).expect("it is written");
    promtool(&["check", "rules", "queries.yml"], directory.path());
}

/// A Prometheus that looks often.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Prometheus {
    /// Scrapes these, and goes by the rules that come along, which do not wait here.
    fn start(targets: &[SocketAddr]) -> Prometheus {
        let directory = TempDir::new().expect("a directory");
        let rules: String = packaged("prometheus/rules.yml")
            .lines()
            .map(|line| {
                if line.trim_start().starts_with("for: ") {
                    "        for: 0s\n".to_owned()
                } else {
                    format!("{line}\n")
                }
            })
            .collect();
        fs::write(directory.path().join("rules.yml"), rules).expect("it is written");
        let targets: Vec<String> = targets.iter().map(|target| format!("'{target}'")).collect();
        let config = format!(
            "global: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}}\nrule_files: [rules.yml]\n\
             scrape_configs:\n  - job_name: rookeeper\n    static_configs: [{{targets: [{}]}}]\n",
            targets.join(", ")
        );
        fs::write(directory.path().join("prometheus.yml"), config).expect("it is written");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("it is bound");
        drop(free);
        let mut command: Command = prometheus("prometheus").expect("it is installed");
        command.current_dir(directory.path()).stdout(Stdio::null()).stderr(Stdio::null()).args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            &format!("--web.listen-address={address}"),
        ]);
        let process = command.spawn().expect("it starts");
        Prometheus { process, address, _directory: directory }
    }

    /// None where it does not answer, or not yet.
    fn ask(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        stream.write_all(format!("GET /api/v1/{path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
    }

    /// The alarms that fire, each with the member that it is about.
    fn alarms(&self) -> Option<Vec<(String, String)>> {
        let answer = self.ask("alerts")?;
        let firing = answer["data"]["alerts"].as_array()?.iter().filter(|alarm| alarm["state"] == "firing");
        let label = |alarm: &Value, name: &str| alarm["labels"][name].as_str().unwrap_or_default().to_owned();
        Some(firing.map(|alarm| (label(alarm, "alertname"), label(alarm, "instance"))).collect())
    }

    fn waits_for<T>(&self, what: &str, mut look: impl FnMut(&Prometheus) -> Option<T>) -> T {
        let until = Instant::now() + 4 * DEADLINE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(Instant::now() < until, "{what} does not come; the alarms are {:?}", self.alarms());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn metrics_address(ensemble: &mut Ensemble, id: u64) -> SocketAddr {
    ensemble.wait_log(id, 0, &[TELLS]).expect("the port is told");
    let log = ensemble.log(id);
    let behind = log.split(TELLS).nth(1).expect("it was found").split('/').next().expect("there is a path");
    behind.parse().expect("an address")
}

#[test]
fn a_frozen_follower_raises_the_alarm_and_its_return_ends_it() {
    let mut ensemble = Plan::under_test(3)
        .config("metricsProvider.className", "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider")
        .config("metricsProvider.httpHost", "127.0.0.1")
        .config("metricsProvider.httpPort", "0")
        .start()
        .expect("an ensemble");
    let leader = ensemble.wait_formed().expect("a leader");
    let targets = [1, 2, 3].map(|id| metrics_address(&mut ensemble, id));
    let follower = ensemble.followers().expect("followers")[0];
    let (silent, leading) = (targets[follower as usize - 1].to_string(), targets[leader as usize - 1].to_string());
    let prometheus = Prometheus::start(&targets);
    let up = |wanted: usize| {
        move |prometheus: &Prometheus| {
            let targets = prometheus.ask("targets")?["data"]["activeTargets"].as_array()?.clone();
            (targets.iter().filter(|target| target["health"] == "up").count() == wanted).then_some(())
        }
    };
    prometheus.waits_for("an answer of all three members", up(3));
    let is_well = |alarms: &[(String, String)]| {
        let of_members =
            ["RookeeperMemberSilent", "RookeeperFollowerMissing", "RookeeperNoLeader", "RookeeperTwoLeaders"];
        !alarms.iter().any(|(name, _)| of_members.contains(&name.as_str()))
    };
    prometheus.waits_for("silence", |prometheus| prometheus.alarms().filter(|alarms| is_well(alarms)));

    ensemble.freeze(follower).expect("it is frozen");
    let wanted = [("RookeeperMemberSilent".to_owned(), silent), ("RookeeperFollowerMissing".to_owned(), leading)];
    let alarms = prometheus.waits_for("the alarm", |prometheus| {
        prometheus.alarms().filter(|alarms| wanted.iter().all(|alarm| alarms.contains(alarm)))
    });
    assert!(!alarms.iter().any(|(name, _)| name == "RookeeperNoLeader"), "{alarms:?}");

    ensemble.thaw(follower).expect("it goes on");
    prometheus.waits_for("the end of the alarm", |prometheus| prometheus.alarms().filter(|alarms| is_well(alarms)));
}
