//! Whatever happens to messages and links: once it stops, there is one leader soon, and its history is no older than a quorum's.

use rookeeper_proto::{Epoch, ServerId, Zxid};
use rookeeper_zab::election::Candidacy;
use rookeeper_zab::{Membership, Memberships};

use super::network::{Kind, Network};

/// Members 1 to `voters`, and `observers` more.
pub fn membership(voters: i64, observers: i64) -> Memberships {
    let line = |id: i64| {
        let role = if id <= voters { "participant" } else { "observer" };
        format!("server.{id}=host{id}:2888:3888:{role}\n")
    };
    let text: String = (1..=voters + observers).map(line).collect();
    Memberships::settled(Membership::parse_text(text, false).unwrap())
}

pub fn candidacy(epoch: u32, counter: u32) -> Candidacy {
    Candidacy { zxid: Some(Zxid::new(epoch, counter)), epoch: Epoch(epoch) }
}

/// What a run is about.
struct Story {
    seed: u64,
    voters: i64,
    observers: i64,
    mixed: bool,
}

impl Story {
    fn network(&self, longest_delay_ms: i64, loss: u64) -> Network {
        Network::new(membership(self.voters, self.observers), self.seed, (1, longest_delay_ms), loss)
    }

    fn kind(&self, network: &mut Network) -> Kind {
        if self.mixed && network.random(2) == 0 { Kind::Original } else { Kind::Ours }
    }

    fn assert_led(&self, network: &mut Network, within_ms: i64) -> ServerId {
        let since_ms = network.now_ms;
        let led = network.run_until_led(since_ms + within_ms);
        led.unwrap_or_else(|| panic!("seed {}: no leader within {within_ms} ms\n{}", self.seed, network.transcript))
    }
}

#[test]
fn without_faults_the_best_history_leads_within_the_wait_for_a_better_one() {
    for seed in 0..2000 {
        let story = Story { seed, voters: 3 + 2 * (seed as i64 % 2), observers: seed as i64 % 3, mixed: false };
        let mut network = story.network(5, 0);
        let mut best = None;
        for server in 1..=story.voters + story.observers {
            let candidacy = candidacy(1 + network.random(2) as u32, network.random(3) as u32);
            network.start(server, Kind::Ours, candidacy);
            if server <= story.voters {
                best = best.max(Some((candidacy.epoch, candidacy.zxid, server)));
            }
        }
        let leader = story.assert_led(&mut network, 250);
        assert_eq!(Some(leader.0), best.map(|best| best.2), "seed {seed}\n{}", network.transcript);
    }
}

#[test]
fn survivors_of_a_leader_agree_without_waiting() {
    for seed in 0..1000 {
        let story = Story { seed, voters: 5, observers: 0, mixed: false };
        let mut network = story.network(5, 0);
        for server in 1..=5 {
            network.start(server, Kind::Ours, candidacy(1, 1));
        }
        let leader = story.assert_led(&mut network, 250);
        network.run_until(network.now_ms + 1000);
        network.kill(leader.0);
        // Five hops of at most 5 ms, and a connect.
        story.assert_led(&mut network, 40);
    }
}

/// Breaks links, cuts them, kills and restarts servers for a while; then everything works.
fn turmoil(story: &Story, heal_within_ms: i64) -> u64 {
    let mut network = story.network(30, 20);
    let servers = story.voters + story.observers;
    let mut alive = vec![false; servers as usize + 1];
    for _ in 0..40 {
        let server = 1 + network.random(servers as u64) as i64;
        let other = 1 + network.random(servers as u64) as i64;
        let (a, b) = (ServerId(server), ServerId(other));
        match network.random(6) {
            _ if !alive[server as usize] => {
                let kind = story.kind(&mut network);
                let candidacy = candidacy(1 + network.random(2) as u32, network.random(3) as u32);
                network.start(server, kind, candidacy);
                alive[server as usize] = true;
            }
            0 => {
                network.kill(server);
                alive[server as usize] = false;
            }
            1 if a != b => network.drop_link(a, b),
            2 if a != b => network.cut(a, b, true),
            3 if a != b => network.cut(a, b, false),
            _ => {}
        }
        let pause_ms = network.random(300) as i64;
        network.run_until(network.now_ms + pause_ms);
    }
    network.heal();
    for server in 1..=servers {
        if !alive[server as usize] {
            network.start(server, Kind::Ours, candidacy(1, 0));
        }
    }
    story.assert_led(&mut network, heal_within_ms);
    network.messages
}

#[test]
fn after_any_turmoil_there_is_one_leader() {
    for seed in 0..1500 {
        let story = Story { seed, voters: [3, 4, 5][seed as usize % 3], observers: seed as i64 % 2, mixed: false };
        let messages = turmoil(&story, 10_000);
        assert!(messages < 20_000, "seed {seed}: {messages} messages");
    }
}

#[test]
fn after_any_turmoil_there_is_one_leader_in_mixed_ensembles() {
    for seed in 0..1500 {
        let story = Story { seed, voters: [3, 5][seed as usize % 2], observers: 0, mixed: true };
        let messages = turmoil(&story, 10_000);
        assert!(messages < 20_000, "seed {seed}: {messages} messages");
    }
}
