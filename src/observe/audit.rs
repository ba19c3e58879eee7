//! The audit trail: one JSON line per event that somebody may have to account for. A line says who, from where, what,
//! and the id of the decision. It contains no secret, and no typed name that belongs to no user.

use std::{fs, io, net::IpAddr, path::PathBuf, sync::Mutex};

use tracing::Subscriber;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};
use uuid::Uuid;

use super::request_log::Trace;
use crate::domain::{
    decision::{Reason, Verdict},
    machine_key::MachineKeyId,
};
use doorward_rules::private;

/// The target that separates audit events from log events.
pub(crate) const TARGET: &str = "audit";

/// Where the audit trail is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trail {
    /// Not written at all.
    Off,
    /// To standard error, between the lines of the log.
    Stderr,
    /// Appended to this file.
    File(PathBuf),
}

impl Trail {
    /// The layer that writes the audit trail.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or created.
    pub(crate) fn layer<S>(&self) -> io::Result<Option<Box<dyn Layer<S> + Send + Sync>>>
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
                let file = private::open(path, options.create(true).append(true))?;
                let file = Mutex::new(file);
                Some(lines().with_writer(file).with_filter(own).boxed())
            }
        })
    }
}

/// Records a login, a refusal, a logout, a registration or a password change.
pub(crate) fn decided(
    verdict: Verdict,
    reason: Reason,
    (subject, key): (Option<&str>, Option<MachineKeyId>),
    trace: &Trace<'_>,
    id: Uuid,
) {
    tracing::info!(
        target: TARGET,
        event = verdict.name(),
        reason = reason.name(),
        sub = subject,
        key = key.map(tracing::field::display),
        client = trace.client.ok().map(tracing::field::display),
        door = trace.door.name(),
        request_id = trace.request_id,
        decision = %id,
    );
}

/// Records that a hash was replaced by a better one of the same password.
pub(crate) fn upgraded(subject: &str, trace: &Trace<'_>) {
    tracing::info!(
        target: TARGET,
        event = "hash-upgrade",
        reason = "login",
        sub = subject,
        client = trace.client.ok().map(tracing::field::display),
        door = trace.door.name(),
        request_id = trace.request_id,
        decision = %Uuid::now_v7(),
    );
}

/// Records an administrator's command on a user, on an address, or on everything.
pub(crate) fn commanded(command: &str, subject: Option<&str>, address: Option<IpAddr>) {
    command_of(command, subject, address, None);
}

/// Records an administrator's command on a key for machines.
pub(crate) fn commanded_key(command: &str, subject: Option<&str>, key: MachineKeyId) {
    command_of(command, subject, None, Some(key));
}

fn command_of(
    command: &str,
    subject: Option<&str>,
    address: Option<IpAddr>,
    key: Option<MachineKeyId>,
) {
    tracing::info!(
        target: TARGET,
        event = "command",
        reason = command,
        sub = subject,
        address = address.map(tracing::field::display),
        key = key.map(tracing::field::display),
        by = std::env::var("USER").ok(),
        uid = user_id(),
        decision = %Uuid::now_v7(),
    );
}

/// The system user that runs this process.
fn user_id() -> Option<u32> {
    let own = fs::metadata("/proc/self").ok()?;
    Some(std::os::unix::fs::MetadataExt::uid(&own))
}
