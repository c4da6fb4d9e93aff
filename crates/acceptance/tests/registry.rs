//! The service registry beside clients and servers that others wrote: py-eureka-client, and Spring Cloud's Eureka server as its peer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rookeeper_acceptance::foreign::{Dialogue, eureka_server, output, python_in};
use rookeeper_acceptance::server::rookeeper_binary;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(120);

/// A registry of either kind.
struct Registry {
    process: Dialogue,
    port: u16,
}

impl Registry {
    fn start(port: u16, settings: &[&str]) -> Registry {
        let mut command = Command::new(rookeeper_binary().unwrap());
        command.args(["registry", "--print-address", "--while-stdin"]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.arg("--port");
        let mut process = Dialogue::start("the registry", command, &port.to_string()).unwrap();
        let port = process.answer().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
        Registry { process, port }
    }

    /// The original, which has this port as its only peer.
    fn start_original(port: u16, peer: u16) -> Registry {
        let mut command = eureka_server().unwrap();
        command.args(["--eureka.instance.hostname=original", "--eureka.client.register-with-eureka=false"]);
        command.args(["--eureka.server.use-read-only-response-cache=false", "--eureka.server.registry-sync-retries=5"]);
        command.arg("--eureka.server.registry-sync-retry-wait-ms=500");
        command.arg(format!("--eureka.client.service-url.defaultZone=http://127.0.0.1:{peer}/eureka/"));
        let mut process = Dialogue::start("the original", command, &format!("--server.port={port}")).unwrap();
        loop {
            let line = process.answer().unwrap();
            if let Some((_, rest)) = line.split_once("Tomcat started on port ") {
                let port = rest.split(' ').next().unwrap().parse().unwrap();
                return Registry { process, port };
            }
        }
    }

    /// Status and body of an answer; 0 while nobody answers.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} /eureka/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let exchange = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = exchange().unwrap_or_default();
        let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
    }

    fn register(&self, app: &str, id: &str) {
        let instance = json!({"instance": {
            "instanceId": id, "hostName": id, "app": app, "ipAddr": "127.0.0.1", "status": "UP", "metadata": {"zone": "z1"},
            "dataCenterInfo": {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"},
            "lastDirtyTimestamp": "1700000000000"
        }});
        assert_eq!(self.ask("POST", &format!("apps/{app}"), Some(&instance)).0, 204);
    }

    fn does(&self, method: &str, path: &str) {
        assert_eq!(self.ask(method, path, None).0, 200, "{method} {path}");
    }

    /// The status that is shown of an instance.
    fn shown(&self, app: &str, id: &str) -> Option<String> {
        let (status, body) = self.ask("GET", &format!("apps/{app}/{id}"), None);
        let start = body.find('{').filter(|_| status == 200)?;
        // An answer in chunks is more than its JSON.
        let mut values = serde_json::Deserializer::from_str(&body[start..]).into_iter::<Value>();
        let instance = values.next()?.ok()?;
        instance["instance"]["status"].as_str().map(str::to_owned)
    }

    fn until_shows(&self, app: &str, id: &str, status: Option<&str>) {
        let begin = Instant::now();
        while self.shown(app, id).as_deref() != status {
            assert!(begin.elapsed() < DEADLINE, "{app} {id} is {:?}, not {status:?}", self.shown(app, id));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn py_eureka_client_leads_its_whole_life() {
    let quick = ["eureka.server.eviction-interval-timer-in-ms=500", "eureka.server.enable-self-preservation=false"];
    let registry = Registry::start(0, &quick);
    let mut client = python_in("eureka", "lifecycle.py").unwrap();
    client.arg(format!("127.0.0.1:{}", registry.port));
    let said = output(client, "").unwrap();
    // The client also warns there of a heartbeat that its own cancel overtook.
    let steps: Vec<&str> = said.stdout.lines().filter(|line| line.starts_with("ok: ")).collect();
    let all = ["ok: found by another", "ok: renewed", "ok: out of service", "ok: gone"];
    assert_eq!((said.code, steps.as_slice()), (Some(0), &all[..]), "{}{}", said.stdout, said.stderr);
}

/// What is said to one is seen at the other, in both directions, and each can be replaced while the other goes on.
#[test]
fn a_registry_and_the_original_are_peers() {
    let port = Registry::start(0, &[]).port;
    // A port that was free a moment ago: the two must know of each other before they start.
    let original = Registry::start_original(0, port);
    let peer = format!("eureka.client.service-url.defaultZone=http://127.0.0.1:{}/eureka/", original.port);
    let mut ours = Registry::start(port, &[&peer]);

    ours.register("ONE", "one");
    original.register("TWO", "two");
    original.until_shows("ONE", "one", Some("UP"));
    ours.until_shows("TWO", "two", Some("UP"));
    ours.does("PUT", "apps/ONE/one/status?value=OUT_OF_SERVICE");
    original.does("PUT", "apps/TWO/two/status?value=OUT_OF_SERVICE");
    original.until_shows("ONE", "one", Some("OUT_OF_SERVICE"));
    ours.until_shows("TWO", "two", Some("OUT_OF_SERVICE"));
    ours.does("DELETE", "apps/ONE/one/status?value=UP");
    original.does("DELETE", "apps/TWO/two/status?value=UP");
    original.until_shows("ONE", "one", Some("UP"));
    ours.until_shows("TWO", "two", Some("UP"));

    ours.process.kill().unwrap();
    ours = Registry::start(port, &[&peer]);
    ours.until_shows("ONE", "one", Some("UP"));
    ours.until_shows("TWO", "two", Some("UP"));

    let original_port = original.port;
    drop(original);
    ours.register("THREE", "three");
    let original = Registry::start_original(original_port, port);
    for (app, id) in [("ONE", "one"), ("TWO", "two"), ("THREE", "three")] {
        original.until_shows(app, id, Some("UP"));
    }

    ours.does("DELETE", "apps/ONE/one");
    original.does("DELETE", "apps/TWO/two");
    original.until_shows("ONE", "one", None);
    ours.until_shows("TWO", "two", None);
}
