use super::*;
use crate::{
    account::{Identity, Roles, Username},
    credential::Compact,
    key::KeyId,
    revocation::Revocations,
    secret::Secret,
    token::{TokenTerms, Verifier},
    token_fault::TokenFault,
};

const NOW: UnixTime = UnixTime(1_800_000_000);

fn key(name: &str, starts: u64, algorithm: Algorithm) -> Key {
    let id = KeyId::parse(name).unwrap();
    let file = Key::generate(&id, algorithm, UnixTime(starts)).unwrap();
    Key::read(name, file.as_bytes()).unwrap()
}

fn ring(keys: Vec<Key>) -> Keyring {
    Keyring::new(keys, Duration::from_secs(3600)).unwrap()
}

fn ada() -> Principal {
    Principal::new(Identity {
        subject: "7".into(),
        username: Username::parse("ada").unwrap(),
        roles: Roles::parse_list("ops").unwrap(),
    })
}

fn terms() -> TokenTerms {
    TokenTerms {
        issuer: "doorward".into(),
        audience: "doorward".into(),
        lifetime: Duration::from_secs(3600),
        leeway: Duration::ZERO,
    }
}

fn later(seconds: u64) -> UnixTime {
    UnixTime(NOW.0 + seconds)
}

#[test]
fn one_is_made_for_a_caller_and_half_of_its_life() {
    let keys = ring(vec![
        key("a", 0, Algorithm::Es256),
        key("b", NOW.0 + 100, Algorithm::EdDsa),
    ]);
    let all = Assertions::new(Arc::new(keys), "doorward", "services");
    let ada = ada();
    let about = |now| all.about(&ada, None, now).unwrap();
    let first = about(NOW);
    assert!(Arc::ptr_eq(&first, &about(later(REUSED - 1))));
    let second = about(later(REUSED));
    assert_ne!(first, second);
    // A clock that goes back, and another key.
    assert_ne!(about(later(REUSED - 1)), second);
    let third = about(later(99));
    let fourth = about(later(100));
    assert_ne!(third, fourth);
    assert!(Arc::ptr_eq(&fourth, &about(later(101))));
}

#[test]
fn one_is_made_for_each_audience() {
    let keys = Arc::new(ring(vec![key("a", 0, Algorithm::Es256)]));
    let all = Assertions::new(Arc::clone(&keys), "doorward", "services");
    let ada = ada();
    let (billing, wiki): (Arc<str>, Arc<str>) = ("billing".into(), "wiki".into());
    let about = |audience, now| all.about(&ada, audience, now).unwrap();
    let audiences = [None, Some(&billing), Some(&wiki)];
    let first = audiences.map(|audience| about(audience, NOW));
    for (text, expected) in first.iter().zip(["services", "billing", "wiki"]) {
        let claims = jws::verify(text, keys.signer(NOW).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["aud"], expected);
    }
    // In turn, each is used again. One that is not used any more is not kept.
    for (audience, first) in audiences.into_iter().zip(&first) {
        assert!(Arc::ptr_eq(first, &about(audience, later(REUSED - 1))));
    }
    let next = about(None, later(REUSED));
    assert!(!Arc::ptr_eq(&first[0], &next));
    assert!(ada.assertion("billing").is_none());
    assert!(Arc::ptr_eq(&next, &about(None, later(REUSED))));
}

#[test]
fn it_says_who_is_asking_and_is_no_access_token() {
    let key = key("a", 0, Algorithm::Es256);
    let keys = Arc::new(ring(vec![key]));
    // Even with the audience of access tokens, which the settings refuse.
    let all = Assertions::new(Arc::clone(&keys), "doorward", "doorward");
    let text = all.about(&ada(), None, NOW).unwrap();
    let signer = keys.signer(NOW).unwrap();
    let claims = jws::verify(&text, signer).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(
        claims,
        serde_json::json!({
            "iss": "doorward", "aud": "doorward", "sub": "7", "username": "ada",
            "roles": ["ops"], "admin": false, "iat": NOW.0, "exp": NOW.0 + 60,
        })
    );
    let verified = Verifier::of(&keys, terms()).verify(
        Compact::parse(&text).unwrap(),
        NOW,
        &Revocations::new(None),
    );
    assert_eq!(verified.unwrap_err(), TokenFault::Type);
}

#[test]
fn a_secret_signs_none() {
    let secret = Secret::parse(b"f3b1c2d4e5a60718293a4b5c6d7e8f90").unwrap();
    let secret = || Key::from_secret(&secret, UnixTime(0));
    let only = Keyring::new(vec![secret()], Duration::from_secs(3600)).unwrap();
    assert!(!can_be_verified(&only, NOW));
    let all = Assertions::new(Arc::new(only), "doorward", "services");
    assert!(all.about(&ada(), None, NOW).is_err());
    // Replaced by another key, now and later.
    let replaced = |at| ring(vec![secret(), key("a", at, Algorithm::Es256)]);
    assert!(can_be_verified(&replaced(NOW.0), NOW));
    assert!(!can_be_verified(&replaced(NOW.0 + 1), NOW));
}

#[test]
fn a_received_one_is_kept_if_it_is_genuine_and_fits() {
    let keys = || ring(vec![key("a", 0, Algorithm::Es256)]);
    let own = Arc::new(keys());
    let verifier = Verifier::of(&own.public_halves(), terms());
    let signed = |keys: &Arc<Keyring>, issuer, audience, now| {
        Assertions::new(Arc::clone(keys), issuer, audience)
            .about(&ada(), None, now)
            .unwrap()
    };
    let received = Received::new("services");
    let ada = ada();
    let text = signed(&own, "doorward", "services", NOW);
    let (start, end) = text.split_at(text.len() - 9);
    let other = if end.starts_with('A') { 'B' } else { 'A' };
    let flipped = format!("{start}{other}{}", &end[1..]);
    let access = jws::sign(b"{}", own.signer(NOW).unwrap()).unwrap();
    for (what, text) in [
        ("signature", &*flipped),
        (
            "other keys",
            &*signed(&Arc::new(keys()), "doorward", "services", NOW),
        ),
        ("issuer", &*signed(&own, "other", "services", NOW)),
        ("audience", &*signed(&own, "doorward", "billing", NOW)),
        ("type", &*access),
        ("no token", "a.b.c"),
    ] {
        assert!(!received.keep(&verifier, &ada, None, text, NOW), "{what}");
        assert!(received.about(&ada, None, NOW).is_none(), "{what}");
    }
    let bob = Principal::new(Identity {
        subject: "8".into(),
        ..ada.identity().clone()
    });
    assert!(!received.keep(&verifier, &bob, None, &text, NOW));

    assert!(received.keep(&verifier, &ada, None, &text, NOW));
    let last = later(REUSED - 1);
    assert_eq!(received.about(&ada, None, last).as_ref(), Some(&text));
    assert!(received.about(&ada, None, later(REUSED)).is_none());
    let billing: Arc<str> = "billing".into();
    assert!(received.about(&ada, Some(&billing), NOW).is_none());
    let billed = signed(&own, "doorward", "billing", NOW);
    assert!(received.keep(&verifier, &ada, Some(&billing), &billed, NOW));
    assert_eq!(received.about(&ada, Some(&billing), NOW), Some(billed));
    assert_eq!(received.about(&ada, None, NOW), Some(text));

    // Doorward's clock is ahead: it is used for as long, and not longer.
    let ahead = signed(&own, "doorward", "services", later(600));
    assert!(received.keep(&verifier, &ada, None, &ahead, NOW));
    assert_eq!(received.about(&ada, None, last), Some(ahead));
    assert!(received.about(&ada, None, later(REUSED)).is_none());
}
