//! `rookeeper members`: who is in a group, who comes and who goes; and a membership for a script.
//!
//! What always holds: results are lines on standard output, one for each member or change, and no data of a member can end a line or reach a terminal as a
//! control sequence.

use std::fmt::Write as _;

use clap::Args;
use rookeeper_recipes::{Change, Changes, Error, Group, Member, Membership};
use serde_json::json;

use crate::exclusive::{LOST, SessionFlags, close, complain, connect, run};
use crate::print;

/// Who is in a group.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Prints a line for each member, in the order in which they joined: its name, a tab, its data. With --follow a line for each change, from the members
that are there on: joined, changed or left, a tab, the name, a tab, the data.

Exit code: 0; 69 no server gives a session, 70 the session or the membership ended, 128 + N signal N ended it; 1 anything else.")]
pub struct Options {
    /// The group, a path
    pub path: String,

    #[command(flatten)]
    pub session: SessionFlags,

    /// Go on, and print each change
    #[arg(long)]
    pub follow: bool,

    /// Join under this name, and stay until a signal comes; the path is made where it is not there
    #[arg(long, value_name = "NAME")]
    pub join: Option<String>,

    /// What the member that joins says of itself
    #[arg(long, value_name = "TEXT", default_value = "", requires = "join")]
    pub data: String,

    /// Print each line as an object of JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs `rookeeper members` and returns the exit code.
pub fn main(options: &Options) -> u8 {
    run(async |signals| {
        let client = connect(&options.session, signals).await?;
        let group = Group::new(&client, &options.path);
        let code = tokio::select! {
            code = work(&group, options) => code,
            number = signals.next() => 128 + number as u8,
        };
        drop(group);
        close(client).await;
        Ok(code)
    })
}

async fn work(group: &Group, options: &Options) -> u8 {
    match try_to(group, options).await {
        Ok(()) => 0,
        Err(Some(Error::SessionEnded(end))) => {
            print::complaint(&end);
            LOST
        }
        Err(Some(error)) => complain(&error),
        Err(None) => LOST,
    }
}

/// `None` is an end that has been told already.
async fn try_to(group: &Group, options: &Options) -> Result<(), Option<Error>> {
    let changes = if options.follow { Some(group.changes().await?) } else { None };
    let membership = match &options.join {
        Some(id) => Some(group.join(id, options.data.as_bytes()).await?),
        None => None,
    };
    if changes.is_none() && membership.is_none() {
        for member in group.members().await? {
            if !print::result(&line(None, &member, options.json)) {
                return Err(None);
            }
        }
        return Ok(());
    }
    let is_followed = changes.is_some();
    tokio::select! {
        end = follow(changes, options.json) => end,
        () = print::reader_has_gone(), if is_followed => Ok(()),
        end = stay(membership) => end,
    }
}

async fn follow(changes: Option<Changes>, json: bool) -> Result<(), Option<Error>> {
    let Some(mut changes) = changes else { return std::future::pending().await };
    loop {
        let line = match changes.next().await? {
            Change::Joined(member) => line(Some("joined"), &member, json),
            Change::Changed(member) => line(Some("changed"), &member, json),
            Change::Left(member) => line(Some("left"), &member, json),
        };
        match print::result_of_many(&line) {
            None => {}
            // Whoever read has seen enough.
            Some(0) => return Ok(()),
            Some(_) => return Err(None),
        }
    }
}

async fn stay(membership: Option<Membership>) -> Result<(), Option<Error>> {
    let Some(membership) = membership else { return std::future::pending().await };
    let loss = membership.lost().await?;
    print::complaint(&format_args!("the membership has ended: {loss}"));
    Err(None)
}

fn line(change: Option<&str>, member: &Member, json: bool) -> String {
    if json {
        let mut object = json!({
            "id": member.id,
            "data": String::from_utf8_lossy(&member.data),
            "joined": (member.joined > 0).then(|| format!("{:#x}", member.joined)),
        });
        if let Some(change) = change {
            object["change"] = change.into();
        }
        return object.to_string();
    }
    let mut line = change.map_or(String::new(), |change| format!("{change}\t"));
    let _ = write!(line, "{}\t{}", print::visible(member.id.as_bytes()), print::visible(&member.data));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_data_ends_a_line_or_reaches_a_terminal() {
        let member = Member { id: "a".to_owned(), data: b"x\n\x1b[31m\xff".to_vec(), joined: 16, changed: 16 };
        assert_eq!(line(Some("joined"), &member, false), "joined\ta\tx\\n\\u{1b}[31m\u{fffd}");
        let object: serde_json::Value = serde_json::from_str(&line(None, &member, true)).unwrap();
        assert_eq!((object["id"].as_str(), object["joined"].as_str()), (Some("a"), Some("0x10")));
        let gone = Member { joined: -1, changed: -1, ..member };
        let object: serde_json::Value = serde_json::from_str(&line(Some("left"), &gone, true)).unwrap();
        assert!(object["joined"].is_null());
    }
}
