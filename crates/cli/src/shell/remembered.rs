//! The lines of earlier sessions, in a file: `$XDG_STATE_HOME/rookeeper/cli_history`, else `~/.local/state/rookeeper/cli_history`.
//!
//! What always holds: only its owner may read the file; lines that hold credentials are not written; the file is bounded, and several shells may
//! write it at once, for each line is one write at its end.

use std::env;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Lines that a shell begins with.
pub(crate) const LINES_KEPT: usize = 1_000;
/// A longer line is not worth a place.
const LINE_BYTES_LIMIT: usize = 4_096;
/// The file is made shorter when it is longer than this, in bytes.
const FILE_BYTES_LIMIT: u64 = 1 << 20;

/// The file, where there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Remembered {
    file: Option<PathBuf>,
}

impl Remembered {
    /// Where this user's is; none without a home.
    pub(crate) fn of_user() -> Remembered {
        let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
        Remembered { file: state.map(|state| state.join("rookeeper/cli_history")) }
    }

    /// The latest lines, oldest first. What cannot be read is not there: a shell works without.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.file.as_deref().and_then(|file| read(file).ok()).unwrap_or_default()
    }

    /// Writes a line behind the others, unless it holds what nobody should find there.
    pub(crate) fn add(&self, line: &str) {
        if let Some(file) = &self.file
            && is_worth_it(line)
        {
            // A disk that is full, or a home that is read-only, is no reason to stop a shell.
            let _ = append(file, line);
        }
    }
}

fn is_worth_it(line: &str) -> bool {
    let word = line.split_whitespace().next();
    // A line that begins with a blank is kept out of the history in other shells too.
    !line.starts_with(char::is_whitespace)
        && word.is_some_and(|word| word != "addauth")
        // The credentials of a scheme may also stand in an access control list, where their hash does.
        && !line.contains("digest:")
        && line.len() <= LINE_BYTES_LIMIT
        && !line.contains(char::is_control)
}

fn read(file: &Path) -> io::Result<Vec<String>> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(2 * FILE_BYTES_LIMIT).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<String> = text.lines().filter(|line| is_worth_it(line)).map(str::to_owned).collect();
    let forgotten = lines.len().saturating_sub(LINES_KEPT);
    Ok(lines[forgotten..].to_vec())
}

fn append(file: &Path, line: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut output = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    let metadata = output.metadata()?;
    if metadata.permissions().mode() & 0o077 != 0 {
        output.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    output.write_all(format!("{line}\n").as_bytes())?;
    if metadata.len() > FILE_BYTES_LIMIT { shorten(file) } else { Ok(()) }
}

/// A shell that writes at the same moment may lose its line, never others.
fn shorten(file: &Path) -> io::Result<()> {
    let lines = read(file)?;
    let shorter = file.with_extension(format!("{}", std::process::id()));
    let mut output = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&shorter)?;
    output.write_all((lines.join("\n") + "\n").as_bytes())?;
    fs::rename(&shorter, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(folder: &Path) -> Remembered {
        Remembered { file: Some(folder.join("state/rookeeper/cli_history")) }
    }

    #[test]
    fn credentials_are_not_written_and_nobody_else_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let shell = remembered(folder.path());
        for line in ["ls /", "addauth digest bob:secret", " get /quiet", "get /b", "setAcl /a digest:bob:x=:r", ""] {
            shell.add(line);
        }
        assert_eq!(shell.lines(), ["ls /", "get /b"]);
        let file = shell.file.unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, "ls /\nget /b\n");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        Remembered { file: Some(file.clone()) }.add("ls /c");
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn the_file_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let shell = remembered(folder.path());
        shell.add("first");
        let file = shell.file.clone().unwrap();
        let long = format!("create /{}\n", "x".repeat(1_000));
        fs::write(&file, long.repeat(1_100)).unwrap();
        shell.add("last");
        assert!(fs::metadata(&file).unwrap().len() <= 1_020 * LINES_KEPT as u64);
        assert_eq!(shell.lines().len(), LINES_KEPT);
        assert_eq!(shell.lines().last().unwrap(), "last");
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        shell.add(&"y".repeat(LINE_BYTES_LIMIT + 1));
        assert_eq!(shell.lines().last().unwrap(), "last");
    }
}
