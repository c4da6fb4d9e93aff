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
use crate::core::Core;

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
    /// Whether no client waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps a handshake, or closes its connection where too many wait.
    pub fn keep(&mut self, core: &mut Core, connection: Arc<Connection>, request: ConnectRequest) {
        if self.0.len() < MAX_WAITING && request.password.len() <= MAX_PASSWORD_BYTES {
            self.0.push_back((connection, request));
        } else {
            core.hang_up(&connection);
        }
    }

    /// Those whose turn has come, so many that no call takes long.
    pub fn take(&mut self) -> Vec<(Arc<Connection>, ConnectRequest)> {
        let count = self.0.len().min(PER_CALL);
        self.0.drain(..count).collect()
    }
}
