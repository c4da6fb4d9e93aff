//! Why a handshake failed: which side refused, for what, and what to do.
//!
//! What always holds here: what comes from the peer is shortened and made printable before it stands in a message.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::certificate::{Facts, printable};
use crate::logging::Cause;

tokio::task_local! {
    /// The certificate that the handshake of this task looks at, for a message.
    static SHOWN: RefCell<Option<Shown>>;
}

/// Whose certificate was shown.
#[derive(Debug, Clone)]
struct Shown {
    subject: String,
    issuer: String,
}

/// Remembers the certificate of the peer while `handshake` runs, so that a failure can name it.
pub(super) async fn remembering<T>(
    handshake: impl Future<Output = Result<T, io::Error>>,
) -> Result<T, (io::Error, Option<String>)> {
    let noting = async {
        let result = handshake.await;
        let shown = SHOWN.with(|shown| shown.borrow_mut().take());
        result.map_err(|error| (error, shown.map(|shown| shown.to_string())))
    };
    SHOWN.scope(RefCell::new(None), noting).await
}

/// Called where a certificate is looked at.
pub(super) fn note_shown(certificate: &CertificateDer<'_>) {
    let _ = SHOWN.try_with(|shown| {
        *shown.borrow_mut() = Some(match Facts::of(certificate) {
            Some(facts) => Shown { subject: printable(&facts.subject), issuer: printable(&facts.issuer) },
            None => Shown { subject: "nobody".to_owned(), issuer: "nobody".to_owned() },
        });
    });
}

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "certificate of {}, issued by {}", self.subject, self.issuer)
    }
}

/// A handshake that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The peer, or what it sent, was refused, or refused this server.
    #[error("{why}")]
    Refused { kind: Kind, why: String },
    #[error("the handshake was not over within {0:?}")]
    TooSlow(Duration),
    #[error(
        "the peer ended the connection during the handshake; it may not trust this server's certificate, its own log says why"
    )]
    Gone,
    #[error("{0}")]
    Io(io::Error),
}

/// For the limit of lines in the log: failures of one kind do not hide those of another, nor those of clients those of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The peer showed no certificate.
    NoCertificate,
    /// This end refused the certificate of the peer.
    Certificate,
    /// The peer refused this end.
    Alert,
    /// What was sent is no TLS.
    NoTls,
    /// Another reason of this end.
    Other,
    TooSlow,
    BrokenOff,
}

impl Kind {
    pub fn of_clients(self) -> Cause {
        Cause::Named(match self {
            Kind::NoCertificate => "handshakes without a certificate",
            Kind::Certificate => "certificates that were refused",
            Kind::Alert => "clients that refused this server",
            Kind::NoTls => "connections that were no TLS",
            Kind::Other => "handshakes that were refused",
            Kind::TooSlow => "handshakes that took too long",
            Kind::BrokenOff => "handshakes that were broken off",
        })
    }

    pub fn of_servers(self) -> Cause {
        Cause::Named(match self {
            Kind::NoCertificate => "handshakes of servers without a certificate",
            Kind::Certificate => "certificates of servers that were refused",
            Kind::Alert => "servers that refused this one",
            Kind::NoTls => "connections on the ports between servers that were no TLS",
            Kind::Other => "handshakes of servers that were refused",
            Kind::TooSlow => "handshakes of servers that took too long",
            Kind::BrokenOff => "handshakes of servers that were broken off",
        })
    }
}

/// What keys of the configuration begin with, what this end is called, and what the peer is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wording {
    pub prefix: &'static str,
    pub own: &'static str,
    pub peer: &'static str,
    /// The setting by which a certificate is asked for; none for `clientAuth` behind the prefix.
    pub demand: Option<&'static str>,
}

impl Failure {
    pub(super) fn of(error: io::Error, shown: Option<String>, wording: Wording) -> Failure {
        let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    Failure::Gone
                }
                _ => Failure::Io(error),
            };
        };
        Failure::Refused { kind: kind(cause), why: explain(cause, shown.as_deref(), wording) }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Failure::Refused { kind, .. } => *kind,
            Failure::TooSlow(_) => Kind::TooSlow,
            Failure::Gone | Failure::Io(_) => Kind::BrokenOff,
        }
    }

    /// Whether the peer did not show who it is: it had no certificate, or one that was refused.
    pub fn is_of_identity(&self) -> bool {
        matches!(self.kind(), Kind::NoCertificate | Kind::Certificate)
    }
}

fn kind(error: &Error) -> Kind {
    match error {
        Error::NoCertificatesPresented => Kind::NoCertificate,
        Error::InvalidCertificate(_) => Kind::Certificate,
        Error::AlertReceived(_) => Kind::Alert,
        Error::InvalidMessage(_) => Kind::NoTls,
        _ => Kind::Other,
    }
}

fn explain(error: &Error, shown: Option<&str>, Wording { prefix, own, peer, demand }: Wording) -> String {
    match error {
        Error::NoCertificatesPresented => {
            let (demand, remedy) = match demand {
                Some(demand) => {
                    (demand.to_owned(), format!("a certificate of an authority in {prefix}trustStore.location"))
                }
                None => (
                    format!("{prefix}clientAuth=need"),
                    format!("a key store, or set {prefix}clientAuth to want or none"),
                ),
            };
            format!(
                "{own} refused the {peer}, which showed no certificate: {demand} asks for one; give the {peer} {remedy}"
            )
        }
        Error::InvalidCertificate(reason) => {
            let whose = shown.map(|shown| format!(" ({shown})")).unwrap_or_default();
            format!("{own} refused the certificate of the {peer}{whose}: {}", judged(reason, prefix))
        }
        Error::AlertReceived(alert) => format!("the {peer} refused {own}: {}", told(*alert, own)),
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            format!(
                "what the {peer} sent is no TLS; it must connect with TLS, or to a port that takes plain connections"
            )
        }
        Error::PeerIncompatible(what) => format!(
            "{own} and the {peer} have no protocol, suite or kind of key in common ({what:?}); compare {prefix}enabledProtocols and \
             {prefix}ciphersuites with what the {peer} is set up for"
        ),
        other => format!("{own} refused what the {peer} sent: {}", printable(&other.to_string())),
    }
}

fn days(later: UnixTime, earlier: UnixTime) -> u64 {
    later.as_secs().saturating_sub(earlier.as_secs()) / (24 * 60 * 60)
}

/// Why a certificate was refused.
pub(crate) fn judged(reason: &CertificateError, prefix: &str) -> String {
    match reason {
        CertificateError::ExpiredContext { time, not_after } => {
            format!("it expired {} days ago; renew it, or correct the clock of this machine", days(*time, *not_after))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!(
                "it is not valid before {} days from now; correct the clock of this machine, or wait",
                days(*not_before, *time)
            )
        }
        CertificateError::Revoked => "it was revoked; give the peer another one".to_owned(),
        CertificateError::UnknownIssuer => format!(
            "no authority of the trust store issued it; put the certificate of its authority into {prefix}trustStore.location, and let the \
             peer send those in between"
        ),
        CertificateError::UnknownRevocationStatus => format!(
            "no list of revoked certificates speaks for its authority; put that list into {prefix}crl.location, or remove {prefix}crl"
        ),
        CertificateError::ExpiredRevocationListContext { time, next_update } => format!(
            "the list of revoked certificates of its authority should have been renewed {} days ago; put the new list into {prefix}crl.location",
            days(*time, *next_update)
        ),
        CertificateError::InvalidPurpose => {
            "it is not for this end of a connection (extended key usage); issue it for both serverAuth and clientAuth"
                .to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "it is for {} and not for {}; issue it for that host too, or set {prefix}hostnameVerification=false",
            presented.join(", "),
            expected.to_str()
        ),
        CertificateError::Other(other)
            if matches!(other.0.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity)) =>
        {
            "it is that of an authority (CA:TRUE), which can't be that of one end of a connection; issue another one with it, and trust it"
                .to_owned()
        }
        other => printable(&format!("{other:?}")),
    }
}

/// What an alert of the peer says.
fn told(alert: AlertDescription, own: &str) -> String {
    match alert {
        AlertDescription::CertificateUnknown | AlertDescription::BadCertificate => {
            format!("it does not accept {own}'s certificate, perhaps because of the host in it; its own log says why")
        }
        AlertDescription::CertificateRequired => format!("it asks for a certificate, and {own} showed none"),
        AlertDescription::UnknownCA => format!(
            "it does not know the authority of {own}'s certificate; put the certificate of the authority into its trust store"
        ),
        AlertDescription::CertificateExpired => {
            format!("it found {own}'s certificate expired; renew that, or correct the clocks")
        }
        AlertDescription::CertificateRevoked => format!("it found {own}'s certificate revoked; renew that"),
        AlertDescription::ProtocolVersion => "it speaks none of the enabled protocols".to_owned(),
        AlertDescription::HandshakeFailure => "it found no suite or key that it accepts".to_owned(),
        other => format!("it sent the alert {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENTS: Wording = Wording { prefix: "ssl.", own: "this server", peer: "client", demand: None };

    #[test]
    fn each_failure_says_who_refused_and_what_to_do() {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(10 * 24 * 60 * 60));
        let other = UnixTime::since_unix_epoch(Duration::from_secs(7 * 24 * 60 * 60));
        let refused =
            |reason: CertificateError| explain(&reason.into(), Some("certificate of CN=a, issued by CN=b"), CLIENTS);
        for (text, parts) in [
            (explain(&Error::NoCertificatesPresented, None, CLIENTS), ["this server refused", "ssl.clientAuth=need"]),
            (
                refused(CertificateError::ExpiredContext { time: now, not_after: other }),
                ["CN=a, issued by CN=b", "expired 3 days ago"],
            ),
            (
                refused(CertificateError::NotValidYetContext { time: other, not_before: now }),
                ["this server refused", "not valid before 3 days from now"],
            ),
            (refused(CertificateError::UnknownIssuer), ["no authority", "ssl.trustStore.location"]),
            (
                refused(CertificateError::Other(rustls::OtherError(std::sync::Arc::new(
                    webpki::Error::CaUsedAsEndEntity,
                )))),
                ["that of an authority", "issue another one"],
            ),
            (refused(CertificateError::Revoked), ["this server refused", "revoked"]),
            (refused(CertificateError::UnknownRevocationStatus), ["no list", "ssl.crl.location"]),
            (
                explain(&Error::AlertReceived(AlertDescription::UnknownCA), None, CLIENTS),
                ["the client refused this server", "its trust store"],
            ),
            (
                explain(&Error::InvalidMessage(InvalidMessage::InvalidContentType), None, CLIENTS),
                ["is no TLS", "plain connections"],
            ),
        ] {
            for part in parts {
                assert!(text.contains(part), "{part:?} in {text:?}");
            }
        }
    }

    #[test]
    fn a_connection_that_ends_is_nobodys_refusal() {
        let gone = Failure::of(io::ErrorKind::UnexpectedEof.into(), None, CLIENTS);
        assert!(matches!(gone, Failure::Gone));
    }
}
