//! Settings: text and environment become typed values, and every fault is reported at once, with its place. Each section
//! of `doorward.toml` has a file, with one entry per setting and one struct. Must not read the environment of the process
//! or a file: [`Sources`] contains both.

mod audit;
mod cors;
mod data_dir;
mod database;
mod envoy;
mod fault;
mod feed;
mod gateways;
mod http;
mod identity;
mod issuers;
mod jwt;
mod key;
mod listen;
mod lists;
mod log;
mod login;
mod machine_keys;
mod memory;
mod passwords;
mod paths;
mod probe;
mod reader;
mod refresh;
mod revocation;
mod rules;
mod schema;
mod self_service;
mod shutdown;
mod sign_in;
mod state;
mod throttle;
mod tracing;
mod unknown;
mod users;
mod value;

use std::{collections::HashMap, fmt};

pub(crate) use self::{
    audit::AuditSettings,
    cors::CorsSettings,
    envoy::EnvoySettings,
    feed::FeedSettings,
    gateways::GatewaySettings,
    http::HttpSettings,
    identity::IdentitySettings,
    jwt::JwtSettings,
    listen::ListenSettings,
    log::{LogFormat, LogSettings},
    machine_keys::KeysSettings,
    probe::ProbeSettings,
    refresh::RefreshSettings,
    revocation::RevocationSettings,
    rules::NextRules,
    schema::schema,
    self_service::SelfServiceSettings,
    shutdown::ShutdownSettings,
    sign_in::SignInSettings,
    state::StateSettings,
    tracing::TracingSettings,
    users::UsersSettings,
};
pub use self::{
    database::DatabaseSettings,
    fault::{Fault, Faults},
    key::Entry,
    login::LoginSettings,
    memory::hash_memory_default,
    reader::Sources,
};
use doorward_rules::{routes::RouteOptions, tables::Raw};

use self::{key::Section, lists::ISSUER, reader::Reader};
use crate::{
    domain::{
        path::Tolerance,
        policy::{Endpoint, Policy},
    },
    issuers::Believed,
    login::{
        enrolment::{NameRules, PasswordRules},
        throttle::Free,
    },
    tables::database::Database,
};

/// All settings, by section.
#[derive(Debug)]
pub struct Settings {
    /// `[listen]`: the doors.
    pub(crate) listen: ListenSettings,
    /// `[shutdown]`: how Doorward ends.
    pub(crate) shutdown: ShutdownSettings,
    /// `trusted_proxies` and `client_address`.
    pub(crate) gateways: GatewaySettings,
    /// `[database]`: where the users are.
    pub database: DatabaseSettings,
    /// `[state]`: where Doorward's own tables are.
    pub(crate) state: StateSettings,
    /// `[users]`: how an existing user table is read.
    pub(crate) users: UsersSettings,
    /// `[jwt]`: keys and tokens.
    pub(crate) jwt: JwtSettings,
    /// `[login]`: replies to logins, and hashing.
    pub login: LoginSettings,
    /// `[throttle]`: failed logins that cost nothing.
    pub(crate) throttle: Free,
    /// `[revocation]`: how revocations are read.
    pub(crate) revocation: RevocationSettings,
    /// `[feed]`: rules, public keys and revocations for the filter inside Envoy.
    pub(crate) feed: FeedSettings,
    /// `[keys]`: keys for machines.
    pub(crate) keys: KeysSettings,
    /// `[refresh]`: refresh tokens.
    pub(crate) refresh: RefreshSettings,
    /// `[self_service]`: what users may do with their accounts.
    pub(crate) self_service: SelfServiceSettings,
    /// `[sign_in]`: signing in with a browser, if it is on.
    pub(crate) sign_in: Option<SignInSettings>,
    /// `[passwords]`: what new passwords must be.
    pub(crate) passwords: PasswordRules,
    /// `[http]`: the HTTP door.
    pub(crate) http: HttpSettings,
    /// `[envoy]`: the gRPC door.
    pub(crate) envoy: EnvoySettings,
    /// `[identity]`: what services are told.
    pub(crate) identity: IdentitySettings,
    /// `[cors]`: requests from other origins.
    pub(crate) cors: CorsSettings,
    /// `[paths]`: ambiguous paths that are judged.
    pub(crate) paths: Tolerance,
    /// `[audit]`: the audit trail.
    pub(crate) audit: AuditSettings,
    /// `[log]`: the log.
    pub(crate) log: LogSettings,
    /// `[tracing]`: spans.
    pub(crate) tracing: TracingSettings,
    /// `[[issuer]]`: other issuers whose tokens are accepted.
    pub(crate) issuers: Vec<Believed>,
    /// The endpoints that are switched on.
    pub(crate) endpoints: Vec<Endpoint>,
    /// `[[route]]`: the rules.
    pub policy: Policy,
    /// `[rules]`: the next rules, if there are any.
    pub(crate) next: Option<NextRules>,
    /// `[probe]`: questions of `doorward probe`.
    pub(crate) probe: ProbeSettings,
    /// What a reload compares.
    written: Written,
}

/// The entries of all sections, in the order of docs/settings.md.
const SECTIONS: &[Section] = &[
    data_dir::KEYS,
    listen::KEYS,
    shutdown::KEYS,
    gateways::KEYS,
    database::KEYS,
    state::KEYS,
    users::KEYS,
    jwt::KEYS,
    login::KEYS,
    throttle::KEYS,
    revocation::KEYS,
    feed::KEYS,
    machine_keys::KEYS,
    refresh::KEYS,
    self_service::KEYS,
    sign_in::KEYS,
    passwords::KEYS,
    http::KEYS,
    envoy::KEYS,
    identity::KEYS,
    cors::KEYS,
    paths::KEYS,
    rules::KEYS,
    probe::KEYS,
    audit::KEYS,
    log::KEYS,
    tracing::KEYS,
];

/// Every setting except the rules and other issuers, in the order of docs/settings.md.
pub fn keys() -> impl Iterator<Item = &'static Entry> {
    let keys = SECTIONS.iter().copied().flatten();
    keys.map(|key| key.entry())
}

/// Whether a name in the environment is that of a setting.
#[must_use]
pub(crate) fn names_a_setting(name: &str) -> bool {
    let name = name.strip_suffix("_FILE").unwrap_or(name);
    keys().any(|key| key.also.contains(&name) || key.environment() == name)
}

impl Settings {
    /// Reads settings. Flags win over the environment, the environment over the file, and the file over defaults.
    ///
    /// # Errors
    ///
    /// Every fault.
    pub fn load(sources: Sources<'_>) -> Result<Self, Faults> {
        Self::of(Reader::read(sources))
    }

    /// Reads settings while others are in force. Settings that need a restart keep their values; returns the names of
    /// those that have changed.
    ///
    /// # Errors
    ///
    /// Every fault, of the settings as they are written and as they would be in force without a restart. Missing rules
    /// are a fault too: the built-in rules would replace them, and let through what a half-written file keeps out.
    pub(crate) fn again(&self, sources: Sources<'_>) -> Result<(Self, Vec<&'static str>), Faults> {
        let mut reader = Reader::read(sources);
        let read = Self::of(reader.clone())?;
        if let Some(lost) = self.written.lost_in(&read.written) {
            return Err(Faults(vec![lost]));
        }
        let fixed = self.fixed_keys_that_differ(&read);
        if fixed.is_empty() {
            return Ok((read, fixed));
        }
        for name in &fixed {
            reader.put_back(name, self.written.values.get(name));
        }
        match Self::of(reader) {
            Ok(settings) => Ok((settings, fixed)),
            Err(Faults(mut faults)) => {
                faults.push(Fault {
                    place: fixed.join(", "),
                    what: "changed, and other settings depend on it; restart".into(),
                });
                Err(Faults(faults))
            }
        }
    }

    /// The database of Doorward's own tables.
    #[must_use]
    pub(crate) fn state_database(&self) -> &Database {
        self.state.place.as_ref().unwrap_or(&self.database.place)
    }

    /// Which names users cannot have.
    #[must_use]
    pub(crate) fn names(&self) -> NameRules {
        let reserved = self.self_service.reserved.iter().map(String::as_str);
        let issuers = self.issuers.iter();
        let issuers = issuers.map(|one| (&*one.terms.issuer, &*one.terms.prefix));
        NameRules::new(reserved, issuers)
    }

    fn of(mut reader: Reader<'_>) -> Result<Self, Faults> {
        let settings = Self::read(&mut reader);
        match reader.faults.is_empty() {
            true => Ok(settings),
            false => Err(Faults(reader.faults)),
        }
    }

    /// Reads every section. A wrong value becomes a fault, and its default replaces it, so that the rest is read too.
    fn read(reader: &mut Reader<'_>) -> Self {
        let written = Written::of(reader);
        let data_dir = data_dir::read(reader);
        let listen = ListenSettings::read(reader);
        let database = DatabaseSettings::read(reader, &data_dir);
        let jwt = JwtSettings::read(reader, &data_dir, &database.place);
        let refresh = RefreshSettings::read(reader);
        let self_service = SelfServiceSettings::read(reader);
        let sign_in = SignInSettings::read(reader);
        let paths = paths::read(reader);
        let feed = FeedSettings::read(reader);
        let identity = IdentitySettings::read(reader, &jwt.terms.audience);
        let keys = KeysSettings::read(reader, &identity);
        let endpoints = rules::endpoints(&refresh, &self_service, sign_in.as_ref(), keys.enabled);
        let audience_of_tokens = jwt.terms.audience.clone();
        let options = RouteOptions {
            endpoints: &endpoints,
            tolerance: paths,
            keys: keys.enabled,
            assertions: identity.assertion.as_ref().map(|_| &*audience_of_tokens),
        };
        Self {
            shutdown: ShutdownSettings::read(reader),
            gateways: GatewaySettings::read(reader, &listen),
            listen,
            state: StateSettings::read(reader, &database),
            database,
            users: UsersSettings::read(reader),
            login: LoginSettings::read(reader),
            throttle: throttle::read(reader),
            revocation: RevocationSettings::read(reader),
            feed,
            refresh,
            self_service,
            sign_in,
            passwords: passwords::read(reader),
            http: HttpSettings::read(reader),
            envoy: EnvoySettings::read(reader),
            identity,
            cors: CorsSettings::read(reader),
            paths,
            audit: AuditSettings::read(reader),
            log: LogSettings::read(reader),
            tracing: TracingSettings::read(reader),
            issuers: issuers::issuers(reader, &jwt.terms.issuer),
            jwt,
            policy: rules::policy(reader, options),
            next: rules::next(reader, options),
            probe: ProbeSettings::read(reader),
            keys,
            endpoints,
            written,
        }
    }

    /// The settings that differ and need a restart.
    fn fixed_keys_that_differ(&self, other: &Self) -> Vec<&'static str> {
        let differs = |name| self.written.values.get(name) != other.written.values.get(name);
        let issuers = (self.issuers != other.issuers).then_some(ISSUER.name);
        keys()
            .filter(|key| !key.reloads && differs(key.name))
            .map(|key| key.name)
            .chain(issuers)
            .collect()
    }
}

/// What was written, before it was parsed. `Debug` does not show it.
struct Written {
    values: HashMap<&'static str, Raw>,
    file: Option<File>,
    has_rules: bool,
}

/// The file that settings were read from.
#[derive(Clone)]
struct File {
    name: String,
    is_empty: bool,
}

impl Written {
    fn of(reader: &Reader<'_>) -> Self {
        Self {
            values: reader.written(),
            file: reader.file.clone(),
            has_rules: !reader.routes.is_empty(),
        }
    }

    /// What was there and is gone, probably because somebody is still writing the file.
    fn lost_in(&self, new: &Self) -> Option<Fault> {
        let (name, what) = match (&self.file, &new.file) {
            (Some(old), None) => (
                &old.name,
                "is gone, and its settings with it; restore it, or restart to continue without it",
            ),
            (Some(old), Some(new)) if new.is_empty && !old.is_empty => (
                &new.name,
                "is empty, and its settings are gone; fill it, or write a line such as # nothing",
            ),
            (_, Some(new_file)) if self.has_rules && !new.has_rules => (
                &new_file.name,
                "has no [[route]] any more, and the built-in rules would replace its own; restore them, or restart to continue without them",
            ),
            (_, _) => return None,
        };
        Some(Fault {
            place: name.clone(),
            what: what.into(),
        })
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Written(..)")
    }
}

#[cfg(test)]
mod tests;
