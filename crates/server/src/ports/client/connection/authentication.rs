//! The frames in which a client says who it is, and whether that is enough.
//!
//! What always holds here: these frames are answered at once, without regard to requests that are on their way; a refusal is the last
//! answer of the connection, and the session lives on.

use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::frame::ReplyHeader;
use rookeeper_proto::{ErrorCode, Id, Zxid};
use rookeeper_replica::Next;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::Task;
use super::ending::End;
use crate::auth::{self, Verdict, sasl};
use crate::logging::limited;
use crate::observe::drops::Dropped;

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
                self.context.figures.drops.note(Dropped::Identity);
                let client = self.connection.peer;
                self.audit_refusal();
                limited!(warn, "refused authentications", "authentication of {client} refused");
                self.refuse(xid, Zxid::ZERO, ErrorCode::AuthFailed);
                return Ok(Some(Next::Settle));
            }
            Verdict::OtherEnsemble => {
                statistics.ensemble_names_wrong.fetch_add(1, Relaxed);
                statistics.authentications_refused.fetch_add(1, Relaxed);
                self.context.figures.drops.note(Dropped::Identity);
                self.audit_refusal();
                return Err(End::OtherEnsemble);
            }
            Verdict::Undecodable => return Err(End::Undecodable("auth packet")),
        }
        Ok(None)
    }

    /// Waits for what Kerberos says to a token, within a limit.
    pub(super) async fn judge_ticket(&mut self, ticket: sasl::Ticket) -> sasl::Verdict {
        self.conversation.waits_for_server(true);
        let outcome = ticket.judge().await;
        self.conversation.waits_for_server(false);
        self.sasl.judged(outcome, &self.context.config.access, self.context.kerberos.as_ref())
    }

    /// Answers a SASL token. Returns what the task waits for where no frame behind it is looked at.
    pub(super) fn answer_sasl(&mut self, xid: i32, verdict: sasl::Verdict) -> Result<Option<Next>, End> {
        let (client, session) = (self.connection.peer, self.connection.session());
        let (code, token) = match verdict {
            sasl::Verdict::Answered(token) => (None, token),
            sasl::Verdict::Gained(gained, token) if self.connection.add_identities(gained.iter().cloned()) => {
                self.identities = self.connection.identities();
                debug!(%client, %session, ?gained, "authenticated by SASL");
                (None, token)
            }
            sasl::Verdict::Gained(..) => {
                self.audit_refusal();
                (Some(ErrorCode::AuthFailed), None)
            }
            sasl::Verdict::Failed(refusal, code) => {
                self.context.shared.statistics.authentications_refused.fetch_add(1, Relaxed);
                self.context.figures.drops.note(Dropped::Identity);
                self.audit_refusal();
                let consequence = match code {
                    Some(_) => "its connection is closed",
                    None => "it goes on without an identity",
                };
                limited!(
                    warn,
                    "failed SASL authentications",
                    "SASL authentication of {client}, session {session}, failed for {refusal}: {consequence}"
                );
                (code, None)
            }
            sasl::Verdict::Undecodable => return Err(End::Undecodable("SASL packet")),
        };
        let length = token.as_ref().map_or(-1, |token| i32::try_from(token.len()).unwrap_or(i32::MAX));
        let body = [&length.to_be_bytes(), token.as_deref().unwrap_or_default()].concat();
        let Some(code) = code else {
            self.accept(xid, &body);
            return Ok(None);
        };
        self.reply_at_once(ReplyHeader { xid, zxid: Zxid::ZERO, err: code.number() }, &body);
        self.connection.outbox.finish();
        Ok(Some(Next::Settle))
    }

    /// Whether the client may send requests: always, unless identities of certain schemes are demanded (`enforce.auth.enabled`).
    pub(super) fn may_request(&self) -> bool {
        let schemes = self.context.config.access.enforced_schemes.as_ref();
        schemes.is_none_or(|schemes| self.identities.iter().any(|id| schemes.contains(&*id.scheme)))
    }

    /// Tells the audit log that the client did not show who it is.
    pub(super) fn audit_refusal(&self) {
        self.context.audit_refusal(self.connection.session(), self.connection.peer, Some(&self.identities));
    }

    fn accept(&self, xid: i32, body: &[u8]) {
        self.reply_at_once(ReplyHeader { xid, zxid: Zxid::ZERO, err: 0 }, body);
    }
}
