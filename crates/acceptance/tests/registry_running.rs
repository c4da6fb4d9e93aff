//! The service registry as whoever runs it sees it: figures, probes, what it says of itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rookeeper_acceptance::eureka::{Eureka, free_port, urls};
use rookeeper_acceptance::foreign::{output, prometheus};

/// The value of a metric, with its labels.
fn value(page: &str, metric: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix("rookeeper_registry_")?.strip_prefix(metric));
    line.unwrap_or_else(|| panic!("{metric} is not there:\n{page}")).trim().parse().unwrap()
}

#[test]
fn figures_count_what_was_done() {
    let nobody = free_port().unwrap();
    let peer = format!("eureka.client.service-url.defaultZone={}", urls(&[nobody]));
    let registry = Eureka::start(0, &[&peer, "eureka.client.fetch-registry=false"]).unwrap();
    for id in ["one", "two", "three"] {
        registry.register("ORDERS", id).unwrap();
    }
    for (method, path) in [
        ("PUT", "/eureka/apps/ORDERS/one"),
        ("PUT", "/eureka/apps/ORDERS/nobody"),
        ("PUT", "/eureka/apps/ORDERS/two/status?value=OUT_OF_SERVICE"),
        ("DELETE", "/eureka/apps/ORDERS/three"),
    ] {
        registry.ask(method, path, None);
    }
    let page = registry.ask("GET", "/metrics", None).body;
    for (metric, wanted) in [
        ("instances{status=\"UP\"}", 1.0),
        ("instances{status=\"OUT_OF_SERVICE\"}", 1.0),
        ("applications ", 1.0),
        ("shows_lists ", 1.0),
        ("preserves ", 1.0),
        ("expected_clients ", 3.0),
        ("renewals_threshold ", 5.0),
        ("registrations_total{from=\"clients\"}", 3.0),
        ("registrations_total{from=\"peers\"}", 0.0),
        ("heartbeats_total{from=\"clients\"}", 1.0),
        ("heartbeats_unknown_total{from=\"clients\"}", 1.0),
        ("cancels_total ", 1.0),
        ("overrides_total ", 1.0),
        ("changes_total ", 5.0),
        ("requests_total{status=\"2xx\"}", 6.0),
        ("requests_total{status=\"4xx\"}", 1.0),
        (&format!("peer_waiting{{peer=\"http://127.0.0.1:{nobody}/eureka/\"}}"), 2.0),
    ] {
        if metric.starts_with("peer_waiting") {
            // What waits is counted by instances: one heartbeat is sent, and forgotten, by itself.
            assert!(value(&page, metric) >= 1.0, "{page}");
            continue;
        }
        assert_eq!(value(&page, metric), wanted, "{metric}\n{page}");
    }
    assert!(value(&page, "instance_bytes ") > 1000.0);
    let mut promtool = prometheus("promtool").unwrap();
    promtool.args(["check", "metrics"]);
    let said = output(promtool, &page).unwrap();
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (Some(0), "", ""), "{page}");
}

#[test]
fn probes_wait_for_lists_and_pages_tell_what_happened() {
    let nobody = free_port().unwrap();
    let peer = format!("eureka.client.service-url.defaultZone={}", urls(&[nobody]));
    // For ten minutes the peer is waited for.
    let waits = ["eureka.server.registry-sync-retries=60", "eureka.server.registry-sync-retry-wait-ms=10000"];
    let registry = Eureka::start(0, &[&peer, waits[0], waits[1]]).unwrap();
    let status = |path: &str| registry.ask("GET", path, None).status;
    assert_eq!([status("/health/live"), status("/health/ready")], [200, 503]);
    assert_eq!([status("/actuator/health/liveness"), status("/actuator/health/readiness")], [200, 503]);
    assert_eq!(status("/actuator/health"), 200);

    let registry = Eureka::start(0, &["eureka.instance.hostname=here"]).unwrap();
    assert_eq!(registry.ask("GET", "/health/ready", None).status, 200);
    assert_eq!(registry.ask("GET", "/actuator/health/readiness", None).body, "{\"status\":\"UP\"}");
    registry.register("ORDERS", "<one>").unwrap();
    registry.ask("DELETE", "/eureka/apps/ORDERS/%3Cone%3E", None);
    let last = registry.ask("GET", "/lastn", None).body;
    assert_eq!(last.matches("ORDERS(&lt;one&gt;)").count(), 2, "{last}");
    let itself = registry.ask("GET", "/eureka/status", None);
    let said: serde_json::Value = serde_json::from_str(&itself.body).unwrap();
    assert_eq!(said["instanceInfo"]["hostName"], "here");
    assert_eq!(said["instanceInfo"]["port"]["$"], registry.port);
}
