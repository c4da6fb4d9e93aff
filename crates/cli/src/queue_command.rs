//! `rookeeper queue`: items in, items out, and a command for each of them.
//!
//! What always holds: an item is acknowledged only after it was printed, or after its command has ended with 0; until then another is given it when this
//! process ends, in whatever way.

use std::io::{self, BufRead as _, Write as _};
use std::time::Duration;

use clap::{Args, Subcommand};
use rookeeper_recipes::{Entry, Error, Item, Queue, QueueLayout, Taker};
use tokio::sync::mpsc;
use tokio::time::timeout;
use zookeeper_client::Client;

use crate::exclusive::{
    CLOSE_TIMEOUT, Held, LOST, NOT_IN_TIME, SessionFlags, Signals, close, complain, connect, hold, run, seconds,
};
use crate::print;

/// Lines that are pushed in one transaction, if so many are there.
const BATCH: usize = 100;
const FAILED: u8 = 1;

/// A queue whose items come again until they are acknowledged.
#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(subcommand)]
    command: QueueCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum QueueCommand {
    /// Put items in: the arguments, or each line of standard input
    Push(PushOptions),
    /// Take items out: print them, or run a command for each
    Pop(PopOptions),
    /// Print how many items there are, with those that are taken and those that are not due
    Size(SizeOptions),
}

#[derive(Debug, Clone, Args)]
struct QueueFlags {
    /// The queue, a path; made where it is not there
    path: String,

    #[command(flatten)]
    session: SessionFlags,

    /// Whose nodes the queue has: `rookeeper`, `kazoo` for its LockingQueue, or `curator:LOCKPATH` for Curator's queues with that lock path
    #[arg(long, value_name = "LAYOUT", default_value = "rookeeper", value_parser = layout)]
    layout: QueueLayout,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Exit code: 0 all items are in; 75 there was no room in time; 69 no server gives a session, or it ended, and then some items may be in;
128 + N signal N ended it; 1 anything else.")]
struct PushOptions {
    #[command(flatten)]
    queue: QueueFlags,

    /// The items; without any, each line of standard input is one
    #[arg(value_name = "ITEM")]
    items: Vec<String>,

    /// Taken before items with greater numbers: 0 to 999, with Curator any; 100 if nothing is said
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i32>,

    /// Not taken before so much time has passed
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    delay: Option<Duration>,

    /// Wait for room while the queue has so many items
    #[arg(long, value_name = "ITEMS")]
    limit: Option<usize>,

    /// Wait no longer than this for room; 0 does not wait
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "limit")]
    timeout: Option<Duration>,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Without COMMAND an item is printed, with a line end behind it, and acknowledged. With COMMAND it is what COMMAND reads from its standard input,
ROOKEEPER_ITEM is the path of its node, and it is acknowledged when COMMAND ends with 0; otherwise it is given back, and comes again. COMMAND is
ended before another can be given the item, as by `rookeeper lock`.

Exit code: 0; that of COMMAND where it is not 0, 128 + N where signal N ended it; 126 COMMAND can't be run, 127 it does not exist; 69 no server gives
a session, 70 the item was lost while COMMAND ran, 75 there was no item (in time); 1 anything else.")]
struct PopOptions {
    #[command(flatten)]
    queue: QueueFlags,

    /// Wait until there is an item
    #[arg(long)]
    wait: bool,

    /// Wait no longer than this for each item
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "wait")]
    timeout: Option<Duration>,

    /// So many items, one after the other; 0 for all there are, and with --wait for ever
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u64,

    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Debug, Clone, Args)]
struct SizeOptions {
    #[command(flatten)]
    queue: QueueFlags,
}

fn layout(text: &str) -> Result<QueueLayout, String> {
    match (text, text.strip_prefix("curator:")) {
        ("rookeeper", _) => Ok(QueueLayout::Segments),
        ("kazoo", _) => Ok(QueueLayout::Kazoo),
        (_, Some(locks)) if locks.starts_with('/') => Ok(QueueLayout::Curator { locks: locks.to_owned() }),
        _ => Err("rookeeper, kazoo or curator:/LOCKPATH".to_owned()),
    }
}

/// Runs `rookeeper queue` and returns the exit code.
pub fn main(options: &Options) -> u8 {
    run(async |signals| {
        let flags = match &options.command {
            QueueCommand::Push(options) => &options.queue,
            QueueCommand::Pop(options) => &options.queue,
            QueueCommand::Size(options) => &options.queue,
        };
        let client = connect(&flags.session, signals).await?;
        let queue = Queue::new(&client, &flags.path).with_layout(flags.layout.clone());
        let code = match &options.command {
            QueueCommand::Push(options) => tokio::select! {
                code = push(queue, options) => code,
                number = signals.next() => 128 + number as u8,
            },
            QueueCommand::Pop(options) => pop(&queue, &client, options, signals).await,
            QueueCommand::Size(_) => match queue.count().await {
                Ok(count) => u8::from(!print::result(&count)),
                Err(error) => complain(&error),
            },
        };
        close(client).await;
        Ok(code)
    })
}

async fn push(queue: Queue, options: &PushOptions) -> u8 {
    let queue = match options.limit {
        Some(limit) => queue.with_limit(limit),
        None => queue,
    };
    let entry = |data: Vec<u8>| {
        let mut entry = Entry::new(data);
        if let Some(priority) = options.priority {
            entry = entry.with_priority(priority);
        }
        match options.delay {
            Some(delay) => entry.with_delay(delay),
            None => entry,
        }
    };
    let mut lines = if options.items.is_empty() { Some(lines()) } else { None };
    let mut given = options.items.iter().map(|item| item.as_bytes().to_vec());
    loop {
        let mut batch: Vec<Vec<u8>> = Vec::new();
        match &mut lines {
            Some(lines) => drop(lines.recv_many(&mut batch, BATCH).await),
            None => batch.extend(given.by_ref().take(BATCH)),
        }
        if batch.is_empty() {
            return 0;
        }
        let entries: Vec<Entry> = batch.into_iter().map(entry).collect();
        let pushed = match options.timeout {
            None => queue.push_all(entries).await,
            Some(Duration::ZERO) => match try_push(&queue, entries).await {
                Ok(true) => Ok(()),
                Ok(false) => return NOT_IN_TIME,
                Err(error) => Err(error),
            },
            Some(limit) => match timeout(limit, queue.push_all(entries)).await {
                Ok(pushed) => pushed,
                Err(_) => return NOT_IN_TIME,
            },
        };
        if let Err(error) = pushed {
            return complain(&error);
        }
    }
}

async fn try_push(queue: &Queue, entries: Vec<Entry>) -> Result<bool, Error> {
    for entry in entries {
        if !queue.try_push(entry).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The lines of standard input, read by a thread of its own.
fn lines() -> mpsc::Receiver<Vec<u8>> {
    let (sender, lines) = mpsc::channel(BATCH);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut line = Vec::new();
            match input.read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) => {
                    if line.last() == Some(&b'\n') {
                        line.pop();
                    }
                    if sender.blocking_send(line).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    print::complaint(&format_args!("can't read standard input: {error}"));
                    return;
                }
            }
        }
    });
    lines
}

async fn pop(queue: &Queue, client: &Client, options: &PopOptions, signals: &mut Signals) -> u8 {
    let mut taker = queue.taker();
    let mut popped = 0;
    while options.count == 0 || popped < options.count {
        let item = tokio::select! {
            item = next(&mut taker, options) => item,
            number = signals.next() => return 128 + number as u8,
        };
        let item = match item {
            Ok(Some(item)) => item,
            Ok(None) if options.count == 0 && popped > 0 => return 0,
            Ok(None) => return NOT_IN_TIME,
            Err(error) => return complain(&error),
        };
        let code = if options.command.is_empty() {
            printed(item).await
        } else {
            hold(item, client, &options.command, signals).await.unwrap_or(LOST)
        };
        if code != 0 {
            return code;
        }
        popped += 1;
    }
    0
}

async fn next(taker: &mut Taker, options: &PopOptions) -> Result<Option<Item>, Error> {
    match options.timeout {
        _ if options.wait => taker.take().await.map(Some),
        Some(limit) if !limit.is_zero() => taker.take_within(limit).await,
        _ => taker.try_take().await,
    }
}

async fn printed(item: Item) -> u8 {
    let written = {
        let mut output = io::stdout().lock();
        output.write_all(item.data()).and_then(|()| output.write_all(b"\n")).and_then(|()| output.flush())
    };
    // Nobody has read it where the pipe is closed.
    if let Err(error) = written {
        if error.kind() != io::ErrorKind::BrokenPipe {
            print::complaint(&format_args!("can't write to standard output: {error}"));
        }
        let _ = timeout(CLOSE_TIMEOUT, item.give_back()).await;
        return FAILED;
    }
    match item.ack().await {
        Ok(()) => 0,
        Err(error) => complain(&error),
    }
}

impl Held for Item {
    async fn is_held(&self) -> Result<bool, Error> {
        Item::is_held(self).await
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![("ROOKEEPER_ITEM", self.path().to_owned())]
    }

    fn input(&self) -> Option<Vec<u8>> {
        Some(self.data().to_vec())
    }

    async fn end(self, code: Option<u8>) -> bool {
        if code == Some(0) {
            // Not within a time: while the session lives the answer comes, and without it nobody knows whether the item comes again.
            return match self.ack().await {
                Ok(()) => true,
                Err(error) => {
                    print::complaint(&error);
                    false
                }
            };
        }
        // A session that is cut off gives the item back by its end.
        matches!(timeout(CLOSE_TIMEOUT, self.give_back()).await, Ok(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_named() {
        assert_eq!(layout("rookeeper"), Ok(QueueLayout::Segments));
        assert_eq!(layout("kazoo"), Ok(QueueLayout::Kazoo));
        assert_eq!(layout("curator:/a/locks"), Ok(QueueLayout::Curator { locks: "/a/locks".to_owned() }));
        assert!(layout("curator").is_err() && layout("curator:locks").is_err());
    }
}
