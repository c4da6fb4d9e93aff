//! The four-letter words: four bytes at the start of a connection, answered with text, after which the connection ends.
//!
//! What always holds here: the formats are the original's, because tools take them apart; nothing is answered that the whitelist
//! does not allow; no lock is held to format, sort or wait. An answer is complete however large the server is, so `wchc`, `wchp` and `dump` cost
//! memory in proportion to what they list: that is why the whitelist names only `srvr` unless told otherwise, why that memory counts as held for
//! the client that asks, and why only one of the long answers is made at a time. Nothing that may take a while is done on a network worker.
//!
//! Here is which words there are, and who may ask when. What is told is gathered in `observe`; these files write it down:
//! - `status.rs`: `srvr`, `stat`, `srst` and the one-liners
//! - `connections.rs`: `cons`, `crst`
//! - `dump.rs`: sessions, ephemerals and connections with the times at which they would go
//! - `watches.rs`: `wchs`, `wchc`, `wchp`
//! - `environment.rs`: `envi`
//! - `metrics.rs`: `mntr`
//! - `page.rs`: the answer while it is written
//!
//! Counterpart in the original: the package `server.command`.

mod connections;
mod dump;
#[cfg(test)]
pub(crate) mod ensemble_tests;
mod environment;
mod metrics;
mod page;
mod status;
#[cfg(test)]
pub(crate) mod tests;
mod watches;

use std::fmt::{self, Write as _};
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_replica::Connection;
use tracing::debug;

use crate::context::Context;
use crate::observe::view::View;

pub use metrics::compat_table;
pub(crate) use page::Page;

/// A word of four bytes with which a server is asked: everything there is to know about it.
pub(crate) struct Command {
    word: [u8; 4],
    /// As the whitelist names it.
    name: &'static str,
    without_service: WithoutService,
    cost: Cost,
    /// Whether eight more bytes belong to the question.
    takes_argument: bool,
    answer: fn(&mut Page<'_>, &Question<'_>) -> fmt::Result,
}

/// The answer of a server that serves no clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WithoutService {
    Answers,
    Refuses,
    /// Without the end of a line.
    RefusesBriefly,
}

/// How much work an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    /// A few bytes that are there already.
    AtOnce,
    /// Locks, files or the system are looked at.
    Short,
    /// The answer grows with the number of clients, of what they watch and of what they own.
    Long,
}

/// The parts from which an answer is made.
struct Question<'a> {
    context: &'a Context,
    view: &'a View,
    asking: &'a Connection,
    argument: [u8; 8],
}

use Cost::{AtOnce, Long, Short};
use WithoutService::{Answers, Refuses, RefusesBriefly};

const COMMANDS: &[Command] = &[
    command(b"conf", Refuses, Short, status::conf),
    command(b"cons", Refuses, Long, connections::cons),
    command(b"crst", Refuses, Short, connections::crst),
    command(b"dirs", Refuses, Short, status::dirs),
    command(b"dump", Refuses, Long, dump::dump),
    command(b"envi", Answers, Short, environment::envi),
    command(b"gtmk", Answers, AtOnce, status::gtmk),
    command(b"hash", RefusesBriefly, Short, status::hash),
    command(b"isro", Answers, AtOnce, status::isro),
    command(b"mntr", Refuses, Short, metrics::mntr),
    command(b"ruok", Answers, AtOnce, status::ruok),
    command(b"srst", Refuses, Short, status::srst),
    command(b"srvr", Refuses, Short, status::srvr),
    command(b"stat", Refuses, Long, status::stat),
    Command { takes_argument: true, ..command(b"stmk", Answers, AtOnce, status::stmk) },
    // Telnet sends these bytes when it is interrupted. They are known so that they end a connection without a complaint about a frame.
    Command { name: "telnet close", ..command(&[0xff, 0xf4, 0xff, 0xfd], Answers, AtOnce, |_, _| Ok(())) },
    command(b"wchc", Refuses, Long, watches::wchc),
    command(b"wchp", Refuses, Long, watches::wchp),
    command(b"wchs", Refuses, Short, watches::wchs),
];

const fn command(
    word: &'static [u8; 4],
    without_service: WithoutService,
    cost: Cost,
    answer: fn(&mut Page<'_>, &Question<'_>) -> fmt::Result,
) -> Command {
    let name = match str::from_utf8(word) {
        Ok(name) => name,
        Err(_) => "",
    };
    Command { word: *word, name, without_service, cost, takes_argument: false, answer }
}

/// The section of COMPAT.md about the words, in Markdown.
pub fn words_table() -> String {
    let mut text = String::from("| word | while no clients are served | the answer |\n| --- | --- | --- |\n");
    for command in COMMANDS.iter().filter(|command| command.word.is_ascii()) {
        let without = match command.without_service {
            Answers => "answered",
            Refuses | RefusesBriefly => "refused in the original's words",
        };
        let cost = match command.cost {
            AtOnce | Short => "is short",
            Long => "grows with the clients, what they watch and what they own",
        };
        let _ = writeln!(text, "| `{}` | {without} | {cost} |", command.name);
    }
    text
}

/// The command that these first four bytes of a connection are, if any. All others are the length of a frame.
pub(crate) fn find(word: [u8; 4]) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.word == word)
}

impl Command {
    /// Whether eight more bytes belong to it.
    pub fn takes_argument(&self) -> bool {
        self.takes_argument
    }

    /// How long an answer takes, which says where it is made.
    pub fn cost(&self) -> Cost {
        self.cost
    }
}

/// Whether the configuration lets this command be answered.
pub(crate) fn is_allowed(context: &Context, command: &Command) -> bool {
    context.config.four_letter_words.allows(command.name)
}

/// Answers a command. `asking` is the connection it came on; `argument` counts where the command takes one. The question and the
/// answer are packets in the statistics, and the answer shows the question. Blocks for as long as the command's [`Cost`] says.
pub(crate) fn run<'a>(context: &Context, command: &Command, asking: &'a Connection, argument: [u8; 8]) -> Page<'a> {
    debug!(client = %asking.peer, "processing {} command", command.name);
    asking.statistics.received.fetch_add(1, Relaxed);
    context.shared.statistics.packets_received.fetch_add(1, Relaxed);
    let mut page = Page::new(asking);
    // A page that nobody wants any more takes nothing, and says so to whoever writes most.
    let _ = match is_allowed(context, command) {
        true => answer(&mut page, command, &Question { context, view: &View::of(context), asking, argument }),
        false => writeln!(page, "{} is not executed because it is not in the whitelist.", command.name),
    };
    context.shared.statistics.packets_sent.fetch_add(1, Relaxed);
    page
}

fn answer(page: &mut Page<'_>, command: &Command, question: &Question<'_>) -> fmt::Result {
    if command.without_service != Answers && !question.view.serves() {
        let end = if command.without_service == RefusesBriefly { "" } else { "\n" };
        return write!(page, "This ZooKeeper instance is not currently serving requests{end}");
    }
    (command.answer)(page, question)
}
