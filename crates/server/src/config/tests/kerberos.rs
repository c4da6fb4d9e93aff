//! Logins by Kerberos, as configured.

use super::*;
use crate::auth::between_servers::{Login as Proof, Members, Others, QuorumAuth};
use crate::auth::kerberos::{Keys, Login};

const FILE: &str = "autopurge.purgeInterval=0\njava.security.auth.login.config=/etc/jaas.conf\n\
                    authProvider.sasl=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\n";

fn section(name: &str, options: &str) -> String {
    format!("{name} {{\n com.sun.security.auth.module.Krb5LoginModule required {options};\n}};\n")
}

const SERVER: &str =
    "useKeyTab=true keyTab=\"/etc/zk.keytab\" storeKey=true useTicketCache=false principal=\"zookeeper/zoo1@R\"";
const QUORUM: &str = "useKeyTab=true keyTab=\"FILE:/etc/zk.keytab\" storeKey=true principal=\"zkquorum/zoo1@R\"";

/// A section for clients and both for other servers.
pub(super) fn jaas() -> String {
    [section("Server", SERVER), section("QuorumServer", QUORUM), section("QuorumLearner", QUORUM)].concat()
}

fn login(principal: &str) -> Login {
    Login { principal: Some(principal.to_owned()), keys: Keys::Keytab(PathBuf::from("/etc/zk.keytab")) }
}

fn with_section(options: &str, more: &str) -> Files {
    standalone(&format!("{FILE}{more}")).with("/etc/jaas.conf", &section("Server", options))
}

#[test]
fn clients_come_in_by_a_keytab() {
    let (config, notices) = with_section(SERVER, "").load().unwrap();
    assert!(notices.iter().all(|notice| notice.level != Level::Warn), "{notices:?}");
    let kerberos = config.access.sasl.kerberos.clone().unwrap();
    assert_eq!(kerberos.login, login("zookeeper/zoo1@R"));
    assert_eq!(kerberos.naming.user("bob@R", "R"), Some("bob@R".to_owned()));
    assert!(config.access.sasl.users.is_none());
    let more = "kerberos.removeRealmFromPrincipal=true\nkerberos.removeHostFromPrincipal=true\n\
                security.auth_to_local=RULE:[2:$1]s/zk/z/\nsessionRequireClientSASLAuth=true\n";
    let (config, _) = with_section(SERVER, more).load().unwrap();
    let naming = config.access.sasl.kerberos.as_ref().unwrap().naming.clone();
    assert_eq!(naming.user("zk/zoo1@R", "R"), Some("z".to_owned()));
    assert!(config.access.requires_sasl());
}

#[test]
fn passwords_beside_it_do_not_count_and_that_is_said() {
    let digest = "org.apache.zookeeper.server.auth.DigestLoginModule required user_bob=\"b\";\n}";
    let text = section("Server", SERVER).replace('}', digest);
    let (config, notices) = standalone(FILE).with("/etc/jaas.conf", &text).load().unwrap();
    assert!(config.access.sasl.users.is_none() && config.access.sasl.kerberos.is_some());
    assert!(texts(&notices).concat().contains("logs in by Kerberos, so its module"), "{notices:?}");
}

#[test]
fn options_that_contradict_each_other_are_refused_by_name() {
    for (from, to, problem) in [
        ("useKeyTab=true", "useKeyTab=maybe", "useKeyTab=maybe is neither true nor false"),
        ("useKeyTab=true ", "", "keyTab without useKeyTab=true"),
        ("keyTab=\"/etc/zk.keytab\" ", "", "useKeyTab=true without keyTab"),
        ("useTicketCache=false", "ticketCache=\"/tmp/x\"", "ticketCache without useTicketCache=true"),
        ("useTicketCache=false", "renewTGT=true", "renewTGT without useTicketCache=true"),
        ("useTicketCache=false", "tryFirstPass=true", "useFirstPass and tryFirstPass take a password"),
        ("useTicketCache=false", "useKeytab=\"x\"", "there is no option useKeytab"),
        ("principal=\"zookeeper/zoo1@R\"", "", "there is no principal"),
        ("zookeeper/zoo1@R", "zookeeper@R", "zookeeper@R is the principal of no service at a host"),
        ("zookeeper/zoo1@R", "*", "\"*\" is no principal"),
        (
            "useKeyTab=true keyTab=\"/etc/zk.keytab\" storeKey=true useTicketCache=false",
            "useTicketCache=true",
            "there is no keytab",
        ),
        ("useKeyTab=true keyTab=\"/etc/zk.keytab\"", "", "storeKey without useKeyTab=true"),
    ] {
        assert!(SERVER.contains(from), "{from}");
        let error = with_section(&SERVER.replacen(from, to, 1), "").load().unwrap_err();
        assert!(error.to_string().contains(&format!("/etc/jaas.conf:2: section Server: {problem}")), "{error}");
        assert!(!error.fault().remedy.is_empty());
    }
    let error = with_section(SERVER, "security.auth_to_local=RULE:[1:$2]").load().unwrap_err().to_string();
    assert!(error.contains("security.auth_to_local") && error.contains("names a part"), "{error}");
}

#[test]
fn what_java_reads_for_kerberos_and_the_library_does_not_is_refused() {
    for (more, remedy) in [
        ("java.security.krb5.conf=/etc/other.conf\n", "KRB5_CONFIG"),
        ("java.security.krb5.kdc=zoo1\n", "kdc="),
        ("java.security.krb5.realm=R\n", "default_realm"),
    ] {
        let error = with_section(SERVER, more).load().unwrap_err();
        assert!(error.fault().remedy.contains(remedy), "{error}");
        standalone(more).load().unwrap();
    }
    with_section(SERVER, "java.security.krb5.conf=/etc/krb5.conf\n").load().unwrap();
    let variable = environment(&[("KRB5_CONFIG", "/etc/other.conf")]);
    with_section(SERVER, "java.security.krb5.conf=/etc/other.conf\n").load_in(&variable).unwrap();
}

fn secured_member(more: &str, jaas: &str) -> Files {
    member(&format!("{FILE}quorum.auth.enableSasl=true\nquorum.auth.learnerRequireSasl=true\n{more}"))
        .with("/etc/jaas.conf", jaas)
}

#[test]
fn members_come_in_by_tickets() {
    let auth = |files: Files| files.load().unwrap().0.ensemble.unwrap().auth;
    let expected = |service: &str, realm: Option<&str>| QuorumAuth {
        login: Some(Proof::Ticket {
            login: login("zkquorum/zoo1@R"),
            service: service.to_owned(),
            realm: realm.map(str::to_owned),
        }),
        users: Some(Others::Tickets {
            login: login("zkquorum/zoo1@R"),
            members: Members {
                hosts: BTreeSet::from(["127.0.0.1".to_owned()]),
                mine: Some("zkquorum/zoo1@R".to_owned()),
            },
        }),
        is_required: false,
        canonicalizes: false,
    };
    assert_eq!(auth(secured_member("", &jaas())), expected("zkquorum/localhost", None));
    let more = "quorum.auth.kerberos.servicePrincipal=zkquorum/_HOST\nserver.realm=S\n";
    assert_eq!(auth(secured_member(more, &jaas())), expected("zkquorum/_HOST", Some("S")));
    let (config, notices) = secured_member("kerberos.canonicalizeHostNames=true\n", &jaas()).load().unwrap();
    assert!(config.ensemble.unwrap().auth.canonicalizes);
    assert!(!notices.iter().any(|notice| notice.text.contains("canonicalize")), "{notices:?}");
    let cache = section("QuorumLearner", "useTicketCache=true ticketCache=\"/tmp/tickets\"");
    let text = jaas().replace(&section("QuorumLearner", QUORUM), &cache);
    let Some(Proof::Ticket { login, .. }) = auth(secured_member("", &text)).login else { panic!() };
    assert_eq!(login, Login { principal: None, keys: Keys::Cache(Some(PathBuf::from("/tmp/tickets"))) });
}

#[test]
fn a_learner_must_be_able_to_log_in() {
    let problem = |options: &str| {
        let text = jaas().replace(&section("QuorumLearner", QUORUM), &section("QuorumLearner", options));
        secured_member("", &text).load().unwrap_err().to_string()
    };
    assert!(problem("").contains("there is neither a keytab nor a ticket cache to log in by"));
    assert!(
        problem(&format!("{QUORUM} isInitiator=false")).contains("isInitiator=false, but it is to log in elsewhere")
    );
    assert!(problem("useKeyTab=true keyTab=\"/k\"").contains("there is no principal"));
    let error = secured_member("quorum.auth.kerberos.servicePrincipal=zkquorum\n", &jaas()).load().unwrap_err();
    assert!(error.to_string().contains("it is the principal of no service at a host"), "{error}");
}
