//! Records: transactions, and the parts of snapshots, events and answers.
//!
//! What always holds: a record that decodes is the same record when written and read again. The exceptions are shapes of old logs
//! that are read and never written; they are named here.

use rookeeper_proto::acl::{AclRequest, ClientInfo};
use rookeeper_proto::election::{InitialMessage, Notification};
use rookeeper_proto::event::WatcherEvent;
use rookeeper_proto::frame::{ReplyHeader, RequestHeader};
use rookeeper_proto::jute;
use rookeeper_proto::multi::MultiHeader;
use rookeeper_proto::path::NodePath;
use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::response::{Create2Response, ErrorResponse, GetAclResponse, GetDataResponse, PathResponse};
use rookeeper_proto::snapshot::{AclEntry, DigestTrailer, FileHeader, NodeEntry, SessionEntry};
use rookeeper_proto::{Acl, Digest, Id, Stat, StatPersisted, Txn, TxnRecord, path};

/// A packet larger than this is refused.
const MAX_PACKET_BYTES: usize = 64 << 10;
/// What a packet may grow by when an old, short form is written in the present one.
const FORMS_BYTES: usize = 64;

macro_rules! round_trips {
    ($bytes:ident: $($record:ty,)*) => {$(
        if let Ok((record, rest)) = jute::from_slice_with_rest::<$record>($bytes) {
            assert!($bytes.ends_with(rest));
            let written = jute::to_vec(&record);
            assert_eq!(jute::from_slice::<$record>(&written).as_ref(), Ok(&record), stringify!($record));
        }
    )*};
}

pub fn run(bytes: &[u8]) {
    round_trips! { bytes:
        AclRequest, ClientInfo<'_>, Acl, Id, Vec<Acl>, Option<Vec<Id>>,
        WatcherEvent<'_>, ReplyHeader, RequestHeader, MultiHeader,
        Create2Response<'_>, ErrorResponse, GetAclResponse, GetDataResponse<'_>, PathResponse<'_>,
        AclEntry, DigestTrailer, FileHeader, NodeEntry<'_>, SessionEntry, Stat, StatPersisted, Digest,
    }
    transaction(bytes);
    server_to_server(bytes);
    if let Ok(text) = jute::from_slice::<String>(bytes) {
        paths(&text);
    }
    paths(&String::from_utf8_lossy(bytes));
}

/// What other servers send: packets without frames, votes, greetings.
fn server_to_server(bytes: &[u8]) {
    if let Ok(Some((packet, length))) = QuorumPacket::split(bytes, MAX_PACKET_BYTES) {
        assert!(length <= bytes.len());
        let mut written = Vec::new();
        packet.append(&mut written);
        let again = QuorumPacket::split(&written, MAX_PACKET_BYTES + FORMS_BYTES);
        assert_eq!(again, Ok(Some((packet.clone(), written.len()))), "a packet read, written and read again");
    }
    if let Ok(vote) = Notification::decode(bytes) {
        let mut written = Vec::new();
        vote.append(&mut written);
        assert_eq!(Notification::decode(&written), Ok(vote), "a vote read, written and read again");
    }
    if let Ok(Some((greeting, length))) = InitialMessage::split(bytes) {
        assert!(length <= bytes.len() && greeting.addresses.iter().map(String::len).sum::<usize>() <= 3 * length);
    }
}

fn transaction(bytes: &[u8]) {
    let Ok(record) = TxnRecord::decode(bytes) else { return };
    let mut written = Vec::new();
    record.append(&mut written);
    if !has_own_shape(&record, &written) {
        return;
    }
    assert_eq!(TxnRecord::decode(&written).as_ref(), Ok(&record), "a transaction read, written and read again");
    let mut twice = Vec::new();
    record.append(&mut twice);
    assert_eq!(written, twice);
}

/// A closeSession without its list is told from one with it only by what follows, and nothing we write looks like either exception:
/// a digest of another version in place of the list, or a list of two empty paths, which no node has.
fn has_own_shape(record: &TxnRecord, written: &[u8]) -> bool {
    const HEADER_BYTES: usize = 32;
    match &record.txn {
        Txn::CloseSession { paths: None } => record.digest.is_none_or(|digest| digest.version == Digest::VERSION),
        Txn::CloseSession { paths: Some(paths) } => {
            paths.iter().any(|path| !path.is_empty()) || written.len() != HEADER_BYTES + 12
        }
        _ => true,
    }
}

/// Paths need no record around them to be hostile.
fn paths(text: &str) {
    let (parent, name) = (path::parent(text), path::name(text));
    let is_valid = |text: &str| NodePath::new(text.to_owned()).is_ok();
    if is_valid(text) && text != path::ROOT {
        let parent = parent.expect("a valid path below the root has a parent");
        assert!(is_valid(parent) && !name.is_empty());
        let slash = if parent == path::ROOT { "" } else { "/" };
        assert_eq!(format!("{parent}{slash}{name}"), text);
    }
}
