//! Who may come in by SASL, as configured.

use super::*;
use crate::auth::between_servers::{Login, Others, QuorumAuth};
use crate::auth::digest_md5::{self, CLIENT_PORT, QUORUM, Users};

const JAAS: &str =
    "Server {\n org.apache.zookeeper.server.auth.DigestLoginModule required\n user_super=\"a\" user_bob=\"b\";\n};\n";
const PROVIDER: &str = "authProvider.sasl=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\n";
const FILE: &str = "java.security.auth.login.config=/etc/jaas.conf\n";

fn secured(more: &str) -> Files {
    standalone(&format!("autopurge.purgeInterval=0\n{FILE}{PROVIDER}{more}")).with("/etc/jaas.conf", JAAS)
}

fn warnings(notices: &[Notice]) -> Vec<&str> {
    notices.iter().filter(|notice| notice.level == Level::Warn).map(|notice| notice.text.as_str()).collect()
}

fn users(pairs: &[(&str, &str)]) -> Option<std::sync::Arc<Users>> {
    let mut users = Users::of(CLIENT_PORT);
    for (user, password) in pairs {
        users.set_password(user, password);
    }
    Some(users.into())
}

#[test]
fn a_jaas_file_as_the_original_wants_it() {
    let more = "superUser=bob\nsuperUser.2=ann\nletAnySaslUserDoX=anybody\nallowSaslFailedClients=true\n\
                SASLAuthenticationProvider.superPassword=c\n";
    let (config, notices) = secured(more).load().unwrap();
    let expected = Sasl {
        is_registered: true,
        users: users(&[("super", "c"), ("bob", "b")]),
        kerberos: None,
        super_users: ["ann".to_owned(), "bob".to_owned()].into(),
        any_user: Some("anybody".to_owned()),
        allows_failed_clients: true,
    };
    assert_eq!(config.access.sasl, expected);
    assert_eq!(warnings(&notices), [""; 0]);
    let settings = config.replica_settings(0, 1).access;
    assert!(settings.sasl_enabled && settings.any_sasl_user.as_deref() == Some("anybody"));
    let (config, _) = secured("").load().unwrap();
    assert_eq!(config.access.sasl.users, users(&[("super", "a"), ("bob", "b")]));
    let shown = format!("{config:?}");
    assert!(shown.contains("bob") && !shown.contains("\"b\""), "{shown}");
}

#[test]
fn the_file_may_be_named_by_a_flag_and_the_section_by_a_key() {
    let flag = "-Djava.security.auth.login.config=file:/etc/jaas.conf -Dpassword=secret";
    let environment = environment(&[("SERVER_JVMFLAGS", flag)]);
    let jaas = "Zoo { org.apache.zookeeper.server.auth.DigestLoginModule required user_bob=\"${password}\"; };";
    let files = standalone(&format!("{PROVIDER}sasl.serverconfig=Zoo")).with("/etc/jaas.conf", jaas);
    let (config, _) = files.load_in(&environment).unwrap();
    assert_eq!(config.access.sasl.users, users(&[("bob", "secret")]));
}

#[test]
fn a_file_of_users_needs_nothing_of_java() {
    // printf %s bob:zk-sasl-md5:bobsecret | md5sum
    let file = "# users\nbob:fff08f480333e7694a6455b4a1d5b656\n";
    let (config, notices) =
        standalone("autopurge.purgeInterval=0\nsasl.users.file=/etc/users\n").with("/etc/users", file).load().unwrap();
    assert_eq!(config.access.sasl.users, users(&[("bob", "bobsecret")]));
    assert!(config.access.sasl.is_registered);
    assert_eq!(warnings(&notices), [""; 0]);
    let (config, _) = secured("sasl.users.file=/etc/users")
        .with("/etc/users", "joe:fff08f480333e7694a6455b4a1d5b656")
        .load()
        .unwrap();
    assert!(["super", "bob", "joe"].iter().all(|user| config.access.sasl.users.as_ref().unwrap().has(user)));
}

#[test]
fn what_leaves_nobody_able_to_come_in_is_said() {
    let warning = |files: Files| texts(&files.load().unwrap().1).join("\n");
    let other = standalone(FILE).with("/etc/jaas.conf", "Client { a.B required; };");
    assert!(warning(other).contains("/etc/jaas.conf has no section Server, so clients cannot come in by SASL"));
    let without_provider = standalone(FILE).with("/etc/jaas.conf", JAAS);
    assert!(warning(without_provider).contains("ACLs cannot name them"));
    let nobody = "Server { org.apache.zookeeper.server.auth.DigestLoginModule required; };";
    assert!(warning(secured("").with("/etc/jaas.conf", nobody)).contains("there is no user"));
    // Without a file, only the scheme is there, as in the original.
    let (config, _) = standalone(PROVIDER).load().unwrap();
    assert!(config.access.sasl.is_registered && config.access.sasl.users.is_none());
}

#[test]
fn every_client_may_have_to_come_in_by_sasl() {
    let schemes = |more: &str| secured(more).load().unwrap().0.access.enforced_schemes;
    let sasl = Some(BTreeSet::from(["sasl".to_owned()]));
    assert_eq!(
        schemes("sessionRequireClientSASLAuth=true\nenforce.auth.enabled=true\nenforce.auth.schemes=digest"),
        sasl
    );
    assert_eq!(schemes("enforce.auth.enabled=true\nenforce.auth.schemes=sasl"), sasl);
    assert!(secured("sessionRequireClientSASLAuth=true").load().unwrap().0.access.requires_sasl());
    assert_eq!(schemes("sessionRequireClientSASLAuth=false"), None);
    let refusal = |files: Files| files.load().unwrap_err().to_string();
    let text = refusal(standalone("sessionRequireClientSASLAuth=true"));
    assert!(
        text.contains("Authentication scheme sasl is not available.") && text.contains("sasl.users.file"),
        "{text}"
    );
    let text = refusal(standalone(&format!("{PROVIDER}enforce.auth.enabled=true\nenforce.auth.schemes=sasl")));
    assert!(text.contains("every client must come in by SASL, and no users of SASL are configured"), "{text}");
    standalone(&format!("{PROVIDER}enforce.auth.enabled=true\nenforce.auth.schemes=sasl,digest")).load().unwrap();
}

#[test]
fn what_cannot_be_used_is_refused_with_its_place() {
    let kerberos = "Server {\n com.sun.security.auth.module.Krb5LoginModule required keyTab=\"/k\";\n};";
    for (files, message) in [
        (
            standalone(FILE),
            "zoo.cfg:5: java.security.auth.login.config=/etc/jaas.conf: /etc/jaas.conf cannot be read: ",
        ),
        (secured("").with("/etc/jaas.conf", "Server {\n"), "/etc/jaas.conf:2: expected the class of a login module"),
        (
            secured("").with("/etc/jaas.conf", kerberos),
            "/etc/jaas.conf:2: section Server: keyTab without useKeyTab=true",
        ),
        (
            secured("").with("/etc/jaas.conf", "Server { a.B required; };"),
            "/etc/jaas.conf:1: section Server has the login module a.B",
        ),
        (secured("").with("/etc/jaas.conf", "\nServer { };"), "/etc/jaas.conf:2: section Server has no login module"),
        (
            secured("sasl.serverconfig=Zoo"),
            "sasl.serverconfig=Zoo: No JAAS configuration section named 'Zoo' was found in '/etc/jaas.conf'.",
        ),
        (standalone("sasl.serverconfig=Zoo"), "No JAAS configuration section named 'Zoo' was found."),
        (standalone("sasl.users.file=/etc/users"), "sasl.users.file=/etc/users: /etc/users cannot be read: "),
        (
            standalone("sasl.users.file=/etc/users").with("/etc/users", "\nbob:secret"),
            "/etc/users:2: behind the colon stand no 32 hexadecimal digits",
        ),
        (
            secured("sasl.users.file=/etc/users").with("/etc/users", "bob:fff08f480333e7694a6455b4a1d5b656"),
            "/etc/users:1: this user is already there",
        ),
    ] {
        let error = files.load().unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(!error.fault().remedy.is_empty());
    }
}

const QUORUM_JAAS: &str = "QuorumServer {\n org.apache.zookeeper.server.auth.DigestLoginModule required\n user_zkq=\"quorumpw\";\n};\n\
                           QuorumLearner {\n org.apache.zookeeper.server.auth.DigestLoginModule required\n username=\"zkq\"\n \
                           password=\"quorumpw\";\n};\n";

fn secured_member(more: &str) -> Files {
    member(&format!("autopurge.purgeInterval=0\n{FILE}quorum.auth.enableSasl=true\n{more}"))
        .with("/etc/jaas.conf", QUORUM_JAAS)
}

#[test]
fn members_prove_themselves_in_three_steps() {
    let mut users = Users::of(QUORUM);
    users.set_password("zkq", "quorumpw");
    let users = Some(Others::Passwords(users.into()));
    let login = Some(Login::Password(digest_md5::Login::new(QUORUM, "zkq", "quorumpw")));
    let auth = |files: Files| {
        let (config, notices) = files.load().unwrap();
        assert_eq!(warnings(&notices), [""; 0]);
        config.ensemble.unwrap().auth
    };
    let understands = QuorumAuth { login: None, users: users.clone(), is_required: false, canonicalizes: false };
    assert_eq!(auth(secured_member("")), understands);
    let proves = QuorumAuth { login: login.clone(), users: users.clone(), is_required: false, canonicalizes: false };
    assert_eq!(auth(secured_member("quorum.auth.learnerRequireSasl=true")), proves);
    let all = "quorum.auth.learnerRequireSasl=true\nquorum.auth.serverRequireSasl=true\nquorum.cnxn.threads.size=20\n";
    assert_eq!(auth(secured_member(all)), QuorumAuth { login, users, is_required: true, canonicalizes: false });
    assert_eq!(auth(member("autopurge.purgeInterval=0")), QuorumAuth::default());
    // A server without an ensemble has nobody to prove anything to.
    standalone("quorum.auth.enableSasl=true").load().unwrap();
}

#[test]
fn members_without_their_sections_do_not_start() {
    let missing = "SASL-authentication failed because the specified JAAS configuration section '";
    for (files, problem) in [
        (member("quorum.auth.enableSasl=true"), format!("{missing}QuorumLearner' could not be found.")),
        (secured_member("quorum.auth.server.saslLoginContext=Zoo"), format!("{missing}Zoo' could not be found.")),
        (
            secured_member("quorum.auth.learner.saslLoginContext=QuorumServer"),
            "/etc/jaas.conf:1: section QuorumServer has no username or no password".to_owned(),
        ),
    ] {
        let error = files.load().unwrap_err();
        assert!(error.to_string().contains(&problem), "{error}");
    }
    let nobody = secured_member("quorum.auth.server.saslLoginContext=QuorumLearner").load().unwrap().1;
    assert!(warnings(&nobody).concat().contains("no other server can authenticate here"), "{nobody:?}");
}

#[test]
fn an_unknown_provider_is_refused_by_its_name() {
    for class in ["com.example.Mine", "org.apache.zookeeper.server.auth.KeyAuthenticationProvider"] {
        let error = standalone(&format!("authProvider.7={class}")).load().unwrap_err().to_string();
        let expected = format!("zoo.cfg:5: authProvider.7={class}: the authentication provider {class} is not known");
        assert!(error.contains(&expected) && error.contains("SASLAuthenticationProvider"), "{error}");
    }
    for class in ["Digest", "IP", "SASL", "Ensemble"] {
        let class = format!("org.apache.zookeeper.server.auth.{class}AuthenticationProvider");
        standalone(&format!("authProvider.7={class}")).load().unwrap();
    }
}

#[test]
fn a_port_for_tls_that_asks_for_no_certificate_is_open_and_a_plain_port_beside_it_stays_what_it_is() {
    let lines = |more: &str| {
        let files = zoo_cfg(&format!("dataDir=/data\n{}{more}", tls::TLS));
        let lines = files.load().unwrap().0.exposure();
        let port = |line: &String| {
            line.split(" is open").next().and_then(|start| start.split("client port ").nth(1)).map(str::to_owned)
        };
        lines.iter().filter_map(port).collect::<Vec<_>>()
    };
    assert_eq!(lines(""), [""; 0], "a certificate is demanded");
    assert_eq!(lines("ssl.clientAuth=none"), ["2281 for TLS"]);
    assert_eq!(lines("ssl.clientAuth=want"), ["2281 for TLS"]);
    assert_eq!(lines("ssl.clientAuth=none\nsecureClientPortAddress=127.0.0.1"), [""; 0]);
    assert_eq!(lines("ssl.clientAuth=want\nenforce.auth.enabled=true\nenforce.auth.schemes=x509"), [""; 0]);
    assert_eq!(lines("clientPort=2181"), ["2181"], "certificates are demanded at the other port only");
    assert_eq!(lines("clientPort=2181\nclient.portUnification=true"), ["2181"], "it takes plain connections too");
    assert_eq!(lines("clientPort=2181\nssl.clientAuth=none"), ["2181", "2281 for TLS"]);
    assert_eq!(lines("clientPort=2181\nclientPortAddress=localhost\nssl.clientAuth=none"), ["2281 for TLS"]);
}

/// What is said of the ports at the start, by its first words.
fn exposed(files: Files) -> Vec<String> {
    let lines = files.load().unwrap().0.exposure();
    lines.iter().map(|line| line.split(" need not").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_server_that_anybody_reaches_says_so_unless_all_show_who_they_are() {
    let open = "clientPortAddress=0.0.0.0\n";
    assert_eq!(exposed(standalone("")), [""; 0]);
    assert_eq!(exposed(standalone(open)), ["clients"]);
    assert_eq!(exposed(standalone(&format!("{open}enforce.auth.enabled=true\nenforce.auth.schemes=ip"))), ["clients"]);
    assert_eq!(exposed(standalone(&format!("{open}enforce.auth.enabled=true\nenforce.auth.schemes=digest"))), [""; 0]);
    let metrics = "metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider\n";
    assert_eq!(exposed(standalone(metrics)), ["those who ask for metrics"]);
    assert_eq!(exposed(standalone(&format!("{open}{metrics}"))), ["clients", "those who ask for metrics"]);
    assert_eq!(exposed(standalone(&format!("{metrics}metricsProvider.httpHost=127.0.0.1"))), [""; 0]);
    assert_eq!(exposed(secured(&format!("{open}sessionRequireClientSASLAuth=true"))), [""; 0]);
    assert_eq!(exposed(member("")), [""; 0]);
    assert_eq!(exposed(member("quorumListenOnAllIPs=true")), ["servers"]);
    assert_eq!(exposed(member("server.1=10.0.0.1:33311:33321\nclientPortAddress=zoo1")), ["clients", "servers"]);
    let more = "server.1=10.0.0.1:33311:33321\nquorum.auth.learnerRequireSasl=true\n";
    assert_eq!(exposed(secured_member(more)), ["servers"]);
    assert_eq!(exposed(secured_member(&format!("{more}quorum.auth.serverRequireSasl=true"))), [""; 0]);
    let stores = "ssl.quorum.keyStore.location=/k.pem\nssl.quorum.trustStore.location=/t.pem\nsslQuorum=true\n";
    let more = "server.1=10.0.0.1:33311:33321\n";
    assert_eq!(exposed(member(&format!("{more}{stores}"))), [""; 0]);
    for more_open in ["portUnification=true", "ssl.quorum.clientAuth=want"] {
        assert_eq!(exposed(member(&format!("{more}{stores}{more_open}"))), ["servers"], "{more_open}");
    }
}
