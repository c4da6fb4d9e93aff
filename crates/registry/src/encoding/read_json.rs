//! Registrations in JSON.

use serde::Deserialize;

use super::draft::{Draft, Refused};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    instance: Draft,
}

pub(super) fn instance(bytes: &[u8]) -> Result<Draft, Refused> {
    match serde_json::from_slice::<Option<Root>>(bytes) {
        Ok(Some(root)) => Ok(root.instance),
        Ok(None) => Err(Refused::Nothing),
        Err(_) => Err(Refused::Unreadable),
    }
}
