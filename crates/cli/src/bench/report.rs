//! What a run found, as a table for people or one JSON object for programs. Units are in the names.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::load::{Tally, error_name};
use super::options::{Operation, Options};

/// The result of a run with the settings it was made with.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub load: &'static str,
    /// Empty where the limit of the machine was measured.
    pub server: Vec<String>,
    /// Whether the connections spoke TLS.
    pub tls: bool,
    /// Where the file of the limit was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_directory: Option<PathBuf>,
    pub operation: Operation,
    pub connections: u16,
    pub pipeline_requests_per_connection: u16,
    /// Of an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_requests_per_second: Option<u32>,
    pub value_size_bytes: u32,
    /// Absent where no keys are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_ratio: Option<f64>,
    pub threads: usize,
    pub seed: u64,
    pub warmup_seconds: f64,
    pub measured_seconds: f64,
    #[serde(flatten)]
    pub all: Latency,
    /// In a mix, the two kinds apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes: Option<Latency>,
    /// Of events: how long the last one of each change took. `operations` are changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_events: Option<Latency>,
    /// Refused operations by code, those of the warm-up too.
    pub errors: BTreeMap<String, u64>,
    /// Operations whose connection was lost before the answer.
    pub unanswered: u64,
    pub connections_lost: Vec<String>,
    /// Why the nodes of the run could not all be deleted.
    pub cleanup_error: Option<String>,
}

/// Successful operations and how long they took, from sending to having the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    pub operations: u64,
    pub throughput_ops_per_second: f64,
    pub latency_mean_us: f64,
    pub latency_p50_us: f64,
    pub latency_p99_us: f64,
    pub latency_p999_us: f64,
    pub latency_max_us: f64,
}

impl Latency {
    fn new(nanoseconds: &Histogram<u32>, measured: Duration) -> Latency {
        let us = |nanoseconds: u64| round(nanoseconds as f64 / 1_000.0, 10.0);
        let operations = nanoseconds.len();
        let seconds = measured.as_secs_f64();
        Latency {
            operations,
            throughput_ops_per_second: if seconds > 0.0 { round(operations as f64 / seconds, 10.0) } else { 0.0 },
            latency_mean_us: round(nanoseconds.mean() / 1_000.0, 10.0),
            latency_p50_us: us(nanoseconds.value_at_quantile(0.5)),
            latency_p99_us: us(nanoseconds.value_at_quantile(0.99)),
            latency_p999_us: us(nanoseconds.value_at_quantile(0.999)),
            latency_max_us: us(nanoseconds.max()),
        }
    }
}

fn round(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

impl Report {
    pub(super) fn new(options: &Options, tls: bool, tally: &Tally, measured: Duration) -> Report {
        let mut all = tally.reads.clone();
        all.add(&tally.writes).expect("a histogram that resizes takes every value");
        let mixed = options.operation == Operation::Mixed;
        Report {
            load: if options.rate.is_some() { "open loop" } else { "closed loop" },
            server: if options.limit.is_some() { Vec::new() } else { options.server.clone() },
            tls,
            limit_directory: options.limit.clone(),
            operation: options.operation,
            connections: options.connections,
            pipeline_requests_per_connection: options.pipeline,
            rate_requests_per_second: options.rate,
            value_size_bytes: options.value_size,
            keys: options.operation.needs_keys().then_some(options.keys),
            read_ratio: mixed.then_some(options.read_ratio),
            threads: options.thread_count(),
            seed: options.seed,
            warmup_seconds: options.warmup,
            measured_seconds: round(measured.as_secs_f64(), 1_000.0),
            all: Latency::new(&all, measured),
            reads: mixed.then(|| Latency::new(&tally.reads, measured)),
            writes: mixed.then(|| Latency::new(&tally.writes, measured)),
            last_events: (options.operation == Operation::Watch).then(|| Latency::new(&tally.last_events, measured)),
            errors: tally.errors.iter().map(|(code, count)| (error_name(*code), *count)).collect(),
            unanswered: tally.unanswered,
            connections_lost: tally.connections_lost.clone(),
            cleanup_error: None,
        }
    }

    /// Whether everything asked was answered as it should be.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty()
            && self.unanswered == 0
            && self.connections_lost.is_empty()
            && self.cleanup_error.is_none()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = format!("{:?}", self.operation).to_lowercase();
        let mix = self.read_ratio.map(|ratio| format!(" (reads {:.0} %)", ratio * 100.0)).unwrap_or_default();
        let target = match &self.limit_directory {
            Some(directory) => format!("the limit of this machine (file in {})", directory.display()),
            None if self.tls => format!("{} over TLS", self.server.join(",")),
            None => self.server.join(","),
        };
        let keys = self.keys.map(|keys| format!(", {keys} keys")).unwrap_or_default();
        writeln!(
            formatter,
            "{operation}{mix} on {target}: {}, {} connections x {} outstanding, {} B values{keys}, {} threads, \
             {} s after {} s warm-up",
            self.rate_requests_per_second.map_or(self.load.to_owned(), |rate| format!("open loop at {rate}/s")),
            self.connections,
            self.pipeline_requests_per_connection,
            self.value_size_bytes,
            self.threads,
            self.measured_seconds,
            self.warmup_seconds,
        )?;
        writeln!(
            formatter,
            "\n{:<8}{:>12}{:>12}{:>11}{:>11}{:>11}{:>11}{:>11}",
            "", "operations", "ops/s", "mean us", "p50 us", "p99 us", "p99.9 us", "max us"
        )?;
        let rows = [
            ("all", Some(&self.all)),
            ("reads", self.reads.as_ref()),
            ("writes", self.writes.as_ref()),
            ("last", self.last_events.as_ref()),
        ];
        for (name, row) in rows.iter().filter_map(|(name, row)| row.map(|row| (name, row))) {
            writeln!(
                formatter,
                "{name:<8}{:>12}{:>12.0}{:>11.1}{:>11.1}{:>11.1}{:>11.1}{:>11.1}",
                row.operations,
                row.throughput_ops_per_second,
                row.latency_mean_us,
                row.latency_p50_us,
                row.latency_p99_us,
                row.latency_p999_us,
                row.latency_max_us,
            )?;
        }
        write!(formatter, "\nerrors: ")?;
        if self.is_clean() {
            return write!(formatter, "none");
        }
        for (code, count) in &self.errors {
            write!(formatter, "{code} x {count}  ")?;
        }
        write!(formatter, "unanswered: {}", self.unanswered)?;
        for reason in &self.connections_lost {
            write!(formatter, "\nconnection lost: {reason}")?;
        }
        if let Some(reason) = &self.cleanup_error {
            write!(formatter, "\nclean-up: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Report {
        let mut histogram = Histogram::new(3).unwrap();
        for microseconds in 1..=1000_u64 {
            histogram.record(microseconds * 1_000).unwrap();
        }
        let all = Latency::new(&histogram, Duration::from_secs(2));
        Report {
            load: "closed loop",
            server: vec!["h:2181".to_owned()],
            tls: false,
            limit_directory: None,
            operation: Operation::Get,
            connections: 10,
            pipeline_requests_per_connection: 20,
            rate_requests_per_second: None,
            value_size_bytes: 100,
            keys: Some(1000),
            read_ratio: None,
            threads: 2,
            seed: 1,
            warmup_seconds: 1.0,
            measured_seconds: 2.0,
            all,
            reads: None,
            writes: None,
            last_events: None,
            errors: BTreeMap::new(),
            unanswered: 0,
            connections_lost: Vec::new(),
            cleanup_error: None,
        }
    }

    #[test]
    fn quantiles_and_rates() {
        let latency = sample().all;
        assert_eq!((latency.operations, latency.throughput_ops_per_second), (1000, 500.0));
        for (value, expected) in [
            (latency.latency_mean_us, 500.5),
            (latency.latency_p50_us, 500.0),
            (latency.latency_p99_us, 990.0),
            (latency.latency_p999_us, 999.0),
            (latency.latency_max_us, 1000.0),
        ] {
            assert!((value - expected).abs() <= expected / 1_000.0 + 0.1, "{value} is not near {expected}");
        }
    }

    #[test]
    fn the_table() {
        let mut report = sample();
        report.all = Latency {
            operations: 1000,
            throughput_ops_per_second: 500.0,
            latency_mean_us: 500.5,
            latency_p50_us: 500.0,
            latency_p99_us: 990.2,
            latency_p999_us: 999.4,
            latency_max_us: 1000.4,
        };
        let heading = "get on h:2181: closed loop, 10 connections x 20 outstanding, 100 B values, 1000 keys, 2 threads, \
                       2 s after 1 s warm-up\n\n          operations       ops/s    mean us     p50 us     p99 us   \
                       p99.9 us     max us\nall             1000         500      500.5      500.0      990.2      \
                       999.4     1000.4\n\nerrors: ";
        assert_eq!(report.to_string(), format!("{heading}none"));
        report.tls = true;
        assert!(report.to_string().starts_with("get on h:2181 over TLS: closed loop"), "{report}");
        report.tls = false;
        report.errors.insert("NoNode(-101)".to_owned(), 3);
        report.connections_lost.push("the server closed the connection".to_owned());
        report.unanswered = 20;
        assert_eq!(
            report.to_string(),
            format!("{heading}NoNode(-101) x 3  unanswered: 20\nconnection lost: the server closed the connection")
        );
        assert!(!report.is_clean());
    }

    #[test]
    fn json_names_carry_their_units() {
        let json = serde_json::to_value(sample()).unwrap();
        for field in
            ["throughput_ops_per_second", "latency_p99_us", "latency_p999_us", "measured_seconds", "value_size_bytes"]
        {
            assert!(json[field].is_number(), "{field}");
        }
        assert_eq!((json["operation"].as_str(), json["load"].as_str()), (Some("get"), Some("closed loop")));
        assert!(json["errors"].as_object().unwrap().is_empty());
    }
}
