//! Which certificates of peers are trusted.
//!
//! What always holds here: one rule for both directions. A certificate is trusted where a chain of valid signatures leads from it to one of the trust
//! store, or where it stands in the trust store itself, as one that signed itself may; it must be valid now and meant for its purpose; with lists
//! of revoked certificates, each certificate of the chain must be on none of them, and there must be a list that says so.
//!
//! Counterpart in the original: Java's PKIX trust manager, and `ZKTrustManager` around it. The names of hosts are compared in `handshake.rs`
//! and here, where a server is dialled.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, anchor_from_trusted_cert,
};

use super::certificate::Facts;
use super::failure::note_shown;
use super::store::{Entries, Problem};

/// What is trusted.
#[derive(Debug)]
pub(crate) struct Trust {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    /// None where nobody asks whether certificates were revoked.
    revoked: Option<Vec<CertRevocationList<'static>>>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Which end of a connection a certificate is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerIs {
    Client,
    Server,
}

impl Trust {
    /// Trusts those of a store. With `check_revocation` its lists count.
    pub fn of(
        entries: Entries,
        check_revocation: bool,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Trust, Problem> {
        let mut anchors = Vec::new();
        for certificate in &entries.trusted {
            let anchor = anchor_from_trusted_cert(certificate)
                .map_err(|_| Problem::Malformed("a trusted certificate in it makes no sense"))?;
            anchors.push(anchor.to_owned());
        }
        let revoked = match check_revocation {
            false => None,
            true => Some(
                entries
                    .revoked
                    .iter()
                    .map(|list| OwnedCertRevocationList::from_der(list).map(CertRevocationList::from))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|_| Problem::Malformed("a list of revoked certificates makes no sense"))?,
            ),
        };
        Ok(Trust { certificates: entries.trusted, anchors, revoked, algorithms })
    }

    /// Trusts authorities alone, and no certificate because it stands in the trust store.
    pub fn of_authorities_only(mut self) -> Trust {
        self.certificates.clear();
        self
    }

    /// The names of those who are trusted, which are told to clients so that they choose a certificate.
    fn subjects(&self) -> Vec<DistinguishedName> {
        self.anchors.iter().map(|anchor| DistinguishedName::in_sequence(&anchor.subject)).collect()
    }

    /// Whether the certificate is trusted.
    pub fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        peer: PeerIs,
    ) -> Result<(), CertificateError> {
        if self.certificates.iter().any(|trusted| trusted.as_ref() == certificate.as_ref()) {
            return check_dates(certificate, now);
        }
        let end_entity = EndEntityCert::try_from(certificate).map_err(reason)?;
        let usage = match peer {
            PeerIs::Client => KeyUsage::client_auth(),
            PeerIs::Server => KeyUsage::server_auth(),
        };
        let lists: Option<Vec<&CertRevocationList<'_>>> = self.revoked.as_ref().map(|lists| lists.iter().collect());
        let revocation = match &lists {
            None => None,
            Some(lists) => Some(
                RevocationOptionsBuilder::new(lists)
                    .map_err(|_| CertificateError::UnknownRevocationStatus)?
                    .with_depth(RevocationCheckDepth::Chain)
                    .with_status_policy(UnknownStatusPolicy::Deny)
                    .with_expiration_policy(ExpirationPolicy::Enforce)
                    .build(),
            ),
        };
        end_entity
            .verify_for_usage(self.algorithms.all, &self.anchors, intermediates, now, usage, revocation, None)
            .map(drop)
            .map_err(reason)
    }
}

/// Whether the certificate is valid now. A resumed connection asks this alone.
pub(crate) fn check_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let facts = Facts::of(certificate).ok_or(CertificateError::BadEncoding)?;
    let (not_before, not_after) =
        (UnixTime::since_unix_epoch(facts.not_before), UnixTime::since_unix_epoch(facts.not_after));
    if now < not_before {
        Err(CertificateError::NotValidYetContext { time: now, not_before })
    } else if now > not_after {
        Err(CertificateError::ExpiredContext { time: now, not_after })
    } else {
        Ok(())
    }
}

/// In the words of the protocol, so that the peer is told.
fn reason(error: webpki::Error) -> CertificateError {
    use webpki::Error::*;
    match error {
        CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        CertNotValidYet { time, not_before } => CertificateError::NotValidYetContext { time, not_before },
        CertRevoked => CertificateError::Revoked,
        UnknownIssuer => CertificateError::UnknownIssuer,
        UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        CrlExpired { time, next_update } => CertificateError::ExpiredRevocationListContext { time, next_update },
        InvalidSignatureForPublicKey => CertificateError::BadSignature,
        RequiredEkuNotFoundContext(_) | EmptyEkuExtension => CertificateError::InvalidPurpose,
        UnsupportedCriticalExtension => CertificateError::UnhandledCriticalExtension,
        BadDer | BadDerTime => CertificateError::BadEncoding,
        other => CertificateError::Other(rustls::OtherError(Arc::new(other))),
    }
}

/// Looks at the certificates of clients, and of servers that connect as such.
#[derive(Debug)]
pub(crate) struct Clients {
    pub trust: Arc<Trust>,
    /// Whether a client without a certificate is refused.
    pub need: bool,
    subjects: Vec<DistinguishedName>,
}

impl Clients {
    pub fn new(trust: Arc<Trust>, need: bool) -> Clients {
        let subjects = trust.subjects();
        Clients { trust, need, subjects }
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.need
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        note_shown(end_entity);
        self.trust.check(end_entity, intermediates, now, PeerIs::Client)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.trust.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

/// Looks at the certificates of servers that this server dials.
#[derive(Debug)]
pub(crate) struct Servers {
    pub trust: Arc<Trust>,
    /// The server that the certificate must be for; none where that does not matter.
    pub dialled: Option<Dialled>,
}

/// A server that was dialled.
#[derive(Debug)]
pub(crate) struct Dialled {
    /// As it is configured: a name or an address.
    pub host: String,
    /// Where the host was found.
    pub address: IpAddr,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        note_shown(end_entity);
        self.trust.check(end_entity, intermediates, now, PeerIs::Server)?;
        if let Some(Dialled { host, address }) = &self.dialled {
            let facts = Facts::of(end_entity).ok_or(CertificateError::BadEncoding)?;
            // As in the original, a certificate for the address is one for the host that was found there.
            if !facts.hosts.has(host) && !facts.hosts.has_address(*address) {
                let presented = vec![facts.hosts.written()];
                let expected = server_name.to_owned();
                return Err(CertificateError::NotValidForNameContext { expected, presented }.into());
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.trust.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}
