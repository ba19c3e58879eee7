//! Slows down guessing without locking out owners. Attempts are counted before a hash is computed, by account and by
//! client address, and each failure makes the next attempt wait longer.
//!
//! An address from which a user has logged in to an account has a separate count for that account, so that the failures of
//! a stranger do not make the owner wait. Clients whose address is not known share one count.

mod curve;
mod origin;
mod table;

use std::{
    fmt,
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::hmac;
use lru::LruCache;

use self::{
    curve::Count,
    origin::{Origin, is_address, is_site, one_customer},
    table::Table,
};
pub use self::{
    curve::{Curve, FailureCount, Then},
    origin::{Key, address_key},
};
use crate::domain::{account::Username, hex};

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The time since then; `None` if it is in the future.
    fn since(self, before: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(before.0))
    }
}

/// The number of failures without a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// For one account.
    pub account: u32,
    /// For one client address.
    pub address: u32,
    /// For all clients together whose address is not known.
    pub unknown: u32,
}

/// The curve of each kind of count.
#[derive(Clone, Copy, Debug)]
struct Curves {
    account: Curve,
    address: Curve,
    network: Curve,
    unknown: Curve,
    overflow: Curve,
}

impl Curves {
    fn new(free: Free) -> Self {
        Self {
            account: Curve::account(free.account),
            address: Curve::address(free.address),
            network: Curve::network(free.address),
            unknown: Curve::unknown(free.unknown),
            overflow: Curve::overflow(free.address),
        }
    }

    fn of(&self, key: &str) -> Curve {
        match is_address(key) {
            true if is_site(key) => self.network,
            true => self.address,
            false => self.account,
        }
    }
}

/// The keys of an attempt: its account and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    account: Key,
    familiar: Option<Key>,
    origin: Origin,
}

/// An admitted and counted attempt.
#[derive(Clone, Debug)]
#[must_use = "an attempt that is neither failed, succeeded nor taken back counts as failed"]
pub struct Admitted {
    limited: Limited,
    is_familiar: bool,
}

/// An attempt that must wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// For how long.
    pub duration: Duration,
    /// Whether it waits only for attempts in progress, which end soon.
    pub is_short: bool,
    /// The kind of count that makes it wait.
    pub by: CountedBy,
    /// The key of an address that may be familiar: this replica does not know, but the tables may.
    pub reserve: Option<Key>,
}

/// The kinds of counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CountedBy {
    /// The account of the login.
    Account,
    /// The client address.
    Address,
    /// The /48 around it.
    Network,
    /// All clients together whose address is not known.
    Unknown,
}

impl CountedBy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Account, Self::Address, Self::Network, Self::Unknown];
}

/// A change that other replicas must get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedFailure {
    /// The key of the count.
    pub key: Key,
    /// The change of the count.
    pub change: Change,
    /// Whether it is the first failure of its count. A flood makes many of these; other changes matter more.
    pub is_first: bool,
}

impl SharedFailure {
    /// Whether it belongs to one account, and not to an address, which many users may share.
    #[must_use]
    pub fn is_about_an_account(&self) -> bool {
        !is_address(&self.key)
    }
}

/// A change of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// One more failure.
    Failed,
    /// The failures are cleared; an address became familiar.
    Cleared,
}

/// The counts of one replica.
pub struct Throttle {
    seal: hmac::Key,
    curves: Curves,
    counts: Mutex<Counts>,
}

struct Counts {
    accounts: Table,
    addresses: Table,
    /// For all clients together whose address is not known.
    unknown: Count,
    /// Addresses that are not familiar according to the tables.
    strangers: LruCache<Key, ()>,
}

/// The most counts of accounts in memory, and the most of addresses; each takes some 150 bytes.
const MOST_ACCOUNTS: usize = 60_000;
const MOST_ADDRESSES: usize = 40_000;

/// The most addresses that are remembered as not familiar.
const MOST_STRANGERS: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

impl Counts {
    fn new(accounts: usize, addresses: usize) -> Self {
        Self {
            accounts: Table::new(accounts),
            addresses: Table::new(addresses),
            unknown: Count::default(),
            strangers: LruCache::new(MOST_STRANGERS),
        }
    }

    fn table(&mut self, key: &Key) -> &mut Table {
        match is_address(key) {
            true => &mut self.addresses,
            false => &mut self.accounts,
        }
    }

    /// The counts of an origin.
    fn of(
        &mut self,
        origin: &Origin,
        curves: &Curves,
        now: UnixMillis,
    ) -> [Option<(CountedBy, Count, Curve)>; 2] {
        let (by, count, curve) = match &origin.address {
            None => (CountedBy::Unknown, self.unknown, curves.unknown),
            Some(address) => {
                let (count, curve) = self.addresses.of(address, curves, now);
                (CountedBy::Address, count, curve)
            }
        };
        let network = origin.network.as_ref().map(|network| {
            let (count, curve) = self.addresses.of(network, curves, now);
            (CountedBy::Network, count, curve)
        });
        [Some((by, count, curve)), network]
    }
}

impl Throttle {
    /// Takes the secret with which names are hashed, and the numbers of failures without a wait.
    #[must_use]
    pub fn new(seal: hmac::Key, free: Free) -> Self {
        Self::bounded(seal, free, MOST_ACCOUNTS, MOST_ADDRESSES)
    }

    fn bounded(seal: hmac::Key, free: Free, accounts: usize, addresses: usize) -> Self {
        Self {
            seal,
            curves: Curves::new(free),
            counts: Mutex::new(Counts::new(accounts, addresses)),
        }
    }

    /// The keys of an attempt; `None` as address means that the address is not known.
    #[must_use]
    pub fn limited(&self, username: &Username, client: Option<IpAddr>) -> Limited {
        let network = client.and_then(one_customer);
        let familiar = network.map(|network| self.sealed("f", username, &network.to_string()));
        Limited {
            account: self.account(username),
            familiar,
            origin: Origin::of(client),
        }
    }

    /// The key of an account.
    #[must_use]
    pub fn account(&self, username: &Username) -> Key {
        self.sealed("n", username, "")
    }

    fn sealed(&self, kind: &str, username: &Username, rest: &str) -> Key {
        let text = format!("{kind}\0{}\0{rest}", username.as_str());
        let tag = hmac::sign(&self.seal, text.as_bytes());
        let half = tag.as_ref().get(..16).unwrap_or_default();
        format!("{kind}:{}", hex::encode(half)).into()
    }

    /// The count of an attempt by its account, as far as this replica knows which count that is.
    #[must_use]
    pub fn own(&self, limited: &Limited) -> Key {
        let counts = self.counts();
        let is_familiar = |key: &&Key| {
            let count = counts.accounts.own(key);
            count.is_some_and(|count| count.tally.epoch > 0)
        };
        let familiar = limited.familiar.as_ref().filter(is_familiar);
        familiar.unwrap_or(&limited.account).clone()
    }

    /// Says whether an attempt would be admitted.
    ///
    /// # Errors
    ///
    /// [`Wait`].
    pub fn look(&self, limited: &Limited, now: UnixMillis) -> Result<(), Wait> {
        self.judge(&mut self.counts(), limited, now).map(drop)
    }

    /// Admits an attempt and counts it, or says how long to wait.
    ///
    /// # Errors
    ///
    /// [`Wait`]; nothing was counted.
    pub fn admit(&self, limited: &Limited, now: UnixMillis) -> Result<Admitted, Wait> {
        let mut counts = self.counts();
        let is_familiar = self.judge(&mut counts, limited, now)?;
        let admitted = Admitted {
            limited: limited.clone(),
            is_familiar,
        };
        for key in admitted.keys() {
            let table = counts.table(key);
            if !table.change(key, &self.curves, now, |count| count.begin(now)) {
                // Its result is not known, so it counts as failed.
                table.fail_together(key, &self.curves, now);
            }
        }
        if admitted.limited.origin.address.is_none() {
            counts.unknown.begin(now);
        }
        Ok(admitted)
    }

    fn judge(&self, counts: &mut Counts, limited: &Limited, now: UnixMillis) -> Result<bool, Wait> {
        let familiar = limited.familiar.as_ref();
        let known = familiar.and_then(|key| counts.accounts.own(key));
        let own = known.filter(|count| count.tally.epoch > 0);
        let is_familiar = own.is_some();
        let (own, curve) = match own {
            Some(own) => (own, self.curves.account),
            None => counts.accounts.of(&limited.account, &self.curves, now),
        };
        let [address, network] = counts.of(&limited.origin, &self.curves, now);
        // A user who has logged in from this /64 does not wait for neighbours.
        let network = network.filter(|_| !is_familiar);
        let all = [Some((CountedBy::Account, own, curve)), address, network];
        let wait = waits(all, now);
        let Err(mut wait) = wait else {
            return Ok(is_familiar);
        };
        let is_held_up = waits([address], now).is_err();
        wait.reserve = familiar
            .filter(|key| known.is_none() && !is_held_up && !counts.strangers.contains(*key))
            .cloned();
        Err(wait)
    }

    /// Admits and counts an attempt without an account, such as a registration.
    ///
    /// # Errors
    ///
    /// [`Wait`]; nothing was counted.
    pub fn admit_from(
        &self,
        client: Option<IpAddr>,
        now: UnixMillis,
    ) -> Result<Vec<SharedFailure>, Wait> {
        let origin = Origin::of(client);
        let mut counts = self.counts();
        waits(counts.of(&origin, &self.curves, now), now).map_err(|wait| Wait {
            is_short: false,
            ..wait
        })?;
        Ok(self.fail(&mut counts, &origin, origin.keys(), now, |_| {}))
    }

    /// Counts an admitted attempt as failed.
    pub fn failed(&self, admitted: &Admitted, now: UnixMillis) -> Vec<SharedFailure> {
        let mut counts = self.counts();
        let origin = &admitted.limited.origin;
        self.fail(&mut counts, origin, admitted.keys(), now, Count::end)
    }

    /// Counts a failure for each key, and returns the changes for other replicas.
    fn fail<'a>(
        &self,
        counts: &mut Counts,
        origin: &Origin,
        keys: impl Iterator<Item = &'a Key>,
        now: UnixMillis,
        also: impl Fn(&mut Count),
    ) -> Vec<SharedFailure> {
        if origin.address.is_none() {
            also(&mut counts.unknown);
            self.curves.unknown.fail(&mut counts.unknown.tally, now);
        }
        let mut shares = Vec::new();
        for key in keys {
            let mut is_first = true;
            let curve = self.curves.of(key);
            counts.table(key).change(key, &self.curves, now, |count| {
                also(count);
                curve.fail(&mut count.tally, now);
                is_first = count.tally.failures == 1;
            });
            // All customers of a provider would write to one row and block each other, so each replica keeps this count on its own.
            if !is_site(key) {
                shares.push(SharedFailure {
                    key: key.clone(),
                    change: Change::Failed,
                    is_first,
                });
            }
        }
        shares
    }

    /// Notes that an admitted attempt has succeeded: clears its own count and makes its address familiar. Failures of the
    /// address at other accounts stay.
    pub fn succeeded(&self, admitted: &Admitted, now: UnixMillis) -> Vec<SharedFailure> {
        let mut counts = self.counts();
        self.end(&mut counts, admitted, now);
        let mut shares = Vec::new();
        let mut share = |key: &Key| {
            shares.push(SharedFailure {
                key: key.clone(),
                change: Change::Cleared,
                is_first: false,
            });
        };
        let own = admitted.own();
        if (counts.accounts.own(own)).is_some_and(|count| count.tally.failures > 0) {
            let clear = |count: &mut Count| {
                count.tally.epoch += 1;
                count.tally.failures = 0;
            };
            counts.accounts.change_own(own, &self.curves, now, clear);
            share(own);
        }
        if let (Some(familiar), false) = (&admitted.limited.familiar, admitted.is_familiar) {
            let know = |count: &mut Count| count.tally.epoch = count.tally.epoch.max(1);
            counts.accounts.change(familiar, &self.curves, now, know);
            share(familiar);
        }
        shares
    }

    /// Undoes an admitted attempt: no password was verified.
    pub fn taken_back(&self, admitted: &Admitted, now: UnixMillis) {
        self.end(&mut self.counts(), admitted, now);
    }

    fn end(&self, counts: &mut Counts, admitted: &Admitted, now: UnixMillis) {
        for key in admitted.keys() {
            let table = counts.table(key);
            table.change_own(key, &self.curves, now, Count::end);
        }
        if admitted.limited.origin.address.is_none() {
            counts.unknown.end();
        }
    }

    /// Takes a count from the tables.
    pub fn learn(&self, key: &str, learnt: FailureCount, now: UnixMillis) {
        let mut counts = self.counts();
        let key: Key = key.into();
        let is_familiar = key.starts_with("f:") && learnt.epoch > 0;
        if key.starts_with("f:") && !is_familiar {
            counts.strangers.put(key, ());
            return;
        }
        let table = counts.table(&key);
        let own = table.own(&key);
        // A count that makes no attempt wait needs no entry.
        if own.is_none() && !is_familiar && self.curves.of(&key).left(learnt, now) == 0 {
            return;
        }
        let before = own.unwrap_or_default().tally;
        let after = match learnt.epoch.cmp(&before.epoch) {
            std::cmp::Ordering::Greater => learnt,
            std::cmp::Ordering::Less => before,
            std::cmp::Ordering::Equal => FailureCount {
                failures: before.failures.max(learnt.failures),
                last: before.last.max(learnt.last),
                ..before
            },
        };
        // Each read computes the time of the last failure again, with small differences.
        let is_news = after.epoch != before.epoch
            || after.failures != before.failures
            || after.last.since(before.last) > Duration::from_secs(1);
        if is_news || own.is_none() {
            let learn = |count: &mut Count| count.tally = after;
            table.change(&key, &self.curves, now, learn);
        }
    }

    /// The most counts in memory.
    pub const MOST: usize = MOST_ACCOUNTS + MOST_ADDRESSES;

    /// The number of counts in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        let counts = self.counts();
        counts.accounts.len() + counts.addresses.len()
    }

    /// Whether there are no counts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The wait of the next attempt by one count.
    #[must_use]
    pub fn wait(&self, key: &str, tally: FailureCount, now: UnixMillis) -> Duration {
        let curve = self.curves.of(key);
        curve.wait(curve.left(tally, now), tally.last, now)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Every change is complete before anything can panic.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest of the waits, if any.
fn waits<const N: usize>(
    all: [Option<(CountedBy, Count, Curve)>; N],
    now: UnixMillis,
) -> Result<(), Wait> {
    let mut longest: Option<Wait> = None;
    let mut is_short = true;
    for (by, count, curve) in all.into_iter().flatten() {
        is_short &= count.wait_for_failures(curve, now).is_zero();
        let duration = count.wait(curve, now);
        let is_longer = longest
            .as_ref()
            .is_none_or(|before| duration > before.duration);
        if !duration.is_zero() && is_longer {
            longest = Some(Wait {
                duration,
                is_short: false,
                by,
                reserve: None,
            });
        }
    }
    match longest {
        None => Ok(()),
        Some(wait) => Err(Wait { is_short, ..wait }),
    }
}

impl Admitted {
    fn own(&self) -> &Key {
        match (&self.limited.familiar, self.is_familiar) {
            (Some(familiar), true) => familiar,
            (Some(_) | None, _) => &self.limited.account,
        }
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(self.own()).chain(self.limited.origin.keys())
    }
}

impl Limited {
    /// The count of its address, if the address is known.
    #[must_use]
    pub fn address(&self) -> Option<&Key> {
        self.origin.address.as_ref()
    }

    /// Every key in the tables that failures of this attempt may have.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        [
            Some(&self.account),
            self.origin.address.as_ref(),
            self.familiar.as_ref(),
        ]
        .into_iter()
        .flatten()
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Throttle({})", self.len())
    }
}

#[cfg(test)]
mod tests;
