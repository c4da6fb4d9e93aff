//! Lists, put together from applications that were encoded before. A list is put together once in each form, and shared by all who are answered with it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::gzip::{Deflated, Gzip};
use super::xml::{self, Writer};
use super::{Detail, Form, Format, json};
use crate::application::{Application, Applications, Record};
use crate::status::Status;

/// Pieces below this size are copied together, so that a list of many small applications does not become as many pieces.
const PIECE_BYTES: usize = 64 * 1024;

/// A list up to this size is one piece, which is sent at once.
const WHOLE_BYTES: usize = 1 << 20;

/// The bytes of an answer, in pieces.
#[derive(Debug, Clone, Default)]
pub struct Body {
    pub pieces: Arc<[Bytes]>,
    /// The length of all of them.
    pub length: usize,
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        Body { length: bytes.len(), pieces: Arc::new([bytes]) }
    }
}

/// An application in one form.
#[derive(Debug)]
pub(super) struct Fragment {
    /// As it is told alone.
    alone: Body,
    /// The part of that which stands in a list.
    plain: Bytes,
    deflated: OnceLock<Deflated>,
}

/// A list as it was put together so far: in each form, plain and compressed.
#[derive(Debug, Default)]
pub(crate) struct Assembled([OnceLock<Body>; 8]);

impl Assembled {
    fn of(&self, form: Form, gzip: bool) -> &OnceLock<Body> {
        &self.0[form.index() * 2 + usize::from(gzip)]
    }
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
    fragment(application, form).alone.clone()
}

/// Fewer instances than this are encoded in no time, and so many bytes are copied.
const FEW: usize = 50;
const LITTLE_BYTES: usize = 1 << 20;

/// Whether an application was encoded before, or is soon.
pub fn is_encoded(application: &Application, form: Form) -> bool {
    application.records.len() < FEW || application.encoded.0[form.index()].get().is_some()
}

/// Whether a list of applications was put together before, or is soon.
pub fn is_assembled(list: &Applications, form: Form, gzip: bool) -> bool {
    if list.assembled.of(form, gzip).get().is_some() {
        return true;
    }
    let (mut missing, mut bytes) = (0, 0);
    list.applications.iter().all(|application| {
        let fragment = application.encoded.0[form.index()].get();
        let length = match gzip {
            false => fragment.map(|fragment| fragment.plain.len()),
            true => fragment.and_then(|fragment| fragment.deflated.get()).map(Deflated::len),
        };
        match length {
            Some(length) => bytes += length,
            None => missing += application.records.len(),
        }
        missing < FEW && bytes < LITTLE_BYTES
    })
}

/// A list of applications.
pub fn applications(applications: &Applications, form: Form, gzip: bool) -> Body {
    let put_together = || {
        let fragments = || applications.applications.iter().map(|application| fragment(application, form));
        if gzip {
            let mut gzip = Gzip::new(fragments().map(|fragment| fragment.deflated().len()).sum());
            assemble(applications, form, &mut |part| match part {
                Part::Glue(bytes) => gzip.stored(bytes),
                Part::Application(fragment) => gzip.deflated(fragment.deflated()),
            });
            gzip.finish()
        } else {
            let mut plain = Plain::new(fragments().map(|fragment| fragment.plain.len()).sum());
            assemble(applications, form, &mut |part| match part {
                Part::Glue(bytes) => plain.glue(bytes),
                Part::Application(fragment) => plain.shared(&fragment.plain),
            });
            plain.finish()
        }
    };
    applications.assembled.of(form, gzip).get_or_init(put_together).clone()
}

enum Part<'a> {
    Glue(&'a [u8]),
    Application(&'a Fragment),
}

fn assemble(list: &Applications, form: Form, put: &mut dyn FnMut(Part<'_>)) {
    let Applications { version, hash, applications, .. } = list;
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
        const HEAD: &[u8] = b"{\"application\":";
        const TAIL: &[u8] = b"}";
        let mut out = Vec::new();
        let inner = match form.format {
            Format::Json => {
                out.extend_from_slice(HEAD);
                json::application(&mut out, application, form.detail);
                out.extend_from_slice(TAIL);
                HEAD.len()..out.len() - TAIL.len()
            }
            Format::Xml => {
                xml::application(&mut Writer::new(&mut out, form.detail, 1), application, form.detail);
                0..out.len()
            }
        };
        out.shrink_to_fit();
        let alone = Bytes::from(out);
        Fragment { plain: alone.slice(inner), alone: alone.into(), deflated: OnceLock::new() }
    })
}

impl Fragment {
    fn deflated(&self) -> &Deflated {
        self.deflated.get_or_init(|| Deflated::new(&self.plain))
    }
}

/// Collects pieces.
#[derive(Debug)]
pub(super) struct Plain {
    pieces: Vec<Bytes>,
    length: usize,
    small: Vec<u8>,
    /// Pieces of this size stand for themselves.
    piece_bytes: usize,
}

impl Plain {
    /// For about so many bytes.
    pub fn new(length: usize) -> Plain {
        let piece_bytes = if length <= WHOLE_BYTES { usize::MAX } else { PIECE_BYTES };
        let small = Vec::with_capacity(if length <= WHOLE_BYTES { length + length / 8 + 256 } else { 0 });
        Plain { pieces: Vec::new(), length: 0, small, piece_bytes }
    }

    pub fn glue(&mut self, bytes: &[u8]) {
        self.small.extend_from_slice(bytes);
        if self.small.len() >= self.piece_bytes {
            self.flush();
        }
    }

    pub fn shared(&mut self, piece: &Bytes) {
        if piece.len() < self.piece_bytes {
            return self.glue(piece);
        }
        self.flush();
        self.length += piece.len();
        self.pieces.push(piece.clone());
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            let mut small = std::mem::take(&mut self.small);
            small.shrink_to_fit();
            self.length += small.len();
            self.pieces.push(small.into());
        }
    }

    pub fn finish(mut self) -> Body {
        self.flush();
        Body { pieces: self.pieces.into(), length: self.length }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::encoding::read_instance;
    use crate::{Caller, Now, Registry, Settings};

    const NOW: Now = Now { wall_ms: 1000, steady_ms: 1000 };
    const FORM: Form = Form { format: Format::Json, detail: Detail::Full };

    fn register(registry: &mut Registry, app: &str, id: &str) {
        let text = format!(
            "{{\"instance\":{{\"instanceId\":\"{id}\",\"hostName\":\"h\",\"app\":\"{app}\",\"ipAddr\":\"1.2.3.4\",\
             \"dataCenterInfo\":{{\"@class\":\"com.netflix.appinfo.MyDataCenterInfo\",\"name\":\"MyOwn\"}}}}}}"
        );
        registry.register(read_instance(Format::Json, text.as_bytes(), app, NOW).unwrap(), Caller::Client, NOW);
    }

    /// Where the bytes of each application are.
    fn places(list: &Applications) -> Vec<*const u8> {
        list.applications.iter().map(|application| fragment(application, FORM).plain.as_ptr()).collect()
    }

    #[test]
    fn a_change_leaves_the_bytes_of_all_other_applications_as_they_are() {
        let mut registry = Registry::new(Settings::default(), NOW);
        ["A", "B", "C"].into_iter().for_each(|app| register(&mut registry, app, "one"));
        let (list, delta) = (registry.applications(), registry.delta(NOW));
        let before = [places(&list), places(&delta)];
        register(&mut registry, "B", "two");
        let after = [places(&registry.applications()), places(&registry.delta(NOW))];
        for (before, after) in before.iter().zip(&after) {
            assert_eq!((before[0], before[2]), (after[0], after[2]));
            assert_ne!(before[1], after[1]);
        }
        assert_eq!(registry.delta(NOW).applications[1].records.len(), 2);
    }

    #[test]
    fn a_list_is_put_together_once_in_each_form() {
        let mut registry = Registry::new(Settings::default(), NOW);
        (0..200).for_each(|number| register(&mut registry, "A", &format!("i{number}")));
        for gzip in [false, true] {
            let list = registry.applications();
            assert!(!is_assembled(&list, FORM, gzip));
            let body = applications(&list, FORM, gzip);
            assert!(is_assembled(&registry.applications(), FORM, gzip));
            assert!(Arc::ptr_eq(&body.pieces, &applications(&registry.applications(), FORM, gzip).pieces));
        }
        register(&mut registry, "A", "another");
        assert!(!is_assembled(&registry.applications(), FORM, false));
    }
}
