//! Handshakes on loopback, with the certificates of `tests/fixtures/tls`, of both sides: who is refused, why, and for how long a connection is held.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::context::TlsContext;
use super::failure::{Failure, Kind, Wording};
use super::handshake::{self, Peer};
use super::strangers::of_member;
use super::{Protocol, StoreType};
use crate::config::{ClientAuth, Store, Tls};

const LIMIT: Duration = Duration::from_secs(30);

const WORDING: Wording = Wording { prefix: "ssl.quorum.", own: "this server", peer: "other server", demand: None };

fn file(name: &str) -> PathBuf {
    format!("{}/../../tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR")).into()
}

fn store(name: &str) -> Store {
    Store::of(file(name), StoreType::Pem)
}

/// As members have it where nothing else is configured, with this key.
fn tls(key: &str) -> Tls {
    of_member(&file(key), &file("authority.pem"))
}

/// Both ends of a connection on loopback.
async fn connection() -> (TcpStream, TcpStream, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (dialled, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (accepted, peer) = accepted.unwrap();
    (dialled.unwrap(), accepted, peer)
}

fn verdict<T>(result: Result<T, Failure>) -> Result<(), String> {
    result.map(drop).map_err(|failure| failure.to_string())
}

/// What the end that is dialled as `host` says, and what the one that dials does.
async fn meet(dialled: Tls, dialling: Tls, host: &str, names: &[&str]) -> [Result<(), String>; 2] {
    let (dialled, dialling) = (TlsContext::open(dialled).unwrap(), TlsContext::open(dialling).unwrap());
    let (there, here, peer) = connection().await;
    let peer = Peer { address: peer.ip(), names: names.iter().map(|name| (*name).to_owned()).collect() };
    let accepting = handshake::accept(&dialled, here, &peer, LIMIT, WORDING);
    // One that was refused is waited for until it is gone.
    let connecting = async { handshake::connect(&dialling, there, host, LIMIT, WORDING).await.map(drop) };
    let (accepted, connected) = tokio::join!(accepting, connecting);
    [verdict(accepted), verdict(connected)]
}

fn refused(verdict: &Result<(), String>, why: &str) {
    let text = verdict.as_ref().expect_err(why);
    assert!(text.contains(why), "{why:?} in {text:?}");
}

#[tokio::test]
async fn members_of_one_authority_meet() {
    for protocol in Protocol::ALL {
        let only = Tls { protocols: vec![protocol], ..tls("member.pem") };
        for host in ["127.0.0.1", "localhost", "LOCALHOST.", "zoo_1"] {
            // Of the last one the name is not in the certificate, but the address is where it was found.
            assert_eq!(meet(only.clone(), tls("member.pem"), host, &[]).await, [Ok(()), Ok(())], "{protocol:?} {host}");
        }
    }
}

#[tokio::test]
async fn whoever_dials_is_refused_with_a_certificate_that_does_not_count() {
    for (key, why) in [
        ("stranger.pem", "this server refused the certificate of the other server (certificate of CN=stranger"),
        (
            "expired.pem",
            "(certificate of CN=expired,O=Rookeeper, issued by CN=Test Authority,O=Rookeeper,C=XX): it expired",
        ),
        ("elsewhere.pem", "is for elsewhere.invalid, 192.0.2.1 and not for the address 127.0.0.1"),
    ] {
        let dialling = Tls { trust_store: Some(store("authority.pem")), ..tls(key) };
        let [accepted, _] = meet(tls("member.pem"), dialling, "127.0.0.1", &[]).await;
        refused(&accepted, why);
    }
    let careless = Tls { verifies_clients: false, ..tls("member.pem") };
    assert_eq!(meet(careless, tls("elsewhere.pem"), "127.0.0.1", &[]).await[0], Ok(()));
}

#[tokio::test]
async fn whoever_is_dialled_is_refused_with_a_certificate_that_does_not_count() {
    for (key, why) in [
        ("stranger.pem", "this server refused the certificate of the other server (certificate of CN=stranger"),
        ("expired.pem", "it expired"),
        (
            "elsewhere.pem",
            "it is for elsewhere.invalid, 192.0.2.1 and not for 127.0.0.1; issue it for that host too, or set \
             ssl.quorum.hostnameVerification=false",
        ),
    ] {
        let [accepted, connected] = meet(tls(key), tls("member.pem"), "127.0.0.1", &[]).await;
        refused(&connected, why);
        refused(&accepted, "the other server refused this server: ");
    }
    let careless = Tls { verifies_servers: false, ..tls("member.pem") };
    assert_eq!(meet(tls("elsewhere.pem"), careless, "127.0.0.1", &[]).await, [Ok(()), Ok(())]);
}

#[tokio::test]
async fn names_are_looked_up_where_that_is_wanted_also_those_of_members() {
    let careless = |key| Tls { verifies_servers: false, ..tls(key) };
    let looking = Tls { looks_up_names: true, ..careless("member.pem") };
    let stays_outside = |names: &'static [&'static str]| {
        let (looking, dialling) = (looking.clone(), careless("elsewhere.pem"));
        async move { meet(looking, dialling, "127.0.0.1", names).await[0].is_err() }
    };
    assert!(stays_outside(&[]).await);
    // A name that leads there, but that the certificate is not for.
    assert!(stays_outside(&["localhost"]).await);
    let peer = |names: &[&str]| Peer {
        address: [127, 0, 0, 1].into(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let facts = |names: &[&str]| super::certificate::Hosts {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        addresses: Vec::new(),
    };
    assert!(handshake::is_for(&facts(&["localhost"]), &peer(&[]), true).await);
    assert!(!handshake::is_for(&facts(&["localhost"]), &peer(&[]), false).await);
    assert!(!handshake::is_for(&facts(&["*.zoo.localhost"]), &peer(&[]), true).await);
    assert!(!handshake::is_for(&facts(&["*.zoo.localhost"]), &peer(&["localhost"]), true).await);
}

#[tokio::test]
async fn revoked_certificates_are_refused_where_lists_count() {
    for checks_revocation in [false, true] {
        let with_lists = |key| Tls { checks_revocation, revocation_lists: Some(file("revoked.crl")), ..tls(key) };
        let [accepted, _] = meet(with_lists("member.pem"), tls("revoked.pem"), "127.0.0.1", &[]).await;
        let [_, connected] = meet(tls("revoked.pem"), with_lists("member.pem"), "127.0.0.1", &[]).await;
        for found in [accepted, connected] {
            match checks_revocation {
                true => refused(&found, "it was revoked"),
                false => assert_eq!(found, Ok(())),
            }
        }
    }
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_certificate_is_asked_for_as_configured() {
    for (client_auth, comes_in) in [(ClientAuth::Need, false), (ClientAuth::Want, true), (ClientAuth::None, true)] {
        let dialled = TlsContext::open(Tls { client_auth, ..tls("member.pem") }).unwrap();
        let dialling = TlsContext::open(tls("member.pem")).unwrap();
        let (there, here, peer) = connection().await;
        // The same without a certificate.
        let mut config = dialling.loaded().for_dialing("127.0.0.1", peer.ip()).unwrap();
        config.client_auth_cert_resolver = Arc::new(NoCertificate);
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let connecting = async { connector.connect(name, there).await.map(drop) };
        let peer = Peer::at(peer);
        let accepting = handshake::accept(&dialled, here, &peer, LIMIT, WORDING);
        let (accepted, _) = tokio::join!(accepting, connecting);
        assert_eq!(accepted.is_ok(), comes_in, "{client_auth:?}");
        if let Err(failure) = accepted {
            assert_eq!(failure.kind(), Kind::NoCertificate);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_end_is_given_up_in_time() {
    let context = TlsContext::open(tls("member.pem")).unwrap();
    for words in [&b"\x16\x03\x01\x02\x00\x01"[..], b""] {
        let (there, here, peer) = connection().await;
        let mut there = there.into_std().unwrap();
        there.write_all(words).unwrap();
        let begin = Instant::now();
        let accepted = handshake::accept(&context, here, &Peer::at(peer), LIMIT, WORDING).await;
        assert!(matches!(accepted, Err(Failure::TooSlow(LIMIT))), "{:?}", verdict(accepted));
        assert_eq!(begin.elapsed(), LIMIT);
        let (there, _here, _) = connection().await;
        let begin = Instant::now();
        let connected = handshake::connect(&context, there, "127.0.0.1", LIMIT, WORDING).await;
        assert!(matches!(connected, Err(Failure::TooSlow(LIMIT))), "{:?}", verdict(connected));
        assert_eq!(begin.elapsed(), LIMIT);
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_for_both_waits_for_the_first_byte_and_no_longer() {
    for (words, is_tls, took) in
        [(&b"\x16"[..], true, Duration::ZERO), (b"\0\0\0\x0b", false, Duration::ZERO), (b"", false, LIMIT)]
    {
        let (there, here, _) = connection().await;
        let mut there = there.into_std().unwrap();
        there.write_all(words).unwrap();
        let begin = Instant::now();
        if !words.is_empty() {
            here.readable().await.unwrap();
        }
        assert_eq!(handshake::begins_with_tls(&here, LIMIT).await, is_tls, "{words:?}");
        assert_eq!(begin.elapsed(), took, "{words:?}");
    }
}

/// A session that is resumed brings its certificate along, and nobody looks at it again but here.
#[tokio::test]
async fn a_certificate_that_has_expired_since_is_refused() {
    let context = TlsContext::open(tls("member.pem")).unwrap();
    let peer = Peer { address: [127, 0, 0, 1].into(), names: Vec::new() };
    for (key, is_good) in [("member.pem", true), ("expired.pem", false)] {
        let chain = super::store::key_of(&std::fs::read(file(key)).unwrap(), StoreType::Pem, "").unwrap().chain;
        let judged = verdict(handshake::judge(&context, Some(&chain), &peer, WORDING).await);
        match is_good {
            true => assert_eq!(judged, Ok(())),
            false => refused(&judged, "it expired"),
        }
    }
    // So is one that stands in the trust store itself.
    let trusting = Tls { trust_store: Some(store("expired.pem")), ..tls("member.pem") };
    refused(&meet(tls("expired.pem"), trusting, "127.0.0.1", &[]).await[1], "it expired");
}

/// The same where the address is not that of the certificate, which is found out behind the handshake.
#[tokio::test(start_paused = true)]
async fn a_connection_with_another_address_is_held_until_its_peer_is_gone() {
    let dialled = TlsContext::open(tls("member.pem")).unwrap();
    let dialling = TlsContext::open(tls("elsewhere.pem")).unwrap();
    let (there, here, peer) = connection().await;
    let (is_over, peer) = (AtomicBool::new(false), Peer::at(peer));
    let connecting = async {
        // Time stands still until this ends.
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let standing = tokio::task::spawn_blocking(move || gone.recv());
        let mut stream = handshake::connect(&dialling, there, "127.0.0.1", LIMIT, WORDING).await.unwrap();
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest).await;
        let was_over = is_over.load(SeqCst);
        drop((stream, go));
        standing.await.unwrap().unwrap_err();
        (end.is_ok(), was_over)
    };
    let accepting = async {
        let accepted = handshake::accept(&dialled, here, &peer, LIMIT, WORDING).await;
        is_over.store(true, SeqCst);
        verdict(accepted)
    };
    let (accepted, told) = tokio::join!(accepting, connecting);
    refused(&accepted, "not for the address 127.0.0.1");
    assert_eq!(told, (true, false), "an end in order, before the connection is over");
}

/// The seat of a connection is held by whoever waits for this.
#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_held_until_its_peer_is_gone() {
    let context = TlsContext::open(tls("member.pem")).unwrap();
    let (there, here, peer) = connection().await;
    let mut there = there.into_std().unwrap();
    there.set_nonblocking(false).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let seen = is_over.clone();
    // Time stands still while this runs, so nothing is given up for its slowness.
    let refused = tokio::task::spawn_blocking(move || {
        there.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut alert = Vec::new();
        there.read_to_end(&mut alert).unwrap();
        (alert.first().copied(), seen.load(SeqCst))
    });
    let accepted = handshake::accept(&context, here, &Peer::at(peer), LIMIT, WORDING).await;
    is_over.store(true, SeqCst);
    assert!(matches!(accepted, Err(Failure::Refused { kind: Kind::NoTls, .. })), "{:?}", verdict(accepted));
    assert_eq!(
        refused.await.unwrap(),
        (Some(0x15), false),
        "an alert, and then the end, before the connection is over"
    );
}
