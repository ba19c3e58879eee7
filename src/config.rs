//! Text and environment -> typed settings. Everything is looked up through [`Sources`], so nothing here touches the
//! environment of the process; every fault is reported at once, with its place.

mod issuers;
mod keys;
mod listen;
mod memory;
mod reader;
mod rules;
mod tables;
mod traces;

use std::{
    collections::HashMap, fmt, net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration,
};

pub use keys::{KEYS, Key};
pub use memory::hash_memory_default;
pub use reader::{Fault, Sources};
use reader::{Raw, Reader};
use zeroize::Zeroizing;

use crate::{
    database::Database,
    domain::{
        account::{Roles, Username},
        decision::{LoginReply, Realm},
        identity_headers::IdentityNames,
        key::{self, KeyFault},
        path::Tolerance,
        policy::{Endpoint, Policy},
        token::{Secret, TokenTerms},
        trust::{ClientAddress, TrustedProxies},
    },
    hashing::HashPriority,
    issuers::Believed,
    listen::Address,
    login::{
        enrolment::{NameRules, PasswordRules},
        throttle::Free,
    },
    observe::{audit::Trail, spans::Collector},
    tls,
    users::Mapping,
};

/// Everything Doorward can be told.
#[derive(Debug)]
pub struct Settings {
    /// The directory of what Doorward keeps itself.
    pub data_dir: PathBuf,
    /// The address of the ext_authz door.
    pub grpc: Address,
    /// The address of the HTTP doors.
    pub http: Address,
    /// The address of the health endpoints.
    pub ops: SocketAddr,
    /// The mode of Unix sockets.
    pub socket_mode: u32,
    /// The certificate of both doors, and those of their clients.
    pub tls: Option<tls::Terms>,
    /// The most bytes of a check at the gRPC door.
    pub max_check: usize,
    /// The most connections of trusted peers at one port, and of all others at the HTTP port.
    pub max_connections: (usize, usize),
    /// After how long gRPC connections are asked to end.
    pub connection_age: Option<Duration>,
    /// How long Doorward serves after it was asked to end, and how long what is under way may take then.
    pub shutdown: (Duration, Duration),
    /// Who may ask.
    pub trusted: TrustedProxies,
    /// Where the address of a client is read from.
    pub client_address: ClientAddress,
    /// Where people log in.
    pub sign_in: Option<String>,
    /// Where the user table is.
    pub database: Database,
    /// The most connections to it.
    pub connections: u32,
    /// How long a login waits for its row.
    pub database_timeout: Duration,
    /// Where Doorward's own tables are, where that is another database.
    pub state: Option<Database>,
    /// How a user table that was there before is read.
    pub mapping: Option<Mapping>,
    /// Whether passwords may stand in the table as they are.
    pub plaintext: bool,
    /// Failures that cost nothing.
    pub throttle: Free,
    /// How often it is read what has ended elsewhere.
    pub poll: Duration,
    /// Beyond which age of what was read no token is accepted.
    pub refuses_after: Option<Duration>,
    /// How long sessions last, and for how long a refresh token that was used gives the same successor again.
    pub refresh: (Option<Duration>, Duration),
    /// What new passwords must be.
    pub passwords: PasswordRules,
    /// Names that nobody registers.
    pub reserved: Vec<String>,
    /// Roles of whoever registers.
    pub register_roles: Roles,
    /// What Doorward itself answers.
    pub endpoints: Vec<Endpoint>,
    /// Where the audit trail goes.
    pub trail: Trail,
    /// What was written.
    values: Values,
    /// The file it was written in, where there is one, and whether nothing is in it.
    file: Option<(String, bool)>,
    /// Whether there are rules but the built-in ones.
    has_rules: bool,
    /// The key of tokens.
    pub secret: SecretSource,
    /// A secret that tokens were signed with before.
    pub previous_secret: Option<Secret>,
    /// One key beside those of the directory.
    pub key: Option<KeyText>,
    /// The directory of keys.
    pub keys_dir: PathBuf,
    /// What tokens say.
    pub terms: TokenTerms,
    /// Whose tokens are accepted beside ours.
    pub issuers: Vec<Believed>,
    /// Who answers a good login.
    pub reply: LoginReply,
    /// The realm of challenges.
    pub realm: Realm,
    /// How many passwords are hashed at once.
    pub hash_threads: usize,
    /// How much hashing gives way to everything else.
    pub hash_priority: HashPriority,
    /// KiB that hashing may take.
    pub hash_memory: u64,
    /// How many logins wait for hashing.
    pub hash_queue: usize,
    /// The headers that tell services who is asking.
    pub identity: IdentityNames,
    /// Whether the service sees Bearer tokens.
    pub forwards_bearer: bool,
    /// Whether CORS preflights pass.
    pub allows_preflight: bool,
    /// Which ambiguous paths are judged.
    pub tolerance: Tolerance,
    /// The rules.
    pub policy: Policy,
    /// What is logged.
    pub log: Log,
    /// Where spans go.
    pub collector: Option<Collector>,
    /// Whether Envoy is told of each decision.
    pub metadata: bool,
}

/// Where the key of tokens comes from.
#[derive(Debug)]
pub enum SecretSource {
    /// It was given.
    Given(Secret),
    /// It is kept in this file, and made where that does not exist.
    File(PathBuf),
    /// It must be given, because other replicas must know it, and was not.
    Missing,
}

/// The text of a key that can be read.
pub struct KeyText(Zeroizing<String>);

impl KeyText {
    /// The key.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub fn key(&self) -> Result<key::Key, KeyFault> {
        key::Key::read("jwt-key", self.0.as_bytes())
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(..)")
    }
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least level that is written.
    pub level: tracing::Level,
    /// How lines look.
    pub format: LogFormat,
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// The settings do not hold together.
#[derive(Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, s) = (self.0.len(), if self.0.len() == 1 { "" } else { "s" });
        write!(f, "{count} fault{s} in the settings:")?;
        for fault in &self.0 {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// The command that makes a good secret.
pub const MAKE_SECRET: &str = "openssl rand -hex 32";

impl Settings {
    /// Reads settings: flags before the environment before the file before the defaults.
    ///
    /// # Errors
    ///
    /// Every fault, in the order of the sources and keys.
    pub fn load(sources: Sources<'_>) -> Result<Self, Faults> {
        Self::of(Reader::read(sources))
    }

    /// Reads settings while those before are in force: what needs a restart stays as it is, and its keys are named where it
    /// has changed.
    ///
    /// # Errors
    ///
    /// Every fault, of what is there and of what it comes to without a restart. Rules that are gone are one, too: the
    /// built-in ones would take their place, and let through what a file that is half written meant to keep out.
    pub fn again(&self, sources: Sources<'_>) -> Result<(Self, Vec<&'static str>), Faults> {
        let mut reader = Reader::read(sources);
        let read = Self::of(reader.clone())?;
        let gone = match (&self.file, &read.file) {
            (Some((name, _)), None) => Some((
                name,
                "is gone, and what it said would be so no more; put it back, or restart to go on without it",
            )),
            (Some((name, false)), Some((_, true))) => Some((
                name,
                "is empty, and what it said would be so no more; fill it, or write a line such as # nothing",
            )),
            (_, Some((name, _))) if self.has_rules && !read.has_rules => Some((
                name,
                "has no [[route]] any more, and the built-in rules would take the place of its own; put them back, or restart to go on without them",
            )),
            (_, _) => None,
        };
        if let Some((place, what)) = gone {
            let (place, what) = (place.clone(), what.to_owned());
            return Err(Faults(vec![Fault { place, what }]));
        }
        let fixed = self.fixed_keys_that_differ(&read);
        if fixed.is_empty() {
            return Ok((read, fixed));
        }
        for name in &fixed {
            reader.put_back(name, self.values.0.get(name));
        }
        match Self::of(reader) {
            Ok(settings) => Ok((settings, fixed)),
            Err(Faults(mut faults)) => {
                faults.push(Fault {
                    place: fixed.join(", "),
                    what: "changed, and the rest does not go without it; restart".into(),
                });
                Err(Faults(faults))
            }
        }
    }

    /// Which names are somebody else's.
    #[must_use]
    pub fn names(&self) -> NameRules {
        let reserved = self.reserved.iter().map(String::as_str);
        let issuers = self.issuers.iter();
        let issuers = issuers.map(|one| (&*one.terms.issuer, &*one.terms.prefix));
        NameRules::new(reserved, issuers)
    }

    fn of(mut reader: Reader<'_>) -> Result<Self, Faults> {
        let data_dir = reader.parse("data_dir", "./data".into(), |text| match text {
            "" => Err("is empty".into()),
            _ => Ok(PathBuf::from(text)),
        });
        let (database, state) = tables::databases(&mut reader, &data_dir);
        let endpoints = endpoints(&mut reader);
        let tolerance = rules::tolerance(&mut reader);
        let session = reader.parse("refresh.lifetime", 30 * DAY, |text| {
            duration(text, Duration::from_secs(600), 366 * DAY)
        });
        let hash_threads = reader.parse("login.hash_threads", cores(), |text| number(text, 1, 256));
        let mut settings = Self {
            grpc: listen::address(&mut reader, "listen.grpc", 9001),
            http: listen::address(&mut reader, "listen.http", 9002),
            ops: listen::ops(&mut reader),
            socket_mode: listen::mode(&mut reader),
            tls: listen::tls(&mut reader),
            max_check: listen::max_check(&mut reader),
            max_connections: listen::connections(&mut reader),
            connection_age: listen::age(&mut reader),
            shutdown: listen::shutdown(&mut reader),
            trusted: TrustedProxies::loopback(),
            client_address: reader.parse("client_address", ClientAddress::Peer, |text| {
                ClientAddress::parse(text).ok_or_else(|| {
                    format!(
                        "{text:?} is none of: peer, x-envoy-external-address, x-forwarded-for:N"
                    )
                })
            }),
            sign_in: reader.parse("http.sign_in", None, |text| sign_in(text).map(Some)),
            connections: reader.parse("database.connections", 8, |text| number(text, 1, 1000)),
            database_timeout: reader.parse(
                "database.timeout",
                Duration::from_millis(500),
                |text| duration(text, Duration::from_millis(10), Duration::from_secs(10)),
            ),
            state,
            mapping: tables::mapping(&mut reader),
            plaintext: tables::plaintext(&mut reader),
            throttle: Free {
                account: reader.parse("throttle.account_failures", 5, |text| number(text, 1, 100)),
                address: reader.parse("throttle.address_failures", 100, |text| {
                    number(text, 1, 1_000_000)
                }),
                unknown: reader.parse("throttle.unknown_address_failures", 1000, |text| {
                    number(text, 1, 1_000_000)
                }),
            },
            poll: reader.parse("revocation.poll", Duration::from_secs(1), |text| {
                duration(text, Duration::from_millis(100), Duration::from_secs(60))
            }),
            refuses_after: refuses_after(&mut reader),
            refresh: (
                endpoints.contains(&Endpoint::Refresh).then_some(session),
                reader.parse("refresh.grace", Duration::from_secs(30), |text| {
                    duration(text, Duration::ZERO, Duration::from_secs(300))
                }),
            ),
            passwords: passwords(&mut reader),
            reserved: reserved(&mut reader),
            register_roles: roles(&mut reader, "self_service.register_roles"),
            trail: reader.parse("audit.to", Trail::Off, |text| {
                Ok(match text {
                    "off" => Trail::Off,
                    "stderr" => Trail::Stderr,
                    "" => return Err("is empty; write off, stderr or a path".into()),
                    path => Trail::File(path.into()),
                })
            }),
            secret: secret(&mut reader, &database, &data_dir),
            previous_secret: reader.parse("jwt.previous_secret", None, |text| {
                Secret::parse(text.as_bytes())
                    .map(Some)
                    .map_err(|fault| format!("{fault}; take it out, which ends its tokens"))
            }),
            key: reader.parse("jwt.key", None, |text| {
                let read = KeyText(text.to_owned().into());
                read.key().map_err(|fault| fault.to_string())?;
                Ok(Some(read))
            }),
            keys_dir: reader.parse("jwt.keys_dir", data_dir.join("keys"), |text| match text {
                "" => Err("is empty".into()),
                _ => Ok(PathBuf::from(text)),
            }),
            values: Values(reader.take_values()),
            file: reader.file.clone(),
            has_rules: !reader.routes.is_empty(),
            terms: TokenTerms {
                issuer: reader.parse("jwt.issuer", "doorward".into(), name),
                audience: reader.parse("jwt.audience", "doorward".into(), name),
                lifetime: reader.parse("jwt.lifetime", DAY, |text| {
                    duration(text, Duration::from_secs(60), 366 * DAY)
                }),
                leeway: reader.parse("jwt.leeway", Duration::from_secs(30), |text| {
                    duration(text, Duration::ZERO, Duration::from_secs(60))
                }),
            },
            issuers: Vec::new(),
            reply: reader.parse("login.reply", LoginReply::Direct, |text| {
                one_of(
                    text,
                    &[
                        ("direct", LoginReply::Direct),
                        ("through", LoginReply::Through),
                    ],
                )
            }),
            realm: realm(&mut reader),
            hash_threads,
            hash_memory: memory::hash_memory(&mut reader, hash_threads),
            hash_priority: reader.parse("login.hash_priority", HashPriority::Idle, |text| {
                one_of(
                    text,
                    &[
                        ("idle", HashPriority::Idle),
                        ("normal", HashPriority::Normal),
                    ],
                )
            }),
            hash_queue: reader.parse("login.hash_queue", 64, |text| number(text, 1, 10_000)),
            identity: identity(&mut reader),
            forwards_bearer: reader.parse("identity.forward_bearer", true, boolean),
            allows_preflight: reader.parse("cors.allow_preflight", false, boolean),
            tolerance,
            policy: rules::policy(&mut reader, &endpoints, tolerance),
            endpoints,
            log: Log {
                level: reader.parse("log.level", tracing::Level::INFO, |text| {
                    one_of(
                        text,
                        &[
                            ("error", tracing::Level::ERROR),
                            ("warn", tracing::Level::WARN),
                            ("info", tracing::Level::INFO),
                            ("debug", tracing::Level::DEBUG),
                        ],
                    )
                }),
                format: reader.parse("log.format", LogFormat::Text, |text| {
                    one_of(
                        text,
                        &[("text", LogFormat::Text), ("json", LogFormat::Json)],
                    )
                }),
            },
            collector: traces::collector(&mut reader),
            metadata: reader.parse("envoy.metadata", true, boolean),
            data_dir,
            database,
        };
        settings.issuers = issuers::issuers(&mut reader, &settings.terms.issuer);
        settings.trusted = listen::trusted(&mut reader, [&settings.grpc, &settings.http]);
        if reader.faults.is_empty() {
            Ok(settings)
        } else {
            Err(Faults(reader.faults))
        }
    }

    /// The keys whose values differ and that are read at the start alone.
    fn fixed_keys_that_differ(&self, other: &Self) -> Vec<&'static str> {
        let value = |settings: &Self, name| settings.values.0.get(name).cloned();
        let issuers = (self.issuers != other.issuers).then_some(keys::ISSUER);
        KEYS.iter()
            .filter(|key| !key.reloads && value(self, key.name) != value(other, key.name))
            .map(|key| key.name)
            .chain(issuers)
            .collect()
    }
}

/// The values as they were written; never shown.
pub struct Values(HashMap<&'static str, Raw>);

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Values(..)")
    }
}

/// Whether a name in the environment is a setting's.
#[must_use]
pub fn names_a_setting(name: &str) -> bool {
    let name = name.strip_suffix("_FILE").unwrap_or(name);
    KEYS.iter()
        .any(|key| key.also.contains(&name) || key.environment() == name)
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What Doorward itself answers: a login and a logout always, the rest where it is switched on.
fn endpoints(reader: &mut Reader) -> Vec<Endpoint> {
    let mut endpoints = vec![Endpoint::Login, Endpoint::Logout];
    for (key, endpoint) in [
        ("refresh.enabled", Endpoint::Refresh),
        ("self_service.register", Endpoint::Register),
        ("self_service.password", Endpoint::Password),
    ] {
        if reader.parse(key, false, boolean) {
            endpoints.push(endpoint);
        }
    }
    endpoints
}

fn refuses_after(reader: &mut Reader) -> Option<Duration> {
    let after = reader.parse("revocation.stale_after", Duration::from_secs(30), |text| {
        duration(text, Duration::from_secs(2), DAY)
    });
    reader
        .parse("revocation.when_stale", false, |text| {
            one_of(text, &[("warn", false), ("refuse", true)])
        })
        .then_some(after)
}

fn passwords(reader: &mut Reader) -> PasswordRules {
    let default = PasswordRules::default();
    let mut rules = PasswordRules {
        min_length: reader.parse("passwords.min_length", default.min_length, |text| {
            number(text, 8, 64)
        }),
        min_score: reader.parse("passwords.min_score", default.min_score, |text| {
            number(text, 2, 4)
        }),
        blocklist: default.blocklist,
    };
    let list = reader.content("passwords.blocklist");
    rules.blocklist.extend(
        list.lines()
            .map(|line| line.trim().to_lowercase())
            .filter(|line| !line.is_empty()),
    );
    rules
}

fn roles(reader: &mut Reader, key: &str) -> Roles {
    let Some(value) = reader.get(key).cloned() else {
        return Roles::default();
    };
    let roles = value.raw.items();
    Roles::parse(roles.iter().map(String::as_str)).unwrap_or_else(|fault| {
        reader.fault(value.place, fault.to_string());
        Roles::default()
    })
}

fn identity(reader: &mut Reader) -> IdentityNames {
    let Some(value) = reader.get("identity.headers").cloned() else {
        return IdentityNames::default();
    };
    IdentityNames::parse(&value.raw.items()).unwrap_or_else(|fault| {
        reader.fault(value.place, fault.to_string());
        IdentityNames::default()
    })
}

fn reserved(reader: &mut Reader) -> Vec<String> {
    let Some(value) = reader.get("self_service.reserved").cloned() else {
        return NameRules::RESERVED.map(str::to_owned).into();
    };
    let names = value.raw.items();
    if let Some(impossible) = names.iter().find(|name| Username::parse(name).is_none()) {
        reader.fault(value.place, format!("{impossible:?} cannot be a name"));
    }
    names
}

fn secret(reader: &mut Reader, database: &Database, data_dir: &std::path::Path) -> SecretSource {
    let absent = match database {
        Database::Sqlite(_) => SecretSource::File(data_dir.join("jwt.secret")),
        Database::MySql(_) => SecretSource::Missing,
    };
    reader.parse("jwt.secret", absent, |text| {
        Secret::parse(text.as_bytes())
            .map(SecretSource::Given)
            .map_err(|fault| format!("{fault}; make a good one with: {MAKE_SECRET}"))
    })
}

fn realm(reader: &mut Reader) -> Realm {
    reader.parse("login.realm", Realm::default(), |text| {
        Realm::parse(text).ok_or_else(|| {
            "must be 1 to 64 visible ASCII characters without quotes and backslashes".into()
        })
    })
}

fn sign_in(text: &str) -> Result<String, String> {
    let visible = text.bytes().all(|byte| matches!(byte, b'!'..=b'~'));
    match url::Url::parse(text) {
        Ok(url) if visible && matches!(url.scheme(), "http" | "https") => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err(format!(
            "{text:?} is not a URL; write one such as https://login.example.com/"
        )),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Kubernetes sets `MYSQL_PORT=tcp://10.0.0.1:3306` beside a service that is called `mysql`.
fn port(text: &str) -> Result<u16, String> {
    let digits = match text.strip_prefix("tcp://") {
        Some(link) => link.rsplit(':').next().unwrap_or(link),
        None => text,
    };
    number(digits, 1, 65_535)
}

fn number<T: TryFrom<u64>>(text: &str, least: u64, most: u64) -> Result<T, String> {
    text.parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("{text:?} is not a number from {least} to {most}"))
}

fn boolean(text: &str) -> Result<bool, String> {
    one_of(text, &[("true", true), ("false", false)])
}

fn name(text: &str) -> Result<String, String> {
    let possible = (1..=255).contains(&text.len()) && !text.contains(char::is_control);
    match possible {
        true => Ok(text.to_owned()),
        false => Err("must be 1 to 255 bytes without control characters".into()),
    }
}

fn duration(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| (least..=most).contains(duration))
        .ok_or_else(|| {
            format!(
                "{text:?} is not a duration from {} to {}; write one such as 90s, 15m or 24h",
                humantime::format_duration(least),
                humantime::format_duration(most),
            )
        })
}

fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let chosen = choices.iter().find(|(name, _)| *name == text);
    chosen.map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        format!("{text:?} is none of: {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests;
