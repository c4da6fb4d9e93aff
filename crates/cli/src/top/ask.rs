//! Asks the members: four-letter words at their client ports, commands at their admin ports.
//!
//! What always holds here: a member that is silent costs a limited time, and no more than a limited answer is read from any.

use std::{io, thread};

use super::facts::Answers;
use crate::{admin_command, four_letter_word};

/// Where to ask, and as whom.
#[derive(Debug, Clone)]
pub struct Questions {
    /// HOST:PORT of clients.
    pub servers: Vec<String>,
    /// None where no admin port is to be asked.
    pub admin_port: Option<u16>,
    /// What goes into the header `Authorization` for an admin port elsewhere.
    pub authorization: Option<String>,
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
        let srvr = match word(server, "srvr") {
            Ok(text) => text,
            Err(error) => return Answers { failure: Some(error.to_string()), ..Answers::default() },
        };
        let told = |word_of: &str| word(server, word_of).ok().filter(|text| is_answer(text));
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
        let command = |name: &str| {
            let port = self.admin_port?;
            get(host, port, &format!("/commands/{name}"), self.authorization.as_deref()).ok()
        };
        Answers {
            srvr: Some(srvr),
            mntr: told("mntr"),
            cons: told("cons"),
            top: command("top"),
            slow_operations: command("slow_operations"),
            failure: None,
        }
    }
}

/// Whether a word was answered, and not refused.
fn is_answer(text: &str) -> bool {
    !text.contains("is not executed because it is not in the whitelist") && !text.contains("not currently serving")
}

/// The answer to a four-letter word.
fn word(server: &str, word: &str) -> io::Result<String> {
    let named = server.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = named.unwrap_or((server, 2181));
    four_letter_word::ask(host.trim_matches(['[', ']']), port, word)
}

/// The body that stands behind a path; an error where the status is not 200.
fn get(host: &str, port: u16, path: &str, authorization: Option<&str>) -> io::Result<String> {
    let answer = admin_command::get(host.trim_matches(['[', ']']), port, path, authorization)?;
    if answer.status == 200 { Ok(answer.body) } else { Err(io::Error::other(format!("status {}", answer.status))) }
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
        };
        let answers = questions.ask().remove(0);
        assert_eq!(answers.srvr.as_deref(), Some("Mode: leader\n"));
        assert_eq!((answers.mntr.as_deref(), answers.cons), (Some("mntr\n"), None));
        assert_eq!((answers.top.as_deref(), answers.slow_operations, answers.failure), (Some("{}"), None, None));
    }

    #[test]
    fn a_member_that_is_not_there_is_named_with_the_reason() {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it is bound");
        let questions = Questions { servers: vec![free.to_string()], admin_port: None, authorization: None };
        let answers = questions.ask().remove(0);
        assert!(answers.failure.is_some_and(|why| why.contains("refused")) && answers.srvr.is_none());
    }
}
