//! Reads the fields of protobuf messages as slices, and writes fields. Knows the wire format, but no message.
//!
//! Reading refuses exactly what prost refuses, also in fields that nobody reads: a property test and a fuzz target compare
//! both.

use prost::encoding::{WireType, decode_key, decode_varint, encode_varint, encoded_len_varint};
use thiserror::Error;

/// How deep messages and groups may be nested, as in prost. A message with more is refused.
const DEPTH: u32 = 100;

/// The bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a protobuf message")]
pub struct Malformed;

impl From<prost::DecodeError> for Malformed {
    fn from(_: prost::DecodeError) -> Self {
        Self
    }
}

/// The fields of a message, in their order.
#[derive(Clone)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    depth: u32,
}

/// A field of a message.
pub(super) struct Field<'a> {
    pub(crate) number: u32,
    /// The content of a field with a length: a text, bytes or a message.
    delimited: Option<&'a [u8]>,
    depth: u32,
}

impl<'a> Fields<'a> {
    /// The fields of a whole message.
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self {
            rest: message,
            depth: DEPTH,
        }
    }

    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        let (number, kind) = decode_key(&mut self.rest)?;
        let delimited = match kind {
            WireType::LengthDelimited => Some(delimited(&mut self.rest)?),
            WireType::Varint
            | WireType::SixtyFourBit
            | WireType::ThirtyTwoBit
            | WireType::StartGroup
            | WireType::EndGroup => {
                skip(&mut self.rest, number, kind, self.depth)?;
                None
            }
        };
        Ok(Field {
            number,
            delimited,
            depth: self.depth,
        })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.rest.is_empty()).then(|| self.field())
    }
}

impl<'a> Field<'a> {
    /// The content of a field with a length.
    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        self.delimited.ok_or(Malformed)
    }

    /// The fields of the message that is its content.
    pub(super) fn message(self) -> Result<Fields<'a>, Malformed> {
        Ok(Fields {
            rest: self.delimited.ok_or(Malformed)?,
            depth: self.depth.checked_sub(1).ok_or(Malformed)?,
        })
    }
}

fn delimited<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(decode_varint(rest)?).map_err(|_| Malformed)?;
    let (bytes, after) = rest.split_at_checked(length).ok_or(Malformed)?;
    *rest = after;
    Ok(bytes)
}

/// prost's `skip_field` does the same, but only from the depth of an outermost message.
fn skip(rest: &mut &[u8], number: u32, kind: WireType, depth: u32) -> Result<(), Malformed> {
    let inner = depth.checked_sub(1).ok_or(Malformed)?;
    let fixed = match kind {
        WireType::Varint => {
            decode_varint(rest)?;
            0
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => {
            delimited(rest)?;
            0
        }
        WireType::StartGroup => loop {
            match decode_key(rest)? {
                (end, WireType::EndGroup) if end == number => break 0,
                (_, WireType::EndGroup) => return Err(Malformed),
                (number, kind) => skip(rest, number, kind, inner)?,
            }
        },
        WireType::EndGroup => return Err(Malformed),
    };
    *rest = rest.get(fixed..).ok_or(Malformed)?;
    Ok(())
}

/// The length of a field with this many bytes of content, whose tag is one byte.
pub(super) fn field_length(content: usize) -> usize {
    1 + encoded_len_varint(content as u64) + content
}

/// Writes the start of a field with this many bytes of content. Its number is below 16.
pub(super) fn open(out: &mut Vec<u8>, number: u8, length: usize) {
    out.push(number << 3 | WireType::LengthDelimited as u8);
    encode_varint(length as u64, out);
}

/// The length of a field that is left out if it is empty, which means the same.
pub(super) fn text_length(text: &[u8]) -> usize {
    match text {
        [] => 0,
        text => field_length(text.len()),
    }
}

/// Writes a field of bytes, or nothing.
pub(super) fn text(out: &mut Vec<u8>, number: u8, text: &[u8]) {
    if !text.is_empty() {
        open(out, number, text.len());
        out.extend_from_slice(text);
    }
}

/// The length of a field of a number that is left out if it is zero.
pub(super) fn number_length(value: i32) -> usize {
    match value {
        0 => 0,
        value => 1 + encoded_len_varint(i64::from(value).cast_unsigned()),
    }
}

/// Writes a field of a number, or nothing.
pub(super) fn number(out: &mut Vec<u8>, number: u8, value: i32) {
    if value != 0 {
        out.push(number << 3 | WireType::Varint as u8);
        encode_varint(i64::from(value).cast_unsigned(), out);
    }
}
