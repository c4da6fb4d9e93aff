//! The prompt: the server, the state of the connection, and the number of the next line.
//!
//! What always holds: the state is that of the moment in which the prompt is drawn. An editor draws it again whenever an event was
//! printed above it, and that event may be that the connection is gone.

use zookeeper_client::SessionState;

/// What is shown before a line that is typed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prompt {
    server: String,
    number: usize,
}

impl Prompt {
    pub(crate) fn new(server: &str, number: usize) -> Prompt {
        Prompt { server: server.to_owned(), number }
    }

    pub(crate) fn text(&self, state: Option<SessionState>) -> String {
        format!("[zk: {}({}) {}] ", self.server, state_name(state), self.number)
    }

    /// The same in `width` characters, because the editor keeps to the place at which its line began.
    pub(crate) fn text_in(&self, width: usize, state: Option<SessionState>) -> String {
        let mut text = self.text(state);
        let mut excess = text.chars().count().saturating_sub(width);
        if excess > 0 {
            text.pop();
            excess -= 1;
        }
        if excess > 0 {
            // The end of the address tells servers apart.
            let shorter: String = self.server.chars().skip(excess + 1).collect();
            text = format!("[zk: …{shorter}({}) {}]", state_name(state), self.number);
        }
        let text: String = text.chars().take(width).collect();
        format!("{text:width$}")
    }
}

/// The original's names (`ZooKeeper.States`).
fn state_name(state: Option<SessionState>) -> &'static str {
    match state {
        Some(SessionState::SyncConnected) => "CONNECTED",
        Some(SessionState::ConnectedReadOnly) => "CONNECTEDREADONLY",
        Some(SessionState::Disconnected) => "CONNECTING",
        Some(SessionState::AuthFailed) => "AUTH_FAILED",
        Some(SessionState::Expired | SessionState::Closed) | None => "CLOSED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_state_is_shown_in_the_same_width() {
        let prompt = Prompt::new("zoo1:2181", 7);
        let drawn = prompt.text(Some(SessionState::SyncConnected));
        assert_eq!(drawn, "[zk: zoo1:2181(CONNECTED) 7] ");
        for (state, expected) in [
            (Some(SessionState::SyncConnected), "[zk: zoo1:2181(CONNECTED) 7] "),
            (Some(SessionState::Disconnected), "[zk: zoo1:2181(CONNECTING) 7]"),
            (Some(SessionState::Expired), "[zk: zoo1:2181(CLOSED) 7]    "),
            (Some(SessionState::AuthFailed), "[zk: …o1:2181(AUTH_FAILED) 7]"),
            (None, "[zk: zoo1:2181(CLOSED) 7]    "),
        ] {
            let width = drawn.chars().count();
            assert_eq!(prompt.text_in(width, state), expected);
        }
        assert_eq!(Prompt::new("a:1", 0).text_in(4, None), "[zk:");
    }
}
