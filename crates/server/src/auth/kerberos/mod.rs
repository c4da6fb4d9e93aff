//! SASL GSSAPI (RFC 4752) with the tickets of Kerberos, for clients and between servers.
//!
//! Kerberos itself is the system's library: `gss` calls it. `acceptor` is the side that is asked to let somebody in, `initiator` the side
//! that asks; `tokens` counts what comes in; `layer` has the messages behind the tickets, `names` makes users of principals, `cause` says what to do about a failure.
//! What always holds:
//! - without a section for Kerberos the library is not even looked for;
//! - a token longer than [`MAX_TOKEN_BYTES`] is refused before the library sees it, and an exchange has at most [`MAX_STEPS`](tokens) tokens;
//! - the library may block, so it is called on threads of its own, of which there are few ([`apart`]), and nobody waits longer than a limit.

pub(crate) mod acceptor;
mod cause;
mod gss;
pub(crate) mod initiator;
mod layer;
pub mod names;
mod tokens;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use self::gss::GssError;

/// The longest token that is taken. A ticket that lists many groups is that long.
pub(crate) const MAX_TOKEN_BYTES: usize = 65_536;

/// How long somebody waits for the library, with everybody before in the queue.
const LIMIT: Duration = Duration::from_secs(10);

/// Tokens that are judged at the same time, which is a matter of files; and tickets that are asked for, which is one of the network. A
/// Kerberos server that is down keeps nobody from being let in.
static JUDGING: Semaphore = Semaphore::const_new(4);
static ASKING: Semaphore = Semaphore::const_new(4);

/// Where the keys of a login are, or its tickets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Keys {
    /// A keytab.
    Keytab(PathBuf),
    /// A cache of tickets, which somebody else keeps fresh; none for the one that the library finds.
    Cache(Option<PathBuf>),
}

impl std::fmt::Display for Keys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Keys::Keytab(path) => write!(formatter, "the keytab {}", path.display()),
            Keys::Cache(Some(path)) => write!(formatter, "the ticket cache {}", path.display()),
            Keys::Cache(None) => formatter.write_str("the default ticket cache"),
        }
    }
}

/// Who a server is to Kerberos.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    /// `service/host@REALM`; without a realm, of the default one. None for the one whose tickets the cache has.
    pub principal: Option<String>,
    pub keys: Keys,
}

/// Why an exchange failed. For the log; the other side learns no more than that it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Longer than any honest token.
    #[error("a token of {0} bytes; {MAX_TOKEN_BYTES} are allowed")]
    TooLong(usize),
    /// It does not follow the protocol.
    #[error("a malformed exchange: {0}")]
    Malformed(&'static str),
    /// A token behind the last one of the exchange.
    #[error("a token behind the end of the exchange")]
    Over,
    /// Kerberos says no.
    #[error("{text} ({whose}): {remedy}")]
    Kerberos {
        /// What the library says.
        text: String,
        /// Who this server is, and by which keys or tickets.
        whose: String,
        remedy: &'static str,
    },
    /// Sound, but its name means nobody here.
    #[error("{0:?} is no name of a principal that can be a user here")]
    NoUser(String),
    /// The library does not come back.
    #[error("the Kerberos library did not answer within {LIMIT:?}: {0}")]
    TooSlow(&'static str),
    /// No thread to call the library on.
    #[error("there is no thread to ask the Kerberos library on: {0}")]
    NoThread(String),
}

impl Refusal {
    fn of(error: GssError, whose: &str) -> Refusal {
        let GssError { code, text } = error;
        Refusal::Kerberos { text, whose: whose.to_owned(), remedy: cause::remedy(code) }
    }
}

/// Which queue a call belongs to.
#[derive(Debug, Clone, Copy)]
enum Desk {
    Judging,
    Asking,
}

/// Calls the library on a thread of its own. A call that does not come back keeps its place among the few that may be under way.
async fn apart<T: Send + 'static>(desk: Desk, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    let (places, remedy) = match desk {
        Desk::Judging => (&JUDGING, "look at the disk of the keytab and of the replay cache (/var/tmp)"),
        Desk::Asking => (&ASKING, "look at the Kerberos server and the resolution of its name (krb5.conf)"),
    };
    apart_at(places, LIMIT, work).await.unwrap_or(Err(Refusal::TooSlow(remedy)))
}

/// None where the limit is reached.
async fn apart_at<T: Send + 'static>(
    places: &'static Semaphore,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<Result<T, Refusal>> {
    let answered = async {
        // Nobody closes these.
        let Ok(place) = places.acquire().await else { return Err(Refusal::Over) };
        let (answer, answered) = oneshot::channel();
        let spawned = std::thread::Builder::new().name("kerberos".to_owned()).spawn(move || {
            let _place = place;
            let _ = answer.send(work());
        });
        spawned.map_err(|error| Refusal::NoThread(error.to_string()))?;
        answered.await.map_err(|_| Refusal::NoThread("it ended without an answer".to_owned()))
    };
    tokio::time::timeout(limit, answered).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_library_is_called_by_a_few_at_a_time_and_waited_for_no_longer_than_the_limit() {
        static PLACES: Semaphore = Semaphore::const_new(2);
        let short = Duration::from_millis(20);
        let mut releases = Vec::new();
        for _ in 0..2 {
            let (release, wait) = std::sync::mpsc::channel::<()>();
            releases.push(release);
            let stuck = apart_at(&PLACES, short, move || {
                let _ = wait.recv();
            });
            assert_eq!(stuck.await, None);
        }
        assert_eq!(PLACES.available_permits(), 0, "calls that do not come back keep their places");
        assert_eq!(apart_at(&PLACES, short, || ()).await, None);
        releases.clear();
        assert_eq!(apart_at(&PLACES, LIMIT, || 6).await, Some(Ok(6)));
    }
}
