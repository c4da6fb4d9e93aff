//! A cluster of Spring Cloud's Eureka servers is replaced by ours, one server after the other, and back, while instances live in it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rookeeper_acceptance::eureka::{Eureka, ask, free_port, urls};
use rustix::process::Signal;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(180);
const INSTANCES: usize = 24;
/// A renewed lease lasts twice as long.
const LEASE_S: u64 = 20;

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

fn id(number: usize) -> String {
    format!("host-{number}:orders:8080")
}

/// An instance that registers and sends heartbeats as Eureka's clients do: to one server until it fails, then to the next one.
fn live(number: usize, ports: [u16; 3], stop: &AtomicBool, registered: &AtomicU64) {
    let (id, app) = (id(number), format!("APP{}", number % 4));
    let (mut server, mut dirty_ms) = (number % 3, 0);
    while !stop.load(Ordering::Relaxed) {
        let beat = format!("/eureka/apps/{app}/{id}?status=UP&lastDirtyTimestamp={dirty_ms}");
        let answer = match dirty_ms {
            0 => 404,
            _ => ask(ports[server], "PUT", &beat, None).map_or(0, |answer| answer.status),
        };
        let is_there = match answer {
            200 => true,
            404 => {
                dirty_ms = now_ms();
                let instance = json!({"instance": {
                    "instanceId": id, "hostName": "127.0.0.1", "app": app, "ipAddr": "127.0.0.1", "status": "UP",
                    "dataCenterInfo": {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"},
                    "leaseInfo": {"renewalIntervalInSecs": 1, "durationInSecs": LEASE_S},
                    "lastDirtyTimestamp": dirty_ms.to_string()
                }});
                let status = ask(ports[server], "POST", &format!("/eureka/apps/{app}"), Some(&instance));
                let is_taken = status.is_ok_and(|answer| answer.status == 204);
                registered.fetch_add(u64::from(is_taken), Ordering::Relaxed);
                if !is_taken {
                    dirty_ms = 0;
                }
                is_taken
            }
            _ => false,
        };
        if is_there {
            thread::sleep(Duration::from_secs(1));
        } else {
            server = (server + 1) % 3;
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The instances that a server shows; none where it shows no list.
fn shown(port: u16) -> Option<BTreeSet<String>> {
    let answer = ask(port, "GET", "/eureka/apps/", None).ok().filter(|answer| answer.status == 200)?;
    let list: Value = serde_json::from_str(&answer.body).ok()?;
    let applications = list["applications"]["application"].as_array()?.iter();
    let instances = applications.flat_map(|application| application["instance"].as_array().unwrap());
    Some(instances.map(|instance| instance["instanceId"].as_str().unwrap().to_owned()).collect())
}

/// Looks again and again at all servers that have once shown everything: they must go on to.
struct Watch {
    /// Ports of those servers.
    whole: Mutex<BTreeSet<u16>>,
    lost: Mutex<Vec<String>>,
}

impl Watch {
    fn look(&self, begin: Instant) {
        for port in self.whole.lock().unwrap().clone() {
            let missing = |shown: BTreeSet<String>| (0..INSTANCES).map(id).filter(|id| !shown.contains(id)).collect();
            let missing: Vec<String> = shown(port).map(missing).unwrap_or_default();
            // A server that is being stopped is not looked at any more.
            if !missing.is_empty() && self.whole.lock().unwrap().contains(&port) {
                let what = format!("{missing:?} is missing at {port} after {:?}", begin.elapsed());
                self.lost.lock().unwrap().push(what);
            }
        }
    }

    fn until_whole(&self, port: u16) {
        let begin = Instant::now();
        while shown(port).is_none_or(|shown| shown.len() < INSTANCES) {
            assert!(begin.elapsed() < DEADLINE, "{port} shows {:?}", shown(port));
            thread::sleep(Duration::from_millis(50));
        }
        self.whole.lock().unwrap().insert(port);
    }
}

#[test]
fn a_cluster_of_the_original_becomes_ours_and_back_without_losing_an_instance() {
    let ports = [0; 3].map(|_| free_port().unwrap());
    let others = |place: usize| -> Vec<u16> { ports.iter().copied().filter(|port| *port != ports[place]).collect() };
    let original = |place: usize| {
        let options = ["eviction-interval-timer-in-ms=1000", "enable-self-preservation=false"];
        let sync = ["registry-sync-retries=5", "registry-sync-retry-wait-ms=500", "wait-time-in-ms-when-sync-empty=0"];
        let options = options.iter().chain(&sync).map(|option| format!("--eureka.server.{option}"));
        let options: Vec<String> = options.collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        Eureka::start_original(ports[place], &others(place), &options).unwrap()
    };
    let ours = |place: usize| {
        let peers = format!("eureka.client.service-url.defaultZone={}", urls(&ports));
        let quick =
            ["eureka.server.eviction-interval-timer-in-ms=1000", "eureka.server.enable-self-preservation=false"];
        Eureka::start(ports[place], &[&peers, quick[0], quick[1]]).unwrap()
    };
    let mut servers: Vec<Eureka> = thread::scope(|scope| {
        let starting: Vec<_> = (0..3).map(|place| scope.spawn(move || original(place))).collect();
        starting.into_iter().map(|server| server.join().unwrap()).collect()
    });
    let (stop, registered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let watch = Arc::new(Watch { whole: Mutex::default(), lost: Mutex::default() });
    let mut threads = Vec::new();
    for number in 0..INSTANCES {
        let (stop, registered) = (stop.clone(), registered.clone());
        threads.push(thread::spawn(move || live(number, ports, &stop, &registered)));
    }
    let (watching, stopping, begin) = (watch.clone(), stop.clone(), Instant::now());
    threads.push(thread::spawn(move || {
        while !stopping.load(Ordering::Relaxed) {
            watching.look(begin);
            thread::sleep(Duration::from_millis(200));
        }
    }));
    ports.iter().for_each(|port| watch.until_whole(*port));

    for is_ours in [true, false] {
        for place in 0..3 {
            watch.whole.lock().unwrap().remove(&ports[place]);
            servers[place].process.signal(Signal::TERM).unwrap();
            servers[place].process.end().unwrap();
            servers[place] = if is_ours { ours(place) } else { original(place) };
            watch.until_whole(ports[place]);
        }
        // Longer than a lease that nobody renews at a server that hears no heartbeats.
        thread::sleep(Duration::from_secs(2 * LEASE_S + 5));
    }
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let lost = watch.lost.lock().unwrap();
    assert!(lost.is_empty(), "{} times, first {:?}", lost.len(), &lost[..lost.len().min(10)]);
    println!("{} registrations in {:?}", registered.load(Ordering::Relaxed), begin.elapsed());
}
