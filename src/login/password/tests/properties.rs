//! Arbitrary texts in the place of a stored hash.

use proptest::prelude::*;

use super::*;

/// Texts made of the parts of hashes; costs are above the limits or minimal.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "$argon2id",
            "$v=19",
            "$m=64,t=1,p=1",
            "$scrypt",
            "$ln=4,r=8,p=1",
            "$ln=64,r=8,p=1",
            "$pbkdf2",
            "$pbkdf2-sha256",
            "$i=3,l=32",
            "$i=4294967295",
            "$bcrypt-sha256",
            "$v=2,t=2b,r=4",
            "$2b",
            "$04",
            "$99",
            "$5",
            "$6",
            "$rounds=1000",
            "$rounds=999999999",
            "$1",
            "$apr1",
            "$P",
            "$H",
            "$S",
            "$wp",
            "$2y",
            "$y",
            "$j75",
            "$jzz",
            "$j75/z",
            "sha1",
            "sha256",
            "{bcrypt}",
            "AQAAAAEAACcQAAAAE",
            "{SSHA}",
            "{SHA}",
            "{CRYPT}",
            "pbkdf2_sha256",
            "pbkdf2:sha1:3",
            "scrypt:16:8:1",
            "scrypt",
            "argon2",
            "bcrypt_sha256",
            "bcrypt",
            "$",
            "$16",
            "$8",
            "$1",
            ":",
            "=",
            ",",
            "{",
            "}",
            "é",
            "\0",
        ])
        .prop_map(str::to_owned),
        "\\$[./0-9A-Za-z]{0,90}",
        "[0-9a-f]{40}",
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn arbitrary_stored_text_never_matches_or_panics(text in prop_oneof![any::<String>(), ".{0,80}", pieces()]) {
        prop_assert!(!matches(&text, "secret"));
        prop_assert!(parse::scheme(&stored(&text), false) != Scheme::Plaintext);
        let _ = parse::parse(&text, true).map(|known| known.is_outdated());
    }
}
