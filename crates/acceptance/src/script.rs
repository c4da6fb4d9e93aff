//! The scripts under `bin/`, run in a home of their own as an administrator has it: `bin`, `conf`, `data`, `logs`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::fixture::{directory, repository};
use crate::server::rookeeper_binary;

/// What a script left behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Where scripts are run.
#[derive(Debug)]
pub struct Home {
    dir: TempDir,
}

impl Home {
    /// With the scripts of the repository and the binary under test beside them.
    pub fn new() -> Result<Home> {
        let dir = tempfile::Builder::new().prefix("rookeeper-scripts-").tempdir()?;
        for name in ["bin", "conf", "data"] {
            fs::create_dir(dir.path().join(name))?;
        }
        for entry in fs::read_dir(repository().join("bin"))? {
            let entry = entry?;
            fs::copy(entry.path(), dir.path().join("bin").join(entry.file_name()))?;
        }
        symlink(fs::canonicalize(rookeeper_binary()?)?, dir.path().join("bin/rookeeper"))?;
        Ok(Home { dir })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs a script there, with what it is answered on standard input. The zone is that of the recordings.
    pub fn run_with(&self, variables: &[(&str, &str)], script: &str, arguments: &[&str], input: &str) -> Result<Ran> {
        let mut command = Command::new(self.path().join("bin").join(script));
        command.args(arguments).current_dir(self.path()).env("TZ", "UTC").env_remove("ROOKEEPER");
        for name in
            ["ZOOCFGDIR", "ZOOCFG", "ZOOPIDFILE", "ZOO_LOG_DIR", "JVMFLAGS", "SERVER_JVMFLAGS", "CLIENT_JVMFLAGS"]
        {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("can't run {script}"))?;
        let mut answers = child.stdin.take().context("standard input is a pipe")?;
        // A script that reads nothing may be gone already.
        let _ = std::io::Write::write_all(&mut answers, input.as_bytes());
        drop(answers);
        let output = child.wait_with_output()?;
        let text =
            |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&self.path().display().to_string(), "/opt/zookeeper");
        Ok(Ran {
            code: output.status.code().context("the script was killed")?,
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }

    pub fn run(&self, script: &str, arguments: &[&str]) -> Result<Ran> {
        self.run_with(&[], script, arguments, "")
    }
}

/// A file that was recorded from the original's scripts and tools.
pub fn recorded(name: &str) -> Result<String> {
    let path: PathBuf = directory().join("operations").join(name);
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The part of a recording behind a line, up to the next command or to the end, without the line that tells the exit code, and without lines
/// of the original's logging.
pub fn part(recording: &str, command: &str) -> String {
    let mut lines = recording.lines().skip_while(|line| *line != command).skip(1).peekable();
    assert!(lines.peek().is_some(), "{command} was recorded");
    lines
        .take_while(|line| !line.starts_with("$ "))
        .filter(|line| !line.starts_with("exit") && !line.contains(" ERROR "))
        .map(|line| format!("{line}\n"))
        .collect()
}
