//! What servers send to each other: several changes at once, answered by position.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::draft::{Draft, Number, Refused, Text};
use super::{Detail, json};
use crate::Now;
use crate::application::Record;
use crate::holdings::Key;
use crate::instance::Instance;
use crate::registry::{Override, contents_checksum};
use crate::rest::Kind;
use crate::status::Status;

/// What another server passes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// In upper case.
    pub app: String,
    pub id: String,
    pub dirty_ms: Option<i64>,
    /// The name of a status, not looked at yet.
    pub status: Option<Box<str>>,
    pub overridden: Option<Status>,
    /// From a server of this kind: the override as it knows it.
    pub set: Option<Override>,
    /// From a server of this kind: the checksum of what the client said.
    pub contents: Option<u32>,
    pub action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The instance; none where it was refused, which no answer tells.
    Register(Option<Box<Instance>>),
    Heartbeat,
    Cancel,
    StatusUpdate,
    DeleteStatusOverride,
}

/// What became of an item.
#[derive(Debug, Clone)]
pub struct Answer {
    /// As in HTTP.
    pub status: u16,
    /// The instance that stands, where it is newer than that of the sender.
    pub instance: Option<Record>,
    /// For a server of this kind: the override of that instance.
    pub set: Option<Override>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DraftBatch {
    replication_list: Option<Vec<DraftItem>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DraftItem {
    #[serde(default)]
    app_name: Text,
    #[serde(default)]
    id: Text,
    #[serde(default)]
    last_dirty_timestamp: Number,
    #[serde(default)]
    status: Text,
    #[serde(default)]
    overridden_status: Text,
    #[serde(default)]
    overridden_at: Number,
    #[serde(default)]
    overridden_to: Text,
    #[serde(default)]
    contents: Number,
    #[serde(default)]
    instance_info: Option<Box<Draft>>,
    action: Word,
}

#[derive(Deserialize)]
enum Word {
    Register,
    Heartbeat,
    Cancel,
    StatusUpdate,
    DeleteStatusOverride,
}

/// Reads what another server sent. One item that cannot be read makes all unreadable.
pub fn read_batch(bytes: &[u8], now: Now) -> Result<Vec<Item>, Refused> {
    let batch: DraftBatch = serde_json::from_slice(bytes).map_err(|_| Refused::Unreadable)?;
    batch.replication_list.ok_or(Refused::Nothing)?.into_iter().map(|item| item.into_item(now)).collect()
}

impl DraftItem {
    fn into_item(self, now: Now) -> Result<Item, Refused> {
        let app = self.app_name.0.unwrap_or_default().to_uppercase();
        let action = match self.action {
            Word::Register => Action::Register(match self.instance_info {
                None => None,
                Some(draft) => match draft.into_instance(Some(&app), now) {
                    Ok(instance) => Some(Box::new(instance)),
                    Err(Refused::Lacking(_)) => None,
                    Err(unreadable) => return Err(unreadable),
                },
            }),
            Word::Heartbeat => Action::Heartbeat,
            Word::Cancel => Action::Cancel,
            Word::StatusUpdate => Action::StatusUpdate,
            Word::DeleteStatusOverride => Action::DeleteStatusOverride,
        };
        Ok(Item {
            app,
            id: self.id.0.unwrap_or_default().into(),
            dirty_ms: self.last_dirty_timestamp.0,
            status: self.status.0,
            overridden: self.overridden_status.0.as_deref().and_then(Status::parse),
            set: known_override(self.overridden_at, &self.overridden_to),
            contents: self.contents.0.and_then(|number| number.try_into().ok()),
            action,
        })
    }
}

/// What servers of this kind add for each other: since when an override stands or is gone, and the override.
pub(super) fn write_override(out: &mut Vec<u8>, set: Option<Override>) {
    let Some(Override { to, at_ms }) = set else { return };
    out.extend_from_slice(format!(",\"overriddenAt\":{at_ms}").as_bytes());
    if let Some(to) = to {
        out.extend_from_slice(format!(",\"overriddenTo\":\"{}\"", to.name()).as_bytes());
    }
}

pub(super) fn known_override(at: Number, to: &Text) -> Option<Override> {
    at.0.map(|at_ms| Override { to: to.0.as_deref().and_then(Status::parse), at_ms })
}

/// The answer to a batch.
pub fn write_answers(answers: &[Answer]) -> Vec<u8> {
    let mut out = b"{\"responseList\":[".to_vec();
    for (place, answer) in answers.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format!("{{\"statusCode\":{}", answer.status).as_bytes());
        if let Some(record) = &answer.instance {
            out.extend_from_slice(b",\"responseEntity\":");
            json::instance(&mut out, record, record.instance.status, Detail::Full);
            write_override(&mut out, answer.set);
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    out
}

/// An answer of another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAnswer {
    pub status: u16,
    /// The instance that stands there, where it is newer than ours.
    pub instance: Option<Box<Instance>>,
    /// From a server of this kind: the override of that instance.
    pub set: Option<Override>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DraftAnswers {
    response_list: Vec<DraftAnswer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DraftAnswer {
    status_code: u16,
    #[serde(default)]
    response_entity: Option<Box<Draft>>,
    #[serde(default)]
    overridden_at: Number,
    #[serde(default)]
    overridden_to: Text,
}

/// Reads what another server answered to a batch. An instance that makes no sense counts as none.
pub fn read_answers(bytes: &[u8], now: Now) -> Result<Vec<PeerAnswer>, Refused> {
    let answers: DraftAnswers = serde_json::from_slice(bytes).map_err(|_| Refused::Unreadable)?;
    let answer = |draft: DraftAnswer| PeerAnswer {
        status: draft.status_code,
        set: known_override(draft.overridden_at, &draft.overridden_to),
        instance: draft.response_entity.and_then(|draft| draft.into_instance(None, now).ok()).map(Box::new),
    };
    Ok(answers.response_list.into_iter().map(answer).collect())
}

#[derive(Deserialize)]
struct DraftList {
    applications: DraftApplications,
}

#[derive(Deserialize)]
struct DraftApplications {
    #[serde(default)]
    application: Many<DraftApplication>,
}

#[derive(Deserialize)]
struct DraftApplication {
    #[serde(default)]
    instance: Many<Draft>,
}

/// A list. Some writers of JSON write a list of one as the one.
struct Many<T>(Vec<T>);

impl<T> Default for Many<T> {
    fn default() -> Many<T> {
        Many(Vec::new())
    }
}

/// What may stand in a list.
trait Listed {
    /// What says nothing is not kept: a few bytes would otherwise become hundreds.
    fn says_something(&self) -> bool;
}

impl Listed for Draft {
    fn says_something(&self) -> bool {
        self.app.0.is_some() && self.host_name.0.is_some() && self.data_center_info.is_some()
    }
}

impl Listed for DraftApplication {
    fn says_something(&self) -> bool {
        !self.instance.0.is_empty()
    }
}

struct ManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Listed> Visitor<'de> for ManyVisitor<T> {
    type Value = Many<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list, or one of what would stand in it")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Many<T>, A::Error> {
        let mut kept = Vec::new();
        while let Some(one) = seq.next_element::<T>()? {
            if one.says_something() {
                kept.push(one);
            }
        }
        Ok(Many(kept))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Many<T>, A::Error> {
        Ok(Many(vec![T::deserialize(MapAccessDeserializer::new(map))?]))
    }

    fn visit_unit<E>(self) -> Result<Many<T>, E> {
        Ok(Many::default())
    }
}

impl<'de, T: Deserialize<'de> + Listed> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Many<T>, D::Error> {
        deserializer.deserialize_any(ManyVisitor(PhantomData))
    }
}

/// Reads the list of everything that another server knows. Instances that make no sense are left out.
pub fn read_applications(bytes: &[u8], now: Now) -> Result<Vec<Instance>, Refused> {
    let list: DraftList = serde_json::from_slice(bytes).map_err(|_| Refused::Unreadable)?;
    let drafts = list.applications.application.0.into_iter().flat_map(|application| application.instance.0);
    Ok(drafts.filter_map(|draft| draft.into_instance(None, now).ok()).collect())
}

/// Writes a change for another server. `record` is the instance as it stands, none where it was cancelled. `set` is for a
/// server of this kind: the original refuses what it does not know.
pub(crate) fn write_item(
    out: &mut Vec<u8>,
    (app, id): &Key,
    kind: Kind,
    record: Option<&Record>,
    overridden: Option<Status>,
    set: Option<Override>,
) {
    // To a server of this kind an override is told as it stands now, with its time: another server's word may have replaced the one that was noted.
    let kind = match (kind, set, record) {
        (Kind::StatusUpdate(_) | Kind::DeleteStatusOverride(_), Some(set), Some(record)) => match set.to {
            Some(to) => Kind::StatusUpdate(to),
            None => Kind::DeleteStatusOverride(record.instance.status),
        },
        _ => kind,
    };
    let (action, status) = match kind {
        Kind::Register => ("Register", record.map(|record| record.instance.status)),
        Kind::Heartbeat => ("Heartbeat", record.map(|record| record.instance.status)),
        Kind::Cancel => ("Cancel", None),
        Kind::StatusUpdate(status) => ("StatusUpdate", Some(status)),
        Kind::DeleteStatusOverride(status) => ("DeleteStatusOverride", Some(status)),
    };
    out.extend_from_slice(b"{\"appName\":");
    json::string(out, app);
    out.extend_from_slice(b",\"id\":");
    json::string(out, id);
    if let Some(record) = record.filter(|_| kind != Kind::Cancel) {
        out.extend_from_slice(format!(",\"lastDirtyTimestamp\":{}", record.instance.dirty_ms).as_bytes());
    }
    if let Some(overridden) = overridden.filter(|_| kind == Kind::Heartbeat) {
        out.extend_from_slice(format!(",\"overriddenStatus\":\"{}\"", overridden.name()).as_bytes());
    }
    if let Some(status) = status {
        out.extend_from_slice(format!(",\"status\":\"{}\"", status.name()).as_bytes());
    }
    if set.is_some() {
        write_override(out, set);
        if let Some(record) = record.filter(|_| kind == Kind::Heartbeat) {
            let checksum = contents_checksum(&record.instance);
            out.extend_from_slice(format!(",\"contents\":{checksum}").as_bytes());
        }
    }
    if let Some(record) = record.filter(|_| kind == Kind::Register) {
        out.extend_from_slice(b",\"instanceInfo\":");
        json::instance(out, record, record.instance.status, Detail::Full);
    }
    out.extend_from_slice(format!(",\"action\":\"{action}\"}}").as_bytes());
}
