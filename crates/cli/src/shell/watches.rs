//! The watches a session has set, and the commands about them.
//!
//! zkCli hands every request the same watcher, so a watch is known by its kind and path alone: setting it twice is one watch. What
//! always holds: an event is printed once, however many of our watches it concerns, as far as the server sends its zxid.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;
use zookeeper_client::{
    AddWatchMode, Client, Error, EventType, OneshotWatcher, PersistentWatcher, SessionState, WatchedEvent,
};

use super::Shell;
use super::event::Event;
use super::failure::{Failure, refused};
use super::options::Arguments;
use super::output::Output;

/// What a watch waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Data,
    Child,
    Persistent,
    PersistentRecursive,
}

impl Kind {
    fn removal(self) -> &'static str {
        match self {
            Kind::Data => "DataWatchRemoved",
            Kind::Child => "ChildWatchRemoved",
            Kind::Persistent | Kind::PersistentRecursive => "PersistentWatchRemoved",
        }
    }
}

type Key = (Kind, String);

/// The watches of one session. Dropping it ends their tasks.
#[derive(Debug)]
pub(crate) struct Watches {
    output: Arc<Output>,
    tasks: HashMap<Key, JoinHandle<()>>,
    printed: Arc<Printed>,
}

impl Watches {
    pub(crate) fn new(output: &Arc<Output>) -> Watches {
        Watches { output: Arc::clone(output), tasks: HashMap::new(), printed: Arc::default() }
    }

    /// Prints the watcher's one event. A second watcher of the same kind and path is dropped, which takes it off the server only
    /// when it was the last.
    pub(crate) fn add_once(&mut self, kind: Kind, path: &str, watcher: OneshotWatcher) {
        let (output, printed) = (Arc::clone(&self.output), Arc::clone(&self.printed));
        self.add(kind, path, async move {
            let event = watcher.changed().await;
            printed.print(&output, &event);
        });
    }

    /// The client library forgets these watches when it is connected again, so they are set once more. The new one is there before the old
    /// one is dropped, which would take it off the server.
    fn add_persistent(
        &mut self,
        kind: Kind,
        path: &str,
        mode: AddWatchMode,
        client: Client,
        watcher: PersistentWatcher,
    ) {
        let (output, printed) = (Arc::clone(&self.output), Arc::clone(&self.printed));
        let (mut watcher, watched) = (watcher, path.to_owned());
        self.add(kind, path, async move {
            loop {
                let event = watcher.changed().await;
                if event.event_type != EventType::Session {
                    printed.print(&output, &event);
                } else if event.session_state.is_terminated() {
                    return;
                } else if event.session_state == SessionState::SyncConnected
                    // Where the connection is lost once more, its return is another event.
                    && let Ok(again) = client.watch(&watched, mode).await
                {
                    watcher = again;
                }
            }
        });
    }

    fn add(&mut self, kind: Kind, path: &str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.retain(|_, task| !task.is_finished());
        self.tasks.entry((kind, path.to_owned())).or_insert_with(|| tokio::spawn(task));
    }

    /// Ends the watches of these kinds on a path and returns the kinds there were.
    async fn remove(&mut self, kinds: &[Kind], path: &str) -> Vec<Kind> {
        let mut removed = Vec::new();
        for kind in kinds {
            let Some(task) = self.tasks.remove(&(*kind, path.to_owned())) else { continue };
            if task.is_finished() {
                continue;
            }
            task.abort();
            // The watcher tells the session task to take the watch off the server when it is dropped: wait for that moment.
            let _ = task.await;
            removed.push(*kind);
        }
        removed
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

/// Remembers the event printed last, because the client library hands a copy to every watcher concerned.
#[derive(Debug, Default)]
struct Printed {
    last: Mutex<Option<(EventType, String, i64)>>,
}

impl Printed {
    fn last(&self) -> MutexGuard<'_, Option<(EventType, String, i64)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print(&self, output: &Output, event: &WatchedEvent) {
        if event.event_type == EventType::Session {
            // The session's own task prints those.
            return;
        }
        // Servers before 3.9 send no zxid; without it two equal events cannot be told from one that arrived twice.
        if event.zxid != WatchedEvent::NO_ZXID {
            let this = Some((event.event_type, event.path.clone(), event.zxid));
            let mut last = self.last();
            if *last == this {
                return;
            }
            *last = this;
        }
        let kind = event.event_type.to_string();
        let (state, path) = (event.session_state, Some(event.path.as_str()));
        output.event(&Event { state, kind: &kind, path, zxid: event.zxid });
    }
}

pub(crate) async fn add_watch(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let path = arguments.words[0].as_str();
    let (kind, mode) = match arguments.value("m").map(str::to_uppercase).as_deref() {
        None | Some("PERSISTENT_RECURSIVE") => (Kind::PersistentRecursive, AddWatchMode::PersistentRecursive),
        Some("PERSISTENT") => (Kind::Persistent, AddWatchMode::Persistent),
        Some(_) => return Err(shell.usage("addWatch")),
    };
    shell.check_path(path)?;
    let client = shell.client()?;
    let watcher = client.watch(path, mode).await.map_err(|error| refused(&error, path))?;
    shell.watches.add_persistent(kind, path, mode, client, watcher);
    Ok(())
}

pub(crate) async fn remove_watches(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let path = arguments.words[0].as_str();
    shell.check_path(path)?;
    let kinds: &[Kind] = match () {
        () if arguments.has("c") => &[Kind::Child],
        () if arguments.has("d") => &[Kind::Data],
        () if arguments.has("p") => &[Kind::Persistent],
        () if arguments.has("r") => &[Kind::PersistentRecursive],
        () => &[Kind::Child, Kind::Data, Kind::Persistent, Kind::PersistentRecursive],
    };
    let removed = shell.watches.remove(kinds, path).await;
    if removed.is_empty() {
        return Err(refused(&Error::NoWatcher, path));
    }
    for kind in removed {
        let (state, kind) = (SessionState::SyncConnected, kind.removal());
        shell.output.event(&Event { state, kind, path: Some(path), zxid: -1 });
    }
    Ok(())
}

pub(crate) async fn print_watches(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    match arguments.words.first() {
        None => {
            let state = if shell.output.events_shown() { "on" } else { "off" };
            shell.output.line(&format!("printwatches is {state}"))?;
        }
        Some(word) => shell.output.show_events(word == "on"),
    }
    Ok(())
}
