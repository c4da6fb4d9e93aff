//! Which part the server plays: looked at once for an answer, so that the answer agrees with itself.

use rookeeper_replica::{LeaderStatus, Phase, ServerRole, ServerStatus, Serving};

use crate::context::Context;

/// The server's part at the moment of the question.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// [`Serving::Nobody`] also where a leader keeps out of serving.
    pub serving: Serving,
    pub status: ServerStatus,
}

impl View {
    /// The server at this moment.
    pub fn of(context: &Context) -> View {
        let status_board = &context.shared.status_board;
        let serving = if context.serves() { status_board.serving() } else { Serving::Nobody };
        View { serving, status: status_board.status() }
    }

    /// Whether any client is served, be it a reader.
    pub fn serves(&self) -> bool {
        self.serving != Serving::Nobody
    }

    /// The answer to `isro`.
    pub fn writable(&self) -> &'static str {
        match self.serving {
            Serving::Nobody => "null",
            Serving::Deciding | Serving::Forwarding => "rw",
            Serving::ReadOnly => "ro",
        }
    }

    /// The role by the name that tools know.
    pub fn mode(&self) -> &'static str {
        match (self.serving, self.status.role) {
            (Serving::ReadOnly, _) => "read-only",
            (_, ServerRole::Standalone) => "standalone",
            (_, ServerRole::Leading) => "leader",
            (_, ServerRole::Following) => "follower",
            (_, ServerRole::Observing) => "observer",
            (_, ServerRole::Looking) => "looking",
        }
    }

    /// `leading - broadcast`.
    pub fn peer_state(&self) -> String {
        let part = match self.status.role {
            ServerRole::Standalone => "standalone",
            // The original has no phase to tell here.
            ServerRole::Looking => return "looking".to_owned(),
            ServerRole::Leading => "leading",
            ServerRole::Following => "following",
            ServerRole::Observing => "observing",
        };
        let phase = match self.status.phase {
            Phase::Election => "election",
            Phase::Discovery => "discovery",
            Phase::Synchronization => "synchronization",
            Phase::Broadcast => "broadcast",
        };
        format!("{part} - {phase}")
    }

    /// Of a leader that has one.
    pub fn leadership(&self) -> Option<&LeaderStatus> {
        self.status.leadership.as_ref().filter(|_| self.serving != Serving::ReadOnly)
    }

    /// How many observers get what is committed from this server; `None` where none could.
    pub fn synced_observers(&self) -> Option<usize> {
        let by_leader = self.leadership().map(|leadership| leadership.synced_observers);
        by_leader.or_else(|| self.status.feeding.map(|observers| observers.synced))
    }

    /// Whether there may be sessions that no other server knows of. Sessions of readers without a quorum always are of that kind.
    pub fn has_local_sessions(&self, context: &Context) -> bool {
        let enabled = context.config.ensemble.as_ref().is_some_and(|ensemble| ensemble.settings.local_sessions);
        enabled || self.serving == Serving::ReadOnly
    }
}
