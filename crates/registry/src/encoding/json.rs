//! Instances in JSON.

use std::io::Write;

use super::Detail;
use super::fields::{self, Field};
use crate::application::{Application, Record};
use crate::instance::{Instance, Pair};
use crate::status::Status;

/// An application without the name of its root.
pub(super) fn application(out: &mut Vec<u8>, application: &Application, detail: Detail) {
    out.extend_from_slice(b"{\"name\":");
    string(out, &application.name);
    out.extend_from_slice(b",\"instance\":[");
    for (place, record) in application.records.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        instance(out, record, record.instance.status, detail);
    }
    out.extend_from_slice(b"]}");
}

/// An instance without the name of its root.
pub(super) fn instance(out: &mut Vec<u8>, record: &Record, status: Status, detail: Detail) {
    let mut separator = b'{';
    let put = |name: &'static str, field: Field<'_>| {
        out.push(separator);
        separator = b',';
        quoted(out, name);
        out.push(b':');
        value(out, field);
    };
    match detail {
        Detail::Full => fields::full(record, status, put),
        Detail::Compact => fields::compact(record, put),
    }
    out.push(b'}');
}

/// What a client said, without what the registry adds.
pub(super) fn contents(out: &mut Vec<u8>, instance: &Instance) {
    let record = Record {
        instance: std::sync::Arc::new(Instance {
            status: Status::Unknown,
            overridden_status: Status::Unknown,
            ..instance.clone()
        }),
        times: Default::default(),
        updated_ms: 0,
        action: crate::ActionType::Added,
    };
    self::instance(out, &record, Status::Unknown, Detail::Full);
}

pub(super) fn value(out: &mut Vec<u8>, field: Field<'_>) {
    match field {
        Field::Text(text) => string(out, text),
        Field::Number(number) => write(out, format_args!("{number}")),
        Field::NumberAsText(number) => write(out, format_args!("\"{number}\"")),
        Field::Port(port) => write(out, format_args!("{{\"$\":{},\"@enabled\":\"{}\"}}", port.number, port.enabled)),
        Field::DataCenter(data_center) => {
            write(
                out,
                format_args!("{{\"@class\":\"{}\",\"name\":\"{}\"", fields::class_of(data_center), data_center.name),
            );
            if let Some(amazon) = &data_center.amazon {
                out.extend_from_slice(b",\"metadata\":");
                pairs(out, &amazon.metadata);
            }
            out.push(b'}');
        }
        Field::Lease { renewal_interval_s, duration_s, times } => {
            let mut separator = '{';
            for (name, number) in fields::lease(renewal_interval_s, duration_s, times) {
                write(out, format_args!("{separator}\"{name}\":{number}"));
                separator = ',';
            }
            out.push(b'}');
        }
        Field::Metadata([]) => write(out, format_args!("{{\"@class\":\"{}\"}}", fields::EMPTY_MAP)),
        Field::Metadata(metadata) => pairs(out, metadata),
    }
}

fn pairs(out: &mut Vec<u8>, pairs: &[Pair]) {
    let mut separator = b'{';
    for (key, value) in pairs {
        out.push(separator);
        separator = b',';
        string(out, key);
        out.push(b':');
        string(out, value);
    }
    if pairs.is_empty() {
        out.push(b'{');
    }
    out.push(b'}');
}

/// A string with everything escaped that JSON wants escaped.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        quoted(out, text);
    } else {
        // Writing a string into memory cannot fail.
        let _ = serde_json::to_writer(out, text);
    }
}

/// A string that needs no escaping.
fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn write(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    // Writing into memory cannot fail.
    let _ = out.write_fmt(arguments);
}
