//! What people do with their own keys for machines: list, make and end them.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Concluded, INTERNAL, Refused, Run};
use crate::{
    clock::unix_time,
    domain::{
        account::Identity,
        decision::{Decision, Denial, Done, KeysChange, KeysDone, Refusal, SecretText},
        judge::{KeyRequest, KeyWish},
        machine_key::{MachineKey, MachineKeyId},
        machine_keys::{KeyEntry, KeyLimits, MachineKeys, Owner, OwnerState},
        token::UnixTime,
    },
    tables::{
        database::Fault,
        state::{KeyRow, KeysOf},
    },
};

/// What people may do with their own keys.
#[derive(Debug)]
pub(crate) struct OwnKeys {
    /// The keys in memory, if they are on.
    pub(crate) memory: Option<Arc<MachineKeys>>,
    /// The usual lifetime, and the longest.
    pub(crate) longest: Duration,
    /// The most usable keys of one user.
    pub(crate) most: usize,
}

impl Run {
    pub(super) async fn keys(&self, request: KeyRequest) -> Result<Concluded, Refused> {
        let KeyRequest { identity, wish } = request;
        let (what, body) = match wish {
            KeyWish::List => {
                let now = unix_time();
                let keys = self.keys_of(&identity).await?;
                let shown: Vec<_> = keys.iter().map(|key| shown_key(key, now)).collect();
                (KeysChange::Listed, json!({ "keys": shown }).to_string())
            }
            KeyWish::Add {
                name,
                limits,
                lifetime,
            } => {
                let longest = self.actions.own_keys.longest;
                let lifetime = lifetime.unwrap_or(longest).min(longest);
                let created = unix_time();
                let key = MachineKey::generate().map_err(|_| INTERNAL)?;
                let row = KeyRow {
                    id: key.id(),
                    user_id: identity.subject.clone(),
                    username: identity.username.clone(),
                    name,
                    hash: key.hash(),
                    limits,
                    created,
                    expires: Some(UnixTime(created.0.saturating_add(lifetime.as_secs()))),
                    used: UnixTime(0),
                    ended: false,
                };
                self.add_key(&identity, &row).await?;
                let mut body = shown_key(&row, created);
                if let Some(body) = body.as_object_mut() {
                    body.insert("key".into(), key.expose().into());
                }
                (KeysChange::Added(row.id), body.to_string())
            }
            KeyWish::End(id) => {
                self.end_key(&identity, id).await?;
                (
                    KeysChange::Ended(id),
                    json!({"ended": id.to_string()}).to_string(),
                )
            }
        };
        let done = KeysDone {
            subject: identity.subject,
            what,
            body: SecretText(Zeroizing::new(body)),
        };
        Ok(Decision::Done(Done::Keys(done)).into())
    }

    async fn keys_of(&self, identity: &Identity) -> Result<Vec<KeyRow>, Refused> {
        let of = KeysOf::User(&identity.subject);
        Ok(self.actions.store.state.keys(of).await?)
    }

    async fn add_key(&self, identity: &Identity, row: &KeyRow) -> Result<(), Refused> {
        // A token may be older than a change of its user, and users of other issuers have no row.
        let account = self.actions.store.users.find(&identity.username).await?;
        let account = account.filter(|account| account.id == identity.subject && !account.disabled);
        let disabled = || Denial::InvalidCredentials(Refusal::Disabled(identity.subject.clone()));
        let account = account.ok_or_else(disabled)?;
        let usable = self.keys_of(identity).await?;
        let usable = usable.iter().filter(|key| key.is_usable(row.created));
        if usable.count() >= self.actions.own_keys.most {
            return Err(Denial::TooManyKeys(identity.subject.clone()).into());
        }
        let state = &self.actions.store.state;
        state.connections.write(&[state.adding_key(row)]).await?;
        if let Some(keys) = &self.actions.own_keys.memory {
            let entry = KeyEntry {
                hash: row.hash,
                name: row.name.clone(),
                limits: (row.limits != KeyLimits::default()).then(|| Arc::new(row.limits.clone())),
                expires: row.expires,
                ended: false,
            };
            let owner = Owner {
                subject: account.id.into(),
                username: account.username,
                state: OwnerState::Active(Arc::new(account.roles)),
            };
            keys.set(row.id, entry, Arc::new(owner));
        }
        Ok(())
    }

    /// Other people's keys are not told apart from keys that do not exist.
    async fn end_key(&self, identity: &Identity, id: MachineKeyId) -> Result<(), Refused> {
        let state = &self.actions.store.state;
        let found = state.keys(KeysOf::Id(id)).await?;
        if !found.iter().any(|key| key.user_id == identity.subject) {
            return Err(Denial::KeyNotFound.into());
        }
        match state.connections.write(&[state.ending_key(id)]).await {
            // It is ended already.
            Err(Fault::NoRow) | Ok(()) => {}
            Err(fault) => return Err(fault.into()),
        }
        if let Some(keys) = &self.actions.own_keys.memory {
            keys.end(id);
        }
        Ok(())
    }
}

/// A key as JSON, without its owner and its hash.
pub(crate) fn shown_key(key: &KeyRow, now: UnixTime) -> Value {
    json!({
        "id": key.id.to_string(),
        "name": key.name.as_str(),
        "roles": key.limits.roles(),
        "paths": key.limits.paths(),
        "state": key.state(now).name(),
        "created_at": key.created.0,
        "expires_at": key.expires.map(|expires| expires.0),
        "used_at": (key.used.0 > 0).then_some(key.used.0),
    })
}
