//! Asks a server one of its four-letter words.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use rookeeper_server::config::ClientFlags;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::dialler::Dialler;

/// For each step of a question.
const LIMIT: Duration = Duration::from_secs(3);
/// For an answer as a whole.
const WHOLE_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of an answer. What is longer is cut, and of a list of clients the first ones are enough.
const LONGEST: u64 = 4 << 20;

/// What the server answers at a port for TLS. Whom to trust and what to show is read from the environment.
pub fn ask_with_tls(host: &str, port: u16, word: &str) -> anyhow::Result<String> {
    let dialler = Dialler::open(&ClientFlags { tls: true, ..ClientFlags::default() })?;
    exchange_with_tls(&dialler, host, port, word)
}

/// What the server answers, with TLS where the dialler speaks it. `host` has no brackets.
pub fn ask_by(dialler: &Dialler, host: &str, port: u16, word: &str) -> anyhow::Result<String> {
    if dialler.speaks_tls() { exchange_with_tls(dialler, host, port, word) } else { Ok(ask(host, port, word)?) }
}

/// Sends this over TLS, and reads what comes until the connection ends.
pub(crate) fn exchange_with_tls(dialler: &Dialler, host: &str, port: u16, sent: &str) -> anyhow::Result<String> {
    let server = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stream = dialler.dial(&server).await?;
        stream.write_all(sent.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        // Not every server says good-bye before it closes.
        match timeout(LIMIT, stream.take(LONGEST).read_to_end(&mut answer)).await? {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error)?,
            Ok(_) | Err(_) => Ok(String::from_utf8_lossy(&answer).into_owned()),
        }
    })
}

/// What the server answers.
pub fn ask(host: &str, port: u16, word: &str) -> io::Result<String> {
    let mut stream = connect(host, port)?;
    stream.write_all(word.as_bytes())?;
    // A server may have answered and closed already.
    let _ = stream.shutdown(Shutdown::Write);
    read(stream)
}

/// What comes until the connection ends, as far as it is wanted. A server that sends a byte now and then does not make it longer.
pub(crate) fn read(mut stream: TcpStream) -> io::Result<String> {
    let until = Instant::now() + WHOLE_LIMIT;
    let (mut answer, mut block) = (Vec::new(), vec![0; 64 << 10]);
    while (answer.len() as u64) < LONGEST {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the answer has no end"));
        }
        stream.set_read_timeout(Some(left.min(LIMIT)))?;
        match stream.read(&mut block) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&block[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Connects to the first address of a host that takes it, with a limit for each step that follows.
pub fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    // A name may have several addresses, and the server listen on one of them.
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, LIMIT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(LIMIT))?;
                stream.set_write_timeout(Some(LIMIT))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
