//! A server with some nodes, the shell at it, and a terminal for the shell: a pseudo-terminal whose screen is read as it is written.
//!
//! What always holds: nothing waits a fixed time, only for output that has to come; a program does not outlive its test.

#![allow(dead_code, reason = "each test file uses a part")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rookeeper_testing::Server;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use zookeeper_client::{Acls, Client, CreateMode};

const DEADLINE: Duration = Duration::from_secs(60);

pub const CTRL_C: &str = "\x03";
pub const CTRL_D: &str = "\x04";
pub const UP: &str = "\x1b[A";

/// A server, and a home for those that use it.
pub struct Site {
    pub server: Server,
    pub home: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    pub fn new() -> Site {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Site { server: Server::start().unwrap(), home: tempfile::tempdir().unwrap(), runtime }
    }

    pub fn address(&self) -> String {
        self.server.address().to_string()
    }

    /// From here on the server answers nothing, until it is thawed.
    pub fn freeze(&mut self) {
        freeze(&mut self.server);
    }

    /// Does something with a session of its own.
    pub fn with<T>(&self, work: impl AsyncFnOnce(&Client) -> T) -> T {
        self.runtime.block_on(async {
            let client = Client::connect(&self.address()).await.unwrap();
            work(&client).await
        })
    }

    /// Makes a node.
    pub fn create(&self, path: &str, data: &[u8]) {
        let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
        self.with(async |client| client.create(path, data, &options).await.map(drop)).unwrap();
    }

    pub fn data(&self, path: &str) -> Vec<u8> {
        self.with(async |client| client.get_data(path).await).unwrap().0
    }

    fn command(&self, program: &str) -> Command {
        Site::command_at(self.home.path(), program)
    }

    fn command_at(home: &Path, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("HOME", home).env("TERM", "xterm").env("PATH", path_with_binary());
        for variable in ["PAGER", "EDITOR", "VISUAL", "LESS", "XDG_STATE_HOME", "JVMFLAGS", "CLIENT_JVMFLAGS"] {
            command.env_remove(variable);
        }
        command
    }

    /// `rookeeper cli` with these arguments, without a terminal.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(env!("CARGO_BIN_EXE_rookeeper"));
        command.args(["cli", "-server", &self.address()]).args(arguments).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// A script of bash that finds `rookeeper`, with the address in `$SERVER`.
    pub fn bash(&self, script: &str) -> Output {
        Site::bash_at(&self.address(), self.home.path(), script)
    }

    /// The same without the site, which may have something else to do.
    pub fn bash_at(address: &str, home: &Path, script: &str) -> Output {
        let mut command = Site::command_at(home, "bash");
        command.args(["-c", script]).env("SERVER", address).stdin(Stdio::null()).output().unwrap()
    }

    /// `rookeeper cli` with these arguments on a terminal, and these variables.
    pub fn terminal(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Terminal {
        let mut command = self.command("setsid");
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_rookeeper"), "cli", "-server", &self.address()]);
        command.args(arguments).envs(variables.iter().copied());
        Terminal::start(command)
    }

    /// The same, up to its first prompt.
    pub fn shell(&self, variables: &[(&str, &str)]) -> Terminal {
        let mut terminal = self.terminal(&[], variables);
        terminal.wait_for("(CONNECTED) 0] ");
        terminal
    }
}

/// Stops the server, and waits until each of its threads has stopped.
pub fn freeze(server: &mut Server) {
    server.freeze().unwrap();
    let threads = format!("/proc/{}/task", server.process_id().unwrap());
    let is_stopped = |thread: std::io::Result<fs::DirEntry>| {
        let stat = fs::read_to_string(thread.unwrap().path().join("stat"));
        stat.is_ok_and(|stat| stat.rsplit(") ").next().unwrap().starts_with('T'))
    };
    let begin = Instant::now();
    while !fs::read_dir(&threads).unwrap().all(is_stopped) {
        assert!(begin.elapsed() < DEADLINE, "the server does not stop");
        thread::yield_now();
    }
}

fn path_with_binary() -> String {
    let folder = Path::new(env!("CARGO_BIN_EXE_rookeeper")).parent().unwrap();
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

/// What a command printed without a terminal.
pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A program on a terminal of 24 rows and 80 columns.
pub struct Terminal {
    controller: File,
    program: Child,
    written: Receiver<Vec<u8>>,
    /// What was written and not waited for yet.
    unread: Vec<u8>,
}

impl Terminal {
    fn start(mut command: Command) -> Terminal {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap();
        tcsetwinsize(&controller, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let side = || File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let program = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        let controller = File::from(controller);
        let (mut screen, (sender, written)) = (controller.try_clone().unwrap(), channel());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error says that nobody has the other side any more.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { controller, program, written, unread: Vec::new() }
    }

    pub fn press(&mut self, keys: &str) {
        self.controller.write_all(keys.as_bytes()).unwrap();
    }

    /// A line of input, up to the prompt behind its result.
    pub fn line(&mut self, line: &str) -> String {
        self.press(&format!("{line}\r"));
        self.wait_for("\n");
        self.prompt()
    }

    /// Up to the next prompt that is drawn.
    pub fn prompt(&mut self) -> String {
        self.wait_for("[zk: ") + &self.wait_for("] ")
    }

    /// Gives up the line that is typed.
    pub fn give_up(&mut self) {
        self.press(CTRL_C);
        self.wait_for("\n");
        self.prompt();
    }

    /// What was written since the last wait, up to the end of this text.
    pub fn wait_for(&mut self, text: &str) -> String {
        let begin = Instant::now();
        loop {
            let found = self.unread.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(place) = found {
                let rest = self.unread.split_off(place + text.len());
                let seen = std::mem::replace(&mut self.unread, rest);
                return String::from_utf8_lossy(&seen).into_owned();
            }
            let left = DEADLINE.saturating_sub(begin.elapsed());
            match self.written.recv_timeout(left) {
                Ok(bytes) => self.unread.extend_from_slice(&bytes),
                Err(error) => panic!("{text:?} did not come ({error}): {:?}", String::from_utf8_lossy(&self.unread)),
            }
        }
    }

    /// The exit code, and the rest of what is written.
    pub fn end(mut self) -> (i32, String) {
        let begin = Instant::now();
        loop {
            match self.written.recv_timeout(DEADLINE.saturating_sub(begin.elapsed())) {
                Ok(bytes) => self.unread.extend_from_slice(&bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("no end: {:?}", String::from_utf8_lossy(&self.unread)),
            }
        }
        let code = self.program.wait().unwrap().code().unwrap();
        (code, String::from_utf8_lossy(&self.unread).into_owned())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
