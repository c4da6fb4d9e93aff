//! The contract: what a server and whoever runs it say to each other. [`Replica`](crate::Replica) says who calls what in which order.
//!
//! Clients, the storage, the election links and the links of the quorum port are peers that answer later. What always holds: the storage
//! does what [`Output::Append`] and [`Store`] ask in the order in which they were polled, and answers in that order.

use std::net::SocketAddr;
use std::sync::Arc;

use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::election::Notification;
use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{Epoch, OpCode, ServerId, SessionId, Zxid};
use rookeeper_tree::Tree;
use rookeeper_zab::{HostPort, LinkEnd, LinkId, LinkOutput, Membership, Memberships, Record, SyncPlan};

use crate::audit::{Audited, Fate};
use crate::clients::connection::{Connection, Identities};
use crate::clients::read::ReadFrame;
use crate::reasons::Event;
use crate::room::Measured;
use crate::time::Stamp;
use crate::top::Sample;

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A connection sent its ConnectRequest.
    Connect {
        connection: Arc<Connection>,
        request: ConnectRequest,
    },
    /// A request for a change. `request` is `None` where it could not be decoded.
    /// `body` is the record as the client sent it, which only a server that forwards needs ([`Shared::forwards`](crate::Shared::forwards)); empty elsewhere.
    Write {
        connection: Arc<Connection>,
        xid: i32,
        op: OpCode,
        request: Option<WriteRequest>,
        body: Vec<u8>,
        identities: Identities,
        /// When it arrived from the client. Only measured.
        arrived: Stamp,
        /// Where it is one of those that are looked at.
        sampled: Option<Box<Sample>>,
    },
    /// A read that stands behind a write of its connection.
    Read {
        connection: Arc<Connection>,
        read: ReadFrame,
    },
    /// The connection is gone; its session lives on.
    Disconnected {
        connection: Arc<Connection>,
    },
    /// This server has every transaction up to `zxid` on disk.
    Synced {
        zxid: Zxid,
    },
    /// The storage did what [`Output::Store`] asked for.
    Stored(Stored),
    /// Another member's vote.
    Notified {
        from: ServerId,
        notification: Notification,
    },
    /// A connection for elections stands, new or in place of another, and nothing was sent on it yet.
    ElectionLinkUp {
        server: ServerId,
    },
    /// There is no connection for elections any more: it ended, or an attempt to make one was refused.
    ElectionLinkDown {
        server: ServerId,
    },
    /// A server connected to the quorum port. `peer` is its address, for the log.
    LearnerConnected {
        link: LinkId,
        peer: String,
    },
    /// An observer connected to the port that [`Output::ObserverMaster`] opened. From here on its link is that of a learner.
    ObserverConnected {
        link: LinkId,
        peer: String,
    },
    /// One or more whole packets.
    FromLearner {
        link: LinkId,
        packets: Vec<u8>,
    },
    LearnerGone {
        link: LinkId,
        why: LinkEnd,
    },
    /// Answers [`LinkOutput::PlanSync`].
    SyncPlanned {
        link: LinkId,
        plan: SyncPlan,
    },
    /// A part of a stream went out to a learner: it is not the learner that is slow. At most a few per second are needed.
    StreamProgressed {
        link: LinkId,
    },
    /// What [`Output::Dial`] asked for succeeded.
    LeaderConnected {
        link: LinkId,
    },
    /// Bytes of a snapshot arrive: the leader is alive. At most a few per second are needed.
    LeaderHeard {
        link: LinkId,
    },
    /// One or more whole packets, the one of type SNAP always the last of its input.
    FromLeader {
        link: LinkId,
        packets: Vec<u8>,
    },
    /// The stream that followed a SNAP packet is complete; this is what was in it. The tree's last zxid is that of the packet.
    SnapshotReceived {
        link: LinkId,
        tree: Box<Tree>,
        bytes: u64,
    },
    /// The connection ended, or could not be made.
    LeaderGone {
        link: LinkId,
        why: LinkEnd,
    },
    /// An operator wants this tree in place of the one that is served: one of a moment, without sessions. Only a server alone takes it. Answered by
    /// [`Output::Restored`].
    Restore {
        tree: Box<Tree>,
    },
    /// How much room there is now. Wanted once or twice in a second where something is limited.
    Measured(Measured),
    /// Whether the oracle of two members lets this one go on alone. No until it is said, and whenever the oracle can't be asked.
    Oracle {
        grants: bool,
    },
    /// Nothing but time passed.
    Tick,
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Make this transaction durable, after all earlier ones. Answered by [`Input::Synced`].
    Append(Record),
    /// Answered by [`Input::Stored`] where its variant says so.
    Store(Store),
    /// Send a vote. One that was not sent yet is replaced, and never sent again on another connection. Makes a connection where
    /// there is none.
    Notify {
        to: ServerId,
        notification: Notification,
    },
    /// The members with whom to hold elections, at the start and whenever they change.
    Members(Arc<Memberships>),
    /// Connect to a server's quorum port, once, at any of these addresses.
    Dial {
        link: LinkId,
        server: ServerId,
        addresses: Vec<HostPort>,
    },
    /// End the connection to the leader, or the attempt. Nothing more is expected from it.
    Hangup {
        link: LinkId,
    },
    ToLeader {
        link: LinkId,
        bytes: Vec<u8>,
    },
    /// Open the port where followers feed observers, or close it. Connections that came through it stay.
    ObserverMaster {
        open: bool,
    },
    /// What is to happen on a learner's link. [`LinkOutput::PlanSync`] is answered by [`Input::SyncPlanned`].
    ToLearner(LinkId, LinkOutput),
    /// A line for the log.
    Log(Event),
    /// The connection's outbox has something for its task.
    Wake(Arc<Connection>),
    /// For the log of events.
    SessionOpened {
        session: SessionId,
        timeout_ms: i32,
        connection: Arc<Connection>,
        /// Whether the session was there before.
        resumed: bool,
    },
    SessionExpired {
        session: SessionId,
        timeout_ms: i32,
    },
    SessionClosed {
        session: SessionId,
    },
    /// For an audit log: what became of a client's request. Only with [`Settings::audits`](crate::Settings::audits), as the next.
    Audited {
        request: Arc<Audited>,
        fate: Fate,
    },
    /// For an audit log: these nodes went because the session ended that they belonged to.
    EphemeralsDeleted {
        session: SessionId,
        paths: Vec<Arc<str>>,
    },
    /// For the log of slow operations, see [`Settings::slow_write_ns`](crate::Settings::slow_write_ns).
    Slow(Box<SlowOperation>),
    /// Answers [`Input::Restore`]: the tree is served, and durable, as of this transaction; or everything is as it was.
    Restored(Result<Zxid, NotRestored>),
    /// This server computed another digest than it predicted for the same transaction: its state can't be trusted any more.
    DigestMismatch {
        zxid: Zxid,
        expected: i64,
        actual: i64,
    },
}

/// Why nothing was restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRestored {
    #[error("this server is a member of an ensemble, whose others would have other data")]
    Member,
    #[error("another tree is being restored")]
    Busy,
    #[error("it can't be written: {0}")]
    NotWritten(String),
}

/// A request that took long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowOperation {
    pub op: OpCode,
    /// None for what names no node.
    pub path: Option<Box<str>>,
    pub peer: SocketAddr,
    pub session: SessionId,
    /// Of a change.
    pub zxid: Option<Zxid>,
    /// When it arrived at this server, and when it was its turn.
    pub arrived: Stamp,
    pub taken: Stamp,
    /// When it was with the log and with other servers, or with the leader; none for a read.
    pub handed_over: Option<Stamp>,
    /// When a change was committed, or a read answered.
    pub done: Stamp,
}

/// What the storage is asked for besides appending. Each is durable before its answer.
#[derive(Debug)]
pub enum Store {
    /// Write the file `acceptedEpoch`. Answered by [`Stored::AcceptedEpoch`].
    AcceptedEpoch(Epoch),
    /// Write the file `currentEpoch`. Everything appended before must be durable first, and so must `membership`, where there is one, as by
    /// `ProposedMembership`. Answered by [`Stored::CurrentEpoch`], or by [`Stored::MembershipRefused`] where the membership can't be written,
    /// and then the epoch is not written either.
    CurrentEpoch { epoch: Epoch, membership: Option<Membership> },
    /// Cut the log behind the last record up to `zxid` and remove the snapshots that are newer; with `reload` read the database again.
    /// The next record appended follows `zxid`. Answered by [`Stored::Truncated`]. Where nothing on the disk leads back there, nothing is cut, and
    /// the database is read again in any case.
    Truncate { zxid: Zxid, reload: bool },
    /// Write the shared tree as the snapshot `zxid`, then as for `Truncate`. Nothing is applied to the tree until the answer,
    /// [`Stored::SnapshotInstalled`].
    InstallSnapshot { zxid: Zxid },
    /// Write this tree, whose last transaction is `zxid`, as the newest snapshot, beside what there is. The next record appended follows `zxid`. Answered by
    /// [`Stored::Restored`], or by [`Stored::NotRestored`] where it can't be written and everything is as it was.
    Restore { zxid: Zxid, tree: Box<Tree> },
    /// Keep a membership that was proposed (`<zoo.cfg>.dynamic.next`). Not answered.
    ProposedMembership(Membership),
    /// Make a membership the one of the configuration files. Not answered.
    ActiveMembership(Membership),
}

/// The storage's answers.
#[derive(Debug)]
pub enum Stored {
    AcceptedEpoch(Epoch),
    CurrentEpoch(Epoch),
    /// Why the membership of this epoch could not be written, and the epoch was not.
    MembershipRefused {
        epoch: Epoch,
        why: String,
    },
    /// `tree` where the database was read again. The history ends with it: behind `zxid` where nothing could be cut.
    Truncated {
        zxid: Zxid,
        tree: Option<Box<Tree>>,
    },
    SnapshotInstalled {
        zxid: Zxid,
    },
    /// The same tree.
    Restored {
        zxid: Zxid,
        tree: Box<Tree>,
    },
    NotRestored {
        why: String,
    },
}

/// What the epoch files say when a member starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epochs {
    pub accepted: Epoch,
    pub current: Epoch,
}
