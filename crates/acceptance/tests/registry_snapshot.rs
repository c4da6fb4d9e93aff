//! Registries that all stop at once, and what they still know afterwards.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use rookeeper_acceptance::eureka::{Eureka, free_port, urls};
use rookeeper_acceptance::until;
use rustix::process::Signal;

const MARK: &str = "\"rookeeper.unconfirmed\":\"true\"";

fn text(folder: &Path) -> String {
    fs::read_to_string(folder.join("registry.snapshot")).unwrap_or_default()
}

/// What is shown of an instance, once lists are shown.
fn shown(registry: &Eureka, id: &str) -> String {
    until("lists are shown", || registry.ask("GET", "/eureka/apps", None).status == 200);
    registry.ask("GET", &format!("/eureka/apps/ORDERS/{id}"), None).body
}

#[test]
fn after_all_have_stopped_the_last_known_instances_are_shown_until_they_are_heard_of() {
    let ports = [free_port().unwrap(), free_port().unwrap()];
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let peers = format!("eureka.client.service-url.defaultZone={}", urls(&ports));
    let start = |number: usize| {
        let snapshot = format!("registry.snapshot={}", folders[number].path().display());
        Eureka::start(ports[number], &[&peers, &snapshot]).unwrap()
    };
    let mut registries = [start(0), start(1)];
    for id in ["one", "two", "gone"] {
        registries[0].register("ORDERS", id).unwrap();
    }
    registries[0].ask("PUT", "/eureka/apps/ORDERS/two/status?value=OUT_OF_SERVICE", None);
    registries[0].ask("DELETE", "/eureka/apps/ORDERS/gone", None);
    registries[1].until_shows("ORDERS", "two", Some("OUT_OF_SERVICE")).unwrap();
    registries[1].until_shows("ORDERS", "gone", None).unwrap();
    // One is killed once its file tells all, the other one stops in order.
    until("the change is written", || text(folders[0].path()).contains("\"cancelled\":\"ORDERS\",\"id\":\"gone\""));
    registries[0].process.kill().unwrap();
    registries[1].process.signal(Signal::TERM).unwrap();
    registries[1].process.end().unwrap();
    assert!(text(folders[1].path()).contains("\"instanceId\":\"two\""));
    assert!(!text(folders[1].path()).contains("\"instanceId\":\"gone\""));

    registries = [start(0), start(1)];
    for registry in &registries {
        for id in ["one", "two"] {
            assert!(shown(registry, id).contains(MARK), "{}", shown(registry, id));
        }
        assert_eq!(registry.shown("ORDERS", "two").as_deref(), Some("OUT_OF_SERVICE"));
        assert_eq!(registry.shown("ORDERS", "gone"), None);
    }
    let heartbeat = registries[0].ask("PUT", "/eureka/apps/ORDERS/one?lastDirtyTimestamp=1700000000000", None);
    assert_eq!(heartbeat.status, 200);
    assert!(!shown(&registries[0], "one").contains(MARK));
    until("the peer does not only remember", || !shown(&registries[1], "one").contains(MARK));
    assert_eq!(registries[1].shown("ORDERS", "one").as_deref(), Some("UP"));
    assert!(shown(&registries[1], "two").contains(MARK));
}

#[test]
fn a_damaged_file_is_set_aside_and_the_registry_starts() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = format!("registry.snapshot={}", folder.path().display());
    let mut registry = Eureka::start(0, &[&snapshot]).unwrap();
    registry.register("ORDERS", "one").unwrap();
    registry.process.signal(Signal::TERM).unwrap();
    registry.process.end().unwrap();
    let file = folder.path().join("registry.snapshot");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let registry = Eureka::start(0, &[&snapshot]).unwrap();
    assert_eq!(registry.shown("ORDERS", "one"), None);
    assert_eq!(fs::read(folder.path().join("registry.snapshot.bad")).unwrap(), whole[..whole.len() / 2]);
    registry.register("ORDERS", "two").unwrap();
    until("the change is written", || text(folder.path()).contains("\"instanceId\":\"two\""));
    // A directory that cannot be written to costs nothing else.
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let registry = Eureka::start(0, &[&format!("registry.snapshot={}/below", file.display())]).unwrap();
    registry.register("ORDERS", "three").unwrap();
}
