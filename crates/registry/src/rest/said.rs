//! What the body of a request says, read before the registry is asked: nobody waits for the registry while bytes are read.

use std::collections::VecDeque;

use super::answer::apply;
use super::request::{Request, Resource};
use crate::Now;
use crate::encoding::{self, Item, Refused, read_batch, read_instance};
use crate::instance::Instance;
use crate::registry::Registry;

/// Changes of another server that are taken before others have their turn.
const SLICE: usize = 250;

#[derive(Debug, Clone, Default)]
pub(super) enum Said {
    /// The request has no body, or none that matters.
    #[default]
    Nothing,
    Instance(Result<Box<Instance>, Refused>),
    Batch(Result<Batch, Refused>),
}

/// What another server passed on.
#[derive(Debug, Clone, Default)]
pub(super) struct Batch {
    left: VecDeque<Item>,
    /// By position.
    pub answers: Vec<encoding::Answer>,
}

impl Request {
    /// Reads the body, where the request has one.
    pub fn with_body(self, body: &[u8], now: Now) -> Request {
        let said = match (&self.resource, self.content) {
            (Resource::Application(app), Some(format)) => {
                Said::Instance(read_instance(format, body, app, now).map(Box::new))
            }
            (Resource::Batch, Some(_)) => {
                Said::Batch(read_batch(body, now).map(|items| Batch { left: items.into(), answers: Vec::new() }))
            }
            _ => Said::Nothing,
        };
        Request { said, ..self }
    }

    /// Takes a part of what another server sent at once. True while there is more: others may have their turn meanwhile.
    pub fn take_slice(&mut self, registry: &mut Registry, now: Now) -> bool {
        let Said::Batch(Ok(batch)) = &mut self.said else { return false };
        let slice = batch.left.len().min(SLICE);
        batch.answers.extend(batch.left.drain(..slice).map(|item| apply(item, registry, now)));
        !batch.left.is_empty()
    }

    /// What was registered; none where the body cannot be read.
    pub(super) fn registers(&self) -> Option<&Instance> {
        match &self.said {
            Said::Instance(Ok(instance)) => Some(instance),
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use crate::rest::{Parts, read};
    use crate::{Now, Registry, Settings};

    #[test]
    fn many_changes_of_another_server_are_taken_in_slices_and_answered_by_position() {
        let now = Now { wall_ms: 1000, steady_ms: 1000 };
        let mut registry = Registry::new(Settings::default(), now);
        let items: Vec<String> = (0..600)
            .map(|number| {
                let instance = format!(
                    "{{\"instanceId\":\"i{number}\",\"hostName\":\"h\",\"app\":\"A\",\"ipAddr\":\"1.2.3.4\",\
                     \"dataCenterInfo\":{{\"@class\":\"com.netflix.appinfo.MyDataCenterInfo\",\"name\":\"MyOwn\"}}}}"
                );
                let (action, instance) =
                    if number % 2 == 0 { ("Register", instance) } else { ("Heartbeat", "null".to_owned()) };
                format!(
                    "{{\"appName\":\"A\",\"id\":\"i{number}\",\"action\":\"{action}\",\"instanceInfo\":{instance}}}"
                )
            })
            .collect();
        let body = format!("{{\"replicationList\":[{}]}}", items.join(","));
        let mut request = read(&Parts::BATCH).unwrap().with_body(body.as_bytes(), now);
        let mut known = Vec::new();
        while request.take_slice(&mut registry, now) {
            known.push(registry.len());
        }
        assert_eq!((known, registry.len()), (vec![125, 250], 300));
        let answer = request.ask(&mut registry, now).answer();
        let answer: serde_json::Value = serde_json::from_slice(&answer.body.pieces.concat()).unwrap();
        let statuses: Vec<i64> =
            answer["responseList"].as_array().unwrap().iter().map(|one| one["statusCode"].as_i64().unwrap()).collect();
        assert_eq!(statuses, [200, 404].repeat(300));
    }
}
