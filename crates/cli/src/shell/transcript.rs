//! Comparing the transcript of a shell session with a recorded one.
//!
//! What differs from run to run is masked: times, zxids, session ids, the server's address, the versions, and the order in which a
//! server lists the ephemeral nodes of a session. Everything else must be equal, line by line.

/// The transcript with everything volatile replaced by `<…>`. `server` is the address the shell was given.
pub fn mask(transcript: &str, server: &str) -> String {
    let mut masked: String =
        transcript.lines().map(|line| mask_line(&line.replace(server, "<server>")) + "\n").collect();
    if !transcript.ends_with('\n') {
        masked.pop();
    }
    masked
}

/// The first line in which a transcript differs from a masked one, told for a person; `None` when they are equal.
pub fn difference(expected: &str, transcript: &str, server: &str) -> Option<String> {
    let masked = mask(transcript, server);
    let (mut expected, mut actual) = (expected.lines(), masked.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (expected.next(), actual.next()) {
            (None, None) => return None,
            (expected, actual) if expected == actual => {}
            (expected, actual) => {
                let shown = |line: Option<&str>| line.map_or("the end".to_owned(), |line| format!("{line:?}"));
                return Some(format!("line {number}: expected {}, found {}", shown(expected), shown(actual)));
            }
        }
    }
}

fn mask_line(line: &str) -> String {
    for field in ["ctime", "mtime"] {
        if line.strip_prefix(field).is_some_and(|rest| rest.starts_with(" = ")) {
            return format!("{field} = <time>");
        }
    }
    for field in ["cZxid", "mZxid", "pZxid"] {
        if line.strip_prefix(field).is_some_and(|rest| rest.starts_with(" = 0x")) {
            return format!("{field} = <zxid>");
        }
    }
    if let Some(owner) = line.strip_prefix("ephemeralOwner = 0x") {
        return if owner == "0" { line.to_owned() } else { "ephemeralOwner = <session>".to_owned() };
    }
    if line.starts_with("WatchedEvent ")
        && let Some((event, zxid)) = line.rsplit_once(" zxid: ")
    {
        // Servers before 3.9 send -1 with every event.
        let masked = if event.contains("type:None") || event.contains("WatchRemoved") { zxid } else { "<zxid>" };
        return format!("{event} zxid: {masked}");
    }
    if let Some((program, _)) = line.split_once(" CLI version: ")
        && ["ZooKeeper", "Rookeeper"].contains(&program)
    {
        return "<program> CLI version: <version>".to_owned();
    }
    if let Some(paths) = line.strip_prefix("[/").and_then(|rest| rest.strip_suffix(']')) {
        let mut paths: Vec<&str> = paths.split(", ").map(|path| path.trim_start_matches('/')).collect();
        paths.sort_unstable();
        return format!("[/{}]", paths.join(", /"));
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volatile_parts_are_masked_and_nothing_else() {
        let transcript = "Connecting to h:1\n[zk: h:1(CONNECTED) 3] stat /a\ncZxid = 0x2\nctime = Mon Nov 23\n\
                          ephemeralOwner = 0x0\nephemeralOwner = 0x10\ndataVersion = 3\n\
                          WatchedEvent state:Closed type:None path:null zxid: -1\n\
                          WatchedEvent state:SyncConnected type:NodeCreated path:/a zxid: 23\n\
                          [/b, /a]\n[b, a]\nRookeeper CLI version: 0.1.0";
        assert_eq!(
            mask(transcript, "h:1"),
            "Connecting to <server>\n[zk: <server>(CONNECTED) 3] stat /a\ncZxid = <zxid>\nctime = <time>\n\
             ephemeralOwner = 0x0\nephemeralOwner = <session>\ndataVersion = 3\n\
             WatchedEvent state:Closed type:None path:null zxid: -1\n\
             WatchedEvent state:SyncConnected type:NodeCreated path:/a zxid: <zxid>\n\
             [/a, /b]\n[b, a]\n<program> CLI version: <version>"
        );
    }

    #[test]
    fn the_first_difference_is_told() {
        assert_eq!(difference("on <server>\n[/a, /b]\n", "on h:1\n[/b, /a]\n", "h:1"), None);
        assert_eq!(difference("a\nb\n", "a\nc\n", "h:1").as_deref(), Some("line 2: expected \"b\", found \"c\""));
        assert_eq!(difference("a\n", "", "h:1").as_deref(), Some("line 1: expected \"a\", found the end"));
    }
}
