//! setquota, listquota and delquota: the limits of a subtree, kept as nodes under `/zookeeper/quota`.
//!
//! What always holds: limits are never nested; a quota node has a `zookeeper_limits` and a `zookeeper_stats` child.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::json;
use zookeeper_client::{Acls, Client, CreateMode, Error};

use super::commands::JSON;
use super::event::Manner;
use super::failure::{Failure, refused};
use super::options::Arguments;
use super::{Shell, path};

const QUOTA: &str = "/zookeeper/quota";
const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

/// The option that names each field.
const FIELDS: [(&str, &str); 4] = [("n", "count"), ("b", "bytes"), ("N", "countHardLimit"), ("B", "byteHardLimit")];

/// `count=5,bytes=100=;byteHardLimit=1000;countHardLimit=10`: limits or usage of a subtree, -1 where there is none.
#[derive(Debug, Default, PartialEq, Eq)]
struct Track {
    fields: BTreeMap<String, i64>,
}

impl Track {
    fn parse(data: &[u8]) -> Track {
        let text = String::from_utf8_lossy(data);
        let mut fields = BTreeMap::new();
        for pair in text.split([',', ';']) {
            // The `=` after the bytes is there for readers older than the hard limits.
            let mut parts = pair.split('=');
            let (Some(key), Some(number)) = (parts.next(), parts.next()) else { continue };
            fields.insert(key.to_owned(), number.parse().unwrap_or(-1));
        }
        Track { fields }
    }

    fn value(&self, field: &str) -> i64 {
        self.fields.get(field).copied().unwrap_or(-1)
    }

    fn set(&mut self, field: &str, value: i64) {
        self.fields.insert(field.to_owned(), value);
    }
}

impl fmt::Display for Track {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "count={},bytes={}", self.value("count"), self.value("bytes"))?;
        let mut others = self.fields.iter().filter(|(key, _)| *key != "count" && *key != "bytes").peekable();
        if others.peek().is_some() {
            formatter.write_str("=")?;
        }
        others.try_for_each(|(key, value)| write!(formatter, ";{key}={value}"))
    }
}

/// Where the quota of `path` is kept.
fn quota_path(path: &str) -> String {
    if path == "/" { QUOTA.to_owned() } else { format!("{QUOTA}{path}") }
}

pub(crate) async fn list(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let path = arguments.words[0].as_str();
    let limits = format!("{QUOTA}{path}/{LIMITS}");
    let as_json = arguments.has(JSON);
    if !as_json && shell.output.manner() != Manner::Quiet {
        shell.output.complain(&format!("absolute path is {limits}"))?;
    }
    shell.check_path(&limits)?;
    let client = shell.client()?;
    let stats = format!("{QUOTA}{path}/{STATS}");
    let mut found = Vec::new();
    for (what, node) in [("quota", &limits), ("stat", &stats)] {
        match client.get_data(node).await {
            Ok((data, _)) if as_json => found.push(Track::parse(&data).fields),
            Ok((data, _)) => shell.output.line(&format!("Output {what} for {path} {}", Track::parse(&data)))?,
            Err(Error::NoNode) => {
                shell.output.complain(&format!("quota for {path} does not exist."))?;
                return Ok(());
            }
            Err(error) => return Err(refused(&error, node)),
        }
    }
    if let [limits, usage] = found.as_slice() {
        shell.output.json(&json!({"path": path, "limits": limits, "usage": usage}))?;
    }
    Ok(())
}

pub(crate) async fn set(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let path = arguments.words[0].as_str();
    if path.starts_with(QUOTA) {
        shell.output.complain(&format!("cannot set a quota under the path: {QUOTA}"))?;
        return Ok(());
    }
    let (field, limit) = match limit(&arguments) {
        Ok(limit) => limit,
        Err(text) => {
            shell.output.complain(&text)?;
            return Ok(());
        }
    };
    shell.check_path(path)?;
    let client = shell.client()?;
    if client.check_stat(path).await.map_err(|error| refused(&error, path))?.is_none() {
        return Err(Failure::Refused(format!("{path} does not exist.")));
    }
    refuse_nested(&client, path).await?;

    let node = quota_path(path);
    make_parents(&client, &node).await?;
    let (limits, stats) = (path::join(&node, LIMITS), path::join(&node, STATS));
    let mut track = match client.get_data(&limits).await {
        Ok((data, _)) => Track::parse(&data),
        Err(Error::NoNode) => {
            let mut track = Track::default();
            FIELDS.iter().for_each(|(_, field)| track.set(field, -1));
            track.set(field, limit);
            create(&client, &limits, &track.to_string()).await?;
            // The server counts the subtree when the limits appear and writes the real numbers here.
            create(&client, &stats, "count=0,bytes=0").await?;
            track
        }
        Err(error) => return Err(refused(&error, &limits)),
    };
    track.set(field, limit);
    let (data, _) = client.get_data(&stats).await.map_err(|error| refused(&error, &stats))?;
    for warning in warnings(&track, &Track::parse(&data)) {
        shell.output.line(&warning)?;
    }
    client.set_data(&limits, track.to_string().as_bytes(), None).await.map_err(|error| refused(&error, &limits))?;
    Ok(())
}

/// The field that is limited and its limit.
fn limit(arguments: &Arguments) -> Result<(&'static str, i64), String> {
    for (option, field) in FIELDS {
        let Some(text) = arguments.value(option) else { continue };
        let count = matches!(option, "n" | "N");
        let parsed = if count { text.parse::<i32>().map(i64::from) } else { text.parse::<i64>() };
        return match parsed {
            Ok(limit) if limit > 0 || (!count && limit == 0) => Ok((field, limit)),
            Ok(_) if count => Err("the num quota must be greater than zero".to_owned()),
            Ok(_) => Err("the bytes quota must be greater than or equal to zero".to_owned()),
            Err(_) => Err("NumberFormatException happens when parsing the option value".to_owned()),
        };
    }
    Err("one of -n, -b, -N, -B is needed".to_owned())
}

fn warnings(limits: &Track, usage: &Track) -> Vec<String> {
    [("count", "countHardLimit"), ("bytes", "byteHardLimit")]
        .into_iter()
        .filter(|(soft, hard)| [soft, hard].iter().any(|field| (0..usage.value(soft)).contains(&limits.value(field))))
        .map(|(what, _)| {
            format!("[Warning]: the {what} quota you create is less than the existing {what}:{}", usage.value(what))
        })
        .collect()
}

/// A quota above or below another would count nodes twice.
async fn refuse_nested(client: &Client, path: &str) -> Result<(), Failure> {
    let own = quota_path(path);
    let mut waiting = vec![own.clone()];
    while let Some(node) = waiting.pop() {
        let children = match client.list_children(&node).await {
            Ok(children) => children,
            Err(Error::NoNode) => continue,
            Err(error) => return Err(refused(&error, &node)),
        };
        if node != own && children.iter().any(|child| child == LIMITS) {
            let child = &node[QUOTA.len()..];
            return Err(Failure::Refused(format!("{path} has a child {child} which has a quota")));
        }
        waiting.extend(children.iter().map(|child| path::join(&node, child)));
    }
    let mut above = own.as_str();
    while let Some((parent, _)) = above.rsplit_once('/').filter(|(parent, _)| parent.len() > QUOTA.len()) {
        above = parent;
        match client.check_stat(&path::join(parent, LIMITS)).await {
            Ok(None) => {}
            Ok(Some(_)) => {
                let parent = &parent[QUOTA.len()..];
                return Err(Failure::Refused(format!("{path} has a parent {parent} which has a quota")));
            }
            Err(error) => return Err(refused(&error, parent)),
        }
    }
    Ok(())
}

async fn make_parents(client: &Client, node: &str) -> Result<(), Failure> {
    let ends = node.match_indices('/').map(|(index, _)| index).filter(|index| *index > 0).chain([node.len()]);
    for end in ends {
        match create(client, &node[..end], "").await {
            Ok(()) => {}
            Err(failure) if client.check_stat(&node[..end]).await.is_ok_and(|stat| stat.is_some()) => drop(failure),
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

async fn create(client: &Client, node: &str, data: &str) -> Result<(), Failure> {
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    client.create(node, data.as_bytes(), &options).await.map_err(|error| refused(&error, node))?;
    Ok(())
}

pub(crate) async fn delete(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let path = arguments.words[0].as_str();
    let node = quota_path(path);
    let limits = path::join(&node, LIMITS);
    shell.check_path(&limits)?;
    let client = shell.client()?;
    if client.check_stat(&limits).await.map_err(|error| refused(&error, &limits))?.is_none() {
        shell.output.line(&format!("Quota does not exist for {path}"))?;
        return Ok(());
    }
    let (data, _) = client.get_data(&limits).await.map_err(|error| refused(&error, &limits))?;
    let mut track = Track::parse(&data);
    match FIELDS.iter().find(|(option, _)| arguments.has(option)) {
        Some((_, field)) => {
            track.set(field, -1);
            let data = track.to_string();
            client.set_data(&limits, data.as_bytes(), None).await.map_err(|error| refused(&error, &limits))?;
            Ok(())
        }
        None => remove(&client, &node).await,
    }
}

/// Takes the quota away, and the nodes above it that hold nothing else.
async fn remove(client: &Client, node: &str) -> Result<(), Failure> {
    let children = client.list_children(node).await.map_err(|error| refused(&error, node))?;
    for child in children.iter().map(|child| path::join(node, child)) {
        client.delete(&child, None).await.map_err(|error| refused(&error, &child))?;
    }
    let mut node = node;
    while node != QUOTA {
        if !client.list_children(node).await.map_err(|error| refused(&error, node))?.is_empty() {
            break;
        }
        client.delete(node, None).await.map_err(|error| refused(&error, node))?;
        node = node.rsplit_once('/').map_or(QUOTA, |(parent, _)| parent);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::options::{self, Choice, value};
    use super::*;

    #[test]
    fn tracks_keep_the_form_old_readers_need() {
        let text = "count=5,bytes=100=;byteHardLimit=1000;countHardLimit=10";
        let mut track = Track::parse(text.as_bytes());
        assert_eq!(track.to_string(), text);
        track.set("count", -1);
        assert_eq!(track.to_string(), "count=-1,bytes=100=;byteHardLimit=1000;countHardLimit=10");
        assert_eq!(Track::parse(b"count=2,bytes=5").to_string(), "count=2,bytes=5");
        assert_eq!(Track::parse(b"").to_string(), "count=-1,bytes=-1");
        assert_eq!(Track::parse(b"bytes=;=,x").to_string(), "count=-1,bytes=-1=;=-1");
    }

    #[test]
    fn limits_are_positive_numbers() {
        let options = [value("n"), value("b"), value("N"), value("B")];
        let parsed = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            limit(&options::parse(&words, &options, Choice::ExactlyOne).unwrap())
        };
        assert_eq!(parsed("-n 5 /a"), Ok(("count", 5)));
        assert_eq!(parsed("-B 0 /a"), Ok(("byteHardLimit", 0)));
        assert!(parsed("-N 0 /a").is_err());
        assert!(parsed("-b -1 /a").is_err());
        assert!(parsed("-n x /a").is_err());
    }

    #[test]
    fn a_limit_below_the_usage_is_warned_about() {
        let usage = Track::parse(b"count=4,bytes=10");
        assert!(warnings(&Track::parse(b"count=4,bytes=-1"), &usage).is_empty());
        assert_eq!(
            warnings(&Track::parse(b"count=3,bytes=-1=;byteHardLimit=9"), &usage),
            [
                "[Warning]: the count quota you create is less than the existing count:4",
                "[Warning]: the bytes quota you create is less than the existing bytes:10"
            ]
        );
    }
}
