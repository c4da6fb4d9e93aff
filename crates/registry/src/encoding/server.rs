//! What a server says of itself: the resource `status`.
//!
//! Counterpart in the original: `StatusInfo`. It answers in XML only; its JSON is a fault, in the place of which stands the same in JSON here.

use super::fields::{self, Field};
use super::xml::{self, Writer};
use super::{Detail, Format, json};
use crate::application::Record;
use crate::status::Status;

/// A server, as it is at this moment.
#[derive(Debug, Clone)]
pub struct Server {
    pub processors: usize,
    pub total_memory_mib: u64,
    pub used_memory_mib: u64,
    pub uptime_ms: u64,
    /// The addresses of other servers, and which of them answer.
    pub replicas: Vec<(String, bool)>,
    /// The server as if it were an instance.
    pub instance: Record,
}

impl Server {
    /// Groups, with their names and values, in the order in which they are written.
    fn groups(&self) -> [(&'static str, Vec<(&'static str, String)>); 2] {
        let minutes = self.uptime_ms / 60_000;
        let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
        let uptime = match days {
            0 => format!("{hours:02}:{minutes:02}"),
            _ => format!("{days} days {hours:02}:{minutes:02}"),
        };
        let percent = self.used_memory_mib * 100 / self.total_memory_mib.max(1);
        let list = |answers: Option<bool>| -> Vec<&str> {
            let those = self.replicas.iter().filter(|(_, does)| answers.is_none_or(|answers| answers == *does));
            those.map(|(url, _)| url.as_str()).collect()
        };
        // The original puts a comma behind each of these two, but not into the first list.
        let ended = |urls: Vec<&str>| urls.iter().map(|url| format!("{url},")).collect::<String>();
        [
            (
                "generalStats",
                vec![
                    ("num-of-cpus", self.processors.to_string()),
                    ("total-avail-memory", format!("{}mb", self.total_memory_mib)),
                    ("current-memory-usage", format!("{}mb ({percent}%)", self.used_memory_mib)),
                    ("server-uptime", uptime),
                ],
            ),
            (
                "applicationStats",
                vec![
                    ("registered-replicas", list(None).join(",")),
                    ("available-replicas", ended(list(Some(true)))),
                    ("unavailable-replicas", ended(list(Some(false)))),
                ],
            ),
        ]
    }

    /// The fields of the instance. It is in no registry, so nothing was done with it.
    fn fields<'a>(&'a self, mut put: impl FnMut(&'static str, Field<'a>)) {
        fields::full(&self.instance, Status::Up, |name, value| match name {
            "actionType" => {}
            _ => put(name, value),
        });
    }

    pub(crate) fn write(&self, format: Format) -> Vec<u8> {
        let mut out = Vec::new();
        match format {
            Format::Xml => {
                const ROOT: &str = "com.netflix.eureka.util.StatusInfo";
                let mut writer = Writer::new(&mut out, Detail::Full, 0);
                writer.open(ROOT, None);
                for (group, values) in self.groups() {
                    writer.open(group, None);
                    values.iter().for_each(|(name, value)| writer.text(name, None, value));
                    writer.close(group);
                }
                writer.open("instanceInfo", None);
                self.fields(|name, value| xml::field(&mut writer, name, value));
                writer.close("instanceInfo");
                writer.close(ROOT);
                // The original ends without a line's end.
                out.pop();
            }
            Format::Json => {
                out.push(b'{');
                for (group, values) in self.groups() {
                    json::string(&mut out, group);
                    let mut separator = b":{".as_slice();
                    for (name, value) in values {
                        out.extend_from_slice(separator);
                        separator = b",";
                        json::string(&mut out, name);
                        out.push(b':');
                        json::string(&mut out, &value);
                    }
                    out.extend_from_slice(b"},");
                }
                out.extend_from_slice(b"\"instanceInfo\":");
                let mut separator = b'{';
                self.fields(|name, value| {
                    out.push(separator);
                    separator = b',';
                    json::string(&mut out, name);
                    out.push(b':');
                    json::value(&mut out, value);
                });
                out.extend_from_slice(b"}}");
            }
        }
        out
    }
}
