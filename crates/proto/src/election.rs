//! The election port: what servers tell each other to find a leader.
//!
//! A connection begins with one [`InitialMessage`], without a length in front; then both sides send [`Notification`]s in frames of a
//! four-byte length. Older and shorter forms are read as the original reads them.
//!
//! Counterpart in the original: `QuorumCnxManager.InitialMessage`, `FastLeaderElection.buildMsg`.

use rookeeper_jute::{self as jute, Buffer, Deserializer, Error};

use crate::ids::{Epoch, ServerId, Zxid};

/// The longest notification that is accepted, in bytes.
pub const MAX_NOTIFICATION_BYTES: usize = 512 << 10;

/// The longest address text in an initial message, in bytes.
pub const MAX_ADDRESS_BYTES: usize = 2048;

/// One address in the initial message.
const ONE_ADDRESS: i64 = -65_536;
/// Several, joined by `|`.
const SEVERAL_ADDRESSES: i64 = -65_535;

/// Who connects, and where it listens for elections itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialMessage {
    pub server: ServerId,
    /// `host:port`, as configured at the sender; none from servers before 3.5.
    pub addresses: Vec<String>,
    /// The form with several addresses, which may also hold one.
    pub multi_address: bool,
}

impl InitialMessage {
    /// Appends the message, which has no length in front.
    pub fn append(&self, output: &mut Vec<u8>) {
        let version = if self.multi_address { SEVERAL_ADDRESSES } else { ONE_ADDRESS };
        jute::append(output, &(version, self.server, Buffer(self.addresses.join("|").as_bytes())));
    }

    /// Decodes the message at the head of `bytes` and says how long it is. `None`: more bytes are needed.
    pub fn split(bytes: &[u8]) -> jute::Result<Option<(InitialMessage, usize)>> {
        let Some((version, _)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
        let version = i64::from_be_bytes(*version);
        if version >= 0 {
            let message = InitialMessage { server: ServerId(version), addresses: Vec::new(), multi_address: false };
            return Ok(Some((message, 8)));
        }
        if !matches!(version, ONE_ADDRESS | SEVERAL_ADDRESSES) {
            return Err(Error::Custom(format!("protocol version {version} on the election port")));
        }
        let Some((head, _)) = bytes.split_first_chunk::<20>() else { return Ok(None) };
        let mut head = Deserializer::new(&head[8..]);
        let (server, length): (ServerId, i32) = (head.read()?, head.read()?);
        let length = usize::try_from(length).ok().filter(|length| (1..=MAX_ADDRESS_BYTES).contains(length));
        let length = length.ok_or_else(|| Error::Custom("unreasonable length of an election address".to_owned()))?;
        let Some(text) = bytes.get(20..20 + length) else { return Ok(None) };
        let text = String::from_utf8_lossy(text);
        let multi_address = version == SEVERAL_ADDRESSES;
        let addresses =
            if multi_address { text.split('|').map(str::to_owned).collect() } else { vec![text.into_owned()] };
        Ok(Some((InitialMessage { server, addresses, multi_address }, 20 + length)))
    }
}

/// What a server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum PeerState {
    Looking = 0,
    Following = 1,
    Leading = 2,
    Observing = 3,
}

impl PeerState {
    /// The state by its number; `None` for a number that is no state.
    pub fn from_i32(number: i32) -> Option<PeerState> {
        match number {
            0 => Some(PeerState::Looking),
            1 => Some(PeerState::Following),
            2 => Some(PeerState::Leading),
            3 => Some(PeerState::Observing),
            _ => None,
        }
    }
}

/// A vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// What the sender is doing.
    pub state: PeerState,
    /// Who shall lead, or does; `None` where the sender votes for nobody.
    pub leader: Option<ServerId>,
    /// The end of that server's history; `None` where that does not count, or there is none.
    pub zxid: Option<Zxid>,
    /// The sender's round, its logical clock. -1 where a reconfiguration and no election decided who leads.
    pub election_epoch: i64,
    /// The epoch of that server's history; `None` like the zxid, and where no election decided.
    pub peer_epoch: Option<Epoch>,
    /// The sender's committed membership; none from senders that do not tell it.
    pub config: Option<Vec<u8>>,
}

/// In the place of a server by whom nobody is voted for; an observer's vote has the same for zxid and epoch.
const NOBODY: i64 = i64::MIN;

const VERSION_WITHOUT_CONFIG: i32 = 1;
const VERSION: i32 = 2;

/// State, leader, zxid, round: what the oldest senders tell.
const SHORTEST: usize = 28;
/// The same with the peer epoch and a version; the original takes no more from a message of this length.
const WITHOUT_CONFIG: usize = 40;

impl Notification {
    /// Appends the payload of the frame.
    pub fn append(&self, output: &mut Vec<u8>) {
        // An observer names nobody at all; everyone else who leaves out a number does so with -1.
        let is_observers = self.leader.is_none() && self.zxid.is_none() && self.peer_epoch.is_none();
        let nothing = if is_observers { NOBODY } else { -1 };
        let (leader, zxid) = (self.leader.map_or(NOBODY, |id| id.0), self.zxid.map_or(nothing, |zxid| zxid.0));
        let peer_epoch = self.peer_epoch.map_or(nothing, |epoch| i64::from(epoch.0));
        jute::append(output, &(self.state as i32, leader, zxid, self.election_epoch, peer_epoch));
        match &self.config {
            Some(config) => jute::append(output, &(VERSION, Buffer(config))),
            None => jute::append(output, &VERSION_WITHOUT_CONFIG),
        }
    }

    /// Decodes the payload of a frame.
    pub fn decode(payload: &[u8]) -> jute::Result<Notification> {
        let mut input = Deserializer::new(payload);
        let state: i32 = input.read()?;
        let state = PeerState::from_i32(state).ok_or_else(|| Error::Custom(format!("peer state {state}")))?;
        let (leader, zxid, election_epoch): (ServerId, Zxid, i64) = (input.read()?, input.read()?, input.read()?);
        let leader = (leader != ServerId(NOBODY)).then_some(leader);
        let peer_epoch = match payload.len() {
            SHORTEST => zxid.known().map(Zxid::epoch),
            _ => Epoch::from_vote(input.read()?),
        };
        let zxid = zxid.known();
        let version = if payload.len() > WITHOUT_CONFIG { input.read()? } else { 0 };
        let config = if version >= VERSION { Some(input.read::<Buffer<'_>>()?.to_vec()) } else { None };
        Ok(Notification { state, leader, zxid, election_epoch, peer_epoch, config })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_short_forms_are_read() {
        let vote = Notification {
            state: PeerState::Looking,
            leader: Some(ServerId(3)),
            zxid: Some(Zxid::new(5, 1)),
            election_epoch: 7,
            peer_epoch: Some(Epoch(6)),
            config: None,
        };
        let mut payload = Vec::new();
        vote.append(&mut payload);
        assert_eq!(payload.len(), WITHOUT_CONFIG);
        assert_eq!(Notification::decode(&payload), Ok(vote.clone()));
        let oldest = Notification { peer_epoch: Some(Epoch(5)), ..vote };
        assert_eq!(Notification::decode(&payload[..SHORTEST]), Ok(oldest));
        assert!(Notification::decode(&payload[..SHORTEST - 1]).is_err());
        assert_eq!(
            InitialMessage::split(&7i64.to_be_bytes()).map(|split| split.map(|(message, _)| message.server)),
            Ok(Some(ServerId(7)))
        );
    }

    #[test]
    fn hostile_lengths_are_errors_and_missing_bytes_are_waited_for() {
        let message = InitialMessage {
            server: ServerId(2),
            addresses: vec!["127.0.0.1:3888".to_owned(), "[::1]:3888".to_owned()],
            multi_address: true,
        };
        let mut bytes = Vec::new();
        message.append(&mut bytes);
        for length in 0..bytes.len() {
            assert_eq!(InitialMessage::split(&bytes[..length]), Ok(None), "{length}");
        }
        assert_eq!(InitialMessage::split(&bytes), Ok(Some((message, bytes.len()))));
        for length in [0, -1, MAX_ADDRESS_BYTES as i32 + 1] {
            bytes[16..20].copy_from_slice(&length.to_be_bytes());
            assert!(InitialMessage::split(&bytes).is_err(), "{length}");
        }
        assert!(InitialMessage::split(&(-1i64).to_be_bytes()).is_err());
    }
}
