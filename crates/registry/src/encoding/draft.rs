//! What a registration says, before it is known whether that is enough.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use thiserror::Error;

use super::fields::{AMAZON, DEFAULT, MY_OWN};
use crate::Now;
use crate::instance::{Amazon, DataCenter, Instance, Pair, PortNumber};
use crate::lease::{DEFAULT_DURATION_S, DEFAULT_RENEWAL_S};
use crate::status::Status;

/// Why a registration is refused. The client is to blame for all of them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// The bytes are not what they are said to be, or lack what no registration lacks.
    #[error("cannot parse request body")]
    Unreadable,
    /// JSON's `null`, which the original answers like a fault of its own.
    #[error("there is nothing in the request's body")]
    Nothing,
    /// In the words of the original.
    #[error("{0}")]
    Lacking(String),
}

/// A registration as it came.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Draft {
    pub instance_id: Text,
    pub host_name: Text,
    pub app: Text,
    pub ip_addr: Text,
    pub sid: Text,
    pub status: Text,
    pub overridden_status: Text,
    /// The older spelling, which wins.
    #[serde(rename = "overriddenstatus")]
    pub overridden_status_too: Text,
    pub port: Option<DraftPort>,
    pub secure_port: Option<DraftPort>,
    pub country_id: Number,
    pub data_center_info: Option<DraftDataCenter>,
    pub lease_info: Option<DraftLease>,
    pub metadata: Option<Metadata>,
    pub app_group_name: Text,
    pub home_page_url: Text,
    pub status_page_url: Text,
    pub health_check_url: Text,
    pub secure_health_check_url: Text,
    pub vip_address: Text,
    pub secure_vip_address: Text,
    pub last_dirty_timestamp: Number,
    pub asg_name: Text,
    // What the registry decides by itself.
    #[serde(rename = "isCoordinatingDiscoveryServer")]
    pub _coordinating: Text,
    #[serde(rename = "lastUpdatedTimestamp")]
    pub _updated: Text,
    #[serde(rename = "actionType")]
    pub _action: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DraftPort {
    #[serde(rename = "$")]
    pub number: Number,
    #[serde(rename = "@enabled")]
    pub enabled: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DraftDataCenter {
    #[serde(rename = "@class")]
    pub class: Text,
    pub name: Text,
    pub metadata: Option<Metadata>,
}

/// The times that a lease brings along are not read: the registry decides them by itself.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DraftLease {
    pub renewal_interval_in_secs: Number,
    pub duration_in_secs: Number,
}

/// A string, or another scalar as a string.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Text(pub Option<Box<str>>);

/// A number, or a string that holds one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(pub Option<i64>);

/// Keys with scalars. The name of a Java class is left out.
#[derive(Debug, Default)]
pub(super) struct Metadata(pub Vec<Pair>);

impl Draft {
    /// `app`: the application that the registration was sent to, in upper case.
    pub fn into_instance(self, app: Option<&str>, now: Now) -> Result<Instance, Refused> {
        let own_app: Arc<str> = match self.app.filled() {
            Some(own) => own.to_uppercase().into(),
            None => return Err(Refused::Unreadable),
        };
        let lacking = |what: &str| Refused::Lacking(what.to_owned());
        let host_name = self.host_name.filled().ok_or_else(|| lacking("Missing hostname"))?;
        let ip_addr = self.ip_addr.filled().ok_or_else(|| lacking("Missing ip address"))?;
        if let Some(app) = app.filter(|app| **app != *own_app) {
            return Err(Refused::Lacking(format!("Mismatched appName, expecting {app} but was {own_app}")));
        }
        let data_center = self.data_center_info.ok_or_else(|| lacking("Missing dataCenterInfo"))?.into_data_center()?;
        let lease = self.lease_info.unwrap_or_default();
        let id = match self.instance_id.filled() {
            Some(id) => id,
            None => match data_center.amazon.as_ref().and_then(Amazon::instance_id) {
                Some(machine) => machine.into(),
                None => host_name.clone(),
            },
        };
        let port =
            |draft: Option<DraftPort>, usual: PortNumber| draft.map_or(Ok(usual), |draft| draft.into_port(usual));
        Ok(Instance {
            id: id.into(),
            app: own_app,
            status: self.status.0.map_or(Status::Up, |word| Status::lenient(&word)),
            overridden_status: self
                .overridden_status_too
                .0
                .or(self.overridden_status.0)
                .map_or(Status::Unknown, |word| Status::lenient(&word)),
            port: port(self.port, PortNumber::PLAIN)?,
            secure_port: port(self.secure_port, PortNumber::SECURE)?,
            country_id: self.country_id.within(1)?,
            renewal_interval_s: lease.renewal_interval_in_secs.positive_within(DEFAULT_RENEWAL_S)?,
            duration_s: lease.duration_in_secs.positive_within(DEFAULT_DURATION_S)?,
            metadata: self.metadata.unwrap_or_default().0,
            app_group: self.app_group_name.0.map(|name| name.to_uppercase().into()),
            // `na` is how the original says that there is none.
            sid: self.sid.0.filter(|sid| &**sid != "na"),
            home_page_url: self.home_page_url.0,
            status_page_url: self.status_page_url.0,
            health_check_url: self.health_check_url.0,
            secure_health_check_url: self.secure_health_check_url.0,
            vip_address: self.vip_address.0,
            secure_vip_address: self.secure_vip_address.0,
            dirty_ms: self.last_dirty_timestamp.0.unwrap_or(now.wall_ms),
            asg_name: self.asg_name.0,
            host_name,
            ip_addr,
            data_center,
        })
    }
}

impl DraftPort {
    fn into_port(self, usual: PortNumber) -> Result<PortNumber, Refused> {
        Ok(PortNumber {
            number: self.number.within(usual.number)?,
            enabled: self.enabled.0.map_or(usual.enabled, |word| word.eq_ignore_ascii_case("true")),
        })
    }
}

impl DraftDataCenter {
    fn into_data_center(self) -> Result<DataCenter, Refused> {
        let amazon = match self.class.0.as_deref() {
            Some(DEFAULT | MY_OWN) => None,
            Some(AMAZON) => Some(Amazon { metadata: self.metadata.unwrap_or_default().0 }),
            _ => return Err(Refused::Unreadable),
        };
        let Some(name) = self.name.0 else { return Err(Refused::Lacking("Missing dataCenterInfo Name".to_owned())) };
        match DataCenter::NAMES.into_iter().find(|known| **known == *name) {
            Some(name) => Ok(DataCenter { name, amazon }),
            None => Err(Refused::Unreadable),
        }
    }
}

impl Text {
    pub fn new(text: &str) -> Text {
        Text(Some(text.into()))
    }

    fn filled(&self) -> Option<Box<str>> {
        self.0.clone().filter(|text| !text.is_empty())
    }
}

impl Number {
    pub fn parse(text: &str) -> Result<Number, Refused> {
        text.trim().parse().map(|number| Number(Some(number))).map_err(|_| Refused::Unreadable)
    }

    fn within(self, usual: i32) -> Result<i32, Refused> {
        self.0.map_or(Ok(usual), |number| number.try_into().map_err(|_| Refused::Unreadable))
    }

    fn positive_within(self, usual: i32) -> Result<i32, Refused> {
        Ok(Some(self.within(usual)?).filter(|number| *number > 0).unwrap_or(usual))
    }
}

impl Metadata {
    /// A later value of a key replaces an earlier one.
    pub fn collect(pairs: impl IntoIterator<Item = Pair>) -> Metadata {
        let mut pairs: Vec<Pair> = pairs.into_iter().collect();
        pairs.reverse();
        let mut seen = HashSet::new();
        pairs.retain(|(key, _)| seen.insert(key.clone()));
        pairs.reverse();
        Metadata(pairs)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string or another scalar")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text::new(text))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Text, E> {
        Ok(Text::new(if value { "true" } else { "false" }))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Text, E> {
        Ok(Text(Some(value.to_string().into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Text, E> {
        Ok(Text(Some(value.to_string().into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Text, E> {
        Ok(Text(Some(value.to_string().into())))
    }

    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text(None))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        match Text::deserialize(deserializer)?.0 {
            None => Ok(Number(None)),
            Some(text) => Number::parse(&text).map_err(de::Error::custom),
        }
    }
}

struct MetadataVisitor;

impl<'de> Visitor<'de> for MetadataVisitor {
    type Value = Metadata;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of scalars")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
        let mut pairs = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, Text>()? {
            if key != "@class" {
                // The original turns a missing value into a word.
                pairs.push((key.into(), value.0.unwrap_or_else(|| "null".into())));
            }
        }
        Ok(Metadata::collect(pairs))
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Metadata, D::Error> {
        deserializer.deserialize_map(MetadataVisitor)
    }
}
