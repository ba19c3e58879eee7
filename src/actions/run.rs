//! Runs an action, from the first row to the last. Owns no rule. What several actions share is here and in `turn`; each
//! action is in a file below.

mod keys;
mod learning;
mod login;
mod people;
mod session;
mod sign_in;
mod turn;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use self::login::Upgrade;
pub(super) use self::sign_in::Renewed;
pub(crate) use self::{
    keys::{OwnKeys, shown_key},
    learning::Learning,
};
use crate::{
    actions::{
        equal_time::EqualTime,
        hashing::{Hashing, Line},
    },
    clock::unix_time,
    domain::{
        account::Roles,
        decision::{Decision, Denial, Issued, Unavailable},
        judge::Action,
        token::UnixTime,
        trust::NoAddress,
    },
    live::{Live, Rules},
    login::{desk::Grant, throttle::Throttle},
    observe::{
        metrics::{LoginResult, Metrics},
        spans::Spans,
    },
    tables::{store::Store, sync::FailureSender, users::UsersFault},
};

/// Everything that actions use.
#[derive(Debug)]
pub(crate) struct Actions {
    /// The current rules. An action keeps those it begins with.
    pub(crate) live: Live,
    /// The tables.
    pub(crate) store: Store,
    /// Counts of attempts.
    pub(crate) throttle: Arc<Throttle>,
    /// Sends failures to other replicas.
    pub(crate) shares: FailureSender,
    /// How long a used refresh token gives the same successor again.
    pub(crate) grace: Duration,
    /// Keys for machines that people make.
    pub(crate) own_keys: OwnKeys,
    /// The roles of people who register.
    pub(crate) register_roles: Roles,
    /// The queue for hashing.
    pub(crate) line: Line,
    /// The hashing threads.
    pub(crate) hashing: Hashing,
    /// How long an answer is held back.
    pub(crate) equal_time: EqualTime,
    /// The measurement of the user table's hashes.
    pub(crate) learning: Learning,
    /// Where spans go.
    pub(crate) spans: Spans,
    /// Where logins are counted.
    pub(crate) metrics: Metrics,
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
    pub(crate) client: Result<IpAddr, NoAddress>,
    /// Cancelled when the gateway disconnects.
    pub(crate) gone: CancellationToken,
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
            Action::SignIn(attempt, page) => {
                let started = Instant::now();
                let caller = self.counted(caller);
                let concluded = self.sign_in(attempt, &page, &caller).await;
                self.actions
                    .metrics
                    .login(result(&concluded), started.elapsed());
                concluded
            }
            Action::Visit(visit, page) => self.visit(visit, &page).await,
            Action::Logout(logout) => self.logout(&logout).await,
            Action::Refresh(token, form) => self.refresh(&token, form).await,
            Action::Register(registration) => {
                let caller = self.counted(caller);
                self.register(registration, &caller).await
            }
            Action::Keys(request) => self.keys(*request).await,
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
}

/// The result of a login, as metrics name it.
fn result(login: &Result<Concluded, Refused>) -> LoginResult {
    let denial = match login {
        Ok(_) => return LoginResult::Ok,
        Err(refused) => refused.denial.plain(),
    };
    if matches!(denial, Denial::Unavailable(_)) {
        LoginResult::Unavailable
    } else if matches!(denial, Denial::Throttled(_) | Denial::QueueFull(_)) {
        LoginResult::Throttled
    } else if matches!(denial, Denial::CallerGone) {
        LoginResult::Abandoned
    } else {
        LoginResult::Refused
    }
}
