//! Every recorded data directory is recovered to exactly the tree, sessions, digest and zxid that Apache has, or refused by name.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use rookeeper_store::{Directories, RealDisk, RecoveryOptions, StoreError, recover};
use rookeeper_tree::Tree;
use serde_json::{Value, json};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/datadir");

fn unpack(name: &str, into: &Path) -> PathBuf {
    let file = fs::File::open(format!("{FIXTURES}/{name}.tar.gz")).unwrap();
    tar::Archive::new(flate2::read::GzDecoder::new(file)).unpack(into).unwrap();
    into.join(name)
}

fn expectation(name: &str) -> Value {
    serde_json::from_slice(&fs::read(format!("{FIXTURES}/{name}.json")).unwrap()).unwrap()
}

fn start(data: &Path, logs: &Path, options: &RecoveryOptions) -> Result<Tree, StoreError> {
    let directories = Directories::prepare(&RealDisk, data, logs, false)?;
    let recovered = recover(&RealDisk, &directories, options)?;
    assert_eq!(recovered.report.digest_mismatches, 0, "{}: {}", data.display(), recovered.report);
    Ok(recovered.tree)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The tree in the form of the fixtures.
fn shown(tree: &Tree) -> Value {
    let mut nodes: Vec<_> = tree.nodes().collect();
    nodes.sort_by_key(|node| node.path());
    let nodes: Vec<_> = nodes.into_iter().map(shown_node).collect();
    let mut sessions: Vec<_> = tree.sessions().collect();
    sessions.sort();
    let sessions: serde_json::Map<_, _> =
        sessions.into_iter().map(|(id, timeout)| (id.to_string(), json!(timeout))).collect();
    json!({
        "lastZxid": tree.last_zxid().to_string(),
        "treeDigest": tree.digest(),
        "sessions": sessions,
        "nodes": nodes,
    })
}

fn shown_node(node: rookeeper_tree::NodeRef<'_>) -> Value {
    let stat = node.stat();
    let acl: Vec<_> = node
        .acl()
        .iter()
        .map(|acl| json!({"perms": acl.permissions.0, "scheme": acl.id.scheme, "id": acl.id.id}))
        .collect();
    json!({
        "path": node.path(),
        "data": node.data().map(hex),
        "acl": acl,
        "stat": {
            "czxid": stat.czxid.0, "mzxid": stat.mzxid.0, "ctime": stat.ctime_ms, "mtime": stat.mtime_ms,
            "version": stat.version, "cversion": stat.cversion, "aversion": stat.aversion,
            "ephemeralOwner": stat.ephemeral_owner, "dataLength": stat.data_length, "numChildren": stat.num_children,
            "pzxid": stat.pzxid.0,
        },
    })
}

/// What the fixture says of things that `shown` shows. A null list is the open one.
fn expected(value: &Value) -> Value {
    let nodes: Vec<_> = value["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| {
            let open = json!([{"perms": 31, "scheme": "world", "id": "anyone"}]);
            let acl = if node["acl"].is_null() { &open } else { &node["acl"] };
            json!({"path": node["path"], "data": node["data"], "acl": acl, "stat": node["stat"]})
        })
        .collect();
    json!({
        "lastZxid": value["lastZxid"], "treeDigest": value["treeDigest"], "sessions": value["sessions"], "nodes": nodes,
    })
}

fn assert_same(name: &str, actual: &Value, expected: &Value) {
    let (nodes, wanted) = (actual["nodes"].as_array().unwrap(), expected["nodes"].as_array().unwrap());
    for (node, wanted) in nodes.iter().zip(wanted) {
        assert_eq!(node, wanted, "{name}");
    }
    assert_eq!(nodes.len(), wanted.len(), "{name}");
    assert_eq!(actual, expected, "{name}");
}

#[test]
fn every_recorded_directory_is_read_or_refused_as_it_should_be() {
    let (mut read, mut refused) = (0, 0);
    for entry in fs::read_dir(FIXTURES).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let value = expectation(name);
        let temporary = tempfile::tempdir().unwrap();
        let data = unpack(name, temporary.path());
        if let Some(servers) = value["servers"].as_object() {
            for (server, value) in servers {
                let data = data.join(server);
                let tree = start(&data, &data, &RecoveryOptions::default()).unwrap();
                assert_same(name, &shown(&tree), &expected(value));
                read += 1;
            }
            continue;
        }
        let separate = temporary.path().join(format!("{name}.logs"));
        let logs = if separate.exists() { separate } else { data.clone() };
        if value["refuse"] == true {
            let error = start(&data, &logs, &RecoveryOptions::default()).unwrap_err();
            assert!(!error.is_of_directory(), "{error}");
            let message = error.to_string();
            assert!(message.contains(value["message_names"].as_str().unwrap()), "{name}: {message}");
            assert!(message.contains("; "), "{name} names no remedy: {message}");
            refused += 1;
            if value["starts_with"].is_null() {
                continue;
            }
        }
        let options = RecoveryOptions { trust_empty_snapshot: value["refuse"] == true, ..RecoveryOptions::default() };
        let tree = start(&data, &logs, &options).unwrap();
        assert_same(name, &shown(&tree), &expected(&value));
        // Recovery has put the directory in order, and changed nothing of what it says.
        let again = start(&data, &logs, &options).unwrap();
        assert_same(name, &shown(&again), &expected(&value));
        read += 1;
    }
    println!("{read} directories read, {refused} refused");
    assert!(read >= 40 && refused >= 9, "{read} read, {refused} refused");
}
