//! One value of a row of somebody else's table, whatever the type of its column.

use sqlx::{
    Column as _, Row as _, TypeInfo as _, ValueRef as _, mysql::MySqlRow, sqlite::SqliteRow,
};

use super::UsersFault;
use crate::domain::account::{Role, Roles};

/// A value.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Text(String),
    Number(i128),
    /// Not text.
    Bytes(Vec<u8>),
}

impl Cell {
    /// The value as text; bytes that are none as hexadecimal digits.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text.clone()),
            Self::Number(number) => Some(number.to_string()),
            Self::Bytes(bytes) => Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    /// The value as a flag, where it is one. `NULL` is not set.
    pub(super) fn truth(&self) -> Option<bool> {
        match self {
            Self::Null => Some(false),
            Self::Number(0) => Some(false),
            Self::Number(1) => Some(true),
            Self::Number(_) => None,
            // BIT(1) of MySQL.
            Self::Bytes(bytes) => match &**bytes {
                [0] => Some(false),
                [1] => Some(true),
                _ => None,
            },
            Self::Text(text) => match &*text.trim().to_ascii_lowercase() {
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

    /// The roles of a comma-separated list or a JSON list of strings.
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

    fn of_bytes(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|bytes| Self::Bytes(bytes.into_bytes()), Self::Text)
    }
}

/// A row, column by column, with the names in lower case.
pub(super) trait Cells {
    fn cells(&self) -> Result<Vec<(String, Cell)>, UsersFault>;
}

impl Cells for MySqlRow {
    fn cells(&self) -> Result<Vec<(String, Cell)>, UsersFault> {
        let cell = |index: usize| -> Result<Cell, UsersFault> {
            let raw = self.try_get_raw(index)?;
            let kind = raw.type_info().name().to_owned();
            if raw.is_null() {
                return Ok(Cell::Null);
            }
            Ok(match &*kind {
                "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => {
                    Cell::Number(self.try_get_unchecked::<i64, _>(index)?.into())
                }
                "TINYINT UNSIGNED" | "SMALLINT UNSIGNED" | "MEDIUMINT UNSIGNED"
                | "INT UNSIGNED" | "BIGINT UNSIGNED" | "YEAR" => {
                    Cell::Number(self.try_get_unchecked::<u64, _>(index)?.into())
                }
                "BIT" => Cell::Number(self.try_get::<u64, _>(index)?.into()),
                "CHAR" | "VARCHAR" | "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" | "BINARY"
                | "VARBINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" | "ENUM"
                | "SET" | "JSON" | "DECIMAL" => {
                    Cell::of_bytes(self.try_get_unchecked::<Vec<u8>, _>(index)?)
                }
                "NULL" => Cell::Null,
                // A time is never an id, a name or a flag.
                _ => Cell::Bytes(Vec::new()),
            })
        };
        (self.columns().iter().enumerate())
            .map(|(index, column)| Ok((column.name().to_ascii_lowercase(), cell(index)?)))
            .collect()
    }
}

impl Cells for SqliteRow {
    fn cells(&self) -> Result<Vec<(String, Cell)>, UsersFault> {
        let cell = |index: usize| -> Result<Cell, UsersFault> {
            let raw = self.try_get_raw(index)?;
            if raw.is_null() {
                return Ok(Cell::Null);
            }
            let kind = raw.type_info().name().to_owned();
            Ok(match &*kind {
                "INTEGER" | "BOOLEAN" => {
                    Cell::Number(self.try_get_unchecked::<i64, _>(index)?.into())
                }
                "TEXT" | "BLOB" => Cell::of_bytes(self.try_get_unchecked::<Vec<u8>, _>(index)?),
                _ => Cell::Bytes(Vec::new()),
            })
        };
        (self.columns().iter().enumerate())
            .map(|(index, column)| Ok((column.name().to_ascii_lowercase(), cell(index)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_what_people_write_and_nothing_else() {
        for yes in ["1", "true", "Y", "yes", "ON", "active"] {
            assert_eq!(Cell::Text(yes.into()).truth(), Some(true), "{yes}");
        }
        for no in ["0", "", "FALSE", "n", "disabled"] {
            assert_eq!(Cell::Text(no.into()).truth(), Some(false), "{no}");
        }
        assert_eq!(Cell::Text("perhaps".into()).truth(), None);
        assert_eq!(Cell::Number(7).truth(), None);
        assert_eq!(Cell::Bytes(vec![1]).truth(), Some(true));
        assert_eq!(Cell::Null.truth(), Some(false));
    }

    #[test]
    fn roles_come_as_either_list() {
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
