//! The configuration of the module, as JSON: Envoy converts a `Struct` to it, and Envoy Gateway its `config`. An unknown
//! member is an error, so that no misspelt setting is ignored.

use std::{fmt, fs, io, path::PathBuf, time::Duration};

use doorward_core::{
    key::Key,
    path::Tolerance,
    policy::Endpoint,
    secret::{Secret, SecretFault},
    time::UnixTime,
};
use doorward_rules::{
    feed::{Content, ContentFault, Instead, RuleEntry, one_line},
    routes::{self, RouteOptions},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Value, json};

/// The configuration of the filter, and of the bootstrap extension.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The feed to follow.
    pub(crate) feed: Option<Feed>,
    /// What is in force without a feed, or instead of whole sections of the feed.
    #[serde(default)]
    content: Value,
    /// A file of `[[route]]` with the rules in force, instead of those of the feed.
    rules_file: Option<PathBuf>,
    /// Files with HS256 secrets, which the feed never contains.
    #[serde(default)]
    secret_files: Vec<PathBuf>,
    /// Where requests that Doorward answers are sent.
    pub(crate) actions: Option<Actions>,
    /// The namespace of the dynamic metadata with the decision.
    pub(crate) metadata: Option<String>,
    /// Whether to judge and count only, and to change nothing.
    #[serde(default)]
    pub(crate) shadow: bool,
    /// How long the bootstrap extension holds Envoy's start at most, until the first feed is complete.
    #[serde(default = "half_a_minute", deserialize_with = "time")]
    pub(crate) hold: Duration,
    /// The hook that panics, in tests.
    #[cfg(feature = "panics")]
    #[serde(default)]
    pub(crate) panic_in: Option<String>,
}

/// Where the feed is, and how it is followed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Feed {
    /// Envoy's cluster of Doorward's HTTP port.
    pub(crate) cluster: String,
    /// The authority of the requests.
    #[serde(default = "doorward")]
    pub(crate) authority: String,
    /// The pause between requests, a fifth more or less.
    #[serde(default = "half_a_second", deserialize_with = "time")]
    pub(crate) every: Duration,
    /// How long an answer may take.
    #[serde(default = "two_seconds", deserialize_with = "time")]
    pub(crate) timeout: Duration,
    /// The age of the feed beyond which no token is accepted.
    #[serde(default = "ten_seconds", deserialize_with = "time")]
    pub(crate) stale_after: Duration,
}

/// How requests that Doorward answers are sent to it: actions, which need a database or a password hash, and requests
/// with a key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Actions {
    /// Envoy's cluster of Doorward's gRPC port.
    pub(crate) cluster: String,
    /// The authority of the requests.
    #[serde(default = "doorward")]
    pub(crate) authority: String,
    /// How long an answer may take.
    #[serde(default = "three_seconds", deserialize_with = "time")]
    pub(crate) timeout: Duration,
    /// The longest body, in bytes.
    #[serde(default = "most_of_a_body")]
    pub(crate) max_body: usize,
}

fn doorward() -> String {
    "doorward".into()
}

fn half_a_second() -> Duration {
    Duration::from_millis(500)
}

fn two_seconds() -> Duration {
    Duration::from_secs(2)
}

fn three_seconds() -> Duration {
    Duration::from_secs(3)
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

fn most_of_a_body() -> usize {
    8192
}

/// A time as in Doorward's settings: `500ms`, `10s`.
fn time<'de, D: Deserializer<'de>>(reader: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(reader)?;
    let time = humantime::parse_duration(&text).map_err(D::Error::custom)?;
    match (Duration::from_millis(50)..=Duration::from_hours(24 * 366)).contains(&time) {
        true => Ok(time),
        false => Err(D::Error::custom("a time from 50ms to a year is needed")),
    }
}

/// Why a configuration is refused. Envoy keeps the previous one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsFault {
    #[error("the configuration is not understood: {}", line(.0))]
    Syntax(#[source] serde_json::Error),
    #[error("content: {}", line(.0))]
    ContentSyntax(#[source] serde_json::Error),
    #[error("content: {0}")]
    Content(#[from] ContentFault),
    #[error("neither \"feed\" nor \"content\" says what is in force")]
    Nothing,
    #[error("{name}: {1}", name = line(.0))]
    File(String, #[source] io::Error),
    #[error("{}", line(.0))]
    Rules(String),
    #[error(
        "\"rules_file\" and \"content.rules\" both say which rules are in force; remove one of them"
    )]
    TwoRules,
    #[error("{name}: {1}", name = line(.0))]
    Secret(String, #[source] SecretFault),
    #[error("Envoy refused to define the metric {0}")]
    Metric(&'static str),
    #[error("the thread that follows the feed cannot be started: {0}")]
    Thread(#[source] io::Error),
}

/// A text that may quote the configuration, as a part of one line in Envoy's log.
fn line(text: &impl fmt::Display) -> String {
    const LONGEST: usize = 1000;
    one_line(&text.to_string(), LONGEST)
}

impl Settings {
    /// Reads a configuration.
    pub(crate) fn read(text: &[u8]) -> Result<Self, SettingsFault> {
        serde_json::from_slice(text).map_err(SettingsFault::Syntax)
    }

    /// The keys of the HS256 secrets.
    pub(crate) fn secrets(&self) -> Result<Vec<Key>, SettingsFault> {
        self.secret_files
            .iter()
            .map(|path| {
                let name = || path.display().to_string();
                let text = fs::read(path).map_err(|fault| SettingsFault::File(name(), fault))?;
                let secret =
                    Secret::parse(&text).map_err(|fault| SettingsFault::Secret(name(), fault))?;
                Ok(Key::from_secret(&secret, UnixTime(0)).only_verifying())
            })
            .collect()
    }

    /// The rules of the file, if the configuration names one.
    pub(crate) fn rules(&self) -> Result<Option<Vec<RuleEntry>>, SettingsFault> {
        let Some(path) = &self.rules_file else {
            return Ok(None);
        };
        if self.content.get("rules").is_some() {
            return Err(SettingsFault::TwoRules);
        }
        let name = path.display().to_string();
        let text = fs::read_to_string(path);
        let text = text.map_err(|fault| SettingsFault::File(name.clone(), fault))?;
        // Which endpoints are on, Doorward knows, which answers their requests.
        let options = RouteOptions {
            endpoints: &Endpoint::ALL,
            tolerance: Tolerance::default(),
            keys: true,
            // Doorward signs the assertion, for the audience of its own rule.
            assertions: None,
        };
        let policy = routes::of_file(&name, &text, options).map_err(|faults| {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            SettingsFault::Rules(faults.join("; "))
        })?;
        Ok(Some(policy.rules().iter().map(RuleEntry::of).collect()))
    }

    /// The sections of the content that replace those of the feed; `rules` are those of the file.
    pub(crate) fn instead(&self, rules: Option<Vec<RuleEntry>>) -> Result<Instead, SettingsFault> {
        let instead = match self.content.is_null() {
            true => Instead::default(),
            false => serde_json::from_value(self.content.clone())
                .map_err(SettingsFault::ContentSyntax)?,
        };
        Ok(Instead {
            rules: rules.or(instead.rules),
            ..instead
        })
    }

    /// The content where there is no feed; `rules` are those of the file. Missing members have Doorward's default values.
    pub(crate) fn content(&self, rules: Option<Vec<RuleEntry>>) -> Result<Content, SettingsFault> {
        if self.content.is_null() {
            return Err(SettingsFault::Nothing);
        }
        let mut whole = defaults();
        overlay(&mut whole, &self.content);
        let mut content: Content =
            serde_json::from_value(whole).map_err(SettingsFault::ContentSyntax)?;
        if let Some(rules) = rules {
            content.rules = rules;
        }
        Ok(content)
    }

    /// Equal for configurations that share what they know.
    pub(crate) fn identity(&self, secrets: &[Key], rules: Option<&[RuleEntry]>) -> String {
        let names: Vec<_> = secrets.iter().map(|key| key.id().as_str()).collect();
        format!("{:?} {} {rules:?} {names:?}", self.feed, self.content)
    }
}

/// The content of a Doorward with default settings, without keys and rules.
fn defaults() -> Value {
    json!({
        "keys": [],
        "token": { "issuer": "doorward", "audience": "doorward", "lifetime": 86_400, "leeway": 30 },
        "issuers": [],
        "rules": [],
        "settings": {
            "endpoints": ["login", "logout"],
            "realm": "doorward",
            "identity_headers": ["x-auth-user", "x-auth-roles", "x-auth-admin"],
            "forward_bearer": true,
            "allow_preflight": false,
            "tolerate": [],
            "also": [],
            "trusted_proxies": ["127.0.0.0/8", "::1/128"],
            "client_address": "peer",
            "login_reply": "direct",
            "metadata": true,
        },
    })
}

/// Replaces the members of `below` by those of `above`, recursively in objects.
fn overlay(below: &mut Value, above: &Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (name, value) in above {
                overlay(below.entry(name).or_insert(Value::Null), value);
            }
        }
        (below, above) => below.clone_from(above),
    }
}
