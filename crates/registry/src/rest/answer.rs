//! What the registry is asked, and the answer.

use std::sync::Arc;

use super::changes::{Came, Version};
use super::request::{Method, Request, Resource};
use super::said::{Batch, Said};
use super::{Answer, JSON, XML, error_page};
use crate::Now;
use crate::application::{Application, Applications, Record};
use crate::encoding::{self, Action, Format, Item, Refused};
use crate::registry::{Caller, Heartbeat, Known, Registered, Registry};
use crate::status::Status;

/// What a client changed, for other servers to hear.
#[derive(Debug, Clone)]
pub struct Change {
    /// The application, in upper case, and the id.
    pub app: Arc<str>,
    pub id: Arc<str>,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Register,
    Heartbeat,
    Cancel,
    /// The override that was set.
    StatusUpdate(Status),
    /// What is shown instead of the override.
    DeleteStatusOverride(Status),
}

/// What the registry said. The answer is still to be written.
#[derive(Debug)]
pub struct Asked {
    told: Told,
    request: Request,
    /// The moment that is shown, where lists are.
    version: Option<Version>,
    /// How long the client wants to wait, where nothing has changed.
    waits_ms: Option<u64>,
    /// What other servers are to hear.
    pub changes: Vec<Change>,
}

#[derive(Debug)]
enum Told {
    Status(u16),
    /// A refused registration, in words.
    Lacking(String),
    Unreadable,
    Applications(Arc<Applications>),
    Application(Arc<Application>),
    Instance(u16, Record),
    Answers(Vec<encoding::Answer>),
}

impl Request {
    /// Asks the registry.
    pub fn ask(mut self, registry: &mut Registry, now: Now) -> Asked {
        let mut changes = Vec::new();
        // What was not taken in slices before.
        while self.take_slice(registry, now) {}
        let said = std::mem::take(&mut self.said);
        let (told, waits_ms) = match self.follows.filter(|_| registry.shows_lists(now) && registry.shows_deltas()) {
            None => (self.told(said, registry, now, &mut changes), None),
            Some(follows) => match registry.since(follows.since) {
                Came::Unknown => (Told::Status(410), None),
                Came::Nothing(nothing) => {
                    (Told::Applications(nothing), Some(follows.wait_ms).filter(|wait_ms| *wait_ms > 0))
                }
                Came::Changes(changes) => (Told::Applications(changes), None),
            },
        };
        let is_followed = matches!(self.resource, Resource::Applications | Resource::Delta);
        let version = Some(registry.mark()).filter(|_| is_followed && matches!(told, Told::Applications(_)));
        if self.caller == Caller::Replica {
            changes.clear();
        }
        Asked { told, request: self, version, waits_ms, changes }
    }

    fn told(&self, said: Said, registry: &mut Registry, now: Now, changes: &mut Vec<Change>) -> Told {
        let lists = matches!(
            self.resource,
            Resource::Applications | Resource::Delta | Resource::Application(_) | Resource::Vip(..)
        );
        if self.method == Method::Get && lists && !registry.shows_lists(now) {
            return Told::Status(403);
        }
        match (&self.resource, self.method) {
            (Resource::Applications, _) => Told::Applications(registry.applications()),
            (Resource::Delta, _) if !registry.shows_deltas() => Told::Status(403),
            (Resource::Delta, _) => Told::Applications(registry.delta(now)),
            (Resource::Vip(kind, name), _) => Told::Applications(Arc::new(registry.by_vip(*kind, name))),
            (Resource::Application(app), Method::Get) => {
                registry.application(app).map_or(Told::Status(404), Told::Application)
            }
            (Resource::Application(_), _) => self.register(said, registry, now, changes),
            (Resource::Instance(app, id), Method::Get) => instance(registry.record(app, id)),
            (Resource::Instance(app, id), Method::Put) => self.renew(app, id, registry, now, changes),
            (Resource::Instance(app, id), _) => done(registry.cancel(app, id, now), app, id, Kind::Cancel, changes),
            (Resource::AnyApplication(id), _) => instance(registry.record_by_id(id)),
            (Resource::Status(app, id), method) => self.set_status(app, id, method, registry, now, changes),
            (Resource::Metadata(app, id), _) => {
                let pairs = self.query.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into()));
                match registry.set_metadata(app, id, pairs, now) {
                    Some(Registered::Full) => Told::Status(507),
                    set => done(set.is_some(), app, id, Kind::Register, changes),
                }
            }
            (Resource::Batch, _) => match said {
                Said::Batch(Ok(Batch { answers, .. })) => Told::Answers(answers),
                Said::Batch(Err(refused)) => self.refused(refused),
                _ => Told::Unreadable,
            },
            (Resource::Group, _) => Told::Status(400),
            // Whoever has the registry answers for the server.
            (Resource::Server, _) => Told::Status(404),
        }
    }

    fn register(&self, said: Said, registry: &mut Registry, now: Now, changes: &mut Vec<Change>) -> Told {
        match said {
            Said::Instance(Ok(instance)) => {
                let (app, id) = (instance.app.clone(), instance.id.clone());
                match registry.register(*instance, self.caller, now) {
                    // The original knows no such refusal; a client tries again, here or elsewhere.
                    Registered::Full => return Told::Status(507),
                    Registered::Elsewhere => return Told::Status(204),
                    Registered::Taken | Registered::Older | Registered::Tied | Registered::Cancelled => {}
                }
                changes.push(Change { app, id, kind: Kind::Register });
                Told::Status(204)
            }
            Said::Instance(Err(refused)) => self.refused(refused),
            _ => Told::Unreadable,
        }
    }

    fn renew(&self, app: &str, id: &str, registry: &mut Registry, now: Now, changes: &mut Vec<Change>) -> Told {
        let dirty_ms = match self.time() {
            Ok(dirty_ms) => dirty_ms,
            Err(status) => return Told::Status(status),
        };
        let overridden = self.parameter("overriddenstatus").and_then(Status::parse);
        // Another server that does not know the mark would keep it: it gets the instance without.
        let kind = if registry.is_unconfirmed(app, id) { Kind::Register } else { Kind::Heartbeat };
        let heartbeat = registry.renew(app, id, dirty_ms, overridden, self.caller, now);
        if !matches!(heartbeat, Heartbeat::Unknown) {
            changes.push(Change { app: app.into(), id: id.into(), kind });
        }
        match heartbeat {
            Heartbeat::Renewed => Told::Status(200),
            Heartbeat::Unknown | Heartbeat::Outdated => Told::Status(404),
            Heartbeat::Conflict(record) => Told::Instance(409, record),
        }
    }

    fn set_status(
        &self,
        app: &str,
        id: &str,
        method: Method,
        registry: &mut Registry,
        now: Now,
        changes: &mut Vec<Change>,
    ) -> Told {
        let Some(record) = registry.record(app, id) else { return Told::Status(404) };
        let value = self.parameter("value");
        let status = value.and_then(Status::parse);
        let dirty_ms = match self.time() {
            Ok(dirty_ms) => dirty_ms,
            // The time is not looked at where the instance shows that status already.
            Err(_) if method == Method::Put && status == Some(record.instance.status) => None,
            Err(status) => return Told::Status(status),
        };
        // What cannot be read is answered like a fault of the server, as in the original.
        let (there, kind) = match (method, status, value) {
            (Method::Put, Some(status), _) => {
                (registry.set_override(app, id, status, dirty_ms, now), Kind::StatusUpdate(status))
            }
            (Method::Delete, Some(status), _) => {
                (registry.clear_override(app, id, status, dirty_ms, now), Kind::DeleteStatusOverride(status))
            }
            (Method::Delete, None, None) => {
                let status = Status::Unknown;
                (registry.clear_override(app, id, status, dirty_ms, now), Kind::DeleteStatusOverride(status))
            }
            _ => return Told::Status(500),
        };
        done(there, app, id, kind, changes)
    }

    /// The version that the sender knows. A time that is no number is answered like a fault of the server, as in the original.
    fn time(&self) -> Result<Option<i64>, u16> {
        match self.parameter("lastDirtyTimestamp") {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| 500),
        }
    }

    fn refused(&self, refused: Refused) -> Told {
        match refused {
            Refused::Lacking(what) => Told::Lacking(what),
            Refused::Unreadable => Told::Unreadable,
            Refused::Nothing => Told::Status(500),
        }
    }
}

impl Asked {
    /// How long the answer may wait for a change before it says that there is none; none where it is not to wait.
    pub fn waits_ms(&self) -> Option<u64> {
        self.waits_ms
    }

    /// Whether writing the answer takes little: what is long was encoded before.
    pub fn is_ready(&self) -> bool {
        match &self.told {
            Told::Applications(applications) => {
                encoding::is_assembled(applications, self.request.form, self.request.gzip)
            }
            Told::Application(application) => encoding::is_encoded(application, self.request.form),
            _ => true,
        }
    }

    /// Writes the answer.
    pub fn answer(self) -> Answer {
        let Request { form, gzip, content, path, wall_ms, .. } = self.request;
        let version = self.version;
        let content_type = match form.format {
            Format::Json => JSON,
            Format::Xml => XML,
        };
        let body = match self.told {
            Told::Status(status @ (200 | 204)) => return Answer::empty(status),
            Told::Status(status) => return error_page::answer(status, &path, wall_ms, Some(form.format)),
            Told::Lacking(what) => return Answer::with(400, content_type, what.into_bytes()),
            Told::Unreadable => {
                return match content {
                    Some(Format::Xml) => {
                        let page = "<error><message>cannot parse request body</message></error>";
                        Answer::with(400, XML, page.into())
                    }
                    _ => Answer::with(400, JSON, "{\"error\": \"cannot parse request body\"}".into()),
                };
            }
            Told::Instance(status, record) => {
                // Without a version that means something in the path, XML tells of one instance what the protocol's first version knew.
                let shown = match form.format {
                    Format::Xml => record.instance.status.as_first_version(),
                    Format::Json => record.instance.status,
                };
                return Answer::with(status, content_type, encoding::instance(&record, shown, form.format));
            }
            Told::Answers(answers) => return Answer::with(200, JSON, encoding::write_answers(&answers)),
            Told::Application(application) => encoding::application(&application, form),
            Told::Applications(applications) => encoding::applications(&applications, form, gzip),
        };
        Answer { status: 200, content_type: Some(content_type), gzip, allow: None, version, body }
    }
}

fn instance(record: Option<Record>) -> Told {
    record.map_or(Told::Status(404), |record| Told::Instance(200, record))
}

fn done(there: bool, app: &str, id: &str, kind: Kind, changes: &mut Vec<Change>) -> Told {
    if !there {
        return Told::Status(404);
    }
    changes.push(Change { app: app.into(), id: id.into(), kind });
    Told::Status(200)
}

/// What another server passed on.
pub(super) fn apply(item: Item, registry: &mut Registry, now: Now) -> encoding::Answer {
    let Item { app, id, dirty_ms, status, overridden, set, contents, action } = item;
    let (app, id) = (app.as_str(), id.as_str());
    let found = |there: bool| if there { 200 } else { 404 };
    let answer = |status| encoding::Answer { status, instance: None, set: None };
    // A service of the coordination tree is not replicated: what another server says of it has no effect, and is not to be said again.
    if registry.is_claimed(app) {
        return answer(200);
    }
    // What stands here is told to a server of this kind, which takes it over.
    let stands = |registry: &Registry| match registry.record(app, id) {
        Some(record) => {
            let set = set.map(|_| registry.override_since(app, id));
            encoding::Answer { status: 409, instance: Some(record), set }
        }
        None => answer(404),
    };
    let status = status.as_deref();
    match action {
        Action::Register(None) => answer(200),
        Action::Register(Some(instance)) => {
            let registered = registry.register_set(*instance, set, Caller::Replica, now);
            // The original always answers that all is well.
            let is_better = matches!(registered, Registered::Older | Registered::Tied)
                || set.is_some_and(|set| set.at_ms < registry.override_since(app, id).at_ms);
            if set.is_some() && is_better { stands(registry) } else { answer(200) }
        }
        Action::Heartbeat => {
            let mut heartbeat = registry.renew(app, id, dirty_ms, overridden, Caller::Replica, now);
            let status = status.and_then(Status::parse);
            if let (Heartbeat::Renewed, Some(set), Some(contents), Some(status)) = (&heartbeat, set, contents, status) {
                heartbeat = registry.compare(app, id, &Known { status, set, contents }, now);
            }
            match heartbeat {
                Heartbeat::Renewed => answer(200),
                Heartbeat::Unknown | Heartbeat::Outdated => answer(404),
                Heartbeat::Conflict(_) => stands(registry),
            }
        }
        Action::Cancel => answer(found(registry.cancel(app, id, now))),
        Action::StatusUpdate => match (status.and_then(Status::parse), set) {
            (Some(status), Some(set)) => {
                let taken = registry.override_from((app, id), Some(status), status, dirty_ms, set.at_ms, now);
                taken.map_or_else(|| stands(registry), |()| answer(200))
            }
            (Some(status), None) => answer(found(registry.set_override(app, id, status, dirty_ms, now))),
            (None, _) => answer(500),
        },
        Action::DeleteStatusOverride => match (status.map(Status::parse), dirty_ms) {
            (Some(None), _) | (_, None) => answer(500),
            (status, dirty_ms) => {
                let status = status.flatten().unwrap_or(Status::Unknown);
                match set {
                    Some(set) => {
                        let taken = registry.override_from((app, id), None, status, dirty_ms, set.at_ms, now);
                        taken.map_or_else(|| stands(registry), |()| answer(200))
                    }
                    None => answer(found(registry.clear_override(app, id, status, dirty_ms, now))),
                }
            }
        },
    }
}
