//! `srvr`, `stat` and the other words about the server as a whole.

use std::fmt::{self, Write as _};
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_replica::Serving;

use super::connections::{self, Detail};
use super::{Page, Question};
use crate::config::ConfFacts;
use crate::observe::directories::DirectorySizes;
use crate::observe::overview::{self, Overview, ProposalBytes};
use crate::version;

pub(super) fn srvr(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    let overview = Overview::gather(question.context, question.view);
    write_head(page, &overview)?;
    write_figures(page, &overview)
}

pub(super) fn stat(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    let overview = Overview::gather(question.context, question.view);
    write_head(page, &overview)?;
    page.write_str("Clients:\n")?;
    connections::write_all(page, question, Detail::Brief)?;
    page.write_str("\n")?;
    write_figures(page, &overview)
}

fn write_head(page: &mut Page<'_>, overview: &Overview) -> fmt::Result {
    writeln!(page, "Zookeeper version: {}", version::full())?;
    match overview.is_read_only {
        true => page.write_str("READ-ONLY mode; serving only read-only clients\n"),
        false => Ok(()),
    }
}

fn write_figures(page: &mut Page<'_>, overview: &Overview) -> fmt::Result {
    let latency = &overview.latency_ms;
    writeln!(page, "Latency min/avg/max: {}/{}/{}", latency.min, ratio(latency.mean), latency.max)?;
    writeln!(page, "Received: {}\nSent: {}", overview.packets_received, overview.packets_sent)?;
    writeln!(page, "Connections: {}\nOutstanding: {}", overview.connections, overview.outstanding)?;
    writeln!(page, "Zxid: {}\nMode: {}", overview.zxid, overview.mode)?;
    writeln!(page, "Node count: {}", overview.node_count)?;
    if let Some(first) = overview.first_digest_mismatch {
        writeln!(page, "Digest mismatch: this tree can't be trusted since {first}")?;
    }
    if let Some(ProposalBytes { last, min, max }) = overview.proposal_bytes {
        writeln!(page, "Proposal sizes last/min/max: {last}/{min}/{max}")?;
    }
    Ok(())
}

/// Rounded to four decimals, with at least one.
pub(super) fn ratio(value: f64) -> String {
    format!("{:?}", (value * 10_000.0).round() / 10_000.0)
}

pub(super) fn srst(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    overview::reset(question.context);
    page.write_str("Server stats reset.\n")
}

pub(super) fn conf(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    let Question { context, view, .. } = question;
    let sizes = DirectorySizes::gather(context);
    page.write_str(&context.config.conf(ConfFacts {
        secure_client_port: context.secure_clients.as_ref().and_then(|clients| clients.port),
        membership: view.status.membership.as_ref().filter(|_| view.serving != Serving::ReadOnly),
        client_port: context.client_port.load(Relaxed),
        data_dir_size: sizes.snapshot_bytes,
        data_log_size: sizes.log_bytes,
    }))
}

pub(super) fn dirs(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    let sizes = DirectorySizes::gather(question.context);
    writeln!(page, "datadir_size: {}\nlogdir_size: {}", sizes.snapshot_bytes, sizes.log_bytes)
}

pub(super) fn hash(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    let entries: Vec<_> = question.context.shared.digests().entries().collect();
    entries.iter().try_for_each(|(zxid, digest)| writeln!(page, "{:x}: {digest}", zxid.0))
}

pub(super) fn isro(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    page.write_str(question.view.writable())
}

pub(super) fn ruok(page: &mut Page<'_>, _: &Question<'_>) -> fmt::Result {
    page.write_str("imok")
}

pub(super) fn gtmk(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    write!(page, "{}", question.context.trace_mask.load(Relaxed))
}

pub(super) fn stmk(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    let mask = i64::from_be_bytes(question.argument);
    question.context.trace_mask.store(mask, Relaxed);
    write!(page, "{mask}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_have_one_to_four_decimals() {
        for (value, text) in
            [(0.0, "0.0"), (3.0, "3.0"), (185.0 / 257.0, "0.7198"), (0.335, "0.335"), (0.00005, "0.0001")]
        {
            assert_eq!(ratio(value), text);
        }
    }
}
