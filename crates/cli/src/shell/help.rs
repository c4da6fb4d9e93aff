//! `help`: what a command is for, its options, an example; and the list of all commands.
//!
//! What always holds: every command has an entry, and every option that a command takes is in it.

use super::Shell;
use super::commands::{COMMANDS, Command, usage_list};
use super::failure::Failure;
use super::options::Arguments;

/// What is said of a command.
pub(super) struct Help {
    name: &'static str,
    summary: &'static str,
    options: &'static [(&'static str, &'static str)],
    example: &'static str,
}

const STAT: (&str, &str) = ("-s", "print the stat of the node too");
const WATCH: (&str, &str) = ("-w", "leave a watch: the next change is told, once");
const VERSION: (&str, &str) = ("-v VERSION", "only if the node has this version; -1 is any");
const JSON: (&str, &str) = ("--json", "print JSON");

static HELP: [Help; 36] = [
    Help {
        name: "addWatch",
        summary: "Leaves a watch that stays: every change is told, until removewatches.",
        options: &[("-m MODE", "PERSISTENT: the node itself; PERSISTENT_RECURSIVE, the default: all below it too")],
        example: "addWatch -m PERSISTENT /app",
    },
    Help {
        name: "addauth",
        summary: "Shows credentials to the server, for this session. The line is not written to the history on disk.",
        options: &[],
        example: "addauth digest bob:secret",
    },
    Help { name: "close", summary: "Ends the session; the shell stays.", options: &[], example: "close" },
    Help {
        name: "config",
        summary: "Prints the members of the ensemble.",
        options: &[("-c", "only the version and the addresses for clients"), WATCH, STAT, JSON],
        example: "config -c",
    },
    Help {
        name: "connect",
        summary: "Ends this session and begins another, with the same server unless one is named.",
        options: &[],
        example: "connect zoo1:2181,zoo2:2181",
    },
    Help {
        name: "cp",
        summary: "Copies a node to a new path, with its data and access control. Nothing is overwritten. Up to about 500 nodes go in one \
                  transaction, all or nothing; more go in several, which is said.",
        options: &[
            ("-r", "all below it too; ephemeral nodes are left out"),
            ("--dry-run", "print what would be copied, and do nothing"),
            JSON,
        ],
        example: "cp -r --dry-run /app /backup/app",
    },
    Help {
        name: "create",
        summary: "Creates a node, with data and an access control list if they are given.",
        options: &[
            ("-s", "sequential: the server puts a number behind the name"),
            ("-e", "ephemeral: it goes when this session ends"),
            ("-c", "a container: it goes when its last child has gone"),
            ("-t MILLISECONDS", "it goes when it was not changed for so long and has no children"),
            JSON,
        ],
        example: "create -e /app/worker \"host 7\" world:anyone:r",
    },
    Help {
        name: "delete",
        summary: "Deletes a node that has no children.",
        options: &[VERSION],
        example: "delete -v 3 /app/old",
    },
    Help {
        name: "deleteall",
        summary: "Deletes a node and all below it.",
        options: &[
            ("-b SIZE", "nodes that go in one transaction [1000]; 0: each alone"),
            ("--dry-run", "print what would be deleted, and do nothing"),
        ],
        example: "deleteall /app/old",
    },
    Help {
        name: "delquota",
        summary: "Takes a limit off a subtree, or all of them.",
        options: &[
            ("-n", "the soft limit of nodes"),
            ("-b", "the soft limit of bytes"),
            ("-N", "the hard limit of nodes"),
            ("-B", "the hard limit of bytes"),
        ],
        example: "delquota -n /app",
    },
    Help {
        name: "diff",
        summary: "Compares two subtrees, or one and an export, by data and access control. - is only in the first, + only in the second, ~ in \
                  both and different. Exit code 0: equal; 1: different; 2: they could not be compared.",
        options: &[
            ("--no-acl", "leave access control out"),
            ("--export FILE", "compare with a file that rookeeper export has written"),
            ("--file FILE", "compare the data of the node with a file"),
            JSON,
        ],
        example: "diff /app /backup/app",
    },
    Help {
        name: "du",
        summary: "Prints how many bytes of data, and how many nodes, a subtree has.",
        options: &[("--depth LEVELS", "so many levels below it too [1]"), JSON],
        example: "du --depth 2 /app",
    },
    Help {
        name: "edit",
        summary: "Opens the data of a node in $VISUAL, $EDITOR or vi, and writes them if nobody else has meanwhile. If somebody has, both texts are kept.",
        options: &[("--from FILE", "begin with what is in a file"), JSON],
        example: "edit /app/config",
    },
    Help {
        name: "find",
        summary: "Prints the paths of the nodes that are all of what is asked for.",
        options: &[
            ("--name PATTERN", "its name is like this: * ? [a-z]; the whole path, if the pattern has a slash"),
            ("--owner SESSION", "ephemeral, of this session (0x100002a3b4c0001) or of any; none: not ephemeral"),
            ("--older AGE", "not changed for so long: 10m, 2h, 7d"),
            ("--newer AGE", "changed within so long"),
            ("--larger SIZE", "more bytes of data than this: 500, 10k, 1m"),
            ("--smaller SIZE", "fewer bytes of data than this"),
            ("--depth LEVELS", "look no deeper"),
            JSON,
        ],
        example: "find /app --name \"lock-*\" --owner any --older 1h",
    },
    Help {
        name: "get",
        summary: "Prints the data of a node: the bytes as they are; on a terminal without what would control it.",
        options: &[
            STAT,
            WATCH,
            ("-b", "in base64"),
            ("-x", "as a dump of hexadecimal numbers and characters"),
            ("--hex", "the same"),
            ("--pretty", "JSON, with a member on each line"),
            JSON,
        ],
        example: "get --pretty /app/config",
    },
    Help {
        name: "getAcl",
        summary: "Prints who may do what with a node: create, delete, read, write, administrate.",
        options: &[STAT, JSON],
        example: "getAcl /app",
    },
    Help {
        name: "getAllChildrenNumber",
        summary: "Prints how many nodes there are below a node.",
        options: &[JSON],
        example: "getAllChildrenNumber /app",
    },
    Help {
        name: "getEphemerals",
        summary: "Prints the ephemeral nodes of this session, all or those below a path.",
        options: &[JSON],
        example: "getEphemerals /app",
    },
    Help {
        name: "help",
        summary: "Prints what a command is for, or the list of all commands.",
        options: &[],
        example: "help get",
    },
    Help {
        name: "history",
        summary: "Prints the last lines of this session with their numbers, for redo.",
        options: &[],
        example: "history",
    },
    Help {
        name: "listquota",
        summary: "Prints the limits of a subtree and what it uses.",
        options: &[JSON],
        example: "listquota /app",
    },
    Help {
        name: "ls",
        summary: "Prints the children of a node.",
        options: &[STAT, WATCH, ("-R", "all nodes of the subtree, a path on each line"), JSON],
        example: "ls -R /app",
    },
    Help {
        name: "mv",
        summary: "Moves a subtree to a new path. Up to about 500 nodes go in one transaction, all or nothing. More are copied first and deleted \
                  then, which is said; a node that is changed meanwhile stays. A subtree with ephemeral nodes is refused.",
        options: &[("--dry-run", "print what would be moved, and do nothing"), JSON],
        example: "mv /app/old /app/new",
    },
    Help {
        name: "printwatches",
        summary: "Says whether events are printed, or changes that.",
        options: &[],
        example: "printwatches off",
    },
    Help { name: "quit", summary: "Ends the session and the shell, as Ctrl-D does.", options: &[], example: "quit" },
    Help {
        name: "reconfig",
        summary: "Changes the members of the ensemble. The server must allow it, and this session must be of its superuser.",
        options: &[
            STAT,
            ("-v VERSION", "only if the configuration has this version, a hexadecimal number"),
            ("-file FILE", "the new members, from a file with server lines"),
            ("-members LIST", "the new members, separated by commas"),
            ("-add LIST", "members that join, or change"),
            ("-remove LIST", "numbers of members that leave"),
        ],
        example: "reconfig -add \"server.4=zoo4:2888:3888;2181\" -remove 1",
    },
    Help {
        name: "redo",
        summary: "Runs a line of this session again, by its number in the prompt or in history.",
        options: &[],
        example: "redo 3",
    },
    Help {
        name: "removewatches",
        summary: "Takes back the watches of this session on a node.",
        options: &[
            ("-c", "those for children"),
            ("-d", "those for data"),
            ("-p", "persistent ones"),
            ("-r", "persistent recursive ones"),
            ("-a", "all, the default"),
            ("-l", "taken for compatibility, without effect"),
        ],
        example: "removewatches /app -d",
    },
    Help {
        name: "set",
        summary: "Replaces the data of a node.",
        options: &[STAT, VERSION, ("-b", "the data are given in base64"), JSON],
        example: "set /app \"two words\" -v 3",
    },
    Help {
        name: "setAcl",
        summary: "Replaces the access control list of a node.",
        options: &[
            STAT,
            ("-v VERSION", "only if the list has this version (aclVersion)"),
            ("-R", "of all nodes below too; those that refuse are named"),
        ],
        example: "setAcl /app auth::cdrwa,world:anyone:r",
    },
    Help {
        name: "setquota",
        summary: "Limits a subtree. A soft limit is warned of in the server's log, a hard one refuses writes.",
        options: &[
            ("-n COUNT", "the soft limit of nodes"),
            ("-b BYTES", "the soft limit of bytes"),
            ("-N COUNT", "the hard limit of nodes"),
            ("-B BYTES", "the hard limit of bytes"),
        ],
        example: "setquota -N 1000 /app",
    },
    Help {
        name: "stat",
        summary: "Prints the stat of a node: its zxids, times, versions, owner and sizes.",
        options: &[WATCH, JSON],
        example: "stat /app",
    },
    Help {
        name: "sync",
        summary: "Waits until the server has all that the leader has: what is read then is not older.",
        options: &[JSON],
        example: "sync /app",
    },
    Help {
        name: "tree",
        summary: "Prints a subtree as a tree.",
        options: &[("-s", "print the bytes of each node too"), ("--depth LEVELS", "go no deeper"), JSON],
        example: "tree --depth 2 /app",
    },
    Help { name: "version", summary: "Prints the version of this program.", options: &[JSON], example: "version" },
    Help {
        name: "whoami",
        summary: "Prints who the server takes this session for.",
        options: &[JSON],
        example: "whoami",
    },
];

const KEYS: &str = "\
Tab completes commands, options and paths. Ctrl-R searches the history. Ctrl-C ends a command, Ctrl-D the shell.";

/// `help` and `help COMMAND`.
pub(super) fn help(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    match arguments.words.first() {
        Some(name) => match text(name) {
            Some(text) => Ok(shell.output.line(&text)?),
            None => Err(Failure::NotFound(name.clone())),
        },
        None if shell.output.is_terminal() => Ok(shell.output.line(&format!("{}\n{KEYS}", list()))?),
        // The original knows no such command, and its list is the answer that scripts compare.
        None => {
            shell.output.complain(&usage_list())?;
            Err(Failure::NotFound("help".to_owned()))
        }
    }
}

/// Each command with its summary.
pub(super) fn list() -> String {
    let width = HELP.iter().map(|help| help.name.len()).max().unwrap_or(0);
    let lines: Vec<String> = HELP.iter().map(|help| format!("  {:width$}  {}", help.name, help.summary)).collect();
    lines.join("\n")
}

fn text(name: &str) -> Option<String> {
    let command = Command::find(name)?;
    let help = HELP.iter().find(|help| help.name == name)?;
    let mut text = format!("{}\n\n{}\n", command.whole_usage(), help.summary);
    let width = help.options.iter().map(|(option, _)| option.len()).max().unwrap_or(0);
    for (option, meaning) in help.options {
        text.push_str(&format!("\n  {option:width$}  {meaning}"));
    }
    if !help.options.is_empty() {
        text.push('\n');
    }
    text.push_str(&format!("\nExample: {}", help.example));
    Some(text)
}

/// What older versions of the original and the shell of the system call it. By its letters alone `rmr` would be taken for `mv`.
const OTHER_NAMES: [(&str, &str); 10] = [
    ("?", "help"),
    ("bye", "quit"),
    ("cat", "get"),
    ("exit", "quit"),
    ("ls2", "ls -s"),
    ("man", "help"),
    ("mkdir", "create"),
    ("rename", "mv"),
    ("rm", "delete"),
    ("rmr", "deleteall"),
];

/// The command that was probably meant.
pub(super) fn similar(name: &str) -> Option<&'static str> {
    let typed = name.to_lowercase();
    if let Some((_, known)) = OTHER_NAMES.iter().find(|(other, _)| *other == typed) {
        return Some(known);
    }
    // Of a word of three letters two others make any other word.
    let most = if name.len() < 4 { 1 } else { 2 };
    let names = COMMANDS.iter().map(|command| command.name);
    let far = |known: &str| strsim::damerau_levenshtein(&typed, &known.to_lowercase());
    names.map(|known| (far(known), known)).filter(|(far, _)| *far <= most).min().map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::super::arguments::split_line;
    use super::*;

    #[test]
    fn what_was_meant_is_no_guess_at_random() {
        for (typed, meant) in
            [("rmr", "deleteall"), ("gte", "get"), ("creat", "create"), ("Exit", "quit"), ("LS2", "ls -s")]
        {
            assert_eq!(similar(typed), Some(meant), "{typed}");
        }
        for typed in ["xyz", "typo", "r", "rmx"] {
            assert_eq!(similar(typed), None, "{typed}");
        }
        let is_known = |word: &str| COMMANDS.iter().any(|command| Some(command.name) == word.split(' ').next());
        assert!(OTHER_NAMES.iter().all(|(other, known)| is_known(known) && !is_known(other)));
    }

    #[test]
    fn every_command_and_every_option_is_explained() {
        let names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
        assert_eq!(HELP.iter().map(|help| help.name).collect::<Vec<_>>(), names);
        for (command, help) in COMMANDS.iter().zip(&HELP) {
            let mut taken = command.option_words();
            let mut explained: Vec<String> =
                help.options.iter().filter_map(|(option, _)| option.split(' ').next()).map(str::to_owned).collect();
            taken.sort_unstable();
            explained.sort_unstable();
            assert_eq!(explained, taken, "{}", command.name);
        }
    }

    #[test]
    fn every_example_is_one_that_the_command_takes() {
        for help in &HELP {
            let words = split_line(help.example);
            assert_eq!(words[0], help.name);
            Command::find(help.name).unwrap().arguments(&words[1..]).unwrap();
        }
    }

    #[test]
    fn a_typing_error_is_understood() {
        assert_eq!(similar("gte"), Some("get"));
        assert_eq!(similar("deletall"), Some("deleteall"));
        assert_eq!(similar("getacl"), Some("getAcl"));
        assert_eq!(similar("frobnicate"), None);
    }

    #[test]
    fn help_of_a_command() {
        assert_eq!(
            text("delete").unwrap(),
            "delete [-v version] path\n\nDeletes a node that has no children.\n\n  -v VERSION  only if the node has this version; -1 is any\n\n\
             Example: delete -v 3 /app/old"
        );
        assert_eq!(text("bogus"), None);
    }
}
