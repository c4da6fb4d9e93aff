//! Instances in XML: full ones indented by two blanks, compact ones on one line, as the original writes them.
//!
//! Keys of metadata become names of elements. Characters that a name may not have are written as the original's library writes them: `_` as `__`, `$`
//! as `_-`, others as `_.` and four hexadecimal digits.

use std::io::Write;

use super::Detail;
use super::fields::{self, Field};
use crate::application::{Application, Record};
use crate::instance::Pair;
use crate::status::Status;

/// Writes elements, indented or not.
#[derive(Debug)]
pub(super) struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// The depth of the next element; none where nothing is indented.
    depth: Option<usize>,
}

impl<'o> Writer<'o> {
    pub fn new(out: &'o mut Vec<u8>, detail: Detail, depth: usize) -> Writer<'o> {
        Writer { out, depth: Some(depth).filter(|_| detail == Detail::Full) }
    }

    pub fn open(&mut self, name: &str, attribute: Option<(&str, &str)>) {
        self.start(name, attribute);
        self.newline();
        self.depth = self.depth.map(|depth| depth + 1);
    }

    pub fn close(&mut self, name: &str) {
        self.depth = self.depth.map(|depth| depth - 1);
        self.indent();
        self.end(name);
    }

    pub fn text(&mut self, name: &str, attribute: Option<(&str, &str)>, text: &str) {
        self.start(name, attribute);
        escape(self.out, text);
        self.end(name);
    }

    fn number(&mut self, name: &str, attribute: Option<(&str, &str)>, number: i64) {
        self.start(name, attribute);
        write(self.out, format_args!("{number}"));
        self.end(name);
    }

    fn start(&mut self, name: &str, attribute: Option<(&str, &str)>) {
        self.indent();
        write(self.out, format_args!("<{name}"));
        if let Some((key, value)) = attribute {
            write(self.out, format_args!(" {key}=\"{value}\""));
        }
        self.out.push(b'>');
    }

    fn end(&mut self, name: &str) {
        write(self.out, format_args!("</{name}>"));
        self.newline();
    }

    fn indent(&mut self) {
        for _ in 0..self.depth.unwrap_or(0) {
            self.out.extend_from_slice(b"  ");
        }
    }

    fn newline(&mut self) {
        if self.depth.is_some() {
            self.out.push(b'\n');
        }
    }
}

pub(super) fn application(writer: &mut Writer<'_>, application: &Application, detail: Detail) {
    writer.open("application", None);
    writer.text("name", None, &application.name);
    for record in &application.records {
        instance(writer, record, record.instance.status, detail);
    }
    writer.close("application");
}

pub(super) fn instance(writer: &mut Writer<'_>, record: &Record, status: Status, detail: Detail) {
    writer.open("instance", None);
    match detail {
        Detail::Full => fields::full(record, status, |name, value| field(writer, name, value)),
        Detail::Compact => fields::compact(record, |name, value| field(writer, name, value)),
    }
    writer.close("instance");
}

pub(super) fn field(writer: &mut Writer<'_>, name: &'static str, field: Field<'_>) {
    let name = if name == "overriddenStatus" { "overriddenstatus" } else { name };
    match field {
        Field::Text(text) => writer.text(name, None, text),
        Field::Number(number) | Field::NumberAsText(number) => writer.number(name, None, number),
        Field::Port(port) => {
            let enabled = if port.enabled { "true" } else { "false" };
            writer.number(name, Some(("enabled", enabled)), i64::from(port.number));
        }
        Field::DataCenter(data_center) => {
            writer.open(name, Some(("class", fields::class_of(data_center))));
            writer.text("name", None, data_center.name);
            if let Some(amazon) = &data_center.amazon {
                pairs(writer, &amazon.metadata);
            }
            writer.close(name);
        }
        Field::Lease { renewal_interval_s, duration_s, times } => {
            writer.open(name, None);
            for (name, number) in fields::lease(renewal_interval_s, duration_s, times) {
                writer.number(name, None, number);
            }
            writer.close(name);
        }
        Field::Metadata([]) => {
            writer.indent();
            write(writer.out, format_args!("<{name} class=\"{}\"/>", fields::EMPTY_MAP));
            writer.newline();
        }
        Field::Metadata(metadata) => pairs(writer, metadata),
    }
}

fn pairs(writer: &mut Writer<'_>, pairs: &[Pair]) {
    writer.open("metadata", None);
    for (key, value) in pairs {
        writer.text(&element_name(key), None, value);
    }
    writer.close("metadata");
}

/// A key as the name of an element.
fn element_name(key: &str) -> String {
    let mut name = String::with_capacity(key.len());
    for (place, character) in key.chars().enumerate() {
        match character {
            '$' => name.push_str("_-"),
            '_' => name.push_str("__"),
            _ if is_in_name(character, place == 0) => name.push(character),
            // The original knows characters of 16 bits only.
            _ => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    name.push_str(&format!("_.{unit:04x}"));
                }
            }
        }
    }
    if name.is_empty() {
        // A key without characters cannot be the name of an element. An escaped character that no key has stands for the key.
        name.push_str("_.0000");
    }
    name
}

fn is_in_name(character: char, first: bool) -> bool {
    match character {
        'A'..='Z' | 'a'..='z' => true,
        '0'..='9' | '-' | '.' => !first,
        '\u{b7}' => !first,
        '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}' | '\u{370}'..='\u{37d}' => true,
        '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}' => true,
        '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' => true,
        _ => false,
    }
}

/// Text with everything escaped that XML wants escaped. A character that XML cannot hold is replaced.
fn escape(out: &mut Vec<u8>, text: &str) {
    let mut buffer = [0; 4];
    for character in text.chars() {
        let escaped: &[u8] = match character {
            '<' => b"&lt;",
            '>' => b"&gt;",
            '&' => b"&amp;",
            '"' => b"&quot;",
            '\'' => b"&apos;",
            '\r' => b"&#xd;",
            '\t' | '\n' => character.encode_utf8(&mut buffer).as_bytes(),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => "\u{fffd}".as_bytes(),
            _ => character.encode_utf8(&mut buffer).as_bytes(),
        };
        out.extend_from_slice(escaped);
    }
}

fn write(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    // Writing into memory cannot fail.
    let _ = out.write_fmt(arguments);
}
