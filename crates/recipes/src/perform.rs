//! Carries out what a [`Recipe`] asks for, with a client.
//!
//! What always holds:
//! - A future that is dropped leaves the recipe in a state from which it goes on: the request that was under way counts as one whose answer was lost.
//! - A watch that fires between two waits, while other requests are under way, ends the next wait. Else the recipe would wait for what has happened.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zookeeper_client::{
    Acls, AddWatchMode, Client, CreateMode, CreateOptions, Error as ClientError, EventType, MultiWriteError,
    MultiWriteResult, OneshotWatcher, PersistentWatcher, SessionState, Stat, WatchedEvent,
};

use crate::ask::{Ask, Facts, Happened, Kind, News, Op, Recipe, Refusal, Reply, Step};
use crate::drive::refused;
use crate::error::{Error, SessionEnd};
use crate::followed::now;

/// A watch that was set, until it fires.
type Watch = Pin<Box<dyn Future<Output = WatchedEvent> + Send + Sync>>;

/// The watches of one recipe, and whether an answer is outstanding.
pub(crate) struct Performer {
    client: Client,
    acls: Acls<'static>,
    watches: Vec<(String, Watch)>,
    /// What is followed.
    following: Option<PersistentWatcher>,
    /// How the session of what is followed has ended: there is nothing behind that.
    ended: Option<SessionEnd>,
    /// Whether a watch has fired since the last wait.
    has_fired: bool,
    is_asking: bool,
}

impl std::fmt::Debug for Performer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Performer").field("watches", &self.watches.len()).finish_non_exhaustive()
    }
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Performer {
    pub(crate) fn new(client: &Client, acls: Acls<'static>) -> Performer {
        Performer {
            client: client.clone(),
            acls,
            watches: Vec::new(),
            following: None,
            ended: None,
            has_fired: false,
            is_asking: false,
        }
    }

    /// Goes on until there is an outcome. May be dropped, and called again.
    pub(crate) async fn drive<R: Recipe>(&mut self, recipe: &mut R) -> Result<R::Outcome, Error> {
        if std::mem::take(&mut self.is_asking) {
            recipe.handle(Reply::Unknown);
        }
        loop {
            self.listen(recipe);
            self.collect(recipe).await?;
            let ask = match recipe.step(now_ms()) {
                Step::Done(outcome) => return Ok(outcome),
                Step::Ask(ask) => ask,
            };
            if let Some(end) = self.ended {
                return Err(end.into());
            }
            match ask {
                Ask::Wait { until_ms } => {
                    self.wait(recipe, until_ms).await?;
                    recipe.handle(Reply::Waited);
                }
                ask => {
                    self.is_asking = true;
                    let reply = self.ask(ask).await?;
                    self.is_asking = false;
                    self.listen(recipe);
                    recipe.handle(reply);
                }
            }
        }
    }

    /// Tells what was heard already of that which is followed.
    fn listen(&mut self, recipe: &mut impl Recipe) {
        while self.ended.is_none()
            && let Some(event) = self.following.as_mut().and_then(|watcher| now(watcher.changed()))
        {
            self.heard(&event, recipe);
        }
    }

    fn heard(&mut self, event: &WatchedEvent, recipe: &mut impl Recipe) {
        let what = match event.event_type {
            EventType::NodeCreated => Happened::Created,
            EventType::NodeDataChanged => Happened::Changed,
            EventType::NodeDeleted => Happened::Deleted,
            EventType::NodeChildrenChanged => return,
            EventType::Session => {
                // The watcher must not be asked again after that.
                self.ended = SessionEnd::of(event.session_state);
                if matches!(event.session_state, SessionState::SyncConnected | SessionState::ConnectedReadOnly) {
                    recipe.hear(&News::Back);
                }
                return;
            }
        };
        recipe.hear(&News::Node { path: event.path.clone(), what, zxid: event.zxid });
    }

    /// Tells of watches that have fired already.
    async fn collect(&mut self, recipe: &mut impl Recipe) -> Result<(), Error> {
        let fired = poll_fn(|context| Poll::Ready(poll_watches(&mut self.watches, context))).await;
        self.has_fired |= !fired.is_empty();
        tell(fired, recipe)
    }

    async fn wait(&mut self, recipe: &mut impl Recipe, until_ms: Option<u64>) -> Result<(), Error> {
        if std::mem::take(&mut self.has_fired) {
            return Ok(());
        }
        let mut states = self.client.state_watcher();
        let limit = async {
            match until_ms {
                Some(until_ms) => tokio::time::sleep(Duration::from_millis(until_ms.saturating_sub(now_ms()))).await,
                None => std::future::pending().await,
            }
        };
        let ended = async {
            loop {
                if let Some(end) = SessionEnd::of(states.changed().await) {
                    return end;
                }
            }
        };
        let (watches, following) = (&mut self.watches, &mut self.following);
        let fire = poll_fn(|context| match poll_watches(watches, context) {
            fired if fired.is_empty() => Poll::Pending,
            fired => Poll::Ready(fired),
        });
        let hear = async {
            match following {
                Some(watcher) => watcher.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            fired = fire => tell(fired, recipe),
            event = hear => {
                self.heard(&event, recipe);
                Ok(())
            }
            () = limit => Ok(()),
            end = ended => Err(end.into()),
        }
    }

    fn keep(&mut self, path: &str, watcher: OneshotWatcher) {
        // A watch at the same path says nothing that the new one does not.
        self.watches.push((path.to_owned(), Box::pin(watcher.changed())));
    }

    async fn ask(&mut self, ask: Ask) -> Result<Reply, Error> {
        let client = self.client.clone();
        let (path, reply) = match ask {
            Ask::MakePath { path } => {
                let made = client.mkdir(&path, &CreateMode::Persistent.with_acls(self.acls)).await;
                (path, made.map(|()| Reply::Done))
            }
            Ask::MakeContainer { path } => {
                let made = client.mkdir(&path, &CreateMode::Container.with_acls(self.acls)).await;
                (path, made.map(|()| Reply::Done))
            }
            Ask::Create { path, data, kind } => {
                let made = client.create(&path, &data, &options(kind, self.acls)).await;
                let made = made.map(|(stat, number)| Reply::Created {
                    path: if kind.is_sequential() { format!("{path}{number}") } else { path.clone() },
                    czxid: stat.czxid,
                });
                (path, made)
            }
            Ask::Delete { path } => {
                let deleted = client.delete(&path, None).await;
                (path, deleted.map(|()| Reply::Done))
            }
            Ask::Set { path, data, version } => {
                let set = client.set_data(&path, &data, version).await;
                (path, set.map(|stat| Reply::Facts(facts(&stat))))
            }
            Ask::Get { path, watch: false } => {
                let data = client.get_data(&path).await;
                (path, data.map(|(data, stat)| Reply::Data { data, facts: facts(&stat) }))
            }
            Ask::Get { path, watch: true } => {
                let data = client.get_and_watch_data(&path).await;
                let data = data.map(|(data, stat, watcher)| {
                    self.keep(&path, watcher);
                    Reply::Data { data, facts: facts(&stat) }
                });
                (path, data)
            }
            Ask::Exists { path, watch: false } => {
                let stat = client.check_stat(&path).await;
                (path, stat.map(found))
            }
            Ask::Exists { path, watch: true } => {
                let stat = client.check_and_watch_stat(&path).await;
                let stat = stat.map(|(stat, watcher)| {
                    self.keep(&path, watcher);
                    found(stat)
                });
                (path, stat)
            }
            Ask::Children { path, watch: false } => {
                let names = client.list_children(&path).await;
                (path, names.map(Reply::Names))
            }
            Ask::Children { path, watch: true } => {
                let names = client.list_and_watch_children(&path).await;
                let names = names.map(|(names, watcher)| {
                    self.keep(&path, watcher);
                    Reply::Names(names)
                });
                (path, names)
            }
            Ask::List { path } => {
                let listed = client.get_children(&path).await;
                (path, listed.map(|(names, stat)| Reply::Listed { names, as_of: stat.pzxid }))
            }
            Ask::Follow { path } => {
                let watcher = client.watch(&path, AddWatchMode::PersistentRecursive).await;
                // zookeeper-client 0.11 does not set recursive watches again at another connection: without this nothing would be heard any more.
                // The new watch is there before the old one is dropped, so the servers keep it.
                (
                    path,
                    watcher.map(|watcher| {
                        self.following = Some(watcher);
                        Reply::Done
                    }),
                )
            }
            Ask::Sync { path } => {
                let synced = client.sync(&path).await;
                (path, synced.map(|()| Reply::Done))
            }
            Ask::Multi(ops) => return self.multi(ops).await,
            Ask::Wait { .. } => unreachable!("waiting is no request"),
        };
        match reply {
            Ok(reply) => Ok(reply),
            Err(error) => match refusal(&error) {
                Some(why) => Ok(Reply::Refused(why)),
                None => refused(&path, error).map(|()| Reply::Unknown),
            },
        }
    }

    async fn multi(&mut self, ops: Vec<Op>) -> Result<Reply, Error> {
        let mut writer = self.client.new_multi_writer();
        let mut first = String::new();
        for op in ops {
            let (added, path) = match op {
                Op::Check { path, version } => (writer.add_check_version(&path, version.unwrap_or(-1)), path),
                Op::Create { path, data, kind } => (writer.add_create(&path, &data, &options(kind, self.acls)), path),
                Op::Set { path, data, version } => (writer.add_set_data(&path, &data, version), path),
                Op::Delete { path } => (writer.add_delete(&path, None), path),
            };
            if let Err(error) = added {
                return refused(&path, error).map(|()| Reply::Unknown);
            }
            if first.is_empty() {
                first = path;
            }
        }
        match writer.commit().await {
            Ok(results) => {
                let made = results.into_iter().filter_map(|result| match result {
                    MultiWriteResult::Create { path, .. } => Some(path),
                    _ => None,
                });
                Ok(Reply::Made(made.collect()))
            }
            Err(MultiWriteError::OperationFailed { index, source }) => match refusal(&source) {
                Some(why) => Ok(Reply::Failed { index, why }),
                None => refused(&first, source).map(|()| Reply::Unknown),
            },
            Err(MultiWriteError::RequestFailed { source }) => refused(&first, source).map(|()| Reply::Unknown),
        }
    }
}

fn poll_watches(watches: &mut Vec<(String, Watch)>, context: &mut Context<'_>) -> Vec<(String, SessionState)> {
    let mut fired = Vec::new();
    watches.retain_mut(|(path, watch)| match watch.as_mut().poll(context) {
        Poll::Ready(event) => {
            fired.push((std::mem::take(path), event.session_state));
            false
        }
        Poll::Pending => true,
    });
    fired
}

fn tell(fired: Vec<(String, SessionState)>, recipe: &mut impl Recipe) -> Result<(), Error> {
    for (path, state) in fired {
        if let Some(end) = SessionEnd::of(state) {
            return Err(end.into());
        }
        recipe.notice(&path);
    }
    Ok(())
}

fn options(kind: Kind, acls: Acls<'static>) -> CreateOptions<'static> {
    match kind {
        Kind::Persistent => CreateMode::Persistent,
        Kind::Container => CreateMode::Container,
        Kind::Ephemeral => CreateMode::Ephemeral,
        Kind::Sequential => CreateMode::PersistentSequential,
        Kind::EphemeralSequential => CreateMode::EphemeralSequential,
    }
    .with_acls(acls)
}

fn facts(stat: &Stat) -> Facts {
    Facts {
        czxid: stat.czxid,
        mzxid: stat.mzxid,
        version: stat.version,
        children: usize::try_from(stat.num_children).unwrap_or_default(),
        owner: stat.ephemeral_owner,
    }
}

fn found(stat: Option<Stat>) -> Reply {
    stat.map_or(Reply::Refused(Refusal::NoNode), |stat| Reply::Facts(facts(&stat)))
}

fn refusal(error: &ClientError) -> Option<Refusal> {
    match error {
        ClientError::NoNode => Some(Refusal::NoNode),
        ClientError::NodeExists => Some(Refusal::NodeExists),
        ClientError::BadVersion => Some(Refusal::BadVersion),
        ClientError::NotEmpty => Some(Refusal::NotEmpty),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets a watch, lets it fire by a request of its own, and waits then.
    struct Latecomer(Vec<Ask>);

    impl Recipe for Latecomer {
        type Outcome = ();

        fn step(&mut self, _now_ms: u64) -> Step<()> {
            self.0.last().map_or(Step::Done(()), |ask| Step::Ask(ask.clone()))
        }

        fn handle(&mut self, _reply: Reply) {
            self.0.pop();
        }
    }

    #[test]
    fn a_watch_that_fired_before_the_wait_ends_the_wait() {
        let path = "/node".to_owned();
        let asks = vec![
            Ask::Wait { until_ms: None },
            Ask::Create { path: path.clone(), data: Vec::new(), kind: Kind::Persistent },
            Ask::Exists { path, watch: true },
        ];
        rookeeper_acceptance::example(async |address: String| {
            let client = Client::connect(&address).await?;
            let mut performer = Performer::new(&client, Acls::anyone_all());
            let mut latecomer = Latecomer(asks);
            tokio::time::timeout(Duration::from_secs(60), performer.drive(&mut latecomer)).await??;
            anyhow::Ok(())
        });
    }
}
