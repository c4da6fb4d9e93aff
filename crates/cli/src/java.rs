//! What the original's tools take from Java when they print: dates, jute's text form, and the order in which hash tables are walked.

use std::cmp::Ordering;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `Mon Nov 23 02:27:12 UTC 2026`, the form of Java's `Date`.
pub fn date(milliseconds: i64, zone: &TimeZone) -> String {
    formatted(milliseconds, zone, "%a %b %d %H:%M:%S %Z %Y")
}

/// `11/23/26, 2:12:26 AM UTC`, Java's short date with a long time.
pub fn short_date(milliseconds: i64, zone: &TimeZone) -> String {
    formatted(milliseconds, zone, "%-m/%-d/%y, %-I:%M:%S %p %Z")
}

/// `Nov 23, 2026, 2:29:18 AM`, Java's medium date and time.
pub fn medium_date(milliseconds: i64, zone: &TimeZone) -> String {
    formatted(milliseconds, zone, "%b %-d, %Y, %-I:%M:%S %p")
}

fn formatted(milliseconds: i64, zone: &TimeZone, form: &str) -> String {
    match Timestamp::from_millisecond(milliseconds) {
        Ok(timestamp) => timestamp.to_zoned(zone.clone()).strftime(form).to_string(),
        // Not a date any calendar has; the number is all there is to say.
        Err(_) => format!("{milliseconds} ms"),
    }
}

/// The inside of a string in jute's comma-separated text form.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\0' | '\n' | '\r' | '%' | ',' | '}' => escaped.push_str(&format!("%{:02X}", character as u32)),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The order of Java's strings, which goes by the units of UTF-16.
pub fn compare(left: &str, right: &str) -> Ordering {
    left.encode_utf16().cmp(right.encode_utf16())
}

/// The hash of a string.
pub fn hash_of_text(text: &str) -> u32 {
    text.encode_utf16().fold(0, |hash: u32, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)))
}

/// The hash of a number of 64 bits.
pub fn hash_of_long(number: i64) -> u32 {
    let number = number as u64;
    (number ^ (number >> 32)) as u32
}

/// Puts what was inserted in this order into the order in which a hash table is walked that began with room for `capacity` buckets, a power
/// of two. Where more than eight share a bucket the original may have turned it into a tree, whose order is another.
pub fn sort_as_hash_table<T>(items: &mut [T], capacity: usize, hash: impl Fn(&T) -> u32) {
    let mut capacity = capacity;
    while items.len() * 4 > capacity * 3 {
        capacity *= 2;
    }
    items.sort_by_key(|item| {
        let hash = hash(item);
        (hash ^ (hash >> 16)) as usize & (capacity - 1)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let milliseconds = 1_795_400_832_000;
        assert_eq!(date(milliseconds, &TimeZone::UTC), "Mon Nov 23 02:27:12 UTC 2026");
        assert_eq!(short_date(milliseconds, &TimeZone::UTC), "11/23/26, 2:27:12 AM UTC");
        assert_eq!(medium_date(milliseconds, &TimeZone::UTC), "Nov 23, 2026, 2:27:12 AM");
        assert_eq!(date(i64::MAX, &TimeZone::UTC), "9223372036854775807 ms");
    }

    #[test]
    fn hashes_and_orders() {
        assert_eq!(hash_of_text("persistent"), 0x1e8b_8e97);
        assert_eq!(hash_of_text(""), 0);
        assert_eq!(hash_of_long(-1), 0);
        assert_eq!(hash_of_long(1 << 32), 1);
        // A surrogate comes before what is behind the surrogates, unlike in UTF-8.
        assert_eq!(compare("\u{10000}", "\u{ffff}"), Ordering::Less);
        // Seven need sixteen buckets, six have room in eight: then 9 shares the bucket of 1, and comes behind it.
        let mut seven = [9, 1, 2, 3, 4, 5, 6];
        sort_as_hash_table(&mut seven, 8, |number| *number);
        assert_eq!(seven, [1, 2, 3, 4, 5, 6, 9]);
        let mut six = [9, 1, 2, 3, 4, 5];
        sort_as_hash_table(&mut six, 8, |number| *number);
        assert_eq!(six, [9, 1, 2, 3, 4, 5]);
    }
}
