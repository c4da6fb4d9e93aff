//! Members of an ensemble by the server, group and weight lines of `zoo.cfg` or of a dynamic file. The syntax is
//! [`rookeeper_zab::membership`]'s, which all servers exchange; here its errors get their place and a remedy.

use rookeeper_zab::{Membership, MembershipError, Role};

use super::error::Fault;
use super::settings::Found;

/// Reads the lines of a membership; those that are something else are not its business.
pub(super) fn parse(lines: &[Found], multi_address: bool) -> Result<Membership, Fault> {
    let mut membership = Membership::default();
    for line in lines {
        membership
            .add(&line.name, &line.value, multi_address)
            .map_err(|error| fault(&error).at(&line.place).about(&line.name, &line.value))?;
    }
    membership.complete().map_err(|error| fault(&error))?;
    Ok(membership)
}

pub(super) fn count(membership: &Membership, role: Role) -> usize {
    membership.members.values().filter(|member| member.role == role).count()
}

/// An ensemble in which nobody decides would wait for ever.
pub(super) fn check_voters(membership: &Membership) -> Result<(), Fault> {
    if membership.has_voter() { Ok(()) } else { Err(fault(&MembershipError::NoVoter)) }
}

fn fault(error: &MembershipError) -> Fault {
    Fault::new(error.to_string(), remedy(error))
}

fn remedy(error: &MembershipError) -> String {
    const BRACKETS: &str = "Write an IPv6 address as [::1]:2888:3888.";
    const LINES: &str = "Allowed: lines server.N, group.N and weight.N.";
    match error {
        MembershipError::NotANumber { allowed, .. } => return format!("Allowed: {allowed}."),
        MembershipError::InNoGroup(server) => return format!("Add {} to one of the group lines.", server.0),
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
}
