//! Keys, certificates and trusted ones that are exchanged while the server runs.
//!
//! What always holds here: files are read again only after they have stayed as they are for a moment, so that half-written ones are not; a file that
//! can't be used changes nothing and is told once. A file counts as another one also where it was renamed into its place, or where a link to it
//! leads elsewhere now, as links to the secrets of Kubernetes do.
//!
//! Counterpart in the original: `FileChangeWatcher`, which is off by default.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::certificate::printable;
use super::context::TlsContext;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_millis(500);

/// A certificate that is over so soon is told.
const WARN_DAYS: i64 = 30;

/// How often that is told.
const WARN_EVERY: u32 = 24 * 60 * 60 * 2;

/// Follows the files for as long as the runtime lives.
pub(crate) async fn follow(context: Arc<TlsContext>) {
    tell_expiry(&context);
    let mut before = context.loaded().files.clone();
    // The files that were tried last, whether they could be used or not.
    let mut tried = before.clone();
    let mut rounds = 0u32;
    loop {
        tokio::time::sleep(EVERY).await;
        rounds = rounds.wrapping_add(1);
        if rounds.is_multiple_of(WARN_EVERY) {
            tell_expiry(&context);
        }
        if !context.settings.reloads {
            continue;
        }
        let looking = context.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || looking.files()).await else { return };
        let is_settled = now == before;
        before = now;
        if !is_settled || before == tried {
            continue;
        }
        tried.clone_from(&before);
        let loading = context.clone();
        match tokio::task::spawn_blocking(move || loading.load_again()).await {
            Ok(Ok(())) => tell_loaded(&context),
            Ok(Err(error)) => warn!("the files of TLS changed, and {error}; connections go on with those from before"),
            Err(_) => return,
        }
    }
}

fn tell_loaded(context: &TlsContext) {
    let loaded = context.loaded();
    info!(
        "read the files of TLS again ({}keyStore.location and the others): new connections get the certificate of {}, which ends in {} days",
        context.settings.prefix,
        printable(&loaded.own.subject),
        context.days_left()
    );
    tell_expiry(context);
}

fn tell_expiry(context: &TlsContext) {
    let days = context.days_left();
    let (subject, key) =
        (printable(&context.loaded().own.subject), format!("{}keyStore.location", context.settings.prefix));
    if days < 0 {
        warn!(
            "the certificate of this server ({subject}, {key}) expired {} days ago: others refuse it; put a new one into the file",
            -days
        );
    } else if days < WARN_DAYS {
        warn!(
            "the certificate of this server ({subject}, {key}) expires in {days} days; put a new one into the file before that"
        );
    }
}
