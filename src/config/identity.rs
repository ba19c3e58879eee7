//! `[identity]`: what Doorward tells services about the user.

use super::{
    key::{Key, Section},
    reader::Reader,
    value::boolean,
};
use crate::domain::identity_headers::IdentityNames;

/// Settings of identity headers.
#[derive(Debug)]
pub(crate) struct IdentitySettings {
    /// The names of the headers.
    pub(crate) headers: IdentityNames,
    /// Whether the service receives Bearer tokens.
    pub(crate) forward_bearer: bool,
}

pub(super) static KEYS: Section = &[&HEADERS, &FORWARD_BEARER];

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

impl IdentitySettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            headers: reader.get(&HEADERS),
            forward_bearer: reader.get(&FORWARD_BEARER),
        }
    }
}
