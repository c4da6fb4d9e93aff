//! The members that are missing where there is no quorum, and why, logged every minute: a member that waits for others without a word is no help
//! to the person who was woken by it.
//!
//! Two parts: [`Absence`], when to say it, takes the time as an argument; [`missing`], what to say, goes by what the election port met.

use std::collections::BTreeMap;

use rookeeper_proto::{MonotonicMs, ServerId};
use rookeeper_zab::Membership;

/// An election is over before; what takes longer is worth a line.
const FIRST_AFTER_MS: i64 = 15_000;

const EVERY_MS: i64 = 60_000;

/// How long nobody has been served.
#[derive(Debug, Default)]
pub(crate) struct Absence {
    since_ms: Option<MonotonicMs>,
    said_ms: Option<MonotonicMs>,
}

impl Absence {
    /// Looks at whether clients are served. Returns for how long they have not been, where it is time to say so.
    pub fn look(&mut self, serves: bool, now_ms: MonotonicMs) -> Option<i64> {
        if serves {
            *self = Absence::default();
            return None;
        }
        let since_ms = *self.since_ms.get_or_insert(now_ms);
        let due_ms = self.said_ms.map_or(since_ms + FIRST_AFTER_MS, |said_ms| said_ms + EVERY_MS);
        (now_ms >= due_ms).then(|| {
            self.said_ms = Some(now_ms);
            now_ms - since_ms
        })
    }
}

/// How another server is seen from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Contact {
    /// There is an election connection.
    Linked,
    /// The last attempt failed with this.
    Failed(String),
}

/// A sentence on each voter but this one.
pub(crate) fn missing(me: ServerId, membership: &Membership, contacts: &BTreeMap<ServerId, Contact>) -> String {
    let voters: Vec<ServerId> = membership.participants().filter(|voter| *voter != me).collect();
    let sentences: Vec<String> = voters
        .iter()
        .map(|voter| {
            let address = membership
                .members
                .get(voter)
                .and_then(|member| member.addresses.first())
                .map_or_else(String::new, |address| format!(" ({}:{})", address.host, address.election_port));
            let seen = match contacts.get(voter) {
                Some(Contact::Linked) => "is connected and has no leader either, or none that a quorum follows",
                Some(Contact::Failed(why)) => why,
                None => "was not tried yet, and has not called",
            };
            format!("server {voter}{address}: {seen}")
        })
        .collect();
    let linked = voters.iter().filter(|voter| contacts.get(voter) == Some(&Contact::Linked)).count();
    format!("{linked} of {} other voters are connected for elections. {}", voters.len(), sentences.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_after_a_moment_and_then_every_minute() {
        let mut absence = Absence::default();
        assert_eq!(absence.look(true, MonotonicMs(0)), None);
        let said: Vec<(i64, i64)> =
            (10..200).filter_map(|second| Some((second, absence.look(false, MonotonicMs(second * 1000))?))).collect();
        assert_eq!(said, [(25, 15_000), (85, 75_000), (145, 135_000)]);
        assert_eq!(absence.look(true, MonotonicMs(200_000)), None);
        assert_eq!(absence.look(false, MonotonicMs(210_000)), None);
        assert_eq!(absence.look(false, MonotonicMs(225_000)), Some(15_000));
    }

    #[test]
    fn everybody_missing_is_named_with_the_reason() {
        let text = "server.1=a:1:2\nserver.2=b:3:4\nserver.3=c:5:6\nserver.4=d:7:8\nserver.5=e:9:10:observer";
        let membership = Membership::parse_text(text, false).unwrap();
        let contacts = BTreeMap::from([
            (ServerId(2), Contact::Linked),
            (ServerId(3), Contact::Failed("c:6: Connection refused".to_owned())),
        ]);
        assert_eq!(
            missing(ServerId(1), &membership, &contacts),
            "1 of 3 other voters are connected for elections. server 2 (b:4): is connected and has no leader either, or none that a \
             quorum follows; server 3 (c:6): c:6: Connection refused; server 4 (d:8): was not tried yet, and has not called"
        );
    }
}
