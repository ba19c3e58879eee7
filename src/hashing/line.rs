//! Where logins wait until they may hash. The order is that of [`FairQueue`]; whether an attempt is admitted, the throttle
//! says when its turn has come, so that nobody holds a place who is only waiting.

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
        throttle::{Admitted, Key, Share, Suspect, Throttle, Wait},
    },
};

/// The line of one process.
#[derive(Clone, Debug)]
pub struct Line(Arc<Inner>);

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

/// Somebody who waits.
#[derive(Debug)]
struct Waiter {
    suspect: Option<Suspect>,
    /// Since when it could hash.
    ready: Instant,
    tell: oneshot::Sender<Told>,
}

#[derive(Debug)]
enum Told {
    /// It is its turn, and its attempt is counted if it is one.
    Turn(Option<Admitted>),
    Refused(NoTurn),
}

/// Why somebody gets no turn.
#[derive(Debug)]
pub enum NoTurn {
    /// Too many wait, and too many of them for this account or from this address.
    Full(Full),
    /// There were too many failures before.
    Throttled(Wait),
    /// It took too long.
    TooLong,
}

/// A login that waits. Whoever drops it leaves the line.
#[derive(Debug)]
pub struct Ticket {
    line: Line,
    number: Number,
    told: oneshot::Receiver<Told>,
}

/// A login whose turn it is: no other attempt at its account is admitted until it is dropped.
#[derive(Debug)]
pub struct Turn {
    ticket: Ticket,
    admitted: Option<Admitted>,
    /// Whether it has a place to hash in.
    has_place: bool,
    /// Before when it is not answered.
    held_until: Option<Instant>,
}

/// How long a login waits at most; gateways give up before.
const LONGEST: Duration = Duration::from_secs(30);

impl Line {
    /// An empty line.
    #[must_use]
    pub fn new(limits: Limits, throttle: Arc<Throttle>, times: Arc<HashTimes>) -> Self {
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

    /// What it is bounded by.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    /// How many are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state().queue.len()
    }

    /// Whether nobody is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Joins the line; `suspect` is what the throttle is asked about when the turn has come.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn enter(
        &self,
        account: Key,
        address: Option<Key>,
        suspect: Option<Suspect>,
    ) -> Result<Ticket, Full> {
        let mut state = self.state();
        let entered = state.queue.enter(account, address)?;
        let (waiter, ticket) = self.waiter(entered.number, suspect);
        state.waiters.insert(entered.number, waiter);
        if let Some((displaced, by)) = entered.displaced
            && let Some(waiter) = state.waiters.remove(&displaced)
        {
            let full = NoTurn::Full(Full::One(by));
            // Whoever does not listen any more has left by itself.
            let _ = waiter.tell.send(Told::Refused(full));
        }
        Ok(ticket)
    }

    /// Joins the line however many are in it.
    #[must_use]
    pub fn enter_anyway(&self, account: Key) -> Ticket {
        let mut state = self.state();
        let number = state.queue.enter_anyway(account, None);
        let (waiter, ticket) = self.waiter(number, None);
        state.waiters.insert(number, waiter);
        ticket
    }

    fn waiter(&self, number: Number, suspect: Option<Suspect>) -> (Waiter, Ticket) {
        let (tell, told) = oneshot::channel();
        let waiter = Waiter {
            suspect,
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
        // Every change is whole before anything could panic.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody whose turn it is.
    fn advance(&self) {
        let mut state = self.state();
        let State { queue, waiters } = &mut *state;
        loop {
            let mut admitted = None;
            let admit = |number: Number| {
                let Some(waiter) = waiters.get(&number) else {
                    return Admit::No;
                };
                let Some(suspect) = &waiter.suspect else {
                    return Admit::Yes;
                };
                match self.0.throttle.admit(suspect, unix_millis()) {
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
            // Whoever leaves takes its ticket along, and takes back what it was not told.
            if let Err(Told::Turn(Some(admitted))) = waiter.tell.send(Told::Turn(admitted)) {
                self.0.throttle.taken_back(&admitted, unix_millis());
            }
        }
    }
}

impl Ticket {
    /// Waits until a password may be hashed that takes so many KiB.
    ///
    /// # Errors
    ///
    /// [`NoTurn`]; it has left the line.
    pub async fn turn(mut self, memory: u64) -> Result<Turn, NoTurn> {
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
        // It was told of its turn, and has not looked any more.
        if let Ok(Told::Turn(Some(admitted))) = self.told.try_recv() {
            self.line.0.throttle.taken_back(&admitted, unix_millis());
        }
        self.line.advance();
    }
}

impl Turn {
    /// Waits for a place to hash once more in, which comes before every login that has not hashed yet.
    ///
    /// # Errors
    ///
    /// [`NoTurn::TooLong`].
    pub async fn again(&mut self, memory: u64) -> Result<(), NoTurn> {
        if self.has_place {
            return Ok(());
        }
        let (tell, told) = oneshot::channel();
        let waiter = Waiter {
            suspect: None,
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

    /// Hands the place on. The account stays taken.
    pub fn hashed(&mut self) {
        if mem::take(&mut self.has_place) {
            self.ticket.line.state().queue.settle(self.ticket.number);
            self.ticket.line.advance();
        }
    }

    /// Holds the answer back until then.
    pub fn hold(&mut self, until: Instant) {
        self.held_until = self.held_until.max(Some(until));
    }

    /// Waits until it may be answered.
    pub async fn held(&mut self) {
        if let Some(until) = self.held_until.take() {
            tokio::time::sleep_until(until.into()).await;
        }
    }

    /// The attempt has failed.
    pub fn failed(&mut self) -> Vec<Share> {
        let throttle = &self.ticket.line.0.throttle;
        let admitted = self.admitted.take();
        admitted.map_or_else(Vec::new, |admitted| {
            throttle.failed(&admitted, unix_millis())
        })
    }

    /// The attempt has succeeded.
    pub fn succeeded(&mut self) -> Vec<Share> {
        let throttle = &self.ticket.line.0.throttle;
        let admitted = self.admitted.take();
        admitted.map_or_else(Vec::new, |admitted| {
            throttle.succeeded(&admitted, unix_millis())
        })
    }

    /// No password was looked at.
    pub fn taken_back(&mut self) {
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
    /// An attempt of which nobody has said what became of it has failed. The ticket leaves the line after that.
    fn drop(&mut self) {
        drop(self.failed());
    }
}

#[cfg(test)]
mod tests;
