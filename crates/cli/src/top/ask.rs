//! Asks the members: four-letter words at their client ports, commands at their admin ports.
//!
//! What always holds here: a member that is silent costs a limited time, and no more than a limited answer is read from any.

use std::thread;

use super::facts::Answers;
use crate::dialler::Dialler;
use crate::{admin_command, four_letter_word};

/// How the answer of a port for TLS begins to those who do not speak it.
const TLS_ALERT: char = '\u{15}';

/// Where to ask, and as whom.
#[derive(Debug, Clone)]
pub struct Questions {
    /// HOST:PORT of clients.
    pub servers: Vec<String>,
    /// None where no admin port is to be asked.
    pub admin_port: Option<u16>,
    /// What goes into the header `Authorization` for an admin port elsewhere.
    pub authorization: Option<String>,
    /// How the client ports are reached.
    pub dialler: Dialler,
    /// Whether the admin ports are reached in the same way, and without TLS otherwise.
    pub admin_tls: bool,
}

impl Questions {
    /// Asks all members at the same time.
    pub fn ask(&self) -> Vec<Answers> {
        thread::scope(|scope| {
            let asked: Vec<_> = self.servers.iter().map(|server| scope.spawn(|| self.ask_one(server))).collect();
            asked.into_iter().map(|asked| asked.join().unwrap_or_default()).collect()
        })
    }

    fn ask_one(&self, server: &str) -> Answers {
        let srvr = match self.word(server, "srvr") {
            Ok(text) if text.starts_with(TLS_ALERT) => {
                return failed("this is a port for TLS: --tls-ca FILE".to_owned());
            }
            Ok(text) => text,
            Err(error) => return failed(format!("{error:#}")),
        };
        let told = |word_of: &str| self.word(server, word_of).ok().filter(|text| is_answer(text));
        let command = |name: &str| self.command(server, name);
        Answers {
            srvr: Some(srvr),
            mntr: told("mntr"),
            cons: told("cons"),
            top: command("top"),
            slow_operations: command("slow_operations"),
            failure: None,
        }
    }

    /// The answer to a four-letter word.
    fn word(&self, server: &str, word: &str) -> anyhow::Result<String> {
        let named = server.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = named.unwrap_or((server, 2181));
        four_letter_word::ask_by(&self.dialler, without_brackets(host), port, word)
    }

    /// The body of a command's answer; none where it may not be asked.
    fn command(&self, server: &str, name: &str) -> Option<String> {
        let port = self.admin_port?;
        let host = without_brackets(server.rsplit_once(':').map_or(server, |(host, _)| host));
        let (path, authorization) = (format!("/commands/{name}"), self.authorization.as_deref());
        let answer = match self.admin_tls {
            true => admin_command::get_with_tls(&self.dialler, host, port, &path, authorization).ok()?,
            false => admin_command::get(host, port, &path, authorization).ok()?,
        };
        Some(answer).filter(|answer| answer.status == 200).map(|answer| answer.body)
    }
}

fn failed(why: String) -> Answers {
    // As the library for TLS says it.
    let remedy = if why.contains("CertificateRequired") { "; show a certificate: --tls-cert FILE" } else { "" };
    Answers { failure: Some(format!("{why}{remedy}")), ..Answers::default() }
}

fn without_brackets(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

/// Whether a word was answered, and not refused.
fn is_answer(text: &str) -> bool {
    !text.contains("is not executed because it is not in the whitelist") && !text.contains("not currently serving")
}

/// The header for a user and a password, as the original's admin server takes it.
pub fn authorization(user_and_password: &str) -> String {
    // A line break in the file would end the header.
    let given: String = user_and_password.chars().filter(|character| !character.is_control()).collect();
    format!("digest {given}")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    /// Answers each connection with what `answer` makes of what was sent.
    fn served(answer: impl Fn(&str) -> String + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut sent = [0; 512];
                let count = stream.read(&mut sent).unwrap_or(0);
                let _ = stream.write_all(answer(&String::from_utf8_lossy(&sent[..count])).as_bytes());
            }
        });
        address
    }

    #[test]
    fn a_member_is_asked_for_all_that_it_tells() {
        let words = served(|word| match word {
            "srvr" => "Mode: leader\n".to_owned(),
            "cons" => "cons is not executed because it is not in the whitelist.\n".to_owned(),
            word => format!("{word}\n"),
        });
        let admin = served(|request| {
            assert!(request.contains("\r\nAuthorization: digest bob:secret\r\n"), "{request}");
            let status = if request.starts_with("GET /commands/top ") { "200 OK" } else { "403 Forbidden" };
            format!("HTTP/1.1 {status}\r\nX: y\r\n\r\n{{}}")
        });
        let questions = Questions {
            servers: vec![words.to_string()],
            admin_port: Some(admin.port()),
            authorization: Some(authorization("bob:secret\n")),
            dialler: Dialler::plain(),
            admin_tls: false,
        };
        let answers = questions.ask().remove(0);
        assert_eq!(answers.srvr.as_deref(), Some("Mode: leader\n"));
        assert_eq!((answers.mntr.as_deref(), answers.cons), (Some("mntr\n"), None));
        assert_eq!((answers.top.as_deref(), answers.slow_operations, answers.failure), (Some("{}"), None, None));
    }

    #[test]
    fn a_member_that_is_not_there_is_named_with_the_reason() {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it is bound");
        let questions = Questions {
            servers: vec![free.to_string()],
            admin_port: None,
            authorization: None,
            dialler: Dialler::plain(),
            admin_tls: false,
        };
        let answers = questions.ask().remove(0);
        assert!(answers.failure.is_some_and(|why| why.contains("refused")) && answers.srvr.is_none());
    }
}
