//! What the user typed: the arguments of `rookeeper cli`, and the words of one line of the shell.
//!
//! zkCli's long options have a single dash and end at the first word without one, so they are parsed here and not by clap.

use std::time::Duration;

/// The arguments of `rookeeper cli`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// `HOST:PORT[,HOST:PORT...][/chroot]`
    pub server: String,
    /// The session timeout asked for; the server may shorten or lengthen it.
    pub session_timeout: Duration,
    /// Accept a server that has lost its quorum and only answers reads.
    pub read_only: bool,
    /// Try until a server gives a session, for as long as the session timeout.
    pub wait: bool,
    /// The command and its arguments; empty means: an interactive shell.
    pub command: Vec<String>,
}

/// What to do with the arguments of `rookeeper cli`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    Run(Start),
    Help,
}

pub(super) const HELP: &str = "\
Usage: rookeeper cli [OPTIONS] [COMMAND [ARGUMENTS...]]

Without a command: an interactive shell; commands are also read from standard input when that is not a terminal.

Options:
  -server HOST:PORT[,HOST:PORT...][/chroot]  servers to try, in random order [default: localhost:2181]
  -timeout MILLISECONDS                      session timeout to ask for [default: 30000]
  -r                                         accept a server in read-only mode
  -waitforconnection                         try again until a server gives a session, for as long as -timeout

Exit code of a single command: 0 done, 1 failed, 127 no such command.

Commands:
";

/// Parses the arguments of `rookeeper cli`. The error is a sentence for the user.
pub fn parse_start(arguments: &[String]) -> Result<Invocation, String> {
    let mut start = Start {
        server: "localhost:2181".to_owned(),
        session_timeout: Duration::from_millis(30_000),
        read_only: false,
        wait: false,
        command: Vec::new(),
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("Error: no argument found for option {word}"));
        match word.as_str() {
            "-server" | "--server" => start.server = value()?.clone(),
            "-timeout" | "--timeout" => start.session_timeout = parse_timeout(value()?)?,
            "-r" => start.read_only = true,
            "-waitforconnection" => start.wait = true,
            "-client-configuration" => {
                value()?;
                return Err(
                    "Error: -client-configuration is not supported: TLS and SASL are not available in this client"
                        .into(),
                );
            }
            "-h" | "-help" | "--help" => return Ok(Invocation::Help),
            option if option.starts_with('-') => {
                return Err(format!(
                    "Error: unknown option {option} (known: -server, -timeout, -r, -waitforconnection)"
                ));
            }
            _ => {
                start.command.push(word.clone());
                start.command.extend(words.cloned());
                break;
            }
        }
    }
    Ok(Invocation::Run(start))
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match text.parse::<i32>() {
        Ok(milliseconds) if milliseconds > 0 => Ok(Duration::from_millis(milliseconds.unsigned_abs().into())),
        _ => Err(format!("Error: -timeout {text}: expected milliseconds, 1 to {}", i32::MAX)),
    }
}

/// The words of a line: separated by blanks, grouped by `"…"` or `'…'`. A quote that is never closed is dropped, as the original
/// does; a quote inside a word is part of it.
pub(super) fn split_line(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '"' || first == '\'' {
            let inside = &rest[1..];
            match inside.find(first) {
                Some(end) => {
                    words.push(inside[..end].to_owned());
                    rest = inside[end + 1..].trim_start();
                }
                None => rest = inside.trim_start(),
            }
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            words.push(rest[..end].to_owned());
            rest = rest[end..].trim_start();
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Invocation, String> {
        parse_start(&split_line(line))
    }

    fn run(server: &str, timeout_ms: u64, read_only: bool, command: &[&str]) -> Result<Invocation, String> {
        Ok(Invocation::Run(Start {
            server: server.to_owned(),
            session_timeout: Duration::from_millis(timeout_ms),
            read_only,
            wait: false,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
        }))
    }

    #[test]
    fn options_come_before_the_command() {
        assert_eq!(parse(""), run("localhost:2181", 30_000, false, &[]));
        assert_eq!(parse("-server a:1,b:2/c -timeout 500 -r"), run("a:1,b:2/c", 500, true, &[]));
        assert_eq!(parse("-server a:1 ls -R -r /"), run("a:1", 30_000, false, &["ls", "-R", "-r", "/"]));
        let waiting = parse("-waitforconnection get /a");
        assert!(matches!(waiting, Ok(Invocation::Run(Start { wait: true, command, .. })) if command == ["get", "/a"]));
        assert_eq!(parse("-help"), Ok(Invocation::Help));
    }

    #[test]
    fn bad_options_are_named() {
        assert_eq!(parse("-server"), Err("Error: no argument found for option -server".to_owned()));
        for (line, named) in [("-timeout x ls", "-timeout x"), ("-timeout 0", "-timeout 0"), ("-sever a:1", "-sever")] {
            let refusal = parse(line).expect_err(line);
            assert!(refusal.contains(named), "{refusal}");
        }
    }

    #[test]
    fn quotes_group_words() {
        let cases: [(&str, &[&str]); 7] = [
            ("create /a  \"two words\"", &["create", "/a", "two words"]),
            ("set /a 'it is \"so\"'", &["set", "/a", "it is \"so\""]),
            ("set /a \"\"", &["set", "/a", ""]),
            ("set /a {\"k\":1}", &["set", "/a", "{\"k\":1}"]),
            ("set /a \"open", &["set", "/a", "open"]),
            ("'a''b'c", &["a", "b", "c"]),
            ("  \t ", &[]),
        ];
        for (line, words) in cases {
            assert_eq!(split_line(line), words, "{line}");
        }
    }
}
