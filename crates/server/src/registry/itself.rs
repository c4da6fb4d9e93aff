//! What this server says of itself at `/eureka/status`, in the original's shape.

use std::net::SocketAddr;

use rookeeper_registry::encoding::Server;
use rookeeper_registry::{ActionType, DataCenter, Instance, PortNumber, Record, Status};

use super::service::Service;
use crate::observe::process::{Memory, Usage};

const MIB: u64 = 1 << 20;

pub(super) fn server(service: &Service) -> Server {
    let now = service.now();
    let peers = service.peers.all();
    let peers = peers.iter().filter(|peer| !peer.is_own());
    let uptime_ms = now.steady_ms.saturating_sub(service.began.steady_ms);
    Server {
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        total_memory_mib: Memory::of_machine().map_or(0, |memory| memory.total / MIB),
        used_memory_mib: Usage::of_this_process().map_or(0, |usage| usage.resident_bytes / MIB),
        uptime_ms,
        replicas: peers.map(|peer| (peer.address.to_string(), peer.state().1)).collect(),
        instance: Record {
            instance: instance(service).into(),
            times: Default::default(),
            updated_ms: service.began.wall_ms,
            action: ActionType::Added,
        },
    }
}

fn instance(service: &Service) -> Instance {
    let address = service.address.get().copied().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    let host = match &service.config.own_host {
        Some(host) => host.clone(),
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    let (is_secure, port) = (service.config.secure.server.is_some(), i32::from(address.port()));
    let url = |path: &str| {
        let scheme = if is_secure { "https" } else { "http" };
        Some(format!("{scheme}://{host}:{port}/{path}").into_boxed_str())
    };
    Instance {
        id: format!("{host}:{port}").into(),
        app: "EUREKA".into(),
        ip_addr: address.ip().to_string().into(),
        sid: None,
        status: Status::Up,
        overridden_status: Status::Unknown,
        port: PortNumber { number: if is_secure { 80 } else { port }, enabled: !is_secure },
        secure_port: PortNumber { number: if is_secure { port } else { 443 }, enabled: is_secure },
        country_id: 1,
        data_center: DataCenter { name: "MyOwn", amazon: None },
        renewal_interval_s: 30,
        duration_s: 90,
        metadata: vec![("management.port".into(), port.to_string().into())],
        app_group: None,
        home_page_url: url(""),
        status_page_url: url("actuator/info"),
        health_check_url: url("actuator/health"),
        secure_health_check_url: None,
        vip_address: Some("eureka".into()),
        secure_vip_address: Some("eureka".into()),
        dirty_ms: service.began.wall_ms,
        asg_name: None,
        host_name: host.into(),
    }
}
