//! One session after another: what a program needs that goes on when its session has expired.
//!
//! What always holds: all clones share one session, and a new one is begun only when the last one is over.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::sleep;
use zookeeper_client::{Client, Connector, Error as ClientError};

use crate::error::{Error, SessionEnd};

/// Between two attempts to begin a session, where no server gives one.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

type Connecting = Pin<Box<dyn Future<Output = Result<Client, ClientError>> + Send>>;

/// Sessions with one ensemble, one after the other. Clones share them.
///
/// A [`Client`] is one session: whoever works with it learns by an error that the session is over. [`Followed`](crate::Followed) values and
/// [`Registration`](crate::Registration)s outlive their sessions, so they take this in place of a client.
///
/// ```
/// # rookeeper_acceptance::example(async |address: String| {
/// use rookeeper_recipes::Sessions;
/// use zookeeper_client::Client;
///
/// let sessions = Sessions::new(Client::connector(), &address);
/// let client = sessions.client().await?;
/// assert_eq!(client.session_id(), sessions.client().await?.session_id());
/// # anyhow::Ok(()) });
/// ```
#[derive(Clone)]
pub struct Sessions {
    inner: Arc<Inner>,
}

struct Inner {
    servers: String,
    connect: Box<dyn Fn() -> Connecting + Send + Sync>,
    current: Mutex<Option<Client>>,
}

impl Sessions {
    /// Sessions of this connector with the servers of a connect string. Nothing is sent yet.
    pub fn new(connector: Connector, servers: &str) -> Sessions {
        let list = servers.to_owned();
        Sessions::begun_by(servers, move || {
            let (connector, servers) = (connector.clone(), list.clone());
            async move { connector.connect(&servers).await }
        })
    }

    /// Sessions that are begun in some way of the caller's; `servers` is what errors call them.
    pub fn begun_by<F>(servers: &str, connect: impl Fn() -> F + Send + Sync + 'static) -> Sessions
    where
        F: Future<Output = Result<Client, ClientError>> + Send + 'static,
    {
        let connect = Box::new(move || Box::pin(connect()) as Connecting);
        Sessions { inner: Arc::new(Inner { servers: servers.to_owned(), connect, current: Mutex::new(None) }) }
    }

    /// With this client's session as the first.
    pub fn starting_with(self, client: Client) -> Sessions {
        if let Ok(mut current) = self.inner.current.try_lock() {
            *current = Some(client);
        }
        self
    }

    /// The client whose session lives, as far as is known: that of the last call, or another one where its session is over. Waits until a
    /// server gives a session, for as long as that takes. May be dropped at any time.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`] with [`SessionEnd::AuthFailed`]; [`Error::Refused`] for a connect string that is none.
    pub async fn client(&self) -> Result<Client, Error> {
        let mut current = self.inner.current.lock().await;
        if let Some(client) = &*current
            && SessionEnd::of(client.state()).is_none()
        {
            return Ok(client.clone());
        }
        *current = None;
        loop {
            match (self.inner.connect)().await {
                Ok(client) => return Ok(current.insert(client).clone()),
                Err(ClientError::AuthFailed) => return Err(SessionEnd::AuthFailed.into()),
                Err(error @ ClientError::BadArguments(_)) => {
                    return Err(Error::Refused { path: self.inner.servers.clone(), error });
                }
                Err(_) => sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// Ends the session, and returns when the servers have ended it, or it is over by itself. Whatever was made with this value or a clone
    /// of it and still has the client keeps the session: drop that first.
    pub async fn close(self) {
        let Some(client) = self.inner.current.lock().await.take() else { return };
        let mut states = client.state_watcher();
        if client.state().is_terminated() {
            return;
        }
        drop(client);
        while !states.changed().await.is_terminated() {}
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sessions").field("servers", &self.inner.servers).finish_non_exhaustive()
    }
}
