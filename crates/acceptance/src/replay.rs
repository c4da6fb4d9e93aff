//! Plays recorded scenarios against a server and compares every answer byte by byte.
//!
//! Fields that depend on time, session or history are named by the recording. They are still held to their rules: a zxid keeps
//! its distance from the first one of its scenario, session ids map one to one, zero stays zero.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;
use std::{io::Read, io::Write};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::client::{Client, open, receive_frame};
use crate::fixture::{Scenario, from_hex, to_hex};
use crate::wire::Fields;

/// A scenario is given up after so many: what comes later only follows from them.
const MOST_DIFFERENCES: usize = 5;

/// What came of a scenario.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Answers, texts and ends of streams that were compared and equal.
    pub equal: usize,
    /// One entry per difference.
    pub differences: Vec<String>,
}

/// The server must be fresh or idle: zxids are compared, so nobody else may write. The answers on the lines `with_own_zxid` are
/// expected to have a zxid of their own although the recorded ones have not.
pub fn replay(address: SocketAddr, scenario: &Scenario, with_own_zxid: &[&str]) -> Outcome {
    let mut replay = Replay { address, ..Replay::default() };
    for line in &scenario.lines {
        if with_own_zxid.iter().any(|name| line["name"] == *name) {
            replay.base_zxid = replay.base_zxid.map(|base| base + 1);
        }
        if let Err(error) = replay.step(line) {
            let note = line["note"].as_str().unwrap_or_default();
            replay.outcome.differences.push(format!("{} {note}: {error:#}", line["name"]));
            if replay.outcome.differences.len() == MOST_DIFFERENCES {
                break;
            }
        }
    }
    replay.outcome
}

#[derive(Debug)]
struct Replay {
    address: SocketAddr,
    connections: HashMap<String, TcpStream>,
    /// Bytes of the volatile fields of replies, by line and field.
    values: HashMap<(String, String), Vec<u8>>,
    /// Session ids: recorded to replayed.
    sessions: HashMap<Vec<u8>, Vec<u8>>,
    /// The zxid from which the recorded deltas count.
    base_zxid: Option<i64>,
    outcome: Outcome,
}

impl Default for Replay {
    fn default() -> Replay {
        Replay {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            connections: HashMap::new(),
            values: HashMap::new(),
            sessions: HashMap::new(),
            base_zxid: None,
            outcome: Outcome::default(),
        }
    }
}

/// A byte range of a frame that the recording declares volatile.
struct Volatile<'a> {
    start: usize,
    end: usize,
    field: &'a str,
    kind: &'a str,
    entry: &'a Value,
}

impl Replay {
    fn step(&mut self, line: &Value) -> Result<()> {
        let label = line["conn"].as_str().context("no connection is named")?;
        match line["decoded"]["event"].as_str() {
            Some("prepare") => self.prepare(&line["decoded"]["rmr"]),
            Some("open") => {
                self.connections.insert(label.to_owned(), open(self.address)?);
                Ok(())
            }
            Some("drop") => self.connections.remove(label).map(drop).context("no such connection"),
            Some("wait") => {
                // Part of the recording: sessions and nodes expire in real time.
                let wait_ms = line["decoded"]["ms"].as_u64().context("no time to wait")?;
                thread::sleep(Duration::from_millis(wait_ms));
                Ok(())
            }
            Some("eof") => {
                let mut stream = self.connections.remove(label).context("no such connection")?;
                if let Some(frame) = receive_frame(&mut stream)? {
                    bail!("a frame instead of the end of the stream: {}", to_hex(&frame));
                }
                self.outcome.equal += 1;
                Ok(())
            }
            Some(event) => bail!("unknown event {event}"),
            None if line["dir"] == "c2s" => self.send(label, line),
            None => self.compare(label, line),
        }
    }

    fn prepare(&self, paths: &Value) -> Result<()> {
        let mut client = Client::connect(self.address)?;
        for path in paths.as_array().context("no paths to remove")? {
            client.delete_tree(path.as_str().context("a path that is not a string")?)?;
        }
        client.close()
    }

    fn send(&mut self, label: &str, line: &Value) -> Result<()> {
        let mut frame = from_hex(line["hex"].as_str().context("no bytes")?)?;
        for volatile in volatiles(line)? {
            let from = &volatile.entry["from"];
            let source = (
                from["line"].as_str().unwrap_or_default().to_owned(),
                from["field"].as_str().unwrap_or_default().to_owned(),
            );
            let value = self.values.get(&source).with_context(|| format!("no value of {source:?}"))?;
            let value = match from["add"].as_i64() {
                Some(add) => (long(value)? + add).to_be_bytes().to_vec(),
                None => value.clone(),
            };
            ensure!(value.len() == volatile.end - volatile.start, "the value of {source:?} has another length");
            frame[volatile.start..volatile.end].copy_from_slice(&value);
        }
        self.connections.get_mut(label).context("no such connection")?.write_all(&frame)?;
        Ok(())
    }

    fn compare(&mut self, label: &str, line: &Value) -> Result<()> {
        let stream = self.connections.get_mut(label).context("no such connection")?;
        let expected = from_hex(line["hex"].as_str().context("no bytes")?)?;
        if line["unframed"] == true {
            let mut text = Vec::new();
            stream.read_to_end(&mut text)?;
            ensure!(text == expected, "the text differs: {:?}", String::from_utf8_lossy(&text));
            self.outcome.equal += 1;
            return Ok(());
        }
        let payload = receive_frame(stream)?.context("the end of the stream instead of a frame")?;
        let mut found = (payload.len() as i32).to_be_bytes().to_vec();
        found.extend(payload);
        let describe = |found: &[u8]| {
            format!("\n  expected {}\n  as bytes {}\n  found    {}", line["decoded"], to_hex(&expected), to_hex(found))
        };
        ensure!(found.len() == expected.len(), "the length differs{}", describe(&found));
        let volatiles = volatiles(line)?;
        // Before any complaint, so that later requests can refer to the values.
        for volatile in &volatiles {
            let key = (line["name"].as_str().unwrap_or_default().to_owned(), volatile.field.to_owned());
            self.values.insert(key, found[volatile.start..volatile.end].to_vec());
        }
        let (mut expected_masked, mut found_masked) = (expected.clone(), found.clone());
        for volatile in &volatiles {
            expected_masked[volatile.start..volatile.end].fill(0);
            found_masked[volatile.start..volatile.end].fill(0);
        }
        if !line["unordered"].is_null() {
            expected_masked = sort_set(line, &expected_masked)?;
            found_masked = sort_set(line, &found_masked)?;
        }
        ensure!(expected_masked == found_masked, "differs{}", describe(&found));
        for volatile in &volatiles {
            let (was, is) = (&expected[volatile.start..volatile.end], &found[volatile.start..volatile.end]);
            self.check_volatile(volatile, was, is)?;
        }
        self.outcome.equal += 1;
        Ok(())
    }

    fn check_volatile(&mut self, volatile: &Volatile<'_>, was: &[u8], is: &[u8]) -> Result<()> {
        let field = volatile.field;
        match volatile.kind {
            "sid" => {
                let known = self.sessions.entry(was.to_vec()).or_insert_with(|| is.to_vec());
                ensure!(known == is, "{field}: not the session id that this session had before");
                ensure!(long(is)? != 0, "{field}: a session id of zero");
            }
            "zxid" => {
                let Some(delta) = volatile.entry["delta"].as_i64() else { return Ok(()) };
                let base = *self.base_zxid.get_or_insert(long(is)? - delta);
                ensure!(long(is)? - base == delta, "{field}: zxid at distance {}, not {delta}", long(is)? - base);
            }
            "time" => ensure!(long(is)? > 0, "{field}: a time of {}", long(is)?),
            "pw" | "configVersion" => {}
            kind => bail!("{field}: unknown kind {kind}"),
        }
        Ok(())
    }
}

fn volatiles(line: &Value) -> Result<Vec<Volatile<'_>>> {
    let entries = line["volatile"].as_array().map_or(&[][..], Vec::as_slice);
    entries
        .iter()
        .map(|entry| {
            Ok(Volatile {
                start: entry["start"].as_u64().context("a range without start")? as usize,
                end: entry["end"].as_u64().context("a range without end")? as usize,
                field: entry["field"].as_str().context("a range without field")?,
                kind: entry["kind"].as_str().context("a range without kind")?,
                entry,
            })
        })
        .collect()
}

/// Brings the set with which the body of this reply begins into an order of its own.
fn sort_set(line: &Value, frame: &[u8]) -> Result<Vec<u8>> {
    const BODY: usize = 4 + 16;
    let strings_per_element = if line["decoded"]["op"] == "whoAmI" { 2 } else { 1 };
    let mut fields = Fields(&frame[BODY..]);
    let count = fields.int()?;
    let mut elements = Vec::new();
    for _ in 0..count {
        let before = fields.0;
        for _ in 0..strings_per_element {
            fields.buffer()?;
        }
        elements.push(&before[..before.len() - fields.0.len()]);
    }
    elements.sort_unstable();
    Ok([&frame[..BODY + 4], &elements.concat(), fields.0].concat())
}

fn long(bytes: &[u8]) -> Result<i64> {
    Ok(i64::from_be_bytes(bytes.try_into().context("not eight bytes")?))
}
