//! How many records per second the log takes, with a sync for every thousand and for every single one. On the disk of the directory
//! given, or of the temporary directory.
//!
//! `cargo run --release -p rookeeper-store --example log_throughput [DIRECTORY]`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rookeeper_proto::Zxid;
use rookeeper_store::{LogOptions, LogWriter, RealDisk, StoreError};

const BODY_BYTES: usize = 150;
const MEASURE: Duration = Duration::from_secs(3);

fn measure(dir: &Path, batch: i64, force_sync: bool) -> Result<(), StoreError> {
    let options = LogOptions { force_sync, ..LogOptions::default() };
    let mut writer = LogWriter::new(Arc::new(RealDisk), dir, options, Zxid::ZERO);
    let body = [7; BODY_BYTES];
    let (start, mut zxid) = (Instant::now(), 0);
    let mut latencies_us = Vec::new();
    while start.elapsed() < MEASURE {
        let begin = Instant::now();
        for _ in 0..batch {
            zxid += 1;
            writer.append(Zxid(zxid), &body)?;
        }
        writer.commit()?;
        latencies_us.push(begin.elapsed().as_micros());
        if writer.wants_roll() {
            writer.roll()?;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    latencies_us.sort_unstable();
    println!(
        "{batch:>5} records per commit, {}: {:>9.0} records/s, {:>6.1} MB/s, commit p50 {} us, p99 {} us",
        if force_sync { "synced" } else { "not synced" },
        zxid as f64 / seconds,
        zxid as f64 * (BODY_BYTES + 13) as f64 / seconds / 1e6,
        latencies_us[latencies_us.len() / 2],
        latencies_us[latencies_us.len() * 99 / 100],
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    for (batch, force_sync) in [(1, true), (20, true), (1000, true), (1000, false)] {
        let dir = tempfile::tempdir_in(&parent)?;
        measure(dir.path(), batch, force_sync)?;
    }
    Ok(())
}
