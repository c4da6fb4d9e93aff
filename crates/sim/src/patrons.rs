//! Patrons: clients that drive the logic of the recipes, beside those that ask at random. `patrons/jobs.rs` is what each of them does,
//! `patrons/holders.rs` what those do that stand in lines,
//! `patrons/groups.rs` what members of a group do and those who follow it; `patrons/ledger.rs` is what must hold of it; `patrons/wire.rs` turns what a
//! recipe asks for into requests, and answers into what the recipe is told.
//!
//! What always holds here: a patron has one request of its recipe under way, and hears of its answer, or that the answer is lost. Its requests, answers
//! and watches are checked as those of any other client.

mod groups;
mod holders;
mod jobs;
mod ledger;
mod wire;

use rookeeper_proto::frame::PING_XID;
use rookeeper_proto::random::Random;
use rookeeper_proto::{OpCode, SessionId, Zxid};
use rookeeper_recipes::ask::{Ask, Happened, Kind, News, Reply};

use crate::checkers::model::Happening;
use crate::clients::{Client, Pause};
use crate::faults::{Plan, Sabotage};
use crate::world::{MS, SEC, World};
use jobs::{Job, Next};
use ledger::Ledger;

/// Clients that drive a recipe, behind the others.
const PATRONS: usize = 4;
/// The most that a patron does without an answer from a server.
const MOST_STEPS: usize = 200;

/// The recipes that can be driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    /// A mutex whose holders act on leases.
    Lock,
    /// A queue, two that push and two that take.
    Queue,
    /// A double barrier, in rounds.
    Meeting,
    Counter,
    /// Candidates whose leaders act on leases.
    Election,
    /// Readers, and every third a writer, all on leases.
    ReadWrite,
    /// Two leases for four.
    Semaphore,
    /// A group of three, of whom some want the same name, and one that follows.
    Group,
}

/// All recipes that can be driven.
pub const RECIPES: [Recipe; 8] = [
    Recipe::Lock,
    Recipe::Queue,
    Recipe::Meeting,
    Recipe::Counter,
    Recipe::Election,
    Recipe::ReadWrite,
    Recipe::Semaphore,
    Recipe::Group,
];

impl Recipe {
    fn stands_in_line(self) -> bool {
        matches!(self, Recipe::Lock | Recipe::Election | Recipe::ReadWrite | Recipe::Semaphore)
    }
}

/// Those that the lives in seeds.txt chose from.
const FIRST_RECIPES: usize = 7;

/// The recipe that a seed gives to an ordinary life, where it gives one. Drawn apart from everything else, by a number with which no seed gets one that
/// seeds.txt had before: those lives stay as they were.
pub(crate) fn of_seed(seed: u64) -> Option<Recipe> {
    let mut random = Random::new(seed ^ 0x7061_7464);
    let recipe = random.one_in(12).then(|| *random.pick(&RECIPES[..FIRST_RECIPES]))?;
    let is_of_a_group = Random::new(seed ^ 0x6772_6f75).one_in(RECIPES.len() as u64);
    Some(if is_of_a_group { Recipe::Group } else { recipe })
}

impl Plan {
    /// The same life with clients that drive a recipe, and freeze past their sessions now and then. Nobody gets an earlier state back, which no recipe
    /// survives.
    pub fn with_recipe(mut self, recipe: Recipe) -> Plan {
        if self.play.replace(recipe).is_some() {
            return self;
        }
        // Time for a turn of each. Where a tick is short, a lease is shorter than the pauses of its holder now and then, who stands in line again then, and
        // the others are served several times meanwhile.
        self.healed_us += 30 * SEC;
        self.restores.clear();
        self.habits.pauses = true;
        (self.habits.read_only, self.habits.local_sessions, self.habits.local_sessions_upgrading) =
            (false, false, false);
        self.habits.quotas = false;
        self.shortages.clear();
        self
    }
}

#[derive(Debug)]
struct Patron {
    /// The session in which the job was begun.
    session: SessionId,
    /// The connection on which the patron was told last.
    line: Option<u64>,
    job: Job,
    /// The number of the request under way, and what was asked.
    asked: Option<(i32, Ask)>,
    /// What is still to be made of a path, and of which kind.
    making: Vec<String>,
    makes: Kind,
    /// When the first ping was sent since something was heard.
    pinged_us: i64,
}

/// What the patrons of a life do, and what came of it.
#[derive(Debug)]
pub(crate) struct Patrons {
    first: usize,
    sabotage: Option<Sabotage>,
    all: Vec<Patron>,
    pub(crate) ledger: Ledger,
}

impl Patrons {
    pub(crate) fn new(plan: &Plan) -> Patrons {
        let mut ledger = Ledger::new(plan.sabotage);
        let all = match plan.play {
            Some(recipe) => (0..PATRONS)
                .map(|number| Patron {
                    session: SessionId::NONE,
                    line: None,
                    job: Job::new(recipe, number, SessionId::NONE, &mut ledger),
                    asked: None,
                    making: Vec::new(),
                    makes: Kind::Persistent,
                    pinged_us: 0,
                })
                .collect(),
            None => Vec::new(),
        };
        Patrons { first: plan.clients, sabotage: plan.sabotage, all, ledger }
    }

    /// Their clients: with timeouts of at least the three ticks that leases need.
    pub(crate) fn clients(&self, plan: &Plan) -> Vec<Client> {
        let client = |number: usize| {
            Client::new(self.first + number, plan.tick_ms).with_timeout_ticks(4 + 2 * number as i64, plan.tick_ms)
        };
        (0..self.all.len()).map(client).collect()
    }
}

impl World {
    pub(crate) fn is_patron(&self, client: usize) -> bool {
        client >= self.patrons.first && client - self.patrons.first < self.patrons.all.len()
    }

    /// A patron with a session does what comes next.
    pub(crate) fn patron_acts(&mut self, client: usize) {
        let number = client - self.patrons.first;
        let (session, line) = (self.clients[client].session(), self.clients[client].line());
        let patron = &mut self.patrons.all[number];
        if patron.session != session {
            if patron.session != SessionId::NONE {
                self.figures.note("patrons whose sessions ended");
            }
            // What was under way will never be, or was done.
            (patron.session, patron.asked) = (session, None);
            patron.making.clear();
            patron.line = line;
            patron.job.begin_anew(number, session, &mut self.patrons.ledger);
        }
        if std::mem::replace(&mut patron.line, line) != line {
            patron.job.hear(&News::Back, self.patrons.sabotage);
        }
        if let Some((xid, _)) = patron.asked {
            if self.clients[client].waits_for(xid) {
                return;
            }
            self.figures.note("answers that patrons lost");
            self.patron_is_told(client, Reply::Unknown);
            return;
        }
        self.patron_goes_on(client, true);
    }

    /// Until there is something to wait for.
    fn patron_goes_on(&mut self, client: usize, is_awake: bool) {
        let number = client - self.patrons.first;
        for _ in 0..MOST_STEPS {
            if self.clients[client].pause.is_some() || !self.clients[client].is_welcome() {
                return;
            }
            let patron = &mut self.patrons.all[number];
            let timeout_ms = self.clients[client].timeout_ms();
            let next = patron.job.next(
                &mut self.patrons.ledger,
                &mut self.random,
                jobs::Moment {
                    now_us: self.now_us,
                    number,
                    timeout_ms,
                    healed: self.healed,
                    is_awake,
                    sabotage: self.patrons.sabotage,
                    model: &self.chronicle.model,
                },
            );
            match next {
                Ok(Next::Ask(ask)) => return self.patron_asks(client, ask),
                Ok(Next::Again) => {}
                Ok(Next::Rest) => return self.patron_pings(client),
                Err(problem) => return self.violated(problem),
            }
        }
        self.violated("progress: a patron turns in circles".to_owned());
    }

    /// Nothing is to be asked: the session is kept alive. A connection on which no ping is answered is given up, or whoever waits for a watch waits for
    /// ever.
    fn patron_pings(&mut self, client: usize) {
        let third_us = i64::from(self.clients[client].timeout_ms()) * MS / 3;
        let heard_us = self.clients[client].heard_us();
        let pinged_us = &mut self.patrons.all[client - self.patrons.first].pinged_us;
        if *pinged_us <= heard_us {
            if self.now_us <= heard_us + third_us {
                return;
            }
            *pinged_us = self.now_us;
        } else if self.now_us > *pinged_us + third_us {
            self.figures.note("connections that patrons gave up");
            return self.leave(client);
        }
        self.ask(client, PING_XID, OpCode::Ping, &[], None);
    }

    fn patron_asks(&mut self, client: usize, ask: Ask) {
        let number = client - self.patrons.first;
        let ask = match ask {
            Ask::MakePath { ref path } | Ask::MakeContainer { ref path } => {
                let ends = path.char_indices().skip(1).filter(|(_, char)| *char == '/').map(|(at, _)| at);
                // The last is asked for first.
                let mut making: Vec<String> = ends.chain([path.len()]).map(|end| path[..end].to_owned()).collect();
                making.reverse();
                let first = making.pop().unwrap_or_default();
                let is_container = matches!(ask, Ask::MakeContainer { .. });
                let kind = if is_container { Kind::Container } else { Kind::Persistent };
                let patron = &mut self.patrons.all[number];
                (patron.making, patron.makes) = (making, kind);
                // The end of it counts, so the answers before it are not looked at.
                Ask::Create { path: first, data: Vec::new(), kind }
            }
            ask => ask,
        };
        self.patron_sends(client, ask);
        self.patron_may_freeze(client);
    }

    /// The process stands still with a request under way, for longer than its session lives now and then.
    fn patron_may_freeze(&mut self, client: usize) {
        // What shows only where a holder freezes between question and answer is not left to chance.
        let one_in = if self.patrons.sabotage == Some(Sabotage::ProvesFromTheAnswer) { 10 } else { 60 };
        if self.healed || self.clients[client].pause.is_some() || !self.random.one_in(one_in) {
            return;
        }
        let timeout_us = i64::from(self.clients[client].timeout_ms()) * MS;
        let until_us = self.now_us + self.random.skewed(MS, 3 * timeout_us);
        self.figures.note("patrons that freeze within a request");
        self.note(37, client as u64, until_us as u64, || format!("client {client} freezes until {until_us}"));
        self.clients[client].pause = Some((Pause::Absent, until_us));
    }

    fn patron_sends(&mut self, client: usize, ask: Ask) {
        let number = client - self.patrons.first;
        let floor = self.floor.now();
        let xid = self.next_xid(client);
        let (op, body, asked) = wire::request(&ask, floor, self.patrons.sabotage);
        self.patrons.all[number].asked = Some((xid, ask));
        self.ask(client, xid, op, &body, Some(asked));
    }

    /// An answer has come to one of the client's requests.
    pub(crate) fn patron_hears(&mut self, client: usize, xid: i32, err: i32, body: &[u8]) {
        if !self.is_patron(client) {
            return;
        }
        let number = client - self.patrons.first;
        let patron = &mut self.patrons.all[number];
        let Some((_, ask)) = patron.asked.as_ref().filter(|(asked, _)| *asked == xid) else { return };
        if let Some(path) = patron.making.pop() {
            patron.asked = None;
            let kind = patron.makes;
            return self.patron_sends(client, Ask::Create { path, data: Vec::new(), kind });
        }
        let reply = wire::reply(ask, err, body);
        self.patron_is_told(client, reply);
        if self.random.one_in(4) {
            return;
        }
        self.patron_goes_on(client, false);
    }

    fn patron_is_told(&mut self, client: usize, reply: Reply) {
        let number = client - self.patrons.first;
        let patron = &mut self.patrons.all[number];
        patron.asked = None;
        patron.making.clear();
        self.figures.note("answers to patrons");
        let told = patron.job.told(reply, self.now_us, self.patrons.sabotage);
        self.judge(told);
    }

    pub(crate) fn patron_notices(&mut self, client: usize, path: &str, happening: Happening, zxid: Zxid) {
        if !self.is_patron(client) {
            return;
        }
        let job = &mut self.patrons.all[client - self.patrons.first].job;
        job.notice(path);
        let what = match happening {
            Happening::Created => Happened::Created,
            Happening::DataChanged => Happened::Changed,
            Happening::Deleted => Happened::Deleted,
            Happening::ChildrenChanged => return,
        };
        job.hear(&News::Node { path: path.to_owned(), what, zxid: zxid.0 }, self.patrons.sabotage);
    }

    pub(crate) fn patrons_are_content(&self) -> bool {
        self.patrons.all.iter().all(|patron| patron.job.is_content(&self.patrons.ledger))
    }

    /// What must hold when all faults are over and everybody had time.
    pub(crate) fn judge_patrons(&mut self) -> Result<(), String> {
        if let Some(patron) = self.patrons.all.iter().find(|patron| !patron.job.is_content(&self.patrons.ledger)) {
            return Err(format!(
                "recipes: a patron does not come to its end without faults: {patron:?}, {:?}",
                self.patrons.ledger
            ));
        }
        let end = self.patrons.ledger.judge()?;
        for what in end {
            self.figures.note(what);
        }
        Ok(())
    }
}
