//! A connection from a learner: its packets go to the replica, and what the replica has for it goes out in order.
//!
//! What always holds here: the replica hears of a link only once its first packet is that of a learner, and before anything that comes on it,
//! and last that it is gone; bytes from outside end this connection and nothing else; a learner that stops reading is dropped, it never holds up
//! the replica.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::{ServerId, Zxid};
use rookeeper_replica::{Input, Shared};
use rookeeper_storage::Files;
use rookeeper_store::StoreError;
use rookeeper_zab::{DropReason, LinkEnd, LinkId};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tracing::{debug, info};

use super::inputs::{Gone, PeerInputs};
use super::outgoing::{Job, Jobs, MAX_WAITING_BYTES};
use super::packets::{PacketReader, ReadError};
use super::recent::Recent;
use super::streams::{self, Portions};
use crate::auth::between_servers::Proofs;
use crate::logging::limited;
use crate::net::bind::Port;
use crate::net::door::Door;
use crate::net::proof;

/// Data of a packet of a stranger: it must say who it is before it may say more.
const FIRST_PACKET_BYTES: usize = 1 << 10;

/// How long what was sent before the end may take to leave.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How often the replica is told that a stream goes on.
const PROGRESS_EVERY: Duration = Duration::from_millis(300);

/// The parts that all links of learners share.
#[derive(Debug)]
pub(super) struct LearnerContext {
    pub inputs: PeerInputs,
    pub shared: Arc<Shared>,
    pub files: Arc<Files>,
    /// The largest data of a packet: requests of clients, and the sessions a learner has heard of.
    pub max_packet_bytes: usize,
    pub door: Arc<Door>,
    pub greeting_limit: Duration,
    /// See [`Recent`].
    pub told_packets: usize,
    pub auth: Proofs,
}

impl LearnerContext {
    /// Whether somebody at this address may speak at all. Who may not is told of.
    pub async fn admits(&self, peer: SocketAddr, port: Port) -> bool {
        let is_admitted = self.door.admits(peer.ip()).await;
        if !is_admitted {
            let why = "it is no member's address, and quorum.membersOnly=true";
            limited!(warn, super::STRANGERS, 1; "closed a connection of {peer} to the {port}: {why}");
        }
        is_admitted
    }
}

/// Why the replica's side ends a link.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The replica asked for the end, and expects no answer.
    Dropped(DropReason),
    /// The learner does not take what it is sent.
    TooSlow,
}

/// How a connection ended.
#[derive(Debug)]
enum End {
    /// The replica is told.
    Lost(LinkEnd),
    /// The replica has asked for it.
    Dropped(DropReason),
    /// This server stops, and nobody is there to be told.
    Stopping,
}

impl From<Gone> for End {
    fn from(_: Gone) -> End {
        End::Stopping
    }
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> End {
        End::Lost(error.into())
    }
}

/// The connection could not be written.
impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> End {
        End::Lost(LinkEnd::Io(error.to_string()))
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> End {
        End::Lost(LinkEnd::LogUnreadable(error.to_string()))
    }
}

/// The first packet of a learner, and the reader that may have read more.
pub(super) struct Greeting {
    /// The server as which it comes. The replica decides whether it may.
    pub server: ServerId,
    port: Port,
    packets: PacketReader,
    first: Vec<u8>,
}

/// Waits for the first words of a learner. None: they did not come, or were no such words; then it was said, and the connection is over.
pub(super) async fn greeting(
    context: &LearnerContext,
    peer: SocketAddr,
    port: Port,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Option<Greeting> {
    let stranger = |why: &dyn std::fmt::Display| {
        limited!(warn, super::STRANGERS, 1; "closed a connection of {peer} to the {port}: {why}");
        None
    };
    let mut packets = PacketReader::default();
    let mut before = Vec::new();
    let proved = {
        let (mut reader, mut writer) = tokio::io::split(&mut *stream);
        proof::demand(&context.auth, context.greeting_limit, &mut reader, &mut writer, &mut before).await
    };
    match proved {
        Err(why) => return stranger(&why),
        Ok(user) => {
            if let Some(user) = user {
                debug!(%peer, "a learner has shown to be {user}");
            }
            packets.put_back(&before);
        }
    }
    let first = match tokio::time::timeout(context.greeting_limit, packets.next(stream, FIRST_PACKET_BYTES)).await {
        Err(_) => {
            return stranger(&format_args!("does not say who it is within {} ms", context.greeting_limit.as_millis()));
        }
        Ok(Err(error)) => return stranger(&error),
        Ok(Ok(batch)) => batch.packets,
    };
    match QuorumPacket::split(&first, FIRST_PACKET_BYTES) {
        Ok(Some((QuorumPacket::ObserverInfo { info, .. }, _))) => {
            Some(Greeting { server: info.server, port, packets, first })
        }
        Ok(Some((QuorumPacket::FollowerInfo { .. }, _))) if port == Port::ObserverMaster => {
            stranger(&"it comes as a follower, which only the leader takes, on the quorum port")
        }
        Ok(Some((QuorumPacket::FollowerInfo { info, .. }, _))) => {
            Some(Greeting { server: info.server, port, packets, first })
        }
        _ => stranger(&"it does not begin as a learner does"),
    }
}

/// Serves a connection to its end. Returns after the replica was told.
pub(super) async fn serve(
    context: &LearnerContext,
    link: LinkId,
    peer: SocketAddr,
    (reader, writer): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    greeting: Greeting,
    jobs: Jobs,
    stop: oneshot::Receiver<Stop>,
) {
    let Greeting { packets, first, port, .. } = greeting;
    let name = peer.to_string();
    let connected = match port {
        Port::ObserverMaster => Input::ObserverConnected { link, peer: name },
        _ => Input::LearnerConnected { link, peer: name },
    };
    if context.inputs.send(connected).await.is_err() {
        return;
    }
    let recent = Recent::new(context.told_packets);
    recent.note(&first, context.max_packet_bytes);
    if context.inputs.send(Input::FromLearner { link, packets: first }).await.is_err() {
        return;
    }
    let end = run(context, (link, peer), (reader, packets, &recent), writer, jobs, stop).await;
    if let Some(told) = recent.told() {
        info!("connection {link} of the learner at {peer} ended; it had sent, the last first: {told}");
    }
    match end {
        End::Dropped(why) => debug!(%peer, "connection {link} of a learner closed: {why}"),
        End::Stopping => {}
        End::Lost(why) => {
            match why {
                LinkEnd::Closed | LinkEnd::ClosedWithinPacket | LinkEnd::Io(_) => {
                    limited!(info, "learners that left", "connection {link} of a learner at {peer} ended: {why}");
                }
                _ => limited!(warn, "learners that were cut", "connection {link} of a learner at {peer} closed: {why}"),
            }
            let _ = context.inputs.send(Input::LearnerGone { link, why }).await;
        }
    }
}

async fn run(
    context: &LearnerContext,
    name: (LinkId, SocketAddr),
    (reader, packets, recent): (impl AsyncRead + Unpin, PacketReader, &Recent),
    writer: impl AsyncWrite + Unpin,
    jobs: Jobs,
    stop: oneshot::Receiver<Stop>,
) -> End {
    let streaming = AtomicBool::new(false);
    let mut writing = Box::pin(write(context, name, writer, jobs, &streaming));
    let mut stop = stop;
    let (stop, finished) = tokio::select! {
        end = read(context, name.0, reader, (packets, recent)) => return end,
        written = &mut writing => match written {
            // The reason comes together with the last job.
            Ok(()) => ((&mut stop).await, true),
            Err(end) => return end,
        },
        stop = &mut stop => (stop, false),
    };
    match stop {
        Ok(Stop::Dropped(why)) => {
            // A stream is for a learner of this leader: what is left of it must not be taken for a part of its history.
            if !finished && !streaming.load(Relaxed) {
                let _ = tokio::time::timeout(LAST_WORDS, writing).await;
            }
            End::Dropped(why)
        }
        Ok(Stop::TooSlow) => End::Lost(LinkEnd::NotReading { limit_bytes: MAX_WAITING_BYTES }),
        Err(_) => End::Stopping,
    }
}

async fn read(
    context: &LearnerContext,
    link: LinkId,
    mut stream: impl AsyncRead + Unpin,
    (mut packets, recent): (PacketReader, &Recent),
) -> End {
    loop {
        let batch = match packets.next(&mut stream, context.max_packet_bytes).await {
            Ok(batch) => batch,
            Err(error) => return error.into(),
        };
        recent.note(&batch.packets, context.max_packet_bytes);
        if let Err(gone) = context.inputs.send(Input::FromLearner { link, packets: batch.packets }).await {
            return gone.into();
        }
    }
}

async fn write(
    context: &LearnerContext,
    name: (LinkId, SocketAddr),
    mut stream: impl AsyncWrite + Unpin,
    mut jobs: Jobs,
    streaming: &AtomicBool,
) -> Result<(), End> {
    loop {
        streaming.store(false, Relaxed);
        match jobs.send_bytes(&mut stream).await? {
            Job::End => {
                let _ = stream.shutdown().await;
                return Ok(());
            }
            Job::Log { after, before } => {
                streaming.store(true, Relaxed);
                let portions = streams::log(context.files.clone(), after, before);
                send(context, name, &mut stream, portions, Stream::Log { after, before }).await?;
            }
            Job::Snapshot => {
                streaming.store(true, Relaxed);
                let portions = streams::snapshot(context.shared.clone());
                send(context, name, &mut stream, portions, Stream::Snapshot).await?;
            }
            Job::Bytes(bytes) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
            }
        }
    }
}

/// For the log.
enum Stream {
    Log { after: Zxid, before: Zxid },
    Snapshot,
}

async fn send(
    context: &LearnerContext,
    (link, peer): (LinkId, SocketAddr),
    stream: &mut (impl AsyncWrite + Unpin),
    mut portions: Portions,
    what: Stream,
) -> Result<(), End> {
    let begin = Instant::now();
    let (mut bytes, mut told) = (0, begin);
    while let Some(portion) = portions.recv().await {
        let portion = portion?;
        stream.write_all(&portion).await?;
        bytes += portion.len();
        if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            context.inputs.send(Input::StreamProgressed { link }).await?;
        }
    }
    stream.flush().await?;
    let took_ms = begin.elapsed().as_millis();
    match what {
        Stream::Log { after, before } => info!(
            bytes,
            took_ms, "sent the log after {after} and before {before} to the learner at {peer}, connection {link}"
        ),
        Stream::Snapshot => info!(bytes, took_ms, "sent a snapshot to the learner at {peer}, connection {link}"),
    }
    Ok(())
}
