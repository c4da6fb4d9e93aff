//! The four-letter words: four bytes at the start of a connection, answered with text, after which the connection ends.
//!
//! What always holds here: the formats are the original's, because tools take them apart; nothing is answered that the whitelist
//! does not allow; locks of the tree, the sessions and the watches are held only to copy, never to format, sort or wait, the
//! other locks in portions where there is much. An answer is complete however large the server is, so `wchc`, `wchp` and `dump` cost memory in
//! proportion to what they list: that is why the whitelist names only `srvr` unless told otherwise, why that memory counts as held for
//! the client that asks, and why only one of the long answers is made at a time.
//!
//! - `status.rs`: `srvr`, `stat`, `srst` and the one-liners
//! - `connections.rs`: `cons`, `crst`
//! - `dump.rs`: sessions, ephemerals and connections with the times at which they would go
//! - `watches.rs`: `wchs`, `wchc`, `wchp`
//! - `environment.rs`: `envi`; `process.rs`: what the system says of this process
//! - `view.rs`: which part the server plays at that moment; `page.rs`: the answer while it is written
//! - `metrics.rs` with `metrics_table.rs`: `mntr`
//!
//! Counterpart in the original: the package `server.command`.

mod connections;
mod dump;
#[cfg(test)]
mod ensemble_tests;
mod environment;
mod metrics;
mod metrics_table;
mod page;
mod process;
mod status;
#[cfg(test)]
mod tests;
mod view;
mod watches;

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_replica::Connection;
use tracing::debug;

use crate::context::Context;

pub use metrics::compat_table;
pub(crate) use page::Page;
pub(crate) use process::{max_file_descriptors, open_file_descriptors};
pub(crate) use status::full_version;
use view::View;

/// What can be asked with four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Conf,
    Cons,
    Crst,
    Dirs,
    Dump,
    Envi,
    Gtmk,
    Hash,
    Isro,
    Mntr,
    Ruok,
    Srst,
    Srvr,
    Stat,
    Stmk,
    /// What telnet sends when it is interrupted. Known so that it ends a connection without a complaint about a frame.
    TelnetInterrupt,
    Wchc,
    Wchp,
    Wchs,
}

/// The command that these first four bytes of a connection are, if any. All others are the length of a frame.
pub(crate) fn find(word: [u8; 4]) -> Option<Command> {
    Some(match &word {
        b"conf" => Command::Conf,
        b"cons" => Command::Cons,
        b"crst" => Command::Crst,
        b"dirs" => Command::Dirs,
        b"dump" => Command::Dump,
        b"envi" => Command::Envi,
        b"gtmk" => Command::Gtmk,
        b"hash" => Command::Hash,
        b"isro" => Command::Isro,
        b"mntr" => Command::Mntr,
        b"ruok" => Command::Ruok,
        b"srst" => Command::Srst,
        b"srvr" => Command::Srvr,
        b"stat" => Command::Stat,
        b"stmk" => Command::Stmk,
        [0xff, 0xf4, 0xff, 0xfd] => Command::TelnetInterrupt,
        b"wchc" => Command::Wchc,
        b"wchp" => Command::Wchp,
        b"wchs" => Command::Wchs,
        _ => return None,
    })
}

impl Command {
    /// Whether eight more bytes belong to it.
    pub fn takes_argument(self) -> bool {
        self == Command::Stmk
    }

    /// Whether its answer grows with the number of clients, of what they watch and of what they own.
    pub fn is_long(self) -> bool {
        matches!(self, Command::Cons | Command::Dump | Command::Stat | Command::Wchc | Command::Wchp)
    }

    /// Whether only a server that serves clients answers it.
    fn needs_service(self) -> bool {
        use Command::{Envi, Gtmk, Isro, Ruok, Stmk, TelnetInterrupt};
        !matches!(self, Envi | Gtmk | Isro | Ruok | Stmk | TelnetInterrupt)
    }

    /// As the whitelist names it.
    fn name(self) -> &'static str {
        match self {
            Command::Conf => "conf",
            Command::Cons => "cons",
            Command::Crst => "crst",
            Command::Dirs => "dirs",
            Command::Dump => "dump",
            Command::Envi => "envi",
            Command::Gtmk => "gtmk",
            Command::Hash => "hash",
            Command::Isro => "isro",
            Command::Mntr => "mntr",
            Command::Ruok => "ruok",
            Command::Srst => "srst",
            Command::Srvr => "srvr",
            Command::Stat => "stat",
            Command::Stmk => "stmk",
            Command::TelnetInterrupt => "telnet close",
            Command::Wchc => "wchc",
            Command::Wchp => "wchp",
            Command::Wchs => "wchs",
        }
    }
}

/// Whether the configuration lets this command be answered.
pub(crate) fn is_allowed(context: &Context, command: Command) -> bool {
    context.config.four_letter_words.allows(command.name())
}

/// Answers a command. `asking` is the connection it came on; `argument` counts where the command takes one. The question and the
/// answer are packets in the statistics, and the answer shows the question.
pub(crate) fn run<'a>(context: &Context, command: Command, asking: &'a Connection, argument: [u8; 8]) -> Page<'a> {
    debug!(client = %asking.peer, "processing {} command", command.name());
    asking.statistics.received.fetch_add(1, Relaxed);
    context.shared.statistics.packets_received.fetch_add(1, Relaxed);
    let mut page = Page::new(asking);
    // A page that nobody wants any more takes nothing, and says so to whoever writes most.
    let _ = match is_allowed(context, command) {
        true => answer(&mut page, context, &View::of(context), command, asking, argument),
        false => writeln!(page, "{} is not executed because it is not in the whitelist.", command.name()),
    };
    context.shared.statistics.packets_sent.fetch_add(1, Relaxed);
    page
}

fn answer(
    page: &mut Page<'_>,
    context: &Context,
    view: &View,
    command: Command,
    asking: &Connection,
    argument: [u8; 8],
) -> std::fmt::Result {
    if command.needs_service() && !view.serves() {
        let end = if command == Command::Hash { "" } else { "\n" };
        return write!(page, "This ZooKeeper instance is not currently serving requests{end}");
    }
    let text = match command {
        Command::Cons => return connections::cons(page, context, asking),
        Command::Dump => return dump::dump(page, context, view),
        Command::Stat => return status::stat(page, context, view, asking),
        Command::Wchc => return watches::wchc(page, context),
        Command::Wchp => return watches::wchp(page, context),
        Command::Conf => status::conf(context, view),
        Command::Crst => connections::crst(context),
        Command::Dirs => status::dirs(context),
        Command::Envi => environment::envi(),
        Command::Gtmk => context.trace_mask.load(Relaxed).to_string(),
        Command::Hash => status::hash(context),
        Command::Isro => view.writable().to_owned(),
        Command::Mntr => metrics::mntr(context, view),
        Command::Ruok => "imok".to_owned(),
        Command::Srst => status::srst(context),
        Command::Srvr => status::srvr(context, view),
        Command::Stmk => {
            let mask = i64::from_be_bytes(argument);
            context.trace_mask.store(mask, Relaxed);
            mask.to_string()
        }
        Command::TelnetInterrupt => String::new(),
        Command::Wchs => watches::wchs(context),
    };
    page.write_str(&text)
}
