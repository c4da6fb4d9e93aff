//! `rookeeper discover`: the instances of a service that live, and their changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use rookeeper_recipes::{Error, Instance, Instances, Problem, Registry, Service, State};
use serde_json::json;

use super::BASE;
use crate::exclusive::{SessionFlags, complain, end, run, sessions};
use crate::print;

const FAILED: u8 = 1;
const NO_SERVER: u8 = 69;

/// List the instances of a service.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Prints a line for each instance: its address, a tab, its id, a tab, its payload as JSON. Instances that are not enabled are left out, but with --all. Without NAME:
the names of the services. With --watch a line for each change, from the instances that are there on: up, changed or down, a tab, and the rest as above. The watch goes on
when connections are lost and sessions expire. --json prints each instance as the object that Apache Curator's ServiceDiscovery writes, behind --watch as the field
instance beside the field change.

Exit code: 0; 69 no server gives a session, 128 + N signal N ended it; 1 anything else.")]
pub struct Options {
    /// The name of the service
    pub name: Option<String>,

    #[command(flatten)]
    pub session: SessionFlags,

    /// The path of all services
    #[arg(long, value_name = "PATH", default_value = BASE)]
    pub base: String,

    /// Go on, and print each change
    #[arg(long, requires = "name")]
    pub watch: bool,

    /// Those too that are not enabled
    #[arg(long)]
    pub all: bool,

    /// Print each line as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs `rookeeper discover` and returns the exit code.
pub fn main(options: &Options) -> u8 {
    run(async |signals| {
        let sessions = sessions(&options.session, signals).await?;
        let registry = Registry::new(&sessions, &options.base);
        let work = async {
            match &options.name {
                None => list_names(&registry, options).await,
                Some(name) if options.watch => watch(&registry.service(name), options).await,
                Some(name) => list(&registry, name, options).await,
            }
        };
        let code = tokio::select! {
            code = work => code,
            () = print::reader_has_gone(), if options.watch => 0,
            number = signals.next() => 128 + number as u8,
        };
        drop(registry);
        end(sessions).await;
        Ok(code)
    })
}

async fn list_names(registry: &Registry, options: &Options) -> u8 {
    let names = match registry.names().await {
        Ok(names) => names,
        Err(error) => return complain(&error),
    };
    let lines = names.into_iter().map(|name| match options.json {
        true => json!(name).to_string(),
        false => print::visible(name.as_bytes()),
    });
    lines.into_iter().find_map(|line| print::result_of_many(&line)).unwrap_or(0)
}

async fn list(registry: &Registry, name: &str, options: &Options) -> u8 {
    let instances: Result<Instances, Error> = registry.instances(name).await;
    let instances = match instances {
        Ok(instances) => instances,
        Err(error) => return complain(&error),
    };
    for (id, why) in &instances.undecodable {
        print::complaint(&format_args!("{}/{name}/{id} is no instance: {why}", options.base));
    }
    let mut shown = instances.live.iter().filter(|instance| instance.enabled || options.all);
    shown.find_map(|instance| print::result_of_many(&line(None, instance, options.json))).unwrap_or(0)
}

async fn watch(service: &Service, options: &Options) -> u8 {
    let mut states = service.changes();
    let mut told: BTreeMap<String, Arc<Instance>> = BTreeMap::new();
    let mut complaint = None;
    while let Some(State { value, problem, .. }) = states.next().await {
        if problem != complaint {
            if let Some(problem) = &problem {
                print::complaint(problem);
            }
            complaint = problem;
        }
        match (&value, &complaint) {
            (_, Some(Problem::Stopped(_))) => return NO_SERVER,
            // There never was anything to watch.
            (None, Some(_)) => return FAILED,
            _ => {}
        }
        let Some(instances) = value else { continue };
        let now: BTreeMap<String, Arc<Instance>> = instances
            .live
            .iter()
            .filter(|instance| instance.enabled || options.all)
            .map(|instance| (instance.id.clone(), Arc::clone(instance)))
            .collect();
        for (change, instance) in changes(&told, &now) {
            if let Some(code) = print::result_of_many(&line(Some(change), instance, options.json)) {
                return code;
            }
        }
        told = now;
    }
    NO_SERVER
}

/// First those that went, so that whoever follows the lines never has more than there are.
fn changes<'a>(
    told: &'a BTreeMap<String, Arc<Instance>>,
    now: &'a BTreeMap<String, Arc<Instance>>,
) -> Vec<(&'static str, &'a Instance)> {
    let down = told.iter().filter(|(id, _)| !now.contains_key(*id)).map(|(_, instance)| ("down", &**instance));
    let others = now.iter().filter_map(|(id, instance)| match told.get(id) {
        None => Some(("up", &**instance)),
        Some(old) if old != instance => Some(("changed", &**instance)),
        Some(_) => None,
    });
    down.chain(others).collect()
}

fn line(change: Option<&str>, instance: &Instance, json: bool) -> String {
    if json {
        // In the order of Curator's fields.
        let object = serde_json::to_string(instance).unwrap_or_default();
        return match change {
            Some(change) => format!("{{\"change\":\"{change}\",\"instance\":{object}}}"),
            None => object,
        };
    }
    let payload = instance.payload.as_ref().map_or(String::new(), ToString::to_string);
    let parts = [instance.host_and_port(), instance.id.clone(), payload];
    let parts = parts.iter().map(|part| print::visible(part.as_bytes()));
    change.map(str::to_owned).into_iter().chain(parts).collect::<Vec<_>>().join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_is_told_first() {
        let of = |instances: &[(&str, u16)]| -> BTreeMap<String, Arc<Instance>> {
            let instance =
                |id: &str, port| Instance { registration_time_utc: 0, ..Instance::new("web", "h", port).with_id(id) };
            instances.iter().map(|(id, port)| ((*id).to_owned(), Arc::new(instance(id, *port)))).collect()
        };
        let (told, now) = (of(&[("a", 1), ("c", 1), ("d", 1)]), of(&[("a", 2), ("b", 1), ("d", 1)]));
        let lines: Vec<_> =
            changes(&told, &now).into_iter().map(|(change, instance)| line(Some(change), instance, false)).collect();
        assert_eq!(lines, ["down\th:1\tc\t", "changed\th:2\ta\t", "up\th:1\tb\t"]);
    }

    #[test]
    fn lines_hold_any_payload() {
        let instance = Instance::new("web", "h\n", 1).with_id("a\tb").with_payload("x\n");
        assert_eq!(line(None, &instance, false), "h\\n:1\ta\\tb\t\"x\\\\n\"".replace("\\\\n", "\\n"));
        let object: serde_json::Value = serde_json::from_str(&line(Some("up"), &instance, true)).unwrap();
        assert_eq!((&object["change"], &object["instance"]["serviceType"]), (&"up".into(), &"DYNAMIC".into()));
    }
}
