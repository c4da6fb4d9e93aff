//! A session that lives longer than its connections: it goes on at the next server when one does not answer.
//!
//! It never repeats a request by itself: whether a request without an answer was carried out is not known, and stays so.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::client::{Client, Hello, Reply, Session};
use crate::wire::{self, Body};

/// A server that says nothing for so long is left.
const PATIENCE: Duration = Duration::from_millis(1500);
/// No server takes the session for so long: the test has failed.
const DEADLINE: Duration = Duration::from_secs(60);
const PAUSE_AFTER_ALL_REFUSED: Duration = Duration::from_millis(2);

/// What became of a request.
#[derive(Debug)]
pub enum Answer {
    Reply(Reply),
    /// The connection ended first.
    Unknown,
    /// A server said that the session is no more.
    Expired,
}

#[derive(Debug)]
pub struct RovingClient {
    addresses: Vec<SocketAddr>,
    next: usize,
    client: Option<Client>,
    session: Option<Session>,
    timeout_ms: i32,
    last_zxid_seen: i64,
}

impl RovingClient {
    /// Begins at the server with that index; connects when something is asked.
    pub fn new(addresses: &[SocketAddr], first: usize, timeout_ms: i32) -> RovingClient {
        RovingClient {
            addresses: addresses.to_vec(),
            next: first,
            client: None,
            session: None,
            timeout_ms,
            last_zxid_seen: 0,
        }
    }

    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Connects where there is no connection. False if the session has expired, or was told to stop.
    pub fn ensure_connected(&mut self, stop: &AtomicBool) -> Result<bool> {
        let until = Instant::now() + DEADLINE;
        let mut refused = 0;
        while self.client.is_none() {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if Instant::now() > until {
                bail!("no server takes the session {:?} for {DEADLINE:?}", self.session);
            }
            let hello = Hello {
                timeout_ms: self.timeout_ms,
                session: self.session.as_ref(),
                last_zxid_seen: self.last_zxid_seen,
                deadline: PATIENCE,
                ..Hello::default()
            };
            match hello.connect(self.addresses[self.next % self.addresses.len()]) {
                Ok(client) if client.session.id == 0 => return Ok(false),
                Ok(client) => {
                    self.session = Some(client.session.clone());
                    self.client = Some(client);
                }
                Err(_) => {
                    self.next += 1;
                    refused += 1;
                    if refused % self.addresses.len() == 0 {
                        thread::sleep(PAUSE_AFTER_ALL_REFUSED);
                    }
                }
            }
        }
        Ok(true)
    }

    pub fn call(&mut self, stop: &AtomicBool, opcode: i32, body: &Body) -> Result<Answer> {
        if !self.ensure_connected(stop)? {
            return Ok(if stop.load(Ordering::Relaxed) { Answer::Unknown } else { Answer::Expired });
        }
        let client = self.client.as_mut().expect("it is connected");
        let result = client.call(opcode, body);
        self.last_zxid_seen = client.last_zxid_seen;
        match result {
            Ok(reply) if reply.error == wire::SESSION_EXPIRED => Ok(Answer::Expired),
            Ok(reply) => {
                if reply.error == wire::SESSION_MOVED {
                    self.leave();
                }
                Ok(Answer::Reply(reply))
            }
            Err(_) => {
                self.leave();
                Ok(Answer::Unknown)
            }
        }
    }

    /// Drops the connection without a word, and begins at the next server the next time.
    pub fn leave(&mut self) {
        self.client = None;
        self.next += 1;
    }
}
