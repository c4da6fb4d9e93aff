//! What the product is made of: whose code, under which licences, in how many versions, and which crate may know which.
//!
//! What always holds: a library comes in because somebody wrote it into a list here. Known vulnerabilities are looked up with
//! `cargo deny check advisories`, which needs the network; `deny.toml` says how.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, LicenseItem, ParseMode};

/// Licences that ask for no more than that their text goes along.
const LICENCES: &[&str] = &["MIT", "Apache-2.0", "Zlib", "BSD-3-Clause", "BSL-1.0", "Unicode-3.0", "ISC"];

/// Libraries that are built in several versions, by whose doing. Each costs time and space, so a new one is a decision.
const SEVERAL_VERSIONS: &[(&str, &str)] = &[
    ("ahash", "zookeeper-client: hashbrown 0.12; hashlink: hashbrown 0.14"),
    ("compact_str", "zookeeper-client: 0.4; ratatui is ahead"),
    ("cpufeatures", "rand of proptest is ahead of the hashes"),
    ("getrandom", "zookeeper-client: ahash 0.7"),
    ("hashbrown", "zookeeper-client: 0.12, and 0.14 by hashlink; indexmap is ahead"),
    ("heck", "zookeeper-client: strum 0.23"),
    ("rand_core", "pkcs5, by its encryption: 0.6; rand of proptest is ahead"),
    ("strum", "zookeeper-client: 0.23; ratatui is ahead"),
    ("strum_macros", "zookeeper-client: strum 0.23"),
    ("syn", "zookeeper-client: num_enum 0.5 and strum 0.23; the rest is between two major versions"),
    ("thiserror", "zookeeper-client: 1"),
    ("thiserror-impl", "zookeeper-client: thiserror 1"),
    ("windows-sys", "ring, which rustls-webpki could be built with and is not: 0.52"),
];

/// All that a core crate, or one of those that work on files, may be built of.
const CORE: &[(&str, &[&str])] = &[
    ("rookeeper-jute", &["serde", "thiserror"]),
    ("rookeeper-proto", &["rookeeper-jute", "serde", "thiserror"]),
    (
        "rookeeper-tree",
        &["rookeeper-proto", "base64", "crc32fast", "foldhash", "hashbrown", "sha1", "sha2", "sha3", "thiserror"],
    ),
    ("rookeeper-discovery", &["serde", "serde_json", "thiserror", "uuid"]),
    (
        "rookeeper-registry",
        &[
            "bytes",
            "crc32fast",
            "flate2",
            "jiff",
            "quick-xml",
            "rookeeper-discovery",
            "serde",
            "serde_json",
            "thiserror",
        ],
    ),
    ("rookeeper-zab", &["rookeeper-proto", "thiserror"]),
    (
        "rookeeper-replica",
        &["rookeeper-proto", "rookeeper-tree", "rookeeper-zab", "hashbrown", "parking_lot", "thiserror"],
    ),
    (
        "rookeeper-store",
        &[
            "rookeeper-proto",
            "rookeeper-tree",
            "flate2",
            "rustix",
            "serde",
            "simd-adler32",
            "snap",
            "thiserror",
            "tracing",
        ],
    ),
    (
        "rookeeper-storage",
        &[
            "rookeeper-proto",
            "rookeeper-tree",
            "rookeeper-store",
            "rookeeper-zab",
            "rookeeper-replica",
            "thiserror",
            "tracing",
        ],
    ),
];

/// Libraries of the shell and of the live view. A binary of the server alone has none of them.
const OF_THE_SHELL: &[&str] = &[
    "zookeeper-client",
    "rustyline",
    "async-io",
    "async-net",
    "polling",
    "hashlink",
    "futures-rustls",
    "rsasl",
    "md5",
    "ratatui",
    "crossterm",
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().expect("there are packages").iter()
}

fn text<'a>(package: &'a Value, field: &str) -> &'a str {
    package[field].as_str().unwrap_or_else(|| panic!("{} has no {field}", package["name"]))
}

#[test]
fn every_licence_is_one_that_we_accept() {
    let accepted = |licence: &LicenseItem| matches!(licence.id(), Some(id) if LICENCES.contains(&id.name));
    let metadata = metadata();
    for package in packages(&metadata) {
        let licence = text(package, "license");
        let expression = Expression::parse_mode(licence, ParseMode::LAX)
            .unwrap_or_else(|error| panic!("{}: {error}", text(package, "name")));
        assert!(
            expression.evaluate(|requirement| accepted(&requirement.license)),
            "{} is under {licence}",
            text(package, "name")
        );
    }
}

#[test]
fn every_library_comes_from_the_public_registry() {
    let metadata = metadata();
    for package in packages(&metadata) {
        match package["source"].as_str() {
            None => assert!(text(package, "name").starts_with("rookeeper-"), "{package}"),
            Some(source) => {
                assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index", "{}", text(package, "name"))
            }
        }
    }
}

#[test]
fn no_library_is_there_in_several_versions_that_nobody_decided_on() {
    let metadata = metadata();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages(&metadata) {
        versions.entry(text(package, "name")).or_default().insert(text(package, "version"));
    }
    let several: BTreeSet<&str> =
        versions.into_iter().filter(|(_, versions)| versions.len() > 1).map(|(name, _)| name).collect();
    let decided: BTreeSet<&str> = SEVERAL_VERSIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(several, decided, "left: built in several versions, right: listed here");
}

#[test]
fn a_core_crate_knows_what_is_listed_and_nothing_else() {
    let metadata = metadata();
    for (name, allowed) in CORE {
        let package = packages(&metadata).find(|package| package["name"] == *name).expect("a crate of ours");
        let known: BTreeSet<&str> = package["dependencies"]
            .as_array()
            .expect("dependencies")
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .map(|dependency| text(dependency, "name"))
            .collect();
        assert_eq!(known, allowed.iter().copied().collect(), "{name}");
    }
}

#[test]
fn a_server_alone_has_nothing_of_the_shell() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--package", "rookeeper-cli", "--no-default-features"])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("text");
    let libraries: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(libraries.contains("rookeeper-server"));
    for library in OF_THE_SHELL {
        assert!(!libraries.contains(library), "{library}");
    }
}
