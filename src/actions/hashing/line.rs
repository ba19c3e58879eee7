//! Where logins wait until they may hash. [`FairQueue`] decides the order. The throttle decides at the turn of an attempt
//! whether to admit it, so a login that only waits holds no place.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::timeout};

use super::HashTimes;
use crate::{
    clock::unix_millis,
    login::{
        fair_queue::{Admit, FairQueue, Full, Limits, Number},
        throttle::{Admitted, Key, Limited, SharedFailure, Throttle, Wait},
    },
};

/// The queue of one process.
#[derive(Clone, Debug)]
pub(crate) struct Line(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    throttle: Arc<Throttle>,
    times: Arc<HashTimes>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queue: FairQueue,
    waiters: HashMap<Number, Waiter>,
}

/// A waiting login.
#[derive(Debug)]
struct Waiter {
    limited: Option<Limited>,
    /// Since when it could hash.
    ready: Instant,
    tell: oneshot::Sender<Told>,
}

#[derive(Debug)]
enum Told {
    /// It has its turn; its attempt is counted, if it is one.
    Turn(Option<Admitted>),
    Refused(NoTurn),
}

/// Why a login gets no turn.
#[derive(Debug)]
pub(crate) enum NoTurn {
    /// The queue is full, or this account or address has too many entries in it.
    Full(Full),
    /// Too many earlier failures.
    Throttled(Wait),
    /// It waited too long.
    TooLong,
}

/// A waiting login. Dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct Ticket {
    line: Line,
    number: Number,
    told: oneshot::Receiver<Told>,
}

/// A login whose turn it is: no other attempt at its account is admitted until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    ticket: Ticket,
    admitted: Option<Admitted>,
    /// Whether it has a place to hash in.
    has_place: bool,
    /// The answer is held back until this time.
    held_until: Option<Instant>,
}

/// The longest wait of a login; gateways time out earlier.
const LONGEST: Duration = Duration::from_secs(30);

impl Line {
    /// An empty queue.
    #[must_use]
    pub(crate) fn new(limits: Limits, throttle: Arc<Throttle>, times: Arc<HashTimes>) -> Self {
        Self(Arc::new(Inner {
            limits,
            throttle,
            times,
            state: Mutex::new(State {
                queue: FairQueue::new(limits),
                waiters: HashMap::new(),
            }),
        }))
    }

    /// Its limits.
    #[must_use]
    pub(crate) fn limits(&self) -> Limits {
        self.0.limits
    }

    /// The number of logins in it.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.state().queue.len()
    }

    /// Joins the queue; at its turn, the throttle is asked about `suspect`.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub(crate) fn enter(
        &self,
        account: Key,
        address: Option<Key>,
        limited: Option<Limited>,
    ) -> Result<Ticket, Full> {
        let mut state = self.state();
        let entered = state.queue.enter(account, address)?;
        let (waiter, ticket) = self.waiter(entered.number, limited);
        state.waiters.insert(entered.number, waiter);
        if let Some((displaced, by)) = entered.displaced
            && let Some(waiter) = state.waiters.remove(&displaced)
        {
            let full = NoTurn::Full(Full::One(by));
            // If the receiver is gone, the login has already left.
            let _ = waiter.tell.send(Told::Refused(full));
        }
        Ok(ticket)
    }

    /// Joins the queue even if it is full.
    #[must_use]
    pub(crate) fn enter_anyway(&self, account: Key) -> Ticket {
        let mut state = self.state();
        let number = state.queue.enter_anyway(account, None);
        let (waiter, ticket) = self.waiter(number, None);
        state.waiters.insert(number, waiter);
        ticket
    }

    fn waiter(&self, number: Number, limited: Option<Limited>) -> (Waiter, Ticket) {
        let (tell, told) = oneshot::channel();
        let waiter = Waiter {
            limited,
            ready: Instant::now(),
            tell,
        };
        let ticket = Ticket {
            line: self.clone(),
            number,
            told,
        };
        (waiter, ticket)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notifies every login whose turn it is.
    fn advance(&self) {
        let mut state = self.state();
        let State { queue, waiters } = &mut *state;
        loop {
            let mut admitted = None;
            let admit = |number: Number| {
                let Some(waiter) = waiters.get(&number) else {
                    return Admit::No;
                };
                let Some(limited) = &waiter.limited else {
                    return Admit::Yes;
                };
                match self.0.throttle.admit(limited, unix_millis()) {
                    Ok(counted) => {
                        admitted = Some(counted);
                        Admit::Yes
                    }
                    Err(wait) if wait.is_short => Admit::Later,
                    Err(wait) => {
                        if let Some(waiter) = waiters.remove(&number) {
                            let _ = waiter.tell.send(Told::Refused(NoTurn::Throttled(wait)));
                        }
                        Admit::No
                    }
                }
            };
            let Some(number) = queue.next(admit) else {
                return;
            };
            let Some(waiter) = waiters.remove(&number) else {
                queue.leave(number);
                continue;
            };
            self.0.times.waiting.observe(waiter.ready.elapsed());
            // A login that has left does not use its turn: undo its attempt.
            if let Err(Told::Turn(Some(admitted))) = waiter.tell.send(Told::Turn(admitted)) {
                self.0.throttle.taken_back(&admitted, unix_millis());
            }
        }
    }
}

impl Ticket {
    /// Waits until a hash that takes this many KiB may run.
    ///
    /// # Errors
    ///
    /// [`NoTurn`]; the login has left the queue.
    pub(crate) async fn turn(mut self, memory: u64) -> Result<Turn, NoTurn> {
        let admitted = self.wait(memory).await?;
        Ok(Turn {
            ticket: self,
            admitted,
            has_place: true,
            held_until: None,
        })
    }

    async fn wait(&mut self, memory: u64) -> Result<Option<Admitted>, NoTurn> {
        {
            let mut state = self.line.state();
            if let Some(waiter) = state.waiters.get_mut(&self.number) {
                waiter.ready = Instant::now();
            }
            state.queue.ready(self.number, memory);
        }
        self.line.advance();
        match timeout(LONGEST, &mut self.told).await {
            Ok(Ok(Told::Turn(admitted))) => Ok(admitted),
            Ok(Ok(Told::Refused(why))) => Err(why),
            Ok(Err(_)) | Err(_) => Err(NoTurn::TooLong),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        {
            let mut state = self.line.state();
            state.queue.leave(self.number);
            state.waiters.remove(&self.number);
        }
        // It got its turn, but was dropped before it saw that: undo its attempt.
        if let Ok(Told::Turn(Some(admitted))) = self.told.try_recv() {
            self.line.0.throttle.taken_back(&admitted, unix_millis());
        }
        self.line.advance();
    }
}

impl Turn {
    /// Waits to hash once more; this comes before every login that has not hashed yet.
    ///
    /// # Errors
    ///
    /// [`NoTurn::TooLong`].
    pub(crate) async fn again(&mut self, memory: u64) -> Result<(), NoTurn> {
        if self.has_place {
            return Ok(());
        }
        let (tell, told) = oneshot::channel();
        let waiter = Waiter {
            limited: None,
            ready: Instant::now(),
            tell,
        };
        let number = self.ticket.number;
        self.ticket.line.state().waiters.insert(number, waiter);
        self.ticket.told = told;
        self.ticket.wait(memory).await?;
        self.has_place = true;
        Ok(())
    }

    /// Frees the place to hash. The account keeps its turn.
    pub(crate) fn hashed(&mut self) {
        if mem::take(&mut self.has_place) {
            self.ticket.line.state().queue.settle(self.ticket.number);
            self.ticket.line.advance();
        }
    }

    /// Holds the answer back until this time.
    pub(crate) fn hold(&mut self, until: Instant) {
        self.held_until = self.held_until.max(Some(until));
    }

    /// Waits until it may be answered.
    pub(crate) async fn held(&mut self) {
        if let Some(until) = self.held_until.take() {
            tokio::time::sleep_until(until.into()).await;
        }
    }

    /// The attempt has failed.
    pub(crate) fn failed(&mut self) -> Vec<SharedFailure> {
        let throttle = &self.ticket.line.0.throttle;
        let admitted = self.admitted.take();
        admitted.map_or_else(Vec::new, |admitted| {
            throttle.failed(&admitted, unix_millis())
        })
    }

    /// The attempt has succeeded.
    pub(crate) fn succeeded(&mut self) -> Vec<SharedFailure> {
        let throttle = &self.ticket.line.0.throttle;
        let admitted = self.admitted.take();
        admitted.map_or_else(Vec::new, |admitted| {
            throttle.succeeded(&admitted, unix_millis())
        })
    }

    /// No password was verified.
    pub(crate) fn taken_back(&mut self) {
        if let Some(admitted) = self.admitted.take() {
            self.ticket
                .line
                .0
                .throttle
                .taken_back(&admitted, unix_millis());
        }
    }
}

impl Drop for Turn {
    /// An attempt without a result has failed. After that, the ticket leaves the queue.
    fn drop(&mut self) {
        drop(self.failed());
    }
}

#[cfg(test)]
mod tests;
