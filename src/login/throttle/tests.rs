mod addresses;
mod properties;
mod room;

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
