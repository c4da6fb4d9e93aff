//! From bytes to records.
//!
//! The deserializer borrows strings and buffers from its input. Strings are read the way the original reads them: malformed UTF-8
//! never fails, it becomes U+FFFD. Pairs of three-byte surrogates (what Java writes for characters beyond the basic plane) are
//! joined again.

use serde::de::{DeserializeSeed, SeqAccess, Visitor};

use crate::error::{Error, Result};

/// Decodes one record from the head of `bytes`; bytes after it are ignored.
pub fn from_slice<'de, T: serde::Deserialize<'de>>(bytes: &'de [u8]) -> Result<T> {
    from_slice_with_rest(bytes).map(|(record, _)| record)
}

/// Decodes one record and returns it with the bytes after it.
pub fn from_slice_with_rest<'de, T: serde::Deserialize<'de>>(bytes: &'de [u8]) -> Result<(T, &'de [u8])> {
    let mut deserializer = Deserializer::new(bytes);
    let record = T::deserialize(&mut deserializer)?;
    Ok((record, deserializer.rest()))
}

/// Reads consecutive jute values from one slice.
#[derive(Debug)]
pub struct Deserializer<'de> {
    input: &'de [u8],
    offset: usize,
}

impl<'de> Deserializer<'de> {
    /// Begins at the first byte. Nothing is read yet.
    pub fn new(input: &'de [u8]) -> Self {
        Deserializer { input, offset: 0 }
    }

    /// The bytes not read yet.
    pub fn rest(&self) -> &'de [u8] {
        &self.input[self.offset..]
    }

    /// Reads the next value or record.
    pub fn read<T: serde::Deserialize<'de>>(&mut self) -> Result<T> {
        T::deserialize(self)
    }

    fn take(&mut self, length: usize) -> Result<&'de [u8]> {
        let rest = self.rest();
        if rest.len() < length {
            return Err(Error::UnexpectedEnd { offset: self.offset, needed: length - rest.len() });
        }
        self.offset += length;
        Ok(&rest[..length])
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("take returns exactly N bytes"))
    }

    fn take_i32(&mut self) -> Result<i32> {
        self.take_array().map(i32::from_be_bytes)
    }

    /// The bytes of a buffer or string; they cannot be longer than what is left, whatever the length says.
    fn take_buffer(&mut self) -> Result<&'de [u8]> {
        let offset = self.offset;
        match self.take_i32()? {
            -1 => Err(Error::UnexpectedNull { offset }),
            length if length < 0 => Err(Error::BadLength { offset, length, limit: i32::MAX as usize }),
            length => self.take(length as usize),
        }
    }

    fn next_is_null(&self) -> bool {
        self.rest().starts_with(&[0xff; 4])
    }
}

/// Java writes a character above U+FFFF as two three-byte surrogates; nothing else in the text may be malformed for the repair.
fn join_surrogates(bytes: &[u8]) -> Option<String> {
    if !bytes.contains(&0xed) {
        return None;
    }
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        if let [0xed, a @ 0xa0..=0xaf, b, 0xed, c @ 0xb0..=0xbf, d, tail @ ..] = rest {
            let high = (u32::from(*a & 0x0f) << 6) | u32::from(*b & 0x3f);
            let low = (u32::from(*c & 0x0f) << 6) | u32::from(*d & 0x3f);
            text.push(char::from_u32(0x10000 + (high << 10) + low)?);
            rest = tail;
        } else {
            let next = 1 + rest[1..].iter().position(|byte| *byte == 0xed).unwrap_or(rest.len() - 1);
            text.push_str(std::str::from_utf8(&rest[..next]).ok()?);
            rest = &rest[next..];
        }
    }
    Some(text)
}

macro_rules! unsupported {
    ($($method:ident => $what:literal,)*) => {$(
        fn $method<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value> {
            Err(Error::Unsupported($what))
        }
    )*};
}

impl<'de> serde::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = Error;

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let [byte] = self.take_array()?;
        visitor.visit_bool(byte != 0)
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_i8(i8::from_be_bytes(self.take_array()?))
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_i32(self.take_i32()?)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_i64(i64::from_be_bytes(self.take_array()?))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let bytes = self.take_buffer()?;
        match std::str::from_utf8(bytes) {
            Ok(text) => visitor.visit_borrowed_str(text),
            Err(_) => visitor
                .visit_string(join_surrogates(bytes).unwrap_or_else(|| String::from_utf8_lossy(bytes).into_owned())),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_bytes(self.take_buffer()?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.next_is_null() {
            self.take(4)?;
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let offset = self.offset;
        match self.take_i32()? {
            -1 => Err(Error::UnexpectedNull { offset }),
            // The original reads every other negative count as an empty vector.
            count => visitor.visit_seq(Elements { deserializer: self, left: usize::try_from(count).unwrap_or(0) }),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value> {
        visitor.visit_seq(Elements { deserializer: self, left: length })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, length: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value> {
        Err(Error::Unsupported("enums"))
    }

    unsupported! {
        deserialize_any => "self-description",
        deserialize_i16 => "16-bit integers",
        deserialize_u8 => "unsigned integers",
        deserialize_u16 => "unsigned integers",
        deserialize_u32 => "unsigned integers",
        deserialize_u64 => "unsigned integers",
        deserialize_f32 => "floating point in any ZooKeeper record",
        deserialize_f64 => "floating point in any ZooKeeper record",
        deserialize_char => "characters",
        deserialize_map => "maps in any ZooKeeper record",
        deserialize_identifier => "identifiers",
        deserialize_ignored_any => "self-description",
    }
}

struct Elements<'a, 'de> {
    deserializer: &'a mut Deserializer<'de>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.deserializer).map(Some)
    }

    /// Every element of every ZooKeeper vector takes at least four bytes, so a hostile count cannot reserve more than was sent.
    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.deserializer.rest().len() / 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Buffer, Text};

    #[test]
    fn null_empty_and_present_are_three_things() {
        assert_eq!(from_slice::<Option<Buffer<'_>>>(&[0xff; 4]), Ok(None));
        assert_eq!(from_slice::<Option<Buffer<'_>>>(&[0; 4]), Ok(Some(Buffer(&[]))));
        assert_eq!(from_slice::<Option<Buffer<'_>>>(&[0, 0, 0, 1, 7]), Ok(Some(Buffer(&[7]))));
        assert_eq!(from_slice::<Text<'_>>(&[0xff; 4]), Err(Error::UnexpectedNull { offset: 0 }));
    }

    #[test]
    fn a_length_beyond_the_input_is_an_error_and_allocates_nothing() {
        assert_eq!(
            from_slice::<Buffer<'_>>(&[0x7f, 0xff, 0xff, 0xff, 1]),
            Err(Error::UnexpectedEnd { offset: 4, needed: 0x7fff_fffe })
        );
        assert!(from_slice::<Vec<i64>>(&[0x7f, 0xff, 0xff, 0xff]).is_err());
        assert!(matches!(
            from_slice::<Buffer<'_>>(&[0xff, 0xff, 0xff, 0xfe]),
            Err(Error::BadLength { length: -2, .. })
        ));
    }

    #[test]
    fn a_negative_count_other_than_null_is_an_empty_vector() {
        assert_eq!(from_slice::<Option<Vec<i32>>>(&[0xff, 0xff, 0xff, 0xfe]), Ok(Some(vec![])));
        assert_eq!(from_slice::<Option<Vec<i32>>>(&[0xff; 4]), Ok(None));
    }

    #[test]
    fn malformed_text_is_repaired_not_refused() {
        assert_eq!(&*from_slice::<Text<'_>>(&[0, 0, 0, 2, b'a', 0xff]).unwrap(), "a\u{fffd}");
        let surrogates = [0, 0, 0, 8, b'x', 0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80, b'y'];
        assert_eq!(&*from_slice::<Text<'_>>(&surrogates).unwrap(), "x\u{1f600}y");
        assert!(from_slice::<Text<'_>>(&[0, 0, 0, 3, 0xed, 0xa0, 0xbd]).unwrap().contains('\u{fffd}'));
    }
}
