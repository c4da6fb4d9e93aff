//! Members of an ensemble by the server, group and weight lines of `zoo.cfg` or of a dynamic file. The syntax is
//! [`rookeeper_zab::membership`]'s, which all servers exchange; here its errors get their place and a remedy.

use std::collections::{BTreeMap, BTreeSet};

use rookeeper_proto::ServerId;
use rookeeper_zab::{HostPort, Membership, MembershipError, MembershipReader, Role};

use super::error::Fault;
use super::settings::Found;

/// Reads the lines of a membership; those that are something else are not its business.
pub(super) fn parse(lines: &[Found], multi_address: bool) -> Result<Membership, Fault> {
    let mut reader = MembershipReader::default();
    for line in lines {
        reader
            .add(&line.name, &line.value, multi_address)
            .map_err(|error| fault(&error).at(&line.place).about(&line.name, &line.value))?;
    }
    reader.complete().map_err(|error| fault(&error))
}

pub(super) fn count(membership: &Membership, role: Role) -> usize {
    membership.members.values().filter(|member| member.role == role).count()
}

/// An ensemble in which nobody decides would wait for ever.
pub(super) fn check_voters(membership: &Membership) -> Result<(), Fault> {
    if membership.has_voter() { Ok(()) } else { Err(fault(&MembershipError::NoVoter)) }
}

/// Whether members can be reached apart. The original finds that out member by member, each of which says no more than that its port is in use,
/// or that nobody answers. Returns what is worth a warning: a quorum may still be found among the others.
pub(super) fn check_addresses(membership: &Membership) -> Result<Vec<String>, Fault> {
    let mut servers_at: BTreeMap<(String, u16), BTreeSet<ServerId>> = BTreeMap::new();
    let mut election_at: BTreeMap<(String, u16), ServerId> = BTreeMap::new();
    for (server, member) in &membership.members {
        for address in &member.addresses {
            let host = address.host.to_lowercase();
            election_at.entry((host.clone(), address.election_port)).or_insert(*server);
            for port in [address.quorum_port, address.election_port] {
                servers_at.entry((host.clone(), port)).or_default().insert(*server);
            }
        }
    }
    let mut addresses_of: BTreeMap<BTreeSet<ServerId>, Vec<String>> = BTreeMap::new();
    for ((host, port), servers) in servers_at.into_iter().filter(|(_, servers)| servers.len() > 1) {
        addresses_of.entry(servers).or_default().push(HostPort { host, port }.to_string());
    }
    const REMEDY: &str = "Give every member a host or ports of its own.";
    let shared: Vec<String> = addresses_of
        .into_iter()
        .map(|(servers, addresses)| {
            let names: Vec<String> = servers.iter().map(|server| format!("server.{server}")).collect();
            let (names, addresses) = (names.join(", "), addresses.join(" and "));
            format!("{names} have the same address, {addresses}: only one of them can be there")
        })
        .collect();
    let apart: BTreeSet<ServerId> = election_at.into_values().collect();
    // With groups it depends on which of them is the one.
    if !shared.is_empty() && membership.groups.is_none() && !membership.quorum().is_reached_by(&apart) {
        return Err(Fault::new(format!("{}, so that there can be no quorum", shared.join("; ")), REMEDY));
    }
    Ok(shared.into_iter().map(|text| format!("{text}. {REMEDY}")).collect())
}

fn fault(error: &MembershipError) -> Fault {
    Fault::new(error.to_string(), remedy(error))
}

fn remedy(error: &MembershipError) -> String {
    const BRACKETS: &str = "Write an IPv6 address as [::1]:2888:3888.";
    const LINES: &str = "Allowed: lines server.N, group.N and weight.N.";
    match error {
        MembershipError::NotANumber { allowed, .. } => return format!("Allowed: {allowed}."),
        MembershipError::InNoGroup(server) => return format!("Add {server} to one of the group lines."),
        MembershipError::InSeveralGroups(_) => "Leave it in one of the group lines.",
        MembershipError::Weight { .. } => "Usual weights are 1, or 0 for a server without a vote.",
        MembershipError::UnclosedBracket(_) | MembershipError::NoPortAfterColon(_) => BRACKETS,
        MembershipError::Form(_) => "For example: server.1=zoo1.example.org:2888:3888:participant;2181",
        MembershipError::PortOutOfRange(_) => "Allowed: a port from 0 to 65535.",
        MembershipError::Address { .. } => "Allowed: a name or an address, and a port from 0 to 65535.",
        MembershipError::SeveralAddresses(_) => "Set multiAddress.enabled=true, on all members, or keep one address.",
        MembershipError::SamePorts(_) => "The first port is for followers, the second one for elections.",
        MembershipError::UnknownRole(_) => "Allowed: participant or observer.",
        MembershipError::DifferentRoles { .. } => "Write the same role behind every address of the member.",
        MembershipError::NoVoter => "At least one participant must have a weight that is not 0.",
        MembershipError::NotAnEntry(_) | MembershipError::NotText | MembershipError::TooLong(_) => LINES,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::error::Place;
    use super::*;

    #[test]
    fn a_wrong_line_is_named_with_its_place_and_a_remedy() {
        let lines = |entries: &[(&str, &str)]| -> Vec<Found> {
            let found = |(index, (name, value)): (usize, &(&str, &str))| Found {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
                place: Place::Line { file: "zoo.cfg".to_owned(), line: index + 1 },
            };
            entries.iter().enumerate().map(found).collect()
        };
        let wrong = |entries: &[(&str, &str)]| parse(&lines(entries), false).unwrap_err().to_string();
        assert_eq!(
            wrong(&[("server.1", "a:1:2"), ("server.2", "a:x:2")]),
            "zoo.cfg:2: server.2=a:x:2: Address unresolved: a:x\n  Allowed: a name or an address, and a port from 0 to 65535."
        );
        assert_eq!(
            wrong(&[("server.1", "a:1:2"), ("group.1", "2")]),
            "Server 1is not in a group\n  Add 1 to one of the group lines."
        );
        let all = lines(&[("server.1", "a:1:2"), ("syncLimit", "5"), ("server.3", "c:1:2:observer")]);
        let membership = parse(&all, false).unwrap();
        assert_eq!((count(&membership, Role::Participant), count(&membership, Role::Observer)), (1, 1));
    }

    #[test]
    fn members_at_one_address_are_named() {
        let check = |text: &str| check_addresses(&Membership::parse_text(text, true).unwrap());
        assert_eq!(check("server.1=a:1:2\nserver.2=a:3:4\nserver.3=b:1:2"), Ok(vec![]));
        assert_eq!(
            check("server.1=a:1:2\nserver.2=A:1:2\nserver.3=a:1:2").unwrap_err().to_string(),
            "server.1, server.2, server.3 have the same address, a:1 and a:2: only one of them can be there, so that there can be no quorum\n  \
             Give every member a host or ports of its own."
        );
        // A quorum of the others is there, or elections are held at different ports.
        let warning = |servers: &str, address: &str| {
            let remedy = "Give every member a host or ports of its own.";
            Ok(vec![format!("{servers} have the same address, {address}: only one of them can be there. {remedy}")])
        };
        assert_eq!(
            check("server.1=a:1:2\nserver.2=a:1:2\nserver.3=b:1:2"),
            warning("server.1, server.2", "a:1 and a:2")
        );
        assert_eq!(check("server.1=a:1:2\nserver.2=a:1:3"), warning("server.1, server.2", "a:1"));
        assert_eq!(check("server.1=[::1]:1:2|b:1:2\nserver.2=[::1]:2:3"), warning("server.1, server.2", "[::1]:2"));
    }
}
