//! Which login hashes next: a bounded queue that is fair between accounts and between client addresses. Does not know
//! who waits, how a login is notified, or which failures count against guessing.
//!
//! Every entry gets a round when it arrives: one more than the round of the entry before it of the same account and of the
//! same address, and at least one more than the round that is served. Entries are served by round, and in a round by
//! arrival. So an account or an address has at most one entry in a round, however many it sends, and a newcomer waits for
//! at most one entry of each of the others. This is start-time fair queueing with one unit of work an entry.

use std::collections::{BTreeSet, HashMap};

use super::throttle::Key;
use crate::domain::decision::Whose;

/// The limits of hashing and of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The most hashes at the same time.
    pub(crate) places: usize,
    /// The most KiB that they take together.
    pub(crate) memory: u64,
    /// The most entries that hash or wait.
    pub(crate) entries: usize,
}

impl Limits {
    /// The most entries of one account, and of one address, so that there is always room for others.
    #[must_use]
    pub(crate) fn of_one(&self) -> usize {
        self.entries.div_ceil(2)
    }
}

/// The number of an entry, in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Number(u64);

/// Why an entry is not accepted, or is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// This account or address has reached its limit.
    One(Whose),
    /// The whole queue is full.
    All,
}

/// An accepted entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an entry stays until it leaves"]
pub(crate) struct Entered {
    /// Its number.
    pub(crate) number: Number,
    /// The entry that was removed to make room.
    pub(crate) displaced: Option<(Number, Whose)>,
}

/// Whether an entry whose turn it is may hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admit {
    /// It may.
    Yes,
    /// Not before others have ended; the entry keeps its turn.
    Later,
    /// It may not; the entry leaves.
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the queue; the memory it needs is not known yet.
    Entered,
    Ready,
    Hashing,
    /// Has hashed; the next entry of its account waits until it leaves.
    Settling,
}

#[derive(Debug)]
struct Entry {
    account: Key,
    address: Option<Key>,
    /// 0 after it has hashed: then it does not count, and comes first if it wants to hash once more.
    round: u64,
    memory: u64,
    state: State,
    /// Whether it is already admitted.
    is_admitted: bool,
}

/// The entries of one account or address.
#[derive(Debug, Default)]
struct Group {
    /// The latest round of its entries.
    round: u64,
    /// Entries that wait or hash for the first time.
    waiting: usize,
    /// All entries; the group is removed with the last of them.
    all: usize,
    /// The entry whose turn it is. One entry of an account has the turn at a time, so that the result of an attempt is known
    /// before the next one is admitted.
    turn: Option<Number>,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct FairQueue {
    limits: Limits,
    next: u64,
    /// The highest served round.
    served: u64,
    entries: HashMap<Number, Entry>,
    ready: BTreeSet<(u64, Number)>,
    accounts: HashMap<Key, Group>,
    addresses: HashMap<Key, Group>,
    waiting: usize,
    hashing: usize,
    memory: u64,
}

impl FairQueue {
    /// An empty queue.
    #[must_use]
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            next: 0,
            served: 0,
            entries: HashMap::new(),
            ready: BTreeSet::new(),
            accounts: HashMap::new(),
            addresses: HashMap::new(),
            waiting: 0,
            hashing: 0,
            memory: 0,
        }
    }

    /// The number of entries that wait or hash for the first time.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// Adds an entry. If the queue is full, removes an entry of an account or address that has more of them.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub(crate) fn enter(&mut self, account: Key, address: Option<Key>) -> Result<Entered, Full> {
        let of_account = 1 + waiting(&self.accounts, &account);
        let of_address = address
            .as_ref()
            .map(|key| 1 + waiting(&self.addresses, key));
        if of_account > self.limits.of_one() {
            return Err(Full::One(Whose::Account));
        }
        if of_address.is_some_and(|of_address| of_address > self.limits.of_one()) {
            return Err(Full::One(Whose::Address));
        }
        let displaced = match self.waiting >= self.limits.entries {
            false => None,
            true => {
                let own = of_account.max(of_address.unwrap_or_default());
                let displaced = self.heaviest().filter(|(weight, ..)| *weight > own);
                let (_, number, by) = displaced.ok_or(Full::All)?;
                self.leave(number);
                Some((number, by))
            }
        };
        let number = self.enter_anyway(account, address);
        Ok(Entered { number, displaced })
    }

    /// Adds an entry even if the queue is full; for hashes that no client asked for.
    pub(crate) fn enter_anyway(&mut self, account: Key, address: Option<Key>) -> Number {
        let number = Number(self.next);
        self.next += 1;
        let accounts = self.accounts.entry(account.clone()).or_default();
        let mut round = (self.served + 1).max(accounts.round + 1);
        let addresses = address
            .as_ref()
            .map(|address| self.addresses.entry(address.clone()).or_default());
        if let Some(addresses) = &addresses {
            round = round.max(addresses.round + 1);
        }
        for group in [Some(accounts), addresses].into_iter().flatten() {
            group.round = round;
            group.waiting += 1;
            group.all += 1;
        }
        self.waiting += 1;
        self.entries.insert(
            number,
            Entry {
                account,
                address,
                round,
                memory: 0,
                state: State::Entered,
                is_admitted: false,
            },
        );
        number
    }

    /// The latest waiting entry of the account or address with the most entries, and their number.
    fn heaviest(&self) -> Option<(usize, Number, Whose)> {
        let waits = |entry: &Entry| match entry.state {
            State::Entered | State::Ready => !entry.is_admitted,
            State::Hashing | State::Settling => false,
        };
        let weights = self.entries.iter().filter(|(_, entry)| waits(entry));
        weights
            .map(|(number, entry)| {
                let of_account = waiting(&self.accounts, &entry.account);
                let address = entry.address.as_ref();
                let of_address = address.map_or(0, |key| waiting(&self.addresses, key));
                match of_account >= of_address {
                    true => (of_account, *number, Whose::Account),
                    false => (of_address, *number, Whose::Address),
                }
            })
            .max_by_key(|(weight, number, _)| (*weight, *number))
    }

    /// Notes that an entry wants to hash with this many KiB; an entry that has hashed before wants to hash once more.
    pub(crate) fn ready(&mut self, number: Number, memory: u64) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        match entry.state {
            State::Entered | State::Settling => {
                entry.memory = memory;
                entry.state = State::Ready;
                self.ready.insert((entry.round, number));
            }
            State::Ready | State::Hashing => {}
        }
    }

    /// The next entry that hashes. Asks `admit` about each entry whose turn it is.
    pub(crate) fn next(&mut self, mut admit: impl FnMut(Number) -> Admit) -> Option<Number> {
        loop {
            let (number, verdict) = self.candidate(&mut admit)?;
            if !verdict {
                self.leave(number);
                continue;
            }
            let entry = self.entries.get_mut(&number)?;
            entry.state = State::Hashing;
            entry.is_admitted = true;
            self.ready.remove(&(entry.round, number));
            self.served = self.served.max(entry.round);
            self.hashing += 1;
            self.memory += entry.memory;
            if let Some(account) = self.accounts.get_mut(&entry.account) {
                account.turn = Some(number);
            }
            return Some(number);
        }
    }

    /// The first entry that may hash or must leave, and which of the two.
    fn candidate(&self, admit: &mut impl FnMut(Number) -> Admit) -> Option<(Number, bool)> {
        if self.hashing >= self.limits.places {
            return None;
        }
        for &(_, number) in &self.ready {
            let entry = self.entries.get(&number)?;
            let turn = self.accounts.get(&entry.account)?.turn;
            if turn.is_some_and(|turn| turn != number) {
                continue;
            }
            // Entries that need little memory do not overtake one that needs much without limit.
            if self.hashing > 0 && self.memory + entry.memory > self.limits.memory {
                return None;
            }
            match entry.is_admitted {
                true => return Some((number, true)),
                false => match admit(number) {
                    Admit::Yes => return Some((number, true)),
                    Admit::No => return Some((number, false)),
                    Admit::Later => {}
                },
            }
        }
        None
    }

    /// Notes that an entry has hashed; the next one of its account waits until it leaves.
    pub(crate) fn settle(&mut self, number: Number) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        if entry.state != State::Hashing {
            return;
        }
        entry.state = State::Settling;
        self.hashing -= 1;
        self.memory -= entry.memory;
        self.uncount(number);
    }

    /// Removes an entry; only the first call has an effect.
    fn uncount(&mut self, number: Number) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        if entry.round == 0 {
            return;
        }
        entry.round = 0;
        self.waiting -= 1;
        let account = self.accounts.get_mut(&entry.account);
        let address = entry.address.as_ref();
        let address = address.and_then(|key| self.addresses.get_mut(key));
        for group in [account, address].into_iter().flatten() {
            group.waiting -= 1;
        }
    }

    /// Removes an entry in any state.
    pub(crate) fn leave(&mut self, number: Number) {
        let Some(entry) = self.entries.get(&number) else {
            return;
        };
        self.ready.remove(&(entry.round, number));
        self.settle(number);
        self.uncount(number);
        let Some(entry) = self.entries.remove(&number) else {
            return;
        };
        leave(&mut self.accounts, &entry.account, number);
        if let Some(address) = &entry.address {
            leave(&mut self.addresses, address, number);
        }
    }
}

fn waiting(groups: &HashMap<Key, Group>, key: &Key) -> usize {
    groups.get(key).map_or(0, |group| group.waiting)
}

fn leave(groups: &mut HashMap<Key, Group>, key: &Key, number: Number) {
    let Some(group) = groups.get_mut(key) else {
        return;
    };
    group.turn = group.turn.filter(|turn| *turn != number);
    group.all -= 1;
    if group.all == 0 {
        groups.remove(key);
    }
}

#[cfg(test)]
mod tests;
