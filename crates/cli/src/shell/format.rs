//! How zkCli prints things: the stat block, lists, ACLs, hex dumps, events.
//!
//! Every function returns the text without its last line feed and reads no clock and no socket.

use std::borrow::Cow;

use jiff::tz::TimeZone;
use zookeeper_client::{Acl, Permission, SessionState, Stat};

use crate::java;

/// The eleven lines of a node's stat. Times are printed in `zone`.
pub(crate) fn stat(stat: &Stat, zone: &TimeZone) -> String {
    format!(
        "cZxid = 0x{:x}\nctime = {}\nmZxid = 0x{:x}\nmtime = {}\npZxid = 0x{:x}\ncversion = {}\ndataVersion = {}\n\
         aclVersion = {}\nephemeralOwner = 0x{:x}\ndataLength = {}\nnumChildren = {}",
        stat.czxid,
        java::date(stat.ctime, zone),
        stat.mzxid,
        java::date(stat.mtime, zone),
        stat.pzxid,
        stat.cversion,
        stat.version,
        stat.aversion,
        stat.ephemeral_owner,
        stat.data_length,
        stat.num_children,
    )
}

/// `[a, b]`
pub(crate) fn list(names: &[String]) -> String {
    format!("[{}]", names.join(", "))
}

/// Two lines for each entry: `'scheme,'id` and `: cdrwa`.
pub(crate) fn acl(acl: &Acl) -> String {
    format!("'{},'{}\n: {}", java::escaped(acl.scheme()), java::escaped(acl.id()), permissions(acl.permission()))
}

fn permissions(permission: Permission) -> String {
    LETTERS.iter().filter(|(_, bit)| permission.has(*bit)).map(|(letter, _)| *letter).collect()
}

/// The letters of permissions, in the order they are printed.
pub(crate) const LETTERS: [(char, Permission); 5] = [
    ('c', Permission::CREATE),
    ('d', Permission::DELETE),
    ('r', Permission::READ),
    ('w', Permission::WRITE),
    ('a', Permission::ADMIN),
];

/// The text without what would control a terminal or turn the direction of writing, so that it looks like what it is.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmful = |character: char| match character {
        '\n' | '\t' => false,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        other => other.is_control(),
    };
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut harmless = String::with_capacity(text.len());
    for character in text.chars() {
        if is_harmful(character) {
            harmless.extend(character.escape_default());
        } else {
            harmless.push(character);
        }
    }
    Cow::Owned(harmless)
}

/// Sixteen bytes a line, with offsets and the printable characters.
pub(crate) fn hex_dump(data: &[u8]) -> String {
    if data.is_empty() {
        return String::new();
    }
    const RULE: &str = "+--------+-------------------------------------------------+----------------+";
    let mut lines = vec![
        "         +-------------------------------------------------+".to_owned(),
        "         |  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |".to_owned(),
        RULE.to_owned(),
    ];
    for (row, bytes) in data.chunks(16).enumerate() {
        let hex: String = bytes.iter().map(|byte| format!(" {byte:02x}")).collect();
        let text: String =
            bytes.iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' }).collect();
        lines.push(format!("|{:08x}|{hex:<48} |{text:<16}|", row * 16));
    }
    lines.push(RULE.to_owned());
    lines.join("\n")
}

/// `WatchedEvent state:… type:… path:… zxid: …`; a session event has no path and no zxid.
pub(crate) fn event(state: SessionState, kind: &str, path: Option<&str>, zxid: i64) -> String {
    format!("WatchedEvent state:{state} type:{kind} path:{} zxid: {zxid}", path.unwrap_or("null"))
}

#[cfg(test)]
mod tests {
    use zookeeper_client::AuthId;

    use super::*;

    const STAT: Stat = Stat {
        czxid: 2,
        mzxid: 0xd,
        pzxid: 0x1a,
        ctime: 1_795_400_832_000,
        mtime: 1_795_400_833_999,
        version: 3,
        cversion: 8,
        aversion: 1,
        ephemeral_owner: -1,
        data_length: 4,
        num_children: 2,
    };

    #[test]
    fn stat_block() {
        assert_eq!(
            stat(&STAT, &TimeZone::UTC),
            "cZxid = 0x2\nctime = Mon Nov 23 02:27:12 UTC 2026\nmZxid = 0xd\nmtime = Mon Nov 23 02:27:13 UTC 2026\n\
             pZxid = 0x1a\ncversion = 8\ndataVersion = 3\naclVersion = 1\nephemeralOwner = 0xffffffffffffffff\n\
             dataLength = 4\nnumChildren = 2"
        );
    }

    #[test]
    fn lists() {
        assert_eq!(list(&[]), "[]");
        assert_eq!(list(&["a".to_owned(), "b".to_owned()]), "[a, b]");
    }

    #[test]
    fn acls() {
        let entry = Acl::new(Permission::ALL, AuthId::anyone());
        assert_eq!(acl(&entry), "'world,'anyone\n: cdrwa");
        let entry = Acl::new(Permission::READ | Permission::CREATE, AuthId::new("digest", "a,b:%"));
        assert_eq!(acl(&entry), "'digest,'a%2Cb:%25\n: cr");
    }

    #[test]
    fn what_would_control_a_terminal_is_shown_instead() {
        assert!(matches!(harmless("two\nlines\té"), Cow::Borrowed("two\nlines\té")));
        assert_eq!(harmless("\x1b[2J\r\u{9b}\x7f\u{202e}"), "\\u{1b}[2J\\r\\u{9b}\\u{7f}\\u{202e}");
    }

    #[test]
    fn hex_dumps() {
        assert_eq!(hex_dump(b""), "");
        assert_eq!(
            hex_dump(b"data of two\x00lines"),
            "         +-------------------------------------------------+\n\
             \x20        |  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |\n\
             +--------+-------------------------------------------------+----------------+\n\
             |00000000| 64 61 74 61 20 6f 66 20 74 77 6f 00 6c 69 6e 65 |data of two.line|\n\
             |00000010| 73                                              |s               |\n\
             +--------+-------------------------------------------------+----------------+"
        );
    }

    #[test]
    fn events() {
        assert_eq!(
            event(SessionState::SyncConnected, "None", None, -1),
            "WatchedEvent state:SyncConnected type:None path:null zxid: -1"
        );
        assert_eq!(
            event(SessionState::SyncConnected, "NodeCreated", Some("/a"), 23),
            "WatchedEvent state:SyncConnected type:NodeCreated path:/a zxid: 23"
        );
    }
}
