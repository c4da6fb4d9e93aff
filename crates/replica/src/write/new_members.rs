//! The members that a reconfiguration lists one and all, `newMembers`: lines as in a file of the configuration, or commas between them.
//!
//! What always holds here: nothing that is listed is left out, and whoever sends what can't be taken hears the original's error:
//! MarshallingError (-5) for what is no number and for members who can't be an ensemble, BadArguments (-8) for everything else.
//!
//! Counterpart in the original: `QuorumPeerConfig.parseDynamicConfig`, and `java.util.Properties` before it.

use std::collections::BTreeMap;

use rookeeper_proto::ErrorCode;
use rookeeper_zab::{Membership, MembershipError, MembershipReader};

/// Reads a list of all members.
pub(crate) fn parse(text: &str, multi_address: bool, standalone_enabled: bool) -> Result<Membership, ErrorCode> {
    // The original takes a backslash for the beginning of something else, and may then not see the server that it stands before.
    if text.contains('\\') {
        return Err(ErrorCode::BadArguments);
    }
    let mut entries = BTreeMap::new();
    for line in text.split([',', '\n', '\r']) {
        let line = line.trim_start_matches(is_blank);
        if !line.is_empty() && !line.starts_with(['#', '!']) {
            let (key, value) = key_and_value(line);
            // The last of a repeated key counts.
            entries.insert(key, value);
        }
    }
    let mut reader = MembershipReader::default();
    for (key, value) in entries {
        if key == "version" {
            // Its version will be that of its transaction.
            i64::from_str_radix(value, 16).map_err(|_| ErrorCode::MarshallingError)?;
        } else if !reader.add(key, value, multi_address).map_err(|error| error_of(&error))? {
            return Err(ErrorCode::BadArguments);
        }
    }
    let new = reader.complete().map_err(|error| error_of(&error))?;
    if let Some(groups) = &new.groups
        && groups.group_of.keys().any(|server| !groups.weight_of.contains_key(server))
    {
        return Err(ErrorCode::MarshallingError);
    }
    let voters = new.participants().count();
    let observers = new.members.len() - voters;
    match (voters, standalone_enabled) {
        (0, false) => Err(ErrorCode::MarshallingError),
        (0 | 1, true) if observers > 0 => Err(ErrorCode::MarshallingError),
        _ => Ok(new),
    }
}

/// The error for what is wrong with a member's own line.
pub(crate) fn error_of(error: &MembershipError) -> ErrorCode {
    match error {
        MembershipError::NotANumber { .. } | MembershipError::PortOutOfRange(_) => ErrorCode::MarshallingError,
        _ => ErrorCode::BadArguments,
    }
}

/// A key ends at a blank, `=` or `:`; before the value are blanks and at most one of the two signs.
fn key_and_value(line: &str) -> (&str, &str) {
    let end = line.find(|character| is_blank(character) || matches!(character, '=' | ':')).unwrap_or(line.len());
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, rest.trim_start_matches(is_blank))
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\x0c')
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "server.1=a:1:2:participant;3";
    const B: &str = "server.2=b:1:2:participant;3";
    const B_OBSERVES: &str = "server.2=b:1:2:observer;3";

    type Ids = Result<Vec<i64>, ErrorCode>;

    /// The ids without and with `standaloneEnabled`.
    fn ids(text: &str) -> [Ids; 2] {
        [false, true].map(|standalone_enabled| {
            parse(text, false, standalone_enabled).map(|new| new.members.keys().map(|id| id.0).collect())
        })
    }

    /// Each answer was taken from Apache ZooKeeper 3.9.5.
    #[test]
    fn all_members_are_listed_as_in_the_original() {
        let taken = |text: &str, expected: &[i64]| {
            assert_eq!(ids(text), [Ok(expected.to_vec()), Ok(expected.to_vec())], "{text:?}");
        };
        let refused = |text: &str, code: ErrorCode| assert_eq!(ids(text), [Err(code), Err(code)], "{text:?}");
        let with_a = |more: &str| format!("{A},{more}");
        let with_both = |more: &str| format!("{A},{B},{more}");
        for text in [
            format!("{A},{B}"),
            format!("{A}\n{B}"),
            format!(" {A}, {B}"),
            with_a("server.2 = b:1:2:participant;3"),
            with_a("server.2:b:1:2:participant;3"),
            with_a("server.2 b:1:2:participant;3"),
            with_a("server.02=b:1:2:participant;3"),
            with_a("server.+2=b:1:2:participant;3"),
            with_a("server.2=b:1:2"),
            with_both(A),
            with_both("version=7"),
            with_both("version=-7"),
            with_both("#x"),
            with_both("group.1=1:2"),
            with_both("group.1=1:2,weight.9=1"),
        ] {
            taken(&text, &[1, 2]);
        }
        for text in [
            with_a("Server.2=b:1:2;3"),
            with_a("2=b:1:2;3"),
            with_a("x.y.2=b:1:2;3"),
            with_a("server.2=b:1:2;3="),
            with_a("server.2=b:1:2;3 "),
            with_a("server.2"),
            with_a("server.2=b:x:2;3"),
            with_a("server.2=b:1:2;x"),
            with_a("server.2=b:1:2:leader;3"),
            with_a("server.2=b:1:1;3"),
            with_a("server.2=b:1:2|c:1:2;3"),
            with_both("garbage"),
            with_both("garbage=1"),
            with_both("=x"),
            with_both("group.1=1"),
            with_both("group.1=1:2,group.2=2"),
            // Where the original overlooks the server.
            with_a("\\nserver.2=b:1:2;3"),
        ] {
            refused(&text, ErrorCode::BadArguments);
        }
        for text in [
            with_a("server.x=b:1:2;3"),
            with_a("server.=b:1:2;3"),
            with_a("server. 2=b:1:2;3"),
            with_a("server.2=b:1:65536;3"),
            with_a("server.2=b:1:2;65536"),
            with_both("version=zz"),
            with_both("group.1=x"),
            with_both("group.x=1:2"),
            with_both("groups=1:2"),
            with_both("group.1=1:2:9"),
            with_both("group.1=1:2,weight.1=x"),
            with_both("group.1=1:2,weight.x=1"),
            format!("{A},{B}").replace("participant", "observer"),
        ] {
            refused(&text, ErrorCode::MarshallingError);
        }
        assert_eq!(ids(&with_a(B_OBSERVES)), [Ok(vec![1, 2]), Err(ErrorCode::MarshallingError)]);
        // Too few without observers is told by whoever asks how many there must be.
        assert_eq!(ids(A), [Ok(vec![1]), Ok(vec![1])]);
        assert_eq!(ids("  "), [Err(ErrorCode::MarshallingError), Ok(vec![])]);
    }
}
