//! An ensemble for a test, whose members can be killed, frozen and cut off.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Instant;

use crate::link::Link;
use crate::process::{Directory, Process, word};
use crate::{DEADLINE, Error, POLL_INTERVAL};

/// So many servers that are one, on ports of their own on loopback. All end when the ensemble is dropped. Members are numbered from 1.
///
/// Ticks are 100 ms, sessions may be from 200 ms to 60 s, all four-letter words are answered.
#[derive(Debug)]
pub struct Ensemble {
    members: Vec<Member>,
    _directory: Directory,
}

#[derive(Debug)]
struct Member {
    process: Process,
    address: SocketAddr,
    /// From this member to each other one: to its quorum port and to its election port.
    links: Vec<(usize, [Link; 2])>,
}

impl Ensemble {
    /// Starts `count` members; returns when they are one and all of them serve.
    ///
    /// # Errors
    ///
    /// [`Error::NoBinary`], [`Error::Ended`] with the log, [`Error::NotInTime`], [`Error::Io`].
    ///
    /// # Panics
    ///
    /// With a count of 0.
    pub fn start(count: usize) -> Result<Ensemble, Error> {
        assert!(count > 0, "an ensemble has members");
        let directory = Directory::new()?;
        let ports = unused_ports(3 * count)?;
        let mut members = Vec::with_capacity(count);
        for id in 1..=count {
            let at = |id: usize, port: usize| SocketAddr::from(([127, 0, 0, 1], ports[3 * (id - 1) + port]));
            let home = directory.path().join(id.to_string());
            fs::create_dir_all(&home)?;
            fs::write(home.join("myid"), id.to_string())?;
            let mut links = Vec::new();
            let mut config = format!(
                "dataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\n{SETTINGS}",
                home.display(),
                at(id, 0).port()
            );
            for other in 1..=count {
                let mut way = [at(other, 1), at(other, 2)];
                if other != id {
                    let both = [Link::to(way[0])?, Link::to(way[1])?];
                    way = [both[0].address(), both[1].address()];
                    links.push((other, both));
                }
                config += &format!("server.{other}=127.0.0.1:{}:{}\n", way[0].port(), way[1].port());
            }
            let file = home.join("zoo.cfg");
            fs::write(&file, config)?;
            let process = Process::new(&home, vec![file.to_string_lossy().into_owned()]);
            members.push(Member { process, address: at(id, 0), links });
        }
        let mut ensemble = Ensemble { members, _directory: directory };
        for id in 1..=count {
            ensemble.member(id).process.start()?;
        }
        ensemble.wait("all members serve", |ensemble| {
            (1..=count).all(|id| matches!(ensemble.mode(id).as_deref(), Some("leader" | "follower" | "standalone")))
        })?;
        Ok(ensemble)
    }

    fn member(&mut self, id: usize) -> &mut Member {
        &mut self.members[id - 1]
    }

    /// The numbers of all members.
    pub fn ids(&self) -> Vec<usize> {
        (1..=self.members.len()).collect()
    }

    /// Where clients of this member connect.
    ///
    /// # Panics
    ///
    /// As everything here: if there is no such member.
    pub fn address(&self, id: usize) -> SocketAddr {
        self.members[id - 1].address
    }

    /// All client addresses, as clients take them.
    pub fn connect_string(&self) -> String {
        self.members.iter().map(|member| member.address.to_string()).collect::<Vec<_>>().join(",")
    }

    /// What a member says it is, where it serves: `leader`, `follower`.
    pub fn mode(&self, id: usize) -> Option<String> {
        let member = &self.members[id - 1];
        if !member.process.runs() || member.process.is_frozen {
            return None;
        }
        let answer = word(member.address, "srvr")?;
        answer.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
    }

    /// The member that leads, as soon as there is one. While a leader that was cut off does not know it yet, the others' counts.
    ///
    /// # Errors
    ///
    /// [`Error::NotInTime`].
    pub fn leader(&self) -> Result<usize, Error> {
        let mut leader = None;
        self.wait("somebody leads", |ensemble| {
            let leaders = ensemble.ids().into_iter().filter(|id| ensemble.mode(*id).as_deref() == Some("leader"));
            leader = leaders.max_by_key(|id| ensemble.epoch(*id));
            leader.is_some()
        })?;
        leader.ok_or(Error::NotInTime { what: "somebody leads" })
    }

    fn epoch(&self, id: usize) -> i64 {
        let zxid = word(self.members[id - 1].address, "srvr").and_then(|answer| {
            let zxid = answer.lines().find_map(|line| line.strip_prefix("Zxid: 0x"))?;
            i64::from_str_radix(zxid, 16).ok()
        });
        zxid.unwrap_or(-1) >> 32
    }

    /// SIGKILL.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn kill(&mut self, id: usize) -> Result<(), Error> {
        self.member(id).process.kill()
    }

    /// Starts a member that was killed or stopped, on the data of before; returns when it serves.
    ///
    /// # Errors
    ///
    /// As [`start`](Ensemble::start).
    pub fn restart(&mut self, id: usize) -> Result<(), Error> {
        self.member(id).process.start()?;
        self.wait("the member serves", |ensemble| ensemble.mode(id).is_some())
    }

    /// Stops in order.
    ///
    /// # Errors
    ///
    /// [`Error::NotInTime`], [`Error::Io`].
    pub fn stop(&mut self, id: usize) -> Result<(), Error> {
        self.member(id).process.stop()
    }

    /// SIGSTOP: it keeps its connections and says nothing, until [`thaw`](Ensemble::thaw).
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn freeze(&mut self, id: usize) -> Result<(), Error> {
        self.member(id).process.freeze()
    }

    /// SIGCONT.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn thaw(&mut self, id: usize) -> Result<(), Error> {
        self.member(id).process.thaw()
    }

    /// Cuts a member off from all others, in both directions, without telling anybody. Its clients still reach it.
    pub fn cut(&self, id: usize) {
        self.set_cut(id, true);
    }

    /// Mends what [`cut`](Ensemble::cut) cut.
    pub fn mend(&self, id: usize) {
        self.set_cut(id, false);
    }

    fn set_cut(&self, id: usize, is_cut: bool) {
        for (at, member) in self.members.iter().enumerate() {
            for (other, links) in &member.links {
                if at + 1 == id || *other == id {
                    links.iter().for_each(|link| link.cut(is_cut));
                }
            }
        }
    }

    /// All that a member has logged.
    pub fn log(&self, id: usize) -> String {
        self.members[id - 1].process.log()
    }

    fn wait(&self, what: &'static str, mut condition: impl FnMut(&Ensemble) -> bool) -> Result<(), Error> {
        let until = Instant::now() + DEADLINE;
        while !condition(self) {
            if Instant::now() > until {
                return Err(Error::NotInTime { what });
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }
}

/// Of every member: what a server alone for a test has too (`rookeeper server --ephemeral`).
const SETTINGS: &str = include_str!("../../cli/src/ephemeral.cfg");

/// Ports that nobody uses at this moment, all held until all are found.
fn unused_ports(count: usize) -> Result<Vec<u16>, Error> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
