//! From records to bytes.

use serde::ser::{Impossible, Serialize, SerializeSeq, SerializeStruct, SerializeTuple, SerializeTupleStruct};

use crate::error::{Error, Result};

/// Encodes one record into a new vector.
pub fn to_vec<T: Serialize + ?Sized>(record: &T) -> Vec<u8> {
    let mut output = Vec::with_capacity(64);
    append(&mut output, record);
    output
}

/// Encodes one record behind what `output` already holds.
///
/// Panics only where a type cannot be expressed in jute at all (a map, a float), which the first test that touches it shows.
pub fn append<T: Serialize + ?Sized>(output: &mut Vec<u8>, record: &T) {
    record.serialize(&mut Serializer { output }).expect("records are made of types that jute has");
}

/// Appends jute values to a byte vector.
#[derive(Debug)]
pub struct Serializer<'a> {
    output: &'a mut Vec<u8>,
}

impl Serializer<'_> {
    fn put_length(&mut self, length: usize) -> Result<()> {
        let length = i32::try_from(length).map_err(|_| Error::Unsupported("lengths above 2^31-1"))?;
        self.output.extend_from_slice(&length.to_be_bytes());
        Ok(())
    }
}

macro_rules! unsupported {
    ($($method:ident($type:ty) => $what:literal,)*) => {$(
        fn $method(self, _: $type) -> Result<()> {
            Err(Error::Unsupported($what))
        }
    )*};
}

impl<'a, 'b> serde::Serializer for &'a mut Serializer<'b> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Impossible<(), Error>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Impossible<(), Error>;

    fn serialize_bool(self, value: bool) -> Result<()> {
        self.output.push(u8::from(value));
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<()> {
        self.output.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn serialize_i32(self, value: i32) -> Result<()> {
        self.output.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn serialize_i64(self, value: i64) -> Result<()> {
        self.output.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    /// The original's writer works on UTF-16 units: a character above U+FFFF goes out as two three-byte surrogates.
    fn serialize_str(self, value: &str) -> Result<()> {
        // Nearly all are ASCII, which is seen a word at a time.
        if value.is_ascii() || value.bytes().all(|byte| byte < 0xf0) {
            return self.serialize_bytes(value.as_bytes());
        }
        let mut encoded = Vec::with_capacity(value.len() + value.len() / 2);
        for character in value.chars() {
            if (character as u32) < 0x10000 {
                encoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    encoded.extend_from_slice(&[
                        0xe0 | (*unit >> 12) as u8,
                        0x80 | ((*unit >> 6) & 0x3f) as u8,
                        0x80 | (*unit & 0x3f) as u8,
                    ]);
                }
            }
        }
        self.serialize_bytes(&encoded)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<()> {
        self.put_length(value.len())?;
        self.output.extend_from_slice(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<()> {
        self.output.extend_from_slice(&[0xff; 4]);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<()> {
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<()> {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self> {
        self.put_length(length.ok_or(Error::Unsupported("vectors of unknown length"))?)?;
        Ok(self)
    }

    fn serialize_tuple(self, _length: usize) -> Result<Self> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Result<Self> {
        Ok(self)
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Self> {
        Ok(self)
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Self::SerializeMap> {
        Err(Error::Unsupported("maps in any ZooKeeper record"))
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<()> {
        Err(Error::Unsupported("enums"))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<()> {
        Err(Error::Unsupported("enums"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant> {
        Err(Error::Unsupported("enums"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant> {
        Err(Error::Unsupported("enums"))
    }

    unsupported! {
        serialize_i16(i16) => "16-bit integers",
        serialize_u8(u8) => "unsigned integers",
        serialize_u16(u16) => "unsigned integers",
        serialize_u32(u32) => "unsigned integers",
        serialize_u64(u64) => "unsigned integers",
        serialize_f32(f32) => "floating point in any ZooKeeper record",
        serialize_f64(f64) => "floating point in any ZooKeeper record",
        serialize_char(char) => "characters",
    }
}

macro_rules! in_order {
    ($($trait:ident::$method:ident($($key:ty)?),)*) => {$(
        impl $trait for &mut Serializer<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, $(_: $key,)? value: &T) -> Result<()> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<()> {
                Ok(())
            }
        }
    )*};
}

in_order! {
    SerializeSeq::serialize_element(),
    SerializeTuple::serialize_element(),
    SerializeTupleStruct::serialize_field(),
    SerializeStruct::serialize_field(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Buffer, Text};

    #[test]
    fn characters_beyond_the_basic_plane_become_two_surrogates() {
        assert_eq!(to_vec("\u{1f600}"), [0, 0, 0, 6, 0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80]);
        assert_eq!(to_vec("é"), [0, 0, 0, 2, 0xc3, 0xa9]);
    }

    #[test]
    fn records_are_their_fields_in_order() {
        #[derive(serde::Serialize)]
        struct Record<'a> {
            number: i32,
            flag: bool,
            text: Option<Text<'a>>,
            data: Option<Buffer<'a>>,
            list: Vec<i64>,
        }
        let record = Record { number: -2, flag: true, text: None, data: Some(Buffer(&[9])), list: vec![1] };
        let expected =
            [0xff, 0xff, 0xff, 0xfe, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(to_vec(&record), expected);
    }
}
