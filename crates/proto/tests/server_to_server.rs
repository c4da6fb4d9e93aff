//! What servers of the original sent each other, decoded and encoded again to the same bytes.

use rookeeper_proto::election::{InitialMessage, Notification};
use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::{TxnRecord, frame};

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
