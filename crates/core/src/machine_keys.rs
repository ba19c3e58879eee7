//! All keys for machines, in memory: every request with a key reads them, without a lock and without a database. Each replica
//! fills this memory from the same table.

mod limits;
mod shown;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};
use aws_lc_rs::hmac;

pub(crate) use self::shown::ShownKey;
pub use self::{
    limits::{KeyLimits, LimitsFault, MAX_PATHS},
    shown::{KeyPlace, KeySource},
};
use super::{
    account::{Identity, Roles, Username},
    machine_key::{KeyHash, KeyName, MachineKeyId, hash_key, is_well_formed},
    path::Path,
    principal::Principal,
    revocation::Revocations,
    time::UnixTime,
};

/// The keys in memory.
pub struct MachineKeys {
    entries: papaya::HashMap<MachineKeyId, Entry>,
    hash_key: hmac::Key,
    /// Principals of keys that were used lately.
    rendered: Box<[ArcSwapOption<Rendered>]>,
    /// Whether the table was read at least once.
    been_read: AtomicBool,
}

/// How many principals are kept, so that a key that is used often is not rendered again for each request.
const RENDERED: usize = 1024;

/// How many seconds pass before the use of a key is noted again.
const NOTED: u32 = 60;

/// One key, as it is in the table.
#[derive(Clone, Debug)]
pub struct KeyEntry {
    /// The hash of the key.
    pub hash: KeyHash,
    /// The name, for people.
    pub name: KeyName,
    /// The limits, shared by keys with equal ones; `None` without limits.
    pub limits: Option<Arc<KeyLimits>>,
    /// When the key expires; `None` for never.
    pub expires: Option<UnixTime>,
    /// Whether the key was ended.
    pub ended: bool,
}

struct Entry {
    key: KeyEntry,
    owner: ArcSwap<Owner>,
    /// The last use, and the last use that was given out to be written, in seconds since 1970.
    used: AtomicU32,
    written: AtomicU32,
}

/// The owner of keys, as the user table has them now. Keys of one owner share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user id.
    pub subject: Box<str>,
    /// The user name.
    pub username: Username,
    /// What the user table says.
    pub state: OwnerState,
}

/// What the user table says about an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// The row was not read yet.
    Unread,
    /// The user is disabled, or does not exist any more.
    Inactive,
    /// The user has these roles. Owners with equal roles share them.
    Active(Arc<Roles>),
}

struct Rendered {
    id: MachineKeyId,
    owner: Arc<Owner>,
    principal: Arc<Principal>,
}

/// A use of a key that is not written yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// The key.
    pub id: MachineKeyId,
    /// When it was used.
    pub at: UnixTime,
}

/// Why a key is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRefusal {
    /// The key is not valid.
    Invalid(MachineKeyFault),
    /// It is valid, but not for this path.
    Path(Arc<Principal>),
    /// The table or the owner was not read yet, so the key cannot be judged.
    Unread,
}

/// What is wrong with a key. Clients get the same answer for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineKeyFault {
    /// Not a key, or its checksum is wrong: it was cut or mistyped.
    Malformed,
    /// No such key.
    Unknown,
    /// It was ended.
    Ended,
    /// It has expired.
    Expired,
    /// Its owner is disabled, or does not exist any more.
    Owner,
}

impl Default for MachineKeys {
    fn default() -> Self {
        Self {
            entries: papaya::HashMap::new(),
            hash_key: hash_key(),
            rendered: (0..RENDERED).map(|_| ArcSwapOption::empty()).collect(),
            been_read: AtomicBool::new(false),
        }
    }
}

impl MachineKeys {
    /// Verifies a key for a request, and notes its use.
    ///
    /// # Errors
    ///
    /// Why the key is refused.
    pub fn verify(
        &self,
        key: &str,
        path: &Path<'_>,
        now: UnixTime,
        revoked: &Revocations,
    ) -> Result<Arc<Principal>, KeyRefusal> {
        let invalid = |fault| Err(KeyRefusal::Invalid(fault));
        let entries = self.entries.pin();
        let id = MachineKeyId::of(key);
        let found = id.and_then(|id| Some((id, entries.get(&id)?)));
        let Some((id, entry)) = found.filter(|(_, own)| own.key.hash.is_of(key, &self.hash_key))
        else {
            return match is_well_formed(key) {
                false => invalid(MachineKeyFault::Malformed),
                true if !self.been_read.load(Ordering::Acquire) => Err(KeyRefusal::Unread),
                true => invalid(MachineKeyFault::Unknown),
            };
        };
        if entry.key.ended {
            return invalid(MachineKeyFault::Ended);
        }
        if entry.key.expires.is_some_and(|expires| expires <= now) {
            return invalid(MachineKeyFault::Expired);
        }
        let owner = entry.owner.load();
        let roles = match &owner.state {
            OwnerState::Active(roles) => roles,
            OwnerState::Inactive => return invalid(MachineKeyFault::Owner),
            OwnerState::Unread => return Err(KeyRefusal::Unread),
        };
        if revoked.is_inactive(&owner.subject) {
            return invalid(MachineKeyFault::Owner);
        }
        let principal = self.principal(id, entry, &owner, roles);
        if let Some(limits) = &entry.key.limits
            && !limits.accept(path)
        {
            return Err(KeyRefusal::Path(principal));
        }
        entry.note(now);
        Ok(principal)
    }

    fn principal(
        &self,
        id: MachineKeyId,
        entry: &Entry,
        owner: &Arc<Owner>,
        roles: &Roles,
    ) -> Arc<Principal> {
        let slot = self.rendered.get(id.0 as usize % RENDERED);
        if let Some(slot) = slot
            && let Some(rendered) = &*slot.load()
            && rendered.id == id
            && Arc::ptr_eq(&rendered.owner, owner)
        {
            return Arc::clone(&rendered.principal);
        }
        let roles = match &entry.key.limits {
            Some(limits) => limits.roles_of(roles),
            None => roles.clone(),
        };
        let identity = Identity {
            subject: owner.subject.as_ref().into(),
            username: owner.username.clone(),
            roles,
        };
        let principal = Arc::new(Principal::of_key(identity, id, &entry.key.name));
        if let Some(slot) = slot {
            slot.store(Some(Arc::new(Rendered {
                id,
                owner: Arc::clone(owner),
                principal: Arc::clone(&principal),
            })));
        }
        principal
    }

    /// Adds a key, or replaces what is known about it. The name, the limits and the hash of a key never change.
    pub fn set(&self, id: MachineKeyId, key: KeyEntry, owner: Arc<Owner>) {
        let entries = self.entries.pin();
        let (used, written) = entries.get(&id).map_or((0, 0), |entry| {
            let read = |time: &AtomicU32| time.load(Ordering::Relaxed);
            (read(&entry.used), read(&entry.written))
        });
        let entry = Entry {
            key,
            owner: ArcSwap::new(owner),
            used: AtomicU32::new(used),
            written: AtomicU32::new(written),
        };
        entries.insert(id, entry);
    }

    /// Ends a key, as the table already does.
    pub fn end(&self, id: MachineKeyId) {
        let entries = self.entries.pin();
        if let Some(entry) = entries.get(&id) {
            let key = KeyEntry {
                ended: true,
                ..entry.key.clone()
            };
            self.set(id, key, entry.owner.load_full());
        }
    }

    /// Removes all keys but those that `keep` selects.
    pub fn retain(&self, mut keep: impl FnMut(MachineKeyId) -> bool) {
        self.entries.pin().retain(|id, _| keep(*id));
    }

    /// Notes that the table was read.
    pub fn have_been_read(&self) {
        self.been_read.store(true, Ordering::Release);
    }

    /// The owners that `wanted` selects, each once.
    #[must_use]
    pub fn owners(&self, mut wanted: impl FnMut(&Owner) -> bool) -> Vec<Arc<Owner>> {
        let mut seen = HashSet::new();
        let mut owners = HashMap::new();
        for (_, entry) in &self.entries.pin() {
            let owner = entry.owner.load();
            // Most keys share their owner with others.
            if seen.insert(Arc::as_ptr(&owner)) && wanted(&owner) {
                owners.insert(owner.subject.clone(), Arc::clone(&owner));
            }
        }
        owners.into_values().collect()
    }

    /// Replaces owners by their user ids.
    pub fn set_owners(&self, owners: &HashMap<Box<str>, Arc<Owner>>) {
        for (_, entry) in &self.entries.pin() {
            let owner = owners.get(&entry.owner.load().subject);
            if let Some(owner) = owner {
                entry.owner.store(Arc::clone(owner));
            }
        }
    }

    /// The uses that are not written yet, sorted by key, at most `most`. They count as written.
    #[must_use]
    pub fn take_uses(&self, most: usize) -> Vec<Use> {
        let entries = self.entries.pin();
        let new = entries.iter().filter_map(|(id, entry)| {
            let used = entry.used.load(Ordering::Relaxed);
            (entry.written.swap(used, Ordering::Relaxed) < used).then_some(Use {
                id: *id,
                at: UnixTime(used.into()),
            })
        });
        let mut uses: Vec<_> = new.take(most).collect();
        uses.sort();
        uses
    }

    /// The number of keys that are neither ended nor expired.
    #[must_use]
    pub fn usable(&self, now: UnixTime) -> usize {
        self.count(|key| !key.ended && key.expires.is_none_or(|expires| expires > now))
    }

    /// The number of usable keys that expire at `until` or earlier.
    #[must_use]
    pub fn expiring(&self, now: UnixTime, until: UnixTime) -> usize {
        self.count(|key| {
            !key.ended
                && key
                    .expires
                    .is_some_and(|expires| expires > now && expires <= until)
        })
    }

    fn count(&self, is_one: impl Fn(&KeyEntry) -> bool) -> usize {
        let entries = self.entries.pin();
        entries
            .iter()
            .filter(|(_, entry)| is_one(&entry.key))
            .count()
    }
}

impl Entry {
    /// Notes a use, at most once a minute, so that threads do not write the same memory at every request.
    fn note(&self, now: UnixTime) {
        let now = u32::try_from(now.0).unwrap_or(u32::MAX);
        let before = self.used.load(Ordering::Relaxed);
        if now >= before.saturating_add(NOTED) {
            self.used.store(now, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for MachineKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MachineKeys({})", self.entries.len())
    }
}

#[cfg(test)]
mod tests;
