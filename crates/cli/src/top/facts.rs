//! What a member says of itself, read from its answers: `srvr`, and where it may be asked for them `mntr` and `cons`, and the admin commands
//! `top` and `slow_operations` of Rookeeper.
//!
//! What always holds here: an answer that is missing, cut off or of another product leaves its facts out and never fails.

use std::collections::BTreeMap;

use serde_json::Value;

/// The answers of one member, as they came. None where it may not be asked, or does not know the question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    pub srvr: Option<String>,
    pub mntr: Option<String>,
    pub cons: Option<String>,
    /// JSON.
    pub top: Option<String>,
    pub slow_operations: Option<String>,
    /// Why there is no answer at all.
    pub failure: Option<String>,
}

/// One member at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Member {
    /// None while it does not serve, or does not answer.
    pub mode: Option<String>,
    pub version: String,
    /// As it is printed: hexadecimal.
    pub zxid: String,
    pub connections: Option<u64>,
    pub outstanding: Option<u64>,
    pub received: Option<u64>,
    pub nodes: Option<u64>,
    /// Milliseconds: mean and largest.
    pub latency_ms: Option<(f64, f64)>,
    /// By the names of `mntr` without `zk_`.
    pub metrics: BTreeMap<String, String>,
    pub clients: Vec<Client>,
    pub top: Vec<Names>,
    pub slow: Vec<Slow>,
    /// Why it does not serve, in its own words or in those of the system.
    pub trouble: Option<String>,
}

/// A connection of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    pub address: String,
    pub session: String,
    pub queued: u64,
    pub received: u64,
    pub sent: u64,
    pub mean_latency_ms: u64,
    pub max_latency_ms: u64,
}

/// Who asks for the most of one thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Names {
    /// `paths`, `prefixes`, `clients`, `identities`.
    pub about: String,
    /// `requests`, `bytes`, `watches`, `time_us`.
    pub measure: String,
    /// Each with its count, the largest first.
    pub largest: Vec<(String, u64)>,
}

/// An operation that took long.
#[derive(Debug, Clone, PartialEq)]
pub struct Slow {
    pub time: String,
    pub operation: String,
    pub path: String,
    pub client: String,
    pub total_ms: f64,
    /// Each stage by its name, in milliseconds.
    pub stages: Vec<(String, f64)>,
}

impl Member {
    /// Reads all answers of one member.
    pub fn read(answers: &Answers) -> Member {
        let mut member = Member { trouble: answers.failure.clone(), ..Member::default() };
        answers.srvr.iter().for_each(|text| member.read_srvr(text));
        if let Some(text) = &answers.mntr {
            member.metrics = text
                .lines()
                .filter_map(|line| {
                    let (name, value) = line.split_once('\t')?;
                    Some((name.strip_prefix("zk_")?.to_owned(), value.to_owned()))
                })
                .collect();
        }
        if let Some(text) = &answers.cons {
            member.clients = text.lines().filter_map(Client::read).collect();
        }
        member.top = answers.top.as_deref().map_or_else(Vec::new, read_top);
        member.slow = answers.slow_operations.as_deref().map_or_else(Vec::new, read_slow);
        member
    }

    fn read_srvr(&mut self, text: &str) {
        for line in text.lines() {
            let Some((key, value)) = line.split_once(": ") else { continue };
            let number = || value.trim().parse().ok();
            match key {
                "Zookeeper version" => {
                    let version = value.split(", built on").next().unwrap_or(value);
                    self.version = version.split('-').next().unwrap_or(version).to_owned();
                }
                "Latency min/avg/max" => {
                    let parts: Vec<f64> = value.split('/').filter_map(|part| part.trim().parse().ok()).collect();
                    self.latency_ms = (parts.len() == 3).then(|| (parts[1], parts[2]));
                }
                "Received" => self.received = number(),
                "Connections" => self.connections = number(),
                "Outstanding" => self.outstanding = number(),
                "Zxid" => self.zxid = value.trim().to_owned(),
                "Mode" => self.mode = Some(value.trim().to_owned()),
                "Node count" => self.nodes = number(),
                _ => {}
            }
        }
        if self.mode.is_none() {
            self.trouble = text.lines().next().map(str::to_owned);
        }
    }

    /// A metric that is a number.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.get(name)?.parse().ok()
    }
}

impl Client {
    /// ` /127.0.0.1:58056[1](queued=0,recved=163,...)`.
    fn read(line: &str) -> Option<Client> {
        let (address, rest) = line.trim().strip_prefix('/')?.split_once('[')?;
        let (_, rest) = rest.split_once('(')?;
        let fields: BTreeMap<&str, &str> =
            rest.trim_end_matches(')').split(',').filter_map(|field| field.split_once('=')).collect();
        let number = |name: &str| fields.get(name).and_then(|value| value.parse().ok()).unwrap_or(0);
        Some(Client {
            address: address.to_owned(),
            session: fields.get("sid").copied().unwrap_or_default().to_owned(),
            queued: number("queued"),
            received: number("recved"),
            sent: number("sent"),
            mean_latency_ms: number("avglat"),
            max_latency_ms: number("maxlat"),
        })
    }
}

fn read_top(text: &str) -> Vec<Names> {
    let Ok(Value::Object(answer)) = serde_json::from_str(text) else { return Vec::new() };
    let tables = answer.iter().filter_map(|(about, tables)| Some((about, tables.as_object()?)));
    let named = |entry: &Value| Some((entry.get("name")?.as_str()?.to_owned(), entry.get("count")?.as_u64()?));
    tables
        .flat_map(|(about, tables)| {
            tables.iter().filter_map(move |(measure, entries)| {
                let largest = entries.as_array()?.iter().filter_map(named).collect();
                Some(Names { about: about.clone(), measure: measure.clone(), largest })
            })
        })
        .collect()
}

fn read_slow(text: &str) -> Vec<Slow> {
    let Ok(answer) = serde_json::from_str::<Value>(text) else { return Vec::new() };
    let operations = answer.get("slow_operations").and_then(Value::as_array);
    let read = |operation: &Value| {
        let text = |name: &str| operation.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let stages = operation.get("stages_us").and_then(Value::as_object);
        let stages = stages.into_iter().flatten();
        Some(Slow {
            time: text("time"),
            operation: text("operation"),
            path: text("path"),
            client: text("client"),
            total_ms: operation.get("total_us")?.as_f64()? / 1000.0,
            stages: stages.filter_map(|(stage, us)| Some((stage.clone(), us.as_f64()? / 1000.0))).collect(),
        })
    };
    operations.map_or_else(Vec::new, |operations| operations.iter().filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(role: &str, name: &str) -> String {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/operations");
        std::fs::read_to_string(format!("{path}/{role}/4lw-{name}.txt")).expect("it was recorded")
    }

    #[test]
    fn the_recorded_answers_of_apache_are_read() {
        let answers = Answers {
            srvr: Some(recorded("leader", "srvr")),
            mntr: Some(recorded("leader", "mntr")),
            cons: Some(recorded("leader", "cons")),
            ..Answers::default()
        };
        let member = Member::read(&answers);
        assert_eq!((member.mode.as_deref(), member.version.as_str()), (Some("leader"), "3.9.3"));
        assert_eq!((member.zxid.as_str(), member.received, member.nodes), ("0x1000000a6", Some(171), Some(14)));
        assert_eq!((member.connections, member.outstanding), (Some(2), Some(0)));
        assert_eq!(member.latency_ms, Some((1.9693, 11.0)));
        assert_eq!(member.metric("synced_followers"), Some(2.0));
        let client = &member.clients[0];
        assert_eq!((client.address.as_str(), client.received, client.max_latency_ms), ("127.0.0.1:58056", 163, 11));
        assert_eq!((member.clients.len(), member.trouble), (2, None));
    }

    #[test]
    fn a_member_that_does_not_serve_says_so_itself() {
        let answers = Answers { srvr: Some(recorded("not-serving", "srvr")), ..Answers::default() };
        let member = Member::read(&answers);
        assert_eq!(member.mode, None);
        assert_eq!(member.trouble.as_deref(), Some("This ZooKeeper instance is not currently serving requests"));
    }

    #[test]
    fn what_is_cut_off_or_of_another_product_is_left_out() {
        let answers = Answers {
            srvr: Some("Mode: follower\nReceived: many\nLatency min/avg/max: 1/2".to_owned()),
            mntr: Some("mntr is not executed because it is not in the whitelist.\nzk_a".to_owned()),
            cons: Some(" /127.0.0.1:1[1](queued=".to_owned()),
            top: Some("<html>".to_owned()),
            slow_operations: Some("{\"slow_operations\":[{}, 7]}".to_owned()),
            failure: None,
        };
        let member = Member::read(&answers);
        assert_eq!((member.mode.as_deref(), member.received, member.latency_ms), (Some("follower"), None, None));
        assert!(member.metrics.is_empty() && member.top.is_empty() && member.slow.is_empty());
        assert_eq!(member.clients.len(), 1);
    }

    #[test]
    fn the_tables_of_rookeeper_are_read() {
        let top = r#"{"prefixes":{"requests":[{"name":"/app","count":120,"at_most_over":0}],"bytes":[]},"command":"top","error":null}"#;
        let slow = r#"{"slow_operations":[{"time":"2026-11-28T08:00:00Z","operation":"setData","path":"/a","client":"10.0.0.1:5",
            "total_us":1500250,"stages_us":{"queue":250,"sync":1500000}}],"command":"slow_operations","error":null}"#;
        let answers =
            Answers { top: Some(top.to_owned()), slow_operations: Some(slow.to_owned()), ..Answers::default() };
        let member = Member::read(&answers);
        assert!(member.top.iter().any(|names| names.about == "prefixes"
            && names.measure == "requests"
            && names.largest == [("/app".to_owned(), 120)]));
        let slow = &member.slow[0];
        assert_eq!((slow.operation.as_str(), slow.total_ms, slow.stages.len()), ("setData", 1500.25, 2));
    }
}
