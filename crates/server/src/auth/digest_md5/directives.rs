//! The syntax of tokens: `name=value,name="value"`, blanks around each, backslashes within quotes.
//!
//! What always holds: any bytes are a list of directives or are malformed; no name stands in the list twice.

use super::Refusal;

/// More than any honest token has.
const MAX_DIRECTIVES: usize = 32;

/// The directives of a token, names in small letters.
pub(super) struct Directives(Vec<(String, Vec<u8>)>);

impl Directives {
    pub(super) fn parse(token: &[u8]) -> Result<Directives, Refusal> {
        let mut directives: Vec<(String, Vec<u8>)> = Vec::new();
        let mut rest = blanks_skipped(token);
        while !rest.is_empty() {
            if let [b',', behind @ ..] = rest {
                rest = blanks_skipped(behind);
                continue;
            }
            let length = rest.iter().position(|byte| !is_of_name(*byte)).unwrap_or(rest.len());
            let (name, behind) = rest.split_at(length);
            let [b'=', behind @ ..] = blanks_skipped(behind) else {
                return Err(Refusal::Malformed("a name without a value"));
            };
            let (value, behind) = value(blanks_skipped(behind))?;
            rest = blanks_skipped(behind);
            if !matches!(rest.first(), None | Some(b',')) {
                return Err(Refusal::Malformed("no comma behind a value"));
            }
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            if name.is_empty() || directives.iter().any(|(known, _)| *known == name) {
                return Err(Refusal::Malformed("a directive that is there twice, or has no name"));
            }
            if directives.len() == MAX_DIRECTIVES {
                return Err(Refusal::Malformed("too many directives"));
            }
            directives.push((name, value));
        }
        Ok(Directives(directives))
    }

    pub(super) fn find(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    pub(super) fn get(&self, name: &str, missing: &'static str) -> Result<&[u8], Refusal> {
        self.find(name).ok_or(Refusal::Malformed(missing))
    }

    /// A text, in UTF-8 if the token says so, else in ISO-8859-1.
    pub(super) fn text(&self, name: &str, missing: &'static str) -> Result<String, Refusal> {
        let bytes = self.get(name, missing)?;
        match self.find("charset") {
            Some(charset) if !charset.eq_ignore_ascii_case(b"utf-8") => Err(Refusal::Malformed("another charset")),
            Some(_) => String::from_utf8(bytes.to_vec()).map_err(|_| Refusal::Malformed("text that is not UTF-8")),
            None => Ok(bytes.iter().map(|byte| char::from(*byte)).collect()),
        }
    }
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn blanks_skipped(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    &bytes[start.unwrap_or(bytes.len())..]
}

/// The value at the beginning, and what stands behind it.
fn value(bytes: &[u8]) -> Result<(Vec<u8>, &[u8]), Refusal> {
    let Some(quoted) = bytes.strip_prefix(b"\"") else {
        let is_end = |byte: &u8| matches!(byte, b',' | b' ' | b'\t' | b'\r' | b'\n' | b'"');
        let length = bytes.iter().position(is_end).unwrap_or(bytes.len());
        let (value, behind) = bytes.split_at(length);
        return Ok((value.to_vec(), behind));
    };
    let mut value = Vec::new();
    let mut rest = quoted;
    loop {
        match rest {
            [b'"', behind @ ..] => return Ok((value, behind)),
            [b'\\', byte, behind @ ..] | [byte, behind @ ..] => {
                value.push(*byte);
                rest = behind;
            }
            [] => return Err(Refusal::Malformed("a quote that does not end")),
        }
    }
}

/// A value between quotes.
pub(super) fn quoted(value: &[u8], output: &mut Vec<u8>) {
    output.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            output.push(b'\\');
        }
        output.push(*byte);
    }
    output.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(token: &str) -> Result<Vec<(String, String)>, Refusal> {
        let text = |(name, value): (String, Vec<u8>)| (name, String::from_utf8(value).unwrap());
        Directives::parse(token.as_bytes()).map(|directives| directives.0.into_iter().map(text).collect())
    }

    #[test]
    fn directives_are_read() {
        let expected = |pairs: &[(&str, &str)]| {
            Ok(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(read(""), expected(&[]));
        assert_eq!(
            read("realm=\"a,b\",nc=00000001 , Digest-URI = \"x/\\\"y\\\\\" ,,qop=auth,"),
            expected(&[("realm", "a,b"), ("nc", "00000001"), ("digest-uri", "x/\"y\\"), ("qop", "auth")])
        );
        assert_eq!(read("a=,b=\"\""), expected(&[("a", ""), ("b", "")]));
        for wrong in ["a", "=b", "a=\"b", "a=\"b\\", "a=b c=d", "a=b,A=c", "a=b\"c\"", "a:b"] {
            assert!(matches!(read(wrong), Err(Refusal::Malformed(_))), "{wrong}");
        }
        let many: String = (0..33).map(|number| format!("a{number}=b,")).collect();
        assert_eq!(read(&many), Err(Refusal::Malformed("too many directives")));
    }

    #[test]
    fn a_quoted_value_is_read_back() {
        let mut token = b"a=".to_vec();
        quoted(b"x\"y\\z,", &mut token);
        assert_eq!(read(std::str::from_utf8(&token).unwrap()), Ok(vec![("a".to_owned(), "x\"y\\z,".to_owned())]));
    }

    #[test]
    fn texts_follow_the_charset() {
        let text = |token: &[u8]| Directives::parse(token).unwrap().text("username", "missing");
        assert_eq!(text(b"username=\"Zo\xeb\"").as_deref(), Ok("Zoë"));
        assert_eq!(text("charset=UTF-8,username=\"Zoë\"".as_bytes()).as_deref(), Ok("Zoë"));
        assert!(text(b"charset=utf-8,username=\"Zo\xeb\"").is_err());
        assert!(text(b"charset=ascii,username=a").is_err());
        assert_eq!(text(b""), Err(Refusal::Malformed("missing")));
    }
}
