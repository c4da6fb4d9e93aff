//! Why a server looks for a leader again, and what is worth a line in the log: values that can be compared and counted. Their texts stand in
//! this file, those of links and of the broadcast in [`rookeeper_zab::reasons`], and nowhere else.
//!
//! What always holds: a reason holds all that its text says; a reason says who is to blame, so that others can sort by that.

use rookeeper_proto::election::PeerState;
use rookeeper_proto::{Epoch, ServerId, Zxid};
use rookeeper_zab::{Blame, LeaderEvent, LearnerEvent, LeaveReason, LinkEnd, LinkId, MembershipError, StepDownReason};
use thiserror::Error;

/// Why a server that led or learned looks for a leader again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RoleEnd {
    #[error("{0}")]
    SteppedDown(StepDownReason),
    #[error("{0}")]
    LeftLeader(LeaveReason),
    /// This server has not reached the leader that it has found, and the others have found another one.
    #[error("a quorum follows server {0}")]
    OthersFollow(ServerId),
    /// The membership of the epoch could not be written, and so the epoch was not; `why` is what the operating system said.
    #[error("epoch {epoch:x} can't be entered: {why}")]
    MembershipNotWritten { epoch: Epoch, why: String },
}

impl RoleEnd {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            RoleEnd::SteppedDown(why) => why.blame(),
            RoleEnd::LeftLeader(why) => why.blame(),
            RoleEnd::OthersFollow(_) => Blame::Nobody,
            RoleEnd::MembershipNotWritten { .. } => Blame::Membership,
        }
    }
}

/// How important a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
}

/// What a server has to say. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Event {
    /// An election is over: what this server is now, and how long it looked for a leader.
    #[error("{} - LEADER ELECTION TOOK - {took_ms} MS; server {leader} leads", shouted(*.state))]
    Elected { state: PeerState, leader: ServerId, took_ms: i64 },
    #[error("no leader was found; serving those who only read (readonlymode.enabled)")]
    ServesReaders,
    /// A quorum has acknowledged this server as the leader; its history ended at `last`.
    #[error("this server leads epoch {epoch:x} from {last} on, {took_ms} ms after it began to look for a leader")]
    Leads { epoch: Epoch, last: Zxid, took_ms: i64 },
    /// The leader is established, and this server has what was committed up to `committed`.
    #[error(
        "follows server {leader} in epoch {epoch:x} from {committed} on, {took_ms} ms after it began to look for a leader"
    )]
    Follows { leader: ServerId, epoch: Epoch, committed: Zxid, took_ms: i64 },
    #[error("this server no longer leads: {0}; looking for a leader")]
    NoLongerLeads(RoleEnd),
    #[error("lost the leader, server {leader}: {why}; looking for a leader")]
    LostLeader { leader: ServerId, why: RoleEnd },
    /// A follower feeds this observer, or is to.
    #[error("observes the leader, server {leader}, through its follower, server {master} (observerMasterPort)")]
    FedBy { master: ServerId, leader: ServerId },
    /// The follower that was to feed this observer does not answer.
    #[error(
        "server {master}, which was to feed this observer (observerMasterPort), can't be reached: {why}; server {next} is tried next"
    )]
    MasterNotReached { master: ServerId, why: LinkEnd, next: ServerId },
    #[error(
        "this observer waits {wait_ms} ms before it connects, so that not all observers come at once (observer.reconnectDelayMs)"
    )]
    WaitsToReconnect { wait_ms: i64 },
    #[error("lost server {master}, through which this server observed: {why}; looking for a leader")]
    LostMaster { master: ServerId, why: RoleEnd },
    #[error("this follower feeds observers (observerMasterPort)")]
    FeedsObservers,
    /// Bytes came from a learner that are no packets.
    #[error("learner {link} dropped: {why}")]
    LearnerDropped { link: LinkId, why: LinkEnd },
    #[error("received the snapshot at {zxid}: {bytes} bytes, {nodes} nodes")]
    SnapshotReceived { zxid: Zxid, bytes: u64, nodes: usize },
    #[error("the leader's membership can't be read and is ignored: {0}")]
    MembershipUnreadable(MembershipError),
    #[error("membership {version:x} is in force: servers {}", names(.servers))]
    MembershipInForce { version: Zxid, servers: Vec<ServerId> },
    #[error(
        "{free_bytes} bytes are free on a disk of this server, and {floor_bytes} must stay free (disk.minFreeInMb): where this server decides, \
         writes that grow are refused until there is room; deletes, reads and sessions go on"
    )]
    DiskShort { free_bytes: u64, floor_bytes: u64 },
    #[error(
        "{free_bytes} bytes are free on the disk with the least room of this server, which is enough: writes that grow are taken again"
    )]
    DiskHasRoom { free_bytes: u64 },
    #[error(
        "this server uses {resident_bytes} bytes of memory, and {limit_bytes} are its budget (memory.max): where this server decides, writes that \
         grow are refused until there is room; deletes, reads and sessions go on"
    )]
    MemoryShort { resident_bytes: u64, limit_bytes: u64 },
    #[error(
        "this server uses {resident_bytes} bytes of memory, and has room in them: writes that grow are taken again"
    )]
    MemoryHasRoom { resident_bytes: u64 },
    #[error("{0}")]
    Leader(LeaderEvent),
    #[error("{0}")]
    Learner(LearnerEvent),
}

impl Event {
    /// How important it is.
    pub fn level(&self) -> Level {
        match self {
            Event::Leader(event) if event.is_warning() => Level::Warn,
            Event::ServesReaders
            | Event::DiskShort { .. }
            | Event::MemoryShort { .. }
            | Event::NoLongerLeads(_)
            | Event::LostLeader { .. }
            | Event::LostMaster { .. }
            | Event::MasterNotReached { .. }
            | Event::LearnerDropped { .. }
            | Event::MembershipUnreadable(_) => Level::Warn,
            Event::Elected { .. }
            | Event::DiskHasRoom { .. }
            | Event::MemoryHasRoom { .. }
            | Event::Leads { .. }
            | Event::Follows { .. }
            | Event::FedBy { .. }
            | Event::WaitsToReconnect { .. }
            | Event::FeedsObservers
            | Event::SnapshotReceived { .. }
            | Event::MembershipInForce { .. }
            | Event::Leader(_)
            | Event::Learner(_) => Level::Info,
        }
    }
}

/// The states as the log of the original has them.
fn shouted(state: PeerState) -> &'static str {
    match state {
        PeerState::Leading => "LEADING",
        PeerState::Observing => "OBSERVING",
        PeerState::Following | PeerState::Looking => "FOLLOWING",
    }
}

fn names(servers: &[ServerId]) -> String {
    let names: Vec<String> = servers.iter().map(ServerId::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use rookeeper_zab::DropReason;

    use super::*;

    #[test]
    fn texts_name_actor_cause_and_consequence() {
        let why = RoleEnd::LeftLeader(LeaveReason::LinkLost(LinkEnd::Closed));
        let lost = Event::LostLeader { leader: ServerId(2), why: why.clone() };
        assert_eq!(lost.to_string(), "lost the leader, server 2: closed by the other side; looking for a leader");
        let stepped_down = RoleEnd::SteppedDown(StepDownReason::NoVote);
        assert_eq!(
            Event::NoLongerLeads(stepped_down.clone()).to_string(),
            "this server no longer leads: the membership in force gives this server no vote; looking for a leader"
        );
        let not_written = RoleEnd::MembershipNotWritten { epoch: Epoch(0x1a), why: "it is read-only".to_owned() };
        assert_eq!(not_written.to_string(), "epoch 1a can't be entered: it is read-only");
        let elected = Event::Elected { state: PeerState::Leading, leader: ServerId(1), took_ms: 250 };
        assert_eq!(elected.to_string(), "LEADING - LEADER ELECTION TOOK - 250 MS; server 1 leads");
        let in_force = Event::MembershipInForce { version: Zxid(0x100000005), servers: vec![ServerId(1), ServerId(3)] };
        assert_eq!(in_force.to_string(), "membership 100000005 is in force: servers 1, 3");
        let blames = [why, stepped_down, not_written, RoleEnd::OthersFollow(ServerId(1))].map(|why| why.blame());
        assert_eq!(blames, [Blame::Silence, Blame::Membership, Blame::Membership, Blame::Nobody]);
    }

    #[test]
    fn what_an_operator_should_look_at_is_a_warning() {
        let learner = rookeeper_zab::reasons::LearnerName { identity: None, peer: "10.0.0.7".to_owned() };
        let dropping = LeaderEvent::Dropping { learner, why: DropReason::NotLeading };
        let levels = [
            Event::Leader(dropping),
            Event::ServesReaders,
            Event::Learner(LearnerEvent::Truncate { last: Zxid(2), to: Zxid(1) }),
            Event::Elected { state: PeerState::Following, leader: ServerId(1), took_ms: 1 },
        ];
        assert_eq!(levels.map(|event| event.level()), [Level::Warn, Level::Warn, Level::Info, Level::Info]);
    }
}
