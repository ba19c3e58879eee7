//! What people do with their own keys for machines: list, make and end them, over HTTP and with a browser.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Concluded, INTERNAL, Refused, Run, sign_in::broken};
use crate::{
    clock::unix_time,
    domain::{
        account::{Identity, Role},
        decision::{
            Answer, Decision, Denial, Done, KeysAnswer, KeysChange, KeysDone, Refusal, SecretText,
        },
        judge::KeyRequest,
        machine_key::{MachineKey, MachineKeyId},
        machine_keys::{KeyEntry, KeyLimits, MachineKeys, Owner, OwnerState},
        own_keys::{KeyWish, KeysVisit, Typed},
        sign_in::Page,
        token::UnixTime,
    },
    pages::{KeyShown, KeysShown, Pages},
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

/// The result of a request for keys.
enum Fulfilled {
    Listed(Vec<KeyRow>),
    Added(Box<KeyRow>, MachineKey),
    Ended(MachineKeyId),
}

impl Run {
    /// Answers a program, in JSON.
    pub(super) async fn keys(&self, request: KeyRequest) -> Result<Concluded, Refused> {
        let KeyRequest { identity, wish } = request;
        let now = unix_time();
        let (what, body) = match self.fulfil(&identity, wish).await? {
            Fulfilled::Listed(keys) => {
                let shown: Vec<_> = keys.iter().map(|key| shown_key(key, now)).collect();
                (KeysChange::Listed, json!({ "keys": shown }))
            }
            Fulfilled::Added(row, key) => {
                let mut body = shown_key(&row, row.created);
                if let Some(body) = body.as_object_mut() {
                    body.insert("key".into(), key.expose().into());
                }
                (KeysChange::Added(row.id), body)
            }
            Fulfilled::Ended(id) => (KeysChange::Ended(id), json!({"ended": id.to_string()})),
        };
        let body = SecretText(Zeroizing::new(body.to_string()));
        Ok(done(&identity, what, KeysAnswer::Json(body)))
    }

    /// Answers a browser, with a page or a redirect.
    pub(super) async fn keys_page(
        &self,
        identity: &Identity,
        visit: KeysVisit,
        page: &Page,
        pages: &Pages,
    ) -> Result<Concluded, Refused> {
        let KeysVisit { wish, typed } = visit;
        let fulfilled = match wish {
            Ok(wish) => self.fulfil(identity, wish).await,
            Err(denial) => Err(denial.into()),
        };
        let (what, answer) = match fulfilled {
            Ok(Fulfilled::Listed(keys)) => {
                let all = self.keys_shown(identity, Some(keys), &typed, None);
                (KeysChange::Listed, pages.keys(page, &all))
            }
            Ok(Fulfilled::Added(row, key)) => {
                let shown = on_page(&row, row.created);
                let who = identity.username.as_str();
                let answer = pages.new_key(page, who, &shown, key.expose());
                (KeysChange::Added(row.id), answer)
            }
            Ok(Fulfilled::Ended(id)) => {
                let answer = Answer::see_other(page.target.as_str());
                (KeysChange::Ended(id), Ok(answer))
            }
            Err(refused) => {
                let keys = match matches!(refused.denial, Denial::Unavailable(_)) {
                    true => None,
                    false => self.keys_of(identity).await.ok(),
                };
                let all = self.keys_shown(identity, keys, &typed, Some(&refused.denial));
                let answer = pages.keys(page, &all).map_err(|fault| broken(&fault))?;
                return Err(Refused {
                    denial: Denial::Shown(Box::new(refused.denial), Box::new(answer)),
                    ..refused
                });
            }
        };
        let answer = answer.map_err(|fault| broken(&fault))?;
        Ok(done(identity, what, KeysAnswer::Page(Box::new(answer))))
    }

    /// All keys that can be used, and the newest others.
    fn keys_shown<'a>(
        &self,
        identity: &'a Identity,
        keys: Option<Vec<KeyRow>>,
        typed: &'a Typed,
        refused: Option<&'a Denial>,
    ) -> KeysShown<'a> {
        let now = unix_time();
        let mut left_out = 0;
        let keys = keys.map(|keys| {
            let newest_first = keys.iter().rev();
            let (usable, old): (Vec<_>, Vec<_>) = newest_first.partition(|key| key.is_usable(now));
            left_out = old.len().saturating_sub(MOST_OLD);
            let shown = usable.into_iter().chain(old.into_iter().take(MOST_OLD));
            shown.map(|key| on_page(key, now)).collect()
        });
        KeysShown {
            who: identity.username.as_str(),
            roles: identity.roles.iter().map(Role::as_str).collect(),
            keys,
            left_out,
            longest: self.actions.own_keys.longest,
            typed,
            refused,
        }
    }

    async fn fulfil(&self, identity: &Identity, wish: KeyWish) -> Result<Fulfilled, Refused> {
        match wish {
            KeyWish::List => Ok(Fulfilled::Listed(self.keys_of(identity).await?)),
            KeyWish::Add(new) => {
                let longest = self.actions.own_keys.longest;
                let lifetime = new.lifetime.unwrap_or(longest).min(longest);
                let created = unix_time();
                let key = match new.id {
                    Some(id) => MachineKey::with_id(id),
                    None => MachineKey::generate(),
                };
                let key = key.map_err(|_| INTERNAL)?;
                let row = KeyRow {
                    id: key.id(),
                    user_id: identity.subject.clone(),
                    username: identity.username.clone(),
                    name: new.name,
                    hash: key.hash(),
                    limits: new.limits,
                    created,
                    expires: Some(UnixTime(created.0.saturating_add(lifetime.as_secs()))),
                    used: UnixTime(0),
                    ended: false,
                };
                self.add_key(identity, &row).await?;
                Ok(Fulfilled::Added(Box::new(row), key))
            }
            KeyWish::End(id) => {
                self.end_key(identity, id).await?;
                Ok(Fulfilled::Ended(id))
            }
        }
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
        let keys = self.keys_of(identity).await?;
        if keys.iter().any(|key| key.id == row.id) {
            return Err(Denial::KeyRepeated(row.id).into());
        }
        let usable = keys.iter().filter(|key| key.is_usable(row.created));
        if usable.count() >= self.actions.own_keys.most {
            return Err(Denial::TooManyKeys(identity.subject.clone()).into());
        }
        let state = &self.actions.store.state;
        if let Err(fault) = state.connections.write(&[state.adding_key(row)]).await {
            // The same form, sent twice at the same time.
            let found = state.keys(KeysOf::Id(row.id)).await.unwrap_or_default();
            return match found.is_empty() {
                true => Err(fault.into()),
                false => Err(Denial::KeyRepeated(row.id).into()),
            };
        }
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

fn done(identity: &Identity, what: KeysChange, answer: KeysAnswer) -> Concluded {
    let subject = identity.subject.clone();
    let done = KeysDone {
        subject,
        what,
        answer,
    };
    Decision::Done(Done::Keys(done)).into()
}

/// The most keys of a page that can no longer be used.
const MOST_OLD: usize = 50;

/// A key for a page, without its owner and its hash.
fn on_page(key: &KeyRow, now: UnixTime) -> KeyShown {
    let roles = key.limits.roles();
    KeyShown {
        id: key.id.to_string(),
        name: key.name.as_str().into(),
        roles: roles.map(|roles| roles.into_iter().map(str::to_owned).collect()),
        paths: key.limits.paths(),
        state: key.state(now).name(),
        created: key.created.0,
        expires: key.expires.map(|expires| expires.0),
        used: (key.used.0 > 0).then_some(key.used.0),
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
