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
use crate::listener::{listen, reserve, resolve};

/// Between attempts to open again a port that was given up a moment ago.
const REOPEN_PAUSE: Duration = Duration::from_millis(50);

/// Says what to do about a client port that cannot be opened.
pub(crate) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process has it: stop that one, or set another clientPort",
        io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: set another clientPort",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: correct clientPortAddress",
        _ => "check clientPort and clientPortAddress",
    }
}

/// Tells the accepting task where the membership in force says that clients connect. It says nothing where the line of this server does not.
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
            let remedy = remedy(&error);
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
async fn open(place: &ClientPort) -> io::Result<TcpListener> {
    listen(reserve(&resolve(place).await?)?, place.backlog)
}
