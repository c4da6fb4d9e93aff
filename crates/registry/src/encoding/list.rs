//! Lists, put together from applications that were encoded before. Whatever is large is shared, not copied.

use std::sync::{Arc, OnceLock};

use super::gzip::{Deflated, Gzip};
use super::xml::{self, Writer};
use super::{Detail, Form, Format, json};
use crate::application::{Application, Applications, Record};
use crate::status::Status;

/// Pieces below this size are copied together, so that a list of many small applications does not become as many pieces.
const PIECE_BYTES: usize = 64 * 1024;

/// The bytes of an answer, in pieces.
#[derive(Debug, Clone, Default)]
pub struct Body {
    pub pieces: Vec<Arc<[u8]>>,
    /// The length of all of them.
    pub length: usize,
}

/// An application in one form.
#[derive(Debug)]
pub(super) struct Fragment {
    plain: Arc<[u8]>,
    deflated: OnceLock<Deflated>,
}

/// One instance. `status`: the one to be shown.
pub fn instance(record: &Record, status: Status, format: Format) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    match format {
        Format::Json => {
            out.extend_from_slice(b"{\"instance\":");
            json::instance(&mut out, record, status, Detail::Full);
            out.push(b'}');
        }
        Format::Xml => xml::instance(&mut Writer::new(&mut out, Detail::Full, 0), record, status, Detail::Full),
    }
    out
}

/// One application.
pub fn application(application: &Application, form: Form) -> Body {
    let fragment = fragment(application, form);
    let mut plain = Plain::default();
    match form.format {
        Format::Json => {
            plain.glue(b"{\"application\":");
            plain.fragment(fragment);
            plain.glue(b"}");
        }
        Format::Xml => plain.fragment(fragment),
    }
    plain.finish()
}

/// Fewer instances than this are encoded in no time.
const FEW: usize = 50;

/// Whether little is to be encoded before a list of applications can be put together.
pub fn is_encoded(list: &Applications, form: Form, gzip: bool) -> bool {
    let missing = |application: &&Arc<Application>| match application.encoded.0[form.index()].get() {
        Some(fragment) => gzip && fragment.deflated.get().is_none(),
        None => true,
    };
    list.applications.iter().filter(missing).map(|application| application.records.len()).sum::<usize>() < FEW
}

/// A list of applications.
pub fn applications(applications: &Applications, form: Form, gzip: bool) -> Body {
    if gzip {
        let mut gzip = Gzip::default();
        assemble(applications, form, &mut |part| match part {
            Part::Glue(bytes) => gzip.stored(bytes),
            Part::Application(fragment) => gzip.deflated(fragment.deflated()),
        });
        gzip.finish()
    } else {
        let mut plain = Plain::default();
        assemble(applications, form, &mut |part| match part {
            Part::Glue(bytes) => plain.glue(bytes),
            Part::Application(fragment) => plain.fragment(fragment),
        });
        plain.finish()
    }
}

enum Part<'a> {
    Glue(&'a [u8]),
    Application(&'a Fragment),
}

fn assemble(list: &Applications, form: Form, put: &mut dyn FnMut(Part<'_>)) {
    let Applications { version, hash, applications } = list;
    let (head, separator, tail) = match (form.format, form.detail) {
        (Format::Json, Detail::Full) => (
            format!(
                "{{\"applications\":{{\"versions__delta\":\"{version}\",\"apps__hashcode\":\"{hash}\",\"application\":["
            ),
            ",",
            "]}}".to_owned(),
        ),
        (Format::Json, Detail::Compact) => (
            "{\"applications\":{\"application\":[".to_owned(),
            ",",
            format!(
                "],\"registeredApplicationsEmpty\":{},\"versions__delta\":\"{version}\",\"apps__hashcode\":\"{hash}\"}}}}",
                applications.is_empty()
            ),
        ),
        (Format::Xml, Detail::Full) => (
            format!(
                "<applications>\n  <versions__delta>{version}</versions__delta>\n  <apps__hashcode>{hash}</apps__hashcode>\n"
            ),
            "",
            "</applications>".to_owned(),
        ),
        (Format::Xml, Detail::Compact) => (
            "<applications>".to_owned(),
            "",
            format!(
                "<registeredApplicationsEmpty>{}</registeredApplicationsEmpty><versions__delta>{version}</versions__delta>\
                 <apps__hashcode>{hash}</apps__hashcode></applications>",
                applications.is_empty()
            ),
        ),
    };
    put(Part::Glue(head.as_bytes()));
    for (place, application) in applications.iter().enumerate() {
        if place > 0 {
            put(Part::Glue(separator.as_bytes()));
        }
        put(Part::Application(fragment(application, form)));
    }
    put(Part::Glue(tail.as_bytes()));
}

fn fragment(application: &Application, form: Form) -> &Fragment {
    application.encoded.0[form.index()].get_or_init(|| {
        let mut out = Vec::new();
        match form.format {
            Format::Json => json::application(&mut out, application, form.detail),
            Format::Xml => xml::application(&mut Writer::new(&mut out, form.detail, 1), application, form.detail),
        }
        Fragment { plain: out.into(), deflated: OnceLock::new() }
    })
}

impl Fragment {
    fn deflated(&self) -> &Deflated {
        self.deflated.get_or_init(|| Deflated::new(&self.plain))
    }
}

/// Collects pieces.
#[derive(Debug, Default)]
pub(super) struct Plain {
    body: Body,
    small: Vec<u8>,
}

impl Plain {
    pub fn glue(&mut self, bytes: &[u8]) {
        self.small.extend_from_slice(bytes);
        if self.small.len() >= PIECE_BYTES {
            self.flush();
        }
    }

    pub fn shared(&mut self, piece: &Arc<[u8]>) {
        if piece.len() < PIECE_BYTES {
            return self.glue(piece);
        }
        self.flush();
        self.body.length += piece.len();
        self.body.pieces.push(piece.clone());
    }

    fn fragment(&mut self, fragment: &Fragment) {
        self.shared(&fragment.plain);
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.body.length += self.small.len();
            self.body.pieces.push(std::mem::take(&mut self.small).into());
        }
    }

    pub fn finish(mut self) -> Body {
        self.flush();
        self.body
    }
}
