//! Properties of the throttle under any order of events.

use proptest::prelude::*;

use super::*;

/// What may happen while an attempt must wait.
#[derive(Clone, Debug)]
enum Event {
    /// Attempts with many names from many addresses, with this result.
    Flood {
        names: u16,
        clients: u16,
        count: u8,
        end: u8,
    },
    /// Rows of other replicas.
    Learn {
        from: u16,
        count: u8,
        failures: u8,
        epoch: u8,
    },
    /// Guesses at one name until it must wait.
    Guess(u16),
    Registrations(u16),
    Pause(u16),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (any::<u16>(), any::<u16>(), any::<u8>(), any::<u8>())
            .prop_map(|(names, clients, count, end)| Event::Flood { names, clients, count, end }),
        2 => (any::<u16>(), any::<u8>(), any::<u8>(), 0_u8..3)
            .prop_map(|(from, count, failures, epoch)| Event::Learn { from, count, failures, epoch }),
        2 => any::<u16>().prop_map(Event::Guess),
        1 => any::<u16>().prop_map(Event::Registrations),
        1 => (0_u16..40).prop_map(Event::Pause),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No event ends a wait early, and memory is bounded.
    #[test]
    fn no_event_shortens_a_wait(
        guesses in 5_usize..20,
        room in 1_usize..40,
        events in prop::collection::vec(event(), 1..40),
    ) {
        let throttle = small(room);
        let ada = limited(&throttle, "ada", "198.51.100.7");
        let (mut now, mut failed) = (0, 0);
        while failed < guesses {
            match fail(&throttle, &ada, now) {
                Ok(()) => failed += 1,
                Err(wait) => now += wait.duration.as_secs().max(1),
            }
        }
        let over = now + Curve::account(5).wait(u32::try_from(guesses).unwrap(), START, START).as_secs();
        let client = |number: u16| match number % 3 {
            0 => String::new(),
            1 => format!("10.0.{}.{}", number >> 8, number & 255),
            _ => format!("2001:db8:{:x}:{number:x}::1", number >> 12),
        };
        for event in events {
            match event {
                Event::Flood { names, clients, count, end } => {
                    for number in 0..u16::from(count) {
                        let name = format!("user{}", names.wrapping_add(number) % 997);
                        let from = client(clients.wrapping_mul(31).wrapping_add(number));
                        // Some are for ada, from many addresses.
                        let name = if number % 7 == 0 { "ada" } else { &name };
                        if let Ok(admitted) = throttle.admit(&limited(&throttle, name, &from), after(now)) {
                            prop_assert!(name != "ada" || now >= over);
                            match end % 4 {
                                0 => drop(throttle.succeeded(&admitted, after(now))),
                                1 => throttle.taken_back(&admitted, after(now)),
                                _ => drop(throttle.failed(&admitted, after(now))),
                            }
                        }
                    }
                }
                Event::Learn { from, count, failures, epoch } => {
                    for number in 0..u16::from(count) {
                        let number = from.wrapping_add(number);
                        let kind = ["n", "f", "a"][usize::from(number % 3)];
                        let tally = FailureCount { epoch: epoch.into(), failures: failures.into(), last: after(now) };
                        throttle.learn(&format!("{kind}:{number:032x}"), tally, after(now));
                    }
                }
                Event::Guess(name) => {
                    let from = client(name.wrapping_mul(7));
                    let other = limited(&throttle, &format!("user{}", name % 997), &from);
                    while fail(&throttle, &other, now).is_ok() {}
                }
                Event::Registrations(clients) => {
                    for number in 0..64 {
                        let from = client(clients.wrapping_add(number)).parse().ok();
                        drop(throttle.admit_from(from, after(now)));
                    }
                }
                Event::Pause(seconds) => now += u64::from(seconds),
            }
            prop_assert!(throttle.len() <= 2 * room);
            if now >= over {
                break;
            }
            let stranger = limited(&throttle, "ada", "203.0.113.99");
            let wait = throttle.look(&stranger, after(now));
            let wait = wait.map_err(|wait| wait.duration.as_secs());
            prop_assert!(wait.is_err_and(|wait| wait >= over - now), "{wait:?}, {}", over - now);
        }
    }

    #[test]
    fn a_shared_count_limits_all_its_clients_together(events: Vec<(u16, u8)>) {
        let throttle = small(100);
        let (mut now, mut guesses) = (0_u64, 0);
        for (pause, count) in events {
            now += u64::from(pause % 120);
            for number in 0..count {
                let other = limited(&throttle, &format!("user{number}"), "");
                guesses += u64::from(fail(&throttle, &other, now).is_ok());
            }
        }
        prop_assert!(guesses <= 1000 + now);
    }

    /// No order of events gives a stranger more guesses at an account in an hour than the curve allows.
    #[test]
    fn no_order_of_events_gives_more_guesses(events: Vec<(u8, u16)>) {
        let throttle = throttle();
        let (owner, stranger) = (limited(&throttle, "ada", "203.0.113.5"), limited(&throttle, "ada", "198.51.100.7"));
        let first = throttle.admit(&owner, START).unwrap();
        let _ = throttle.succeeded(&first, START);
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
                        let _ = throttle.succeeded(&admitted, after(second));
                    }
                }
                _ => {
                    if let Ok(admitted) = throttle.admit(&stranger, after(second)) {
                        throttle.taken_back(&admitted, after(second));
                    }
                }
            }
        }
        // Five at once, then after 1 + 2 + 4 … + 256 seconds, then every five minutes.
        prop_assert!(guesses <= 5 + 9 + 11, "{guesses}");
    }
}
