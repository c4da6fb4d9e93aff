//! What probes ask: whether the process lives, and whether it has a part in the ensemble.
//!
//! What always holds here: nothing is waited for, neither a lock nor a thread, so the answer comes whatever the server does.

use std::sync::atomic::Ordering::Relaxed;

use axum::http::StatusCode;
use rookeeper_replica::Serving;

use super::json::{self, Object, TooLong};
use crate::context::Context;
use crate::observe::view::View;

/// An answer is a few lines.
const MAX_BYTES: usize = 1 << 20;

/// That there is an answer at all is the answer.
pub(super) fn live() -> (StatusCode, String) {
    (StatusCode::OK, document(|answer| answer.scalar("live", true)))
}

/// Ready is a server whose database is read, and that has a leader which a quorum follows, or leads, or serves readers without one. A leader that
/// leaves clients to the others is ready too: it would never be otherwise.
pub(super) fn ready(context: Option<&Context>) -> (StatusCode, String) {
    let Some(context) = context else {
        let text = document(|answer| {
            answer.scalar("ready", false);
            answer.scalar("why", "the server is starting: it reads its database");
        });
        return (StatusCode::SERVICE_UNAVAILABLE, text);
    };
    let (view, serving) = (View::of(context), context.shared.status_board.serving());
    let is_ready = serving != Serving::Nobody;
    let text = document(|answer| {
        answer.scalar("ready", is_ready);
        answer.scalar(
            "why",
            (!is_ready).then_some("there is no leader that a quorum follows, or this server catches up with it"),
        );
        answer.scalar("serves_clients", view.serves());
        answer.scalar("server_state", view.mode());
        answer.scalar("peer_state", view.peer_state().as_str());
        answer.scalar("leader_id", view.status.leader.map(|leader| leader.0));
        // A thread that has the tree for itself is not waited for.
        let zxid = context.shared.try_tree().map(|tree| format!("0x{:x}", tree.last_zxid().0));
        answer.scalar("last_zxid", zxid.as_deref());
        answer.scalar("behind_transactions", behind(context));
        let shortage = context.shared.room.shortage();
        answer.scalar("short_of_disk", shortage.disk);
        answer.scalar("short_of_memory", shortage.memory);
        answer.scalar("uptime_ms", context.clock.uptime_ms());
    });
    (if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

/// Transactions that are in this server's log and not in its tree. They wait for a quorum, or to be applied. None where the two are of different epochs, or
/// the tree is not to be had at the moment.
fn behind(context: &Context) -> Option<i64> {
    let logged = context.figures.synced_zxid.load(Relaxed);
    let applied = context.shared.try_tree()?.last_zxid().0;
    (logged >> 32 == applied >> 32).then(|| (logged - applied).max(0))
}

fn document(fill: impl FnOnce(&mut Object<'_>)) -> String {
    let text = json::document(MAX_BYTES, |answer| {
        fill(answer);
        Ok::<(), TooLong>(())
    });
    text.unwrap_or_default()
}
