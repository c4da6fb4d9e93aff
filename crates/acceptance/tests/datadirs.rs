//! Data directories cross the border in both directions: what the original wrote is read to the same tree, or refused with
//! a message that names the file; what Rookeeper wrote is served by the original as it was.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rookeeper_acceptance::client::{Client, four_letter_word, server_zxid};
use rookeeper_acceptance::fixture::{DataDirectory, data_directories};
use rookeeper_acceptance::server::{Product, Server, Setup};
use rookeeper_acceptance::tree::{self, Tree};
use rookeeper_acceptance::wire::{self, Acl, Body};
use serde_json::Value;

/// Nothing expires and nothing is cleaned up while the tree is compared, and everything may be seen.
fn observing(setup: Setup) -> Setup {
    setup
        .property("-Dzookeeper.extendedTypesEnabled=true")
        .property("-Dznode.container.checkIntervalMs=86400000")
        .config("4lw.commands.whitelist", "*")
        .config("maxSessionTimeout", "3600000")
        .with_super_user()
}

fn fetch_tree(server: &Server) -> Result<Tree> {
    let mut client = Client::connect(server.address())?;
    client.authenticate("digest", "super:admin")?;
    let tree = tree::fetch(&mut client)?;
    client.close()?;
    Ok(tree)
}

fn metric(server: &Server, name: &str) -> Result<i64> {
    let text = four_letter_word(server.address(), "mntr")?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
    value.with_context(|| format!("mntr has no {name}:\n{text}"))?.parse().context("not a number")
}

/// Every difference between the server's state and the recorded one.
fn compare(setup: Setup, expected: &Value) -> Result<()> {
    let server = setup.start()?;
    let zxid = expected["lastZxid"].as_str().and_then(|zxid| zxid.strip_prefix("0x")).context("no zxid")?;
    let found_zxid = server_zxid(server.address())?;
    ensure!(found_zxid == i64::from_str_radix(zxid, 16)?, "the zxid is 0x{found_zxid:x}, not 0x{zxid}");
    let differences = tree::differences(&tree::recorded(&expected["nodes"])?, &fetch_tree(&server)?);
    ensure!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    let mismatches = metric(&server, "zk_digest_mismatches_count")?;
    ensure!(mismatches == 0, "{mismatches} digests did not match");
    Ok(())
}

fn check_refusal(setup: Setup, expected: &Value) -> Result<()> {
    let failure = setup.start_and_fail()?;
    ensure!(failure.code.is_some_and(|code| code != 0), "the exit code is {:?}:\n{}", failure.code, failure.log);
    let name = expected["message_names"].as_str().context("no file is named")?;
    ensure!(failure.log.contains(name), "the message does not name {name}:\n{}", failure.log);
    Ok(())
}

fn check(directory: &DataDirectory) -> Result<()> {
    let expected = &directory.expected;
    let home = tempfile::tempdir()?;
    let unpacked = directory.unpack(home.path())?;
    let mut setup = observing(Setup::new());
    let log_dir = home.path().join(format!("{}.logs", directory.name));
    if log_dir.exists() {
        setup = setup.config("dataLogDir", log_dir.to_str().context("an odd path")?);
    }
    if let Some(members) = expected["servers"].as_object() {
        for (member, expected) in members {
            let setup = setup.clone().data_dir(&unpacked.join(member));
            compare(setup, expected).with_context(|| member.clone())?;
        }
        return Ok(());
    }
    setup = setup.data_dir(&unpacked);
    if expected["refuse"] == false {
        return compare(setup, expected);
    }
    check_refusal(setup.clone(), expected)?;
    if let Some(flags) = expected["starts_with"].as_array() {
        for flag in flags {
            setup = setup.property(flag.as_str().context("a flag that is not a string")?);
        }
        return compare(setup, expected);
    }
    Ok(())
}

#[test]
fn directories_of_the_original_are_read_or_refused() {
    let directories = data_directories().expect("the recordings are readable");
    let mut failures = Vec::new();
    for directory in &directories {
        if let Err(error) = check(directory) {
            failures.push(format!("{}: {error:#}", directory.name));
        }
    }
    println!("{} directories, {} not as expected", directories.len(), failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Reading a directory must not change what the original makes of it.
#[test]
fn a_directory_goes_there_and_back() {
    for name in ["basic-tree", "fuzzy-snapshot", "debian-3.8.0", "snapshot-snappy", "old-record-shapes"] {
        let directories = data_directories().expect("the recordings are readable");
        let directory = directories.iter().find(|directory| directory.name == name).expect("it was recorded");
        let home = tempfile::tempdir().expect("a temporary directory");
        let path = directory.unpack(home.path()).expect("it unpacks");
        hand_over(&path, &|_| Ok(()), &Setup::new()).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
}

/// How many multis `write_everything` sends. 3.8 and 3.9 compute the digest after a multi differently, so that each of them
/// counts as a mismatch on 3.8, and no other transaction does.
const MULTIS: i64 = 2;

/// Lets the server under test change the directory, kills it, and compares what the original then serves.
fn hand_over(data_dir: &Path, change: &dyn Fn(&Server) -> Result<()>, setup: &Setup) -> Result<()> {
    let mut server = observing(setup.clone()).data_dir(data_dir).start()?;
    change(&server)?;
    // The session of this look is part of the history that is handed over.
    let expected = fetch_tree(&server)?;
    let zxid = server_zxid(server.address())?;
    server.kill()?;
    drop(server);

    let original = observing(Setup::of(Product::Apache)).data_dir(data_dir).start().context("the original")?;
    let found_zxid = server_zxid(original.address())?;
    ensure!(found_zxid == zxid, "the original is at zxid 0x{found_zxid:x}, not 0x{zxid:x}\n{}", original.log());
    let differences = tree::differences(&expected, &fetch_tree(&original)?);
    ensure!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    let mismatches = metric(&original, "zk_digest_mismatches_count")?;
    ensure!(mismatches <= MULTIS, "{mismatches} digests differ:\n{}", original.log());
    Ok(())
}

fn hand_over_new(change: &dyn Fn(&Server) -> Result<()>, setup: Setup) -> PathBuf {
    let home = tempfile::tempdir().expect("a temporary directory").keep();
    hand_over(&home, change, &setup).unwrap_or_else(|error| panic!("{}: {error:#}", home.display()));
    home
}

fn snapshots(data_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(data_dir.join("version-2")).expect("a directory version-2");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("snapshot.")).collect()
}

/// Every kind of node, ACL and change, by several sessions of which some stay open.
fn write_everything(server: &Server) -> Result<()> {
    let mut client = Client::connect(server.address())?;
    client.authenticate("digest", "bob:secret")?;
    for path in ["/kinds", "/acls", "/sequence", "/quota", "/multi"] {
        client.create(path, b"")?;
    }
    client.create("/kinds/data", &[0, 1, 2, 255])?;
    client.create_with("/kinds/null", None, &Acl::open(), 0)?;
    client.create("/kinds/gr\u{fc}\u{df}e-\u{2603}", "\u{e9}".as_bytes())?;
    client.create_with("/kinds/ephemeral", Some(b"e"), &Acl::open(), 1)?;
    client.create_with("/kinds/container", Some(b"c"), &Acl::open(), 4)?;
    client.create("/kinds/container/child", b"")?;
    client.create_ttl("/kinds/ttl", b"t", 3_600_000)?;
    client.create_ttl("/kinds/ttl-longest", b"t", 0xff_ffff_ffff)?;
    for _ in 0..12 {
        client.create_with("/sequence/n-", Some(b""), &Acl::open(), 2)?;
        client.create_with("/sequence/e-", Some(b""), &Acl::open(), 3)?;
    }
    client.delete("/sequence/n-0000000004")?;
    for (name, acl) in [
        ("auth", Acl::new(31, "auth", "")),
        ("digest", Acl::new(15, "digest", "eve:fyVmFCwVbTJYrznoSu1koqYEYF0=")),
        ("ip", Acl::new(31, "ip", "127.0.0.0/8")),
    ] {
        client.create_with(&format!("/acls/{name}"), Some(b"x"), &[acl, Acl::new(1, "world", "anyone")], 0)?;
    }
    client.set_acl("/acls/ip", &[Acl::new(31, "auth", ""), Acl::new(1, "world", "anyone")])?;
    for round in 0..5 {
        client.set_data("/kinds/data", format!("round {round}").as_bytes(), round)?;
    }
    ensure!(client.set_data("/kinds/data", b"", 1).is_err(), "an old version was accepted");
    client.create("/zookeeper/quota/quota", b"")?;
    client.create("/zookeeper/quota/quota/zookeeper_limits", b"count=100,bytes=1000")?;
    client.create("/zookeeper/quota/quota/zookeeper_stats", b"count=0,bytes=0")?;
    client.create("/quota/a", b"12345")?;
    client.create("/quota/b", b"1")?;
    client.delete("/quota/b")?;

    let create = |path: &str, flags| rookeeper_acceptance::client::create_body(path, Some(b"m"), &Acl::open(), flags);
    let good = Body::new()
        .member(wire::CREATE, create("/multi/a", 0))
        .member(wire::CREATE, create("/multi/s-", 2))
        .member(wire::SET_DATA, Body::new().string("/multi/a").buffer(Some(b"new")).int(0))
        .member(wire::CHECK, Body::new().string("/multi/a").int(1))
        .member(wire::CREATE, create("/multi/gone", 1))
        .member(wire::DELETE, Body::new().string("/multi/gone").int(-1))
        .end_of_multi();
    client.call(wire::MULTI, &good)?.ok()?;
    let bad = Body::new()
        .member(wire::CREATE, create("/multi/never", 0))
        .member(wire::CHECK, Body::new().string("/multi").int(77))
        .end_of_multi();
    client.call(wire::MULTI, &bad)?.ok()?;
    ensure!(client.exists("/multi/never")?.is_none(), "half of a multi was applied");

    for number in 0..20 {
        let mut other = Client::connect_with(server.address(), 3_600_000, None, 0)?;
        other.create_with(&format!("/kinds/of-session-{number}"), Some(b""), &Acl::open(), 1)?;
        if number % 2 == 0 {
            other.close()?;
        }
    }
    // The session of `client` stays open as well, and with it its ephemeral nodes.
    Ok(())
}

#[test]
fn the_original_reads_a_log_of_every_kind_of_change() {
    let home = hand_over_new(&write_everything, Setup::new());
    fs::remove_dir_all(home).expect("the directory can be removed");
}

fn write_much(server: &Server) -> Result<()> {
    write_everything(server)?;
    let mut client = Client::connect(server.address())?;
    client.create("/much", b"")?;
    for number in 0..1_000_u32 {
        client.create(&format!("/much/n{number}"), &vec![b'x'; number as usize % 300])?;
        if number % 3 == 0 {
            client.delete(&format!("/much/n{}", number / 2)).or_else(|error| {
                // Some of them are gone already.
                if error.to_string().contains("-101") { Ok(()) } else { bail!(error) }
            })?;
        }
    }
    client.close()
}

fn many_snapshots(compression: Option<&str>) {
    let mut setup = Setup::new().property("-Dzookeeper.snapCount=100").config("snapCount", "100");
    if let Some(method) = compression {
        setup = setup.property(&format!("-Dzookeeper.snapshot.compression.method={method}"));
    }
    let home = hand_over_new(&write_much, setup);
    let suffix =
        compression.map_or(String::new(), |method| if method == "gz" { ".gz".into() } else { format!(".{method}") });
    let found = snapshots(&home);
    let compressed = found.iter().filter(|name| name.matches('.').count() == 1 + suffix.matches('.').count());
    assert!(compressed.filter(|name| name.ends_with(&suffix)).count() >= 2, "snapshots: {found:?}");
    fs::remove_dir_all(home).expect("the directory can be removed");
}

#[test]
fn the_original_reads_snapshots_and_logs() {
    many_snapshots(None);
}

#[test]
fn the_original_reads_snapshots_in_gzip() {
    many_snapshots(Some("gz"));
}

#[test]
fn the_original_reads_snapshots_in_snappy() {
    many_snapshots(Some("snappy"));
}

/// Sessions whose ephemeral nodes have longer names together than the original reads in one record: their ends must be read all the same.
fn end_sessions_of_many_nodes(server: &Server) -> Result<()> {
    const NODES: usize = 6000;
    let mut client = Client::connect(server.address())?;
    client.create("/kept", b"")?;
    for parent in ["/one", "/two"] {
        client.create(parent, b"")?;
        let mut owner = Client::connect_with(server.address(), 3_600_000, None, 0)?;
        for number in 0..NODES {
            let path = format!("{parent}/{}{number:06}", "x".repeat(390));
            let request = rookeeper_acceptance::client::create_body(&path, Some(b""), &Acl::open(), 1);
            owner.send(wire::CREATE, &request)?;
            // Some at once, so that neither side waits for the other.
            if number % 50 == 49 {
                for _ in 0..50 {
                    owner.receive()?.ok()?;
                }
            }
        }
        ensure!(client.children(parent)?.len() == NODES, "not all were created");
        owner.close()?;
        ensure!(client.children(parent)?.is_empty(), "some are left");
    }
    client.create("/after", b"")?;
    client.close()
}

#[test]
fn the_original_reads_the_ends_of_sessions_with_more_nodes_than_a_record_can_name() {
    let home = hand_over_new(&end_sessions_of_many_nodes, Setup::new());
    fs::remove_dir_all(home).expect("the directory can be removed");
}
