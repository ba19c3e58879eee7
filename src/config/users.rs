//! `[users]`: how an existing user table is read.

use super::{
    fault::ValueFault,
    key::{AnyKey, Key, Optional, Section},
    reader::Reader,
    value::{boolean, roles},
};
use crate::{
    domain::account::Roles,
    tables::users::{Columns, Mapping, Name, Source, Statement},
};

/// Settings of the user table.
#[derive(Debug)]
pub(crate) struct UsersSettings {
    /// How an existing table is read; `None` for Doorward's own.
    pub(crate) mapping: Option<Mapping>,
    /// Whether the table may contain passwords in plain text.
    pub(crate) plaintext: bool,
}

pub(super) static KEYS: Section = &[
    &TABLE,
    &USERNAME,
    &PASSWORD,
    &ID,
    &ROLES,
    &ADMIN,
    &ACTIVE,
    &QUERY,
    &ROLES_QUERY,
    &INACTIVE_QUERY,
    &HASHES_QUERY,
    &UPDATE_PASSWORD,
    &INSERT,
    &GRANT,
    &PLAINTEXT,
];

static TABLE: Optional<Name> = Key::new(
    "users.table",
    "Doorward's own",
    column,
    "An existing user table, `TABLE` or `DATABASE.TABLE`. Doorward only reads it, unless `users.update_password` or `users.insert` is set.",
)
.optional();

static USERNAME: Optional<Name> = Key::new(
    "users.username",
    "none",
    column,
    "Column of `users.table`: the name that people type.",
)
.optional();

static PASSWORD: Optional<Name> = Key::new(
    "users.password",
    "none",
    column,
    "Column of `users.table`: the password hash, in any format of docs/users.md.",
)
.optional();

static ID: Optional<Name> = Key::new(
    "users.id",
    "the user name",
    column,
    "Column of `users.table`: an id that never changes. It is the `sub` of tokens.",
)
.optional();

static ROLES: Optional<Name> = Key::new(
    "users.roles",
    "none",
    column,
    "Column of `users.table`: roles, as a comma-separated list or a JSON list.",
)
.optional();

static ADMIN: Optional<Name> = Key::new(
    "users.admin",
    "none",
    column,
    "Column of `users.table`: a flag that gives the user the role `admin`.",
)
.optional();

static ACTIVE: Optional<Name> = Key::new(
    "users.active",
    "none",
    column,
    "Column of `users.table`: a flag. A user without it cannot log in.",
)
.optional();

static QUERY: Optional<String> = Key::new(
    "users.query",
    "none",
    |text| statement(text, "SELECT", 1),
    "Instead of `users.table`: a `SELECT` with one `?` for the name. Its columns are named `username` and `password`, and optionally `id`, `roles`, `admin` and `active`.",
)
.optional();

static ROLES_QUERY: Optional<String> = Key::new(
    "users.roles_query",
    "none",
    |text| statement(text, "SELECT", 1),
    "A `SELECT` with one `?` for the id, that returns one role per row.",
)
.optional();

static INACTIVE_QUERY: Optional<String> = Key::new(
    "users.inactive_query",
    "none",
    |text| statement(text, "SELECT", 0),
    "A `SELECT` that returns the ids of users whose tokens Doorward refuses now. Doorward runs it every `revocation.poll`.",
)
.optional();

static HASHES_QUERY: Optional<String> = Key::new(
    "users.hashes_query",
    "none",
    |text| statement(text, "SELECT", 0),
    "With `users.query`: a `SELECT` that returns one stored hash per row. Doorward samples them at the start, so that the first refusal takes as long as the slowest scheme. `doorward users hashes` reads them too.",
)
.optional();

static UPDATE_PASSWORD: Key<Statement> = Key::new(
    "users.update_password",
    "none",
    |text| change(text, "UPDATE", 3),
    "How Doorward replaces a hash: `none` (never), `auto` (with a statement made from the columns), or an `UPDATE` with three `?`: new hash, user name, old hash.",
);

static INSERT: Key<Statement> = Key::new(
    "users.insert",
    "none",
    |text| change(text, "INSERT", 2),
    "How Doorward adds a user: `none` (never), `auto` (with a statement made from the columns), or an `INSERT` with two `?`: user name, hash.",
);

static GRANT: Optional<Roles> = Key::list(
    "users.grant",
    "none",
    roles,
    "Roles that every user in `users.table` or `users.query` has.",
)
.optional();

static PLAINTEXT: Key<bool> = Key::new(
    "users.plaintext",
    "false",
    boolean,
    "Whether the table may contain passwords in plain text. For a migration only; Doorward warns about it at every start.",
);

impl UsersSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            mapping: mapping(reader),
            plaintext: reader.get(&PLAINTEXT),
        }
    }
}

fn mapping(reader: &mut Reader<'_>) -> Option<Mapping> {
    // A wrong value is still a set value: the rest is checked all the same, so that every fault is reported at once.
    let columns = Columns {
        table: reader.find(&TABLE).unwrap_or_default(),
        id: reader.find(&ID),
        username: reader.find(&USERNAME).unwrap_or_default(),
        password: reader.find(&PASSWORD).unwrap_or_default(),
        roles: reader.find(&ROLES),
        admin: reader.find(&ADMIN),
        active: reader.find(&ACTIVE),
    };
    let query = reader.find(&QUERY).unwrap_or_default();
    let (has_table, has_query) = (reader.is_set(&TABLE), reader.is_set(&QUERY));
    let mapping = Mapping {
        source: match has_query {
            true => Source::Query(query),
            false => Source::Table(columns),
        },
        roles_query: reader.find(&ROLES_QUERY),
        inactive_query: reader.find(&INACTIVE_QUERY),
        hashes_query: reader.find(&HASHES_QUERY),
        update_password: reader.get(&UPDATE_PASSWORD),
        insert: reader.get(&INSERT),
        grant: reader.find(&GRANT).unwrap_or_default(),
    };
    match (has_table, has_query) {
        (true, true) => {
            reader.fault_of(&QUERY, "users.table is set too; keep one of them");
            fits_query(reader, &mapping);
        }
        (true, false) => fits_table(reader),
        (false, true) => {
            for key in COLUMNS {
                if reader.is_set(*key) {
                    reader.fault_of(
                        *key,
                        "names a column of users.table; users.query names its own columns with AS",
                    );
                }
            }
            fits_query(reader, &mapping);
        }
        (false, false) => {
            for key in COLUMNS.iter().chain(OTHERS) {
                if reader.is_set(*key) {
                    reader.fault_of(*key, "needs users.table or users.query beside it");
                }
            }
            return None;
        }
    }
    Some(mapping)
}

const COLUMNS: Section = &[&ID, &USERNAME, &PASSWORD, &ROLES, &ADMIN, &ACTIVE];

const OTHERS: Section = &[
    &ROLES_QUERY,
    &INACTIVE_QUERY,
    &HASHES_QUERY,
    &UPDATE_PASSWORD,
    &INSERT,
    &GRANT,
];

fn fits_table(reader: &mut Reader<'_>) {
    let needed: [&dyn AnyKey; 2] = [&USERNAME, &PASSWORD];
    for key in needed {
        if !reader.is_set(key) {
            reader.fault_of(&TABLE, format_args!("{} is missing beside it", key.name()));
        }
    }
    if reader.is_set(&HASHES_QUERY) {
        reader.fault_of(
            &HASHES_QUERY,
            "is for users.query; of users.table, the column is known",
        );
    }
}

fn fits_query(reader: &mut Reader<'_>, mapping: &Mapping) {
    for (key, value, verb) in [
        (&UPDATE_PASSWORD, &mapping.update_password, "UPDATE"),
        (&INSERT, &mapping.insert, "INSERT"),
    ] {
        if *value == Statement::Auto {
            reader.fault_of(
                key,
                format_args!("cannot be made from users.query; write the {verb}"),
            );
        }
    }
}

fn column(text: &str) -> Result<Name, ValueFault> {
    Name::parse(text).ok_or(ValueFault::Column)
}

fn change(text: &str, verb: &'static str, placeholders: usize) -> Result<Statement, ValueFault> {
    match text {
        "none" => Ok(Statement::None),
        "auto" => Ok(Statement::Auto),
        _ => statement(text, verb, placeholders).map(Statement::Own),
    }
}

/// Checks only the start and the placeholders; the database checks the rest.
fn statement(text: &str, verb: &'static str, placeholders: usize) -> Result<String, ValueFault> {
    let head = text.trim_start().get(..verb.len()).unwrap_or_default();
    if !head.eq_ignore_ascii_case(verb) {
        return Err(ValueFault::Statement(verb));
    }
    let found = text.matches('?').count();
    if found != placeholders {
        return Err(ValueFault::Placeholders {
            wanted: placeholders,
            found,
        });
    }
    Ok(text.trim().trim_end_matches(';').to_owned())
}
