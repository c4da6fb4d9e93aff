//! Every exchange recorded from the original, played against a fresh server, gives the recorded bytes.

use rookeeper_acceptance::fixture::{Scenario, repository, scenarios};
use rookeeper_acceptance::replay::replay;
use rookeeper_acceptance::server::{Product, Setup};

/// Scenarios that are not expected to be equal, and why, in the words of COMPAT.md.
const DEVIATIONS: &[(&str, &str)] = &[("sasl/digest-md5", "SASL itself is not offered yet")];

#[test]
fn core() {
    compare("core", Setup::new());
}

#[test]
fn extended_types_quotas_and_super_user() {
    let setup = Setup::new()
        .property("-Dzookeeper.extendedTypesEnabled=true")
        .property("-Dzookeeper.enforceQuota=true")
        .property("-Dznode.container.checkIntervalMs=2000")
        .with_super_user();
    compare("ext", setup);
}

#[test]
fn enforced_authentication() {
    let setup = Setup::new()
        .property("-Dzookeeper.enforce.auth.enabled=true")
        .property("-Dzookeeper.enforce.auth.schemes=digest");
    compare("enforce", setup);
}

#[test]
fn sasl() {
    compare("sasl", Setup::new());
}

#[test]
fn every_deviation_is_in_the_contract() {
    let names: Vec<String> = ["core", "ext", "enforce", "sasl"]
        .iter()
        .flat_map(|profile| scenarios(profile).expect("the recordings are readable"))
        .map(|scenario| scenario.name)
        .collect();
    let compat = std::fs::read_to_string(repository().join("COMPAT.md")).expect("the contract is there");
    for (name, reason) in DEVIATIONS {
        assert!(compat.contains(reason), "COMPAT.md does not say: {reason}");
        assert!(names.iter().any(|known| known == name), "{name} is not a recorded scenario");
    }
}

fn compare(profile: &str, setup: Setup) {
    let mut server = setup.start().expect("the server starts");
    let (mut equal, mut played) = (0, 0);
    let mut differences = Vec::new();
    for scenario in scenarios(profile).expect("the recordings are readable") {
        if let Some(reason) = exemption(&scenario) {
            println!("{}: not played: {reason}", scenario.name);
            continue;
        }
        let outcome = replay(server.address(), &scenario);
        played += 1;
        equal += outcome.equal;
        differences.extend(outcome.differences);
    }
    println!("{profile}: {played} scenarios, {equal} answers equal, {} different", differences.len());
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    let status = server.terminate().expect("the server ends when told to");
    assert!(Product::under_test() == Product::Apache || status.success(), "SIGTERM ends the server with {status}");
}

fn exemption(scenario: &Scenario) -> Option<&'static str> {
    DEVIATIONS.iter().find(|(name, _)| *name == scenario.name).map(|(_, reason)| *reason)
}
