//! Asks a server's admin port one command.

use std::io::{self, Write};

use crate::dialler::Dialler;
use crate::four_letter_word::{connect, exchange_with_tls, read};

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Of HTTP; 0 where it was none.
    pub status: u16,
    head: String,
    /// What stands behind the headers.
    pub body: String,
}

impl Answer {
    fn of(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut values =
            headers.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        values.next()
    }
}

/// What stands behind a path, without TLS. `authorization` is the value of that header.
pub fn get(host: &str, port: u16, path: &str, authorization: Option<&str>) -> io::Result<Answer> {
    let mut stream = connect(host, port)?;
    stream.write_all(question(host, path, authorization).as_bytes())?;
    Ok(Answer::of(&read(stream)?))
}

/// The same over TLS.
pub fn get_with_tls(
    dialler: &Dialler,
    host: &str,
    port: u16,
    path: &str,
    authorization: Option<&str>,
) -> anyhow::Result<Answer> {
    let text = exchange_with_tls(dialler, host, port, &question(host, path, authorization))?;
    Ok(Answer::of(&text))
}

/// Of HTTP/1.0, so that the end of the answer is that of the connection.
fn question(host: &str, path: &str, authorization: Option<&str>) -> String {
    let authorization = authorization.map_or_else(String::new, |value| format!("Authorization: {value}\r\n"));
    format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n{authorization}\r\n")
}
