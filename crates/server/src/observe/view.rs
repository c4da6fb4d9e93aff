//! Which part the server plays: looked at once for an answer, so that the answer agrees with itself.

use rookeeper_replica::{Leadership, Part, Phase, Serving, Standing};

use crate::context::Context;

/// The server's part at the moment of the question.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// [`Serving::Nobody`] also where a leader keeps out of serving.
    pub serving: Serving,
    pub standing: Standing,
}

impl View {
    pub fn of(context: &Context) -> View {
        let bulletin = &context.shared.bulletin;
        let serving = if context.serves() { bulletin.serving() } else { Serving::Nobody };
        View { serving, standing: bulletin.standing() }
    }

    pub fn serves(&self) -> bool {
        self.serving != Serving::Nobody
    }

    /// What `isro` answers.
    pub fn writable(&self) -> &'static str {
        match self.serving {
            Serving::Nobody => "null",
            Serving::Deciding | Serving::Forwarding => "rw",
            Serving::ReadOnly => "ro",
        }
    }

    /// The role by the name that tools know.
    pub fn mode(&self) -> &'static str {
        match (self.serving, self.standing.part) {
            (Serving::ReadOnly, _) => "read-only",
            (_, Part::Standalone) => "standalone",
            (_, Part::Leading) => "leader",
            (_, Part::Following) => "follower",
            (_, Part::Observing) => "observer",
            (_, Part::Looking) => "looking",
        }
    }

    /// `leading - broadcast`.
    pub fn peer_state(&self) -> String {
        let part = match self.standing.part {
            Part::Standalone => "standalone",
            // The original has no phase to tell here.
            Part::Looking => return "looking".to_owned(),
            Part::Leading => "leading",
            Part::Following => "following",
            Part::Observing => "observing",
        };
        let phase = match self.standing.phase {
            Phase::Election => "election",
            Phase::Discovery => "discovery",
            Phase::Synchronization => "synchronization",
            Phase::Broadcast => "broadcast",
        };
        format!("{part} - {phase}")
    }

    /// Of a leader that has one.
    pub fn leadership(&self) -> Option<&Leadership> {
        self.standing.leadership.as_ref().filter(|_| self.serving != Serving::ReadOnly)
    }

    /// Whether there may be sessions that no other server knows of. Those of readers without a quorum always are.
    pub fn has_local_sessions(&self, context: &Context) -> bool {
        let enabled = context.config.ensemble.as_ref().is_some_and(|ensemble| ensemble.local_sessions_enabled);
        enabled || self.serving == Serving::ReadOnly
    }
}
