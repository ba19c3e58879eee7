//! The configuration of the module, as JSON: what Envoy makes of a `Struct`, and Envoy Gateway of `config`. A member that
//! is not known is a fault, so that no mistake is taken for a setting.

use std::{fs, io, path::PathBuf, time::Duration};

use doorward_core::{
    key::Key,
    secret::{Secret, SecretFault},
    time::UnixTime,
};
use doorward_rules::feed::{Content, ContentFault, Instead};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Value, json};

/// What a filter configuration, or the bootstrap extension, says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where what is in force comes from.
    pub(crate) feed: Option<Feed>,
    /// What is in force without a feed, or instead of its parts.
    #[serde(default)]
    content: Value,
    /// Files of HS256 secrets, which no feed carries.
    #[serde(default)]
    secret_files: Vec<PathBuf>,
    /// Where actions are sent.
    pub(crate) actions: Option<Actions>,
    /// The name under which decisions stand in the dynamic metadata.
    pub(crate) metadata: Option<String>,
    /// Whether decisions are counted only, and nothing is changed.
    #[serde(default)]
    pub(crate) shadow: bool,
    /// How long the bootstrap extension holds Envoy's start until the first feed has come.
    #[serde(default = "half_a_minute", deserialize_with = "time")]
    pub(crate) hold: Duration,
    /// Which hook panics, in tests.
    #[cfg(feature = "panics")]
    #[serde(default)]
    pub(crate) panic_in: Option<String>,
}

/// Where the feed is, and how it is followed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Feed {
    /// A cluster of Envoy's: Doorward's HTTP port.
    pub(crate) cluster: String,
    /// The authority of the questions.
    #[serde(default = "doorward")]
    pub(crate) authority: String,
    /// The pause between questions, by a fifth more or less.
    #[serde(default = "half_a_second", deserialize_with = "time")]
    pub(crate) every: Duration,
    /// How long an answer may take.
    #[serde(default = "two_seconds", deserialize_with = "time")]
    pub(crate) timeout: Duration,
    /// From which age on no token is accepted.
    #[serde(default = "ten_seconds", deserialize_with = "time")]
    pub(crate) stale_after: Duration,
}

/// How Doorward is asked what takes a row or a hash.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Actions {
    /// A cluster of Envoy's: Doorward's gRPC port.
    pub(crate) cluster: String,
    /// The authority of the questions.
    #[serde(default = "doorward")]
    pub(crate) authority: String,
    /// How long an answer may take.
    #[serde(default = "three_seconds", deserialize_with = "time")]
    pub(crate) timeout: Duration,
    /// The most bytes of a body.
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

/// Why a configuration is refused; Envoy keeps the one before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsFault {
    #[error("the configuration is not understood: {0}")]
    Syntax(#[source] serde_json::Error),
    #[error("content: {0}")]
    ContentSyntax(#[source] serde_json::Error),
    #[error("content: {0}")]
    Content(#[from] ContentFault),
    #[error("neither \"feed\" nor \"content\" says what is in force")]
    Nothing,
    #[error("{0}: {1}")]
    File(String, #[source] io::Error),
    #[error("{0}: {1}")]
    Secret(String, #[source] SecretFault),
    #[error("this Envoy cannot count: {0}")]
    Metric(&'static str),
    #[error("no thread can be started that asks for the feed: {0}")]
    Thread(#[source] io::Error),
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

    /// The parts of the content that no feed replaces.
    pub(crate) fn instead(&self) -> Result<Instead, SettingsFault> {
        if self.content.is_null() {
            return Ok(Instead::default());
        }
        serde_json::from_value(self.content.clone()).map_err(SettingsFault::ContentSyntax)
    }

    /// The whole content, where there is no feed. What it does not say is as in Doorward without settings.
    pub(crate) fn content(&self) -> Result<Content, SettingsFault> {
        if self.content.is_null() {
            return Err(SettingsFault::Nothing);
        }
        let mut whole = usual();
        overlay(&mut whole, &self.content);
        serde_json::from_value(whole).map_err(SettingsFault::ContentSyntax)
    }

    /// What tells apart what configurations know: those that say the same share it.
    pub(crate) fn identity(&self, secrets: &[Key]) -> String {
        let names: Vec<_> = secrets.iter().map(|key| key.id().as_str()).collect();
        format!("{:?} {} {names:?}", self.feed, self.content)
    }
}

/// The content of a Doorward without settings.
fn usual() -> Value {
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
            "trusted_proxies": [],
            "client_address": "peer",
            "login_reply": "direct",
            "metadata": false,
        },
    })
}

/// Puts the members of an object in place of those of another one; objects within are treated the same.
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
