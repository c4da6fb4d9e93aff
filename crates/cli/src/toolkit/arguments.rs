//! Options in the forms that the original's parser takes: `-r`, `-rv`, `-z 5`, `-z5`, `-z=5`, `--zxid 5`, `--zxid=5`, before or behind other
//! arguments, which end at `--`.
//!
//! Counterpart in the original: `DefaultParser` of Commons CLI.

/// An option that there is.
#[derive(Debug)]
pub struct Known {
    pub short: char,
    pub long: &'static str,
    pub has_value: bool,
}

/// What was given.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// By their short names.
    options: Vec<(char, Option<String>)>,
    /// Everything else.
    pub rest: Vec<String>,
}

impl Given {
    /// Whether an option was given.
    pub fn has(&self, short: char) -> bool {
        self.options.iter().any(|(given, _)| *given == short)
    }

    /// The value of an option, of the first one where it was given twice.
    pub fn value(&self, short: char) -> Option<&str> {
        self.options.iter().find(|(given, _)| *given == short)?.1.as_deref()
    }
}

/// Sorts arguments. The error is what the original says of a wrong one.
pub fn parse(known: &[Known], arguments: &[String]) -> Result<Given, String> {
    let mut given = Given::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            given.rest.extend(arguments.cloned());
            break;
        }
        let Some(body) = argument.strip_prefix('-').filter(|body| !body.is_empty()) else {
            given.rest.push(argument.clone());
            continue;
        };
        let unrecognized = || format!("Unrecognized option: {argument}");
        let (names, mut value) = match body.strip_prefix('-') {
            Some(long) => {
                let (name, value) = split(long);
                let option = known.iter().find(|option| option.long == name).ok_or_else(unrecognized)?;
                (vec![option], value)
            }
            None => short(known, body).ok_or_else(unrecognized)?,
        };
        for option in names {
            if !option.has_value {
                given.options.push((option.short, None));
                continue;
            }
            let value = value.take().or_else(|| arguments.next().cloned());
            let value = value.ok_or_else(|| format!("Missing argument for option: {}", option.short))?;
            given.options.push((option.short, Some(value)));
        }
    }
    Ok(given)
}

/// `r`, `rv`, `z5`, `z=5`, and a long name behind one dash.
fn short<'a>(known: &'a [Known], body: &str) -> Option<(Vec<&'a Known>, Option<String>)> {
    let (name, value) = split(body);
    if let Some(option) = known.iter().find(|option| option.long == name) {
        return Some((vec![option], value));
    }
    let mut options = Vec::new();
    for (at, letter) in body.char_indices() {
        let option = known.iter().find(|option| option.short == letter)?;
        options.push(option);
        if option.has_value {
            let rest = &body[at + letter.len_utf8()..];
            let rest = rest.strip_prefix('=').unwrap_or(rest);
            return Some((options, (!rest.is_empty()).then(|| rest.to_owned())));
        }
    }
    Some((options, None))
}

fn split(text: &str) -> (&str, Option<String>) {
    match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Known; 3] = [
        Known { short: 'r', long: "recover", has_value: false },
        Known { short: 'v', long: "verbose", has_value: false },
        Known { short: 'z', long: "zxid", has_value: true },
    ];

    fn parsed(text: &str) -> Result<Given, String> {
        let arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        parse(&KNOWN, &arguments)
    }

    #[test]
    fn all_forms() {
        for text in ["-z 5 log", "-z5 log", "-z=5 log", "--zxid 5 log", "--zxid=5 log", "log -zxid 5", "-z 5 -- log"] {
            let given = parsed(text).unwrap();
            assert_eq!((given.value('z'), &given.rest[..]), (Some("5"), &["log".to_owned()][..]), "{text}");
        }
        let given = parsed("-rvz 7 a b").unwrap();
        assert!(given.has('r') && given.has('v') && given.value('z') == Some("7") && given.rest == ["a", "b"]);
        assert_eq!(parsed("-- -r").unwrap(), Given { options: vec![], rest: vec!["-r".to_owned()] });
    }

    #[test]
    fn mistakes() {
        assert_eq!(parsed("-x").unwrap_err(), "Unrecognized option: -x");
        assert_eq!(parsed("--rec").unwrap_err(), "Unrecognized option: --rec");
        assert_eq!(parsed("-z").unwrap_err(), "Missing argument for option: z");
    }
}
