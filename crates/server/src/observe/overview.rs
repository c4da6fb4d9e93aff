//! The server as a whole: its part, how many requests it has and had, how long they took, where its tree is.

use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::Zxid;
use rookeeper_replica::Serving;

use super::view::View;
use crate::context::Context;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Overview {
    /// Only clients that ask for no more than reading are served.
    pub is_read_only: bool,
    /// The role by the name that tools know.
    pub mode: &'static str,
    /// Milliseconds from a request to its answer.
    pub latency_ms: Latency,
    pub packets_received: u64,
    pub packets_sent: u64,
    pub connections: usize,
    /// Requests without an answer yet.
    pub outstanding: usize,
    /// The last transaction that was applied.
    pub zxid: Zxid,
    /// As the original counts them.
    pub node_count: usize,
    /// The first transaction after which the tree was not that of the log or the leader.
    pub first_digest_mismatch: Option<Zxid>,
    /// Of a leader.
    pub proposal_bytes: Option<ProposalBytes>,
    pub answer_bytes: AnswerBytes,
    /// Syncs of the log slower than `fsync.warningthresholdms`.
    pub slow_syncs: u64,
    /// Clients that did not show who they are.
    pub refused_authentications: u64,
    pub uptime_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Latency {
    pub min: u64,
    pub mean: f64,
    pub max: u64,
}

/// The sizes of the transactions proposed; -1 before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProposalBytes {
    pub last: i64,
    pub min: i64,
    pub max: i64,
}

/// The sizes of the answers to reads; -1 before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AnswerBytes {
    pub last: i64,
    pub min: i64,
    pub max: i64,
}

impl Overview {
    /// Reads the state that `srvr` and `stat` begin with, from one moment.
    pub fn gather(context: &Context, view: &View) -> Overview {
        let shared = &context.shared;
        let statistics = &shared.statistics;
        let (zxid, node_count) = {
            let tree = shared.tree();
            (tree.last_zxid(), shown_node_count(tree.node_count()))
        };
        let latency = &statistics.request_latency_ms;
        let first_mismatch = statistics.first_digest_mismatch.load(Relaxed);
        Overview {
            is_read_only: view.serving == Serving::ReadOnly,
            mode: view.mode(),
            latency_ms: Latency { min: latency.min(), mean: latency.mean(), max: latency.max() },
            packets_received: statistics.packets_received.load(Relaxed),
            packets_sent: statistics.packets_sent.load(Relaxed),
            connections: shared.connection_count(),
            outstanding: shared.outstanding(),
            zxid,
            node_count,
            first_digest_mismatch: (first_mismatch != 0).then_some(Zxid(first_mismatch)),
            proposal_bytes: view.leadership().map(|leadership| ProposalBytes {
                last: leadership.last_proposal_bytes,
                min: leadership.min_proposal_bytes,
                max: leadership.max_proposal_bytes,
            }),
            answer_bytes: AnswerBytes {
                last: statistics.answer_bytes.last(),
                min: statistics.answer_bytes.min(),
                max: statistics.answer_bytes.max(),
            },
            slow_syncs: context.figures.slow_syncs.load(Relaxed),
            refused_authentications: statistics.authentications_refused.load(Relaxed),
            uptime_ms: context.clock.uptime_ms(),
        }
    }
}

/// Lets the statistics of requests, of the log and of snapshots begin anew.
pub(crate) fn reset(context: &Context) {
    context.shared.statistics.reset();
    context.figures.reset();
}

/// The original counts the root twice.
pub(super) fn shown_node_count(node_count: usize) -> usize {
    node_count + 1
}
