//! Programs in other languages that use a server under test: the clients that people have.
//!
//! A program gets the address as its first argument and says by its exit code whether all was well. When it prints the line
//! `restart-server`, the server is killed and started again on its data, and the program reads the line `done`. A program that
//! does not end within its deadline is killed and the test fails.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::fixture::repository;
use crate::server::Server;

/// Generous: a Java program compiles itself first, on a machine that may be busy.
const DEADLINE: Duration = Duration::from_secs(240);

/// What Debian's packages put where; `tests/provision` installs them.
const JARS: &[&str] = &["zookeeper", "slf4j-simple", "curator-client", "curator-framework", "curator-recipes", "guava"];
pub const CLI_MT: &str = "/usr/lib/zookeeper/bin/cli_mt";

/// A script of `tests/clients/kazoo` in the environment that has kazoo.
pub fn python(script: &str) -> Result<Command> {
    python_in("kazoo", script)
}

/// A script of another folder of `tests/clients`, in the environment that has what all of them need.
pub fn python_in(folder: &str, script: &str) -> Result<Command> {
    let interpreter = repository().join(".venv/bin/python");
    ensure!(interpreter.exists(), "{} is missing: run tests/provision", interpreter.display());
    let mut command = Command::new(interpreter);
    command.arg("-u").arg(repository().join("tests/clients").join(folder).join(script));
    Ok(command)
}

/// A script for Node.js of `tests/clients`, with what is locked there.
pub fn node(script: &str) -> Result<Command> {
    let modules = repository().join(".node/node_modules");
    ensure!(modules.exists(), "{} is missing: run tests/provision", modules.display());
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules).env("NODE_NO_WARNINGS", "1");
    command.arg(repository().join("tests/clients").join(script));
    Ok(command)
}

/// A program of `tests/clients/java`, compiled on the fly.
pub fn java_program(source: &str) -> Result<Command> {
    let mut command = java()?;
    command.arg(repository().join("tests/clients/java").join(source));
    Ok(command)
}

/// The same over TLS, which in the Java client is Netty's. `stores` are options of Java that name them.
pub fn java_program_with_tls(source: &str, stores: &[String]) -> Result<Command> {
    const NETTY: &[&str] =
        &["buffer", "codec", "common", "handler", "resolver", "transport", "transport-native-unix-common"];
    let netty: Vec<PathBuf> = NETTY.iter().map(|part| format!("/usr/share/java/netty-{part}.jar").into()).collect();
    let mut command = java_with(&netty)?;
    command.args([
        "-Dzookeeper.client.secure=true",
        "-Dzookeeper.clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty",
    ]);
    command.args(stores).arg(repository().join("tests/clients/java").join(source));
    Ok(command)
}

/// `prometheus` or `promtool`, of the system or fetched by `tests/provision`.
pub fn prometheus(program: &str) -> Result<Command> {
    let fetched = repository().join(".prometheus/usr/bin").join(program);
    if fetched.exists() {
        return Ok(Command::new(fetched));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
    let found = found.with_context(|| format!("{program} is missing: run tests/provision"))?;
    Ok(Command::new(found))
}

/// The folder under which collectd's files are, of the system or fetched by `tests/provision`: its program is `usr/sbin/collectd` there.
pub fn collectd_root() -> Result<PathBuf> {
    let roots = [repository().join(".collectd"), PathBuf::from("/")];
    let found = roots.into_iter().find(|root| root.join("usr/lib/collectd/zookeeper.so").exists());
    found.context("collectd with its plugin for ZooKeeper is missing: run tests/provision")
}

/// A program of `tests/clients/java` with the newest Curator, on the client library of the newest original.
pub fn curator_program(source: &str) -> Result<Command> {
    let fetched = [".curator", ".apache"].map(|folder| repository().join(folder));
    for folder in &fetched {
        ensure!(folder.exists(), "{} is missing: run tests/provision", folder.display());
    }
    let mut classpath: Vec<PathBuf> = fetched.iter().map(|folder| folder.join("*")).collect();
    // Service discovery writes JSON.
    let of_debian = ["slf4j-api", "slf4j-simple", "guava", "jackson-core", "jackson-databind", "jackson-annotations"];
    classpath.extend(of_debian.map(|name| format!("/usr/share/java/{name}.jar").into()));
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]);
    command.arg(std::env::join_paths(classpath)?).arg(repository().join("tests/clients/java").join(source));
    Ok(command)
}

/// Spring Cloud's Eureka server, alone unless options say otherwise.
pub fn eureka_server() -> Result<Command> {
    spring_cloud("EurekaServer.java")
}

/// An instance of Spring Cloud that answers lines of its input; what it answers begins with `answer`.
pub fn spring_instance() -> Result<Command> {
    spring_cloud("SpringInstance.java")
}

fn spring_cloud(source: &str) -> Result<Command> {
    let fetched = [".eureka", ".eureka/jackson3"].map(|folder| repository().join(folder));
    for folder in &fetched {
        ensure!(folder.exists(), "{} is missing: run tests/provision", folder.display());
    }
    let classpath = std::env::join_paths(fetched.iter().map(|folder| folder.join("*")))?;
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp"]).arg(classpath);
    command.arg(repository().join("tests/clients/eureka").join(source));
    Ok(command)
}

/// The shell of the original, as its script starts it.
pub fn zk_cli() -> Result<Command> {
    let mut command = java()?;
    command.arg("org.apache.zookeeper.ZooKeeperMain");
    Ok(command)
}

fn java() -> Result<Command> {
    java_with(&[])
}

fn java_with(more: &[PathBuf]) -> Result<Command> {
    let mut jars: Vec<PathBuf> = JARS.iter().map(|name| format!("/usr/share/java/{name}.jar").into()).collect();
    jars.extend_from_slice(more);
    for jar in &jars {
        ensure!(jar.exists(), "{} is missing: run tests/provision", jar.display());
    }
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]);
    command.arg(std::env::join_paths(jars)?);
    Ok(command)
}

/// Runs the program against the server until it ends; fails if it does.
pub fn run(command: Command, server: &mut Server) -> Result<()> {
    run_at(command, server.address(), server)
}

/// The same at another port of the server.
pub fn run_at(mut command: Command, address: SocketAddr, server: &mut Server) -> Result<()> {
    command.arg(address.to_string());
    let mut program = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}: run tests/provision"))?;
    let mut input = program.stdin.take().context("no standard input")?;
    let output = BufReader::new(program.stdout.take().context("no standard output")?);
    let (sender, lines) = channel();
    thread::spawn(move || output.lines().map_while(std::io::Result::ok).try_for_each(|line| sender.send(line)));
    let mut converse = || -> Result<()> {
        loop {
            match lines.recv_timeout(DEADLINE) {
                Ok(line) if line == "restart-server" => {
                    server.kill()?;
                    server.restart()?;
                    writeln!(input, "done")?;
                }
                Ok(line) => println!("{line}"),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => bail!("nothing was printed for {DEADLINE:?}"),
            }
        }
    };
    let conversation = converse();
    if conversation.is_err() {
        program.kill()?;
    }
    let status = program.wait()?;
    conversation?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// What a program printed that was given its whole input at once.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program that reads `input` and ends by itself.
pub fn output(mut command: Command, input: &str) -> Result<Output> {
    let mut program = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}: run tests/provision"))?;
    let process_id = rustix::process::Pid::from_child(&program);
    program.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
    let (sender, finished) = channel();
    thread::spawn(move || sender.send(program.wait_with_output()));
    match finished.recv_timeout(DEADLINE) {
        Ok(output) => {
            let output = output?;
            Ok(Output {
                code: output.status.code(),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            })
        }
        Err(_) => {
            rustix::process::kill_process(process_id, rustix::process::Signal::KILL)?;
            bail!("{command:?} did not end within {DEADLINE:?}")
        }
    }
}

/// A program that answers each line it is given with a line, until it is killed.
#[derive(Debug)]
pub struct Dialogue {
    name: String,
    process: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Dialogue {
    /// Starts the program with the address as its argument.
    pub fn start(name: &str, mut command: Command, address: &str) -> Result<Dialogue> {
        command.arg(address);
        Dialogue::of(name, command)
    }

    /// Starts the program as it is.
    pub fn of(name: &str, mut command: Command) -> Result<Dialogue> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}: run tests/provision"))?;
        let input = process.stdin.take().context("no standard input")?;
        let output = BufReader::new(process.stdout.take().context("no standard output")?);
        let (sender, answers) = channel();
        thread::spawn(move || output.lines().map_while(std::io::Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Dialogue { name: name.to_owned(), process, input, answers })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}").with_context(|| format!("telling {} {line:?}", self.name))?;
        Ok(self.input.flush()?)
    }

    /// The next line that the program prints.
    pub fn answer(&mut self) -> Result<String> {
        self.answers.recv_timeout(DEADLINE).with_context(|| format!("{} gave no answer", self.name))
    }

    /// The next line, where the program prints one in time.
    pub fn answer_within(&mut self, limit: Duration) -> Option<String> {
        self.answers.recv_timeout(limit).ok()
    }

    pub fn ask(&mut self, line: &str) -> Result<String> {
        self.tell(line)?;
        self.answer()
    }

    /// Waits until the program ends by itself. Its exit code; none where a signal ended it.
    pub fn end(&mut self) -> Result<Option<i32>> {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status.code());
            }
            ensure!(Instant::now() < until, "{} does not end", self.name);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL: its session stays until it expires.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Freezes with `STOP`, thaws with `CONT`.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        Ok(rustix::process::kill_process(rustix::process::Pid::from_child(&self.process), signal)?)
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
