mod properties;

use super::{curve::Curve, *};
use crate::domain::{keyring::Keyring, token::Secret};

const START: UnixMillis = UnixMillis(1_800_000_000_000);

fn seal() -> hmac::Key {
    let secret = Secret::parse(b"f3b1c2d4e5a60718293a4b5c6d7e8f90").unwrap();
    let keys = Keyring::of_secret(&secret, Duration::ZERO);
    keys.seal().unwrap().clone()
}

fn throttle() -> Throttle {
    Throttle::new(seal(), FREE)
}

const FREE: Free = Free {
    account: 5,
    address: 100,
    unknown: 1000,
};

/// A throttle with room for few counts of each kind.
fn small(room: usize) -> Throttle {
    Throttle::bounded(seal(), FREE, room, room)
}

fn limited(throttle: &Throttle, name: &str, client: &str) -> Limited {
    throttle.limited(&Username::parse(name).unwrap(), client.parse().ok())
}

fn after(seconds: u64) -> UnixMillis {
    UnixMillis(START.0 + seconds * 1000)
}

/// Fails once per second for some time; returns the number of admitted attempts.
fn failures(throttle: &Throttle, limited: &Limited, from: u64, seconds: u64) -> usize {
    (from..from + seconds)
        .filter(|second| fail(throttle, limited, *second).is_ok())
        .count()
}

/// One failed attempt, if it is admitted.
fn fail(throttle: &Throttle, limited: &Limited, second: u64) -> Result<(), Wait> {
    let admitted = throttle.admit(limited, after(second))?;
    assert!(!throttle.failed(&admitted, after(second)).is_empty());
    Ok(())
}

#[test]
fn the_wait_grows_and_is_bounded() {
    let curve = Curve::account(5);
    let seconds: Vec<_> = [0, 4, 5, 6, 7, 13, 14, 99, 100, 1_000_000, u32::MAX]
        .map(|failures| curve.wait(failures, START, START).as_secs())
        .into();
    assert_eq!(seconds, [0, 0, 1, 2, 4, 256, 300, 300, 3600, 3600, 3600]);
}

#[test]
fn guessing_gets_slower_and_slower() {
    let throttle = throttle();
    let ada = limited(&throttle, "ada", "198.51.100.7");
    for _ in 0..5 {
        fail(&throttle, &ada, 0).unwrap();
    }
    let wait = throttle.admit(&ada, START).unwrap_err();
    assert_eq!(wait.duration, Duration::from_secs(1));
    assert!(failures(&throttle, &ada, 0, 24 * 3600) < 150);
    // An attempt that is refused does not make the next one wait longer.
    let before = throttle.admit(&ada, after(24 * 3600)).unwrap_err().duration;
    let again = throttle.admit(&ada, after(24 * 3600)).unwrap_err().duration;
    assert_eq!(before, again);
}

#[test]
fn concurrent_attempts_count_before_they_fail() {
    let throttle = throttle();
    let ada = limited(&throttle, "ada", "198.51.100.7");
    let taken: Vec<_> = (0..100)
        .filter_map(|_| throttle.admit(&ada, START).ok())
        .collect();
    assert_eq!(taken.len(), 5);
    // The next attempt waits only for the results of these.
    assert!(throttle.admit(&ada, START).unwrap_err().is_short);
    let _ = throttle.succeeded(&taken[0], START);
    assert!(throttle.look(&ada, START).is_ok());
    for admitted in &taken[1..] {
        let _ = throttle.failed(admitted, START);
    }
    assert!(throttle.admit(&ada, START).is_ok(), "four have failed");
    assert!(
        !throttle
            .admit(&ada, START)
            .is_err_and(|wait| !wait.is_short)
    );
}

#[test]
fn unknown_names_are_counted_separately_like_known_ones() {
    let throttle = throttle();
    for name in ["nobody", "Nobody", "nobody "] {
        let limited = limited(&throttle, name, "");
        assert_eq!(failures(&throttle, &limited, 0, 1), 1);
        for _ in 0..4 {
            fail(&throttle, &limited, 0).unwrap();
        }
        assert!(throttle.admit(&limited, START).is_err(), "{name:?}");
    }
}

#[test]
fn one_address_cannot_try_many_names() {
    let throttle = throttle();
    let taken = (0..1000)
        .filter(|number| {
            let name = format!("user{number}");
            throttle
                .admit(&limited(&throttle, &name, "2001:db8::1"), START)
                .is_ok()
        })
        .count();
    assert_eq!(taken, 100);
    let neighbour = limited(&throttle, "ada", "2001:db8::ffff");
    assert!(throttle.admit(&neighbour, START).is_err(), "the same /64");
    let other = limited(&throttle, "ada", "2001:db8:0:1::1");
    assert!(throttle.admit(&other, START).is_ok());
}

#[test]
fn failures_from_elsewhere_do_not_delay_a_familiar_address() {
    let throttle = throttle();
    let (home, away) = ("203.0.113.5", "198.51.100.7");
    let owner = limited(&throttle, "ada", home);
    let admitted = throttle.admit(&owner, START).unwrap();
    let shares = throttle.succeeded(&admitted, START);
    assert!(
        shares.iter().any(|share| share.key.starts_with("f:")),
        "{shares:?}"
    );

    let stranger = limited(&throttle, "ada", away);
    failures(&throttle, &stranger, 0, 600);
    assert!(throttle.admit(&stranger, after(600)).is_err());
    let admitted = throttle.admit(&owner, after(600)).unwrap();
    let _ = throttle.succeeded(&admitted, START);
    // The owner's login gives the stranger no new guesses.
    assert!(throttle.admit(&stranger, after(600)).is_err());
    // The owner's address gets no more guesses than other addresses.
    assert!(failures(&throttle, &owner, 600, 60) < 15);
}

#[test]
fn failure_counts_of_other_replicas_apply() {
    let (here, there) = (throttle(), throttle());
    let at_home = limited(&here, "ada", "203.0.113.5");
    let key = at_home.keys().next().unwrap();
    assert!(limited(&there, "ada", "203.0.113.5") == at_home);
    let tally = |epoch, failures| FailureCount {
        epoch,
        failures,
        last: START,
    };
    there.learn(key, tally(0, 7), START);
    assert!(there.admit(&at_home, START).is_err());
    // An older count changes nothing; a newer one does.
    there.learn(key, tally(0, 1), START);
    assert!(there.admit(&at_home, START).is_err());
    there.learn(key, tally(1, 0), START);
    assert!(there.admit(&at_home, START).is_ok());
    there.learn(key, tally(0, 50), START);
    assert!(there.admit(&at_home, START).is_ok());

    // A familiar address that is not in memory is looked up once.
    let reserve = at_home.keys().last().unwrap().clone();
    there.learn(key, tally(2, 50), START);
    assert_eq!(
        there.admit(&at_home, START).unwrap_err().reserve,
        Some(reserve.clone())
    );
    there.learn(&reserve, FailureCount::default(), START);
    assert_eq!(there.admit(&at_home, START).unwrap_err().reserve, None);
    there.learn(&reserve, tally(1, 0), START);
    assert!(there.admit(&at_home, START).is_ok());
}

#[test]
fn keys_do_not_reveal_the_name() {
    let throttle = throttle();
    for key in limited(&throttle, "hunter2-typed-into-the-name", "203.0.113.5").keys() {
        assert!(!key.contains("hunter2") && key.len() <= 80, "{key}");
    }
}

#[test]
fn memory_is_bounded() {
    let throttle = throttle();
    let failed = FailureCount {
        failures: 1,
        last: START,
        ..FailureCount::default()
    };
    for number in 0..(Throttle::MOST + 10) {
        throttle.learn(&format!("n:{number}"), failed, START);
        throttle.learn(&format!("a:{number}"), failed, START);
    }
    assert_eq!(throttle.len(), Throttle::MOST);
}

#[test]
fn single_failures_do_not_evict_larger_counts() {
    let throttle = small(50);
    let ada = limited(&throttle, "ada", "198.51.100.7");
    for _ in 0..3 {
        fail(&throttle, &ada, 0).unwrap();
    }
    let flood = |from: u32| {
        for number in from..from + 1000 {
            let [a, b, c, d] = number.to_be_bytes();
            let name = format!("user{number}");
            let other = limited(&throttle, &name, &format!("{a}.{b}.{c}.{d}"));
            fail(&throttle, &other, 1).unwrap();
        }
    };
    flood(0);
    for _ in 0..2 {
        fail(&throttle, &ada, 1).unwrap();
    }
    // Five failures: the sixth attempt waits.
    let elsewhere = limited(&throttle, "ada", "203.0.113.5");
    assert!(throttle.admit(&elsewhere, after(1)).is_err());
    flood(1000);
    assert!(throttle.admit(&elsewhere, after(1)).is_err());
    assert_eq!(throttle.len(), 100);
}

/// A refused attempt adds no entry, from any number of addresses.
#[test]
fn refused_attempts_add_no_entries() {
    let throttle = throttle();
    let ada = limited(&throttle, "ada", "198.51.100.7");
    for _ in 0..5 {
        fail(&throttle, &ada, 0).unwrap();
    }
    let before = throttle.len();
    for number in 0..20_000_u32 {
        let [a, b, c, d] = number.to_be_bytes();
        let other = limited(&throttle, "ada", &format!("{a}.{b}.{c}.{d}"));
        let wait = throttle.admit(&other, START).unwrap_err();
        // The tables report that nobody has logged in from there.
        throttle.learn(&wait.reserve.unwrap(), FailureCount::default(), START);
    }
    assert_eq!(throttle.len(), before);
    let client = "192.0.2.1".parse().ok();
    for _ in 0..100 {
        assert_eq!(throttle.admit_from(client, START).unwrap().len(), 1);
    }
    let before = throttle.len();
    assert!(throttle.admit_from(client, START).is_err());
    assert_eq!(throttle.len(), before);
}

/// If every count causes a wait, there is no room: new keys share a count, which also causes waits.
#[test]
fn new_keys_share_counts_if_the_table_is_full() {
    let throttle = small(100);
    let waits = FailureCount {
        failures: 200,
        last: START,
        ..FailureCount::default()
    };
    for number in 0..100 {
        throttle.learn(&format!("n:{number}"), waits, START);
        throttle.learn(&format!("a:192.0.2.{number}/32"), waits, START);
    }
    let ada = limited(&throttle, "ada", "198.51.100.7");
    let guesses = failures(&throttle, &ada, 0, 55);
    assert!((1..=56).contains(&guesses), "{guesses}");
    let guesses = (0..2000).filter(|_| fail(&throttle, &ada, 55).is_ok());
    assert!(guesses.count() <= 100);
    assert!(fail(&throttle, &ada, 55).is_err());
    // Others are not locked out, except those who share the count.
    let locked = (0..100).filter(|number| {
        let bob = limited(
            &throttle,
            &format!("bob{number}"),
            &format!("203.0.113.{number}"),
        );
        fail(&throttle, &bob, 55).is_err()
    });
    assert!(locked.count() <= 3);
    // When the other waits are over, there is room again.
    let later = limited(&throttle, "eve", "198.51.100.9");
    for _ in 0..5 {
        fail(&throttle, &later, 4000).unwrap();
    }
    assert!(fail(&throttle, &later, 4000).is_err());
}

#[test]
fn clients_without_an_address_share_a_count() {
    let throttle = throttle();
    let nowhere = |number: u32| limited(&throttle, &format!("user{number}"), "");
    for number in 0..1000 {
        fail(&throttle, &nowhere(number), 0).unwrap();
    }
    let wait = throttle.admit(&nowhere(1000), START).unwrap_err();
    assert_eq!(
        (wait.duration, wait.by),
        (Duration::from_secs(1), CountedBy::Unknown)
    );
    assert!(!wait.is_short);
    assert!(throttle.admit_from(None, START).is_err());
    // After that, one attempt per second is allowed.
    let taken = (1..=600_u32)
        .filter(|second| {
            let first = fail(&throttle, &nowhere(1000 + second), u64::from(*second));
            let second = fail(&throttle, &nowhere(9000 + second), u64::from(*second));
            assert!(second.is_err());
            first.is_ok()
        })
        .count();
    assert_eq!(taken, 600);
    // Clients with a known address are not affected.
    assert!(
        throttle
            .admit(&limited(&throttle, "ada", "198.51.100.7"), after(600))
            .is_ok()
    );
    // Occasional mistakes never reach that point.
    let calm = super::tests::throttle();
    for second in 0..10_000_u32 {
        let user = calm.limited(&Username::parse(&format!("u{second}")).unwrap(), None);
        let at = after(u64::from(second) * 2);
        let admitted = calm.admit(&user, at).unwrap();
        assert!(
            calm.failed(&admitted, at)
                .iter()
                .all(SharedFailure::is_about_an_account)
        );
    }
}

#[test]
fn an_ipv6_48_prefix_is_counted_in_addition_to_its_64s() {
    let throttle = throttle();
    let client = |number: u32| format!("2001:db8:7:{number:x}::1");
    // No /64 fails twice.
    let taken = (0..5000_u32)
        .filter(|number| {
            let name = format!("user{number}");
            fail(&throttle, &limited(&throttle, &name, &client(*number)), 0).is_ok()
        })
        .count();
    assert_eq!(taken, 1000);
    let neighbour = limited(&throttle, "ada", "2001:db8:7:ffff::1");
    let wait = throttle.admit(&neighbour, START).unwrap_err();
    assert_eq!(
        (wait.duration, wait.by),
        (Duration::from_secs(6), CountedBy::Network)
    );
    let other = limited(&throttle, "ada", "2001:db8:8::1");
    assert!(throttle.admit(&other, START).is_ok());
    // After that, one attempt every six seconds is allowed.
    let later = (1..=600).filter(|second| {
        let name = format!("later{second}");
        fail(
            &throttle,
            &limited(&throttle, &name, &client(6000)),
            *second,
        )
        .is_ok()
    });
    assert_eq!(later.count(), 100);
    // One customer reaches the limit of their /64 long before that of the /48.
    let alone = super::tests::throttle();
    let taken = (0..5000).filter(|number| {
        let name = format!("user{number}");
        fail(&alone, &limited(&alone, &name, &client(1)), 0).is_ok()
    });
    assert_eq!(taken.count(), 100);
    assert!(
        alone
            .admit(&limited(&alone, "ada", &client(2)), START)
            .is_ok()
    );
}

#[test]
fn failures_of_neighbours_do_not_delay_a_familiar_address() {
    let throttle = throttle();
    let owner = limited(&throttle, "ada", "2001:db8:7:1::1");
    let admitted = throttle.admit(&owner, START).unwrap();
    let _ = throttle.succeeded(&admitted, START);
    for number in 0..2000_u32 {
        let client = format!("2001:db8:7:{:x}::1", number + 2);
        let _ = fail(
            &throttle,
            &limited(&throttle, &format!("user{number}"), &client),
            0,
        );
    }
    let stranger = limited(&throttle, "eve", "2001:db8:7:1::1");
    assert_eq!(
        throttle.admit(&stranger, START).unwrap_err().by,
        CountedBy::Network
    );
    assert!(throttle.admit(&owner, START).is_ok());
}

#[test]
fn ipv4_in_ipv6_is_ipv4() {
    let key = |client: &str| address_key(client.parse().unwrap()).unwrap();
    for (client, expected) in [
        ("192.0.2.1", "a:192.0.2.1/32"),
        ("::ffff:192.0.2.1", "a:192.0.2.1/32"),
        ("64:ff9b::192.0.2.1", "a:192.0.2.1/32"),
        ("64:ff9b:1::1", "a:64:ff9b:1::/64"),
        ("2001:db8:1:2:3:4:5:6", "a:2001:db8:1:2::/64"),
    ] {
        assert_eq!(&*key(client), expected);
    }
}
