//! Where the tables are, and how a user table that was there before is read.

use std::path::{Path, PathBuf};

use super::{boolean, name, one_of, port, reader::Reader, roles};
use crate::{
    database::{Database, MySql, Tls},
    users::{Columns, Mapping, Name, Source, Statement},
};

/// Where the users are, and where Doorward's own tables are, if that is another database.
pub(super) fn databases(reader: &mut Reader, data_dir: &Path) -> (Database, Option<Database>) {
    let tls = tls(reader);
    (users(reader, data_dir, tls.clone()), state(reader, tls))
}

fn users(reader: &mut Reader, data_dir: &Path, (tls, tls_ca): (Tls, Option<PathBuf>)) -> Database {
    let embedded = Database::Sqlite(data_dir.join("doorward.db"));
    let parts = ["host", "port", "user", "password", "name"].map(|part| format!("database.{part}"));
    let given: Vec<_> = parts
        .iter()
        .filter_map(|part| reader.get(part).map(|value| value.place.clone()))
        .collect();
    if reader.get("database.url").is_some() {
        for place in given {
            reader.fault(
                place,
                "database.url (DATABASE_URL) is set too; keep one of them",
            );
        }
        return reader.parse("database.url", embedded, |url| {
            Database::from_url(url, tls, tls_ca).map_err(|fault| fault.to_string())
        });
    }
    if given.is_empty() {
        return embedded;
    }
    for (part, names) in [
        ("database.host", "MYSQL_HOST"),
        ("database.user", "MYSQL_USER"),
        ("database.name", "MYSQL_DB"),
    ] {
        if reader.get(part).is_none() {
            reader.fault(
                given.join(", "),
                format!("{part} ({names}) is missing beside it"),
            );
        }
    }
    Database::MySql(MySql {
        host: reader.parse("database.host", String::new(), name),
        port: reader.parse("database.port", 3306, port),
        user: reader.parse("database.user", String::new(), name),
        password: reader
            .parse("database.password", String::new(), |text| {
                Ok(text.to_owned())
            })
            .into(),
        name: reader.parse("database.name", String::new(), name),
        tls,
        tls_ca,
    })
}

fn tls(reader: &mut Reader) -> (Tls, Option<PathBuf>) {
    let tls = reader.parse("database.tls", Tls::Preferred, |text| {
        one_of(
            text,
            &[
                ("disabled", Tls::Disabled),
                ("preferred", Tls::Preferred),
                ("required", Tls::Required),
                ("verify-ca", Tls::VerifyCa),
                ("verify-identity", Tls::VerifyIdentity),
            ],
        )
    });
    let tls_ca = reader.parse("database.tls_ca", None, |text| {
        Ok(Some(PathBuf::from(text)))
    });
    (tls, tls_ca)
}

fn state(reader: &mut Reader, (tls, tls_ca): (Tls, Option<PathBuf>)) -> Option<Database> {
    reader.parse("state.url", None, |url| {
        Database::from_url(url, tls, tls_ca)
            .map(Some)
            .map_err(|fault| fault.to_string())
    })
}

/// How a user table that was there before is read, where the settings say anything of one.
pub(super) fn mapping(reader: &mut Reader) -> Option<Mapping> {
    let column = |reader: &mut Reader, key: &str| {
        reader.parse(key, None, |text| {
            Name::parse(text)
                .map(Some)
                .ok_or_else(|| "must be a name of 1 to 64 characters without backticks".into())
        })
    };
    let columns: Vec<_> = ["id", "username", "password", "roles", "admin", "active"]
        .iter()
        .map(|name| format!("users.{name}"))
        .filter(|key| reader.get(key).is_some())
        .collect();
    let table = column(reader, "users.table");
    let query = reader.parse("users.query", None, |text| select(text, 1).map(Some));
    let place = |reader: &Reader, key: &str| {
        reader
            .get(key)
            .map_or_else(|| key.to_owned(), |value| value.place.clone())
    };
    let is_set = |reader: &Reader, key: &str| reader.get(key).is_some();
    // What is set wrongly is set all the same: the rest is looked at, so that every fault is named at once.
    let source = match (is_set(reader, "users.table"), is_set(reader, "users.query")) {
        (true, true) => {
            let place = place(reader, "users.query");
            reader.fault(place, "users.table is set too; keep one of them");
            Source::Query(query.unwrap_or_default())
        }
        (true, false) => Source::Table(Columns {
            table: table.unwrap_or_default(),
            id: column(reader, "users.id"),
            username: required(reader, "users.username", column),
            password: required(reader, "users.password", column),
            roles: column(reader, "users.roles"),
            admin: column(reader, "users.admin"),
            active: column(reader, "users.active"),
        }),
        (false, true) => {
            for key in &columns {
                let place = place(reader, key);
                reader.fault(
                    place,
                    "names a column of users.table; users.query names its own columns with AS",
                );
            }
            Source::Query(query.unwrap_or_default())
        }
        (false, false) => {
            let others = [
                "users.roles_query",
                "users.inactive_query",
                "users.hashes_query",
                "users.update_password",
                "users.insert",
                "users.grant",
            ];
            let others = others.iter().map(|key| (*key).to_owned());
            for key in columns.into_iter().chain(others) {
                if is_set(reader, &key) {
                    let place = place(reader, &key);
                    reader.fault(place, "needs users.table or users.query beside it");
                }
            }
            return None;
        }
    };
    let is_query = matches!(source, Source::Query(_));
    let hashes_query = reader.parse("users.hashes_query", None, |text| match is_query {
        true => select(text, 0).map(Some),
        false => Err("is for users.query; of users.table, the column is known".into()),
    });
    Some(Mapping {
        source,
        roles_query: reader.parse("users.roles_query", None, |text| select(text, 1).map(Some)),
        inactive_query: reader.parse("users.inactive_query", None, |text| {
            select(text, 0).map(Some)
        }),
        hashes_query,
        update_password: reader.parse("users.update_password", Statement::None, |text| {
            statement(text, "UPDATE", 3, is_query)
        }),
        insert: reader.parse("users.insert", Statement::None, |text| {
            statement(text, "INSERT", 2, is_query)
        }),
        grant: roles(reader, "users.grant"),
    })
}

/// Whether passwords may stand in the table as they are.
pub(super) fn plaintext(reader: &mut Reader) -> bool {
    reader.parse("users.plaintext", false, boolean)
}

fn required(
    reader: &mut Reader,
    key: &str,
    column: impl Fn(&mut Reader, &str) -> Option<Name>,
) -> Name {
    if reader.get(key).is_none() {
        let place = reader
            .get("users.table")
            .map_or_else(String::new, |value| value.place.clone());
        reader.fault(place, format!("{key} is missing beside it"));
    }
    column(reader, key).unwrap_or_default()
}

fn select(text: &str, values: usize) -> Result<String, String> {
    begins(text, "SELECT", values)
}

fn statement(text: &str, verb: &str, values: usize, is_query: bool) -> Result<Statement, String> {
    match text {
        "none" => Ok(Statement::None),
        "auto" if is_query => Err(format!("cannot be made from users.query; write the {verb}")),
        "auto" => Ok(Statement::Auto),
        _ => begins(text, verb, values).map(Statement::Own),
    }
}

/// What the database makes of the rest is found out when it is asked.
fn begins(text: &str, verb: &str, values: usize) -> Result<String, String> {
    let head = text.trim_start().get(..verb.len()).unwrap_or_default();
    let found = text.matches('?').count();
    if !head.eq_ignore_ascii_case(verb) {
        return Err(format!("must be one {verb} statement"));
    }
    if found != values {
        let s = if values == 1 { "" } else { "s" };
        return Err(format!(
            "must have {values} question mark{s}, and has {found}"
        ));
    }
    Ok(text.trim().trim_end_matches(';').to_owned())
}
