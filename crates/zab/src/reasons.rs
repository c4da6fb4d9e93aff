//! Why a link or a role ends, and what is worth a line in the log: values that can be compared and counted. Their texts stand in this file
//! and nowhere else.
//!
//! What always holds: a reason holds all that its text says; a reason says who is to blame, so that others can sort by that.

use std::fmt;

use rookeeper_proto::election::PeerState;
use rookeeper_proto::jute;
use rookeeper_proto::{Epoch, ServerId, Zxid};
use thiserror::Error;

/// Who has to do something about it, or knows why it is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blame {
    /// The other server breaks the protocol, or says what can't be true.
    Peer,
    /// The other server, or the network to it, is silent, slow or gone.
    Silence,
    /// What two servers have on their disks does not go together, or something that was on a disk is missing.
    Data,
    /// A change of the members, or what an operator has configured.
    Membership,
    /// Nobody. It is part of how servers find a leader, or a limit of this server was reached; another attempt helps.
    Nobody,
}

/// Why a connection between two servers ended, or could not be made, as the side that had it saw it. The words of the operating system stay words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkEnd {
    /// No address of the leader could be connected to.
    #[error("{0}")]
    NotConnected(String),
    #[error("closed by the other side")]
    Closed,
    #[error("closed by the other side within a packet")]
    ClosedWithinPacket,
    /// The connection could not be read or written.
    #[error("{0}")]
    Io(String),
    #[error("what was sent is not a packet of this protocol: {0}")]
    NotAPacket(jute::Error),
    #[error("more than {limit_bytes} bytes wait for it, and it does not read")]
    NotReading { limit_bytes: usize },
    /// What the leader sent as a snapshot is none.
    #[error("{0}")]
    BadSnapshot(String),
    #[error("the log can't be read for it: {0}")]
    LogUnreadable(String),
    /// This side ended it.
    #[error("{0}")]
    Dropped(DropReason),
}

impl LinkEnd {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        use LinkEnd::*;
        match self {
            NotConnected(_) | Closed | ClosedWithinPacket | Io(_) | NotReading { .. } => Blame::Silence,
            NotAPacket(_) | BadSnapshot(_) => Blame::Peer,
            LogUnreadable(_) => Blame::Data,
            Dropped(why) => why.blame(),
        }
    }
}

/// Why a learner leaves its leader.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LeaveReason {
    #[error("no connection within {waited_ms} ms")]
    NoConnection { waited_ms: i64 },
    #[error("nothing heard for {silent_ms} ms")]
    Silent { silent_ms: i64 },
    #[error("{attempts} attempts to connect failed, the last one: {last}")]
    Unreachable { attempts: u32, last: LinkEnd },
    #[error("{0}")]
    LinkLost(LinkEnd),
    #[error("an incomplete packet")]
    IncompletePacket,
    #[error("not a packet of this protocol: {0}")]
    NotAPacket(jute::Error),
    #[error("{packet} is out of place while {stage}")]
    OutOfPlace { packet: &'static str, stage: &'static str },
    #[error("NEWLEADER of {epoch} is out of place while {stage}")]
    NewLeaderOutOfPlace { epoch: Zxid, stage: &'static str },
    #[error("{packet} does not go from a leader to a learner here")]
    NotALeadersPacket { packet: &'static str },
    #[error("the leader sent more than {limit_bytes} bytes while the disk was busy")]
    SentTooMuch { limit_bytes: usize },
    #[error("the leader sends what is missing up to {to} (DIFF), but this server has no database")]
    DiffWithoutDatabase { to: Zxid },
    #[error("it begins epoch {begins:x}, but this server has accepted epoch {accepted:x}")]
    OlderEpoch { begins: Epoch, accepted: Epoch },
    /// The log does not have what the leader takes for granted. With the truth the next attempt goes another way.
    #[error("the log could not be cut at {at}, it ends at {last}")]
    NotCut { at: Zxid, last: Zxid },
    #[error(
        "nothing here leads back to {to}, where the leader demands to go; this server asks the leader for all of its history"
    )]
    NoWayBack { to: Zxid },
    #[error("this server asked for all of the history up to {at_least}, and the leader sends {sends}")]
    SendsLess { at_least: Zxid, sends: Less },
    #[error("proposal {zxid} does not follow {last}")]
    ProposalGap { zxid: Zxid, last: Zxid },
    #[error("commit of {zxid} while history is committed to {committed} and ends at {last}")]
    CommitOutOfOrder { zxid: Zxid, committed: Zxid, last: Zxid },
    #[error("proposal {proposal} holds a transaction {holds}")]
    ProposalOfAnother { proposal: Zxid, holds: Zxid },
    #[error("proposal {proposal} can't be read: {error}")]
    UnreadableProposal { proposal: Zxid, error: jute::Error },
    #[error("it answered a sync that was not the oldest request")]
    SyncOutOfOrder,
    /// Another server may lead with the new membership, so this synchronisation leads nowhere.
    #[error("the membership changed during synchronisation")]
    MembershipChanged,
    #[error("membership {version:x} makes server {leader} the leader")]
    AnotherLeads { version: Zxid, leader: ServerId },
    #[error("membership {version:x} makes this server {}", part(*.state, *.is_member))]
    AnotherPart { version: Zxid, state: PeerState, is_member: bool },
    #[error("membership {version:x}, which is not in force yet, makes this server a voter")]
    BecomesVoter { version: Zxid },
    #[error("server {0} is no member")]
    NoMember(ServerId),
}

/// What a leader sends in place of all of its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Less {
    #[error("what is missing only (DIFF)")]
    Diff,
    #[error("a demand to cut (TRUNC)")]
    Truncate,
    #[error("a snapshot at {at} (SNAP)")]
    Snapshot { at: Zxid },
}

fn part(state: PeerState, is_member: bool) -> &'static str {
    match state {
        PeerState::Observing => "an observer",
        _ if is_member => "a voter",
        _ => "no member, which follows without a voice",
    }
}

impl LeaveReason {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        use LeaveReason::*;
        match self {
            NoConnection { .. } | Silent { .. } => Blame::Silence,
            Unreachable { last: end, .. } | LinkLost(end) => end.blame(),
            IncompletePacket
            | NotAPacket(_)
            | OutOfPlace { .. }
            | NewLeaderOutOfPlace { .. }
            | NotALeadersPacket { .. }
            | SentTooMuch { .. }
            | ProposalGap { .. }
            | CommitOutOfOrder { .. }
            | ProposalOfAnother { .. }
            | UnreadableProposal { .. }
            | SyncOutOfOrder => Blame::Peer,
            DiffWithoutDatabase { .. } | NotCut { .. } | NoWayBack { .. } | SendsLess { .. } => Blame::Data,
            MembershipChanged | AnotherLeads { .. } | AnotherPart { .. } | BecomesVoter { .. } | NoMember(_) => {
                Blame::Membership
            }
            OlderEpoch { .. } => Blame::Nobody,
        }
    }
}

/// Why a leader drops a learner, or a server refuses one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DropReason {
    #[error("this server does not lead")]
    NotLeading,
    #[error("this server does not lead yet")]
    NotLeadingYet,
    #[error("this server no longer leads")]
    NoLongerLeading,
    #[error("this server follows server {0}")]
    Follows(ServerId),
    #[error("this server feeds no observers now: it leads, or looks for a leader, or has no observerMasterPort")]
    FeedsNobody,
    #[error("this server has lost its leader, and with that what it could feed observers with")]
    NoLongerFollows,
    #[error("it has not read {limit_bytes} bytes that it was sent (observerMaster.sizeLimit); it may come again")]
    FallsBehind { limit_bytes: usize },
    #[error("more than {limit} of its questions wait for the leader")]
    AsksTooMuch { limit: usize },
    #[error("it said too much before this server knew whether it leads")]
    SaidTooMuch,
    #[error("it sent what is not a packet of this protocol: {0}")]
    NotAPacket(jute::Error),
    #[error("{packet} is out of place while {stage}")]
    OutOfPlace { packet: &'static str, stage: &'static str },
    #[error("{limit} learners are connected")]
    TooManyLearners { limit: usize },
    #[error("too many learners are being brought up to date; it may try again")]
    TooManySyncs,
    #[error("its protocol version {0:#x} is too old")]
    OldProtocol(i32),
    #[error("its membership {theirs:x} is newer than {newest:x}")]
    NewerMembership { theirs: Zxid, newest: Zxid },
    #[error("it says that it is server {0}, which is this one")]
    SaysItIsThisServer(ServerId),
    #[error("there is no epoch after {accepted:x}, which it says it has accepted")]
    LastEpoch { accepted: Epoch },
    #[error(
        "it says that it has accepted epoch {accepted:x}, which is too far beyond {base:x}, where this server is, to be believed. \
         If that is what the file acceptedEpoch of server {server} says, stop it and see `rookeeper epochs`; otherwise find who \
         connects there"
    )]
    UnlikelyEpoch { server: ServerId, accepted: Epoch, base: Epoch },
    #[error(
        "it is ahead: its history ends at {} in epoch {epoch:x}, this server's at {my_last} in epoch {my_epoch:x}",
        nowhere_or(*.last)
    )]
    Ahead { last: Option<Zxid>, epoch: Epoch, my_last: Zxid, my_epoch: Epoch },
    #[error("it has accepted epoch {accepted:x}, this leader's is {epoch:x}; {}", .known.consequence())]
    AcceptedNewerEpoch { accepted: Epoch, epoch: Epoch, known: KnownOfIt },
    #[error(
        "{older} is connected as the same server and answers: two servers have the same myid, or somebody pretends to be it"
    )]
    SameServer { older: LearnerName },
    #[error(
        "its history ends at {last}, of which this leader of epoch {epoch:x}, in epoch {entered:x} before, knows nothing"
    )]
    UnknownHistory { last: Zxid, epoch: Epoch, entered: Epoch },
    #[error("it acknowledged {zxid}, but only {proposed} was proposed")]
    AcknowledgedTooMuch { zxid: Zxid, proposed: Zxid },
    #[error("nothing heard for {silent_ms} ms")]
    Silent { silent_ms: i64 },
    #[error("{zxid} is not acknowledged after {waited_ms} ms")]
    Unacknowledged { zxid: Zxid, waited_ms: i64 },
}

fn nowhere_or(last: Option<Zxid>) -> String {
    last.map_or("nowhere".to_owned(), |last| last.to_string())
}

/// What is known of a learner that has accepted a newer epoch than the one of its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownOfIt {
    /// The same server is connected by another link.
    IsHere,
    /// Its history is of a newer epoch, too.
    IsAhead,
    /// Its history is no newer than the leader's.
    HasNoMore,
    /// It did not vote.
    Nothing,
}

impl KnownOfIt {
    fn consequence(self) -> &'static str {
        match self {
            KnownOfIt::IsHere => {
                "that server is connected by another link, so this is a copy of it or somebody who pretends to be it"
            }
            KnownOfIt::IsAhead => {
                "its history is of a newer epoch than this ensemble's, too, and this ensemble goes on without it: if this ensemble's data \
                 is the right one, fetch everything anew on that server; if that server's is, stop all others first"
            }
            KnownOfIt::HasNoMore => "this ensemble goes on without it until another epoch begins",
            KnownOfIt::Nothing => "it did not vote, so nobody knows what it has; this ensemble goes on without it",
        }
    }
}

impl DropReason {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        use DropReason::*;
        match self {
            NotLeading
            | NotLeadingYet
            | NoLongerLeading
            | Follows(_)
            | FeedsNobody
            | NoLongerFollows
            | TooManyLearners { .. }
            | TooManySyncs => Blame::Nobody,
            SaidTooMuch
            | AsksTooMuch { .. }
            | NotAPacket(_)
            | OutOfPlace { .. }
            | OldProtocol(_)
            | SaysItIsThisServer(_)
            | SameServer { .. }
            | AcknowledgedTooMuch { .. } => Blame::Peer,
            NewerMembership { .. } => Blame::Membership,
            LastEpoch { .. }
            | UnlikelyEpoch { .. }
            | Ahead { .. }
            | AcceptedNewerEpoch { .. }
            | UnknownHistory { .. } => Blame::Data,
            Silent { .. } | Unacknowledged { .. } | FallsBehind { .. } => Blame::Silence,
        }
    }
}

/// Why a leader leads no longer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StepDownReason {
    #[error("all epochs are used up")]
    NoEpochLeft,
    #[error("epoch {0:x} is nearly used up; another one begins")]
    EpochUsedUp(Epoch),
    #[error("the new membership makes server {0} the leader")]
    AnotherLeads(ServerId),
    #[error("the membership in force gives this server no vote")]
    NoVote,
    #[error("server {server} has accepted epoch {accepted:x} and has no newer history: another epoch begins")]
    Yields { server: ServerId, accepted: Epoch },
    #[error("after {limit_ms} ms too few follow, and server {server} looks for a leader")]
    VoterLooks { limit_ms: i64, server: ServerId },
    #[error("only servers {} are left, which is no quorum", names(.present))]
    TooFewLeft { present: Vec<ServerId> },
    #[error("no quorum {} within {limit_ms} ms", .lacks.words())]
    NoQuorum { lacks: Lacks, limit_ms: i64 },
}

fn names(servers: &[ServerId]) -> String {
    let names: Vec<String> = servers.iter().map(ServerId::to_string).collect();
    names.join(", ")
}

/// What a leader to be waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacks {
    Connections,
    EpochAcks,
    HistoryAcks,
}

impl Lacks {
    fn words(self) -> &'static str {
        match self {
            Lacks::Connections => "is connected",
            Lacks::EpochAcks => "has acknowledged the epoch",
            Lacks::HistoryAcks => "has taken over the history",
        }
    }
}

impl StepDownReason {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        use StepDownReason::*;
        match self {
            NoEpochLeft => Blame::Data,
            EpochUsedUp(_) | Yields { .. } | VoterLooks { .. } => Blame::Nobody,
            AnotherLeads(_) | NoVote => Blame::Membership,
            TooFewLeft { .. } | NoQuorum { .. } => Blame::Silence,
        }
    }
}

/// What a leader calls a learner: its role, its id, and the address that it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnerName {
    /// The server and whether it is an observer; `None` while it has not said.
    pub identity: Option<(ServerId, bool)>,
    /// The address that it comes from.
    pub peer: String,
}

impl fmt::Display for LearnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.identity {
            Some((server, true)) => write!(f, "observer {server} ({})", self.peer),
            Some((server, false)) => write!(f, "follower {server} ({})", self.peer),
            None => write!(f, "a learner that has not said who it is ({})", self.peer),
        }
    }
}

/// How a leader brings a learner to its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SyncKind {
    #[error("sending what it lacks up to {to} (DIFF)")]
    Diff { to: Zxid },
    #[error("it has to go back to {to} (TRUNC)")]
    Truncate { to: Zxid },
    #[error("sending a snapshot (SNAP)")]
    Snapshot,
}

/// What a leader has to say.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LeaderEvent {
    #[error("dropping {learner}: {why}")]
    Dropping { learner: LearnerName, why: DropReason },
    /// `unsaid`: how often that happened since this was said last of the same server.
    #[error("turning {learner} away{}: {why}", again(*.unsaid))]
    TurningAway { learner: LearnerName, unsaid: u64, why: DropReason },
    #[error("lost {learner}: {why}")]
    Lost { learner: LearnerName, why: LinkEnd },
    #[error("{learner} is {behind_ms} ms behind; after {limit_ms} ms (syncLimit) it will be dropped")]
    Late { learner: LearnerName, behind_ms: i64, limit_ms: i64 },
    /// `last`: where the learner's history ends; `None` where its database is missing.
    #[error("{learner} {}: {by}", is_at(*.last))]
    Syncing { learner: LearnerName, last: Option<Zxid>, by: SyncKind },
    #[error("the other member is gone and the oracle says that this server goes on: it decides alone")]
    GoesOnAlone,
}

fn again(unsaid: u64) -> String {
    if unsaid > 0 { format!(" (as {unsaid} times since this was last said)") } else { String::new() }
}

fn is_at(last: Option<Zxid>) -> String {
    last.map_or("has lost its database".to_owned(), |last| format!("is at {last}"))
}

impl LeaderEvent {
    /// Whether an operator should look at it.
    pub fn is_warning(&self) -> bool {
        !matches!(self, LeaderEvent::Syncing { .. })
    }
}

/// What a learner has to say: how its leader brings it to the leader's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LearnerEvent {
    #[error("the leader sends what is missing between {last} and {to} (DIFF)")]
    Diff { last: Zxid, to: Zxid },
    #[error("the leader has nothing after {to} (TRUNC); cutting the log that ends at {last}")]
    Truncate { last: Zxid, to: Zxid },
    #[error("the leader sends a snapshot at {at} (SNAP); this server {}", is_at(*.last))]
    Snapshot { last: Option<Zxid>, at: Zxid },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_actor_and_cause() {
        let learner = LearnerName { identity: Some((ServerId(2), false)), peer: "10.0.0.7".to_owned() };
        let late = LeaderEvent::Late { learner: learner.clone(), behind_ms: 4200, limit_ms: 5000 };
        assert_eq!(
            late.to_string(),
            "follower 2 (10.0.0.7) is 4200 ms behind; after 5000 ms (syncLimit) it will be dropped"
        );
        let lost = LeaderEvent::Syncing { learner: learner.clone(), last: None, by: SyncKind::Snapshot };
        assert_eq!(lost.to_string(), "follower 2 (10.0.0.7) has lost its database: sending a snapshot (SNAP)");
        assert!(late.is_warning() && !lost.is_warning());
        let why = DropReason::Silent { silent_ms: 7000 };
        let again = LeaderEvent::TurningAway { learner, unsaid: 3, why };
        assert_eq!(
            again.to_string(),
            "turning follower 2 (10.0.0.7) away (as 3 times since this was last said): nothing heard for 7000 ms"
        );
        let left = StepDownReason::TooFewLeft { present: vec![ServerId(1), ServerId(3)] };
        assert_eq!(left.to_string(), "only servers 1, 3 are left, which is no quorum");
    }

    #[test]
    fn reasons_are_sorted_by_blame() {
        assert_eq!(LeaveReason::NotAPacket(jute::Error::Custom(String::new())).blame(), Blame::Peer);
        assert_eq!(LeaveReason::LinkLost(LinkEnd::Closed).blame(), Blame::Silence);
        let bad_snapshot = LinkEnd::BadSnapshot("it ends too early".to_owned());
        assert_eq!(LeaveReason::LinkLost(bad_snapshot).blame(), Blame::Peer);
        assert_eq!(
            LinkEnd::Dropped(DropReason::NewerMembership { theirs: Zxid(9), newest: Zxid(5) }).blame(),
            Blame::Membership
        );
        assert_eq!(
            DropReason::UnknownHistory { last: Zxid(9), epoch: Epoch(2), entered: Epoch(1) }.blame(),
            Blame::Data
        );
        assert_eq!(StepDownReason::NoVote.blame(), Blame::Membership);
        assert_eq!(DropReason::NotLeadingYet.blame(), Blame::Nobody);
    }
}
