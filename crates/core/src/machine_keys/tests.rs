use std::{collections::HashMap, sync::Arc};

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::{
    account::{Roles, Username},
    machine_key::{LENGTH, MAX_NAME, MachineKey},
    path::{Path, Tolerance},
    revocation::Revocations,
    time::UnixTime,
};

const NOW: UnixTime = UnixTime(1_800_000_000);

fn owner(roles: &str) -> Arc<Owner> {
    Arc::new(Owner {
        subject: "7".into(),
        username: Username::parse("ada").unwrap(),
        state: OwnerState::Active(Arc::new(Roles::parse_list(roles).unwrap())),
    })
}

fn entry(key: &MachineKey) -> KeyEntry {
    KeyEntry {
        hash: key.hash(),
        name: KeyName::parse("deploy").unwrap(),
        limits: None,
        expires: Some(UnixTime(NOW.0 + 60)),
        ended: false,
    }
}

fn verify_at(keys: &MachineKeys, key: &str, path: &str, now: UnixTime) -> String {
    let path = Path::parse(path.as_bytes(), Tolerance::default()).unwrap();
    match keys.verify(key, &path, now, &Revocations::new(None)) {
        Ok(principal) => {
            let identity = principal.identity();
            format!(
                "{} as {} [{}]",
                principal.key_name().unwrap(),
                identity.username.as_str(),
                identity.roles
            )
        }
        Err(KeyRefusal::Path(_)) => "path".into(),
        Err(KeyRefusal::Unread) => "Unread".into(),
        Err(KeyRefusal::Invalid(fault)) => format!("{fault:?}"),
    }
}

fn verify(keys: &MachineKeys, key: &str) -> String {
    verify_at(keys, key, "/", NOW)
}

fn of(key: &MachineKey, entry: KeyEntry, owner: Arc<Owner>) -> MachineKeys {
    let keys = MachineKeys::default();
    keys.have_been_read();
    keys.set(key.id(), entry, owner);
    keys
}

#[test]
fn a_key_has_an_id_and_a_checksum() {
    let key = MachineKey::generate().unwrap();
    let text = key.expose();
    assert_eq!(text.len(), LENGTH);
    assert!(is_well_formed(text));
    assert_eq!(MachineKeyId::of(text), Some(key.id()));
    assert_eq!(MachineKeyId::parse(&key.id().to_string()), Some(key.id()));
    assert_eq!(KeyHash::parse(&key.hash().to_string()), Some(key.hash()));
    assert_eq!(
        format!("{key:?} {:?}", key.hash()),
        "MachineKey(..) KeyHash(..)"
    );
    assert_ne!(MachineKey::generate().unwrap().expose(), text);
}

/// A key and its hash as Python makes them, so that keys of today stay valid.
#[test]
fn the_format_of_a_key_and_of_its_hash_is_fixed() {
    let body = format!("dwk_0123456789abcdef_{}", "5a".repeat(32));
    let key = MachineKey(Zeroizing::new(format!("{body}38a0114d")));
    assert!(is_well_formed(key.expose()));
    let hash = "644f5daec9a508e6fbdeec94d8258a10f1231a6ba671aedecc80b1449c069f44";
    assert_eq!(key.hash().to_string(), hash);
}

#[test]
fn a_key_is_judged_by_its_row_and_its_owner() {
    let key = MachineKey::generate().unwrap();
    let good = || of(&key, entry(&key), owner("ops,admin"));
    assert_eq!(verify(&good(), key.expose()), "deploy as ada [admin,ops]");
    let other = MachineKey::generate().unwrap();
    assert_eq!(verify(&good(), other.expose()), "Unknown");
    assert_eq!(verify(&MachineKeys::default(), other.expose()), "Unread");
    for malformed in ["", "dwk_", "dwk_0123456789abcdef", &key.expose()[..90]] {
        assert_eq!(verify(&good(), malformed), "Malformed", "{malformed}");
    }
    let late = UnixTime(NOW.0 + 60);
    assert_eq!(verify_at(&good(), key.expose(), "/", late), "Expired");
    let never = KeyEntry {
        expires: None,
        ..entry(&key)
    };
    let never = of(&key, never, owner(""));
    let last = UnixTime(u64::MAX);
    assert_eq!(
        verify_at(&never, key.expose(), "/", last),
        "deploy as ada []"
    );
    let keys = good();
    keys.end(key.id());
    assert_eq!(verify(&keys, key.expose()), "Ended");
    for (state, expected) in [
        (OwnerState::Inactive, "Owner"),
        (OwnerState::Unread, "Unread"),
    ] {
        let owner = Owner {
            state,
            ..(*owner("")).clone()
        };
        let keys = of(&key, entry(&key), Arc::new(owner));
        assert_eq!(verify(&keys, key.expose()), expected);
    }
    let keys = good();
    keys.retain(|_| false);
    assert_eq!(verify(&keys, key.expose()), "Unknown");
}

#[test]
fn inactive_owners_are_refused_at_once() {
    let key = MachineKey::generate().unwrap();
    let keys = of(&key, entry(&key), owner(""));
    let revoked = Revocations::new(None);
    let path = Path::parse(b"/", Tolerance::default()).unwrap();
    let verify = || keys.verify(key.expose(), &path, NOW, &revoked);
    assert!(verify().is_ok());
    revoked.set_inactive(["7".into()].into());
    let refused = KeyRefusal::Invalid(MachineKeyFault::Owner);
    assert_eq!(verify(), Err(refused));
}

#[test]
fn limits_never_add_a_right() {
    let key = MachineKey::generate().unwrap();
    let limited = |roles: Option<&str>, paths: &[&str]| {
        let roles = roles.map(|roles| Roles::parse_list(roles).unwrap());
        let limits = KeyLimits::new(roles, paths.iter().copied()).unwrap();
        let limits = Some(Arc::new(limits));
        let entry = KeyEntry {
            limits,
            ..entry(&key)
        };
        of(&key, entry, owner("ops,dev"))
    };
    for (roles, expected) in [
        (None, "deploy as ada [dev,ops]"),
        (Some(""), "deploy as ada []"),
        (Some("ops"), "deploy as ada [ops]"),
        (Some("admin,ops"), "deploy as ada [ops]"),
        (Some("admin"), "deploy as ada []"),
    ] {
        assert_eq!(
            verify(&limited(roles, &[]), key.expose()),
            expected,
            "{roles:?}"
        );
    }
    let keys = limited(None, &["/repo/*", "/one"]);
    for (path, is_inside) in [
        ("/repo", true),
        ("/repo/a/b?x=/other", true),
        ("/one", true),
        ("/", false),
        ("/repos", false),
        ("/Repo/a", false),
        ("/one/two", false),
        ("/%72epo/a", false),
        ("/repo.json", false),
    ] {
        let verified = verify_at(&keys, key.expose(), path, NOW);
        assert_eq!(verified != "path", is_inside, "{path}");
    }
    let many = ["/a"; MAX_PATHS + 1];
    assert_eq!(KeyLimits::new(None, many), Err(LimitsFault::TooManyPaths));
    assert!(KeyLimits::new(None, ["repo"]).is_err());
}

#[test]
fn changed_owners_count_at_once() {
    let key = MachineKey::generate().unwrap();
    let keys = of(&key, entry(&key), owner("ops"));
    assert_eq!(verify(&keys, key.expose()), "deploy as ada [ops]");
    assert_eq!(keys.owners(|_| true), [owner("ops")]);
    assert_eq!(keys.owners(|_| false), []);
    keys.set_owners(&HashMap::from([("7".into(), owner("dev"))]));
    assert_eq!(verify(&keys, key.expose()), "deploy as ada [dev]");
    keys.set_owners(&HashMap::from([("8".into(), owner("admin"))]));
    assert_eq!(verify(&keys, key.expose()), "deploy as ada [dev]");
}

#[test]
fn a_use_is_noted_once_a_minute() {
    let key = MachineKey::generate().unwrap();
    let never = KeyEntry {
        expires: None,
        ..entry(&key)
    };
    let keys = of(&key, never.clone(), owner(""));
    let at = |seconds| UnixTime(NOW.0 + seconds);
    let used = |seconds| Use {
        id: key.id(),
        at: at(seconds),
    };
    assert_eq!(keys.take_uses(10), []);
    for (seconds, expected) in [
        (0, vec![used(0)]),
        (1, vec![]),
        (59, vec![]),
        (60, vec![used(60)]),
    ] {
        verify_at(&keys, key.expose(), "/", at(seconds));
        assert_eq!(keys.take_uses(10), expected, "{seconds}");
    }
    // A refused key is not used, and a row that is read again loses nothing.
    verify_at(&keys, &format!("{}0", key.expose()), "/", at(200));
    assert_eq!(keys.take_uses(10), []);
    verify_at(&keys, key.expose(), "/", at(300));
    keys.set(key.id(), never, owner(""));
    assert_eq!(keys.take_uses(0), []);
    assert_eq!(keys.take_uses(10), [used(300)]);
}

#[test]
fn keys_that_expire_soon_are_counted() {
    let keys = MachineKeys::default();
    for expires in [None, Some(0), Some(1), Some(10), Some(11)] {
        let key = MachineKey::generate().unwrap();
        let expires = expires.map(|seconds| UnixTime(NOW.0 + seconds));
        let entry = KeyEntry {
            expires,
            ..entry(&key)
        };
        keys.set(key.id(), entry, owner(""));
    }
    assert_eq!((keys.entries.len(), keys.usable(NOW)), (5, 4));
    assert_eq!(keys.expiring(NOW, UnixTime(NOW.0 + 10)), 2);
}

#[test]
fn names_fit_into_a_header() {
    for good in ["ci", "ci.deploy_2:a@b/c-d", &"a".repeat(MAX_NAME)] {
        assert!(KeyName::parse(good).is_some(), "{good}");
    }
    for bad in [
        "",
        "-",
        "-ci",
        "a b",
        "a,b",
        "a%",
        "\u{e9}",
        "a\n",
        &"a".repeat(65),
    ] {
        assert!(KeyName::parse(bad).is_none(), "{bad}");
    }
}

proptest! {
    /// Nothing but the key itself is accepted.
    #[test]
    fn no_changed_key_is_accepted(place in 0..LENGTH, byte in 0x20_u8..0x7f, other in ".{0,120}") {
        let key = MachineKey::generate().unwrap();
        let keys = of(&key, entry(&key), owner("ops"));
        let mut changed = key.expose().as_bytes().to_vec();
        changed[place] = byte;
        let changed = String::from_utf8(changed).unwrap();
        prop_assert_eq!(verify(&keys, &changed).starts_with("deploy"), changed == key.expose());
        prop_assert!(changed == key.expose() || !is_well_formed(&changed));
        prop_assert!(!verify(&keys, &other).starts_with("deploy"));
        let longer = format!("{}{other}", key.expose());
        prop_assert_eq!(verify(&keys, &longer).starts_with("deploy"), other.is_empty());
    }

    /// A key never has a role that its owner lacks.
    #[test]
    fn no_limit_gives_a_role(own in prop::collection::vec("[a-d]", 0..5), limit in prop::option::of(prop::collection::vec("[a-f]", 0..6))) {
        let roles = |names: &[String]| Roles::parse(names.iter().map(String::as_str)).unwrap();
        let owner = roles(&own);
        let limits = KeyLimits::new(limit.as_deref().map(roles), []).unwrap();
        for role in limits.roles_of(&owner).iter() {
            prop_assert!(owner.contains(role));
            prop_assert!(limit.as_deref().is_none_or(|limit| roles(limit).contains(role)));
        }
    }
}
