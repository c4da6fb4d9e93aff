//! `history` and `redo`: the lines typed so far, by number.
//!
//! What always holds: the number of a line never changes; only the last thousand lines are kept.

use std::collections::VecDeque;

use super::Shell;
use super::failure::Failure;
use super::options::Arguments;

const LINES_KEPT: usize = 1_000;
const LINES_LISTED: usize = 11;

/// The lines of a session, numbered from 0.
#[derive(Debug, Default)]
pub(crate) struct History {
    lines: VecDeque<String>,
    forgotten: usize,
}

impl History {
    /// The number the next line gets.
    pub(crate) fn next_number(&self) -> usize {
        self.forgotten + self.lines.len()
    }

    pub(crate) fn push(&mut self, line: &str) {
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
            self.forgotten += 1;
        }
        self.lines.push_back(line.to_owned());
    }

    fn line(&self, number: usize) -> Option<&str> {
        self.lines.get(number.checked_sub(self.forgotten)?).map(String::as_str)
    }

    fn replace_last(&mut self, line: String) {
        if let Some(last) = self.lines.back_mut() {
            *last = line;
        }
    }

    fn latest(&self) -> impl Iterator<Item = (usize, &str)> {
        let skipped = self.lines.len().saturating_sub(LINES_LISTED);
        self.lines.iter().enumerate().skip(skipped).map(|(index, line)| (self.forgotten + index, line.as_str()))
    }
}

pub(crate) fn list(shell: &mut Shell) -> Result<(), Failure> {
    for (number, line) in shell.history.latest() {
        shell.output.line(&format!("{number} - {line}"))?;
    }
    Ok(())
}

pub(crate) async fn redo(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let Some(word) = arguments.words.first() else { return Ok(()) };
    // The line being run is the last in the history: it cannot redo itself.
    let own = shell.history.next_number().saturating_sub(1);
    let line = word.parse().ok().filter(|number| *number < own).and_then(|number| shell.history.line(number));
    let Some(line) = line.map(str::to_owned) else {
        return Err(Failure::Refused("Command index out of range".to_owned()));
    };
    let words = super::arguments::split_line(&line);
    if words.first().is_some_and(|name| name == "redo") {
        return Err(Failure::Refused("No redoing redos".to_owned()));
    }
    shell.history.replace_last(line);
    shell.execute(&words).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_when_old_lines_are_forgotten() {
        let mut history = History::default();
        for number in 0..LINES_KEPT + 5 {
            history.push(&format!("line {number}"));
        }
        assert_eq!(history.line(4), None);
        assert_eq!(history.line(5), Some("line 5"));
        assert_eq!(history.next_number(), LINES_KEPT + 5);
        let latest: Vec<_> = history.latest().collect();
        assert_eq!(latest.len(), LINES_LISTED);
        assert_eq!(latest[0], (994, "line 994"));
        assert_eq!(latest[10], (1004, "line 1004"));
    }
}
