//! The room for counts is bounded, and no flood takes that of others.

use super::*;

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
