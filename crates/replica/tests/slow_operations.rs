//! Operations that took long are told, by the times that the replica was given; others are not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::World;
use rookeeper_proto::OpCode;
use rookeeper_proto::jute;
use rookeeper_proto::request::PathRequest;
use rookeeper_replica::Settings;
use rookeeper_tree::Tree;

#[test]
fn a_write_and_the_read_behind_it_are_told_once_they_took_so_long() {
    let settings = Settings { slow_write_ns: 50_000_000, slow_read_ns: 30_000_000, ..Settings::default() };
    let mut world = World::with(settings, Tree::new());
    let mut client = world.connect();
    world.create(&mut client, "/quick");
    world.pass_ms(49);
    world.sync();
    assert!(!world.notices.iter().any(|notice| notice.starts_with("Slow")), "{:?}", world.notices);
    world.create(&mut client, "/slow");
    world.pass_ms(20);
    let mut body = Vec::new();
    jute::append(&mut body, &PathRequest { path: Some("/slow".into()) });
    world.read(&mut client, OpCode::GetAllChildrenNumber, body);
    world.pass_ms(30);
    world.sync();
    let told: Vec<&String> = world.notices.iter().filter(|notice| notice.starts_with("Slow")).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("op: Create,") && told[0].contains("Some(\"/slow\")"), "{told:?}");
    assert!(told[1].contains("op: GetAllChildrenNumber,") && told[1].contains("handed_over: None"), "{told:?}");
}
