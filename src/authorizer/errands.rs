//! What takes waiting: one flow for each errand, from the first row to the last. Owns no rule.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Concluded, unix_time};
use crate::{
    domain::{
        account::{Account, Roles, Username},
        decision::{By, Decision, Denial, Done, Issued, Refusal, Unavailable},
        gate::{Attempt, Errand, Gate, Grant, Logout, PasswordChange, Registration},
        password::PasswordHash,
        request::TokenForm,
        session::{RefreshFault, RefreshToken},
        throttle::{Admitted, Suspect, Throttle},
        token::UnixTime,
        trust::TrustedProxies,
    },
    ledger::now_millis,
    replicas::Shares,
    store::Store,
    users::UsersFault,
};

/// What errands need.
#[derive(Debug)]
pub struct Errands {
    /// The rules.
    pub gate: Gate,
    /// The tables.
    pub store: Store,
    /// Counts of attempts.
    pub throttle: Arc<Throttle>,
    /// Where failures are told to other replicas.
    pub shares: Shares,
    /// Gateways, whose addresses are no client's.
    pub trusted: TrustedProxies,
    /// For how long a refresh token that was used gives the same successor again.
    pub grace: Duration,
    /// Roles of whoever registers.
    pub register_roles: Roles,
    /// Logins that are under way, from the first look at the table on.
    pub places: Arc<Semaphore>,
    /// Passwords that are hashed at once.
    pub turns: Arc<Semaphore>,
    /// How long a refusal takes.
    pub pace: Pace,
}

/// A refusal, and what the log alone may know of it.
struct Refused {
    denial: Denial,
    cause: Option<UsersFault>,
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        Self {
            denial,
            cause: None,
        }
    }
}

impl From<UsersFault> for Refused {
    fn from(fault: UsersFault) -> Self {
        let unavailable = match &fault {
            UsersFault::Database(crate::database::Fault::Timeout) => Unavailable::DatabaseTimeout,
            UsersFault::Database(_)
            | UsersFault::Row(_)
            | UsersFault::Mapping(_)
            | UsersFault::Exists
            | UsersFault::Unknown
            | UsersFault::Foreign
            | UsersFault::NotOurs(_) => Unavailable::Database,
        };
        Self {
            denial: Denial::Unavailable(unavailable),
            cause: Some(fault),
        }
    }
}

impl From<crate::database::Fault> for Refused {
    fn from(fault: crate::database::Fault) -> Self {
        UsersFault::from(fault).into()
    }
}

/// How often an attempt asks again whether those before it have been decided, and how long it does.
const SHORT_WAIT: Duration = Duration::from_millis(20);
const LONGEST_SHORT_WAIT: Duration = Duration::from_secs(3);

const INTERNAL: Denial = Denial::Unavailable(Unavailable::Internal);

impl Errands {
    /// Runs one errand to its end.
    pub async fn run(self: Arc<Self>, errand: Errand, client: Option<IpAddr>) -> Concluded {
        let client = client.filter(|client| !self.trusted.contains(*client));
        let concluded = match errand {
            Errand::Login(attempt) => self.login(attempt, client).await,
            Errand::Logout(logout) => self.logout(&logout).await,
            Errand::Refresh(token, form) => self.refresh(&token, form).await,
            Errand::Register(registration) => self.register(registration, client).await,
            Errand::Password(change) => self.password(change, client).await,
        };
        concluded.unwrap_or_else(|refused| Concluded {
            decision: Decision::Deny(refused.denial),
            cause: refused.cause,
            upgrade: None,
        })
    }

    async fn login(
        self: &Arc<Self>,
        attempt: Box<Attempt>,
        client: Option<IpAddr>,
    ) -> Result<Concluded, Refused> {
        let place = self.place()?;
        let username = attempt.login.username.clone();
        let suspect = self.throttle.suspect(&username, client);
        self.look(&suspect).await?;
        let row = self.users_row(&username).await?;
        let admitted = self.admit(&suspect).await?;
        let verified = self.verified(place, attempt, row, &admitted).await?;
        let issued = match self.granted(&verified).await {
            // Another login may have replaced the hash by a better one of the same password.
            Ok(None) => {
                let row = self.users_row(&username).await;
                let row = row.inspect_err(|_| self.throttle.taken_back(&admitted))?;
                let Verified { place, attempt, .. } = verified;
                let verified = self.verified(place, attempt, row, &admitted).await?;
                self.granted(&verified)
                    .await
                    .map(|issued| (verified, issued))
            }
            issued => issued.map(|issued| (verified, issued)),
        };
        let (verified, issued) = issued.inspect_err(|_| self.throttle.taken_back(&admitted))?;
        let Verified {
            place,
            attempt,
            account,
        } = verified;
        let Some(issued) = issued else {
            self.throttle.taken_back(&admitted);
            return Err(Denial::InvalidCredentials(Refusal::WrongPassword(account.id)).into());
        };
        self.shares
            .send(self.throttle.succeeded(&admitted), Some(&account.id));
        let upgrade = (self.gate.hasher.is_outdated(&account.hash)
            && self.store.users.takes_hashes())
        .then(|| Upgrade {
            attempt,
            account,
            place,
        });
        Ok(Concluded {
            decision: Decision::Issue(issued),
            cause: None,
            upgrade,
        })
    }

    /// Holds the password of an attempt against a row, and counts it where it is wrong.
    async fn verified(
        self: &Arc<Self>,
        place: OwnedSemaphorePermit,
        attempt: Box<Attempt>,
        (account, cause): (Option<Account>, Option<UsersFault>),
        admitted: &Admitted,
    ) -> Result<Verified, Refused> {
        let (place, (attempt, settled)) = self
            .hashing(place, account.as_ref(), {
                let account = account.clone();
                move |gate| {
                    let settled = gate.settle(&attempt, account);
                    (attempt, settled)
                }
            })
            .await?;
        match settled {
            Ok(account) => Ok(Verified {
                place,
                attempt,
                account,
            }),
            Err(denial) => {
                self.shares.send(
                    self.throttle.failed(admitted, now_millis()),
                    denial.subject(),
                );
                Err(Refused { denial, cause })
            }
        }
    }

    async fn granted(&self, verified: &Verified) -> Result<Option<Issued>, Refused> {
        let Verified {
            attempt, account, ..
        } = verified;
        self.go_on(account, |identity, generation| {
            attempt.grant(identity, generation)
        })
        .await
    }

    /// Hands out a token for an account whose password was right a moment ago. What ends all tokens of a user changes the
    /// row with the generation: so the row is read once more behind the generation. Nothing, where its hash is another.
    async fn go_on(
        &self,
        account: &Account,
        grant: impl FnOnce(Account, crate::domain::revocation::Generation) -> Grant,
    ) -> Result<Option<Issued>, Refused> {
        let generation = self.store.generation(&account.id, &self.gate.ended).await;
        let again = self.store.users.find(&account.username).await?;
        let again = again.filter(|again| again.id == account.id && again.hash.is(&account.hash));
        let Some(again) = again else {
            return Ok(None);
        };
        if again.disabled {
            return Err(Denial::InvalidCredentials(Refusal::Disabled(again.id)).into());
        }
        let issued = self.issue(grant(again, generation))?;
        if let Some((refresh, lifetime)) = &issued.refresh {
            let mut expires = unix_time();
            expires.0 = expires.0.saturating_add(lifetime.as_secs());
            let opening =
                (self.store.ledger).opening(refresh, &issued.identity, generation, expires);
            self.store.ledger.connections.write(&[opening]).await?;
        }
        Ok(Some(issued))
    }

    fn issue(&self, grant: Grant) -> Result<Issued, Denial> {
        match self.gate.issue(grant, unix_time()) {
            Decision::Issue(issued) => Ok(issued),
            Decision::Deny(denial) => Err(denial),
            Decision::Allow(_) | Decision::Done(_) => Err(INTERNAL),
        }
    }

    async fn logout(&self, logout: &Logout) -> Result<Concluded, Refused> {
        let presented = &logout.presented;
        let subject = &presented.identity.subject;
        let ended = &self.gate.ended;
        let all_expired = self.gate.tokens.all_expired(unix_time());
        if logout.everywhere {
            self.store.end_all(subject, all_expired).await?;
            let generation = self.store.ledger.generation(subject).await?;
            ended.end_before(subject, generation, all_expired);
        } else {
            let session = presented.session.as_deref();
            self.store
                .end(&presented.token, session, presented.expires, all_expired)
                .await?;
            ended.end(&presented.token, presented.expires);
            if let Some(session) = session {
                ended.end(session, all_expired);
            }
        }
        Ok(Decision::Done(Done::LoggedOut {
            subject: subject.clone(),
            everywhere: logout.everywhere,
        })
        .into())
    }

    async fn refresh(&self, token: &RefreshToken, form: TokenForm) -> Result<Concluded, Refused> {
        let now = unix_time();
        let all_expired = self.gate.tokens.all_expired(now);
        let rotated = (self.store.ledger)
            .rotate(token, now, self.grace.as_secs(), all_expired)
            .await?;
        let session = match rotated {
            Ok(session) => session,
            Err((fault, user_id)) => {
                if fault == RefreshFault::Reused {
                    self.gate.ended.end(&token.session_id(), all_expired);
                }
                return Err(Denial::InvalidRefresh(fault, user_id).into());
            }
        };
        let generation = self
            .store
            .generation(&session.user_id, &self.gate.ended)
            .await;
        let account = match self.store.users.find(&session.username).await {
            Err(UsersFault::Row(_)) => None,
            account => account?,
        };
        let account = account.filter(|account| {
            account.id == session.user_id && !account.disabled && generation <= session.generation
        });
        let Some(account) = account else {
            let closing = self.store.ledger.closing(&token.session_id());
            self.store.ledger.connections.write(&[closing]).await?;
            return Err(
                Denial::InvalidRefresh(RefreshFault::Account, Some(session.user_id)).into(),
            );
        };
        let issued = self.issue(Grant {
            identity: account.into(),
            generation,
            refresh: Some(session.refresh),
            form,
            by: By::Refresh,
        })?;
        Ok(Decision::Issue(issued).into())
    }

    async fn register(
        self: &Arc<Self>,
        registration: Box<Registration>,
        client: Option<IpAddr>,
    ) -> Result<Concluded, Refused> {
        let place = self.place()?;
        if let Some(address) = self.throttle.address_alone(client) {
            let share = self.throttle.admit_address(&address, now_millis());
            let share = share.map_err(|wait| Denial::Throttled(wait.duration))?;
            self.shares.send(vec![share], None);
        }
        let (_place, (registration, hash)) = self
            .hashing(place, None, |gate| {
                let hash = gate.enrol(&registration);
                (registration, hash)
            })
            .await?;
        let hash = hash?;
        let added = self
            .store
            .add(
                &registration.username,
                &hash,
                &self.register_roles,
                unix_time(),
            )
            .await;
        match added {
            Ok(()) => {
                // For the log alone: who registered can log in, whether or not the id is known by now.
                let added = self.store.users.find(&registration.username).await;
                let subject = added.ok().flatten().map(|added| added.id);
                Ok(Decision::Done(Done::Registered { subject }).into())
            }
            Err(UsersFault::Exists) => Err(Denial::NameTaken.into()),
            Err(fault) => Err(fault.into()),
        }
    }

    async fn password(
        self: &Arc<Self>,
        change: Box<PasswordChange>,
        client: Option<IpAddr>,
    ) -> Result<Concluded, Refused> {
        let place = self.place()?;
        let username = change.identity.username.clone();
        let subject = change.identity.subject.clone();
        let suspect = self.throttle.suspect(&username, client);
        self.look(&suspect).await?;
        let row = self.users_row(&username).await?;
        let admitted = self.admit(&suspect).await?;
        let settled = self.settled(place, change, row, &admitted).await?;
        self.shares.send(
            self.throttle.succeeded(&admitted),
            Some(&settled.account.id),
        );
        let all_expired = self.gate.tokens.all_expired(unix_time());
        let changed = match self.changed(&settled, all_expired).await {
            // A login may have replaced the hash by a better one of the same password.
            Err(UsersFault::Unknown) => {
                let Settled { place, change, .. } = settled;
                let row = self.users_row(&username).await?;
                let admitted = self.admit(&suspect).await?;
                let settled = self.settled(place, change, row, &admitted).await?;
                self.throttle.taken_back(&admitted);
                let changed = self.changed(&settled, all_expired).await;
                changed.map(|()| settled)
            }
            changed => changed.map(|()| settled),
        };
        let Settled {
            account,
            new,
            change,
            ..
        } = match changed {
            Ok(settled) => settled,
            Err(UsersFault::Unknown) => return Err(Denial::PasswordChanged(subject).into()),
            Err(fault) => return Err(fault.into()),
        };
        let generation = self.store.ledger.generation(&account.id).await?;
        (self.gate.ended).end_before(&account.id, generation, all_expired);
        let account = Account {
            hash: new,
            ..account
        };
        let issued = self
            .go_on(&account, |account, generation| {
                change.grant(account, generation)
            })
            .await?;
        let issued = issued.ok_or(Denial::PasswordChanged(subject))?;
        Ok(Decision::Issue(issued).into())
    }

    /// Holds the current password of a change against a row, and counts it where it is wrong.
    async fn settled(
        self: &Arc<Self>,
        place: OwnedSemaphorePermit,
        change: Box<PasswordChange>,
        (account, cause): (Option<Account>, Option<UsersFault>),
        admitted: &Admitted,
    ) -> Result<Settled, Refused> {
        let (place, (change, settled)) = self
            .hashing(place, account.as_ref(), {
                let account = account.clone();
                move |gate| {
                    let settled = gate.settle_password(&change, account);
                    (change, settled)
                }
            })
            .await?;
        match settled {
            Ok((account, new)) => Ok(Settled {
                place,
                change,
                account,
                new,
            }),
            Err(denial @ Denial::WeakPassword(_)) => {
                self.throttle.taken_back(admitted);
                Err(denial.into())
            }
            Err(denial) => {
                self.shares.send(
                    self.throttle.failed(admitted, now_millis()),
                    denial.subject(),
                );
                Err(Refused { denial, cause })
            }
        }
    }

    async fn changed(&self, settled: &Settled, expires: UnixTime) -> Result<(), UsersFault> {
        let Settled { account, new, .. } = settled;
        self.store.change_password(account, new, expires).await
    }

    /// Replaces the hash of a login that succeeded, behind its answer.
    pub async fn upgrade(self: Arc<Self>, upgrade: Upgrade) -> Option<String> {
        let Upgrade {
            attempt,
            account,
            place,
        } = upgrade;
        let hashed = self
            .hashing(place, None, move |gate| gate.rehash(&attempt))
            .await;
        let (_place, hash) = hashed.ok()?;
        let hash = hash?;
        match (self.store)
            .upgrade_hash(&account.username, &account.hash, &hash)
            .await
        {
            Ok(()) => Some(account.id),
            // Somebody was faster, or changed the password: theirs stands.
            Err(UsersFault::Unknown) => None,
            Err(fault) => {
                tracing::warn!(cause = %fault, sub = account.id, "the hash could not be replaced by a better one");
                None
            }
        }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Denial> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| Denial::Unavailable(Unavailable::Busy))
    }

    /// Refuses an attempt before anything is known of the account, if it would not be taken.
    async fn look(&self, suspect: &Suspect) -> Result<(), Denial> {
        let wait = match self.throttle.look(suspect, now_millis()) {
            Err(wait) if !wait.is_short => wait,
            Ok(()) | Err(_) => return Ok(()),
        };
        let throttled = Denial::Throttled(wait.duration);
        let Some(reserve) = wait.reserve else {
            return Err(throttled);
        };
        // Perhaps somebody has logged in from there before, at another replica or long ago. Looked up once.
        let Ok(tally) = self.store.ledger.tally(&reserve).await else {
            return Err(throttled);
        };
        self.throttle.learn(&reserve, tally.unwrap_or_default());
        match self.throttle.look(suspect, now_millis()) {
            Err(wait) if !wait.is_short => Err(Denial::Throttled(wait.duration)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes an attempt and counts it, before a hash is computed. Many logins to one account at once are no guessing as
    /// long as they succeed: each waits until it is known what became of those before it.
    async fn admit(&self, suspect: &Suspect) -> Result<Admitted, Denial> {
        let started = Instant::now();
        loop {
            let wait = match self.throttle.admit(suspect, now_millis()) {
                Ok(admitted) => return Ok(admitted),
                Err(wait) => wait,
            };
            if !wait.is_short || started.elapsed() > LONGEST_SHORT_WAIT {
                return Err(Denial::Throttled(wait.duration));
            }
            tokio::time::sleep(SHORT_WAIT).await;
        }
    }

    /// The row of a name. A broken one is none, so that it does not show that it is there.
    async fn users_row(
        &self,
        username: &Username,
    ) -> Result<(Option<Account>, Option<UsersFault>), Refused> {
        match self.store.users.find(username).await {
            Ok(account) => Ok((account, None)),
            Err(fault @ UsersFault::Row(_)) => Ok((None, Some(fault))),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Hashes when it is its turn; the answer waits until it takes as long for every hash.
    async fn hashing<T: Send + 'static>(
        self: &Arc<Self>,
        place: OwnedSemaphorePermit,
        account: Option<&Account>,
        hash: impl FnOnce(&Gate) -> T + Send + 'static,
    ) -> Result<(OwnedSemaphorePermit, T), Denial> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| INTERNAL)?;
        let is_ours = account.is_none_or(|account| self.gate.hasher.costs_as_ours(&account.hash));
        let started = Instant::now();
        let own = Arc::clone(self);
        let hashed = tokio::task::spawn_blocking(move || {
            let hashed = hash(&own.gate);
            drop(turn);
            hashed
        });
        let hashed = hashed.await.map_err(|_| INTERNAL)?;
        if let Some(until) = self.pace.until(started, is_ours) {
            tokio::time::sleep_until(until.into()).await;
        }
        Ok((place, hashed))
    }
}

/// A login whose password was right.
struct Verified {
    place: OwnedSemaphorePermit,
    attempt: Box<Attempt>,
    account: Account,
}

/// A change of a password that may be made.
struct Settled {
    place: OwnedSemaphorePermit,
    change: Box<PasswordChange>,
    account: Account,
    new: PasswordHash,
}

/// A hash that is to be replaced.
#[derive(Debug)]
pub struct Upgrade {
    attempt: Box<Attempt>,
    account: Account,
    place: OwnedSemaphorePermit,
}

/// Where the table holds hashes of several costs, these would tell who is in it: then all answers take as long as the
/// slowest of late. In microseconds, with some more for what varies; nothing where none was seen.
#[derive(Debug, Default)]
pub struct Pace {
    /// Of hashes that cost what ours do, and of the decoy.
    ours: AtomicU64,
    /// Of all others.
    others: AtomicU64,
}

/// The longest that an answer is held back: a machine that stood still must not make every login of the day wait.
const LONGEST_PACE: Duration = Duration::from_secs(2);

impl Pace {
    /// Until when an answer is held back whose hashing has just ended.
    fn until(&self, started: Instant, is_ours: bool) -> Option<Instant> {
        let took = started.elapsed().min(LONGEST_PACE);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let of_its_kind = match is_ours {
            true => &self.ours,
            false => &self.others,
        };
        // What one kind takes is forgotten by that kind alone, or many attempts of the one would bare the other.
        let slowest = match of_its_kind.load(Ordering::Relaxed) {
            0 => took + took / 8,
            // What stands out once is of the machine, what does again is of the hash.
            before if took > before => (took + took / 8).min(before * 2),
            before => before - before / 64,
        };
        of_its_kind.store(slowest, Ordering::Relaxed);
        let (ours, others) = (
            self.ours.load(Ordering::Relaxed),
            self.others.load(Ordering::Relaxed),
        );
        let until = (others > 0).then_some(Duration::from_micros(ours.max(others)));
        until.and_then(|until| started.checked_add(until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ago(millis: u64) -> Instant {
        Instant::now()
            .checked_sub(Duration::from_millis(millis))
            .unwrap()
    }

    /// How long the answer to somebody unknown takes.
    fn paced(pace: &Pace) -> Option<u128> {
        let started = ago(30);
        let until = pace.until(started, true)?;
        Some(until.duration_since(started).as_millis())
    }

    #[test]
    fn nothing_is_held_back_where_all_hashes_cost_the_same() {
        let pace = Pace::default();
        assert!((0..100).all(|_| paced(&pace).is_none()));
    }

    #[test]
    fn an_answer_takes_as_long_as_the_slowest_and_as_ours() {
        let pace = Pace::default();
        pace.until(ago(250), false);
        assert!(paced(&pace) > Some(250));
        // However many attempts there are meanwhile that nothing is known of.
        for _ in 0..1000 {
            paced(&pace);
        }
        assert!(paced(&pace) > Some(250));

        let cheap = Pace::default();
        paced(&cheap);
        let started = ago(1);
        let until = cheap.until(started, false).unwrap();
        assert!(until.duration_since(started) > Duration::from_millis(30));
    }

    #[test]
    fn a_machine_that_stood_still_is_forgotten() {
        let pace = Pace::default();
        pace.until(ago(600_000), false);
        assert!(paced(&pace) <= Some(2_250));
        for _ in 0..300 {
            pace.until(ago(50), false);
        }
        assert!(paced(&pace) < Some(100));
        pace.until(ago(600_000), false);
        assert!(paced(&pace) < Some(200));
    }
}
