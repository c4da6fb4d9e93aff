//! An ensemble of server processes on loopback, Rookeeper and the original in any mix.
//!
//! Every member has a loopback address of its own, chosen at random, so ensembles do not meet. A member can be killed, frozen,
//! stopped, and started again as the other product on the same directory. Waits poll what the members say of themselves and end
//! with a deadline, or at once when a process ended by itself. Whatever happens in a test, no process outlives its [`Ensemble`];
//! the logs are shown when the test fails.
//!
//! Ensembles with JVMs run one at a time in a process, the others side by side.

mod plan;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::client::{Client, Hello, four_letter_word_within};
use crate::disks::{self, Disks, Hosts};
use crate::member::{self, Member, State};
use crate::namespaces::Namespaces;
use crate::random::Random;
use crate::server::Product;

pub use plan::Plan;

/// Generous: a JVM on a machine with two busy cores takes its time.
pub const DEADLINE: Duration = Duration::from_secs(90);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const LED_BY_LAST_ATTEMPTS: usize = 5;
/// For one question to a member that may be starting or looking: the question is asked again.
const PROBE_DEADLINE: Duration = Duration::from_secs(1);

static TURN: RwLock<()> = RwLock::new(());

#[derive(Debug)]
enum Turn {
    Alone { _guard: RwLockWriteGuard<'static, ()> },
    Beside { _guard: RwLockReadGuard<'static, ()> },
}

impl Turn {
    fn take(alone: bool) -> Turn {
        if alone {
            Turn::Alone { _guard: TURN.write().unwrap_or_else(PoisonError::into_inner) }
        } else {
            Turn::Beside { _guard: TURN.read().unwrap_or_else(PoisonError::into_inner) }
        }
    }
}

#[derive(Debug)]
pub struct Ensemble {
    plan: Plan,
    /// The middle of all addresses on loopback.
    network: [u8; 2],
    namespaces: Option<Namespaces>,
    hosts: Option<Hosts>,
    disks: Option<Disks>,
    pub(crate) members: Vec<Member>,
    home: TempDir,
    logs_shown: bool,
    /// Last, so that it is given away after everything has ended.
    _turn: Turn,
}

impl Ensemble {
    pub fn ids(&self) -> Vec<u64> {
        self.members.iter().map(|member| member.id).collect()
    }

    pub fn running(&self) -> Vec<u64> {
        self.members.iter().filter(|member| member.state() == State::Running).map(|member| member.id).collect()
    }

    /// Gives the machine of each member a name that the members find by its address, and the other way round. Before a start.
    pub fn name_machines(&mut self, name: impl Fn(u64) -> String) -> Result<()> {
        let lines = self.ids().into_iter().map(|id| format!("{} {}\n", self.ip(id), name(id)));
        let file = self.home.path().join("hosts");
        std::fs::write(&file, lines.collect::<String>() + "127.0.0.1 localhost\n")?;
        let hosts = Hosts::new(&file)?;
        self.members.iter_mut().for_each(|member| member.mounts = Some(hosts.keeper()));
        self.hosts = Some(hosts);
        Ok(())
    }

    /// The client address of a member.
    pub fn address(&self, id: u64) -> SocketAddr {
        (self.ip(id), self.member(id).client_port).into()
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.ids().into_iter().map(|id| self.address(id)).collect()
    }

    pub fn quorum_address(&self, id: u64) -> SocketAddr {
        (self.ip(id), self.member(id).quorum_port).into()
    }

    pub fn election_address(&self, id: u64) -> SocketAddr {
        (self.ip(id), self.member(id).election_port).into()
    }

    /// Where a member feeds observers while it follows. Only with [`Plan::with_observer_masters`].
    pub fn observer_master_address(&self, id: u64) -> SocketAddr {
        let port = self.plan.config["observerMasterPort"].parse().expect("this ensemble chose the number");
        SocketAddr::new(self.ip(id).into(), port)
    }

    pub fn product(&self, id: u64) -> Product {
        self.member(id).product
    }

    pub fn log(&self, id: u64) -> String {
        self.member(id).log()
    }

    /// The epochs in which an Apache led: each writes that into its log before it serves.
    pub fn epochs_led_by_apache(&self) -> Result<BTreeSet<i64>> {
        const BEGINNING: &str = "starting up and setting last processed zxid: 0x";
        let mut epochs = BTreeSet::new();
        for member in &self.members {
            for line in member.log().lines() {
                if let Some((_, zxid)) = line.split_once(BEGINNING) {
                    let zxid = i64::from_str_radix(zxid.trim(), 16).with_context(|| format!("the zxid in {line:?}"))?;
                    epochs.insert(zxid >> 32);
                }
            }
        }
        Ok(epochs)
    }

    pub fn data_dir(&self, id: u64) -> PathBuf {
        self.member(id).data_dir()
    }

    pub fn process_id(&self, id: u64) -> Option<u32> {
        self.member(id).process_id()
    }

    pub fn connect(&self, id: u64) -> Result<Client> {
        Client::connect(self.address(id)).with_context(|| format!("a session with member {id}"))
    }

    /// The value of `server.N` for a member.
    pub fn server_line(&self, id: u64) -> String {
        let member = self.member(id);
        let role = if member.observer { "observer" } else { "participant" };
        let mut line = format!("{}:{}:{}:{role}", self.ip(id), member.quorum_port, member.election_port);
        if self.plan.client_in_server_line {
            let _ = write!(line, ";{}:{}", self.ip(id), member.client_port);
        }
        line
    }

    /// A further member, which knows of all members so far and of itself, while those do not know of it.
    pub fn add(&mut self, product: Product, observer: bool) -> Result<u64> {
        let id = self.reserve(product, observer)?;
        self.write_config(id)?;
        Ok(id)
    }

    /// A line of zoo.cfg that a member has from its next start on, and whoever is given one after it.
    pub fn set_config(&mut self, id: u64, key: &str, value: &str) -> Result<()> {
        self.plan.config.insert(key.to_owned(), value.to_owned());
        self.write_config(id)
    }

    /// SIGKILL: nothing gets the chance to be written any more.
    pub fn kill(&mut self, id: u64) -> Result<()> {
        self.wait_until_logs_have_begun()?;
        self.member_mut(id).kill()
    }

    /// SIGTERM, then wait for the orderly end.
    pub fn stop(&mut self, id: u64) -> Result<()> {
        self.wait_until_logs_have_begun()?;
        self.member_mut(id).terminate()
    }

    /// The original reads its files again whenever it loses its leader, and never gets over a log of which not even the header is
    /// written, which is how each of its logs begins.
    fn wait_until_logs_have_begun(&mut self) -> Result<()> {
        self.poll_until("all logs of the original have a header", &mut |this| {
            for id in this.running() {
                if this.member(id).product == Product::Apache && has_log_without_header(&this.data_dir(id))? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Waits until a member ends that was not asked to.
    pub fn wait_end(&mut self, id: u64) -> Result<ExitStatus> {
        let result = self.member_mut(id).wait_end();
        if result.is_err() {
            self.show_logs();
        }
        result
    }

    /// SIGSTOP: it keeps its connections and says nothing.
    pub fn freeze(&mut self, id: u64) -> Result<()> {
        self.wait_until_logs_have_begun()?;
        self.member_mut(id).freeze()
    }

    pub fn thaw(&mut self, id: u64) -> Result<()> {
        self.member_mut(id).thaw()
    }

    /// Nothing that `from` sends reaches `to` any more, and nobody is told.
    pub fn cut(&self, from: u64, to: u64) -> Result<()> {
        self.namespaces.as_ref().context("not in namespaces")?.cut(from, to)
    }

    pub fn mend(&self, from: u64, to: u64) -> Result<()> {
        self.namespaces.as_ref().context("not in namespaces")?.mend(from, to)
    }

    /// Somebody else fills the disk of a member until no more than so many bytes are free.
    pub fn fill_disk(&self, id: u64, left_bytes: u64) -> Result<()> {
        disks::fill(&self.ballast(id)?, left_bytes)
    }

    /// Gives the disk of a member the room back that [`Ensemble::fill_disk`] took.
    pub fn empty_disk(&self, id: u64) -> Result<()> {
        disks::empty(&self.ballast(id)?)
    }

    fn ballast(&self, id: u64) -> Result<PathBuf> {
        let disks = self.disks.as_ref().context("no disks of their own")?;
        Ok(disks.path(&self.data_dir(id).join("ballast")))
    }

    pub fn start(&mut self, id: u64) -> Result<()> {
        let fast_jvm = self.plan.fast_jvm;
        let (properties, variables) = (self.plan.properties.clone(), self.plan.variables.clone());
        self.member_mut(id).spawn(&properties, &variables, fast_jvm)
    }

    /// Starts a member as this product from now on, on the directory and configuration it has.
    pub fn start_as(&mut self, id: u64, product: Product) -> Result<()> {
        ensure!(
            product == Product::Rookeeper || matches!(self._turn, Turn::Alone { .. }),
            "an ensemble that gets a JVM later must begin with one"
        );
        self.member_mut(id).product = product;
        self.start(id)
    }

    /// Removes everything a member has stored.
    pub fn wipe(&mut self, id: u64) -> Result<()> {
        ensure!(self.member(id).state() == State::Gone, "member {id} runs");
        fs::remove_dir_all(self.data_dir(id).join("version-2"))?;
        Ok(())
    }

    pub fn start_all(&mut self) -> Result<()> {
        for id in self.ids() {
            if self.member(id).state() == State::Gone {
                self.start(id)?;
            }
        }
        Ok(())
    }

    /// On directories that are equal, or empty. The others may agree without the last one where it answers a moment too late: then
    /// all try again.
    pub fn start_led_by_last(&mut self) -> Result<()> {
        let voters = self.members.iter().filter(|member| !member.observer);
        let last = voters.map(|member| member.id).max().context("no voter")?;
        for _ in 0..LED_BY_LAST_ATTEMPTS {
            let start = self.log(last).len();
            self.start(last)?;
            // Apache answers before its election port does.
            let looks = |ensemble: &Ensemble| {
                ensemble.word(last, "ruok").is_ok()
                    && (ensemble.product(last) == Product::Rookeeper
                        || ensemble.log(last)[start..].contains("New election"))
            };
            self.wait_for("the last member looks for a leader", |ensemble| Ok(looks(ensemble)))?;
            self.start_all()?;
            let leader = self.wait_formed()?;
            if leader == last {
                return Ok(());
            }
            println!("member {leader} leads instead of {last}");
            for id in self.ids() {
                self.stop(id)?;
            }
        }
        self.show_logs();
        bail!("member {last} does not lead after {LED_BY_LAST_ATTEMPTS} attempts")
    }

    /// The answer of a member to a four-letter word, soon or not at all.
    pub fn word(&self, id: u64, word: &str) -> Result<String> {
        four_letter_word_within(self.address(id), word, PROBE_DEADLINE)
    }

    /// What a member says of itself under this name in `mntr`; nothing where it says nothing, or does not serve.
    pub fn figure(&self, id: u64, name: &str) -> Option<String> {
        if self.member(id).state() != State::Running {
            return None;
        }
        let text = self.word(id, "mntr").ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t')).map(str::to_owned)
    }

    /// The member that feeds an observer, as the observer says.
    pub fn observer_master(&self, observer: u64) -> Option<u64> {
        self.figure(observer, "zk_observer_master_id")?.parse().ok()
    }

    /// What a member says it is: leader, follower, observer, read-only; nothing while it does not serve.
    pub fn mode(&self, id: u64) -> Option<String> {
        if self.member(id).state() != State::Running {
            return None;
        }
        let text = self.word(id, "srvr").ok()?;
        text.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
    }

    /// Waits until every member that runs serves, one of them as the leader, and says which.
    pub fn wait_formed(&mut self) -> Result<u64> {
        let mut leader = 0;
        self.wait_for("all running members serve", |ensemble| {
            let modes: Vec<(u64, Option<String>)> =
                ensemble.running().into_iter().map(|id| (id, ensemble.mode(id))).collect();
            let leaders: Vec<u64> =
                modes.iter().filter(|(_, mode)| mode.as_deref() == Some("leader")).map(|(id, _)| *id).collect();
            leader = leaders.first().copied().unwrap_or_default();
            Ok(leaders.len() == 1
                && modes.iter().all(|(_, mode)| matches!(mode.as_deref(), Some("leader" | "follower" | "observer"))))
        })?;
        Ok(leader)
    }

    /// Waits until a member leads that is not `other`, whatever the rest does, and says which.
    pub fn wait_leader_other_than(&mut self, other: u64) -> Result<u64> {
        let mut leader = 0;
        self.wait_for("somebody else leads", |ensemble| {
            let leads = |id: &u64| *id != other && ensemble.mode(*id).as_deref() == Some("leader");
            leader = ensemble.running().into_iter().find(leads).unwrap_or_default();
            Ok(leader != 0)
        })?;
        Ok(leader)
    }

    pub fn leader(&mut self) -> Result<u64> {
        self.wait_leader_other_than(0)
    }

    /// Waits until a follower that is none of `others` feeds the only observer, and both say so; and says which.
    pub fn wait_observer_master(&mut self, observer: u64, others: &[u64]) -> Result<u64> {
        let mut found = 0;
        self.wait_for("a follower feeds the observer", |ensemble| {
            let Some(master) = ensemble.observer_master(observer).filter(|master| !others.contains(master)) else {
                return Ok(false);
            };
            found = master;
            let feeds = ensemble.figure(master, "zk_synced_observers").is_some_and(|count| count == "1");
            Ok(feeds && ensemble.mode(master).as_deref() == Some("follower"))
        })?;
        Ok(found)
    }

    /// Running members that serve and do not lead.
    pub fn followers(&mut self) -> Result<Vec<u64>> {
        let leader = self.leader()?;
        Ok(self.running().into_iter().filter(|id| *id != leader && !self.member(*id).observer).collect())
    }

    /// Polls until the condition holds. A member that ended by itself fails the wait.
    pub fn wait_for(&mut self, what: &str, mut condition: impl FnMut(&mut Ensemble) -> Result<bool>) -> Result<()> {
        let result = self.poll_until(what, &mut condition);
        if result.is_err() {
            self.show_logs();
        }
        result
    }

    fn poll_until(&mut self, what: &str, condition: &mut dyn FnMut(&mut Ensemble) -> Result<bool>) -> Result<()> {
        let until = Instant::now() + DEADLINE;
        loop {
            if condition(self)? {
                return Ok(());
            }
            for member in &mut self.members {
                member.check_alive()?;
            }
            if Instant::now() > until {
                let ids = self.running();
                let modes: Vec<String> = ids.into_iter().map(|id| format!("{id}: {:?}", self.mode(id))).collect();
                bail!("not after {DEADLINE:?}: {what}; members say {}", modes.join(", "));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits until the log of a member, from `start` on, has one of these texts.
    pub fn wait_log(&mut self, id: u64, start: usize, texts: &[&str]) -> Result<()> {
        let what = format!("the log of member {id} says one of {texts:?}");
        self.wait_for(&what, |ensemble| {
            let log = ensemble.log(id);
            let log = log.get(start..).unwrap_or_default();
            Ok(texts.iter().any(|text| log.contains(text)))
        })
    }

    /// Waits until all running members have processed the same last transaction, and says which. Takes quiet clients.
    pub fn wait_same_zxid(&mut self) -> Result<i64> {
        let mut last = 0;
        self.wait_for("all members are at the same zxid", |ensemble| {
            let zxid = |id: u64| -> Option<i64> {
                let text = ensemble.word(id, "srvr").ok()?;
                let zxid = text.lines().find_map(|line| line.strip_prefix("Zxid: 0x"))?;
                i64::from_str_radix(zxid, 16).ok()
            };
            let zxids: Vec<Option<i64>> = ensemble.running().into_iter().map(zxid).collect();
            last = zxids.first().copied().flatten().unwrap_or_default();
            Ok(zxids.iter().all(|zxid| zxid.is_some() && *zxid == zxids[0]))
        })?;
        Ok(last)
    }

    /// A client that may be told to wait no longer than this.
    pub fn connect_within(&self, id: u64, deadline: Duration) -> Result<Client> {
        Hello { deadline, ..Hello::default() }.connect(self.address(id))
    }

    /// Once, at the first sign of a failure.
    fn show_logs(&mut self) {
        if !std::mem::replace(&mut self.logs_shown, true) {
            self.members.iter().for_each(Member::show_log);
        }
    }

    fn ip(&self, id: u64) -> Ipv4Addr {
        if let Some(namespaces) = &self.namespaces {
            return namespaces.address(id);
        }
        Ipv4Addr::new(127, self.network[0], self.network[1], id as u8)
    }

    fn member(&self, id: u64) -> &Member {
        &self.members[id as usize - 1]
    }

    fn member_mut(&mut self, id: u64) -> &mut Member {
        &mut self.members[id as usize - 1]
    }

    fn reserve(&mut self, product: Product, observer: bool) -> Result<u64> {
        let id = self.members.len() as u64 + 1;
        let directory = self.home.path().join(id.to_string());
        fs::create_dir_all(directory.join("data"))?;
        fs::write(directory.join("data/myid"), format!("{id}\n"))?;
        let namespace = self.namespaces.as_ref().map(|namespaces| namespaces.name(id));
        let ports = match &mut self.namespaces {
            // There, everything is unused.
            Some(namespaces) => namespaces.add(id).map(|()| [2181, 2888, 3888])?,
            None => member::unused_ports(self.ip(id))?,
        };
        self.members.push(Member {
            id,
            product,
            observer,
            directory,
            client_port: ports[0],
            quorum_port: ports[1],
            election_port: ports[2],
            namespace,
            mounts: self.disks.as_ref().map(Disks::keeper),
            process: None,
            frozen: false,
        });
        Ok(id)
    }

    fn write_config(&self, id: u64) -> Result<()> {
        let member = self.member(id);
        let mut text = format!("dataDir={}\n", self.data_dir(id).display());
        for (key, value) in &self.plan.config {
            writeln!(text, "{key}={value}")?;
        }
        if !self.plan.client_in_server_line {
            writeln!(text, "clientPort={}\nclientPortAddress={}", member.client_port, self.ip(id))?;
        }
        if member.observer {
            writeln!(text, "peerType=observer")?;
        }
        for other in self.ids() {
            writeln!(text, "server.{other}={}", self.server_line(other))?;
        }
        fs::write(member.directory.join("zoo.cfg"), text)?;
        Ok(())
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Err(error) = member.kill() {
                eprintln!("cannot end member {}: {error:#}", member.id);
            }
        }
        if thread::panicking() {
            self.show_logs();
        }
        if thread::panicking() && std::env::var_os("ROOKEEPER_KEEP").is_some() {
            self.home.disable_cleanup(true);
            eprintln!("kept: {}", self.home.path().display());
        }
    }
}

/// Connections to 127.0.0.0/8 come from 127.0.0.1, so the ports of the other addresses stay free for those who listen.
fn random_network() -> [u8; 2] {
    let mut random = Random::from_clock();
    [0; 2].map(|_| 1 + random.below(253) as u8)
}

fn has_log_without_header(data_dir: &Path) -> Result<bool> {
    const HEADER_BYTES: u64 = 16;
    let Ok(files) = fs::read_dir(data_dir.join("version-2")) else { return Ok(false) };
    for file in files {
        let file = file?;
        // A log that was deleted meanwhile does not matter.
        let length = file.metadata().map_or(HEADER_BYTES, |metadata| metadata.len());
        if file.file_name().to_string_lossy().starts_with("log.") && length < HEADER_BYTES {
            return Ok(true);
        }
    }
    Ok(false)
}
