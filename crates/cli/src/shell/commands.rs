//! The table of commands: name, usage as the original prints it, options, and the function that runs it.
//!
//! What always holds: the table is sorted by name the way the usage list prints it, and every word the shell understands is in it.

use std::pin::Pin;

use super::event::Manner;
use super::failure::Failure;
use super::options::{self, Arguments, Choice, Opt, flag, value};
use super::{Shell, access, copy, diff, edit, ensemble, help, history, look, nodes, quota, watches};

/// The flag of a command that is to print JSON, whoever said so.
pub(crate) const JSON: &str = "-json";

type Run = for<'a> fn(&'a mut Shell, Arguments) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

/// One command of the shell.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// What follows the name in the usage list.
    usage: &'static str,
    /// What follows that in `help`: options that the original does not have.
    more_usage: &'static str,
    /// The original does not have the command, and its usage list does not name it.
    is_ours: bool,
    /// It may print JSON.
    json: bool,
    options: &'static [Opt],
    choice: Choice,
    /// Fewest words besides the options; with less, the usage is the answer.
    least_words: usize,
    /// Most words besides the options, where the original cares.
    most_words: usize,
    needs_session: bool,
    run: Run,
}

const PLAIN: Command = Command {
    name: "",
    usage: "",
    more_usage: "",
    is_ours: false,
    json: false,
    options: &[],
    choice: Choice::Any,
    least_words: 0,
    most_words: usize::MAX,
    needs_session: true,
    run: |_, _| Box::pin(async { Ok(()) }),
};

const QUOTA_FLAGS: [Opt; 4] = [flag("n"), flag("b"), flag("N"), flag("B")];
const QUOTA_VALUES: [Opt; 4] = [
    value("n").described("num soft quota"),
    value("b").described("bytes soft quota"),
    value("N").described("num hard quota"),
    value("B").described("bytes hard quota"),
];

pub(crate) static COMMANDS: [Command; 36] = [
    Command {
        name: "addWatch",
        usage: "[-m mode] path # optional mode is one of [PERSISTENT, PERSISTENT_RECURSIVE] - default is PERSISTENT_RECURSIVE",
        options: &[value("m")],
        least_words: 1,
        most_words: 1,
        run: |shell, arguments| Box::pin(watches::add_watch(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "addauth",
        usage: "scheme auth",
        least_words: 1,
        run: |shell, arguments| Box::pin(access::add_auth(shell, arguments)),
        ..PLAIN
    },
    Command { name: "close", run: |shell, _| Box::pin(async { shell.close().await }), ..PLAIN },
    Command {
        name: "config",
        json: true,
        usage: "[-c] [-w] [-s]",
        options: &[flag("c"), flag("w"), flag("s")],
        run: |shell, arguments| Box::pin(ensemble::config(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "connect",
        usage: "host:port",
        needs_session: false,
        run: |shell, arguments| Box::pin(async { shell.reconnect(arguments.words.into_iter().next()).await }),
        ..PLAIN
    },
    Command {
        name: "cp",
        usage: "[-r] [--dry-run] from to",
        is_ours: true,
        json: true,
        options: &[flag("r"), flag("-dry-run")],
        least_words: 2,
        most_words: 2,
        run: |shell, arguments| Box::pin(copy::copy(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "create",
        json: true,
        usage: "[-s] [-e] [-c] [-t ttl] path [data] [acl]",
        options: &[flag("s"), flag("e"), flag("c"), value("t")],
        least_words: 1,
        run: |shell, arguments| Box::pin(nodes::create(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "delete",
        usage: "[-v version] path",
        options: &[value("v")],
        least_words: 1,
        run: |shell, arguments| Box::pin(nodes::delete(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "deleteall",
        usage: "path [-b batch size]",
        more_usage: " [--dry-run]",
        options: &[value("b"), flag("-dry-run")],
        least_words: 1,
        run: |shell, arguments| Box::pin(nodes::delete_all(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "delquota",
        usage: "[-n|-b|-N|-B] path",
        options: &QUOTA_FLAGS,
        choice: Choice::AtMostOne,
        least_words: 1,
        run: |shell, arguments| Box::pin(quota::delete(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "diff",
        usage: "[--no-acl] path path | path --export file | path --file file",
        is_ours: true,
        json: true,
        options: &[flag("-no-acl"), value("-export"), value("-file")],
        least_words: 1,
        most_words: 2,
        run: |shell, arguments| Box::pin(diff::diff(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "du",
        usage: "[--depth levels] path",
        is_ours: true,
        json: true,
        options: &[value("-depth")],
        least_words: 1,
        most_words: 1,
        run: |shell, arguments| Box::pin(look::usage(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "edit",
        usage: "[--from file] path",
        is_ours: true,
        json: true,
        options: &[value("-from")],
        least_words: 1,
        most_words: 1,
        run: |shell, arguments| Box::pin(edit::edit(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "find",
        usage: "path [--name pattern] [--owner session] [--older age] [--newer age] [--larger size] [--smaller size] [--depth levels]",
        is_ours: true,
        json: true,
        options: &[
            value("-name"),
            value("-owner"),
            value("-older"),
            value("-newer"),
            value("-larger"),
            value("-smaller"),
            value("-depth"),
        ],
        least_words: 1,
        most_words: 1,
        run: |shell, arguments| Box::pin(look::find(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "get",
        json: true,
        usage: "[-s] [-w] [-b] [-x] path",
        options: &[
            flag("b").described("Output data in base64 format"),
            flag("s").described("Print znode stats additionally"),
            flag("w").described("Watch for changes on the znode"),
            flag("x").described("Output data in hexdump format"),
            flag("-hex"),
            flag("-pretty"),
        ],
        more_usage: " [--hex|--pretty]",
        least_words: 1,
        run: |shell, arguments| Box::pin(nodes::get(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "getAcl",
        json: true,
        usage: "[-s] path",
        options: &[flag("s")],
        least_words: 1,
        run: |shell, arguments| Box::pin(access::acl(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "getAllChildrenNumber",
        json: true,
        usage: "path",
        least_words: 1,
        run: |shell, arguments| Box::pin(nodes::count_descendants(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "getEphemerals",
        json: true,
        usage: "path",
        run: |shell, arguments| Box::pin(nodes::ephemerals(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "help",
        usage: "[command]",
        is_ours: true,
        needs_session: false,
        run: |shell, arguments| Box::pin(async { help::help(shell, arguments) }),
        ..PLAIN
    },
    Command {
        name: "history",
        needs_session: false,
        run: |shell, _| Box::pin(async { history::list(shell) }),
        ..PLAIN
    },
    Command {
        name: "listquota",
        json: true,
        usage: "path",
        least_words: 1,
        run: |shell, arguments| Box::pin(quota::list(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "ls",
        json: true,
        usage: "[-s] [-w] [-R] path",
        options: &[flag("s"), flag("w"), flag("R")],
        least_words: 1,
        run: |shell, arguments| Box::pin(nodes::list(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "mv",
        usage: "[--dry-run] from to",
        is_ours: true,
        json: true,
        options: &[flag("-dry-run")],
        least_words: 2,
        most_words: 2,
        run: |shell, arguments| Box::pin(copy::rename(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "printwatches",
        usage: "on|off",
        needs_session: false,
        run: |shell, arguments| Box::pin(watches::print_watches(shell, arguments)),
        ..PLAIN
    },
    // The loop that reads the lines ends on this word.
    Command { name: "quit", needs_session: false, ..PLAIN },
    Command {
        name: "reconfig",
        usage: "[-s] [-v version] [[-file path] | [-members serverID=host:port1:port2;port3[,...]*]] | [-add serverId=host:port1:port2;port3[,...]]* [-remove serverId[,...]*]",
        options: &[flag("s"), value("v"), value("file"), value("members"), value("add"), value("remove")],
        run: |shell, arguments| Box::pin(ensemble::reconfigure(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "redo",
        usage: "cmdno",
        needs_session: false,
        run: |shell, arguments| Box::pin(history::redo(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "removewatches",
        usage: "path [-c|-d|-a] [-l]",
        options: &[flag("c"), flag("d"), flag("p"), flag("r"), flag("a"), flag("l")],
        least_words: 1,
        run: |shell, arguments| Box::pin(watches::remove_watches(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "set",
        json: true,
        usage: "path data [-s] [-v version] [-b]",
        options: &[
            flag("b").described("Supply data in base64 format"),
            flag("s").described("Print znode stats additionally"),
            value("v").described("Set with an expected version"),
        ],
        least_words: 2,
        run: |shell, arguments| Box::pin(nodes::set(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "setAcl",
        usage: "[-s] [-v version] [-R] path acl",
        options: &[flag("s"), value("v"), flag("R")],
        least_words: 2,
        run: |shell, arguments| Box::pin(access::set_acl(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "setquota",
        usage: "-n|-b|-N|-B val path",
        options: &QUOTA_VALUES,
        choice: Choice::ExactlyOne,
        least_words: 1,
        run: |shell, arguments| Box::pin(quota::set(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "stat",
        json: true,
        usage: "[-w] path",
        options: &[flag("w")],
        least_words: 1,
        run: |shell, arguments| Box::pin(nodes::stat(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "sync",
        json: true,
        usage: "path",
        least_words: 1,
        run: |shell, arguments| Box::pin(nodes::sync(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "tree",
        usage: "[-s] [--depth levels] path",
        is_ours: true,
        json: true,
        options: &[flag("s"), value("-depth")],
        least_words: 1,
        most_words: 1,
        run: |shell, arguments| Box::pin(look::tree(shell, arguments)),
        ..PLAIN
    },
    Command {
        name: "version",
        json: true,
        most_words: 0,
        run: |shell, arguments| Box::pin(async move { shell.version(arguments.has(JSON)) }),
        ..PLAIN
    },
    Command {
        name: "whoami",
        json: true,
        run: |shell, arguments| Box::pin(access::who_am_i(shell, arguments)),
        ..PLAIN
    },
];

impl Command {
    pub(crate) fn find(name: &str) -> Option<&'static Command> {
        COMMANDS.iter().find(|command| command.name == name)
    }

    /// The answer to wrong arguments: the line of the usage list, and the options where the original describes them.
    pub(crate) fn usage(&self) -> String {
        let mut text = format!("{} {}", self.name, self.usage);
        let described = |option: &&Opt| !option.description.is_empty() && self.choice == Choice::Any;
        let left = |option: &Opt| format!("-{}{}", option.name, if option.takes_value { " <arg>" } else { "" });
        let width = self.options.iter().map(|option| left(option).len()).max().unwrap_or(0);
        let mut lines = 0;
        for option in self.options.iter().filter(described) {
            text.push_str(&format!("\n {:width$}   {}", left(option), option.description));
            lines += 1;
        }
        if lines > 0 {
            text.push('\n');
        }
        text
    }

    /// The usage with the options that the original does not have.
    pub(crate) fn whole_usage(&self) -> String {
        let json = if self.json { " [--json]" } else { "" };
        format!("{} {}{}{json}", self.name, self.usage, self.more_usage)
    }

    /// Its options as they are typed.
    pub(crate) fn option_words(&self) -> Vec<String> {
        let mut words: Vec<String> = self.options.iter().map(|option| format!("-{}", option.name)).collect();
        if self.json {
            words.push("--json".to_owned());
        }
        words
    }

    /// What may stand behind the word `before`, the last of so many, where that is no path.
    pub(crate) fn values_after(&self, before: &str, words: usize) -> Option<&'static [&'static str]> {
        match (self.name, before) {
            ("find", "--owner") => Some(&["any", "none"]),
            ("addWatch", "-m") => Some(&["PERSISTENT", "PERSISTENT_RECURSIVE"]),
            ("printwatches", _) if words == 1 => Some(&["on", "off"]),
            _ => {
                let takes_it = |option: &Opt| option.takes_value && before.strip_prefix('-') == Some(option.name);
                self.options.iter().any(takes_it).then_some(&[])
            }
        }
    }

    /// Why words are refused, in words of the original, which knows none of our commands.
    fn refusal(&self, of_the_original: String) -> String {
        match of_the_original.split_once("Exception: ") {
            Some((_, text)) if self.is_ours => {
                format!("{}: {text}. `help {}` lists the options.", self.name, self.name)
            }
            _ => of_the_original,
        }
    }

    /// Sorts the words after its name.
    pub(crate) fn arguments(&self, words: &[String]) -> Result<Arguments, Failure> {
        let options_end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        let asks = |(index, word): (usize, &String)| self.json && index < options_end && word == "--json";
        let is_json = words.iter().enumerate().any(asks);
        let words: Vec<String> =
            words.iter().enumerate().filter(|word| !asks(*word)).map(|(_, word)| word.clone()).collect();
        let parsed = options::parse(&words, self.options, self.choice);
        let mut arguments = parsed.map_err(|text| Failure::Refused(self.refusal(text)))?;
        if arguments.words.len() < self.least_words || arguments.words.len() > self.most_words {
            return Err(Failure::Refused(self.usage()));
        }
        if is_json {
            arguments.set_flag(JSON);
        }
        Ok(arguments)
    }

    /// Runs the command with the words after its name.
    pub(crate) async fn run(&self, shell: &mut Shell, words: &[String]) -> Result<(), Failure> {
        if self.needs_session && !shell.is_alive() {
            return shell.no_session();
        }
        let mut arguments = self.arguments(words).map_err(|failure| match self.name {
            // Its exit code 1 says that two sides differ.
            "diff" => failure.unanswered(),
            _ => failure,
        })?;
        if shell.output.manner() == Manner::Json {
            arguments.set_flag(JSON);
        }
        (self.run)(shell, arguments).await
    }
}

/// Every command of the original with its arguments, one a line.
pub(crate) fn usage_list() -> String {
    let mut text = String::from("ZooKeeper -server host:port -client-configuration properties-file cmd args");
    for command in COMMANDS.iter().filter(|command| !command.is_ours) {
        text.push_str(&format!("\n\t{} {}", command.name, command.usage));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_usage_list() {
        assert!(COMMANDS.is_sorted_by_key(|command| command.name));
        assert!(usage_list().contains("\n\tclose \n\tconfig [-c] [-w] [-s]\n"));
    }

    #[test]
    fn usage_describes_options_where_the_original_does() {
        let usage = |name| Command::find(name).expect(name).usage();
        assert_eq!(usage("create"), "create [-s] [-e] [-c] [-t ttl] path [data] [acl]");
        assert_eq!(usage("setquota"), "setquota -n|-b|-N|-B val path");
        assert_eq!(
            usage("set"),
            "set path data [-s] [-v version] [-b]\n -b         Supply data in base64 format\n \
             -s         Print znode stats additionally\n -v <arg>   Set with an expected version\n"
        );
    }
}
