//! Figures of locks and elections, beside kazoo and Curator on the same ensemble in the same run:
//! `ROOKEEPER_BIN=… cargo run --release -p rookeeper-recipes --example figures`.

use std::time::{Duration, Instant};

use anyhow::Result;
use rookeeper_acceptance::ensemble::Plan;
use rookeeper_acceptance::foreign::{Dialogue, curator_program, python};
use rookeeper_recipes::{Election, Mutex};
use zookeeper_client::Client;

/// How often each figure is taken; the median counts.
const RUNS: usize = 5;

#[tokio::main]
async fn main() -> Result<()> {
    let ensemble = Plan::under_test(3).for_measurements().start()?;
    let address = ensemble.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut kazoo = Dialogue::start("kazoo", python("contender.py")?, &address)?;
    let mut curator = Dialogue::start("Curator", curator_program("Contender.java")?, &address)?;
    let client = Client::connector().with_session_timeout(Duration::from_secs(30)).connect(&address).await?;
    println!("lock hand-over in microseconds, median of {RUNS}: waiters, ours, kazoo, Curator");
    for waiters in [2_usize, 10, 100] {
        let (mut ours, mut theirs, mut javas) = (Vec::new(), Vec::new(), Vec::new());
        for run in 0..RUNS {
            ours.push(hand_over(&client, &format!("/ours-{waiters}-{run}"), waiters).await?);
            theirs.push(kazoo.ask(&format!("handover /kazoo-{waiters}-{run} {waiters}"))?.parse()?);
            javas.push(curator.ask(&format!("handover /curator-{waiters}-{run} {waiters}"))?.parse()?);
        }
        println!("{waiters}, {}, {}, {}", median(ours), median(theirs), median(javas));
    }
    let mut fail_over = Vec::new();
    for _ in 0..RUNS {
        let first = Client::connector().connect(&address).await?;
        let leader = Election::new(&first, "/election").campaign().await?;
        let election = Election::new(&client, "/election");
        let next = tokio::spawn(async move { election.campaign().await.map(|leader| (Instant::now(), leader)) });
        while Election::new(&client, "/election").candidates().await?.len() < 2 {}
        let start = Instant::now();
        // The session closes, as that of a process that ends in order.
        leader.release().await?;
        let (leads, _leader) = next.await??;
        fail_over.push((leads - start).as_micros() as u64);
    }
    println!("election, from a resignation until the next leads: {} microseconds", median(fail_over));
    Ok(())
}

/// So many contenders wait; then the lock goes through all of them.
async fn hand_over(client: &Client, path: &str, waiters: usize) -> Result<u64> {
    let lock = Mutex::new(client, path);
    let first = lock.acquire().await?;
    let tasks: Vec<_> = (0..waiters)
        .map(|_| {
            let lock = lock.clone();
            tokio::spawn(async move { lock.acquire().await?.release().await })
        })
        .collect();
    while lock.contenders().await?.len() <= waiters {}
    let start = Instant::now();
    first.release().await?;
    for task in tasks {
        task.await??;
    }
    Ok(start.elapsed().as_micros() as u64 / waiters as u64)
}

fn median(mut figures: Vec<u64>) -> u64 {
    figures.sort_unstable();
    figures[figures.len() / 2]
}
