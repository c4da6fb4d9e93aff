//! Requests that concern services in the coordination tree: which they are, and how they are answered.

use super::request::{Method, Request, Resource};
use super::{Answer, JSON, XML};
use crate::consistent::{Desk, Job, Outcome, wants_consistency};
use crate::encoding::Format;
use crate::registry::{Caller, Registry};
use crate::status::Status;

/// Where the answer to a request comes from.
#[derive(Debug)]
pub enum Way {
    /// From the registry alone.
    Plain,
    /// From the registry, once it shows what is committed in the tree by now.
    Look,
    /// From the tree, where something is to be changed.
    Work(Job),
    /// Here it is.
    Answered(Answer),
}

impl Request {
    /// `desk`: none where no tree is configured. The body must have been read.
    pub fn way(&self, desk: Option<&Desk>) -> Way {
        let is_consistent = |app: &str| desk.is_some_and(|desk| desk.is_consistent(app));
        let (app, id) = match &self.resource {
            _ if self.method == Method::Get => return if desk.is_some() { Way::Look } else { Way::Plain },
            Resource::Application(app) => return self.registration(desk, is_consistent(app)),
            Resource::Instance(app, id) | Resource::Status(app, id) | Resource::Metadata(app, id) => (app, id),
            _ => return Way::Plain,
        };
        if !is_consistent(app) {
            return Way::Plain;
        }
        if self.caller == Caller::Replica {
            return Way::Answered(Answer::empty(200));
        }
        let (app, id) = (app.clone(), id.clone());
        let dirty_ms = match self.parameter("lastDirtyTimestamp").map(str::parse::<i64>) {
            None => None,
            Some(Ok(dirty_ms)) => Some(dirty_ms),
            // As for other services, in the original's way.
            Some(Err(_)) => return Way::Answered(Answer::empty(500)),
        };
        let value = self.parameter("value");
        Way::Work(match (&self.resource, self.method, value.and_then(Status::parse)) {
            (Resource::Instance(..), Method::Put, _) => Job::Renew { app, id, dirty_ms },
            (Resource::Instance(..), _, _) => Job::Cancel { app, id },
            (Resource::Metadata(..), _, _) => {
                let pairs = self.query.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into()));
                Job::Metadata { app, id, pairs: pairs.collect() }
            }
            (_, Method::Put, Some(status)) => Job::SetStatus { app, id, status, dirty_ms },
            (_, Method::Delete, Some(status)) => Job::ClearStatus { app, id, status, dirty_ms },
            (_, Method::Delete, None) if value.is_none() => {
                Job::ClearStatus { app, id, status: Status::Unknown, dirty_ms }
            }
            _ => return Way::Answered(Answer::empty(500)),
        })
    }

    fn registration(&self, desk: Option<&Desk>, is_consistent: bool) -> Way {
        let Some(instance) = self.registers().filter(|instance| is_consistent || wants_consistency(instance)) else {
            return Way::Plain;
        };
        match desk {
            _ if self.caller == Caller::Replica => Way::Answered(Answer::empty(204)),
            Some(_) => Way::Work(Job::Register(Box::new(instance.clone()))),
            None => Way::Answered(self.outcome(Outcome::Blind(
                "this registry knows no ensemble: set registry.connect, or registry.consistent in the zoo.cfg of a server".into(),
            ))),
        }
    }

    /// Whether an application is asked for that has instances here and none in the tree: its answer never waits for the ensemble.
    pub fn is_available(&self, desk: &Desk, registry: &Registry) -> bool {
        match &self.resource {
            Resource::Application(app) | Resource::Instance(app, _) => {
                !desk.is_consistent(app) && registry.has_application(app)
            }
            _ => false,
        }
    }

    /// The refusal, where the tree is out of sight and the answer would have to come from there. Lists go without.
    pub fn hidden(&self, desk: &Desk, registry: &Registry) -> Option<Answer> {
        let why = desk.blind()?;
        let is_hidden = match &self.resource {
            _ if self.method != Method::Get => false,
            Resource::Application(app) | Resource::Instance(app, _) => desk.is_consistent(app),
            Resource::AnyApplication(id) => registry.record_by_id(id).is_none(),
            Resource::Vip(kind, name) => {
                let others = registry.by_vip(*kind, name);
                desk.is_consistent(&name.to_uppercase()) && others.applications.is_empty()
            }
            _ => false,
        };
        is_hidden.then(|| self.outcome(Outcome::Blind(why)))
    }

    /// The answer to a change in the tree.
    pub fn outcome(&self, outcome: Outcome) -> Answer {
        let done = if self.method == Method::Post { 204 } else { 200 };
        let (status, text) = match outcome {
            Outcome::Done => return Answer::empty(done),
            Outcome::Unknown => (404, "no such instance: register".to_owned()),
            Outcome::Foreign => (
                409,
                "the instance was registered in the coordination tree by somebody else, who alone changes it: change it there".to_owned(),
            ),
            Outcome::Full => (507, "there is no room for this instance in the coordination tree".to_owned()),
            Outcome::BadName => (400, "a consistent service and its instances need names that a node can have".to_owned()),
            Outcome::Blind(why) => (
                503,
                format!(
                    "this service is kept in the coordination tree, which is out of sight ({why}); nothing is guessed: ask again, \
                     ask another registry, or see that a quorum of the ensemble runs"
                ),
            ),
        };
        match self.form.format {
            Format::Json => {
                // Serializing text cannot fail.
                let text = serde_json::to_string(&text).unwrap_or_default();
                Answer::with(status, JSON, format!("{{\"error\": {text}}}").into_bytes())
            }
            Format::Xml => {
                let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                Answer::with(status, XML, format!("<error><message>{text}</message></error>").into_bytes())
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::encoding::read_instance;
    use crate::rest::{Parts, read};
    use crate::{Now, Settings};

    #[test]
    fn only_who_is_here_and_not_in_the_tree_is_available() {
        let now = Now { wall_ms: 1000, steady_ms: 1000 };
        let (desk, mut registry) = (Desk::new(&["uploads".to_owned()]), Registry::new(Settings::default(), now));
        for app in ["SEARCH", "UPLOADS"] {
            let text = format!(
                "{{\"instance\":{{\"instanceId\":\"i\",\"hostName\":\"h\",\"app\":\"{app}\",\"ipAddr\":\"1.2.3.4\",\
                 \"dataCenterInfo\":{{\"@class\":\"com.netflix.appinfo.MyDataCenterInfo\",\"name\":\"MyOwn\"}}}}}}"
            );
            let instance = read_instance(Format::Json, text.as_bytes(), app, now).unwrap();
            registry.register(instance, Caller::Client, now);
        }
        let is_available = |path: &str| {
            let parts = Parts { method: "GET", path, ..Parts::default() };
            read(&parts).unwrap().is_available(&desk, &registry)
        };
        assert!(is_available("/eureka/apps/SEARCH") && is_available("/eureka/apps/SEARCH/i"));
        for path in [
            "/eureka/apps/UPLOADS",
            "/eureka/apps/UPLOADS/i",
            "/eureka/apps/NOBODY",
            "/eureka/apps",
            "/eureka/apps/delta",
        ] {
            assert!(!is_available(path), "{path}");
        }
    }
}
