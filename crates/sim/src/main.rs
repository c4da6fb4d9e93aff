//! `rookeeper-sim`: one life, or many, or the smallest one that fails; or what the checkers make of planted bugs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use rookeeper_sim::patrons::{RECIPES, Recipe};
use rookeeper_sim::scenes::{PLAYS, Play};
use rookeeper_sim::{Fault, Figures, Outcome, Plan, Sabotage, live, planted, shrink};

/// Runs simulated ensembles and says what was wrong, if something was.
#[derive(Debug, Parser)]
#[command(name = "rookeeper-sim", version)]
struct Options {
    /// One life.
    #[arg(long)]
    seed: Option<u64>,
    /// Many: A..B, B excluded.
    #[arg(long)]
    seeds: Option<String>,
    /// So many lives with each planted bug: how often it is seen, and as what.
    #[arg(long)]
    planted: Option<u64>,
    /// Of the planted bugs only those whose names have this in them; with --seed, the life of the seed with the first of them.
    #[arg(long)]
    bug: Option<String>,
    /// Many scenes of this kind in every life: stray, standstill, relapse.
    #[arg(long, value_parser = play)]
    play: Option<Play>,
    /// Two observers at least, and followers that feed them, in every life of more than one server.
    #[arg(long)]
    observer_masters: bool,
    /// Clients that drive this recipe in every life: lock, election, readwrite, semaphore, queue, meeting, counter, group; `all` takes turns.
    #[arg(long)]
    recipe: Option<String>,
    /// Two participants and an oracle in every life.
    #[arg(long)]
    oracle: bool,
    /// Participants of every life, where the seed is not to choose.
    #[arg(long)]
    servers: Option<usize>,
    /// Print what happens.
    #[arg(long)]
    trace: bool,
    /// Leave out what the failure does not need.
    #[arg(long)]
    shrink: bool,
    /// Threads; one by default for each processor.
    #[arg(long)]
    threads: Option<usize>,
    /// Go on after a failure.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(lives) = options.planted {
        table(lives, &options);
        return Ok(());
    }
    match (options.seed, &options.seeds) {
        (Some(seed), None) => one(seed, &options),
        (None, Some(range)) => {
            let (first, end) = range.split_once("..").context("--seeds wants A..B")?;
            many(first.parse()?, end.parse()?, &options)
        }
        _ => bail!("--seed, --seeds or --planted"),
    }
}

fn table(lives: u64, options: &Options) {
    println!("| planted bug | seen in {lives} lives | as |\n| --- | --: | --- |");
    let asked = options.bug.as_deref().unwrap_or_default();
    for sabotage in Sabotage::ALL.into_iter().filter(|sabotage| format!("{sabotage:?}").contains(asked)) {
        let seen = planted::seen(sabotage, lives, threads(options));
        let by: Vec<String> = seen.by.iter().map(|(checker, count)| format!("{checker} {count}")).collect();
        println!("| {sabotage:?} | {} | {} |", seen.count(), by.join(", "));
    }
}

fn play(name: &str) -> Result<Play, String> {
    let named = PLAYS.into_iter().find(|play| format!("{play:?}").eq_ignore_ascii_case(name));
    named.ok_or_else(|| format!("these there are: {PLAYS:?}"))
}

/// The recipe of this life, by its name; of `all` another one for each seed.
fn recipe(name: &str, seed: u64) -> Option<Recipe> {
    if name == "all" {
        return Some(RECIPES[seed as usize % RECIPES.len()]);
    }
    RECIPES.into_iter().find(|recipe| format!("{recipe:?}").eq_ignore_ascii_case(name))
}

fn plan(seed: u64, options: &Options) -> Plan {
    if let Some(bug) = options.bug.as_deref().filter(|_| options.seed.is_some())
        && let Some(sabotage) = Sabotage::ALL.into_iter().find(|sabotage| format!("{sabotage:?}").contains(bug))
    {
        return sabotage.plan(seed);
    }
    let plan = if options.oracle { Plan::with_oracle(seed) } else { Plan::of_seed(seed, options.servers) };
    let plan = if options.observer_masters { plan.with_observer_masters() } else { plan };
    let plan = match options.recipe.as_deref().and_then(|name| recipe(name, seed)) {
        Some(recipe) => plan.with_recipe(recipe),
        None => plan,
    };
    match options.play {
        Some(play) => plan.playing(play),
        None => plan,
    }
}

fn threads(options: &Options) -> usize {
    options.threads.or_else(|| thread::available_parallelism().ok().map(usize::from)).unwrap_or(1)
}

fn one(seed: u64, options: &Options) -> Result<()> {
    let mut plan = plan(seed, options);
    if options.shrink {
        plan = shrink(&plan, 500);
    }
    println!("{plan:#?}");
    let outcome = live(plan, options.trace);
    for line in &outcome.trace {
        println!("{line}");
    }
    println!("{:#?}\ntrace {:016x}", outcome.figures, outcome.trace_hash);
    match outcome.violation {
        Some(violation) => bail!("seed {seed}: {violation}"),
        None => Ok(()),
    }
}

fn many(first: u64, end: u64, options: &Options) -> Result<()> {
    let threads = threads(options);
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let begin = Instant::now();
    let (sender, outcomes) = channel::<Outcome>();
    let mut total = Figures::default();
    let (mut lives, mut failures) = (0_u64, Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            let sender = sender.clone();
            scope.spawn(|| {
                let sender = sender;
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || (failed.load(Ordering::Relaxed) && !options.keep_going) {
                        return;
                    }
                    let _ = sender.send(live(plan(seed, options), false));
                }
            });
        }
        drop(sender);
        for outcome in outcomes {
            lives += 1;
            total.add(&outcome.figures);
            if let Some(violation) = outcome.violation {
                println!("seed {}: {violation}", outcome.seed);
                failures.push(outcome.seed);
                failed.store(true, Ordering::Relaxed);
            }
        }
    });
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{lives} lives, {:.1} virtual hours, {:.0} lives a minute, {} failed",
        total.virtual_us as f64 / 3.6e9,
        lives as f64 * 60.0 / seconds,
        failures.len()
    );
    println!("{total:#?}");
    let hung = total.faults.get(&Fault::HungDisk).copied().unwrap_or_default();
    let counted = [("truncations", total.truncations), ("disks lost", total.lost_disks), ("disks that hang", hung)];
    let rare = total.rare.iter().map(|(what, count)| (*what, *count));
    for (what, count) in counted.into_iter().chain(rare) {
        println!("{what}: {:.0} in a thousand lives", count as f64 * 1000.0 / lives as f64);
    }
    if failures.is_empty() { Ok(()) } else { bail!("these seeds failed: {failures:?}") }
}
