//! Why a token is refused.

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenFault {
    /// Not three parts between two dots.
    #[error("it does not have three parts")]
    Parts,
    /// The header is not base64url, or not the JSON object that is allowed.
    #[error(
        "its header is not a JSON object of the members alg, typ and kid, or one has a wrong type"
    )]
    Header,
    /// The algorithm is unknown, or not that of the key.
    #[error("its algorithm is unknown, or is not that of its key")]
    Algorithm,
    /// `typ` is missing or has another value.
    #[error("its type is not JWT")]
    Type,
    /// A `kid` that no key can have.
    #[error("its key id is malformed")]
    KeyId,
    /// A `kid` that belongs to no key, or to an expired one.
    #[error("its key id names no key, or a key that has expired")]
    UnknownKey,
    /// The signature is not one of the key.
    #[error("its signature does not match the key")]
    Signature,
    /// The claims are not base64url JSON, or one is missing, doubled or of a wrong type.
    #[error("its claims are malformed, or a required one is missing, doubled or of a wrong type")]
    Claims,
    /// `iss` differs.
    #[error("its issuer differs")]
    Issuer,
    /// `aud` differs.
    #[error("its audience differs")]
    Audience,
    /// `exp` has passed.
    #[error("it has expired")]
    Expired,
    /// `nbf` is in the future.
    #[error("it is not valid yet")]
    NotYet,
    /// `iat` is in the future, or not before `exp`.
    #[error("its time of issue is impossible")]
    IssuedAt,
    /// A user name or roles that are not allowed.
    #[error("its user name or roles are not valid")]
    Identity,
    /// Revoked: by a logout, or by a change that revokes all tokens of a user.
    #[error("it was revoked by a logout or by a change of the account")]
    Ended,
    /// In a cookie, and not issued for one.
    #[error("it was not issued for a cookie")]
    NotForCookie,
}

impl TokenFault {
    /// The `reason` in the log.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Parts => "token-parts",
            Self::Header => "token-header",
            Self::Algorithm => "token-algorithm",
            Self::Type => "token-type",
            Self::KeyId => "token-key-id",
            Self::UnknownKey => "token-unknown-key",
            Self::Signature => "token-signature",
            Self::Claims => "token-claims",
            Self::Issuer => "token-issuer",
            Self::Audience => "token-audience",
            Self::Expired => "token-expired",
            Self::NotYet => "token-not-yet-valid",
            Self::IssuedAt => "token-issued-at",
            Self::Identity => "token-identity",
            Self::Ended => "token-ended",
            Self::NotForCookie => "token-not-for-cookie",
        }
    }
}
