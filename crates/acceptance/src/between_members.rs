//! What members prove to each other: certificates, passwords, and the words of strangers who have neither.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use crate::certificates::{Authority, Wish};
use crate::client::DEADLINE;
use crate::ensemble::{Ensemble, Plan};
use crate::server::Product;

/// An authority for members. Each member has its key store in its own folder.
#[derive(Debug)]
pub struct MemberCertificates {
    pub folder: TempDir,
    pub authority: Authority,
}

impl Default for MemberCertificates {
    fn default() -> MemberCertificates {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new(folder.path(), "authority").expect("openssl works");
        MemberCertificates { folder, authority }
    }
}

impl MemberCertificates {
    pub fn new() -> MemberCertificates {
        MemberCertificates::default()
    }

    /// A plan with the stores of all members, which does not use them yet.
    pub fn plan(&self, products: &[Product]) -> Plan {
        self.known_to(Plan::of(products))
    }

    pub fn secured(&self, products: &[Product]) -> Plan {
        self.plan(products).config("sslQuorum", "true")
    }

    /// The same plan, with the stores of all members.
    pub fn known_to(&self, plan: Plan) -> Plan {
        plan.config("ssl.quorum.keyStore.location", "member.pem")
            .config("ssl.quorum.trustStore.location", &self.authority.trust().display().to_string())
            .config("sslQuorumReloadCertFiles", "true")
    }

    /// All members with a certificate of their own, none of which runs yet.
    pub fn furnished(&self, plan: Plan) -> Ensemble {
        let ensemble = plan.prepare().expect("folders");
        ensemble.ids().into_iter().for_each(|id| self.furnish(&ensemble, id, &self.authority, &good(&ensemble, id)));
        ensemble
    }

    /// Gives a member a certificate, also while it runs.
    pub fn furnish(&self, ensemble: &Ensemble, id: u64, authority: &Authority, wish: &Wish) {
        let issued = authority.issue(&format!("member-{id}"), wish).expect("a certificate");
        let store = key_store(ensemble, id);
        let new = store.with_extension("new");
        fs::copy(issued.pem, &new).and_then(|_| fs::rename(new, store)).expect("a file in the place of another");
    }

    pub fn key_and_trust(&self, ensemble: &Ensemble, id: u64) -> [String; 2] {
        [key_store(ensemble, id).display().to_string(), self.authority.trust().display().to_string()]
    }
}

fn key_store(ensemble: &Ensemble, id: u64) -> PathBuf {
    ensemble.data_dir(id).parent().expect("the folder of the member").join("member.pem")
}

/// For the address of the member's line, and for that from which connections on loopback come.
pub fn good(ensemble: &Ensemble, id: u64) -> Wish {
    Wish::of(&format!("member-{id}")).hosts(&format!("IP:{},IP:127.0.0.1", ensemble.quorum_address(id).ip()))
}

pub const SASL_STEPS: [&str; 3] =
    ["quorum.auth.enableSasl", "quorum.auth.learnerRequireSasl", "quorum.auth.serverRequireSasl"];

/// The sections as the guide of the original has them, and one of a learner that has another password.
pub fn jaas() -> NamedTempFile {
    let module = "org.apache.zookeeper.server.auth.DigestLoginModule required";
    let text = format!(
        "QuorumServer {{\n  {module}\n  user_zkq=\"quorumpw\";\n}};\nQuorumLearner {{\n  {module}\n  username=\"zkq\"\n  \
         password=\"quorumpw\";\n}};\nIntruder {{\n  {module}\n  username=\"zkq\"\n  password=\"guessed\";\n}};\n"
    );
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("a text");
    file
}

/// Apache 3.9 has no DIGEST-MD5 in the mode that is its default.
pub fn plan_with_passwords(products: &[Product], jaas: &Path) -> Plan {
    Plan::of(products)
        .property(&format!("-Djava.security.auth.login.config={}", jaas.display()))
        .property("-Dzookeeper.fips-mode=false")
}

/// A plan whose members must have the password.
pub fn secured_with_passwords(products: &[Product], jaas: &Path) -> Plan {
    let plan = plan_with_passwords(products, jaas).config("quorum.cnxn.threads.size", "20");
    SASL_STEPS.iter().fold(plan, |plan, key| plan.config(key, "true"))
}

/// FOLLOWERINFO of server 3, as it stands on the wire.
pub const FOLLOWER_INFO: &[u8] =
    b"\0\0\0\x0b\0\0\0\0\0\0\0\0\0\0\0\x14\0\0\0\0\0\0\0\x03\0\x01\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff";

/// OBSERVERINFO of server 4, as it stands on the wire.
pub const OBSERVER_INFO: &[u8] =
    b"\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0\x14\0\0\0\0\0\0\0\x04\0\x01\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff";

/// The initial message of server 3 with a notification behind it.
pub const INITIAL_MESSAGE: &[u8] =
    b"\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\x03\0\0\0\x0f127.0.0.3:32388\0\0\0\x28\0\0\0\0";

/// What a stranger is answered who says this, and that the connection ends.
pub fn answer(address: SocketAddr, words: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    // The other end may have closed before.
    let _ = stream.write_all(words);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the connection ends in time");
    }
    answer
}

/// Whether whoever says this without TLS gets an alert of TLS at most.
pub fn is_closed_to_plain(address: SocketAddr, words: &[u8]) -> bool {
    let answer = answer(address, words);
    answer.is_empty() || (answer.len() == 7 && answer[0] == 0x15)
}

/// Whether whoever says this gets no answer.
pub fn is_closed_to_strangers(address: SocketAddr, words: &[u8]) -> bool {
    answer(address, words).is_empty()
}
