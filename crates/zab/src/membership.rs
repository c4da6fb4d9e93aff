//! Who belongs to the ensemble, where each member listens, and whose voice counts; and the text of all that, which stands in the
//! configuration, in notifications, in NEWLEADER and in `/zookeeper/config`.
//!
//! What always holds: text is read within [`MAX_TEXT_BYTES`] and never panics; what [`Membership::parse_text`] returns has a
//! quorum; what is displayed is read back as the same membership.
//!
//! Counterpart in the original: `QuorumServer`, `QuorumMaj`, `QuorumHierarchical`, whose messages are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rookeeper_proto::{ServerId, Zxid};

use crate::quorum::Quorum;

/// No honest membership has a longer text; it must fit into a notification.
pub const MAX_TEXT_BYTES: usize = 1 << 18;

/// Keeps sums of weights far from their end.
const MAX_WEIGHT: i64 = i32::MAX as i64;

/// Votes or only listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Votes, and may lead.
    Participant,
    /// Follows without a vote.
    Observer,
}

impl Role {
    /// Reads the word of `peerType` and of server lines.
    pub fn parse(word: &str) -> Option<Role> {
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

/// A host and a port, not resolved: names may change their addresses while the server runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Name or address, without the brackets of an IPv6 address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    /// As in configuration text: IPv6 addresses in brackets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", Bracketed(&self.host), self.port)
    }
}

struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(formatter, "[{}]", self.0) } else { formatter.write_str(self.0) }
    }
}

/// One address of a member.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

impl Member {
    /// Reads the right side of the line `server.<id>`.
    pub fn parse(id: ServerId, text: &str, multi_address: bool) -> Result<Member, MembershipError> {
        let sides = java_split(text, ';');
        let client = match sides[..] {
            [_, client] => Some(parse_client(text, client)?),
            _ => None,
        };
        let servers = java_split(sides[0], '|');
        if servers.len() > 1 && !multi_address {
            return Err(MembershipError::SeveralAddresses(id));
        }
        let mut addresses = Vec::new();
        let mut role: Option<Role> = None;
        for server in servers {
            let parts = host_and_parts(server)?;
            if sides.len() > 2 || !matches!(parts.len(), 3 | 4) {
                return Err(MembershipError::Form(excerpt(text)));
            }
            let address = MemberAddress {
                host: host(parts[0], parts[1])?,
                quorum_port: port(parts[0], parts[1])?,
                election_port: port(parts[0], parts[2])?,
            };
            if address.quorum_port == address.election_port {
                return Err(MembershipError::SamePorts(id));
            }
            addresses.push(address);
            if let Some(word) = parts.get(3) {
                let this = Role::parse(word).ok_or_else(|| MembershipError::UnknownRole(excerpt(word)))?;
                let first = *role.get_or_insert(this);
                if first != this {
                    return Err(MembershipError::DifferentRoles { first, other: this });
                }
            }
        }
        Ok(Member { addresses, role: role.unwrap_or(Role::Participant), client })
    }
}

impl fmt::Display for Member {
    /// The right side of a server line as the original writes it: the role once, addresses sorted by host.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut addresses: Vec<_> = self.addresses.iter().collect();
        addresses.sort_by_key(|address| &address.host);
        for (index, address) in addresses.into_iter().enumerate() {
            let separator = if index == 0 { "" } else { "|" };
            let MemberAddress { host, quorum_port, election_port } = address;
            write!(formatter, "{separator}{}:{quorum_port}:{election_port}", Bracketed(host))?;
        }
        write!(formatter, ":{}", self.role)?;
        match &self.client {
            Some(client) => write!(formatter, ";{client}"),
            None => Ok(()),
        }
    }
}

/// Hierarchical quorums: a quorum is a majority of weight in a majority of groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    /// Group of each server.
    pub group_of: BTreeMap<ServerId, i64>,
    /// Votes of each participant, 1 unless configured.
    pub weight_of: BTreeMap<ServerId, i64>,
}

/// All members of one version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// Voters and observers by their ids.
    pub members: BTreeMap<ServerId, Member>,
    /// None for simple majorities.
    pub groups: Option<Groups>,
    /// Zxid of the reconfiguration that made it; 0 for one written by hand.
    pub version: Zxid,
}

impl Membership {
    /// Reads a whole membership: lines `key=value` in any order, the last of a repeated key counts.
    pub fn parse_text(text: impl AsRef<[u8]>, multi_address: bool) -> Result<Membership, MembershipError> {
        let bytes = text.as_ref();
        if bytes.len() > MAX_TEXT_BYTES {
            return Err(MembershipError::TooLong(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| MembershipError::NotText)?;
        let mut entries = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '!'])) {
            let (name, value) = line.split_once('=').ok_or_else(|| MembershipError::NotAnEntry(excerpt(line)))?;
            entries.insert(name.trim_end(), value.trim_start());
        }
        let mut reader = MembershipReader::default();
        for (name, value) in entries {
            reader.add(name, value, multi_address)?;
        }
        let membership = reader.complete()?;
        if !membership.has_voter() {
            return Err(MembershipError::NoVoter);
        }
        Ok(membership)
    }

    /// Whether anybody's voice counts. Without, there is no quorum.
    pub fn has_voter(&self) -> bool {
        self.participants().any(|server| match &self.groups {
            None => true,
            Some(groups) => {
                groups.group_of.contains_key(&server) && groups.weight_of.get(&server).copied().unwrap_or(1) > 0
            }
        })
    }

    /// Those who vote, by their role. One of them may still have no weight.
    pub fn participants(&self) -> impl Iterator<Item = ServerId> {
        self.members.iter().filter(|(_, member)| member.role == Role::Participant).map(|(id, _)| *id)
    }

    /// Whether the server is a voter.
    pub fn is_participant(&self, server: ServerId) -> bool {
        self.members.get(&server).is_some_and(|member| member.role == Role::Participant)
    }

    /// Panics unless [`Membership::has_voter`], which holds for everything that [`Membership::parse_text`] returns.
    pub fn quorum(&self) -> Quorum {
        match &self.groups {
            None => Quorum::majority(self.participants()),
            Some(groups) => {
                let mut by_group: BTreeMap<i64, BTreeMap<ServerId, u64>> = BTreeMap::new();
                for server in self.participants() {
                    let weight = groups.weight_of.get(&server).copied().unwrap_or(1).max(0).unsigned_abs();
                    if let Some(group) = groups.group_of.get(&server) {
                        by_group.entry(*group).or_default().insert(server, weight);
                    }
                }
                Quorum::hierarchical(by_group.into_values())
            }
        }
    }
}

/// A membership that is being read, entry by entry, from whichever form of text has them. There is none before the last entry.
#[derive(Debug, Default)]
pub struct MembershipReader(Membership);

impl MembershipReader {
    /// Adds what one `key=value` says; false where it is about something else.
    pub fn add(&mut self, name: &str, value: &str, multi_address: bool) -> Result<bool, MembershipError> {
        if let Some(id) = name.strip_prefix("server.") {
            let id = ServerId(number(id)?);
            self.0.members.insert(id, Member::parse(id, value, multi_address)?);
        } else if name.starts_with("group") {
            let groups = self.0.groups.get_or_insert_default();
            let group = number(after_dot(name))?;
            for server in java_split(value, ':') {
                let server = ServerId(number(server)?);
                if groups.group_of.insert(server, group).is_some() {
                    return Err(MembershipError::InSeveralGroups(server));
                }
            }
        } else if name.starts_with("weight") {
            let groups = self.0.groups.get_or_insert_default();
            let (server, weight) = (ServerId(number(after_dot(name))?), number(value)?);
            if !(0..=MAX_WEIGHT).contains(&weight) {
                return Err(MembershipError::Weight { server, weight });
            }
            groups.weight_of.insert(server, weight);
        } else if name == "version" {
            let version = i64::from_str_radix(value, 16).ok().filter(|version| *version >= 0);
            let version = version.ok_or_else(|| MembershipError::not_a_number(value, "a hexadecimal number"))?;
            self.0.version = Zxid(version);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// What the entries say together. Every participant is in a group and has a weight, if there are groups.
    pub fn complete(self) -> Result<Membership, MembershipError> {
        let mut membership = self.0;
        let Some(groups) = &mut membership.groups else { return Ok(membership) };
        for (id, _) in membership.members.iter().filter(|(_, member)| member.role == Role::Participant) {
            if !groups.group_of.contains_key(id) {
                return Err(MembershipError::InNoGroup(*id));
            }
            groups.weight_of.entry(*id).or_insert(1);
        }
        Ok(membership)
    }
}

impl fmt::Display for Membership {
    /// The text that all servers exchange, in ascending order of ids, without a line end at its end.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (ServerId(id), member) in &self.members {
            writeln!(formatter, "server.{id}={member}")?;
        }
        if let Some(groups) = &self.groups {
            let mut servers_of: BTreeMap<i64, Vec<String>> = BTreeMap::new();
            for (ServerId(server), group) in &groups.group_of {
                servers_of.entry(*group).or_default().push(server.to_string());
            }
            for (group, servers) in servers_of {
                writeln!(formatter, "group.{group}={}", servers.join(":"))?;
            }
            for (ServerId(server), weight) in &groups.weight_of {
                writeln!(formatter, "weight.{server}={weight}")?;
            }
        }
        write!(formatter, "version={:x}", self.version)
    }
}

/// Why a text is not a membership, in the words of the original where it has any.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    #[error("For input string: \"{text}\"")]
    NotANumber {
        text: String,
        /// What would be right.
        allowed: &'static str,
    },
    #[error("Server {0}is in multiple groups")]
    InSeveralGroups(ServerId),
    #[error("Server {0}is not in a group")]
    InNoGroup(ServerId),
    #[error("weight {weight} of server {server} is not between 0 and {MAX_WEIGHT}")]
    Weight { server: ServerId, weight: i64 },
    #[error("{0} starts with '[' but has no matching ']:'")]
    UnclosedBracket(String),
    #[error("{0} doesn't have a port after colon")]
    NoPortAfterColon(String),
    #[error(
        "{0} does not have the form server_config or server_config;client_config where server_config is the pipe separated list of \
         host:port:port or host:port:port:type and client_config is port or host:port"
    )]
    Form(String),
    #[error("port out of range:{0}")]
    PortOutOfRange(i32),
    #[error("Address unresolved: {host}:{port}")]
    Address { host: String, port: String },
    #[error("Multiple address feature is disabled, but multiple addresses were specified for sid {}", .0.0)]
    SeveralAddresses(ServerId),
    #[error("Client and election port must be different! Please update the configuration file on server.{}", .0.0)]
    SamePorts(ServerId),
    #[error("Unrecognised peertype: {0}")]
    UnknownRole(String),
    #[error(
        "Multiple addresses should have similar roles: {} vs {}",
        .first.to_string().to_uppercase(),
        .other.to_string().to_uppercase()
    )]
    DifferentRoles { first: Role, other: Role },
    #[error("none of the servers has a vote")]
    NoVoter,
    #[error("{0} is not of the form key=value")]
    NotAnEntry(String),
    #[error("it is not UTF-8")]
    NotText,
    #[error("{0} bytes are more than the limit of {MAX_TEXT_BYTES}")]
    TooLong(usize),
}

impl MembershipError {
    fn not_a_number(text: &str, allowed: &'static str) -> MembershipError {
        MembershipError::NotANumber { text: excerpt(text), allowed }
    }
}

/// The membership in force, and the newest one known, which a reconfiguration in progress has proposed; the same where there is none.
/// What needs a quorum needs it in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memberships {
    /// In force.
    pub committed: Membership,
    /// Proposed last; the same as the one in force where no change is on its way.
    pub last_seen: Membership,
    committed_quorum: Quorum,
    last_seen_quorum: Quorum,
}

impl Memberships {
    /// Panics where one of them has no voter.
    pub fn new(committed: Membership, last_seen: Membership) -> Memberships {
        let (committed_quorum, last_seen_quorum) = (committed.quorum(), last_seen.quorum());
        Memberships { committed, last_seen, committed_quorum, last_seen_quorum }
    }

    /// No reconfiguration is in progress.
    pub fn settled(membership: Membership) -> Memberships {
        Memberships::new(membership.clone(), membership)
    }

    /// Whether these servers suffice in both.
    pub fn is_reached_by(&self, servers: &BTreeSet<ServerId>) -> bool {
        self.committed_quorum.is_reached_by(servers) && self.last_seen_quorum.is_reached_by(servers)
    }

    /// Whether this server is one of at most two that decide by majority, in both.
    pub fn has_half(&self, server: ServerId) -> bool {
        self.committed_quorum.has_half(server) && self.last_seen_quorum.has_half(server)
    }

    /// Which sets of servers decide by the membership in force.
    pub(crate) fn committed_quorum(&self) -> &Quorum {
        &self.committed_quorum
    }

    /// A voter in either.
    pub fn is_voter(&self, server: ServerId) -> bool {
        self.committed.is_participant(server) || self.last_seen.is_participant(server)
    }

    /// What a server comes to a leader as. One that votes in either comes to vote. So does one that is no member any more, although it has no
    /// voice: a leader counts on nobody who only listens, so it could never be given a voice again.
    pub fn is_observer(&self, server: ServerId) -> bool {
        !self.is_voter(server) && self.committed.members.contains_key(&server)
    }

    /// The voters of both.
    pub fn voters(&self) -> BTreeSet<ServerId> {
        self.committed.participants().chain(self.last_seen.participants()).collect()
    }
}

/// What errors quote: short, and on one line whatever the text contains.
fn excerpt(text: &str) -> String {
    const MAX_CHARACTERS: usize = 200;
    let mut short = String::new();
    for character in text.chars().take(MAX_CHARACTERS) {
        if character.is_control() { short.extend(character.escape_default()) } else { short.push(character) }
    }
    if text.chars().nth(MAX_CHARACTERS).is_some() {
        short.push('…');
    }
    short
}

/// `1` of `group.1`; without a dot all of it, as in the original.
fn after_dot(name: &str) -> &str {
    name.split_once('.').map_or(name, |(_, id)| id)
}

fn number(text: &str) -> Result<i64, MembershipError> {
    text.parse().map_err(|_| MembershipError::not_a_number(text, "a whole number"))
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
fn host_and_parts(text: &str) -> Result<Vec<&str>, MembershipError> {
    let Some(rest) = text.strip_prefix('[') else { return Ok(java_split(text, ':')) };
    let Some((host, rest)) = rest.split_once(']') else {
        return Err(MembershipError::UnclosedBracket(excerpt(text)));
    };
    let mut parts = vec![host];
    match rest.strip_prefix(':') {
        Some("") => return Err(MembershipError::NoPortAfterColon(excerpt(text))),
        Some(rest) => parts.extend(java_split(rest, ':')),
        None if rest.is_empty() => {}
        None => return Err(MembershipError::Form(excerpt(text))),
    }
    Ok(parts)
}

/// A host must be found again in the text that is sent to others, and a name never contains anything of this.
fn host(text: &str, port: &str) -> Result<String, MembershipError> {
    let is_foreign = |character: char| {
        character.is_control() || character.is_whitespace() || matches!(character, '\\' | '=' | '[' | ']' | '|' | ';')
    };
    if text.contains(is_foreign) {
        return Err(MembershipError::Address { host: excerpt(text), port: excerpt(port) });
    }
    Ok(text.to_owned())
}

fn port(host: &str, text: &str) -> Result<u16, MembershipError> {
    match text.parse::<i32>() {
        Ok(number) => u16::try_from(number).map_err(|_| MembershipError::PortOutOfRange(number)),
        Err(_) => Err(MembershipError::Address { host: excerpt(host), port: excerpt(text) }),
    }
}

fn parse_client(line: &str, text: &str) -> Result<HostPort, MembershipError> {
    const ANY: &str = "0.0.0.0";
    let parts = host_and_parts(text)?;
    match parts[..] {
        [number] => Ok(HostPort { host: ANY.to_owned(), port: port(ANY, number)? }),
        [name, number] => Ok(HostPort { host: host(name, number)?, port: port(name, number)? }),
        _ => Err(MembershipError::Form(excerpt(line))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(text: &str) -> Result<Member, String> {
        Member::parse(ServerId(1), text, true).map_err(|error| error.to_string())
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
        let form = |text: &str| MembershipError::Form(text.to_owned()).to_string();
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
            ("a b:1:2", "Address unresolved: a b:1".to_owned()),
            ("a\nserver.2=b:1:2", "Address unresolved: a\\nserver.2=b:1".to_owned()),
            ("a:1:2;b=c:3", "Address unresolved: b=c:3".to_owned()),
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
        let several = Member::parse(ServerId(7), "a:1:2|b:1:2", false).unwrap_err();
        assert_eq!(
            several.to_string(),
            "Multiple address feature is disabled, but multiple addresses were specified for sid 7"
        );
    }

    #[test]
    fn a_membership_is_displayed_in_ascending_order_whatever_order_it_came_in() {
        let text = "# by hand\nversion=10000000A\nserver.10=c:1:2:observer\r\n\nserver.9 = b:3:4;2181\nserver.9=a:1:2;2181\nfoo=bar";
        let membership = Membership::parse_text(text, false).unwrap();
        assert_eq!(membership.version, Zxid::new(1, 10));
        let shown = "server.9=a:1:2:participant;0.0.0.0:2181\nserver.10=c:1:2:observer\nversion=10000000a";
        assert_eq!(membership.to_string(), shown);
    }

    #[test]
    fn groups_and_weights_are_part_of_the_text() {
        let text = "server.1=a:1:2:participant\nserver.2=b:1:2:participant\nserver.3=c:1:2:observer\ngroup.1=1\ngroup.2=2:3\n\
                    weight.1=1\nweight.2=3\nversion=0";
        let membership = Membership::parse_text(text.replace("weight.1=1\n", ""), false).unwrap();
        assert_eq!(membership.to_string(), text);
        let quorum = membership.quorum();
        assert!(quorum.is_voter(ServerId(2)) && !quorum.is_voter(ServerId(3)));
        for (entry, problem) in [
            (("group", "1"), "For input string: \"group\""),
            (("group.1", "1:x"), "For input string: \"x\""),
            (("group.1", "1:1"), "Server 1is in multiple groups"),
            (("group.1", "2"), "Server 1is not in a group"),
            (("weight.1", "x"), "For input string: \"x\""),
            (("weight.1", "-1"), "weight -1 of server 1 is not between 0 and 2147483647"),
            (("weight.1", "2147483648"), "weight 2147483648 of server 1 is not between 0 and 2147483647"),
        ] {
            let text = format!("server.1=a:1:2\n{}={}", entry.0, entry.1);
            assert_eq!(Membership::parse_text(text, false).unwrap_err().to_string(), problem, "{entry:?}");
        }
    }

    #[test]
    fn text_without_a_voter_is_no_membership() {
        for text in [
            "",
            "version=5",
            "server.1=a:1:2:observer",
            "server.1=a:1:2\ngroup.1=1\nweight.1=0",
            "server.1=a:1:2:observer\ngroup.1=1",
        ] {
            assert_eq!(Membership::parse_text(text, true), Err(MembershipError::NoVoter), "{text}");
        }
    }

    #[test]
    fn text_that_nobody_wrote_is_refused() {
        let version = |text: &str| MembershipError::not_a_number(text, "a hexadecimal number");
        for (text, error) in [
            (b"server.1=a:1:2\nversion=-1".as_slice(), version("-1")),
            (b"server.1=a:1:2\nversion=ffffffffffffffff", version("ffffffffffffffff")),
            (b"server.1", MembershipError::NotAnEntry("server.1".to_owned())),
            (b"server.1=\xff:1:2", MembershipError::NotText),
            (&[b'#'; MAX_TEXT_BYTES + 1], MembershipError::TooLong(MAX_TEXT_BYTES + 1)),
        ] {
            assert_eq!(Membership::parse_text(text, true), Err(error));
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
        fn what_is_displayed_is_read_back(lines in proptest::collection::vec(
            "server\\.[0-9]=([\\[\\]a:.]{1,4}:[0-9]:[0-9](:observer)?[|]?){1,2}(;[a:\\[\\]]{0,3}[0-9])?|(group|weight)\\.[0-9]=[0-9](:[0-9])?|version=[0-9a-f]{1,16}",
            0..8,
        )) {
            if let Ok(parsed) = Membership::parse_text(lines.join("\n"), true) {
                parsed.quorum();
                let again = Membership::parse_text(parsed.to_string(), true);
                proptest::prop_assert_eq!(again.map(|again| again.to_string()), Ok(parsed.to_string()));
            }
        }
    }
}
