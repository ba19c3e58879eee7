//! Hashes that are recognised and not computed: above the cost limits, in forms that no software writes, or refused.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::*;

#[test]
fn unsupported_hashes_never_match() {
    let hasher = Hasher::new().unwrap();
    for text in [
        "",
        "secret",
        "{SHA}",
        "{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
        "{MD5}Xr4ilOzQ4PCOq3aQ0qbuaQ==",
        "U$S$5hjFIoIamTdN8bbSZxmnAWNN2/NcC8ktCv05mrgDZUuxIjHfEhuJ",
        "sha1$$e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4",
        "md5$BCFQGIEdRgYrIZ1P$241f6073ebda1a1af34c9547b519253d",
        "$wp$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
        "{CRYPT}ab1dkRBbx7jTo",
        "{CLEARTEXT}secret",
        "$2b$12$abcdefghijklmnopqrstuv",
        "$2x$04$......................RzGmfHOnHFmCsTCPjwRH0HOPBFHyWJq",
        "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ",
        "$argon2id$v=18$m=19456,t=2,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
    ] {
        let verdict = hasher.verify(&password("secret"), Some(&stored(text)));
        assert_eq!(verdict, Verdict::Unsupported, "{text}");
        assert_eq!(hasher.scheme(&stored(text)), Scheme::Unknown, "{text}");
        assert!(hasher.is_outdated(&stored(text)), "{text}");
    }
}

#[test]
fn hashes_above_the_cost_limits_are_recognised_not_computed() {
    let hasher = Hasher::new().unwrap();
    let hash32 = "iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A";
    let hex64 = "ab".repeat(64);
    let argon2 = |cost| format!("$argon2id$v=19${cost}$c29tZXNhbHQ${hash32}");
    let scrypt = |cost| format!("$scrypt${cost}$c29tZXNhbHQ${hash32}");
    for (text, scheme) in [
        (argon2("m=4194304,t=2,p=1"), Scheme::Argon2id),
        (argon2("m=19456,t=4000000,p=1"), Scheme::Argon2id),
        (argon2("m=19456,t=2,p=17"), Scheme::Argon2id),
        (
            format!("$2b$16${}{}", ".".repeat(22), ".".repeat(31)),
            Scheme::Bcrypt,
        ),
        (scrypt("ln=19,r=8,p=1"), Scheme::Scrypt),
        (scrypt("ln=63,r=4294967295,p=4294967295"), Scheme::Scrypt),
        (scrypt("ln=255,r=8,p=1"), Scheme::Scrypt),
        (scrypt("ln=0,r=8,p=1"), Scheme::Scrypt),
        (scrypt("ln=4,r=0,p=0"), Scheme::Scrypt),
        (scrypt("ln=4,r=8,p=17"), Scheme::Scrypt),
        (scrypt("ln=1,r=65,p=1"), Scheme::Scrypt),
        (
            format!("scrypt:2147483648:8:1$salt${hex64}"),
            Scheme::Scrypt,
        ),
        (
            format!("pbkdf2:sha512:10000001$salt${hex64}"),
            Scheme::Pbkdf2,
        ),
        (
            format!("$pbkdf2-sha1$i=5000001,l=32$c29tZXNhbHQ${hash32}"),
            Scheme::Pbkdf2,
        ),
        (
            format!("$6$rounds=5000001$salt${}", ".".repeat(86)),
            Scheme::Sha512Crypt,
        ),
        (
            format!("$5$rounds=999999999$salt${}", ".".repeat(43)),
            Scheme::Sha256Crypt,
        ),
        (format!("$P$J12345678{}", ".".repeat(22)), Scheme::Phpass),
        (format!("$S$J12345678{}", ".".repeat(43)), Scheme::Drupal),
        // 1 GiB, and 65 blocks of little memory.
        (
            format!("$y$jFT$abcdefgh9.0${}", ".".repeat(43)),
            Scheme::Yescrypt,
        ),
        (aspnet(2, 10_000_001, 16, 32), Scheme::Pbkdf2),
    ] {
        assert_eq!(hasher.scheme(&stored(&text)), scheme, "{text}");
        let verdict = hasher.verify(&password("secret"), Some(&stored(&text)));
        assert_eq!(verdict, Verdict::Unsupported, "{text}");
    }
}

/// A hash in the form of ASP.NET Core Identity that fits no password.
fn aspnet(function: u32, iterations: u32, salt: u32, output: usize) -> String {
    let numbers = [function, iterations, salt].map(u32::to_be_bytes);
    let mut bytes = vec![1];
    bytes.extend(numbers.as_flattened());
    bytes.resize(bytes.len() + salt as usize + output, 7);
    BASE64_STANDARD.encode(bytes)
}

#[test]
fn a_hash_of_aspnet_has_the_lengths_that_identity_writes() {
    let parses = |text: &str| parse::parse(text, false).is_some();
    assert!(parses(&aspnet(1, 10_000, 16, 32)));
    for text in [
        aspnet(3, 10_000, 16, 32),
        aspnet(1, 0, 16, 32),
        aspnet(1, 10_000, 15, 32),
        aspnet(1, 10_000, 65, 32),
        aspnet(1, 10_000, 16, 31),
        // The start of an output of SHA-512 is a valid output of 16 bytes.
        aspnet(2, 10_000, 16, 16),
        aspnet(2, 10_000, 16, 64),
    ] {
        assert!(!parses(&text), "{text}");
    }
    // From the tests of ASP.NET Core: 250,000 rounds, a salt of 32 bytes.
    let theirs = "AQAAAAEAA9CQAAAAIESkQuj2Du8Y+kbc5lcN/W/3NiAZFEm11P27nrSN5/tId+bR1SwV8CO1Jd72r4C08OLvplNlCDc3oQZ8efcW+jQ=";
    assert!(matches(theirs, "my password"));
    assert!(!matches(theirs, "my passwords"));
}

#[test]
fn yescrypt_parameters_that_multiply_the_time_are_refused() {
    let of = |params: &str| format!("$y${params}$abcdefgh9.0${}", ".".repeat(43));
    let parses = |params: &str| parse::parse(&of(params), false).is_some();
    assert!(parses("j75"));
    // t = 1, another flavour, an upgrade, a parameter that is announced and missing.
    for params in ["j75/.", "j751.", "/75", ".75", "j75.", "j", ""] {
        assert!(!parses(params), "{params}");
    }
}

#[test]
fn formats_that_are_refused_are_named() {
    let hasher = Hasher::new().unwrap();
    for (text, name, accepted) in [
        ("5ebe2294ecd0e0f08eab7690d2a6ee69", "unsalted-md5", false),
        (
            "sha1$$e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4",
            "unsalted-sha1",
            false,
        ),
        ("secret", "unknown", false),
        ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "ldap-sha", true),
        // Known, and too expensive.
        ("$P$J12345678......................", "phpass", false),
    ] {
        assert_eq!(hasher.format(&stored(text)), name, "{text}");
        assert_eq!(hasher.accepts(&stored(text)), accepted, "{text}");
    }
}
