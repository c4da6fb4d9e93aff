//! Findings: what was looked at, what came out, and what to do about it.

use std::fmt;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Good,
    /// What could not be found out, or is only good to know.
    Note,
    /// The operator probably wants to change something.
    Warning,
    /// Something does not work, or will not.
    Problem,
}

impl fmt::Display for Grade {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Grade::Good => "ok",
            Grade::Note => "note",
            Grade::Warning => "warning",
            Grade::Problem => "problem",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// What was looked at, in a word.
    pub subject: &'static str,
    /// What was seen.
    pub seen: String,
    /// What to do; empty where nothing is to be done.
    pub remedy: String,
}

impl Finding {
    /// A finding without a remedy.
    pub fn new(grade: Grade, subject: &'static str, seen: impl Into<String>) -> Finding {
        Finding { grade, subject, seen: seen.into(), remedy: String::new() }
    }

    /// With what to do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = remedy.into();
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:<8} {:<13} {}", self.grade, self.subject, self.seen)?;
        if !self.remedy.is_empty() {
            write!(formatter, "\n{:<8} {:<13} remedy: {}", "", "", self.remedy)?;
        }
        Ok(())
    }
}

/// The last line of a list of findings.
pub fn summary(findings: &[Finding]) -> String {
    let count = |grade| findings.iter().filter(|finding| finding.grade == grade).count();
    let plural = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    format!("{}, {}", plural(count(Grade::Problem), "problem"), plural(count(Grade::Warning), "warning"))
}

/// Whether anything does not work.
pub fn has_problem(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.grade == Grade::Problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_written_with_their_remedy_and_counted() {
        let findings = [
            Finding::new(Grade::Good, "names", "all resolve"),
            Finding::new(Grade::Problem, "disk", "full").remedy("Make room."),
            Finding::new(Grade::Warning, "disk", "slow").remedy("Take another."),
            Finding::new(Grade::Warning, "clock", "late"),
        ];
        assert_eq!(findings[0].to_string(), "ok       names         all resolve");
        assert_eq!(findings[1].to_string(), "problem  disk          full\n                       remedy: Make room.");
        assert_eq!(summary(&findings), "1 problem, 2 warnings");
        assert!(has_problem(&findings) && !has_problem(&findings[2..]));
    }
}
