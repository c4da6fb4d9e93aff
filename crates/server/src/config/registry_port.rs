//! The service registry in the process of a server: `registry.port`, and behind the prefix `registry.` the keys that `rookeeper registry` knows.

use std::path::Path;

use super::ensemble::ReadFile;
use super::error::{ConfigError, Fault, Notice};
use super::settings::Settings;
use crate::registry::RegistryConfig;

const PREFIX: &str = "registry.";

/// None where no port is given.
pub(super) fn read(settings: &Settings, read_file: ReadFile<'_>) -> Result<Option<RegistryConfig>, ConfigError> {
    let file = settings.text("registry.config").map(Path::new);
    let families = [
        "registry.eureka.client.*",
        "registry.server.ssl.*",
        "registry.spring.*",
        "registry.consistent.*",
        "registry.*",
    ];
    let own = ["consistent", "base", "connect", "snapshot", "peers-from-dns"].map(|name| format!("{PREFIX}{name}"));
    let own = own.iter().filter_map(|name| settings.setting(name));
    let others: Vec<(String, String)> = families
        .into_iter()
        .flat_map(|family| settings.family(family))
        .chain(own)
        .map(|setting| (key(&setting.name).to_owned(), setting.value.clone()))
        .collect();
    let Some(port) = settings.setting("registry.port") else {
        if file.is_some() || !others.is_empty() {
            settings
                .warn("keys of the service registry have no effect without registry.port, for example 8761".to_owned());
        }
        return Ok(None);
    };
    let mut given = others;
    given.push(("server.port".to_owned(), port.value.trim().to_owned()));
    let wrong = |why: String| {
        let remedy = "The keys are those of `rookeeper registry`, each with registry. before it.";
        ConfigError::from(Fault::new(format!("the service registry can't be configured so: {why}"), remedy))
    };
    let (config, notices) = RegistryConfig::load_with(file, &given, read_file).map_err(wrong)?;
    for notice in notices {
        settings.notice(Notice::warn(format!("service registry: {notice}")));
    }
    Ok(Some(config))
}

/// The key of a file of Spring's; of those that only this registry knows, the name is the same in `zoo.cfg`.
fn key(name: &str) -> &str {
    let inner = name.strip_prefix(PREFIX).unwrap_or(name);
    let is_of_spring = ["eureka", "server", "spring"].iter().any(|first| inner.split('.').next() == Some(first));
    if is_of_spring { inner } else { name }
}
