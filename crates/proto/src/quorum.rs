//! The quorum port: what a leader and its learners tell each other.
//!
//! Packets follow one another without a frame: a type, a zxid, a buffer and a list of identities. The buffer means something else
//! in every type; here each type is a variant that says what it holds. After `Snap` a snapshot follows as a raw stream.
//!
//! Counterpart in the original: `QuorumPacket`, `Leader`, `Learner`.

use rookeeper_jute::{self as jute, Buffer, Deserializer, Error};
use serde::{Deserialize, Serialize};

use crate::acl::Id;
use crate::ids::{Epoch, ServerId, SessionId, Zxid};

/// The version of this protocol, in LEADERINFO and in what learners tell of themselves.
pub const PROTOCOL_VERSION: i32 = 0x10000;

/// The stream behind `Snap` ends with this, as a buffer.
pub const SNAPSHOT_SIGNATURE: &[u8] = b"BenWasHere";

/// What a learner tells of itself. Older ones leave out the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnerInfo {
    pub server: ServerId,
    pub protocol_version: i32,
    /// The version of its committed membership.
    pub config_version: Zxid,
}

/// A session a learner has heard of, and how long it may be silent from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    pub session: SessionId,
    pub timeout_ms: i32,
}

/// A client's request on its way to the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardedRequest<'a> {
    pub session: SessionId,
    pub cxid: i32,
    pub op: i32,
    /// The record as the client sent it.
    pub body: &'a [u8],
    /// The identities of the client's connection; none where the server asks for itself, as for a new session.
    pub identities: Option<Vec<Id>>,
}

/// One packet. Unless said otherwise a packet goes from the leader (or a follower that serves observers) to a learner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuorumPacket<'a> {
    /// Learner to leader: the first word of a follower.
    FollowerInfo {
        accepted_epoch: Zxid,
        info: LearnerInfo,
    },
    /// The same of an observer.
    ObserverInfo {
        accepted_epoch: Zxid,
        info: LearnerInfo,
    },
    /// The epoch to come, as the zxid it begins with.
    LeaderInfo {
        epoch: Zxid,
    },
    /// Learner to leader. `last_logged` is `None` where the database is missing that the learner should have. `current_epoch` is `None`
    /// where the learner had accepted this epoch before: then it does not count.
    AckEpoch {
        last_logged: Option<Zxid>,
        current_epoch: Option<Epoch>,
    },
    /// What follows brings the learner up from where it is.
    Diff {
        zxid: Zxid,
    },
    /// The learner has more than it should: cut the log behind this.
    Trunc {
        zxid: Zxid,
    },
    /// A snapshot follows; afterwards the learner is here.
    Snap {
        zxid: Zxid,
    },
    /// Everything before it is the leader's history. Holds the last seen membership.
    NewLeader {
        epoch: Zxid,
        config: &'a [u8],
    },
    /// The learner may serve clients.
    UpToDate,
    /// `record` is a log body: header, transaction, digest.
    Proposal {
        zxid: Zxid,
        record: &'a [u8],
    },
    /// Learner to leader: this is on disk, with everything before it.
    Ack {
        zxid: Zxid,
    },
    Commit {
        zxid: Zxid,
    },
    /// Commits a new membership.
    CommitAndActivate {
        zxid: Zxid,
        designated_leader: ServerId,
    },
    /// To observers: proposal and commit in one.
    Inform {
        zxid: Zxid,
        record: &'a [u8],
    },
    InformAndActivate {
        zxid: Zxid,
        designated_leader: ServerId,
        record: &'a [u8],
    },
    /// From the leader with the zxid last proposed; the learner echoes that and tells which sessions it heard of.
    Ping {
        zxid: Zxid,
        touches: Option<Vec<Touch>>,
    },
    /// Learner to leader: does this session live?
    Revalidate {
        session: SessionId,
        timeout_ms: i32,
    },
    /// The answer.
    Revalidated {
        session: SessionId,
        valid: bool,
    },
    /// Learner to leader.
    Request(ForwardedRequest<'a>),
    /// Answers a forwarded sync, behind all that was proposed before it.
    Sync,
}

const REQUEST: i32 = 1;
const PROPOSAL: i32 = 2;
const ACK: i32 = 3;
const COMMIT: i32 = 4;
const PING: i32 = 5;
const REVALIDATE: i32 = 6;
const SYNC: i32 = 7;
const INFORM: i32 = 8;
const COMMIT_AND_ACTIVATE: i32 = 9;
const NEW_LEADER: i32 = 10;
const FOLLOWER_INFO: i32 = 11;
const UP_TO_DATE: i32 = 12;
const DIFF: i32 = 13;
const TRUNC: i32 = 14;
const SNAP: i32 = 15;
const OBSERVER_INFO: i32 = 16;
const LEADER_INFO: i32 = 17;
const ACK_EPOCH: i32 = 18;
const INFORM_AND_ACTIVATE: i32 = 19;

/// The smallest packet: type, zxid, and two nulls.
const SHORTEST: usize = 20;

impl QuorumPacket<'_> {
    /// What the packet is called in the protocol, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            QuorumPacket::FollowerInfo { .. } => "FOLLOWERINFO",
            QuorumPacket::ObserverInfo { .. } => "OBSERVERINFO",
            QuorumPacket::LeaderInfo { .. } => "LEADERINFO",
            QuorumPacket::AckEpoch { .. } => "ACKEPOCH",
            QuorumPacket::Diff { .. } => "DIFF",
            QuorumPacket::Trunc { .. } => "TRUNC",
            QuorumPacket::Snap { .. } => "SNAP",
            QuorumPacket::NewLeader { .. } => "NEWLEADER",
            QuorumPacket::UpToDate => "UPTODATE",
            QuorumPacket::Proposal { .. } => "PROPOSAL",
            QuorumPacket::Ack { .. } => "ACK",
            QuorumPacket::Commit { .. } => "COMMIT",
            QuorumPacket::CommitAndActivate { .. } => "COMMITANDACTIVATE",
            QuorumPacket::Inform { .. } => "INFORM",
            QuorumPacket::InformAndActivate { .. } => "INFORMANDACTIVATE",
            QuorumPacket::Ping { .. } => "PING",
            QuorumPacket::Revalidate { .. } | QuorumPacket::Revalidated { .. } => "REVALIDATE",
            QuorumPacket::Request(_) => "REQUEST",
            QuorumPacket::Sync => "SYNC",
        }
    }

    /// Appends the packet.
    pub fn append(&self, output: &mut Vec<u8>) {
        let mut packet = |packet_type: i32, zxid: Zxid, data: Option<&[u8]>, identities: Option<&[Id]>| {
            jute::append(output, &(packet_type, zxid, data.map(Buffer), identities));
        };
        match self {
            QuorumPacket::FollowerInfo { accepted_epoch, info } => {
                packet(FOLLOWER_INFO, *accepted_epoch, Some(&jute::to_vec(info)), None);
            }
            QuorumPacket::ObserverInfo { accepted_epoch, info } => {
                packet(OBSERVER_INFO, *accepted_epoch, Some(&jute::to_vec(info)), None);
            }
            QuorumPacket::LeaderInfo { epoch } => {
                packet(LEADER_INFO, *epoch, Some(&PROTOCOL_VERSION.to_be_bytes()), None);
            }
            QuorumPacket::AckEpoch { last_logged, current_epoch } => {
                let epoch = current_epoch.map_or(-1, |epoch| epoch.0 as i32);
                packet(ACK_EPOCH, Zxid::written(*last_logged), Some(&epoch.to_be_bytes()), None);
            }
            QuorumPacket::Diff { zxid } => packet(DIFF, *zxid, None, None),
            QuorumPacket::Trunc { zxid } => packet(TRUNC, *zxid, None, None),
            QuorumPacket::Snap { zxid } => packet(SNAP, *zxid, None, None),
            QuorumPacket::NewLeader { epoch, config } => packet(NEW_LEADER, *epoch, Some(config), None),
            QuorumPacket::UpToDate => packet(UP_TO_DATE, Zxid::written(None), None, None),
            QuorumPacket::Proposal { zxid, record } => packet(PROPOSAL, *zxid, Some(record), None),
            QuorumPacket::Ack { zxid } => packet(ACK, *zxid, None, None),
            QuorumPacket::Commit { zxid } => packet(COMMIT, *zxid, None, None),
            QuorumPacket::CommitAndActivate { zxid, designated_leader } => {
                packet(COMMIT_AND_ACTIVATE, *zxid, Some(&jute::to_vec(designated_leader)), None);
            }
            QuorumPacket::Inform { zxid, record } => packet(INFORM, *zxid, Some(record), None),
            QuorumPacket::InformAndActivate { zxid, designated_leader, record } => {
                let mut data = jute::to_vec(designated_leader);
                data.extend_from_slice(record);
                packet(INFORM_AND_ACTIVATE, *zxid, Some(&data), None);
            }
            QuorumPacket::Ping { zxid, touches } => {
                let data = touches.as_ref().map(|touches| touches.iter().flat_map(jute::to_vec).collect::<Vec<u8>>());
                packet(PING, *zxid, data.as_deref(), None);
            }
            QuorumPacket::Revalidate { session, timeout_ms } => {
                packet(REVALIDATE, Zxid::written(None), Some(&jute::to_vec(&(session, timeout_ms))), None);
            }
            QuorumPacket::Revalidated { session, valid } => {
                packet(REVALIDATE, Zxid::written(None), Some(&jute::to_vec(&(session, valid))), None);
            }
            QuorumPacket::Request(request) => {
                let mut data = jute::to_vec(&(request.session, request.cxid, request.op));
                data.extend_from_slice(request.body);
                packet(REQUEST, Zxid::written(None), Some(&data), request.identities.as_deref());
            }
            QuorumPacket::Sync => packet(SYNC, Zxid::ZERO, None, None),
        }
    }

    /// Decodes the packet at the head of `bytes` and says how long it is. `None`: more bytes are needed. An error ends the connection:
    /// without frames there is no telling where the next packet begins. `limit_bytes` bounds the data of a packet.
    pub fn split(bytes: &[u8], limit_bytes: usize) -> jute::Result<Option<(QuorumPacket<'_>, usize)>> {
        let Some(Extent { length, .. }) = Extent::of(bytes, limit_bytes)? else { return Ok(None) };
        let mut input = Deserializer::new(&bytes[..length]);
        let (packet_type, zxid): (i32, Zxid) = (input.read()?, input.read()?);
        let (data, identities): (Option<Buffer<'_>>, Option<Vec<Id>>) = (input.read()?, input.read()?);
        debug_assert!(input.rest().is_empty(), "the packet ends where its extent says");
        let packet = decode(packet_type, zxid, data.map(|data| data.0), identities)?;
        Ok(Some((packet, length)))
    }
}

/// Where a packet ends. For those who hand packets on: nothing is decoded, so what is inside may still be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// In bytes, from the first of its type to the last of its identities.
    pub length: usize,
    /// Its zxid, if the packet is SNAP: what follows that is no packet, but a snapshot.
    pub snapshot: Option<Zxid>,
}

impl Extent {
    /// The extent of the packet at the head of `bytes`. `None`: more bytes are needed. An error, as for [`QuorumPacket::split`], where the
    /// type is none or a length is impossible or above its limit: the data's is `limit_bytes`.
    pub fn of(bytes: &[u8], limit_bytes: usize) -> jute::Result<Option<Extent>> {
        let (Some(packet_type), Some(data)) = (number_at(bytes, 0), number_at(bytes, DATA)) else { return Ok(None) };
        if bytes.len() < SHORTEST {
            return Ok(None);
        }
        // Refused by its length before it is waited for.
        let data = length_within(DATA, data, limit_bytes)?;
        let most = limit_bytes.saturating_mul(2);
        let mut end = DATA + 4 + data;
        let Some(identities) = number_at(bytes, end) else { return unfinished(bytes, end, most) };
        end += 4;
        // The scheme and the name of each. The original reads negative counts as none.
        for _ in 0..2 * u64::from(identities.max(0).unsigned_abs()) {
            let Some(length) = number_at(bytes, end) else { return unfinished(bytes, end, most) };
            end += 4 + length_within(end, length, most)?;
        }
        if end > bytes.len() {
            return unfinished(bytes, end, most);
        }
        if !(REQUEST..=INFORM_AND_ACTIVATE).contains(&packet_type) {
            return Err(Error::Custom(format!("quorum packet of unknown type {packet_type}")));
        }
        let zxid = bytes.first_chunk::<DATA>().map(|head| Zxid(i64::from_be_bytes(tail(head))));
        Ok(Some(Extent { length: end, snapshot: zxid.filter(|_| packet_type == SNAP) }))
    }
}

/// Type and zxid stand before the length of the data.
const DATA: usize = 12;

fn tail(head: &[u8; DATA]) -> [u8; 8] {
    let [_, _, _, _, zxid @ ..] = *head;
    zxid
}

fn number_at(bytes: &[u8], offset: usize) -> Option<i32> {
    bytes.get(offset..)?.first_chunk::<4>().map(|number| i32::from_be_bytes(*number))
}

/// A length as a record has it, -1 for null.
fn length_within(offset: usize, length: i32, limit: usize) -> jute::Result<usize> {
    match usize::try_from(length) {
        Ok(length) if length <= limit => Ok(length),
        Err(_) if length == -1 => Ok(0),
        _ => Err(Error::BadLength { offset, length, limit }),
    }
}

/// A packet that has not arrived as a whole is waited for, but not for ever.
fn unfinished(bytes: &[u8], end: usize, most: usize) -> jute::Result<Option<Extent>> {
    if bytes.len() <= most {
        return Ok(None);
    }
    Err(Error::UnexpectedEnd { offset: bytes.len(), needed: end.saturating_sub(bytes.len()) })
}

fn decode(
    packet_type: i32,
    zxid: Zxid,
    data: Option<&[u8]>,
    identities: Option<Vec<Id>>,
) -> jute::Result<QuorumPacket<'_>> {
    let required = || data.ok_or_else(|| Error::Custom(format!("packet of type {packet_type} without data")));
    Ok(match packet_type {
        FOLLOWER_INFO => QuorumPacket::FollowerInfo { accepted_epoch: zxid, info: learner_info(required()?)? },
        OBSERVER_INFO => QuorumPacket::ObserverInfo { accepted_epoch: zxid, info: learner_info(required()?)? },
        LEADER_INFO => QuorumPacket::LeaderInfo { epoch: zxid },
        ACK_EPOCH => {
            let epoch: i32 = jute::from_slice(required()?)?;
            let current_epoch = (epoch != -1).then_some(Epoch(epoch as u32));
            QuorumPacket::AckEpoch { last_logged: zxid.known(), current_epoch }
        }
        DIFF => QuorumPacket::Diff { zxid },
        TRUNC => QuorumPacket::Trunc { zxid },
        SNAP => QuorumPacket::Snap { zxid },
        NEW_LEADER => QuorumPacket::NewLeader { epoch: zxid, config: data.unwrap_or_default() },
        UP_TO_DATE => QuorumPacket::UpToDate,
        PROPOSAL => QuorumPacket::Proposal { zxid, record: required()? },
        ACK => QuorumPacket::Ack { zxid },
        COMMIT => QuorumPacket::Commit { zxid },
        COMMIT_AND_ACTIVATE => {
            QuorumPacket::CommitAndActivate { zxid, designated_leader: jute::from_slice(required()?)? }
        }
        INFORM => QuorumPacket::Inform { zxid, record: required()? },
        INFORM_AND_ACTIVATE => {
            let (designated_leader, record) = jute::from_slice_with_rest(required()?)?;
            QuorumPacket::InformAndActivate { zxid, designated_leader, record }
        }
        PING => QuorumPacket::Ping { zxid, touches: data.map(touches).transpose()? },
        REVALIDATE => {
            let (session, rest) = jute::from_slice_with_rest(required()?)?;
            match rest.len() {
                1 => QuorumPacket::Revalidated { session, valid: jute::from_slice(rest)? },
                _ => QuorumPacket::Revalidate { session, timeout_ms: jute::from_slice(rest)? },
            }
        }
        REQUEST => {
            let ((session, cxid, op), body) = jute::from_slice_with_rest(required()?)?;
            QuorumPacket::Request(ForwardedRequest { session, cxid, op, body, identities })
        }
        SYNC => QuorumPacket::Sync,
        _ => return Err(Error::Custom(format!("quorum packet of unknown type {packet_type}"))),
    })
}

/// Learners tell 8, 12 or 20 bytes of themselves, by age.
fn learner_info(data: &[u8]) -> jute::Result<LearnerInfo> {
    let mut input = Deserializer::new(data);
    let server = input.read()?;
    let protocol_version = if data.len() >= 12 { input.read()? } else { 1 };
    let config_version = if data.len() >= 20 { input.read()? } else { Zxid::ZERO };
    Ok(LearnerInfo { server, protocol_version, config_version })
}

fn touches(data: &[u8]) -> jute::Result<Vec<Touch>> {
    let mut input = Deserializer::new(data);
    let mut touches = Vec::new();
    while !input.rest().is_empty() {
        touches.push(input.read()?);
    }
    Ok(touches)
}
