//! Figures of ids, configuration and service discovery, ids beside kazoo and Curator on the same ensemble in the same run:
//! `ROOKEEPER_BIN=… cargo run --release -p rookeeper-recipes --example naming_figures`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rookeeper_acceptance::ensemble::Plan;
use rookeeper_acceptance::foreign::{Dialogue, curator_program, python};
use rookeeper_recipes::{Followed, Ids, Instance, Registry, Sessions};
use zookeeper_client::{Acls, Client, CreateMode};

const RUNS: usize = 5;
const IDS: u32 = 2_000;
const CHANGES: u32 = 500;

#[tokio::main]
async fn main() -> Result<()> {
    let ensemble = Plan::under_test(3).for_measurements().start()?;
    let address = ensemble.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut kazoo = Dialogue::start("kazoo", python("directory.py")?, &address)?;
    let mut curator = Dialogue::start("Curator", curator_program("Directory.java")?, &address)?;
    let connector = Client::connector().with_session_timeout(Duration::from_secs(30));
    let sessions = Sessions::new(connector.clone(), &address);
    let client = sessions.client().await?;
    // Whoever runs for the first time is slow.
    kazoo.ask("ids /warm/kazoo 200")?;
    curator.ask("ids /warm/curator 200")?;
    let (mut ours, mut batches, mut theirs, mut javas) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS {
        ours.push(ids(&client, &format!("/ids/ours-{run}"), 1).await?);
        batches.push(ids(&client, &format!("/ids/batches-{run}"), 100).await?);
        theirs.push(asked(&mut kazoo, &format!("ids /ids/kazoo-{run} {IDS}"))?);
        javas.push(asked(&mut curator, &format!("ids /ids/curator-{run} {IDS}"))?);
    }
    println!(
        "an id in microseconds, median of {RUNS}: one by one {}, in batches of 100 {}, kazoo {}, Curator {}",
        median(ours),
        median(batches),
        median(theirs),
        median(javas)
    );
    println!(
        "a change until another session's value has it, in microseconds, median: {}",
        change(&sessions, connector, &address).await?
    );
    println!(
        "a registration until another session's list has it, in microseconds, median: {}",
        registration(&sessions, &address).await?
    );
    Ok(())
}

async fn ids(client: &Client, path: &str, batch: u32) -> Result<u64> {
    let ids = Ids::new(client, path).in_batches_of(batch);
    let start = Instant::now();
    for _ in 0..IDS {
        ids.next().await?;
    }
    Ok(start.elapsed().as_micros() as u64 / u64::from(IDS))
}

fn asked(other: &mut Dialogue, question: &str) -> Result<u64> {
    let start = Instant::now();
    other.ask(question)?;
    Ok(start.elapsed().as_micros() as u64 / u64::from(IDS))
}

/// From the call of the write on.
async fn change(sessions: &Sessions, connector: zookeeper_client::Connector, address: &str) -> Result<u64> {
    let writer = connector.connect(address).await?;
    writer.create("/config", b"0", &CreateMode::Persistent.with_acls(Acls::anyone_all())).await?;
    let followed = Followed::node(sessions, "/config", |data| {
        std::str::from_utf8(data)?.parse::<u32>().map_err(anyhow::Error::from)
    });
    followed.value().await?;
    let mut states = followed.changes();
    let mut figures = Vec::new();
    for number in 1..=CHANGES {
        let start = Instant::now();
        let write = writer.set_data("/config", number.to_string().as_bytes(), None);
        while states.next().await.context("it is followed")?.value.is_none_or(|value| *value < number) {}
        figures.push(start.elapsed().as_micros() as u64);
        write.await?;
    }
    Ok(median(figures))
}

async fn registration(sessions: &Sessions, address: &str) -> Result<u64> {
    let service = Registry::new(sessions, "/services").service("web");
    let mut states = service.changes();
    let registry = Registry::new(&Sessions::new(Client::connector(), address), "/services");
    let mut figures = Vec::new();
    for _ in 0..CHANGES / 5 {
        let instance = Instance::new("web", "10.0.0.1", 80);
        let id = instance.id.clone();
        let start = Instant::now();
        let registration = registry.register(instance).await?;
        while states
            .next()
            .await
            .context("it is followed")?
            .value
            .is_none_or(|list| list.live.iter().all(|other| other.id != id))
        {}
        figures.push(start.elapsed().as_micros() as u64);
        registration.leave().await?;
    }
    Ok(median(figures))
}

fn median(mut figures: Vec<u64>) -> u64 {
    figures.sort_unstable();
    figures[figures.len() / 2]
}
