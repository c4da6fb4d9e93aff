//! Want of file descriptors while a file is opened. The disk is sound then, others give descriptors back, and what waits to be written is in
//! memory: so the open is tried again for a while, and nothing was done by halves when it is given up.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use tracing::warn;

const PAUSE: Duration = Duration::from_millis(50);

/// As long as others bear with a server that stands still, by the usual `syncLimit`.
const PATIENCE: Duration = Duration::from_secs(5);

const ATTEMPTS: u32 = (PATIENCE.as_millis() / PAUSE.as_millis()) as u32;

/// Whether an operation failed because this process, or the whole system, has no descriptor left.
pub fn are_exhausted(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Opens a file, however often that must be tried within five seconds. Blocks.
pub fn patiently<T>(path: &Path, open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    retry(open, |error, attempt| {
        if attempt == 1 {
            warn!(
                "{}: {error}; the disk is not to blame, and this is tried again for {} s; raise the limit of file descriptors",
                path.display(),
                PATIENCE.as_secs()
            );
        }
        thread::sleep(PAUSE);
    })
}

/// `wait` is told the error and the number of the attempt that failed, from 1.
fn retry<T>(mut open: impl FnMut() -> io::Result<T>, mut wait: impl FnMut(&io::Error, u32)) -> io::Result<T> {
    for attempt in 1..ATTEMPTS {
        match open() {
            Err(error) if are_exhausted(&error) => wait(&error, attempt),
            other => return other,
        }
    }
    open()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The attempts it took, and the outcome, where the first `failures` of them fail with `errno`.
    fn opened(failures: u32, errno: Errno) -> (u32, io::Result<()>) {
        let (mut attempts, mut waits) = (0, 0);
        let open = || {
            attempts += 1;
            if attempts <= failures { Err(errno.into()) } else { Ok(()) }
        };
        let outcome = retry(open, |_, attempt| {
            waits += 1;
            assert_eq!(attempt, waits);
        });
        (attempts, outcome)
    }

    #[test]
    fn only_want_of_descriptors_is_waited_out_and_not_for_ever() {
        for errno in [Errno::MFILE, Errno::NFILE] {
            assert!(matches!(opened(0, errno), (1, Ok(()))));
            assert!(matches!(opened(3, errno), (4, Ok(()))));
            assert!(matches!(opened(ATTEMPTS - 1, errno), (ATTEMPTS, Ok(()))));
            let (attempts, outcome) = opened(u32::MAX, errno);
            assert_eq!(attempts, ATTEMPTS);
            assert!(are_exhausted(&outcome.unwrap_err()));
        }
        assert!(matches!(opened(3, Errno::NOSPC), (1, Err(_))));
        assert!(matches!(opened(3, Errno::IO), (1, Err(_))));
    }
}
