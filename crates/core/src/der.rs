//! Reads elements of DER (X.690), as far as keys and certificates need them.

/// The tag of an INTEGER.
pub const INTEGER: u8 = 2;
/// The tag of an OCTET STRING.
pub const OCTETS: u8 = 4;
/// The tag of a SEQUENCE.
pub const SEQUENCE: u8 = 0x30;

/// Tag and content of the first element (X.690, 8.1), and the bytes after it.
pub fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&[length], rest) = rest.split_first_chunk()?;
            (usize::from(length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}
