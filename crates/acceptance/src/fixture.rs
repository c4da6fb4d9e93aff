//! The recorded material under `tests/fixtures`; its README explains every field.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub fn directory() -> PathBuf {
    repository().join("tests/fixtures")
}

/// The lines of one recorded scenario, in order.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: String,
    pub profile: String,
    pub replayable: bool,
    pub lines: Vec<Value>,
}

/// Every scenario recorded with one profile of server settings.
pub fn scenarios(profile: &str) -> Result<Vec<Scenario>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory().join("client"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    let mut scenarios: Vec<Scenario> = Vec::new();
    for file in files {
        for line in fs::read_to_string(&file)?.lines() {
            let line: Value = serde_json::from_str(line).with_context(|| file.display().to_string())?;
            let name = line["name"].as_str().and_then(|name| name.rsplit_once('/')).context("a line has no name")?.0;
            if scenarios.last().is_none_or(|last| last.name != name) {
                scenarios.push(Scenario {
                    name: name.to_owned(),
                    profile: line["profile"].as_str().context("the first line names no profile")?.to_owned(),
                    replayable: line["replay"] != false,
                    lines: Vec::new(),
                });
            }
            scenarios.last_mut().expect("one was pushed if there was none").lines.push(line);
        }
    }
    scenarios.retain(|scenario| scenario.profile == profile);
    ensure!(!scenarios.is_empty(), "nothing was recorded with the profile {profile}");
    Ok(scenarios)
}

/// A recorded data directory and what a server must make of it.
#[derive(Debug, Clone)]
pub struct DataDirectory {
    pub name: String,
    pub expected: Value,
}

pub fn data_directories() -> Result<Vec<DataDirectory>> {
    let mut directories = Vec::new();
    for entry in fs::read_dir(directory().join("datadir"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let expected: Value = serde_json::from_slice(&fs::read(&path)?)?;
            let name = expected["fixture"].as_str().context("a directory without a name")?.to_owned();
            directories.push(DataDirectory { name, expected });
        }
    }
    directories.sort_by(|one, other| one.name.cmp(&other.name));
    ensure!(!directories.is_empty(), "no data directories were recorded");
    Ok(directories)
}

impl DataDirectory {
    /// Unpacks a fresh copy into `target` and returns the directory in it.
    pub fn unpack(&self, target: &Path) -> Result<PathBuf> {
        let archive = directory().join("datadir").join(format!("{}.tar.gz", self.name));
        let status = Command::new("tar")
            .args(["--no-same-owner", "-xzf"])
            .arg(&archive)
            .arg("-C")
            .arg(target)
            .status()
            .context("cannot run tar")?;
        ensure!(status.success(), "tar cannot unpack {}", archive.display());
        Ok(target.join(&self.name))
    }
}

pub fn from_hex(text: &str) -> Result<Vec<u8>> {
    ensure!(text.len().is_multiple_of(2), "odd number of hex digits");
    (0..text.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&text[at..at + 2], 16)?)).collect()
}

pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
