//! Which login hashes next: a bounded queue that is fair between accounts and between client addresses. Does not know who
//! waits, how they are told, or what is counted against guessing.
//!
//! Every entry gets a round when it arrives: one more than the round of the entry before it of the same account and of the
//! same address, and at least one more than the round that is served. Entries are served by round, and in a round by
//! arrival. So an account or an address has at most one entry in a round, however many it sends, and a newcomer waits for
//! at most one entry of each of the others. This is start-time fair queueing with one unit of work an entry.

use std::collections::{BTreeSet, HashMap};

use super::throttle::Key;
use crate::domain::decision::Whose;

/// How much may be done at once, and how many may wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Passwords that are hashed at once.
    pub places: usize,
    /// KiB that they may take together.
    pub memory: u64,
    /// Entries that hash or wait.
    pub entries: usize,
}

impl Limits {
    /// The most entries of one account, and of one address: others always find room.
    #[must_use]
    pub fn of_one(&self) -> usize {
        self.entries.div_ceil(2)
    }
}

/// An entry, by when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(u64);

/// Why an entry is not taken, or is taken no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// One account, or one address, has as many as it may.
    One(Whose),
    /// All entries together are as many as may be.
    All,
}

/// An entry that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an entry stays until it leaves"]
pub struct Entered {
    /// Its number.
    pub number: Number,
    /// The entry that gave way, which has left.
    pub displaced: Option<(Number, Whose)>,
}

/// Whether an entry whose turn it is may hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// It may.
    Yes,
    /// Not before others have ended; it keeps its turn.
    Later,
    /// It may not; it leaves.
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the queue; how much memory it needs is not known yet.
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
    /// 0 once it has hashed: from then on it is not counted, and comes first if it wants to hash once more.
    round: u64,
    memory: u64,
    state: State,
    /// Whether it need not be admitted any more.
    is_admitted: bool,
}

/// The entries of one account or address.
#[derive(Debug, Default)]
struct Group {
    /// The last round that was given out.
    round: u64,
    /// Entries that wait or hash for the first time.
    waiting: usize,
    /// All entries; the group goes with the last of them.
    all: usize,
    /// Whose turn it is. Of an account, one entry at a time has it, so that what becomes of an attempt is known before the
    /// next one is admitted.
    turn: Option<Number>,
}

/// The queue.
#[derive(Debug)]
pub struct FairQueue {
    limits: Limits,
    next: u64,
    /// The highest round that was served.
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
    pub fn new(limits: Limits) -> Self {
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

    /// How many entries wait, or hash for the first time.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Takes an entry. Where the queue is full, an entry of an account or address that has more of them gives way.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn enter(&mut self, account: Key, address: Option<Key>) -> Result<Entered, Full> {
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

    /// Takes an entry however many there are, for what does not come from a client.
    pub fn enter_anyway(&mut self, account: Key, address: Option<Key>) -> Number {
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

    /// The youngest entry that waits of the account or address that has the most, and how many that are.
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

    /// An entry wants to hash, with so many KiB; of one that has hashed before, once more.
    pub fn ready(&mut self, number: Number, memory: u64) {
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

    /// The next entry that hashes from now on. `admit` is asked for each entry whose turn it is.
    pub fn next(&mut self, mut admit: impl FnMut(Number) -> Admit) -> Option<Number> {
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
            // What needs much memory is not overtaken for ever by what needs little.
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

    /// An entry has hashed; its account's next one waits until it leaves.
    pub fn settle(&mut self, number: Number) {
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

    /// An entry waits no longer; only the first call does something.
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

    /// An entry has ended, whatever it was at.
    pub fn leave(&mut self, number: Number) {
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
