//! A standalone server for a test.

use std::net::SocketAddr;

use crate::Error;
use crate::process::{Directory, Process};

/// A server on a port of its own on loopback, empty at its start, with nothing kept. It ends when it is dropped.
///
/// Ticks are 100 ms, sessions may be from 200 ms to 60 s, all four-letter words are answered.
#[derive(Debug)]
pub struct Server {
    process: Process,
    address: SocketAddr,
    _directory: Directory,
}

impl Server {
    /// Starts a server; returns when clients can connect, after some 20 ms.
    ///
    /// # Errors
    ///
    /// [`Error::NoBinary`], [`Error::Ended`] with the log, [`Error::NotInTime`], [`Error::Io`].
    pub fn start() -> Result<Server, Error> {
        let directory = Directory::new()?;
        let path = directory.path().to_string_lossy().into_owned();
        let port = |port: u16| {
            ["--ephemeral".to_owned(), "--port".to_owned(), port.to_string(), "--data-dir".to_owned(), path.clone()]
                .to_vec()
        };
        let mut process = Process::new(directory.path(), port(0));
        let address = process.start()?;
        process.set_arguments(port(address.port()));
        Ok(Server { process, address, _directory: directory })
    }

    /// Where clients connect: `127.0.0.1:PORT`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGKILL. Connections break; sessions live on until they expire after [`restart`](Server::restart).
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn kill(&mut self) -> Result<(), Error> {
        self.process.kill()
    }

    /// Starts again on the same port, with the data of before.
    ///
    /// # Errors
    ///
    /// As [`start`](Server::start).
    pub fn restart(&mut self) -> Result<(), Error> {
        self.process.start().map(drop)
    }

    /// SIGSTOP: connections stay and nothing is answered, until [`thaw`](Server::thaw).
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn freeze(&mut self) -> Result<(), Error> {
        self.process.freeze()
    }

    /// SIGCONT.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn thaw(&mut self) -> Result<(), Error> {
        self.process.thaw()
    }

    /// Stops in order.
    ///
    /// # Errors
    ///
    /// [`Error::NotInTime`], [`Error::Io`].
    pub fn stop(&mut self) -> Result<(), Error> {
        self.process.stop()
    }

    /// All that the server has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The number of the process, while there is one.
    pub fn process_id(&self) -> Option<u32> {
        self.process.process_id()
    }
}
