//! What counts as one address, and clients without one.

use super::*;

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
    let calm = super::throttle();
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
    let alone = super::throttle();
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
