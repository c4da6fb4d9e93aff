//! Metrics: what each is, where its value comes from, and the value.
//!
//! What always holds: a value is measured, or it is zero because what it counts cannot happen here. Any other value is absent
//! rather than zero, so that an alarm on it says "no data" instead of never going off.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::{MonotonicMs, ServerId};
use rookeeper_replica::{
    Counts, LeaderStatus, ServerRole, Serving, Shared, Shortage, Statistics, Summary, SummaryPerNamespace,
};
use rookeeper_tree::NamespaceQuota;

use super::disk::Room;
use super::figures::Figures;
use super::process;
use super::view::View;
use crate::context::Context;
use crate::ports::quorum::MAX_WAITING_BYTES;
use crate::threads::replica_thread;

pub(crate) use super::metrics_table::{METRICS, ORIGINALS};

/// The kind of number that a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Gauge,
    Counter,
    /// Average, least, largest, count, sum.
    Summary,
    /// The same and four quantiles.
    SummaryWithQuantiles,
    /// A gauge with decimals.
    Ratio,
    /// A gauge for each first component of a path.
    GaugePerNamespace,
    CounterPerNamespace,
    SummaryPerNamespace,
    /// A summary for each learner of a leader.
    SummaryPerLearner,
    /// A gauge for each learner of a leader, with the number of its server behind the name.
    GaugePerLearner,
    /// A gauge for each value of this label, also with decimals.
    GaugePer(&'static str),
    RatioPer(&'static str),
    CounterPer(&'static str),
    /// Durations, for each stage of a request.
    Stages,
}

/// Where a value comes from.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    Text(fn(&Facts<'_>) -> String),
    /// Only on servers of this kind, named for the documentation.
    Only(&'static str, fn(&Facts<'_>) -> Option<Value<'static>>),
    /// On leaders, for each of their learners.
    PerLearner(for<'a> fn(&Facts<'a>) -> &'a [(ServerId, i64)]),
    /// Measured when asked.
    Whole(fn(&Facts<'_>) -> i64),
    /// The same, with decimals.
    Ratio(fn(&Facts<'_>) -> f64),
    /// By the first component of a path.
    PerNamespace(fn(&Facts<'_>) -> BTreeMap<String, i64>),
    SeriesPerNamespace(fn(&Statistics) -> &SummaryPerNamespace),
    /// By the value of a label.
    Per(fn(&Facts<'_>) -> Vec<(&'static str, f64)>),
    Stages(fn(&Facts<'_>) -> Vec<(&'static str, Counts)>),
    /// Counted as it happens: by request handling, or by log and snapshots.
    Counted(fn(&Statistics) -> &AtomicU64),
    CountedByStorage(fn(&Figures) -> &AtomicU64),
    Series(fn(&Statistics) -> &Summary),
    SeriesOfStorage(fn(&Figures) -> &Summary),
    /// A series that has one value, measured at start.
    Once(fn(&Figures) -> u64),
    /// Always zero: why it cannot happen.
    Never(&'static str),
    /// Not told: why.
    Absent(&'static str),
}

pub(crate) struct Metric {
    /// As the original names it.
    pub name: &'static str,
    pub kind: Kind,
    pub source: Source,
}

/// The value of a metric at a moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Text(String),
    Whole(i64),
    Ratio(f64),
    PerLearner(&'a [(ServerId, i64)]),
    PerNamespace(BTreeMap<String, i64>),
    Series(Series),
    SeriesPerNamespace(Vec<(String, Series)>),
    Per(Vec<(&'static str, f64)>),
    Stages(Vec<(&'static str, Counts)>),
}

/// The figures that are told of many values.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Series {
    pub mean: f64,
    pub min: u64,
    pub max: u64,
    pub count: u64,
    pub sum: u64,
    /// By [`QUANTILES`], for the metrics that have some.
    pub quantiles: Option<[u64; QUANTILES.len()]>,
    /// By [`SCRAPED_QUANTILES`], for all metrics.
    pub scraped: [u64; SCRAPED_QUANTILES.len()],
}

/// The quantiles that are told, by the names that the original has for them.
pub(crate) const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)];

/// The quantiles that Prometheus is told. A summary without quantiles tells the first one.
pub(crate) const SCRAPED_QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

impl Series {
    fn of(summary: &Summary, kind: Kind) -> Series {
        let has_quantiles = kind == Kind::SummaryWithQuantiles;
        Series {
            mean: summary.mean(),
            min: summary.min(),
            max: summary.max(),
            count: summary.count(),
            sum: summary.sum(),
            quantiles: has_quantiles.then(|| QUANTILES.map(|(_, share)| summary.quantile(share))),
            scraped: SCRAPED_QUANTILES.map(|share| summary.quantile(share)),
        }
    }

    fn of_one(value: u64) -> Series {
        Series {
            mean: value as f64,
            min: value,
            max: value,
            count: 1,
            sum: value,
            quantiles: None,
            scraped: [value; 3],
        }
    }
}

impl Metric {
    /// None where there is nothing to tell: the metric is absent, or for servers of another kind.
    pub fn value<'a>(&self, facts: &Facts<'a>) -> Option<Value<'a>> {
        let Metric { kind, source, .. } = self;
        let Facts { statistics, figures, .. } = facts;
        let counted = |count: &AtomicU64| Value::Whole(i64::try_from(count.load(Relaxed)).unwrap_or(i64::MAX));
        Some(match source {
            Source::Text(value) => Value::Text(value(facts)),
            Source::Only(_, value) => value(facts)?,
            Source::PerLearner(values) => Value::PerLearner(values(facts)),
            Source::Whole(value) => Value::Whole(value(facts)),
            Source::Ratio(value) => Value::Ratio(value(facts)),
            Source::PerNamespace(values) => Value::PerNamespace(values(facts)),
            Source::SeriesPerNamespace(series) => {
                let all = series(statistics).summaries().into_iter();
                let told = |(name, summary): (&str, &Summary)| (name.to_owned(), Series::of(summary, *kind));
                Value::SeriesPerNamespace(all.map(told).collect())
            }
            Source::Per(values) => Value::Per(values(facts)),
            Source::Stages(stages) => Value::Stages(stages(facts)),
            Source::Counted(count) => counted(count(statistics)),
            Source::CountedByStorage(count) => counted(count(figures)),
            Source::Series(series) => Value::Series(Series::of(series(statistics), *kind)),
            Source::SeriesOfStorage(series) => Value::Series(Series::of(series(figures), *kind)),
            Source::Once(value) => Value::Series(Series::of_one(value(figures))),
            Source::Never(_) => match kind {
                Kind::Gauge | Kind::Counter => Value::Whole(0),
                Kind::Ratio => Value::Ratio(0.0),
                _ => Value::Series(Series::of(&Summary::default(), *kind)),
            },
            Source::Absent(_) => return None,
        })
    }
}

/// A number or a text that a metric is told by, where summaries and labels are parts of names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Figure {
    Text(String),
    Whole(i64),
    Count(u64),
    Ratio(f64),
}

/// Every metric that is there, a summary as several figures, by the names that the original has for them behind `zk_`.
pub(crate) fn flattened<E>(facts: &Facts<'_>, mut tell: impl FnMut(&str, Figure) -> Result<(), E>) -> Result<(), E> {
    METRICS.iter().try_for_each(|metric| match metric.value(facts) {
        Some(Value::Per(values)) if matches!(metric.kind, Kind::RatioPer(_)) => values
            .into_iter()
            .try_for_each(|(label, value)| tell(&format!("{label}_{}", metric.name), Figure::Ratio(value))),
        Some(value) => flatten(metric.name, value, &mut tell),
        None => Ok(()),
    })
}

fn flatten<E>(name: &str, value: Value<'_>, tell: &mut impl FnMut(&str, Figure) -> Result<(), E>) -> Result<(), E> {
    match value {
        Value::Text(text) => tell(name, Figure::Text(text)),
        Value::Whole(number) => tell(name, Figure::Whole(number)),
        Value::Ratio(number) => tell(name, Figure::Ratio(number)),
        Value::PerLearner(values) => {
            values.iter().try_for_each(|(server, value)| tell(&format!("{name}_{server}"), Figure::Whole(*value)))
        }
        Value::PerNamespace(values) => values
            .into_iter()
            .try_for_each(|(namespace, value)| tell(&format!("{namespace}_{name}"), Figure::Whole(value))),
        Value::Per(values) => values
            .into_iter()
            .try_for_each(|(label, value)| tell(&format!("{label}_{name}"), Figure::Whole(value as i64))),
        Value::Stages(stages) => stages.iter().try_for_each(|(stage, counts)| {
            // `write_stage_seconds` has `write_queue` in microseconds.
            let name = format!("{}_{stage}", name.trim_end_matches("_stage_seconds"));
            tell(&format!("cnt_{name}"), Figure::Count(counts.count()))?;
            QUANTILES.iter().try_for_each(|(quantile, share)| {
                tell(&format!("{quantile}_{name}_us"), Figure::Ratio(counts.quantile_us(*share)))
            })
        }),
        Value::Series(series) => flatten_series(name, &series, tell),
        Value::SeriesPerNamespace(all) => {
            all.iter().try_for_each(|(namespace, series)| flatten_series(&format!("{namespace}_{name}"), series, tell))
        }
    }
}

fn flatten_series<E>(
    name: &str,
    series: &Series,
    tell: &mut impl FnMut(&str, Figure) -> Result<(), E>,
) -> Result<(), E> {
    tell(&format!("avg_{name}"), Figure::Ratio(series.mean))?;
    let counts = [("min", series.min), ("max", series.max), ("cnt", series.count), ("sum", series.sum)];
    counts.into_iter().try_for_each(|(what, value)| tell(&format!("{what}_{name}"), Figure::Count(value)))?;
    let quantiles = series.quantiles.iter().flat_map(|values| QUANTILES.iter().zip(values));
    quantiles
        .into_iter()
        .try_for_each(|((quantile, _), value)| tell(&format!("{quantile}_{name}"), Figure::Count(*value)))
}

/// Facts that are read once for all metrics, so that the metrics agree with each other.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub view: &'a View,
    pub statistics: &'a Statistics,
    pub figures: &'a Figures,
    /// In the time of [`LeaderStatus::since_ms`].
    pub now_ms: MonotonicMs,
    pub uptime_ms: i64,
    pub connections: usize,
    pub outstanding: usize,
    pub tls_handshakes: usize,
    /// The share of clients that the connection throttle refuses by chance.
    pub drop_probability: f64,
    /// Days until this server's certificate for clients is over; none without one.
    pub certificate_days_left: Option<i64>,
    pub watches: usize,
    /// What there is not enough of for writes that grow.
    pub shortage: Shortage,
    /// Zero where there is no budget.
    pub resident_bytes: u64,
    pub memory_limit_bytes: u64,
    pub client_memory_bytes: usize,
    pub client_memory_limit_bytes: usize,
    pub nodes: usize,
    pub ephemerals: usize,
    pub data_bytes: usize,
    pub sessions: usize,
    pub local_sessions: usize,
    pub open_file_descriptors: i64,
    pub max_file_descriptors: i64,
    pub quotas: Vec<NamespaceQuota>,
    pub queues: Vec<Queue>,
    pub rooms: Vec<Room>,
}

/// A queue, or something else that has a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queue {
    /// Ends with the unit where that is not the items.
    pub name: &'static str,
    pub length: usize,
    pub limit: usize,
}

impl<'a> Facts<'a> {
    /// Reads what needs locks, once for all metrics.
    pub fn gather(context: &'a Context, view: &'a View) -> Facts<'a> {
        let shared = &context.shared;
        let (nodes, ephemerals, data_bytes, sessions) = {
            let tree = shared.tree();
            (tree.node_count(), tree.ephemeral_count(), tree.approximate_data_size(), tree.session_count())
        };
        let local_sessions = match view.has_local_sessions(context) {
            true => shared.sessions().local_count(),
            false => 0,
        };
        // Each lock is given back before the next is taken: a guard within the expression below would be held until the end of that, and the apply
        // step holds the tree when it looks for watches.
        let watches = shared.watches().watch_count();
        let quotas = quotas(shared);
        Facts {
            view,
            statistics: &shared.statistics,
            figures: &context.figures,
            now_ms: context.clock.now().monotonic_ms,
            uptime_ms: context.clock.uptime_ms(),
            connections: shared.connection_count(),
            outstanding: shared.outstanding(),
            drop_probability: context.drop_probability(),
            tls_handshakes: context.secure_clients.as_ref().map_or(0, |clients| clients.handshakes()),
            certificate_days_left: context.secure_clients.as_ref().map(|clients| clients.tls.days_left()),
            watches,
            shortage: shared.room.shortage(),
            resident_bytes: shared.room.resident_bytes(),
            memory_limit_bytes: shared.settings.room.memory_bytes,
            client_memory_bytes: shared.budget.held_bytes(),
            client_memory_limit_bytes: shared.budget.limit_bytes(),
            nodes,
            ephemerals,
            data_bytes,
            sessions,
            local_sessions,
            open_file_descriptors: process::open_file_descriptors().unwrap_or(-1),
            max_file_descriptors: process::max_file_descriptors(),
            quotas,
            queues: queues(context),
            rooms: context.disks.rooms(&context.config),
        }
    }
}

/// Every queue that can be looked at without a lock that anybody waits for.
fn queues(context: &Context) -> Vec<Queue> {
    let queue = |name, length, limit| Queue { name, length, limit };
    let shared = &context.shared;
    let inputs = &context.inputs;
    let mut queues = vec![
        queue("clients_to_replica", inputs.max_capacity() - inputs.capacity(), inputs.max_capacity()),
        queue("transactions", context.figures.in_flight.load(Relaxed), replica_thread::MAX_IN_FLIGHT),
        queue("requests", shared.outstanding(), context.config.requests.global_outstanding_limit as usize),
        queue("deferred_events", shared.deferred_events(), replica_thread::MAX_DEFERRED_EVENTS),
        queue("connections", shared.connection_count(), context.room_for_clients),
    ];
    if let Some(sources) = context.sources.get() {
        let unwritten = sources.unwritten_bytes.load(Relaxed);
        queues.push(queue("replica_to_storage_bytes", unwritten, replica_thread::MAX_UNWRITTEN_BYTES));
        if let Some(links) = &sources.links {
            queues.push(queue("servers_to_replica", links.queued(), links.queue_limit()));
            let longest = links.waiting().into_iter().map(|(.., bytes)| bytes).max().unwrap_or(0);
            queues.push(queue("longest_to_a_learner_bytes", longest, MAX_WAITING_BYTES));
        }
    }
    if let Some(audit) = &context.audit {
        queues.push(queue("audit_bytes", audit.waiting_bytes(), audit.limit_bytes()));
    }
    queues
}

/// Quotas looked at under one lock of the tree.
const QUOTAS_AT_ONCE: usize = 500;

fn quotas(shared: &Shared) -> Vec<NamespaceQuota> {
    let mut all: Vec<NamespaceQuota> = Vec::new();
    loop {
        let last = all.last().map(|quota| quota.path.clone());
        let mut more = shared.tree().quotas_behind(last.as_deref(), QUOTAS_AT_ONCE);
        if more.is_empty() {
            return all;
        }
        all.append(&mut more);
    }
}

impl Facts<'_> {
    /// The sum over the quotas of each namespace. As in the original, no limit counts as -1.
    pub fn per_namespace(&self, value: impl Fn(&NamespaceQuota) -> Option<i64>) -> BTreeMap<String, i64> {
        let mut sums = BTreeMap::new();
        for quota in &self.quotas {
            if let Some(value) = value(quota) {
                let sum: &mut i64 = sums.entry(quota.namespace().to_owned()).or_default();
                *sum = sum.wrapping_add(value);
            }
        }
        sums
    }

    /// A member of an ensemble, with a quorum.
    pub fn is_member(&self) -> bool {
        self.view.status.role != ServerRole::Standalone && self.view.serving != Serving::ReadOnly
    }

    /// A number that only a leader has; none on every other server.
    pub fn as_leader<T: TryInto<i64>>(&self, value: impl FnOnce(&LeaderStatus) -> T) -> Option<Value<'static>> {
        let value = value(self.view.leadership()?);
        Some(Value::Whole(value.try_into().unwrap_or(i64::MAX)))
    }
}
