//! How events are told: in the original's words to those that read the original, in a marked line to a person who types.

use serde_json::json;
use zookeeper_client::SessionState;

use super::format;

/// To whom the shell speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Manner {
    /// To a program or a person that expects what zkCli prints.
    #[default]
    Original,
    /// To a script that wants results alone.
    Quiet,
    /// To a script that reads JSON.
    Json,
    /// To a person at a terminal who asked for one command.
    Brief,
    /// To a person at a terminal, command by command.
    Talk,
}

/// A watch has fired, or the state of the session has changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event<'a> {
    pub(crate) state: SessionState,
    pub(crate) kind: &'a str,
    /// None where it is about the session.
    pub(crate) path: Option<&'a str>,
    pub(crate) zxid: i64,
}

impl Event<'_> {
    pub(crate) fn of_session(state: SessionState) -> Event<'static> {
        Event { state, kind: "None", path: None, zxid: -1 }
    }

    /// The text with its last line feed; none where those that listen do not want it.
    pub(crate) fn text(&self, manner: Manner, server: &str) -> Option<String> {
        let as_it_is = format::event(self.state, self.kind, self.path, self.zxid);
        match (manner, self.path) {
            (Manner::Original, _) => Some(format!("\nWATCHER::\n\n{as_it_is}\n")),
            (Manner::Quiet | Manner::Json | Manner::Brief, None) => None,
            (Manner::Quiet, Some(_)) => Some(format!("{as_it_is}\n")),
            (Manner::Json, Some(path)) => {
                let state = self.state.to_string();
                Some(format!("{}\n", json!({"event": self.kind, "path": path, "state": state, "zxid": self.zxid})))
            }
            (Manner::Talk | Manner::Brief, Some(path)) if self.zxid == -1 => Some(format!("-- {} {path}\n", self.kind)),
            (Manner::Talk | Manner::Brief, Some(path)) => {
                Some(format!("-- {} {path} (zxid 0x{:x})\n", self.kind, self.zxid))
            }
            (Manner::Talk, None) => Some(format!("-- {}\n", told(self.state, server))),
        }
    }
}

/// What a state of the session means to the person who has it.
fn told(state: SessionState, server: &str) -> String {
    match state {
        SessionState::SyncConnected => format!("connected to {server}"),
        SessionState::ConnectedReadOnly => format!("connected to {server}, which only answers reads: it has no quorum"),
        SessionState::Disconnected => format!(
            "the connection to {server} is lost: waiting for a server; the session ends when none is found within its timeout"
        ),
        SessionState::AuthFailed => "the server refused who this is: the session is over".to_owned(),
        SessionState::Expired => {
            "the session has expired, its ephemeral nodes and watches are gone: connect begins another".to_owned()
        }
        SessionState::Closed => "the session is closed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_is_told_in_its_own_way() {
        let lost = Event::of_session(SessionState::Disconnected);
        let fired = Event { state: SessionState::SyncConnected, kind: "NodeCreated", path: Some("/a"), zxid: 23 };
        let told = |event: &Event<'_>, manner| event.text(manner, "zoo1:2181").unwrap_or_default();
        assert_eq!(
            told(&lost, Manner::Original),
            "\nWATCHER::\n\nWatchedEvent state:Disconnected type:None path:null zxid: -1\n"
        );
        assert_eq!((told(&lost, Manner::Quiet), told(&lost, Manner::Json)), (String::new(), String::new()));
        assert!(told(&lost, Manner::Talk).starts_with("-- the connection to zoo1:2181 is lost: waiting for a server;"));
        let line = "WatchedEvent state:SyncConnected type:NodeCreated path:/a zxid: 23\n";
        assert_eq!(told(&fired, Manner::Quiet), line);
        assert_eq!(told(&fired, Manner::Talk), "-- NodeCreated /a (zxid 0x17)\n");
        let json = "{\"event\":\"NodeCreated\",\"path\":\"/a\",\"state\":\"SyncConnected\",\"zxid\":23}\n";
        assert_eq!(told(&fired, Manner::Json), json);
    }
}
