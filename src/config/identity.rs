//! `[identity]`: what Doorward tells services about the user.

use super::{
    fault::ValueFault,
    key::{Key, Optional, Section},
    reader::Reader,
    value::{boolean, name},
};
use crate::domain::{
    assertion::can_be_verified,
    identity_headers::{AssertionHeader, IdentityHeaders, IdentityNames},
    keyring::Keyring,
    time::UnixTime,
};

/// Settings of identity headers.
#[derive(Debug)]
pub(crate) struct IdentitySettings {
    /// The names of the headers.
    pub(crate) headers: IdentityNames,
    /// Whether the service receives Bearer tokens.
    pub(crate) forward_bearer: bool,
    /// The signed assertion, if services get one.
    pub(crate) assertion: Option<AssertionSettings>,
}

/// Settings of the signed assertion.
#[derive(Debug)]
pub(crate) struct AssertionSettings {
    /// The header.
    pub(crate) header: AssertionHeader,
    /// `aud`.
    pub(crate) audience: String,
}

pub(super) static KEYS: Section = &[&HEADERS, &FORWARD_BEARER, &ASSERTION, &ASSERTION_AUDIENCE];

static HEADERS: Key<IdentityNames> = Key::list(
    "identity.headers",
    "x-auth-user, x-auth-roles, x-auth-admin",
    |names| IdentityNames::parse(names).map_err(|fault| vec![fault.into()]),
    "Names of the headers that tell the service the user, the roles, and whether the user is an administrator. Configurations of gateways other than Envoy over gRPC must use the same names. A name without a separator, such as `xauthuser`, has no aliases.",
);

static FORWARD_BEARER: Key<bool> = Key::new(
    "identity.forward_bearer",
    "true",
    boolean,
    "Whether the service receives the `Authorization` header of a Bearer request. It never receives Basic.",
)
.reloads();

static ASSERTION: Optional<AssertionHeader> = Key::new(
    "identity.assertion",
    "none",
    |text| AssertionHeader::parse(text).map_err(ValueFault::from),
    "Header of a [signed assertion](assertion.md) for services, such as `x-auth-assertion`. It needs a key that is not HS256.",
)
.optional();

static ASSERTION_AUDIENCE: Key<String> = Key::new(
    "identity.assertion_audience",
    "services",
    name,
    "Claim `aud` of the signed assertion, where the rule has no `audience`. It must differ from `jwt.audience`.",
);

/// Why the keys cannot sign assertions.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "identity.assertion: HS256 signs, or will sign, and a service that could verify that could also sign; add a key: doorward keys generate ES256"
)]
pub(crate) struct SecretSigns;

impl IdentitySettings {
    pub(super) fn read(reader: &mut Reader<'_>, audience: &str) -> Self {
        let headers: IdentityNames = reader.get(&HEADERS);
        let own_audience = reader.get(&ASSERTION_AUDIENCE);
        let assertion = reader.find(&ASSERTION);
        if let Some(header) = &assertion {
            if let Some(name) = headers.like(header.as_str()) {
                reader.fault_of(&ASSERTION, ValueFault::HeaderTaken(name.to_owned()));
            }
            if own_audience == audience {
                reader.fault_of(&ASSERTION_AUDIENCE, ValueFault::AudienceOfTokens);
            }
        }
        Self {
            headers,
            forward_bearer: reader.get(&FORWARD_BEARER),
            assertion: assertion.map(|header| AssertionSettings {
                header,
                audience: own_audience,
            }),
        }
    }

    /// The headers, without those of keys for machines.
    pub(super) fn kept(&self) -> IdentityHeaders {
        let headers = IdentityHeaders::keep(self.headers.clone());
        match &self.assertion {
            Some(own) => headers.with_assertion(&own.header),
            None => headers,
        }
    }

    /// Whether services can verify what these keys sign, if they get an assertion.
    ///
    /// # Errors
    ///
    /// [`SecretSigns`].
    pub(crate) fn fits(&self, keys: &Keyring, now: UnixTime) -> Result<(), SecretSigns> {
        match &self.assertion {
            Some(_) if !can_be_verified(keys, now) => Err(SecretSigns),
            Some(_) | None => Ok(()),
        }
    }

    /// The same for a secret that is not made yet.
    ///
    /// # Errors
    ///
    /// [`SecretSigns`].
    pub(crate) fn fits_a_secret(&self) -> Result<(), SecretSigns> {
        match &self.assertion {
            Some(_) => Err(SecretSigns),
            None => Ok(()),
        }
    }
}
