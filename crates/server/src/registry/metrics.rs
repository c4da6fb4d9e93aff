//! The registry's figures, as Prometheus reads them: `GET /metrics` on the registry's port.
//!
//! What always holds here: each name begins with `rookeeper_registry_`, stands in one table with what it means, and is told at each scrape.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_registry::{ByCaller, Preservation, Status, Tally};

use super::service::Service;
use crate::ports::metrics::process_page;
use crate::version;

/// What Prometheus calls this form of text.
pub(super) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Requests that were answered, by the first digit of the status.
#[derive(Debug, Default)]
pub(super) struct Answered([AtomicU64; 4]);

impl Answered {
    pub fn count(&self, status: u16) {
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        self.0[class].fetch_add(1, Relaxed);
    }
}

/// What is known at one moment.
struct Facts {
    statuses: Vec<(Status, u64)>,
    applications: usize,
    bytes: usize,
    shows_lists: bool,
    preservation: Preservation,
    tally: Tally,
    changes: u64,
    followers: usize,
    bodies: (usize, u64),
    outgoing: (usize, u64),
    answered: [u64; 4],
    /// By address: instances whose changes wait, whether the server answers, changes dropped.
    peers: Vec<(String, usize, bool, u64)>,
}

type Values = Vec<(String, f64)>;

/// A name behind the prefix, whether it only grows, what it means, and its values with their labels.
type Metric = (&'static str, &'static str, &'static str, fn(&Facts) -> Values);

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

const METRICS: [Metric; 23] = [
    ("instances", GAUGE, "instances, by the status that is shown", |facts| {
        facts.statuses.iter().map(|(status, count)| (label("status", status.name()), *count as f64)).collect()
    }),
    ("applications", GAUGE, "applications with an instance", |facts| one(facts.applications)),
    ("instance_bytes", GAUGE, "memory that instances take, about", |facts| one(facts.bytes)),
    ("shows_lists", GAUGE, "1 once lists are shown, 0 before", |facts| one(usize::from(facts.shows_lists))),
    ("preserves", GAUGE, "1 while self-preservation holds and no lease ends", |facts| {
        one(usize::from(!facts.preservation.evicts))
    }),
    ("expected_clients", GAUGE, "clients that are expected to send heartbeats", |facts| {
        single(facts.preservation.clients)
    }),
    ("renewals_last_minute", GAUGE, "heartbeats of the last whole minute", |facts| single(facts.preservation.renewals)),
    ("renewals_threshold", GAUGE, "heartbeats a minute above which leases end", |facts| {
        single(facts.preservation.threshold)
    }),
    ("registrations_total", COUNTER, "registrations, by who sent them", |facts| callers(facts.tally.registered)),
    ("registrations_refused_total", COUNTER, "registrations for which there was no room", |facts| {
        single(facts.tally.refused)
    }),
    (
        "registrations_kept_out_total",
        COUNTER,
        "registrations of peers that would have brought back a cancelled instance",
        |facts| single(facts.tally.kept_out),
    ),
    ("heartbeats_total", COUNTER, "heartbeats that renewed a lease, by who sent them", |facts| {
        callers(facts.tally.renewed)
    }),
    ("heartbeats_unknown_total", COUNTER, "heartbeats of instances that have to register, by who sent them", |facts| {
        callers(facts.tally.unknown)
    }),
    ("cancels_total", COUNTER, "instances that were cancelled", |facts| single(facts.tally.cancelled)),
    ("evictions_total", COUNTER, "instances whose lease ended", |facts| single(facts.tally.evicted)),
    ("overrides_total", COUNTER, "overrides that were set or taken away", |facts| single(facts.tally.overridden)),
    ("changes_total", COUNTER, "changes that clients can see", |facts| single(facts.changes)),
    ("followers", GAUGE, "clients that wait for changes", |facts| one(facts.followers)),
    ("body_bytes", GAUGE, "room that arriving bodies take", |facts| one(facts.bodies.0)),
    ("bodies_given_up_total", COUNTER, "bodies that were given up to make room", |facts| single(facts.bodies.1)),
    (
        "answer_bytes",
        GAUGE,
        "bytes of answers on their way, those that several clients are sent counted once",
        |facts| one(facts.outgoing.0),
    ),
    ("answers_given_up_total", COUNTER, "answers that clients took too slowly, given up to make room", |facts| {
        single(facts.outgoing.1)
    }),
    ("requests_total", COUNTER, "requests of Eureka's protocol, by the first digit of the status", |facts| {
        facts
            .answered
            .iter()
            .zip(2..)
            .map(|(count, class)| (label("status", &format!("{class}xx")), *count as f64))
            .collect()
    }),
];

/// The same for each other server.
const OF_PEERS: [Metric; 3] = [
    ("peer_answers", GAUGE, "1 while the other server answers", |facts| {
        facts.peers.iter().map(|(peer, _, answers, _)| (label("peer", peer), f64::from(*answers))).collect()
    }),
    ("peer_waiting", GAUGE, "instances whose changes the other server has not heard of", |facts| {
        facts.peers.iter().map(|(peer, waiting, ..)| (label("peer", peer), *waiting as f64)).collect()
    }),
    ("peer_dropped_total", COUNTER, "changes that another server will not hear of, for want of room", |facts| {
        facts.peers.iter().map(|(peer, .., dropped)| (label("peer", peer), *dropped as f64)).collect()
    }),
];

/// Everything that is known at this moment.
pub(super) fn page(service: &Service) -> String {
    let facts = Facts::gather(service);
    let mut page = String::with_capacity(8 << 10);
    for (name, kind, meaning, values) in METRICS.iter().chain(&OF_PEERS) {
        // Writing into memory cannot fail.
        let _ = writeln!(page, "# HELP rookeeper_registry_{name} {meaning}\n# TYPE rookeeper_registry_{name} {kind}");
        for (labels, value) in values(&facts) {
            let _ = writeln!(page, "rookeeper_registry_{name}{labels} {value}");
        }
    }
    let _ =
        writeln!(page, "# HELP rookeeper_registry_info version of this server\n# TYPE rookeeper_registry_info gauge");
    let _ = writeln!(page, "rookeeper_registry_info{} 1", label("version", version::NUMBER));
    page.push_str(&process_page());
    page
}

impl Facts {
    fn gather(service: &Service) -> Facts {
        let peers = service.peers.all();
        let peers = peers.iter().filter(|peer| !peer.is_own());
        let peers = peers.map(|peer| {
            let (waiting, answers) = peer.state();
            (peer.address.to_string(), waiting, answers, peer.dropped())
        });
        let peers = peers.collect();
        service.with(|registry, now| Facts {
            statuses: Status::ALL.map(|status| (status, registry.count(status))).to_vec(),
            applications: registry.applications_count(),
            bytes: registry.bytes(),
            shows_lists: registry.shows_lists(now),
            preservation: registry.preservation(now),
            tally: registry.tally(),
            changes: registry.mark().number(),
            followers: service.followers.waiting(),
            bodies: service.intake.state(),
            outgoing: service.outlet.state(),
            answered: service.answered.0.each_ref().map(|count| count.load(Relaxed)),
            peers,
        })
    }
}

fn one(value: usize) -> Values {
    vec![(String::new(), value as f64)]
}

fn single(value: u64) -> Values {
    vec![(String::new(), value as f64)]
}

fn callers(by: ByCaller) -> Values {
    vec![(label("from", "clients"), by.clients as f64), (label("from", "peers"), by.replicas as f64)]
}

/// A label whose value is written so that nothing in it ends it.
fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{{{name}=\"{value}\"}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_lists_each_metric() {
        let guide = include_str!("../../../../docs/guide/registry.md");
        for (name, ..) in METRICS.iter().chain(&OF_PEERS) {
            assert!(guide.contains(&format!("`{name}")), "{name} is not in the guide");
        }
    }
}
