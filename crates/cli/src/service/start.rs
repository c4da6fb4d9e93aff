//! `rookeeper start`: runs `rookeeper server` in the background, and waits until it is ready.
//!
//! What always holds: STARTED is said only of a process that runs; the pid file names a server that was ready, or that lives and still
//! reads its database; a second start neither disturbs the first server nor takes its pid file away.
//!
//! The original says STARTED of whatever is alive after a second.

use std::fs::File;
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use rookeeper_store::{RealDisk, Rights, replace};

use super::Which;
use super::process::Named;
use crate::{print, readiness};

/// How long a start is waited for. A large database takes longer to read, and the server goes on with that.
const LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked whether the process has ended.
const PATIENCE: Duration = Duration::from_millis(20);

#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    which: Which,
    /// Where the server's log goes, instead of zookeeper_server.out beside the pid file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Exit code 0: it runs; 1: it doesn't, or one did already.
pub fn main(options: &Options) -> u8 {
    let mut output = io::stdout().lock();
    let _ = write!(output, "Starting zookeeper ... ").and_then(|()| output.flush());
    drop(output);
    let (said, code) = match start(options) {
        Ok(()) => ("STARTED".to_owned(), 0),
        Err(said) => (said, 1),
    };
    if print::result(&said) { code } else { 1 }
}

fn start(options: &Options) -> Result<(), String> {
    let pid_file = options.which.pid_file()?;
    match Named::by(&pid_file)? {
        Named::Server(process) => return Err(format!("already running as process {}.", process.id)),
        Named::NoFile | Named::Nothing { .. } => {}
        Named::Other { id, program } => {
            print::complaint(&format_args!(
                "{} names process {id}, which is {program}: it is out of date",
                pid_file.display()
            ));
        }
    }
    let log = options.output.clone().unwrap_or_else(|| pid_file.with_file_name("zookeeper_server.out"));
    for path in [&pid_file, &log] {
        let parent = replace::directory_of(path);
        std::fs::create_dir_all(parent)
            .map_err(|error| format!("FAILED TO START: can't create {}: {error}", parent.display()))?;
    }
    let failed = |error: io::Error| format!("FAILED TO START: {error}");
    let (socket, name) = notifications().map_err(failed)?;
    let mut child = spawn(&options.which.config, &log, &name).map_err(failed)?;
    match wait(&mut child, &socket) {
        Waited::Ready => {}
        Waited::Alive => {
            print::complaint(&format_args!("it is not ready after {} s and goes on with its start", LIMIT.as_secs()))
        }
        Waited::Ended(why) => {
            print::complaint(&format_args!("the server ended ({why}): see {}", log.display()));
            return Err("FAILED TO START".to_owned());
        }
    }
    if let Err(error) = write_pid(&pid_file, child.id()) {
        print::complaint(&format_args!("can't write {}: {error}; the server is stopped again", pid_file.display()));
        let _ = child.kill().and_then(|()| child.wait());
        return Err("FAILED TO WRITE PID".to_owned());
    }
    Ok(())
}

/// A socket on which the server tells that it is ready, and its name. The name must only differ from that of others.
fn notifications() -> io::Result<(UnixDatagram, String)> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let name = format!("rookeeper-start-{}-{now}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok((socket, format!("@{name}")))
}

fn spawn(config: &Path, log: &Path, notify: &str) -> io::Result<Child> {
    // What the last run said may be needed to see why there is another.
    let output = File::options().append(true).create(true).open(log)?;
    Command::new(std::env::current_exe()?)
        .arg("server")
        .arg(config)
        .env(readiness::SOCKET, notify)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        // What the terminal sends to the group of this command is not meant for the server.
        .process_group(0)
        .spawn()
}

enum Waited {
    Ready,
    Alive,
    Ended(String),
}

fn wait(child: &mut Child, socket: &UnixDatagram) -> Waited {
    let begun = Instant::now();
    let mut bytes = [0; 4096];
    while begun.elapsed() < LIMIT {
        if let Ok(count) = socket.recv(&mut bytes)
            && bytes[..count].split(|byte| *byte == b'\n').any(|line| line == readiness::READY.as_bytes())
        {
            return Waited::Ready;
        }
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return Waited::Ended(status.to_string()),
            Err(error) => return Waited::Ended(error.to_string()),
        }
    }
    Waited::Alive
}

/// Everybody may read it, as that of the original.
fn write_pid(path: &Path, id: u32) -> io::Result<()> {
    replace::replace(&RealDisk, path, id.to_string().as_bytes(), Rights::Umask)
}
