//! `ROOKEEPER_LOG`: what is logged.
//!
//! A list of levels, at most one of them bare, the others for modules: `debug`, `warn,rookeeper_server=debug`. A word that is no level is an
//! error and never a name of something to log: a server that is silent because of a typing mistake is found at the worst moment.

use std::fmt;

use tracing_subscriber::filter::{LevelFilter, Targets};

/// The environment variable.
pub(super) const VARIABLE: &str = "ROOKEEPER_LOG";

const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// A value that says nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct WrongFilter {
    value: String,
    word: String,
}

impl fmt::Display for WrongFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WrongFilter { value, word } = self;
        write!(formatter, "{VARIABLE}={}: {:?} is no level", value.escape_debug(), word)?;
        let lower = word.to_ascii_lowercase();
        let nearest = LEVELS.iter().map(|(name, _)| (strsim::osa_distance(name, &lower), name)).min();
        if let Some((distance, name)) = nearest
            && distance <= 2
        {
            write!(formatter, "; did you mean {name}?")?;
        }
        let names = LEVELS.map(|(name, _)| name).join(", ");
        write!(formatter, " Allowed: {names}, and MODULE=LEVEL such as rookeeper_server=debug, separated by commas")
    }
}

/// The level that the variable sets; `info` where it sets none.
pub(super) fn parse(value: &str) -> Result<Targets, WrongFilter> {
    let mut targets = Targets::new().with_default(LevelFilter::INFO);
    for word in value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (module, level) = word.rsplit_once('=').map_or((None, word), |(module, level)| (Some(module), level));
        let known = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(level));
        let Some((_, level)) = known else {
            return Err(WrongFilter { value: value.to_owned(), word: level.to_owned() });
        };
        targets = match module {
            None => targets.with_default(*level),
            Some(module) => targets.with_target(module, *level),
        };
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_are_for_all_or_for_a_module() {
        let enabled = |value: &str, module: &str, level: Level| parse(value).unwrap().would_enable(module, &level);
        for value in ["", "info", " INFO ,", "rookeeper_zab=debug"] {
            assert!(enabled(value, "rookeeper_server", Level::INFO), "{value}");
            assert!(!enabled(value, "rookeeper_server", Level::DEBUG), "{value}");
        }
        let value = "off,rookeeper_server::commands=debug";
        assert!(enabled(value, "rookeeper_server::commands", Level::DEBUG));
        assert!(!enabled(value, "rookeeper_server", Level::ERROR));
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_by_name() {
        for (value, word, meant) in [
            ("inof", "inof", "did you mean info?"),
            ("debug,rookeeper_server=wran", "wran", "did you mean warn?"),
            ("rookeeper_server", "rookeeper_server", "Allowed: off, error"),
            ("a=", "", "Allowed"),
        ] {
            let text = parse(value).unwrap_err().to_string();
            assert!(text.starts_with(&format!("ROOKEEPER_LOG={value}: {word:?} is no level")), "{text}");
            assert!(text.contains(meant), "{text}");
        }
    }
}
