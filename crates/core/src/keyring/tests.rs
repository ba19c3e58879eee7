use super::*;
use crate::key::Algorithm;

const LASTS: Duration = Duration::from_secs(1000);

fn key(id: &str, not_before: u64) -> Key {
    let id = KeyId::parse(id).unwrap();
    let file = Key::generate(&id, Algorithm::EdDsa, UnixTime(not_before)).unwrap();
    Key::read("k.pem", file.as_bytes()).unwrap()
}

fn states(ring: &Keyring, now: u64) -> Vec<(String, KeyState)> {
    ring.keys()
        .iter()
        .map(|key| (key.id().as_str().to_owned(), ring.state(key, UnixTime(now))))
        .collect()
}

#[test]
fn key_states_follow_from_start_times() {
    let ring = Keyring::new(vec![key("b", 5000), key("a", 0), key("c", 9000)], LASTS).unwrap();
    use KeyState::{Expired, Signing, Staged, Verifying};
    for (now, expected) in [
        (1, [Signing, Staged, Staged]),
        (4999, [Signing, Staged, Staged]),
        (5000, [Verifying(Some(UnixTime(6000))), Signing, Staged]),
        (5999, [Verifying(Some(UnixTime(6000))), Signing, Staged]),
        (6000, [Expired, Signing, Staged]),
        (9500, [Expired, Verifying(Some(UnixTime(10000))), Signing]),
        (99999, [Expired, Expired, Signing]),
    ] {
        let states = states(&ring, now);
        let own: Vec<_> = states.iter().map(|(_, state)| *state).collect();
        assert_eq!(own, expected, "{now}: {states:?}");
        let signer = ring.signer(UnixTime(now)).unwrap();
        assert_eq!(ring.state(signer, UnixTime(now)), Signing);
        let published = ring.jwks(UnixTime(now)).matches("\"kid\"").count();
        let alive = expected.iter().filter(|state| **state != Expired).count();
        assert_eq!(published, alive, "{now}");
        for (id, state) in states {
            assert_eq!(ring.find(&id, UnixTime(now)).is_some(), state != Expired);
        }
    }
}

#[test]
fn conflicting_keys_are_faults() {
    let two = Keyring::new(vec![key("a", 0), key("a", 1)], LASTS);
    assert_eq!(two.unwrap_err(), KeyringFault::TwoOfAName("a".into()));
    let tie = Keyring::new(vec![key("a", 7), key("b", 7)], LASTS);
    assert_eq!(tie.unwrap_err(), KeyringFault::Tie("a".into(), "b".into()));
    let later = Keyring::new(vec![key("a", 7)], LASTS).unwrap();
    assert!(later.signer(UnixTime(6)).is_none());
    // A key that only verifies has no tie, signs nothing, and never expires.
    let ring = Keyring::new(vec![key("a", 7), key("b", 7).only_verifying()], LASTS).unwrap();
    assert_eq!(ring.signer(UnixTime(99)).unwrap().id().as_str(), "a");
    assert_eq!(states(&ring, 99_999)[1].1, KeyState::Verifying(None));
}

#[test]
fn secrets_are_not_published_and_keep_their_key_id() {
    let secret = Secret::parse(b"f3b1c2d4e5a60718293a4b5c6d7e8f90").unwrap();
    let ring = Keyring::of_secret(&secret, LASTS);
    assert_eq!(ring.jwks(UnixTime(1)), r#"{"keys":[]}"#);
    let again = Keyring::of_secret(&secret, LASTS);
    assert_eq!(ring.keys()[0].id(), again.keys()[0].id());
    assert!(ring.seal().is_some());
}
