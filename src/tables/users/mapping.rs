//! Turns the settings into SQL statements for the user table, Doorward's own or an existing one.

use crate::{domain::account::Roles, tables::database::Engine};

/// The settings for an existing user table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// How to find a user by name.
    pub(crate) source: Source,
    /// A `SELECT` with one `?` for the id, that returns one role per row.
    pub(crate) roles_query: Option<String>,
    /// A `SELECT` that returns the ids of users whose tokens are refused now.
    pub(crate) inactive_query: Option<String>,
    /// With [`Source::Query`], a `SELECT` with one column that returns stored hashes.
    pub(crate) hashes_query: Option<String>,
    /// How to replace a password hash.
    pub(crate) update_password: Statement,
    /// How to add a user.
    pub(crate) insert: Statement,
    /// Roles of every user in the table.
    pub(crate) grant: Roles,
}

/// How to find a user by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// In the columns of a table.
    Table(Columns),
    /// With a `SELECT` with one `?`, whose columns are named `id`, `username`, `password`, `roles`, `admin`,
    /// `active`.
    Query(String),
}

impl Default for Source {
    fn default() -> Self {
        Self::Query(String::new())
    }
}

/// A table, and the names of its columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    /// The table, as `TABLE` or `DATABASE.TABLE`, for PostgreSQL `SCHEMA.TABLE`.
    pub(crate) table: Name,
    /// The id, which never changes; without it, the user name is the id.
    pub(crate) id: Option<Name>,
    /// The user name.
    pub(crate) username: Name,
    /// The password hash.
    pub(crate) password: Name,
    /// Roles: a comma-separated or JSON list.
    pub(crate) roles: Option<Name>,
    /// Whether the user is an administrator.
    pub(crate) admin: Option<Name>,
    /// Whether the user may log in.
    pub(crate) active: Option<Name>,
}

/// Where a statement that writes comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Statement {
    /// There is no statement: the table is only read.
    #[default]
    None,
    /// Doorward builds it from the column names.
    Auto,
    /// The settings contain it.
    Own(String),
}

/// The name of a table or column; always quoted in SQL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Name(String);

impl Name {
    /// Accepts parts of 1 to 64 characters without backticks, double quotes and control characters; a dot separates
    /// database (for PostgreSQL, schema) and table.
    #[must_use]
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let possible = name.split('.').count() <= 2
            && name.split('.').all(|part| {
                (1..=64).contains(&part.chars().count())
                    && !part.contains(|c: char| matches!(c, '`' | '"') || c.is_control())
            });
        possible.then(|| Self(name.into()))
    }

    fn quoted(&self, engine: Engine) -> String {
        let quote = match engine {
            Engine::MySql | Engine::Sqlite => '`',
            Engine::Postgres => '"',
        };
        let parts = self
            .0
            .split('.')
            .map(|part| format!("{quote}{part}{quote}"));
        parts.collect::<Vec<_>>().join(".")
    }
}

/// All statements. The comments list the values to bind, in order.
#[derive(Clone, Debug)]
pub(super) struct Statements {
    /// User name. Returns the columns of [`Source::Query`].
    pub(super) find: String,
    /// The same for several user names: what stands before the list of question marks. `None` with `users.query`.
    pub(super) find_many: Option<String>,
    /// Id. Returns one role per row.
    pub(super) roles: Option<String>,
    /// Returns one id per row.
    pub(super) inactive: Option<String>,
    pub(super) update_password: Option<Update>,
    /// User name, hash.
    pub(super) insert: Option<String>,
    /// Returns one hash per row.
    pub(super) hashes: Option<String>,
    /// The same, the newest rows first as far as the id tells, and not all of them.
    pub(super) newest_hashes: Option<String>,
    /// Returns the columns of [`Source::Query`] for all users, sorted by name.
    pub(super) list: Option<String>,
}

/// A statement that replaces a hash.
#[derive(Clone, Debug)]
pub(super) enum Update {
    /// New hash, user name, user name, old hash. The first comparison of the name uses the index; the second compares
    /// byte for byte.
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

/// A comparison byte for byte: otherwise a collation could treat two names or two hashes as equal.
fn exactly(engine: Engine, name: &str) -> String {
    match engine {
        Engine::MySql => format!(
            "CAST(CONVERT({name} USING utf8mb4) AS BINARY) = CAST(CONVERT(? USING utf8mb4) AS BINARY)"
        ),
        // Text of type `citext` compares without case in every collation.
        Engine::Postgres => format!("CAST({name} AS TEXT) COLLATE \"C\" = ?"),
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

/// The id or the name should have an index, which makes this fast.
fn newest(table: &str, password: &str, by: &str) -> String {
    format!("SELECT {password} FROM {table} ORDER BY {by} DESC LIMIT 2000")
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
        let (find, find_many, update, insert, hashes, newest_hashes, list) = match &mapping.source {
            Source::Query(query) => (
                query.clone(),
                None,
                None,
                None,
                mapping.hashes_query.clone(),
                None,
                None,
            ),
            Source::Table(columns) => {
                let table = columns.table.quoted(engine);
                let username = columns.username.quoted(engine);
                let password = columns.password.quoted(engine);
                let select = columns.select(engine);
                (
                    format!("{select} WHERE {username} = ? LIMIT 17"),
                    Some(format!("{select} WHERE {username} IN")),
                    Some(self::update(engine, &table, &username, &password)),
                    Some(format!(
                        "INSERT INTO {table} ({username}, {password}) VALUES (?, ?)"
                    )),
                    Some(format!("SELECT {password} FROM {table}")),
                    Some(newest(
                        &table,
                        &password,
                        &(columns.id.as_ref())
                            .unwrap_or(&columns.username)
                            .quoted(engine),
                    )),
                    Some(format!("{select} ORDER BY {username}")),
                )
            }
        };
        Self {
            find,
            find_many,
            roles: mapping.roles_query.clone(),
            inactive: mapping.inactive_query.clone(),
            update_password: own(&mapping.update_password, update, Update::Own),
            insert: own(&mapping.insert, insert, |sql| sql),
            hashes,
            newest_hashes,
            list,
        }
    }

    /// The statements for Doorward's own table.
    pub(super) fn own(engine: Engine) -> Self {
        Self {
            find: format!("{OWN} WHERE username = ? LIMIT 17"),
            find_many: Some(format!("{OWN} WHERE username IN")),
            roles: None,
            inactive: None,
            update_password: Some(update(engine, "users", "username", "password_hash")),
            insert: None,
            hashes: Some("SELECT password_hash FROM users".into()),
            newest_hashes: Some(newest("users", "password_hash", "id")),
            list: Some(
                "SELECT id, username, roles, NOT disabled AS active, created_at FROM users ORDER BY username".into(),
            ),
        }
    }
}

const OWN: &str =
    "SELECT id, username, password_hash AS password, roles, NOT disabled AS active FROM users";

impl Columns {
    fn select(&self, engine: Engine) -> String {
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
            .filter_map(|(name, meaning)| Some(format!("{} AS {meaning}", (*name)?.quoted(engine))))
            .collect();
        format!(
            "SELECT {} FROM {}",
            columns.join(", "),
            self.table.quoted(engine)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_mapping_needs_only_table_username_and_password() {
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
            "passwords are written only if configured"
        );
        let statements = Statements::of(&mapping, Engine::Postgres);
        assert_eq!(
            statements.find,
            "SELECT \"email\" AS username, \"password\" AS password FROM \"auth\".\"user\" WHERE \"email\" = ? LIMIT 17"
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
            "a\"b",
            "a\nb",
            "a\0",
            &"a".repeat(65),
        ] {
            assert!(Name::parse(bad).is_none(), "{bad}");
        }
    }
}
