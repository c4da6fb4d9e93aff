//! Reads that look at many nodes are answered in portions, between which the tree may change.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Client, World};
use rookeeper_proto::jute;
use rookeeper_proto::{OpCode, Zxid};
use rookeeper_replica::long_read::{LongRead, is_long, lists_many};
use rookeeper_replica::outbox::Excess;
use rookeeper_replica::{Settings, read};
use rookeeper_tree::Tree;

const NODES: usize = 2500;

fn world() -> (World, Client) {
    let mut world = World::new();
    let mut client = world.connect();
    world.create(&mut client, "/p");
    for number in 0..NODES {
        world.create_with(&mut client, &format!("/p/{number:04}"), b"data", 0);
    }
    world.sync();
    client.received();
    (world, client)
}

/// Reads of data and of children, every tenth of a node that is not there.
fn multi_read(ops: usize, then: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for number in 0..ops {
        let (op, path) = match number % 10 {
            0 => (OpCode::GetData, "/missing".to_owned()),
            1 => (OpCode::GetChildren, format!("/p/{number:04}")),
            _ => (OpCode::GetData, format!("/p/{number:04}")),
        };
        jute::append(&mut body, &(op.number(), false, -1));
        jute::append(&mut body, &(path.as_str(), false));
    }
    body.extend_from_slice(then);
    body
}

fn end() -> Vec<u8> {
    jute::to_vec(&(-1, true, -1))
}

/// The frames of a long read, and how many portions it took; `between` runs while the tree is free.
fn in_portions(
    world: &mut World,
    client: &mut Client,
    (op, body): (OpCode, &[u8]),
    mut between: impl FnMut(&mut World, &mut Client),
) -> (Vec<u8>, usize) {
    assert!(is_long(op, body.len()) || lists_many(&world.shared.tree(), op, body));
    let (mut long, mut output, mut portions) = (LongRead::new((7, op, body)), Vec::new(), 1);
    let connection = client.connection.clone();
    loop {
        let identities = connection.identities();
        let tree = world.shared.tree();
        let (_, done) = long.go_on(&world.shared, &tree, &connection, &identities, &mut output);
        drop(tree);
        if done {
            return (output, portions);
        }
        portions += 1;
        between(world, client);
    }
}

fn at_once(world: &World, client: &Client, (op, body): (OpCode, &[u8])) -> Vec<u8> {
    let (mut output, tree) = (Vec::new(), world.shared.tree());
    let identities = client.connection.identities();
    read::answer(&world.shared, &tree, &client.connection, &identities, (7, op, body), &mut output);
    output
}

#[test]
fn the_answer_is_the_one_that_is_given_at_once() {
    let (mut world, mut client) = world();
    let foreign = jute::to_vec(&(OpCode::Create.number(), false, -1));
    for (op, body) in [
        (OpCode::MultiRead, multi_read(NODES, &end())),
        (OpCode::MultiRead, multi_read(NODES, &foreign)),
        (OpCode::MultiRead, vec![9; 20_000]),
        (OpCode::GetAllChildrenNumber, jute::to_vec(&"/p")),
        (OpCode::GetAllChildrenNumber, jute::to_vec(&"/missing")),
        (OpCode::GetAllChildrenNumber, jute::to_vec(&"/")),
        (OpCode::GetAllChildrenNumber, jute::to_vec(&"")),
        (OpCode::GetAllChildrenNumber, Vec::new()),
    ] {
        let (answer, _) = in_portions(&mut world, &mut client, (op, &body), |_, _| {});
        assert!(answer == at_once(&world, &client, (op, &body)), "{op:?} of {} bytes", body.len());
    }
    // As in the original the empty path counts the root too.
    let number = |body: &[u8]| i32::from_be_bytes(*body.last_chunk().unwrap());
    let count = |path: &str| number(&at_once(&world, &client, (OpCode::GetAllChildrenNumber, &jute::to_vec(&path))));
    assert_eq!((count("/"), count("")), (NODES as i32 + 4, NODES as i32 + 5));
}

#[test]
fn others_change_the_tree_between_portions() {
    let (mut world, mut client) = world();
    let body = multi_read(NODES, &end());
    let mut writer = world.connect();
    let (answer, portions) = in_portions(&mut world, &mut client, (OpCode::MultiRead, &body), |world, _| {
        world.set(&mut writer, "/p/0009", b"changed");
        world.set(&mut writer, "/p/2499", b"changed");
        world.sync();
    });
    assert_eq!(portions, 3);
    let zxid = Zxid(i64::from_be_bytes(answer[8..16].try_into().unwrap()));
    assert_eq!(zxid, world.shared.tree().last_zxid(), "the answer is as recent as its last part");
    assert_eq!(answer.windows(7).filter(|bytes| bytes == b"changed").count(), 1);
}

#[test]
fn watches_of_a_reconnecting_client_are_set_in_portions() {
    let (mut world, mut client) = world();
    let mut writer = world.connect();
    let seen = world.shared.tree().last_zxid();
    world.set(&mut writer, "/p/0005", b"changed");
    world.sync();
    let paths: Vec<String> = (0..NODES).map(|number| format!("/p/{number:04}")).collect();
    let none: Vec<String> = Vec::new();
    let body = jute::to_vec(&(seen.0, &paths, &none, &none));
    let (answer, portions) = in_portions(&mut world, &mut client, (OpCode::SetWatches, &body), |world, _| {
        assert!(world.shared.watches().watch_count() > 0);
    });
    assert_eq!((portions, world.shared.watches().watch_count()), (3, NODES - 1));
    // The event of what was missed comes before the answer.
    assert_eq!(i32::from_be_bytes(answer[4..8].try_into().unwrap()), -1);
    assert_eq!(
        world.shared.statistics.watch_bytes.load(std::sync::atomic::Ordering::Relaxed) as usize,
        answer.len() - 20
    );
}

/// A node whose children have names of so many bytes together that they are told in three portions.
fn with_many_children(world: &mut World, client: &mut Client) {
    world.create(client, "/many");
    for number in 0..NODES {
        world.create(client, &format!("/many/{number:04}{}", "x".repeat(230)));
    }
    world.sync();
    client.received();
}

#[test]
fn many_children_are_those_of_one_moment_and_what_happens_later_is_told_later() {
    let mut world = World::new();
    let (mut client, mut writer) = (world.connect(), world.connect());
    with_many_children(&mut world, &mut writer);
    for (op, watch) in [(OpCode::GetChildren, true), (OpCode::GetChildren2, true), (OpCode::GetChildren2, false)] {
        let body = jute::to_vec(&("/many", watch));
        let expected = at_once(&world, &client, (op, &body));
        let mut number = 0;
        let (mut answer, portions) = in_portions(&mut world, &mut client, (op, &body), |world, client| {
            // A connection that is waited for gets nothing out of turn.
            world.delete(&mut writer, &format!("/many/{number:04}{}", "x".repeat(230)));
            world.create(&mut writer, &format!("/many/new{number:04}"));
            world.sync();
            assert_eq!(client.received(), Vec::<String>::new());
            number += 1;
        });
        assert!(answer == expected && portions == 3, "{op:?}: {portions} portions");
        client.connection.outbox.fill(1, &mut answer);
        let told = client.received();
        assert!(told[0].starts_with("7 ok at"), "{told:?}");
        assert_eq!(told.len(), 1 + usize::from(watch));
        assert!(!watch || told[1].starts_with("event ChildrenChanged /many at"), "{told:?}");
        for number in 0..number {
            world.create(&mut writer, &format!("/many/{number:04}{}", "x".repeat(230)));
            world.delete(&mut writer, &format!("/many/new{number:04}"));
        }
        world.sync();
        client.received();
    }
    assert!(!lists_many(&world.shared.tree(), OpCode::GetChildren2, &jute::to_vec(&("/", false))));
    assert!(!lists_many(&world.shared.tree(), OpCode::GetData, &jute::to_vec(&("/many", false))));
}

#[test]
fn an_answer_is_weighed_while_it_grows() {
    let settings = |max_client_bytes| Settings { max_client_bytes, ..Settings::default() };
    for (limit, portions) in [(64 << 20, 3), (800 << 10, 2)] {
        let mut world = World::with(settings(limit), Tree::new());
        let (mut client, mut writer) = (world.connect(), world.connect());
        with_many_children(&mut world, &mut writer);
        let (body, mut held) = (jute::to_vec(&("/many", false)), Vec::new());
        let (answer, taken) = in_portions(&mut world, &mut client, (OpCode::GetChildren, &body), |world, client| {
            held.push(client.connection.account().held_bytes());
            assert_eq!(world.shared.budget.held_bytes(), held[held.len() - 1]);
        });
        assert_eq!(taken, portions);
        assert_eq!((world.shared.budget.held_bytes(), client.connection.account().held_bytes()), (0, 0));
        if portions == 3 {
            assert!(held[0] > 200 << 10 && held[1] > held[0] && answer.len() > 500_000, "{held:?}");
        } else {
            // A quarter is for one connection.
            assert_eq!((held, answer.len()), (vec![0], 20), "what was made of it is given up");
            assert_eq!(client.connection.outbox.excess(), Some(Excess::Unsent(limit / 4)));
        }
    }
}

#[test]
fn what_a_session_owns_is_listed_in_portions_while_others_own_more() {
    let (mut world, mut client) = world();
    let mut owner = world.connect();
    for number in 0..NODES {
        let above = if number % 2 == 0 { "/p/0003" } else { "/p/0004" };
        world.create_with(&mut owner, &format!("{above}/e{number:04}"), b"", 1);
    }
    world.sync();
    owner.received();
    let at_or_below = |path: Option<&str>| jute::to_vec(&path);
    for (path, count) in [(Some("/p/0003"), NODES / 2), (Some("/"), NODES), (None, NODES), (Some("/missing"), 0)] {
        let body = at_or_below(path);
        let mut number = 0;
        let request = (OpCode::GetEphemerals, body.as_slice());
        let (answer, portions) = in_portions(&mut world, &mut owner, request, |world, _| {
            // Somebody else owns more meanwhile.
            world.create_with(&mut client, &format!("/p/0005/x{number:04}"), b"", 1);
            world.sync();
            number += 1;
        });
        assert_eq!(portions, 3, "{path:?}");
        let names: Vec<String> = jute::from_slice(&answer[20..]).unwrap();
        let mut distinct = names.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!((names.len(), distinct.len()), (count, count), "{path:?}");
        assert!(names.iter().all(|name| name.starts_with(path.unwrap_or("/")) && name.contains("/e")));
        assert_eq!(answer[20..], at_once(&world, &owner, request)[20..], "{path:?}");
        for number in 0..number {
            world.delete(&mut client, &format!("/p/0005/x{number:04}"));
        }
        world.sync();
    }
    // Of a session that owns nothing, and one that says nothing that can be read.
    let nobody = world.connect();
    for body in [at_or_below(Some("/")), Vec::new()] {
        let request = (OpCode::GetEphemerals, body.as_slice());
        let (answer, _) = in_portions(&mut world, &mut owner, request, |_, _| {});
        assert!(answer == at_once(&world, &owner, request));
    }
    assert_eq!(at_once(&world, &nobody, (OpCode::GetEphemerals, &at_or_below(None)))[20..], [0; 4]);
}
