//! The frames in which a client says who it is, and whether that is enough.
//!
//! What always holds here: these frames are answered at once, without regard to requests that are on their way; a refusal is the last
//! answer of the connection, and the session lives on.

use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::frame::ReplyHeader;
use rookeeper_proto::{ErrorCode, Id, Zxid};
use rookeeper_replica::Next;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Task;
use super::ending::End;
use crate::auth::{self, Verdict};
use crate::logging::limited;

/// The answer to a SASL token where there is no SASL configuration: a token that is null.
const NULL_TOKEN: [u8; 4] = [0xff; 4];

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    /// Judges the body of an auth packet.
    pub(super) fn judge(&self, body: &[u8]) -> Verdict {
        let address = Id::new("ip", self.connection.peer.ip().to_canonical().to_string());
        auth::judge(body, &self.context.config.access, &address)
    }

    /// Answers an auth packet. Returns what the task waits for where no frame behind it is looked at.
    pub(super) fn answer_auth(&mut self, xid: i32, verdict: Verdict) -> Result<Option<Next>, End> {
        let statistics = &self.context.shared.statistics;
        match verdict {
            Verdict::Accepted(gained) if self.connection.add_identities(gained.iter().cloned()) => {
                self.identities = self.connection.identities();
                self.accept(xid, &[]);
            }
            Verdict::OurEnsemble { was_judged } => {
                let count = match was_judged {
                    true => &statistics.ensemble_names_right,
                    false => &statistics.ensemble_names_not_judged,
                };
                count.fetch_add(1, Relaxed);
                self.accept(xid, &[]);
            }
            Verdict::Accepted(_) | Verdict::Refused => {
                statistics.authentications_refused.fetch_add(1, Relaxed);
                let client = self.connection.peer;
                limited!(warn, "refused authentications", "authentication of {client} refused");
                self.refuse(xid, Zxid::ZERO, ErrorCode::AuthFailed);
                return Ok(Some(Next::Settle));
            }
            Verdict::OtherEnsemble => {
                statistics.ensemble_names_wrong.fetch_add(1, Relaxed);
                statistics.authentications_refused.fetch_add(1, Relaxed);
                return Err(End::OtherEnsemble);
            }
            Verdict::Undecodable => return Err(End::Undecodable("auth packet")),
        }
        Ok(None)
    }

    /// Answers a SASL token: without a SASL configuration every token meets success and brings no identity, as in the original.
    pub(super) fn answer_sasl(&mut self, xid: i32) {
        self.accept(xid, &NULL_TOKEN);
    }

    /// Whether the client may send requests: always, unless identities of certain schemes are demanded (`enforce.auth.enabled`).
    pub(super) fn may_request(&self) -> bool {
        let schemes = self.context.config.access.enforced_schemes.as_ref();
        schemes.is_none_or(|schemes| self.identities.iter().any(|id| schemes.contains(&id.scheme)))
    }

    fn accept(&self, xid: i32, body: &[u8]) {
        self.reply_at_once(ReplyHeader { xid, zxid: Zxid::ZERO, err: 0 }, body);
    }
}

/// Whether these bytes have the form of a SASL packet: a token and its length, which is not negative.
pub(super) fn is_sasl_packet(body: &[u8]) -> bool {
    matches!(body.first_chunk::<4>(), Some(length) if i32::from_be_bytes(*length) >= 0)
}
