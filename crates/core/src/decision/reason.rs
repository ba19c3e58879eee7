//! Why a request was decided, as one stable word for log, metrics and audit trail.

use std::fmt;

use crate::token_fault::TokenFault;

/// Defines the reasons once: variant, word, and the list of all.
macro_rules! reasons {
    ($($(#[$meta:meta])* $variant:ident => $word:literal,)+) => {
        /// The stable code of a decision. Some codes must not be distinguishable for clients.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$meta])* $variant,)+
            /// The token is not valid.
            InvalidToken(TokenFault),
        }

        impl Reason {
            /// All reasons except those of [`Reason::InvalidToken`].
            pub const WITHOUT_TOKEN_FAULTS: &[Self] = &[$(Self::$variant,)+];

            /// The reason with this word, without those of [`Reason::InvalidToken`].
            #[must_use]
            pub fn named(word: &str) -> Option<Self> {
                let mut all = Self::WITHOUT_TOKEN_FAULTS.iter();
                all.find(|reason| reason.name() == word).copied()
            }

            /// The word in log, metrics and audit trail.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::InvalidToken(fault) => fault.reason(),
                }
            }
        }
    };
}

reasons! {
    /// Allowed without a token.
    Anonymous => "anonymous",
    /// Allowed with a valid token.
    Token => "token",
    /// Allowed with a valid key for machines.
    Key => "key",
    /// A token was issued for a user name and a password.
    Login => "login",
    /// A token was issued for a refresh token.
    Refresh => "refresh",
    /// A token was issued after a change of the password.
    Password => "password",
    /// A browser signed in, and a token was issued for its cookie.
    SignIn => "sign-in",
    /// A token was issued for a cookie at half of its life.
    Renewal => "renewal",
    /// A browser is redirected, to renew its cookie.
    RenewalDue => "renewal-due",
    /// A browser signed out, and its token was revoked.
    SignOut => "sign-out",
    /// A page was shown to a browser.
    Page => "page",
    /// A cookie with a request that another site may have caused.
    CrossSite => "cross-site",
    /// The sign-in form does not belong to the browser.
    ForeignForm => "foreign-form",
    /// One token was revoked.
    Logout => "logout",
    /// All tokens of a user were revoked.
    LogoutEverywhere => "logout-everywhere",
    /// A user was added.
    Register => "register",
    /// A user listed their keys for machines.
    KeyList => "key-list",
    /// A user made a key.
    KeyAdd => "key-add",
    /// A user ended a key.
    KeyEnd => "key-end",
    /// See [`RequestFault`](crate::request::RequestFault).
    NotHttp => "not-http",
    /// The method is not a token.
    MalformedMethod => "malformed-method",
    /// The method differs from a known one in case only.
    MethodCase => "method-case",
    /// The host is malformed.
    MalformedHost => "malformed-host",
    /// The path can be read in several ways.
    AmbiguousPath => "ambiguous-path",
    /// A header that Doorward reads is duplicated.
    DoubledHeader => "doubled-header",
    /// A service may read this header as another one.
    AliasedHeader => "aliased-header",
    /// A header of the gateway's dialect is missing or malformed.
    DialectHeader => "dialect-header",
    /// Two headers name the original request.
    TwoOriginals => "two-originals",
    /// The two readings of the path fall under different rules.
    TwoReadings => "two-readings",
    /// Some rules name hosts, and the request has no trusted host.
    NoHost => "no-host",
    /// No rule matches, or the rule allows nobody.
    NoRule => "no-rule",
    /// The endpoint does not accept the method.
    EndpointMethod => "endpoint-method",
    /// A login without credentials.
    MissingCredentials => "missing-credentials",
    /// `Authorization` is not exactly one credential.
    MalformedAuthorization => "malformed-authorization",
    /// The cookie occurs twice or is malformed.
    MalformedCookie => "malformed-cookie",
    /// The Basic credentials are malformed.
    MalformedBasic => "malformed-basic",
    /// The account does not exist.
    UnknownUser => "unknown-user",
    /// The account has another password.
    WrongPassword => "wrong-password",
    /// The account is disabled.
    Disabled => "disabled",
    /// The stored hash has an unknown format.
    UnsupportedHash => "unsupported-hash",
    /// The name looks like one of another issuer's users.
    ForeignName => "foreign-name",
    /// A body did not arrive in time.
    SlowBody => "slow-body",
    /// A body is malformed or too long.
    MalformedBody => "malformed-body",
    /// A check has too many bytes.
    CheckTooLarge => "check-too-large",
    /// A check did not arrive in time.
    CheckTooSlow => "check-too-slow",
    /// A check is not the expected message.
    MalformedCheck => "malformed-check",
    /// An endpoint is requested through a door that can only allow or deny.
    EndpointInSubRequest => "endpoint-in-sub-request",
    /// Too many failures.
    Throttled => "throttled",
    /// Too many logins of this account wait.
    AccountQueueFull => "account-queue-full",
    /// Too many logins from this address wait.
    AddressQueueFull => "address-queue-full",
    /// The caller has disconnected.
    CallerGone => "caller-gone",
    /// The refresh token is malformed.
    RefreshMalformed => "refresh-malformed",
    /// The refresh token has no session.
    RefreshUnknown => "refresh-unknown",
    /// The refresh token was used before.
    RefreshReused => "refresh-reused",
    /// The account of the refresh token has changed.
    RefreshAccount => "refresh-account",
    /// A new user name is not canonical.
    NewName => "new-name",
    /// A new user name is reserved.
    ReservedName => "reserved-name",
    /// A new user name is taken.
    NameTaken => "name-taken",
    /// A new password is too weak.
    WeakPassword => "weak-password",
    /// Another request changed the password at the same time.
    PasswordChangedMeanwhile => "password-changed-meanwhile",
    /// A signed question of `doorward probe`, which never passes.
    Probe => "probe",
    /// A key is required and missing.
    MissingKey => "missing-key",
    /// The key is cut or mistyped, or it is no key.
    KeyMalformed => "key-malformed",
    /// There is no such key.
    KeyUnknown => "key-unknown",
    /// The key was ended.
    KeyEnded => "key-ended",
    /// The key has expired.
    KeyExpired => "key-expired",
    /// The owner of the key is disabled or removed.
    KeyOwner => "key-owner",
    /// The key is not for this path.
    KeyPath => "key-path",
    /// The endpoint is for people.
    KeyNotAccepted => "key-not-accepted",
    /// The user has no such key.
    KeyNotFound => "key-not-found",
    /// The user has too many keys.
    TooManyKeys => "too-many-keys",
    /// A form for a new key was sent again.
    KeyRepeated => "key-repeated",
    /// The peer is not a trusted gateway.
    UntrustedPeer => "untrusted-peer",
    /// A token is required and missing.
    MissingToken => "missing-token",
    /// The token is valid, but its user does not have the role.
    MissingRole => "missing-role",
    /// The user table cannot be reached.
    DatabaseUnavailable => "database-unavailable",
    /// The user table did not answer in time.
    DatabaseTimeout => "database-timeout",
    /// Too many logins wait for hashing.
    HashingBusy => "hashing-busy",
    /// The last read of revocations is too old.
    RevocationsStale => "revocations-stale",
    /// Too many requests are in flight.
    Overloaded => "overloaded",
    /// Doorward failed.
    Internal => "internal",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
