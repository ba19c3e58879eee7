//! What all cells share: the scenarios, the measured authorizer, and how one is set up behind a gateway.

use std::{cell::RefCell, collections::BTreeMap, net::SocketAddr, path::PathBuf, process::Command};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::{
    columns::{Column, Doors, Running},
    harness::{Doorward, Home, Relay, Service, Settings, basic, send},
    scenario::{Need, Scenarios},
};

/// An administrator, and somebody who is not.
pub const ADA: (&str, &str) = ("ada", "countess-of-lovelace");
pub const BOB: (&str, &str) = ("bob", "builder-of-things");

pub const RULES: &str = include_str!("rules.toml");

pub struct World {
    pub scenarios: Scenarios,
    pub subject: Subject,
    /// The name of the header with the user.
    pub identity: String,
}

/// The authorizer that is measured.
pub enum Subject {
    Doorward {
        program: PathBuf,
        /// A data directory with keys and both users, which every Doorward gets a copy of.
        data: TempDir,
    },
    Other {
        address: SocketAddr,
        /// `Authorization` values by user.
        tokens: BTreeMap<String, String>,
        lacks: Vec<Need>,
    },
}

impl World {
    /// The measured authorizer is Doorward.
    pub async fn of_doorward(
        scenarios: Scenarios,
        identity: String,
        program: PathBuf,
    ) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let home = Doorward::prepare(|settings| {
            settings.binary(&program).env(
                "DOORWARD_DATA_DIR",
                data.path().join("data").display().to_string(),
            );
        });
        home.run(&["migrate"], "").await.ok();
        // The module gets only public keys.
        home.run(&["keys", "generate", "ES256"], "").await.ok();
        add_users(&home).await;
        Ok(Self {
            scenarios,
            subject: Subject::Doorward { program, data },
            identity,
        })
    }

    /// Why the measured authorizer does not have what a scenario needs, if so.
    pub fn lacks(&self, needs: &[Need]) -> Option<String> {
        let Subject::Other { lacks, .. } = &self.subject else {
            return None;
        };
        let missing = |need: &&Need| **need == Need::Doorward || lacks.contains(need);
        needs.iter().find(missing).map(|need| match need {
            Need::Doorward => "The step runs commands of Doorward.".to_owned(),
            Need::Public | Need::Roles | Need::Preflights | Need::Login | Need::Logout => {
                format!("The authorizer is said to lack it: {need:?}.")
            }
        })
    }

    /// A Doorward with the rules of the matrix and both users.
    pub fn home(&self, column: Column, more: impl FnOnce(&mut Settings)) -> anyhow::Result<Home> {
        let Subject::Doorward { program, data } = &self.subject else {
            anyhow::bail!("the measured authorizer is not Doorward");
        };
        let home = Doorward::prepare(|settings| {
            settings
                .binary(program)
                .toml(RULES)
                .env("DOORWARD_FEED__ENABLED", "true")
                .envs(
                    column
                        .client_address()
                        .map(|address| ("DOORWARD_CLIENT_ADDRESS", address)),
                );
            more(settings);
        });
        let copied = Command::new("cp")
            .arg("-a")
            .arg(data.path().join("data"))
            .arg(home.dir())
            .status()?;
        ensure!(copied.success(), "the data cannot be copied: {copied}");
        Ok(home)
    }

    /// The authorizer, a service and the gateway.
    pub async fn setup(&self, column: Column, change: Option<&str>) -> anyhow::Result<Setup<'_>> {
        let service = Service::start().await;
        let address = service.address;
        let mut setup = self.before(column, change, address).await?;
        setup.service = Some(service);
        Ok(setup)
    }

    /// The authorizer and the gateway before another service.
    pub async fn before(
        &self,
        column: Column,
        change: Option<&str>,
        service: SocketAddr,
    ) -> anyhow::Result<Setup<'_>> {
        let authorizer = match &self.subject {
            Subject::Doorward { .. } => {
                Authorizer::Doorward(Box::new(self.home(column, |_| {})?.serve().await))
            }
            Subject::Other { address, .. } => Authorizer::Other(Relay::start(&[*address]).await?),
        };
        let doors = match &authorizer {
            Authorizer::Doorward(doorward) => doors(doorward),
            Authorizer::Other(relay) => Doors {
                grpc: relay.address,
                http: relay.address,
            },
        };
        let bearers = match &self.subject {
            Subject::Doorward { .. } => logged_in(doors.http).await?,
            Subject::Other { tokens, .. } => tokens.clone(),
        };
        let gateway = column
            .start(&self.scenarios, change, doors, service)
            .await?;
        Ok(Setup {
            world: self,
            column,
            gateway,
            authorizer,
            service: None,
            bearers: RefCell::new(bearers),
        })
    }
}

pub async fn add_users(home: &Home) {
    home.add_user(ADA.0, ADA.1, &["--admin"]).await;
    home.add_user(BOB.0, BOB.1, &["--role", "editor"]).await;
}

/// The data directory of a Doorward.
pub fn data(home: &Home) -> PathBuf {
    home.dir().join("data")
}

/// Where a gateway finds a Doorward.
pub fn doors(doorward: &Doorward) -> Doors {
    Doors {
        grpc: doorward.grpc,
        http: doorward.http,
    }
}

/// Tokens of both users, as `Authorization` values.
pub async fn logged_in(http: SocketAddr) -> anyhow::Result<BTreeMap<String, String>> {
    let mut bearers = BTreeMap::new();
    for who in [ADA, BOB] {
        bearers.insert(who.0.to_owned(), log_in(http, who).await?);
    }
    Ok(bearers)
}

/// Logs in at Doorward's HTTP port, without a gateway.
pub async fn log_in(http: SocketAddr, who: (&str, &str)) -> anyhow::Result<String> {
    let credentials = basic(who.0, who.1);
    let headers = [("authorization", &*credentials)];
    let reply = send(http, "POST", "/login", &headers, "").await;
    let bearer = reply.header("authorization").map(str::to_owned);
    bearer.with_context(|| format!("a login gave {}", reply.status))
}

/// A gateway between a client, an authorizer and a service.
pub struct Setup<'a> {
    pub world: &'a World,
    pub column: Column,
    pub gateway: Running,
    pub authorizer: Authorizer,
    pub service: Option<Service>,
    /// `Authorization` values by user, and kept ones.
    pub bearers: RefCell<BTreeMap<String, String>>,
}

pub enum Authorizer {
    Doorward(Box<Doorward>),
    Other(Relay),
}

impl Setup<'_> {
    /// The token of a user, or a kept one.
    pub fn bearer(&self, name: &str) -> anyhow::Result<String> {
        let bearers = self.bearers.borrow();
        let found = bearers.get(name).cloned();
        found.with_context(|| format!("no token is called {name:?}"))
    }

    /// How many requests have reached the service.
    pub fn arrived(&self) -> u64 {
        self.service.as_ref().map_or(0, Service::requests)
    }
}
