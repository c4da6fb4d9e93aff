//! An instance of a consistent service as its node in the coordination tree holds it: that of Apache Curator's service discovery, with what only
//! Eureka's clients know as its payload, a text.
//!
//! What always holds: what is read comes from strangers, and what is no instance is none.

use rookeeper_discovery::Instance as Node;
use serde_json::Value;

use crate::Now;
use crate::application::Record;
use crate::encoding::{self, Format};
use crate::instance::{ActionType, DataCenter, Instance, Pair, PortNumber};
use crate::lease::{DEFAULT_DURATION_S, DEFAULT_RENEWAL_S, LeaseTimes};
use crate::status::Status;

/// The longest node: a server refuses a request above about a mebibyte.
pub(super) const MAX_BYTES: usize = 512 << 10;

/// What a node says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Content {
    pub instance: Instance,
    /// Milliseconds since the Unix epoch.
    pub registered_ms: i64,
    /// A registry wrote it, for a client of Eureka.
    pub is_of_registry: bool,
}

/// The bytes of a node. Its name in the tree is `service`, which need not be that of the application in capitals.
pub(super) fn write(service: &str, instance: &Instance, registered_ms: i64) -> Vec<u8> {
    let times = LeaseTimes { registered_ms, renewed_ms: registered_ms, evicted_ms: 0, service_up_ms: 0 };
    let record =
        Record { instance: instance.clone().into(), times, updated_ms: registered_ms, action: ActionType::Added };
    let eureka = encoding::instance(&record, instance.status, Format::Json);
    let port =
        |port: PortNumber| Some(port).filter(|port| port.enabled).and_then(|port| u16::try_from(port.number).ok());
    let host = if instance.ip_addr.is_empty() { &instance.host_name } else { &instance.ip_addr };
    let node = Node {
        name: service.to_owned(),
        id: instance.id.to_string(),
        address: Some(host.to_string()),
        port: port(instance.port),
        ssl_port: port(instance.secure_port),
        payload: Some(Value::String(String::from_utf8_lossy(&eureka).into_owned())),
        registration_time_utc: registered_ms,
        enabled: instance.status == Status::Up,
        ..Node::default()
    };
    node.encode()
}

/// None for what is no instance. `app` and `id` are what the path says.
pub(super) fn read(app: &str, id: &str, data: &[u8], now: Now) -> Option<Content> {
    if data.len() > MAX_BYTES {
        return None;
    }
    let node = Node::decode(data).ok()?;
    let registered_ms = node.registration_time_utc;
    if let Some(Value::String(text)) = &node.payload
        && text.starts_with("{\"instance\":")
        && let Ok(instance) = encoding::read_instance(Format::Json, text.as_bytes(), app, now)
        && *instance.id == *id
    {
        return Some(Content { instance, registered_ms, is_of_registry: true });
    }
    let address = node.address.unwrap_or_default();
    let port = |number: Option<u16>, none: PortNumber| match number {
        Some(number) => PortNumber { number: i32::from(number), enabled: true },
        None => PortNumber { enabled: false, ..none },
    };
    let instance = Instance {
        id: id.into(),
        host_name: address.as_str().into(),
        app: app.into(),
        ip_addr: address.into(),
        sid: None,
        status: if node.enabled { Status::Up } else { Status::OutOfService },
        overridden_status: Status::Unknown,
        port: port(node.port, PortNumber::PLAIN),
        secure_port: port(node.ssl_port, PortNumber::SECURE),
        country_id: 1,
        data_center: DataCenter { name: "MyOwn", amazon: None },
        renewal_interval_s: DEFAULT_RENEWAL_S,
        duration_s: DEFAULT_DURATION_S,
        metadata: metadata(node.payload.as_ref()),
        app_group: None,
        home_page_url: None,
        status_page_url: None,
        health_check_url: None,
        secure_health_check_url: None,
        vip_address: Some(node.name.as_str().into()),
        secure_vip_address: node.ssl_port.map(|_| node.name.as_str().into()),
        dirty_ms: registered_ms,
        asg_name: None,
    };
    Some(Content { instance, registered_ms, is_of_registry: false })
}

/// Of a payload the texts of its `metadata`, which is how Spring Cloud for ZooKeeper says them; a payload that is a text is one of its own.
fn metadata(payload: Option<&Value>) -> Vec<Pair> {
    let texts = match payload {
        Some(Value::String(text)) => return vec![("payload".into(), text.as_str().into())],
        Some(payload) => payload.get("metadata").and_then(Value::as_object),
        None => None,
    };
    let pair = |(key, value): (&String, &Value)| Some((key.as_str().into(), value.as_str()?.into()));
    texts.into_iter().flatten().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const NOW: Now = Now { wall_ms: 1_700_000_000_000, steady_ms: 1 };

    /// Written by Curator 5.9.0, with its default and with its other serializer.
    const COMPATIBLE: &str = r#"{"name":"web","id":"7","address":"10.0.0.1","port":80,"sslPort":443,"payload":"text","registrationTimeUTC":1700000000000,"serviceType":"STATIC","uriSpec":{"parts":[{"value":"scheme","variable":true},{"value":"://","variable":false},{"value":"address","variable":true},{"value":":","variable":false},{"value":"port","variable":true},{"value":"/x","variable":false}]}}"#;
    const DISABLED: &str = r#"{"name":"web","id":"8","address":null,"port":null,"sslPort":null,"payload":null,"registrationTimeUTC":1700000000000,"serviceType":"DYNAMIC_SEQUENTIAL","uriSpec":null,"enabled":false}"#;

    #[test]
    fn what_curator_writes_is_an_instance_of_eureka() {
        let content = read("WEB", "7", COMPATIBLE.as_bytes(), NOW).unwrap();
        let Instance { status, port, secure_port, ip_addr, vip_address, metadata, .. } = content.instance;
        assert_eq!((status, port.number, secure_port.number, &*ip_addr), (Status::Up, 80, 443, "10.0.0.1"));
        assert_eq!(vip_address.as_deref(), Some("web"));
        assert_eq!(metadata, [("payload".into(), "text".into())]);
        assert!(!content.is_of_registry);
        let content = read("WEB", "8", DISABLED.as_bytes(), NOW).unwrap();
        assert_eq!((content.instance.status, content.instance.port.enabled), (Status::OutOfService, false));
    }

    #[test]
    fn what_a_client_of_eureka_says_comes_back_whole() {
        let text = r#"{"instance":{"instanceId":"h:1","hostName":"h","app":"PAY","ipAddr":"10.0.0.7","status":"UP","overriddenStatus":"OUT_OF_SERVICE",
            "port":{"$":8080,"@enabled":"true"},"securePort":{"$":8443,"@enabled":"false"},"metadata":{"zone":"z\"1"},"vipAddress":"pay,money",
            "dataCenterInfo":{"@class":"com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo","name":"MyOwn"},
            "leaseInfo":{"renewalIntervalInSecs":7,"durationInSecs":21},"lastDirtyTimestamp":"1699999999999"}}"#;
        let instance = encoding::read_instance(Format::Json, text.as_bytes(), "PAY", NOW).unwrap();
        let bytes = write("pay", &instance, 5);
        let content = read("PAY", "h:1", &bytes, NOW).unwrap();
        assert_eq!(content, Content { instance: instance.clone(), registered_ms: 5, is_of_registry: true });
        let start =
            r#"{"name":"pay","id":"h:1","address":"10.0.0.7","port":8080,"sslPort":null,"payload":"{\"instance\""#;
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with(start), "{text}");
        assert!(text.ends_with(r#""registrationTimeUTC":5,"serviceType":"DYNAMIC","uriSpec":null}"#), "{text}");
        let drained = write("pay", &Instance { status: Status::OutOfService, ..instance }, 5);
        assert!(drained.ends_with(b",\"enabled\":false}"));
    }

    #[test]
    fn nonsense_is_no_instance() {
        for data in [&b""[..], b"[]", b"{\"port\":70000}", b"127.0.0.1", &vec![b' '; MAX_BYTES + 1]] {
            assert_eq!(read("WEB", "x", data, NOW), None);
        }
    }
}
