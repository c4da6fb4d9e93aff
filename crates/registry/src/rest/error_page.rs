//! The bodies of refusals. Clients look at the status only; the page is for people.

use super::{Answer, JSON, XML};
use crate::encoding::Format;

/// `format`: none where the client takes neither, and gets no page.
pub(super) fn answer(status: u16, path: &str, wall_ms: i64, format: Option<Format>) -> Answer {
    let reason = reason(status);
    let when = timestamp(wall_ms);
    match format {
        Some(Format::Json) => {
            // Serializing text cannot fail.
            let path = serde_json::to_string(path).unwrap_or_default();
            let page =
                format!("{{\"timestamp\":\"{when}\",\"status\":{status},\"error\":\"{reason}\",\"path\":{path}}}");
            Answer::with(status, JSON, page.into_bytes())
        }
        Some(Format::Xml) => {
            let path = path.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let page = format!(
                "<Map><timestamp>{when}</timestamp><status>{status}</status><error>{reason}</error><path>{path}</path></Map>"
            );
            Answer::with(status, XML, page.into_bytes())
        }
        None => Answer::empty(status),
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        410 => "Gone",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}

/// A moment as ISO 8601 writes it, to the millisecond.
fn timestamp(wall_ms: i64) -> String {
    let moment = jiff::Timestamp::from_millisecond(wall_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{moment:.3}")
}

#[cfg(test)]
mod tests {
    use super::timestamp;

    #[test]
    fn moments_are_written_as_the_original_writes_them() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(timestamp(1_795_737_702_573), "2026-11-27T00:01:42.573Z");
        assert_eq!(timestamp(951_782_400_000), "2000-02-29T00:00:00.000Z");
    }
}
