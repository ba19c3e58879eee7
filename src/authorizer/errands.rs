//! What takes waiting: one flow for each errand, from the first row to the last. Owns no rule. What several flows share is
//! here; the flows are in the files beside it.

mod login;
mod people;
mod session;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(super) use self::login::Upgrade;
use super::{Concluded, pace::Pace};
use crate::{
    clock::{unix_millis, unix_time},
    domain::{
        account::{Account, Roles, Username},
        decision::{Decision, Denial, Issued, Unavailable},
        gate::{Errand, Gate, Grant},
        throttle::{Admitted, Suspect, Throttle, Wait},
        token::UnixTime,
        trust::NoAddress,
    },
    hashing::Hashing,
    live::Live,
    metrics::{LoginResult, Metrics},
    replicas::Shares,
    spans::{Spans, step},
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
    /// Where spans go.
    pub spans: Spans,
    /// Where logins are counted.
    pub metrics: Metrics,
}

/// An attempt that was taken, with the row it is about.
struct Begun {
    place: OwnedSemaphorePermit,
    admitted: Admitted,
    account: Option<Account>,
    /// Why there is no row where there should be one.
    cause: Option<UsersFault>,
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
    pub async fn run(
        self: Arc<Self>,
        errand: Errand,
        client: Result<IpAddr, NoAddress>,
    ) -> Concluded {
        let concluded = match errand {
            Errand::Login(attempt) => {
                let started = Instant::now();
                let client = self.counted(client);
                let concluded = self.login(attempt, client).await;
                self.metrics.login(result(&concluded), started.elapsed());
                concluded
            }
            Errand::Logout(logout) => self.logout(&logout).await,
            Errand::Refresh(token, form) => self.refresh(&token, form).await,
            Errand::Register(registration) => {
                let client = self.counted(client);
                self.register(registration, client).await
            }
            Errand::Password(change) => {
                let client = self.counted(client);
                self.password(change, client).await
            }
        };
        concluded.unwrap_or_else(|refused| Concluded {
            decision: Decision::Deny(refused.denial),
            cause: refused.cause,
            upgrade: None,
        })
    }

    /// The address that failures are counted by, if there is one.
    fn counted(&self, client: Result<IpAddr, NoAddress>) -> Option<IpAddr> {
        let rules = self.live.now();
        let client = match client {
            Ok(client) if rules.trusted.contains(client) => Err(NoAddress::Gateway),
            client => client,
        };
        let cause = match client {
            Ok(client) => return Some(client),
            Err(cause) => cause,
        };
        self.metrics.without_address(cause);
        if rules.warned.is_first(cause) {
            tracing::warn!(
                kind = cause.name(),
                client_address = %rules.client_address,
                cause = %cause,
                "the address of a client is not known, so its failures are counted together with those of all such clients"
            );
        }
        None
    }

    /// Tells the throttle of a refusal: only where a password was looked at has anybody failed.
    fn refused(&self, admitted: &Admitted, refused: Refused, cause: Option<UsersFault>) -> Refused {
        let Denial::InvalidCredentials(_) = &refused.denial else {
            self.throttle.taken_back(admitted, unix_millis());
            return refused;
        };
        let shares = self.throttle.failed(admitted, unix_millis());
        self.shares.send(shares, refused.denial.subject());
        Refused { cause, ..refused }
    }

    /// What stands before every password that is looked at: a place in the line, the counts, the row.
    async fn begin(&self, username: &Username, client: Option<IpAddr>) -> Result<Begun, Refused> {
        let place = self.place()?;
        let suspect = self.throttle.suspect(username, client);
        self.look(&suspect).await?;
        let (account, cause) = self.users_row(username).await?;
        let admitted = self.admit(&suspect).await?;
        Ok(Begun {
            place,
            admitted,
            account,
            cause,
        })
    }

    /// Tells the throttle of a password that was right.
    fn right(&self, admitted: &Admitted, account: &Account) {
        let shares = self.throttle.succeeded(admitted, unix_millis());
        self.shares.send(shares, Some(&account.id));
    }

    /// Knows here what the ledger knows: all tokens of a user have ended.
    async fn all_ended(&self, user_id: &str, all_expired: UnixTime) -> Result<(), Refused> {
        let generation = self.store.ledger.generation(user_id).await?;
        (self.live.now().gate.ended).end_before(user_id, generation, all_expired);
        Ok(())
    }

    fn issue(&self, grant: Grant) -> Result<Issued, Denial> {
        match self.live.now().gate.issue(grant, unix_time()) {
            Decision::Issue(issued) => Ok(issued),
            Decision::Deny(denial) => Err(denial),
            Decision::Allow(_) | Decision::Done(_) => Err(INTERNAL),
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
        let Some(reserve) = &wait.reserve else {
            return Err(self.throttled(&wait));
        };
        // Perhaps somebody has logged in from there before, at another replica or long ago. Looked up once.
        let Ok(tally) = self.store.ledger.tally(reserve).await else {
            return Err(self.throttled(&wait));
        };
        let now = unix_millis();
        self.throttle.learn(reserve, tally.unwrap_or_default(), now);
        match self.throttle.look(suspect, now) {
            Err(wait) if !wait.is_short => Err(self.throttled(&wait)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn throttled(&self, wait: &Wait) -> Denial {
        self.metrics.throttled(wait.by);
        Denial::Throttled(wait.duration)
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
                return Err(self.throttled(&wait));
            }
            tokio::time::sleep(SHORT_WAIT).await;
        }
    }

    /// The row of a name. A broken one is none, so that it does not show that it is there.
    async fn users_row(
        &self,
        username: &Username,
    ) -> Result<(Option<Account>, Option<UsersFault>), Refused> {
        match step("fetch row", self.store.users.find(username)).await {
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
        let (started, hashed) = step("hash", hashed).await.ok_or(INTERNAL)?;
        if let Some(until) = self.pace.until(started, is_ours) {
            tokio::time::sleep_until(until.into()).await;
        }
        Ok((place, hashed))
    }
}

/// What became of a login, in the four words that operators ask for.
fn result(login: &Result<Concluded, Refused>) -> LoginResult {
    match login {
        Ok(_) => LoginResult::Ok,
        Err(refused) if matches!(refused.denial, Denial::Unavailable(_)) => {
            LoginResult::Unavailable
        }
        Err(refused) if matches!(refused.denial, Denial::Throttled(_)) => LoginResult::Throttled,
        Err(_) => LoginResult::Refused,
    }
}
