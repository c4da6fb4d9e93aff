//! An instance of a service, as the client that registered it describes it, plus the statuses that the registry decides.

use std::sync::Arc;

use crate::status::Status;

/// A pair of metadata.
pub type Pair = (Box<str>, Box<str>);

/// One process that serves under an application's name. Who registers it chooses `id`, unique within the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Case matters.
    pub id: Arc<str>,
    pub host_name: Box<str>,
    /// The application, in upper case.
    pub app: Arc<str>,
    pub ip_addr: Box<str>,
    pub sid: Option<Box<str>>,
    /// The status that is shown: see `status.rs` for how it is chosen.
    pub status: Status,
    /// What an operator set; `Unknown` for nothing.
    pub overridden_status: Status,
    pub port: PortNumber,
    pub secure_port: PortNumber,
    pub country_id: i32,
    pub data_center: DataCenter,
    /// How often the client means to renew its lease, in seconds.
    pub renewal_interval_s: i32,
    /// How long the lease lasts without a renewal, in seconds.
    pub duration_s: i32,
    /// Keys are unique; the order is that of the registration.
    pub metadata: Vec<Pair>,
    /// In upper case.
    pub app_group: Option<Box<str>>,
    pub home_page_url: Option<Box<str>>,
    pub status_page_url: Option<Box<str>>,
    pub health_check_url: Option<Box<str>>,
    pub secure_health_check_url: Option<Box<str>>,
    /// Names under which the instance is looked up, separated by commas.
    pub vip_address: Option<Box<str>>,
    pub secure_vip_address: Option<Box<str>>,
    /// The client's clock when it last changed its data: the only version that the protocol knows. Milliseconds since the Unix epoch.
    pub dirty_ms: i64,
    pub asg_name: Option<Box<str>>,
}

/// A port, and whether it is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortNumber {
    pub number: i32,
    pub enabled: bool,
}

impl PortNumber {
    /// What an instance has that says nothing of its port.
    pub const PLAIN: PortNumber = PortNumber { number: 7001, enabled: true };
    /// The same for TLS.
    pub const SECURE: PortNumber = PortNumber { number: 7002, enabled: false };
}

/// Where an instance runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataCenter {
    /// `MyOwn`, `Netflix` or `Amazon`.
    pub name: &'static str,
    /// For Amazon's own description.
    pub amazon: Option<Amazon>,
}

impl DataCenter {
    pub(crate) const NAMES: [&'static str; 3] = ["MyOwn", "Netflix", "Amazon"];
}

/// What Amazon tells an instance of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Amazon {
    pub metadata: Vec<Pair>,
}

impl Amazon {
    /// The name of the machine, which stands in for a missing id of the instance.
    pub(crate) fn instance_id(&self) -> Option<&str> {
        self.metadata.iter().find(|(key, _)| &**key == "instance-id").map(|(_, value)| &**value)
    }
}

/// Why an instance is in a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionType {
    /// Registered, also when it was there before.
    Added,
    /// An override was set or taken away.
    Modified,
    /// Cancelled or evicted.
    Deleted,
}

impl ActionType {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            ActionType::Added => "ADDED",
            ActionType::Modified => "MODIFIED",
            ActionType::Deleted => "DELETED",
        }
    }
}
