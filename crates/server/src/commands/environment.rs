//! `envi`: where this server runs. The original's `java.*` lines are absent: there is no Java, and values made up for it would
//! mislead whoever looks there for a cause.

use std::fmt::{self, Write as _};

use super::{Page, Question};
use crate::observe::environment::Environment;

pub(super) fn envi(page: &mut Page<'_>, _: &Question<'_>) -> fmt::Result {
    page.write_str("Environment:\n")?;
    Environment::gather().by_name().iter().try_for_each(|(key, value)| writeln!(page, "{key}={value}"))
}
