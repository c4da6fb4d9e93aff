//! Moments, as people write them and as they are told.

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Milliseconds since 1970 of `2026-11-28T03:00:00Z`, of the same with another offset, or of a time of the machine's zone: `2026-11-28
/// 03:00:00`. A time that the zone does not have, or has twice, is an error.
pub fn parse(text: &str, zone: &TimeZone) -> Result<i64> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.as_millisecond());
    }
    let time: DateTime = text.parse().with_context(|| {
        format!("{text:?} is no time: write 2026-11-28T03:00:00Z, or 2026-11-28 03:00:00 in the zone of this machine")
    })?;
    let moment = zone.to_ambiguous_zoned(time).unambiguous().with_context(|| {
        format!(
            "{text:?} is not there, or twice, in the zone of this machine: write it in UTC, as 2026-11-28T03:00:00Z"
        )
    })?;
    Ok(moment.timestamp().as_millisecond())
}

/// As [`parse`] takes it.
pub fn shown(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |timestamp| timestamp.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        for (text, ms) in [
            ("1970-01-01T00:00:01Z", 1000),
            ("1970-01-01T00:00:01.5Z", 1500),
            ("1970-01-01T01:00:01+01:00", 1000),
            ("1970-01-01 01:00:01", 1000),
        ] {
            assert_eq!(parse(text, &zone).unwrap(), ms, "{text}");
        }
        // An hour that is there twice, and one that is not.
        for text in ["2026-10-25 02:30:00", "2026-03-29 02:30:00", "yesterday"] {
            assert!(parse(text, &zone).is_err(), "{text}");
        }
        assert_eq!(shown(1500), "1970-01-01T00:00:01.5Z");
    }
}
