//! `srvr`, `stat` and the other words about the server as a whole.

use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::Zxid;
use rookeeper_replica::{Connection, Serving};

use super::connections::{self, Detail};
use super::{Page, View};
use crate::config::ConfFacts;
use crate::context::Context;
use crate::version;

/// Stands where the original shows its build time. A constant of the release, so that the same sources give the same binary.
const RELEASED: &str = "2026-11-24 00:00 UTC";

/// What the server calls its version: in the original's form, beginning with the release it is compatible with, which is what
/// tools and clients look for.
pub(crate) fn full_version() -> String {
    format!("{}-rookeeper-{}, built on {RELEASED}", version::COMPATIBLE_WITH, version::NUMBER)
}

pub(super) fn srvr(context: &Context, view: &View) -> String {
    let mut text = head(view);
    write_figures(&mut text, context, view);
    text
}

pub(super) fn stat(page: &mut Page<'_>, context: &Context, view: &View, asking: &Connection) -> fmt::Result {
    writeln!(page, "{}Clients:", head(view))?;
    connections::write_all(page, context, asking, Detail::Brief)?;
    let mut text = String::from("\n");
    write_figures(&mut text, context, view);
    page.write_str(&text)
}

fn head(view: &View) -> String {
    let read_only = match view.serving {
        Serving::ReadOnly => "READ-ONLY mode; serving only read-only clients\n",
        _ => "",
    };
    format!("Zookeeper version: {}\n{read_only}", full_version())
}

fn write_figures(text: &mut String, context: &Context, view: &View) {
    let shared = &context.shared;
    let statistics = &shared.statistics;
    let (zxid, node_count) = {
        let tree = shared.tree();
        (tree.last_zxid(), shown_node_count(tree.node_count()))
    };
    let latency = &statistics.request_latency_ms;
    let _ = write!(
        text,
        "Latency min/avg/max: {}/{}/{}\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: {}\nZxid: {zxid}\nMode: {}\n\
         Node count: {node_count}\n",
        latency.min(),
        ratio(latency.mean()),
        latency.max(),
        statistics.packets_received.load(Relaxed),
        statistics.packets_sent.load(Relaxed),
        shared.connection_count(),
        shared.outstanding(),
        view.mode(),
    );
    let first_mismatch = statistics.first_digest_mismatch.load(Relaxed);
    if first_mismatch != 0 {
        let _ = writeln!(text, "Digest mismatch: this tree can't be trusted since {}", Zxid(first_mismatch));
    }
    if let Some(leadership) = view.leadership() {
        let _ = writeln!(
            text,
            "Proposal sizes last/min/max: {}/{}/{}",
            leadership.last_proposal_bytes, leadership.min_proposal_bytes, leadership.max_proposal_bytes
        );
    }
}

/// The original counts the root twice.
pub(super) fn shown_node_count(node_count: usize) -> usize {
    node_count + 1
}

/// Rounded to four decimals, with at least one.
pub(super) fn ratio(value: f64) -> String {
    format!("{:?}", (value * 10_000.0).round() / 10_000.0)
}

pub(super) fn srst(context: &Context) -> String {
    context.shared.statistics.reset();
    context.figures.reset();
    "Server stats reset.\n".to_owned()
}

pub(super) fn conf(context: &Context, view: &View) -> String {
    context.config.conf(ConfFacts {
        membership: view.standing.membership.as_ref().filter(|_| view.serving != Serving::ReadOnly),
        client_port: context.client_port.load(Relaxed),
        data_dir_size: directory_bytes(&context.config.directories.snapshot_dir()),
        data_log_size: directory_bytes(&context.config.directories.log_dir()),
    })
}

pub(super) fn dirs(context: &Context) -> String {
    let directories = &context.config.directories;
    let (data, log) = (directory_bytes(&directories.snapshot_dir()), directory_bytes(&directories.log_dir()));
    format!("datadir_size: {data}\nlogdir_size: {log}\n")
}

/// The lengths of all files in a directory and below it; preallocated space counts. What cannot be read, or goes away
/// meanwhile, counts as nothing.
fn directory_bytes(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => directory_bytes(&entry.path()),
            Ok(metadata) if metadata.is_file() => metadata.len(),
            _ => 0,
        })
        .sum()
}

pub(super) fn hash(context: &Context) -> String {
    let entries: Vec<_> = context.shared.digests().entries().collect();
    let mut text = String::new();
    for (zxid, digest) in entries {
        let _ = writeln!(text, "{:x}: {digest}", zxid.0);
    }
    text
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

    #[test]
    fn directories_are_counted_with_all_below_them() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("below")).unwrap();
        std::fs::write(directory.path().join("log.1"), [0; 100]).unwrap();
        std::fs::write(directory.path().join("below/other"), [0; 11]).unwrap();
        assert_eq!(directory_bytes(directory.path()), 111);
        assert_eq!(directory_bytes(&directory.path().join("missing")), 0);
    }
}
