//! Types of the parameters in the statements of the settings, as PostgreSQL infers them.

use std::sync::PoisonError;

use uuid::Uuid;

use super::{Users, UsersFault};
use crate::{
    domain::{account::Username, hex},
    tables::database::{Engine, Inferred},
};

/// The type that PostgreSQL compares an id with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdType {
    Text,
    Int2,
    Int4,
    Int8,
    Uuid,
    Bytes,
}

impl IdType {
    /// Takes the name of the type.
    pub(super) fn of_parameter(name: &str) -> Result<Self, UsersFault> {
        match name {
            "INT2" => Ok(Self::Int2),
            "INT4" => Ok(Self::Int4),
            "INT8" => Ok(Self::Int8),
            "UUID" => Ok(Self::Uuid),
            "BYTEA" => Ok(Self::Bytes),
            _ => {
                must_be_text(name, "users.roles_query compares the id")?;
                Ok(Self::Text)
            }
        }
    }

    /// The value of an id, which has the form of [`Cell::id`](super::cell::Cell::id).
    pub(super) fn of(self, id: &str) -> Result<Inferred<'_>, UsersFault> {
        let bytes = match self {
            Self::Text => return Ok(Inferred::text(id)),
            Self::Int2 => id.parse::<i16>().ok().map(|id| id.to_be_bytes().into()),
            Self::Int4 => id.parse::<i32>().ok().map(|id| id.to_be_bytes().into()),
            Self::Int8 => id.parse::<i64>().ok().map(|id| id.to_be_bytes().into()),
            Self::Uuid => Uuid::parse_str(id).ok().map(|id| id.into_bytes().into()),
            Self::Bytes => hex::decode(id),
        };
        let fault = UsersFault::Row("id: it has another type than in users.roles_query");
        bytes.map(Inferred::Binary).ok_or(fault)
    }

    /// A value that is looked up like an id, and that most probably nobody has.
    pub(super) fn of_nobody(self, username: &Username) -> Inferred<'_> {
        let bytes: &[u8] = match self {
            Self::Text => return Inferred::text(username.as_str()),
            Self::Int2 => &i16::MIN.to_be_bytes(),
            Self::Int4 => &i32::MIN.to_be_bytes(),
            Self::Int8 => &i64::MIN.to_be_bytes(),
            Self::Uuid => &[0; 16],
            Self::Bytes => username.as_str().as_bytes(),
        };
        Inferred::Binary(bytes.into())
    }
}

impl Users {
    /// The type of the id in `users.roles_query`.
    pub(super) async fn id_type(&self) -> Result<IdType, UsersFault> {
        let Some(sql) = (self.statements.roles.as_ref())
            .filter(|_| self.connections.engine() == Engine::Postgres)
        else {
            return Ok(IdType::Text);
        };
        let known = *self.id_type.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known {
            return Ok(known);
        }
        let parameters = self.describe(sql).await?.parameters;
        let found = IdType::of_parameter(parameters.first().map_or("", String::as_str))?;
        *self.id_type.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Ok(found)
    }

    /// Asks for the type again: somebody has changed the column.
    pub(super) fn forget_id_type(&self) {
        *self.id_type.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Types of PostgreSQL that are no text.
const NO_TEXT: &[&str] = &[
    "BOOL",
    "INT2",
    "INT4",
    "INT8",
    "OID",
    "NUMERIC",
    "FLOAT4",
    "FLOAT8",
    "MONEY",
    "UUID",
    "DATE",
    "TIME",
    "TIMETZ",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "INTERVAL",
    "INET",
    "CIDR",
    "BIT",
    "VARBIT",
    "JSONB",
];

/// Refuses a type that is no text. `comparison` says who compares what, for the message.
pub(super) fn must_be_text(kind: &str, comparison: &str) -> Result<(), UsersFault> {
    match NO_TEXT.contains(&kind) {
        false => Ok(()),
        true => Err(UsersFault::Mapping(format!(
            "{comparison} with a value of type {kind}; let it compare text: CAST(... AS TEXT)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_sent_in_the_form_of_its_type() {
        let bytes = |kind: IdType, id: &str| match kind.of(id) {
            Ok(Inferred::Binary(bytes)) => Some(bytes),
            Ok(Inferred::Text(text)) => Some(text.as_bytes().to_vec()),
            Err(_) => None,
        };
        assert_eq!(bytes(IdType::Text, "a"), Some(b"a".to_vec()));
        assert_eq!(bytes(IdType::Int2, "-2"), Some(vec![255, 254]));
        assert_eq!(bytes(IdType::Int4, "7"), Some(vec![0, 0, 0, 7]));
        assert_eq!(bytes(IdType::Int8, "7"), Some(vec![0, 0, 0, 0, 0, 0, 0, 7]));
        assert_eq!(bytes(IdType::Int4, "2147483648"), None);
        assert_eq!(bytes(IdType::Int4, "seven"), None);
        assert_eq!(bytes(IdType::Bytes, "00ff"), Some(vec![0, 255]));
        let uuid = bytes(IdType::Uuid, "0190b8a6-2d8c-7c55-8d6f-3c1f5a1b2c3d").unwrap();
        assert_eq!((uuid.len(), uuid[0]), (16, 1));
        for name in ["NUMERIC", "TIMESTAMP"] {
            assert!(IdType::of_parameter(name).is_err(), "{name}");
        }
        for name in ["TEXT", "VARCHAR", "CHAR", "citext"] {
            assert_eq!(
                IdType::of_parameter(name).ok(),
                Some(IdType::Text),
                "{name}"
            );
        }
    }
}
