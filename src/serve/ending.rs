//! How Doorward ends: it says that it will, goes on serving until everybody knows, closes its doors, and lets what is under
//! way end within a deadline.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// Still serving, and not ready any more.
    Leaving,
    /// No new connections; those that are open are asked to end.
    Closing,
}

/// Whoever brings the end about.
#[derive(Debug)]
pub(super) struct Ending(watch::Sender<Phase>);

/// Whoever waits for it.
#[derive(Clone, Debug)]
pub(super) struct Watch(watch::Receiver<Phase>);

impl Ending {
    /// Far away.
    pub(super) fn new() -> (Self, Watch) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (Self(sender), Watch(receiver))
    }

    /// Says that the end is near.
    pub(super) fn leave(&self) {
        self.0.send_replace(Phase::Leaving);
    }

    /// Closes the doors.
    pub(super) fn close(&self) {
        self.0.send_replace(Phase::Closing);
    }
}

impl Watch {
    /// Whether the end is near.
    pub(super) fn is_leaving(&self) -> bool {
        *self.0.borrow() >= Phase::Leaving
    }

    /// Done when the doors close.
    pub(super) async fn closing(&self) {
        let mut phase = self.0.clone();
        // Where nobody is left who could close them, they are closed.
        let _ = phase.wait_for(|phase| *phase == Phase::Closing).await;
    }
}

/// What asks Doorward to end.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// How Doorward was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// By whoever runs it (SIGTERM): others must first learn that it goes.
    Politely,
    /// From a keyboard (SIGINT).
    AtOnce,
}

impl Signals {
    /// Listens for both.
    ///
    /// # Errors
    ///
    /// Signals cannot be listened for.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Done when asked, every time.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Politely,
            _ = self.interrupt.recv() => Asked::AtOnce,
        }
    }

    /// Waits, unless asked once more.
    pub(super) async fn wait(&mut self, length: Duration) {
        let _ = tokio::time::timeout(length, self.next()).await;
    }
}
