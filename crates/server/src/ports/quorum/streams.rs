//! The streams for a learner that fell behind: a part of the log, or a snapshot of the tree while the tree goes on changing.
//!
//! What always holds here: reading happens on a blocking thread, a portion at a time, and waits for the learner; memory holds a few
//! portions. A learner that is gone ends its stream at the next portion, and so does a history that another leader makes this server
//! rewrite, or a tree that another one has replaced: nobody gets a mix.

use std::sync::Arc;

use rookeeper_proto::Zxid;
use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_replica::Shared;
use rookeeper_storage::Files;
use rookeeper_store::StoreError;
use rookeeper_store::catch_up::CatchUp;
use rookeeper_store::snapshot_stream::SnapshotSender;
use tokio::sync::mpsc;

use crate::server::data_directory::PORTION_BYTES;

/// Portions that wait to be sent.
const PORTIONS: usize = 4;

/// Bytes of the log that are read at once.
const READ_AHEAD_BYTES: usize = 256 << 10;

/// The end of a stream, where it arrives in portions.
pub(super) type Portions = mpsc::Receiver<Result<Vec<u8>, StoreError>>;

type Sink = mpsc::Sender<Result<Vec<u8>, StoreError>>;

/// PROPOSAL and COMMIT for every record of the log between the two.
pub(super) fn log(files: Arc<Files>, after: Zxid, before: Zxid) -> Portions {
    produce(move |sink| {
        let mut records = CatchUp::open(&*files.disk, &files.directories, after, before)?;
        let mut portion = Vec::with_capacity(READ_AHEAD_BYTES + (8 << 10));
        let history = files.rewrites();
        while let Some((zxid, record)) = records.next_record()? {
            if files.rewrites() != history {
                // The record may be another leader's, and not committed.
                return Err(StoreError::Misuse("the log that was being sent has been rewritten".to_owned()));
            }
            QuorumPacket::Proposal { zxid, record }.append(&mut portion);
            QuorumPacket::Commit { zxid }.append(&mut portion);
            if portion.len() >= READ_AHEAD_BYTES {
                let next = Vec::with_capacity(READ_AHEAD_BYTES + (8 << 10));
                if sink.blocking_send(Ok(std::mem::replace(&mut portion, next))).is_err() {
                    return Ok(());
                }
            }
        }
        let _ = sink.blocking_send(Ok(portion));
        Ok(())
    })
}

/// SNAP, and the shared tree as it is from now on.
pub(super) fn snapshot(shared: Arc<Shared>) -> Portions {
    produce(move |sink| {
        let mut stream = SnapshotSender::begin(&shared.tree(), PORTION_BYTES);
        let mut portion = Vec::new();
        QuorumPacket::Snap { zxid: stream.zxid() }.append(&mut portion);
        loop {
            // A lock for each portion of a tenth of a millisecond; the rest of the work is done without it.
            let mut more = true;
            while more && portion.len() < READ_AHEAD_BYTES {
                more = stream
                    .next_portion(&shared.tree(), &mut portion)
                    .map_err(|error| StoreError::Misuse(error.to_string()))?;
            }
            let next = Vec::with_capacity(READ_AHEAD_BYTES + PORTION_BYTES);
            if sink.blocking_send(Ok(std::mem::replace(&mut portion, next))).is_err() || !more {
                return Ok(());
            }
        }
    })
}

fn produce(read: impl FnOnce(&Sink) -> Result<(), StoreError> + Send + 'static) -> Portions {
    let (sink, portions) = mpsc::channel(PORTIONS);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read(&sink) {
            let _ = sink.blocking_send(Err(error));
        }
    });
    portions
}
