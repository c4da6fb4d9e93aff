//! The thread that writes the audit log. It may wait for a disk or for a reader as long as it likes: nobody waits for it.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::file::Destination;
use super::line::Lines;
use super::queue::{Batch, Queue};
use crate::logging::limited;

/// Bytes written at once.
const CHUNK_BYTES: usize = 64 << 10;

/// How long events gather behind a write: to wake this thread for each of them would cost those who serve clients more than the rest of the audit log.
const GATHER: Duration = Duration::from_millis(5);

/// Writes what comes through the queue until that is closed and empty.
pub(super) fn spawn(queue: Arc<Queue>, destination: Destination, lines: Lines) -> io::Result<()> {
    thread::Builder::new().name("audit".into()).spawn(move || {
        run(&queue, destination, lines);
        queue.end();
    })?;
    Ok(())
}

fn run(queue: &Queue, mut destination: Destination, mut lines: Lines) {
    let (mut batch, mut text) = (Batch::new(), String::new());
    let mut told = 0;
    while queue.take(&mut batch) {
        for (at, event) in &batch {
            lines.append(*at, event, &mut text);
            if text.len() >= CHUNK_BYTES {
                write(queue, &mut destination, &mut text);
            }
        }
        write(queue, &mut destination, &mut text);
        queue.done(&mut batch);
        let dropped = queue.dropped();
        if dropped > told {
            limited!(
                warn,
                "lines that the audit log lost",
                "the audit log lost {} lines, {dropped} since the start: where it is written was too slow or took nothing; the requests went on",
                dropped - told
            );
            told = dropped;
        }
        queue.gather(GATHER);
    }
}

/// Writes whole lines, and leaves none behind.
fn write(queue: &Queue, destination: &mut Destination, text: &mut String) {
    if text.is_empty() {
        return;
    }
    let (written, result) = destination.write(text.as_bytes());
    let count = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count() as u64;
    let whole = count(&text.as_bytes()[..written]);
    queue.note_written(whole);
    if let Err(error) = result {
        queue.note_dropped(count(text.as_bytes()) - whole);
        limited!(
            warn,
            "audit logs that can't be written",
            "the audit log can't be written: {error}; its lines are lost"
        );
    }
    text.clear();
    text.shrink_to(4 * CHUNK_BYTES);
}
