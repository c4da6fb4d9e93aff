//! Elections shared with kazoo (Python) and Apache Curator (Java): one leads, the others see all candidates, and the next leads when the leader is killed.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{DEADLINE, client};
use rookeeper_acceptance::foreign::{Dialogue, curator_program, python};
use rookeeper_acceptance::server::Setup;
use rookeeper_recipes::{Candidates, Election};

/// The other stands first and leads, we wait; it resigns, and later is killed while it leads.
async fn share(candidates: Candidates, program: &str, elect: &str) {
    let server = Setup::new().config("tickTime", "500").config("maxSessionTimeout", "60000").start().unwrap();
    let address = server.address().to_string();
    let command = if program == "kazoo" { python("contender.py") } else { curator_program("Contender.java") };
    let mut other = Dialogue::start(program, command.unwrap(), &address).unwrap();
    let client = client(&address, Duration::from_secs(30)).await;
    let election = Election::new(&client, "/election").among(candidates).with_id("ours");
    let ids = async || -> Vec<String> {
        let candidates = election.candidates().await.unwrap();
        candidates.into_iter().map(|candidate| String::from_utf8(candidate.data).unwrap()).collect()
    };
    assert_eq!(other.ask(&format!("{elect} /election theirs")).unwrap(), "leading");
    let ours = tokio::spawn({
        let election = election.clone();
        async move { election.campaign().await.unwrap() }
    });
    common::eventually("we stand behind", async || ids().await == ["theirs", "ours"]).await;
    assert!(!ours.is_finished());
    if candidates != Candidates::LeaderSelector {
        let mut seen: Vec<String> = other.ask("candidates /election").unwrap().split(' ').map(str::to_owned).collect();
        seen.sort();
        assert_eq!(seen, ["ours", "theirs"], "the other sees us");
    }
    assert_eq!(other.ask("resign /election").unwrap(), "resigned");
    let leadership = tokio::time::timeout(DEADLINE, ours).await.unwrap().unwrap();
    // Now the other waits behind us, leads, and is killed.
    other.tell(&format!("{elect} /election theirs")).unwrap();
    common::eventually("the other stands behind", async || ids().await == ["ours", "theirs"]).await;
    let token = leadership.token();
    leadership.release().await.unwrap();
    assert_eq!(other.answer().unwrap(), "leading");
    other.kill().unwrap();
    let again =
        tokio::time::timeout(DEADLINE, election.campaign()).await.expect("the session of the killed ends").unwrap();
    assert!(again.token() > token);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_leader_latch() {
    share(Candidates::LeaderLatch, "Curator", "elect").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_leader_selector() {
    share(Candidates::LeaderSelector, "Curator", "select").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_kazoo() {
    share(Candidates::Kazoo, "kazoo", "elect").await;
}
