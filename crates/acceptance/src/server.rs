//! A server process under test, Rookeeper or the original: its configuration, its port, its log, its end.
//!
//! A server is ready when it answers `srvr`, not after some time. Its log is kept and shown when the test fails. Whatever
//! happens in the test, the process does not outlive its [`Server`].

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::client::{DEADLINE, four_letter_word_within};
use crate::member;
use crate::random::Random;

/// How often a start is tried again because somebody else took the port in between.
const PORT_ATTEMPTS: usize = 5;
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// For one question to a server that may be starting: the question is asked again.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    Rookeeper,
    Apache,
}

impl Product {
    /// The product that the tests are about.
    pub fn under_test() -> Product {
        match std::env::var("ROOKEEPER_ACCEPTANCE_SERVER").as_deref() {
            Ok("apache") => Product::Apache,
            Ok("rookeeper") | Err(_) => Product::Rookeeper,
            Ok(other) => panic!("ROOKEEPER_ACCEPTANCE_SERVER is {other:?}, neither rookeeper nor apache"),
        }
    }
}

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    product: Product,
    config: Vec<(String, String)>,
    properties: Vec<String>,
    variables: Vec<(String, String)>,
    data_dir: Option<PathBuf>,
    port: Option<u16>,
    user_id: Option<u32>,
    script: Option<String>,
    has_plain_port: bool,
    is_newest: bool,
}

/// A port of this address on which nobody listens at this moment.
pub fn unused_port(address: Ipv4Addr) -> Result<u16> {
    Ok(member::unused_ports(address)?[0])
}

impl Setup {
    /// The product under test, standalone, with small log files and no admin port.
    pub fn new() -> Setup {
        Setup::of(Product::under_test())
    }

    pub fn of(product: Product) -> Setup {
        let (config, properties, variables) = (Vec::new(), Vec::new(), Vec::new());
        Setup {
            product,
            config,
            properties,
            variables,
            data_dir: None,
            port: None,
            user_id: None,
            script: None,
            has_plain_port: true,
            is_newest: false,
        }
        .config("tickTime", "2000")
        .config("preAllocSize", "64")
        .config("admin.enableServer", "false")
        .property("-Dzookeeper.preAllocSize=64")
    }

    /// A line of zoo.cfg; a later one takes the place of an earlier one.
    pub fn config(mut self, key: &str, value: &str) -> Setup {
        self.config.retain(|(known, _)| known != key);
        self.config.push((key.to_owned(), value.to_owned()));
        self
    }

    /// A system property as operators write it: `-Dkey=value`.
    pub fn property(mut self, flag: &str) -> Setup {
        self.properties.push(flag.to_owned());
        self
    }

    /// A variable of the environment.
    pub fn variable(mut self, name: &str, value: &str) -> Setup {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets `super:admin` see and change everything.
    pub fn with_super_user(self) -> Setup {
        // Base64 of the SHA-1 of "super:admin".
        self.property("-Dzookeeper.DigestAuthenticationProvider.superDigest=super:xQJmxLMiHGwaqBvst5y6rkB6HQs=")
    }

    /// The original of ensembles in place of Debian's, which has no libraries for its admin port.
    pub fn newest(mut self) -> Setup {
        self.is_newest = true;
        self
    }

    /// Use this directory instead of an empty one.
    pub fn data_dir(mut self, path: &Path) -> Setup {
        self.data_dir = Some(path.to_owned());
        self
    }

    /// Use this port instead of a free one.
    pub fn port(mut self, port: u16) -> Setup {
        self.port = Some(port);
        self
    }

    /// Run as this user; takes a test that runs as root.
    pub fn run_as(mut self, user_id: u32) -> Setup {
        self.user_id = Some(user_id);
        self
    }

    /// Start by this script of bash, in the server's own directory; `exec "$@"` in it becomes the server.
    pub fn script(mut self, script: &str) -> Setup {
        self.script = Some(script.to_owned());
        self
    }

    /// Without a port for clients that do not speak TLS. Only Rookeeper says when it serves them.
    pub fn without_plain_port(mut self) -> Setup {
        self.has_plain_port = false;
        self
    }

    pub fn start(self) -> Result<Server> {
        let home = tempfile::Builder::new().prefix("rookeeper-acceptance-").tempdir()?;
        let mut server = Server::new(self, home);
        for _ in 0..PORT_ATTEMPTS {
            server.port = server.setup.port.map_or_else(|| free_port_of(server.ip), Ok)?;
            server.spawn()?;
            match server.wait_ready() {
                Err(_) if server.setup.port.is_none() && server.log().to_lowercase().contains("already in use") => {}
                result => return result.map(|()| server),
            }
        }
        bail!("no free port after {PORT_ATTEMPTS} attempts")
    }

    /// Starts a server that is expected to give up by itself.
    pub fn start_and_fail(self) -> Result<Failure> {
        let home = tempfile::Builder::new().prefix("rookeeper-acceptance-").tempdir()?;
        let mut server = Server::new(self, home);
        server.port = server.setup.port.map_or_else(|| free_port_of(server.ip), Ok)?;
        server.spawn()?;
        match server.wait_ready() {
            Ok(()) => bail!("the server started, although it should have refused:\n{}", server.log()),
            Err(_) => Ok(Failure { code: server.wait_exit()?.code(), log: server.log() }),
        }
    }
}

impl Default for Setup {
    fn default() -> Setup {
        Setup::new()
    }
}

/// How a server ended that refused to start.
#[derive(Debug)]
pub struct Failure {
    pub code: Option<i32>,
    pub log: String,
}

#[derive(Debug)]
pub struct Server {
    setup: Setup,
    home: TempDir,
    ip: Ipv4Addr,
    port: u16,
    process: Option<Child>,
    /// Bytes of the log from before the last start.
    log_before: usize,
}

impl Server {
    /// Where the port is chosen freely, so is the address on loopback: connections come from 127.0.0.1 and do not take a port of it while
    /// the server is down for a moment.
    fn new(setup: Setup, home: TempDir) -> Server {
        let mut random = Random::from_clock();
        let [second, third, fourth] = [0; 3].map(|_| 1 + random.below(253) as u8);
        let ip = if setup.port.is_some() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::new(127, second, third, fourth) };
        Server { setup, home, ip, port: 0, process: None, log_before: 0 }
    }

    pub fn address(&self) -> SocketAddr {
        (self.ip, self.port).into()
    }

    /// Where it takes TLS, on all addresses; the certificates of tests are for this one. Needs the word `conf`.
    pub fn secure_address(&self) -> Result<SocketAddr> {
        let conf = four_letter_word_within(self.address(), "conf", DEADLINE)?;
        let port = conf.lines().find_map(|line| line.strip_prefix("secureClientPort=")).context("no port for TLS")?;
        Ok(SocketAddr::new([127, 0, 0, 1].into(), port.parse()?))
    }

    pub fn data_dir(&self) -> PathBuf {
        self.setup.data_dir.clone().unwrap_or_else(|| self.home.path().join("data"))
    }

    /// Where its log is.
    pub fn log_file(&self) -> PathBuf {
        self.log_path()
    }

    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// SIGKILL: nothing gets the chance to be written any more.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, then wait for the orderly end.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(rustix::process::Signal::TERM)?;
        self.wait_exit()
    }

    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let process = self.process.as_ref().context("the server is not running")?;
        Ok(rustix::process::kill_process(rustix::process::Pid::from_child(process), signal)?)
    }

    /// Waits until the log has this text, and returns the log.
    pub fn wait_log(&self, text: &str) -> Result<String> {
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            let log = self.log();
            if log.contains(text) {
                return Ok(log);
            }
            thread::sleep(POLL_INTERVAL);
        }
        bail!("{text:?} is not in the log after {DEADLINE:?}:\n{}", self.log())
    }

    /// Starts again on the same port and data.
    pub fn restart(&mut self) -> Result<()> {
        for attempt in 1.. {
            self.spawn()?;
            let result = self.wait_ready();
            // A connection of a client may hold the port for a moment.
            if result.is_ok() || attempt == PORT_ATTEMPTS {
                return result;
            }
        }
        unreachable!("the last attempt returns")
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("server.log")
    }

    fn spawn(&mut self) -> Result<()> {
        self.kill()?;
        let data_dir = self.data_dir();
        let mut text = format!("dataDir={}\n", data_dir.display());
        if self.setup.has_plain_port {
            writeln!(text, "clientPortAddress={}", self.ip)?;
        }
        if self.setup.has_plain_port && !self.setup.config.iter().any(|(key, _)| key == "clientPort") {
            writeln!(text, "clientPort={}", self.port)?;
        }
        for (key, value) in &self.setup.config {
            writeln!(text, "{key}={value}")?;
        }
        let config_file = self.home.path().join("zoo.cfg");
        fs::write(&config_file, text)?;
        let mut command = match self.setup.product {
            Product::Rookeeper => {
                let mut command = Command::new(self.binary()?);
                command.arg("server").arg(&config_file).env("SERVER_JVMFLAGS", self.setup.properties.join(" "));
                command
            }
            Product::Apache => {
                let mut command = Command::new("java");
                command.args(["-Xmx512m", "-XX:TieredStopAtLevel=1"]).args(&self.setup.properties);
                let debian = || "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar".to_owned();
                let classpath = if self.setup.is_newest { member::apache_classpath() } else { debian() };
                command.args(["-cp", &classpath]);
                command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(&config_file);
                command
            }
        };
        command.envs(self.setup.variables.iter().map(|(name, value)| (name, value)));
        if let Some(user_id) = self.setup.user_id {
            rustix::fs::chmod(self.home.path(), 0o755.into())?;
            command.uid(user_id).gid(user_id);
        }
        if let Some(script) = &self.setup.script {
            let mut wrapped = Command::new("bash");
            wrapped.args(["-c", script, "bash"]).arg(command.get_program()).args(command.get_args());
            wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            command = wrapped;
        }
        let log = File::options().create(true).append(true).open(self.log_path())?;
        self.log_before = log.metadata()?.len() as usize;
        command.current_dir(self.home.path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(spawn(&mut command).with_context(|| format!("cannot start {command:?}"))?);
        Ok(())
    }

    /// Another user may not be able to reach the build directory, so such a server gets a copy.
    fn binary(&self) -> Result<PathBuf> {
        let binary = rookeeper_binary()?;
        if self.setup.user_id.is_none() {
            return Ok(binary);
        }
        let copy = self.home.path().join("rookeeper");
        if !copy.exists() {
            fs::copy(binary, &copy)?;
        }
        Ok(copy)
    }

    fn serves(&self) -> bool {
        if self.setup.has_plain_port {
            let answer = four_letter_word_within(self.address(), "srvr", PROBE_DEADLINE);
            return answer.is_ok_and(|text| text.contains("Mode: "));
        }
        self.log()[self.log_before..].contains(" serves clients on ")
    }

    fn wait_ready(&mut self) -> Result<()> {
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            let process = self.process.as_mut().context("the server is not running")?;
            if let Some(status) = process.try_wait()? {
                bail!("the server ended with {status} before it served:\n{}", self.log());
            }
            if self.serves() {
                // The answer may have come from somebody else's server on the same port.
                thread::sleep(POLL_INTERVAL);
                let process = self.process.as_mut().context("the server is not running")?;
                if process.try_wait()?.is_none() {
                    return Ok(());
                }
            }
            thread::sleep(POLL_INTERVAL);
        }
        bail!("the server does not serve after {DEADLINE:?}:\n{}", self.log())
    }

    /// Waits until the server ends by itself.
    pub fn wait_exit(&mut self) -> Result<ExitStatus> {
        let until = Instant::now() + DEADLINE;
        let process = self.process.as_mut().context("the server is not running")?;
        while Instant::now() < until {
            if let Some(status) = process.try_wait()? {
                self.process = None;
                return Ok(status);
            }
            thread::sleep(POLL_INTERVAL);
        }
        bail!("the server is still there after {DEADLINE:?}:\n{}", self.log())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("cannot end the server: {error}");
        }
        if thread::panicking() {
            eprintln!("--- log of the server\n{}--- end of the log", self.log());
        }
    }
}

fn free_port_of(ip: Ipv4Addr) -> Result<u16> {
    Ok(TcpListener::bind((ip, 0))?.local_addr()?.port())
}

/// `ROOKEEPER_BIN`, or the binary that cargo builds now.
pub fn rookeeper_binary() -> Result<PathBuf> {
    static BINARY: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    BINARY
        .get_or_init(|| match std::env::var_os("ROOKEEPER_BIN") {
            Some(path) => Ok(path.into()),
            None => build_binary().map_err(|error| format!("{error:#}")),
        })
        .clone()
        .map_err(anyhow::Error::msg)
}

fn build_binary() -> Result<PathBuf> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--package", "rookeeper-cli", "--message-format", "json-render-diagnostics"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()?;
    for line in String::from_utf8(output.stdout)?.lines() {
        let message: serde_json::Value = serde_json::from_str(line)?;
        if let Some(path) = message["executable"].as_str() {
            return Ok(path.into());
        }
    }
    bail!("cargo did not build the binary of rookeeper-cli")
}

/// Starts a process. Another test that forks at this moment may hold a binary open that was copied just now; it lets go of it at once.
fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy && Instant::now() < until => {
                thread::yield_now();
            }
            result => return result,
        }
    }
}
