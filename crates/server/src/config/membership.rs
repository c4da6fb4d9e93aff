//! Members of an ensemble: the syntax of server, group and weight lines, in `zoo.cfg` or in a dynamic file.
//!
//! Counterpart in the original: `QuorumServer`, `QuorumMaj`, `QuorumHierarchical`, whose messages are kept.

use std::collections::BTreeMap;
use std::fmt;

use super::error::{Fault, excerpt};
use super::limits::HostPort;
use super::settings::Found;

/// Votes or only listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Votes, and may lead.
    Participant,
    /// Follows without a vote.
    Observer,
}

impl Role {
    /// Reads the word of `peerType` and of server lines.
    pub(super) fn parse(word: &str) -> Option<Role> {
        match word.trim().to_lowercase().as_str() {
            "participant" => Some(Role::Participant),
            "observer" => Some(Role::Observer),
            _ => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Role::Participant => "participant",
            Role::Observer => "observer",
        })
    }
}

/// One address of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberAddress {
    /// Name or address, resolved again at every use.
    pub host: String,
    /// Where its learners connect while it leads.
    pub quorum_port: u16,
    /// Where elections are held.
    pub election_port: u16,
}

/// One server of the ensemble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// At least one; several only with `multiAddress.enabled`.
    pub addresses: Vec<MemberAddress>,
    /// Its part in the ensemble.
    pub role: Role,
    /// Where its clients connect, if the server line says so.
    pub client: Option<HostPort>,
}

impl fmt::Display for Member {
    /// The right side of a server line as the original writes it into dynamic files and `/zookeeper/config`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut addresses: Vec<_> = self.addresses.iter().collect();
        addresses.sort_by_key(|address| &address.host);
        for (index, address) in addresses.into_iter().enumerate() {
            let separator = if index == 0 { "" } else { "|" };
            let host = bracketed(&address.host);
            write!(formatter, "{separator}{host}:{}:{}", address.quorum_port, address.election_port)?;
        }
        write!(formatter, ":{}", self.role)?;
        match &self.client {
            Some(client) => write!(formatter, ";{}:{}", bracketed(&client.host), client.port),
            None => Ok(()),
        }
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Hierarchical quorums: a quorum is a majority of weight in a majority of groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    /// Group of each server.
    pub group_of: BTreeMap<i64, i64>,
    /// Votes of each participant, 1 unless configured.
    pub weight_of: BTreeMap<i64, i64>,
}

/// All members at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// By server id.
    pub members: BTreeMap<i64, Member>,
    /// None for the usual majority.
    pub groups: Option<Groups>,
    /// Zxid of the reconfiguration that made it; 0 for one written by hand.
    pub version: u64,
}

impl Membership {
    /// Reads the lines of a membership; those that are something else are not its business.
    pub(super) fn parse(lines: &[Found], multi_address: bool) -> Result<Membership, Fault> {
        let mut membership = Membership::default();
        for line in lines {
            if let Some(id) = line.name.strip_prefix("server.") {
                let id = number(id, line)?;
                membership
                    .members
                    .insert(id, parse_member(id, &line.value, multi_address).map_err(|fault| at(fault, line))?);
            } else if line.name.starts_with("group") {
                let groups = membership.groups.get_or_insert_default();
                let group = number(after_dot(&line.name), line)?;
                for server in java_split(&line.value, ':') {
                    let server = number(server, line)?;
                    if groups.group_of.insert(server, group).is_some() {
                        let problem = format!("Server {server}is in multiple groups");
                        return Err(at(Fault::new(problem, "Leave it in one of the group lines."), line));
                    }
                }
            } else if line.name.starts_with("weight") {
                let groups = membership.groups.get_or_insert_default();
                groups.weight_of.insert(number(after_dot(&line.name), line)?, number(&line.value, line)?);
            } else if line.name == "version" {
                membership.version = u64::from_str_radix(&line.value, 16)
                    .map_err(|_| at(not_a_number(&line.value, "a hexadecimal number"), line))?;
            }
        }
        membership.complete_groups()?;
        Ok(membership)
    }

    fn complete_groups(&mut self) -> Result<(), Fault> {
        let Some(groups) = &mut self.groups else { return Ok(()) };
        for (id, _) in self.members.iter().filter(|(_, member)| member.role == Role::Participant) {
            if !groups.group_of.contains_key(id) {
                let problem = format!("Server {id}is not in a group");
                return Err(Fault::new(problem, format!("Add {id} to one of the group lines.")));
            }
            groups.weight_of.entry(*id).or_insert(1);
        }
        Ok(())
    }

    pub(super) fn count(&self, role: Role) -> usize {
        self.members.values().filter(|member| member.role == role).count()
    }
}

fn at(fault: Fault, line: &Found) -> Fault {
    fault.at(&line.place).about(&line.name, &line.value)
}

/// `1` of `group.1`; without a dot all of it, as in the original.
fn after_dot(name: &str) -> &str {
    name.split_once('.').map_or(name, |(_, id)| id)
}

fn not_a_number(text: &str, allowed: &str) -> Fault {
    Fault::new(format!("For input string: \"{}\"", excerpt(text)), format!("Allowed: {allowed}."))
}

fn number(text: &str, line: &Found) -> Result<i64, Fault> {
    text.parse().map_err(|_| at(not_a_number(text, "a whole number"), line))
}

/// Java's `String.split` on one character: empty parts at the end are dropped.
fn java_split(text: &str, separator: char) -> Vec<&str> {
    let mut parts: Vec<&str> = text.split(separator).collect();
    while parts.len() > 1 && parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    parts
}

/// Splits `host:port…`, where the host may be an IPv6 address in brackets.
fn host_and_parts(text: &str) -> Result<Vec<&str>, Fault> {
    let Some(rest) = text.strip_prefix('[') else { return Ok(java_split(text, ':')) };
    let Some((host, rest)) = rest.split_once(']') else {
        let problem = format!("{} starts with '[' but has no matching ']:'", excerpt(text));
        return Err(Fault::new(problem, "Write an IPv6 address as [::1]:2888:3888."));
    };
    let mut parts = vec![host];
    match rest.strip_prefix(':') {
        Some("") => {
            let problem = format!("{} doesn't have a port after colon", excerpt(text));
            return Err(Fault::new(problem, "Write an IPv6 address as [::1]:2888:3888."));
        }
        Some(rest) => parts.extend(java_split(rest, ':')),
        None if rest.is_empty() => {}
        None => return Err(wrong_form(text)),
    }
    Ok(parts)
}

fn wrong_form(text: &str) -> Fault {
    Fault::new(
        format!(
            "{} does not have the form server_config or server_config;client_config where server_config is the pipe \
             separated list of host:port:port or host:port:port:type and client_config is port or host:port",
            excerpt(text)
        ),
        "For example: server.1=zoo1.example.org:2888:3888:participant;2181",
    )
}

fn port(host: &str, text: &str) -> Result<u16, Fault> {
    match text.parse::<i32>() {
        Ok(number) => u16::try_from(number)
            .map_err(|_| Fault::new(format!("port out of range:{number}"), "Allowed: a port from 0 to 65535.")),
        Err(_) => Err(Fault::new(
            format!("Address unresolved: {}:{}", excerpt(host), excerpt(text)),
            "Allowed: a port from 0 to 65535.",
        )),
    }
}

fn parse_member(id: i64, text: &str, multi_address: bool) -> Result<Member, Fault> {
    let sides = java_split(text, ';');
    let client = match sides[..] {
        [_, client] => Some(parse_client(text, client)?),
        _ => None,
    };
    let servers = java_split(sides[0], '|');
    if servers.len() > 1 && !multi_address {
        return Err(Fault::new(
            format!("Multiple address feature is disabled, but multiple addresses were specified for sid {id}"),
            "Set multiAddress.enabled=true, on all members, or keep one address.",
        ));
    }
    let mut addresses = Vec::new();
    let mut role: Option<Role> = None;
    for server in servers {
        let parts = host_and_parts(server)?;
        if sides.len() > 2 || !matches!(parts.len(), 3 | 4) {
            return Err(wrong_form(text));
        }
        let address = MemberAddress {
            host: parts[0].to_owned(),
            quorum_port: port(parts[0], parts[1])?,
            election_port: port(parts[0], parts[2])?,
        };
        if address.quorum_port == address.election_port {
            return Err(Fault::new(
                format!(
                    "Client and election port must be different! Please update the configuration file on server.{id}"
                ),
                "The first port is for followers, the second one for elections.",
            ));
        }
        addresses.push(address);
        if let Some(word) = parts.get(3) {
            let this = Role::parse(word).ok_or_else(|| {
                Fault::new(format!("Unrecognised peertype: {}", excerpt(word)), "Allowed: participant or observer.")
            })?;
            let first = *role.get_or_insert(this);
            if first != this {
                return Err(Fault::new(
                    format!(
                        "Multiple addresses should have similar roles: {} vs {}",
                        first.to_string().to_uppercase(),
                        this.to_string().to_uppercase()
                    ),
                    "Write the same role behind every address of the member.",
                ));
            }
        }
    }
    Ok(Member { addresses, role: role.unwrap_or(Role::Participant), client })
}

fn parse_client(line: &str, text: &str) -> Result<HostPort, Fault> {
    let parts = host_and_parts(text)?;
    match parts[..] {
        [number] => Ok(HostPort { host: "0.0.0.0".to_owned(), port: port("0.0.0.0", number)? }),
        [host, number] => Ok(HostPort { host: host.to_owned(), port: port(host, number)? }),
        _ => Err(wrong_form(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::Place;
    use super::*;

    fn lines(entries: &[(&str, &str)]) -> Vec<Found> {
        let found = |(index, (name, value)): (usize, &(&str, &str))| Found {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
            place: Place::Line { file: "zoo.cfg".to_owned(), line: index + 1 },
        };
        entries.iter().enumerate().map(found).collect()
    }

    fn member(text: &str) -> Result<Member, String> {
        parse_member(1, text, true).map_err(|fault| fault.problem)
    }

    #[test]
    fn server_lines_are_written_as_the_original_writes_them() {
        for (text, written) in [
            ("a:1:2", "a:1:2:participant"),
            ("a:1:2:OBSERVER", "a:1:2:observer"),
            ("a:1:2;", "a:1:2:participant"),
            ("a:1:2;2181", "a:1:2:participant;0.0.0.0:2181"),
            ("a:1:2:participant;b:2181", "a:1:2:participant;b:2181"),
            ("[::1]:1:2;[fe80::1]:2181", "[::1]:1:2:participant;[fe80::1]:2181"),
            ("b:1:2|a:3:4", "a:3:4|b:1:2:participant"),
        ] {
            assert_eq!(member(text).unwrap().to_string(), written, "{text}");
        }
    }

    #[test]
    fn wrong_server_lines_are_refused_in_the_words_of_the_original() {
        let form = |text: &str| wrong_form(text).problem;
        for (text, problem) in [
            ("", form("")),
            ("a", form("a")),
            ("a:1", form("a:1")),
            ("a:1:2:observer:5", form("a:1:2:observer:5")),
            ("a:1:2;3;4", form("a:1:2;3;4")),
            ("a:1:2;b:3:4", form("a:1:2;b:3:4")),
            ("[::1]x:1:2", form("[::1]x:1:2")),
            ("a:x:2", "Address unresolved: a:x".to_owned()),
            ("a:1:x", "Address unresolved: a:x".to_owned()),
            ("a:1:2;b:x", "Address unresolved: b:x".to_owned()),
            ("a:1:65536", "port out of range:65536".to_owned()),
            (
                "a:1:1",
                "Client and election port must be different! Please update the configuration file on server.1"
                    .to_owned(),
            ),
            ("a:1:2:leader", "Unrecognised peertype: leader".to_owned()),
            (
                "a:1:2:observer|b:1:2:participant",
                "Multiple addresses should have similar roles: OBSERVER vs PARTICIPANT".to_owned(),
            ),
            ("[::1:1:2", "[::1:1:2 starts with '[' but has no matching ']:'".to_owned()),
            ("[::1]:", "[::1]: doesn't have a port after colon".to_owned()),
        ] {
            assert_eq!(member(text), Err(problem), "{text}");
        }
    }

    #[test]
    fn groups_and_weights() {
        let text = [
            ("server.1", "a:1:2"),
            ("server.2", "b:1:2"),
            ("server.3", "c:1:2:observer"),
            ("group.1", "1"),
            ("group.2", "2:"),
            ("weight.2", "3"),
        ];
        let groups = Membership::parse(&lines(&text), false).unwrap().groups.unwrap();
        assert_eq!(groups.group_of, BTreeMap::from([(1, 1), (2, 2)]));
        assert_eq!(groups.weight_of, BTreeMap::from([(1, 1), (2, 3)]));
        for (entry, problem) in [
            (("group", "1"), "For input string: \"group\""),
            (("group.1", "1:x"), "For input string: \"x\""),
            (("group.1", "1:1"), "Server 1is in multiple groups"),
            (("group.1", "2"), "Server 1is not in a group"),
            (("weight.1", "x"), "For input string: \"x\""),
        ] {
            let fault = Membership::parse(&lines(&[("server.1", "a:1:2"), entry]), false).unwrap_err();
            assert_eq!(fault.problem, problem, "{entry:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_member_or_refused(text: String) {
            if let Ok(parsed) = member(&text) {
                proptest::prop_assert_eq!(member(&parsed.to_string()).map(|again| again.to_string()), Ok(parsed.to_string()));
            }
        }

        #[test]
        fn text_that_looks_like_a_member_is_one_or_refused(text in "[\\[\\]a:;|0-9]{0,20}(:observer)?") {
            let _ = member(&text);
        }
    }
}
