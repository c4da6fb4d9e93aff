//! Which resource a request asks for, in which form it wants the answer, and what is refused before the registry is asked.

use super::changes::Follows;
use super::{Answer, JSON, Said, XML, error_page};
use crate::encoding::{Detail, Form, Format};
use crate::holdings::Vip;
use crate::registry::Caller;

/// The parts of a request that matter, as they came.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts<'a> {
    pub method: &'a str,
    /// Percent-encoded.
    pub path: &'a str,
    /// What stands after the `?`, percent-encoded.
    pub query: &'a str,
    pub accept: Option<&'a str>,
    pub accept_encoding: Option<&'a str>,
    pub content_type: Option<&'a str>,
    /// `X-Eureka-Accept`.
    pub eureka_accept: Option<&'a str>,
    /// `x-netflix-discovery-replication`.
    pub replication: Option<&'a str>,
    /// The wall clock, in milliseconds since the Unix epoch: error pages show it.
    pub wall_ms: i64,
}

impl Parts<'static> {
    /// Those of a batch that another server passes on.
    pub const BATCH: Parts<'static> = Parts {
        method: "POST",
        path: "/eureka/peerreplication/batch/",
        query: "",
        accept: Some("application/json"),
        accept_encoding: None,
        content_type: Some("application/json"),
        eureka_accept: None,
        replication: Some("true"),
        wall_ms: 0,
    };
}

/// A request that is understood. Its body, if it needs one, is still to be read.
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) resource: Resource,
    pub(super) method: Method,
    pub(super) form: Form,
    pub(super) gzip: bool,
    pub(super) caller: Caller,
    /// How the body is written; none where the method has none.
    pub(super) content: Option<Format>,
    pub(super) said: Said,
    pub(super) query: Vec<(String, String)>,
    /// Where a delta is asked for from a version on.
    pub(super) follows: Option<Follows>,
    /// For error pages: the path as it came, and whether the answer may be JSON or XML.
    pub(super) path: String,
    pub(super) wall_ms: i64,
}

/// Applications are in upper case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    Applications,
    Delta,
    Application(String),
    Instance(String, String),
    Status(String, String),
    Metadata(String, String),
    AnyApplication(String),
    Vip(Vip, String),
    Batch,
    /// A group of Amazon's, which nobody but Amazon has.
    Group,
    /// The server itself.
    Server,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Put,
    Post,
    Delete,
}

impl Request {
    /// Whether a body belongs to the request.
    pub fn has_body(&self) -> bool {
        self.content.is_some()
    }

    /// In which format the server itself is asked for, which it answers alone: see [`super::about_server`].
    pub fn about_server(&self) -> Option<Format> {
        Some(self.form.format).filter(|_| self.resource == Resource::Server)
    }

    /// Whether the client asks for what came after a version, and may wait for it.
    pub fn follows(&self) -> bool {
        self.follows.is_some()
    }

    /// Whether the request comes from another server, with several changes at once.
    pub fn is_batch(&self) -> bool {
        self.resource == Resource::Batch
    }

    /// The first value of a parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Understands a request, or answers it.
pub fn read(parts: &Parts<'_>) -> Result<Request, Answer> {
    let pages = wanted(parts.accept);
    let refuse = |status| Err(error_page::answer(status, parts.path, parts.wall_ms, pages));
    // A slash that is no separator is refused by the server below the original.
    if parts.path.to_ascii_lowercase().contains("%2f") {
        return refuse(400);
    }
    let Some(resource) = resource(parts.path) else { return refuse(404) };
    let allowed = resource.methods();
    let method = match parts.method {
        "GET" | "HEAD" => Method::Get,
        "PUT" => Method::Put,
        "POST" => Method::Post,
        "DELETE" => Method::Delete,
        "OPTIONS" => {
            return Err(Answer { allow: Some(allowed), content_type: Some(JSON), ..Answer::empty(200) });
        }
        _ => return refuse(405).map_err(|answer| Answer { allow: Some(allowed), ..answer }),
    };
    if !allowed.split(',').any(|name| name == parts.method || (parts.method == "HEAD" && name == "GET")) {
        return refuse(405).map_err(|answer| Answer { allow: Some(allowed), ..answer });
    }
    let Some(format) = pages else { return refuse(406) };
    let content = match method {
        Method::Post => match parts.content_type.and_then(content) {
            Some(content) => Some(content),
            None => return refuse(415),
        },
        _ => None,
    };
    let query = parameters(parts.query);
    let parameter = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let follows = match Follows::read(parameter) {
        Ok(follows) => follows.filter(|_| resource == Resource::Delta),
        Err(()) if resource == Resource::Delta => return refuse(400),
        Err(()) => None,
    };
    let detail = if parts.eureka_accept == Some("compact") { Detail::Compact } else { Detail::Full };
    Ok(Request {
        gzip: matches!(resource, Resource::Applications | Resource::Delta) && takes_gzip(parts.accept_encoding),
        resource,
        method,
        form: Form { format, detail },
        caller: if parts.replication == Some("true") { Caller::Replica } else { Caller::Client },
        content,
        said: Said::Nothing,
        query,
        follows,
        path: parts.path.to_owned(),
        wall_ms: parts.wall_ms,
    })
}

impl Resource {
    /// As the header `Allow` names them.
    fn methods(&self) -> &'static str {
        match self {
            Resource::Applications | Resource::Delta | Resource::AnyApplication(_) | Resource::Server => "GET,OPTIONS",
            Resource::Vip(..) => "GET,OPTIONS",
            Resource::Application(_) => "POST,GET,OPTIONS",
            Resource::Instance(..) => "GET,PUT,DELETE,OPTIONS",
            Resource::Status(..) => "PUT,DELETE,OPTIONS",
            Resource::Metadata(..) | Resource::Group => "PUT,OPTIONS",
            Resource::Batch => "POST,OPTIONS",
        }
    }
}

fn resource(path: &str) -> Option<Resource> {
    let path = path.strip_prefix("/eureka/")?;
    let path = path.strip_prefix("v2/").unwrap_or(path);
    let mut names = path.strip_suffix('/').unwrap_or(path).split('/').map(|name| decoded(name, false));
    let first = names.next()??;
    let mut rest = Vec::new();
    for name in names {
        rest.push(name?);
        if rest.len() > 3 {
            return None;
        }
    }
    let app = |name: &str| name.to_uppercase();
    Some(match (first.as_str(), rest.as_slice()) {
        ("apps", []) => Resource::Applications,
        // An application that is called DELTA is found in capitals only.
        ("apps", [name]) if name == "delta" => Resource::Delta,
        ("apps", [name]) => Resource::Application(app(name)),
        ("apps", [name, id]) => Resource::Instance(app(name), id.clone()),
        ("apps", [name, id, last]) if last == "status" => Resource::Status(app(name), id.clone()),
        ("apps", [name, id, last]) if last == "metadata" => Resource::Metadata(app(name), id.clone()),
        ("instances", [id]) => Resource::AnyApplication(id.clone()),
        ("vips", [name]) => Resource::Vip(Vip::Plain, name.clone()),
        ("svips", [name]) => Resource::Vip(Vip::Secure, name.clone()),
        ("peerreplication", [last]) if last == "batch" => Resource::Batch,
        ("asg", [_, last]) if last == "status" => Resource::Group,
        ("status", []) => Resource::Server,
        _ => return None,
    })
}

/// Undoes percent-encoding; none for what is no text. `form`: a `+` is a blank.
fn decoded(text: &str, form: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'%' => {
                let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &tail[2..];
            }
            b'+' if form => bytes.push(b' '),
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

fn parameters(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(key, true)?, decoded(value, true)?))
        })
        .collect()
}

fn content(content_type: &str) -> Option<Format> {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case(JSON) {
        Some(Format::Json)
    } else if kind.eq_ignore_ascii_case(XML) {
        Some(Format::Xml)
    } else {
        None
    }
}

/// The format that a client likes best; none where it takes neither. Whoever says nothing gets XML.
///
/// The original sends JSON labelled as XML to those who name both and like XML better. Here the label is that of the body.
pub(super) fn wanted(accept: Option<&str>) -> Option<Format> {
    let accept = accept.map(str::trim).filter(|accept| !accept.is_empty()).unwrap_or("*/*");
    let mut best: Option<(f32, Format)> = None;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0f32);
        let format = match kind.as_str() {
            JSON => Format::Json,
            XML | "application/*" | "*/*" => Format::Xml,
            _ => continue,
        };
        if weight > 0.0 && best.is_none_or(|(most, _)| weight > most) {
            best = Some((weight, format));
        }
    }
    best.map(|(_, format)| format)
}

fn takes_gzip(accept_encoding: Option<&str>) -> bool {
    accept_encoding.unwrap_or_default().split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let refused = parts.any(|part| part.strip_prefix("q=").and_then(|q| q.parse().ok()) == Some(0.0f32));
        matches!(name.as_str(), "gzip" | "x-gzip") && !refused
    })
}
