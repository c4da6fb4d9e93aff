//! The exchanges that were recorded on the original's server, asked again in virtual time: each answer is the same, volatile values apart.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use rookeeper_registry::rest::{self, Answer, Parts};
use rookeeper_registry::{Now, Registry, Settings};
use serde_json::{Value, json};

/// A moment at which the wall clock shows a multiple of a minute.
const START: Now = Now { wall_ms: 1_795_737_600_000, steady_ms: 1_000_000 };

/// What a server may choose freely.
const VOLATILE: [&str; 8] = [
    "lastUpdatedTimestamp",
    "registrationTimestamp",
    "lastRenewalTimestamp",
    "evictionTimestamp",
    "serviceUpTimestamp",
    "versions__delta",
    "timestamp",
    "currentTime",
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/eureka")
}

/// How the recorded server was set up.
fn settings(profile: &str) -> Settings {
    let fresh = Settings { self_preservation: false, eviction_interval_ms: 1000, ..Settings::default() };
    match profile {
        "fresh" => fresh,
        "retention" => Settings { delta_retention_ms: 4000, ..fresh },
        "preserving" => Settings { self_preservation: true, ..fresh },
        "closed" => Settings { clients_when_empty: 0, wait_when_empty_ms: 15_000, ..fresh },
        "nodelta" => Settings { deltas: false, ..fresh },
        _ => panic!("no settings are known for {profile}"),
    }
}

struct Server {
    registry: Registry,
    now: Now,
}

impl Server {
    fn start(settings: Settings) -> Server {
        let mut registry = Registry::new(settings, START);
        registry.open(0, START);
        Server { registry, now: START }
    }

    fn pass(&mut self, mut ms: u64) {
        while let Some(due_ms) = self.registry.next_eviction_ms()
            && due_ms <= self.now.steady_ms + ms
        {
            ms -= self.step(due_ms - self.now.steady_ms);
            self.registry.advance(self.now);
        }
        self.step(ms);
    }

    fn step(&mut self, ms: u64) -> u64 {
        self.now.steady_ms += ms;
        self.now.wall_ms += ms as i64;
        ms
    }

    fn ask(&mut self, exchange: &Value) -> Answer {
        let text = |name: &str| exchange[name].as_str().unwrap_or_default();
        let header = |name: &str| exchange["headers"][name].as_str();
        let (path, query) = text("path").split_once('?').unwrap_or((text("path"), ""));
        let parts = Parts {
            method: text("method"),
            path,
            query,
            accept: header("Accept"),
            accept_encoding: header("Accept-Encoding"),
            content_type: header("Content-Type"),
            eureka_accept: header("X-Eureka-Accept"),
            replication: header("x-netflix-discovery-replication"),
            wall_ms: self.now.wall_ms,
        };
        match rest::read(&parts) {
            Ok(request) => {
                request.with_body(text("body").as_bytes(), self.now).ask(&mut self.registry, self.now).answer()
            }
            Err(answer) => answer,
        }
    }
}

/// Everything that differs, one line each.
fn differences(profile: &str, file: &Path) -> Vec<String> {
    let mut server = Server::start(settings(profile));
    let mut differences = Vec::new();
    for (number, line) in fs::read_to_string(file).unwrap().lines().enumerate() {
        let exchange: Value = serde_json::from_str(line).unwrap();
        server.pass(exchange["pause_ms"].as_u64().unwrap() + 1);
        let answer = server.ask(&exchange);
        let got = Seen::of_answer(&answer);
        let want = Seen::of_recording(&exchange);
        if let Some(difference) = want.difference(&got, &exchange) {
            let name = file.file_name().unwrap().to_string_lossy();
            let asked = format!("{} {}", exchange["method"], exchange["path"]);
            differences.push(format!("{name}:{}: {asked}: {difference}", number + 1));
        }
    }
    differences
}

#[derive(Debug)]
struct Seen {
    status: u64,
    content_type: String,
    gzip: bool,
    body: String,
}

impl Seen {
    fn of_answer(answer: &Answer) -> Seen {
        let mut bytes: Vec<u8> = answer.body.pieces.concat();
        assert_eq!(bytes.len(), answer.body.length);
        if answer.gzip {
            let packed = std::mem::take(&mut bytes);
            MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
        }
        Seen {
            status: u64::from(answer.status),
            content_type: answer.content_type.unwrap_or_default().to_owned(),
            gzip: answer.gzip,
            body: String::from_utf8(bytes).unwrap(),
        }
    }

    fn of_recording(exchange: &Value) -> Seen {
        let header = |name: &str| exchange["answer_headers"][name].as_str().unwrap_or_default();
        Seen {
            status: exchange["status"].as_u64().unwrap(),
            content_type: header("content-type").split(';').next().unwrap_or_default().to_owned(),
            gzip: header("content-encoding") == "gzip",
            body: exchange["answer"].as_str().unwrap_or_default().to_owned(),
        }
    }

    fn difference(&self, got: &Seen, exchange: &Value) -> Option<String> {
        let how = exchange["compare"].as_str();
        // An error page in anything but JSON is the web server's own: its status counts.
        let foreign_page = self.status >= 400
            && (self.content_type.is_empty()
                || self.content_type.contains("html")
                || self.content_type.starts_with("application/vnd")
                || self.body.contains("<Map><timestamp>"));
        let headless = exchange["method"] == "HEAD" || exchange["method"] == "OPTIONS";
        let same = self.status == got.status
            && (how == Some("status")
                || foreign_page
                || headless
                || (self.content_type == got.content_type
                    && self.comparable() == got.comparable()
                    && (how == Some("decoded") || self.gzip == got.gzip)));
        (!same).then(|| format!("want {self:?}\n     got {got:?}"))
    }

    fn comparable(&self) -> Value {
        if self.content_type.contains("json")
            && let Ok(value) = serde_json::from_str(&self.body)
        {
            masked(value)
        } else if self.content_type.contains("xml")
            && let Some(tree) = tree(&self.body)
        {
            tree
        } else {
            json!(self.body)
        }
    }
}

fn masked(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mask = |(name, value): (String, Value)| {
                let value = if VOLATILE.contains(&name.as_str()) { json!("*") } else { masked(value) };
                (name, value)
            };
            Value::Object(fields.into_iter().map(mask).collect())
        }
        Value::Array(values) => {
            let mut values: Vec<Value> = values.into_iter().map(masked).collect();
            values.sort_by_key(Value::to_string);
            Value::Array(values)
        }
        value => value,
    }
}

/// A document as name, attributes, text and children. The order of applications, instances and metadata is free.
fn tree(text: &str) -> Option<Value> {
    struct Open {
        name: String,
        attributes: BTreeMap<String, String>,
        text: String,
        children: Vec<Value>,
    }
    fn open(start: &BytesStart<'_>) -> Open {
        let attributes = start.attributes().map(|pair| {
            let pair = pair.unwrap();
            (pair.key.into_inner().to_owned(), pair.value.into_owned())
        });
        let name = start.name().into_inner().to_owned();
        Open { name, attributes: attributes.collect(), text: String::new(), children: Vec::new() }
    }
    fn close(mut closed: Open) -> Value {
        if VOLATILE.contains(&closed.name.as_str()) {
            return json!([closed.name, "*"]);
        }
        if ["applications", "application", "metadata"].contains(&closed.name.as_str()) {
            closed.children.sort_by_key(Value::to_string);
        }
        json!([closed.name, closed.attributes, closed.text.trim(), closed.children])
    }
    let mut reader = Reader::from_str(text);
    let mut stack: Vec<Open> = Vec::new();
    loop {
        let closed = match reader.read_event().ok()? {
            Event::Start(start) => {
                stack.push(open(&start));
                continue;
            }
            Event::Empty(start) => close(open(&start)),
            Event::End(_) => close(stack.pop()?),
            Event::Text(text) => {
                if let Some(open) = stack.last_mut() {
                    open.text.push_str(&text);
                }
                continue;
            }
            Event::GeneralRef(name) => {
                stack.last_mut()?.text.push_str(&format!("&{};", &*name));
                continue;
            }
            Event::Eof => return None,
            _ => continue,
        };
        match stack.last_mut() {
            Some(parent) => parent.children.push(closed),
            None => return Some(closed),
        }
    }
}

#[test]
fn every_recorded_exchange_is_answered_alike() {
    let mut differ = Vec::new();
    let mut asked = 0;
    for profile in ["fresh", "retention", "preserving", "closed", "nodelta"] {
        let folder = if profile == "fresh" { fixtures() } else { fixtures().join(profile) };
        let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
        files.sort();
        for file in files {
            differ.extend(differences(profile, &file));
            asked += fs::read_to_string(&file).unwrap().lines().count();
        }
    }
    assert!(asked > 2000, "only {asked} exchanges were found");
    assert!(differ.is_empty(), "{} of {asked} differ:\n{}", differ.len(), differ.join("\n"));
}
