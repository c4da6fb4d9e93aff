//! Patterns of names, as shells have them: `*`, `?`, `[a-z]`, `[!a-z]`, and `\` in front of what is meant as it stands.

/// Whether all of `text` is what the pattern says. The time is at most the product of both lengths.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut place) = (0, 0);
    // Where the last star is, and up to where it reaches.
    let mut star = None;
    loop {
        if at < pattern.len() && pattern[at] == '*' {
            star = Some((at, place));
            at += 1;
            continue;
        }
        if place == text.len() {
            return at == pattern.len();
        }
        match one(&pattern[at..], text[place]) {
            Some(length) => {
                at += length;
                place += 1;
            }
            // The last star takes one character more.
            None => {
                let Some((star_at, reach)) = star else { return false };
                star = Some((star_at, reach + 1));
                (at, place) = (star_at + 1, reach + 1);
            }
        }
    }
}

/// The length of what stands at the beginning of a pattern, if it is this character.
fn one(pattern: &[char], character: char) -> Option<usize> {
    match *pattern.first()? {
        '?' => Some(1),
        '\\' => pattern.get(1).filter(|escaped| **escaped == character).map(|_| 2),
        '[' => class(pattern, character),
        plain => (plain == character).then_some(1),
    }
}

/// A bracket that is never closed stands for itself.
fn class(pattern: &[char], character: char) -> Option<usize> {
    let is_negated = matches!(pattern.get(1), Some('!' | '^'));
    let begin = if is_negated { 2 } else { 1 };
    // A bracket at the beginning of a class is one of its characters.
    let end = (begin + 1..pattern.len()).find(|index| pattern[*index] == ']');
    let Some(end) = end else { return (character == '[').then_some(1) };
    let (mut index, mut is_in) = (begin, false);
    while index < end {
        if index + 2 < end && pattern[index + 1] == '-' {
            is_in |= (pattern[index]..=pattern[index + 2]).contains(&character);
            index += 3;
        } else {
            is_in |= pattern[index] == character;
            index += 1;
        }
    }
    (is_in != is_negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_shells() {
        for (pattern, yes, no) in [
            ("lock", &["lock"][..], &["lock-1", "a-lock", ""][..]),
            ("lock-*", &["lock-", "lock-1", "lock-*"], &["lock", "block-1"]),
            ("*-*-1", &["a-b-1", "--1", "a-1-1-1"], &["a-1", "a-b-12"]),
            ("n?de", &["node", "nöde"], &["nde", "noode"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "-x", "x"]),
            ("[!a-c]x", &["dx"], &["ax", "x"]),
            ("[]x]", &["]", "x"], &["a"]),
            ("[a-]", &["a", "-"], &["b"]),
            ("a[b", &["a[b"], &["ab"]),
            ("\\*", &["*"], &["a", "\\*"]),
            ("*", &["", "anything"], &[]),
            ("", &[""], &["a"]),
        ] {
            yes.iter().for_each(|text| assert!(matches(pattern, text), "{pattern} {text}"));
            no.iter().for_each(|text| assert!(!matches(pattern, text), "{pattern} {text}"));
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        assert!(!matches(&"*a".repeat(200), &"a".repeat(199)));
        assert!(matches(&"*a".repeat(200), &"a".repeat(1_000)));
    }
}
