//! The process that a pid file names.
//!
//! A pid file outlives a crash and a reboot, and the number in it may be anybody's by then. So a process counts as ours only if the kernel
//! says that it runs this program as a server, and it is held by a descriptor from before it was looked at, so that a signal can't reach
//! another one that got the number in between.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What a pid file leads to.
#[derive(Debug)]
pub enum Named {
    /// There is no such file.
    NoFile,
    /// The process is gone, or the file holds no number.
    Nothing {
        text: String,
    },
    /// Somebody else's.
    Other {
        id: i32,
        program: String,
    },
    Server(Process),
}

/// A server that runs, or ran a moment ago.
#[derive(Debug)]
pub struct Process {
    pub id: i32,
    descriptor: OwnedFd,
}

impl Named {
    /// Looks at what a pid file names. The error says why that can't be told.
    pub fn by(pid_file: &Path) -> Result<Named, String> {
        let text = match std::fs::read_to_string(pid_file) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Named::NoFile),
            Err(error) => return Err(format!("can't read {}: {error}", pid_file.display())),
        };
        // A negative number would mean a group of processes.
        let id = text.parse().ok().filter(|id: &i32| *id > 0);
        let Some((id, pid)) = id.and_then(|id| Some((id, Pid::from_raw(id)?))) else {
            return Ok(Named::Nothing { text });
        };
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(Errno::SRCH) => return Ok(Named::Nothing { text }),
            Err(error) => return Err(format!("can't look at process {id}: {error}")),
        };
        let process = Process { id, descriptor };
        let looked = Look::at(id);
        // Now it is certain that it was this process that was looked at.
        if process.has_ended(Duration::ZERO) {
            return Ok(Named::Nothing { text });
        }
        match looked {
            Ok(look) if look.is_server() => Ok(Named::Server(process)),
            Ok(look) => Ok(Named::Other { id, program: look.program }),
            Err(error) => Err(format!("can't look at process {id}: {error}")),
        }
    }
}

impl Process {
    /// Asks it to stop in order.
    pub fn terminate(&self) -> std::io::Result<()> {
        match pidfd_send_signal(&self.descriptor, Signal::TERM) {
            // It stopped by itself.
            Err(Errno::SRCH) => Ok(()),
            sent => sent.map_err(Into::into),
        }
    }

    /// Waits for the end of it, up to a limit.
    pub fn has_ended(&self, limit: Duration) -> bool {
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        let mut descriptors = [PollFd::new(&self.descriptor, PollFlags::IN)];
        loop {
            match poll(&mut descriptors, Some(&limit)) {
                Err(Errno::INTR) => {}
                polled => return polled.is_ok_and(|ready| ready > 0),
            }
        }
    }
}

/// What the kernel says of a process.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    /// The name of the file that it runs.
    program: String,
    first_argument: String,
}

impl Look {
    fn at(id: i32) -> std::io::Result<Look> {
        let program = std::fs::read_link(format!("/proc/{id}/exe"))?;
        let program = program.file_name().unwrap_or_default().to_string_lossy();
        // An update replaced the file since.
        let program = program.strip_suffix(" (deleted)").unwrap_or(&program).to_owned();
        let line = std::fs::read(format!("/proc/{id}/cmdline"))?;
        let first_argument = line.split(|byte| *byte == 0).nth(1).unwrap_or_default();
        Ok(Look { program, first_argument: String::from_utf8_lossy(first_argument).into_owned() })
    }

    fn is_server(&self) -> bool {
        let mine = std::env::current_exe().ok();
        let mine = mine.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
        (self.program == "rookeeper" || Some(self.program.as_str()) == mine) && self.first_argument == "server"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Named {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        std::fs::write(&path, text).unwrap();
        Named::by(&path).unwrap()
    }

    #[test]
    fn files_that_lead_to_nothing() {
        assert!(matches!(Named::by(Path::new("/nowhere/pid")), Ok(Named::NoFile)));
        for text in ["", "x", "0", "-1", "2147483647"] {
            assert!(matches!(named(text), Named::Nothing { .. }), "{text:?}");
        }
    }

    #[test]
    fn a_process_that_is_no_server_is_somebody_elses() {
        let found = named(&std::process::id().to_string());
        // The program of the tests is known, but it runs no server.
        assert!(matches!(&found, Named::Other { id, .. } if *id as u32 == std::process::id()), "{found:?}");
        let look =
            |program: &str, argument: &str| Look { program: program.to_owned(), first_argument: argument.to_owned() };
        assert!(look("rookeeper", "server").is_server());
        assert!(!look("rookeeper", "cli").is_server() && !look("java", "server").is_server());
    }
}
