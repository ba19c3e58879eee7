//! Guessing gets nowhere, owners are not locked out: attempts are counted before a hash is computed, by account and by
//! client address, and each failure makes the next attempt wait longer.
//!
//! An address from which somebody has logged in to an account has a count of its own for that account, so that a
//! stranger's failures do not make the owner wait.

use std::{
    fmt,
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::hmac;
use ipnet::IpNet;
use lru::LruCache;

use super::{account::Username, hex};

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMillis(pub u64);

/// How many failures cost nothing, and how the wait grows after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Curve {
    /// Failures without a wait.
    pub free: u32,
    /// The longest wait.
    pub most: Duration,
    /// The longest wait after a hundred failures (NIST SP 800-63B, 3.2.2, allows no more in a row).
    pub most_after_hundred: Duration,
    /// After how long without a failure all of them are forgotten.
    pub forget: Duration,
}

impl Curve {
    /// Of one account.
    #[must_use]
    pub fn account(free: u32) -> Self {
        Self {
            free,
            most: Duration::from_secs(300),
            most_after_hundred: Duration::from_secs(3600),
            forget: Duration::from_secs(24 * 3600),
        }
    }

    /// Of one client address, behind which many people may be.
    #[must_use]
    pub fn address(free: u32) -> Self {
        Self {
            free,
            most: Duration::from_secs(60),
            most_after_hundred: Duration::from_secs(60),
            forget: Duration::from_secs(3600),
        }
    }

    /// How long after the last of so many failures the next attempt is taken: one second, doubling.
    #[must_use]
    pub fn delay(&self, failures: u32) -> Duration {
        let Some(beyond) = failures.checked_sub(self.free) else {
            return Duration::ZERO;
        };
        let most = match failures {
            0..100 => self.most,
            _ => self.most_after_hundred,
        };
        let seconds = 1_u64.checked_shl(beyond).filter(|_| beyond < 32);
        seconds.map_or(most, |seconds| most.min(Duration::from_secs(seconds)))
    }

    fn wait(&self, failures: u32, last: UnixMillis, now: UnixMillis) -> Duration {
        let since = Duration::from_millis(now.0.saturating_sub(last.0));
        match since > self.forget {
            true => Duration::ZERO,
            false => self.delay(failures).saturating_sub(since),
        }
    }

    fn fail(&self, tally: &mut Tally, now: UnixMillis) {
        if Duration::from_millis(now.0.saturating_sub(tally.last.0)) > self.forget {
            tally.failures = 0;
        }
        tally.failures = tally.failures.saturating_add(1);
        tally.last = tally.last.max(now);
    }
}

/// What is known of one account or address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often the failures were cleared; a later epoch is what is true. For a familiar address, not zero.
    pub epoch: u64,
    /// Failures since.
    pub failures: u32,
    /// The last failure.
    pub last: UnixMillis,
}

/// What one replica knows of one account or address.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    tally: Tally,
    /// Attempts that were taken and have neither failed nor succeeded; until they have, each counts as failed.
    under_way: u32,
    begun: UnixMillis,
}

impl Count {
    fn wait(self, curve: Curve, now: UnixMillis) -> Duration {
        let Tally { failures, last, .. } = self.tally;
        match self.under_way {
            0 => curve.wait(failures, last, now),
            more => curve.wait(failures.saturating_add(more), last.max(self.begun), now),
        }
    }

    fn begin(&mut self, now: UnixMillis) {
        self.under_way = self.under_way.saturating_add(1);
        self.begun = self.begun.max(now);
    }

    fn end(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }
}

/// The count that an attempt falls under, as a text that shows no name.
pub type Key = Box<str>;

/// Whom an attempt is about and where it comes from, as keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    account: Key,
    address: Option<Key>,
    familiar: Option<Key>,
}

/// An attempt that was taken and counted.
#[derive(Clone, Debug)]
#[must_use = "an attempt that is neither failed, succeeded nor taken back counts as failed"]
pub struct Admitted {
    suspect: Suspect,
    is_familiar: bool,
}

/// An attempt that is not taken yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// For how long.
    pub duration: Duration,
    /// Whether only attempts that are under way stand before it: soon it is known what becomes of them.
    pub is_short: bool,
    /// Whose failures it follows from.
    pub by: Counted,
    /// The key of a familiar address that this replica does not know of, and the tables may.
    pub reserve: Option<Key>,
}

/// What failures are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// The account that is logged in to.
    Account,
    /// The client address.
    Address,
}

/// What other replicas must hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which count.
    pub key: Key,
    /// What became of it.
    pub change: Change,
}

impl Share {
    /// Whether it is about one account, and not about an address, whose failures are those of many.
    #[must_use]
    pub fn is_about_an_account(&self) -> bool {
        !is_address(&self.key)
    }
}

/// What became of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// One failure more.
    Failed,
    /// No failures any more; an address became familiar.
    Cleared,
}

/// Counts of one replica.
pub struct Throttle {
    seal: hmac::Key,
    account: Curve,
    address: Curve,
    counts: Mutex<LruCache<Key, Count>>,
}

/// The most counts that are kept in memory, some 100 bytes each.
const MOST: NonZeroUsize = NonZeroUsize::new(100_000).expect("not zero");

impl Throttle {
    /// Takes the key that keeps names from being read out of keys, and how many failures cost nothing.
    #[must_use]
    pub fn new(seal: hmac::Key, account: u32, address: u32) -> Self {
        Self {
            seal,
            account: Curve::account(account),
            address: Curve::address(address),
            counts: Mutex::new(LruCache::new(MOST)),
        }
    }

    /// The keys of an attempt.
    #[must_use]
    pub fn suspect(&self, username: &Username, client: Option<IpAddr>) -> Suspect {
        let network = client.and_then(network);
        let sealed = |kind: &str, rest: &str| -> Key {
            let text = format!("{kind}\0{}\0{rest}", username.as_str());
            let tag = hmac::sign(&self.seal, text.as_bytes());
            let half = tag.as_ref().get(..16).unwrap_or_default();
            format!("{kind}:{}", hex::encode(half)).into()
        };
        Suspect {
            account: sealed("n", ""),
            familiar: network.map(|network| sealed("f", &network.to_string())),
            address: network.map(address_key),
        }
    }

    /// The keys of somebody who is only an address.
    #[must_use]
    pub fn address_alone(&self, client: Option<IpAddr>) -> Option<Key> {
        client.and_then(network).map(address_key)
    }

    /// Says whether an attempt would be taken.
    ///
    /// # Errors
    ///
    /// [`Wait`].
    pub fn look(&self, suspect: &Suspect, now: UnixMillis) -> Result<(), Wait> {
        self.judge(&mut self.counts(), suspect, now).map(drop)
    }

    /// Takes an attempt and counts it, or says how long to wait.
    ///
    /// # Errors
    ///
    /// [`Wait`]; nothing was counted.
    pub fn admit(&self, suspect: &Suspect, now: UnixMillis) -> Result<Admitted, Wait> {
        let mut counts = self.counts();
        let is_familiar = self.judge(&mut counts, suspect, now)?;
        let admitted = Admitted {
            suspect: suspect.clone(),
            is_familiar,
        };
        for key in admitted.keys() {
            counts
                .get_or_insert_mut(key.clone(), Count::default)
                .begin(now);
        }
        Ok(admitted)
    }

    fn judge(
        &self,
        counts: &mut LruCache<Key, Count>,
        suspect: &Suspect,
        now: UnixMillis,
    ) -> Result<bool, Wait> {
        let mut known = |key: &Key| counts.get(key).copied();
        let familiar = suspect.familiar.as_ref().and_then(&mut known);
        let own = familiar.filter(|count| count.tally.epoch > 0);
        let is_familiar = own.is_some();
        let own = own.or_else(|| known(&suspect.account)).unwrap_or_default();
        let address = suspect
            .address
            .as_ref()
            .and_then(&mut known)
            .unwrap_or_default();
        let for_own = own.wait(self.account, now);
        let for_address = address.wait(self.address, now);
        if for_own.is_zero() && for_address.is_zero() {
            return Ok(is_familiar);
        }
        let failed = |count: Count, curve: Curve| {
            !Count {
                under_way: 0,
                ..count
            }
            .wait(curve, now)
            .is_zero()
        };
        let unknown = suspect.familiar.clone().filter(|_| familiar.is_none());
        Err(Wait {
            duration: for_own.max(for_address),
            is_short: !failed(own, self.account) && !failed(address, self.address),
            by: match for_own >= for_address {
                true => Counted::Account,
                false => Counted::Address,
            },
            reserve: unknown.filter(|_| for_address.is_zero()),
        })
    }

    /// Takes and counts something that is not about an account, such as a registration.
    ///
    /// # Errors
    ///
    /// [`Wait`]; nothing was counted.
    pub fn admit_address(&self, address: &Key, now: UnixMillis) -> Result<Share, Wait> {
        let mut counts = self.counts();
        let count = counts.get_or_insert_mut(address.clone(), Count::default);
        let duration = count.wait(self.address, now);
        if !duration.is_zero() {
            return Err(Wait {
                duration,
                is_short: false,
                by: Counted::Address,
                reserve: None,
            });
        }
        self.address.fail(&mut count.tally, now);
        Ok(Share {
            key: address.clone(),
            change: Change::Failed,
        })
    }

    /// An attempt that was taken has failed.
    pub fn failed(&self, admitted: &Admitted, now: UnixMillis) -> Vec<Share> {
        let mut counts = self.counts();
        let fail = |key: &Key| {
            let count = counts.get_or_insert_mut(key.clone(), Count::default);
            count.end();
            self.curve(key).fail(&mut count.tally, now);
            Share {
                key: key.clone(),
                change: Change::Failed,
            }
        };
        admitted.keys().map(fail).collect()
    }

    /// An attempt that was taken has succeeded: its own count is cleared, its address becomes familiar, and what an
    /// address has failed elsewhere stays.
    pub fn succeeded(&self, admitted: &Admitted) -> Vec<Share> {
        let mut counts = self.counts();
        let mut shares = Vec::new();
        for key in admitted.keys() {
            if let Some(count) = counts.get_mut(key) {
                count.end();
            }
        }
        let own = admitted.own();
        if let Some(count) = counts.get_mut(own)
            && count.tally.failures > 0
        {
            count.tally.epoch += 1;
            count.tally.failures = 0;
            shares.push(Share {
                key: own.clone(),
                change: Change::Cleared,
            });
        }
        if let (Some(familiar), false) = (&admitted.suspect.familiar, admitted.is_familiar) {
            let count = counts.get_or_insert_mut(familiar.clone(), Count::default);
            count.tally.epoch = count.tally.epoch.max(1);
            shares.push(Share {
                key: familiar.clone(),
                change: Change::Cleared,
            });
        }
        shares
    }

    /// An attempt that was taken came to nothing: no password was looked at.
    pub fn taken_back(&self, admitted: &Admitted) {
        let mut counts = self.counts();
        for key in admitted.keys() {
            if let Some(count) = counts.get_mut(key) {
                count.end();
            }
        }
    }

    /// Hears of a count from the tables.
    pub fn learn(&self, key: &str, learnt: Tally) {
        let mut counts = self.counts();
        let tally = &mut counts.get_or_insert_mut(key.into(), Count::default).tally;
        if learnt.epoch > tally.epoch {
            *tally = learnt;
        } else if learnt.epoch == tally.epoch {
            tally.failures = tally.failures.max(learnt.failures);
            tally.last = tally.last.max(learnt.last);
        }
    }

    /// The most counts that are kept in memory.
    pub const MOST: usize = MOST.get();

    /// How many counts are in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts().len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long a count makes the next attempt wait.
    #[must_use]
    pub fn wait(&self, key: &str, tally: Tally, now: UnixMillis) -> Duration {
        self.curve(key).wait(tally.failures, tally.last, now)
    }

    fn curve(&self, key: &str) -> Curve {
        match is_address(key) {
            true => self.address,
            false => self.account,
        }
    }

    fn counts(&self) -> MutexGuard<'_, LruCache<Key, Count>> {
        // Every change is whole before anything could panic.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admitted {
    fn own(&self) -> &Key {
        match (&self.suspect.familiar, self.is_familiar) {
            (Some(familiar), true) => familiar,
            (Some(_) | None, _) => &self.suspect.account,
        }
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        [Some(self.own()), self.suspect.address.as_ref()]
            .into_iter()
            .flatten()
    }
}

impl Suspect {
    /// The keys, for people who clear them.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        [
            Some(&self.account),
            self.address.as_ref(),
            self.familiar.as_ref(),
        ]
        .into_iter()
        .flatten()
    }
}

/// The network that one client may have whole: one IPv4 address, or a /64 of IPv6 (RFC 6177).
fn network(client: IpAddr) -> Option<IpNet> {
    let client = client.to_canonical();
    let length = match client {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 64,
    };
    IpNet::new(client, length)
        .ok()
        .map(|network| network.trunc())
}

fn is_address(key: &str) -> bool {
    key.starts_with("a:")
}

fn address_key(network: IpNet) -> Key {
    format!("a:{network}").into()
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Throttle({})", self.len())
    }
}

#[cfg(test)]
mod tests;
