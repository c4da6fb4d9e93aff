//! The options of one shell command: `-s`, `-v 3`, `-v3`, `-v=3`, `-sw`, anywhere among the other words; `--` ends them.
//!
//! The rules and the words of refusal are those of the Java library zkCli uses, because scripts compare them.

use super::failure::Failure;

/// One option a command knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opt {
    pub(crate) name: &'static str,
    pub(crate) takes_value: bool,
    /// Only where the original prints it.
    pub(crate) description: &'static str,
}

pub(crate) const fn flag(name: &'static str) -> Opt {
    Opt { name, takes_value: false, description: "" }
}

pub(crate) const fn value(name: &'static str) -> Opt {
    Opt { name, takes_value: true, description: "" }
}

impl Opt {
    pub(crate) const fn described(self, description: &'static str) -> Opt {
        Opt { description, ..self }
    }
}

/// How many of a command's options may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    Any,
    AtMostOne,
    ExactlyOne,
}

/// The words after the command's name, sorted into options and the rest.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    options: Vec<(&'static str, Option<String>)>,
    pub(crate) words: Vec<String>,
}

impl Arguments {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(given, _)| *given == name)
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(given, _)| *given == name).and_then(|(_, value)| value.as_deref())
    }

    /// The expected version `-v`; `None` when any version will do, which is also what a negative number means.
    pub(crate) fn version(&self) -> Result<Option<i32>, Failure> {
        match self.value("v").map(str::parse::<i32>) {
            None => Ok(None),
            Some(Ok(version)) => Ok((version != -1).then_some(version)),
            Some(Err(_)) => Err(Failure::Refused("-v argument must be an int value".to_owned())),
        }
    }

    pub(crate) fn set_flag(&mut self, name: &'static str) {
        self.options.push((name, None));
    }
}

/// Sorts the words of a command. The error is the text zkCli prints.
pub(crate) fn parse(words: &[String], known: &[Opt], choice: Choice) -> Result<Arguments, String> {
    let mut parser = Parser { known, choice, waiting: None, arguments: Arguments::default() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            parser.require_no_waiting()?;
            parser.arguments.words.extend(words.by_ref().cloned());
        } else if parser.waiting.is_some() && !parser.is_option(word) {
            parser.give_value(word);
        } else if word.starts_with("--") {
            // Those are ours, and known by the name with a dash.
            let (name, value) =
                word[1..].split_once('=').map_or((&word[1..], None), |(name, value)| (name, Some(value)));
            let Some(option) = parser.find(name).filter(|option| value.is_none() || option.takes_value) else {
                return Err(unrecognized(word));
            };
            parser.give_option(option)?;
            if let Some(value) = value {
                parser.give_value(value);
            }
        } else if word.len() > 1 && word.starts_with('-') {
            parser.dashed(word)?;
        } else {
            parser.require_no_waiting()?;
            parser.arguments.words.push(word.clone());
        }
    }
    parser.require_no_waiting()?;
    if choice == Choice::ExactlyOne && parser.arguments.options.is_empty() {
        let all: Vec<String> = known.iter().map(|option| format!("-{} {}", option.name, option.description)).collect();
        return Err(format!(
            "org.apache.commons.cli.MissingOptionException: Missing required option: [{}]",
            all.join(", ")
        ));
    }
    Ok(parser.arguments)
}

struct Parser<'a> {
    known: &'a [Opt],
    choice: Choice,
    /// The option given last, while it still wants its value.
    waiting: Option<&'static str>,
    arguments: Arguments,
}

impl Parser<'_> {
    fn find(&self, name: &str) -> Option<Opt> {
        self.known.iter().find(|option| option.name == name).copied()
    }

    /// Whether a word after an option that wants a value is the next option and not that value. A negative number is a value.
    fn is_option(&self, word: &str) -> bool {
        if word.parse::<f64>().is_ok() {
            return false;
        }
        let Some(name) = word.strip_prefix('-').filter(|name| !name.is_empty()) else { return false };
        let name = name.split('=').next().unwrap_or(name);
        self.find(name).is_some()
            || name.chars().next().is_some_and(|first| self.find(first.encode_utf8(&mut [0; 4])).is_some())
    }

    fn dashed(&mut self, word: &str) -> Result<(), String> {
        let name = &word[1..];
        if let Some(option) = self.find(name) {
            return self.give_option(option);
        }
        if let Some((name, text)) = name.split_once('=') {
            let Some(option) = self.find(name).filter(|option| option.takes_value) else {
                return Err(unrecognized(word));
            };
            self.give_option(option)?;
            self.give_value(text);
            return Ok(());
        }
        // Several one-letter options in one word; the rest of the word is the value of the first that takes one.
        for (index, letter) in name.char_indices() {
            let Some(option) = self.find(letter.encode_utf8(&mut [0; 4])) else { return Err(unrecognized(word)) };
            self.give_option(option)?;
            let rest = &name[index + letter.len_utf8()..];
            if option.takes_value && !rest.is_empty() {
                self.give_value(rest);
                break;
            }
        }
        Ok(())
    }

    fn give_option(&mut self, option: Opt) -> Result<(), String> {
        self.require_no_waiting()?;
        if self.choice != Choice::Any
            && let Some((earlier, _)) = self.arguments.options.iter().find(|(earlier, _)| *earlier != option.name)
        {
            return Err(format!(
                "org.apache.commons.cli.AlreadySelectedException: The option '{}' was specified but an option from this \
                 group has already been selected: '{earlier}'",
                option.name
            ));
        }
        self.arguments.options.push((option.name, None));
        self.waiting = option.takes_value.then_some(option.name);
        Ok(())
    }

    fn give_value(&mut self, text: &str) {
        self.waiting = None;
        if let Some((_, value)) = self.arguments.options.last_mut() {
            *value = Some(text.to_owned());
        }
    }

    fn require_no_waiting(&self) -> Result<(), String> {
        match self.waiting {
            Some(name) => {
                Err(format!("org.apache.commons.cli.MissingArgumentException: Missing argument for option: {name}"))
            }
            None => Ok(()),
        }
    }
}

fn unrecognized(word: &str) -> String {
    format!("org.apache.commons.cli.UnrecognizedOptionException: Unrecognized option: {word}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Opt; 4] = [flag("s"), flag("w"), value("v"), value("add")];

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn parsed(line: &str) -> Result<Arguments, String> {
        parse(&words(line), &KNOWN, Choice::Any)
    }

    #[test]
    fn options_may_stand_anywhere() {
        let arguments = parsed("/a -s data -v 3").unwrap();
        assert_eq!(arguments.words, ["/a", "data"]);
        assert!(arguments.has("s") && !arguments.has("w"));
        assert_eq!(arguments.version().unwrap(), Some(3));
    }

    #[test]
    fn values_may_be_glued_or_negative() {
        for (line, version) in
            [("-v 7", Some(7)), ("-v7", Some(7)), ("-v=7", Some(7)), ("-sv7", Some(7)), ("-v -1", None)]
        {
            assert_eq!(parsed(line).unwrap().version().unwrap(), version, "{line}");
        }
        let arguments = parsed("-sw -add server.1=a:1:2;3").unwrap();
        assert!(arguments.has("s") && arguments.has("w"));
        assert_eq!(arguments.value("add"), Some("server.1=a:1:2;3"));
        assert!(parsed("-v x").unwrap().version().is_err());
    }

    #[test]
    fn two_dashes_end_the_options() {
        assert_eq!(parsed("-s /a -- -5").unwrap().words, ["/a", "-5"]);
        assert_eq!(parsed("/a -").unwrap().words, ["/a", "-"]);
    }

    #[test]
    fn options_of_ours_have_two_dashes() {
        let known = [flag("-dry-run"), value("-name"), flag("d")];
        let parsed = |line: &str| parse(&words(line), &known, Choice::Any);
        let arguments = parsed("/a --dry-run --name x*").unwrap();
        assert!(arguments.has("-dry-run") && !arguments.has("d"));
        assert_eq!((arguments.value("-name"), arguments.words.concat().as_str()), (Some("x*"), "/a"));
        assert_eq!(parsed("--name=a=b").unwrap().value("-name"), Some("a=b"));
        for line in ["--dry", "--dry-run=1", "--d"] {
            let text = format!("org.apache.commons.cli.UnrecognizedOptionException: Unrecognized option: {line}");
            assert_eq!(parsed(line), Err(text));
        }
        assert!(parsed("--name --dry-run").unwrap_err().ends_with("Missing argument for option: -name"));
    }

    #[test]
    fn refusals_have_the_originals_words() {
        for line in ["/a -x", "/a -sx", "/a -5", "/a --s", "/a -s=1"] {
            let word = line.split(' ').nth(1).unwrap();
            let text = format!("org.apache.commons.cli.UnrecognizedOptionException: Unrecognized option: {word}");
            assert_eq!(parsed(line), Err(text));
        }
        for line in ["/a -v", "/a -v -s"] {
            let text = "org.apache.commons.cli.MissingArgumentException: Missing argument for option: v".to_owned();
            assert_eq!(parsed(line), Err(text));
        }
    }

    #[test]
    fn one_of_a_group() {
        let group = [value("n").described("num soft quota"), value("b").described("bytes soft quota")];
        let text = "org.apache.commons.cli.AlreadySelectedException: The option 'b' was specified but an option from this \
                    group has already been selected: 'n'";
        assert_eq!(parse(&words("-n 5 -b 100 /app"), &group, Choice::ExactlyOne), Err(text.to_owned()));
        let text = "org.apache.commons.cli.MissingOptionException: Missing required option: [-n num soft quota, -b bytes \
                    soft quota]";
        assert_eq!(parse(&words("/app"), &group, Choice::ExactlyOne), Err(text.to_owned()));
        assert!(parse(&words("/app"), &group, Choice::AtMostOne).is_ok());
    }
}
