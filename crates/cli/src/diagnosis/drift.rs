//! In what the configurations of members differ.

use std::collections::BTreeMap;

use super::answers::Conf;
use super::finding::{Finding, Grade};

/// What must be equal, because one member decides by its own value what all others must keep to.
const MUST_AGREE: &[&str] = &["tickTime", "initLimit", "syncLimit", "electionAlg"];
/// What clients see differently at another member.
const SHOULD_AGREE: &[&str] = &["minSessionTimeout", "maxSessionTimeout", "maxClientCnxns"];

/// How another member's configuration differs from this one's.
pub fn compare(own: &Conf, other: &Conf, id: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let keys = MUST_AGREE.iter().map(|key| (*key, Grade::Problem));
    for (key, grade) in keys.chain(SHOULD_AGREE.iter().map(|key| (*key, Grade::Warning))) {
        // Not every version tells each of them.
        let (Some(here), Some(there)) = (own.values.get(key), other.values.get(key)) else { continue };
        if here != there {
            let seen = format!("{key} is {here} here and {there} at server {id}");
            findings.push(Finding::new(grade, "drift", seen).remedy("Write the same value on every member."));
        }
    }
    if let (Some(here), Some(there)) = (&own.servers, &other.servers) {
        findings.extend(compare_servers(here, there, id));
    }
    findings
}

fn compare_servers(here: &BTreeMap<String, String>, there: &BTreeMap<String, String>, id: &str) -> Vec<Finding> {
    const REMEDY: &str = "Write the same server lines on every member. Where members are changed while the ensemble runs, the running \
                          ensemble is right: take the lines from dynamicConfigFile of a member that serves.";
    let mut keys: Vec<&String> = here.keys().chain(there.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let differing = keys.into_iter().filter_map(|key| {
        let seen = match (here.get(key), there.get(key)) {
            (Some(here), Some(there)) if here == there => return None,
            (Some(here), Some(there)) => format!("{key} is {here} here and {there} at server {id}"),
            (Some(_), None) => format!("{key} is a member here, and not at server {id}"),
            (None, _) => format!("{key} is a member at server {id}, and not here"),
        };
        Some(Finding::new(Grade::Problem, "drift", seen).remedy(REMEDY))
    });
    differing.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(tick: &str, most: &str, servers: &[&str]) -> Conf {
        let lines = servers.join("\n");
        Conf::parse(&format!("tickTime={tick}\nmaxClientCnxns={most}\nmembership: \n{lines}\nversion=0")).unwrap()
    }

    #[test]
    fn what_differs_is_named_with_both_values() {
        let own = conf("2000", "60", &["server.1=a:1:2:participant;0.0.0.0:2181", "server.2=b:1:2:participant"]);
        assert_eq!(compare(&own, &own, "2"), []);
        // Where clients connect is known of another member only where its line says so.
        let elsewhere = conf("2000", "60", &["server.1=a:1:2:participant", "server.2=b:1:2:participant;[::]:1"]);
        assert_eq!(compare(&own, &elsewhere, "2"), []);

        let other = conf("3000", "0", &["server.1=a:1:3:participant", "server.3=c:1:2:observer"]);
        let found = compare(&own, &other, "3");
        let texts: Vec<&str> = found.iter().map(|finding| finding.seen.as_str()).collect();
        assert_eq!(
            texts,
            [
                "tickTime is 2000 here and 3000 at server 3",
                "maxClientCnxns is 60 here and 0 at server 3",
                "server.1 is a:1:2:participant here and a:1:3:participant at server 3",
                "server.2 is a member here, and not at server 3",
                "server.3 is a member at server 3, and not here",
            ]
        );
        let grades: Vec<Grade> = found.iter().map(|finding| finding.grade).collect();
        assert_eq!(grades, [Grade::Problem, Grade::Warning, Grade::Problem, Grade::Problem, Grade::Problem]);
    }
}
