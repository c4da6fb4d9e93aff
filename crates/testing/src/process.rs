//! One process of a server, with a directory of its own.
//!
//! What always holds: the process does not outlive its [`Process`], nor the process that made it: its standard input is a pipe, at whose end it
//! stops. The directory is in memory where the machine has a file system there.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{DEADLINE, Error, POLL_INTERVAL};

/// For one question to a server that may be starting.
const WORD_TIMEOUT: Duration = Duration::from_secs(1);

/// A directory that goes with its owner.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Result<Directory, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let in_memory = Path::new("/dev/shm");
        let parent = if in_memory.is_dir() { in_memory.to_owned() } else { env::temp_dir() };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("rookeeper-testing-{}-{number}", std::process::id()));
        // One of an earlier process with this number.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path)?;
        Ok(Directory(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug)]
pub(crate) struct Process {
    directory: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
    pub(crate) is_frozen: bool,
}

impl Process {
    /// A process that is not started yet; `arguments` are those of `rookeeper server`.
    pub(crate) fn new(directory: &Path, arguments: Vec<String>) -> Process {
        Process { directory: directory.to_owned(), arguments, child: None, is_frozen: false }
    }

    /// What the process is given from its next start on.
    pub(crate) fn set_arguments(&mut self, arguments: Vec<String>) {
        self.arguments = arguments;
    }

    pub(crate) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Starts the process and waits for the address that it prints when clients can connect.
    pub(crate) fn start(&mut self) -> Result<SocketAddr, Error> {
        self.kill()?;
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let mut child = Command::new(binary()?)
            .args(["server", "--print-address", "--while-stdin"])
            .args(&self.arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let output = child.stdout.take();
        self.child = Some(child);
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let mut line = String::new();
            if let Some(output) = output {
                let _ = BufReader::new(output).read_line(&mut line);
            }
            sender.send(line)
        });
        match receiver.recv_timeout(DEADLINE) {
            Ok(line) => line.trim().parse().map_err(|_| Error::Ended { log: self.log() }),
            Err(RecvTimeoutError::Timeout) => Err(Error::NotInTime { what: "the server is ready" }),
            Err(RecvTimeoutError::Disconnected) => Err(Error::Ended { log: self.log() }),
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<(), Error> {
        self.is_frozen = false;
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the orderly end.
    pub(crate) fn stop(&mut self) -> Result<(), Error> {
        self.thaw()?;
        let Some(mut child) = self.child.take() else { return Ok(()) };
        kill_process(Pid::from_child(&child), Signal::TERM).map_err(std::io::Error::from)?;
        let until = Instant::now() + DEADLINE;
        while child.try_wait()?.is_none() {
            if Instant::now() > until {
                self.child = Some(child);
                return Err(Error::NotInTime { what: "the server stops" });
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    pub(crate) fn freeze(&mut self) -> Result<(), Error> {
        self.signal(Signal::STOP)?;
        self.is_frozen = true;
        Ok(())
    }

    pub(crate) fn thaw(&mut self) -> Result<(), Error> {
        self.signal(Signal::CONT)?;
        self.is_frozen = false;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        match &self.child {
            Some(child) => Ok(kill_process(Pid::from_child(child), signal).map_err(std::io::Error::from)?),
            None => Ok(()),
        }
    }

    pub(crate) fn process_id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// The answer to a four-letter word, soon or not at all.
pub(crate) fn word(address: SocketAddr, word: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, WORD_TIMEOUT).ok()?;
    stream.set_read_timeout(Some(WORD_TIMEOUT)).ok()?;
    stream.write_all(word.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn binary() -> Result<PathBuf, Error> {
    if let Some(path) = env::var_os("ROOKEEPER_BIN") {
        return Ok(path.into());
    }
    // target/debug/deps/test-… has the binary two folders up, an example or a doctest elsewhere below target/debug.
    let beside = env::current_exe()
        .ok()
        .and_then(|test| test.ancestors().skip(1).map(|folder| folder.join("rookeeper")).find(|file| file.is_file()));
    let on_path = || {
        let path = env::var_os("PATH")?;
        env::split_paths(&path).map(|folder| folder.join("rookeeper")).find(|file| file.is_file())
    };
    beside.or_else(on_path).ok_or(Error::NoBinary)
}
