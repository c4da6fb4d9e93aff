//! Instances of Spring Cloud, with the service registry as what they take for Eureka's server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::thread;
use std::time::{Duration, Instant};

use rookeeper_acceptance::eureka::{Eureka, free_port, urls};
use rookeeper_acceptance::foreign::{Dialogue, spring_instance};

const DEADLINE: Duration = Duration::from_secs(180);

struct Instance(Dialogue);

impl Instance {
    /// An instance that sends a heartbeat each second to the first of these registries that answers.
    fn start(app: &str, registries: &[u16]) -> Instance {
        let mut command = spring_instance().unwrap();
        for option in [
            "server.port=0",
            "spring.cloud.refresh.enabled=false",
            "eureka.client.jersey.enabled=false",
            "eureka.client.registry-fetch-interval-seconds=1",
            "eureka.client.instance-info-replication-interval-seconds=1",
            "eureka.client.initial-instance-info-replication-interval-seconds=1",
            "eureka.instance.lease-renewal-interval-in-seconds=1",
            "eureka.instance.lease-expiration-duration-in-seconds=30",
            "eureka.instance.hostname=127.0.0.1",
            "spring.cloud.loadbalancer.cache.ttl=100ms",
            &format!("eureka.instance.instance-id={app}-1"),
            &format!("spring.application.name={app}"),
            &format!("eureka.client.service-url.defaultZone={}", urls(registries)),
        ] {
            command.arg(format!("--{option}"));
        }
        let mut instance = Instance(Dialogue::of(app, command).unwrap());
        assert_eq!(instance.answer(), "started");
        instance
    }

    /// The next answer; other lines are its log.
    fn answer(&mut self) -> String {
        let begin = Instant::now();
        loop {
            let line = self.0.answer_within(DEADLINE).unwrap_or_default();
            if let Some(answer) = line.strip_prefix("answer ") {
                return answer.to_owned();
            }
            assert!(begin.elapsed() < DEADLINE, "{} does not answer", self.0.name());
        }
    }

    fn ask(&mut self, line: &str) -> String {
        self.0.tell(line).unwrap();
        self.answer()
    }

    fn until(&mut self, line: &str, wanted: &str) {
        let begin = Instant::now();
        loop {
            let answer = self.ask(line);
            if answer == wanted {
                return;
            }
            assert!(begin.elapsed() < DEADLINE, "{line:?} is answered with {answer:?}, not {wanted:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn spring_clouds_client_leads_its_whole_life_while_a_registry_is_killed() {
    let ports = [free_port().unwrap(), free_port().unwrap()];
    let peers = format!("eureka.client.service-url.defaultZone={}", urls(&ports));
    let quick = ["eureka.server.eviction-interval-timer-in-ms=500", "eureka.server.enable-self-preservation=false"];
    let mut registries = ports.map(|port| Eureka::start(port, &[&peers, quick[0], quick[1]]).unwrap());
    let (mut orders, mut pay) = thread::scope(|scope| {
        let orders = scope.spawn(|| Instance::start("orders", &ports));
        let pay = scope.spawn(|| Instance::start("pay", &[ports[1], ports[0]]));
        (orders.join().unwrap(), pay.join().unwrap())
    });
    // Each is registered at another server, and finds the other.
    pay.until("see orders", "orders-1");
    orders.until("see pay", "pay-1");
    pay.until("choose orders", "orders-1");

    // The server of `orders` is gone: the other one goes on for both.
    registries[0].process.kill().unwrap();
    let renewals = |registry: &Eureka| -> f64 {
        let page = registry.ask("GET", "/metrics", None).body;
        let line = page.lines().find(|line| line.starts_with("rookeeper_registry_heartbeats_total{from=\"clients\"}"));
        line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let (begin, before) = (Instant::now(), renewals(&registries[1]));
    while renewals(&registries[1]) < before + 10.0 {
        assert!(begin.elapsed() < DEADLINE, "no heartbeats come to the server that is left");
        assert_eq!(pay.ask("choose orders"), "orders-1");
        thread::sleep(Duration::from_millis(50));
    }

    orders.ask("status DOWN");
    pay.until("see orders", "");
    orders.ask("status UP");
    pay.until("see orders", "orders-1");
    orders.ask("stop");
    pay.until("see orders", "");
    assert_eq!(registries[1].shown("ORDERS", "orders-1"), None);
}
