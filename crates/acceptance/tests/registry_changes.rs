//! Clients of the service registry that follow its changes, beside those that poll.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rookeeper_acceptance::eureka::{Answered, Eureka, ask, free_port, instance, urls};

const DEADLINE: Duration = Duration::from_secs(120);

/// Follows a registry from a version on, and tells when each answer came.
fn follow(port: u16, mut version: String) -> Receiver<(Instant, Answered)> {
    let (sender, answers) = channel();
    thread::spawn(move || {
        loop {
            let path = format!("/eureka/apps/delta?since={version}&wait=60s");
            let Ok(answer) = ask(port, "GET", &path, None) else { return };
            version = answer.header("x-rookeeper-version").unwrap_or_default().to_owned();
            if sender.send((Instant::now(), answer)).is_err() {
                return;
            }
        }
    });
    answers
}

/// The version of what is shown, once lists are.
fn version(registry: &Eureka) -> String {
    let begin = Instant::now();
    loop {
        let answer = registry.ask("GET", "/eureka/apps", None);
        if let Some(version) = answer.header("x-rookeeper-version") {
            return version.to_owned();
        }
        assert!(begin.elapsed() < DEADLINE, "lists are not shown: {answer:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_registration_is_heard_at_once_here_and_at_a_peer() {
    let ports = [free_port().unwrap(), free_port().unwrap()];
    let peers = format!("eureka.client.service-url.defaultZone={}", urls(&ports));
    let registries = ports.map(|port| Eureka::start(port, &[&peers]).unwrap());
    // Both have found each other once each shows what the other was told.
    registries[0].register("FIRST", "a").unwrap();
    registries[1].register("SECOND", "b").unwrap();
    registries[1].until_shows("FIRST", "a", Some("UP")).unwrap();
    registries[0].until_shows("SECOND", "b", Some("UP")).unwrap();

    let heard = registries.each_ref().map(|registry| follow(registry.port, version(registry)));
    let mut took: [Vec<Duration>; 2] = Default::default();
    for number in 0..20 {
        let id = format!("instance-{number}");
        let begin = Instant::now();
        registries[0].register("ORDERS", &id).unwrap();
        for (heard, took) in heard.iter().zip(&mut took) {
            let (at, answer) = heard.recv_timeout(DEADLINE).unwrap();
            assert_eq!(answer.status, 200);
            assert!(answer.body.contains(&format!("\"instanceId\":\"{id}\"")), "{}", answer.body);
            let instances = answer.body.matches("\"instanceId\"").count();
            assert_eq!(instances, 1, "only what has changed is told: {}", answer.body);
            took.push(at - begin);
        }
    }
    registries[0].ask("DELETE", "/eureka/apps/ORDERS/instance-3", None);
    for heard in &heard {
        let (_, answer) = heard.recv_timeout(DEADLINE).unwrap();
        assert!(answer.body.contains("\"actionType\":\"DELETED\""), "{}", answer.body);
    }
    for (where_at, took) in ["here", "at a peer"].iter().zip(&mut took) {
        took.sort();
        println!("a registration was heard {where_at} after {:?} (median), {:?} (longest)", took[10], took[19]);
    }
}

#[test]
fn who_follows_another_process_or_fell_behind_is_told_to_fetch_everything() {
    let mut registry = Eureka::start(0, &[]).unwrap();
    let (port, old) = (registry.port, version(&registry));
    registry.process.kill().unwrap();
    registry = Eureka::start(port, &[]).unwrap();
    for since in [old.as_str(), "", "nonsense", "0-0"] {
        let path = format!("/eureka/apps/delta?since={since}&wait=60");
        assert_eq!(registry.ask("GET", &path, None).status, 410, "{since:?}");
    }
    let begin = version(&registry);
    for number in 0..1001 {
        registry.register("MANY", &number.to_string()).unwrap();
    }
    assert_eq!(registry.ask("GET", &format!("/eureka/apps/delta?since={begin}"), None).status, 410);
    // The original's polling is as it was.
    let delta = registry.ask("GET", "/eureka/apps/delta", None);
    assert_eq!((delta.status, delta.body.matches("\"instanceId\"").count()), (200, 1001));
    // Nothing new, and nobody waits.
    let now = version(&registry);
    let nothing = registry.ask("GET", &format!("/eureka/apps/delta?since={now}"), None);
    assert_eq!((nothing.status, nothing.header("x-rookeeper-version")), (200, Some(now.as_str())));
    assert_eq!(nothing.body.matches("\"instanceId\"").count(), 0);
    assert_eq!(registry.ask("GET", &format!("/eureka/apps/delta?since={now}&wait=soon"), None).status, 400);
    // A time that is over without a change.
    let begun = Instant::now();
    let waited = registry.ask("GET", &format!("/eureka/apps/delta?since={now}&wait=1"), None);
    assert_eq!((waited.status, begun.elapsed() >= Duration::from_secs(1)), (200, true));
    assert_eq!(registry.ask("POST", "/eureka/apps/MANY", Some(&instance("MANY", "0", 1))).status, 204);
}
