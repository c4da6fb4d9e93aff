//! Service discovery: who registers is seen and stays seen, also over expired sessions; who dies goes; shared with Curator, and with kazoo by its nodes.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{DEADLINE, SHORT_SESSION, children, client, connect_string, disturb, eventually, proxies};
use rookeeper_acceptance::ensemble::Plan;
use rookeeper_acceptance::foreign::{Dialogue, curator_program, python};
use rookeeper_acceptance::proxy::Proxy;
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::server::{Server, Setup};
use rookeeper_recipes::{Instance, Registration, Registry, Service, ServiceType, Sessions, Strategy, Unregistered};
use zookeeper_client::{Acls, Client, CreateMode};

const SESSION: Duration = Duration::from_secs(30);

fn sessions(address: &str, timeout: Duration) -> Sessions {
    Sessions::new(Client::connector().with_session_timeout(timeout), address)
}

fn server() -> Server {
    Setup::new().config("tickTime", "200").config("maxSessionTimeout", "60000").start().unwrap()
}

fn web(id: &str) -> Instance {
    Instance::new("web", "10.0.0.1", 80).with_id(id)
}

fn ids(service: &Service) -> Vec<String> {
    service.instances().iter().map(|instance| instance.id.clone()).collect()
}

async fn seen(service: &Service, expected: &[&str]) {
    eventually(&format!("{expected:?} are there"), async || ids(service) == expected).await;
}

/// Registers, changes and leaves as it likes; in the end the instance is registered, or it is not.
async fn come_and_go(
    address: String,
    id: String,
    timeout: Duration,
    service_type: ServiceType,
    seed: u64,
) -> Option<Registration> {
    let mut random = Random::new(seed);
    let registry = Registry::new(&sessions(&address, timeout), "/services");
    let instance = web(&id).with_service_type(service_type);
    for round in 0..12_u64 {
        let limit = Duration::from_millis(if random.below(3) == 0 { random.below(30) } else { 60_000 });
        let Ok(registered) = tokio::time::timeout(limit, registry.register(instance.clone())).await else { continue };
        let registration = registered.unwrap();
        let limit = Duration::from_millis(random.below(200));
        let _ =
            tokio::time::timeout(limit, registration.change(|instance| instance.payload = Some(round.into()))).await;
        match random.below(3) {
            0 => drop(registration),
            _ => registration.leave().await.unwrap(),
        }
    }
    if seed.is_multiple_of(2) {
        return None;
    }
    Some(registry.register(instance.with_payload("stays")).await.unwrap())
}

#[test]
fn the_list_is_right_after_all_that_can_happen() {
    let mut random = Random::from_environment("discovery");
    let mut ensemble = Plan::under_test(3).config("tickTime", "500").start().unwrap();
    let servers = ensemble.addresses();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let proxies = runtime.block_on(proxies(&servers, random.number()));
    let address = connect_string(&proxies);
    let _entered = runtime.enter();
    let watching = sessions(&address, SESSION);
    let service = Registry::new(&watching, "/services").service("web");
    let kinds = [ServiceType::Dynamic, ServiceType::DynamicSequential, ServiceType::Dynamic, ServiceType::Static];
    let tasks: Vec<_> = (0..8)
        .map(|at| {
            // Some of the sessions are so short that they expire.
            let timeout = if at % 3 == 0 { Duration::from_secs(2) } else { SESSION };
            let seed = random.number() / 2 * 2 + at % 2;
            let id = format!("i{at}");
            let task = tokio::spawn(come_and_go(address.clone(), id.clone(), timeout, kinds[at as usize % 4], seed));
            (id, task)
        })
        .collect();
    proxies.iter().for_each(|proxy| proxy.lose_one_answer_in(30));
    let mut disturbances = 0;
    while tasks.iter().any(|(_, task)| !task.is_finished()) && disturbances < 60 {
        disturb(&mut ensemble, &proxies, &mut random);
        disturbances += 1;
    }
    proxies.iter().for_each(|proxy| proxy.lose_one_answer_in(0));
    runtime.block_on(async {
        let mut staying = BTreeSet::new();
        let mut registrations = Vec::new();
        for (id, task) in tasks {
            if let Some(registration) = task.await.unwrap() {
                registrations.push(registration);
                staying.insert(id);
            }
        }
        println!("{disturbances} disturbances, {} stay", staying.len());
        let seen = || service.instances().iter().map(|instance| instance.id.clone()).collect::<Vec<_>>();
        eventually("all that stay are seen, and nobody twice", async || {
            let seen = seen();
            seen.len() == staying.len() && seen.into_iter().collect::<BTreeSet<_>>() == staying
        })
        .await;
        let reading = client(&address, SESSION).await;
        assert_eq!(children(&reading, "/services/web").await.len(), staying.len(), "no node is left over");
        assert!(service.instances().iter().all(|instance| instance.payload == Some("stays".into())));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_returns_after_its_session() {
    let server = server();
    let proxy = Proxy::to(server.address(), 1).await.unwrap();
    let cut = sessions(&proxy.address().to_string(), SHORT_SESSION);
    let watching = sessions(&server.address().to_string(), SESSION);
    let service = Registry::new(&watching, "/services").service("web");
    let registry = Registry::new(&cut, "/services");
    let registration = registry.register(web("a")).await.unwrap();
    let sequential = registry.register(web("b").with_service_type(ServiceType::DynamicSequential)).await.unwrap();
    seen(&service, &["a", "b"]).await;
    let first = cut.client().await.unwrap().session_id();
    proxy.silence();
    seen(&service, &[]).await;
    proxy.resume();
    seen(&service, &["a", "b"]).await;
    assert_ne!(cut.client().await.unwrap().session_id(), first);
    // What is said now is said of the new node.
    registration.change(|instance| instance.payload = Some("again".into())).await.unwrap();
    eventually("the change is seen", async || service.instances()[0].payload == Some("again".into())).await;
    assert!(sequential.path().unwrap().starts_with("/services/web/b00000"));
    sequential.leave().await.unwrap();
    registration.leave().await.unwrap();
    seen(&service, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_registers_last_has_the_id() {
    let server = server();
    let address = server.address().to_string();
    let (first, second) = (sessions(&address, SESSION), sessions(&address, SESSION));
    let old = Registry::new(&first, "/services").register(web("a").with_payload("old")).await.unwrap();
    let new = Registry::new(&second, "/services").register(web("a").with_payload("new")).await.unwrap();
    assert_eq!(tokio::time::timeout(DEADLINE, old.lost()).await.unwrap(), Unregistered::NodeDeleted);
    assert_eq!(old.change(|_| {}).await, Err(Unregistered::NodeDeleted));
    drop(old);
    let registry = Registry::new(&first, "/services");
    let instances = registry.instances("web").await.unwrap();
    assert_eq!(instances.live[0].payload, Some("new".into()));
    assert_eq!(registry.names().await.unwrap(), ["web"]);
    // By hand it is taken out of service, and is not put back.
    registry.remove("web", "a").await.unwrap();
    assert_eq!(tokio::time::timeout(DEADLINE, new.lost()).await.unwrap(), Unregistered::NodeDeleted);
    assert_eq!(registry.instances("web").await.unwrap().live, []);
    assert!(matches!(registry.register(web("a/b")).await, Err(Unregistered::Failed(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn static_ones_are_taken_away_and_permanent_ones_stay() {
    let server = server();
    let address = server.address().to_string();
    let owner = sessions(&address, SESSION);
    let watching = sessions(&address, SESSION);
    let service = Registry::new(&watching, "/services").service("web");
    let registry = Registry::new(&owner, "/services");
    let fixed = registry.register(web("fixed").with_service_type(ServiceType::Static)).await.unwrap();
    let permanent = registry.register(web("permanent").with_service_type(ServiceType::Permanent)).await.unwrap();
    seen(&service, &["fixed", "permanent"]).await;
    let reading = client(&address, SESSION).await;
    assert_eq!(reading.check_stat("/services/web/fixed").await.unwrap().unwrap().ephemeral_owner, 0);
    permanent.change(|instance| instance.port = Some(81)).await.unwrap();
    drop(permanent);
    drop(fixed);
    seen(&service, &["permanent"]).await;
    // It is taken up by whoever registers it again.
    let again = registry.register(web("permanent").with_service_type(ServiceType::Permanent)).await.unwrap();
    eventually("its port is the new one", async || service.instances()[0].port == Some(80)).await;
    again.leave().await.unwrap();
    seen(&service, &["permanent"]).await;
    registry.remove("web", "permanent").await.unwrap();
    seen(&service, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_futures_leave_no_node() {
    let mut random = Random::from_environment("dropped registrations");
    let server = server();
    let proxy = Proxy::to(server.address(), random.number()).await.unwrap();
    let registry = Registry::new(&sessions(&proxy.address().to_string(), SESSION), "/services");
    proxy.lose_one_answer_in(6);
    let kinds = [ServiceType::Dynamic, ServiceType::DynamicSequential, ServiceType::Static];
    for round in 0..200 {
        let instance = web(&round.to_string()).with_service_type(kinds[round % 3]);
        let _ = tokio::time::timeout(Duration::from_micros(random.below(3_000)), registry.register(instance)).await;
    }
    proxy.lose_one_answer_in(0);
    let reading = client(&server.address().to_string(), SESSION).await;
    eventually("no node is left", async || children(&reading, "/services/web").await.is_empty()).await;
    assert!(registry.register(web("at last")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_follow_the_list() {
    let server = server();
    let sessions = sessions(&server.address().to_string(), SESSION);
    let registry = Registry::new(&sessions, "/services");
    let service = registry.service("web");
    let provider = service.provider(Strategy::LeastLoaded);
    assert!(provider.pick().is_none());
    let one = registry.register(web("one")).await.unwrap();
    let _two = registry.register(web("two")).await.unwrap();
    seen(&service, &["one", "two"]).await;
    service.wait_for_instances().await.unwrap();
    let busy = provider.pick().unwrap();
    let other = provider.pick().unwrap();
    assert_ne!(busy.id, other.id, "the least loaded");
    assert_eq!(provider.pick_for("key").unwrap().id, provider.clone().pick_for("key").unwrap().id);
    other.failed();
    drop(busy);
    one.change(|instance| instance.enabled = false).await.unwrap();
    eventually("who is disabled is not chosen", async || {
        (0..4).all(|_| provider.pick().is_some_and(|picked| picked.id == "two"))
    })
    .await;
    // What is no instance is told, and nobody's harm.
    let client = sessions.client().await.unwrap();
    client
        .create("/services/web/odd", b"no JSON", &CreateMode::Persistent.with_acls(Acls::anyone_all()))
        .await
        .unwrap();
    let odd = || service.followed().state().value.map_or(Vec::new(), |instances| instances.undecodable.clone());
    eventually("it is told", async || odd().first().is_some_and(|(id, _)| id == "odd")).await;
    seen(&service, &["one", "two"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_curator_and_kazoo() {
    let server = Setup::new().config("tickTime", "500").config("maxSessionTimeout", "60000").start().unwrap();
    let address = server.address().to_string();
    let sessions = sessions(&address, SESSION);
    let registry = Registry::new(&sessions, "/services");
    let service = registry.service("web");
    let mut curator = Dialogue::start("Curator", curator_program("Directory.java").unwrap(), &address).unwrap();
    let mut kazoo = Dialogue::start("kazoo", python("directory.py").unwrap(), &address).unwrap();
    let ours = registry.register(web("ours").with_payload("Rust")).await.unwrap();
    assert_eq!(curator.ask("register web curator 81 DYNAMIC").unwrap(), "registered");
    assert_eq!(curator.ask("register web lasting 82 STATIC").unwrap(), "registered");
    assert_eq!(kazoo.ask("register web kazoo 83 DYNAMIC").unwrap(), "registered");
    let all = "curator|10.0.0.1|81|Curator|DYNAMIC kazoo|10.0.0.2|83|kazoo|DYNAMIC lasting|10.0.0.1|82|Curator|STATIC \
               ours|10.0.0.1|80|Rust|DYNAMIC";
    eventually("kazoo sees all", async || kazoo.ask("discover web").unwrap() == all).await;
    eventually("Curator sees all", async || curator.ask("discover web").unwrap() == all).await;
    assert_eq!(curator.ask("names").unwrap(), "web");
    seen(&service, &["curator", "kazoo", "lasting", "ours"]).await;
    let of = |id: &str| service.instances().into_iter().find(|instance| instance.id == id).unwrap();
    assert_eq!(
        (of("curator").payload.clone(), of("lasting").service_type),
        (Some("Curator".into()), ServiceType::Static)
    );
    assert!(of("curator").registration_time_utc > 1_700_000_000_000);
    // Curator's providers heed what we say of an instance.
    assert!(curator.ask("provide web").unwrap().contains("ours"));
    ours.change(|instance| instance.enabled = false).await.unwrap();
    eventually("Curator chooses it no more", async || !curator.ask("provide web").unwrap().contains("ours")).await;
    // Each side is killed in turn.
    kazoo.kill().unwrap();
    seen(&service, &["curator", "lasting", "ours"]).await;
    curator.kill().unwrap();
    seen(&service, &["lasting", "ours"]).await;
    let mut kazoo = Dialogue::start("kazoo", python("directory.py").unwrap(), &address).unwrap();
    drop(ours);
    eventually("kazoo sees that we have gone", async || {
        kazoo.ask("discover web").unwrap() == "lasting|10.0.0.1|82|Curator|STATIC"
    })
    .await;
    // A sequential one of Curator's, under a name that is not its id.
    let mut curator = Dialogue::start("Curator", curator_program("Directory.java").unwrap(), &address).unwrap();
    assert_eq!(curator.ask("register web numbered 84 DYNAMIC_SEQUENTIAL").unwrap(), "registered");
    seen(&service, &["lasting", "numbered"]).await;
    assert_eq!(curator.ask("json compatible").unwrap().split(',').next(), Some(r#"{"name":"web""#));
}
