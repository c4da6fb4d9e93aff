//! A watch set at the very moment of a change: either the answer shows the change, or the event follows the answer. Never
//! neither, and never the event before an answer that still shows the old state.

use std::sync::Barrier;
use std::thread;

use anyhow::{Context, Result, ensure};
use rookeeper_acceptance::client::{Client, create_body};
use rookeeper_acceptance::server::{Server, Setup};
use rookeeper_acceptance::wire::{self, Acl, Body, Fields};

/// Writes that do not wait for the disk meet the reads more often.
fn start() -> Server {
    Setup::new().config("forceSync", "no").start().expect("the server starts")
}

const ROUNDS: u32 = 3_000;
const NOTIFICATION: i32 = -1;

/// In each round one connection reads and watches while another one writes. `read` gives the number of the last change that
/// the answer shows, `write` makes the next change.
fn race(
    server: &Server,
    rounds: u32,
    read: impl Fn(&mut Client) -> Result<i32>,
    shown: impl Fn(&[u8]) -> Result<u32>,
    write: impl Fn(&mut Client, u32) -> Result<()> + Sync,
) -> Result<(u32, u32)> {
    let mut reader = Client::connect(server.address())?;
    let mut writer = Client::connect(server.address())?;
    let start = Barrier::new(2);
    let end = Barrier::new(2);
    thread::scope(|scope| {
        let writing = scope.spawn(|| -> Result<()> {
            for round in 1..=rounds {
                start.wait();
                // A failure must not leave the reader waiting.
                let result = write(&mut writer, round);
                end.wait();
                result?;
            }
            Ok(())
        });
        let mut outcome = Ok(());
        let (mut before, mut after) = (0, 0);
        for round in 1..=rounds {
            start.wait();
            if outcome.is_ok() {
                outcome = (|| {
                    let xid = read(&mut reader)?;
                    let reply = loop {
                        let reply = reader.receive_any()?.context("the connection was closed")?;
                        if reply.xid != NOTIFICATION {
                            break reply;
                        }
                    };
                    ensure!(reply.xid == xid, "another answer");
                    let seen = shown(&reply.ok()?.body)?;
                    if seen == round {
                        before += 1;
                        return Ok(());
                    }
                    ensure!(seen == round - 1, "change {seen} in round {round}");
                    after += 1;
                    let event = reader.receive_any().context("the event was lost")?;
                    ensure!(event.is_some_and(|event| event.xid == NOTIFICATION), "no event after the answer");
                    Ok(())
                })()
                .with_context(|| format!("round {round}"));
            }
            end.wait();
        }
        writing.join().expect("the writer does not panic")?;
        outcome.map(|()| (before, after))
    })
}

#[test]
fn data() {
    let server = start();
    Client::connect(server.address()).expect("a session").create("/n", b"0").expect("a node");
    let outcome = race(
        &server,
        ROUNDS,
        |client| client.send(wire::GET_DATA, &Body::new().string("/n").bool(true)),
        |body| Ok(std::str::from_utf8(Fields(body).buffer()?.unwrap_or_default())?.parse()?),
        |client, round| client.set_data("/n", round.to_string().as_bytes(), -1).map(drop),
    );
    println!("changes before and after the answer: {:?}", outcome.expect("no watch is lost"));
}

#[test]
fn children() {
    let server = start();
    Client::connect(server.address()).expect("a session").create("/p", b"").expect("a node");
    let outcome = race(
        &server,
        ROUNDS,
        |client| client.send(wire::GET_CHILDREN, &Body::new().string("/p").bool(true)),
        |body| Ok(Fields(body).int()? as u32),
        |client, round| client.create(&format!("/p/{round}"), b"").map(drop),
    );
    println!("changes before and after the answer: {:?}", outcome.expect("no watch is lost"));
}

/// So many that a server may tell of them in portions, between which the change comes.
#[test]
fn many_children() {
    const CHILDREN: u32 = 4_000;
    const ROUNDS: u32 = 300;
    let server = start();
    let mut client = Client::connect(server.address()).expect("a session");
    client.create("/p", b"").expect("a node");
    for number in 0..CHILDREN {
        let path = format!("/p/{number:0>200}");
        client.send(wire::CREATE, &create_body(&path, None, &Acl::open(), 0)).expect("a request");
    }
    for _ in 0..CHILDREN {
        client.receive().expect("an answer").ok().expect("a node");
    }
    let outcome = race(
        &server,
        ROUNDS,
        |client| client.send(wire::GET_CHILDREN, &Body::new().string("/p").bool(true)),
        |body| Ok(Fields(body).int()? as u32 - CHILDREN),
        |client, round| client.create(&format!("/p/new{round}"), b"").map(drop),
    );
    println!("changes before and after the answer: {:?}", outcome.expect("no watch is lost"));
    // Whatever came in between, all names are there.
    assert_eq!(client.children("/p").expect("a list").len() as u32, CHILDREN + ROUNDS);
}
