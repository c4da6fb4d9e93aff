//! Every metric of the original, in the order in which `mntr` prints them, and where its value comes from here; behind them our own.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_replica::{Statistics, Summary, SummaryPerNamespace};

use super::figures::Figures;
use super::metrics::{Facts, Kind, Metric, Source, Value};
use super::overview::shown_node_count;
use super::stages;
use crate::version;

const fn text(name: &'static str, text: fn(&Facts<'_>) -> String) -> Metric {
    Metric { name, kind: Kind::Text, source: Source::Text(text) }
}

const fn member_gauge(name: &'static str, value: fn(&Facts<'_>) -> Option<Value<'static>>) -> Metric {
    Metric { name, kind: Kind::Gauge, source: Source::Only("members of an ensemble", value) }
}

const fn leader_gauge(name: &'static str, value: fn(&Facts<'_>) -> Option<Value<'static>>) -> Metric {
    Metric { name, kind: Kind::Gauge, source: Source::Only("leaders", value) }
}

const fn gauge(name: &'static str, value: fn(&Facts<'_>) -> i64) -> Metric {
    Metric { name, kind: Kind::Gauge, source: Source::Whole(value) }
}

const fn per_namespace(name: &'static str, kind: Kind, values: fn(&Facts<'_>) -> BTreeMap<String, i64>) -> Metric {
    Metric { name, kind, source: Source::PerNamespace(values) }
}

const fn counter(name: &'static str, counter: fn(&Statistics) -> &AtomicU64) -> Metric {
    Metric { name, kind: Kind::Counter, source: Source::Counted(counter) }
}

const fn storage_counter(name: &'static str, counter: fn(&Figures) -> &AtomicU64) -> Metric {
    Metric { name, kind: Kind::Counter, source: Source::CountedByStorage(counter) }
}

const fn series(name: &'static str, kind: Kind, series: fn(&Statistics) -> &Summary) -> Metric {
    Metric { name, kind, source: Source::Series(series) }
}

const fn series_per_namespace(name: &'static str, series: fn(&Statistics) -> &SummaryPerNamespace) -> Metric {
    Metric { name, kind: Kind::SummaryPerNamespace, source: Source::SeriesPerNamespace(series) }
}

const fn per(name: &'static str, kind: Kind, values: fn(&Facts<'_>) -> Vec<(&'static str, f64)>) -> Metric {
    Metric { name, kind, source: Source::Per(values) }
}

/// A summary of one value.
const fn once(name: &'static str, value: fn(&Figures) -> u64) -> Metric {
    Metric { name, kind: Kind::Summary, source: Source::Once(value) }
}

const fn storage_series(name: &'static str, series: fn(&Figures) -> &Summary) -> Metric {
    Metric { name, kind: Kind::Summary, source: Source::SeriesOfStorage(series) }
}

const fn never(name: &'static str, kind: Kind, why: &'static str) -> Metric {
    Metric { name, kind, source: Source::Never(why) }
}

const fn absent(name: &'static str, kind: Kind, why: &'static str) -> Metric {
    Metric { name, kind, source: Source::Absent(why) }
}

const NOT_TIMED: &str =
    "what observers are told goes into their queues together with the commit, which takes no time of its own";
const NOT_COUNTED: &str = "connections are not counted by whether they are encrypted";
const NO_CACHE: &str = "answers are not cached, they are encoded straight from the tree";
const NO_CLEANER: &str = "watches of a closed connection are removed at once";
const NO_STAGE: &str = "there is no such stage or queue";
const IN_UPDATES: &str = "part of `updatelatency`";

/// How many of the entries of [`METRICS`] are the original's.
pub(crate) const ORIGINALS: usize = METRICS.len() - 26;

#[rustfmt::skip]
pub(crate) const METRICS: &[Metric] = &[
    text("version", |_| version::full()),
    text("server_state", |facts| facts.view.mode().to_owned()),
    Metric {
        name: "peer_state",
        kind: Kind::Text,
        source: Source::Only("members of an ensemble", |facts| facts.is_member().then(|| Value::Text(facts.view.peer_state()))),
    },
    Metric {
        name: "observer_master_id",
        kind: Kind::Gauge,
        source: Source::Only("observers", |facts| {
            let status = &facts.view.status;
            let master = status.fed_by.filter(|_| facts.is_member())?;
            Some(Value::Whole(master.0))
        }),
    },
    gauge("ephemerals_count", |facts| facts.ephemerals as i64),
    gauge("num_alive_connections", |facts| facts.connections as i64),
    Metric { name: "avg_latency", kind: Kind::Gauge, source: Source::Ratio(|facts| facts.statistics.request_latency_ms.mean()) },
    leader_gauge("min_proposal_size", |facts| facts.as_leader(|leadership| leadership.min_proposal_bytes)),
    gauge("outstanding_requests", |facts| facts.outstanding as i64),
    gauge("znode_count", |facts| shown_node_count(facts.nodes) as i64),
    gauge("global_sessions", |facts| facts.sessions as i64),
    absent("non_mtls_remote_conn_count", Kind::Gauge, NOT_COUNTED),
    gauge("last_client_response_size", |facts| facts.statistics.answer_bytes.last()),
    gauge("packets_sent", |facts| facts.statistics.packets_sent.load(Relaxed) as i64),
    gauge("packets_received", |facts| facts.statistics.packets_received.load(Relaxed) as i64),
    leader_gauge("max_proposal_size", |facts| facts.as_leader(|leadership| leadership.max_proposal_bytes)),
    gauge("max_client_response_size", |facts| facts.statistics.answer_bytes.max()),
    leader_gauge("synced_followers", |facts| facts.as_leader(|leadership| leadership.synced_followers)),
    Metric { name: "connection_drop_probability", kind: Kind::Ratio, source: Source::Ratio(|facts| facts.drop_probability) },
    gauge("watch_count", |facts| facts.watches as i64),
    leader_gauge("synced_non_voting_followers", |facts| facts.as_leader(|leadership| leadership.synced_non_voting_followers)),
    Metric {
        name: "synced_observers",
        kind: Kind::Gauge,
        source: Source::Only("leaders, and on followers with an `observerMasterPort`", |facts| {
            facts.view.synced_observers().map(|count| Value::Whole(count as i64))
        }),
    },
    gauge("auth_failed_count", |facts| facts.statistics.authentications_refused.load(Relaxed) as i64),
    gauge("min_latency", |facts| facts.statistics.request_latency_ms.min() as i64),
    gauge("max_file_descriptor_count", |facts| facts.max_file_descriptors),
    gauge("approximate_data_size", |facts| facts.data_bytes as i64),
    gauge("open_file_descriptor_count", |facts| facts.open_file_descriptors),
    leader_gauge("last_proposal_size", |facts| facts.as_leader(|leadership| leadership.last_proposal_bytes)),
    leader_gauge("pending_syncs", |facts| facts.as_leader(|leadership| leadership.pending_syncs)),
    leader_gauge("leader_uptime", |facts| facts.as_leader(|leadership| (facts.now_ms - leadership.since_ms).max(0))),
    gauge("local_sessions", |facts| facts.local_sessions as i64),
    gauge("uptime", |facts| facts.uptime_ms),
    gauge("max_latency", |facts| facts.statistics.request_latency_ms.max() as i64),
    gauge("outstanding_tls_handshake", |facts| facts.tls_handshakes as i64),
    leader_gauge("learners", |facts| facts.as_leader(|leadership| leadership.learners)),
    gauge("min_client_response_size", |facts| facts.statistics.answer_bytes.min()),
    absent("non_mtls_local_conn_count", Kind::Gauge, NOT_COUNTED),
    member_gauge("quorum_size", |facts| {
        let membership = facts.view.status.membership.as_ref().filter(|_| facts.is_member())?;
        Some(Value::Whole(membership.participants().count() as i64))
    }),
    per_namespace("quota_count_limit_per_namespace", Kind::GaugePerNamespace, |facts| facts.per_namespace(|quota| quota.count_limit)),
    per_namespace("quota_bytes_limit_per_namespace", Kind::GaugePerNamespace, |facts| facts.per_namespace(|quota| quota.bytes_limit)),
    per_namespace("quota_count_usage_per_namespace", Kind::GaugePerNamespace, |facts| facts.per_namespace(|quota| quota.count_used)),
    per_namespace("quota_bytes_usage_per_namespace", Kind::GaugePerNamespace, |facts| facts.per_namespace(|quota| quota.bytes_used)),
    counter("watch_bytes", |statistics| &statistics.watch_bytes),
    counter("stale_requests_dropped", |statistics| &statistics.stale_requests_dropped),
    counter("throttled_ops", |statistics| &statistics.throttled_requests),
    storage_counter("insecure_admin_count", |figures| &figures.insecure_admin_connections),
    counter("connection_rejected", |statistics| &statistics.connections_rejected),
    counter("sessionless_connections_expired", |statistics| &statistics.sessionless_connections_expired),
    never("dead_watchers_queued", Kind::Counter, NO_CLEANER),
    counter("stale_requests", |statistics| &statistics.stale_requests),
    counter("connection_drop_count", |statistics| &statistics.connections_dropped),
    absent("response_packet_cache_hits", Kind::Counter, NO_CACHE),
    counter("bytes_received_count", |statistics| &statistics.bytes_received),
    never("add_dead_watcher_stall_time", Kind::Counter, NO_CLEANER),
    counter("request_throttle_wait_count", |statistics| &statistics.throttle_waits),
    absent("requests_not_forwarded_to_commit_processor", Kind::Counter, NO_STAGE),
    absent("response_packet_cache_misses", Kind::Counter, NO_CACHE),
    absent("prep_processor_request_queued", Kind::Counter, NO_STAGE),
    counter("stale_replies", |statistics| &statistics.stale_answers),
    counter("response_bytes", |statistics| &statistics.bytes_sent),
    counter("ensemble_auth_fail", |statistics| &statistics.ensemble_names_wrong),
    counter("diff_count", |statistics| &statistics.member.log_syncs),
    counter("connection_revalidate_count", |statistics| &statistics.sessions_presented),
    counter("quit_leading_due_to_disloyal_voter", |statistics| &statistics.member.disloyal_voters),
    never("unrecoverable_error_count", Kind::Counter, "the first one ends the process"),
    counter("unsuccessful_handshake", |statistics| &statistics.tls_handshakes_failed),
    counter("commit_count", |statistics| &statistics.member.commits),
    counter("outstanding_changes_queued", |statistics| &statistics.changes_queued),
    absent("request_commit_queued", Kind::Counter, NO_STAGE),
    counter("ensemble_auth_skip", |statistics| &statistics.ensemble_names_not_judged),
    absent("skip_learner_request_to_next_processor_count", Kind::Counter, NO_STAGE),
    counter("proposal_count", |statistics| &statistics.member.proposals),
    counter("large_requests_rejected", |statistics| &statistics.large_requests_refused),
    counter("outstanding_changes_removed", |statistics| &statistics.changes_removed),
    storage_counter("restore_error_count", |figures| &figures.restore_errors),
    counter("cnxn_closed_without_zk_server_running", |statistics| &statistics.tls_connections_not_served),
    counter("looking_count", |statistics| &statistics.member.searches),
    storage_counter("snapshot_rate_limited_count", |figures| &figures.snapshots_rate_limited),
    counter("learner_proposal_received_count", |statistics| &statistics.member.proposals_received),
    counter("digest_mismatches_count", |statistics| &statistics.digest_mismatches),
    never("dead_watchers_cleared", Kind::Counter, NO_CLEANER),
    counter("ensemble_auth_success", |statistics| &statistics.ensemble_names_right),
    counter("learner_commit_received_count", |statistics| &statistics.member.commits_received),
    storage_counter("snapshot_error_count", |figures| &figures.snapshot_errors),
    counter("connection_request_count", |statistics| &statistics.connection_requests),
    absent("response_packet_get_children_cache_misses", Kind::Counter, NO_CACHE),
    counter("snap_count", |statistics| &statistics.member.snapshot_syncs),
    counter("stale_sessions_expired", |statistics| &statistics.sessions_expired),
    storage_counter("restore_rate_limited_count", |figures| &figures.restores_rate_limited),
    absent("response_packet_get_children_cache_hits", Kind::Counter, NO_CACHE),
    absent("sync_processor_request_queued", Kind::Counter, NO_STAGE),
    counter("tls_handshake_exceeded", |statistics| &statistics.tls_handshakes_beyond_limit),
    counter("revalidate_count", |statistics| &statistics.member.revalidations),
    per_namespace("quota_exceeded_error_per_namespace", Kind::CounterPerNamespace, |facts| {
        facts.statistics.quota_exceeded.counts().into_iter().map(|(name, count)| (name, count as i64)).collect()
    }),
    absent("socket_closing_time", Kind::Summary, "nobody waits for a socket to close"),
    absent("proposal_process_time", Kind::Summary, NO_STAGE),
    series("leader_unavailable_time", Kind::Summary, |statistics| &statistics.member.unavailable_until_leading_ms),
    series("node_created_watch_count", Kind::Summary, |statistics| &statistics.watchers_of_created),
    absent("session_queues_drained", Kind::Summary, NO_STAGE),
    absent("write_commit_proc_req_queued", Kind::Summary, NO_STAGE),
    series("connection_token_deficit", Kind::Summary, |statistics| &statistics.connection_token_deficit),
    absent("read_commit_proc_req_queued", Kind::Summary, NO_STAGE),
    series("node_deleted_watch_count", Kind::Summary, |statistics| &statistics.watchers_of_deleted),
    once("startup_txns_load_time", |figures| figures.log_load_time_ms.load(Relaxed)),
    absent("sync_processor_queue_size", Kind::Summary, "what waits for the disk is one batch: `sync_processor_batch_size`"),
    series("follower_sync_time", Kind::Summary, |statistics| &statistics.member.follower_sync_ms),
    absent("prep_processor_queue_size", Kind::Summary, "part of `outstanding_requests`"),
    storage_series("fsynctime", |figures| &figures.fsync_time_ms),
    series("inflight_snap_count", Kind::Summary, |statistics| &statistics.member.snapshot_syncs_under_way),
    absent("reads_issued_from_session_queue", Kind::Summary, NO_STAGE),
    storage_series("restore_time", |figures| &figures.restore_time_ms),
    absent("learner_request_processor_queue_size", Kind::Summary, NO_STAGE),
    storage_series("snapshottime", |figures| &figures.snapshot_time_ms),
    series("unavailable_time", Kind::Summary, |statistics| &statistics.member.unavailable_ms),
    once("startup_txns_loaded", |figures| figures.transactions_loaded.load(Relaxed)),
    absent("reads_after_write_in_session_queue", Kind::Summary, NO_STAGE),
    absent("requests_in_session_queue", Kind::Summary, NO_STAGE),
    absent("write_commit_proc_issued", Kind::Summary, NO_STAGE),
    absent("prep_process_time", Kind::Summary, IN_UPDATES),
    absent("pending_session_queue_size", Kind::Summary, NO_STAGE),
    absent("time_waiting_empty_pool_in_commit_processor_read_ms", Kind::Summary, NO_STAGE),
    absent("commit_process_time", Kind::Summary, NO_STAGE),
    once("dbinittime", |figures| figures.recovery_time_ms.load(Relaxed)),
    series("inflight_diff_count", Kind::Summary, |statistics| &statistics.member.log_syncs_under_way),
    absent("netty_queued_buffer_capacity", Kind::Summary, NO_STAGE),
    series("election_time", Kind::Summary, |statistics| &statistics.member.election_ms),
    absent("commit_commit_proc_req_queued", Kind::Summary, NO_STAGE),
    storage_series("sync_processor_batch_size", |figures| &figures.sync_batch_size),
    series("node_children_watch_count", Kind::Summary, |statistics| &statistics.watchers_of_children),
    absent("write_batch_time_in_commit_processor", Kind::Summary, NO_STAGE),
    absent("read_commit_proc_issued", Kind::Summary, NO_STAGE),
    absent("concurrent_request_processing_in_commit_processor", Kind::Summary, NO_STAGE),
    series("observer_sync_time", Kind::Summary, |statistics| &statistics.member.observer_sync_ms),
    series("node_changed_watch_count", Kind::Summary, |statistics| &statistics.watchers_of_changed),
    absent("sync_process_time", Kind::Summary, "see `fsynctime`"),
    once("startup_snap_load_time", |figures| figures.snapshot_load_time_ms.load(Relaxed)),
    absent("prep_processor_queue_time_ms", Kind::SummaryWithQuantiles, NO_STAGE),
    absent("jvm_pause_time_ms", Kind::SummaryWithQuantiles, "there is no Java machine"),
    absent("close_session_prep_time", Kind::SummaryWithQuantiles, IN_UPDATES),
    absent("read_commitproc_time_ms", Kind::SummaryWithQuantiles, NO_STAGE),
    series("updatelatency", Kind::SummaryWithQuantiles, |statistics| &statistics.update_latency_ms),
    absent("local_write_committed_time_ms", Kind::SummaryWithQuantiles, NO_STAGE),
    series("request_throttle_queue_time_ms", Kind::SummaryWithQuantiles, |statistics| &statistics.throttle_wait_ms),
    series("readlatency", Kind::SummaryWithQuantiles, |statistics| &statistics.read_latency_ms),
    series("quorum_ack_latency", Kind::SummaryWithQuantiles, |statistics| &statistics.member.quorum_latency_ms),
    never("om_commit_process_time_ms", Kind::SummaryWithQuantiles, NOT_TIMED),
    absent("read_final_proc_time_ms", Kind::SummaryWithQuantiles, NO_STAGE),
    series("commit_propagation_latency", Kind::SummaryWithQuantiles, |statistics| &statistics.member.commit_latency_ms),
    never("dead_watchers_cleaner_latency", Kind::SummaryWithQuantiles, NO_CLEANER),
    absent("write_final_proc_time_ms", Kind::SummaryWithQuantiles, NO_STAGE),
    series("proposal_ack_creation_latency", Kind::SummaryWithQuantiles, |statistics| &statistics.member.acknowledgement_latency_ms),
    series("proposal_latency", Kind::SummaryWithQuantiles, |statistics| &statistics.member.proposal_latency_ms),
    never("om_proposal_process_time_ms", Kind::SummaryWithQuantiles, NOT_TIMED),
    absent("sync_processor_queue_and_flush_time_ms", Kind::SummaryWithQuantiles, NO_STAGE),
    series("propagation_latency", Kind::SummaryWithQuantiles, |statistics| &statistics.propagation_latency_ms),
    absent("server_write_committed_time_ms", Kind::SummaryWithQuantiles, NO_STAGE),
    absent("sync_processor_queue_time_ms", Kind::SummaryWithQuantiles, NO_STAGE),
    absent("sync_processor_queue_flush_time_ms", Kind::SummaryWithQuantiles, NO_STAGE),
    absent("write_commitproc_time_ms", Kind::SummaryWithQuantiles, NO_STAGE),
    absent("learner_handler_qp_size", Kind::SummaryPerLearner, "packets go out in batches as they gather; how late a learner is: `learner_behind_ms`"),
    absent("read_per_namespace", Kind::SummaryPerNamespace, "every read would pay for it"),
    series_per_namespace("write_per_namespace", |statistics| &statistics.written_bytes),
    absent("learner_handler_qp_time_ms", Kind::SummaryPerLearner, NO_STAGE),
    absent("ack_latency", Kind::SummaryPerLearner, "`quorum_ack_latency` is told, and for each learner `learner_behind_ms`"),
    // Our own.
    Metric {
        name: "learner_behind_ms",
        kind: Kind::GaugePerLearner,
        source: Source::PerLearner(|facts| &facts.view.status.learner_lags_ms),
    },
    Metric {
        name: "log_lines_missing",
        kind: Kind::Counter,
        source: Source::Whole(|_| i64::try_from(crate::logging::missing_lines()).unwrap_or(i64::MAX)),
    },
    storage_counter("audit_lines_written", |figures| &figures.audit_lines_written),
    storage_counter("audit_lines_dropped", |figures| &figures.audit_lines_dropped),
    storage_counter("fsync_threshold_exceed_count", |figures| &figures.slow_syncs),
    storage_counter("snapshots_purged", |figures| &figures.snapshots_purged),
    storage_counter("logs_purged", |figures| &figures.logs_purged),
    gauge("short_of_disk", |facts| i64::from(facts.shortage.disk)),
    gauge("short_of_memory", |facts| i64::from(facts.shortage.memory)),
    gauge("memory_resident_bytes", |facts| i64::try_from(facts.resident_bytes).unwrap_or(i64::MAX)),
    gauge("memory_limit_bytes", |facts| i64::try_from(facts.memory_limit_bytes).unwrap_or(i64::MAX)),
    counter("growing_writes_refused", |statistics| &statistics.growing_writes_refused),
    gauge("client_memory_bytes", |facts| facts.client_memory_bytes as i64),
    gauge("client_memory_limit_bytes", |facts| i64::try_from(facts.client_memory_limit_bytes).unwrap_or(i64::MAX)),
    counter("connections_cut_for_memory", |statistics| &statistics.connections_cut_for_memory),
    Metric {
        name: "client_certificate_days_left",
        kind: Kind::Gauge,
        source: Source::Only("servers whose clients may use TLS", |facts| facts.certificate_days_left.map(Value::Whole)),
    },
    member_gauge("epoch", |facts| facts.is_member().then(|| Value::Whole(i64::from(facts.view.status.epoch.0)))),
    member_gauge("leader_id", |facts| {
        let leader = facts.view.status.leader.filter(|_| facts.is_member())?;
        Some(Value::Whole(leader.0))
    }),
    Metric { name: "write_stage_seconds", kind: Kind::Stages, source: Source::Stages(|facts| stages::of_writes(&facts.statistics.stages, facts.figures)) },
    Metric { name: "read_stage_seconds", kind: Kind::Stages, source: Source::Stages(|facts| stages::of_reads(&facts.statistics.stages, facts.figures)) },
    per("queue_length", Kind::GaugePer("queue"), |facts| facts.queues.iter().map(|queue| (queue.name, queue.length as f64)).collect()),
    per("queue_limit", Kind::GaugePer("queue"), |facts| facts.queues.iter().map(|queue| (queue.name, queue.limit as f64)).collect()),
    per("drops", Kind::CounterPer("reason"), |facts| facts.figures.drops.counts().map(|(name, count)| (name, count as f64)).collect()),
    per("events", Kind::CounterPer("event"), |facts| facts.figures.events.counts().map(|(name, count)| (name, count as f64)).collect()),
    per("disk_free_bytes", Kind::GaugePer("disk"), |facts| facts.rooms.iter().map(|room| (room.name, room.free_bytes as f64)).collect()),
    per("disk_days_left", Kind::RatioPer("disk"), |facts| {
        facts.rooms.iter().filter_map(|room| Some((room.name, room.days_left?))).collect()
    }),
];
