//! The text of a subtree: a line that says what it is, a line for each node, parents first, and a line that says how many there are.

use std::io::BufRead;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use zookeeper_client::{Acl, AuthId, Permission, Stat};

use crate::shell::format;

const FORMAT: u32 = 1;

/// No line of an export is longer, in bytes: a node has a few megabytes at most.
const MAX_LINE_BYTES: u64 = 256 << 20;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    rookeeper_export: u32,
    /// The root of the subtree.
    pub path: String,
    pub taken: String,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct End {
    pub nodes: u64,
}

/// A node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Node {
    pub path: String,
    /// The data where they are text, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The data where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    pub acl: Vec<Entry>,
    pub stat: NodeStat,
}

/// An entry of a list of access control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Letters of `cdrwa`.
    perms: String,
    scheme: String,
    id: String,
}

/// As `stat` shows it; numbers are decimal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeStat {
    czxid: i64,
    mzxid: i64,
    pzxid: i64,
    ctime: i64,
    mtime: i64,
    version: i32,
    cversion: i32,
    aversion: i32,
    pub ephemeral_owner: i64,
    data_length: i32,
    num_children: i32,
}

impl Head {
    pub fn new(path: &str) -> Head {
        Head { rookeeper_export: FORMAT, path: path.to_owned(), taken: jiff::Timestamp::now().to_string() }
    }
}

impl Node {
    pub fn new(path: String, data: Vec<u8>, acl: &[Acl], stat: &Stat) -> Node {
        let (text, base64) = match String::from_utf8(data) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(BASE64.encode(error.as_bytes()))),
        };
        let acl = acl.iter().map(Entry::of).collect();
        let stat = NodeStat {
            czxid: stat.czxid,
            mzxid: stat.mzxid,
            pzxid: stat.pzxid,
            ctime: stat.ctime,
            mtime: stat.mtime,
            version: stat.version,
            cversion: stat.cversion,
            aversion: stat.aversion,
            ephemeral_owner: stat.ephemeral_owner,
            data_length: stat.data_length,
            num_children: stat.num_children,
        };
        Node { path, text, base64, acl, stat }
    }

    /// What is in it, whichever way it is written.
    pub fn data(&self) -> Result<Vec<u8>, String> {
        match (&self.text, &self.base64) {
            (Some(text), None) => Ok(text.clone().into_bytes()),
            (None, Some(base64)) => BASE64.decode(base64).map_err(|error| format!("base64 of {}: {error}", self.path)),
            (None, None) => Ok(Vec::new()),
            (Some(_), Some(_)) => Err(format!("{} has both text and base64", self.path)),
        }
    }

    /// Its list, as the client takes it.
    pub fn acl(&self) -> Result<Vec<Acl>, String> {
        self.acl
            .iter()
            .map(|entry| entry.acl().ok_or_else(|| format!("acl of {}: {:?}", self.path, entry.perms)))
            .collect()
    }

    pub fn is_ephemeral(&self) -> bool {
        self.stat.ephemeral_owner != 0
    }
}

impl Entry {
    pub fn of(acl: &Acl) -> Entry {
        let letters = format::LETTERS.iter().filter(|(_, bit)| acl.permission().has(*bit));
        Entry {
            perms: letters.map(|(letter, _)| *letter).collect(),
            scheme: acl.scheme().to_owned(),
            id: acl.id().to_owned(),
        }
    }

    fn acl(&self) -> Option<Acl> {
        let mut permission = Permission::NONE;
        for letter in self.perms.chars() {
            permission = permission | format::LETTERS.iter().find(|(known, _)| *known == letter)?.1;
        }
        Some(Acl::new(permission, AuthId::new(&self.scheme, &self.id)))
    }
}

/// A text that is being read.
pub(crate) struct Lines<R> {
    input: R,
    number: u64,
    nodes: u64,
    is_over: bool,
}

impl<R: BufRead> Lines<R> {
    /// Reads the first line.
    pub fn open(input: R) -> Result<(Head, Lines<R>), String> {
        let mut lines = Lines { input, number: 0, nodes: 0, is_over: false };
        let line = lines.line()?.ok_or("it is empty")?;
        let head: Head = serde_json::from_str(&line).map_err(|error| lines.wrong(&error))?;
        if head.rookeeper_export != FORMAT {
            return Err(format!("it has format {}, this version knows {FORMAT}", head.rookeeper_export));
        }
        Ok((head, lines))
    }

    /// The next node; none behind the last one. An error where the text is cut off, or goes on behind its end.
    pub fn next_node(&mut self) -> Result<Option<Node>, String> {
        let line = self.line()?;
        if self.is_over {
            return line.map_or(Ok(None), |_| Err(format!("line {}: something stands behind the end", self.number)));
        }
        let line = line.ok_or("it is cut off: its last line does not say how many nodes there are")?;
        if let Ok(end) = serde_json::from_str::<End>(&line) {
            if end.nodes != self.nodes {
                return Err(format!("{} nodes are there, and there should be {}", self.nodes, end.nodes));
            }
            self.is_over = true;
            return self.next_node();
        }
        self.nodes += 1;
        serde_json::from_str(&line).map(Some).map_err(|error| self.wrong(&error))
    }

    fn line(&mut self) -> Result<Option<String>, String> {
        use std::io::Read as _;
        let mut line = String::new();
        self.number += 1;
        let read = (&mut self.input).take(MAX_LINE_BYTES).read_line(&mut line);
        match read.map_err(|error| format!("line {}: {error}", self.number))? {
            0 => Ok(None),
            _ if !line.ends_with('\n') => Err(format!("it is cut off in line {}", self.number)),
            _ => Ok(Some(line)),
        }
    }

    fn wrong(&self, error: &serde_json::Error) -> String {
        format!("line {}: {error}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let (_, mut lines) = Lines::open(text.as_bytes())?;
        let mut paths = Vec::new();
        while let Some(node) = lines.next_node()? {
            node.data()?;
            node.acl()?;
            paths.push(node.path);
        }
        Ok(paths)
    }

    #[test]
    fn a_text_is_whole_or_refused() {
        let stat = r#""stat":{"czxid":1,"mzxid":1,"pzxid":1,"ctime":1,"mtime":1,"version":0,"cversion":0,"aversion":0,"ephemeral_owner":0,"data_length":1,"num_children":0}"#;
        let head = r#"{"rookeeper_export":1,"path":"/a","taken":"now"}"#;
        let node = |data: &str, perms: &str| {
            format!(r#"{{"path":"/a",{data}"acl":[{{"perms":"{perms}","scheme":"world","id":"anyone"}}],{stat}}}"#)
        };
        let whole = format!("{head}\n{}\n{{\"nodes\":1}}\n", node(r#""text":"x","#, "cdrwa"));
        assert_eq!(read(&whole).unwrap(), ["/a"]);
        for (text, words) in [
            (String::new(), "it is empty"),
            (whole.replace("{\"nodes\":1}\n", ""), "it is cut off"),
            (whole.replace("{\"nodes\":1}", "{\"nodes\":2}"), "1 nodes are there, and there should be 2"),
            (format!("{whole}x\n"), "behind the end"),
            (whole.trim_end().to_owned(), "it is cut off in line 3"),
            (whole.replace("\"text\":\"x\"", "\"base64\":\"?\""), "base64 of /a"),
            (whole.replace("\"text\":\"x\"", "\"base64\":\"\",\"text\":\"\""), "both text and base64"),
            (whole.replace("cdrwa", "x"), "acl of /a"),
            (whole.replace("export\":1", "export\":2"), "it has format 2"),
            (whole.replace("\"czxid\"", "\"other\""), "line 2: unknown field"),
        ] {
            let refused = read(&text).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
