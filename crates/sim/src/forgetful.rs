//! Planted bugs in how servers keep sessions: a server forgets which server has a session, or when the session was heard of.
//!
//! What always holds: without such a bug in the plan nothing is changed.

use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::{ErrorCode, MonotonicMs, SessionId, Txn, TxnRecord};
use rookeeper_replica::session::Owner;
use rookeeper_replica::{Input, Serving, Shared};
use rookeeper_zab::link::MAX_PACKET_BYTES;
use std::sync::Arc;

use crate::faults::Sabotage;
use crate::world::World;

/// The state that a planted bug puts back after an input.
#[derive(Debug, Default)]
pub(crate) struct Before {
    owners: Vec<(SessionId, Owner)>,
}

impl World {
    fn shared_of_leader(&self, server: usize) -> Option<Arc<Shared>> {
        let process = self.servers[server].process.as_ref()?;
        let decides = process.shared.status_board.serving() == Serving::Deciding;
        decides.then(|| process.shared.clone())
    }

    pub(crate) fn tamper_before(&mut self, server: usize, input: &mut Input) -> Before {
        let mut before = Before::default();
        let Some(sabotage) = self.plan.sabotage else { return before };
        self.network.echoed_at = None;
        if sabotage == Sabotage::RelaysForAnybody {
            self.claim_for_observers(server, input);
        }
        let Some(shared) = self.shared_of_leader(server) else { return before };
        let mut sessions = shared.sessions();
        match input {
            Input::Write { connection, .. } if sabotage == Sabotage::TakesFromAnybody => {
                sessions.claim(connection.session(), Owner::Client(connection.id));
            }
            Input::FromLearner { link, packets } => {
                let mut changed = Vec::with_capacity(packets.len());
                let mut rest = &packets[..];
                while let Ok(Some((packet, length))) = QuorumPacket::split(rest, MAX_PACKET_BYTES) {
                    match (sabotage, packet) {
                        (Sabotage::TakesFromAnybody, QuorumPacket::Request(request)) => {
                            sessions.claim(request.session, Owner::Learner(*link));
                        }
                        (Sabotage::ForgetsOwners, QuorumPacket::Revalidate { session, .. }) => {
                            let owner = sessions.get(session).and_then(|session| session.owner);
                            before.owners.extend(owner.map(|owner| (session, owner)));
                        }
                        (Sabotage::JoinsRoundInFlight, QuorumPacket::Ping { .. }) => {
                            self.network.echoed_at = Some(server);
                        }
                        _ => {}
                    }
                    match QuorumPacket::split(rest, MAX_PACKET_BYTES) {
                        Ok(Some((QuorumPacket::Ping { zxid, .. }, _))) if sabotage == Sabotage::IgnoresTouches => {
                            QuorumPacket::Ping { zxid, touches: Some(Vec::new()) }.append(&mut changed);
                        }
                        _ => changed.extend_from_slice(&rest[..length]),
                    }
                    rest = &rest[length..];
                }
                changed.extend_from_slice(rest);
                *packets = changed;
            }
            _ => {}
        }
        before
    }

    /// Whatever comes through an observer counts as asked for by those who have the session.
    fn claim_for_observers(&self, server: usize, input: &Input) {
        let Input::FromLearner { link, packets } = input else { return };
        let Some(process) = self.servers[server].process.as_ref().filter(|process| process.feeds) else { return };
        let mut sessions = process.shared.sessions();
        let mut rest = &packets[..];
        while let Ok(Some((packet, length))) = QuorumPacket::split(rest, MAX_PACKET_BYTES) {
            if let QuorumPacket::Request(request) = packet {
                sessions.claim(request.session, Owner::Learner(*link));
            }
            rest = &rest[length..];
        }
    }

    pub(crate) fn tamper_after(&mut self, server: usize, before: Before, now_ms: MonotonicMs) {
        let Some(sabotage) = self.plan.sabotage else { return };
        let Some(shared) = self.shared_of_leader(server) else { return };
        let known: Vec<(SessionId, i32)> = shared.tree().sessions().collect();
        let mut sessions = shared.sessions();
        for (session, owner) in before.owners {
            sessions.claim(session, owner);
        }
        for (session, timeout_ms) in known {
            match sabotage {
                // As if the session had been heard of a timeout ago.
                Sabotage::ExpiresAtOnce => sessions.touch(session, 1, now_ms - i64::from(timeout_ms)),
                Sabotage::NeverExpires => sessions.touch(session, timeout_ms, now_ms),
                _ => {}
            }
        }
    }

    /// A server begins to lead.
    pub(crate) fn tamper_with_sessions(&mut self, server: usize, now_ms: MonotonicMs) {
        if self.plan.sabotage != Some(Sabotage::ExpiresEarly) {
            return;
        }
        let Some(shared) = self.shared_of_leader(server) else { return };
        let known: Vec<(SessionId, i32)> = shared.tree().sessions().collect();
        for (session, timeout_ms) in known {
            shared.sessions().touch(session, timeout_ms / 10, now_ms);
        }
    }
}

/// A planted bug: a request is refused with a wrong reason.
pub(crate) fn refuse_wrongly(body: &[u8]) -> Arc<[u8]> {
    if let Ok(mut record) = TxnRecord::decode(body)
        && let Txn::Error { code } = &mut record.txn
        && *code == ErrorCode::NoNode.number()
    {
        *code = ErrorCode::NodeExists.number();
        let mut changed = Vec::new();
        record.append(&mut changed);
        return changed.into();
    }
    body.into()
}
