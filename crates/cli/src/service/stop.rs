//! `rookeeper stop`: asks the server that a pid file names to stop, and waits until it has.
//!
//! The original sends the signal to whatever has the number, removes the pid file and waits for a second.

use std::io::{self, Write};
use std::time::Duration;

use super::Which;
use super::process::Named;
use crate::print;

/// A server stops within ten seconds or ends itself; a slow disk may hold up its end.
const LIMIT: Duration = Duration::from_secs(60);

/// Exit code 0: it has stopped, or there was none; 1: it goes on, or the number is somebody else's.
pub fn main(which: &Which) -> u8 {
    let mut output = io::stdout().lock();
    let _ = write!(output, "Stopping zookeeper ... ").and_then(|()| output.flush());
    drop(output);
    let (said, code) = match stop(which) {
        Ok(said) => (said, 0),
        Err(said) => (said, 1),
    };
    if print::result(&said) { code } else { 1 }
}

fn stop(which: &Which) -> Result<String, String> {
    let pid_file = which.pid_file()?;
    let shown = pid_file.display();
    match Named::by(&pid_file)? {
        Named::NoFile => return Ok(format!("no zookeeper to stop (could not find file {shown})")),
        Named::Nothing { text } => print::complaint(&format_args!("there is no process {text}, which {shown} names")),
        Named::Other { id, program } => {
            return Err(format!(
                "no zookeeper to stop (process {id}, which {shown} names, is {program} and no rookeeper server)"
            ));
        }
        Named::Server(process) => {
            let id = process.id;
            process.terminate().map_err(|error| format!("process {id} can't be stopped: {error}"))?;
            if !process.has_ended(LIMIT) {
                return Err(format!("process {id} is still running after {} s", LIMIT.as_secs()));
            }
        }
    }
    match std::fs::remove_file(&pid_file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("STOPPED, but {shown} can't be removed: {error}"))
        }
        _ => Ok("STOPPED".to_owned()),
    }
}
