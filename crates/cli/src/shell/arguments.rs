//! What the user typed: the arguments of `rookeeper cli`, and the words of one line of the shell.
//!
//! zkCli's long options have a single dash and end at the first word without one, so they are parsed here and not by clap.

use std::path::PathBuf;
use std::time::Duration;

use rookeeper_server::config::ClientFlags;

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
    /// Whether TLS is spoken and with what, and where that is written.
    pub client: ClientFlags,
    /// The user to come in as, by SASL; its password is in `password_file`, or asked for.
    pub user: Option<String>,
    /// A file with the password of `user`.
    pub password_file: Option<PathBuf>,
    /// Results alone: nothing about the connection, no prompt, and data without a line feed behind them.
    pub quiet: bool,
    /// Results as JSON.
    pub json: bool,
    /// How long connecting, and each command, may take.
    pub limit: Option<Duration>,
    /// The command and its arguments; empty means: an interactive shell.
    pub command: Vec<String>,
}

impl Default for Start {
    /// What `rookeeper cli` does without arguments.
    fn default() -> Start {
        Start {
            server: "localhost:2181".to_owned(),
            session_timeout: Duration::from_millis(30_000),
            read_only: false,
            wait: false,
            client: ClientFlags::default(),
            user: None,
            password_file: None,
            quiet: false,
            json: false,
            limit: None,
            command: Vec::new(),
        }
    }
}

/// What to do with the arguments of `rookeeper cli`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    Run(Box<Start>),
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

Encrypted connections, each of these in place of a property of zkCli:
  --tls                   speak TLS (zookeeper.client.secure)
  --tls-ca FILE           speak TLS, and trust the certificates in FILE: PEM, PKCS#12 or JKS (zookeeper.ssl.trustStore.location)
  --tls-cert FILE         show the certificate in FILE, which has its key too (zookeeper.ssl.keyStore.location)
  --tls-key FILE          the key of --tls-cert, where it has a file of its own (PEM)
  --tls-password-file F   the password of these files stands in F (zookeeper.ssl.keyStore.passwordPath, …)
  --tls-any-host          take a server's certificate for another host (zookeeper.ssl.hostnameVerification=false)

A user of SASL (DIGEST-MD5):
  --user NAME             come in as NAME; the password is asked for on the terminal
  --password-file FILE    its password stands on the first line of FILE

As zkCli has it: -client-configuration FILE names a file of properties; CLIENT_JVMFLAGS and JVMFLAGS may hold -D options, such as
-Dzookeeper.client.secure=true and -Djava.security.auth.login.config=JAAS_FILE, whose section Client names user and password.

For scripts:
  --quiet, -q             results alone on standard output: nothing of the connection, no prompt, data byte for byte. Events go to standard error
  --json                  results as JSON, a value on each line
  --timeout DURATION      how long connecting, and each command, may take (500ms, 5s, 10m); a number without a unit is -timeout

Exit code of a single command, and of the last command of a session: 0 done, 1 failed (diff: different), 2 diff could not compare,
124 not done within --timeout, 127 no such command, 130 interrupted.

Commands (`rookeeper cli help COMMAND` tells more):
";

/// Parses the arguments of `rookeeper cli`. The error is a sentence for the user.
pub fn parse_start(arguments: &[String]) -> Result<Invocation, String> {
    let mut start = Start::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("Error: no argument found for option {word}"));
        match word.as_str() {
            "-server" | "--server" => start.server = value()?.clone(),
            "-timeout" => start.session_timeout = parse_timeout(value()?)?,
            "--timeout" => match value()? {
                // Without a unit it has always been another way to write -timeout.
                number if number.parse::<i64>().is_ok() => start.session_timeout = parse_timeout(number)?,
                text => {
                    start.limit = Some(duration(text).map_err(|reason| format!("Error: --timeout {text}: {reason}"))?)
                }
            },
            "-q" | "--quiet" => start.quiet = true,
            "--json" => start.json = true,
            "-r" => start.read_only = true,
            "-waitforconnection" => start.wait = true,
            "-client-configuration" | "--client-configuration" => start.client.properties = Some(value()?.into()),
            "--tls" => start.client.tls = true,
            "--tls-ca" => start.client.authorities = Some(value()?.into()),
            "--tls-cert" => start.client.certificate = Some(value()?.into()),
            "--tls-key" => start.client.key = Some(value()?.into()),
            "--tls-password-file" => start.client.store_password = Some(value()?.into()),
            "--tls-any-host" => start.client.any_host = true,
            "--user" => start.user = Some(value()?.clone()),
            "--password-file" => start.password_file = Some(value()?.into()),
            "-h" | "-help" | "--help" => return Ok(Invocation::Help),
            option if option.starts_with('-') => {
                return Err(format!(
                    "Error: unknown option {option} (known: -server, -timeout, -r, -waitforconnection, -client-configuration, --quiet, --json, \
                     --timeout, --tls, --tls-ca, --tls-cert, --tls-key, --tls-password-file, --tls-any-host, --user, --password-file)"
                ));
            }
            _ => {
                start.command.push(word.clone());
                start.command.extend(words.cloned());
                break;
            }
        }
    }
    if start.password_file.is_some() && start.user.is_none() {
        return Err("Error: --password-file names a password without a user: add --user NAME".to_owned());
    }
    Ok(Invocation::Run(Box::new(start)))
}

/// A length of time with its unit: `500ms`, `5s`, `10m`, `2h`, `7d`. The error says what is expected.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a number with its unit, such as 500ms, 5s, 10m, 2h or 7d";
    let digits = text.find(|character: char| !character.is_ascii_digit()).ok_or(EXPECTED)?;
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(EXPECTED.to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    Ok(Duration::from_millis(number.checked_mul(unit_ms).ok_or("that is too long")?))
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

/// The words of a line that is being typed that are whole, where the last one begins, and the quote in which it stands.
pub(super) fn open_word(line: &str) -> (Vec<String>, usize, Option<char>) {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    loop {
        let start = line.len() - rest.len();
        let Some(first) = rest.chars().next() else { return (words, start, None) };
        let is_quote = first == '"' || first == '\'';
        let end = match is_quote {
            true => rest[1..].find(first).map(|end| end + 2),
            false => rest.find(char::is_whitespace),
        };
        let Some(end) = end else { return (words, start, is_quote.then_some(first)) };
        words.push(if is_quote { rest[1..end - 1].to_owned() } else { rest[..end].to_owned() });
        rest = rest[end..].trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Invocation, String> {
        parse_start(&split_line(line))
    }

    fn run(server: &str, timeout_ms: u64, read_only: bool, command: &[&str]) -> Result<Invocation, String> {
        Ok(Invocation::Run(Box::new(Start {
            server: server.to_owned(),
            session_timeout: Duration::from_millis(timeout_ms),
            read_only,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            ..Start::default()
        })))
    }

    #[test]
    fn options_come_before_the_command() {
        assert_eq!(parse(""), run("localhost:2181", 30_000, false, &[]));
        assert_eq!(parse("-server a:1,b:2/c -timeout 500 -r"), run("a:1,b:2/c", 500, true, &[]));
        assert_eq!(parse("-server a:1 ls -R -r /"), run("a:1", 30_000, false, &["ls", "-R", "-r", "/"]));
        let waiting = parse("-waitforconnection get /a");
        assert!(matches!(waiting, Ok(Invocation::Run(start)) if start.wait && start.command == ["get", "/a"]));
        assert_eq!(parse("-help"), Ok(Invocation::Help));
    }

    #[test]
    fn options_of_tls_and_sasl_are_read() {
        let line = "-client-configuration c --tls --tls-ca a --tls-cert b --tls-key d --tls-password-file e --tls-any-host --user bob --password-file f \
                    ls /";
        let Ok(Invocation::Run(start)) = parse(line) else { panic!("{:?}", parse(line)) };
        let file = |name: &str| Some(PathBuf::from(name));
        let client = ClientFlags {
            properties: file("c"),
            tls: true,
            authorities: file("a"),
            certificate: file("b"),
            key: file("d"),
            store_password: file("e"),
            any_host: true,
        };
        assert_eq!(start.client, client);
        assert_eq!((start.user.as_deref(), start.password_file), (Some("bob"), file("f")));
        assert_eq!(start.command, ["ls", "/"]);
        assert!(parse("--password-file f ls /").expect_err("no user").contains("--user NAME"));
    }

    #[test]
    fn options_for_scripts_are_read() {
        let Ok(Invocation::Run(start)) = parse("--quiet --json --timeout 5s get --json") else { panic!("refused") };
        assert!(start.quiet && start.json);
        assert_eq!((start.limit, start.session_timeout), (Some(Duration::from_secs(5)), Duration::from_secs(30)));
        assert_eq!(start.command, ["get", "--json"]);
        let Ok(Invocation::Run(start)) = parse("--timeout 5000") else { panic!("refused") };
        assert_eq!((start.limit, start.session_timeout), (None, Duration::from_secs(5)));
        for bad in ["5x", "s", "-1s", "1.5s", "99999999999999999999s", "999999999999999999d"] {
            assert!(parse(&format!("--timeout {bad}")).expect_err(bad).contains(bad));
        }
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
    fn the_word_that_is_being_typed_is_found() {
        for (line, words, start, quote) in [
            ("", &[][..], 0, None),
            ("ls", &[], 0, None),
            (" ls /a", &["ls"], 4, None),
            ("ls ", &["ls"], 3, None),
            ("get \"/two wo", &["get"], 4, Some('"')),
            ("set '/a b' \"x", &["set", "/a b"], 11, Some('"')),
        ] {
            let words: Vec<String> = words.iter().map(|word: &&str| (*word).to_owned()).collect();
            assert_eq!(open_word(line), (words, start, quote), "{line}");
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
