//! The server as a whole, and its statistics.

use super::commands::{Answer, Failed, Question};
use super::json::{Object, TooLong};
use crate::observe::connections;
use crate::observe::directories::{self, DirectorySizes};
use crate::observe::metrics::{self, Facts, Figure};
use crate::observe::overview::{self, AnswerBytes, Overview, ProposalBytes};
use crate::version;

/// The way in which digests are made.
const DIGEST_VERSION: i32 = 2;

pub(super) fn server_stats(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let overview = Overview::gather(question.context, question.view);
    write_overview(answer, &overview, DirectorySizes::gather(question.context))
}

pub(super) fn write_overview(answer: &mut Object<'_>, overview: &Overview, sizes: DirectorySizes) -> Answer {
    answer.scalar("version", version::full().as_str());
    answer.scalar("read_only", overview.is_read_only);
    answer.object("server_stats", |stats| {
        stats.scalar("packets_sent", overview.packets_sent);
        stats.scalar("packets_received", overview.packets_received);
        stats.scalar("fsync_threshold_exceed_count", overview.slow_syncs);
        write_answer_bytes(stats, "client_response_stats", overview.answer_bytes)?;
        stats.scalar("provider_null", false);
        stats.scalar("server_state", overview.mode);
        stats.scalar("outstanding_requests", overview.outstanding);
        stats.scalar("min_latency", overview.latency_ms.min);
        stats.scalar("avg_latency", overview.latency_ms.mean);
        stats.scalar("max_latency", overview.latency_ms.max);
        stats.scalar("data_dir_size", sizes.snapshot_bytes);
        stats.scalar("log_dir_size", sizes.log_bytes);
        stats.scalar("last_processed_zxid", overview.zxid.0);
        stats.scalar("num_alive_client_connections", overview.connections);
        stats.scalar("auth_failed_count", overview.refused_authentications);
        // Not counted here, as in `mntr`.
        stats.scalar("non_mtlsremote_conn_count", None::<u64>);
        stats.scalar("non_mtlslocal_conn_count", None::<u64>);
        stats.scalar("uptime", overview.uptime_ms);
        Ok::<(), TooLong>(())
    })?;
    write_answer_bytes(answer, "client_response", overview.answer_bytes)?;
    if let Some(ProposalBytes { last, min, max }) = overview.proposal_bytes {
        write_sizes(answer, "proposal_stats", [last, min, max])?;
    }
    answer.scalar("node_count", overview.node_count);
    Ok(())
}

fn write_answer_bytes(answer: &mut Object<'_>, name: &str, bytes: AnswerBytes) -> Result<(), TooLong> {
    write_sizes(answer, name, [bytes.last, bytes.min, bytes.max])
}

fn write_sizes(answer: &mut Object<'_>, name: &str, [last, min, max]: [i64; 3]) -> Result<(), TooLong> {
    answer.object(name, |sizes| {
        sizes.scalar("last_buffer_size", last);
        sizes.scalar("min_buffer_size", min);
        sizes.scalar("max_buffer_size", max);
        Ok(())
    })
}

pub(super) fn monitor(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let facts = Facts::gather(question.context, question.view);
    metrics::flattened(&facts, |name, figure| {
        match figure {
            Figure::Text(text) => answer.scalar(name, text.as_str()),
            Figure::Whole(number) => answer.scalar(name, number),
            Figure::Count(number) => answer.scalar(name, number),
            Figure::Ratio(number) => answer.scalar(name, number),
        }
        Ok(())
    })
}

pub(super) fn dirs(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let sizes = DirectorySizes::gather(question.context);
    answer.scalar("datadir_size", sizes.snapshot_bytes);
    answer.scalar("logdir_size", sizes.log_bytes);
    Ok(())
}

pub(super) fn hash(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let digests: Vec<_> = question.context.shared.digests().entries().collect();
    answer.list("digests", |list| {
        digests.into_iter().try_for_each(|(zxid, digest)| {
            list.object(|entry| {
                entry.scalar("zxid", zxid.0);
                entry.scalar("digest", digest);
                entry.scalar("digest_version", DIGEST_VERSION);
                Ok::<(), Failed>(())
            })
        })
    })
}

pub(super) fn is_read_only(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    answer.scalar("read_only", question.view.serving == rookeeper_replica::Serving::ReadOnly);
    Ok(())
}

pub(super) fn last_snapshot(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let last = directories::last_snapshot(question.context);
    // Where there is none, the original says -1 of both.
    let (zxid, written_s) = last.map_or((-1, -1), |last| (last.zxid.0, last.written_s));
    answer.scalar("zxid", format!("{zxid:x}").as_str());
    answer.scalar("timestamp", written_s);
    Ok(())
}

pub(super) fn stat_reset(_: &mut Object<'_>, question: &Question<'_>) -> Answer {
    overview::reset(question.context);
    Ok(())
}

pub(super) fn connection_stat_reset(_: &mut Object<'_>, question: &Question<'_>) -> Answer {
    connections::reset(question.context);
    Ok(())
}
