//! `rookeeper bench`: a small honest load generator for any ZooKeeper-compatible server.
//!
//! Reading order:
//! - [`options`]: what can be asked for, and the limits of it
//! - [`load`]: the phases of a run; [`connection`]: one session with its pipeline; [`wire`]: its requests as bytes
//! - [`fan_out`]: the load whose connections work together
//! - [`limit`]: what the machine allows, measured the same way
//! - [`report`]: what came out
//!
//! What always holds: the report says whether the loop is closed (a connection sends when an answer comes) or open (at a fixed rate); warm-up is not measured;
//! every operation sent is accounted for as done, refused (by code) or unanswered.

mod connection;
mod fan_out;
mod limit;
mod load;
pub mod options;
mod report;
mod wire;

use anyhow::Context as _;

use crate::print;
pub use load::run;
pub use options::{Operation, Options};
pub use report::{Latency, Report};

/// Runs the benchmark, prints the report and returns the exit code: 0 only when everything was answered without error.
pub fn main(options: &Options) -> u8 {
    match run_and_print(options) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            print::complaint(&format_args!("{error:#}"));
            1
        }
    }
}

fn run_and_print(options: &Options) -> anyhow::Result<bool> {
    let threads = options.thread_count();
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    let report = builder.enable_all().build().context("cannot start the runtime")?.block_on(run(options))?;
    let text = if options.json { serde_json::to_string(&report)? } else { report.to_string() };
    Ok(print::result(&text) && report.is_clean())
}
