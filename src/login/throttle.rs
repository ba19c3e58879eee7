//! Slows down guessing without locking out owners. Attempts are counted before a hash is computed, by account and by
//! client address, and each failure makes the next attempt wait longer.
//!
//! An address from which a user has logged in to an account has a separate count for that account, so that the failures of
//! a stranger do not make the owner wait. Clients whose address is not known share one count.

mod attempt;
mod counts;
mod curve;
mod origin;
mod table;

use std::{
    fmt,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::hmac;

pub use self::curve::Free;
pub(crate) use self::{
    attempt::{Admitted, Change, CountedBy, Limited, SharedFailure, Wait},
    curve::FailureCount,
    origin::{Key, address_key},
};
use self::{
    counts::{Counts, MOST_ACCOUNTS, MOST_ADDRESSES, waits},
    curve::{Count, Curves},
    origin::{Origin, is_site, one_customer},
};
use crate::domain::{account::Username, hex};

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnixMillis(pub(crate) u64);

impl UnixMillis {
    /// The time since then; `None` if it is in the future.
    fn since(self, before: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(before.0))
    }
}

/// The counts of one replica.
pub struct Throttle {
    seal: hmac::Key,
    curves: Curves,
    counts: Mutex<Counts>,
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
    pub(crate) fn limited(&self, username: &Username, client: Option<IpAddr>) -> Limited {
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
    pub(crate) fn account(&self, username: &Username) -> Key {
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
    pub(crate) fn own(&self, limited: &Limited) -> Key {
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
    pub(crate) fn look(&self, limited: &Limited, now: UnixMillis) -> Result<(), Wait> {
        self.judge(&mut self.counts(), limited, now).map(drop)
    }

    /// Admits an attempt and counts it, or says how long to wait.
    ///
    /// # Errors
    ///
    /// [`Wait`]; nothing was counted.
    pub(crate) fn admit(&self, limited: &Limited, now: UnixMillis) -> Result<Admitted, Wait> {
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
    pub(crate) fn admit_from(
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
    pub(crate) fn failed(&self, admitted: &Admitted, now: UnixMillis) -> Vec<SharedFailure> {
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
            // All customers of a provider would write to one row and block each other, so each replica keeps this count on
            // its own.
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
    pub(crate) fn succeeded(&self, admitted: &Admitted, now: UnixMillis) -> Vec<SharedFailure> {
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
    pub(crate) fn taken_back(&self, admitted: &Admitted, now: UnixMillis) {
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
    pub(crate) fn learn(&self, key: &str, learnt: FailureCount, now: UnixMillis) {
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
    pub(crate) const MOST: usize = MOST_ACCOUNTS + MOST_ADDRESSES;

    /// The number of counts in memory.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        let counts = self.counts();
        counts.accounts.len() + counts.addresses.len()
    }

    /// The wait of the next attempt by one count.
    #[must_use]
    pub(crate) fn wait(&self, key: &str, tally: FailureCount, now: UnixMillis) -> Duration {
        let curve = self.curves.of(key);
        curve.wait(curve.left(tally, now), tally.last, now)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Every change is complete before anything can panic.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Throttle({})", self.len())
    }
}

#[cfg(test)]
mod tests;
