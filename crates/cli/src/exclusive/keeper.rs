//! The keeper: the parent of the command, which ends it at a deadline that the holder has to move on.
//!
//! What always holds: the command runs no longer than the last deadline that was heard of, and ends when the pipe from the holder ends.
//! Deadlines are of the clock that goes on while the machine sleeps.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rookeeper_recipes::lease::{Lease, Verdict};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags, fcntl_setfd, read};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, set_child_subreaper};
use rustix::time::{ClockId, clock_gettime};
use tokio::signal::unix::{SignalKind, signal};

use super::descendants;
use super::options::KeeperOptions;
use crate::print;

/// Of a command whose hold is over.
pub(crate) const LOST: u8 = 70;
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// What the holder tells the keeper: 17 bytes each, so that a pipe carries them whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Deadline(Lease),
    Signal(i32),
}

pub(super) const MESSAGE_BYTES: usize = 17;

impl Message {
    pub(super) fn encode(self) -> [u8; MESSAGE_BYTES] {
        let (kind, one, two) = match self {
            Message::Deadline(lease) => (b'd', lease.stop_ns, lease.end_ns),
            Message::Signal(number) => (b's', number.unsigned_abs().into(), 0),
        };
        let mut bytes = [0; MESSAGE_BYTES];
        bytes[0] = kind;
        bytes[1..9].copy_from_slice(&one.to_le_bytes());
        bytes[9..].copy_from_slice(&two.to_le_bytes());
        bytes
    }

    fn decode(bytes: [u8; MESSAGE_BYTES]) -> Message {
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(number)
        };
        match bytes[0] {
            b's' => Message::Signal(number(1) as i32),
            _ => Message::Deadline(Lease { stop_ns: number(1), end_ns: number(9) }),
        }
    }
}

/// Nanoseconds of the clock that goes on while the machine sleeps.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32).as_nanos() as u64
}

/// The exit code that tells of an end, as shells have it.
pub(super) fn code_of(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(number)) => 128 + number as u8,
        (None, None) => LOST,
    }
}

/// Runs the command, and returns its exit code when it and all that it has started is gone.
pub fn main(options: &KeeperOptions) -> u8 {
    // What the terminal sends to all is for the command: a signal that is listened to does nothing here, and what is executed does not inherit that.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let _deaf = runtime.as_ref().ok().map(|runtime| {
        let _entered = runtime.enter();
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()];
        let more = [SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::from_raw(libc_sigtstp())];
        kinds.into_iter().chain(more).map(signal).collect::<Vec<_>>()
    });
    // A keeper that is started by hand has no pipe.
    let Some(control) = control(options.control) else {
        print::complaint(&"rookeeper keeper is a part of rookeeper lock and rookeeper elect");
        return 1;
    };
    if let Err(error) = set_child_subreaper(Some(getpid())) {
        print::complaint(&format_args!("cannot keep what the command leaves behind: {error}"));
        return 1;
    }
    let child = match Command::new(&options.command[0]).args(&options.command[1..]).spawn() {
        Ok(child) => child,
        Err(error) => {
            print::complaint(&format_args!("{}: {error}", options.command[0]));
            return if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
        }
    };
    let code = keep(child, &control);
    descendants::end();
    code
}

/// Linux' number, which [`SignalKind`] has no name for: a keeper that is stopped with its terminal could not keep.
fn libc_sigtstp() -> i32 {
    Signal::TSTP.as_raw()
}

#[allow(unsafe_code)]
fn control(number: i32) -> Option<OwnedFd> {
    // SAFETY: the descriptor is only asked for its flags, and that fails where there is none.
    let given = unsafe { BorrowedFd::borrow_raw(number) };
    if number < 3 || fcntl_setfd(given, FdFlags::CLOEXEC).is_err() {
        return None;
    }
    // SAFETY: the holder has opened it for this process, nothing else here knows of it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

fn keep(mut child: Child, control: &OwnedFd) -> u8 {
    let pid = Pid::from_child(&child);
    let Ok(exit) = pidfd_open(pid, PidfdFlags::empty()) else {
        print::complaint(&"the kernel has no descriptors for processes: Linux 5.3 or newer is needed");
        return 1;
    };
    // The holder says when the time is over, right behind the start.
    let mut lease = Lease { stop_ns: u64::MAX, end_ns: u64::MAX };
    let mut stopped = false;
    loop {
        let now = now_ns();
        match lease.judge(now) {
            Verdict::Holds => stopped = false,
            Verdict::Stop if !stopped => {
                print::complaint(&"no server confirms the hold: the command is told to stop");
                descendants::signal(Signal::TERM);
                // What is stopped cannot obey.
                descendants::signal(Signal::CONT);
                stopped = true;
            }
            Verdict::Stop => {}
            Verdict::End => return LOST,
        }
        let wait = lease.next_ns(now).map(|next| Duration::from_nanos(next - now));
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        let mut ready = [PollFd::new(control, PollFlags::IN), PollFd::from_borrowed_fd(exit.as_fd(), PollFlags::IN)];
        match poll(&mut ready, wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return LOST,
        }
        let [from_holder, ended] = ready.map(|fd| !fd.revents().is_empty());
        if ended {
            return child.wait().map_or(LOST, code_of);
        }
        if from_holder {
            let mut bytes = [0; MESSAGE_BYTES];
            match read(control, &mut bytes) {
                Ok(MESSAGE_BYTES) => match Message::decode(bytes) {
                    Message::Deadline(next) => lease = next,
                    Message::Signal(number) => {
                        if let Some(signal) = Signal::from_named_raw(number) {
                            let _ = kill_process(pid, signal);
                        }
                    }
                },
                Err(Errno::INTR | Errno::AGAIN) => {}
                // The holder is gone, and with it whoever keeps the session.
                _ => return LOST,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were() {
        for message in [Message::Deadline(Lease { stop_ns: 7, end_ns: u64::MAX }), Message::Signal(15)] {
            assert_eq!(Message::decode(message.encode()), message);
        }
    }
}
