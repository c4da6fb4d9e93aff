//! `mntr`: every metric on a line of its own, `zk_<name>`, a tab, the value. A summary takes several lines.

use std::fmt::{self, Write as _};

use super::status::ratio;
use super::{Page, Question};
use crate::observe::metrics::{Facts, Kind, METRICS, Metric, ORIGINALS, QUANTILES, Series, Source, Value};

pub(super) fn mntr(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    let facts = Facts::gather(question.context, question.view);
    METRICS.iter().try_for_each(|metric| match metric.value(&facts) {
        Some(value) => write_value(page, metric.name, &value),
        None => Ok(()),
    })
}

fn write_value(page: &mut Page<'_>, name: &str, value: &Value<'_>) -> fmt::Result {
    match value {
        Value::Text(text) => writeln!(page, "zk_{name}\t{text}"),
        Value::Whole(number) => writeln!(page, "zk_{name}\t{number}"),
        Value::Ratio(number) => writeln!(page, "zk_{name}\t{}", ratio(*number)),
        Value::PerLearner(values) => {
            values.iter().try_for_each(|(server, value)| writeln!(page, "zk_{name}_{server}\t{value}"))
        }
        Value::PerNamespace(values) => {
            values.iter().try_for_each(|(namespace, value)| writeln!(page, "zk_{namespace}_{name}\t{value}"))
        }
        Value::Series(series) => write_series(page, name, series),
        Value::SeriesPerNamespace(all) => {
            all.iter().try_for_each(|(namespace, series)| write_series(page, &format!("{namespace}_{name}"), series))
        }
    }
}

fn write_series(page: &mut Page<'_>, name: &str, series: &Series) -> fmt::Result {
    writeln!(page, "zk_avg_{name}\t{}", ratio(series.mean))?;
    writeln!(page, "zk_min_{name}\t{}", series.min)?;
    writeln!(page, "zk_max_{name}\t{}", series.max)?;
    writeln!(page, "zk_cnt_{name}\t{}", series.count)?;
    writeln!(page, "zk_sum_{name}\t{}", series.sum)?;
    let quantiles = series.quantiles.iter().flat_map(|values| QUANTILES.iter().zip(values));
    for ((quantile, _), value) in quantiles {
        writeln!(page, "zk_{quantile}_{name}\t{value}")?;
    }
    Ok(())
}

/// The metrics as a Markdown table, for the list of what is compatible: those of the original first, in its order.
pub fn compat_table() -> String {
    let mut text = String::from(
        "A summary `m` is printed as `zk_avg_m`, `zk_min_m`, `zk_max_m`, `zk_cnt_m` and `zk_sum_m`; one with quantiles also as\n\
         `zk_p50_m`, `zk_p95_m`, `zk_p99_m` and `zk_p999_m`, which are exact up to 4 and within 25 % above. What is absent is not\n\
         printed at all. On the port of Prometheus a metric has the same name without `zk_`, one of our own with `rookeeper_` in its place,\n\
         and a summary the quantile 0.5, or 0.5, 0.9 and 0.99, as in the original; the figures `process_*` are there, `jvm_*` are not.\n\n\
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
