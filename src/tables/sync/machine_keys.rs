//! Keys for machines, and what the user table says about their owners. Both are read into memory like revocations; uses are
//! written in batches.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    domain::{
        account::{Roles, Username},
        machine_keys::{KeyEntry, KeyLimits, MachineKeys, Owner, OwnerState},
        revocation::{Generation, Revocations},
    },
    tables::{
        database::Fault,
        state::{KeyRow, Mark},
        store::Store,
        users::UsersFault,
    },
};

/// How many owners are read again at each poll, if one statement reads many of them, and if it reads one.
const OWNERS_TOGETHER: usize = 1_000;
const OWNERS_ONE_BY_ONE: usize = 50;

/// How often uses are written, and how many at once.
const WRITES: Duration = Duration::from_secs(10);
const MOST_USES: usize = 10_000;

/// Reads the keys, and remembers how far it has read.
#[derive(Debug)]
pub(super) struct KeyFollower {
    keys: Arc<MachineKeys>,
    mark: Mark,
    /// Owners that are read again at the next polls, in this order.
    due: Vec<Arc<Owner>>,
    /// The generations of owners' tokens, which change with their rows.
    generations: HashMap<Box<str>, Generation>,
    /// Equal limits and equal roles are kept once.
    limits: HashSet<Arc<KeyLimits>>,
    roles: HashSet<Arc<Roles>>,
    writes: Instant,
}

impl KeyFollower {
    pub(super) fn new(keys: Arc<MachineKeys>) -> Self {
        Self {
            keys,
            mark: Mark::default(),
            due: Vec::new(),
            generations: HashMap::new(),
            limits: HashSet::new(),
            roles: HashSet::new(),
            writes: Instant::now() + WRITES,
        }
    }

    /// Makes the next read return everything, and forget keys without a row.
    pub(super) fn read_all(&mut self) {
        self.mark.read_all();
    }

    /// Reads keys that have changed, and owners that may have.
    ///
    /// # Errors
    ///
    /// The fault of the database.
    pub(super) async fn read(
        &mut self,
        store: &Store,
        revoked: &Revocations,
    ) -> Result<u64, UsersFault> {
        let is_whole = self.mark.reads_all();
        let mut rows = Vec::new();
        let mut seen = HashSet::new();
        let mark = store.state.read_keys(&self.mark, |id, row| {
            seen.extend(id.filter(|_| is_whole && row.is_some()));
            match row {
                Some(row) => rows.push(row),
                // A row that cannot be read as a key: the key is not accepted any more.
                None => id.into_iter().for_each(|id| self.keys.end(id)),
            }
        });
        self.mark = mark.await?;
        self.take(rows);
        if is_whole {
            self.keys.retain(|id| seen.contains(&id));
        }
        self.keys.have_been_read();
        self.read_owners(store, revoked).await?;
        if is_whole {
            // Only what is still used is kept.
            self.limits.retain(|limits| Arc::strong_count(limits) > 1);
            self.roles.retain(|roles| Arc::strong_count(roles) > 1);
        }
        Ok(self.mark.rows())
    }

    fn take(&mut self, rows: Vec<KeyRow>) {
        if rows.is_empty() {
            return;
        }
        let ids: HashSet<&str> = rows.iter().map(|row| &*row.user_id).collect();
        let known = self.keys.owners(|owner| ids.contains(&*owner.subject));
        let mut known: HashMap<Box<str>, Arc<Owner>> = known
            .into_iter()
            .map(|owner| (owner.subject.clone(), owner))
            .collect();
        for row in &rows {
            let unread = || {
                Arc::new(Owner {
                    subject: (&*row.user_id).into(),
                    username: row.username.clone(),
                    state: OwnerState::Unread,
                })
            };
            let owner = known.entry((&*row.user_id).into()).or_insert_with(unread);
            let owner = Arc::clone(owner);
            self.set(row, owner);
        }
    }

    fn set(&mut self, row: &KeyRow, owner: Arc<Owner>) {
        let limits = (row.limits != KeyLimits::default()).then(|| row.limits.clone());
        let limits = limits.map(|limits| kept(&mut self.limits, limits));
        let entry = KeyEntry {
            hash: row.hash,
            name: row.name.clone(),
            limits,
            expires: row.expires,
            ended: row.ended,
        };
        self.keys.set(row.id, entry, owner);
    }

    /// Reads the rows of owners: those that were never read, those whose generation has changed, because Doorward raises it
    /// when it changes roles or disables or removes a user, and some of the others in turn, because other programs may
    /// change the user table, too.
    async fn read_owners(
        &mut self,
        store: &Store,
        revoked: &Revocations,
    ) -> Result<(), UsersFault> {
        let is_changed = |owner: &Owner| {
            let known = self.generations.get(&owner.subject).copied();
            revoked.generation(&owner.subject) != known.unwrap_or_default()
        };
        let mut wanted = self
            .keys
            .owners(|owner| owner.state == OwnerState::Unread || is_changed(owner));
        let most = match store.users.finds_many() {
            true => OWNERS_TOGETHER,
            false => OWNERS_ONE_BY_ONE,
        };
        if self.due.is_empty() {
            self.due = self.keys.owners(|_| true);
        }
        let urgent: HashSet<Box<str>> = wanted.iter().map(|one| one.subject.clone()).collect();
        let from = self.due.len().saturating_sub(most);
        let in_turn = self.due.split_off(from);
        wanted.extend(
            in_turn
                .into_iter()
                .filter(|one| !urgent.contains(&one.subject)),
        );
        let mut new = HashMap::new();
        for owners in wanted.chunks(most) {
            // Read before the rows, so that a change in between is read at the next poll.
            let generations: Vec<_> = owners
                .iter()
                .map(|owner| revoked.generation(&owner.subject))
                .collect();
            let names: Vec<&Username> = owners.iter().map(|owner| &owner.username).collect();
            let accounts = store.users.find_many(&names).await?;
            for (owner, generation) in owners.iter().zip(generations) {
                let account = accounts.get(owner.username.as_str());
                let account = account.filter(|account| *account.id == *owner.subject);
                let state = match account.filter(|account| !account.disabled) {
                    Some(account) => {
                        OwnerState::Active(kept(&mut self.roles, account.roles.clone()))
                    }
                    None => OwnerState::Inactive,
                };
                match generation {
                    Generation(0) => self.generations.remove(&owner.subject),
                    _ => self.generations.insert(owner.subject.clone(), generation),
                };
                if state != owner.state {
                    let changed = Owner {
                        state,
                        ..Owner::clone(owner)
                    };
                    new.insert(owner.subject.clone(), Arc::new(changed));
                }
            }
        }
        if !new.is_empty() {
            self.keys.set_owners(&new);
        }
        Ok(())
    }

    /// Writes when keys were used, now and then.
    ///
    /// # Errors
    ///
    /// The fault of the database. These uses are lost; later ones are written.
    pub(super) async fn write_uses(&mut self, store: &Store) -> Result<(), Fault> {
        if Instant::now() < self.writes {
            return Ok(());
        }
        self.writes = Instant::now() + WRITES;
        let uses = self.keys.take_uses(MOST_USES);
        for write in store.state.noting_uses(&uses) {
            store.state.connections.write(&[write]).await?;
        }
        Ok(())
    }
}

/// The value in a set that is equal, so that it is in memory once.
fn kept<T: Eq + std::hash::Hash>(all: &mut HashSet<Arc<T>>, value: T) -> Arc<T> {
    let value = Arc::new(value);
    match all.get(&value) {
        Some(known) => Arc::clone(known),
        None => {
            all.insert(Arc::clone(&value));
            value
        }
    }
}
