//! How an event is written: a line in the original's layout, or a JSON object on a line.
//!
//! What always holds here: the fields come in the original's order, and absent ones are left out; an event is one line for each change; what comes
//! from a client can't begin a line or a field of its own, and who somebody is takes no more room than [`MAX_USER_BYTES`].
//!
//! Counterpart in the original: `AuditEvent`, `AuditHelper`, and the pattern of its logger, `%d{ISO8601} %p %c{2}: %m%n`.

use std::fmt::Write as _;
use std::net::IpAddr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::{Id, Permissions, SessionId, path};
use rookeeper_replica::{Audited, Fate, Operation};

use super::event::{Event, Result, SessionEvent};
use crate::config::AuditFormat;

/// A client may have shown very many identities, each of which may be long.
const MAX_USER_BYTES: usize = 1024;

/// Writes events as lines.
#[derive(Debug)]
pub(super) struct Lines {
    format: AuditFormat,
    /// Of the original's times, which have no zone.
    zone: TimeZone,
    /// Who runs this server.
    server_user: Option<String>,
    /// The last time that was written, in milliseconds, and as it was: many events share one.
    stamp: (i64, String),
}

/// The fields of a line, in their order.
#[derive(Debug, Default)]
struct Fields<'a> {
    session: Option<SessionId>,
    user: Option<&'a str>,
    ip: Option<IpAddr>,
    operation: &'a str,
    znode: Option<&'a str>,
    znode_type: Option<&'a str>,
    acl: Option<&'a str>,
}

impl Lines {
    pub fn new(format: AuditFormat, server_user: Option<String>) -> Lines {
        Lines { format, zone: TimeZone::system(), server_user, stamp: (i64::MIN, String::new()) }
    }

    #[cfg(test)]
    pub fn in_zone(format: AuditFormat, server_user: Option<String>, zone: TimeZone) -> Lines {
        Lines { format, zone, server_user, stamp: (i64::MIN, String::new()) }
    }

    /// Appends the lines of an event that happened at this time.
    pub fn append(&mut self, at: Timestamp, event: &Event, output: &mut String) {
        if self.stamp.0 != at.as_millisecond() {
            self.stamp = (at.as_millisecond(), self.stamp_of(at));
        }
        self.append_lines(event, output);
    }

    fn append_lines(&self, event: &Event, output: &mut String) {
        let server_user = self.server_user.as_deref();
        let mut put = |fields: Fields<'_>, result| self.put(&fields, result, output);
        match event {
            Event::Server { operation, result } => {
                put(Fields { user: server_user, operation, ..Fields::default() }, *result);
            }
            Event::Request { request, fate } => self.put_request(request, fate, &mut put),
            Event::Ephemerals { session, paths } => {
                for path in paths {
                    let (operation, znode) = ("ephemeralZNodeDeletionOnSessionCloseOrExpire", Some(&**path));
                    let session = Some(*session);
                    put(Fields { session, user: server_user, operation, znode, ..Fields::default() }, Result::Success);
                }
            }
            Event::Session { event, session, client, identities } => {
                let operation = match event {
                    SessionEvent::Opened => "sessionOpen",
                    SessionEvent::Resumed => "sessionResume",
                };
                let user = users(identities);
                put(of_client(*session, *client, user.as_deref(), operation), Result::Success);
            }
            Event::Expired { session } => {
                let (session, operation) = (Some(*session), "sessionExpire");
                put(Fields { session, user: server_user, operation, ..Fields::default() }, Result::Success);
            }
            Event::NotAuthenticated { session, client, identities } => {
                let user = identities.as_ref().and_then(|identities| users(identities));
                put(of_client(*session, *client, user.as_deref(), "authentication"), Result::Failure);
            }
        }
    }

    fn put_request(&self, request: &Audited, fate: &Fate, put: &mut impl FnMut(Fields<'_>, Result)) {
        let user = users(&request.identities);
        let fields = |operation| of_client(request.session, request.client, user.as_deref(), operation);
        let (result, mut names) = match fate {
            Fate::Done { sequential } => (Result::Success, sequential.iter()),
            Fate::Failed => (Result::Failure, [].iter()),
            Fate::Unknown => (Result::Invoked, [].iter()),
        };
        let mut put_one = |operation: &Operation| {
            let name = if operation.is_sequential() { names.next() } else { None };
            match operation {
                Operation::Create { path, flags } => {
                    let znode = name.or(path.as_ref()).map(String::as_str);
                    put(Fields { znode, znode_type: node_type(*flags), ..fields("create") }, result);
                }
                Operation::Delete { path } => put(Fields { znode: path.as_deref(), ..fields("delete") }, result),
                Operation::SetData { path } => put(Fields { znode: path.as_deref(), ..fields("setData") }, result),
                Operation::SetAcl { path, acl } => {
                    let separator = if self.format == AuditFormat::Json { "," } else { "" };
                    let acl = acl.as_ref().map(|acl| written(acl, separator));
                    put(Fields { znode: path.as_deref(), acl: acl.as_deref(), ..fields("setAcl") }, result);
                }
                Operation::Multi(_) => put(fields("multiOperation"), result),
                Operation::Reconfig => {
                    // As in the original, which knows the node by what was done to it.
                    let znode = (result == Result::Success).then_some(path::CONFIG);
                    put(Fields { znode, ..fields("reconfig") }, result);
                }
                Operation::CloseSession => put(fields("sessionClose"), result),
                Operation::ResumeSession => put(fields("sessionResume"), result),
            }
        };
        match &request.operation {
            Operation::Multi(members) if result == Result::Success => members.iter().for_each(put_one),
            operation => put_one(operation),
        }
    }

    fn stamp_of(&self, at: Timestamp) -> String {
        match self.format {
            AuditFormat::Text => at.to_zoned(self.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S,%3f").to_string(),
            AuditFormat::Json => format!("{at:.3}"),
        }
    }

    fn put(&self, fields: &Fields<'_>, result: Result, output: &mut String) {
        let stamp = self.stamp.1.as_str();
        let level = if result == Result::Failure { "ERROR" } else { "INFO" };
        let result = match result {
            Result::Success => "success",
            Result::Failure => "failure",
            Result::Invoked => "invoked",
        };
        match self.format {
            AuditFormat::Text => {
                let _ = write!(output, "{stamp} {level} audit.Slf4jAuditLogger: ");
                fields.each(|key, value| {
                    let _ = write!(output, "{key}=");
                    put_text(value, output);
                    output.push('\t');
                });
                let _ = writeln!(output, "result={result}");
            }
            AuditFormat::Json => {
                let _ = write!(output, "{{\"time\":\"{stamp}\",\"level\":\"{level}\",");
                fields.each(|key, value| {
                    let _ = write!(output, "\"{key}\":");
                    put_json(value, output);
                    output.push(',');
                });
                let _ = writeln!(output, "\"result\":\"{result}\"}}");
            }
        }
    }
}

impl Fields<'_> {
    fn each(&self, mut put: impl FnMut(&str, &str)) {
        let mut put_if_any = |key, value: Option<&str>| {
            if let Some(value) = value {
                put(key, value);
            }
        };
        let session = self.session.map(|session| format!("0x{:x}", session.0));
        let ip = self.ip.map(|ip| ip.to_string());
        put_if_any("session", session.as_deref());
        put_if_any("user", self.user);
        put_if_any("ip", ip.as_deref());
        put_if_any("operation", Some(self.operation));
        put_if_any("znode", self.znode);
        put_if_any("znode_type", self.znode_type);
        put_if_any("acl", self.acl);
    }
}

fn of_client<'a>(session: SessionId, client: IpAddr, user: Option<&'a str>, operation: &'a str) -> Fields<'a> {
    let session = (session != SessionId::NONE).then_some(session);
    Fields { session, user, ip: Some(client), operation, ..Fields::default() }
}

/// All identities without their schemes, the address last; none where there is nothing to tell.
fn users(identities: &[Id]) -> Option<String> {
    let (addresses, gained): (Vec<&Id>, Vec<&Id>) = identities.iter().partition(|id| id.scheme == "ip");
    let mut text = String::new();
    for name in gained.into_iter().chain(addresses).filter_map(user) {
        if !text.is_empty() {
            text.push(',');
        }
        if text.len() + name.len() > MAX_USER_BYTES {
            text.push_str("...");
            break;
        }
        text.push_str(name);
    }
    (!text.is_empty()).then_some(text)
}

/// The name in an identity. That of a super user says nothing that the identity which made it one does not.
fn user(id: &Id) -> Option<&str> {
    let name = match &*id.scheme {
        "super" => "",
        "digest" => id.id.split(':').next().unwrap_or_default(),
        _ => &id.id,
    };
    Some(name).filter(|name| !name.trim().is_empty())
}

fn node_type(flags: i32) -> Option<&'static str> {
    Some(match flags {
        0 => "persistent",
        1 => "ephemeral",
        2 => "persistent_sequential",
        3 => "ephemeral_sequential",
        4 => "container",
        5 => "persistent_with_ttl",
        6 => "persistent_sequential_with_ttl",
        _ => return None,
    })
}

fn written(acl: &[AclRequest], separator: &str) -> String {
    let entries = acl.iter().map(|entry| {
        let (scheme, id) = (entry.scheme.as_deref().unwrap_or("null"), entry.id.as_deref().unwrap_or("null"));
        let letters = [
            (Permissions::CREATE, 'c'),
            (Permissions::DELETE, 'd'),
            (Permissions::READ, 'r'),
            (Permissions::WRITE, 'w'),
            (Permissions::ADMIN, 'a'),
        ];
        let letters = letters.into_iter().filter(|(bit, _)| entry.permissions.intersects(*bit));
        let letters: String = letters.map(|(_, letter)| letter).collect();
        format!("{scheme}:{id}:{letters}")
    });
    entries.collect::<Vec<_>>().join(separator)
}

/// Characters that would end a field or a line are written as their numbers.
fn put_text(value: &str, output: &mut String) {
    for character in value.chars() {
        match character {
            control if is_unsafe(control) => drop(write!(output, "\\u{:04x}", u32::from(control))),
            other => output.push(other),
        }
    }
}

fn put_json(value: &str, output: &mut String) {
    output.push('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => output.extend(['\\', character]),
            control if is_unsafe(control) => drop(write!(output, "\\u{:04x}", u32::from(control))),
            other => output.push(other),
        }
    }
    output.push('"');
}

/// Control characters, and those at which some readers of text begin another line.
fn is_unsafe(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}
