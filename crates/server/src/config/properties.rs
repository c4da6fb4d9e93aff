//! The syntax of `zoo.cfg` and of the dynamic file: Java properties.
//!
//! Any sequence of bytes is a properties file, except for a malformed `\u` escape; so parsing has that single error.
//! Bytes are ISO-8859-1 characters. Counterpart in the original: `java.util.Properties.load`, then a trim of key and value.

use super::error::{Fault, Place};

/// One `key=value`, in the order of the file. A key may occur several times; the last one counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Key without surrounding blanks.
    pub key: String,
    /// Value without surrounding blanks.
    pub value: String,
    /// Line where the entry begins, from 1.
    pub line: usize,
}

/// Reads all properties of `bytes`. `file` is only used to name the place of an error.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Vec<Property>, Fault> {
    let mut properties = Vec::new();
    let mut lines = Lines { bytes, line: 1 };
    while let Some((line, text)) = lines.next_logical() {
        let (key, value) = split(&text);
        let malformed = |_: MalformedEscape| {
            Fault::new(
                "Malformed \\uxxxx encoding.",
                "A backslash begins an escape: write \\\\ for a backslash, \\u and four hexadecimal digits for a character.",
            )
            .at(&Place::Line { file: file.to_owned(), line })
        };
        let key = unescape(key).map_err(malformed)?;
        let value = unescape(value).map_err(malformed)?;
        properties.push(Property { key: trim(&key), value: trim(&value), line });
    }
    Ok(properties)
}

/// `bytes` without the entries whose key `drop` wants gone. Comments, blank lines and everything else stay as they are.
pub fn without(file: &str, bytes: &[u8], drop: impl Fn(&str) -> bool) -> Result<Vec<u8>, Fault> {
    edited(file, bytes, |key| drop(key).then(Vec::new))
}

/// `bytes` with something else in the place of those entries for whose key `edit` has it. Everything else stays as it is.
pub fn edited(file: &str, bytes: &[u8], edit: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Vec<u8>, Fault> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut lines = Lines { bytes, line: 1 };
    let properties = parse(file, bytes)?;
    let mut properties = properties.iter().peekable();
    while !lines.bytes.is_empty() {
        let (line, before) = (lines.line, lines.bytes);
        let is_entry = properties.peek().is_some_and(|property| property.line == line);
        if is_entry {
            lines.next_logical();
        } else {
            lines.next_natural();
        }
        let entry = properties.next_if(|_| is_entry);
        match entry.and_then(|property| edit(&property.key)) {
            Some(other) => kept.extend_from_slice(&other),
            None => kept.extend_from_slice(&before[..before.len() - lines.bytes.len()]),
        }
    }
    Ok(kept)
}

/// Appends an entry to a properties file, whatever its last line is.
pub fn append(bytes: &mut Vec<u8>, key: &str, value: &str) {
    let ends_a_line = |bytes: &[u8]| bytes.last().is_none_or(|byte| is_line_end(*byte));
    if !ends_a_line(bytes) {
        bytes.push(b'\n');
    }
    let last_line = bytes.strip_suffix(b"\r\n").or(bytes.split_last().map(|(_, line)| line)).unwrap_or_default();
    if ends_with_open_backslash(last_line) {
        // The line after it is its continuation.
        bytes.extend_from_slice(b" \n");
    }
    bytes.extend_from_slice(key.as_bytes());
    bytes.push(b'=');
    bytes.extend_from_slice(escape(value).as_bytes());
    bytes.push(b'\n');
}

/// A value as it must be written to be read back as it is.
pub fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for unit in value.encode_utf16() {
        match u8::try_from(unit) {
            Ok(b'\\') => escaped.push_str("\\\\"),
            Ok(byte @ b' '..=b'~') => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("\\u{unit:04x}")),
        }
    }
    escaped
}

/// Java's `String.trim`: everything up to and including U+0020 counts as blank.
fn trim(text: &str) -> String {
    text.trim_matches(|character| character <= ' ').to_owned()
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\x0c')
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

struct Lines<'a> {
    bytes: &'a [u8],
    line: usize,
}

impl<'a> Lines<'a> {
    /// The next natural line without its end, which may be `\n`, `\r` or `\r\n`.
    fn next_natural(&mut self) -> Option<&'a [u8]> {
        if self.bytes.is_empty() {
            return None;
        }
        let end = self.bytes.iter().position(|byte| is_line_end(*byte)).unwrap_or(self.bytes.len());
        let (line, rest) = self.bytes.split_at(end);
        self.bytes = match rest {
            [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
            [] => rest,
        };
        self.line += 1;
        Some(line.trim_ascii_start_blanks())
    }

    /// The next line that is neither blank nor a comment, with its continuations, and the number of its first line.
    fn next_logical(&mut self) -> Option<(usize, Vec<u8>)> {
        loop {
            let line = self.line;
            let natural = self.next_natural()?;
            if natural.is_empty() || natural[0] == b'#' || natural[0] == b'!' {
                continue;
            }
            let mut text = natural.to_vec();
            while ends_with_open_backslash(&text) {
                text.pop();
                match self.next_natural() {
                    Some(continuation) => text.extend_from_slice(continuation),
                    None => break,
                }
            }
            // A lone backslash followed by nothing is no entry.
            if !text.is_empty() {
                return Some((line, text));
            }
        }
    }
}

trait TrimBlanks {
    fn trim_ascii_start_blanks(&self) -> &Self;
}

impl TrimBlanks for [u8] {
    fn trim_ascii_start_blanks(&self) -> &[u8] {
        let start = self.iter().position(|byte| !is_blank(*byte)).unwrap_or(self.len());
        &self[start..]
    }
}

/// An odd number of backslashes at the end: the last one is not itself escaped.
fn ends_with_open_backslash(line: &[u8]) -> bool {
    line.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Splits at the first unescaped `=`, `:` or blank; blanks around one separator belong to neither side.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let mut escaped = false;
    let key_end = line
        .iter()
        .position(|byte| {
            let separates = !escaped && (matches!(byte, b'=' | b':') || is_blank(*byte));
            escaped = *byte == b'\\' && !escaped;
            separates
        })
        .unwrap_or(line.len());
    let (key, rest) = line.split_at(key_end);
    let rest = rest.trim_ascii_start_blanks();
    let value = match rest {
        [b'=' | b':', value @ ..] => value,
        value => value,
    };
    (key, value.trim_ascii_start_blanks())
}

struct MalformedEscape;

fn unescape(text: &[u8]) -> Result<String, MalformedEscape> {
    // Java strings are UTF-16, and two \u escapes may form one character.
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        let unit = match byte {
            b'\\' => match bytes.next() {
                Some(b't') => u16::from(b'\t'),
                Some(b'n') => u16::from(b'\n'),
                Some(b'r') => u16::from(b'\r'),
                Some(b'f') => 0x0c,
                Some(b'u') => {
                    let (digits, rest) = bytes.as_slice().split_at_checked(4).ok_or(MalformedEscape)?;
                    bytes = rest.iter();
                    digits.iter().try_fold(0_u16, |unit, digit| {
                        let digit = char::from(*digit).to_digit(16).ok_or(MalformedEscape)?;
                        Ok(unit << 4 | digit as u16)
                    })?
                }
                Some(other) => u16::from(*other),
                None => break,
            },
            other => u16::from(*other),
        };
        units.push(unit);
    }
    Ok(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &[u8]) -> Vec<(String, String)> {
        parse("zoo.cfg", text).unwrap().into_iter().map(|property| (property.key, property.value)).collect()
    }

    fn one(text: &[u8]) -> (String, String) {
        let mut all = pairs(text);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn three_separators_and_the_blanks_around_them() {
        for text in [
            "tickTime=2000",
            "tickTime = 2000",
            "tickTime: 2000",
            "tickTime 2000",
            "  tickTime\t=\t2000  ",
            "\x0ctickTime\x0c2000",
        ] {
            assert_eq!(one(text.as_bytes()), pair("tickTime", "2000"), "{text:?}");
        }
    }

    #[test]
    fn only_the_first_separator_counts() {
        assert_eq!(one(b"server.1=host:2888:3888;2181"), pair("server.1", "host:2888:3888;2181"));
        assert_eq!(one(b"a==b"), pair("a", "=b"));
        assert_eq!(one(b"a = = b"), pair("a", "= b"));
        assert_eq!(one(b"a b=c"), pair("a", "b=c"));
        assert_eq!(one(b"=b"), pair("", "b"));
    }

    #[test]
    fn a_key_without_a_value_has_an_empty_one() {
        for text in ["key", "key=", "key:", "key ", "key = "] {
            assert_eq!(one(text.as_bytes()), pair("key", ""), "{text:?}");
        }
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_but_counted() {
        let properties = parse("zoo.cfg", b"# one\n\n  ! two\r\n\t\r a=1\rb=2").unwrap();
        let lines: Vec<_> = properties.iter().map(|property| (property.key.as_str(), property.line)).collect();
        assert_eq!(lines, [("a", 5), ("b", 6)]);
    }

    #[test]
    fn a_comment_after_a_value_belongs_to_the_value() {
        assert_eq!(one(b"tickTime=2000 # ms"), pair("tickTime", "2000 # ms"));
    }

    #[test]
    fn a_backslash_at_the_end_continues_the_line() {
        assert_eq!(one(b"4lw.commands.whitelist=stat, \\\n   ruok, \\\r\n\tmntr"), {
            pair("4lw.commands.whitelist", "stat, ruok, mntr")
        });
        assert_eq!(one(b"a=b\\\n# no comment"), pair("a", "b# no comment"));
        assert_eq!(one(b"a=b\\"), pair("a", "b"));
        assert_eq!(pairs(b"a=b\\\\\nc=d"), [pair("a", "b\\"), pair("c", "d")]);
        assert_eq!(pairs(b"\\"), []);
        let properties = parse("zoo.cfg", b"a=1\\\n2\\\n3\nb=4").unwrap();
        assert_eq!((properties[0].line, properties[1].line), (1, 4));
    }

    #[test]
    fn escapes() {
        assert_eq!(one(b"dataDir=C:\\\\zookeeper\\\\data"), pair("dataDir", "C:\\zookeeper\\data"));
        assert_eq!(one(b"dataDir=C:\\zookeeper"), pair("dataDir", "C:zookeeper"));
        assert_eq!(one(b"a\\=b\\:c\\ d=e"), pair("a=b:c d", "e"));
        assert_eq!(one(b"a=x\\ty\\nz\\rw\\fv"), pair("a", "x\ty\nz\rw\x0cv"));
        assert_eq!(one(b"a=\\u0041\\u00e4\\uD83D\\uDE00"), pair("a", "A\u{e4}\u{1f600}"));
        assert_eq!(one(b"a=\\uD83D!"), pair("a", "\u{fffd}!"));
    }

    #[test]
    fn bytes_are_latin_1() {
        assert_eq!(one(b"dataDir=/data/\xe4"), pair("dataDir", "/data/\u{e4}"));
        assert_eq!(one("dataDir=/data/ä".as_bytes()), pair("dataDir", "/data/\u{c3}\u{a4}"));
    }

    #[test]
    fn a_malformed_escape_is_the_only_error_and_names_its_line() {
        for text in ["\na=\\u12", "\na=\\u12g4", "\na\\u=1"] {
            let fault = parse("zoo.cfg", text.as_bytes()).unwrap_err();
            assert_eq!(fault.place, Some(Place::Line { file: "zoo.cfg".to_owned(), line: 2 }), "{text:?}");
            assert_eq!(fault.problem, "Malformed \\uxxxx encoding.");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(properties) = parse("zoo.cfg", &bytes) {
                proptest::prop_assert!(properties.len() <= bytes.len());
            }
        }

        #[test]
        fn what_is_dropped_is_gone_and_the_rest_is_as_it_was(
            lines in proptest::collection::vec("(#|!)?[ab]{0,1}[= \\\\]{0,2}[ab\\\\]{0,3}(\n|\r|\r\n)?", 0..12),
            value in "\\PC{0,10}",
        ) {
            let text = lines.concat().into_bytes();
            let mut edited = without("zoo.cfg", &text, |key| key.starts_with('a')).unwrap();
            append(&mut edited, "new", &format!("/{value}/"));
            let mut expected = pairs(&text);
            expected.retain(|(key, _)| !key.starts_with('a'));
            expected.push(pair("new", &format!("/{value}/")));
            proptest::prop_assert_eq!(pairs(&edited), expected);
        }

        #[test]
        fn a_written_pair_is_read_back(key in "[a-zA-Z0-9.]{1,20}", value in "[!-~]{0,40}") {
            let text = format!("{key}={}", value.replace('\\', "\\\\"));
            proptest::prop_assert_eq!(pairs(text.as_bytes()), [pair(&key, &value)]);
        }
    }
}
