//! Election and atomic broadcast: who leads, which transactions are history, and in which order.
//!
//! No sockets, no files, no clock. Reading order:
//! - [`quorum`] and [`membership`]: who decides
//! - [`history`]: the recent end of this server's log
//! - [`election`]: finds a leader
//! - [`leader`]: brings the learners to one history, then broadcasts
//! - [`learner`]: the other side
//! - [`observer_master`]: a follower that feeds observers in the leader's place
//! - [`link`]: connections between servers
//! - [`reasons`]: why links and roles end, with all texts
//!
//! All follow one contract: calls take the time and what happened, never block, and leave effects to be polled; `deadline_ms` says
//! when to call again if nothing happens.

pub mod election;
pub mod history;
pub mod leader;
pub mod learner;
pub mod link;
pub mod membership;
pub mod observer_master;
pub mod quorum;
pub mod reasons;

pub use history::{Gap, History, Record, RecordBuffer};
pub use link::{LinkId, LinkOutput, SyncPlan};
pub use membership::{
    Groups, HostPort, Member, MemberAddress, Membership, MembershipError, MembershipReader, Memberships, Role,
};
pub use quorum::Quorum;
pub use reasons::{Blame, DropReason, LeaderEvent, LearnerEvent, LeaveReason, LinkEnd, StepDownReason};
