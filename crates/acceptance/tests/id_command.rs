//! `rookeeper id`: numbers that are given out once, to commands, and to Java and Python beside them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::process::Command;

use rookeeper_acceptance::client::Client;
use rookeeper_acceptance::foreign::{Dialogue, curator_program, output, python};
use rookeeper_acceptance::server::{Server, Setup, rookeeper_binary};
use rustix::process::Signal;

fn id(server: &Server, options: &[&str]) -> Command {
    let mut command = Command::new(rookeeper_binary().unwrap());
    command.args(["id", "--server", &server.address().to_string()]).args(options);
    command
}

fn numbers(text: &str) -> Vec<i64> {
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

#[test]
fn numbers_grow_and_come_in_a_row() {
    let server = Setup::new().start().unwrap();
    assert_eq!(output(id(&server, &["/ids/orders"]), "").unwrap().stdout, "1\n");
    assert_eq!(output(id(&server, &["/ids/orders", "-n", "3"]), "").unwrap().stdout, "2\n3\n4\n");
    let last = output(id(&server, &["/ids/orders"]), "").unwrap();
    assert_eq!((last.stdout.as_str(), last.code), ("5\n", Some(0)));
    let mut client = Client::connect(server.address()).unwrap();
    let (data, stat) = client.get_data("/ids/orders").unwrap();
    assert_eq!((data, stat.version), (Some(5_i64.to_be_bytes().to_vec()), 2), "one write for three numbers");
    client.create("/other", b"text").unwrap();
    let refused = output(id(&server, &["/other"]), "").unwrap();
    assert_eq!((refused.code, refused.stderr.trim_end()), (Some(1), "/other: \"text\" is no count"));
}

/// Commands at the same time, some of them killed, beside Java and Python.
#[test]
fn nobody_is_given_the_number_of_another() {
    let server = Setup::new().config("tickTime", "500").start().unwrap();
    let address = server.address().to_string();
    for (name, flags) in [("Curator", &[][..]), ("kazoo", &["--kazoo"][..])] {
        let path = format!("/ids/{name}");
        let program = if name == "Curator" { curator_program("Directory.java") } else { python("directory.py") };
        let mut other = Dialogue::start(name, program.unwrap(), &address).unwrap();
        other.tell(&format!("ids {path} 100")).unwrap();
        let mut seen = BTreeSet::new();
        for round in 0..10 {
            let options = [&[path.as_str(), "-n", "5"], flags].concat();
            let killed = Dialogue::of("rookeeper id", id(&server, &options)).unwrap();
            let taken = output(id(&server, &options), "").unwrap();
            killed.signal(Signal::KILL).ok();
            let taken = numbers(&taken.stdout);
            assert_eq!(taken.len(), 5, "round {round}");
            assert!(taken.into_iter().all(|number| seen.insert(number)), "round {round}");
        }
        assert!(numbers(&other.answer().unwrap()).into_iter().all(|number| seen.insert(number)), "{name}");
    }
}
