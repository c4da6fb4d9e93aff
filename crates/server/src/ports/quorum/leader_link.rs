//! The connection to the leader: made when the replica asks for it, once; its packets go to the replica, a snapshot as a tree.
//!
//! What always holds here: names are resolved at each attempt; a snapshot is read on a blocking thread, and the replica hears meanwhile
//! that the leader is alive; the replica hears last that the link is gone, whatever the reason.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rookeeper_proto::{ServerId, TtlEncoding, Zxid};
use rookeeper_replica::Input;
use rookeeper_store::snapshot_stream::{Progress, SnapshotReceiver, StreamError};
use rookeeper_zab::link::MAX_PACKET_BYTES;
use rookeeper_zab::{HostPort, LinkEnd, LinkId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::oneshot;
use tracing::{debug, info};

use super::inputs::{Gone, PeerInputs};
use super::outgoing::{Job, Jobs};
use super::packets::{PacketReader, ReadError};
use super::recent::Recent;
use crate::auth::between_servers::Proofs;
use crate::logging::limited;
use crate::net::stream::{self, KeepAlive};
use crate::net::tls::peers::PeerTls;
use crate::net::{dial, proof};
use crate::seed::secret_seed;

/// Bytes that may wait for the leader.
pub(super) const MAX_WAITING_BYTES: usize = 256 << 20;

/// Bytes of a snapshot read at once.
const SNAPSHOT_READ_BYTES: usize = 1 << 20;

/// How often the replica is told that a snapshot arrives.
const HEARD_EVERY: Duration = Duration::from_millis(300);

/// The parts that all attempts share.
#[derive(Debug)]
pub(super) struct LeaderContext {
    pub inputs: PeerInputs,
    pub connect_timeout: Duration,
    pub auth: Proofs,
    pub tls: Option<PeerTls>,
    /// How a snapshot of the leader is read.
    pub ttl_encoding: TtlEncoding,
    /// See [`Recent`].
    pub told_packets: usize,
}

/// Which connection the replica wants.
#[derive(Debug)]
pub(super) struct Wanted {
    pub link: LinkId,
    pub server: ServerId,
    pub addresses: Vec<HostPort>,
}

/// The leader does not take what it is sent.
#[derive(Debug)]
pub(super) struct TooSlow;

/// How a connection ended, or an attempt to make one.
#[derive(Debug)]
enum End {
    /// The replica is told.
    Lost(LinkEnd),
    /// The replica has asked for it, or is gone.
    HungUp,
}

impl From<Gone> for End {
    fn from(_: Gone) -> End {
        End::HungUp
    }
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> End {
        End::Lost(error.into())
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Lost(LinkEnd::Io(error.to_string()))
    }
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> End {
        End::Lost(LinkEnd::BadSnapshot(error.to_string()))
    }
}

/// Connects and serves the connection to its end. Returns after the replica was told. `stop` without a value: the replica hung up.
pub(super) async fn serve(context: &LeaderContext, wanted: Wanted, jobs: Jobs, stop: oneshot::Receiver<TooSlow>) {
    let (link, server) = (wanted.link, wanted.server);
    let recent = Recent::new(context.told_packets);
    let end = tokio::select! {
        Err(end) = run(context, wanted, jobs, &recent) => end,
        stop = stop => match stop {
            Ok(TooSlow) => End::Lost(LinkEnd::NotReading { limit_bytes: MAX_WAITING_BYTES }),
            Err(_) => End::HungUp,
        },
    };
    if let Some(told) = recent.told() {
        info!("connection {link} to the leader, server {server}, ended; the leader had sent, the last first: {told}");
    }
    let End::Lost(why) = end else { return };
    // The replica says whom it lost, and why; an attempt to connect is repeated.
    match &why {
        LinkEnd::NotConnected(why) => debug!("can't connect to the leader, server {server}: {why}"),
        why => debug!("connection {link} to the leader, server {server}, ended: {why}"),
    }
    let _ = context.inputs.send(Input::LeaderGone { link, why }).await;
}

async fn run(context: &LeaderContext, wanted: Wanted, jobs: Jobs, recent: &Recent) -> Result<(), End> {
    let link = wanted.link;
    let tls = PeerTls::for_dialing(context.tls.as_ref());
    let connected = dial::connect(wanted.addresses, context.connect_timeout, tls.as_ref()).await;
    let dial::Dialed { mut stream, host } = connected.map_err(|why| End::Lost(LinkEnd::NotConnected(why)))?;
    stream::configure(stream.tcp(), KeepAlive::BySystem)?;
    debug!(peer = ?stream.tcp().peer_addr(), "connection {link} to the leader, server {}", wanted.server);
    let address = stream.tcp().peer_addr()?;
    prove(context, wanted.server, (&host, address), &mut stream).await?;
    let (reader, writer) = stream::split(stream);
    jobs.connected(stream::socket(&writer));
    context.inputs.send(Input::LeaderConnected { link }).await?;
    tokio::select! {
        end = read(context, link, reader, recent) => end,
        end = write(writer, jobs) => end,
    }
}

/// Proves who this server is, if it is to.
async fn prove(
    context: &LeaderContext,
    server: ServerId,
    reached: (&str, SocketAddr),
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<(), End> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let giving = proof::give(&context.auth, reached, &mut reader, &mut writer);
    let why = match tokio::time::timeout(context.connect_timeout, giving).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(why)) => why,
        Err(_) => format!("SASL is not over within {} ms", context.connect_timeout.as_millis()),
    };
    limited!(warn, "leaders that do not let this server in", "can't follow the leader, server {server}: {why}");
    Err(End::Lost(LinkEnd::NotConnected(why)))
}

async fn read(
    context: &LeaderContext,
    link: LinkId,
    mut stream: impl AsyncRead + Unpin,
    recent: &Recent,
) -> Result<(), End> {
    let mut packets = PacketReader::default();
    loop {
        let batch = packets.next(&mut stream, MAX_PACKET_BYTES).await?;
        recent.note(&batch.packets, MAX_PACKET_BYTES);
        context.inputs.send(Input::FromLeader { link, packets: batch.packets }).await?;
        if let Some(zxid) = batch.snapshot {
            read_snapshot(context, link, zxid, &mut packets, &mut stream).await?;
        }
    }
}

/// Receives the stream that follows a SNAP packet.
async fn read_snapshot(
    context: &LeaderContext,
    link: LinkId,
    zxid: Zxid,
    packets: &mut PacketReader,
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<(), End> {
    let begin = Instant::now();
    info!("the leader sends a snapshot at {zxid}");
    let mut receiver = SnapshotReceiver::new(zxid, secret_seed(), context.ttl_encoding);
    let mut heard = tokio::time::interval(HEARD_EVERY);
    let mut bytes = packets.take_raw();
    let mut total = 0;
    loop {
        let feeding = tokio::task::spawn_blocking(move || {
            let progress = receiver.feed(&bytes);
            (receiver, bytes, progress)
        });
        tokio::pin!(feeding);
        let (fed, fed_bytes, progress) = loop {
            tokio::select! {
                biased;
                fed = &mut feeding => break fed.map_err(io::Error::other)?,
                _ = heard.tick() => context.inputs.send(Input::LeaderHeard { link }).await?,
            }
        };
        (receiver, bytes) = (fed, fed_bytes);
        match progress? {
            Progress::Done { tree, used } => {
                total += used as u64;
                packets.put_back(&bytes[used..]);
                info!(bytes = total, took_ms = begin.elapsed().as_millis(), "the snapshot at {zxid} is complete");
                context.inputs.send(Input::SnapshotReceived { link, tree: Box::new(tree), bytes: total }).await?;
                return Ok(());
            }
            Progress::NeedMore => total += bytes.len() as u64,
        }
        bytes.clear();
        bytes.reserve(SNAPSHOT_READ_BYTES);
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(ReadError::ClosedWithin.into());
        }
    }
}

async fn write(mut stream: impl AsyncWrite + Unpin, mut jobs: Jobs) -> Result<(), End> {
    match jobs.send_bytes(&mut stream).await? {
        // Only bytes are put into this queue.
        Job::End | Job::Bytes(_) | Job::Log { .. } | Job::Snapshot => std::future::pending().await,
    }
}
