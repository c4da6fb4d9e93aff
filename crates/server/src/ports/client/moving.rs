//! Where clients connect, while the server runs: a reconfiguration may say that it is elsewhere from now on.
//!
//! What always holds: the new port is open before the old one closes, unless the two exclude each other; where the new one cannot be opened
//! the old one stays; connections outlive the port that they came through.
//!
//! Counterpart in the original: `ServerCnxnFactory.reconfigure`, which is left without any port where the new one cannot be opened.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rookeeper_proto::ServerId;
use rookeeper_zab::{HostPort, Memberships};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::config::ClientPort;
use crate::context::Context;
use crate::net::bind::{Place, Port, remedy};
use crate::ports::client::listener::listen;

/// Between attempts to open again a port that was given up a moment ago.
const REOPEN_PAUSE: Duration = Duration::from_millis(50);

/// Tells the accepting task where the membership in force says that clients connect. A line of this server without a client port changes nothing.
pub(crate) fn follow(wanted: &watch::Sender<Option<HostPort>>, me: ServerId, memberships: &Memberships) {
    let client = memberships.committed.members.get(&me).and_then(|member| member.client.clone());
    wanted.send_if_modified(|wanted| {
        let is_changed = client.is_some() && *wanted != client;
        if is_changed {
            *wanted = client;
        }
        is_changed
    });
}

/// Lets clients connect at `wanted`. `place` is where they connect now; returns the listener of the place that it is afterwards.
pub(crate) async fn moved(
    listener: Option<TcpListener>,
    place: &mut ClientPort,
    wanted: &HostPort,
    context: &Context,
) -> Option<TcpListener> {
    let new = place.at(wanted);
    if new == *place {
        return listener;
    }
    let mut old = listener;
    let mut opened = open(&new).await;
    if opened.is_err() && new.port == place.port {
        // The two may overlap, as all addresses of this machine and one of them do.
        old = None;
        opened = open(&new).await;
    }
    match opened {
        Ok(listener) => {
            context.client_port.store(listener.local_addr().map_or(wanted.port, |address| address.port()), Relaxed);
            info!(
                "clients connect to {wanted} from now on, as the membership in force says; connections that are open stay"
            );
            *place = new;
            Some(listener)
        }
        Err(error) => {
            let remedy = remedy(Port::Client, &error);
            let stays = match place.port {
                Some(port) => format!("clients go on connecting to port {port}"),
                None => "clients can't connect to this member".to_owned(),
            };
            warn!(
                "the membership in force says that clients connect to {wanted}, but that can't be opened: {error}; {remedy}; {stays}"
            );
            while old.is_none() && place.port.is_some() {
                match open(place).await {
                    Ok(listener) => old = Some(listener),
                    Err(_) => tokio::time::sleep(REOPEN_PAUSE).await,
                }
            }
            old
        }
    }
}

/// Opens a place that has a port.
async fn open(client: &ClientPort) -> io::Result<TcpListener> {
    let place = place_of(client);
    listen(place.bind_first(&place.addresses().await?)?, client.backlog)
}

/// Where clients connect, for a server that has a port for them.
pub(crate) fn place_of(client: &ClientPort) -> Place {
    Place { host: client.host.clone(), port: client.port.unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rookeeper_replica::{Settings, Shared};
    use rookeeper_tree::Tree;
    use tokio::net::TcpStream;
    use tokio::sync::mpsc;

    use rookeeper_proto::WallMs;

    use super::*;
    use crate::clock::Clock;
    use crate::config::{Config, Environment, Source};
    use crate::observe::figures::Figures;

    fn context() -> Context {
        let (config, _) = Config::load(Source::Defaults, &Environment::default()).unwrap();
        let shared = Arc::new(Shared::new(Settings::default(), Tree::with_seed(1), WallMs(0)));
        let (inputs, _) = mpsc::channel(1);
        Context::new(config, shared, Clock::start(), inputs, 1, Arc::new(Figures::default()))
    }

    fn at(host: &str, port: u16) -> HostPort {
        HostPort { host: host.to_owned(), port }
    }

    /// A server whose clients connect to this host, and where that is.
    async fn open_at(host: &str) -> (Context, ClientPort, TcpListener, u16) {
        let context = context();
        let place = context.config.client.at(&at(host, 0));
        let listener = open(&place).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (context, place.at(&at(host, port)), listener, port)
    }

    fn shown(context: &Context) -> u16 {
        context.client_port.load(Relaxed)
    }

    #[tokio::test]
    async fn another_port_is_open_before_the_old_one_closes_and_is_shown() {
        let (context, mut place, listener, old) = open_at("127.0.0.1").await;
        let moved = moved(Some(listener), &mut place, &at("127.0.0.1", 0), &context).await.unwrap();
        let new = moved.local_addr().unwrap().port();
        assert_ne!(new, old);
        assert_eq!(shown(&context), new);
        TcpStream::connect(("127.0.0.1", new)).await.unwrap();
    }

    #[tokio::test]
    async fn one_address_of_all_takes_the_place_of_all_with_the_same_port() {
        let (context, mut place, listener, port) = open_at("0.0.0.0").await;
        let moved = moved(Some(listener), &mut place, &at("127.0.0.1", port), &context).await.unwrap();
        assert_eq!(moved.local_addr().unwrap(), ([127, 0, 0, 1], port).into());
        assert_eq!((place.host.as_deref(), shown(&context)), (Some("127.0.0.1"), port));
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        assert!(TcpStream::connect(("127.0.0.2", port)).await.is_err(), "the other addresses are given up");
    }

    #[tokio::test]
    async fn the_old_place_is_opened_again_where_the_new_one_cannot_be() {
        let (context, mut place, listener, port) = open_at("127.0.0.1").await;
        let before = place.clone();
        // An address of nobody, for examples.
        let moved = moved(Some(listener), &mut place, &at("192.0.2.1", port), &context).await.unwrap();
        assert_eq!(moved.local_addr().unwrap(), ([127, 0, 0, 1], port).into());
        assert_eq!((&place, shown(&context)), (&before, 1));
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    }

    #[test]
    fn only_a_line_that_says_where_clients_connect_moves_the_port() {
        let (wanted, mut told) = watch::channel(None);
        let memberships = |client: &str| {
            let text = format!("server.1=a:1:2:participant{client}\nserver.2=b:1:2:participant;9\nversion=1");
            Memberships::settled(rookeeper_zab::Membership::parse_text(text, false).unwrap())
        };
        follow(&wanted, ServerId(1), &memberships(""));
        assert!(!told.has_changed().unwrap());
        follow(&wanted, ServerId(1), &memberships(";c:7"));
        assert!(told.has_changed().unwrap());
        assert_eq!(*told.borrow_and_update(), Some(at("c", 7)));
        for same in [";c:7", ""] {
            follow(&wanted, ServerId(1), &memberships(same));
            assert!(!told.has_changed().unwrap(), "{same:?}");
        }
    }
}
