//! What the editor of a line offers: commands, their options, and the paths of nodes, by asking the server.
//!
//! What always holds: a name that would control the terminal is not offered, though it can be typed; what is offered is one word of the shell
//! when it is taken, in quotes where it has to be; a server that is slow costs a second.

use std::time::Duration;

use rustyline::completion::{FilenameCompleter, Pair};
use tokio::runtime::Handle;
use tokio::time::timeout;
use zookeeper_client::Client;

use super::arguments::open_word;
use super::commands::{COMMANDS, Command};
use super::format;

const TIMEOUT: Duration = Duration::from_secs(1);
/// The editor lists no more; names beyond are counted.
const LISTED: usize = 1_000;

/// The words that may stand at the end of `before`, and where in it that word begins.
pub(super) fn candidates(before: &str, client: Option<&Client>, runtime: &Handle) -> (usize, Vec<Pair>) {
    let (words, start, quote) = open_word(before);
    let word = &before[start..];
    let Some(name) = words.first() else {
        let names = COMMANDS.iter().map(|command| command.name).filter(|name| name.starts_with(word));
        return (start, names.map(|name| whole(name, &format!("{name} "))).collect());
    };
    if name == "help" {
        let names = COMMANDS.iter().map(|command| command.name).filter(|name| name.starts_with(word));
        return (start, names.map(|name| whole(name, name)).collect());
    }
    let Some(command) = Command::find(name) else { return (start, Vec::new()) };
    if quote.is_none() && word.starts_with('-') {
        let options = command.option_words().into_iter().filter(|option| option.starts_with(word));
        return (start, options.map(|option| whole(&option, &format!("{option} "))).collect());
    }
    let before_it = words.last().map_or("", String::as_str);
    if ["-file", "--file", "--export", "--from"].contains(&before_it) {
        return FilenameCompleter::new().complete_path(before, before.len()).unwrap_or((start, Vec::new()));
    }
    if let Some(values) = command.values_after(before_it, words.len()) {
        let values = values.iter().filter(|value| value.starts_with(word));
        return (start, values.map(|value| whole(value, &format!("{value} "))).collect());
    }
    match client {
        Some(client) => (start, paths(word, quote, client, runtime)),
        None => (start, Vec::new()),
    }
}

fn whole(display: &str, replacement: &str) -> Pair {
    Pair { display: display.to_owned(), replacement: replacement.to_owned() }
}

/// The nodes whose paths begin as the word does.
fn paths(word: &str, quote: Option<char>, client: &Client, runtime: &Handle) -> Vec<Pair> {
    let typed = quote.map_or(word, |quote| word.strip_prefix(quote).unwrap_or(word));
    let Some((parent, prefix)) = typed.rsplit_once('/') else { return Vec::new() };
    let directory = if parent.is_empty() { "/" } else { parent };
    let ask = async {
        let mut names = client.list_children(directory).await.ok()?;
        names.retain(|name| name.starts_with(prefix) && format::harmless(name) == *name);
        names.sort_unstable();
        let has_children = match names.as_slice() {
            [only] => {
                let stat = client.check_stat(&format!("{parent}/{only}")).await;
                stat.is_ok_and(|stat| stat.is_some_and(|stat| stat.num_children > 0))
            }
            _ => false,
        };
        Some((names, has_children))
    };
    // No suggestion is the right answer to a path that is not there, and to a server that is slow.
    let answer = runtime.block_on(async { timeout(TIMEOUT, ask).await });
    let Ok(Some((names, has_children))) = answer else { return Vec::new() };
    let end = match names.len() {
        1 if has_children => "/",
        1 => " ",
        _ => "",
    };
    offered(&names, parent, quote, end, typed)
}

fn offered(names: &[String], parent: &str, quote: Option<char>, end: &str, typed: &str) -> Vec<Pair> {
    let listed = &names[..names.len().min(LISTED)];
    let mut pairs: Vec<Pair> = listed
        .iter()
        .filter_map(|name| {
            let path = format!("{parent}/{name}");
            let quote = match quote {
                Some(quote) if path.contains(quote) => return None,
                Some(quote) => Some(quote),
                None if path.contains(char::is_whitespace) => {
                    ['"', '\''].into_iter().find(|quote| !path.contains(*quote))
                }
                None => None,
            };
            let replacement = match (quote, end) {
                (None, end) => format!("{path}{end}"),
                // The quote stays open where the path may go on.
                (Some(quote), " ") => format!("{quote}{path}{quote} "),
                (Some(quote), end) => format!("{quote}{path}{end}"),
            };
            Some(Pair { display: name.clone(), replacement })
        })
        .collect();
    if names.len() > LISTED {
        let open = quote.map(String::from).unwrap_or_default();
        let more = format!("... and {} more", names.len() - LISTED);
        pairs.push(Pair { display: more, replacement: format!("{open}{typed}") });
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(line: &str) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        candidates(line, None, runtime.handle()).1.into_iter().map(|pair| pair.replacement).collect()
    }

    #[test]
    fn commands_options_and_values_are_offered() {
        assert_eq!(offers("getA"), ["getAcl ", "getAllChildrenNumber "]);
        assert_eq!(offers("help getA"), ["getAcl", "getAllChildrenNumber"]);
        assert_eq!(offers("x"), Vec::<String>::new());
        assert_eq!(offers("getAcl -"), ["-s ", "--json "]);
        assert_eq!(offers("printwatches o"), ["on ", "off "]);
        assert_eq!(offers("addWatch -m PERSISTENT_"), ["PERSISTENT_RECURSIVE "]);
        assert_eq!(offers("bogus -"), Vec::<String>::new());
    }

    #[test]
    fn paths_stay_one_word() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let taken = |listed: &[&str], quote, end| -> Vec<String> {
            let pairs = offered(&names(listed), "/a", quote, end, "/a/");
            pairs.into_iter().map(|pair| pair.replacement).collect()
        };
        assert_eq!(taken(&["b"], None, " "), ["/a/b "]);
        assert_eq!(taken(&["b"], None, "/"), ["/a/b/"]);
        assert_eq!(taken(&["two words"], None, " "), ["\"/a/two words\" "]);
        assert_eq!(taken(&["two words"], None, "/"), ["\"/a/two words/"]);
        assert_eq!(taken(&["two \"words"], None, " "), ["'/a/two \"words' "]);
        assert_eq!(taken(&["b"], Some('\''), " "), ["'/a/b' "]);
        assert_eq!(taken(&["it's"], Some('\''), " "), Vec::<String>::new());
    }

    #[test]
    fn a_node_with_very_many_children_is_listed_in_part() {
        let names: Vec<String> = (0..100_000).map(|number| format!("n{number:06}")).collect();
        let pairs = offered(&names, "/a", None, "", "/a/n");
        assert_eq!(pairs.len(), LISTED + 1);
        assert_eq!(
            (pairs[LISTED].display.as_str(), pairs[LISTED].replacement.as_str()),
            ("... and 99000 more", "/a/n")
        );
    }
}
