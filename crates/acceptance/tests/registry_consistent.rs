//! Services of the registry that are kept in the coordination tree, beside clients that others wrote: Eureka's for Python, kazoo, Apache Curator.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use rookeeper_acceptance::client::Client;
use rookeeper_acceptance::ensemble::Plan;
use rookeeper_acceptance::eureka::{Answered, Eureka, ask as at, free_port, instance, urls};
use rookeeper_acceptance::foreign::{Dialogue, curator_program, output, python, python_in};
use rookeeper_acceptance::proxy::Proxy;
use rookeeper_acceptance::server::{Setup, rookeeper_binary};
use rookeeper_acceptance::until;
use serde_json::{Value, json};

fn ask(registry: &Eureka, method: &str, path: &str) -> Answered {
    registry.ask(method, &format!("/eureka/{path}"), None)
}

/// The answer once the tree is in sight.
fn sees(registry: &Eureka, path: &str) -> Answered {
    let mut answer = Answered::default();
    until("the tree is in sight", || {
        answer = ask(registry, "GET", path);
        ![0, 503].contains(&answer.status)
    });
    answer
}

fn post(registry: &Eureka, app: &str, instance: &Value) -> Answered {
    registry.ask("POST", &format!("/eureka/apps/{app}"), Some(instance))
}

/// The ids of the instances that are shown of an application, of an answer that is a list.
fn ids(answer: &Answered) -> Vec<String> {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let instances = body["application"]["instance"].as_array().cloned().unwrap_or_default();
    instances.iter().map(|instance| instance["instanceId"].as_str().unwrap_or_default().to_owned()).collect()
}

fn discover(address: &str, service: &str) -> String {
    let mut command = Command::new(rookeeper_binary().unwrap());
    command.args(["discover", service, "--server", address]);
    output(command, "").unwrap().stdout
}

#[test]
fn what_is_registered_over_eureka_is_found_over_zookeeper_and_the_other_way_round() {
    let server = Setup::new().start().unwrap();
    let address = server.address().to_string();
    let connect = format!("registry.connect={address}");
    let settings = ["registry.consistent=payments", connect.as_str()];
    let (one, other) = (Eureka::start(0, &settings).unwrap(), Eureka::start(0, &settings).unwrap());
    until("both see the tree", || {
        [&one, &other].iter().all(|registry| ask(registry, "GET", "apps/PAYMENTS").status == 404)
    });

    let mut said = instance("PAYMENTS", "host:payments:1", 1_700_000_000_000);
    said["instance"]["port"] = json!({"$": 8080, "@enabled": "true"});
    said["instance"]["vipAddress"] = json!("payments");
    assert_eq!(post(&one, "PAYMENTS", &said).status, 204);
    // Everybody has the same answer from then on.
    for registry in [&one, &other] {
        assert_eq!(ids(&ask(registry, "GET", "apps/payments")), ["host:payments:1"]);
        let shown: Value = serde_json::from_str(&ask(registry, "GET", "apps/PAYMENTS/host:payments:1").body).unwrap();
        assert_eq!(shown["instance"]["metadata"]["zone"], "z1");
        for list in ["apps", "apps/delta", "vips/payments", "instances/host:payments:1"] {
            assert!(ask(registry, "GET", list).body.contains("host:payments:1"), "{list}");
        }
    }
    assert!(discover(&address, "payments").starts_with("127.0.0.1:8080\thost:payments:1\t"));
    let mut client = Client::connect(server.address()).unwrap();
    let stat = client.exists("/services/payments/host:payments:1").unwrap().unwrap();
    assert_ne!(stat.ephemeral_owner, 0);

    // A heartbeat at the other one moves the node there; it is one node all the time.
    let beat = "apps/PAYMENTS/host:payments:1?status=UP&lastDirtyTimestamp=1700000000000";
    assert_eq!(ask(&other, "PUT", beat).status, 200);
    let moved = client.exists("/services/payments/host:payments:1").unwrap().unwrap();
    assert_ne!(moved.ephemeral_owner, stat.ephemeral_owner);

    // Statuses and overrides are kept, wherever they are set and asked for.
    assert_eq!(ask(&one, "PUT", "apps/PAYMENTS/host:payments:1/status?value=OUT_OF_SERVICE").status, 200);
    assert_eq!(ask(&other, "PUT", beat).status, 200);
    assert_eq!(other.shown("PAYMENTS", "host:payments:1").as_deref(), Some("OUT_OF_SERVICE"));
    let (data, _) = client.get_data("/services/payments/host:payments:1").unwrap();
    assert!(data.unwrap().ends_with(b"\"enabled\":false}"));
    assert_eq!(ask(&other, "DELETE", "apps/PAYMENTS/host:payments:1/status?value=UP").status, 200);

    // Curator sees it, and what Curator registers is seen.
    let mut curator = Dialogue::start("Curator", curator_program("Directory.java").unwrap(), &address).unwrap();
    assert_eq!(curator.ask("register payments theirs 81 DYNAMIC").unwrap(), "registered");
    for registry in [&one, &other] {
        assert_eq!(ids(&ask(registry, "GET", "apps/PAYMENTS")), ["host:payments:1", "theirs"]);
    }
    until("Curator sees both", || {
        let seen = curator.ask("discover payments").unwrap();
        seen.contains("host:payments:1|127.0.0.1|8080|") && seen.contains("theirs|10.0.0.1|81|")
    });
    assert_eq!(ask(&one, "DELETE", "apps/PAYMENTS/theirs").status, 409, "whoever registered it takes it away");
    // So does kazoo.
    let mut kazoo = Dialogue::start("kazoo", python("directory.py").unwrap(), &address).unwrap();
    assert!(kazoo.ask("discover payments").unwrap().contains("host:payments:1|127.0.0.1|8080|"));
    assert_eq!(kazoo.ask("register payments snake 82 DYNAMIC").unwrap(), "registered");
    assert_eq!(ids(&ask(&one, "GET", "apps/PAYMENTS")), ["host:payments:1", "snake", "theirs"]);
    assert_eq!(kazoo.ask("unregister payments snake").unwrap(), "unregistered");

    assert_eq!(ask(&one, "DELETE", "apps/PAYMENTS/host:payments:1").status, 200);
    assert_eq!(ids(&ask(&other, "GET", "apps/PAYMENTS")), ["theirs"]);

    // An instance may ask for it by itself.
    let mut asks = instance("UPLOADS", "u1", 1);
    asks["instance"]["metadata"] = json!({"rookeeper.consistency": "cp"});
    assert_eq!(post(&one, "UPLOADS", &asks).status, 204);
    assert_eq!(ids(&ask(&other, "GET", "apps/UPLOADS")), ["u1"]);
    assert!(client.exists("/services/uploads/u1").unwrap().is_some());
}

#[test]
fn a_lease_ends_without_heartbeats() {
    let server = Setup::new().start().unwrap();
    let connect = format!("registry.connect={}", server.address());
    let registry = Eureka::start(0, &["registry.consistent=payments", &connect]).unwrap();
    let mut said = instance("PAYMENTS", "quick", 1);
    said["instance"]["leaseInfo"] = json!({"renewalIntervalInSecs": 1, "durationInSecs": 2});
    until("it is taken", || post(&registry, "PAYMENTS", &said).status == 204);
    until("it is gone", || ids(&ask(&registry, "GET", "apps/PAYMENTS")).is_empty());
    assert_eq!(ask(&registry, "PUT", "apps/PAYMENTS/quick?status=UP").status, 404);
}

#[test]
fn py_eureka_client_leads_its_life_in_the_tree() {
    let server = Setup::new().start().unwrap();
    let connect = format!("registry.connect={}", server.address());
    let registry = Eureka::start(0, &["registry.consistent=orders,py-orders,python", &connect]).unwrap();
    until("the tree is seen", || ask(&registry, "GET", "apps/ORDERS").status == 404);
    let mut client = python_in("eureka", "lifecycle.py").unwrap();
    // In the tree a lease ends after one duration, and a busy machine is late with heartbeats.
    client.arg(format!("127.0.0.1:{}", registry.port)).arg("60");
    let said = output(client, "").unwrap();
    // The client also warns there of a heartbeat that its own cancel overtook.
    let steps: Vec<&str> = said.stdout.lines().filter(|line| line.starts_with("ok: ")).collect();
    let all = ["ok: found by another", "ok: renewed", "ok: out of service", "ok: gone"];
    assert_eq!((said.code, steps.as_slice()), (Some(0), &all[..]), "{}{}", said.stdout, said.stderr);
}

#[test]
fn without_a_quorum_consistent_services_are_refused_and_all_others_go_on() {
    let mut ensemble = Plan::under_test(3).start().unwrap();
    let addresses: Vec<String> = ensemble.addresses().iter().map(ToString::to_string).collect();
    let connect = format!("registry.connect={}", addresses.join(","));
    let settings = ["registry.consistent=payments", connect.as_str()];
    let registries = [Eureka::start(0, &settings).unwrap(), Eureka::start(0, &settings).unwrap()];
    let [one, other] = &registries;
    until("it is taken", || post(one, "PAYMENTS", &instance("PAYMENTS", "p1", 1)).status == 204);
    assert_eq!(post(one, "SEARCH", &instance("SEARCH", "s1", 1)).status, 204);
    until("the other one sees it", || ids(&ask(other, "GET", "apps/PAYMENTS")) == ["p1"]);

    ensemble.kill(2).unwrap();
    ensemble.kill(3).unwrap();
    for registry in &registries {
        until("look-ups are refused", || ask(registry, "GET", "apps/PAYMENTS").status == 503);
        let refused = post(registry, "PAYMENTS", &instance("PAYMENTS", "p2", 1));
        assert_eq!(refused.status, 503);
        assert!(refused.body.contains("out of sight") && refused.body.contains("quorum"), "{}", refused.body);
        for (method, path) in [
            ("PUT", "apps/PAYMENTS/p1?status=UP&lastDirtyTimestamp=1"),
            ("PUT", "apps/PAYMENTS/p1/status?value=OUT_OF_SERVICE"),
            ("DELETE", "apps/PAYMENTS/p1"),
            ("GET", "apps/PAYMENTS/p1"),
            ("GET", "instances/p1"),
            ("GET", "vips/payments"),
        ] {
            assert_eq!(ask(registry, method, path).status, 503, "{method} {path}");
        }
        assert!(!ask(registry, "GET", "apps").body.contains("p1"), "lists go without");
    }
    assert!(one.ask("GET", "/", None).body.contains("out of sight"), "the page says why");
    // Everything else is as ever.
    assert_eq!(ask(one, "PUT", "apps/SEARCH/s1?status=UP&lastDirtyTimestamp=1").status, 200);
    assert_eq!(post(other, "SEARCH", &instance("SEARCH", "s2", 1)).status, 204);
    assert_eq!(ids(&ask(other, "GET", "apps/SEARCH")), ["s2"]);
    assert!(ask(one, "GET", "apps").body.contains("s1"));

    ensemble.start(2).unwrap();
    ensemble.start(3).unwrap();
    ensemble.wait_formed().unwrap();
    for registry in &registries {
        until("all is as before", || ids(&ask(registry, "GET", "apps/PAYMENTS")) == ["p1"]);
        assert!(ask(registry, "GET", "apps").body.contains("p1"));
    }
    assert_eq!(ask(one, "PUT", "apps/PAYMENTS/p1?status=UP&lastDirtyTimestamp=1").status, 200);
    assert_eq!(ask(other, "DELETE", "apps/PAYMENTS/p1").status, 200);
    assert_eq!(ids(&ask(one, "GET", "apps/PAYMENTS")), [""; 0]);
}

/// The example of docs/guide/consistency.md, in the process of a server.
#[test]
fn the_guides_example() {
    let page = include_str!("../../../docs/guide/consistency.md");
    let blocks = |kind: &str| -> Vec<&str> {
        let begin = format!("```{kind}\n");
        let parts = page.split(begin.as_str()).skip(1);
        parts.map(|part| part.split("```").next().unwrap()).collect()
    };
    let [properties] = blocks("properties")[..] else { panic!("one configuration") };
    let mut setup = Setup::new().config("registry.server.address", "127.0.0.1");
    for line in properties.lines() {
        let (key, value) = line.split_once('=').unwrap();
        setup = setup.config(key, if key == "registry.port" { "0" } else { value });
    }
    let server = setup.start().unwrap();
    let log = server.wait_log("this server is a service registry as well").unwrap();
    let port: u16 = log.rsplit_once("://127.0.0.1:").unwrap().1.split('/').next().unwrap().parse().unwrap();
    let [search, uploads] = blocks("json")[..] else { panic!("two registrations") };
    for (app, text) in [("SEARCH", search), ("UPLOADS", uploads)] {
        let instance: Value = serde_json::from_str(text).unwrap();
        until("it is taken", || {
            at(port, "POST", &format!("/eureka/apps/{app}"), Some(&instance)).unwrap().status == 204
        });
    }
    let mut client = Client::connect(server.address()).unwrap();
    assert_eq!(client.children("/services").unwrap(), ["uploads"]);
    assert!(discover(&server.address().to_string(), "uploads").starts_with("10.0.0.8:8081\tuploads-1\t"));
    for (app, id) in [("SEARCH", "search-1"), ("UPLOADS", "uploads-1")] {
        assert_eq!(ids(&at(port, "GET", &format!("/eureka/apps/{app}"), None).unwrap()), [id]);
    }
}

/// Whether no thread of a process runs any more.
fn threads_stopped(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}

/// Nobody closes a connection, and nothing is answered.
#[test]
fn an_ensemble_that_stands_still_is_out_of_sight() {
    let mut ensemble = Plan::under_test(3).start().unwrap();
    let addresses: Vec<String> = ensemble.addresses().iter().map(ToString::to_string).collect();
    let connect = format!("registry.connect={}", addresses.join(","));
    let registry = Eureka::start(0, &["registry.consistent=payments", &connect]).unwrap();
    until("it is taken", || post(&registry, "PAYMENTS", &instance("PAYMENTS", "p1", 1)).status == 204);
    assert_eq!(post(&registry, "SEARCH", &instance("SEARCH", "s1", 1)).status, 204);
    for id in 1..=3 {
        ensemble.freeze(id).unwrap();
    }
    // On a busy machine threads run on for a moment after the signal.
    for id in 1..=3 {
        let process = ensemble.process_id(id).unwrap();
        until("it stands still", || threads_stopped(process));
    }
    // From now on no look-up is answered with an instance: nobody could know whether it is still there.
    let looked = ask(&registry, "GET", "apps/PAYMENTS");
    assert_eq!(looked.status, 503, "{}", looked.body);
    assert_eq!(ask(&registry, "PUT", "apps/PAYMENTS/p1?status=UP&lastDirtyTimestamp=1").status, 503);
    let list = ask(&registry, "GET", "apps").body;
    assert!(list.contains("s1") && !list.contains("p1"), "{list}");
    for id in 1..=3 {
        ensemble.thaw(id).unwrap();
    }
    until("all is as before", || ids(&ask(&registry, "GET", "apps/PAYMENTS")) == ["p1"]);
}

/// Two registries, of which one loses the network to the ensemble: packets get lost, nobody is told, and what was held back comes later after all.
#[test]
fn a_registry_that_is_cut_off_from_the_ensemble_answers_nothing_that_is_over() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let ensemble = Plan::under_test(3).start().unwrap();
    let proxies: Vec<Proxy> =
        ensemble.addresses().into_iter().map(|address| runtime.block_on(Proxy::to(address, 1)).unwrap()).collect();
    let connect = |addresses: Vec<String>| format!("registry.connect={}", addresses.join(","));
    let direct = connect(ensemble.addresses().iter().map(ToString::to_string).collect());
    let through = connect(proxies.iter().map(|proxy| proxy.address().to_string()).collect());
    let near = Eureka::start(0, &["registry.consistent=payments", &direct]).unwrap();
    let far = Eureka::start(0, &["registry.consistent=payments", &through]).unwrap();
    let shown = |registry: &Eureka| ids(&sees(registry, "apps/PAYMENTS"));
    let register = |registry: &Eureka, id: &str, dirty_ms: i64| {
        until("it is taken", || post(registry, "PAYMENTS", &instance("PAYMENTS", id, dirty_ms)).status == 204);
    };
    register(&far, "first", 1);
    assert_eq!(post(&far, "SEARCH", &instance("SEARCH", "s1", 1)).status, 204);
    until("the other one sees it", || shown(&near) == ["first"]);

    for round in 0..2 {
        proxies.iter().for_each(Proxy::silence);
        // In one round this one's transaction is on its way, and arrives when nobody waits for it any more. In the other one nothing has told the registry
        // that it is cut off when it is asked for what has changed elsewhere.
        let late = instance("PAYMENTS", &format!("late-{round}"), 1);
        if round == 0 {
            assert_eq!(post(&far, "PAYMENTS", &late).status, 503);
        }
        // The instances turn to the other registry, and what changes there counts.
        let beat = "apps/PAYMENTS/first?status=UP&lastDirtyTimestamp=1";
        until("the heartbeat is taken elsewhere", || ask(&near, "PUT", beat).status == 200);
        let second = format!("second-{round}");
        register(&near, &second, 1);
        until("it is gone", || [200, 404].contains(&ask(&near, "DELETE", "apps/PAYMENTS/first").status));
        for path in ["apps/PAYMENTS", "apps/PAYMENTS/first", "instances/first"] {
            assert_eq!(ask(&far, "GET", path).status, 503, "{path}");
        }
        let list = ask(&far, "GET", "apps").body;
        assert!(list.contains("s1") && !list.contains("first"), "{list}");
        assert_eq!(ask(&far, "PUT", "apps/SEARCH/s1?status=UP&lastDirtyTimestamp=1").status, 200);

        if round == 1 {
            proxies.iter().for_each(Proxy::break_connections);
        }
        proxies.iter().for_each(Proxy::resume);
        // Whatever it answers from now on, it is what the other one says.
        until("the tree is in sight again", || {
            let answer = ask(&far, "GET", "apps/PAYMENTS");
            let known = ids(&answer);
            assert!(
                answer.status == 503 || (known.contains(&second) && !known.iter().any(|id| id == "first")),
                "{known:?}"
            );
            answer.status == 200
        });
        until("both say the same", || shown(&near) == shown(&far));
        // Whether the late transaction was carried out or not: each instance is there once.
        register(&far, &format!("late-{round}"), 1);
        register(&far, "first", 2);
        let expected: Vec<String> = ["first".to_owned()]
            .into_iter()
            .chain((0..=round).map(|round| format!("late-{round}")))
            .chain((0..=round).map(|round| format!("second-{round}")))
            .collect();
        assert_eq!((shown(&near), shown(&far)), (expected.clone(), expected));
    }
}

/// A Java server beside a registry with consistent services neither hears of them nor says anything of them that counts.
#[test]
fn a_java_peer_hears_nothing_of_consistent_services_and_what_it_says_of_them_has_no_effect() {
    let server = Setup::new().start().unwrap();
    let connect = format!("registry.connect={}", server.address());
    let (port, java_port) = (free_port().unwrap(), free_port().unwrap());
    let peer = format!("eureka.client.service-url.defaultZone={}", urls(&[java_port]));
    let start = || Eureka::start(port, &["registry.consistent=payments", &connect, &peer]).unwrap();
    let quick = ["eureka.server.registry-sync-retries=5", "eureka.server.registry-sync-retry-wait-ms=500"];
    let quick = quick.map(|option| format!("--{option}"));
    let java = Eureka::start_original(java_port, &[port], &quick.each_ref().map(String::as_str)).unwrap();
    let ours = start();
    until("the tree is seen", || ask(&ours, "GET", "apps/PAYMENTS").status == 404);

    // Batches keep their order: once something later is there, nothing earlier is still to come.
    assert_eq!(post(&ours, "PAYMENTS", &instance("PAYMENTS", "ours", 1)).status, 204);
    let mut asks = instance("UPLOADS", "asks", 1);
    asks["instance"]["metadata"] = json!({"rookeeper.consistency": "cp"});
    assert_eq!(post(&ours, "UPLOADS", &asks).status, 204);
    assert_eq!(ask(&ours, "PUT", "apps/PAYMENTS/ours?status=UP&lastDirtyTimestamp=1").status, 200);
    assert_eq!(ask(&ours, "PUT", "apps/PAYMENTS/ours/status?value=OUT_OF_SERVICE").status, 200);
    ours.register("SEARCH", "s1").unwrap();
    java.until_shows("SEARCH", "s1", Some("UP")).unwrap();
    for app in ["PAYMENTS", "UPLOADS"] {
        assert_eq!(ask(&java, "GET", &format!("apps/{app}")).status, 404, "{app}");
    }

    // A client that is set up wrong registers at the Java server, under the id of one that is in the tree and under another one.
    for id in ["ours", "theirs"] {
        java.register("PAYMENTS", id).unwrap();
        assert_eq!(ask(&java, "PUT", &format!("apps/PAYMENTS/{id}?status=UP")).status, 200);
    }
    let mut asks = instance("DOWNLOADS", "wants", 1);
    asks["instance"]["metadata"] = json!({"rookeeper.consistency": "cp"});
    assert_eq!(post(&java, "DOWNLOADS", &asks).status, 204);
    assert_eq!(ask(&java, "DELETE", "apps/PAYMENTS/ours").status, 200);
    java.register("SEARCH", "s2").unwrap();
    ours.until_shows("SEARCH", "s2", Some("UP")).unwrap();
    let nothing_came = |registry: &Eureka| {
        assert_eq!(ids(&sees(registry, "apps/PAYMENTS")), ["ours"]);
        assert!(sees(registry, "apps/PAYMENTS/ours").body.contains("\"status\":\"OUT_OF_SERVICE\""));
        assert_eq!(ask(registry, "GET", "apps/DOWNLOADS").status, 404);
    };
    nothing_came(&ours);

    // Nor does anything come with the list at a start, where it is not counted among those who will send heartbeats either.
    drop(ours);
    let ours = start();
    until("the tree is seen", || ask(&ours, "GET", "apps/PAYMENTS").status == 200);
    ours.until_shows("SEARCH", "s1", Some("UP")).unwrap();
    nothing_came(&ours);
    let metrics = ours.ask("GET", "/metrics", None).body;
    assert!(metrics.contains("\nrookeeper_registry_expected_clients 2\n"), "{metrics}");
}
