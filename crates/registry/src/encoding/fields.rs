//! Which fields an instance has when it is written, in which order. The names are those of JSON; `xml.rs` knows the one that differs.

use crate::application::Record;
use crate::instance::{DataCenter, Pair, PortNumber};
use crate::lease::LeaseTimes;
use crate::status::Status;

/// The value of a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field<'a> {
    Text(&'a str),
    /// A number in JSON.
    Number(i64),
    /// A number that JSON writes as a string.
    NumberAsText(i64),
    Port(PortNumber),
    DataCenter(&'a DataCenter),
    Lease {
        renewal_interval_s: i32,
        duration_s: i32,
        times: LeaseTimes,
    },
    Metadata(&'a [Pair]),
}

/// Everything that the registry knows.
pub(super) fn full<'a>(record: &'a Record, status: Status, mut put: impl FnMut(&'static str, Field<'a>)) {
    let instance = &*record.instance;
    let text = |name, value: &'a Option<Box<str>>, put: &mut dyn FnMut(&'static str, Field<'a>)| {
        if let Some(value) = value {
            put(name, Field::Text(value));
        }
    };
    put("instanceId", Field::Text(&instance.id));
    put("hostName", Field::Text(&instance.host_name));
    put("app", Field::Text(&instance.app));
    put("ipAddr", Field::Text(&instance.ip_addr));
    text("sid", &instance.sid, &mut put);
    put("status", Field::Text(status.name()));
    put("overriddenStatus", Field::Text(instance.overridden_status.name()));
    put("port", Field::Port(instance.port));
    put("securePort", Field::Port(instance.secure_port));
    put("countryId", Field::Number(i64::from(instance.country_id)));
    put("dataCenterInfo", Field::DataCenter(&instance.data_center));
    put(
        "leaseInfo",
        Field::Lease {
            renewal_interval_s: instance.renewal_interval_s,
            duration_s: instance.duration_s,
            times: record.times,
        },
    );
    put("metadata", Field::Metadata(&instance.metadata));
    text("appGroupName", &instance.app_group, &mut put);
    text("homePageUrl", &instance.home_page_url, &mut put);
    text("statusPageUrl", &instance.status_page_url, &mut put);
    text("healthCheckUrl", &instance.health_check_url, &mut put);
    text("secureHealthCheckUrl", &instance.secure_health_check_url, &mut put);
    text("vipAddress", &instance.vip_address, &mut put);
    text("secureVipAddress", &instance.secure_vip_address, &mut put);
    put("isCoordinatingDiscoveryServer", Field::Text("false"));
    put("lastUpdatedTimestamp", Field::NumberAsText(record.updated_ms));
    put("lastDirtyTimestamp", Field::NumberAsText(instance.dirty_ms));
    put("actionType", Field::Text(record.action.name()));
    text("asgName", &instance.asg_name, &mut put);
}

/// What a client needs to call the instance.
pub(super) fn compact<'a>(record: &'a Record, mut put: impl FnMut(&'static str, Field<'a>)) {
    let instance = &*record.instance;
    put("instanceId", Field::Text(&instance.id));
    put("app", Field::Text(&instance.app));
    put("ipAddr", Field::Text(&instance.ip_addr));
    for (name, value) in [("vipAddress", &instance.vip_address), ("secureVipAddress", &instance.secure_vip_address)] {
        if let Some(value) = value {
            put(name, Field::Text(value));
        }
    }
    put("dataCenterInfo", Field::DataCenter(&instance.data_center));
    put("hostName", Field::Text(&instance.host_name));
    put("status", Field::Text(instance.status.name()));
    put("lastUpdatedTimestamp", Field::Number(record.updated_ms));
    put("actionType", Field::Text(record.action.name()));
    put("port", Field::Port(instance.port));
    put("securePort", Field::Port(instance.secure_port));
}

/// The class that stands for a data center in both formats.
pub(super) fn class_of(data_center: &DataCenter) -> &'static str {
    if data_center.amazon.is_some() { AMAZON } else { DEFAULT }
}

pub(super) const DEFAULT: &str = "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo";
pub(super) const MY_OWN: &str = "com.netflix.appinfo.MyDataCenterInfo";
pub(super) const AMAZON: &str = "com.netflix.appinfo.AmazonInfo";
/// How an empty map names itself.
pub(super) const EMPTY_MAP: &str = "java.util.Collections$EmptyMap";

/// The fields of a lease, in the order in which they are written.
pub(super) fn lease(renewal_interval_s: i32, duration_s: i32, times: LeaseTimes) -> [(&'static str, i64); 6] {
    [
        ("renewalIntervalInSecs", i64::from(renewal_interval_s)),
        ("durationInSecs", i64::from(duration_s)),
        ("registrationTimestamp", times.registered_ms),
        ("lastRenewalTimestamp", times.renewed_ms),
        ("evictionTimestamp", times.evicted_ms),
        ("serviceUpTimestamp", times.service_up_ms),
    ]
}
