//! What an ensemble of server processes is made of, and how it comes about.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use super::{Ensemble, Turn, random_network};
use crate::disks::Disks;
use crate::member::{self, Member};
use crate::namespaces::Namespaces;
use crate::server::Product;

/// What an ensemble is started with. Members are numbered from 1.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) products: Vec<Product>,
    pub(super) observers: Vec<u64>,
    pub(super) config: BTreeMap<String, String>,
    pub(super) properties: Vec<String>,
    pub(super) variables: Vec<(String, String)>,
    pub(super) client_in_server_line: bool,
    pub(super) observer_masters: bool,
    pub(super) fast_jvm: bool,
    pub(super) in_namespaces: bool,
    pub(super) disk_bytes: Option<u64>,
}

impl Plan {
    /// Short ticks, so that a test takes seconds; sessions may still ask for a minute.
    pub fn of(products: &[Product]) -> Plan {
        let plan = Plan {
            products: products.to_vec(),
            observers: Vec::new(),
            config: BTreeMap::new(),
            properties: Vec::new(),
            variables: Vec::new(),
            client_in_server_line: false,
            observer_masters: false,
            fast_jvm: false,
            in_namespaces: false,
            disk_bytes: None,
        };
        plan.config("tickTime", "300")
            .config("initLimit", "40")
            .config("syncLimit", "7")
            .config("maxSessionTimeout", "60000")
            .config("maxClientCnxns", "0")
            .config("preAllocSize", "64")
            .config("4lw.commands.whitelist", "*")
            .config("admin.enableServer", "false")
            .property("-Dzookeeper.preAllocSize=64")
    }

    /// That many servers of the product under test.
    pub fn under_test(count: usize) -> Plan {
        Plan::of(&vec![Product::under_test(); count])
    }

    pub fn observer(mut self, id: u64) -> Plan {
        self.observers.push(id);
        self
    }

    /// A line of every member's zoo.cfg; a later one takes the place of an earlier one.
    pub fn config(mut self, key: &str, value: &str) -> Plan {
        self.config.insert(key.to_owned(), value.to_owned());
        self
    }

    /// A system property of every member as operators write it: `-Dkey=value`.
    pub fn property(mut self, flag: &str) -> Plan {
        self.properties.push(flag.to_owned());
        self
    }

    /// A variable of every member's environment.
    pub fn variable(mut self, name: &str, value: &str) -> Plan {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets `super:admin` see and change everything.
    pub fn with_super_user(self) -> Plan {
        // Base64 of the SHA-1 of "super:admin".
        self.property("-Dzookeeper.DigestAuthenticationProvider.superDigest=super:xQJmxLMiHGwaqBvst5y6rkB6HQs=")
    }

    /// Client addresses in the server lines, as dynamic membership wants them.
    pub fn reconfigurable(mut self) -> Plan {
        self.client_in_server_line = true;
        self.config("reconfigEnabled", "true").config("standaloneEnabled", "false").with_super_user()
    }

    /// Followers feed the observers (`observerMasterPort`).
    pub fn with_observer_masters(mut self) -> Plan {
        self.observer_masters = true;
        self
    }

    /// Each member in a network of its own, so that it can be cut off. Needs [`Namespaces::are_available`].
    pub fn in_namespaces(mut self) -> Plan {
        self.in_namespaces = true;
        self
    }

    /// Each member on a disk of its own of this size, which can be full. Needs [`Disks::are_available`].
    pub fn on_disks_of(mut self, bytes: u64) -> Plan {
        self.disk_bytes = Some(bytes);
        self
    }

    /// Settings as operators have them, and the JVM may compile as well as it can.
    pub fn for_measurements(mut self) -> Plan {
        self.fast_jvm = true;
        self.config.remove("preAllocSize");
        self.properties.retain(|flag| !flag.starts_with("-Dzookeeper.preAllocSize"));
        self.config("tickTime", "2000").config("initLimit", "10").config("syncLimit", "5")
    }

    /// Starts all members and waits until they are one ensemble.
    pub fn start(self) -> Result<Ensemble> {
        let mut ensemble = self.prepare()?;
        ensemble.start_all()?;
        ensemble.wait_formed()?;
        Ok(ensemble)
    }

    /// As `start`, and the last member leads: it is there before the others, and its id is the greatest.
    pub fn start_led_by_last(self) -> Result<Ensemble> {
        let mut ensemble = self.prepare()?;
        ensemble.start_led_by_last()?;
        Ok(ensemble)
    }

    /// The directories and addresses of all members; nothing runs yet.
    pub fn prepare(self) -> Result<Ensemble> {
        let turn = Turn::take(self.products.contains(&Product::Apache));
        let home = tempfile::Builder::new().prefix("rookeeper-ensemble-").tempdir()?;
        let disk_bytes = self.disk_bytes;
        let mut ensemble = Ensemble {
            disks: None,
            hosts: None,
            namespaces: if self.in_namespaces { Some(Namespaces::new()?) } else { None },
            network: random_network(),
            plan: self,
            members: Vec::new(),
            home,
            logs_shown: false,
            _turn: turn,
        };
        for product in ensemble.plan.products.clone() {
            let id = ensemble.members.len() as u64 + 1;
            let observer = ensemble.plan.observers.contains(&id);
            ensemble.reserve(product, observer)?;
        }
        if ensemble.plan.observer_masters {
            // One for all, and each has an address of its own.
            let port = member::unused_ports(ensemble.ip(1))?[0];
            ensemble.plan.config.insert("observerMasterPort".to_owned(), port.to_string());
        }
        let ids: Vec<u64> = ensemble.ids();
        for id in ids {
            ensemble.write_config(id)?;
        }
        if let Some(bytes) = disk_bytes {
            let directories: Vec<PathBuf> = ensemble.members.iter().map(Member::data_dir).collect();
            let disks = Disks::new(&directories, bytes)?;
            ensemble.members.iter_mut().for_each(|member| member.mounts = Some(disks.keeper()));
            ensemble.disks = Some(disks);
        }
        Ok(ensemble)
    }
}
