//! A whole tree as a client sees it, and the comparison of two such trees.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::client::Client;
use crate::fixture::to_hex;

/// Every node by path: `data` (hex or null), `acl` and `stat`, in the form of the fixtures.
pub type Tree = BTreeMap<String, Value>;

/// Walks from the root. The client must be allowed to read everything.
pub fn fetch(client: &mut Client) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut waiting = vec!["/".to_owned()];
    while let Some(path) = waiting.pop() {
        let (data, stat) = client.get_data(&path).with_context(|| format!("getData {path}"))?;
        let acls = client.get_acl(&path).with_context(|| format!("getACL {path}"))?;
        for child in client.children(&path).with_context(|| format!("getChildren {path}"))? {
            waiting.push(format!("{}/{child}", path.trim_end_matches('/')));
        }
        let acls: Vec<Value> =
            acls.iter().map(|acl| json!({"perms": acl.permissions, "scheme": acl.scheme, "id": acl.id})).collect();
        let stat = json!({
            "czxid": stat.czxid, "mzxid": stat.mzxid, "ctime": stat.ctime, "mtime": stat.mtime,
            "version": stat.version, "cversion": stat.cversion, "aversion": stat.aversion,
            "ephemeralOwner": stat.ephemeral_owner, "dataLength": stat.data_length,
            "numChildren": stat.num_children, "pzxid": stat.pzxid,
        });
        tree.insert(path, json!({"data": data.map(|data| to_hex(&data)), "acl": acls, "stat": stat}));
    }
    Ok(tree)
}

/// The nodes of a recorded directory in the same form.
pub fn recorded(nodes: &Value) -> Result<Tree> {
    let nodes = nodes.as_array().context("no nodes were recorded")?;
    nodes
        .iter()
        .map(|node| {
            let path = node["path"].as_str().context("a node without path")?.to_owned();
            Ok((path, json!({"data": node["data"], "acl": node["acl"], "stat": node["stat"]})))
        })
        .collect()
}

/// One line per difference; empty if the trees are equal.
pub fn differences(expected: &Tree, found: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, node) in expected {
        match found.get(path) {
            None => lines.push(format!("{path}: missing")),
            Some(other) => {
                for part in ["data", "acl", "stat"] {
                    if node[part] != other[part] {
                        lines.push(format!("{path}: {part}\n  expected {}\n  found    {}", node[part], other[part]));
                    }
                }
            }
        }
    }
    lines.extend(found.keys().filter(|path| !expected.contains_key(*path)).map(|path| format!("{path}: unexpected")));
    lines
}
