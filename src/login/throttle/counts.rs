//! All counts of one replica.

use std::num::NonZeroUsize;

use lru::LruCache;

use super::{
    UnixMillis,
    attempt::{CountedBy, Wait},
    curve::{Count, Curve, Curves},
    origin::{Key, Origin, is_address},
    table::Table,
};

/// The most counts of accounts in memory, and the most of addresses; each takes some 150 bytes.
pub(super) const MOST_ACCOUNTS: usize = 60_000;
pub(super) const MOST_ADDRESSES: usize = 40_000;

/// The most addresses that are remembered as not familiar.
const MOST_STRANGERS: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

pub(super) struct Counts {
    pub(super) accounts: Table,
    pub(super) addresses: Table,
    /// For all clients together whose address is not known.
    pub(super) unknown: Count,
    /// Addresses that are not familiar according to the tables.
    pub(super) strangers: LruCache<Key, ()>,
}

impl Counts {
    pub(super) fn new(accounts: usize, addresses: usize) -> Self {
        Self {
            accounts: Table::new(accounts),
            addresses: Table::new(addresses),
            unknown: Count::default(),
            strangers: LruCache::new(MOST_STRANGERS),
        }
    }

    pub(super) fn table(&mut self, key: &Key) -> &mut Table {
        match is_address(key) {
            true => &mut self.addresses,
            false => &mut self.accounts,
        }
    }

    /// The counts of an origin.
    pub(super) fn of(
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

/// The longest of the waits, if any.
pub(super) fn waits<const N: usize>(
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
