//! An attempt, and what becomes of it: a wait, or changes of counts that other replicas must get.

use std::time::Duration;

use super::origin::{Key, Origin, is_address};

/// The keys of an attempt: its account and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limited {
    pub(super) account: Key,
    pub(super) familiar: Option<Key>,
    pub(super) origin: Origin,
}

impl Limited {
    /// The count of its address, if the address is known.
    #[must_use]
    pub(crate) fn address(&self) -> Option<&Key> {
        self.origin.address.as_ref()
    }

    /// Every key in the tables that failures of this attempt may have.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        [
            Some(&self.account),
            self.origin.address.as_ref(),
            self.familiar.as_ref(),
        ]
        .into_iter()
        .flatten()
    }
}

/// An admitted and counted attempt.
#[derive(Clone, Debug)]
#[must_use = "an attempt that is neither failed, succeeded nor taken back counts as failed"]
pub(crate) struct Admitted {
    pub(super) limited: Limited,
    pub(super) is_familiar: bool,
}

impl Admitted {
    pub(super) fn own(&self) -> &Key {
        match (&self.limited.familiar, self.is_familiar) {
            (Some(familiar), true) => familiar,
            (Some(_) | None, _) => &self.limited.account,
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(self.own()).chain(self.limited.origin.keys())
    }
}

/// An attempt that must wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// For how long.
    pub(crate) duration: Duration,
    /// Whether it waits only for attempts in progress, which end soon.
    pub(crate) is_short: bool,
    /// The kind of count that makes it wait.
    pub(crate) by: CountedBy,
    /// The key of an address that may be familiar: this replica does not know, but the tables may.
    pub(crate) reserve: Option<Key>,
}

/// The kinds of counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CountedBy {
    /// The account of the login.
    Account,
    /// The client address.
    Address,
    /// The /48 around it.
    Network,
    /// All clients together whose address is not known.
    Unknown,
}

/// A change that other replicas must get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedFailure {
    /// The key of the count.
    pub(crate) key: Key,
    /// The change of the count.
    pub(crate) change: Change,
    /// Whether it is the first failure of its count. A flood makes many of these; other changes matter more.
    pub(crate) is_first: bool,
}

impl SharedFailure {
    /// Whether it belongs to one account, and not to an address, which many users may share.
    #[must_use]
    pub(crate) fn is_about_an_account(&self) -> bool {
        !is_address(&self.key)
    }
}

/// A change of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Change {
    /// One more failure.
    Failed,
    /// The failures are cleared; an address became familiar.
    Cleared,
}
