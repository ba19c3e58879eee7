//! How hashes of other software encode numbers and bytes. Each value has one encoding; any other is refused.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};

/// The digits of `crypt(3)`, which differ from those of Base64.
const CRYPT64: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A number without a sign and without leading zeros.
pub(super) fn decimal(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let bare = text.len() == 1 || !text.starts_with('0');
    (digits && bare).then(|| text.parse().ok()).flatten()
}

/// Base64 with padding.
pub(super) fn padded(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok()
}

/// Base64 without padding.
pub(super) fn bare(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD_NO_PAD.decode(text).ok()
}

/// Base64 as passlib adapts it: `.` for `+`, no padding.
pub(super) fn adapted(text: &str) -> Option<Vec<u8>> {
    let standard = (!text.contains('+')).then(|| text.replace('.', "+"))?;
    BASE64_STANDARD_NO_PAD.decode(standard).ok()
}

/// The value of a digit of `crypt(3)`.
pub(super) fn crypt64_digit(digit: u8) -> Option<u8> {
    let at = CRYPT64.iter().position(|known| *known == digit)?;
    u8::try_from(at).ok()
}

/// Whether a text has only digits of `crypt(3)`.
pub(super) fn is_crypt64(text: &str) -> bool {
    text.bytes().all(|byte| CRYPT64.contains(&byte))
}

/// Bytes from the digits of `crypt(3)`. Unused bits must be zero, as `crypt` writes them.
pub(super) fn from_crypt64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for (at, digit) in group.iter().enumerate() {
            bits |= u32::from(crypt64_digit(*digit)?) << (6 * at);
        }
        let [first, second, third, _] = bits.to_le_bytes();
        let len = group.len() * 6 / 8;
        bytes.extend([first, second, third].get(..len)?);
    }
    (to_crypt64(&bytes) == text.as_bytes()).then_some(bytes)
}

/// Bytes in the digits of `crypt(3)`: three bytes become four digits, the low bits first.
pub(super) fn to_crypt64(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let (low_first, _) = group.iter().fold((0_u32, 0), |(bits, at), byte| {
            (bits | u32::from(*byte) << at, at + 8)
        });
        for at in 0..=group.len() {
            let digit = low_first >> (6 * at) & 63;
            text.extend(CRYPT64.get(digit as usize));
        }
    }
    text
}
