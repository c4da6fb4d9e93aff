//! `envi`: where this server runs. The original's `java.*` lines are absent: there is no Java, and values made up for it would
//! mislead whoever looks there for a cause.

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use super::{Page, Question};
use crate::observe::environment::Environment;
use crate::version;

pub(super) fn envi(page: &mut Page<'_>, _: &Question<'_>) -> fmt::Result {
    let environment = Environment::gather();
    // Java's words for what it does not know.
    let unknown = || "?".to_owned();
    let path = |path: Option<PathBuf>| path.map_or_else(unknown, |path| path.display().to_string());
    let mut lines = vec![
        ("zookeeper.version", version::full()),
        ("host.name", environment.host_name),
        ("os.name", environment.system),
        ("os.arch", architecture(environment.architecture).to_owned()),
        ("os.version", environment.system_release),
        ("user.name", environment.user_name.unwrap_or_else(unknown)),
        ("user.home", path(environment.user_home)),
        ("user.dir", path(environment.working_directory)),
    ];
    if let Some(memory) = environment.memory {
        // The original speaks of its heap, whose limits are set by hand. Here the limit is the machine.
        let (available, total) = (megabytes(memory.available), megabytes(memory.total));
        lines.extend([("os.memory.free", available), ("os.memory.max", total.clone()), ("os.memory.total", total)]);
    }
    page.write_str("Environment:\n")?;
    lines.iter().try_for_each(|(key, value)| writeln!(page, "{key}={value}"))
}

fn megabytes(bytes: u64) -> String {
    format!("{}MB", bytes >> 20)
}

/// Java has a name of its own for this one.
fn architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        other => other,
    }
}
