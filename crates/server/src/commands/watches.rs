//! `wchs`, `wchc` and `wchp`: who watches what.

use std::fmt::{self, Write as _};

use super::{Page, Question};
use crate::observe::watches::{self, WatchTotals};

pub(super) fn wchs(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    let WatchTotals { connections, paths, watches } = WatchTotals::gather(question.context);
    writeln!(page, "{connections} connections watching {paths} paths\nTotal watches:{watches}")
}

/// Watches by session.
pub(super) fn wchc(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    for (session, paths) in watches::by_session(question.context, &mut |bytes| page.gathered(bytes))? {
        writeln!(page, "{session}")?;
        paths.iter().try_for_each(|path| writeln!(page, "\t{path}"))?;
    }
    writeln!(page)
}

/// Watches by path.
pub(super) fn wchp(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    let watches = watches::by_path(question.context, &mut |bytes| page.gathered(bytes))?;
    let mut last: Option<&str> = None;
    for (path, session) in &watches {
        if last != Some(path) {
            writeln!(page, "{path}")?;
            last = Some(path);
        }
        writeln!(page, "\t{session}")?;
    }
    writeln!(page)
}
