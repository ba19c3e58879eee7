//! Why a request is denied: what the client reads, and what the log shows.

use std::{borrow::Cow, sync::Arc, time::Duration};

use super::{Answer, Realm, Reason, refuse};
use crate::{
    body::BodyFault,
    credential::{CredentialFault, LoginFault},
    machine_key::MachineKeyId,
    machine_keys::{KeyPlace, MachineKeyFault},
    principal::Principal,
    probe,
    request::RequestFault,
    session::RefreshFault,
    token_fault::TokenFault,
};

/// Why a request is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The request cannot be judged.
    Malformed(RequestFault),
    /// The additional reading of the path falls under another rule.
    TwoReadings,
    /// Some rules name hosts, and the request has no trusted host.
    NoHost,
    /// No rule matches, or the rule allows nobody.
    Nobody,
    /// An endpoint does not accept the method; it accepts these methods.
    EndpointMethod(Vec<String>),
    /// A login without credentials.
    MissingCredentials,
    /// A login whose credentials are not exactly one credential.
    MalformedCredentials(CredentialFault),
    /// A login with wrong credentials.
    InvalidCredentials(Refusal),
    /// The body is invalid.
    Body(BodyFault),
    /// The check of a gateway cannot be read.
    Check(CheckFault),
    /// An endpoint is requested through a door that can only allow or deny.
    EndpointInSubRequest,
    /// Too many failures; the client must wait this long.
    Throttled(Duration),
    /// Too many logins to this account or from this address are waiting.
    QueueFull(Whose),
    /// The caller has disconnected.
    CallerGone,
    /// The refresh token is not valid; with the user id of its session, if there is one.
    InvalidRefresh(RefreshFault, Option<String>),
    /// A new user name that is not canonical.
    NewName,
    /// A new user name with the prefix of another issuer's users.
    ForeignName,
    /// A new user name that is reserved.
    ReservedName,
    /// A new user name that another user has.
    NameTaken,
    /// A new password that is too weak.
    WeakPassword(WeakPassword),
    /// The password was changed by another request at the same time.
    PasswordChanged(String),
    /// The peer is not a trusted gateway.
    UntrustedPeer,
    /// A question of `doorward probe`, with the signed answer.
    Probed(String),
    /// A token is required and missing.
    MissingToken,
    /// A token is required, and the credentials are not exactly one credential.
    MalformedToken(CredentialFault),
    /// The token is not valid.
    InvalidToken(TokenFault),
    /// A token or a key is required and missing, where keys are accepted as the password of Basic.
    MissingKey,
    /// The key for machines is not valid.
    InvalidKey(InvalidKey),
    /// The key is valid, but not for this path.
    KeyPath(Arc<Principal>),
    /// The endpoint is for people, and the request shows a key.
    KeyNotAccepted,
    /// The user has no such key.
    KeyNotFound,
    /// The user has as many keys as `keys.most` allows.
    TooManyKeys(String),
    /// The form for a new key was sent again, and has made this key before.
    KeyRepeated(MachineKeyId),
    /// The token is valid, but its user does not have the role.
    MissingRole(Arc<Principal>),
    /// The cookie of a browser, with a request that another site may have caused.
    CrossSite,
    /// The cookie of a browser is to be renewed before the request.
    RenewalDue,
    /// The form of the sign-in page does not belong to the browser that posts it.
    ForeignForm,
    /// A denial that a browser sees as a page, or that sends it to one.
    Shown(Box<Denial>, Box<Answer>),
    /// Doorward cannot decide.
    Unavailable(Unavailable),
}

/// Why a gateway's check cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFault {
    /// It has more bytes than `listen.max_check`.
    TooLarge,
    /// It did not arrive completely in time.
    TooSlow,
    /// It is not exactly one uncompressed message, or not the expected one.
    Malformed,
}

/// Why a login fails; for the log alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The Basic credentials are not well formed.
    Basic(LoginFault),
    /// The account does not exist.
    UnknownUser,
    /// The account with this id has another password.
    WrongPassword(String),
    /// The account with this id is disabled.
    Disabled(String),
    /// The hash of the account with this id has an unsupported format.
    UnsupportedHash(String),
    /// A service could confuse the account with this id with a user of another issuer.
    ForeignName(String),
}

/// A key that is not valid, for the log. The client does not learn what is wrong; the id finds the row of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidKey {
    /// The id in the key, if it has one.
    pub id: Option<MachineKeyId>,
    /// How it was shown.
    pub place: KeyPlace,
    /// What is wrong.
    pub fault: MachineKeyFault,
}

/// Why Doorward cannot decide; the request is always denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The user table cannot be reached.
    Database,
    /// The user table did not answer in time.
    DatabaseTimeout,
    /// Too many logins wait for hashing, or this one waited too long.
    Busy,
    /// The last read of revocations is too old, and a setting says to wait.
    Stale,
    /// Too many requests are in flight.
    Overloaded,
    /// Hashing or signing failed, or the decision panicked.
    Internal,
}

/// How long a client should wait before it retries after Doorward could not decide.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Denial {
    /// The denial itself, without the page that a browser sees.
    #[must_use]
    pub fn plain(&self) -> &Self {
        let mut plain = self;
        while let Self::Shown(denial, _) = plain {
            plain = denial;
        }
        plain
    }

    /// The stable code of the denial, for the log.
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
            Self::MalformedToken(CredentialFault::Cookie(_)) => Reason::MalformedCookie,
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
            Self::Probed(_) => Reason::Probe,
            Self::MissingToken => Reason::MissingToken,
            Self::InvalidToken(fault) => Reason::InvalidToken(*fault),
            Self::MissingKey => Reason::MissingKey,
            Self::InvalidKey(invalid) => match invalid.fault {
                MachineKeyFault::Malformed => Reason::KeyMalformed,
                MachineKeyFault::Unknown => Reason::KeyUnknown,
                MachineKeyFault::Ended => Reason::KeyEnded,
                MachineKeyFault::Expired => Reason::KeyExpired,
                MachineKeyFault::Owner => Reason::KeyOwner,
            },
            Self::KeyPath(_) => Reason::KeyPath,
            Self::KeyNotAccepted => Reason::KeyNotAccepted,
            Self::KeyNotFound => Reason::KeyNotFound,
            Self::TooManyKeys(_) => Reason::TooManyKeys,
            Self::KeyRepeated(_) => Reason::KeyRepeated,
            Self::MissingRole(_) => Reason::MissingRole,
            Self::CrossSite => Reason::CrossSite,
            Self::RenewalDue => Reason::RenewalDue,
            Self::ForeignForm => Reason::ForeignForm,
            Self::Shown(denial, _) => denial.reason(),
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

    /// The user id, if it is known; never the name as typed.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::MissingRole(principal) | Self::KeyPath(principal) => {
                Some(&principal.identity().subject)
            }
            Self::InvalidCredentials(refusal) => match refusal {
                Refusal::WrongPassword(id)
                | Refusal::Disabled(id)
                | Refusal::UnsupportedHash(id)
                | Refusal::ForeignName(id) => Some(id),
                Refusal::Basic(_) | Refusal::UnknownUser => None,
            },
            Self::PasswordChanged(subject) | Self::TooManyKeys(subject) => Some(subject),
            Self::InvalidRefresh(_, subject) => subject.as_deref(),
            Self::Shown(denial, _) => denial.subject(),
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
            | Self::Probed(_)
            | Self::MissingToken
            | Self::MalformedToken(_)
            | Self::InvalidToken(_)
            | Self::MissingKey
            | Self::InvalidKey(_)
            | Self::KeyNotAccepted
            | Self::CrossSite
            | Self::RenewalDue
            | Self::ForeignForm
            | Self::KeyNotFound
            | Self::KeyRepeated(_)
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

    /// What the client reads. The status is one of 400, 401, 403, 404, 405, 408, 409, 413, 429 and 503;
    /// for a browser also 303 and 422.
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
            Self::Probed(answer) => {
                let challenge = format!("{} answer=\"{answer}\"", probe::SCHEME);
                refuse(401, "Probed", [("www-authenticate", challenge.into())])
            }
            // Only shown as a redirect.
            Self::RenewalDue => refuse(403, "Forbidden", []),
            Self::CrossSite => refuse(403, "Cross-site request", []),
            Self::ForeignForm => refuse(403, "Load the sign-in page again", []),
            Self::Shown(_, answer) => (**answer).clone(),
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
                // In whole seconds, rounded up, so that no client returns too early.
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
            // The same answer for both, because it must not reveal other issuers.
            Self::ForeignName | Self::ReservedName => refuse(400, "username: reserved", []),
            Self::NameTaken => refuse(409, "username: taken", []),
            Self::WeakPassword(fault) => refuse(400, fault.to_string(), []),
            Self::PasswordChanged(_) => refuse(409, "The password was changed meanwhile", []),
            Self::MissingToken => refuse(401, "Missing token", [bearer(None)]),
            Self::MalformedToken(_) => {
                refuse(400, "Malformed token", [bearer(Some("invalid_request"))])
            }
            Self::InvalidToken(_) => refuse(401, "Invalid token", [bearer(Some("invalid_token"))]),
            Self::MissingKey => refuse(401, "Missing key", [basic()]),
            Self::InvalidKey(invalid) => {
                let challenge = match invalid.place {
                    KeyPlace::Basic => basic(),
                    KeyPlace::Token => bearer(Some("invalid_token")),
                };
                refuse(401, "Invalid key", [challenge])
            }
            Self::KeyNotAccepted => refuse(403, "Not authorized", []),
            Self::KeyNotFound => refuse(404, "No such key", []),
            Self::TooManyKeys(_) => refuse(409, "Too many keys", []),
            Self::KeyRepeated(_) => refuse(409, "This key exists already", []),
            Self::MissingRole(_) | Self::KeyPath(_) => {
                refuse(403, "Not authorized", [bearer(Some("insufficient_scope"))])
            }
            Self::Check(CheckFault::TooSlow) | Self::Unavailable(_) | Self::CallerGone => {
                let seconds = RETRY_AFTER.as_secs().to_string();
                refuse(503, "Try again later", [("retry-after", seconds.into())])
            }
        }
    }
}

/// The rule for new names, as the client reads it.
const NEW_NAME: &str = "username: must be 3 to 64 lower-case letters, digits, \".\", \"_\", \"+\", \"@\" and \"-\", beginning with a letter or digit";

/// Why a new password is refused, as the client reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Too short for how easy it is to guess.
    #[error("password: too short; use at least {0} characters")]
    Short(usize),
    /// On the blocklist, or too easy to guess.
    #[error("password: too common or too easy to guess")]
    Common,
    /// Too similar to the user name.
    #[error("password: too similar to the user name")]
    LikeName,
}

/// What has too many logins in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// An account.
    Account,
    /// A client address.
    Address,
}
