//! What is known of one instance of a service, in the JSON that Apache Curator's service discovery reads and writes.
//!
//! Those who need this have nothing else in common: the library of recipes (`rookeeper-recipes`), which is a client, and the service registry
//! (`rookeeper-registry`), which keeps consistent services in the tree and knows no client.
//!
//! What always holds: what is written has Curator's fields in Curator's order; `enabled` is left out where it is true, as Curator does by default, for its
//! older versions do not take a field that they do not know. Fields that we do not know are left alone by reading.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::Unexpected;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// For how long an instance is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceType {
    /// While the session of whoever registered it lives.
    #[default]
    Dynamic,
    /// Until whoever registered it takes it away; a process that dies does not.
    Static,
    /// Until somebody removes it by name.
    Permanent,
    /// As [`Dynamic`](ServiceType::Dynamic), under a number of its own behind the id.
    DynamicSequential,
}

impl ServiceType {
    /// Whether the registration ends with the session.
    pub fn is_dynamic(self) -> bool {
        matches!(self, ServiceType::Dynamic | ServiceType::DynamicSequential)
    }
}

/// One instance of a service: Curator's `ServiceInstance`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Instance {
    /// The name of the service.
    pub name: String,
    /// Unique among the instances of the service.
    pub id: String,
    /// A host or an address.
    pub address: Option<String>,
    pub port: Option<u16>,
    pub ssl_port: Option<u16>,
    /// Whatever else is to be known. For Java programs an object needs the name of its class as `@class`; a text needs nothing.
    pub payload: Option<Value>,
    /// Milliseconds since 1970.
    #[serde(rename = "registrationTimeUTC")]
    pub registration_time_utc: i64,
    pub service_type: ServiceType,
    /// How its address as a URI is made.
    pub uri_spec: Option<UriSpec>,
    /// Whether requests may go to it. An instance that is to be empty before it stops says no.
    #[serde(skip_serializing_if = "is_true")]
    pub enabled: bool,
}

fn is_true(enabled: &bool) -> bool {
    *enabled
}

impl Default for Instance {
    fn default() -> Instance {
        Instance {
            name: String::new(),
            id: String::new(),
            address: None,
            port: None,
            ssl_port: None,
            payload: None,
            registration_time_utc: 0,
            service_type: ServiceType::Dynamic,
            uri_spec: None,
            enabled: true,
        }
    }
}

impl Instance {
    /// A dynamic instance of a service at this address, with a random id, registered now.
    pub fn new(name: &str, address: &str, port: u16) -> Instance {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Instance {
            name: name.to_owned(),
            id: Uuid::new_v4().to_string(),
            address: Some(address.to_owned()),
            port: Some(port),
            registration_time_utc: now.as_millis() as i64,
            ..Instance::default()
        }
    }

    /// Under this id in place of a random one.
    pub fn with_id(mut self, id: &str) -> Instance {
        self.id = id.to_owned();
        self
    }

    /// With this to be known of it as well.
    pub fn with_payload(mut self, payload: impl Into<Value>) -> Instance {
        self.payload = Some(payload.into());
        self
    }

    /// Registered for that long.
    pub fn with_service_type(mut self, service_type: ServiceType) -> Instance {
        self.service_type = service_type;
        self
    }

    /// `address:port`, or what of it there is; an address of IPv6 in brackets.
    pub fn host_and_port(&self) -> String {
        let address = self.address.as_deref().unwrap_or_default();
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        match self.port.or(self.ssl_port) {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }

    /// Its address as a URI, where it says how that is made. `variables` are for fields that Curator does not know.
    pub fn uri(&self, variables: &BTreeMap<String, String>) -> Option<String> {
        Some(self.uri_spec.as_ref()?.build(self, variables))
    }

    /// What the bytes of a node say.
    ///
    /// # Errors
    ///
    /// They are no JSON object, or a field has another type than Curator's.
    pub fn decode(data: &[u8]) -> Result<Instance, serde_json::Error> {
        // A list of the values would do for an object otherwise.
        if data.trim_ascii_start().first() == Some(&b'[') {
            return Err(serde::de::Error::invalid_type(Unexpected::Seq, &"an object"));
        }
        serde_json::from_slice(data)
    }

    /// The bytes of its node.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("the names of all objects are text")
    }
}

/// A template of a URI such as `{scheme}://{address}:{port}`: Curator's `UriSpec`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UriSpec {
    pub parts: Vec<UriPart>,
}

/// A text, or a field whose value comes from the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UriPart {
    pub value: String,
    pub variable: bool,
}

/// Braces that do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("each {{ needs a }} behind it, without another {{ between them")]
pub struct BadUriSpec;

impl FromStr for UriSpec {
    type Err = BadUriSpec;

    fn from_str(text: &str) -> Result<UriSpec, BadUriSpec> {
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let (literal, field) = rest.split_once('{').map_or((rest, None), |(literal, field)| (literal, Some(field)));
            if literal.contains('}') {
                return Err(BadUriSpec);
            }
            if !literal.is_empty() {
                parts.push(UriPart { value: literal.to_owned(), variable: false });
            }
            let Some(field) = field else { return Ok(UriSpec { parts }) };
            let (name, behind) = field.split_once('}').ok_or(BadUriSpec)?;
            if name.contains('{') {
                return Err(BadUriSpec);
            }
            parts.push(UriPart { value: name.trim().to_owned(), variable: true });
            rest = behind;
        }
    }
}

impl UriSpec {
    fn build(&self, instance: &Instance, variables: &BTreeMap<String, String>) -> String {
        let number = |number: Option<u16>| number.map(|number| number.to_string());
        let value = |part: &UriPart| match part.value.as_str() {
            text if !part.variable => Some(text.to_owned()),
            name if variables.contains_key(name) => variables.get(name).cloned(),
            "scheme" => Some(if instance.ssl_port.is_some() { "https" } else { "http" }.to_owned()),
            "name" => Some(instance.name.clone()),
            "id" => Some(instance.id.clone()),
            "address" => instance.address.clone(),
            "port" => number(instance.port),
            "ssl-port" => number(instance.ssl_port),
            "registration-time-utc" => Some(instance.registration_time_utc.to_string()),
            "service-type" => Some(format!("{:?}", instance.service_type).to_lowercase()),
            "[" => Some("{".to_owned()),
            "]" => Some("}".to_owned()),
            _ => None,
        };
        self.parts.iter().filter_map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by Curator 5.9.0, with its default and with its other serializer.
    const COMPATIBLE: &str = r#"{"name":"web","id":"7","address":"10.0.0.1","port":80,"sslPort":443,"payload":"text","registrationTimeUTC":1700000000000,"serviceType":"STATIC","uriSpec":{"parts":[{"value":"scheme","variable":true},{"value":"://","variable":false},{"value":"address","variable":true},{"value":":","variable":false},{"value":"port","variable":true},{"value":"/x","variable":false}]}}"#;
    const DISABLED: &str = r#"{"name":"web","id":"8","address":null,"port":null,"sslPort":null,"payload":null,"registrationTimeUTC":1700000000000,"serviceType":"DYNAMIC_SEQUENTIAL","uriSpec":null,"enabled":false}"#;

    #[test]
    fn what_curator_writes_is_read_and_written_the_same() {
        let instance: Instance = serde_json::from_str(COMPATIBLE).unwrap();
        let expected = Instance {
            ssl_port: Some(443),
            registration_time_utc: 1_700_000_000_000,
            uri_spec: Some("{scheme}://{address}:{port}/x".parse().unwrap()),
            ..Instance::new("web", "10.0.0.1", 80)
                .with_id("7")
                .with_payload("text")
                .with_service_type(ServiceType::Static)
        };
        assert_eq!(instance, expected);
        assert_eq!(String::from_utf8(instance.encode()).unwrap(), COMPATIBLE);
        let disabled: Instance = serde_json::from_str(DISABLED).unwrap();
        assert!(!disabled.enabled);
        assert_eq!(String::from_utf8(disabled.encode()).unwrap(), DISABLED);
    }

    #[test]
    fn fields_may_be_missing_or_unknown() {
        let instance: Instance = serde_json::from_str(r#"{"name":"a","id":"b","of the future":[1]}"#).unwrap();
        assert!(instance.enabled && instance.port.is_none());
        assert!(serde_json::from_str::<Instance>(r#"{"port":"none"}"#).is_err());
    }

    #[test]
    fn what_is_no_object_is_no_instance() {
        for data in [&b""[..], b" []", br#"["web","7"]"#, b"7", b"null", br#"{"serviceType":"WHATEVER"}"#] {
            assert!(Instance::decode(data).is_err(), "{}", String::from_utf8_lossy(data));
        }
    }

    #[test]
    fn uris_are_made_of_their_fields() {
        let mut instance = Instance::new("web", "::1", 80).with_id("7");
        assert_eq!(instance.host_and_port(), "[::1]:80");
        instance.uri_spec = Some("{scheme}://[{address}]:{ port }/{[}{where}{]}{unknown}".parse().unwrap());
        let variables = BTreeMap::from([("where".to_owned(), "here".to_owned())]);
        assert_eq!(instance.uri(&variables).as_deref(), Some("http://[::1]:80/{here}"));
        for bad in ["{", "}", "{a{b}}", "a}b", "{a"] {
            assert_eq!(bad.parse::<UriSpec>(), Err(BadUriSpec), "{bad}");
        }
    }
}
