//! The options of `rookeeper bench`, with their limits: every load is bounded.

use std::path::PathBuf;

use anyhow::bail;
use clap::builder::ArgPredicate;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::dialler::TlsFlags;

/// What is asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// getData of a random key
    Get,
    /// setData of a random key
    Set,
    /// create of a new node, under a parent of each connection
    Create,
    /// exists of a random key
    Exists,
    /// get and set, in the proportion of --read-ratio
    Mixed,
    /// getChildren of one node, which has all keys below it
    Children,
    /// a new connection and a new session, which is closed again: both are writes
    Session,
    /// events: each connection watches all keys, one more connection changes all of them at once; up to 5000 keys
    Watch,
}

/// So many changes fit into a request of a megabyte.
const MAX_WATCHED_KEYS: u32 = 5000;

impl Operation {
    pub(super) fn needs_keys(self) -> bool {
        !matches!(self, Operation::Create | Operation::Session)
    }

    /// Whether a server without state can answer it with what a real one would send.
    fn has_limit(self) -> bool {
        !matches!(self, Operation::Children | Operation::Watch)
    }
}

const HOW_IT_MEASURES: &str = "\
How it measures:
  Closed loop: every connection keeps exactly --pipeline requests outstanding and sends the next when an answer comes. A slow
  server therefore also slows the arrival of requests: latencies say what these connections saw, not what independent clients
  would have seen.
  Open loop, with --rate: requests are due at fixed times, whatever the server does, in steps of a millisecond. A request that
  is due while --pipeline others are outstanding waits here, and its latency runs from when it was due. What still waits at the
  end of --seconds is not sent and not counted: a server that does not keep up shows less ops/s than the rate.
  Latency runs from handing a request to the socket to having read its answer, in microseconds (us). Operations sent during
  --seconds are counted, each is awaited; the warm-up is not counted. Refused operations are counted by code (those of the
  warm-up too) and are neither in the throughput (ops/s) nor in the latencies.
  A run works under a new node /rookeeper-bench-N and deletes it afterwards. With --operation create the server holds every
  node created in warm-up and measurement until then.

Exit code: 0 when everything was answered without error, 1 otherwise.";

/// What to measure, and how hard to press.
#[derive(Debug, Clone, Args)]
#[command(after_help = HOW_IT_MEASURES)]
pub struct Options {
    /// HOST:PORT[,HOST:PORT...]: connections are spread over these
    #[arg(long, default_value = "localhost:2181", value_delimiter = ',', value_name = "HOST:PORT")]
    pub server: Vec<String>,

    /// In place of a server, measure what this machine allows: a bare echo for reads; for writes one write and one sync of all that has
    /// arrived, in a file in this directory
    #[arg(long, value_name = "DIRECTORY", conflicts_with_all = ["server", "TlsFlags"])]
    pub limit: Option<PathBuf>,

    /// Connections, each with its own session [1 to 20000]
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    pub connections: u16,

    /// Requests outstanding on each connection, at most [1 to 10000; with --rate 1000 where nothing is said]
    #[arg(
        long,
        default_value_t = 1,
        default_value_if("rate", ArgPredicate::IsPresent, "1000"),
        value_parser = clap::value_parser!(u16).range(1..=10_000)
    )]
    pub pipeline: u16,

    /// Open loop: so many requests a second, by all connections together [1 to 10000000]
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rate: Option<u32>,

    /// What to ask
    #[arg(long, value_enum, default_value_t = Operation::Mixed)]
    pub operation: Operation,

    /// Share of gets in --operation mixed [0 to 1]
    #[arg(long, default_value_t = 0.9, value_parser = ratio)]
    pub read_ratio: f64,

    /// Bytes of data in each node [0 to 1000000]
    #[arg(long, default_value_t = 100, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub value_size: u32,

    /// Nodes made before the load, from which get, set and exists choose evenly, and whose names children lists [1 to 1000000]
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub keys: u32,

    /// Seconds of load before the measurement [0 to 3600]
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS", value_parser = warmup)]
    pub warmup: f64,

    /// Seconds of measurement [above 0, to 3600]
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS", value_parser = seconds)]
    pub seconds: f64,

    /// Worker threads of the load generator [default: 2, or the number of cores if that is less]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: Option<u16>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,

    /// Seed of the choice of keys, operations and values
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// How the connections are encrypted
    #[command(flatten)]
    pub tls: TlsFlags,
}

impl Options {
    pub(super) fn thread_count(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or(cores.min(2), usize::from)
    }

    /// Says what can't be asked for together.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let operation =
            self.operation.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        if self.limit.is_some() && !self.operation.has_limit() {
            bail!("--limit knows no answer to --operation {operation}. Measure a server, or another operation");
        }
        if matches!(self.operation, Operation::Session | Operation::Watch) && self.rate.is_some() {
            bail!("--rate has no meaning for --operation {operation}, which goes on when the last round is over");
        }
        if self.operation == Operation::Watch && self.keys > MAX_WATCHED_KEYS {
            bail!(
                "--operation watch changes all keys in one request, which {} keys do not fit into: ask for {MAX_WATCHED_KEYS} or fewer \
                 with --keys",
                self.keys
            );
        }
        Ok(())
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    number(text, |value| (0.0..=1.0).contains(&value), "a number from 0 to 1")
}

fn warmup(text: &str) -> Result<f64, String> {
    number(text, |value| (0.0..=3600.0).contains(&value), "seconds from 0 to 3600")
}

fn seconds(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0 && value <= 3600.0, "seconds above 0, to 3600")
}

fn number(text: &str, allowed: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    text.parse().ok().filter(|value| allowed(*value)).ok_or_else(|| format!("expected {expected}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Program {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Program::try_parse_from(["bench"].into_iter().chain(line.split_whitespace())).map(|program| program.options)
    }

    #[test]
    fn options_and_defaults() {
        let options = parse("--server a:1,b:2 --operation create --seconds 0.5").unwrap();
        assert_eq!(options.server, ["a:1", "b:2"]);
        assert_eq!(options.operation, Operation::Create);
        assert_eq!((options.connections, options.pipeline, options.value_size), (10, 1, 100));
        assert_eq!((options.seconds, options.read_ratio, options.json), (0.5, 0.9, false));
        let open = |line: &str| parse(line).map(|options| (options.rate, options.pipeline)).unwrap();
        assert_eq!(open("--rate 5000"), (Some(5000), 1000));
        assert_eq!(open("--rate 5000 --pipeline 7"), (Some(5000), 7));
        assert!(parse("--limit . --operation children").unwrap().check().is_err());
        assert!(parse("--limit . --operation session").unwrap().check().is_ok());
        assert!(parse("--rate 5 --operation session").unwrap().check().is_err());
        assert!(parse("--operation watch").unwrap().check().is_err());
        assert!(parse("--operation watch --keys 100").unwrap().check().is_ok());
        assert!(parse("--rate 5 --operation children").unwrap().check().is_ok());
    }

    #[test]
    fn limits_hold() {
        for line in [
            "--connections 0",
            "--pipeline 0",
            "--value-size 1000001",
            "--keys 0",
            "--read-ratio 1.1",
            "--seconds 0",
            "--seconds NaN",
            "--warmup -1",
            "--threads 0",
            "--rate 0",
            "--operation list",
            "--limit . --server a:1",
            "--limit . --tls-ca f",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
