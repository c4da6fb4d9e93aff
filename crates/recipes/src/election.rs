//! An election of one leader among candidates, in the order in which they stood.
//!
//! Counterparts: Apache Curator's `LeaderLatch` and `LeaderSelector`, kazoo's `Election`. A leadership is a lock by another name: the candidate that
//! stands first leads, and whoever is next watches it.

use tokio::time::Instant;
use zookeeper_client::{Acls, Client};

use crate::error::Error;
use crate::guard::{Guard, Loss};
use crate::lease::{Lease, Verdict, proof_interval};
use crate::line::{Contender, Kind, Line};
use crate::name::Layout;
use crate::place::Rule;

/// Whose candidates stand in the same election. They do not see each other's nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Candidates {
    /// Those of Apache Curator's `LeaderLatch`.
    #[default]
    LeaderLatch,
    /// Those of Apache Curator's `LeaderSelector`, and of a kazoo whose lock looks for `-lock-`.
    LeaderSelector,
    /// Those of kazoo's `Election`.
    Kazoo,
}

/// How a leader's work ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Led<T> {
    /// The work was done; the leadership has been given up.
    Done(T),
    /// The leadership was lost first, and the work was dropped.
    Lost(Loss),
    /// No server has confirmed the leadership for half a session timeout, so the work was dropped before another can lead.
    InDoubt,
}

/// One candidate's view of an election.
///
/// | what happens | what follows |
/// | --- | --- |
/// | the connection is lost | a candidate waits on; a leader in [`lead`](Election::lead) is stopped after half a session timeout without a proof |
/// | the session expires | the candidate is out: [`Error::SessionEnded`], [`Led::Lost`]. Connect again and stand again |
/// | the answer to the create is lost | the node is found again by its id, never created twice |
/// | the process dies | another leads when the session has expired |
/// | a future is dropped | the candidate withdraws, or the leader gives up its leadership, in the background |
///
/// ```
/// # rookeeper_acceptance::example(async |address: String| {
/// use rookeeper_recipes::{Election, Led};
/// use zookeeper_client::Client;
///
/// let client = Client::connect(&address).await?;
/// let election = Election::new(&client, "/app/leader").with_id("host 7");
///
/// let led = election.lead(async |leadership| {
///     println!("leading in term {}", leadership.token());
///     7
/// });
/// assert_eq!(led.await?, Led::Done(7));
/// # anyhow::Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Election {
    line: Line,
    candidates: Candidates,
}

impl Election {
    /// The election at `path`, an absolute path. Nothing is sent yet.
    pub fn new(client: &Client, path: &str) -> Election {
        Election { line: Line::new(client, path), candidates: Candidates::default() }
    }

    /// Whose candidates stand in it; those of [`Candidates::LeaderLatch`] if nothing is said.
    pub fn among(mut self, candidates: Candidates) -> Election {
        self.candidates = candidates;
        self.line.layout = if candidates == Candidates::Kazoo { Layout::Kazoo } else { Layout::Curator };
        self
    }

    /// How this candidate is called in [`candidates`](Election::candidates), here and by the other libraries.
    pub fn with_id(mut self, id: impl Into<Vec<u8>>) -> Election {
        self.line.data = id.into();
        self
    }

    /// Who may do what with the nodes; everybody everything if nothing is said.
    pub fn with_acls(mut self, acls: Acls<'static>) -> Election {
        self.line.acls = acls;
        self
    }

    fn markers(&self) -> &'static [&'static str] {
        match self.candidates {
            Candidates::LeaderLatch => &["latch-"],
            Candidates::LeaderSelector | Candidates::Kazoo => &["lock-", "__lock__"],
        }
    }

    fn kind(&self) -> Kind {
        let marker = match self.candidates {
            Candidates::LeaderLatch => "latch-",
            Candidates::LeaderSelector => "lock-",
            Candidates::Kazoo => "__lock__",
        };
        Kind { marker, rule: Rule::NobodyBefore(self.markers()) }
    }

    /// Waits until this candidate leads. The guard is the leadership: its [token](Guard::token) is the term, greater than that of every leader
    /// before; dropped, the next candidate leads.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`]; [`Error::Refused`] for a path, permission or quota that does not allow the nodes.
    pub async fn campaign(&self) -> Result<Guard, Error> {
        self.line.take(self.kind()).await
    }

    /// Waits until this candidate leads, and a proof behind a `sync` says so; does the work, and gives the leadership up. The work is dropped at its next await point when the
    /// leadership is lost, or when nobody has confirmed it for half a session timeout: in time before another leads, as long as the process
    /// runs and the work gives way.
    ///
    /// # Errors
    ///
    /// As [`campaign`](Election::campaign), before the work begins; [`Error::Refused`] if the node may not be read or deleted.
    pub async fn lead<T>(&self, work: impl AsyncFnOnce(&Guard) -> T) -> Result<Led<T>, Error> {
        let guard = self.campaign().await?;
        let led = self.lead_with(&guard, work).await?;
        match guard.release().await {
            // A session that has ended has given the leadership up as well.
            Ok(()) | Err(Error::SessionEnded(_)) => Ok(led),
            Err(error) => Err(error),
        }
    }

    /// The work begins with the first proof: the line in which this candidate stands first was seen at one server, which may be behind.
    async fn lead_with<T>(&self, guard: &Guard, work: impl AsyncFnOnce(&Guard) -> T) -> Result<Led<T>, Error> {
        let start = Instant::now();
        let first = match Self::prove(guard).await? {
            Ok(()) => Lease::proved(0, self.line.client.session_timeout()),
            Err(loss) => return Ok(Led::Lost(loss)),
        };
        if first.judge(start.elapsed().as_nanos() as u64) != Verdict::Holds {
            return Ok(Led::InDoubt);
        }
        tokio::select! {
            done = work(guard) => Ok(Led::Done(done)),
            lost = self.end_of(guard, start, first) => lost,
        }
    }

    async fn prove(guard: &Guard) -> Result<Result<(), Loss>, Error> {
        match guard.is_held().await {
            Ok(true) => Ok(Ok(())),
            Ok(false) => Ok(Err(Loss::NodeDeleted)),
            Err(Error::SessionEnded(end)) => Ok(Err(Loss::SessionEnded(end))),
            Err(error) => Err(error),
        }
    }

    async fn end_of<T>(&self, guard: &Guard, start: Instant, mut lease: Lease) -> Result<Led<T>, Error> {
        let now_ns = || start.elapsed().as_nanos() as u64;
        let timeout = self.line.client.session_timeout();
        let lost = guard.lost();
        tokio::pin!(lost);
        loop {
            tokio::select! {
                loss = &mut lost => return loss.map(Led::Lost),
                () = tokio::time::sleep(proof_interval(timeout)) => {}
            }
            let sent_ns = now_ns();
            if lease.judge(sent_ns) != Verdict::Holds {
                return Ok(Led::InDoubt);
            }
            let until = start + std::time::Duration::from_nanos(lease.stop_ns);
            let proved = tokio::select! {
                loss = &mut lost => return loss.map(Led::Lost),
                proved = tokio::time::timeout_at(until, Self::prove(guard)) => proved,
            };
            match proved {
                Ok(Ok(Ok(()))) => lease = Lease::proved(sent_ns, timeout),
                Ok(Ok(Err(loss))) => return Ok(Led::Lost(loss)),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(Led::InDoubt),
            }
        }
    }

    /// All candidates, the leader first, as the server sees it that is asked.
    ///
    /// # Errors
    ///
    /// As [`campaign`](Election::campaign).
    pub async fn candidates(&self) -> Result<Vec<Contender>, Error> {
        self.line.contenders(self.markers()).await
    }
}
