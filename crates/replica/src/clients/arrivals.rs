//! Clients that come while a leader is being looked for.
//!
//! An election takes some tens of milliseconds as a rule. A client that is sent away meanwhile comes again after a wait of its own, which
//! is longer: up to one second for the Java client, ten for ClickHouse. So a member that has just lost its leader, or has just started,
//! keeps a handshake and answers it when it knows who leads. What always holds here:
//! - nobody waits for longer than [`WAIT_MS`] from the moment on in which this member ceased to serve: behind that another server may be
//!   the better choice, and who comes then is sent away at once;
//! - only so many wait, and only with a password of ordinary length, so that they cost little;
//! - whoever has waited is treated as if the connection had just come.
//!
//! The original has no counterpart: it closes these connections.

use std::collections::VecDeque;
use std::sync::Arc;

use rookeeper_proto::connect::ConnectRequest;

use crate::clients::connection::Connection;
use crate::replica::Replica;
use crate::status::Serving;
use crate::time::Time;

/// Longer than an election takes where a quorum can talk, members that run the original among them; shorter than any client waits for
/// the answer to a handshake.
pub const WAIT_MS: i64 = 1_000;

/// More clients than this do not wait at the same time.
const MAX_WAITING: usize = 10_000;

/// Those who wait with a longer password than any server gives would make this server hold as much as they like.
const MAX_PASSWORD_BYTES: usize = 64;

/// Let in at once, so that no call takes long.
const PER_CALL: usize = 500;

/// Handshakes that wait for a leader, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(VecDeque<(Arc<Connection>, ConnectRequest)>);

impl Arrivals {
    fn has_room_for(&self, request: &ConnectRequest) -> bool {
        self.0.len() < MAX_WAITING && request.password.len() <= MAX_PASSWORD_BYTES
    }
}

impl Replica {
    /// Keeps a handshake for a moment, or closes its connection.
    pub(crate) fn wait_for_leader(&mut self, now: Time, connection: Arc<Connection>, request: ConnectRequest) {
        let is_early = self.wait_until_ms().is_some_and(|until_ms| now.monotonic_ms < until_ms);
        if is_early {
            self.wait_again(connection, request);
        } else {
            self.hang_up(&connection);
        }
    }

    /// For a handshake that was taken in already, while there was a leader to ask.
    pub(crate) fn wait_again(&mut self, connection: Arc<Connection>, request: ConnectRequest) {
        if self.arrivals.has_room_for(&request) {
            self.arrivals.0.push_back((connection, request));
        } else {
            self.hang_up(&connection);
        }
    }

    /// None where this server serves.
    fn wait_until_ms(&self) -> Option<i64> {
        let since_ms = self.member.as_ref()?.unavailable_since_ms?;
        Some(since_ms + WAIT_MS)
    }

    /// When something becomes of those who wait.
    pub(crate) fn arrivals_deadline_ms(&self) -> Option<i64> {
        if self.arrivals.0.is_empty() {
            return None;
        }
        match self.shared.bulletin.serving() {
            Serving::Nobody => self.wait_until_ms(),
            Serving::Deciding | Serving::Forwarding | Serving::ReadOnly => Some(i64::MIN),
        }
    }

    /// Lets those in who have waited, or sends them away.
    pub(crate) fn admit_arrivals(&mut self, now: Time) {
        if self.arrivals_deadline_ms().is_none_or(|due_ms| now.monotonic_ms < due_ms) {
            return;
        }
        let count = self.arrivals.0.len().min(PER_CALL);
        for (connection, request) in self.arrivals.0.drain(..count).collect::<Vec<_>>() {
            self.connect(now, connection, request);
        }
    }
}
