//! What an operator can say about TLS.

use std::time::Duration;

use super::*;
use crate::config::tls::{ClientAuth, ClientTls, QuorumTls, Store, Tls};
use crate::net::tls::{Protocol, StoreType};

/// What is said of TLS.
fn said(notices: &[Notice]) -> Vec<&str> {
    texts(notices).into_iter().filter(|text| !text.contains("autopurge")).collect()
}

/// The least that a port with TLS needs.
pub(super) const TLS: &str =
    "secureClientPort=2281\nssl.keyStore.location=/tls/key.p12\nssl.trustStore.location=/tls/trust.jks\n";

fn client_tls(more: &str) -> Result<(ClientTls, Vec<Notice>), ConfigError> {
    let (config, notices) = standalone(&format!("{TLS}{more}")).load()?;
    Ok((config.client_tls.expect("TLS is on"), notices))
}

fn refused(more: &str) -> ConfigError {
    client_tls(more).unwrap_err()
}

#[test]
fn with_the_least_of_settings_the_rest_is_as_in_the_original_but_for_versions_and_reload() {
    let (found, notices) =
        client_tls("ssl.keyStore.password=secret\nssl.trustStore.passwordPath=/tls/password").unwrap();
    let key_store = Store { password: Some("secret".to_owned()), ..Store::of("/tls/key.p12", StoreType::Java) };
    let trust_store =
        Store { password_path: Some(PathBuf::from("/tls/password")), ..Store::of("/tls/trust.jks", StoreType::Java) };
    let expected = ClientTls {
        tls: Tls {
            key_store,
            trust_store: Some(trust_store),
            client_auth: ClientAuth::Need,
            protocols: vec![Protocol::Tls13, Protocol::Tls12],
            suites: Vec::new(),
            verifies_servers: true,
            verifies_clients: false,
            looks_up_names: false,
            checks_revocation: false,
            revocation_lists: None,
            detection_limit: Duration::from_secs(5),
            reloads: true,
            resumes: true,
            prefix: "ssl.",
        },
        port: Some(2281),
        host: None,
        unified: false,
        handshake_limit: None,
        drops_early: false,
    };
    assert_eq!(found, expected);
    assert_eq!(said(&notices), Vec::<&str>::new());
    assert!(!format!("{found:?}").contains("secret"));
}

#[test]
fn everything_can_be_set_in_both_ways() {
    let file = "secureClientPortAddress=127.0.0.1\nssl.keyStore.location=/k\nssl.keyStore.type=pem\nssl.clientAuth=WANT\n\
                ssl.enabledProtocols=TLSv1.2\nssl.clientHostnameVerification=true\nssl.allowReverseDnsLookup=true\nssl.crl=true\n\
                ssl.crl.location=/c\nssl.handshakeDetectionTimeoutMillis=100\nclient.certReload=false\n\
                netty.server.outstandingHandshake.limit=7\nnetty.server.earlyDropSecureConnectionHandshakes=true";
    let flags: Vec<String> = file
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| format!("-Dzookeeper.{key}={value}"))
        .collect();
    let (by_file, _) = standalone(&format!("{TLS}{file}")).load().unwrap();
    let flags = environment(&[("SERVER_JVMFLAGS", &flags.join(" "))]);
    let without = TLS.replace("ssl.keyStore.location=/tls/key.p12\n", "");
    let (by_flags, _) = standalone(&without).load_in(&flags).unwrap();
    assert_eq!(by_file.client_tls, by_flags.client_tls);
    let found = by_file.client_tls.unwrap();
    assert_eq!((found.host.as_deref(), found.handshake_limit, found.drops_early), (Some("127.0.0.1"), Some(7), true));
    let tls = found.tls;
    assert_eq!(
        (tls.key_store.kind, tls.client_auth, tls.protocols),
        (StoreType::Pem, ClientAuth::Want, vec![Protocol::Tls12])
    );
    assert!(tls.verifies_clients && tls.looks_up_names && tls.checks_revocation && !tls.reloads);
    assert_eq!((tls.revocation_lists, tls.detection_limit), (Some(PathBuf::from("/c")), Duration::from_millis(100)));
}

#[test]
fn what_there_is_not_is_refused_by_its_key() {
    for (more, setting) in [
        ("ssl.keyStore.location=/tls/key.bcfks", "ssl.keyStore.location=/tls/key.bcfks"),
        ("ssl.trustStore.type=BCFKS", "ssl.trustStore.type=BCFKS"),
        ("ssl.context.supplier.class=a.B", "ssl.context.supplier.class=a.B"),
        ("ssl.ocsp=true", "ssl.ocsp=true"),
        ("ssl.authProvider=mine", "ssl.authProvider=mine"),
    ] {
        let error = refused(more);
        assert!(matches!(error, ConfigError::Unsupported(_)), "{error}");
        assert_eq!(error.fault().setting.as_deref(), Some(setting));
    }
    for more in ["ssl.ocsp=false", "ssl.context.supplier.class=", "ssl.authProvider=x509"] {
        client_tls(more).unwrap();
    }
}

#[test]
fn what_is_wrong_is_refused_by_its_key() {
    for (more, setting) in [
        ("ssl.keyStore.location=/tls/key.txt", "ssl.keyStore.location=/tls/key.txt"),
        ("ssl.keyStore.type=P12", "ssl.keyStore.type=P12"),
        ("ssl.clientAuth=maybe", "ssl.clientAuth=maybe"),
        ("ssl.enabledProtocols=TLSv1,SSLv3", "ssl.enabledProtocols=TLSv1,SSLv3"),
        ("ssl.ciphersuites=TLS_RSA_WITH_AES_128_CBC_SHA", "ssl.ciphersuites=TLS_RSA_WITH_AES_128_CBC_SHA"),
        (
            "ssl.enabledProtocols=TLSv1.2\nssl.ciphersuites=TLS_AES_128_GCM_SHA256",
            "ssl.ciphersuites=TLS_AES_128_GCM_SHA256",
        ),
        // Without a key, or with nobody to trust.
        ("ssl.keyStore.location=", "secureClientPort=2281"),
        ("ssl.trustStore.location=", "secureClientPort=2281"),
    ] {
        let error = refused(more);
        assert!(matches!(error, ConfigError::Invalid(_)), "{error}");
        assert_eq!(error.fault().setting.as_deref(), Some(setting));
    }
    assert!(client_tls("ssl.trustStore.location=\nssl.clientAuth=none").is_ok());
}

#[test]
fn what_is_left_out_is_told() {
    let (found, notices) = client_tls(
        "ssl.ciphersuites=TLS_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA\nssl.enabledProtocols=TLSv1.3,TLSv1.1",
    )
    .unwrap();
    assert_eq!(found.tls.suites, ["TLS_AES_128_GCM_SHA256"]);
    assert_eq!(found.tls.protocols, [Protocol::Tls13]);
    assert_eq!(
        said(&notices),
        [
            "zoo.cfg:9: ssl.enabledProtocols: not supported and left out: TLSv1.1",
            "zoo.cfg:8: ssl.ciphersuites: not supported and left out: TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"
        ]
    );
}

#[test]
fn one_protocol_alone_can_be_set() {
    for (more, protocols) in [
        ("ssl.protocol=TLSv1.2", vec![Protocol::Tls12]),
        ("ssl.protocol=TLSv1.3", vec![Protocol::Tls13]),
        ("ssl.protocol=TLS", vec![Protocol::Tls13, Protocol::Tls12]),
        ("ssl.protocol=TLSv1.2\nssl.enabledProtocols=TLSv1.3", vec![Protocol::Tls13]),
    ] {
        assert_eq!(client_tls(more).unwrap().0.tls.protocols, protocols, "{more}");
    }
}

#[test]
fn a_server_may_have_no_plain_port() {
    let (config, notices) = zoo_cfg(&format!("dataDir=/data\n{TLS}")).load().unwrap();
    assert_eq!((config.client.port, config.client_tls.unwrap().port), (None, Some(2281)));
    assert_eq!(said(&notices), Vec::<&str>::new());
}

#[test]
fn the_plain_port_takes_both_where_the_factory_or_a_key_store_says_so() {
    let keys = "ssl.keyStore.location=/tls/key.p12\nssl.trustStore.location=/tls/trust.jks\n";
    let config = |more: &str| standalone(more).load().map(|(config, _)| config.client_tls);
    let unified = config(&format!("client.portUnification=true\n{keys}")).unwrap().unwrap();
    assert!(unified.unified && unified.port.is_none());
    assert_eq!(
        config("client.portUnification=true").unwrap(),
        None,
        "the original's other factory does not look at it"
    );
    assert_eq!(config(keys).unwrap(), None);
    let error =
        config("client.portUnification=true\nserverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory");
    assert!(error.unwrap_err().fault().problem.starts_with("Keystore is required"));
}

/// The least that members with TLS need.
pub(super) const QUORUM_TLS: &str =
    "ssl.quorum.keyStore.location=/tls/key.pem\nssl.quorum.trustStore.location=/tls/trust.pem\n";

fn quorum_tls(more: &str) -> Option<QuorumTls> {
    member(&format!("{QUORUM_TLS}{more}")).load().unwrap().0.quorum_tls
}

#[test]
fn members_speak_tls_by_the_two_keys_of_the_three_rounds() {
    assert_eq!(quorum_tls(""), None);
    for (keys, dials, takes_plain) in [
        ("portUnification=true", false, true),
        ("portUnification=true\nsslQuorum=true", true, true),
        ("sslQuorum=true", true, false),
    ] {
        let found = quorum_tls(keys).unwrap();
        assert_eq!((found.dials, found.takes_plain), (dials, takes_plain), "{keys}");
    }
    let found = quorum_tls("sslQuorum=true").unwrap().tls;
    assert!(found.verifies_servers && found.verifies_clients && found.looks_up_names, "as the original documents");
    assert_eq!((found.client_auth, found.detection_limit), (ClientAuth::Need, Duration::from_secs(5)));
    assert!(found.reloads && !found.resumes);
    let other = "sslQuorum=true\nssl.quorum.hostnameVerification=false\nssl.quorum.handshakeDetectionTimeoutMillis=100\n\
                 ssl.quorum.crl=true\nsslQuorumReloadCertFiles=false\nssl.hostnameVerification=true";
    let found = quorum_tls(other).unwrap().tls;
    assert!(!found.verifies_servers && !found.verifies_clients && found.checks_revocation && !found.reloads);
    assert_eq!(found.detection_limit, Duration::from_millis(100));
    // Who is alone has nobody to speak with.
    assert_eq!(standalone(&format!("{QUORUM_TLS}sslQuorum=true")).load().unwrap().0.quorum_tls, None);
}

#[test]
fn members_need_both_stores_whatever_is_asked_of_those_who_connect() {
    for (lines, key) in [
        ("sslQuorum=true", "ssl.quorum.keyStore.location"),
        ("portUnification=true", "ssl.quorum.keyStore.location"),
        ("sslQuorum=true\nssl.quorum.keyStore.location=/k.pem", "ssl.quorum.trustStore.location"),
        (
            "sslQuorum=true\nssl.quorum.clientAuth=none\nssl.quorum.keyStore.location=/k.pem",
            "ssl.quorum.trustStore.location",
        ),
    ] {
        let error = member(lines).load().unwrap_err().to_string();
        assert!(error.contains(key), "{lines}: {error}");
    }
    for lines in ["ssl.quorum.ocsp=true", "ssl.quorum.context.supplier.class=com.example.Mine"] {
        let error = member(&format!("{QUORUM_TLS}sslQuorum=true\n{lines}")).load().unwrap_err();
        assert!(matches!(error, ConfigError::Unsupported(_)), "{lines}: {error}");
    }
}
