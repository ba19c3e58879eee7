//! Runs an action, from the first row to the last. Owns no rule. What several actions share is here; each action is in a
//! file below.

mod learning;
mod login;
mod people;
mod session;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

pub use self::learning::Learning;
use self::login::Upgrade;
use crate::{
    actions::{
        equal_time::EqualTime,
        hashing::{Hashing, Line, NoTurn, Ticket, Turn},
    },
    clock::{unix_millis, unix_time},
    domain::{
        account::{Roles, Username},
        decision::{Decision, Denial, Issued, Unavailable},
        judge::Action,
        token::UnixTime,
        trust::NoAddress,
    },
    live::{Live, Rules},
    login::{
        account::Account,
        desk::{Desk, Grant},
        fair_queue::Full,
        password::{LengthClass, PasswordHash},
        throttle::{CountedBy, Limited, Throttle, Wait},
    },
    observe::{
        metrics::{LoginResult, Metrics, ThrottledBy},
        spans::{Spans, step},
    },
    tables::{store::Store, sync::FailureSender, users::UsersFault},
};

/// Everything that actions use.
#[derive(Debug)]
pub struct Actions {
    /// The current rules. An action keeps those it begins with.
    pub live: Live,
    /// The tables.
    pub store: Store,
    /// Counts of attempts.
    pub throttle: Arc<Throttle>,
    /// Sends failures to other replicas.
    pub shares: FailureSender,
    /// How long a used refresh token gives the same successor again.
    pub grace: Duration,
    /// The roles of people who register.
    pub register_roles: Roles,
    /// The queue for hashing.
    pub line: Line,
    /// The hashing threads.
    pub hashing: Hashing,
    /// How long an answer is held back.
    pub equal_time: EqualTime,
    /// The measurement of the user table's hashes.
    pub learning: Learning,
    /// Where spans go.
    pub spans: Spans,
    /// Where logins are counted.
    pub metrics: Metrics,
}

/// An action that runs. It goes by one set of rules from beginning to end, whatever is reloaded meanwhile; only
/// revocations are shared by all sets. A key that is removed meanwhile may still sign, and nobody accepts that token.
#[derive(Clone, Debug)]
pub(super) struct Run {
    actions: Arc<Actions>,
    rules: Arc<Rules>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The address of the client.
    pub client: Result<IpAddr, NoAddress>,
    /// Cancelled when the gateway disconnects.
    pub gone: CancellationToken,
}

/// A decision, its cause for the log alone, and the upgrade of a hash that follows the answer.
#[derive(Debug)]
pub(super) struct Concluded {
    pub(super) decision: Decision,
    pub(super) cause: Option<UsersFault>,
    pub(super) upgrade: Option<Upgrade>,
}

impl From<Decision> for Concluded {
    fn from(decision: Decision) -> Self {
        Self {
            decision,
            cause: None,
            upgrade: None,
        }
    }
}

/// A caller whose failures are counted.
struct CountedCaller {
    /// The address that they are counted for; without one, they count on the shared count of unknown addresses.
    client: Option<IpAddr>,
    gone: CancellationToken,
}

/// An attempt whose turn has come, with the row that it is about.
struct Admitted {
    turn: Turn,
    account: Option<Account>,
    /// Why the row could not be read as an account.
    cause: Option<UsersFault>,
}

/// A refusal, and its cause for the log alone.
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
            UsersFault::Database(crate::tables::database::Fault::Timeout) => {
                Unavailable::DatabaseTimeout
            }
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

impl From<crate::tables::database::Fault> for Refused {
    fn from(fault: crate::tables::database::Fault) -> Self {
        UsersFault::from(fault).into()
    }
}

/// How many times a row may change during one login.
const MOST_CHANGES: usize = 4;

const INTERNAL: Denial = Denial::Unavailable(Unavailable::Internal);

impl Run {
    pub(super) fn new(actions: Arc<Actions>, rules: Arc<Rules>) -> Self {
        Self { actions, rules }
    }

    /// Runs one action to its end.
    pub(super) async fn run(&self, action: Action, caller: Caller) -> Concluded {
        let concluded = match action {
            Action::Login(attempt) => {
                let started = Instant::now();
                let caller = self.counted(caller);
                let concluded = self.login(attempt, &caller).await;
                self.actions
                    .metrics
                    .login(result(&concluded), started.elapsed());
                concluded
            }
            Action::Logout(logout) => self.logout(&logout).await,
            Action::Refresh(token, form) => self.refresh(&token, form).await,
            Action::Register(registration) => {
                let caller = self.counted(caller);
                self.register(registration, &caller).await
            }
            Action::ChangePassword(change) => {
                let caller = self.counted(caller);
                self.password(change, &caller).await
            }
        };
        concluded.unwrap_or_else(|refused| Concluded {
            decision: Decision::Deny(refused.denial),
            cause: refused.cause,
            upgrade: None,
        })
    }

    /// The address that failures are counted for, if it is known.
    fn counted(&self, caller: Caller) -> CountedCaller {
        let Caller { client, gone } = caller;
        let client = self.counted_address(client);
        CountedCaller { client, gone }
    }

    fn counted_address(&self, client: Result<IpAddr, NoAddress>) -> Option<IpAddr> {
        let rules = &*self.rules;
        let client = match client {
            Ok(client) if rules.trusted.contains(client) => Err(NoAddress::Gateway),
            client => client,
        };
        let cause = match client {
            Ok(client) => return Some(client),
            Err(cause) => cause,
        };
        self.actions.metrics.without_address(cause);
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

    /// Reports a refusal to the throttle. It counts as a failure only if a password was verified.
    fn refused(&self, turn: &mut Turn, refused: Refused, cause: Option<UsersFault>) -> Refused {
        let Denial::InvalidCredentials(_) = &refused.denial else {
            turn.taken_back();
            return refused;
        };
        self.actions
            .shares
            .send(turn.failed(), refused.denial.subject());
        Refused { cause, ..refused }
    }

    /// Everything before a password is verified: the counts, the bounded queue, the row, and the turn, at which the
    /// attempt is counted.
    async fn begin(
        &self,
        username: &Username,
        caller: &CountedCaller,
    ) -> Result<Admitted, Refused> {
        let limited = self.actions.throttle.limited(username, caller.client);
        self.look(&limited).await?;
        let mut ticket = self.enter(&limited, Some(limited.clone()))?;
        let (account, cause) = self.users_row(username).await?;
        if !self.actions.learning.is_done() {
            // Measuring uses the queue too.
            drop(ticket);
            self.actions.learning.wait().await;
            ticket = self.enter(&limited, Some(limited.clone()))?;
        }
        let hash = account.as_ref().map(|account| &account.hash);
        let turn = self.turn(ticket, hash, caller).await?;
        Ok(Admitted {
            turn,
            account,
            cause,
        })
    }

    /// Joins the queue, under the account and the address that failures are counted for.
    fn enter(&self, limited: &Limited, admit: Option<Limited>) -> Result<Ticket, Denial> {
        let (account, address) = (
            self.actions.throttle.own(limited),
            limited.address().cloned(),
        );
        let ticket = self.actions.line.enter(account, address, admit);
        ticket.map_err(queue_full)
    }

    /// Waits for a turn. A caller that disconnects before its turn gives the turn up. After that, the attempt runs on,
    /// so that disconnecting saves an attacker nothing.
    async fn turn(
        &self,
        ticket: Ticket,
        hash: Option<&PasswordHash>,
        caller: &CountedCaller,
    ) -> Result<Turn, Denial> {
        let memory = self.rules.desk.hasher.memory(hash);
        tokio::select! {
            biased;
            turn = ticket.turn(memory) => turn.map_err(|why| self.no_turn(&why)),
            () = caller.gone.cancelled() => Err(Denial::CallerGone),
        }
    }

    fn no_turn(&self, why: &NoTurn) -> Denial {
        match why {
            NoTurn::Full(full) => queue_full(*full),
            NoTurn::Throttled(wait) => self.throttled(wait),
            NoTurn::TooLong => queue_full(Full::All),
        }
    }

    /// Reports a correct password to the throttle.
    fn right(&self, turn: &mut Turn, account: &Account) {
        self.actions
            .shares
            .send(turn.succeeded(), Some(&account.id));
    }

    /// Revokes all tokens of a user in memory, as the tables already do.
    async fn all_ended(&self, user_id: &str, all_expired: UnixTime) -> Result<(), Refused> {
        let generation = self.actions.store.state.generation(user_id).await?;
        (self.rules.judge.revoked).end_before(user_id, generation, all_expired);
        Ok(())
    }

    fn issue(&self, grant: Grant) -> Result<Issued, Denial> {
        match self.rules.desk.issue(grant, unix_time()) {
            Decision::Issue(issued) => Ok(issued),
            Decision::Deny(denial) => Err(denial),
            Decision::Allow(_) | Decision::Done(_) => Err(INTERNAL),
        }
    }

    /// Refuses an attempt that the throttle would not admit, before anything is known about the account.
    async fn look(&self, limited: &Limited) -> Result<(), Denial> {
        let wait = match self.actions.throttle.look(limited, unix_millis()) {
            Err(wait) if !wait.is_short => wait,
            Ok(()) | Err(_) => return Ok(()),
        };
        let Some(reserve) = &wait.reserve else {
            return Err(self.throttled(&wait));
        };
        // Somebody may have logged in from this address before, at another replica or long ago. Looked up once.
        let Ok(tally) = self.actions.store.state.tally(reserve).await else {
            return Err(self.throttled(&wait));
        };
        let now = unix_millis();
        self.actions
            .throttle
            .learn(reserve, tally.unwrap_or_default(), now);
        match self.actions.throttle.look(limited, now) {
            Err(wait) if !wait.is_short => Err(self.throttled(&wait)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn throttled(&self, wait: &Wait) -> Denial {
        self.actions.metrics.throttled(match wait.by {
            CountedBy::Account => ThrottledBy::Account,
            CountedBy::Address => ThrottledBy::Address,
            CountedBy::Network => ThrottledBy::Network,
            CountedBy::Unknown => ThrottledBy::UnknownAddress,
        });
        Denial::Throttled(wait.duration)
    }

    /// The row of a name. A broken row counts as none, so that the answer does not reveal that it exists.
    async fn users_row(
        &self,
        username: &Username,
    ) -> Result<(Option<Account>, Option<UsersFault>), Refused> {
        match step("fetch row", self.actions.store.users.find(username)).await {
            Ok(account) => Ok((account, None)),
            Err(fault @ UsersFault::Row(_)) => Ok((None, Some(fault))),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Hashes, then frees the place. The answer is held back until the time that every kind of hash takes.
    async fn hash<T: Send + 'static>(
        &self,
        turn: &mut Turn,
        hash: Option<&PasswordHash>,
        class: LengthClass,
        compute: impl FnOnce(&Desk) -> T + Send + 'static,
    ) -> Result<T, Denial> {
        let hasher = Arc::clone(&self.rules.desk.hasher);
        let again = turn.again(hasher.memory(hash)).await;
        again.map_err(|why| self.no_turn(&why))?;
        let rules = Arc::clone(&self.rules);
        let hashed = self.actions.hashing.run(move || {
            let started = Instant::now();
            (started, compute(&rules.desk))
        });
        let hashed = step("hash", hashed).await;
        turn.hashed();
        let (started, hashed) = hashed.ok_or(INTERNAL)?;
        let kind = hasher.kind(hash);
        if let Some(until) = self.actions.equal_time.until(started, kind, class) {
            turn.hold(until);
        }
        if let Some(hash) = hash
            && kind.is_some()
            && self.actions.learning.is_done()
            && self.actions.equal_time.claim(kind)
        {
            let (actions, hash) = (Arc::clone(&self.actions), hash.clone());
            tokio::spawn(async move { actions.measure_kind(kind, Some(hash)).await });
        }
        Ok(hashed)
    }
}

fn queue_full(full: Full) -> Denial {
    match full {
        Full::One(by) => Denial::QueueFull(by),
        Full::All => Denial::Unavailable(Unavailable::Busy),
    }
}

/// The result of a login, as metrics name it.
fn result(login: &Result<Concluded, Refused>) -> LoginResult {
    match login {
        Ok(_) => LoginResult::Ok,
        Err(refused) if matches!(refused.denial, Denial::Unavailable(_)) => {
            LoginResult::Unavailable
        }
        Err(refused) if matches!(refused.denial, Denial::Throttled(_) | Denial::QueueFull(_)) => {
            LoginResult::Throttled
        }
        Err(refused) if matches!(refused.denial, Denial::CallerGone) => LoginResult::Abandoned,
        Err(_) => LoginResult::Refused,
    }
}
