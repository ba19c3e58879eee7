//! From a name to its turn at hashing, and the hash: counts of failures, the queue, the row.

use std::{net::IpAddr, sync::Arc, time::Instant};

use tokio_util::sync::CancellationToken;

use super::{Caller, INTERNAL, Refused, Run};
use crate::{
    actions::hashing::{NoTurn, Ticket, Turn},
    clock::unix_millis,
    domain::{
        account::Username,
        decision::{Denial, Unavailable},
        trust::NoAddress,
    },
    login::{
        account::Account,
        desk::Desk,
        fair_queue::Full,
        password::{LengthClass, PasswordHash},
        throttle::{CountedBy, Limited, Wait},
    },
    observe::{metrics::ThrottledBy, spans::step},
    tables::users::UsersFault,
};

/// A caller whose failures are counted.
pub(super) struct CountedCaller {
    /// The address that they are counted for; without one, they count on the shared count of unknown addresses.
    pub(super) client: Option<IpAddr>,
    pub(super) gone: CancellationToken,
}

/// An attempt whose turn has come, with the row that it is about.
pub(super) struct Admitted {
    pub(super) turn: Turn,
    pub(super) account: Option<Account>,
    /// Why the row could not be read as an account.
    pub(super) cause: Option<UsersFault>,
}

impl Run {
    /// The address that failures are counted for, if it is known.
    pub(super) fn counted(&self, caller: Caller) -> CountedCaller {
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
    pub(super) fn refused(
        &self,
        turn: &mut Turn,
        refused: Refused,
        cause: Option<UsersFault>,
    ) -> Refused {
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
    pub(super) async fn begin(
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
    pub(super) fn enter(
        &self,
        limited: &Limited,
        admit: Option<Limited>,
    ) -> Result<Ticket, Denial> {
        let (account, address) = (
            self.actions.throttle.own(limited),
            limited.address().cloned(),
        );
        let ticket = self.actions.line.enter(account, address, admit);
        ticket.map_err(queue_full)
    }

    /// Waits for a turn. A caller that disconnects before its turn gives the turn up. After that, the attempt runs on,
    /// so that disconnecting saves an attacker nothing.
    pub(super) async fn turn(
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
    pub(super) fn right(&self, turn: &mut Turn, account: &Account) {
        self.actions
            .shares
            .send(turn.succeeded(), Some(&account.id));
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

    pub(super) fn throttled(&self, wait: &Wait) -> Denial {
        self.actions.metrics.throttled(match wait.by {
            CountedBy::Account => ThrottledBy::Account,
            CountedBy::Address => ThrottledBy::Address,
            CountedBy::Network => ThrottledBy::Network,
            CountedBy::Unknown => ThrottledBy::UnknownAddress,
        });
        Denial::Throttled(wait.duration)
    }

    /// The row of a name. A broken row counts as none, so that the answer does not reveal that it exists.
    pub(super) async fn users_row(
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
    pub(super) async fn hash<T: Send + 'static>(
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
