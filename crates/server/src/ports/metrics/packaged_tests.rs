//! The alarms and the dashboard that come along name only metrics that are told.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use crate::observe::metrics::{Kind, METRICS, ORIGINALS, Source};

const RULES: &str = include_str!("../../../../../packaging/prometheus/rules.yml");
const RULES_TEST: &str = include_str!("../../../../../packaging/prometheus/rules_test.yml");
const DASHBOARD: &str = include_str!("../../../../../packaging/grafana/rookeeper.json");

/// Words of the language of queries, as far as these are used.
const WORDS: &str = "sum count by or on and histogram_quantile rate increase label_values vector";

/// The names of metrics in a query.
fn named(query: &str) -> BTreeSet<String> {
    let without = |text: String, pattern: &str| Regex::new(pattern).unwrap().replace_all(&text, " ").into_owned();
    // Strings, labels, ranges, and what results are grouped by.
    let patterns = ["\"[^\"]*\"", r"\{[^}]*\}", r"\[[^\]]*\]", r"\bby\s*\([^)]*\)"];
    let bare = patterns.iter().fold(query.to_owned(), |text, pattern| without(text, pattern));
    let words = Regex::new(r"[a-zA-Z_:][a-zA-Z0-9_:]*").unwrap();
    let names = words.find_iter(&bare).map(|word| word.as_str().to_owned());
    let is_number = |word: &str| word.starts_with('e') && word[1..].bytes().all(|byte| byte.is_ascii_digit());
    names.filter(|name| !WORDS.split(' ').any(|word| word == name) && !is_number(name)).collect()
}

/// Every name under which something is told, or is told of Prometheus itself.
fn told() -> BTreeSet<String> {
    let mut told: BTreeSet<String> = ["up", "ALERTS", "rookeeper_info"].map(str::to_owned).into();
    told.extend(
        ["cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds"].map(|name| format!("process_{name}")),
    );
    for (index, metric) in METRICS.iter().enumerate() {
        if matches!(metric.source, Source::Absent(_) | Source::Never(_)) || metric.kind == Kind::Text {
            continue;
        }
        let name = if index < ORIGINALS { metric.name.to_owned() } else { format!("rookeeper_{}", metric.name) };
        match metric.kind {
            Kind::Summary | Kind::SummaryWithQuantiles | Kind::SummaryPerNamespace | Kind::SummaryPerLearner => {
                told.extend([format!("{name}_count"), format!("{name}_sum"), name]);
            }
            Kind::Stages => told.extend(["bucket", "count", "sum"].map(|part| format!("{name}_{part}"))),
            _ => {
                told.insert(name);
            }
        }
    }
    told
}

#[test]
fn the_names_in_a_query_are_found() {
    let query = "histogram_quantile(0.99, sum by (job, le) (rate(a_bucket{stage=\"sync\"}[5m]))) > 0.2 or 0 * sum by (job) (b) < 1e9";
    assert_eq!(named(query), ["a_bucket".to_owned(), "b".to_owned()].into());
}

#[test]
fn each_alarm_names_only_metrics_that_are_told_and_has_a_test() {
    let told = told();
    let queries: Vec<&str> = RULES.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert_eq!(queries.len(), RULES.matches("- alert: ").count());
    for query in queries {
        let names = named(query);
        assert!(!names.is_empty() && names.is_subset(&told), "{query}: {:?}", names.difference(&told));
    }
    for alarm in RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(RULES_TEST.contains(alarm), "{alarm} has no test");
    }
    // What is put into the tests of the rules is named as a server names it.
    let series = Regex::new("series: '([a-z_]+)").unwrap();
    for name in series.captures_iter(RULES_TEST) {
        assert!(told.contains(&name[1]), "{}", &name[1]);
    }
}

#[test]
fn each_query_of_the_dashboard_names_only_metrics_that_are_told() {
    let told = told();
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let targets =
        dashboard["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 30, "{}", queries.len());
    for query in queries {
        let names = named(query);
        assert!(!names.is_empty() && names.is_subset(&told), "{query}: {:?}", names.difference(&told));
    }
}
