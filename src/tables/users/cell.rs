//! One value of a row in an existing table, whatever its column type.

use sqlx::{
    Column as _, MySql, Row, Type, TypeInfo as _, ValueRef as _, mysql::MySqlRow, sqlite::SqliteRow,
};

use super::UsersFault;
use crate::domain::{
    account::{Role, Roles},
    hex,
};

/// A value, reduced to the types that matter here.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Text(String),
    Number(i128),
    /// The value of a column without a character set.
    Bytes(Vec<u8>),
}

impl Cell {
    /// The value as text; bytes that are not UTF-8 as hexadecimal digits.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text.clone()),
            Self::Number(number) => Some(number.to_string()),
            Self::Bytes(bytes) => match str::from_utf8(bytes) {
                Ok(text) => Some(text.to_owned()),
                Err(_) => Some(hex::encode(bytes)),
            },
        }
    }

    /// The value as an id. Bytes are always hexadecimal digits, even if they are valid UTF-8: all ids of a column
    /// must have the same form.
    pub(super) fn id(&self) -> Option<String> {
        match self {
            Self::Bytes(bytes) => Some(hex::encode(bytes)),
            Self::Null | Self::Text(_) | Self::Number(_) => self.text(),
        }
    }

    /// The value as a flag, if it is one. `NULL` is false.
    pub(super) fn truth(&self) -> Option<bool> {
        match self {
            Self::Null => Some(false),
            Self::Number(0) => Some(false),
            Self::Number(1) => Some(true),
            Self::Number(_) => None,
            // `\u{1}` and `\0` are values of BINARY(1).
            Self::Bytes(_) | Self::Text(_) => match &*self.text()?.trim().to_ascii_lowercase() {
                "1" | "\u{1}" | "t" | "true" | "y" | "yes" | "on" | "active" | "enabled" => {
                    Some(true)
                }
                "0" | "\0" | "" | "f" | "false" | "n" | "no" | "off" | "inactive" | "disabled" => {
                    Some(false)
                }
                _ => None,
            },
        }
    }

    /// Parses a comma-separated list or a JSON list of strings.
    pub(super) fn roles(&self) -> Result<Vec<Role>, UsersFault> {
        let fault = UsersFault::Row("list of roles");
        let list = self.text().unwrap_or_default();
        let roles = match list.trim_start().starts_with('[') {
            true => {
                let Ok(names) = serde_json::from_str::<Vec<String>>(&list) else {
                    return Err(fault);
                };
                Roles::parse(names.iter().map(String::as_str))
            }
            false => Roles::parse_list(&list),
        };
        roles
            .map(|roles| roles.iter().cloned().collect())
            .map_err(|_| fault)
    }

    pub(super) fn of_text(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|bytes| Self::Bytes(bytes.into_bytes()), Self::Text)
    }
}

/// A row of values, whatever the engine.
pub(super) trait Cells: Row {
    fn cell(&self, index: usize) -> Result<Cell, UsersFault>;

    /// The row as pairs of column name, in lower case, and value.
    fn cells(&self) -> Result<Vec<(String, Cell)>, UsersFault> {
        (self.columns().iter().enumerate())
            .map(|(index, column)| Ok((column.name().to_ascii_lowercase(), self.cell(index)?)))
            .collect()
    }
}

impl Cells for MySqlRow {
    fn cell(&self, index: usize) -> Result<Cell, UsersFault> {
        let raw = self.try_get_raw(index)?;
        let kind = raw.type_info().name().to_owned();
        // Decide by the character set: the type name is BINARY for every collation that ends in _bin.
        let is_text = <str as Type<MySql>>::compatible(&raw.type_info());
        if raw.is_null() {
            return Ok(Cell::Null);
        }
        Ok(match &*kind {
            "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => {
                Cell::Number(self.try_get_unchecked::<i64, _>(index)?.into())
            }
            "TINYINT UNSIGNED" | "SMALLINT UNSIGNED" | "MEDIUMINT UNSIGNED" | "INT UNSIGNED"
            | "BIGINT UNSIGNED" | "YEAR" => {
                Cell::Number(self.try_get_unchecked::<u64, _>(index)?.into())
            }
            "BIT" => Cell::Number(self.try_get::<u64, _>(index)?.into()),
            "CHAR" | "VARCHAR" | "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" | "BINARY"
            | "VARBINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" | "ENUM" | "SET"
            | "JSON" | "DECIMAL" => {
                let bytes = self.try_get_unchecked::<Vec<u8>, _>(index)?;
                match is_text || matches!(&*kind, "ENUM" | "SET" | "JSON" | "DECIMAL") {
                    true => Cell::of_text(bytes),
                    false => Cell::Bytes(bytes),
                }
            }
            "NULL" => Cell::Null,
            // A time is never an id, a name or a flag.
            _ => Cell::Bytes(Vec::new()),
        })
    }
}

impl Cells for SqliteRow {
    fn cell(&self, index: usize) -> Result<Cell, UsersFault> {
        let raw = self.try_get_raw(index)?;
        if raw.is_null() {
            return Ok(Cell::Null);
        }
        let kind = raw.type_info().name().to_owned();
        Ok(match &*kind {
            "INTEGER" | "BOOLEAN" => Cell::Number(self.try_get_unchecked::<i64, _>(index)?.into()),
            "TEXT" => Cell::of_text(self.try_get_unchecked(index)?),
            "BLOB" => Cell::Bytes(self.try_get_unchecked(index)?),
            _ => Cell::Bytes(Vec::new()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_common_spellings_of_true_and_false_are_flags() {
        for yes in ["1", "true", "Y", "yes", "ON", "active"] {
            assert_eq!(Cell::Text(yes.into()).truth(), Some(true), "{yes}");
        }
        for no in ["0", "", "FALSE", "n", "disabled"] {
            assert_eq!(Cell::Text(no.into()).truth(), Some(false), "{no}");
        }
        assert_eq!(Cell::Text("perhaps".into()).truth(), None);
        assert_eq!(Cell::Number(7).truth(), None);
        assert_eq!(Cell::Bytes(vec![1]).truth(), Some(true));
        assert_eq!(Cell::Bytes(b"N".into()).truth(), Some(false));
        assert_eq!(Cell::Bytes(vec![7]).truth(), None);
        assert_eq!(Cell::Null.truth(), Some(false));
    }

    #[test]
    fn binary_ids_are_always_written_in_hex() {
        let id = |bytes: &[u8]| Cell::Bytes(bytes.into()).id();
        assert_eq!(id(b"ab"), Some("6162".into()));
        assert_eq!(id(&[0xff, 0]), Some("ff00".into()));
        assert_eq!(Cell::Bytes(b"ab".into()).text(), Some("ab".into()));
        assert_eq!(Cell::Text("ab".into()).id(), Some("ab".into()));
        assert_eq!(Cell::Number(7).id(), Some("7".into()));
    }

    #[test]
    fn roles_are_a_comma_separated_list_or_a_json_array() {
        let roles = |text: &str| {
            Cell::Text(text.into())
                .roles()
                .map(|roles| {
                    roles
                        .iter()
                        .map(|role| role.as_str().to_owned())
                        .collect::<Vec<_>>()
                })
                .map_err(drop)
        };
        assert_eq!(
            roles("editor, admin"),
            Ok(vec!["admin".into(), "editor".into()])
        );
        assert_eq!(
            roles("[\"editor\",\"ROLE_X\"]"),
            Ok(vec!["ROLE_X".into(), "editor".into()])
        );
        assert_eq!(roles(""), Ok(vec![]));
        assert_eq!(roles("[1]"), Err(()));
        assert_eq!(roles("[\"a b\"]"), Err(()));
        assert_eq!(roles("a b"), Err(()));
    }
}
