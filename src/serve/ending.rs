//! Shutting down: Doorward reports not ready, serves on until gateways have noticed, closes its doors, and lets open
//! requests end within a deadline.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// The phase of the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// Serves, but reports not ready.
    Leaving,
    /// Accepts no connections; open ones are asked to end.
    Closing,
}

/// Starts the shutdown.
#[derive(Debug)]
pub(super) struct Ending(watch::Sender<Phase>);

/// Observes the shutdown.
#[derive(Clone, Debug)]
pub(super) struct Watch(watch::Receiver<Phase>);

impl Ending {
    /// Not shutting down.
    pub(super) fn new() -> (Self, Watch) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (Self(sender), Watch(receiver))
    }

    /// Reports not ready.
    pub(super) fn leave(&self) {
        self.0.send_replace(Phase::Leaving);
    }

    /// Closes the doors.
    pub(super) fn close(&self) {
        self.0.send_replace(Phase::Closing);
    }
}

impl Watch {
    /// Whether the shutdown has started.
    pub(super) fn is_leaving(&self) -> bool {
        *self.0.borrow() >= Phase::Leaving
    }

    /// Completes when the doors close.
    pub(super) async fn closing(&self) {
        let mut phase = self.0.clone();
        // Without a sender the doors count as closed.
        let _ = phase.wait_for(|phase| *phase == Phase::Closing).await;
    }
}

/// The signals that end Doorward.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// The kind of signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGTERM, from the supervisor: gateways must notice first.
    Politely,
    /// SIGINT, from a keyboard.
    AtOnce,
}

impl Signals {
    /// Installs handlers for both.
    ///
    /// # Errors
    ///
    /// A handler cannot be installed.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Completes at each signal.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Politely,
            _ = self.interrupt.recv() => Asked::AtOnce,
        }
    }

    /// Waits, or returns early at another signal.
    pub(super) async fn wait(&mut self, length: Duration) {
        let _ = tokio::time::timeout(length, self.next()).await;
    }
}
