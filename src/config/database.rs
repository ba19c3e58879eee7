//! `[database]`: where the users are.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    fault::ValueFault,
    key::{AnyKey, Key, Optional, Section},
    reader::Reader,
    value::{duration, file, name, number, one_of},
};
use crate::tables::database::{Database, Server, Tls};

/// Settings of the database of the users.
#[derive(Debug)]
pub struct DatabaseSettings {
    /// Where it is.
    pub(crate) place: Database,
    /// How connections to a server are protected, here and in `state.url`.
    pub(crate) tls: Tls,
    /// The certificate authorities of servers; `None` for the built-in ones.
    pub(crate) tls_ca: Option<PathBuf>,
    /// The most open connections.
    pub connections: u32,
    /// How long a login waits for its row.
    pub(crate) timeout: Duration,
}

pub(super) static KEYS: Section = &[
    &URL,
    &HOST,
    &PORT,
    &USER,
    &PASSWORD,
    &NAME,
    &TLS,
    &TLS_CA,
    &CONNECTIONS,
    &TIMEOUT,
];

static URL: Optional<Database> = Key::new(
    "database.url",
    "SQLite in data_dir",
    |text| Ok(Database::from_url(text)?),
    "`mysql://USER:PASSWORD@HOST:PORT/NAME`, `postgres://USER:PASSWORD@HOST:PORT/NAME` or `sqlite:PATH`; use it instead of host, port, user and name. The password may be in `database.password` instead.",
)
.also(&["DATABASE_URL"])
.optional();

static HOST: Optional<String> =
    Key::new("database.host", "none", name, "Host of MySQL or MariaDB.")
        .also(&["MYSQL_HOST"])
        .optional();

static PORT: Key<u16> =
    Key::new("database.port", "3306", port, "Port of MySQL or MariaDB.").also(&["MYSQL_PORT"]);

static USER: Optional<String> = Key::new("database.user", "none", name, "Database user.")
    .also(&["MYSQL_USER"])
    .optional();

static PASSWORD: Optional<String> = Key::new(
    "database.password",
    "empty",
    |text| Ok(text.to_owned()),
    "Password of the database user.",
)
.also(&["MYSQL_PASSWORD"])
.optional();

static NAME: Optional<String> = Key::new("database.name", "none", name, "Name of the database.")
    .also(&["MYSQL_DB", "MYSQL_DATABASE"])
    .optional();

static TLS: Key<Tls> = Key::new(
    "database.tls",
    "preferred",
    |text| {
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
    },
    "`disabled`, `preferred` (TLS if the server supports it; the certificate is not verified), `required` (TLS; the certificate is not verified), `verify-ca` or `verify-identity`.",
);

static TLS_CA: Optional<PathBuf> = Key::new(
    "database.tls_ca",
    "built-in roots",
    file,
    "PEM file of the certificate authority for `verify-ca` and `verify-identity`.",
)
.optional();

static CONNECTIONS: Key<u32> = Key::new(
    "database.connections",
    "8",
    |text| number(text, 1, 1000),
    "Most open connections to the database, 1 to 1000.",
);

static TIMEOUT: Key<Duration> = Key::new(
    "database.timeout",
    "500ms",
    |text| duration(text, Duration::from_millis(10), Duration::from_secs(10)),
    "How long a login waits for the database before Doorward answers 503, 10ms to 10s.",
);

impl DatabaseSettings {
    pub(super) fn read(reader: &mut Reader<'_>, data_dir: &Path) -> Self {
        let (tls, tls_ca) = (reader.get(&TLS), reader.find(&TLS_CA));
        let place = place(reader, data_dir);
        Self {
            place: place.protected(tls, tls_ca.clone()),
            tls,
            tls_ca,
            connections: reader.get(&CONNECTIONS),
            timeout: reader.get(&TIMEOUT),
        }
    }
}

fn place(reader: &mut Reader<'_>, data_dir: &Path) -> Database {
    let url = reader.find(&URL);
    let password = reader.find(&PASSWORD);
    let server = Server {
        host: reader.find(&HOST).unwrap_or_default(),
        port: reader.get(&PORT),
        user: reader.find(&USER).unwrap_or_default(),
        password: password.clone().unwrap_or_default().into(),
        name: reader.find(&NAME).unwrap_or_default(),
        tls: Tls::Preferred,
        tls_ca: None,
    };
    let parts: [&dyn AnyKey; 5] = [&HOST, &PORT, &USER, &PASSWORD, &NAME];
    let given: Vec<_> = parts
        .into_iter()
        .filter_map(|part| reader.place(part))
        .collect();
    let embedded = || Database::Sqlite(data_dir.join("doorward.db"));
    if reader.is_set(&URL) {
        // The password may stand apart, so that everybody may read the URL.
        let whole = url.as_ref().zip(password);
        let whole = whole.and_then(|(url, password)| url.with_password(password));
        let apart = reader.place(&PASSWORD).filter(|_| whole.is_some());
        for place in given {
            if Some(&place) != apart.as_ref() {
                reader.fault(
                    place,
                    "database.url (DATABASE_URL) is set too; keep one of them",
                );
            }
        }
        return whole.or(url).unwrap_or_else(embedded);
    }
    if !given.is_empty() {
        let needed: [&dyn AnyKey; 3] = [&HOST, &USER, &NAME];
        for part in needed {
            if !reader.is_set(part) {
                let known = part.entry().also.first().copied().unwrap_or_default();
                reader.fault(
                    given.join(", "),
                    format_args!("{} ({known}) is missing beside it", part.name()),
                );
            }
        }
        return Database::MySql(server);
    }
    embedded()
}

/// Kubernetes sets `MYSQL_PORT=tcp://10.0.0.1:3306` if a service is called `mysql`.
fn port(text: &str) -> Result<u16, ValueFault> {
    let digits = match text.strip_prefix("tcp://") {
        Some(link) => link.rsplit(':').next().unwrap_or(link),
        None => text,
    };
    number(digits, 1, 65_535)
}
