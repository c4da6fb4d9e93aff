//! edit: the data of a node in the user's editor, written back only if nobody else has written meanwhile.
//!
//! What always holds: what the user typed is never lost: where it is not written, its file stays and is named. The file is readable by its
//! owner alone.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use zookeeper_client::Error;

use super::commands::JSON;
use super::event::Manner;
use super::failure::{Failure, refused};
use super::options::Arguments;
use super::{Shell, format};

/// No node has as much, in bytes.
const FILE_BYTES_LIMIT: u64 = 64 << 20;
const NAME_CHARACTERS_KEPT: usize = 64;

pub(crate) async fn edit(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let path = arguments.words[0].as_str();
    shell.check_path(path)?;
    let client = shell.client()?;
    let (data, stat) = client.get_data(path).await.map_err(|error| refused(&error, path))?;
    let begun_with = match arguments.value("-from") {
        Some(file) => read(Path::new(file)).map_err(|error| Failure::Refused(format!("{file}: {error}")))?,
        None => data.clone(),
    };
    let file = write_new(path, &begun_with).map_err(|error| Failure::Refused(format!("no file to edit: {error}")))?;
    let kept = |text: String| Failure::Refused(format!("{text}\nYour text is in {}", file.display()));

    let status = run_editor(shell, &file).await.map_err(|error| kept(format!("the editor cannot be run: {error}")))?;
    let mut edited = read(&file).map_err(|error| kept(error.to_string()))?;
    // Editors end the last line; the data of a node mostly do not.
    if edited.ends_with(b"\n") && !begun_with.ends_with(b"\n") {
        edited.pop();
    }
    if !status.success() {
        if edited == begun_with {
            let _ = fs::remove_file(&file);
            return Err(Failure::Refused(format!("The editor ended with {status}: nothing was written")));
        }
        return Err(kept(format!("The editor ended with {status}: nothing was written")));
    }
    if edited == data {
        let _ = fs::remove_file(&file);
        if arguments.has(JSON) {
            return Ok(shell
                .output
                .json(&json!({"path": path, "changed": false, "stat": format::stat_json(&stat)}))?);
        }
        return Ok(shell.output.complain("Not changed")?);
    }
    match client.set_data(path, &edited, Some(stat.version)).await {
        Ok(stat) => {
            let _ = fs::remove_file(&file);
            if arguments.has(JSON) {
                let report = json!({"path": path, "changed": true, "stat": format::stat_json(&stat)});
                return Ok(shell.output.json(&report)?);
            }
            if shell.output.manner() != Manner::Quiet {
                shell.output.complain(&format!("Changed {path}, which has version {} now", stat.version))?;
            }
            Ok(())
        }
        Err(Error::BadVersion) => Err(conflict(&client, path, stat.version, &file).await),
        Err(error) => Err(kept(refused(&error, path).to_string())),
    }
}

/// Somebody else has written meanwhile: both texts are kept, and the user says what is right.
async fn conflict(client: &zookeeper_client::Client, path: &str, version: i32, file: &Path) -> Failure {
    let mut text = format!("{path} was changed meanwhile: nothing was written.\nYour text is in {}", file.display());
    if let Ok((data, stat)) = client.get_data(path).await {
        let theirs = PathBuf::from(format!("{}.now", file.display()));
        let written = write(&theirs, &data);
        text.push_str(&format!("\nYou began with version {version}, now it has version {}", stat.version));
        if written.is_ok() {
            text.push_str(&format!(", which is in {}", theirs.display()));
        }
    }
    text.push_str(&format!("\nWhat you make of both is written by: edit --from {} {path}", file.display()));
    Failure::Refused(text)
}

/// `$VISUAL`, `$EDITOR` or vi, with the terminal to itself, while the session goes on.
async fn run_editor(shell: &Shell, file: &Path) -> io::Result<ExitStatus> {
    let of_user = |name: &str| env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let editor = of_user("VISUAL").or_else(|| of_user("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let mut command = Command::new("sh");
    // In the place of the shell, which would end by an interruption that the editor takes for something else.
    command.arg("-c").arg(format!("exec {editor} \"$1\"")).arg("sh").arg(file);
    // An interruption that the editor gets reaches this process too, and must not end it.
    let _interruptions = signal(SignalKind::interrupt())?;
    shell.output.flush()?;
    shell.output.lend_terminal(true);
    let ended = spawn_blocking(move || command.status()).await;
    shell.output.lend_terminal(false);
    ended.map_err(io::Error::other)?
}

/// A file with the data, called so that an editor knows what they are.
fn write_new(path: &str, data: &[u8]) -> io::Result<PathBuf> {
    let folder = env::temp_dir();
    for number in 0..1_000 {
        let file = folder.join(format!("rookeeper-{}-{number}-{}", std::process::id(), file_name(path, data)));
        match write(&file, data) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            written => return written.map(|()| file),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn write(file: &Path, data: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?.write_all(data)
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    File::open(file)?.take(FILE_BYTES_LIMIT).read_to_end(&mut contents)?;
    Ok(contents)
}

/// The name of the node with characters that are safe, and an ending for JSON.
fn file_name(path: &str, data: &[u8]) -> String {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let safe =
        |character: char| if character.is_ascii_alphanumeric() || ".-_".contains(character) { character } else { '_' };
    let mut name: String = name.chars().take(NAME_CHARACTERS_KEPT).map(safe).collect();
    if name.is_empty() {
        name.push_str("root");
    }
    let is_json = data.starts_with(b"{") && serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok();
    if is_json && !name.contains('.') {
        name.push_str(".json");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_as_their_nodes_are() {
        assert_eq!(file_name("/app/config.yaml", b"{}"), "config.yaml");
        assert_eq!(file_name("/app/config", b"{\"a\":1}"), "config.json");
        assert_eq!(file_name("/app/config", b"{no"), "config");
        assert_eq!(file_name("/", b""), "root");
        assert_eq!(file_name("/a/$(rm -r ~);\u{1b}", b""), "__rm_-r_____");
        assert_eq!(file_name(&format!("/{}", "x".repeat(500)), b"").len(), NAME_CHARACTERS_KEPT);
    }
}
