//! What can be wrong with a configuration, and what is merely worth a line in the log.
//!
//! Every error names where the setting stands, the setting itself, what is wrong in the words the original uses (scripts
//! and runbooks grep for them), and what to do about it. Values of secret keys are never shown.

use std::fmt;

use crate::failure::ExitCode;

/// Where a setting was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Line `line`, counted from 1, of a file.
    Line {
        /// Path of the file as the operator gave it.
        file: String,
        /// First line of the setting; a continued line counts where it begins.
        line: usize,
    },
    /// A `-D` option in the environment variable of this name.
    Flag(&'static str),
    /// A positional argument of the command line.
    Argument,
    /// A whole file, such as `myid`.
    File(String),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line { file, line } => write!(formatter, "{file}:{line}"),
            Place::Flag(variable) => write!(formatter, "-D in {variable}"),
            Place::Argument => formatter.write_str("command line"),
            Place::File(file) => formatter.write_str(file),
        }
    }
}

/// One thing that is wrong, complete enough to be fixed without looking anything up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where; absent when something is missing altogether.
    pub place: Option<Place>,
    /// The setting as `key=value`.
    pub setting: Option<String>,
    /// What is wrong, in the original's wording where there is one.
    pub problem: String,
    /// What is allowed and what to do.
    pub remedy: String,
}

impl Fault {
    pub(super) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { place: None, setting: None, problem: problem.into(), remedy: remedy.into() }
    }

    pub(super) fn at(mut self, place: &Place) -> Fault {
        self.place = Some(place.clone());
        self
    }

    pub(super) fn about(mut self, key: &str, value: &str) -> Fault {
        self.setting = Some(format!("{key}={}", excerpt(value)));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(formatter, "{}: ", one_line(&place.to_string()))?;
        }
        if let Some(setting) = &self.setting {
            write!(formatter, "{}: ", one_line(setting))?;
        }
        formatter.write_str(&one_line(&self.problem))?;
        if !self.remedy.is_empty() {
            write!(formatter, "\n  {}", one_line(&self.remedy))?;
        }
        Ok(())
    }
}

/// Why the server does not start with this configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The configuration is wrong and must be corrected.
    #[error("invalid configuration: {0}")]
    Invalid(Fault),
    /// The configuration is sound, but `myid` names a server that is not in it; the original reports this later in its
    /// start, with another exit code.
    #[error("invalid configuration: {0}")]
    NotInPeerList(Fault),
    /// The configuration is sound, but asks for something that this version cannot do and must not ignore.
    #[error("not supported yet: {0}")]
    Unsupported(Fault),
}

impl ConfigError {
    /// Exit code of the process, as the original would end.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            ConfigError::Invalid(_) | ConfigError::Unsupported(_) => ExitCode::Misconfigured,
            ConfigError::NotInPeerList(_) => ExitCode::Failed,
        }
    }

    /// The details.
    pub fn fault(&self) -> &Fault {
        match self {
            ConfigError::Invalid(fault) | ConfigError::NotInPeerList(fault) | ConfigError::Unsupported(fault) => fault,
        }
    }
}

impl From<Fault> for ConfigError {
    fn from(fault: Fault) -> ConfigError {
        ConfigError::Invalid(fault)
    }
}

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Good to know.
    Info,
    /// The operator probably wants to change something.
    Warn,
}

/// A line for the log: something about the configuration that does not prevent the start. The caller logs it, because
/// the configuration is read before logging can be set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How much it matters.
    pub level: Level,
    /// The sentence.
    pub text: String,
}

impl Notice {
    pub(super) fn info(text: impl Into<String>) -> Notice {
        Notice { level: Level::Info, text: one_line(&text.into()) }
    }

    pub(super) fn warn(text: impl Into<String>) -> Notice {
        Notice { level: Level::Warn, text: one_line(&text.into()) }
    }
}

/// Names and paths from outside must not be able to forge lines of a log.
fn one_line(text: &str) -> String {
    text.chars().flat_map(printable).collect()
}

/// At most the first 200 characters of a value, with control characters escaped: a message stays one readable line
/// whatever the file contains.
pub(super) fn excerpt(value: &str) -> String {
    const MAX_CHARACTERS: usize = 200;
    let mut short: String = value.chars().take(MAX_CHARACTERS).flat_map(printable).collect();
    if value.chars().nth(MAX_CHARACTERS).is_some() {
        short.push('…');
    }
    short
}

fn printable(character: char) -> Vec<char> {
    if character.is_control() { character.escape_default().collect() } else { vec![character] }
}
