//! One member of an ensemble: its directory, its ports, its process, its log.
//!
//! The configuration file is written once: a server may change
//! it afterwards, and a restart, also as the other product, must live with that.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::ensemble::DEADLINE;
use crate::server::{Product, rookeeper_binary};

const POLL_INTERVAL: Duration = Duration::from_millis(5);
const SHOWN_LINES: usize = 120;
/// The 3.9.5 that `tests/provision` fetches, with libraries of Debian's; `ROOKEEPER_APACHE_CLASSPATH` names another one.
const APACHE_CLASSPATH: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../.apache/*:/usr/share/java/slf4j-api.jar:/usr/share/java/slf4j-simple.jar:/usr/share/java/metrics-core.jar:",
    "/usr/share/java/snappy-java.jar:/usr/share/java/commons-cli.jar:/usr/share/java/commons-io.jar",
);

/// Where the original of ensembles is, with its libraries.
pub(crate) fn apache_classpath() -> String {
    std::env::var("ROOKEEPER_APACHE_CLASSPATH").unwrap_or_else(|_| APACHE_CLASSPATH.to_owned())
}

/// A process that is being started has a copy of every socket for a moment: none may be one that looks for a port.
static FORK: Mutex<()> = Mutex::new(());

/// Three ports on which nobody listens. Connections do not take them: theirs come from 127.0.0.1.
pub(crate) fn unused_ports(address: Ipv4Addr) -> io::Result<[u16; 3]> {
    let _guard = FORK.lock();
    let listeners = [0; 3].map(|port| TcpListener::bind((address, port)));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Gone,
    Frozen,
    Running,
}

#[derive(Debug)]
pub struct Member {
    pub id: u64,
    pub product: Product,
    pub observer: bool,
    pub directory: PathBuf,
    pub client_port: u16,
    pub quorum_port: u16,
    pub election_port: u16,
    /// The network namespace it lives in, if it is not ours.
    pub namespace: Option<String>,
    /// The process whose mounts it shares, if they are not ours.
    pub mounts: Option<u32>,
    pub process: Option<Child>,
    pub frozen: bool,
}

impl Member {
    pub fn state(&self) -> State {
        match &self.process {
            None => State::Gone,
            Some(_) if self.frozen => State::Frozen,
            Some(_) => State::Running,
        }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn spawn(&mut self, properties: &[String], variables: &[(String, String)], fast_jvm: bool) -> Result<()> {
        self.kill()?;
        let config_file = self.directory.join("zoo.cfg");
        let mut command = match self.product {
            Product::Rookeeper => {
                let mut command = self.command(&rookeeper_binary()?);
                command.arg("server").arg(&config_file).env("SERVER_JVMFLAGS", properties.join(" "));
                command
            }
            Product::Apache => {
                let mut command = self.command(Path::new("java"));
                let heap = if fast_jvm { "-Xmx1g" } else { "-Xmx256m" };
                command.args([heap, "-Dzookeeper.admin.enableServer=false"]).args(properties);
                if !fast_jvm {
                    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
                }
                command.args(["-cp", &apache_classpath()]);
                command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(&config_file);
                command
            }
        };
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let log = File::options().create(true).append(true).open(self.log_path())?;
        command.current_dir(&self.directory).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let _guard = FORK.lock();
        self.process = Some(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
        Ok(())
    }

    /// The program, or `ip` or `nsenter`, which become the program.
    fn command(&self, program: &Path) -> Command {
        if let Some(keeper) = self.mounts {
            let mut command = Command::new("nsenter");
            // Whoever enters is at the root.
            command.arg(format!("--mount=/proc/{keeper}/ns/mnt")).args(["bash", "-c", "cd \"$0\" && exec \"$@\""]);
            command.arg(&self.directory).arg(program);
            return command;
        }
        let Some(namespace) = &self.namespace else { return Command::new(program) };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(program);
        command
    }

    pub fn kill(&mut self) -> Result<()> {
        self.frozen = false;
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    pub fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.wait_end().context("after SIGTERM")?;
        Ok(())
    }

    pub fn wait_end(&mut self) -> Result<ExitStatus> {
        let until = Instant::now() + DEADLINE;
        let process = self.process.as_mut().context("the member does not run")?;
        let status = loop {
            match process.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > until => bail!("member {} is still there after {DEADLINE:?}", self.id),
                None => thread::sleep(POLL_INTERVAL),
            }
        };
        self.process = None;
        Ok(status)
    }

    pub fn freeze(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        self.frozen = true;
        Ok(())
    }

    pub fn thaw(&mut self) -> Result<()> {
        self.signal(Signal::CONT)?;
        self.frozen = false;
        Ok(())
    }

    /// Fails if the process ended and nobody asked it to.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(process) = &mut self.process
            && let Some(status) = process.try_wait()?
        {
            self.process = None;
            bail!("member {} ended by itself with {status}", self.id);
        }
        Ok(())
    }

    pub fn show_log(&self) {
        let log = self.log();
        // The original tells of each question of a test that waits.
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains("Processing srvr command")).collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        eprintln!("--- log of member {} ({:?}), last {} of {} lines", self.id, self.product, shown.len(), lines.len());
        for line in shown {
            eprintln!("{line}");
        }
        eprintln!("--- end of the log of member {}", self.id);
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process.as_ref().context("the member does not run")?;
        Ok(kill_process(Pid::from_child(process), signal)?)
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("server.log")
    }
}
