//! kazoo, the Python client, with its recipes. What is checked stands in `tests/clients/kazoo`.

use rookeeper_acceptance::foreign::{python, run};
use rookeeper_acceptance::server::Setup;

fn run_script(name: &str) {
    // server_version() of kazoo asks with the word `envi`.
    let mut server = Setup::new().config("4lw.commands.whitelist", "*").start().expect("the server starts");
    let program = python(name).expect("kazoo is installed");
    run(program, &mut server).unwrap_or_else(|error| panic!("{name}: {error:#}"));
}

#[test]
fn operations() {
    run_script("operations.py");
}

#[test]
fn watches_across_a_restart() {
    run_script("watches.py");
}

#[test]
fn sessions_end() {
    run_script("sessions.py");
}

#[test]
fn locks_and_elections() {
    run_script("locks.py");
}

#[test]
fn recipes() {
    run_script("recipes.py");
}
