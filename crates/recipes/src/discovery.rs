//! Service discovery: instances register, clients have a list of those that live and choose among them.
//!
//! What always holds: the list is that of one moment, and the last one is known also while no server is there. Counterpart: Apache Curator's `ServiceDiscovery`,
//! `ServiceCache` and `ServiceProvider`, whose nodes these are: `base/service/id`, each with an [`Instance`] as JSON.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Mutex as Turn;
use tokio::time::Instant;
use uuid::Uuid;
use zookeeper_client::{Acls, Client, Error as ClientError};

use crate::balance::{Balancer, DownPolicy, Strategy, key_of};
use crate::drive::{delete, refused};
use crate::error::Error;
use crate::followed::{Followed, Problem, States};
use crate::mirror::{Scope, Tree};
use crate::name::join;
use crate::registration::{Registration, Unregistered};
use crate::sessions::Sessions;
use rookeeper_discovery::Instance;

/// The services below one path.
///
/// | what happens | what follows |
/// | --- | --- |
/// | the connection is lost | instances stay registered until their sessions expire; lists stay as they were, and [`State::is_live`](crate::State) is false |
/// | the session expires | the instance is registered again with another session, in place of what is left of the first |
/// | the answer to a create is lost | the node is known by its session, and taken for what it is |
/// | the process dies | a dynamic instance goes when its session expires |
/// | a future of `register` is dropped | the instance is taken away in the background |
/// | somebody deletes the node, or registers another instance of the same id | [`Registration::lost`] says so; it is not registered again |
///
/// ```
/// # rookeeper_acceptance::example(async |address: String| {
/// use rookeeper_recipes::{Instance, Registry, Sessions, Strategy};
/// use zookeeper_client::Client;
///
/// let sessions = Sessions::new(Client::connector(), &address);
/// let registry = Registry::new(&sessions, "/services");
/// let registration = registry.register(Instance::new("web", "10.0.0.7", 8080)).await?;
///
/// let web = registry.service("web");
/// web.wait_for_instances().await?;
/// let provider = web.provider(Strategy::RoundRobin);
/// let instance = provider.pick().expect("one is there");
/// assert_eq!(instance.host_and_port(), "10.0.0.7:8080");
/// registration.leave().await?;
/// # anyhow::Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Registry {
    sessions: Sessions,
    base: String,
    acls: Acls<'static>,
    /// Whose path each is, among the registrations by this value and its clones: nobody else can tell nodes of one session apart.
    turns: Arc<Mutex<BTreeMap<String, Arc<Turn<()>>>>>,
}

impl Registry {
    /// The services below the path `base`. Nothing is sent yet.
    pub fn new(sessions: &Sessions, base: &str) -> Registry {
        Registry { sessions: sessions.clone(), base: base.to_owned(), acls: Acls::anyone_all(), turns: Arc::default() }
    }

    /// Who may do what with the nodes; everybody everything if nothing is said.
    pub fn with_acls(mut self, acls: Acls<'static>) -> Registry {
        self.acls = acls;
        self
    }

    /// Registers an instance, which then stays registered until the value that is returned goes. An instance of the same id is replaced, but for one that was
    /// registered by this value or a clone of it: that has to go first, and this waits. Values that were made apart with the same sessions must not use
    /// the same id. What others write into the node is written over. Call on a runtime of tokio, where a task keeps it.
    ///
    /// # Errors
    ///
    /// [`Unregistered::Failed`] with what the servers refused.
    pub async fn register(&self, instance: Instance) -> Result<Registration, Unregistered> {
        for part in [&instance.name, &instance.id] {
            if part.is_empty() || part.contains('/') {
                let error = ClientError::BadArguments(&"a service and an instance need a name, without a slash");
                return Err(Error::Refused { path: join(&self.base, part), error }.into());
            }
        }
        let path = join(&join(&self.base, &instance.name), &instance.id);
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody has or waits for.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(path).or_default())
        };
        let turn = turn.lock_owned().await;
        Registration::begin(&self.sessions, &self.base, self.acls, instance, turn).await
    }

    /// Follows the instances of a service, which need not be there yet. Call on a runtime of tokio.
    pub fn service(&self, name: &str) -> Service {
        let list = |tree: &Tree| Ok::<Instances, Problem>(Instances::of(tree));
        Service { followed: Followed::tree(&self.sessions, &join(&self.base, name), Scope::Subtree, list) }
    }

    /// The instances of a service, as the server sees them that is asked.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], [`Error::Refused`].
    pub async fn instances(&self, name: &str) -> Result<Instances, Error> {
        let client = self.sessions.client().await?;
        let path = join(&self.base, name);
        let mut instances = Instances::default();
        for id in children(&client, &path).await? {
            let path = join(&path, &id);
            loop {
                match client.get_data(&path).await {
                    Ok((data, _)) => break instances.add(&id, &data),
                    Err(ClientError::NoNode) => break,
                    Err(error) => refused(&path, error)?,
                }
            }
        }
        Ok(instances)
    }

    /// The names of all services that have or had instances.
    ///
    /// # Errors
    ///
    /// As [`instances`](Registry::instances).
    pub async fn names(&self) -> Result<Vec<String>, Error> {
        let client = self.sessions.client().await?;
        children(&client, &self.base).await
    }

    /// Takes an instance away, whoever registered it. That it is not there is well.
    ///
    /// # Errors
    ///
    /// As [`instances`](Registry::instances).
    pub async fn remove(&self, name: &str, id: &str) -> Result<(), Error> {
        let client = self.sessions.client().await?;
        delete(&client, &join(&join(&self.base, name), id)).await
    }
}

async fn children(client: &Client, path: &str) -> Result<Vec<String>, Error> {
    loop {
        match client.list_children(path).await {
            Ok(mut names) => {
                names.sort();
                return Ok(names);
            }
            Err(ClientError::NoNode) => return Ok(Vec::new()),
            Err(error) => refused(path, error)?,
        }
    }
}

/// The instances of a service at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Instances {
    /// In the order of the names of their nodes, those too that are not enabled.
    pub live: Vec<Arc<Instance>>,
    /// Nodes whose content is no instance, with the reason.
    pub undecodable: Vec<(String, String)>,
}

impl Instances {
    fn of(tree: &Tree) -> Instances {
        let mut instances = Instances::default();
        for (path, node) in tree {
            if !path.is_empty() && !path.contains('/') {
                instances.add(path, &node.data);
            }
        }
        instances
    }

    fn add(&mut self, id: &str, data: &[u8]) {
        match Instance::decode(data) {
            Ok(instance) => self.live.push(Arc::new(instance)),
            Err(error) => self.undecodable.push((id.to_owned(), error.to_string())),
        }
    }
}

/// The instances of one service, followed in a task. Clones share the task; it ends with the last of them and of their providers.
#[derive(Debug, Clone)]
pub struct Service {
    followed: Followed<Instances>,
}

impl Service {
    /// All instances, as they were told last; none before the first answer.
    pub fn instances(&self) -> Vec<Arc<Instance>> {
        self.followed.state().value.map_or_else(Vec::new, |instances| instances.live.clone())
    }

    /// What is followed: the list, whether a server is there that tells of changes, and what hinders.
    pub fn followed(&self) -> &Followed<Instances> {
        &self.followed
    }

    /// The lists from now on, the present one first.
    pub fn changes(&self) -> States<Instances> {
        self.followed.changes()
    }

    /// Waits until there is an instance that is enabled.
    ///
    /// # Errors
    ///
    /// [`Problem::Stopped`]: there never will be one.
    pub async fn wait_for_instances(&self) -> Result<(), Problem> {
        let mut states = self.changes();
        while let Some(state) = states.next().await {
            if state.value.is_some_and(|instances| instances.live.iter().any(|instance| instance.enabled)) {
                return Ok(());
            }
        }
        Err(self.followed.state().problem.unwrap_or_else(|| Problem::Stopped("the runtime has ended".to_owned())))
    }

    /// Chooses among the instances, for one client.
    pub fn provider(&self, strategy: Strategy) -> Provider {
        self.provider_with(strategy, false, DownPolicy::default())
    }

    /// The same; `is_sticky` keeps an instance that was once chosen for as long as it can be chosen, as Curator's `StickyStrategy` does, and the policy says when
    /// reported failures take one out.
    pub fn provider_with(&self, strategy: Strategy, is_sticky: bool, policy: DownPolicy) -> Provider {
        let seed = Uuid::new_v4().as_u64_pair().0;
        Provider {
            service: self.clone(),
            shared: Arc::new(Shared {
                balancer: Mutex::new(Balancer::new(strategy, is_sticky, policy, seed)),
                start: Instant::now(),
            }),
        }
    }
}

/// Chooses an instance for each request: one that is enabled, and that has not failed of late. Clones share what they know.
#[derive(Debug, Clone)]
pub struct Provider {
    service: Service,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    balancer: Mutex<Balancer>,
    start: Instant,
}

impl Shared {
    fn balancer(&self) -> MutexGuard<'_, Balancer> {
        self.balancer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

impl Provider {
    /// An instance, chosen by the strategy. None: there is none that may be chosen.
    pub fn pick(&self) -> Option<Picked> {
        let instances = self.service.instances();
        self.picked(self.shared.balancer().pick(self.shared.now_ns(), &instances))
    }

    /// The instance for this key: the same for every client that sees the same list, also in other processes; when instances come and go, few keys move
    /// (consistent hashing). For caches and shards.
    pub fn pick_for(&self, key: impl AsRef<[u8]>) -> Option<Picked> {
        let instances = self.service.instances();
        self.picked(self.shared.balancer().pick_for(self.shared.now_ns(), &instances, key.as_ref()))
    }

    fn picked(&self, instance: Option<Arc<Instance>>) -> Option<Picked> {
        Some(Picked { instance: instance?, shared: Arc::clone(&self.shared) })
    }
}

/// An instance that was chosen for a request. Keep it as long as the request is under way: so the load of each is known.
#[derive(Debug)]
pub struct Picked {
    instance: Arc<Instance>,
    shared: Arc<Shared>,
}

impl Picked {
    /// The request has failed by the fault of the instance. After as many failures as the policy says it is not chosen for a while.
    pub fn failed(self) {
        self.shared.balancer().failed(self.shared.now_ns(), key_of(&self.instance));
    }
}

impl Deref for Picked {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.shared.balancer().done(&key_of(&self.instance));
    }
}
