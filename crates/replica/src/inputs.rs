//! Inputs sorted by who says them, so that each role matches all that is for it and nothing else.

use std::sync::Arc;

use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::election::Notification;
use rookeeper_proto::{ServerId, Zxid};
use rookeeper_tree::Tree;
use rookeeper_zab::{LinkEnd, LinkId, SyncPlan};

use crate::clients::connection::Connection;
use crate::clients::requests::{ClientInput, Write};
use crate::contract::{Input, Stored};
use crate::core::Core;

/// An [`Input`], by its sender.
#[derive(Debug)]
pub(crate) enum Sorted {
    Connect(Arc<Connection>, ConnectRequest),
    Client(ClientInput),
    /// This server has every transaction up to here on disk.
    Synced(Zxid),
    Stored(Stored),
    Election(ElectionInput),
    Learner(LinkId, LearnerInput),
    Leader(LinkId, LeaderInput),
    Oracle {
        grants: bool,
    },
    Restore(Box<Tree>),
    Tick,
}

/// From the links for elections.
#[derive(Debug)]
pub(crate) enum ElectionInput {
    Notified { from: ServerId, notification: Notification },
    LinkUp(ServerId),
    LinkDown(ServerId),
}

/// From the link of a learner, for a leader, or a follower that feeds observers.
#[derive(Debug)]
pub(crate) enum LearnerInput {
    Connected {
        peer: String,
    },
    /// By the port for observers of a follower.
    ObserverConnected {
        peer: String,
    },
    Packets(Vec<u8>),
    Gone {
        why: LinkEnd,
    },
    SyncPlanned(SyncPlan),
    StreamProgressed,
}

/// From the link to the leader, for a learner.
#[derive(Debug)]
pub(crate) enum LeaderInput {
    Connected,
    Heard,
    Packets(Vec<u8>),
    Snapshot { tree: Box<Tree>, bytes: u64 },
    Gone { why: LinkEnd },
}

pub(crate) fn sort(core: &Core, input: Input) -> Sorted {
    match input {
        Input::Connect { connection, request } => Sorted::Connect(connection, request),
        Input::Write { connection, xid, op, request, body, identities, arrived, sampled } => {
            let audited = core.audited(&connection, &identities, op, request.as_ref());
            Sorted::Client(ClientInput::Write(Write {
                connection,
                xid,
                op,
                request,
                body,
                identities,
                arrived,
                sampled,
                audited,
            }))
        }
        Input::Read { connection, read } => Sorted::Client(ClientInput::Read { connection, read }),
        Input::Disconnected { connection } => Sorted::Client(ClientInput::Disconnected { connection }),
        Input::Synced { zxid } => Sorted::Synced(zxid),
        Input::Stored(stored) => Sorted::Stored(stored),
        Input::Notified { from, notification } => Sorted::Election(ElectionInput::Notified { from, notification }),
        Input::ElectionLinkUp { server } => Sorted::Election(ElectionInput::LinkUp(server)),
        Input::ElectionLinkDown { server } => Sorted::Election(ElectionInput::LinkDown(server)),
        Input::LearnerConnected { link, peer } => Sorted::Learner(link, LearnerInput::Connected { peer }),
        Input::ObserverConnected { link, peer } => Sorted::Learner(link, LearnerInput::ObserverConnected { peer }),
        Input::FromLearner { link, packets } => Sorted::Learner(link, LearnerInput::Packets(packets)),
        Input::LearnerGone { link, why } => Sorted::Learner(link, LearnerInput::Gone { why }),
        Input::SyncPlanned { link, plan } => Sorted::Learner(link, LearnerInput::SyncPlanned(plan)),
        Input::StreamProgressed { link } => Sorted::Learner(link, LearnerInput::StreamProgressed),
        Input::LeaderConnected { link } => Sorted::Leader(link, LeaderInput::Connected),
        Input::LeaderHeard { link } => Sorted::Leader(link, LeaderInput::Heard),
        Input::FromLeader { link, packets } => Sorted::Leader(link, LeaderInput::Packets(packets)),
        Input::SnapshotReceived { link, tree, bytes } => Sorted::Leader(link, LeaderInput::Snapshot { tree, bytes }),
        Input::LeaderGone { link, why } => Sorted::Leader(link, LeaderInput::Gone { why }),
        Input::Oracle { grants } => Sorted::Oracle { grants },
        Input::Restore { tree } => Sorted::Restore(tree),
        // What follows from it is noted before the state is asked.
        Input::Measured(_) | Input::Tick => Sorted::Tick,
    }
}
