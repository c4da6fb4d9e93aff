//! Settings of the port on which Prometheus asks for metrics.

use super::settings::Settings;
use super::supported::PROMETHEUS_METRICS;

/// Where metrics are asked for over HTTP, and which.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct MetricsPort {
    /// None for all addresses of this machine.
    pub host: Option<String>,
    /// 0 takes any free one.
    pub port: u16,
    /// Whether the figures of the process are told too: processor time, memory, files.
    pub tells_process: bool,
}

impl MetricsPort {
    /// None unless the configuration names the original's provider for Prometheus.
    pub(super) fn read(settings: &Settings) -> Option<MetricsPort> {
        if settings.text("metricsProvider.className") != Some(PROMETHEUS_METRICS) {
            return None;
        }
        let host = settings.text("metricsProvider.httpHost").filter(|host| !host.is_empty() && *host != "0.0.0.0");
        Some(MetricsPort {
            host: host.map(str::to_owned),
            port: u16::try_from(settings.whole("metricsProvider.httpPort")).unwrap_or(u16::MAX),
            tells_process: settings.flag("metricsProvider.exportJvmInfo"),
        })
    }
}
