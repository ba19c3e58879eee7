//! Where the user table is, and how a connection to it is opened.

use std::{
    fmt, fs,
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use percent_encoding::percent_decode_str;
use sqlx::{
    MySqlPool, SqlitePool,
    mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use zeroize::Zeroizing;

/// Where the user table is.
#[derive(Clone, Debug)]
pub enum Database {
    /// Embedded, in this file.
    Sqlite(PathBuf),
    /// MySQL, MariaDB or what speaks like them.
    MySql(MySql),
}

/// A database of MySQL's kind.
#[derive(Clone, Debug)]
pub struct MySql {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User.
    pub user: String,
    /// Password of the user.
    pub password: DatabasePassword,
    /// Name of the database.
    pub name: String,
    /// How the connection is protected.
    pub tls: Tls,
    /// A certificate authority of one's own.
    pub tls_ca: Option<PathBuf>,
}

/// The password of a database user; never shown.
#[derive(Clone)]
pub struct DatabasePassword(Zeroizing<String>);

impl From<String> for DatabasePassword {
    fn from(password: String) -> Self {
        Self(Zeroizing::new(password))
    }
}

impl fmt::Debug for DatabasePassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabasePassword(..)")
    }
}

/// How a connection is protected; the words are MySQL's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Plain.
    Disabled,
    /// TLS where the server has it; the certificate is not verified.
    Preferred,
    /// TLS; the certificate is not verified.
    Required,
    /// TLS with a certificate of a known authority.
    VerifyCa,
    /// TLS with a certificate of a known authority for this host.
    VerifyIdentity,
}

/// A database URL is not one that can be used. The URL itself is not told: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// Not a URL, or a part of it is not UTF-8.
    #[error("is not a URL; write mysql://USER:PASSWORD@HOST:PORT/NAME or sqlite:PATH")]
    Syntax,
    /// A database of another kind.
    #[error("names another database than mysql, mariadb and sqlite")]
    Scheme,
    /// A part is not there.
    #[error("lacks the {0}; write mysql://USER:PASSWORD@HOST:PORT/NAME")]
    Missing(&'static str),
    /// `?...`
    #[error("has parameters; write them as database.tls and database.tls_ca instead")]
    Parameters,
}

impl Database {
    /// Reads `mysql://USER:PASSWORD@HOST:PORT/NAME` (or `mariadb:`) or `sqlite:PATH`.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL, without the URL.
    pub fn from_url(url: &str, tls: Tls, tls_ca: Option<PathBuf>) -> Result<Self, UrlFault> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" | ":memory:" => Err(UrlFault::Missing("path of the file")),
                _ if path.contains('?') => Err(UrlFault::Parameters),
                _ => Ok(Self::Sqlite(path.into())),
            };
        }
        let url = url::Url::parse(url).map_err(|_| UrlFault::Syntax)?;
        if !matches!(url.scheme(), "mysql" | "mariadb") {
            return Err(UrlFault::Scheme);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(UrlFault::Parameters);
        }
        let part = |text: &str, missing| match percent_decode_str(text).decode_utf8() {
            Ok(text) if text.is_empty() => Err(UrlFault::Missing(missing)),
            Ok(text) => Ok(text.into_owned()),
            Err(_) => Err(UrlFault::Syntax),
        };
        let password = url.password().unwrap_or_default();
        Ok(Self::MySql(MySql {
            host: part(url.host_str().unwrap_or_default(), "host")?,
            port: url.port().unwrap_or(3306),
            user: part(url.username(), "user")?,
            password: match password {
                "" => String::new().into(),
                _ => part(password, "password")?.into(),
            },
            name: part(url.path().trim_start_matches('/'), "name of the database")?,
            tls,
            tls_ca,
        }))
    }
}

/// For people: without the password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::MySql(MySql {
                host,
                port,
                user,
                name,
                ..
            }) => {
                write!(f, "mysql://{user}@{host}:{port}/{name}")
            }
        }
    }
}

/// No statement is sent when a connection opens: proxies in front of a database pin or refuse sessions with `SET`s.
pub(super) fn mysql_pool(mysql: &MySql, connections: u32, timeout: Duration) -> MySqlPool {
    let options = MySqlConnectOptions::new()
        .host(&mysql.host)
        .port(mysql.port)
        .username(&mysql.user)
        .password(&mysql.password.0)
        .database(&mysql.name)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false)
        .ssl_mode(match mysql.tls {
            Tls::Disabled => MySqlSslMode::Disabled,
            Tls::Preferred => MySqlSslMode::Preferred,
            Tls::Required => MySqlSslMode::Required,
            Tls::VerifyCa => MySqlSslMode::VerifyCa,
            Tls::VerifyIdentity => MySqlSslMode::VerifyIdentity,
        });
    let options = match &mysql.tls_ca {
        Some(ca) => options.ssl_ca(ca),
        None => options,
    };
    MySqlPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(timeout)
        .connect_lazy_with(options)
}

pub(super) fn sqlite_pool(path: &Path, connections: u32, timeout: Duration) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(timeout);
    SqlitePoolOptions::new()
        // Every connection of SQLite is a thread and a page cache.
        .max_connections(connections.min(4))
        .acquire_timeout(timeout)
        .connect_lazy_with(options)
}

/// Makes a directory that only its owner can enter.
pub(crate) fn create_private_dir(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

/// Makes an empty file that only its owner can read, where there is none. SQLite gives the files beside it the same
/// mode.
pub(super) fn create_private_file(path: &Path) -> io::Result<()> {
    create_private_dir(path.parent().unwrap_or(Path::new("")))?;
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match file {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<String, UrlFault> {
        Database::from_url(url, Tls::Preferred, None).map(|database| database.to_string())
    }

    #[test]
    fn urls_are_read_without_their_password_being_shown() {
        assert_eq!(
            read("mysql://u:p%40zq@db:33/auth").unwrap(),
            "mysql://u@db:33/auth"
        );
        assert_eq!(
            read("mariadb://u@db/auth").unwrap(),
            "mysql://u@db:3306/auth"
        );
        assert_eq!(read("sqlite:./x.db").unwrap(), "./x.db");
        assert_eq!(read("sqlite:///var/x.db").unwrap(), "/var/x.db");
        let database =
            Database::from_url("mysql://u:p%40zq@db/auth", Tls::Preferred, None).unwrap();
        assert!(!format!("{database:?}").contains("zq"), "{database:?}");
        let Database::MySql(mysql) = database else {
            panic!()
        };
        assert_eq!(&**mysql.password.0, "p@zq");
    }

    #[test]
    fn urls_that_cannot_be_used_say_why() {
        assert_eq!(read("postgres://u@h/d"), Err(UrlFault::Scheme));
        assert_eq!(read("auth"), Err(UrlFault::Syntax));
        assert_eq!(
            read("mysql://u@h"),
            Err(UrlFault::Missing("name of the database"))
        );
        assert_eq!(read("mysql://h/d"), Err(UrlFault::Missing("user")));
        assert_eq!(read("mysql://u@h/d?ssl-mode=x"), Err(UrlFault::Parameters));
        assert_eq!(read("sqlite:"), Err(UrlFault::Missing("path of the file")));
        assert_eq!(
            read("sqlite::memory:"),
            Err(UrlFault::Missing("path of the file"))
        );
    }
}
