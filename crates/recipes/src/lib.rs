//! Coordination recipes on any ZooKeeper-compatible server, for the crate `zookeeper-client`.
//!
//! | recipe | type | shared with |
//! | --- | --- | --- |
//! | mutex | [`Mutex`] | Apache Curator's `InterProcessMutex`, kazoo's `Lock` |
//! | read-write lock | [`ReadWriteLock`] | Apache Curator's `InterProcessReadWriteLock`, or kazoo's `ReadLock` and `WriteLock` |
//! | semaphore | [`Semaphore`] | Apache Curator's `InterProcessSemaphoreV2` |
//! | several locks at once | [`MultiLock`] | Apache Curator's `InterProcessMultiLock`, for locks of any contender |
//! | election of a leader | [`Election`] | Apache Curator's `LeaderLatch`, its `LeaderSelector`, or kazoo's `Election` |
//! | who is there, who comes and goes | [`Group`] | Apache Curator's `GroupMember`, kazoo's `Party` |
//! | configuration: a value that follows a node or a subtree | [`Followed`] | whoever writes the nodes |
//! | service discovery | [`Registry`] | Apache Curator's `ServiceDiscovery` |
//! | unique ids | [`Ids`] | Apache Curator's `DistributedAtomicLong`, or kazoo's `Counter` |
//! | names, bound and looked up | [`Names`] | whoever writes the nodes |
//! | barrier: a door, or a meeting of so many | [`Barrier`], [`DoubleBarrier`] | Apache Curator's `DistributedBarrier` and `DistributedDoubleBarrier`, kazoo's `Barrier` and `DoubleBarrier` |
//! | countdown latch | [`Latch`] | nobody |
//! | shared counter | [`Counter`] | by choice: Apache Curator's `DistributedAtomicLong`, its `SharedCount`, or kazoo's `Counter` |
//! | queue, with priorities, delays, a limit | [`Queue`] | by choice: kazoo's `LockingQueue`, or Apache Curator's queues with a lock path |
//!
//! # What a lock does not give
//!
//! A lock of this kind tells contenders whose turn it is. It cannot stop a holder that lost its session and does not know that yet: one that
//! was frozen, or whose packets are under way. So every hold has a fencing token ([`Guard::token`]): send it along with whatever the holder
//! does, and let the resource refuse a token that is smaller than one it has seen. Where the resource cannot do that, stop in time:
//! [`lease::Lease`] says when that is, [`Election::lead`] does it for a future, the command `rookeeper lock` for a process.
//!
//! # What all recipes have in common
//!
//! - **A lost connection is no error.** Requests are made again until the session is over, because only then the answer is known.
//! - **Session end is a value**: [`SessionEnd`]. Whoever gets it connects again and begins anew. What outlives sessions takes [`Sessions`] in place of a
//!   client, and does so itself.
//! - **A lost answer makes no second node.** Nodes carry an id by which they are found again, behind a `sync`.
//! - **Every future may be dropped** at any time, by `tokio::select!` or a time-out: what it had made is deleted in the background, on the
//!   runtime of whoever dropped it.
//!
//! # Reading order
//!
//! - [`place`]: the logic of a line, without IO; `name.rs` says how its nodes are called
//! - `drive.rs`: carries out what a place asks for; `line.rs` and `guard.rs`: what all recipes are made of
//! - `lock.rs`, `read_write.rs`, `semaphore.rs`, `multi.rs`, `election.rs`, `group.rs`: the recipes
//! - [`enrolment`]: the logic of a membership; [`rollcall`]: from a list and events to joins and leaves in order, with `roster.rs` for who is known
//! - `sessions.rs`: one session after another; `followed.rs`: values that outlive them; `mirror.rs`: from events and answers to whole trees, without IO
//! - `ids.rs`, `names.rs`: unique ids, and names
//! - `discovery.rs`: services, whose instances the crate `rookeeper-discovery` describes; `registration.rs`: what keeps it registered, `balance.rs`: who gets the next
//!   request, without IO
//! - [`ask`]: requests and answers as data, for recipes whose logic does no IO; `perform.rs` carries them out
//! - `barrier.rs`, `counter.rs`: barriers, the latch, the counter; [`rendezvous`] and [`count`] are their logic
//! - [`queue`]: the queue; `push.rs`, `take.rs`, `settle.rs` in it are its logic, `layout.rs` its nodes
//! - [`lease`]: for how long a holder may act on what it knows, without IO
//! - `error.rs`: errors, and how a session ends
//!
//! The life of an `acquire`: a place asks for a create; the driver sends it and hands the answer back; the place asks for the names in the
//! line, finds the nearest node before its own, asks for a watch on that, and for patience; the watch fires, the place looks at the
//! line again, holds, and a guard takes the node over.

pub mod ask;
mod balance;
mod barrier;
pub mod count;
mod counter;
mod discovery;
mod drive;
mod election;
pub mod enrolment;
mod error;
mod followed;
mod group;
mod guard;
mod ids;
pub mod lease;
mod line;
mod lock;
mod mirror;
#[cfg(test)]
mod model;
mod multi;
mod name;
mod names;
mod perform;
pub mod place;
pub mod queue;
mod read_write;
mod registration;
pub mod rendezvous;
pub mod rollcall;
mod roster;
mod semaphore;
mod sessions;

/// The chapters of the guide, whose examples are tests.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../../docs/guide/locks.md")]
    mod locks {}
    #[doc = include_str!("../../../docs/guide/elections.md")]
    mod elections {}
    #[doc = include_str!("../../../docs/guide/groups.md")]
    mod groups {}
    #[doc = include_str!("../../../docs/guide/configuration.md")]
    mod configuration {}
    #[doc = include_str!("../../../docs/guide/naming.md")]
    mod naming {}
    #[doc = include_str!("../../../docs/guide/discovery.md")]
    mod discovery {}
    #[doc = include_str!("../../../docs/guide/queues.md")]
    mod queues {}
    #[doc = include_str!("../../../docs/guide/barriers.md")]
    mod barriers {}
}

pub use balance::{DownPolicy, Strategy};
pub use barrier::{Barrier, DoubleBarrier, Entered, Latch};
pub use count::CounterLayout;
pub use counter::Counter;
pub use discovery::{Instances, Picked, Provider, Registry, Service};
pub use drive::session_end;
pub use election::{Candidates, Election, Led};
pub use error::{Error, SessionEnd};
pub use followed::{Followed, Problem, State, States};
pub use group::{Changes, Group, Membership};
pub use guard::{Guard, Loss, revoke};
pub use ids::Ids;
pub use line::Contender;
pub use lock::Mutex;
pub use mirror::{Node, Scope, Tree};
pub use multi::MultiLock;
pub use name::Layout;
pub use names::{Bound, Names};
pub use queue::{Entry, Item, Queue, QueueLayout, Taker};
pub use read_write::ReadWriteLock;
pub use registration::{Registration, Unregistered};
pub use rookeeper_discovery::{BadUriSpec, Instance, ServiceType, UriPart, UriSpec};
pub use roster::{Change, Member};
pub use semaphore::Semaphore;
pub use sessions::Sessions;
