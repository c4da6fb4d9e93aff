//! What a sound configuration may ask for and this version cannot do.
//!
//! Here is what is harmless to ignore, and only mentioned in the log. What could open a server that should be closed is refused where it is
//! read (`tls.rs`).

use std::collections::BTreeMap;

use super::error::{ConfigError, Notice};
use super::keys::{Kind, Status};
use super::settings::Settings;

const DEFAULT_METRICS: &str = "org.apache.zookeeper.metrics.impl.DefaultMetricsProvider";
const NULL_METRICS: &str = "org.apache.zookeeper.metrics.impl.NullMetricsProvider";
pub(super) const PROMETHEUS_METRICS: &str = "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider";
const NIO: &str = "org.apache.zookeeper.server.NIOServerCnxnFactory";
const NETTY: &str = "org.apache.zookeeper.server.NettyServerCnxnFactory";

/// Classes cannot be loaded here, so their names are checked against the ones that are known.
pub(super) fn check_classes(settings: &Settings) -> Result<(), ConfigError> {
    if let Some(setting) = settings.setting("metricsProvider.className")
        && ![DEFAULT_METRICS, NULL_METRICS, PROMETHEUS_METRICS].contains(&setting.value.as_str())
    {
        let remedy = format!("Allowed: {DEFAULT_METRICS}, {NULL_METRICS} or {PROMETHEUS_METRICS}.");
        return Err(setting.fault("metrics provider class was not found", remedy).into());
    }
    if let Some(setting) = settings.setting("serverCnxnFactory")
        && ![NIO, NETTY].contains(&setting.value.as_str())
    {
        settings.warn(format!(
            "{}: serverCnxnFactory={} is ignored; allowed: {NIO} or {NETTY}, which are the same here",
            setting.place,
            super::error::excerpt(&setting.value)
        ));
    }
    Ok(())
}

/// Mentions what was set and does nothing: one line per reason, so that a long file does not fill the log.
pub(super) fn note_ignored(settings: &Settings) {
    let no_admin = settings.setting("admin.enableServer").is_some_and(|setting| setting.value == "false");
    let no_metrics = settings.text("metricsProvider.className") != Some(PROMETHEUS_METRICS);
    let mut ignored: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for setting in settings.all() {
        let Status::NoEffect(why) = setting.key.status else { continue };
        let off = (setting.name.starts_with("admin.") && no_admin)
            || (setting.name.starts_with("metricsProvider.") && no_metrics)
            || (setting.key.kind == Kind::Switch && setting.value.eq_ignore_ascii_case(setting.key.default));
        if !off {
            ignored.entry(why).or_default().push(setting.name.clone());
        }
    }
    for (why, names) in ignored {
        let (verb, names) = (if names.len() == 1 { "has" } else { "have" }, shortened(names));
        settings.notice(Notice::info(format!("{names} {verb} no effect: {why}")));
    }
}

fn shortened(mut names: Vec<String>) -> String {
    const MAX_NAMES: usize = 20;
    let more = names.len().saturating_sub(MAX_NAMES);
    names.truncate(MAX_NAMES);
    let mut text: Vec<String> = names.iter().map(|name| super::error::excerpt(name)).collect();
    if more > 0 {
        text.push(format!("{more} more"));
    }
    text.join(", ")
}
