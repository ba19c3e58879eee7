//! The audit trail: one JSON line for whatever somebody may have to account for later. Who, from where, what, and the id
//! of the decision; no secret, and no name that was typed and is nobody's.

use std::{fs, io, net::IpAddr, path::PathBuf, sync::Mutex};

use tracing::Subscriber;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};
use uuid::Uuid;

use crate::authorizer::Trace;

/// The name under which events of the trail are told from those of the log.
pub(crate) const TARGET: &str = "audit";

/// Where the trail goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trail {
    /// Nowhere.
    Off,
    /// Standard error, between the lines of the log.
    Stderr,
    /// The end of this file.
    File(PathBuf),
}

impl Trail {
    /// What writes the trail.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or made.
    pub fn layer<S>(&self) -> io::Result<Option<Box<dyn Layer<S> + Send + Sync>>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let lines = || {
            tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_level(false)
                .with_target(false)
        };
        let own = Targets::new().with_target(TARGET, tracing::Level::INFO);
        Ok(match self {
            Self::Off => None,
            Self::Stderr => Some(lines().with_writer(io::stderr).with_filter(own).boxed()),
            Self::File(path) => {
                let mut options = fs::OpenOptions::new();
                options.create(true).append(true);
                std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
                let file = Mutex::new(options.open(path)?);
                Some(lines().with_writer(file).with_filter(own).boxed())
            }
        })
    }
}

/// A login, a refusal, a logout, a registration, a change of a password.
pub(crate) fn decided(
    verdict: &str,
    reason: &str,
    subject: Option<&str>,
    trace: &Trace<'_>,
    id: Uuid,
) {
    tracing::info!(
        target: TARGET,
        event = verdict,
        reason,
        sub = subject,
        client = trace.client.map(tracing::field::display),
        door = trace.door,
        request_id = trace.request_id,
        decision = %id,
    );
}

/// A hash was replaced by a better one of the same password.
pub(crate) fn upgraded(subject: &str, trace: &Trace<'_>) {
    tracing::info!(
        target: TARGET,
        event = "hash-upgrade",
        reason = "login",
        sub = subject,
        client = trace.client.map(tracing::field::display),
        door = trace.door,
        request_id = trace.request_id,
        decision = %Uuid::now_v7(),
    );
}

/// An administrator's command has done something to somebody, to an address, or to all.
pub(crate) fn commanded(command: &str, subject: Option<&str>, address: Option<IpAddr>) {
    tracing::info!(
        target: TARGET,
        event = "command",
        reason = command,
        sub = subject,
        address = address.map(tracing::field::display),
        by = std::env::var("USER").ok(),
        uid = user_id(),
        decision = %Uuid::now_v7(),
    );
}

/// Who runs this process, as the system knows it.
fn user_id() -> Option<u32> {
    let own = fs::metadata("/proc/self").ok()?;
    Some(std::os::unix::fs::MetadataExt::uid(&own))
}
