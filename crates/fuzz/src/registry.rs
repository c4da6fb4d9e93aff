//! What clients and other servers send to the service registry, in JSON and in XML.
//!
//! The input: the first byte says which, the rest is the body, or a request's line and headers. What always holds: what is taken is written and read
//! again as the same; the registry counts right whatever it was told; a list that was compressed is the list.

use std::io::Read as _;

use flate2::read::GzDecoder;
use rookeeper_registry::encoding::{
    self, Detail, Form, Format, Refused, read_answers, read_applications, read_batch, read_instance,
};
use rookeeper_registry::rest::{self, Parts};
use rookeeper_registry::{Caller, Instance, Now, Registry, Settings, Status};

const NOW: Now = Now { wall_ms: 1_700_000_000_000, steady_ms: 1000 };

pub fn run(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else { return };
    match kind % 6 {
        0 => registration(Format::Json, body),
        1 => registration(Format::Xml, body),
        2 => {
            let _ = read_batch(body, NOW);
            batch(body);
        }
        3 => {
            let _ = read_answers(body, NOW);
        }
        4 => {
            let copied = read_applications(body, NOW).unwrap_or_default();
            let mut registry = open();
            copied.into_iter().for_each(|instance| taken(&mut registry, instance));
            lists(&mut registry);
        }
        _ => request(body),
    }
}

fn open() -> Registry {
    let mut registry = Registry::new(Settings { max_bytes: 8 << 20, ..Settings::default() }, NOW);
    registry.open(0, NOW);
    registry
}

fn registration(format: Format, body: &[u8]) {
    // The application in the path is the one in the body: otherwise most inputs are refused for nothing else.
    let app = match read_instance(format, body, "", NOW) {
        Err(refused) => match refused.to_string().split_once("expecting  but was ") {
            Some((_, app)) => app.to_owned(),
            None => return,
        },
        Ok(instance) => instance.app.to_string(),
    };
    let Ok(instance) = read_instance(format, body, &app, NOW) else { return };
    let mut registry = open();
    let id = instance.id.clone();
    taken(&mut registry, instance);
    let Some(record) = registry.record(&app, &id) else { return };
    let written = encoding::instance(&record, record.instance.status, Format::Json);
    let again = read_instance(Format::Json, &written, &app, NOW);
    assert_eq!(again.as_ref(), Ok(&*record.instance), "{}", String::from_utf8_lossy(&written));
    let xml = encoding::instance(&record, record.instance.status, Format::Xml);
    assert!(std::str::from_utf8(&xml).is_ok());
    // XML cannot hold every character of a name, so the name may be another one then.
    let again = read_instance(Format::Xml, &xml, &app, NOW);
    assert!(!matches!(again, Err(Refused::Unreadable)), "{}", String::from_utf8_lossy(&xml));
    lists(&mut registry);
    assert!(registry.cancel(&app, &id, NOW));
    assert_eq!((registry.len(), registry.bytes()), (0, 0));
}

fn taken(registry: &mut Registry, instance: Instance) {
    registry.register(instance, Caller::Replica, NOW);
    let counted: u64 = Status::ALL.into_iter().map(|status| registry.count(status)).sum();
    let listed: usize = registry.applications().applications.iter().map(|app| app.records.len()).sum();
    assert_eq!((counted as usize, listed), (registry.len(), registry.len()));
}

fn lists(registry: &mut Registry) {
    let list = registry.applications();
    for format in [Format::Json, Format::Xml] {
        for detail in [Detail::Full, Detail::Compact] {
            let form = Form { format, detail };
            let plain = encoding::applications(&list, form, false).pieces.concat();
            let packed = encoding::applications(&list, form, true).pieces.concat();
            let mut unpacked = Vec::new();
            let read = GzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked);
            assert!(read.is_ok() && unpacked == plain);
        }
    }
}

fn batch(body: &[u8]) {
    let mut registry = open();
    if let Ok(request) = rest::read(&Parts::BATCH) {
        let answer = request.with_body(body, NOW).ask(&mut registry, NOW).answer();
        assert!(matches!(answer.status, 200 | 400 | 500));
        if answer.status == 200 {
            assert!(read_answers(&answer.body.pieces.concat(), NOW).is_ok());
        }
    }
}

/// Lines: method, path, query, Accept, Accept-Encoding, Content-Type, the body.
fn request(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.splitn(7, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let (method, path, query) = (next(), next(), next());
    let parts = Parts {
        method,
        path,
        query,
        accept: Some(next()),
        accept_encoding: Some(next()),
        content_type: Some(next()),
        ..Parts::default()
    };
    let mut registry = open();
    let answer = match rest::read(&parts) {
        Ok(request) => request.with_body(next().as_bytes(), NOW).ask(&mut registry, NOW).answer(),
        Err(answer) => answer,
    };
    assert!((200..600).contains(&answer.status));
}
