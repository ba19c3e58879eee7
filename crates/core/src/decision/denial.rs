//! Why a request may not pass: what the client reads of it, and what the log says.

use std::{borrow::Cow, sync::Arc, time::Duration};

use super::{Answer, Realm, Reason, refuse};
use crate::{
    body::BodyFault,
    credential::{CredentialFault, LoginFault},
    principal::Principal,
    request::RequestFault,
    session::RefreshFault,
    token_fault::TokenFault,
};

/// Why a request may not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The request cannot be judged.
    Malformed(RequestFault),
    /// Read generously, the path falls under another rule.
    TwoReadings,
    /// Some rules name hosts, and the request has no trusted host.
    NoHost,
    /// No rule, or the rule that nobody passes.
    Nobody,
    /// An endpoint asked by another method than these.
    EndpointMethod(Vec<String>),
    /// A login without credentials.
    MissingCredentials,
    /// A login with something that is not one credential.
    MalformedCredentials(CredentialFault),
    /// A login with credentials that are not good.
    InvalidCredentials(Refusal),
    /// A body that is wrong.
    Body(BodyFault),
    /// A question of a gateway that cannot be read.
    Check(CheckFault),
    /// An endpoint by a door that can only say whether a request may pass.
    EndpointInSubRequest,
    /// Too many failures before: not yet.
    Throttled(Duration),
    /// Too many logins of this account, or from this address, wait already.
    QueueFull(Whose),
    /// Nobody waits for the answer any more.
    CallerGone,
    /// A refresh token that is not good, and whose session it was of, as an id.
    InvalidRefresh(RefreshFault, Option<String>),
    /// A new user name that is not canonical.
    NewName,
    /// A new user name that begins as those of another issuer's users do.
    ForeignName,
    /// A new user name that nobody registers.
    ReservedName,
    /// A new user name that somebody has.
    NameTaken,
    /// A new password that is not good enough.
    WeakPassword(WeakPassword),
    /// A change of a password that somebody else changed meanwhile.
    PasswordChanged(String),
    /// A question of somebody who is not a gateway of ours.
    UntrustedPeer,
    /// No token where one is needed.
    MissingToken,
    /// Something that is not one credential where a token is needed.
    MalformedToken(CredentialFault),
    /// A token that is not good.
    InvalidToken(TokenFault),
    /// A good token of somebody without the role.
    MissingRole(Arc<Principal>),
    /// Doorward cannot decide.
    Unavailable(Unavailable),
}

/// Why a question of a gateway cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFault {
    /// It has more bytes than `listen.max_check`.
    TooLarge,
    /// It did not come whole in time.
    TooSlow,
    /// It is not one uncompressed message, or not the one that is expected.
    Malformed,
}

/// Why a login fails; for the log alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The Basic credentials are not well formed.
    Basic(LoginFault),
    /// No such account.
    UnknownUser,
    /// The account of this id has another password.
    WrongPassword(String),
    /// The account of this id is disabled.
    Disabled(String),
    /// The hash of the account of this id is in no format that is verified here.
    UnsupportedHash(String),
    /// A service would take the account of this id for a user of another issuer.
    ForeignName(String),
}

/// Why Doorward cannot decide; always closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The user table could not be asked.
    Database,
    /// The user table did not answer in time.
    DatabaseTimeout,
    /// Too many logins wait for hashing, or one waited too long.
    Busy,
    /// What has ended could not be read for too long, and a setting says to wait.
    Stale,
    /// Too many requests are in flight.
    Overloaded,
    /// Hashing or signing failed, or the decision panicked.
    Internal,
}

/// How long a client waits before it asks again where Doorward could not decide.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Denial {
    /// The stable code by which the log names the denial.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Malformed(fault) => match fault {
                RequestFault::NotHttp => Reason::NotHttp,
                RequestFault::Method => Reason::MalformedMethod,
                RequestFault::MethodCase => Reason::MethodCase,
                RequestFault::Host => Reason::MalformedHost,
                RequestFault::Path(_) => Reason::AmbiguousPath,
                RequestFault::DoubledHeader => Reason::DoubledHeader,
                RequestFault::AliasedHeader => Reason::AliasedHeader,
                RequestFault::Dialect(_) => Reason::DialectHeader,
                RequestFault::TwoOriginals => Reason::TwoOriginals,
            },
            Self::TwoReadings => Reason::TwoReadings,
            Self::NoHost => Reason::NoHost,
            Self::Nobody => Reason::NoRule,
            Self::EndpointMethod(_) => Reason::EndpointMethod,
            Self::MissingCredentials => Reason::MissingCredentials,
            Self::MalformedCredentials(_) | Self::MalformedToken(_) => {
                Reason::MalformedAuthorization
            }
            Self::InvalidCredentials(refusal) => match refusal {
                Refusal::Basic(_) => Reason::MalformedBasic,
                Refusal::UnknownUser => Reason::UnknownUser,
                Refusal::WrongPassword(_) => Reason::WrongPassword,
                Refusal::Disabled(_) => Reason::Disabled,
                Refusal::UnsupportedHash(_) => Reason::UnsupportedHash,
                Refusal::ForeignName(_) => Reason::ForeignName,
            },
            Self::Body(BodyFault::TooSlow) => Reason::SlowBody,
            Self::Body(_) => Reason::MalformedBody,
            Self::Check(fault) => match fault {
                CheckFault::TooLarge => Reason::CheckTooLarge,
                CheckFault::TooSlow => Reason::CheckTooSlow,
                CheckFault::Malformed => Reason::MalformedCheck,
            },
            Self::EndpointInSubRequest => Reason::EndpointInSubRequest,
            Self::Throttled(_) => Reason::Throttled,
            Self::QueueFull(by) => match by {
                Whose::Account => Reason::AccountQueueFull,
                Whose::Address => Reason::AddressQueueFull,
            },
            Self::CallerGone => Reason::CallerGone,
            Self::InvalidRefresh(fault, _) => match fault {
                RefreshFault::Malformed => Reason::RefreshMalformed,
                RefreshFault::Unknown => Reason::RefreshUnknown,
                RefreshFault::Reused => Reason::RefreshReused,
                RefreshFault::Account => Reason::RefreshAccount,
            },
            Self::NewName => Reason::NewName,
            Self::ForeignName => Reason::ForeignName,
            Self::ReservedName => Reason::ReservedName,
            Self::NameTaken => Reason::NameTaken,
            Self::WeakPassword(_) => Reason::WeakPassword,
            Self::PasswordChanged(_) => Reason::PasswordChangedMeanwhile,
            Self::UntrustedPeer => Reason::UntrustedPeer,
            Self::MissingToken => Reason::MissingToken,
            Self::InvalidToken(fault) => Reason::InvalidToken(*fault),
            Self::MissingRole(_) => Reason::MissingRole,
            Self::Unavailable(unavailable) => match unavailable {
                Unavailable::Database => Reason::DatabaseUnavailable,
                Unavailable::DatabaseTimeout => Reason::DatabaseTimeout,
                Unavailable::Busy => Reason::HashingBusy,
                Unavailable::Stale => Reason::RevocationsStale,
                Unavailable::Overloaded => Reason::Overloaded,
                Unavailable::Internal => Reason::Internal,
            },
        }
    }

    /// Whom the denial is about, where that is known: the id, never the name that was typed.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::MissingRole(principal) => Some(&principal.identity().subject),
            Self::InvalidCredentials(refusal) => match refusal {
                Refusal::WrongPassword(id)
                | Refusal::Disabled(id)
                | Refusal::UnsupportedHash(id)
                | Refusal::ForeignName(id) => Some(id),
                Refusal::Basic(_) | Refusal::UnknownUser => None,
            },
            Self::PasswordChanged(subject) => Some(subject),
            Self::InvalidRefresh(_, subject) => subject.as_deref(),
            Self::Malformed(_)
            | Self::TwoReadings
            | Self::NoHost
            | Self::Nobody
            | Self::EndpointMethod(_)
            | Self::MissingCredentials
            | Self::MalformedCredentials(_)
            | Self::Body(_)
            | Self::Check(_)
            | Self::EndpointInSubRequest
            | Self::Throttled(_)
            | Self::QueueFull(_)
            | Self::CallerGone
            | Self::NewName
            | Self::ForeignName
            | Self::ReservedName
            | Self::NameTaken
            | Self::WeakPassword(_)
            | Self::UntrustedPeer
            | Self::MissingToken
            | Self::MalformedToken(_)
            | Self::InvalidToken(_)
            | Self::Unavailable(_) => None,
        }
    }

    /// What a client of `/validate` reads: the answers of the services that Doorward replaces. The status is 401, 403 or 503.
    #[must_use]
    pub fn answer_of_validate(&self, realm: &Realm) -> Answer {
        match self.answer(realm) {
            Answer {
                status: 401,
                headers,
                ..
            } if *self == Self::MissingToken => Answer {
                status: 401,
                headers,
                body: "Missing credentials".into(),
            },
            answer if answer.status == 503 => answer,
            _ => refuse(
                403,
                "Not authorized",
                [("x-auth-reason", self.reason().name().into())],
            ),
        }
    }

    /// What the client reads. The status is one of 400, 401, 403, 405, 408, 409, 413, 429 and 503.
    #[must_use]
    pub fn answer(&self, realm: &Realm) -> Answer {
        let basic = || ("www-authenticate", Cow::Owned(realm.basic()));
        let bearer = |error| ("www-authenticate", Cow::Owned(realm.bearer(error)));
        match self {
            Self::Malformed(RequestFault::Path(_)) | Self::TwoReadings => {
                refuse(400, "Ambiguous path", [])
            }
            Self::Malformed(_) | Self::NoHost => refuse(400, "Malformed request", []),
            Self::Nobody | Self::UntrustedPeer => refuse(403, "Forbidden", []),
            Self::EndpointMethod(methods) => refuse(
                405,
                "Method not allowed",
                [("allow", methods.join(", ").into())],
            ),
            Self::MissingCredentials | Self::EndpointInSubRequest => {
                refuse(401, "Missing credentials", [basic()])
            }
            Self::MalformedCredentials(_) => refuse(400, "Malformed credentials", []),
            Self::InvalidCredentials(_) => refuse(401, "Invalid credentials", [basic()]),
            Self::Body(BodyFault::TooLong) => refuse(413, BodyFault::TooLong.to_string(), []),
            Self::Body(BodyFault::TooSlow) => refuse(408, BodyFault::TooSlow.to_string(), []),
            Self::Body(fault) => refuse(400, fault.to_string(), []),
            Self::Check(CheckFault::TooLarge) => refuse(413, "Request too large", []),
            Self::Check(CheckFault::Malformed) => refuse(400, "Malformed request", []),
            Self::Throttled(wait) => {
                // In whole seconds, and never too early.
                let seconds = wait.as_millis().div_ceil(1000).max(1).to_string();
                refuse(429, "Too many attempts", [("retry-after", seconds.into())])
            }
            Self::QueueFull(_) => {
                let seconds = RETRY_AFTER.as_secs().to_string();
                refuse(429, "Too many attempts", [("retry-after", seconds.into())])
            }
            Self::InvalidRefresh(..) => refuse(
                401,
                "Invalid refresh token",
                [bearer(Some("invalid_token"))],
            ),
            Self::NewName => refuse(400, NEW_NAME, []),
            // One answer for both: other issuers are nobody's business.
            Self::ForeignName | Self::ReservedName => refuse(400, "username: reserved", []),
            Self::NameTaken => refuse(409, "username: taken", []),
            Self::WeakPassword(fault) => refuse(400, fault.to_string(), []),
            Self::PasswordChanged(_) => refuse(409, "The password was changed meanwhile", []),
            Self::MissingToken => refuse(401, "Missing token", [bearer(None)]),
            Self::MalformedToken(_) => {
                refuse(400, "Malformed token", [bearer(Some("invalid_request"))])
            }
            Self::InvalidToken(_) => refuse(401, "Invalid token", [bearer(Some("invalid_token"))]),
            Self::MissingRole(_) => {
                refuse(403, "Not authorized", [bearer(Some("insufficient_scope"))])
            }
            Self::Check(CheckFault::TooSlow) | Self::Unavailable(_) | Self::CallerGone => {
                let seconds = RETRY_AFTER.as_secs().to_string();
                refuse(503, "Try again later", [("retry-after", seconds.into())])
            }
        }
    }
}

/// What a name must be, for whoever chose another.
const NEW_NAME: &str = "username: must be 3 to 64 lower-case letters, digits, \".\", \"_\", \"+\", \"@\" and \"-\", beginning with a letter or digit";

/// Why a new password is refused, for whoever chose it to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Short, and easy to guess for its length.
    #[error("password: too short; use at least {0} characters")]
    Short(usize),
    /// On a list, or as good as on one.
    #[error("password: too common or too easy to guess")]
    Common,
    /// The name, or little more.
    #[error("password: too similar to the user name")]
    LikeName,
}

/// Whose logins fill the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// An account.
    Account,
    /// A client address.
    Address,
}
