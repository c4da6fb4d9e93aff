//! JSON as the original writes it, so that whoever goes by its lines finds them: `"key" : value`, two spaces deeper in each object, lists on one line.
//!
//! What always holds here: what comes out is valid JSON, whatever the texts are; nothing is written any more once the answer is longer than its limit.

use std::fmt::{self, Display, Write as _};

/// A value that is not made of others.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar<'a> {
    /// Not known here.
    Null,
    Flag(bool),
    Whole(i64),
    Count(u64),
    /// With one to four decimals.
    Ratio(f64),
    Text(&'a str),
}

/// An answer while it is written.
#[derive(Debug)]
struct Page {
    text: String,
    limit: usize,
    /// Objects that are open.
    depth: usize,
}

/// An object that is being written.
#[derive(Debug)]
pub(super) struct Object<'a> {
    page: &'a mut Page,
    is_empty: bool,
}

/// A list that is being written.
#[derive(Debug)]
pub(super) struct List<'a> {
    page: &'a mut Page,
    is_empty: bool,
}

/// The answer would be longer than it may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// A whole answer: one object.
pub(super) fn document<E: From<TooLong>>(
    limit: usize,
    fill: impl FnOnce(&mut Object<'_>) -> Result<(), E>,
) -> Result<String, E> {
    let mut page = Page { text: String::new(), limit, depth: 0 };
    page.object(fill)?;
    if page.is_over() { Err(TooLong.into()) } else { Ok(page.text) }
}

impl Page {
    fn is_over(&self) -> bool {
        self.text.len() > self.limit
    }

    fn push(&mut self, text: &str) {
        if !self.is_over() {
            self.text.push_str(text);
        }
    }

    fn line(&mut self) {
        if !self.is_over() {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n("  ", self.depth));
        }
    }

    fn scalar(&mut self, value: &Scalar<'_>) {
        if !self.is_over() {
            // Writing to memory does not fail.
            let _ = write!(self.text, "{value}");
        }
    }

    fn object<E>(&mut self, fill: impl FnOnce(&mut Object<'_>) -> Result<(), E>) -> Result<(), E> {
        self.push("{");
        self.depth += 1;
        let mut object = Object { page: self, is_empty: true };
        let filled = fill(&mut object);
        let is_empty = object.is_empty;
        self.depth -= 1;
        if is_empty {
            self.push(" ");
        } else {
            self.line();
        }
        self.push("}");
        filled
    }

    fn list<E>(&mut self, fill: impl FnOnce(&mut List<'_>) -> Result<(), E>) -> Result<(), E> {
        self.push("[");
        let filled = fill(&mut List { page: self, is_empty: true });
        self.push(" ]");
        filled
    }
}

impl Object<'_> {
    fn name(&mut self, name: &str) {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.page.push(",");
        }
        self.page.line();
        self.page.scalar(&Scalar::Text(name));
        self.page.push(" : ");
    }

    pub fn scalar<'b>(&mut self, name: &str, value: impl Into<Scalar<'b>>) {
        self.name(name);
        self.page.scalar(&value.into());
    }

    pub fn object<E>(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>) -> Result<(), E>) -> Result<(), E> {
        self.name(name);
        self.page.object(fill)
    }

    pub fn list<E>(&mut self, name: &str, fill: impl FnOnce(&mut List<'_>) -> Result<(), E>) -> Result<(), E> {
        self.name(name);
        self.page.list(fill)
    }

    /// A list of values that are not made of others.
    pub fn scalars<'b, T: Into<Scalar<'b>>>(&mut self, name: &str, values: impl IntoIterator<Item = T>) {
        self.name(name);
        let Ok(()) = self.page.list(|list| {
            values.into_iter().for_each(|value| list.scalar(value));
            Ok::<(), std::convert::Infallible>(())
        });
    }
}

impl List<'_> {
    fn next(&mut self) {
        let is_first = std::mem::replace(&mut self.is_empty, false);
        self.page.push(if is_first { " " } else { ", " });
    }

    pub fn scalar<'b>(&mut self, value: impl Into<Scalar<'b>>) {
        self.next();
        self.page.scalar(&value.into());
    }

    pub fn object<E>(&mut self, fill: impl FnOnce(&mut Object<'_>) -> Result<(), E>) -> Result<(), E> {
        self.next();
        self.page.object(fill)
    }
}

impl Display for Scalar<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Null => formatter.write_str("null"),
            Scalar::Flag(value) => value.fmt(formatter),
            Scalar::Whole(value) => value.fmt(formatter),
            Scalar::Count(value) => value.fmt(formatter),
            // There is no such number in JSON.
            Scalar::Ratio(value) if !value.is_finite() => write!(formatter, "\"{value}\""),
            Scalar::Ratio(value) => write!(formatter, "{:?}", (value * 10_000.0).round() / 10_000.0),
            Scalar::Text(text) => {
                formatter.write_char('"')?;
                text.chars().try_for_each(|character| write_escaped(formatter, character))?;
                formatter.write_char('"')
            }
        }
    }
}

fn write_escaped(formatter: &mut fmt::Formatter<'_>, character: char) -> fmt::Result {
    match character {
        '"' => formatter.write_str("\\\""),
        '\\' => formatter.write_str("\\\\"),
        '\n' => formatter.write_str("\\n"),
        '\r' => formatter.write_str("\\r"),
        '\t' => formatter.write_str("\\t"),
        '\u{8}' => formatter.write_str("\\b"),
        '\u{c}' => formatter.write_str("\\f"),
        control if control < ' ' => write!(formatter, "\\u{:04X}", u32::from(control)),
        other => formatter.write_char(other),
    }
}

impl From<bool> for Scalar<'_> {
    fn from(value: bool) -> Self {
        Scalar::Flag(value)
    }
}

impl From<i64> for Scalar<'_> {
    fn from(value: i64) -> Self {
        Scalar::Whole(value)
    }
}

impl From<i32> for Scalar<'_> {
    fn from(value: i32) -> Self {
        Scalar::Whole(i64::from(value))
    }
}

impl From<u64> for Scalar<'_> {
    fn from(value: u64) -> Self {
        Scalar::Count(value)
    }
}

impl From<u32> for Scalar<'_> {
    fn from(value: u32) -> Self {
        Scalar::Count(u64::from(value))
    }
}

impl From<u16> for Scalar<'_> {
    fn from(value: u16) -> Self {
        Scalar::Count(u64::from(value))
    }
}

impl From<usize> for Scalar<'_> {
    fn from(value: usize) -> Self {
        Scalar::Count(value as u64)
    }
}

impl From<f64> for Scalar<'_> {
    fn from(value: f64) -> Self {
        Scalar::Ratio(value)
    }
}

impl<'a> From<&'a str> for Scalar<'a> {
    fn from(value: &'a str) -> Self {
        Scalar::Text(value)
    }
}

impl<'a, T: Into<Scalar<'a>>> From<Option<T>> for Scalar<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Scalar::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_and_lists_are_laid_out_as_the_original_lays_them_out() {
        let text = document(1 << 10, |answer| {
            answer.object("empty", |_| Ok::<(), TooLong>(()))?;
            answer.scalars("none", [""; 0]);
            answer.scalars("ids", [-1i64, 2]);
            answer.list("all", |all| {
                (0..2).try_for_each(|number| {
                    all.object(|one| {
                        one.scalar("number", number as i64);
                        Ok::<(), TooLong>(())
                    })
                })
            })?;
            answer.scalar("error", None::<&str>);
            Ok::<(), TooLong>(())
        });
        let expected = "{\n  \"empty\" : { },\n  \"none\" : [ ],\n  \"ids\" : [ -1, 2 ],\n  \"all\" : [ {\n    \"number\" : 0\n  }, {\n    \
                        \"number\" : 1\n  } ],\n  \"error\" : null\n}";
        assert_eq!(text.unwrap(), expected);
    }

    #[test]
    fn any_text_stays_inside_its_quotes() {
        let text = document(1 << 10, |answer| {
            answer.scalar("a\"b", "\\ \" \n \r \t \u{8} \u{c} \u{1b} ä");
            Ok::<(), TooLong>(())
        });
        assert_eq!(text.unwrap(), "{\n  \"a\\\"b\" : \"\\\\ \\\" \\n \\r \\t \\b \\f \\u001B ä\"\n}");
    }

    #[test]
    fn numbers_have_the_decimals_of_the_original() {
        let shown = |value: f64| Scalar::from(value).to_string();
        assert_eq!([0.0, 2.0 / 3.0, 83.0].map(shown), ["0.0", "0.6667", "83.0"]);
        assert_eq!(shown(f64::NAN), "\"NaN\"");
        assert_eq!(Scalar::from(u64::MAX).to_string(), "18446744073709551615");
    }

    #[test]
    fn an_answer_ends_where_it_is_too_long() {
        let fill = |answer: &mut Object<'_>| {
            answer.scalars("many", 0..1_000_000i64);
            Ok::<(), TooLong>(())
        };
        assert_eq!(document(1 << 10, fill), Err(TooLong));
    }
}
