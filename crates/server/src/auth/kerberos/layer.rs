//! The last two messages of SASL GSSAPI (RFC 4752), in which both sides agree on a security layer: here and in Java, on none.
//!
//! Bytes in, bytes out; they are wrapped and unwrapped by others. What always holds: a message that is malformed or asks for protection that
//! was not offered ends the exchange.

use super::Refusal;

/// The bit for no security layer; the others are for integrity and confidentiality.
const NO_LAYER: u8 = 1;

/// Bit, and 65536 bytes, as Java's server says it.
pub(super) const OFFER: [u8; 4] = [NO_LAYER, 1, 0, 0];

/// What the side that was asked answers to an offer: no layer, no buffer for it, and the name to act as.
pub(super) fn answer(offer: &[u8], authorization_id: &str) -> Result<Vec<u8>, Refusal> {
    match offer {
        [layers, _, _, _] if layers & NO_LAYER != 0 => Ok([&[NO_LAYER, 0, 0, 0], authorization_id.as_bytes()].concat()),
        [_, _, _, _] => Err(Refusal::Malformed("the other side demands a security layer, and none is spoken here")),
        _ => Err(Refusal::Malformed("an offer of security layers that has not four bytes")),
    }
}

/// The name that the other side asks to act as; none where it leaves that open.
pub(super) fn judge(answer: &[u8]) -> Result<Option<String>, Refusal> {
    let Some((head, name)) = answer.split_first_chunk::<4>() else {
        return Err(Refusal::Malformed("a choice of a security layer that has less than four bytes"));
    };
    // As Java, which looks for the bit; more than one bit would be no choice.
    if head[0] != NO_LAYER {
        return Err(Refusal::Malformed("it chose a security layer that was not offered"));
    }
    let name = std::str::from_utf8(name).map_err(|_| Refusal::Malformed("a name to act as that is not UTF-8"))?;
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_agree_on_no_layer() {
        assert_eq!(OFFER, [1, 1, 0, 0]);
        let answered = answer(&OFFER, "bob@R").unwrap();
        assert_eq!(answered, b"\x01\0\0\0bob@R");
        assert_eq!(judge(&answered), Ok(Some("bob@R".to_owned())));
        assert_eq!(judge(&answer(&OFFER, "").unwrap()), Ok(None));
        // Java's client names a size, others offer all layers.
        assert_eq!(judge(b"\x01\x01\0\0"), Ok(None));
        assert_eq!(answer(&[7, 0xff, 0xff, 0xff], "").unwrap(), [1, 0, 0, 0]);
    }

    #[test]
    fn what_is_no_choice_is_refused() {
        for message in [
            &b""[..],
            b"\x01",
            b"\x01\0\0",
            b"\0\0\0\0",
            b"\x02\0\0\0",
            b"\x04\0\0\0",
            b"\x03\0\0\0",
            b"\x01\0\0\0\xff",
        ] {
            assert!(judge(message).is_err(), "{message:?}");
        }
        for offer in [&b""[..], b"\x01", b"\x01\0\0", b"\0\0\0\0", b"\x06\0\0\0", b"\x01\0\0\0\0"] {
            assert!(answer(offer, "bob@R").is_err(), "{offer:?}");
        }
    }
}
