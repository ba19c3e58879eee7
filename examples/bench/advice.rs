//! What settings of Envoy and of the connection between Envoy and Doorward cost or save, each as a ratio to the committed
//! `envoy/envoy.yaml`. One Envoy differs from the next with the same configuration by more than most settings do, so each
//! round starts new ones: for each setting one with it, right after one with the committed configuration.

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;
use comfy_table::{Table, presets::NOTHING};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    Arguments, Ratio, WARM_UP, binary,
    cost::Cost,
    gateway,
    harness::{Doorward, Envoy, EnvoyConfig, Home, Settings, send},
    load::{self, Browsers, Load as _, PATH},
    median, number, right, sorted,
};

/// The Doorwards that Envoys ask.
struct Doorwards {
    tcp: Doorward,
    unix: Doorward,
    without_metadata: Doorward,
    /// The published keys.
    jwks: String,
    token: String,
    _keys: TempDir,
}

/// Which Doorward an Envoy asks.
#[derive(Clone, Copy)]
enum Asked {
    Tcp,
    Unix,
    WithoutMetadata,
    /// None: Envoy decides, or nobody does.
    Nobody,
}

struct Variant {
    key: &'static str,
    what: &'static str,
    asked: Asked,
    workers: u16,
    /// Connections of clients, relative to the others.
    clients: u16,
    change: fn(EnvoyConfig, &str) -> EnvoyConfig,
}

const SAME: Variant = Variant {
    key: "same",
    what: "the same again, which shows how much Envoys differ",
    asked: Asked::Tcp,
    workers: 1,
    clients: 1,
    change: |config, _| config,
};

const VARIANTS: [Variant; 13] = [
    SAME,
    Variant {
        key: "unix_socket",
        what: "Unix socket instead of TCP",
        asked: Asked::Unix,
        ..SAME
    },
    Variant {
        key: "allowed_headers",
        what: "allowed_headers: authorization, and aliases by expression",
        change: |config, _| ext_authz(config, ALLOWED),
        ..SAME
    },
    Variant {
        key: "encode_raw_headers",
        what: "encode_raw_headers: true",
        change: |config, _| ext_authz(config, "encode_raw_headers: true"),
        ..SAME
    },
    Variant {
        key: "without_metadata",
        what: "envoy.metadata = false",
        asked: Asked::WithoutMetadata,
        ..SAME
    },
    Variant {
        key: "without_access_log",
        what: "no access log",
        change: |config, _| without_access_log(config),
        ..SAME
    },
    Variant {
        key: "workers",
        what: "two workers (--concurrency 2)",
        workers: 2,
        ..SAME
    },
    Variant {
        key: "more_clients",
        what: "four times as many connections of clients",
        clients: 4,
        ..SAME
    },
    Variant {
        key: "few_streams",
        what: "four connections to Doorward (max_concurrent_streams: 4)",
        change: |config, _| {
            config.replace(
                "connection_keepalive: {",
                "max_concurrent_streams: 4\n              connection_keepalive: {",
            )
        },
        ..SAME
    },
    Variant {
        key: "jwt_authn_before",
        what: "jwt_authn before ext_authz",
        change: jwt_authn_before,
        ..SAME
    },
    Variant {
        key: "jwt_authn_alone",
        what: "jwt_authn instead of ext_authz",
        asked: Asked::Nobody,
        change: |config, jwks| without_ext_authz(jwt_authn_before(config, jwks)),
        ..SAME
    },
    Variant {
        key: "nobody",
        what: "no authorization at all",
        asked: Asked::Nobody,
        change: |config, _| without_ext_authz(config),
        ..SAME
    },
    Variant {
        key: "best",
        what: "Unix socket, no access log, envoy.metadata as it is",
        asked: Asked::Unix,
        change: |config, _| without_access_log(config),
        ..SAME
    },
];

/// As in `envoy/envoy-http.yaml`: Doorward must see the other spellings of the identity headers.
const ALLOWED: &str = r#"allowed_headers:
                        patterns:
                          - exact: authorization
                          - exact: access-control-request-method
                          - exact: origin
                          - exact: x-request-id
                          - safe_regex: { regex: "x[^a-z0-9]auth[^a-z0-9](user|roles|admin)" }"#;

/// Adds a member to the filter.
fn ext_authz(config: EnvoyConfig, member: &str) -> EnvoyConfig {
    config.replace(
        "failure_mode_allow: false",
        &format!("failure_mode_allow: false\n                      {member}"),
    )
}

const FILTER: &str = "                  - name: envoy.filters.http.ext_authz\n";

/// Envoy verifies the same tokens first, with Doorward's keys.
fn jwt_authn_before(config: EnvoyConfig, jwks: &str) -> EnvoyConfig {
    let jwks = Value::from(jwks);
    config.replace(
        FILTER,
        &format!(
            r#"                  - name: envoy.filters.http.jwt_authn
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication
                      providers:
                        doorward:
                          issuer: doorward
                          audiences: [doorward]
                          forward: true
                          local_jwks: {{ inline_string: {jwks} }}
                      rules:
                        - match: {{ prefix: / }}
                          requires: {{ provider_name: doorward }}
{FILTER}"#
        ),
    )
}

fn without_ext_authz(config: EnvoyConfig) -> EnvoyConfig {
    cut(
        config,
        FILTER,
        "                  - name: envoy.filters.http.router\n",
    )
    .change(without_routes_of_ext_authz)
}

/// Envoy refuses settings of routes for a filter that is not there.
fn without_routes_of_ext_authz(mut text: String) -> String {
    const FROM: &str = "                          typed_per_filter_config:\n";
    const TO: &str = "allow_partial_message: false\n";
    while let Some(start) = text.find(FROM)
        && let Some(length) = text.get(start..).and_then(|rest| rest.find(TO))
    {
        text.replace_range(start..start + length + TO.len(), "");
    }
    text
}

fn without_access_log(config: EnvoyConfig) -> EnvoyConfig {
    cut(
        config,
        "                access_log:\n",
        "                # Headers must arrive soon.",
    )
}

/// Removes the lines from one to before another.
fn cut(config: EnvoyConfig, from: &str, to: &str) -> EnvoyConfig {
    config.change(|text| {
        let parts = text.split_once(from);
        let parts = parts.and_then(|(before, rest)| Some((before, rest.split_once(to)?.1)));
        let Some((before, after)) = parts else {
            panic!("{from:?} and then {to:?} are not in the configuration of Envoy")
        };
        format!("{before}{to}{after}")
    })
}

impl Doorwards {
    async fn start(arguments: &Arguments) -> anyhow::Result<Self> {
        let keys = tempfile::tempdir()?;
        let keys_dir = keys.path().join("keys");
        fs::create_dir(&keys_dir)?;
        let home = |choose: fn(&mut Settings)| {
            Doorward::prepare(|settings| {
                settings
                    .binary(binary(arguments))
                    .env("DOORWARD_JWT__KEYS_DIR", keys_dir.display().to_string());
                choose(settings);
            })
        };
        let tcp = home(|_| {});
        tcp.run(&["keys", "generate", "ES256"], "").await.ok();
        tcp.add_user(load::USER, load::PASSWORD, &[]).await;
        let tcp = tcp.serve().await;
        let unix = home(|settings| {
            settings.env("DOORWARD_LISTEN__GRPC", "unix:grpc.sock");
        });
        let without_metadata = home(|settings| {
            settings.env("DOORWARD_ENVOY__METADATA", "false");
        });
        let jwks = send(tcp.http, "GET", "/.well-known/jwks.json", &[], "").await;
        Ok(Self {
            token: load::log_in(tcp.grpc).await?,
            jwks: jwks.text().to_owned(),
            tcp,
            unix: migrated(unix).await.serve().await,
            without_metadata: migrated(without_metadata).await.serve().await,
            _keys: keys,
        })
    }

    fn asked(&self, asked: Asked) -> &Doorward {
        match asked {
            Asked::Tcp | Asked::Nobody => &self.tcp,
            Asked::Unix => &self.unix,
            Asked::WithoutMetadata => &self.without_metadata,
        }
    }

    async fn envoy(&self, variant: &Variant) -> Envoy {
        let doorward = self.asked(variant.asked);
        let mut config = gateway(doorward.grpc);
        if let Asked::Unix = variant.asked {
            config = over(config, &doorward.home().dir().join("grpc.sock"));
        }
        let config = (variant.change)(config, &self.jwks);
        Envoy::with_workers(Envoy::NEWEST, &config, variant.workers).await
    }
}

async fn migrated(home: Home) -> Home {
    home.run(&["migrate"], "").await.ok();
    home
}

/// Asks Doorward over a Unix socket, as in `envoy/envoy-uds.yaml`.
fn over(config: EnvoyConfig, socket: &Path) -> EnvoyConfig {
    let pipe = format!("pipe: {{ path: {} }}", socket.display());
    config
        .replace(
            "socket_address: { address: 127.0.0.1, port_value: 0 }\n\n    - name: service",
            &format!("{pipe}\n\n    - name: service"),
        )
        .replace(
            "envoy_grpc: { cluster_name: doorward }",
            "envoy_grpc: { cluster_name: doorward, authority: doorward }",
        )
}

/// One round of one variant.
#[derive(Clone, Copy)]
struct Measured {
    per_second: f64,
    /// CPU of a request, in microseconds.
    envoy: f64,
    doorward: f64,
}

pub struct Report {
    connections: u16,
    /// For each variant, each round of the committed configuration and that of the variant.
    variants: Vec<Vec<(Measured, Measured)>>,
}

pub async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let doorwards = Doorwards::start(arguments).await?;
    let mut report = Report {
        connections: arguments.connections,
        variants: VARIANTS.iter().map(|_| Vec::new()).collect(),
    };
    for number in 1..=arguments.rounds {
        eprintln!("settings of Envoy: round {number} of {}", arguments.rounds);
        for (variant, rounds) in VARIANTS.iter().zip(&mut report.variants) {
            let base = round(arguments, &doorwards, &SAME).await?;
            let measured = round(arguments, &doorwards, variant).await;
            rounds.push((base, measured.context(variant.what)?));
        }
    }
    Ok(report)
}

async fn round(
    arguments: &Arguments,
    doorwards: &Doorwards,
    variant: &Variant,
) -> anyhow::Result<Measured> {
    let envoy = doorwards.envoy(variant).await;
    let connections = arguments.connections.saturating_mul(variant.clients);
    let mut clients = Browsers::open(envoy.edge, PATH, &doorwards.token, connections).await?;
    clients.run(WARM_UP).await?;
    let pids = [envoy.pid(), doorwards.asked(variant.asked).pid()];
    let [envoy_cost, doorward_cost] = pids.map(Cost::of);
    let (envoy_cost, doorward_cost) = (envoy_cost?, doorward_cost?);
    let start = Instant::now();
    let answers = clients.run(Duration::from_secs(arguments.seconds)).await?;
    let took = start.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let answers = answers as f64;
    let each = |before: Cost, pid| {
        let cost = Cost::of(pid)?.since(before);
        anyhow::Ok(cost.as_secs_f64() * 1e6 / answers)
    };
    let [envoy_pid, doorward_pid] = pids;
    Ok(Measured {
        per_second: answers / took,
        envoy: each(envoy_cost, envoy_pid)?,
        doorward: each(doorward_cost, doorward_pid)?,
    })
}

fn ratio(rounds: &[(Measured, Measured)], value: Part) -> Ratio {
    Ratio::of((rounds.iter()).map(|(base, measured)| value(measured) / value(base)))
}

type Part = fn(&Measured) -> f64;

const VALUES: [(&str, Part); 3] = [
    ("per_second", |measured| measured.per_second),
    ("envoy_cpu_micros", |measured| measured.envoy),
    ("doorward_cpu_micros", |measured| measured.doorward),
];

impl Report {
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(["", "requests", "rounds", "CPU of Envoy", "CPU of Doorward"]);
        for (variant, rounds) in VARIANTS.iter().zip(&self.variants) {
            let [rate, envoy, doorward] = VALUES.map(|(_, value)| ratio(rounds, value));
            let [rate, spread] = rate.cells();
            table.add_row([
                variant.what.to_owned(),
                rate,
                spread,
                format!("{:.3}", envoy.median),
                format!("{:.3}", doorward.median),
            ]);
        }
        right(&mut table);
        let [rate, envoy, doorward] = VALUES.map(|(_, value)| {
            let base = self.variants.iter().flatten().map(|(base, _)| value(base));
            number(median(&sorted(base)))
        });
        format!(
            "{table}\n\nRatios to envoy/envoy.yaml with one worker and {} connections of clients, whose medians are {rate} \
             requests a second, {envoy} µs of CPU of Envoy and {doorward} µs of Doorward per request. Envoy itself plays the \
             service; the load runs on the same cores.",
            self.connections,
        )
    }

    pub fn json(&self) -> Value {
        let line = |rounds: &[(Measured, Measured)]| {
            let values = VALUES.map(|(key, value)| {
                let ratio = ratio(rounds, value);
                let value = json!({
                    "median": ratio.median,
                    "least": ratio.least,
                    "most": ratio.most,
                });
                (key.to_owned(), value)
            });
            Value::Object(values.into_iter().collect())
        };
        let lines = VARIANTS.iter().zip(&self.variants);
        let lines = lines.map(|(variant, rounds)| (variant.key.to_owned(), line(rounds)));
        Value::Object(lines.collect::<Map<_, _>>())
    }
}
