//! Every exchange recorded from the original, played against a fresh server, gives the recorded bytes.

use rookeeper_acceptance::fixture::{Scenario, repository, scenarios};
use rookeeper_acceptance::replay::replay;
use rookeeper_acceptance::server::{Product, Setup};

/// Scenarios whose bytes depend on a nonce of the server, so that they cannot be sent again. The proofs in them are recomputed in
/// `auth::digest_md5`, and the conversation is held by the clients of `tests/sasl.rs`.
const WITH_A_NONCE: &[&str] = &["sasl/digest-md5"];

/// Answers with a zxid of their own where the original repeats the one before, and why, in the words of COMPAT.md.
const OWN_ZXID: &[(&str, &str)] =
    &[("multi/rejected/012", "a request for a change that can't be decoded gets an error transaction of its own")];

#[test]
fn core() {
    compare("core", &Setup::new());
}

#[test]
fn extended_types_quotas_and_super_user() {
    let setup = Setup::new()
        .property("-Dzookeeper.extendedTypesEnabled=true")
        .property("-Dzookeeper.enforceQuota=true")
        .property("-Dznode.container.checkIntervalMs=2000")
        .with_super_user();
    compare("ext", &setup);
}

#[test]
fn enforced_authentication() {
    let setup = Setup::new()
        .property("-Dzookeeper.enforce.auth.enabled=true")
        .property("-Dzookeeper.enforce.auth.schemes=digest");
    compare("enforce", &setup);
}

#[test]
fn sasl() {
    compare("sasl", &Setup::new());
}

#[test]
fn every_deviation_is_in_the_contract() {
    let lines: Vec<String> = ["core", "ext", "enforce", "sasl"]
        .iter()
        .flat_map(|profile| scenarios(profile).expect("the recordings are readable"))
        .flat_map(|scenario| scenario.lines.into_iter().map(|line| line["name"].to_string()))
        .collect();
    let compat = std::fs::read_to_string(repository().join("COMPAT.md")).expect("the contract is there");
    for (name, reason) in OWN_ZXID {
        assert!(compat.contains(reason), "COMPAT.md does not say: {reason}");
        assert!(lines.iter().any(|line| line.contains(name)), "{name} was not recorded");
    }
}

/// Each recorded file gets a server of its own, as the original had none of the others' nodes when it was recorded.
fn compare(profile: &str, setup: &Setup) {
    let (mut equal, mut played) = (0, 0);
    let mut differences = Vec::new();
    let scenarios = scenarios(profile).expect("the recordings are readable");
    let file = |scenario: &Scenario| scenario.name.split('/').next().unwrap_or_default().to_owned();
    let own_zxid: Vec<&str> = OWN_ZXID.iter().map(|(name, _)| *name).collect();
    for scenarios in scenarios.chunk_by(|one, other| file(one) == file(other)) {
        let mut server = setup.clone().start().expect("the server starts");
        for scenario in scenarios {
            if WITH_A_NONCE.contains(&scenario.name.as_str()) {
                println!("{}: not played: its bytes depend on a nonce", scenario.name);
                continue;
            }
            let outcome = replay(server.address(), scenario, &own_zxid);
            played += 1;
            equal += outcome.equal;
            differences.extend(outcome.differences);
        }
        let status = server.terminate().expect("the server ends when told to");
        assert!(Product::under_test() == Product::Apache || status.success(), "SIGTERM ends the server with {status}");
    }
    println!("{profile}: {played} scenarios, {equal} answers equal, {} different", differences.len());
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}
