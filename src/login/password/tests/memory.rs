//! The memory that hashes need, and the memory that is kept for the next one.

use super::*;

#[test]
fn a_hash_that_needs_more_than_the_memory_limit_is_unsupported() {
    let hasher = Hasher::new().unwrap().limit_memory(64 * 1024);
    let weight = |text: &str| hasher.memory(Some(&stored(text)));
    let hash32 = "iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A";
    let argon2 = |cost| format!("$argon2id$v=19${cost}$c29tZXNhbHQ${hash32}");
    let scrypt = |cost| format!("$scrypt${cost}$c29tZXNhbHQ${hash32}");
    let bcrypt = format!("$2b$12${}{}", ".".repeat(22), ".".repeat(31));
    assert_eq!(hasher.memory(None), OWN_MEMORY);
    assert_eq!(weight("no hash"), OWN_MEMORY);
    // The hash needs almost nothing, but the decoy needs memory, too.
    assert_eq!(weight("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="), OWN_MEMORY);
    assert_eq!(weight(&bcrypt), LEAST_MEMORY);
    assert_eq!(weight(&argon2("m=64,t=1,p=1")), OWN_MEMORY);
    assert_eq!(weight(&argon2("m=65536,t=4,p=1")), 64 * 1024);
    assert_eq!(weight(&scrypt("ln=14,r=8,p=1")), 16 * 1024 + 2);
    // 16 MiB and its blocks besides the table.
    let yescrypt = format!("$y$j9T$abcdefgh9.0${}", ".".repeat(43));
    assert_eq!(weight(&yescrypt), 16 * 1024 + 12);
    for (text, fits) in [
        (argon2("m=65536,t=4,p=1"), true),
        (argon2("m=65537,t=1,p=1"), false),
        (scrypt("ln=15,r=8,p=1"), true),
        // The blocks besides the table count too.
        (scrypt("ln=16,r=8,p=1"), false),
    ] {
        let hash = stored(&text);
        assert_eq!(hasher.is_too_large(&hash), !fits, "{text}");
        let verdict = hasher.verify(&password("secret"), Some(&hash));
        let expected = match fits {
            true => Verdict::Mismatch,
            false => Verdict::Unsupported,
        };
        assert_eq!(verdict, expected, "{text}");
        assert!(hasher.memory(Some(&hash)) <= 64 * 1024, "{text}");
    }
}

#[test]
fn memory_is_kept_for_the_next_hash_within_the_limit() {
    let hasher = Hasher::new().unwrap().limit_memory(2 * OWN_MEMORY);
    let ours = ours::MEMORY_KIB as usize;
    let dearer = Params::new(2 * ours::MEMORY_KIB, 1, 1, None).unwrap();
    let dearer = Argon2::new(Algorithm::Argon2id, Version::V0x13, dearer);
    let dearer = argon2::hash(&dearer, b"secret", &Memory::default()).unwrap();
    let dearer = PasswordHash::new(dearer);
    for (stored, verdict, kept) in [
        (None, Verdict::Mismatch, vec![ours]),
        // It needs all of the memory.
        (Some(&dearer), Verdict::Match, vec![]),
        (None, Verdict::Mismatch, vec![ours]),
        (None, Verdict::Mismatch, vec![ours]),
    ] {
        assert_eq!(
            hasher.verify(&Password::parse("secret").unwrap(), stored),
            verdict
        );
        assert_eq!(hasher.memory.blocks(), kept);
    }
    for _ in 0..2 {
        hasher.rest();
        assert_eq!(hasher.memory.blocks(), [0_usize; 0]);
    }
}
