//! How far it is, on a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(200);
const WIDTH: u64 = 30;

/// Told on standard error where that is a terminal, and nowhere else.
pub(super) struct Progress {
    is_shown: bool,
    begin: Instant,
    last: Option<Instant>,
    /// None where nobody knows.
    total: Option<u64>,
}

impl Progress {
    pub fn new(total: Option<u64>) -> Progress {
        Progress { is_shown: io::stderr().is_terminal(), begin: Instant::now(), last: None, total }
    }

    pub fn tell(&mut self, done: u64) {
        if self.is_shown && self.last.is_none_or(|last| last.elapsed() >= EVERY) {
            self.last = Some(Instant::now());
            let _ = write!(io::stderr(), "\r{}", shown(done, self.total, self.begin.elapsed()));
        }
    }

    /// Takes the line away.
    pub fn end(&self) {
        if self.last.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn shown(done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    match total.filter(|total| *total > 0) {
        None => format!("{done} nodes, {rate:.0}/s"),
        Some(total) => {
            let filled = WIDTH * done.min(total) / total;
            let bar: String = (0..WIDTH).map(|at| if at < filled { '#' } else { '.' }).collect();
            format!("[{bar}] {done}/{total} nodes, {rate:.0}/s")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        let second = Duration::from_secs(1);
        assert_eq!(shown(7, None, second), "7 nodes, 7/s");
        assert_eq!(shown(5, Some(10), second), "[###############...............] 5/10 nodes, 5/s");
        assert_eq!(shown(10, Some(10), second), "[##############################] 10/10 nodes, 10/s");
    }
}
