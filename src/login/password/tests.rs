mod limits;
mod memory;
mod properties;

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

/// A hash made by other software, written by `tests/vectors/passwords.py` or `tests/vectors/tables.py`.
#[derive(Deserialize)]
struct Vector {
    scheme: String,
    made_by: String,
    password: String,
    hash: String,
}

fn vectors() -> Vec<Vector> {
    let read = |text| serde_json::from_str::<Vec<Vector>>(text).unwrap();
    let mut vectors = read(include_str!("../../../tests/vectors/passwords.json"));
    vectors.extend(read(include_str!("../../../tests/vectors/tables.json")));
    vectors
}

/// One vector of each form; forms differ in more than numbers and random parts.
fn forms() -> Vec<Vector> {
    let form = |vector: &Vector| {
        let hash = &vector.hash;
        let fields = hash.split(['$', '}']).filter(|field| field.len() < 30);
        let digits = |field: &str| field.replace(|c: char| c.is_ascii_digit(), "");
        let scheme: Vec<_> = fields.map(digits).take(2).collect();
        (vector.scheme.clone(), hash.len(), scheme)
    };
    let forms: BTreeMap<_, _> = vectors()
        .into_iter()
        .filter(|vector| {
            let slow = ["m=19456", "m=65536", "$j9T$"];
            !slow.iter().any(|cost| vector.hash.contains(cost))
        })
        .map(|vector| (form(&vector), vector))
        .collect();
    forms.into_values().collect()
}

fn password(text: &str) -> Password {
    Password::parse(text).unwrap()
}

fn stored(text: &str) -> PasswordHash {
    PasswordHash::new(text.to_owned())
}

/// The result of verification without the decoy, which would make thousands of texts slow.
fn matches(text: &str, password: &str) -> bool {
    parse::parse(text, false)
        .filter(|known| known.is_affordable())
        .is_some_and(|known| known.matches(password.as_bytes(), &Memory::default()))
}

#[test]
fn only_the_right_password_matches() {
    let hasher = Hasher::new().unwrap();
    let hash = hasher.hash(&password("correct horse")).unwrap();
    assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    let verify = |text, hash| hasher.verify(&password(text), hash);
    assert_eq!(verify("correct horse", Some(&hash)), Verdict::Match);
    assert_eq!(verify("correct horsf", Some(&hash)), Verdict::Mismatch);
    assert_eq!(verify("correct horse", None), Verdict::Mismatch);
    assert!(!hasher.is_outdated(&hash));
}

#[test]
fn hashes_of_other_software_are_recognised_and_verified() {
    let hasher = Hasher::new().unwrap();
    let vectors = vectors();
    assert!(vectors.len() > 200, "{}", vectors.len());
    for vector in &vectors {
        let Vector {
            scheme,
            made_by,
            password,
            hash,
        } = vector;
        let told = hasher.scheme(&stored(hash));
        assert_eq!(told.name(), scheme, "{made_by}: {hash}");
        assert!(matches(hash, password), "{made_by}: {hash}");
        assert!(!matches(hash, "wrong"), "{made_by}: {hash}");
        let (start, last) = password.split_at(password.char_indices().last().unwrap().0);
        let flipped = if last == "!" { "?" } else { "!" };
        for wrong in [
            format!("{start}{flipped}"),
            format!("{password} "),
            start.into(),
        ] {
            assert!(!matches(hash, &wrong), "{made_by}: {hash} {wrong}");
        }
    }
}

#[test]
fn the_hasher_verifies_every_scheme() {
    let hasher = Hasher::new().unwrap();
    let first: BTreeMap<_, _> = vectors()
        .into_iter()
        .map(|vector| (vector.scheme.clone(), vector))
        .collect();
    assert_eq!(first.len(), 16, "all but plaintext and unknown");
    for vector in first.values() {
        let hash = stored(&vector.hash);
        let verify = |text: &str| hasher.verify(&password(text), Some(&hash));
        assert_eq!(verify(&vector.password), Verdict::Match, "{}", vector.hash);
        assert_eq!(verify("wrong"), Verdict::Mismatch, "{}", vector.hash);
    }
}

#[test]
fn a_damaged_hash_never_matches() {
    for vector in forms() {
        let (text, password) = (&vector.hash, &vector.password);
        for end in 0..text.len() {
            assert!(!matches(&text[..end], password), "{text} until {end}");
        }
        for (at, _) in text.char_indices() {
            // Changing the lowest bit does not turn one scheme into another; `$2x$` is not supported.
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let damaged = String::from_utf8(bytes).unwrap();
            // bcrypt at cost 14 takes a second for the same result.
            assert!(
                damaged.contains("$14$") || !matches(&damaged, password),
                "{damaged}"
            );
            let cut = format!("{}{}", &text[..at], &text[at + 1..]);
            // `{crypt}` is another tag for the same hash.
            assert!(
                cut.starts_with("{crypt}") || !matches(&cut, password),
                "{text} without {at}"
            );
        }
        for longer in ["$", "A", "=", " ", "\n", "é", "\0"] {
            assert!(!matches(&format!("{text}{longer}"), password), "{text}");
            assert!(!matches(&format!("{longer}{text}"), password), "{text}");
        }
    }
}

#[test]
fn bcrypt_does_not_truncate_passwords() {
    let long = "0123456789".repeat(7) + "ab";
    for vector in vectors() {
        if vector.scheme == "bcrypt" && vector.password.len() == 72 {
            assert!(matches(&vector.hash, &vector.password));
            assert!(!matches(&vector.hash, &format!("{}c", vector.password)));
        }
    }
    let longer = long + "c";
    let digested = |vector: &Vector| vector.scheme == "bcrypt-sha256" && vector.password == longer;
    assert!(vectors().iter().any(digested));
}

#[test]
fn an_argon2id_hash_below_the_current_cost_is_outdated() {
    let hasher = Hasher::new().unwrap();
    let outdated = |kind: &str, cost: &str| {
        let text =
            format!("${kind}${cost}$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A");
        hasher.is_outdated(&stored(&text))
    };
    for cost in [
        "m=19456,t=2,p=1",
        "m=65536,t=3,p=4",
        "m=65536,t=1,p=1",
        "m=102400,t=2,p=8",
    ] {
        assert!(!outdated("argon2id", &format!("v=19${cost}")), "{cost}");
        assert!(outdated("argon2i", &format!("v=19${cost}")), "{cost}");
        assert!(outdated("argon2id", &format!("v=16${cost}")), "{cost}");
        assert!(outdated("argon2id", cost), "{cost}");
    }
    for cost in ["m=19456,t=1,p=1", "m=19455,t=16,p=1", "m=38911,t=1,p=1"] {
        assert!(outdated("argon2id", &format!("v=19${cost}")), "{cost}");
    }
    for vector in vectors() {
        let outdated = hasher.is_outdated(&stored(&vector.hash));
        let good = ["$m=19456,t=2,p=1$", "$m=65536,t=4,p=1$"];
        let good = good.iter().any(|cost| vector.hash.contains(cost));
        assert_eq!(outdated, !good, "{}", vector.hash);
    }
}

#[test]
fn plaintext_matches_only_if_it_is_allowed() {
    let (strict, lax) = (Hasher::new().unwrap(), Hasher::new().unwrap());
    let lax = lax.allow_plaintext(true);
    for text in [
        "secret", "!secret", "*", "Grüße", "pa$$word", "a:b$c$d", " x ",
    ] {
        let hash = stored(text);
        if text != "*" {
            assert_eq!(lax.scheme(&hash), Scheme::Plaintext);
            assert_eq!(lax.verify(&password(text), Some(&hash)), Verdict::Match);
            let other = format!("{text}?");
            assert_eq!(
                lax.verify(&password(&other), Some(&hash)),
                Verdict::Mismatch
            );
        }
        assert!(lax.is_outdated(&hash));
        assert_eq!(strict.scheme(&hash), Scheme::Unknown);
        assert_eq!(
            strict.verify(&password(text), Some(&hash)),
            Verdict::Unsupported
        );
        let unlax = Hasher::new().unwrap().allow_plaintext(false);
        assert_eq!(unlax.scheme(&hash), Scheme::Unknown);
    }
}

#[test]
fn text_that_looks_like_a_hash_is_not_plaintext() {
    let md5 = "5ebe2294ecd0e0f08eab7690d2a6ee69";
    let sha1 = "e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4";
    for text in [
        "",
        "$",
        "$secret",
        "$2b$12$short",
        "$y$j9T$salt$hash",
        "$S$DSomething",
        "U$S$DSomething",
        "$wp$2y$10$short",
        "{",
        "{secret",
        "{PLAIN}secret",
        "{SSHA}secret",
        "pbkdf2_sha256$secret",
        "PBKDF2_SHA512$1$2$3",
        "pbkdf2:md5:1$2$3",
        "scrypt:secret",
        "argon2$secret",
        "bcrypt_sha256$secret",
        "sha1$salt$digest",
        "unsalted_md5$$digest",
        "!",
        "!!",
        "*",
        "!$6$salt$hash",
        "!vbQ5B2e8p0sVJ5Yt1Kz3mNw7xRqLcDfGhTjUaEoI",
        md5,
        sha1,
        &md5.to_uppercase(),
        &format!("*{}", sha1.to_uppercase()),
        &md5.repeat(4),
    ] {
        assert!(parse::parse(text, true).is_none(), "{text}");
        assert_eq!(
            parse::scheme(&stored(text), true),
            Scheme::Unknown,
            "{text}"
        );
    }
    for vector in vectors() {
        for end in 0..vector.hash.len() {
            let text = &vector.hash[..end];
            let plaintext = parse::scheme(&stored(text), true) == Scheme::Plaintext;
            // The names of Django and Werkzeug alone do not identify a scheme.
            assert!(!plaintext || end <= "pbkdf2".len() + 6, "{text}");
        }
    }
}

#[test]
fn debug_shows_no_secret() {
    let hasher = Hasher::new().unwrap().allow_plaintext(true);
    let shown = format!("{:?} {:?} {hasher:?}", password("secret"), stored("secret"));
    assert_eq!(shown, "Password(..) PasswordHash(..) Hasher(argon2id)");
}

#[test]
fn invalid_passwords_do_not_parse() {
    for text in ["", "a\0", "a\nb", "\u{7f}", &"a".repeat(1025)] {
        assert!(Password::parse(text).is_none());
    }
    assert!(Password::parse(&"ä".repeat(512)).is_some());
}
