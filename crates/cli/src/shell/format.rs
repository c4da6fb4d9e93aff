//! How zkCli prints things: the stat block, lists, ACLs, hex dumps, events.
//!
//! Every function returns the text without its last line feed and reads no clock and no socket.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
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
        // They turn the direction of writing, break lines, or are not seen at all.
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
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

/// Data as a terminal may have them: what is no text as `\xff`, what would control the terminal as `\u{1b}`.
pub(crate) fn readable(data: &[u8]) -> String {
    let mut text = String::with_capacity(data.len());
    for chunk in data.utf8_chunks() {
        text.push_str(&harmless(chunk.valid()));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

/// JSON with a member on each line. The tokens stay as they are, numbers of any length too. The error says why it is no JSON.
pub(crate) fn pretty(data: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(data).map_err(|error| error.to_string())?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| error.to_string())?;
    let (mut pretty, mut depth, mut in_string, mut is_escaped) = (String::new(), 0_usize, false, false);
    let new_line = |pretty: &mut String, depth: usize| {
        pretty.push('\n');
        pretty.extend(std::iter::repeat_n("  ", depth));
    };
    for (index, character) in text.char_indices() {
        if in_string {
            pretty.push(character);
            in_string = is_escaped || character != '"';
            is_escaped = !is_escaped && character == '\\';
            continue;
        }
        let follows = || text[index + 1..].trim_start().chars().next();
        match character {
            '"' => {
                in_string = true;
                pretty.push(character);
            }
            '{' | '[' => {
                pretty.push(character);
                if !matches!(follows(), Some('}' | ']')) {
                    depth += 1;
                    new_line(&mut pretty, depth);
                }
            }
            '}' | ']' => {
                if !pretty.ends_with(['{', '[']) {
                    depth = depth.saturating_sub(1);
                    new_line(&mut pretty, depth);
                }
                pretty.push(character);
            }
            ',' => {
                pretty.push(character);
                new_line(&mut pretty, depth);
            }
            ':' => pretty.push_str(": "),
            blank if blank.is_ascii_whitespace() => {}
            other => pretty.push(other),
        }
    }
    Ok(pretty)
}

/// The fields of a stat, named as in an export; numbers are decimal.
pub(crate) fn stat_json(stat: &Stat) -> Value {
    json!({
        "czxid": stat.czxid, "mzxid": stat.mzxid, "pzxid": stat.pzxid, "ctime": stat.ctime, "mtime": stat.mtime,
        "version": stat.version, "cversion": stat.cversion, "aversion": stat.aversion,
        "ephemeral_owner": stat.ephemeral_owner, "data_length": stat.data_length, "num_children": stat.num_children,
    })
}

/// `text` where the data are text, else `base64`, as in an export.
pub(crate) fn data_json(path: &str, data: &[u8], stat: &Stat) -> Value {
    let (name, data) = match std::str::from_utf8(data) {
        Ok(text) => ("text", text.to_owned()),
        Err(_) => ("base64", BASE64.encode(data)),
    };
    json!({"path": path, name: data, "stat": stat_json(stat)})
}

/// An entry as it is typed: `world:anyone:cdrwa`.
pub(crate) fn short_acl(acl: &Acl) -> String {
    format!("{}:{}:{}", acl.scheme(), acl.id(), permissions(acl.permission()))
}

/// An entry of access control, as in an export.
pub(crate) fn acl_json(acl: &Acl) -> Value {
    json!({"perms": permissions(acl.permission()), "scheme": acl.scheme(), "id": acl.id()})
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
pub(crate) mod tests {
    use zookeeper_client::AuthId;

    use super::*;

    pub(crate) const STAT: Stat = Stat {
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
    fn what_is_no_text_is_shown_byte_by_byte() {
        assert_eq!(readable(b"a\xff\xc3(\x1b\xe2\x82\xac"), "a\\xff\\xc3(\\u{1b}\u{20ac}");
    }

    #[test]
    fn json_is_laid_out_and_its_tokens_stay() {
        let data = br#" {"b":[1.10,123456789012345678901234567890,{}],"a":{"x, :[":"q\"{\\"}, "e" : [ ] ,"n":null}"#;
        let expected = "{\n  \"b\": [\n    1.10,\n    123456789012345678901234567890,\n    {}\n  ],\n  \"a\": {\n    \"x, :[\": \
                        \"q\\\"{\\\\\"\n  },\n  \"e\": [],\n  \"n\": null\n}";
        assert_eq!(pretty(data).unwrap(), expected);
        assert_eq!(pretty(b" 5 ").unwrap(), "5");
        for bad in [&b"{"[..], b"", b"{} x", b"\xff", b"\"\x1b\""] {
            assert!(pretty(bad).is_err(), "{bad:?}");
        }
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
