//! The members as a whole: who answers, as what, with which version, how far, and by which configuration.
//!
//! Asking and judging are apart: [`ask`] has the sockets, [`judge`] what follows.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, SystemTime};

use rookeeper_server::config::{MemberOutline, Outline};

use super::answers::{Conf, Srvr};
use super::drift;
use super::finding::{Finding, Grade};
use crate::{admin_command, four_letter_word};

/// A clock that is further off than this is told; the header that tells the time has whole seconds.
const CLOCK_LIMIT: Duration = Duration::from_secs(2);
/// What both kinds of servers answer that run, and have no leader.
const NOT_SERVING: &str = "not currently serving requests";
/// A member that is so many transactions behind is told.
const LAG_LIMIT: u32 = 10_000;

const NO_LEADER: &str = "Less than a majority of the voting members can talk to each other: start those that are down, and look at whether the quorum \
                         and election ports are reached between all of them.";

/// What a member answered.
#[derive(Debug, Clone)]
pub struct Answers {
    /// Its number.
    pub id: String,
    /// Whether it is the member whose configuration is looked at.
    pub is_this: bool,
    /// Where it was asked.
    pub address: String,
    /// The error says why there is no answer.
    pub srvr: Result<Srvr, String>,
    /// The error says why there is no answer.
    pub conf: Result<Conf, String>,
    /// How far its clock is from this machine's, and whether it is before it; none where it tells no time.
    pub clock: Option<(Duration, bool)>,
}

/// Asks every member at once. Where a server line names no port for clients, the port of this configuration is meant.
pub fn ask(outline: &Outline) -> Vec<Answers> {
    let port = outline.client.as_ref().map(|(_, port)| *port);
    let asking: Vec<_> = outline
        .members
        .iter()
        .map(|member| {
            let is_this = outline.me == Some(member.id);
            let (hosts, port) = places(member, is_this.then_some(outline), port);
            let (id, admin) = (member.id.to_string(), outline.admin.clone());
            thread::spawn(move || ask_one(id, is_this, &hosts, port, admin.as_ref()))
        })
        .collect();
    // A thread that asks ends by its time limits, and has nothing that could fail otherwise.
    asking.into_iter().filter_map(|asked| asked.join().ok()).collect()
}

/// Where clients of a member connect. A line that says `0.0.0.0` means all addresses of its machine, so also those between servers.
fn places(member: &MemberOutline, this: Option<&Outline>, port: Option<u16>) -> (Vec<String>, Option<u16>) {
    let own = this.and_then(|outline| outline.client.clone()).and_then(|(host, port)| Some((host?, port)));
    let named = member.client.clone().or(own).filter(|(host, _)| !matches!(host.as_str(), "0.0.0.0" | "::"));
    match (named, &member.client) {
        (Some((host, port)), _) => (vec![host], Some(port)),
        (None, Some((_, port))) => (member.hosts.clone(), Some(*port)),
        (None, None) => (member.hosts.clone(), port),
    }
}

fn ask_one(id: String, is_this: bool, hosts: &[String], port: Option<u16>, admin: Option<&(u16, String)>) -> Answers {
    let word = |word: &str| -> Result<String, String> {
        let port = port.ok_or("no port for clients without TLS is known")?;
        let mut last = String::new();
        for host in hosts {
            match four_letter_word::ask(host, port, word) {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    };
    let clock = admin.and_then(|(port, path)| hosts.iter().find_map(|host| clock_of(host, *port, path)));
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    Answers {
        id,
        is_this,
        address: format!("{}{port}", hosts.join("|")),
        srvr: word("srvr").and_then(|text| Srvr::parse(&text)),
        conf: word("conf").and_then(|text| Conf::parse(&text)),
        clock,
    }
}

/// By the header `Date` of the port of admin commands.
fn clock_of(host: &str, port: u16, path: &str) -> Option<(Duration, bool)> {
    let answer = admin_command::get(host, port, &format!("{path}/ruok"), None).ok()?;
    let now = SystemTime::now();
    let date = answer.header("date")?;
    let there = SystemTime::from(jiff::fmt::rfc2822::parse(date).ok()?.timestamp());
    Some(match there.duration_since(now) {
        Ok(ahead) => (ahead, false),
        Err(behind) => (behind.duration(), true),
    })
}

/// What follows from the answers. `own` is what this member's configuration says.
pub fn judge(members: &[Answers], own: &Conf) -> Vec<Finding> {
    let mut findings = Vec::new();
    let serving: Vec<(&Answers, &Srvr)> =
        members.iter().filter_map(|member| Some((member, member.srvr.as_ref().ok()?))).collect();
    for member in members {
        if let Err(why) = &member.srvr {
            findings.push(silent(member, why));
        }
    }
    findings.extend(modes(&serving));
    findings.extend(versions(&serving));
    findings.extend(positions(&serving));
    let others = members.iter().filter(|member| !member.is_this && member.srvr.is_ok());
    let (mut compared, mut differing) = (Vec::new(), 0);
    for member in others {
        match &member.conf {
            Ok(conf) => {
                let found = drift::compare(own, conf, &member.id);
                differing += found.len();
                findings.extend(found);
                compared.push(member.id.as_str());
            }
            Err(why) => findings.push(
                Finding::new(
                    Grade::Note,
                    "drift",
                    format!("server {} does not tell its configuration: {why}", member.id),
                )
                .remedy("Let 4lw.commands.whitelist there contain conf, if it is to be compared."),
            ),
        }
    }
    if !compared.is_empty() && differing == 0 {
        let seen = format!("the same as at server {}, in what a server tells of it", compared.join(", "));
        findings.push(Finding::new(Grade::Good, "drift", seen));
    }
    findings.extend(clocks(members));
    findings
}

fn silent(member: &Answers, why: &str) -> Finding {
    if why.contains(NOT_SERVING) {
        let seen = format!("server {} runs, and serves nobody: it has no leader", member.id);
        return Finding::new(Grade::Problem, "members", seen).remedy(NO_LEADER);
    }
    let whose = if member.is_this { " (this configuration)" } else { "" };
    let seen = format!("server {}{whose} at {} gives no answer: {why}", member.id, member.address);
    // A configuration that is looked at before its server runs is no fault.
    let grade = if member.is_this { Grade::Note } else { Grade::Warning };
    Finding::new(grade, "members", seen)
        .remedy("Look at its log. It may be down, hang, not be reached from here, or take clients with TLS only.")
}

fn modes(serving: &[(&Answers, &Srvr)]) -> Vec<Finding> {
    if serving.is_empty() {
        return Vec::new();
    }
    let of = |mode: &str| -> Vec<&str> {
        serving.iter().filter(|(_, srvr)| srvr.mode == mode).map(|(member, _)| member.id.as_str()).collect()
    };
    let leaders = of("leader");
    let mut findings = Vec::new();
    match leaders[..] {
        [leader] => {
            let seen = format!("server {leader} leads, {} follow, {} observe", of("follower").len(), of("observer").len());
            findings.push(Finding::new(Grade::Good, "members", seen));
        }
        [] => findings.push(Finding::new(Grade::Problem, "members", "no member that answers leads").remedy(NO_LEADER)),
        _ => findings.push(
            Finding::new(Grade::Problem, "members", format!("servers {} all lead", leaders.join(", "))).remedy(
                "They are members of different ensembles, or an election is just over: ask again; if that stays, compare their server lines.",
            ),
        ),
    }
    for id in of("standalone") {
        let seen = format!("server {id} runs standalone, although it is a member");
        findings.push(Finding::new(Grade::Problem, "members", seen).remedy(
            "It serves data of its own. Give it the server lines of the others, and let it start with an empty data directory.",
        ));
    }
    findings
}

fn versions(serving: &[(&Answers, &Srvr)]) -> Option<Finding> {
    let all: BTreeSet<&str> = serving.iter().map(|(_, srvr)| srvr.version.as_str()).collect();
    let all: Vec<&str> = all.into_iter().collect();
    match all[..] {
        [] => None,
        [one] => Some(Finding::new(Grade::Good, "versions", format!("{one} at each member that answers"))),
        _ => Some(
            Finding::new(Grade::Note, "versions", format!("members run different versions: {}", all.join(", ")))
                .remedy("Nothing during a move from one to the other; else bring all members to the same."),
        ),
    }
}

/// Epochs, and how far apart the members are within one.
fn positions(serving: &[(&Answers, &Srvr)]) -> Vec<Finding> {
    let Some(newest) = serving.iter().map(|(_, srvr)| srvr.zxid).max() else { return Vec::new() };
    let mut findings = Vec::new();
    for (member, srvr) in serving {
        let (epoch, counter) = srvr.zxid;
        if epoch != newest.0 {
            let seen = format!("server {} stands in epoch {epoch:#x}, the newest is {:#x}", member.id, newest.0);
            findings.push(Finding::new(Grade::Warning, "epochs", seen).remedy(
                "Ask again after a write: a member takes the number of a new epoch with its first transaction. If that stays, the member is \
                 cut off from the leader, or belongs to another ensemble.",
            ));
        } else if newest.1 - counter > LAG_LIMIT {
            let seen = format!("server {} is {} transactions behind", member.id, newest.1 - counter);
            let remedy = "Look at its disk and at the network to the leader.";
            findings.push(Finding::new(Grade::Warning, "epochs", seen).remedy(remedy));
        }
    }
    if findings.is_empty() {
        let seen = format!("epoch {:#x} at each member that answers", newest.0);
        findings.push(Finding::new(Grade::Good, "epochs", seen));
    }
    findings
}

fn clocks(members: &[Answers]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut heard = Vec::new();
    for member in members.iter().filter(|member| !member.is_this) {
        let Some((off, is_behind)) = member.clock else { continue };
        heard.push(member.id.as_str());
        if off > CLOCK_LIMIT {
            let side = if is_behind { "behind" } else { "ahead of" };
            let seen = format!("the clock of server {} is {} s {side} that of this machine", member.id, off.as_secs());
            findings.push(Finding::new(Grade::Warning, "clock", seen).remedy(
                "Let a service such as chrony set both. Order and sessions do not depend on clocks; times of nodes, tickets of Kerberos and \
                 certificates do.",
            ));
        }
    }
    if heard.is_empty() && members.len() > 1 {
        findings.push(Finding::new(Grade::Note, "clock", "no other member tells its time").remedy(
            "It is taken from the admin port, which listens beyond its own machine only with admin.serverAddress.",
        ));
    } else if findings.is_empty() && !heard.is_empty() {
        let seen = format!("within {} s of that of server {}", CLOCK_LIMIT.as_secs(), heard.join(", "));
        findings.push(Finding::new(Grade::Good, "clock", seen));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf() -> Conf {
        Conf::parse("tickTime=2000\n").unwrap()
    }

    fn member(id: &str, mode: &str, zxid: (u32, u32)) -> Answers {
        let srvr = Srvr { version: "3.9.5".to_owned(), mode: mode.to_owned(), zxid };
        let address = format!("host{id}:2181");
        Answers { id: id.to_owned(), is_this: id == "1", address, srvr: Ok(srvr), conf: Ok(conf()), clock: None }
    }

    fn bad(members: &[Answers]) -> Vec<String> {
        let findings = judge(members, &conf());
        let bad = findings.into_iter().filter(|finding| finding.grade > Grade::Note);
        bad.map(|finding| format!("{}: {}", finding.grade, finding.seen)).collect()
    }

    #[test]
    fn a_sound_ensemble_has_no_findings() {
        let members = [member("1", "follower", (3, 7)), member("2", "leader", (3, 9)), member("3", "follower", (3, 9))];
        assert_eq!(bad(&members), [""; 0]);
        let good: Vec<String> = judge(&members, &conf()).iter().map(ToString::to_string).collect();
        assert!(good[0].contains("server 2 leads, 2 follow, 0 observe"), "{good:?}");
        assert!(good.iter().any(|line| line.contains("the same as at server 2, 3")), "{good:?}");
    }

    #[test]
    fn what_is_wrong_is_told_of_the_member_where_it_is_wrong() {
        let sound = [member("1", "follower", (3, 7)), member("2", "leader", (3, 9)), member("3", "follower", (3, 9))];
        let with = |change: &dyn Fn(&mut [Answers])| {
            let mut members = sound.clone();
            change(&mut members);
            bad(&members)
        };
        let mode = |member: &mut Answers, mode: &str| member.srvr.as_mut().unwrap().mode = mode.to_owned();
        assert_eq!(with(&|members| mode(&mut members[1], "follower")), ["problem: no member that answers leads"]);
        assert_eq!(with(&|members| mode(&mut members[2], "leader")), ["problem: servers 2, 3 all lead"]);
        assert_eq!(
            with(&|members| mode(&mut members[2], "standalone")),
            ["problem: server 3 runs standalone, although it is a member"]
        );
        assert_eq!(
            with(&|members| members[2].srvr = Err("refused".to_owned())),
            ["warning: server 3 at host3:2181 gives no answer: refused"]
        );
        assert_eq!(with(&|members| members[0].srvr = Err("refused".to_owned())), [""; 0]);
        let waits = "This ZooKeeper instance is not currently serving requests";
        assert_eq!(
            with(&|members| members[0].srvr = Err(waits.to_owned())),
            ["problem: server 1 runs, and serves nobody: it has no leader"]
        );
        assert_eq!(
            with(&|members| members[0].srvr.as_mut().unwrap().zxid = (2, 9)),
            ["warning: server 1 stands in epoch 0x2, the newest is 0x3"]
        );
        assert_eq!(
            with(&|members| members[1].srvr.as_mut().unwrap().zxid = (3, 20_000)),
            ["warning: server 1 is 19993 transactions behind", "warning: server 3 is 19991 transactions behind"]
        );
        assert_eq!(
            with(&|members| members[2].clock = Some((Duration::from_secs(90), true))),
            ["warning: the clock of server 3 is 90 s behind that of this machine"]
        );
        assert_eq!(
            with(&|members| members[2].conf = Conf::parse("tickTime=1\n")),
            ["problem: tickTime is 2000 here and 1 at server 3"]
        );
    }

    #[test]
    fn places_of_clients() {
        let id = rookeeper_proto::ServerId(2);
        let member = |client: Option<(&str, u16)>| MemberOutline {
            id,
            hosts: vec!["a".to_owned(), "b".to_owned()],
            client: client.map(|(host, port)| (host.to_owned(), port)),
        };
        let both = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(places(&member(None), None, Some(5)), (both.clone(), Some(5)));
        assert_eq!(places(&member(Some(("0.0.0.0", 7))), None, Some(5)), (both, Some(7)));
        assert_eq!(places(&member(Some(("c", 7))), None, Some(5)), (vec!["c".to_owned()], Some(7)));
    }
}
