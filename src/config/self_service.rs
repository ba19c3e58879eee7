//! `[self_service]`: what users may do with their own accounts.

use super::{
    fault::ValueFault,
    key::{Key, Optional, Section},
    reader::Reader,
    value::{boolean, roles},
};
use crate::domain::account::{Roles, Username};

/// Settings of self-service.
#[derive(Debug)]
pub(crate) struct SelfServiceSettings {
    /// Whether users may register.
    pub(crate) register: bool,
    /// The roles of users who register.
    pub(crate) register_roles: Roles,
    /// Names that nobody can register.
    pub(crate) reserved: Vec<String>,
    /// Whether users may change their password.
    pub(crate) password: bool,
}

pub(super) static KEYS: Section = &[&REGISTER, &REGISTER_ROLES, &RESERVED, &PASSWORD];

static REGISTER: Key<bool> = Key::new(
    "self_service.register",
    "false",
    boolean,
    "Whether `POST /register` adds users.",
);

static REGISTER_ROLES: Optional<Roles> = Key::list(
    "self_service.register_roles",
    "none",
    roles,
    "Roles of users who register.",
)
.optional();

static RESERVED: Key<Vec<String>> = Key::list(
    "self_service.reserved",
    "abuse, admin, administrator, anonymous, daemon, doorward, guest, help, hostmaster, info, mail, moderator, nobody, noc, operator, postmaster, root, security, staff, superuser, support, sysadmin, system, webmaster, www",
    |names| match names.iter().find(|name| Username::parse(name).is_none()) {
        Some(impossible) => Err(vec![ValueFault::Username(impossible.clone())]),
        None => Ok(names.to_vec()),
    },
    "Names that nobody can register, in any case and in any spelling that looks the same; `[]` for none.",
)
.reloads();

static PASSWORD: Key<bool> = Key::new(
    "self_service.password",
    "false",
    boolean,
    "Whether `POST /password` changes the password of a user who shows a token and the current password.",
);

impl SelfServiceSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            register: reader.get(&REGISTER),
            register_roles: reader.find(&REGISTER_ROLES).unwrap_or_default(),
            reserved: reader.get(&RESERVED),
            password: reader.get(&PASSWORD),
        }
    }
}
