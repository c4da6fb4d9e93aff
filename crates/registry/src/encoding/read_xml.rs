//! Registrations in XML. Unknown elements are ignored; a document type, and so each entity that it could declare, is refused.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::draft::{Draft, DraftDataCenter, DraftLease, DraftPort, Metadata, Number, Refused, Text};
use super::fields::DEFAULT;

/// A registration nests four deep.
const MAX_DEPTH: usize = 16;

/// Elements of a registration. Each takes a hundred bytes, however short it is.
const MAX_ELEMENTS: usize = 20_000;

/// An element with what is in it.
#[derive(Debug, Default)]
struct Element {
    name: String,
    /// `class` or `enabled`; the others mean nothing.
    attribute: Option<String>,
    text: String,
    children: Vec<Element>,
}

pub(super) fn instance(bytes: &[u8]) -> Result<Draft, Refused> {
    let root = parse(bytes).ok_or(Refused::Unreadable)?;
    if root.name != "instance" {
        return Err(Refused::Unreadable);
    }
    let mut draft = Draft::default();
    for element in root.children {
        if element.name == "leaseInfo" {
            match lease(&element) {
                Ok(lease) => draft.lease_info = Some(lease),
                // The original reads no further after a lease that it cannot read, and then misses what follows.
                Err(_) => break,
            }
        } else {
            take(&mut draft, element)?;
        }
    }
    Ok(draft)
}

fn take(draft: &mut Draft, element: Element) -> Result<(), Refused> {
    let text = match element.name.as_str() {
        "instanceId" => &mut draft.instance_id,
        "hostName" => &mut draft.host_name,
        "app" => &mut draft.app,
        "ipAddr" => &mut draft.ip_addr,
        "sid" => &mut draft.sid,
        "status" => &mut draft.status,
        "overriddenStatus" => &mut draft.overridden_status,
        "overriddenstatus" => &mut draft.overridden_status_too,
        "appGroupName" => &mut draft.app_group_name,
        "homePageUrl" => &mut draft.home_page_url,
        "statusPageUrl" => &mut draft.status_page_url,
        "healthCheckUrl" => &mut draft.health_check_url,
        "secureHealthCheckUrl" => &mut draft.secure_health_check_url,
        "vipAddress" => &mut draft.vip_address,
        "secureVipAddress" => &mut draft.secure_vip_address,
        "asgName" => &mut draft.asg_name,
        "port" => {
            draft.port = Some(port(element)?);
            return Ok(());
        }
        "securePort" => {
            draft.secure_port = Some(port(element)?);
            return Ok(());
        }
        "countryId" => {
            draft.country_id = Number::parse(&element.text)?;
            return Ok(());
        }
        "lastDirtyTimestamp" => {
            draft.last_dirty_timestamp = Number::parse(&element.text)?;
            return Ok(());
        }
        "dataCenterInfo" => {
            draft.data_center_info = Some(data_center(element));
            return Ok(());
        }
        "metadata" => {
            draft.metadata = Some(metadata(element));
            return Ok(());
        }
        _ => return Ok(()),
    };
    *text = Text::new(&element.text);
    Ok(())
}

fn port(element: Element) -> Result<DraftPort, Refused> {
    Ok(DraftPort { number: Number::parse(&element.text)?, enabled: Text(element.attribute.map(Into::into)) })
}

fn lease(element: &Element) -> Result<DraftLease, Refused> {
    let mut lease = DraftLease::default();
    for child in &element.children {
        match child.name.as_str() {
            "renewalIntervalInSecs" => lease.renewal_interval_in_secs = Number::parse(&child.text)?,
            "durationInSecs" => lease.duration_in_secs = Number::parse(&child.text)?,
            _ => {}
        }
    }
    Ok(lease)
}

fn data_center(element: Element) -> DraftDataCenter {
    let class = element.attribute.unwrap_or_else(|| DEFAULT.to_owned());
    let mut draft = DraftDataCenter { class: Text::new(&class), ..DraftDataCenter::default() };
    for child in element.children {
        match child.name.as_str() {
            "name" => draft.name = Text::new(&child.text),
            "metadata" => draft.metadata = Some(metadata(child)),
            _ => {}
        }
    }
    draft
}

fn metadata(element: Element) -> Metadata {
    Metadata::collect(element.children.into_iter().map(|child| (key(&child.name).into(), child.text.into())))
}

/// The key that was written as the name of an element: see `xml.rs`.
fn key(name: &str) -> String {
    let mut units: Vec<u16> = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(character) = rest.chars().next() {
        let escaped = rest.strip_prefix("_.").and_then(|digits| u16::from_str_radix(digits.get(..4)?, 16).ok());
        let (unit, length) = match escaped {
            Some(unit) => (unit, 6),
            None if rest.starts_with("__") => (u16::from(b'_'), 2),
            None if rest.starts_with("_-") => (u16::from(b'$'), 2),
            None => {
                units.extend(character.encode_utf16(&mut [0; 2]).iter());
                rest = &rest[character.len_utf8()..];
                continue;
            }
        };
        units.push(unit);
        rest = &rest[length..];
    }
    String::from_utf16_lossy(&units)
}

/// The root of a document, none for whatever is no document.
fn parse(bytes: &[u8]) -> Option<Element> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    let mut elements = 0;
    loop {
        let closed = match reader.read_event().ok()? {
            Event::Start(start) => {
                if root.is_some() || open.len() == MAX_DEPTH {
                    return None;
                }
                elements += 1;
                open.push(element(&start)?);
                continue;
            }
            Event::Empty(start) if root.is_none() => {
                elements += 1;
                element(&start)?
            }
            Event::End(_) => open.pop()?,
            Event::Text(text) => {
                let text: &str = &text;
                match open.last_mut() {
                    Some(element) => element.text.push_str(text),
                    None if text.trim().is_empty() => {}
                    None => return None,
                }
                continue;
            }
            Event::CData(text) => {
                open.last_mut()?.text.push_str(&text);
                continue;
            }
            Event::GeneralRef(reference) => {
                let character = match reference.resolve_char_ref().ok()? {
                    Some(character) => character,
                    None => match &*reference {
                        "lt" => '<',
                        "gt" => '>',
                        "amp" => '&',
                        "quot" => '"',
                        "apos" => '\'',
                        _ => return None,
                    },
                };
                open.last_mut()?.text.push(character);
                continue;
            }
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => continue,
            Event::Eof => return root.filter(|_| open.is_empty()),
            Event::Empty(_) | Event::DocType(_) => return None,
        };
        if elements > MAX_ELEMENTS {
            return None;
        }
        match open.last_mut() {
            Some(parent) => parent.children.push(closed),
            None => root = Some(closed),
        }
    }
}

fn element(start: &BytesStart<'_>) -> Option<Element> {
    let name = start.name().into_inner().to_owned();
    let mut attribute = None;
    for pair in start.attributes() {
        let pair = pair.ok()?;
        if matches!(pair.key.into_inner(), "class" | "enabled") {
            attribute = Some(pair.value.into_owned());
        }
    }
    Some(Element { name, attribute, ..Element::default() })
}
