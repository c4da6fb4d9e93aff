//! Asks a server's admin port one command, without TLS.

use std::io::{self, Write};

use crate::four_letter_word::{connect, read};

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
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut values =
            headers.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        values.next()
    }
}

/// What stands behind a path. `authorization` is the value of that header.
pub fn get(host: &str, port: u16, path: &str, authorization: Option<&str>) -> io::Result<Answer> {
    let mut stream = connect(host, port)?;
    let authorization = authorization.map_or_else(String::new, |value| format!("Authorization: {value}\r\n"));
    // Of HTTP/1.0, so that the end of the answer is that of the connection.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n{authorization}\r\n").as_bytes())?;
    let text = read(stream)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}
