//! What takes waiting: one flow for each errand, from the first row to the last. Owns no rule.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Concluded, pace::Pace};
use crate::{
    clock::{unix_millis, unix_time},
    domain::{
        account::{Account, Roles, Username},
        decision::{By, Decision, Denial, Done, Issued, Unavailable},
        gate::{Attempt, Errand, Gate, Grant, Logout, PasswordChange, Registration},
        request::TokenForm,
        revocation::Generation,
        session::{RefreshFault, RefreshToken},
        throttle::{Admitted, Suspect, Throttle},
    },
    hashing::Hashing,
    live::Live,
    replicas::Shares,
    store::Store,
    users::UsersFault,
};

/// What errands need.
#[derive(Debug)]
pub struct Errands {
    /// The rules.
    pub live: Live,
    /// The tables.
    pub store: Store,
    /// Counts of attempts.
    pub throttle: Arc<Throttle>,
    /// Where failures are told to other replicas.
    pub shares: Shares,
    /// For how long a refresh token that was used gives the same successor again.
    pub grace: Duration,
    /// Roles of whoever registers.
    pub register_roles: Roles,
    /// Logins that are under way, from the first look at the table on.
    pub places: Arc<Semaphore>,
    /// Who hashes.
    pub hashing: Hashing,
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

/// How often a row may change under a login.
const MOST_CHANGES: usize = 4;

const INTERNAL: Denial = Denial::Unavailable(Unavailable::Internal);

impl Errands {
    /// Runs one errand to its end.
    pub async fn run(self: Arc<Self>, errand: Errand, client: Option<IpAddr>) -> Concluded {
        let client = client.filter(|client| !self.live.now().trusted.contains(*client));
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
        let (account, cause) = self.users_row(&username).await?;
        let admitted = self.admit(&suspect).await?;
        let settled = self.settle(place, attempt, account).await;
        let (account, issued, attempt, place) = match settled {
            Ok(settled) => settled,
            Err(refused) => return Err(self.refused(&admitted, refused, cause)),
        };
        self.shares
            .send(self.throttle.succeeded(&admitted), Some(&account.id));
        let upgrade = (self.live.now().gate.hasher.is_outdated(&account.hash)
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

    /// Verifies until the row is as it was: meanwhile another login may have replaced the hash by a better one.
    async fn settle(
        self: &Arc<Self>,
        mut place: OwnedSemaphorePermit,
        mut attempt: Box<Attempt>,
        mut account: Option<Account>,
    ) -> Result<(Account, Issued, Box<Attempt>, OwnedSemaphorePermit), Refused> {
        for _ in 0..MOST_CHANGES {
            let row = account.clone();
            let hashed = self.hash(place, account.as_ref(), move |gate| {
                let verified = gate.settle(&attempt, row);
                (attempt, verified)
            });
            let verified;
            (place, (attempt, verified)) = hashed.await?;
            let seen = verified?;
            let gone_on = self.go_on(&seen, |account, generation| {
                attempt.grant(account, generation)
            });
            match gone_on.await? {
                Ok(issued) => return Ok((seen, issued, attempt, place)),
                Err(changed) => account = changed,
            }
        }
        Err(Denial::Unavailable(Unavailable::Busy).into())
    }

    /// Tells the throttle of a refusal: only where a password was looked at has anybody failed.
    fn refused(&self, admitted: &Admitted, refused: Refused, cause: Option<UsersFault>) -> Refused {
        let Denial::InvalidCredentials(_) = &refused.denial else {
            self.throttle.taken_back(admitted);
            return refused;
        };
        let shares = self.throttle.failed(admitted, unix_millis());
        self.shares.send(shares, refused.denial.subject());
        Refused { cause, ..refused }
    }

    /// Hands out a token for an account whose password was right a moment ago, or gives its row where that is another one
    /// now. What ends all tokens of a user changes the row with the generation: so the row is read once more behind the
    /// generation, and must be as it was.
    async fn go_on(
        &self,
        account: &Account,
        grant: impl FnOnce(Account, Generation) -> Grant,
    ) -> Result<Result<Issued, Option<Account>>, Refused> {
        let generation = self
            .store
            .generation(&account.id, &self.live.now().gate.ended)
            .await;
        let again = self.store.users.find(&account.username).await?;
        let again = match again {
            Some(again)
                if again.id == account.id && again.hash.is(&account.hash) && !again.disabled =>
            {
                again
            }
            changed => return Ok(Err(changed)),
        };
        let issued = self.issue(grant(again, generation))?;
        if let Some((refresh, lifetime)) = &issued.refresh {
            let mut expires = unix_time();
            expires.0 = expires.0.saturating_add(lifetime.as_secs());
            let opening =
                (self.store.ledger).opening(refresh, &issued.identity, generation, expires);
            self.store.ledger.connections.write(&[opening]).await?;
        }
        Ok(Ok(issued))
    }

    fn issue(&self, grant: Grant) -> Result<Issued, Denial> {
        match self.live.now().gate.issue(grant, unix_time()) {
            Decision::Issue(issued) => Ok(issued),
            Decision::Deny(denial) => Err(denial),
            Decision::Allow(_) | Decision::Done(_) => Err(INTERNAL),
        }
    }

    async fn logout(&self, logout: &Logout) -> Result<Concluded, Refused> {
        let presented = &logout.presented;
        let subject = &presented.identity.subject;
        let ended = Arc::clone(&self.live.now().gate.ended);
        let all_expired = self.live.now().gate.tokens.terms().all_expired(unix_time());
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
        let all_expired = self.live.now().gate.tokens.terms().all_expired(now);
        let rotated = (self.store.ledger)
            .rotate(token, now, self.grace.as_secs(), all_expired)
            .await?;
        let session = match rotated {
            Ok(session) => session,
            Err((fault, user_id)) => {
                if fault == RefreshFault::Reused {
                    self.live
                        .now()
                        .gate
                        .ended
                        .end(&token.session_id(), all_expired);
                }
                return Err(Denial::InvalidRefresh(fault, user_id).into());
            }
        };
        let generation = self
            .store
            .generation(&session.user_id, &self.live.now().gate.ended)
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
            let share = self.throttle.admit_address(&address, unix_millis());
            let share = share.map_err(|wait| Denial::Throttled(wait.duration))?;
            self.shares.send(vec![share], None);
        }
        let (_place, (registration, hash)) = self
            .hash(place, None, |gate| {
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
        let suspect = self.throttle.suspect(&username, client);
        self.look(&suspect).await?;
        let (account, cause) = self.users_row(&username).await?;
        let admitted = self.admit(&suspect).await?;
        let all_expired = self.live.now().gate.tokens.terms().all_expired(unix_time());
        let (mut place, mut change, mut account) = (place, change, account);
        let mut was_right = None;
        let (account, new) = loop {
            let row = account.clone();
            let hashed = self.hash(place, account.as_ref(), move |gate| {
                let settled = gate.settle_password(&change, row);
                (change, settled)
            });
            let settled;
            (place, (change, settled)) = hashed.await?;
            let (seen, new) = match (settled, &was_right) {
                (Ok(settled), _) => settled,
                (Err(denial), None) => {
                    return Err(self.refused(&admitted, denial.into(), cause));
                }
                (Err(_), Some((id, _))) => {
                    return Err(Denial::PasswordChanged(String::clone(id)).into());
                }
            };
            let looks = was_right.take().map_or(0, |(_, looks)| looks);
            if looks == 0 {
                let shares = self.throttle.succeeded(&admitted);
                self.shares.send(shares, Some(&seen.id));
            }
            match self.store.change_password(&seen, &new, all_expired).await {
                Ok(()) => break (seen, new),
                // A login has had the hash replaced, or somebody has changed the password.
                Err(UsersFault::Unknown) if looks < MOST_CHANGES => {
                    account = self.users_row(&username).await?.0;
                    was_right = Some((seen.id, looks + 1));
                }
                Err(UsersFault::Unknown) => return Err(Denial::PasswordChanged(seen.id).into()),
                Err(fault) => return Err(fault.into()),
            }
        };
        let generation = self.store.ledger.generation(&account.id).await?;
        (self.live.now().gate.ended).end_before(&account.id, generation, all_expired);
        let account = Account {
            hash: new,
            ..account
        };
        let gone_on = self.go_on(&account, |account, generation| {
            change.grant(account, generation)
        });
        match gone_on.await? {
            Ok(issued) => Ok(Decision::Issue(issued).into()),
            // The password is changed; whoever changed the row once more decides what comes now.
            Err(_) => Err(Denial::PasswordChanged(account.id).into()),
        }
    }

    /// Replaces the hash of a login that succeeded, behind its answer.
    pub async fn upgrade(self: Arc<Self>, upgrade: Upgrade) -> Option<String> {
        let Upgrade {
            attempt,
            account,
            place,
        } = upgrade;
        let hashed = self
            .hash(place, None, move |gate| gate.rehash(&attempt))
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
        let wait = match self.throttle.look(suspect, unix_millis()) {
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
        match self.throttle.look(suspect, unix_millis()) {
            Err(wait) if !wait.is_short => Err(Denial::Throttled(wait.duration)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes an attempt and counts it, before a hash is computed. Many logins to one account at once are no guessing as
    /// long as they succeed: each waits until it is known what became of those before it.
    async fn admit(&self, suspect: &Suspect) -> Result<Admitted, Denial> {
        let started = Instant::now();
        loop {
            let wait = match self.throttle.admit(suspect, unix_millis()) {
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
    async fn hash<T: Send + 'static>(
        self: &Arc<Self>,
        place: OwnedSemaphorePermit,
        account: Option<&Account>,
        hash: impl FnOnce(&Gate) -> T + Send + 'static,
    ) -> Result<(OwnedSemaphorePermit, T), Denial> {
        let is_ours =
            account.is_none_or(|account| self.live.now().gate.hasher.costs_as_ours(&account.hash));
        let own = Arc::clone(self);
        let hashed = self.hashing.run(move || {
            let started = Instant::now();
            (started, hash(&own.live.keep().gate))
        });
        let (started, hashed) = hashed.await.ok_or(INTERNAL)?;
        if let Some(until) = self.pace.until(started, is_ours) {
            tokio::time::sleep_until(until.into()).await;
        }
        Ok((place, hashed))
    }
}

/// A hash that is to be replaced.
#[derive(Debug)]
pub struct Upgrade {
    attempt: Box<Attempt>,
    account: Account,
    place: OwnedSemaphorePermit,
}
