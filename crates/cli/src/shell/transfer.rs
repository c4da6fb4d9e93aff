//! `rookeeper export` and `rookeeper import`: a subtree as text, a node on each line, from any server of either kind and back into any.
//!
//! Reading order: [`line`](self::line), the text; [`export`], [`import`]; [`progress`](self::progress)
//!
//! What always holds: what they print of themselves goes to standard error, and progress only to a terminal; memory stays within a window of nodes
//! and the names that are still to be read; a text that was cut off is told from a whole one by its last line.

pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod line;
mod progress;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zookeeper_client::Client;

use super::entry::Entry;
use super::failure::{Failure, refused};
use super::output::Output;
use super::session::Session;
use super::{Invocation, Start, parse_start};
use crate::print;

/// Requests that wait for their answers.
const WINDOW: usize = 64;

/// The arguments that both have, taken off the others.
struct Given {
    start: Start,
    /// A file with `scheme credentials` on each line, as `addauth` takes them.
    auth_file: Option<PathBuf>,
    flags: Vec<&'static str>,
    output: Option<PathBuf>,
}

/// Sorts the arguments: `known` flags, `--auth-file`, `--output`, and those of `rookeeper cli` before one word.
fn given(arguments: &[String], known: &[&'static str], usage: &str) -> Result<Option<Given>, String> {
    let (mut rest, mut flags, mut auth_file, mut output) = (Vec::new(), Vec::new(), None, None);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().map(PathBuf::from).ok_or_else(|| format!("{word} needs the name of a file"));
        match word.as_str() {
            "-h" | "-help" | "--help" => {
                let _ = print::result(&usage);
                return Ok(None);
            }
            "--auth-file" => auth_file = Some(value()?),
            "--output" if known.contains(&"--output") => output = Some(value()?),
            flag => match known.iter().find(|known| **known == flag) {
                Some(known) => flags.push(*known),
                None => rest.push(word.clone()),
            },
        }
    }
    match parse_start(&rest)? {
        Invocation::Run(start) if start.command.len() == 1 => {
            Ok(Some(Given { start: *start, auth_file, flags, output }))
        }
        _ => Err(usage.to_owned()),
    }
}

/// A session as its user wants to come in.
async fn connect(given: &Given) -> Result<Session, Failure> {
    // What changes of the connection is told by what fails.
    let output = Arc::new(Output::new(Box::new(io::sink()), Box::new(io::stderr())));
    let start = &given.start;
    let entry = Entry::open(start, &output)?;
    let session = Session::connect(&start.server, start.session_timeout, start.read_only, &entry, &output).await?;
    if let Some(file) = &given.auth_file {
        authenticate(&session.client, file).await?;
    }
    Ok(session)
}

async fn authenticate(client: &Client, file: &Path) -> Result<(), Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Refused(format!("--auth-file {} cannot be read: {error}", file.display())))?;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (scheme, credentials) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        client.auth(scheme, credentials.trim().as_bytes()).await.map_err(|error| refused(&error, ""))?;
    }
    Ok(())
}

/// Runs on one thread: requests go out in the order in which they are made.
fn run(work: impl Future<Output = Result<bool, Failure>>, command: &str) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print::complaint(&format_args!("rookeeper {command}: cannot start the runtime: {error}"));
            return 1;
        }
    };
    match runtime.block_on(work) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(failure) if failure.is_closed_pipe() => 0,
        Err(failure) => {
            print::complaint(&format_args!("rookeeper {command}: {failure}"));
            1
        }
    }
}
