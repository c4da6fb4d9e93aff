//! Service registries that run: ours, and Spring Cloud's Eureka server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::foreign::{Dialogue, eureka_server};
use crate::server::rookeeper_binary;

const DEADLINE: Duration = Duration::from_secs(120);

/// A registry of either kind.
#[derive(Debug)]
pub struct Eureka {
    pub process: Dialogue,
    pub port: u16,
}

/// An answer over HTTP.
#[derive(Debug, Clone, Default)]
pub struct Answered {
    /// 0 where nobody answers.
    pub status: u16,
    /// In small letters, one a line.
    pub head: String,
    pub body: String,
}

impl Answered {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = |line| str::strip_prefix(line, name)?.strip_prefix(':');
        self.head.lines().find_map(value).map(str::trim)
    }
}

impl Eureka {
    /// Ours, with settings of Spring's. Port 0 is any free one.
    pub fn start(port: u16, settings: &[&str]) -> Result<Eureka> {
        let mut command = Command::new(rookeeper_binary()?);
        command.args(["registry", "--print-address", "--while-stdin"]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.arg("--port");
        let mut process = Dialogue::start("the registry", command, &port.to_string())?;
        let line = process.answer()?;
        let port = line.rsplit_once(':').context("no address")?.1.parse()?;
        Ok(Eureka { process, port })
    }

    /// Spring Cloud's, with such options; it knows others by this list of their ports.
    pub fn start_original(port: u16, peers: &[u16], options: &[&str]) -> Result<Eureka> {
        Eureka::start_original_with(eureka_server()?, port, &urls(peers), options)
    }

    /// The same as this command, with addresses of others.
    pub fn start_original_with(mut command: Command, port: u16, peers: &str, options: &[&str]) -> Result<Eureka> {
        command.args(["--eureka.instance.hostname=original", "--eureka.client.register-with-eureka=false"]);
        command.args(["--eureka.server.use-read-only-response-cache=false"]);
        command.args(options);
        command.arg(format!("--eureka.client.service-url.defaultZone={peers}"));
        let mut process = Dialogue::start("the original", command, &format!("--server.port={port}"))?;
        loop {
            let line = process.answer()?;
            if let Some((_, rest)) = line.split_once("Tomcat started on port ") {
                let port = rest.split(' ').next().context("no port")?.parse()?;
                return Ok(Eureka { process, port });
            }
        }
    }

    /// Asks for JSON.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answered {
        ask(self.port, method, path, body).unwrap_or_default()
    }

    /// An ordinary registration; it must be taken.
    pub fn register(&self, app: &str, id: &str) -> Result<()> {
        let status =
            self.ask("POST", &format!("/eureka/apps/{app}"), Some(&instance(app, id, 1_700_000_000_000))).status;
        ensure!(status == 204, "the registration of {id} was answered {status}");
        Ok(())
    }

    /// The status that is shown of an instance.
    pub fn shown(&self, app: &str, id: &str) -> Option<String> {
        let answer = self.ask("GET", &format!("/eureka/apps/{app}/{id}"), None);
        let instance: Value = serde_json::from_str(&answer.body).ok().filter(|_| answer.status == 200)?;
        instance["instance"]["status"].as_str().map(str::to_owned)
    }

    /// Waits until an instance is shown with this status, or is not there.
    pub fn until_shows(&self, app: &str, id: &str, status: Option<&str>) -> Result<()> {
        let begin = Instant::now();
        while self.shown(app, id).as_deref() != status {
            if begin.elapsed() > DEADLINE {
                bail!("{app} {id} is {:?}, not {status:?}", self.shown(app, id));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// An instance, as a client registers it.
pub fn instance(app: &str, id: &str, dirty_ms: i64) -> Value {
    json!({"instance": {
        "instanceId": id, "hostName": id, "app": app, "ipAddr": "127.0.0.1", "status": "UP", "metadata": {"zone": "z1"},
        "dataCenterInfo": {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"},
        "lastDirtyTimestamp": dirty_ms.to_string()
    }})
}

/// The addresses of registries on this machine.
pub fn urls(ports: &[u16]) -> String {
    let urls: Vec<String> = ports.iter().map(|port| format!("http://127.0.0.1:{port}/eureka/")).collect();
    urls.join(",")
}

/// A port that was free a moment ago, for servers that must know of each other before they start.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// One request over a connection of its own.
pub fn ask(port: u16, method: &str, path: &str, body: Option<&Value>) -> Result<Answered> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    let head = head.to_lowercase();
    let body =
        if head.contains("transfer-encoding: chunked") { joined(body).context("bad chunks")? } else { body.to_owned() };
    Ok(Answered { status, head, body })
}

/// A body that came in chunks. Lengths count bytes, and each chunk ends with a line's end.
fn joined(body: &str) -> Option<String> {
    let (mut rest, mut joined) = (body.as_bytes(), Vec::new());
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        if length == 0 {
            return String::from_utf8(joined).ok();
        }
        joined.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}
