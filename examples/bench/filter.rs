//! The judge inside Envoy, also with many rules and many revocations, against what else can stand there: nothing, Envoy's
//! own `jwt_authn` without and with its cache, ext_authz to Doorward over TCP and over a Unix socket, and to a null
//! authorizer. Every side is an Envoy with one worker that answers by itself; all of them answer the same load in short
//! rounds by turns.

use std::{fmt::Write as _, fs, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use comfy_table::{Table, presets::NOTHING};
use doorward::domain::{
    account::{Identity, Roles, Username},
    key::{Algorithm, Key, KeyId},
    keyring::Keyring,
    revocation::Generation,
    secret::Secret,
    token::{Signer, TokenTerms, UnixTime},
};
use doorward_rules::private::keep;
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::{
    Arguments, Ratio, Round, binary,
    harness::{Database, Doorward, Envoy, EnvoyConfig, PATIENCE, Sqlite, until},
    load::{Browsers, Load as _, PATH, question_with},
    median,
    null::Null,
    number, right, round, sorted,
};

/// Tokens that are shown again and again where there are many.
const MANY: usize = 10_000;

/// Rules where there are many.
const RULES: usize = 10_000;

/// Revoked tokens where there are many.
const REVOKED: usize = 100_000;

/// What stands in the chain of one Envoy.
struct Side {
    key: &'static str,
    name: &'static str,
    envoy: Envoy,
    server: (u32, Browsers),
    rounds: Vec<Round>,
    /// The 99th percentile of each round, in milliseconds.
    p99: Vec<f64>,
}

/// Keys of one algorithm, and tokens.
struct Tokens {
    signer: Signer,
    /// As the content of a feed has them.
    keys: Value,
    jwks: String,
}

pub async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let dir = tempfile::tempdir()?;
    let secret = Secret::generate();
    let secret_file = dir.path().join("secret");
    fs::write(&secret_file, secret.as_bytes())?;
    let hs = Tokens::of(Key::from_secret(
        &Secret::parse(secret.as_bytes())?,
        UnixTime(0),
    ))?;
    let keys_dir = dir.path().join("keys");
    fs::create_dir(&keys_dir)?;
    let id = KeyId::parse("bench").context("the name of a key")?;
    let text = Key::generate(&id, Algorithm::Es256, UnixTime(0))?;
    keep(&keys_dir.join("bench.jwk"), &text)?;
    let es = Tokens::of(Key::read("bench.jwk", text.as_bytes())?)?;

    let database = Database::<Sqlite>::start().await;
    let doorward = |listen: &str, database: Option<&Database<Sqlite>>| {
        let (listen, keys_dir) = (listen.to_owned(), keys_dir.display().to_string());
        let database = database.map(Database::env).unwrap_or_default();
        Doorward::start(move |settings| {
            settings
                .envs(database)
                .binary(binary(arguments))
                .env("DOORWARD_LISTEN__GRPC", listen)
                .env("DOORWARD_JWT__KEYS_DIR", keys_dir)
                .env("DOORWARD_FEED__ENABLED", "true")
                .toml("[[route]]\npath = \"/*\"\nallow = \"signed-in\"\n");
        })
    };
    let socket = dir.path().join("doorward.sock");
    let tcp = doorward("127.0.0.1:0", None).await;
    let unix = doorward(&format!("unix:{}", socket.display()), None).await;
    let with_revoked = doorward("127.0.0.1:0", Some(&database)).await;
    revoke(&database)?;
    let null = Null::start().await?;

    eprintln!("filter: tokens are made");
    let one = es.make(1)?;
    let (many, many_hs) = (es.make(MANY)?, hs.make(MANY)?);
    let module =
        |tokens: &Tokens, rules, more: &str| with_module(tokens, rules, &secret_file, more);
    let sides = [
        ("bare", "nothing", bare(), &many),
        (
            "module_one",
            "module, ES256, 1 token",
            module(&es, 1, ""),
            &one,
        ),
        (
            "module",
            "module, ES256, 10,000 tokens",
            module(&es, 1, ""),
            &many,
        ),
        (
            "module_hs256",
            "module, HS256, 10,000 tokens",
            module(&hs, 1, ""),
            &many_hs,
        ),
        (
            "module_metadata",
            "module with metadata",
            module(&es, 1, "metadata: doorward,"),
            &many,
        ),
        (
            "module_rules",
            "module, 10,000 rules",
            module(&es, RULES, ""),
            &many,
        ),
        ("module_feed", "module with a feed", following(&tcp), &many),
        (
            "module_revoked",
            "module with a feed, 100,000 revocations",
            following(&with_revoked),
            &many,
        ),
        ("jwt_authn", "jwt_authn", with_jwt_authn(&es, 0), &many),
        (
            "jwt_authn_cache",
            "jwt_authn with its cache",
            with_jwt_authn(&es, 20_000),
            &many,
        ),
        (
            "ext_authz_tcp",
            "ext_authz, TCP",
            asking().doorward(tcp.grpc),
            &many,
        ),
        (
            "ext_authz_unix",
            "ext_authz, Unix socket",
            at_socket(&socket),
            &many,
        ),
        (
            "null",
            "ext_authz, null authorizer",
            asking().doorward(null.address),
            &many,
        ),
    ];
    let mut running = Vec::new();
    for (key, name, config, tokens) in sides {
        let envoy = Envoy::start(Envoy::NEWEST, &config.free_ports()).await;
        let questions: anyhow::Result<Vec<_>> = tokens
            .iter()
            .map(|token| question_with(PATH, token))
            .collect();
        let browsers = Browsers::with(envoy.edge, questions?.into(), arguments.connections);
        running.push(Side {
            key,
            name,
            server: (envoy.pid(), browsers.await?),
            envoy,
            rounds: Vec::new(),
            p99: Vec::new(),
        });
    }
    let _running = (tcp, unix, with_revoked, null);
    sleep(Duration::from_secs(1)).await;
    for side in &mut running {
        side.server.1.run(WARM_UP).await.context(side.name)?;
        if side.key == "module_revoked" {
            until("all revocations are in memory", PATIENCE, async || {
                // Only requests set the gauge.
                side.server.1.run(WARM_UP).await.ok()?;
                let stats = side.envoy.ask("/stats?filter=doorward_revocations").await;
                let all = format!("doorward_revocations: {REVOKED}");
                stats.text().contains(&all).then_some(())
            })
            .await;
        }
    }
    let length = Duration::from_secs(arguments.seconds);
    for number in 1..=arguments.rounds {
        eprintln!("filter: round {number} of {}", arguments.rounds);
        for side in &mut running {
            side.server.1.took.clear();
            let done = round(&mut side.server, length).await.context(side.name)?;
            side.rounds.push(done);
            let took = sorted(side.server.1.took.iter().map(Duration::as_secs_f64));
            let p99 = took.get(took.len() * 99 / 100).context("no answers")?;
            side.p99.push(1e3 * p99);
        }
    }
    Ok(Report { sides: running })
}

const WARM_UP: Duration = Duration::from_secs(1);

impl Tokens {
    fn of(key: Key) -> anyhow::Result<Self> {
        let terms = TokenTerms {
            issuer: "doorward".into(),
            audience: "doorward".into(),
            lifetime: Duration::from_hours(24),
            leeway: Duration::from_secs(30),
        };
        let mut entry = json!({
            "kid": key.id().as_str(),
            "alg": key.algorithm().name(),
            "not_before": 0,
            "signs": true,
        });
        if let (Some(public), Some(entry)) = (key.public(), entry.as_object_mut()) {
            entry.insert("public".into(), serde_json::to_value(public)?);
        }
        let keyring = Arc::new(Keyring::new(vec![key], terms.lasts())?);
        Ok(Self {
            keys: json!([entry]),
            jwks: keyring.jwks(now()?),
            signer: Signer::new(keyring, terms),
        })
    }

    fn make(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let now = now()?;
        (0..count)
            .map(|user| {
                let identity = Identity {
                    subject: format!("{user:05}"),
                    username: Username::parse(&format!("user-{user:05}")).context("no name")?,
                    roles: Roles::default(),
                };
                let token = self.signer.issue(&identity, Generation(0), None, now)?;
                Ok(format!("Bearer {}", token.expose()))
            })
            .collect()
    }
}

fn now() -> anyhow::Result<UnixTime> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(UnixTime(since.as_secs()))
}

/// Envoy answers by itself, and writes no access log.
fn answering(config: EnvoyConfig) -> EnvoyConfig {
    config
        .replace(
            "- match: { prefix: / }",
            "- match: { prefix: / }
                          direct_response: { status: 200 }
                        - match: { path: /unreached }",
        )
        .change(
            |text| match text.split_once("                # One line per request") {
                None => text,
                Some((before, rest)) => {
                    let next = "                # Headers must arrive soon.";
                    let (_, after) = rest.split_once(next).unwrap_or(("", ""));
                    format!("{before}{next}{after}")
                }
            },
        )
}

fn asking() -> EnvoyConfig {
    answering(EnvoyConfig::committed())
}

fn at_socket(socket: &Path) -> EnvoyConfig {
    asking().replace(
        "socket_address: { address: 127.0.0.1, port_value: 9001 }",
        &format!("pipe: {{ path: {} }}", socket.display()),
    )
}

/// The committed configuration with another filter, or none, in place of ext_authz.
fn instead(filter: &str) -> EnvoyConfig {
    asking().change(|text| {
        let Some((before, rest)) =
            text.split_once("                  - name: envoy.filters.http.ext_authz\n")
        else {
            return text;
        };
        let router = "                  - name: envoy.filters.http.router\n";
        let Some((_, after)) = rest.split_once(router) else {
            return text;
        };
        let text = format!("{before}{filter}{router}{after}");
        // Routes that name the filter that is gone.
        let Some((before, rest)) =
            text.split_once("                        - match: { path: /login }")
        else {
            return text;
        };
        let all = "                        - match: { prefix: / }";
        let Some((_, after)) = rest.split_once(all) else {
            return text;
        };
        format!("{before}{all}{after}")
    })
}

fn bare() -> EnvoyConfig {
    instead("")
}

fn with_module(tokens: &Tokens, rules: usize, secret: &Path, more: &str) -> EnvoyConfig {
    let mut list = vec![json!({ "path": "/*", "allow": "signed-in" })];
    list.extend((1..rules).map(
        |number| json!({ "path": format!("/shop/service{number}/*"), "allow": "role:reader" }),
    ));
    let content = json!({ "keys": tokens.keys, "rules": list });
    instead(&format!(
        "                  - name: doorward
                    typed_config:
                      \"@type\": type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter
                      dynamic_module_config: {{ name: doorward, do_not_close: true }}
                      filter_name: doorward
                      filter_config:
                        \"@type\": type.googleapis.com/google.protobuf.Struct
                        value: {{ {more} secret_files: [{}], content: {content} }}
",
        secret.display()
    ))
}

/// The committed configuration of the module, which follows the feed of this Doorward; like the others, without metadata.
fn following(doorward: &Doorward) -> EnvoyConfig {
    answering(EnvoyConfig::module())
        .doorward(doorward.grpc)
        .doorward_http(doorward.http)
        .replace("                          metadata: doorward\n", "")
}

/// Revokes tokens that nobody shows.
fn revoke(database: &Database<Sqlite>) -> anyhow::Result<()> {
    let now = now()?.0;
    let mut rows = String::new();
    for number in 0..REVOKED {
        let comma = if number == 0 { "" } else { "," };
        write!(rows, "{comma}('{number:032x}', {}, {now})", now + 86_400)?;
    }
    database.sql(&format!(
        "INSERT INTO doorward_endings (ended_id, expires_at, changed_at) VALUES {rows}"
    ));
    Ok(())
}

fn with_jwt_authn(tokens: &Tokens, cache: usize) -> EnvoyConfig {
    let cache = match cache {
        0 => String::new(),
        size => format!("jwt_cache_config: {{ jwt_cache_size: {size} }},"),
    };
    instead(&format!(
        "                  - name: envoy.filters.http.jwt_authn
                    typed_config:
                      \"@type\": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication
                      providers:
                        doorward: {{ issuer: doorward, audiences: [doorward], forward: true, {cache} claim_to_headers: [{{ header_name: x-auth-user, claim_name: username }}], local_jwks: {{ inline_string: {} }} }}
                      rules: [{{ match: {{ prefix: / }}, requires: {{ provider_name: doorward }} }}]
",
        Value::from(&*tokens.jwks)
    ))
}

pub struct Report {
    sides: Vec<Side>,
}

impl Report {
    /// Each side with its answers per second, CPU, ratio to the first and p99.
    fn rows(&self) -> Vec<(&Side, f64, f64, Ratio, f64)> {
        let Some(base) = self.sides.first() else {
            return Vec::new();
        };
        let of =
            |side: &Side, value: fn(&Round) -> f64| median(&sorted(side.rounds.iter().map(value)));
        (self.sides.iter())
            .map(|side| {
                let pairs = side.rounds.iter().zip(&base.rounds);
                let ratio =
                    Ratio::of(pairs.map(|(own, base)| base.cpu_per_request / own.cpu_per_request));
                let rate = of(side, |round| round.per_second);
                let cpu = of(side, |round| round.cpu_per_request);
                (
                    side,
                    rate,
                    cpu,
                    ratio,
                    median(&sorted(side.p99.iter().copied())),
                )
            })
            .collect()
    }

    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header([
            "in front of the service",
            "",
            "answers per second",
            "Envoy's CPU µs of a request",
            "bare / this",
            "rounds",
            "p99 ms",
        ]);
        for (side, rate, cpu, ratio, p99) in self.rows() {
            let [ratio, rounds] = ratio.cells();
            table.add_row([
                side.name.to_owned(),
                String::new(),
                number(rate),
                number(cpu),
                ratio,
                rounds,
                format!("{p99:.2}"),
            ]);
        }
        right(&mut table);
        table
    }

    pub fn json(&self) -> Value {
        let rows = self
            .rows()
            .into_iter()
            .map(|(side, rate, cpu, ratio, p99)| {
                let value = json!({
                    "per_second": rate,
                    "cpu_micros": cpu,
                    "of_bare": ratio.median,
                    "of_bare_least": ratio.least,
                    "of_bare_most": ratio.most,
                    "p99_millis": p99,
                    "envoy_resident_bytes": super::cost::resident(side.envoy.pid()).ok(),
                });
                (side.key.to_owned(), value)
            });
        Value::Object(rows.collect::<Map<_, _>>())
    }
}
