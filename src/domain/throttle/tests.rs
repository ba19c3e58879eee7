use proptest::prelude::*;

use super::*;
use crate::domain::token::Secret;

const START: UnixMillis = UnixMillis(1_800_000_000_000);

fn throttle() -> Throttle {
    let secret = Secret::parse(b"f3b1c2d4e5a60718293a4b5c6d7e8f90").unwrap();
    Throttle::new(secret.derived("doorward throttle"), 5, 100)
}

fn suspect(throttle: &Throttle, name: &str, client: &str) -> Suspect {
    throttle.suspect(&Username::parse(name).unwrap(), client.parse().ok())
}

fn after(seconds: u64) -> UnixMillis {
    UnixMillis(START.0 + seconds * 1000)
}

/// Fails as often as attempts are taken within some time, asking every second.
fn failures(throttle: &Throttle, suspect: &Suspect, from: u64, seconds: u64) -> usize {
    (from..from + seconds)
        .filter(|second| fail(throttle, suspect, *second).is_ok())
        .count()
}

/// One failed attempt, if it is taken.
fn fail(throttle: &Throttle, suspect: &Suspect, second: u64) -> Result<(), Wait> {
    let admitted = throttle.admit(suspect, after(second))?;
    assert!(!throttle.failed(&admitted, after(second)).is_empty());
    Ok(())
}

#[test]
fn the_wait_grows_and_is_bounded() {
    let curve = Curve::account(5);
    let seconds: Vec<_> = [0, 4, 5, 6, 7, 13, 14, 99, 100, 1_000_000, u32::MAX]
        .map(|failures| curve.delay(failures).as_secs())
        .into();
    assert_eq!(seconds, [0, 0, 1, 2, 4, 256, 300, 300, 3600, 3600, 3600]);
}

#[test]
fn guessing_gets_slower_and_slower() {
    let throttle = throttle();
    let ada = suspect(&throttle, "ada", "198.51.100.7");
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
fn attempts_at_the_same_time_are_counted_before_any_fails() {
    let throttle = throttle();
    let ada = suspect(&throttle, "ada", "198.51.100.7");
    let taken: Vec<_> = (0..100)
        .filter_map(|_| throttle.admit(&ada, START).ok())
        .collect();
    assert_eq!(taken.len(), 5);
    // Who comes next waits only for what becomes of these.
    assert!(throttle.admit(&ada, START).unwrap_err().is_short);
    let _ = throttle.succeeded(&taken[0]);
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
fn names_that_do_not_exist_are_counted_like_others_and_apart_from_each_other() {
    let throttle = throttle();
    for name in ["nobody", "Nobody", "nobody "] {
        let suspect = suspect(&throttle, name, "");
        assert_eq!(failures(&throttle, &suspect, 0, 1), 1);
        for _ in 0..4 {
            fail(&throttle, &suspect, 0).unwrap();
        }
        assert!(throttle.admit(&suspect, START).is_err(), "{name:?}");
    }
}

#[test]
fn one_address_cannot_try_many_names() {
    let throttle = throttle();
    let taken = (0..1000)
        .filter(|number| {
            let name = format!("user{number}");
            throttle
                .admit(&suspect(&throttle, &name, "2001:db8::1"), START)
                .is_ok()
        })
        .count();
    assert_eq!(taken, 100);
    let neighbour = suspect(&throttle, "ada", "2001:db8::ffff");
    assert!(throttle.admit(&neighbour, START).is_err(), "the same /64");
    let other = suspect(&throttle, "ada", "2001:db8:0:1::1");
    assert!(throttle.admit(&other, START).is_ok());
}

#[test]
fn a_stranger_does_not_make_the_owner_wait() {
    let throttle = throttle();
    let (home, away) = ("203.0.113.5", "198.51.100.7");
    let owner = suspect(&throttle, "ada", home);
    let admitted = throttle.admit(&owner, START).unwrap();
    let shares = throttle.succeeded(&admitted);
    assert!(
        shares.iter().any(|share| share.key.starts_with("f:")),
        "{shares:?}"
    );

    let stranger = suspect(&throttle, "ada", away);
    failures(&throttle, &stranger, 0, 600);
    assert!(throttle.admit(&stranger, after(600)).is_err());
    let admitted = throttle.admit(&owner, after(600)).unwrap();
    let _ = throttle.succeeded(&admitted);
    // The owner's login does not give the stranger new guesses.
    assert!(throttle.admit(&stranger, after(600)).is_err());
    // Nor has whoever sits at the owner's address more of them than anybody.
    assert!(failures(&throttle, &owner, 600, 60) < 15);
}

#[test]
fn another_replica_learns_of_it() {
    let (here, there) = (throttle(), throttle());
    let at_home = suspect(&here, "ada", "203.0.113.5");
    let key = at_home.keys().next().unwrap();
    assert!(suspect(&there, "ada", "203.0.113.5") == at_home);
    let tally = |epoch, failures| Tally {
        epoch,
        failures,
        last: START,
    };
    there.learn(key, tally(0, 7));
    assert!(there.admit(&at_home, START).is_err());
    // Old news change nothing, later news do.
    there.learn(key, tally(0, 1));
    assert!(there.admit(&at_home, START).is_err());
    there.learn(key, tally(1, 0));
    assert!(there.admit(&at_home, START).is_ok());
    there.learn(key, tally(0, 50));
    assert!(there.admit(&at_home, START).is_ok());

    // A familiar address that is not in memory is asked for once.
    let reserve = at_home.keys().last().unwrap().clone();
    there.learn(key, tally(2, 50));
    assert_eq!(
        there.admit(&at_home, START).unwrap_err().reserve,
        Some(reserve.clone())
    );
    there.learn(&reserve, Tally::default());
    assert_eq!(there.admit(&at_home, START).unwrap_err().reserve, None);
    there.learn(&reserve, tally(1, 0));
    assert!(there.admit(&at_home, START).is_ok());
}

#[test]
fn keys_show_no_name() {
    let throttle = throttle();
    for key in suspect(&throttle, "hunter2-typed-into-the-name", "203.0.113.5").keys() {
        assert!(!key.contains("hunter2") && key.len() <= 80, "{key}");
    }
}

#[test]
fn memory_is_bounded() {
    let throttle = throttle();
    for number in 0..(MOST.get() + 10) {
        throttle.learn(&format!("n:{number}"), Tally::default());
    }
    assert_eq!(throttle.len(), MOST.get());
}

proptest! {
    /// Whatever happens in whatever order, in any hour a stranger has no more guesses at an account than the curve gives.
    #[test]
    fn no_order_of_events_gives_more_guesses(events: Vec<(u8, u16)>) {
        let throttle = throttle();
        let (owner, stranger) = (suspect(&throttle, "ada", "203.0.113.5"), suspect(&throttle, "ada", "198.51.100.7"));
        let first = throttle.admit(&owner, START).unwrap();
        let _ = throttle.succeeded(&first);
        let (mut second, mut guesses) = (0, 0);
        for (what, pause) in events {
            second += u64::from(pause % 60);
            if second > 3600 {
                break;
            }
            match what % 3 {
                0 => {
                    guesses += usize::from(fail(&throttle, &stranger, second).is_ok());
                }
                1 => {
                    if let Ok(admitted) = throttle.admit(&owner, after(second)) {
                        let _ = throttle.succeeded(&admitted);
                    }
                }
                _ => {
                    if let Ok(admitted) = throttle.admit(&stranger, after(second)) {
                        throttle.taken_back(&admitted);
                    }
                }
            }
        }
        // Five at once, then 1 + 2 + 4 … + 256 seconds, then every five minutes.
        prop_assert!(guesses <= 5 + 9 + 11, "{guesses}");
    }
}
