//! The lines that wait between the threads that log and the thread that writes the log.
//!
//! What always holds here: putting a line in never waits for a disk, a pipe or a terminal; what waits is bounded in bytes; a line for
//! which there is no room, or which the system did not take, is counted, and the log says how many are missing as soon as it can be
//! written again.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Bytes of lines that may wait: some seconds of a very talkative server, and nothing that a machine would miss.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// Between attempts where the system takes nothing at the moment: somebody made standard error non-blocking.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How long a thread that panicked, perhaps in here, waits for the lock.
const PANIC_WAIT: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct LogBuffer {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    /// Lines for which there was no room behind those that wait.
    dropped: u64,
    /// Lines that were dropped or that the system did not take, since the start.
    missing: u64,
    /// The writing thread has taken lines and is not back for more.
    is_writing: bool,
}

impl LogBuffer {
    /// Puts in one line, with its end.
    pub fn push(&self, line: &[u8]) {
        self.state.lock().push(line);
        self.filled.notify_one();
    }

    /// The same for a thread that may have stopped anywhere.
    pub fn push_in_panic(&self, line: &[u8]) {
        if let Some(mut state) = self.state.try_lock_for(PANIC_WAIT) {
            state.push(line);
            self.filled.notify_one();
        }
    }

    /// Waits until all is written that was put in, or until `limit` is over.
    pub fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let Some(mut state) = self.state.try_lock_until(until) else { return };
        while state.is_writing || !state.lines.is_empty() {
            if self.written.wait_until(&mut state, until).timed_out() {
                return;
            }
        }
    }

    /// Lines that nobody will read, since the start.
    pub fn missing(&self) -> u64 {
        self.state.lock().missing
    }

    /// Moves what waits into `lines`, which is empty, and returns how many lines were dropped behind it.
    fn take(&self, lines: &mut Vec<u8>) -> u64 {
        let mut state = self.state.lock();
        state.is_writing = false;
        self.written.notify_all();
        while state.lines.is_empty() {
            self.filled.wait(&mut state);
        }
        state.is_writing = true;
        std::mem::swap(&mut state.lines, lines);
        std::mem::take(&mut state.dropped)
    }

    /// Writes for as long as the process lives. `stamp` gives the time as it stands before every line.
    pub fn write_to(&self, mut to: impl Write, stamp: impl Fn() -> String) -> ! {
        let mut missing = Missing::default();
        let mut lines = Vec::new();
        loop {
            let dropped = self.take(&mut lines);
            let lost = self.write_batch(&mut to, &mut missing, &mut lines, dropped, &stamp);
            self.state.lock().missing += lost;
        }
    }

    /// Returns how many lines the system did not take.
    fn write_batch(
        &self,
        to: &mut impl Write,
        missing: &mut Missing,
        lines: &mut Vec<u8>,
        dropped: u64,
        stamp: &impl Fn() -> String,
    ) -> u64 {
        let mut lost = 0;
        if let Some(notice) = missing.notice(&stamp()) {
            match write_all(to, notice.as_bytes()) {
                Ok(()) => *missing = Missing::default(),
                Err((_, error)) => missing.why = error.to_string(),
            }
        }
        if let Err((written, error)) = write_all(to, lines) {
            lost = lines[written..].iter().filter(|byte| **byte == b'\n').count() as u64;
            *missing = Missing { count: missing.count + lost, why: error.to_string() };
        }
        if dropped > 0 {
            missing.count += dropped;
            if missing.why.is_empty() {
                "the log is read too slowly".clone_into(&mut missing.why);
            }
        }
        lines.clear();
        // The room that a burst needed is not kept.
        lines.shrink_to(MAX_WAITING_BYTES / 16);
        lost
    }
}

impl State {
    fn push(&mut self, line: &[u8]) {
        // Lines behind a gap would hide where it is, so the gap lasts until the writing thread comes.
        if self.dropped > 0 || self.lines.len() + line.len() > MAX_WAITING_BYTES {
            self.dropped += 1;
            self.missing += 1;
        } else {
            self.lines.extend_from_slice(line);
        }
    }
}

/// Lines that are missing in the log and not yet told of.
#[derive(Debug, Default)]
struct Missing {
    count: u64,
    why: String,
}

impl Missing {
    fn notice(&self, stamp: &str) -> Option<String> {
        let Missing { count, why } = self;
        (*count > 0)
            .then(|| format!("{stamp}  WARN {}: {count} lines of the log are missing here: {why}\n", module_path!()))
    }
}

/// On failure, how many bytes were written before.
fn write_all(to: &mut impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match to.write(&bytes[written..]) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The lines that come meanwhile have their own limit.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Takes what each step allows: bytes, or an error. Tells what it took.
    struct Scripted {
        steps: Receiver<io::Result<()>>,
        took: SyncSender<Vec<u8>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let step = self.steps.recv().unwrap_or(Ok(()));
            step.map(|()| {
                let _ = self.took.send(bytes.to_vec());
                bytes.len()
            })
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn writing() -> (Arc<LogBuffer>, SyncSender<io::Result<()>>, Receiver<Vec<u8>>) {
        let buffer = Arc::new(LogBuffer::default());
        let (step, steps) = sync_channel(100);
        let (took, taken) = sync_channel(100);
        let writer = buffer.clone();
        thread::spawn(move || -> () { writer.write_to(Scripted { steps, took }, || "now".to_owned()) });
        (buffer, step, taken)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_put_in_comes_out_and_a_flush_waits_for_it() {
        let (buffer, step, taken) = writing();
        buffer.push(b"one\n");
        step.send(Ok(())).unwrap();
        buffer.flush(LONG);
        assert_eq!(taken.try_recv().unwrap(), b"one\n");
        buffer.flush(LONG);
    }

    #[test]
    fn what_a_full_disk_does_not_take_is_counted_and_told_of_later() {
        let (buffer, step, taken) = writing();
        step.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        buffer.push(b"a\nb\n");
        buffer.flush(LONG);
        // Neither the notice of what was lost nor the next line.
        for _ in 0..2 {
            step.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        }
        buffer.push(b"c\n");
        buffer.flush(LONG);
        assert_eq!(buffer.missing(), 3);
        assert!(taken.try_recv().is_err());
        drop(step);
        buffer.push(b"d\n");
        buffer.flush(LONG);
        let notice = String::from_utf8(taken.recv().unwrap()).unwrap();
        assert!(
            notice.starts_with("now  WARN") && notice.contains("3 lines of the log are missing here: "),
            "{notice}"
        );
        assert_eq!(taken.recv().unwrap(), b"d\n");
    }

    #[test]
    fn a_reader_that_does_not_read_holds_up_nobody() {
        let (buffer, step, taken) = writing();
        let line = [b'x'; 1 << 10];
        // A batch is with the writer, another one waits, the rest is dropped. No thread that logs waits.
        let pushed = 3 * MAX_WAITING_BYTES / line.len();
        for _ in 0..pushed {
            buffer.push(&line);
        }
        let missing = buffer.missing();
        assert!(missing as usize >= pushed / 3 && (missing as usize) < pushed, "{missing} of {pushed}");
        buffer.flush(Duration::from_millis(1));
        drop(step);
        buffer.flush(LONG);
        buffer.push(b"later\n");
        buffer.flush(LONG);
        let all: Vec<u8> = taken.try_iter().flatten().collect();
        let text = String::from_utf8(all).unwrap();
        assert!(text.ends_with("later\n"), "{}", &text[text.len() - 200..]);
        // In one notice, or in several where the writer took the first batch late.
        let told: u64 = text
            .match_indices(" lines of the log are missing here: the log is read too slowly\n")
            .map(|(end, _)| text[..end].rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(told, missing);
    }

    #[test]
    fn a_panic_while_the_lines_are_locked_is_not_waited_for_without_end() {
        let buffer = LogBuffer::default();
        let _locked = buffer.state.lock();
        thread::scope(|scope| {
            scope.spawn(|| {
                buffer.push_in_panic(b"panic\n");
                buffer.flush(Duration::from_millis(1));
            });
        });
    }
}
