//! One session with a server: made, watched for changes of its state, and closed in order.
//!
//! What always holds: every change of state is printed once; closing waits until the server has ended the session (for a limited
//! time), so that its ephemeral nodes are gone when the shell is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rookeeper_server::dial::host_of;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zookeeper_client::{Client, Error, SessionState};

use super::entry::Entry;
use super::event::Event;
use super::failure::Failure;
use super::output::Output;

const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_PORT: &str = "2181";

/// A session and the task that prints its states.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    states: JoinHandle<()>,
}

impl Session {
    /// Tries every server once. The error says which could not be reached, why, and what to do.
    pub(crate) async fn connect(
        server: &str,
        session_timeout: Duration,
        read_only: bool,
        entry: &Entry,
        output: &Arc<Output>,
    ) -> Result<Session, Failure> {
        let client = begin(server, session_timeout, read_only, entry).await?;
        let mut watcher = client.state_watcher();
        print_state(output, client.state());
        let output = Arc::clone(output);
        let states = tokio::spawn(async move {
            loop {
                let state = watcher.changed().await;
                print_state(&output, state);
                if state.is_terminated() {
                    return;
                }
            }
        });
        Ok(Session { client, states })
    }

    /// Ends the session; returns when the server has answered, or has not for too long.
    pub(crate) async fn close(self) {
        drop(self.client);
        // A server that does not answer expires the session by itself: nothing is lost by leaving.
        let _ = timeout(CLOSE_TIMEOUT, self.states).await;
    }
}

/// Tries every server once, as [`Session::connect`] does, and prints nothing.
pub(crate) async fn begin(
    server: &str,
    session_timeout: Duration,
    read_only: bool,
    entry: &Entry,
) -> Result<Client, Failure> {
    if let Some(address) = addresses(server).iter().find(|address| entry.refuses_host(host_of(address))) {
        return Err(Failure::Refused(format!(
            "-server {address}: no certificate can be for this host; TLS needs the name of a host, or an address"
        )));
    }
    let connector = Client::connector()
        .with_session_timeout(session_timeout)
        .with_readonly(read_only)
        // Without this a server that is not there costs a whole session timeout.
        .with_fail_eagerly();
    // A server that takes the connection and says nothing is no server.
    let connected = timeout(session_timeout.max(CLOSE_TIMEOUT), entry.connect(connector, server)).await;
    match connected.unwrap_or(Err(Error::Timeout)) {
        Ok(client) => Ok(client),
        Err(error) => Err(Failure::Refused(unreachable(server, entry, &error).await)),
    }
}

fn print_state(output: &Output, state: SessionState) {
    output.event(&Event::of_session(state));
}

/// Why there is no session, found out by trying each address once more.
async fn unreachable(server: &str, entry: &Entry, error: &Error) -> String {
    if matches!(error, Error::AuthFailed) {
        return format!("Cannot come in at {server}: {}", entry.unauthenticated());
    }
    if let Error::BadArguments(reason) = error {
        return format!("-server {server}: {reason}; expected HOST:PORT[,HOST:PORT...][/chroot]");
    }
    let mut lines = Vec::new();
    for address in addresses(server) {
        lines.push(format!("Cannot connect to {address}: {}", probe(&address, entry).await));
    }
    lines.push(
        "Check the address (-server HOST:PORT[,HOST:PORT...][/chroot]) and that a server runs there; \
         `rookeeper server` starts one on port 2181."
            .to_owned(),
    );
    lines.join("\n")
}

/// The single `host:port` of a connect string.
fn addresses(server: &str) -> Vec<String> {
    let hosts = server.split_once('/').map_or(server, |(hosts, _)| hosts);
    hosts
        .split(',')
        .map(|host| match host.rsplit_once(':') {
            Some((_, port)) if !port.contains(']') => host.to_owned(),
            _ => format!("{host}:{DEFAULT_PORT}"),
        })
        .collect()
}

async fn probe(address: &str, entry: &Entry) -> String {
    let host = host_of(address);
    let addresses = match lookup_host(address).await {
        Ok(addresses) => addresses,
        Err(error) => return format!("the name does not resolve ({error})"),
    };
    let mut reason = "the name has no address".to_owned();
    for address in addresses {
        reason = match timeout(PROBE_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return entry.probe(stream, host, PROBE_TIMEOUT).await,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "connection refused, nothing listens there".to_owned()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", PROBE_TIMEOUT.as_secs()),
        };
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_strings_fall_into_addresses() {
        assert_eq!(addresses("a:1,b/chroot/x"), ["a:1", "b:2181"]);
        assert_eq!(addresses("[::1]:5,[::1]"), ["[::1]:5", "[::1]:2181"]);
    }

    #[tokio::test]
    async fn a_refused_connection_names_the_address_and_the_remedy() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let output = Arc::new(Output::new(Box::new(io::sink()), Box::new(io::sink())));
        let refusal = Session::connect(&address, Duration::from_secs(5), false, &Entry::default(), &output)
            .await
            .expect_err("nobody listens");
        let text = refusal.to_string();
        assert!(text.starts_with(&format!("Cannot connect to {address}: connection refused")), "{text}");
        assert!(text.contains("-server HOST:PORT"), "{text}");
    }
}
