//! Answers calls in the task of their connection if they do not wait.
//!
//! hyper gives every call a task of its own. For most checks, a task costs more than the decision: its memory, a place in
//! the queue of a thread, and often the wake-up of another thread. So the calls that arrived together are polled one after
//! the other, and their answers are written together. A call that waits gets a task, and so do calls behind slow ones, so
//! that other cores share the work.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;

use crate::doors::connection::Connection;

/// How long calls that arrived together are answered one after the other; the rest get tasks.
const TURN: Duration = Duration::from_micros(200);

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Calls of a connection that have arrived. Only the task of the connection uses the list, so the lock is always free.
#[derive(Clone, Default)]
pub(super) struct Arrived(Arc<Mutex<Vec<Call>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Arrived {
    fn execute(&self, call: F) {
        self.calls(|calls| calls.push(Box::pin(call)));
    }
}

impl Arrived {
    fn calls<T>(&self, with: impl FnOnce(&mut Vec<Call>) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers the calls that have arrived; returns whether there were any. `calls` is empty before and after, and is
    /// passed in to reuse its memory.
    fn answer(&self, calls: &mut Vec<Call>) -> bool {
        self.calls(|arrived| std::mem::swap(arrived, calls));
        if calls.is_empty() {
            return false;
        }
        let start = Instant::now();
        for mut call in calls.drain(..) {
            if start.elapsed() < TURN {
                let mut context = Context::from_waker(Waker::noop());
                // A panic ends one call, as in a task of its own.
                let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(&mut context)));
                if !matches!(polled, Ok(Poll::Pending)) {
                    continue;
                }
            }
            // The task polls it again, with a waker.
            tokio::spawn(call);
        }
        true
    }
}

pin_project! {
    /// A connection whose calls are executed by [`Arrived`].
    pub(super) struct AtOnce<C> {
        #[pin]
        connection: C,
        arrived: Arrived,
        // Empty between polls.
        calls: Vec<Call>,
    }
}

impl<C> AtOnce<C> {
    pub(super) fn new(connection: C, arrived: Arrived) -> Self {
        Self {
            connection,
            arrived,
            calls: Vec::new(),
        }
    }
}

impl<C: Future> Future for AtOnce<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        let mut me = self.project();
        loop {
            let polled = me.connection.as_mut().poll(context);
            // Answers are written when the connection is polled again.
            if !me.arrived.answer(me.calls) || polled.is_ready() {
                return polled;
            }
        }
    }
}

impl<C: Connection> Connection for AtOnce<C> {
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.project().connection.graceful_shutdown();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn, ready},
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use tokio::{sync::oneshot, task::yield_now};

    use super::*;

    /// A connection on which these calls arrive at its first poll; it ends at a later one.
    fn connection(
        arrived: &Arrived,
        calls: Vec<Call>,
        polls: &Arc<AtomicUsize>,
    ) -> impl Future<Output = ()> + use<> {
        let (arrived, polls, mut calls) = (arrived.clone(), Arc::clone(polls), Some(calls));
        poll_fn(move |_| {
            polls.fetch_add(1, Ordering::Relaxed);
            match calls.take() {
                Some(calls) => {
                    calls.into_iter().for_each(|call| arrived.execute(call));
                    Poll::Pending
                }
                None => Poll::Ready(()),
            }
        })
    }

    async fn serve(calls: Vec<Call>) -> usize {
        let (arrived, polls) = (Arrived::default(), Arc::default());
        AtOnce::new(connection(&arrived, calls, &polls), arrived).await;
        polls.load(Ordering::Relaxed)
    }

    fn call(call: impl Future<Output = ()> + Send + 'static) -> Call {
        Box::pin(call)
    }

    #[tokio::test]
    async fn ready_calls_are_answered_before_the_connection_continues() {
        let answered = Arc::new(AtomicUsize::new(0));
        let calls = (0..10).map(|_| {
            let answered = Arc::clone(&answered);
            call(async move { assert!(answered.fetch_add(1, Ordering::Relaxed) < 10) })
        });
        assert_eq!(serve(calls.collect()).await, 2);
        assert_eq!(answered.load(Ordering::Relaxed), 10);
    }

    #[tokio::test]
    async fn a_call_that_waits_is_woken() {
        let (ask, asked) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let waits = call(async move {
            let asked: Result<u8, _> = asked.await;
            answer.send(asked.unwrap() + 1).unwrap();
        });
        assert_eq!(serve(vec![waits, call(ready(()))]).await, 2);
        yield_now().await;
        ask.send(1).unwrap();
        assert_eq!(answered.await, Ok(2));
    }

    #[tokio::test]
    async fn a_panic_ends_one_call() {
        let (answer, answered) = oneshot::channel();
        let good = call(async move { answer.send(1).unwrap() });
        let bad = call(async { panic!("as expected") });
        assert_eq!(serve(vec![bad, good]).await, 2);
        assert_eq!(answered.await, Ok(1));
    }

    #[tokio::test]
    async fn calls_behind_slow_ones_get_tasks() {
        let (answer, answered) = oneshot::channel();
        let slow = call(async { thread::sleep(2 * TURN) });
        let next = call(async move { answer.send(tokio::task::try_id()).unwrap() });
        assert_eq!(serve(vec![slow, next]).await, 2);
        assert!(answered.await.unwrap().is_some());
    }

    #[tokio::test]
    async fn calls_of_a_connection_that_ends_are_answered() {
        let arrived = Arrived::default();
        let (answer, answered) = oneshot::channel();
        arrived.execute(async move { answer.send(1).unwrap() });
        AtOnce::new(ready(()), arrived).await;
        assert_eq!(answered.await, Ok(1));
    }

    #[tokio::test]
    async fn a_connection_without_calls_waits() {
        let at_once = AtOnce::new(pending::<()>(), Arrived::default());
        let waited = tokio::time::timeout(Duration::from_millis(10), at_once).await;
        assert!(waited.is_err());
    }
}
