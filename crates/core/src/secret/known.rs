//! Publicly known secrets: those of published lists, and patterns.
//!
//! The table holds the first eight bytes of the SHA-256 of each known secret, as a sorted line of hexadecimal digits;
//! `tests/tools/known-secrets` adds to it. Among some 1,900 entries, a secret drawn at random is refused by mistake with
//! a probability of about 10⁻¹⁵, all of its forms taken together.

use aws_lc_rs::digest;
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use crate::hex;

const TABLE: &str = include_str!("known_secrets.txt");

/// The length of an entry, and of a line.
const ENTRY: usize = 16;
const LINE: usize = ENTRY + 1;

/// Either alphabet, with padding or without.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: [GeneralPurpose; 4] = [
    GeneralPurpose::new(&alphabet::STANDARD, LENIENT),
    GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT),
    GeneralPurpose::new(&alphabet::STANDARD, LENIENT.with_encode_padding(false)),
    GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT.with_encode_padding(false)),
];

type Bytes = Zeroizing<Vec<u8>>;

/// Whether a secret can be looked up, in any of its forms: with spaces and quotes around it, encoded in base64 or
/// hexadecimal digits, and decoded from them.
pub(super) fn is_known(secret: &[u8]) -> bool {
    let trimmed = trimmed(secret);
    let upper = Zeroizing::new(hex::encode(secret).to_ascii_uppercase());
    let encoded = BASE64
        .iter()
        .map(|engine| Zeroizing::new(engine.encode(secret).into_bytes()))
        .chain([
            Zeroizing::new(hex::encode(secret).into_bytes()),
            Zeroizing::new(upper.as_bytes().to_vec()),
        ]);
    is_listed(trimmed)
        || is_pattern(trimmed)
        || encoded.into_iter().any(|form| is_listed(&form))
        || decoded(trimmed).any(|form| is_listed(&form) || is_pattern(&form))
}

fn decoded(secret: &[u8]) -> impl Iterator<Item = Bytes> {
    let digits = str::from_utf8(secret)
        .ok()
        .and_then(|text| hex::decode(&text.to_ascii_lowercase()));
    let base64 = BASE64.iter().take(2);
    base64
        .filter_map(move |engine| engine.decode(secret).ok())
        .chain(digits)
        .map(Zeroizing::new)
}

/// Without the spaces and quotes around it, as in the table.
fn trimmed(text: &[u8]) -> &[u8] {
    let is_around = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'');
    let mut text = text;
    while let [first, rest @ ..] = text
        && is_around(first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_around(last)
    {
        text = rest;
    }
    text
}

/// Whether a text is in the table.
fn is_listed(text: &[u8]) -> bool {
    let hash = digest::digest(&digest::SHA256, trimmed(text));
    let wanted = hex::encode(hash.as_ref().get(..ENTRY / 2).unwrap_or_default());
    let line = |index: usize| TABLE.get(index * LINE..index * LINE + ENTRY).unwrap_or("");
    let (mut low, mut high) = (0, TABLE.len() / LINE);
    while low < high {
        let middle = low.midpoint(high);
        match line(middle).cmp(&wanted) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    false
}

/// Whether most bytes repeat or follow the byte before, or the whole repeats. Random bytes do not.
fn is_pattern(secret: &[u8]) -> bool {
    let repeats = (1..=secret.len() / 2).any(|period| {
        secret
            .iter()
            .zip(secret.iter().skip(period))
            .all(|(left, right)| left == right)
    });
    let pairs = secret.iter().zip(secret.iter().skip(1));
    let following = |step: u8| {
        let follows = |(left, right): &(&u8, &u8)| right.wrapping_sub(**left) == step;
        pairs.clone().filter(follows).count()
    };
    let most = [0, 1, u8::MAX].map(following).into_iter().max();
    repeats || most.unwrap_or(0) * 2 > secret.len()
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

    use super::*;

    /// RFC 7515, A.1, and RFC 7520, 3.5, as in JWKs; the current and the former secret of jwt.io.
    const EXAMPLES: [&str; 5] = [
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
        "your-256-bit-secret",
        "a-string-secret-at-least-256-bits-long",
        "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    ];

    #[test]
    fn the_table_is_sorted_and_has_no_duplicates() {
        assert!(TABLE.is_ascii() && TABLE.len().is_multiple_of(LINE));
        let lines: Vec<_> = TABLE.lines().collect();
        assert_eq!(lines.len(), TABLE.len() / LINE);
        assert!(lines.len() > 1_900, "{}", lines.len());
        assert!(lines.windows(2).all(|pair| pair[0] < pair[1]));
        for line in lines {
            let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            assert!(line.len() == ENTRY && line.bytes().all(is_digit), "{line}");
        }
    }

    #[test]
    fn published_secrets_are_known_in_each_form() {
        for example in EXAMPLES {
            let mut forms: Vec<Vec<u8>> = vec![
                example.into(),
                format!(" {example}\r\n").into(),
                format!("\"{example}\"").into(),
                BASE64_STANDARD.encode(example).into(),
                BASE64_URL_SAFE_NO_PAD.encode(example).into(),
                hex::encode(example.as_bytes()).into(),
                hex::encode(example.as_bytes()).to_uppercase().into(),
            ];
            forms.extend(BASE64_URL_SAFE_NO_PAD.decode(example));
            for form in forms {
                assert!(is_known(&form), "{example} as {}", form.escape_ascii());
            }
        }
    }

    #[test]
    fn simple_patterns_are_known() {
        let count: Vec<u8> = (0..64).collect();
        for pattern in [
            &count[..],
            hex::encode(&count).as_bytes(),
            BASE64_STANDARD.encode(&count).as_bytes(),
            &count.iter().rev().copied().collect::<Vec<_>>(),
            b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
            b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
            &[0; 32],
            b"00000000000000000000000000000000",
            b"correct horse!!!correct horse!!!correct",
        ] {
            assert!(is_known(pattern), "{}", pattern.escape_ascii());
        }
    }

    #[test]
    fn random_secrets_are_not_known() {
        for _ in 0..500 {
            let secret = super::super::Secret::generate();
            assert!(!is_known(secret.as_bytes()));
            let half = &secret.as_bytes()[..64];
            assert!(!is_known(half));
            let raw = hex::decode(str::from_utf8(half).unwrap()).unwrap();
            assert!(!is_known(&raw));
            assert!(!is_known(BASE64_STANDARD.encode(&raw).as_bytes()));
        }
    }
}
