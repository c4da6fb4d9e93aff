//! Carries out what a [`Place`] asks for, with a client.
//!
//! What always holds: a [`Taking`] that is dropped, at any await point, leaves no node behind. A task of its own deletes the node then, and
//! gives up only when the session is over, which deletes it too.

use std::future::Future;

use tokio::runtime::Handle;
use zookeeper_client::{Acls, Client, CreateMode, Error as ClientError, OneshotWatcher, SessionState};

use crate::error::{Error, SessionEnd};
use crate::place::{Answer, Holding, Place, Step};

/// Whether a place waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Forever,
    None,
}

/// A place on its way to be held.
#[derive(Debug)]
pub(crate) struct Taking {
    client: Client,
    acls: Acls<'static>,
    place: Place,
}

impl Taking {
    pub(crate) fn new(client: &Client, acls: Acls<'static>, place: Place) -> Taking {
        Taking { client: client.clone(), acls, place }
    }

    /// Waits until the place is held. Without patience `None` means that others stand before it; its node is deleted then.
    pub(crate) async fn hold(mut self, patience: Patience) -> Result<Option<Holding>, Error> {
        let mut watcher = None;
        loop {
            let step = self.place.step();
            match step {
                Step::Hold(holding) => {
                    // From here on the holder's guard answers for the node.
                    self.place = Place::new("/", String::new(), Vec::new(), crate::place::Rule::AtMost(0));
                    return Ok(Some(holding));
                }
                Step::Wait | Step::Watch { .. } if patience == Patience::None => {
                    self.place.leave();
                    self.leave().await?;
                    return Ok(None);
                }
                step => {
                    let answer = carry_out(&self.client, self.acls, step, &mut watcher).await?;
                    self.place.handle(answer);
                }
            }
        }
    }

    async fn leave(&mut self) -> Result<(), Error> {
        drive_out(&self.client, self.acls, &mut self.place).await
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        self.place.leave();
        if self.place.may_exist() {
            let (client, acls, mut place) = (self.client.clone(), self.acls, self.place.clone());
            in_background(async move {
                // An error means that the session is over, or that the servers do not let us delete what is ours.
                let _ = drive_out(&client, acls, &mut place).await;
            });
        }
    }
}

/// Until the node of a place that was left is gone.
async fn drive_out(client: &Client, acls: Acls<'static>, place: &mut Place) -> Result<(), Error> {
    let mut watcher = None;
    loop {
        match place.step() {
            Step::Gone => return Ok(()),
            step => {
                let answer = carry_out(client, acls, step, &mut watcher).await?;
                place.handle(answer);
            }
        }
    }
}

/// Deletes a node, however often the connection is lost meanwhile. That the node does not exist is well.
pub(crate) async fn delete(client: &Client, path: &str) -> Result<(), Error> {
    loop {
        match client.delete(path, None).await {
            Ok(()) | Err(ClientError::NoNode) => return Ok(()),
            Err(error) => refused(path, error)?,
        }
    }
}

/// Does it on the runtime of the caller, or of nobody: a value may be dropped where there is no runtime, and then its session is all that
/// answers for its nodes.
pub(crate) fn in_background(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(work);
    }
}

async fn carry_out(
    client: &Client,
    acls: Acls<'static>,
    step: Step,
    watcher: &mut Option<OneshotWatcher>,
) -> Result<Answer, Error> {
    let (path, answer) = match step {
        Step::MakeParent { path } => {
            let options = CreateMode::Container.with_acls(acls);
            let made = client.mkdir(&path, &options).await;
            (path, made.map(|()| Answer::Done))
        }
        Step::Create { prefix, data } => {
            let options = CreateMode::EphemeralSequential.with_acls(acls);
            let created = client.create(&prefix, &data, &options).await;
            let name = prefix.rsplit('/').next().unwrap_or_default().to_owned();
            let created =
                created.map(|(stat, number)| Answer::Created { name: format!("{name}{number}"), czxid: stat.czxid });
            (prefix, created)
        }
        Step::Sync { path } => {
            let synced = client.sync(&path).await;
            (path, synced.map(|()| Answer::Done))
        }
        Step::List { path } => {
            let names = client.list_children(&path).await;
            (path, names.map(Answer::Names))
        }
        Step::ListAndWatch { path } => {
            let names = client.list_and_watch_children(&path).await;
            let names = names.map(|(names, new)| {
                *watcher = Some(new);
                Answer::Names(names)
            });
            (path, names)
        }
        Step::Stat { path } => {
            let stat = client.check_stat(&path).await;
            (path, stat.map(|stat| stat.map_or(Answer::NoNode, |stat| Answer::Czxid(stat.czxid))))
        }
        Step::Watch { path } => {
            // A watch on the data and not on the existence: where the node is gone already no watch stays behind.
            let watched = client.get_and_watch_data(&path).await;
            let watched = watched.map(|(_, _, new)| {
                *watcher = Some(new);
                Answer::Done
            });
            (path, watched)
        }
        Step::Wait => {
            if let Some(watcher) = watcher.take() {
                let event = watcher.changed().await;
                if let Some(end) = SessionEnd::of(event.session_state) {
                    return Err(end.into());
                }
            }
            return Ok(Answer::Changed);
        }
        Step::Delete { path } => {
            let deleted = client.delete(&path, None).await;
            (path, deleted.map(|()| Answer::Done))
        }
        Step::Hold(_) | Step::Gone => unreachable!("there is nothing to carry out"),
    };
    match answer {
        Ok(answer) => Ok(answer),
        Err(ClientError::NoNode) => Ok(Answer::NoNode),
        Err(error) => refused(&path, error).map(|()| Answer::Unknown),
    }
}

/// `Ok` where the request may have been carried out or not, and can be made again.
pub(crate) fn refused(path: &str, error: ClientError) -> Result<(), Error> {
    match error {
        // The client library reports a connection that broke as one of the last three, depending on how.
        ClientError::ConnectionLoss | ClientError::Timeout | ClientError::SessionMoved | ClientError::Custom(_) => {
            Ok(())
        }
        ClientError::SessionExpired => Err(SessionEnd::Expired.into()),
        ClientError::ClientClosed | ClientError::NoHosts => Err(SessionEnd::Closed.into()),
        ClientError::AuthFailed => Err(SessionEnd::AuthFailed.into()),
        error => Err(Error::Refused { path: path.to_owned(), error }),
    }
}

/// Waits for the end of the client's session.
pub async fn session_end(client: &Client) -> SessionEnd {
    let mut states = client.state_watcher();
    let mut state: SessionState = client.state();
    loop {
        match SessionEnd::of(state) {
            Some(end) => return end,
            None => state = states.changed().await,
        }
    }
}
