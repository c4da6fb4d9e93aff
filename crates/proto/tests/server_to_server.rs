//! What servers of the original sent each other, decoded and encoded again to the same bytes.

#![allow(clippy::disallowed_methods, reason = "a test reads what was recorded")]

use rookeeper_proto::election::{InitialMessage, Notification};
use rookeeper_proto::quorum::{Extent, ForwardedRequest, QuorumPacket};
use rookeeper_proto::{Id, SessionId, TxnRecord, Zxid, frame};

/// The lines of a recording: the type of a message, and its bytes.
fn recorded(name: &str) -> Vec<(String, Vec<u8>)> {
    let path = format!("{}/../../tests/fixtures/quorum/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the recording is there");
    let line = |line: &str| {
        let (kind, hex) = line.split_once(' ').expect("a type and bytes");
        let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("hex is ASCII"));
        (kind.to_owned(), digits.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect())
    };
    text.lines().map(line).collect()
}

#[test]
fn every_election_message_comes_out_as_it_went_in() {
    let messages = recorded("election");
    assert!(messages.len() >= 50);
    for (kind, bytes) in messages {
        let mut again = Vec::new();
        if kind == "INITIAL" {
            let (message, length) = InitialMessage::split(&bytes).expect("decodes").expect("is whole");
            assert_eq!(length, bytes.len());
            message.append(&mut again);
        } else {
            let (payload, length) = frame::split(&bytes, 1 << 20).expect("is framed").expect("is whole");
            assert_eq!(length, bytes.len());
            let notification = Notification::decode(payload).expect("decodes");
            frame::append(&mut again, |output| notification.append(output));
        }
        assert_eq!(again, bytes, "{kind}");
    }
}

#[test]
fn every_quorum_packet_comes_out_as_it_went_in() {
    const LIMIT: usize = 1 << 20;
    let packets = recorded("quorum");
    assert!(packets.len() >= 450);
    let mut stream = Vec::new();
    for (kind, bytes) in &packets {
        let (packet, length) = QuorumPacket::split(bytes, LIMIT).expect("decodes").expect("is whole");
        assert_eq!(length, bytes.len(), "{kind}");
        let mut again = Vec::new();
        packet.append(&mut again);
        assert_eq!(&again, bytes, "{kind}: {packet:?}");
        let name = format!("{packet:?}").split([' ', '(', '{']).next().map(str::to_uppercase);
        assert_eq!(name.map(|name| name.replace("REVALIDATED", "REVALIDATE")).as_ref(), Some(kind));
        if let QuorumPacket::Proposal { record, .. } | QuorumPacket::Inform { record, .. } = packet {
            let mut body = Vec::new();
            TxnRecord::decode(record).expect("a transaction").append(&mut body);
            assert_eq!(body, record, "{kind}");
        }
        // A packet that has not arrived as a whole is waited for, wherever it is cut.
        for cut in 0..bytes.len() {
            assert_eq!(QuorumPacket::split(&bytes[..cut], LIMIT), Ok(None), "{kind} cut at {cut}");
        }
        stream.extend_from_slice(bytes);
    }
    let (mut rest, mut count) = (stream.as_slice(), 0);
    while let Some((_, length)) = QuorumPacket::split(rest, LIMIT).expect("decodes") {
        rest = &rest[length..];
        count += 1;
    }
    assert_eq!((rest.len(), count), (0, packets.len()), "packets follow one another without a frame");
}

/// A list of identities that goes on where the bytes end is waited for as long as a packet may be, and its strings are bounded too.
#[test]
fn the_extent_of_a_packet_is_known_without_its_content() {
    let request = ForwardedRequest {
        session: SessionId(1),
        cxid: 2,
        op: 1,
        body: b"body",
        identities: Some(vec![Id::new("ip", "10.0.0.7"), Id::new("digest", "")]),
    };
    let mut bytes = Vec::new();
    QuorumPacket::Request(request).append(&mut bytes);
    let length = bytes.len();
    bytes.extend_from_slice(b"the next packet");
    assert_eq!(Extent::of(&bytes, 100), Ok(Some(Extent { length, snapshot: None })));
    for cut in 0..length {
        assert_eq!(Extent::of(&bytes[..cut], 100), Ok(None), "cut at {cut}");
    }
    bytes.clear();
    QuorumPacket::Snap { zxid: Zxid(7) }.append(&mut bytes);
    assert_eq!(Extent::of(&bytes, 100), Ok(Some(Extent { length: 20, snapshot: Some(Zxid(7)) })));
    // Two thousand million identities, of which none arrives.
    bytes[16..20].copy_from_slice(&i32::MAX.to_be_bytes());
    assert_eq!(Extent::of(&bytes, 100), Ok(None));
    bytes.extend_from_slice(&[0; 200]);
    assert!(Extent::of(&bytes, 100).is_err(), "more than a packet may be, and no end");
    bytes.truncate(20);
    bytes.extend_from_slice(&i32::MAX.to_be_bytes());
    assert!(Extent::of(&bytes, 100).is_err(), "an identity longer than any packet");
}

#[test]
fn hostile_packets_are_errors() {
    for length in [i32::MAX, -2, 101] {
        let mut bytes = vec![0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        assert!(QuorumPacket::split(&bytes, 100).is_err(), "{length}");
    }
    let mut unknown = vec![0xff; 20];
    unknown[..4].copy_from_slice(&77_i32.to_be_bytes());
    assert!(QuorumPacket::split(&unknown, 100).is_err());
}
