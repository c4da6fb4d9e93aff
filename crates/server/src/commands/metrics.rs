//! `mntr`: every metric on a line of its own, `zk_<name>`, a tab, the value. A summary takes several lines.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_replica::Summary;

use super::View;
use super::metrics_table::{Facts, Kind, METRICS, Metric, ORIGINALS, Source};
use super::status::ratio;
use crate::context::Context;

/// Quantiles by the names that stand before a metric's.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)];

pub(super) fn mntr(context: &Context, view: &View) -> String {
    let facts = Facts::gather(context, view);
    let mut text = String::with_capacity(16 << 10);
    for metric in METRICS {
        write_metric(&mut text, metric, &facts, context);
    }
    text
}

fn write_metric(text: &mut String, metric: &Metric, facts: &Facts<'_>, context: &Context) {
    let Metric { name, kind, source } = metric;
    let (statistics, figures) = (&context.shared.statistics, &context.figures);
    let _ = match source {
        Source::Text(value) => writeln!(text, "zk_{name}\t{}", value(facts)),
        Source::Only(_, value) => value(facts).map_or(Ok(()), |value| writeln!(text, "zk_{name}\t{value}")),
        Source::PerLearner(values) => {
            values(facts).iter().try_for_each(|(server, value)| writeln!(text, "zk_{name}_{}\t{value}", server.0))
        }
        Source::Whole(value) => writeln!(text, "zk_{name}\t{}", value(facts)),
        Source::Ratio(value) => writeln!(text, "zk_{name}\t{}", ratio(value(facts))),
        Source::PerNamespace(values) => {
            let mut values = values(facts).into_iter();
            values.try_for_each(|(namespace, value)| writeln!(text, "zk_{namespace}_{name}\t{value}"))
        }
        Source::SeriesPerNamespace(series) => {
            let mut series = series(statistics).summaries().into_iter();
            series
                .try_for_each(|(namespace, series)| write_summary(text, &format!("{namespace}_{name}"), *kind, series))
        }
        Source::Counted(counter) => writeln!(text, "zk_{name}\t{}", counter(statistics).load(Relaxed)),
        Source::CountedByStorage(counter) => writeln!(text, "zk_{name}\t{}", counter(figures).load(Relaxed)),
        Source::Series(series) => write_summary(text, name, *kind, series(statistics)),
        Source::SeriesOfStorage(series) => write_summary(text, name, *kind, series(figures)),
        Source::Once(value) => {
            let series = Summary::default();
            series.record(value(figures));
            write_summary(text, name, *kind, &series)
        }
        Source::Never(_) => match kind {
            Kind::Gauge | Kind::Counter => writeln!(text, "zk_{name}\t0"),
            Kind::Ratio => writeln!(text, "zk_{name}\t{}", ratio(0.0)),
            _ => write_summary(text, name, *kind, &Summary::default()),
        },
        Source::Absent(_) => Ok(()),
    };
}

fn write_summary(text: &mut String, name: &str, kind: Kind, series: &Summary) -> std::fmt::Result {
    writeln!(text, "zk_avg_{name}\t{}", ratio(series.mean()))?;
    writeln!(text, "zk_min_{name}\t{}", series.min())?;
    writeln!(text, "zk_max_{name}\t{}", series.max())?;
    writeln!(text, "zk_cnt_{name}\t{}", series.count())?;
    writeln!(text, "zk_sum_{name}\t{}", series.sum())?;
    if kind == Kind::SummaryWithQuantiles {
        for (quantile, share) in QUANTILES {
            writeln!(text, "zk_{quantile}_{name}\t{}", series.quantile(share))?;
        }
    }
    Ok(())
}

/// The metrics as a Markdown table, for the list of what is compatible: those of the original first, in its order.
pub fn compat_table() -> String {
    let mut text = String::from(
        "A summary `m` is printed as `zk_avg_m`, `zk_min_m`, `zk_max_m`, `zk_cnt_m` and `zk_sum_m`; one with quantiles also as\n\
         `zk_p50_m`, `zk_p95_m`, `zk_p99_m` and `zk_p999_m`, which are exact up to 4 and within 25 % above. What is absent is not\n\
         printed at all.\n\n\
         | metric | kind | status |\n| --- | --- | --- |\n",
    );
    for (index, Metric { name, kind, source }) in METRICS.iter().enumerate() {
        let kind = match kind {
            Kind::Text => "text",
            Kind::Gauge | Kind::Ratio => "gauge",
            Kind::GaugePerNamespace => "gauge per namespace",
            Kind::CounterPerNamespace => "counter per namespace",
            Kind::Counter => "counter",
            Kind::Summary => "summary",
            Kind::SummaryWithQuantiles => "summary with quantiles",
            Kind::SummaryPerNamespace => "summary per namespace",
            Kind::SummaryPerLearner => "summary per learner",
            Kind::GaugePerLearner => "gauge per learner",
        };
        let status = match source {
            Source::Never(why) => format!("always zero: {why}"),
            Source::PerLearner(_) => "present on leaders, our own".to_owned(),
            Source::Only(who, _) if index >= ORIGINALS => format!("present on {who}, our own"),
            Source::Only(who, _) => format!("present on {who}"),
            Source::Absent(why) => format!("absent: {why}"),
            _ if index >= ORIGINALS => "present, our own".to_owned(),
            _ => "present".to_owned(),
        };
        let _ = writeln!(text, "| `zk_{name}` | {kind} | {status} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_for_the_documentation_names_every_metric_once() {
        let table = compat_table();
        for Metric { name, .. } in METRICS {
            assert_eq!(table.matches(&format!("\n| `zk_{name}` |")).count(), 1, "{name}");
        }
        assert!(table.contains("| `zk_proposal_count` | counter | present |"));
        assert!(table.contains("| `zk_jvm_pause_time_ms` | summary with quantiles | absent: "));
        assert!(table.ends_with("| `zk_leader_id` | gauge | present on members of an ensemble, our own |\n"));
    }
}
