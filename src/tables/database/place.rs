//! The address of a database, and the protection of its connections.

use std::{fmt, net::IpAddr, path::PathBuf};

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

/// The address of a database.
#[derive(Clone, Debug)]
pub enum Database {
    /// An embedded SQLite file.
    Sqlite(PathBuf),
    /// MySQL, MariaDB or a compatible server.
    MySql(Server),
    /// PostgreSQL or a compatible server.
    Postgres(Server),
}

/// Address and login of a server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Host name or address; for PostgreSQL also the directory of a Unix socket, which begins with a slash.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// Database user.
    pub(crate) user: String,
    /// Password of the database user.
    pub(crate) password: DatabasePassword,
    /// Name of the database.
    pub(crate) name: String,
    /// How the connection is protected.
    pub(crate) tls: Tls,
    /// A PEM file of your own certificate authority.
    pub(crate) tls_ca: Option<PathBuf>,
}

/// The password of a database user; `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct DatabasePassword(pub(super) Zeroizing<String>);

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

/// How a connection is protected, in MySQL's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// No TLS.
    Disabled,
    /// TLS if the server supports it; the certificate is not verified.
    Preferred,
    /// TLS; the certificate is not verified.
    Required,
    /// TLS with a certificate from a known authority.
    VerifyCa,
    /// TLS with a certificate from a known authority for this host.
    VerifyIdentity,
}

/// Why a database URL cannot be used. The message does not contain the URL, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// Not a URL, or a part of it is not UTF-8.
    #[error(
        "is not a URL; write mysql://USER:PASSWORD@HOST:PORT/NAME, postgres://USER:PASSWORD@HOST:PORT/NAME or sqlite:PATH"
    )]
    Syntax,
    /// A database that is not supported.
    #[error("names a database other than mysql, mariadb, postgres, postgresql and sqlite")]
    Scheme,
    /// A part is missing.
    #[error(
        "lacks the {0}; write mysql://USER:PASSWORD@HOST:PORT/NAME or postgres://USER:PASSWORD@HOST:PORT/NAME"
    )]
    Missing(&'static str),
    /// The URL has several hosts, as libpq accepts them.
    #[error(
        "names several hosts, but Doorward connects to one; name the address that always leads to the primary, such as a virtual IP address or a proxy"
    )]
    Hosts,
    /// The URL has a query or a fragment.
    #[error("has parameters; write them as database.tls and database.tls_ca instead")]
    Parameters,
}

impl Server {
    /// Whether somebody on the network path could answer in its place: it is not on this machine, and no certificate proves who it
    /// is.
    pub(crate) fn can_be_impersonated(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let is_here = host.starts_with('/')
            || host.eq_ignore_ascii_case("localhost")
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        let is_proven = match self.tls {
            Tls::Disabled | Tls::Preferred | Tls::Required => false,
            Tls::VerifyCa | Tls::VerifyIdentity => true,
        };
        !is_here && !is_proven
    }
}

#[cfg(test)]
impl Server {
    pub(crate) fn has_password(&self, password: &str) -> bool {
        **self.password.0 == *password
    }
}

impl Database {
    /// Parses `mysql://USER:PASSWORD@HOST:PORT/NAME` (or `mariadb:`), the same with `postgres:` (or `postgresql:`), or
    /// `sqlite:PATH`. A URL says nothing about TLS.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL, without the URL.
    pub fn from_url(url: &str) -> Result<Self, UrlFault> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" | ":memory:" => Err(UrlFault::Missing("path of the file")),
                _ if path.contains('?') => Err(UrlFault::Parameters),
                _ => Ok(Self::Sqlite(path.into())),
            };
        }
        if has_several_hosts(url) {
            return Err(UrlFault::Hosts);
        }
        let url = url::Url::parse(url).map_err(|_| UrlFault::Syntax)?;
        let (kind, port): (fn(Server) -> Self, _) = match url.scheme() {
            "mysql" | "mariadb" => (Self::MySql, 3306),
            "postgres" | "postgresql" => (Self::Postgres, 5432),
            _ => return Err(UrlFault::Scheme),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(UrlFault::Parameters);
        }
        let part = |text: &str, missing| match percent_decode_str(text).decode_utf8() {
            Ok(text) if text.is_empty() => Err(UrlFault::Missing(missing)),
            Ok(text) => Ok(text.into_owned()),
            Err(_) => Err(UrlFault::Syntax),
        };
        let password = url.password().unwrap_or_default();
        Ok(kind(Server {
            host: part(url.host_str().unwrap_or_default(), "host")?,
            port: url.port().unwrap_or(port),
            user: part(url.username(), "user")?,
            password: match password {
                "" => String::new().into(),
                _ => part(password, "password")?.into(),
            },
            name: part(url.path().trim_start_matches('/'), "name of the database")?,
            tls: Tls::Preferred,
            tls_ca: None,
        }))
    }

    /// The server, unless the database is a file.
    pub(crate) fn server(&self) -> Option<&Server> {
        match self {
            Self::Sqlite(_) => None,
            Self::MySql(server) | Self::Postgres(server) => Some(server),
        }
    }

    /// Adds a password; `None` if there is one already, or none is possible.
    #[must_use]
    pub(crate) fn with_password(&self, password: String) -> Option<Self> {
        let add = |server: &Server| {
            server.password.0.is_empty().then(|| Server {
                password: password.into(),
                ..server.clone()
            })
        };
        match self {
            Self::Sqlite(_) => None,
            Self::MySql(server) => add(server).map(Self::MySql),
            Self::Postgres(server) => add(server).map(Self::Postgres),
        }
    }

    /// Protects connections to a server; an embedded database has none.
    #[must_use]
    pub fn protected(self, tls: Tls, tls_ca: Option<PathBuf>) -> Self {
        let protect = |server| Server {
            tls,
            tls_ca,
            ..server
        };
        match self {
            Self::Sqlite(path) => Self::Sqlite(path),
            Self::MySql(server) => Self::MySql(protect(server)),
            Self::Postgres(server) => Self::Postgres(protect(server)),
        }
    }
}

/// Whether there is a comma between the password and the name of the database. A password may have one, too.
fn has_several_hosts(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let hosts = authority.rsplit('@').next().unwrap_or_default();
    hosts.contains(',')
}

/// For people; without the password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, server) = match self {
            Self::Sqlite(path) => return write!(f, "{}", path.display()),
            Self::MySql(server) => ("mysql", server),
            Self::Postgres(server) => ("postgres", server),
        };
        let Server {
            host,
            port,
            user,
            name,
            ..
        } = server;
        write!(f, "{scheme}://{user}@{host}:{port}/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<String, UrlFault> {
        Database::from_url(url).map(|database| database.to_string())
    }

    #[test]
    fn database_urls_are_parsed_and_their_password_is_hidden() {
        assert_eq!(
            read("mysql://u:p%40zq@db:33/auth").unwrap(),
            "mysql://u@db:33/auth"
        );
        assert_eq!(
            read("mariadb://u@db/auth").unwrap(),
            "mysql://u@db:3306/auth"
        );
        assert_eq!(
            read("postgresql://u:p@db/auth").unwrap(),
            "postgres://u@db:5432/auth"
        );
        // The directory of a Unix socket.
        assert_eq!(
            read("postgres://u@%2Frun%2Fpostgresql/auth").unwrap(),
            "postgres://u@/run/postgresql:5432/auth"
        );
        assert_eq!(read("sqlite:./x.db").unwrap(), "./x.db");
        assert_eq!(read("sqlite:///var/x.db").unwrap(), "/var/x.db");
        let database = Database::from_url("mysql://u:p%40zq@db/auth").unwrap();
        assert!(!format!("{database:?}").contains("zq"), "{database:?}");
        let Database::MySql(mysql) = database else {
            panic!()
        };
        assert_eq!(&**mysql.password.0, "p@zq");
    }

    #[test]
    fn only_a_server_elsewhere_without_a_verified_certificate_can_be_impersonated() {
        let impersonated = |host: &str, tls| {
            let database = Database::from_url(&format!("mysql://u@{host}/auth")).unwrap();
            let database = database.protected(tls, None);
            database.server().unwrap().can_be_impersonated()
        };
        for host in ["db", "10.0.0.5", "[2001:db8::1]", "localhost.example"] {
            for tls in [Tls::Disabled, Tls::Preferred, Tls::Required] {
                assert!(impersonated(host, tls), "{host} {tls:?}");
            }
            for tls in [Tls::VerifyCa, Tls::VerifyIdentity] {
                assert!(!impersonated(host, tls), "{host} {tls:?}");
            }
        }
        for host in ["localhost", "127.0.0.1", "[::1]", "%2Frun%2Fpostgresql"] {
            assert!(!impersonated(host, Tls::Disabled), "{host}");
        }
    }

    #[test]
    fn an_unusable_url_names_its_fault() {
        assert_eq!(read("oracle://u@h/d"), Err(UrlFault::Scheme));
        assert_eq!(read("auth"), Err(UrlFault::Syntax));
        for hosts in [
            "a,b",
            "a:1,b:2",
            "a,b:2",
            "[::1]:1,[::2]:2",
            "%2Frun%2Fone,%2Frun%2Fother",
        ] {
            for more in ["", "?target_session_attrs=read-write"] {
                let url = format!("postgres://u:p@{hosts}/d{more}");
                assert_eq!(read(&url), Err(UrlFault::Hosts), "{url}");
            }
        }
        assert_eq!(
            read("postgres://u:a,b@h/d,e").unwrap(),
            "postgres://u@h:5432/d,e"
        );
        assert_eq!(
            read("mysql://u@h"),
            Err(UrlFault::Missing("name of the database"))
        );
        assert_eq!(read("mysql://h/d"), Err(UrlFault::Missing("user")));
        assert_eq!(read("postgres:///d"), Err(UrlFault::Missing("host")));
        assert_eq!(read("mysql://u@h/d?ssl-mode=x"), Err(UrlFault::Parameters));
        assert_eq!(read("sqlite:"), Err(UrlFault::Missing("path of the file")));
        assert_eq!(
            read("sqlite::memory:"),
            Err(UrlFault::Missing("path of the file"))
        );
    }
}
