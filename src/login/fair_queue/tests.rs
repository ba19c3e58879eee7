use proptest::prelude::*;

use super::*;

fn queue(places: usize, memory: u64, entries: usize) -> FairQueue {
    FairQueue::new(Limits {
        places,
        memory,
        entries,
    })
}

fn key(kind: &str, number: usize) -> Key {
    format!("{kind}{number}").into()
}

impl FairQueue {
    /// Adds an entry that can hash at once.
    fn join(&mut self, account: &str, address: Option<&str>) -> Result<Number, Full> {
        let entered = self.enter(account.into(), address.map(Into::into))?;
        self.ready(entered.number, 1);
        Ok(entered.number)
    }

    fn start(&mut self) -> Option<Number> {
        self.next(|_| Admit::Yes)
    }

    /// Marks the entry as hashed and removes it.
    fn finish(&mut self, number: Number) {
        self.settle(number);
        self.leave(number);
    }

    /// Asserts that the counts equal the entries.
    fn check(&self) {
        let of = |state| self.entries.values().filter(move |own| own.state == state);
        let counted = self.entries.values().filter(|own| own.round > 0).count();
        assert_eq!(self.waiting, counted);
        assert!(self.waiting <= self.limits.entries);
        assert_eq!(self.hashing, of(State::Hashing).count());
        assert!(self.hashing <= self.limits.places);
        let memory: u64 = of(State::Hashing).map(|own| own.memory).sum();
        assert_eq!(self.memory, memory);
        assert!(self.hashing < 2 || memory <= self.limits.memory);
        assert_eq!(self.ready.len(), of(State::Ready).count());
        let account: fn(&Entry) -> Option<&Key> = |own| Some(&own.account);
        let address: fn(&Entry) -> Option<&Key> = |own| own.address.as_ref();
        for (groups, key) in [(&self.accounts, account), (&self.addresses, address)] {
            for (name, group) in groups {
                let own = self.entries.values().filter(|own| key(own) == Some(name));
                assert_eq!(group.all, own.clone().count());
                let waiting = own.filter(|own| own.round > 0).count();
                assert_eq!(group.waiting, waiting);
                assert!(waiting <= self.limits.of_one());
            }
            let all: usize = groups.values().map(|group| group.all).sum();
            assert_eq!(
                all,
                self.entries
                    .values()
                    .filter(|own| key(own).is_some())
                    .count()
            );
        }
    }
}

#[test]
fn many_logins_of_one_account_do_not_delay_another_account() {
    let mut queue = queue(1, 9, 100);
    let first = queue.join("a", Some("x")).unwrap();
    assert_eq!(queue.start(), Some(first));
    let crowd: Vec<_> = (0..49).map(|_| queue.join("a", None).unwrap()).collect();
    assert_eq!(queue.join("a", None), Err(Full::One(Whose::Account)));
    let alone = queue.join("b", Some("x")).unwrap();
    queue.finish(first);
    // One entry of the crowd has the same round and came first.
    assert_eq!(queue.start(), Some(crowd[0]));
    queue.finish(crowd[0]);
    assert_eq!(queue.start(), Some(alone));
    queue.finish(alone);
    assert_eq!(queue.start(), Some(crowd[1]));
    queue.check();
}

#[test]
fn many_names_from_one_address_do_not_delay_another_address() {
    let mut queue = queue(1, 9, 100);
    let names: Vec<_> = (0..50)
        .map(|number| queue.join(&key("n", number), Some("x")).unwrap())
        .collect();
    assert_eq!(queue.join("n", Some("x")), Err(Full::One(Whose::Address)));
    let alone = queue.join("b", Some("y")).unwrap();
    assert_eq!(queue.start(), Some(names[0]));
    queue.finish(names[0]);
    assert_eq!(queue.start(), Some(alone));
}

#[test]
fn an_account_has_one_turn_at_a_time() {
    let mut queue = queue(3, 9, 10);
    let first = queue.join("a", None).unwrap();
    let second = queue.join("a", None).unwrap();
    assert_eq!(queue.start(), Some(first));
    assert_eq!(queue.start(), None);
    queue.settle(first);
    assert_eq!(queue.start(), None, "the first login has no result yet");
    queue.leave(first);
    assert_eq!(queue.start(), Some(second));
    queue.check();
}

#[test]
fn a_large_hash_waits_for_memory_and_is_not_overtaken() {
    let mut queue = queue(4, 10, 10);
    let join = |queue: &mut FairQueue, name: &str, memory| {
        let number = queue.enter(name.into(), None).unwrap().number;
        queue.ready(number, memory);
        number
    };
    let light = join(&mut queue, "a", 4);
    let heavy = join(&mut queue, "b", 8);
    let late = join(&mut queue, "c", 1);
    assert_eq!(queue.start(), Some(light));
    assert_eq!(queue.start(), None);
    queue.finish(light);
    assert_eq!(queue.start(), Some(heavy));
    assert_eq!(queue.start(), Some(late));
    queue.finish(heavy);
    // An entry that never fits does not get here; a larger one runs alone.
    let over = join(&mut queue, "d", 11);
    assert_eq!(queue.start(), None);
    queue.finish(late);
    assert_eq!(queue.start(), Some(over));
    queue.check();
}

#[test]
fn a_full_queue_removes_a_login_of_the_busiest_source() {
    let mut queue = queue(1, 9, 4);
    let crowd = [queue.join("a", Some("x")), queue.join("a", Some("y"))].map(Result::unwrap);
    let names = [queue.join("b", Some("z")), queue.join("c", Some("z"))].map(Result::unwrap);
    let entered = queue.enter("d".into(), Some("v".into())).unwrap();
    assert_eq!(entered.displaced, Some((names[1], Whose::Address)));
    let entered = queue.enter("e".into(), Some("w".into())).unwrap();
    assert_eq!(entered.displaced, Some((crowd[1], Whose::Account)));
    assert_eq!(queue.enter("f".into(), Some("u".into())), Err(Full::All));
    queue.check();
}

#[test]
fn a_second_hash_goes_first_and_is_not_admitted_again() {
    let mut queue = queue(1, 9, 10);
    let first = queue.join("a", None).unwrap();
    assert_eq!(queue.start(), Some(first));
    queue.settle(first);
    assert_eq!(queue.len(), 0);
    let other = queue.join("b", None).unwrap();
    queue.ready(first, 1);
    assert_eq!(queue.next(|_| Admit::No), Some(first));
    queue.finish(first);
    assert_eq!(queue.start(), Some(other));
    queue.check();
}

#[test]
fn a_postponed_login_keeps_its_turn_and_a_refused_one_leaves() {
    let mut queue = queue(1, 9, 10);
    let [first, second, third] = ["a", "b", "c"].map(|name| queue.join(name, None).unwrap());
    let admit = |number| match number {
        number if number == first => Admit::Later,
        number if number == second => Admit::No,
        _ => Admit::Yes,
    };
    assert_eq!(queue.next(admit), Some(third));
    queue.finish(third);
    assert_eq!(queue.start(), Some(first));
    assert_eq!(queue.len(), 1);
    queue.check();
}

#[derive(Clone, Debug)]
enum Act {
    Enter(usize, Option<usize>),
    /// An existing entry, chosen by its position.
    Ready(usize, u64),
    Settle(usize),
    Leave(usize),
    Next(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let at = 0..40_usize;
    prop_oneof![
        4 => (0..5_usize, prop::option::of(0..4_usize))
            .prop_map(|(account, address)| Act::Enter(account, address)),
        4 => (at.clone(), 0..12_u64).prop_map(|(at, memory)| Act::Ready(at, memory)),
        3 => at.clone().prop_map(Act::Settle),
        2 => at.prop_map(Act::Leave),
        5 => any::<u8>().prop_map(Act::Next),
    ]
}

proptest! {
    /// Counts are correct, limits hold, and an account's entries get their turns in order of arrival.
    #[test]
    fn counts_limits_and_order_hold_after_any_operations(acts in prop::collection::vec(act(), 0..200), places in 1..4_usize, entries in 1..12_usize) {
        let mut queue = queue(places, 10, entries);
        let mut there: Vec<Number> = Vec::new();
        for act in acts {
            match act {
                Act::Enter(account, address) => {
                    let entered = queue.enter(key("n", account), address.map(|own| key("a", own)));
                    if let Ok(Entered { number, displaced }) = entered {
                        there.retain(|own| displaced.is_none_or(|(gone, _)| gone != *own));
                        there.push(number);
                    }
                }
                Act::Ready(at, memory) => if let Some(number) = there.get(at) {
                    queue.ready(*number, memory);
                },
                Act::Settle(at) => if let Some(number) = there.get(at) {
                    queue.settle(*number);
                },
                Act::Leave(at) => if at < there.len() {
                    queue.leave(there.remove(at));
                },
                Act::Next(bits) => {
                    let mut left = Vec::new();
                    let started = queue.next(|Number(number)| match bits >> (number % 4 * 2) & 3 {
                        0 => { left.push(Number(number)); Admit::No }
                        1 => Admit::Later,
                        _ => Admit::Yes,
                    });
                    there.retain(|own| !left.contains(own));
                    if let Some(number) = started {
                        prop_assert!(there.contains(&number));
                        let own = &queue.entries[&number].account;
                        for other in queue.entries.iter().filter(|(_, other)| other.account == *own) {
                            prop_assert!(*other.0 == number || other.1.state != State::Hashing);
                        }
                    }
                }
            }
            queue.check();
        }
        for number in there {
            queue.leave(number);
        }
        queue.check();
        prop_assert!(queue.entries.is_empty() && queue.accounts.is_empty() && queue.addresses.is_empty());
    }

    /// A waiting entry hashes after a bounded number of others, whatever arrives meanwhile.
    #[test]
    fn no_login_starves(
        before in prop::collection::vec((0..3_usize, 0..3_usize), 0..8),
        fresh in prop::collection::vec((0..50_usize, 0..50_usize), 60),
    ) {
        const ENTRIES: usize = 6;
        let mut queue = queue(1, 10, ENTRIES);
        for (account, address) in before {
            let _ = queue.join(&key("n", account), Some(&key("a", address)));
        }
        let Ok(own) = queue.join("own", Some("a0")) else { return Ok(()); };
        let rounds = usize::try_from(queue.entries[&own].round).unwrap();
        let mut others = 0;
        for (account, address) in fresh {
            // Later entries arrive as fast as places become free.
            let _ = queue.join(&key("m", account), Some(&key("b", address)));
            let started = queue.start().unwrap();
            queue.finish(started);
            if started == own || !queue.entries.contains_key(&own) {
                break;
            }
            others += 1;
        }
        // When a round begins, all its entries exist except one that may still arrive. Each entry may wait in its own
        // round, and so may the one that makes room for this one.
        prop_assert!(others <= (ENTRIES + 1) * rounds && rounds <= ENTRIES + 1, "{others}, {rounds}");
    }

    /// An entry that is alone with its account and address is refused only if all entries are.
    #[test]
    fn a_lone_login_is_refused_only_if_all_are_alone(crowd in prop::collection::vec((0..6_usize, 0..6_usize), 1..60)) {
        let mut queue = queue(1, 10, 12);
        for (account, address) in crowd {
            let _ = queue.join(&key("n", account), Some(&key("a", address)));
        }
        let entered = queue.join("alone", Some("alone"));
        let heaviest = queue.heaviest().map_or(0, |(weight, ..)| weight);
        prop_assert!(entered.is_ok() || heaviest <= 1, "{heaviest}");
        queue.check();
    }
}
