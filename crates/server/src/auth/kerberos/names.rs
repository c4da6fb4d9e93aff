//! From the name of a principal to the name of a user: the rules of `security.auth_to_local`, and what is added to their outcome.
//!
//! What always holds: a rule that could never be applied is refused when it is read, not when somebody comes; a name costs time in
//! proportion to its length, whatever the rules are, for the expressions cannot go back; a principal to which no rule applies keeps its
//! whole name.
//!
//! Counterparts in the original: `KerberosName`, `SaslServerCallbackHandler.handleAuthorizeCallback`.

use std::sync::LazyLock;

use regex::Regex;

/// A principal, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The part before the slash.
    pub service: String,
    /// The part behind it.
    pub host: Option<String>,
    /// The part behind the at sign.
    pub realm: Option<String>,
}

impl Principal {
    /// `service[/host]@REALM`, or a name without an at sign. None for more than that, and for names with escaped characters, of which one
    /// may look like another.
    pub fn parse(name: &str) -> Option<Principal> {
        if name.contains('\\') {
            return None;
        }
        let Some((principal, realm)) = name.split_once('@') else {
            return Some(Principal { service: name.to_owned(), host: None, realm: None });
        };
        let (service, host) = match principal.split_once('/') {
            Some((service, host)) => (service, Some(host.to_owned())),
            None => (principal, None),
        };
        let is_sound = !realm.contains(['/', '@']) && !host.as_ref().is_some_and(|host| host.contains('/'));
        is_sound.then(|| Principal { service: service.to_owned(), host, realm: Some(realm.to_owned()) })
    }
}

/// How users are named.
#[derive(Debug, Clone, Default)]
pub struct Naming {
    pub(crate) rules: Rules,
    /// Whether `/host` is left out.
    pub(crate) removes_host: bool,
    /// Whether `@REALM` is left out.
    pub(crate) removes_realm: bool,
}

impl Naming {
    /// The user that a principal is. None for a name that is no principal of one or two parts.
    pub(crate) fn user(&self, name: &str, default_realm: &str) -> Option<String> {
        let principal = Principal::parse(name)?;
        let Some(mut user) = self.rules.short_name(&principal, default_realm) else { return Some(name.to_owned()) };
        if let Some(host) = principal.host.filter(|_| !self.removes_host) {
            user = format!("{user}/{host}");
        }
        if let Some(realm) = principal.realm.filter(|_| !self.removes_realm) {
            user = format!("{user}@{realm}");
        }
        Some(user)
    }
}

/// The rules, in the order in which they are tried.
#[derive(Debug, Clone)]
pub struct Rules(Vec<Rule>);

#[derive(Debug, Clone)]
enum Rule {
    /// A principal of the default realm is called by its first part.
    Default,
    Written(Written),
}

#[derive(Debug, Clone)]
struct Written {
    /// How many parts before the at sign a principal has that this rule is for.
    parts: usize,
    format: Vec<Piece>,
    /// What the formatted name must be as a whole.
    wanted: Option<Regex>,
    substitution: Option<Substitution>,
    to_lower_case: bool,
}

#[derive(Debug, Clone)]
struct Substitution {
    from: Regex,
    to: Vec<Piece>,
    everywhere: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// 0 for the realm, or the whole match; 1 and on for the parts, or the groups.
    Number(usize),
}

/// Why a text is no list of rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MalformedRules(String);

impl Default for Rules {
    fn default() -> Rules {
        Rules(vec![Rule::Default])
    }
}

impl PartialEq for Naming {
    fn eq(&self, other: &Naming) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

impl Eq for Naming {}

/// The groups of one rule, as the original has them: DEFAULT, parts, format, expression, from, to, g.
static RULE: LazyLock<Regex> = LazyLock::new(|| {
    let text = r"\A\s*(?:(DEFAULT)|RULE:\[(\d*):([^\]]*)\](?:\(([^)]*)\))?(?:s/([^/]*)/([^/]*)/(g)?)?(/L)?)";
    Regex::new(text).unwrap_or_else(|error| unreachable!("the expression is a constant: {error}"))
});

impl Rules {
    /// `RULE:[n:format](expression)s/from/to/g` and `DEFAULT`, one behind the other.
    pub(crate) fn parse(text: &str) -> Result<Rules, MalformedRules> {
        let mut rules = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let found = RULE.captures(rest).ok_or_else(|| malformed(rest, "this is no rule"))?;
            let whole = found.get(0).map_or("", |found| found.as_str());
            rest = &rest[whole.len()..];
            let group = |number: usize| found.get(number).map(|found| found.as_str());
            if group(1).is_some() {
                rules.push(Rule::Default);
                continue;
            }
            let parts: usize = group(2)
                .and_then(|number| number.parse().ok())
                .ok_or_else(|| malformed(whole, "there is no number of parts behind the ["))?;
            let format = pieces(group(3).unwrap_or_default(), false).map_err(|why| malformed(whole, why))?;
            let beyond = |piece: &Piece| matches!(piece, Piece::Number(number) if *number > parts);
            if format.iter().any(beyond) {
                return Err(malformed(whole, "its format names a part that such a principal does not have"));
            }
            let wanted = group(4).map(|wanted| expression(&format!("\\A(?:{wanted})\\z"), whole)).transpose()?;
            let substitution = match (group(5), group(6)) {
                (Some(from), Some(to)) => {
                    let from = expression(from, whole)?;
                    let to = pieces(to, true).map_err(|why| malformed(whole, why))?;
                    let beyond =
                        |piece: &Piece| matches!(piece, Piece::Number(number) if *number >= from.captures_len());
                    if to.iter().any(beyond) {
                        return Err(malformed(
                            whole,
                            "its replacement names a group that its expression does not have",
                        ));
                    }
                    Some(Substitution { from, to, everywhere: group(7).is_some() })
                }
                _ => None,
            };
            let to_lower_case = group(8).is_some();
            rules.push(Rule::Written(Written { parts, format, wanted, substitution, to_lower_case }));
        }
        Ok(Rules(rules))
    }

    /// None where no rule applies, or the one that does gives a name with a slash or an at sign.
    fn short_name(&self, principal: &Principal, default_realm: &str) -> Option<String> {
        let Principal { service, host, realm } = principal;
        let Some(realm) = realm else { return Some(service.clone()) };
        let parts: Vec<&str> = [realm.as_str(), service].into_iter().chain(host.as_deref()).collect();
        let result = self.0.iter().find_map(|rule| match rule {
            Rule::Default => (!default_realm.is_empty() && realm == default_realm).then(|| service.clone()),
            Rule::Written(rule) => rule.apply(&parts),
        });
        result.filter(|name| !name.contains(['/', '@']))
    }
}

impl Written {
    fn apply(&self, parts: &[&str]) -> Option<String> {
        if parts.len() != self.parts + 1 {
            return None;
        }
        let mut base = String::new();
        for piece in &self.format {
            match piece {
                Piece::Text(text) => base.push_str(text),
                Piece::Number(number) => base.push_str(parts.get(*number)?),
            }
        }
        if self.wanted.as_ref().is_some_and(|wanted| !wanted.is_match(&base)) {
            return None;
        }
        let result = match &self.substitution {
            Some(Substitution { from, to, everywhere }) => {
                let replacement = |found: &regex::Captures<'_>| -> String {
                    let of = |piece: &Piece| match piece {
                        Piece::Text(text) => text.clone(),
                        Piece::Number(number) => {
                            found.get(*number).map_or_else(String::new, |group| group.as_str().to_owned())
                        }
                    };
                    to.iter().map(of).collect()
                };
                from.replacen(&base, if *everywhere { 0 } else { 1 }, replacement).into_owned()
            }
            None => base,
        };
        Some(if self.to_lower_case { result.to_lowercase() } else { result })
    }
}

/// Texts and `$n`. In a replacement a backslash takes away the meaning of the character behind it, as in Java.
fn pieces(text: &str, is_replacement: bool) -> Result<Vec<Piece>, &'static str> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '$' => {
                let mut number = String::new();
                while let Some(digit) = characters.next_if(char::is_ascii_digit) {
                    number.push(digit);
                }
                let number = number.parse().map_err(|_| "a $ is not followed by a number")?;
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Number(number));
            }
            '\\' if is_replacement => plain.push(characters.next().ok_or("a \\ is followed by nothing")?),
            character => plain.push(character),
        }
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

fn expression(text: &str, rule: &str) -> Result<Regex, MalformedRules> {
    Regex::new(text).map_err(|error| {
        let why = error.to_string();
        let last = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        malformed(rule, &format!("its regular expression cannot be used: {last}"))
    })
}

fn malformed(rule: &str, why: &str) -> MalformedRules {
    MalformedRules(format!("{}: {why}", rule.trim().chars().take(80).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REALM: &str = "EXAMPLE.COM";

    fn naming(rules: &str) -> Naming {
        Naming { rules: Rules::parse(rules).unwrap(), removes_host: true, removes_realm: true }
    }

    fn user(rules: &str, name: &str) -> String {
        naming(rules).user(name, REALM).unwrap()
    }

    #[test]
    fn principals_are_taken_apart() {
        let parsed = |name: &str| Principal::parse(name).map(|name| (name.service, name.host, name.realm));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parsed("bob@R"), Some(("bob".to_owned(), None, some("R"))));
        assert_eq!(parsed("zk/h.x@R"), Some(("zk".to_owned(), some("h.x"), some("R"))));
        assert_eq!(parsed("bob"), Some(("bob".to_owned(), None, None)));
        assert_eq!(parsed("a/b"), Some(("a/b".to_owned(), None, None)));
        for wrong in ["a/b/c@R", "a@b@R", "a@b/c", "x\\/zk1@R", "a\\@b@R"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn without_rules_a_user_has_the_whole_name_less_what_is_to_be_left_out() {
        let user = |removes_host, removes_realm, name: &str| {
            Naming { rules: Rules::default(), removes_host, removes_realm }.user(name, REALM).unwrap()
        };
        assert_eq!(user(false, false, "bob@EXAMPLE.COM"), "bob@EXAMPLE.COM");
        assert_eq!(user(false, true, "bob@EXAMPLE.COM"), "bob");
        assert_eq!(user(false, false, "zk/h@EXAMPLE.COM"), "zk/h@EXAMPLE.COM");
        assert_eq!(user(true, false, "zk/h@EXAMPLE.COM"), "zk@EXAMPLE.COM");
        assert_eq!(user(false, true, "zk/h@EXAMPLE.COM"), "zk/h");
        assert_eq!(user(true, true, "zk/h@EXAMPLE.COM"), "zk");
    }

    /// Nobody gets the name of a user of this realm by being of another one.
    #[test]
    fn a_principal_to_which_no_rule_applies_keeps_its_whole_name() {
        assert_eq!(user("DEFAULT", "bob@OTHER"), "bob@OTHER");
        assert_eq!(user("RULE:[1:$1](nobody)", "bob@EXAMPLE.COM"), "bob@EXAMPLE.COM");
        assert_eq!(user("RULE:[1:$1@$0] DEFAULT", "bob@EXAMPLE.COM"), "bob@EXAMPLE.COM", "a name that is not simple");
        assert_eq!(naming("DEFAULT").user("bob@EXAMPLE.COM", ""), Some("bob@EXAMPLE.COM".to_owned()));
        assert_eq!(naming("DEFAULT").user("a/b/c@EXAMPLE.COM", REALM), None);
    }

    /// The examples in the documentation of MIT and Hadoop, from which the original has its rules.
    #[test]
    fn rules_as_documented() {
        let rules = "RULE:[1:$1@$0](.*@YAHOO\\.COM)s/@.*//\nRULE:[2:$1](johndoe)s/^.*$/guest/\nRULE:[2:$1;$2](^.*;admin$)s/;admin$//\n\
                     RULE:[2:$2](root)\nDEFAULT";
        assert_eq!(user(rules, "omalley@EXAMPLE.COM"), "omalley");
        assert_eq!(user(rules, "hdfs/10.0.0.1@EXAMPLE.COM"), "hdfs");
        assert_eq!(user(rules, "oom@YAHOO.COM"), "oom");
        assert_eq!(user(rules, "johndoe/zoo@FOO.COM"), "guest");
        assert_eq!(user(rules, "joe/admin@FOO.COM"), "joe");
        assert_eq!(user(rules, "joe/root@FOO.COM"), "root");
        assert_eq!(user("RULE:[1:$1@$0](.*@FOO.COM)s/.*/clientprinc1/DEFAULT", "client1@FOO.COM"), "clientprinc1");
        assert_eq!(user("RULE:[2:$1@$0](nn@.*)s/.*/hdfs/", "nn/h@FOO.COM"), "hdfs");
    }

    #[test]
    fn substitutions() {
        assert_eq!(user("RULE:[1:$1]s/a/x/", "banana@R"), "bxnana");
        assert_eq!(user("RULE:[1:$1]s/a/x/g", "banana@R"), "bxnxnx");
        assert_eq!(user("RULE:[1:$1]s/(b)(a)/$2$1/", "banana@R"), "abnana");
        assert_eq!(user("RULE:[1:$1]s/b/\\$1/", "banana@R"), "$1anana");
        assert_eq!(user("RULE:[1:$1](ban)DEFAULT", "banana@EXAMPLE.COM"), "banana", "the whole name must match");
        assert_eq!(user("RULE:[1:$1]/L", "BoB@R"), "bob");
        assert_eq!(user("RULE:[1:$1]s/X/Y/g/L", "XBX@R"), "yby");
        assert_eq!(user("RULE:[1:x-$1-$0]", "bob@R"), "x-bob-R");
    }

    #[test]
    fn what_could_never_be_applied_is_refused() {
        for (rules, why) in [
            ("bob", "bob: this is no rule"),
            ("DEFAULT RULE:[1:$1", "RULE:[1:$1: this is no rule"),
            ("RULE:[:$1]", "there is no number of parts"),
            ("RULE:[1:$2]", "its format names a part that such a principal does not have"),
            ("RULE:[1:$]", "a $ is not followed by a number"),
            ("RULE:[1:$1](a", "(a: this is no rule"),
            ("RULE:[1:$1]([)", "its regular expression cannot be used"),
            ("RULE:[1:$1](?=a)", "its regular expression cannot be used"),
            ("RULE:[1:$1]((?=a)b)", "its regular expression cannot be used"),
            ("RULE:[1:$1](\\1)", "its regular expression cannot be used: backreferences are not supported"),
            ("RULE:[1:$1]s/a/$1/", "its replacement names a group that its expression does not have"),
            ("RULE:[1:$1]s/a/b", "s/a/b: this is no rule"),
        ] {
            let error = Rules::parse(rules).map(|_| rules).unwrap_err().to_string();
            assert!(error.contains(why), "{rules}: {error}");
        }
        assert!(Rules::parse("").unwrap().0.is_empty());
    }

    /// An expression that takes others time without end.
    #[test]
    fn no_name_takes_long() {
        let name = format!("{}!@R", "a".repeat(60_000));
        assert_eq!(user("RULE:[1:$1](a*a*a*a*a*a*a*a*b)", &name), name);
    }
}
