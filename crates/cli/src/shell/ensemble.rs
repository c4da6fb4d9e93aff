//! config and reconfig: who the servers are.

use std::fs;

use serde_json::json;
use zookeeper_client::{EnsembleUpdate, Error};

use super::commands::JSON;
use super::failure::{Failure, refused};
use super::options::Arguments;
use super::watches::Kind;
use super::{Shell, format};

const CONFIG: &str = "/zookeeper/config";
const FILE_SIZE_LIMIT: u64 = 1024 * 1024;

pub(crate) async fn config(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let client = shell.client()?;
    let no = |error: Error| refused(&error, CONFIG);
    let (data, stat) = if arguments.has("w") {
        let (data, stat, watcher) = client.get_and_watch_config().await.map_err(no)?;
        shell.watches.add_once(Kind::Data, CONFIG, watcher);
        (data, stat)
    } else {
        client.get_config().await.map_err(no)?
    };
    let text = String::from_utf8_lossy(&data);
    if arguments.has(JSON) {
        let members: Vec<&str> = text.lines().filter(|line| line.starts_with("server.")).collect();
        return Ok(shell
            .output
            .json(&json!({"config": text, "members": members, "stat": format::stat_json(&stat)}))?);
    }
    if arguments.has("c") {
        shell.output.line(&connect_string(&text))?;
    } else {
        shell.output.line(&text)?;
    }
    if arguments.has("s") {
        shell.output.line(&format::stat(&stat, &shell.zone))?;
    }
    Ok(())
}

/// The version and the client addresses: `100000000 host:2181,host:2182`.
fn connect_string(config: &str) -> String {
    let mut version = "";
    let mut addresses = Vec::new();
    for (key, value) in config.lines().filter_map(|line| line.split_once('=')) {
        let value = value.trim();
        if key.trim() == "version" {
            version = value;
        } else if key.trim().starts_with("server.")
            && let Some((_, client)) = value.rsplit_once(';')
        {
            addresses.push(if client.contains(':') { client.to_owned() } else { format!("0.0.0.0:{client}") });
        }
    }
    format!("{version} {}", addresses.join(","))
}

pub(crate) async fn reconfigure(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let whole = arguments.has("file") || arguments.has("members");
    let partial = arguments.has("add") || arguments.has("remove");
    let refuse = |text: &str| Err(Failure::Refused(text.to_owned()));
    if !whole && !partial {
        return Err(shell.usage("reconfig"));
    }
    let version = match arguments.value("v").map(|text| i64::from_str_radix(text, 16)) {
        None => None,
        Some(Ok(version)) => Some(version),
        Some(Err(_)) => return refuse("-v must be followed by a long (configuration version)"),
    };
    if whole && partial {
        return refuse(
            "Can't use -file or -members together with -add or -remove (mixing incremental and non-incremental modes is \
             not allowed)",
        );
    }
    if arguments.has("file") && arguments.has("members") {
        return refuse("Can't use -file and -members together (conflicting non-incremental modes)");
    }
    let lower = |name: &str| arguments.value(name).map(str::to_lowercase).unwrap_or_default();
    let members = match arguments.value("file") {
        Some(file) => read_members(file)?,
        None => lower("members"),
    };
    let (joining, leaving) = (lower("add"), lower("remove"));
    let update = if whole {
        EnsembleUpdate::New { ensemble: [members.as_str()].into_iter() }
    } else {
        EnsembleUpdate::Incremental {
            joinings: [joining.as_str()].into_iter(),
            leavings: [leaving.as_str()].into_iter(),
        }
    };
    let answer = shell.client()?.update_ensemble(update, version).await;
    let (config, stat) = answer.map_err(|error| refused(&error, ""))?;
    shell.output.line(&format!("Committed new configuration:\n{}", String::from_utf8_lossy(&config)))?;
    if arguments.has("s") {
        shell.output.line(&format::stat(&stat, &shell.zone))?;
    }
    Ok(())
}

/// The `server.` lines of a dynamic configuration file; the server judges them.
fn read_members(file: &str) -> Result<String, Failure> {
    let problem = |reason: String| Failure::Refused(format!("Error processing {file}: {reason}"));
    match fs::metadata(file) {
        Ok(metadata) if metadata.len() > FILE_SIZE_LIMIT => {
            return Err(problem(format!("larger than {FILE_SIZE_LIMIT} bytes")));
        }
        Ok(_) => {}
        Err(error) => return Err(problem(error.to_string())),
    }
    let text = fs::read_to_string(file).map_err(|error| problem(error.to_string()))?;
    let members: Vec<&str> = text.lines().map(str::trim).filter(|line| line.starts_with("server.")).collect();
    if members.is_empty() {
        return Err(problem("no line server.N=host:port:port;port".to_owned()));
    }
    Ok(members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_strings() {
        assert_eq!(connect_string(""), " ");
        assert_eq!(
            connect_string(
                "server.1=h1:2888:3888:participant;0.0.0.0:2181\nserver.2=h2:2888:3888;2182\nserver.3=h3:1:2\nversion=100000000"
            ),
            "100000000 0.0.0.0:2181,0.0.0.0:2182"
        );
    }
}
