//! Consistent services beside the ensemble: what is in the tree is told to the desk, what the desk decides is written into the tree.
//!
//! One task has the session, the order of everything, and the desk. What always holds: whoever looks a consistent service up is answered with no less than
//! what was committed when the question came, which a transaction proves that changes nothing and is shared by all who ask at the same time; what cannot be
//! proved in time makes the tree out of sight, and the questions refused.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookeeper_registry::consistent::{Decision, Desk, Job, Outcome, Seen, Transaction, TreeOp};
use rookeeper_registry::{Now, Registry};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::ensemble_link::{Ask, Link, Multi, Ticket, is_committed, is_forbidden, names, node, refused};
use super::proof::{Openness, Proof};
use super::secure::Dialer;
use super::service::Service;

/// Questions that wait, at most: more are refused.
const WAITING: usize = 10_000;

/// Questions that are answered with one proof.
const AT_ONCE: usize = 1000;

/// Between two attempts to reach the ensemble.
const PAUSE: Duration = Duration::from_millis(300);

/// Between two attempts of a look-up to be answered.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Why a job is not done that the access control lists of nodes forbid.
const FORBIDDEN: &str = "the nodes of the service belong to others, and their access control lists do not let this registry change them: give all registries the \
                         same registry.consistent.digest or .sasl.user";

/// How often a job is decided anew when others change the service at the same time.
const ATTEMPTS: usize = 20;

/// Where the tree is.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) struct EnsembleConfig {
    /// Services that are consistent whatever their instances say, as their nodes are called.
    pub named: Vec<String>,
    /// The path below which the services are.
    pub base: String,
    /// Servers of the ensemble; none for the server of this process.
    pub servers: Vec<(String, u16)>,
    /// Who the registry is there.
    pub(super) proof: Proof,
    /// Who may change the nodes that the registry makes.
    pub(super) openness: Openness,
}

/// The way to the task.
#[derive(Debug)]
pub(super) struct Ensemble {
    pub desk: Mutex<Desk>,
    questions: mpsc::Sender<Question>,
}

#[derive(Debug)]
pub(super) enum Question {
    /// To be answered when everything is seen that was committed before.
    Look(oneshot::Sender<()>),
    Work(Box<Job>, oneshot::Sender<Outcome>),
}

pub(super) type Questions = mpsc::Receiver<Question>;

impl Ensemble {
    pub fn new(config: &EnsembleConfig) -> (Ensemble, Questions) {
        let (questions, asked) = mpsc::channel(WAITING);
        (Ensemble { desk: Mutex::new(Desk::new(&config.named)), questions }, asked)
    }

    /// Why the tree is out of sight.
    pub fn blind(&self) -> Option<Arc<str>> {
        self.desk.lock().blind()
    }

    /// Waits until the registry shows no less than what was committed when this was called, or the tree is out of sight.
    pub async fn look(&self) {
        while self.blind().is_none() {
            let (answer, answered) = oneshot::channel();
            if self.questions.try_send(Question::Look(answer)).is_ok() && answered.await.is_ok() {
                return;
            }
            // Nothing was proved: soon the tree is out of sight, or another proof comes.
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    pub async fn work(&self, job: Job) -> Outcome {
        if let Some(why) = self.blind() {
            return Outcome::Blind(why);
        }
        let (answer, answered) = oneshot::channel();
        let busy = || Outcome::Blind("too many others wait for the ensemble".into());
        if self.questions.try_send(Question::Work(Box::new(job), answer)).is_err() {
            return busy();
        }
        let lost = || self.blind().map_or_else(busy, Outcome::Blind);
        answered.await.unwrap_or_else(|_| lost())
    }
}

/// The task.
pub(super) async fn keep(
    service: Arc<Service>,
    config: EnsembleConfig,
    dialer: Option<Dialer>,
    mut questions: Questions,
) {
    let base = config.base.trim_end_matches('/').to_owned();
    let mut task = Task { service, base, openness: config.openness, ticket: None };
    let mut told = false;
    for server in (0..config.servers.len()).cycle() {
        let (host, port) = &config.servers[server];
        let why = match Link::open((host, *port), dialer.as_ref(), &config.proof, task.ticket.as_ref()).await {
            Ok(link) => {
                told = false;
                task.serve(link, &mut questions).await
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::NotFound {
                    task.ticket = None;
                }
                error
            }
        };
        let why = format!("{host}:{port}: {why}");
        if !told {
            warn!(
                "consistent services are out of sight, their registrations and look-ups are refused until the ensemble answers again: {why}"
            );
            told = true;
        }
        task.with(|desk, registry, now| desk.lose_sight(&why, registry, now));
        // Who has asked meanwhile hears that the tree is out of sight.
        let until = Instant::now() + PAUSE;
        while let Ok(question) = tokio::time::timeout_at(until, questions.recv()).await {
            match question {
                Some(question) => drop(question),
                None => return,
            }
        }
    }
}

struct Task {
    service: Arc<Service>,
    base: String,
    openness: Openness,
    ticket: Option<Ticket>,
}

impl Task {
    fn with<T>(&self, act: impl FnOnce(&mut Desk, &mut Registry, Now) -> T) -> T {
        self.service.with(|registry, now| {
            let mut desk = self.service.ensemble.as_ref().map(|ensemble| ensemble.desk.lock());
            let mut none = Desk::new(&[]);
            act(desk.as_deref_mut().unwrap_or(&mut none), registry, now)
        })
    }

    /// Until the tree is out of sight. Says why it is.
    async fn serve(&mut self, mut link: Link, questions: &mut Questions) -> io::Error {
        let served = self.serve_link(&mut link, questions).await;
        self.ticket = Some(link.ticket());
        match served {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn serve_link(&mut self, link: &mut Link, questions: &mut Questions) -> io::Result<std::convert::Infallible> {
        link.ask(Ask::watch(self.watched())).await?.map_err(refused)?;
        // A server without a quorum must not be believed.
        self.prove(link).await?;
        let all = self.read_all(link).await?;
        let (session, count) = (link.session(), all.len());
        self.with(|desk, registry, now| desk.gain_sight(session, all, registry, now)).map_err(io::Error::other)?;
        self.catch_up(link).await?;
        info!("consistent services are in sight: {count} nodes below {}", self.watched());
        let beat = (link.timeout / 3).max(Duration::from_millis(10));
        let mut heard = Instant::now();
        loop {
            // Without the registry, for which others wait.
            let (over, due_ms) = match &self.service.ensemble {
                Some(ensemble) => ensemble.desk.lock().due(self.service.now()),
                None => (Vec::new(), None),
            };
            for job in over {
                self.work(link, &job).await?;
            }
            let due = due_ms.map(|due_ms| due_ms.saturating_sub(self.service.now().steady_ms) + 1);
            let due = due.map_or(beat, |ms| Duration::from_millis(ms).min(beat));
            tokio::select! {
                question = questions.recv() => {
                    let Some(question) = question else { return Err(io::Error::other("the registry stops")) };
                    self.answer(link, question, questions).await?;
                    heard = Instant::now();
                }
                received = link.receive() => {
                    received?;
                    heard = Instant::now();
                    self.catch_up(link).await?;
                }
                () = sleep_until(Instant::now() + due) => {}
            }
            if heard.elapsed() >= beat {
                self.prove(link).await?;
                self.catch_up(link).await?;
                heard = Instant::now();
            }
        }
    }

    async fn answer(&mut self, link: &mut Link, first: Question, questions: &mut Questions) -> io::Result<()> {
        let mut all = vec![first];
        while all.len() < AT_ONCE
            && let Ok(question) = questions.try_recv()
        {
            all.push(question);
        }
        let (mut looks, mut works) = (Vec::new(), Vec::new());
        for question in all {
            match question {
                Question::Look(answer) => looks.push(answer),
                Question::Work(job, answer) => works.push((job, answer)),
            }
        }
        for (job, answer) in works {
            let outcome = self.work(link, &job).await?;
            let _ = answer.send(outcome);
        }
        if !looks.is_empty() {
            self.prove(link).await?;
            self.catch_up(link).await?;
            for answer in looks {
                // Who asked may have gone.
                let _ = answer.send(());
            }
        }
        Ok(())
    }

    async fn prove(&mut self, link: &mut Link) -> io::Result<()> {
        match link.ask(Ask::proof()).await? {
            reply if is_committed(&reply) => Ok(()),
            reply => {
                Err(io::Error::other(format!("a transaction that changes nothing was refused: {:?}", reply.err())))
            }
        }
    }

    async fn work(&mut self, link: &mut Link, job: &Job) -> io::Result<Outcome> {
        for _ in 0..ATTEMPTS {
            let transaction = match self.with(|desk, registry, now| desk.decide(job, registry, now)) {
                Decision::Answer(outcome) => return Ok(outcome),
                Decision::Write(transaction) => transaction,
            };
            let reply = link.ask(self.multi(&transaction)).await?;
            if is_committed(&reply) {
                self.with(|desk, registry, now| desk.written(transaction, registry, now)).map_err(io::Error::other)?;
                self.catch_up(link).await?;
                return Ok(Outcome::Done);
            }
            if is_forbidden(&reply) {
                return Ok(Outcome::Blind(FORBIDDEN.into()));
            }
            if transaction.version.is_none() {
                self.make_base(link).await?;
            }
            // Somebody else was quicker, or more was out of date.
            link.events.insert(format!("{}/{}", self.base, transaction.service));
            link.events.extend(
                transaction.ops.iter().map(|op| format!("{}/{}/{}", self.base, transaction.service, id_of(op))),
            );
            self.catch_up(link).await?;
        }
        Ok(Outcome::Blind("others change the service all the time".into()))
    }

    fn multi(&self, transaction: &Transaction) -> Ask {
        let service = format!("{}/{}", self.base, transaction.service);
        let multi = match transaction.version {
            Some(version) => Multi::of(self.openness).set(&service, Vec::new(), version),
            None => Multi::of(self.openness).container(&service),
        };
        let multi = transaction.ops.iter().fold(multi, |multi, op| {
            let path = format!("{service}/{}", id_of(op));
            match op {
                TreeOp::Create { data, .. } => multi.ephemeral(&path, data.clone()),
                TreeOp::Set { data, version, .. } => multi.set(&path, data.clone(), *version),
                TreeOp::Delete { version, .. } => multi.delete(&path, *version),
            }
        });
        multi.ask()
    }

    async fn make_base(&mut self, link: &mut Link) -> io::Result<()> {
        let ends = self.base.match_indices('/').map(|(at, _)| at).skip(1).chain([self.base.len()]);
        let asks = ends.filter(|end| *end > 0).map(|end| Ask::container(&self.base[..end], self.openness)).collect();
        // That they are there is well; anything else shows when the service is made.
        link.ask_all(asks).await?;
        Ok(())
    }

    fn watched(&self) -> &str {
        if self.base.is_empty() { "/" } else { &self.base }
    }

    async fn read_all(&mut self, link: &mut Link) -> io::Result<Vec<Seen>> {
        let services = names(link.ask(Ask::children(self.watched())).await?)?;
        let mut all = Vec::new();
        for service in services {
            all.extend(self.read_service(link, service).await?);
        }
        Ok(all)
    }

    /// A service and its instances.
    async fn read_service(&mut self, link: &mut Link, service: String) -> io::Result<Vec<Seen>> {
        let path = format!("{}/{service}", self.base);
        let mut replies = link.ask_all(vec![Ask::data(&path), Ask::children(&path)]).await?.into_iter();
        let (Some(data), Some(children)) = (replies.next(), replies.next()) else { return Ok(Vec::new()) };
        let Some((_, stat)) = node(data)? else { return Ok(vec![Seen::NoService { service }]) };
        let ids = names(children)?;
        let asks = ids.iter().map(|id| Ask::data(&format!("{path}/{id}"))).collect();
        let replies = link.ask_all(asks).await?;
        let mut all = vec![Seen::Service { service: service.clone(), version: stat.version }];
        for (id, reply) in ids.into_iter().zip(replies) {
            all.push(seen(&service, id, reply, self.service.now())?);
        }
        Ok(all)
    }

    /// Reads what was told to have changed, until nothing is left.
    async fn catch_up(&mut self, link: &mut Link) -> io::Result<()> {
        while !link.events.is_empty() {
            let paths = std::mem::take(&mut link.events);
            let mut all = Vec::new();
            for path in paths {
                let Some(rest) = path.strip_prefix(&format!("{}/", self.base)) else { continue };
                match rest.split_once('/') {
                    None if rest.is_empty() => {}
                    None => {
                        let service = rest.to_owned();
                        let reply = link.ask(Ask::data(&path)).await?;
                        all.push(match node(reply)? {
                            Some((_, stat)) => Seen::Service { service, version: stat.version },
                            None => Seen::NoService { service },
                        });
                    }
                    Some((service, id)) if !id.contains('/') => {
                        let reply = link.ask(Ask::data(&path)).await?;
                        all.push(seen(service, id.to_owned(), reply, self.service.now())?);
                    }
                    Some(_) => {}
                }
            }
            let see = |desk: &mut Desk, registry: &mut Registry, now| {
                all.into_iter().try_for_each(|seen| desk.see(seen, registry, now))
            };
            self.with(see).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

fn seen(service: &str, id: String, reply: super::ensemble_link::Reply, now: Now) -> io::Result<Seen> {
    let service = service.to_owned();
    Ok(match node(reply)? {
        Some((data, stat)) => Seen::node(service, id, stat.ephemeral_owner, stat.version, &data, now),
        None => Seen::NoNode { service, id },
    })
}

fn id_of(op: &TreeOp) -> &str {
    match op {
        TreeOp::Create { id, .. } | TreeOp::Set { id, .. } | TreeOp::Delete { id, .. } => id,
    }
}
