//! What a server says of itself, as the original was seen to say it (`status.xml`).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rookeeper_registry::encoding::{Format, Server};
use rookeeper_registry::rest::about_server;
use rookeeper_registry::{ActionType, DataCenter, Instance, PortNumber, Record, Status};

const RECORDED: &str = include_str!("../../../tests/fixtures/eureka/status.xml");

fn server() -> Server {
    let url = |path: &str| Some(format!("http://original:18761/{path}").into_boxed_str());
    let instance = Instance {
        id: "192.0.2.2:18761".into(),
        host_name: "original".into(),
        app: "UNKNOWN".into(),
        ip_addr: "192.0.2.2".into(),
        sid: None,
        status: Status::Up,
        overridden_status: Status::Unknown,
        port: PortNumber { number: 18761, enabled: true },
        secure_port: PortNumber { number: 443, enabled: false },
        country_id: 1,
        data_center: DataCenter { name: "MyOwn", amazon: None },
        renewal_interval_s: 30,
        duration_s: 90,
        metadata: vec![("management.port".into(), "18761".into())],
        app_group: None,
        home_page_url: url(""),
        status_page_url: url("actuator/info"),
        health_check_url: url("actuator/health"),
        secure_health_check_url: None,
        vip_address: Some("unknown".into()),
        secure_vip_address: Some("unknown".into()),
        dirty_ms: 1_795_892_362_325,
        asg_name: None,
    };
    Server {
        processors: 2,
        total_memory_mib: 150,
        used_memory_mib: 101,
        uptime_ms: 30_000,
        replicas: vec![("http://127.0.0.1:18762/eureka/".to_owned(), false)],
        instance: Record {
            instance: instance.into(),
            times: Default::default(),
            updated_ms: 1_795_892_361_766,
            action: ActionType::Added,
        },
    }
}

fn written(server: &Server, format: Format) -> String {
    String::from_utf8(about_server(server, format).body.pieces.concat()).unwrap()
}

#[test]
fn a_server_tells_of_itself_as_the_original_does() {
    assert_eq!(written(&server(), Format::Xml), RECORDED);
}

#[test]
fn json_says_the_same() {
    let server = Server { uptime_ms: (50 * 60 + 7) * 60_000, ..server() };
    let said: serde_json::Value = serde_json::from_str(&written(&server, Format::Json)).unwrap();
    assert_eq!(said["generalStats"]["server-uptime"], "2 days 02:07");
    assert_eq!(said["applicationStats"]["unavailable-replicas"], "http://127.0.0.1:18762/eureka/,");
    assert_eq!(said["instanceInfo"]["instanceId"], "192.0.2.2:18761");
    assert_eq!(said["instanceInfo"].get("actionType"), None);
}
