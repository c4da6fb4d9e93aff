//! The text that Prometheus reads, as the original's provider writes it: each metric by the name that `mntr` has behind `zk_`, our own behind
//! `rookeeper_`, and the figures of the process by the names that all clients of Prometheus have.
//!
//! What always holds here: a metric that is absent is not named at all; a summary of nothing has no quantiles but NaN.

use std::fmt::{self, Display, Write as _};

use rookeeper_replica::Counts;

use crate::context::Context;
use crate::observe::metrics::{Facts, Kind, METRICS, ORIGINALS, SCRAPED_QUANTILES, Series, Value};
use crate::observe::process::{self, Usage};
use crate::observe::view::View;
use crate::version;

/// Everything that is known of this server at this moment.
pub(super) fn page(context: &Context) -> String {
    let view = View::of(context);
    let facts = Facts::gather(context, &view);
    let mut page = Page(String::with_capacity(32 << 10));
    // Writing to memory does not fail.
    let _ = page.metrics(&facts);
    let _ = page.info(view.mode());
    if context.config.metrics.as_ref().is_some_and(|metrics| metrics.tells_process)
        && let Some(usage) = Usage::of_this_process()
    {
        let _ = page.process(&usage);
    }
    page.0
}

/// The figures of this process alone.
pub(crate) fn process_page() -> String {
    let mut page = Page(String::new());
    if let Some(usage) = Usage::of_this_process() {
        // Writing to memory does not fail.
        let _ = page.process(&usage);
    }
    page.0
}

/// Durations are told apart from so many powers of two of microseconds on.
const LEAST_POWER: usize = 2;

struct Page(String);

/// A label's value: the three characters that may not stand in it are written in another way.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '\\' => formatter.write_str("\\\\"),
            '"' => formatter.write_str("\\\""),
            '\n' => formatter.write_str("\\n"),
            other => formatter.write_char(other),
        })
    }
}

/// A number as the original writes it: always with decimals.
fn number(value: f64) -> String {
    format!("{value:?}")
}

impl Page {
    fn metrics(&mut self, facts: &Facts<'_>) -> fmt::Result {
        METRICS.iter().enumerate().try_for_each(|(index, metric)| {
            let Some(value) = metric.value(facts) else { return Ok(()) };
            match index < ORIGINALS {
                true => self.metric(metric.name, metric.kind, &value),
                false => self.metric(&format!("rookeeper_{}", metric.name), metric.kind, &value),
            }
        })
    }

    fn metric(&mut self, name: &str, kind: Kind, value: &Value<'_>) -> fmt::Result {
        let shape = match kind {
            // Prometheus has numbers only; see `info`.
            Kind::Text => return Ok(()),
            Kind::Gauge
            | Kind::Ratio
            | Kind::GaugePerNamespace
            | Kind::GaugePerLearner
            | Kind::GaugePer(_)
            | Kind::RatioPer(_) => "gauge",
            Kind::Counter | Kind::CounterPerNamespace | Kind::CounterPer(_) => "counter",
            Kind::Stages => "histogram",
            Kind::Summary | Kind::SummaryWithQuantiles | Kind::SummaryPerNamespace | Kind::SummaryPerLearner => {
                "summary"
            }
        };
        self.head(name, shape)?;
        let quantiles = if kind == Kind::SummaryWithQuantiles { SCRAPED_QUANTILES.len() } else { 1 };
        match value {
            Value::Text(_) => Ok(()),
            Value::Whole(value) => self.line(name, "", *value as f64),
            Value::Ratio(value) => self.line(name, "", *value),
            Value::PerLearner(all) => {
                all.iter().try_for_each(|(server, value)| self.line(name, &key(&server.to_string()), *value as f64))
            }
            Value::PerNamespace(all) => {
                all.iter().try_for_each(|(namespace, value)| self.line(name, &key(namespace), *value as f64))
            }
            Value::Per(all) => all.iter().try_for_each(|(label, value)| {
                let (Kind::GaugePer(by) | Kind::RatioPer(by) | Kind::CounterPer(by)) = kind else { return Ok(()) };
                self.line(name, &format!("{by}=\"{}\",", Quoted(label)), *value)
            }),
            Value::Stages(all) => all.iter().try_for_each(|(stage, counts)| self.stage(name, stage, counts)),
            Value::Series(series) => self.series(name, "", series, quantiles),
            Value::SeriesPerNamespace(all) => {
                all.iter().try_for_each(|(namespace, series)| self.series(name, &key(namespace), series, quantiles))
            }
        }
    }

    /// Durations below each power of two of microseconds, from four on.
    fn stage(&mut self, name: &str, stage: &str, counts: &Counts) -> fmt::Result {
        let (bucket, labels) = (format!("{name}_bucket"), format!("stage=\"{stage}\","));
        for (power, below) in counts.below_powers().skip(LEAST_POWER) {
            let seconds = number(f64::from(1u32 << power) / 1e6);
            self.line(&bucket, &format!("{labels}le=\"{seconds}\","), below as f64)?;
        }
        self.line(&bucket, &format!("{labels}le=\"+Inf\","), counts.count() as f64)?;
        self.line(&format!("{name}_count"), &labels, counts.count() as f64)?;
        self.line(&format!("{name}_sum"), &labels, counts.sum_ns() as f64 / 1e9)
    }

    fn series(&mut self, name: &str, labels: &str, series: &Series, quantiles: usize) -> fmt::Result {
        for (quantile, value) in SCRAPED_QUANTILES.iter().zip(series.scraped).take(quantiles) {
            let value = if series.count == 0 { f64::NAN } else { value as f64 };
            self.line(name, &format!("{labels}quantile=\"{quantile}\","), value)?;
        }
        self.line(&format!("{name}_count"), labels, series.count as f64)?;
        self.line(&format!("{name}_sum"), labels, series.sum as f64)
    }

    /// What is text elsewhere: as labels of a number that is always 1.
    fn info(&mut self, mode: &str) -> fmt::Result {
        self.head("rookeeper_info", "gauge")?;
        let labels = format!("version=\"{}\",server_state=\"{}\",", Quoted(version::NUMBER), Quoted(mode));
        self.line("rookeeper_info", &labels, 1.0)
    }

    fn process(&mut self, usage: &Usage) -> fmt::Result {
        let files = [
            ("process_open_fds", process::open_file_descriptors()),
            ("process_max_fds", Some(process::max_file_descriptors())),
        ];
        self.head("process_cpu_seconds_total", "counter")?;
        self.line("process_cpu_seconds_total", "", usage.cpu_s)?;
        let gauges = [
            ("process_start_time_seconds", usage.started_s),
            ("process_virtual_memory_bytes", usage.virtual_bytes as f64),
            ("process_resident_memory_bytes", usage.resident_bytes as f64),
        ];
        let files = files.into_iter().filter_map(|(name, value)| Some((name, value? as f64)));
        gauges.into_iter().chain(files).try_for_each(|(name, value)| {
            self.head(name, "gauge")?;
            self.line(name, "", value)
        })
    }

    fn head(&mut self, name: &str, shape: &str) -> fmt::Result {
        writeln!(self.0, "# HELP {name} {name}\n# TYPE {name} {shape}")
    }

    /// The labels have a comma behind each.
    fn line(&mut self, name: &str, labels: &str, value: f64) -> fmt::Result {
        match labels.is_empty() {
            true => writeln!(self.0, "{name} {}", number(value)),
            false => writeln!(self.0, "{name}{{{labels}}} {}", number(value)),
        }
    }
}

fn key(value: &str) -> String {
    format!("key=\"{}\",", Quoted(value))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rookeeper_replica::{Histogram, Stamp};

    use super::*;
    use crate::observe::metrics::Source;

    /// Name, form and roles of each metric that four servers of the original told.
    const RECORDED: &str = include_str!("../../../../../tests/fixtures/operations/metrics-names.tsv");

    fn written(name: &str, kind: Kind, value: &Value<'_>) -> String {
        let mut page = Page(String::new());
        page.metric(name, kind, value).unwrap();
        page.0
    }

    #[test]
    fn every_recorded_metric_has_its_form_or_a_reason_to_be_absent() {
        let ours: BTreeMap<&str, _> = METRICS[..ORIGINALS].iter().map(|metric| (metric.name, metric)).collect();
        let mut found = 0;
        for line in RECORDED.lines().skip(1) {
            let mut columns = line.split('\t');
            let (name, form) = (columns.next().unwrap(), columns.next().unwrap());
            if form.contains("runtime of the Java process") {
                continue;
            }
            let metric = ours.get(name).unwrap_or_else(|| panic!("{name} is not in the table"));
            let labelled = form.contains("with label key");
            let shape = match metric.kind {
                Kind::Text => "text",
                Kind::Gauge | Kind::Ratio => "gauge",
                Kind::GaugePerNamespace | Kind::GaugePerLearner => "gauge with label key",
                Kind::Counter => "counter",
                Kind::CounterPerNamespace => "counter with label key",
                Kind::GaugePer(_) | Kind::RatioPer(_) | Kind::CounterPer(_) | Kind::Stages => "our own",
                Kind::Summary => "summary, quantile 0.5",
                Kind::SummaryWithQuantiles => "summary, quantiles 0.5 0.9 0.99",
                Kind::SummaryPerNamespace | Kind::SummaryPerLearner if labelled => form,
                Kind::SummaryPerNamespace | Kind::SummaryPerLearner => "summary with label key",
            };
            assert_eq!(shape, form, "{name}");
            found += usize::from(!matches!(metric.source, Source::Absent(_)));
        }
        assert!(found > 80, "{found}");
    }

    #[test]
    fn a_metric_is_written_as_the_original_writes_it() {
        let gauge = written("quorum_size", Kind::Gauge, &Value::Whole(3));
        assert_eq!(gauge, "# HELP quorum_size quorum_size\n# TYPE quorum_size gauge\nquorum_size 3.0\n");
        let nothing = Series::default();
        assert_eq!(
            written("observer_sync_time", Kind::Summary, &Value::Series(nothing)),
            "# HELP observer_sync_time observer_sync_time\n# TYPE observer_sync_time summary\n\
             observer_sync_time{quantile=\"0.5\",} NaN\nobserver_sync_time_count 0.0\nobserver_sync_time_sum 0.0\n"
        );
        let some = Series { count: 2, sum: 398, scraped: [195, 196, 197], ..Series::default() };
        let three = written("readlatency", Kind::SummaryWithQuantiles, &Value::Series(some));
        assert!(three.ends_with(
            "readlatency{quantile=\"0.5\",} 195.0\nreadlatency{quantile=\"0.9\",} 196.0\nreadlatency{quantile=\"0.99\",} 197.0\n\
             readlatency_count 2.0\nreadlatency_sum 398.0\n"
        ));
        let labelled = Value::SeriesPerNamespace(vec![("zookeeper".to_owned(), some)]);
        assert!(written("write_per_namespace", Kind::SummaryPerNamespace, &labelled).ends_with(
            "write_per_namespace{key=\"zookeeper\",quantile=\"0.5\",} 195.0\n\
             write_per_namespace_count{key=\"zookeeper\",} 2.0\nwrite_per_namespace_sum{key=\"zookeeper\",} 398.0\n"
        ));
    }

    #[test]
    fn stages_are_written_as_histograms_in_seconds() {
        let histogram = Histogram::default();
        [1_000, 5_000, 70_000_000_000].into_iter().for_each(|ns| histogram.record(Stamp(0), Stamp(ns)));
        let value = Value::Stages(vec![("sync", histogram.counts())]);
        let text = written("rookeeper_write_stage_seconds", Kind::Stages, &value);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "# TYPE rookeeper_write_stage_seconds histogram");
        assert_eq!(lines[2], "rookeeper_write_stage_seconds_bucket{stage=\"sync\",le=\"4e-6\",} 1.0");
        assert_eq!(lines[3], "rookeeper_write_stage_seconds_bucket{stage=\"sync\",le=\"8e-6\",} 2.0");
        assert!(
            text.contains("{stage=\"sync\",le=\"1.048576\",} 2.0\n") && text.contains("le=\"+Inf\",} 3.0\n"),
            "{text}"
        );
        assert!(text.ends_with(
            "rookeeper_write_stage_seconds_count{stage=\"sync\",} 3.0\nrookeeper_write_stage_seconds_sum{stage=\"sync\",} 70.000006\n"
        ));
        let queues = written("q", Kind::GaugePer("queue"), &Value::Per(vec![("a", 1.0), ("b", 2.0)]));
        assert!(queues.ends_with("# TYPE q gauge\nq{queue=\"a\",} 1.0\nq{queue=\"b\",} 2.0\n"), "{queues}");
    }

    #[test]
    fn a_name_that_a_client_chose_stays_inside_its_label() {
        let namespace = BTreeMap::from([("a\"b\\c\nd".to_owned(), 1)]);
        let text = written("m", Kind::GaugePerNamespace, &Value::PerNamespace(namespace));
        assert!(text.ends_with("\nm{key=\"a\\\"b\\\\c\\nd\",} 1.0\n"), "{text}");
    }
}
