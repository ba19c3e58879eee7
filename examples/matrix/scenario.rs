//! Scenarios as data: the requests, and what client and service must see. `scenarios.toml` explains the members.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::steps::Step;

/// The file of scenarios.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenarios {
    /// The status that clients get instead of the status of the authorizer, by gateway.
    #[serde(default)]
    pub statuses: BTreeMap<String, BTreeMap<String, u16>>,
    /// Changes to committed configurations that some scenarios need.
    #[serde(default, rename = "change")]
    pub changes: Vec<Change>,
    #[serde(rename = "scenario")]
    pub all: Vec<Scenario>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub name: String,
    pub proxies: Vec<String>,
    pub why: String,
    pub edits: Vec<[String; 2]>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    pub proves: String,
    #[serde(default)]
    pub needs: Vec<Need>,
    pub change: Option<String>,
    pub step: Option<Step>,
    #[serde(default, rename = "request")]
    pub requests: Vec<Request>,
    /// Why a gateway cannot do it, by gateway.
    #[serde(default)]
    pub cannot: BTreeMap<String, String>,
}

/// What an authorizer must have for a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// A route without a credential
    Public,
    /// A route that needs a role
    Roles,
    /// Preflight requests pass
    Preflights,
    /// `POST /login`
    Login,
    /// `POST /logout`
    Logout,
    /// Doorward itself, because the step runs its commands
    #[value(skip)]
    Doorward,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    #[serde(default = "get")]
    pub method: String,
    pub paths: Vec<String>,
    /// Headers as `name: value`.
    #[serde(default)]
    pub headers: Vec<String>,
    /// More headers; one request for each list.
    #[serde(default)]
    pub variants: Vec<Vec<String>>,
    #[serde(rename = "as")]
    pub who: Option<String>,
    /// A kept token, shown instead of the user's own.
    pub token: Option<String>,
    #[serde(default)]
    pub body: String,
    /// The length of a body of zeros.
    #[serde(default)]
    pub body_bytes: usize,
    /// Sends the head only, with this length.
    pub announced_bytes: Option<usize>,
    pub outcome: Wanted,
    #[serde(default)]
    pub status: Vec<u16>,
    /// Headers of the answer as `name: part of the value`.
    #[serde(default)]
    pub reply: Vec<String>,
    #[serde(default)]
    pub reply_lacks: Vec<String>,
    /// A part of the body of the answer.
    pub says: Option<String>,
    #[serde(default)]
    pub lacks: Vec<String>,
    #[serde(default)]
    pub path_lacks: Vec<String>,
    #[serde(default, deserialize_with = "duration")]
    pub within: Option<Duration>,
    pub keep: Option<String>,
}

/// How a request must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// The service answers.
    Pass,
    /// The client gets a denial, and the service gets nothing.
    Deny,
    /// The authorizer answers, and the service gets nothing.
    Answer,
    /// It passes or is denied, but what the service gets is harmless.
    Either,
}

impl Scenarios {
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let scenarios: Self = toml::from_str(text).context("the file of scenarios")?;
        for scenario in &scenarios.all {
            let name = &scenario.name;
            ensure!(
                scenario.step.is_some() || !scenario.requests.is_empty(),
                "{name}: a scenario has a step or requests"
            );
            if let Some(change) = &scenario.change {
                ensure!(
                    scenarios.changes.iter().any(|known| known.name == *change),
                    "{name}: no change is called {change:?}"
                );
            }
        }
        Ok(scenarios)
    }

    /// The edits of a change for a gateway. A gateway without edits does it with its committed configuration.
    pub fn edits(&self, change: Option<&str>, proxy: &str) -> Vec<[String; 2]> {
        let is_due = |own: &&Change| own.name == "always" || Some(&*own.name) == change;
        let named = self.changes.iter().filter(is_due);
        let own = named.filter(|own| own.proxies.iter().any(|name| name == proxy));
        own.flat_map(|own| own.edits.clone()).collect()
    }

    /// The status that a client of this gateway gets instead of the authorizer's.
    pub fn translated(&self, proxy: &str, status: u16) -> u16 {
        let own = self.statuses.get(proxy);
        let found = own.and_then(|own| own.get(&status.to_string()));
        found.copied().unwrap_or(status)
    }
}

fn get() -> String {
    "GET".to_owned()
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time = humantime::parse_duration(&text).map_err(D::Error::custom)?;
    Ok(Some(time))
}
