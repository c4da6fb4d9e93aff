//! Another tree in the place of the one that is served.

mod common;

use common::{Client, World, ensemble};
use rookeeper_proto::{SessionId, Zxid};
use rookeeper_replica::{Deadline, Input, NotRestored, Output, Settings, Store, Stored};
use rookeeper_tree::Tree;

/// What a server has served: the tree after `/before` was made, and `/lock` by a session that is in the tree.
fn earlier() -> Box<Tree> {
    let mut world = World::new();
    let mut client = world.connect();
    world.create(&mut client, "/before");
    world.create_with(&mut client, "/lock", b"", 1);
    world.sync();
    let mut tree = Tree::new();
    for record in world.log {
        tree.apply(&record.header, record.txn, &mut Vec::new());
    }
    tree.finish_without_sessions();
    Box::new(tree)
}

/// A server with `/after` at 0x2, and its client.
fn server() -> (World, Client) {
    let mut world = World::new();
    let mut client = world.connect();
    world.create(&mut client, "/after");
    world.sync();
    client.received();
    (world, client)
}

impl World {
    fn restore(&mut self, tree: Box<Tree>) {
        self.handle(Input::Restore { tree });
    }

    /// The storage does the one thing it was asked for.
    fn stored(&mut self) {
        let Some(Store::Restore { zxid, tree }) = self.stores.pop_front() else { panic!("a tree is to be stored") };
        assert!(self.stores.is_empty() && tree.last_zxid() == zxid);
        self.handle(Input::Stored(Stored::Restored { zxid, tree }));
    }

    fn cannot_store(&mut self) {
        assert!(self.stores.pop_front().is_some());
        self.handle(Input::Stored(Stored::NotRestored { why: "the disk is full".to_owned() }));
    }

    fn has(&self, path: &str) -> bool {
        self.shared.tree().node(path).is_some()
    }
}

#[test]
fn a_tree_is_served_once_it_is_durable_behind_everything_else() {
    let (mut world, mut client) = server();
    world.create(&mut client, "/on-its-way");
    world.restore(earlier());
    // What is on its way comes first, and is answered.
    assert!(world.stores.is_empty() && world.replica.holds_requests());
    world.sync();
    assert_eq!(client.received(), ["2 ok at 0x3"]);
    assert!(world.has("/after") && world.notices.is_empty() && !client.is_cut());
    world.stored();
    assert_eq!(world.notices, ["Restored(Ok(Zxid(4)))"]);
    assert!(world.has("/before") && !world.has("/after") && !world.has("/on-its-way"));
    assert!(client.is_cut() && !world.replica.holds_requests());
    // The log goes on behind the tree.
    let mut other = world.connect();
    world.create(&mut other, "/next");
    world.sync();
    assert_eq!(other.received(), ["1 ok at 0x6"]);
    assert_eq!(world.shared.tree().last_zxid(), Zxid(6));
}

#[test]
fn numbers_go_on_above_those_of_the_tree_that_is_restored() {
    for (theirs, number) in [(Zxid::new(7, 9), Zxid::new(7, 10)), (Zxid::new(7, u32::MAX), Zxid::new(8, 1))] {
        let (mut world, _) = server();
        let mut tree = earlier();
        tree.set_last_zxid(theirs);
        world.restore(tree);
        world.stored();
        assert_eq!(world.shared.tree().last_zxid(), number);
    }
}

#[test]
fn every_session_is_over() {
    let (mut world, client) = server();
    world.restore(earlier());
    // The session may be one of the tree that is restored, too.
    assert_eq!(client.session, SessionId(world.shared.sessions().iter().next().unwrap().0.0));
    world.stored();
    assert!(world.reconnect(&client).is_none(), "what the client knows is not so any more");
    assert!(!world.has("/lock") && world.shared.sessions().iter().count() == 0);
}

#[test]
fn requests_wait_and_go_on_as_they_came_where_nothing_can_be_stored() {
    let (mut world, mut client) = server();
    world.restore(earlier());
    world.create(&mut client, "/waits");
    world.get(&mut client, "/waits", false);
    let newcomer = world.dial(SessionId::NONE, [0; 16], Zxid(0));
    assert_eq!((world.log.len(), client.received().len()), (2, 0));
    world.cannot_store();
    world.sync();
    assert_eq!(client.received(), ["2 ok at 0x3", "3 ok at 0x3"]);
    assert_eq!(world.notices, ["Restored(Err(NotWritten(\"the disk is full\")))"]);
    assert!(world.has("/after") && !client.is_cut());
    assert!(!Client::on(newcomer, SessionId::NONE).is_cut() && world.shared.sessions().iter().count() == 2);
}

#[test]
fn requests_that_waited_for_a_tree_of_which_their_clients_know_nothing_are_not_done() {
    let (mut world, mut client) = server();
    world.restore(earlier());
    world.create(&mut client, "/waits");
    let newcomer = world.dial(SessionId::NONE, [0; 16], Zxid(0));
    world.stored();
    world.sync();
    assert!(client.is_cut() && client.connection.in_flight() == 0 && !world.has("/waits"));
    assert!(!Client::on(newcomer, SessionId::NONE).is_cut() && world.shared.sessions().iter().count() == 1);
}

#[test]
fn no_session_ends_for_the_time_that_it_takes() {
    let (mut world, client) = server();
    world.connection_ends(&client);
    world.pass_ms(3000);
    world.restore(earlier());
    assert_eq!(world.replica.deadline(), Deadline::Never);
    world.pass_ms(60_000);
    world.cannot_store();
    assert!(world.log.len() == 2, "nothing expires before everybody could be heard");
    assert!(world.reconnect(&client).is_some());
}

#[test]
fn one_tree_at_a_time_is_restored() {
    let (mut world, _) = server();
    world.restore(earlier());
    world.restore(earlier());
    assert_eq!(world.notices, ["Restored(Err(Busy))"]);
    world.stored();
    world.restore(earlier());
    world.stored();
    assert_eq!(world.notices[1..], ["Restored(Ok(Zxid(4)))", "Restored(Ok(Zxid(5)))"]);
}

#[test]
fn watches_of_the_tree_before_say_nothing_of_the_next() {
    let (mut world, mut client) = server();
    world.exists(&mut client, "/next", true);
    client.received();
    world.restore(earlier());
    world.stored();
    let mut other = world.connect();
    world.create(&mut other, "/next");
    world.sync();
    assert!(client.received().is_empty(), "a client that is cut hears nothing");
    assert_eq!(other.received(), ["1 ok at 0x6"]);
}

#[test]
fn nothing_is_reaped_meanwhile() {
    let (mut world, _) = server();
    world.restore(earlier());
    let interval_ms = Settings::default().reaping.interval_ms;
    world.pass_ms(3 * interval_ms);
    assert_eq!(world.log.len(), 2);
}

#[test]
fn a_member_takes_no_other_tree() {
    let mut ensemble = ensemble::World::new(3, &[]);
    ensemble.settle();
    let (leader, now) = (ensemble.leader(), ensemble.now());
    let node = &mut ensemble.nodes[leader];
    node.replica.handle(now, Input::Restore { tree: earlier() });
    let output = node.replica.poll();
    assert!(matches!(output, Some(Output::Restored(Err(NotRestored::Member)))), "{output:?}");
}

impl World {
    fn connection_ends(&mut self, client: &Client) {
        self.handle(Input::Disconnected { connection: client.connection.clone() });
    }
}
