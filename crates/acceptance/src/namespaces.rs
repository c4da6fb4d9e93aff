//! A network of its own for each member of an ensemble, so that any of them can stop to hear any other one, in either direction,
//! while the clients of the test reach them all.
//!
//! Needs root and Linux: network namespaces on one bridge. A cut is silent, as a pulled cable is: frames go to a station that does
//! not exist. Connections stay, and go on when it is mended.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::random::Random;

const NOBODY: &str = "02:00:00:00:00:99";
/// The bridge, which is where the test is.
const OURS: u8 = 254;

#[derive(Debug)]
pub struct Namespaces {
    tag: String,
    /// Of 198.18.0.0/16, which is for measurements.
    third_octet: u8,
    members: Vec<u64>,
}

impl Namespaces {
    /// False where the machine or the user may not have any: then there is nothing to test.
    pub fn are_available() -> bool {
        let tag = tag();
        let name = format!("rk-{tag}-try");
        let bridge = format!("rkt{tag}");
        let made = ip(&["netns", "add", &name]).and_then(|()| ip(&["link", "add", &bridge, "type", "bridge"]));
        let _ = ip(&["netns", "del", &name]);
        let _ = ip(&["link", "del", &bridge]);
        if let Err(error) = &made {
            println!("no network namespaces here, so nothing is tested: {error:#}");
        }
        made.is_ok()
    }

    pub(crate) fn new() -> Result<Namespaces> {
        let third_octet = 1 + Random::from_clock().below(250) as u8;
        let network = Namespaces { tag: tag(), third_octet, members: Vec::new() };
        let bridge = network.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", network.address(u64::from(OURS))), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        Ok(network)
    }

    pub(crate) fn add(&mut self, id: u64) -> Result<()> {
        let (name, outside) = (self.name(id), self.outside(id));
        ip(&["netns", "add", &name])?;
        self.members.push(id);
        ip(&["link", "add", &outside, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
        ip(&["link", "set", &outside, "master", &self.bridge()])?;
        ip(&["link", "set", &outside, "up"])?;
        ip(&["-n", &name, "addr", "add", &format!("{}/24", self.address(id)), "dev", "eth0"])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        ip(&["-n", &name, "link", "set", "eth0", "up"])
    }

    pub(crate) fn address(&self, id: u64) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.third_octet, id as u8)
    }

    pub(crate) fn name(&self, id: u64) -> String {
        format!("rk-{}-{id}", self.tag)
    }

    /// Nothing that `from` sends reaches `to` any more.
    pub(crate) fn cut(&self, from: u64, to: u64) -> Result<()> {
        let to = self.address(to).to_string();
        ip(&["-n", &self.name(from), "neigh", "replace", &to, "lladdr", NOBODY, "dev", "eth0", "nud", "permanent"])
    }

    pub(crate) fn mend(&self, from: u64, to: u64) -> Result<()> {
        let to = self.address(to).to_string();
        ip(&["-n", &self.name(from), "neigh", "del", &to, "dev", "eth0"])
    }

    fn outside(&self, id: u64) -> String {
        format!("rkv{}-{id}", self.tag)
    }

    fn bridge(&self) -> String {
        format!("rkb{}", self.tag)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let mut results = Vec::new();
        for id in &self.members {
            // The kernel may keep a namespace for a while, and its cable with it.
            results.push(ip(&["link", "del", &self.outside(*id)]));
            results.push(ip(&["netns", "del", &self.name(*id)]));
        }
        results.push(ip(&["link", "del", &self.bridge()]));
        results.into_iter().filter_map(Result::err).for_each(|error| eprintln!("{error:#}"));
    }
}

/// Names of interfaces are short.
fn tag() -> String {
    format!("{:06x}", Random::from_clock().below(1 << 24))
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip cannot be started")?;
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
