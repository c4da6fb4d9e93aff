//! `mntr`: every metric on a line of its own, `zk_<name>`, a tab, the value. A summary takes several lines.

use std::fmt::{self, Write as _};

use super::status::ratio;
use super::{Page, Question};
use crate::observe::metrics::{Facts, Figure, Kind, METRICS, Metric, ORIGINALS, Source, flattened};

pub(super) fn mntr(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    let facts = Facts::gather(question.context, question.view);
    flattened(&facts, |name, figure| match figure {
        Figure::Text(text) => writeln!(page, "zk_{name}\t{text}"),
        Figure::Whole(number) => writeln!(page, "zk_{name}\t{number}"),
        Figure::Count(number) => writeln!(page, "zk_{name}\t{number}"),
        Figure::Ratio(number) => writeln!(page, "zk_{name}\t{}", ratio(number)),
    })
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
            Kind::GaugePer(label) | Kind::RatioPer(label) => &format!("gauge per {label}"),
            Kind::CounterPer(label) => &format!("counter per {label}"),
            Kind::Stages => "histogram per stage",
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
        assert!(table.contains("\n| `zk_leader_id` | gauge | present on members of an ensemble, our own |\n"));
        assert!(table.ends_with("| `zk_disk_days_left` | gauge per disk | present, our own |\n"));
    }
}
