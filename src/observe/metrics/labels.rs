//! The values of labels. Every label has a fixed set of values, so no client can add a series.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

use crate::observe::request_log::Door;

/// The result of something that is tried again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Ok,
    Failed,
}

impl Outcome {
    pub(super) const ALL: [Self; 2] = [Self::Ok, Self::Failed];

    pub(crate) fn of<T, E>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(_) => Self::Failed,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
    }
}

/// The rows that replicas write for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SyncRows {
    Revocations,
    Failures,
    /// Only if keys for machines are on.
    Keys,
}

impl SyncRows {
    /// Those that every replica reads.
    pub(super) const ALL: [Self; 2] = [Self::Revocations, Self::Failures];

    fn name(self) -> &'static str {
        match self {
            Self::Revocations => "revocations",
            Self::Failures => "failures",
            Self::Keys => "keys",
        }
    }
}

/// The result of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LoginResult {
    /// A token was issued.
    Ok,
    /// The name or the password was wrong, or the account is disabled.
    Refused,
    /// Too many failures before, or too many other logins of the account or from the address at the same time.
    Throttled,
    /// Doorward could not decide.
    Unavailable,
    /// The caller hung up while the login waited.
    Abandoned,
}

impl LoginResult {
    pub(super) const ALL: [Self; 5] = [
        Self::Ok,
        Self::Refused,
        Self::Throttled,
        Self::Unavailable,
        Self::Abandoned,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Abandoned => "abandoned",
        }
    }
}

/// The origin of the failures that throttled an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ThrottledBy {
    Account,
    Address,
    Network,
    /// All clients whose address is unknown count together.
    UnknownAddress,
}

impl ThrottledBy {
    pub(super) const ALL: [Self; 4] = [
        Self::Account,
        Self::Address,
        Self::Network,
        Self::UnknownAddress,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Address => "address",
            Self::Network => "network",
            Self::UnknownAddress => "unknown-address",
        }
    }
}

/// What a decision needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    /// Only memory.
    Check,
    /// Database rows and password hashes.
    Action,
}

impl Work {
    pub(super) const ALL: [Self; 2] = [Self::Check, Self::Action];

    fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            // The published name.
            Self::Action => "errand",
        }
    }
}

/// The answer to a follower of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FeedResult {
    /// Nothing has changed.
    Empty,
    /// The changes since the cursor.
    Changes,
    /// A page of everything.
    Whole,
    /// A refusal, because the question is malformed.
    Malformed,
    /// A refusal, because the peer is not trusted.
    Refused,
}

impl FeedResult {
    pub(super) const ALL: [Self; 5] = [
        Self::Empty,
        Self::Changes,
        Self::Whole,
        Self::Malformed,
        Self::Refused,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Changes => "changes",
            Self::Whole => "whole",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
        }
    }
}

/// A port that Doorward listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Port {
    Grpc,
    Http,
    Ops,
}

impl Port {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Ops => "ops",
        }
    }
}

/// Whether a peer is in `trusted_proxies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PeerTrust {
    Trusted,
    Other,
}

impl PeerTrust {
    pub(crate) fn of(is_trusted: bool) -> Self {
        match is_trusted {
            true => Self::Trusted,
            false => Self::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Other => "other",
        }
    }
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Closed {
    /// The port has as many connections as it may have.
    Full,
    /// The address has as many connections as one may have.
    AddressFull,
    /// The TLS handshake failed, or was not done in time.
    Handshake,
    /// No request came in time.
    Silent,
    /// The peer sent frames without end.
    Flood,
}

impl Closed {
    pub(super) const ALL: [Self; 5] = [
        Self::Full,
        Self::AddressFull,
        Self::Handshake,
        Self::Silent,
        Self::Flood,
    ];

    /// The label of the metric, and the reason in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AddressFull => "address-full",
            Self::Handshake => "handshake",
            Self::Silent => "silent",
            Self::Flood => "flood",
        }
    }
}

macro_rules! label_values {
    ($($label:ty),+) => {
        $(impl EncodeLabelValue for $label {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
                EncodeLabelValue::encode(&self.name(), encoder)
            }
        })+
    };
}

label_values!(
    Outcome,
    SyncRows,
    FeedResult,
    LoginResult,
    ThrottledBy,
    Work,
    Port,
    PeerTrust,
    Closed,
    Door
);
