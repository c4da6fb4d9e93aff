//! One thing after another happens to a minority of the servers, chosen by a seed, while clients write and read.
//!
//! `ROOKEEPER_ROUNDS` says how many, `ROOKEEPER_SEED` which ones.

use anyhow::Result;
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::load::Load;
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::server::Product;
use rookeeper_acceptance::verdict::judge;

const ROUNDS: u64 = 5;

fn one_thing_after_another(plan: Plan, name: &str) {
    let mut random = Random::from_environment(name);
    let rounds = match std::env::var("ROOKEEPER_ROUNDS") {
        Ok(text) => text.parse().expect("ROOKEEPER_ROUNDS is a number"),
        Err(_) => ROUNDS,
    };
    let mut ensemble = plan.start().expect("the servers form an ensemble");
    let load = Load::start(&ensemble.addresses(), &mut random).expect("clients are served");
    for round in 0..rounds {
        let happened = happen(&mut ensemble, &load, &mut random, round);
        happened.unwrap_or_else(|error| panic!("round {round}: {error:#}"));
    }
    judge(&mut ensemble, load).expect("nothing is lost and nothing contradicts");
}

/// To one server, and to a second one where there are five: it goes away in some way, and comes back in some way.
fn happen(ensemble: &mut Ensemble, load: &Load, random: &mut Random, round: u64) -> Result<()> {
    let count = 1 + random.below((ensemble.ids().len() as u64 - 1) / 2);
    let mut victims = ensemble.ids();
    while victims.len() as u64 > count {
        victims.remove(random.below(victims.len() as u64) as usize);
    }
    let frozen = random.below(3) == 0;
    for id in &victims {
        match random.below(2) {
            _ if frozen => ensemble.freeze(*id)?,
            0 => ensemble.kill(*id)?,
            _ => ensemble.stop(*id)?,
        }
    }
    // At once, before anybody has noticed, or later.
    let is_noticed = random.below(3) != 0;
    println!("round {round}: {victims:?} {}", if frozen { "frozen" } else { "gone" });
    if is_noticed {
        load.wait_progress()?;
    }
    for id in &victims {
        if frozen { ensemble.thaw(*id)? } else { ensemble.start(*id)? }
    }
    if random.below(3) == 0 {
        // Clients find what they need while these are still on their way.
        load.wait_progress()?;
    }
    ensemble.wait_formed()?;
    load.wait_progress()
}

#[test]
fn three_servers() {
    one_thing_after_another(Plan::under_test(3), "three_servers");
}

#[test]
fn five_servers() {
    one_thing_after_another(Plan::under_test(5), "five_servers");
}

#[test]
fn both_products() {
    let ours = Product::under_test();
    one_thing_after_another(Plan::of(&[ours, Product::Apache, ours]), "both_products");
}
