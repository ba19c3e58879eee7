//! Settings -> the statements that ask a user table, Doorward's own or one that was there before.

use crate::{database::Engine, domain::account::Roles};

/// A user table that was there before, as the settings describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// What is asked for a name.
    pub source: Source,
    /// The roles of one id: a `SELECT` with one `?` and one column.
    pub roles_query: Option<String>,
    /// The ids of everybody whose tokens are refused at this time: a `SELECT` with one column.
    pub inactive_query: Option<String>,
    /// How a password hash is replaced.
    pub update_password: Statement,
    /// How a user is added.
    pub insert: Statement,
    /// Roles that everybody in the table has.
    pub grant: Roles,
}

/// What is asked for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Columns of a table.
    Table(Columns),
    /// A `SELECT` with one `?`, whose columns are named `id`, `username`, `password`, `roles`, `admin`, `active`.
    Query(String),
}

impl Default for Source {
    fn default() -> Self {
        Self::Query(String::new())
    }
}

/// A table and its columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// The table, with its database before a dot where that is another one.
    pub table: Name,
    /// The immutable id; the user name where there is none.
    pub id: Option<Name>,
    /// The user name.
    pub username: Name,
    /// The password hash.
    pub password: Name,
    /// Roles: a comma-separated or JSON list.
    pub roles: Option<Name>,
    /// Whether the user is an administrator.
    pub admin: Option<Name>,
    /// Whether the user may log in.
    pub active: Option<Name>,
}

/// How a statement that writes is come by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Statement {
    /// There is none: the table is only read.
    #[default]
    None,
    /// It is made from the names of the columns.
    Auto,
    /// It was given.
    Own(String),
}

/// The name of a table or column, quoted wherever it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Takes a name of 1 to 64 characters without backticks and control characters; a dot parts database and table.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let possible = name.split('.').count() <= 2
            && name.split('.').all(|part| {
                (1..=64).contains(&part.chars().count())
                    && !part.contains(|c: char| c == '`' || c.is_control())
            });
        possible.then(|| Self(name.into()))
    }

    fn quoted(&self) -> String {
        let parts: Vec<_> = self.0.split('.').map(|part| format!("`{part}`")).collect();
        parts.join(".")
    }
}

/// The statements, each with the values it takes in their order.
#[derive(Clone, Debug)]
pub(super) struct Statements {
    /// User name. Gives the columns of [`Source::Query`].
    pub(super) find: String,
    /// Id. Gives one role a row.
    pub(super) roles: Option<String>,
    /// Gives one id a row.
    pub(super) inactive: Option<String>,
    pub(super) update_password: Option<Update>,
    /// User name, hash.
    pub(super) insert: Option<String>,
    /// Gives one hash a row.
    pub(super) hashes: Option<String>,
    /// Gives the columns of [`Source::Query`], all users by name.
    pub(super) list: Option<String>,
}

/// A statement that replaces a hash.
#[derive(Clone, Debug)]
pub(super) enum Update {
    /// New hash, user name, user name, old hash: of rows that an index finds by the name, the one that it is byte for byte.
    Exact(String),
    /// New hash, user name, old hash.
    Own(String),
}

impl Update {
    pub(super) fn sql(&self) -> &String {
        match self {
            Self::Exact(sql) | Self::Own(sql) => sql,
        }
    }
}

/// A comparison byte for byte: where a collation folds names or passwords, two rows could be taken for one.
fn exactly(engine: Engine, name: &str) -> String {
    match engine {
        Engine::MySql => format!(
            "CAST(CONVERT({name} USING utf8mb4) AS BINARY) = CAST(CONVERT(? USING utf8mb4) AS BINARY)"
        ),
        Engine::Sqlite => format!("{name} COLLATE BINARY = ?"),
    }
}

fn update(engine: Engine, table: &str, username: &str, password: &str) -> Update {
    Update::Exact(format!(
        "UPDATE {table} SET {password} = ? WHERE {username} = ? AND {} AND {}",
        exactly(engine, username),
        exactly(engine, password)
    ))
}

impl Statements {
    pub(super) fn of(mapping: &Mapping, engine: Engine) -> Self {
        fn own<T>(statement: &Statement, auto: Option<T>, own: impl Fn(String) -> T) -> Option<T> {
            match statement {
                Statement::None => None,
                Statement::Auto => auto,
                Statement::Own(sql) => Some(own(sql.clone())),
            }
        }
        let (find, update, insert, hashes, list) = match &mapping.source {
            Source::Query(query) => (query.clone(), None, None, None, None),
            Source::Table(columns) => {
                let (table, username) = (columns.table.quoted(), columns.username.quoted());
                let password = columns.password.quoted();
                let select = columns.select();
                (
                    format!("{select} WHERE {username} = ? LIMIT 17"),
                    Some(self::update(engine, &table, &username, &password)),
                    Some(format!(
                        "INSERT INTO {table} ({username}, {password}) VALUES (?, ?)"
                    )),
                    Some(format!("SELECT {password} FROM {table}")),
                    Some(format!("{select} ORDER BY {username}")),
                )
            }
        };
        Self {
            find,
            roles: mapping.roles_query.clone(),
            inactive: mapping.inactive_query.clone(),
            update_password: own(&mapping.update_password, update, Update::Own),
            insert: own(&mapping.insert, insert, |sql| sql),
            hashes,
            list,
        }
    }

    /// Those of the table that `doorward migrate` makes.
    pub(super) fn own(engine: Engine) -> Self {
        Self {
            find: format!("{OWN} WHERE username = ? LIMIT 17"),
            roles: None,
            inactive: None,
            update_password: Some(update(engine, "users", "username", "password_hash")),
            insert: None,
            hashes: Some("SELECT password_hash FROM users".into()),
            list: Some(
                "SELECT id, username, roles, NOT disabled AS active, created_at FROM users ORDER BY username".into(),
            ),
        }
    }
}

const OWN: &str =
    "SELECT id, username, password_hash AS password, roles, NOT disabled AS active FROM users";

impl Columns {
    fn select(&self) -> String {
        let columns = [
            (self.id.as_ref(), "id"),
            (Some(&self.username), "username"),
            (Some(&self.password), "password"),
            (self.roles.as_ref(), "roles"),
            (self.admin.as_ref(), "admin"),
            (self.active.as_ref(), "active"),
        ];
        let columns: Vec<_> = columns
            .iter()
            .filter_map(|(name, meaning)| Some(format!("{} AS {meaning}", (*name)?.quoted())))
            .collect();
        format!("SELECT {} FROM {}", columns.join(", "), self.table.quoted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn three_names_are_a_mapping() {
        let mapping = Mapping {
            source: Source::Table(Columns {
                table: name("auth.user"),
                username: name("email"),
                password: name("password"),
                ..Columns::default()
            }),
            ..Mapping::default()
        };
        let statements = Statements::of(&mapping, Engine::MySql);
        assert_eq!(
            statements.find,
            "SELECT `email` AS username, `password` AS password FROM `auth`.`user` WHERE `email` = ? LIMIT 17"
        );
        assert!(
            statements.update_password.is_none(),
            "only where it is asked for"
        );
    }

    #[test]
    fn names_cannot_break_out_of_their_quotes() {
        for good in ["user", "pass word", "auth.user", "\u{e9}"] {
            assert!(Name::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            ".",
            "a.",
            "a.b.c",
            "a`b",
            "a\nb",
            "a\0",
            &"a".repeat(65),
        ] {
            assert!(Name::parse(bad).is_none(), "{bad}");
        }
    }
}
