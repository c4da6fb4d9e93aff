//! `envi`: where this server runs. The original's `java.*` lines are absent: there is no Java, and values made up for it would
//! mislead whoever looks there for a cause.

use std::fmt::Write as _;

use super::full_version;
use super::process::{Memory, user_name};

pub(super) fn envi() -> String {
    let system = rustix::system::uname();
    // Java's words for what it does not know.
    let unknown = || "?".to_owned();
    let path = |path: Option<std::path::PathBuf>| path.map_or_else(unknown, |path| path.display().to_string());
    let mut lines = vec![
        ("zookeeper.version", full_version()),
        ("host.name", system.nodename().to_string_lossy().into_owned()),
        ("os.name", system.sysname().to_string_lossy().into_owned()),
        ("os.arch", architecture(std::env::consts::ARCH).to_owned()),
        ("os.version", system.release().to_string_lossy().into_owned()),
        ("user.name", user_name().unwrap_or_else(unknown)),
        ("user.home", path(std::env::home_dir())),
        ("user.dir", path(std::env::current_dir().ok())),
    ];
    if let Some(memory) = Memory::of_machine() {
        // The original speaks of its heap, whose limits are set by hand. Here the limit is the machine.
        let (available, total) = (megabytes(memory.available), megabytes(memory.total));
        lines.extend([("os.memory.free", available), ("os.memory.max", total.clone()), ("os.memory.total", total)]);
    }
    let mut text = String::from("Environment:\n");
    for (key, value) in lines {
        let _ = writeln!(text, "{key}={value}");
    }
    text
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
