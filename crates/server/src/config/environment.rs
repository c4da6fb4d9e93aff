//! What the configuration takes from the process: environment variables, home, user. It is an argument, so that a
//! configuration is a function of its inputs; only [`Environment::of_process`] looks at the process.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::error::{Fault, Notice};

/// Where a server keeps its data when run by the system and nothing else is said.
const SYSTEM_DATA_DIR: &str = "/var/lib/rookeeper";

/// The variables that the original's start script passes to Java, in that order: a later `-D` overrides an earlier one.
const SERVER_VARIABLES: [&str; 2] = ["SERVER_JVMFLAGS", "JVMFLAGS"];

/// The same of its script `zkCli.sh`.
const CLIENT_VARIABLES: [&str; 2] = ["CLIENT_JVMFLAGS", "JVMFLAGS"];

/// A `-D` option: the variable that it stands in, its key, its value.
pub(super) type Flag = (&'static str, String, String);

/// Set to anything, this variable makes the original's start script pass `-Dzookeeper.datadir.autocreate=false`.
const AUTOCREATE_VARIABLE: &str = "ZOO_DATADIR_AUTOCREATE_DISABLE";

/// The part of the process that the configuration depends on.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Environment variables; those that are not UTF-8 are left out.
    pub variables: BTreeMap<String, String>,
    /// Home directory of the user.
    pub home: Option<PathBuf>,
    /// Effective user id; 0 is root.
    pub user_id: u32,
    /// Whether this process can write into `/var/lib/rookeeper`.
    pub system_data_dir_writable: bool,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Environment {
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Environment {
            home: std::env::home_dir(),
            user_id: rustix::process::geteuid().as_raw(),
            system_data_dir_writable: rustix::fs::access(SYSTEM_DATA_DIR, rustix::fs::Access::WRITE_OK).is_ok(),
            variables,
        }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The data directory of a server that was given none.
    pub(super) fn default_data_dir(&self) -> Result<(PathBuf, DataDirectoryChoice), Fault> {
        if let Some(path) = self.variable("ROOKEEPER_DATA_DIR") {
            return Ok((PathBuf::from(path), DataDirectoryChoice::Variable));
        }
        if self.user_id == 0 || self.system_data_dir_writable {
            return Ok((PathBuf::from(SYSTEM_DATA_DIR), DataDirectoryChoice::System));
        }
        // The XDG base directory specification has relative paths ignored.
        if let Some(path) = self.variable("XDG_DATA_HOME").filter(|path| Path::new(path).is_absolute()) {
            return Ok((Path::new(path).join("rookeeper"), DataDirectoryChoice::XdgDataHome));
        }
        match &self.home {
            Some(home) if home.is_absolute() => Ok((home.join(".local/share/rookeeper"), DataDirectoryChoice::Home)),
            _ => Err(Fault::new(
                "dataDir is not set",
                "There is no home directory to put the data in either: set ROOKEEPER_DATA_DIR to a directory.",
            )),
        }
    }

    /// All `-D` options that an operator passes to the original's start script, as (variable, key, value). Other flags
    /// speak to the Java machine; they are named in one notice.
    pub(super) fn flags(&self, notices: &mut Vec<Notice>) -> Vec<Flag> {
        let mut flags = Vec::new();
        if self.variable(AUTOCREATE_VARIABLE).is_some() {
            flags.push((AUTOCREATE_VARIABLE, "zookeeper.datadir.autocreate".to_owned(), "false".to_owned()));
        }
        flags.extend(self.flags_in(SERVER_VARIABLES, notices));
        flags
    }

    /// The same of those that a user passes to the original's `zkCli.sh`.
    pub(super) fn client_flags(&self, notices: &mut Vec<Notice>) -> Vec<Flag> {
        self.flags_in(CLIENT_VARIABLES, notices)
    }

    fn flags_in(&self, variables: [&'static str; 2], notices: &mut Vec<Notice>) -> Vec<Flag> {
        let mut flags = Vec::new();
        let mut without_meaning = Vec::new();
        for variable in variables {
            let Some(text) = self.variable(variable) else { continue };
            let (words, closed) = split_words(text);
            if !closed {
                notices.push(Notice::warn(format!("{variable}: a quote is not closed; the rest counts as one word")));
            }
            for word in words {
                match word.strip_prefix("-D") {
                    Some(option) => {
                        let (key, value) = option.split_once('=').unwrap_or((option, ""));
                        flags.push((variable, key.to_owned(), value.to_owned()));
                    }
                    // Only the name of the flag: what follows may be a secret.
                    None => without_meaning.push(super::error::excerpt(word.split([':', '=']).next().unwrap_or(&word))),
                }
            }
        }
        if !without_meaning.is_empty() {
            notices.push(Notice::info(format!(
                "flags for the Java machine have no meaning here: {}",
                without_meaning.join(" ")
            )));
        }
        flags
    }
}

/// How the data directory was chosen, for the first lines of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataDirectoryChoice {
    /// The configuration names it.
    Configured,
    /// `ROOKEEPER_DATA_DIR` names it.
    Variable,
    /// `/var/lib/rookeeper`, because the user is root or can write there.
    System,
    /// Below `XDG_DATA_HOME`.
    XdgDataHome,
    /// Below the home directory.
    Home,
}

impl fmt::Display for DataDirectoryChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            DataDirectoryChoice::Configured => "as configured",
            DataDirectoryChoice::Variable => "from ROOKEEPER_DATA_DIR",
            DataDirectoryChoice::System => "the default of the system; set dataDir or ROOKEEPER_DATA_DIR to change it",
            DataDirectoryChoice::XdgDataHome => "below XDG_DATA_HOME; set dataDir or ROOKEEPER_DATA_DIR to change it",
            DataDirectoryChoice::Home => "below the home directory; set dataDir or ROOKEEPER_DATA_DIR to change it",
        })
    }
}

/// Splits like a shell, without its expansions: blanks separate, `'` and `"` group, a backslash takes the next character
/// literally (not inside `'`). The flag tells whether every quote was closed.
fn split_words(text: &str) -> (Vec<String>, bool) {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (Some('\''), _) => word.get_or_insert_default().push(character),
            (_, '\\') => {
                // Inside double quotes a backslash is only special before a quote or a backslash.
                let mut ahead = characters.clone();
                match ahead.next() {
                    Some(next) if quote.is_none() || next == '"' || next == '\\' => {
                        characters = ahead;
                        word.get_or_insert_default().push(next);
                    }
                    _ => word.get_or_insert_default().push('\\'),
                }
            }
            (Some(_), _) => word.get_or_insert_default().push(character),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    (words, quote.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        let cases: [(&str, &[&str]); 9] = [
            ("", &[]),
            ("  -Xmx1g\n-Da=b ", &["-Xmx1g", "-Da=b"]),
            ("-Da='b c' -Dd=\"e f\"", &["-Da=b c", "-Dd=e f"]),
            ("\"-Da=b c\"", &["-Da=b c"]),
            ("-Da=b\\ c", &["-Da=b c"]),
            ("-Da=\"it's\"", &["-Da=it's"]),
            ("'a\\b' \"a\\b\" \"a\\\"b\"", &["a\\b", "a\\b", "a\"b"]),
            ("-Da=''", &["-Da="]),
            ("''", &[""]),
        ];
        for (text, words) in cases {
            assert_eq!(split_words(text), (words.iter().map(|word| (*word).to_owned()).collect(), true), "{text:?}");
        }
        assert_eq!(split_words("a 'b c"), (vec!["a".to_owned(), "b c".to_owned()], false));
        assert_eq!(split_words("a\\"), (vec!["a\\".to_owned()], true));
    }

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment {
            variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            home: Some(PathBuf::from("/home/zoe")),
            user_id: 1000,
            system_data_dir_writable: false,
        }
    }

    #[test]
    fn the_data_directory_is_chosen_in_order() {
        let chosen = |environment: &Environment| environment.default_data_dir().unwrap();
        let mut everything = environment(&[("ROOKEEPER_DATA_DIR", "/data"), ("XDG_DATA_HOME", "/xdg")]);
        everything.user_id = 0;
        assert_eq!(chosen(&everything), (PathBuf::from("/data"), DataDirectoryChoice::Variable));
        everything.variables.remove("ROOKEEPER_DATA_DIR");
        assert_eq!(chosen(&everything), (PathBuf::from("/var/lib/rookeeper"), DataDirectoryChoice::System));
        everything.user_id = 1000;
        everything.system_data_dir_writable = true;
        assert_eq!(chosen(&everything), (PathBuf::from("/var/lib/rookeeper"), DataDirectoryChoice::System));
        everything.system_data_dir_writable = false;
        assert_eq!(chosen(&everything), (PathBuf::from("/xdg/rookeeper"), DataDirectoryChoice::XdgDataHome));
        everything.variables.insert("XDG_DATA_HOME".to_owned(), "relative".to_owned());
        let home = PathBuf::from("/home/zoe/.local/share/rookeeper");
        assert_eq!(chosen(&everything), (home, DataDirectoryChoice::Home));
        everything.home = None;
        assert_eq!(everything.default_data_dir().unwrap_err().problem, "dataDir is not set");
    }

    #[test]
    fn flags_come_in_the_order_in_which_java_would_see_them() {
        let environment = environment(&[
            ("JVMFLAGS", "-Dzookeeper.snapCount=5 -Dflag"),
            ("SERVER_JVMFLAGS", "-Xmx1g -Djute.maxbuffer=\"4194304\""),
            ("ZOO_DATADIR_AUTOCREATE_DISABLE", "1"),
        ]);
        let mut notices = Vec::new();
        let flags = environment.flags(&mut notices);
        let expected = [
            ("ZOO_DATADIR_AUTOCREATE_DISABLE", "zookeeper.datadir.autocreate", "false"),
            ("SERVER_JVMFLAGS", "jute.maxbuffer", "4194304"),
            ("JVMFLAGS", "zookeeper.snapCount", "5"),
            ("JVMFLAGS", "flag", ""),
        ];
        assert_eq!(flags, expected.map(|(variable, key, value)| (variable, key.to_owned(), value.to_owned())));
        assert_eq!(notices, [Notice::info("flags for the Java machine have no meaning here: -Xmx1g")]);
    }
}
