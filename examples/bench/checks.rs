//! The cost of a check: directly and behind Envoy, as a ratio to a server that always answers OK; behind nginx, as a ratio
//! to a sub-request that nginx answers itself; and of `/validate`, as a ratio to Flask.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use comfy_table::{Table, presets::NOTHING};
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::{
    Arguments, Way, binary, cost,
    figures::{Ratio, mebibytes, median, number, right, sorted},
    gateways,
    harness::{Doorward, Envoy, EnvoyConfig},
    load::{self, Browsers, Checks, Load, PATH},
    null::Null,
    rounds::{CPU, Measure, RATE, REST, Round, WARM_UP, round},
};

pub async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let home = Doorward::prepare(|settings| {
        settings.binary(binary(arguments));
    });
    home.add_user(load::USER, load::PASSWORD, &[]).await;
    let doorward = home.serve().await;
    let null = Null::start().await?;
    sleep(REST).await;
    let at_rest = Pair {
        null: cost::resident(null.pid())?,
        doorward: cost::resident(doorward.pid())?,
    };

    let token = load::log_in(doorward.grpc).await?;
    let mut lines = Vec::new();
    let wanted = |way| arguments.way.is_none_or(|only| only == way);
    if wanted(Way::Directly) {
        let check = load::check(&token)?;
        let open = async |address| Checks::open(address, &check, arguments.streams).await;
        let rounds = compare(
            arguments,
            "directly",
            Pair {
                null: (null.pid(), open(null.address).await?),
                doorward: (doorward.pid(), open(doorward.grpc).await?),
            },
        )
        .await?;
        lines.extend([
            Line::new(
                "direct_per_second",
                "directly, to a null authorizer",
                &rounds,
                RATE,
            ),
            Line::new("direct_cpu_micros", "", &rounds, CPU),
        ]);
    }
    if wanted(Way::Envoy) {
        let envoy = async |address| Envoy::start(Envoy::NEWEST, &gateway(address)).await;
        let (before_null, before_doorward) =
            (envoy(null.address).await, envoy(doorward.grpc).await);
        let open = async |envoy: &Envoy| browsers(arguments, envoy.edge, PATH, &token).await;
        let rounds = compare(
            arguments,
            "through Envoy",
            Pair {
                null: (null.pid(), open(&before_null).await?),
                doorward: (doorward.pid(), open(&before_doorward).await?),
            },
        )
        .await?;
        lines.extend([
            Line::new(
                "envoy_per_second",
                "through Envoy, to a null authorizer",
                &rounds,
                RATE,
            ),
            Line::new("envoy_cpu_micros", "", &rounds, CPU),
        ]);
    }

    if wanted(Way::Nginx) {
        let answering = gateways::answering_nginx().await;
        let asking = gateways::nginx(doorward.http).await;
        for (key, way, other) in [
            (
                "nginx_to_nginx_per_second",
                "through nginx, to an nginx that answers 204",
                gateways::nginx(answering.edge).await,
            ),
            (
                "nginx_to_itself_per_second",
                "through nginx, to a 204 of its own",
                gateways::static_nginx().await,
            ),
        ] {
            let rounds = compare(
                arguments,
                way,
                Pair {
                    null: (
                        other.pid(),
                        browsers(arguments, other.edge, PATH, &token).await?,
                    ),
                    doorward: (
                        asking.pid(),
                        browsers(arguments, asking.edge, PATH, &token).await?,
                    ),
                },
            )
            .await?;
            lines.push(Line::new(key, way, &rounds, RATE));
        }
    }
    if wanted(Way::Flask) {
        let secret = doorward.home().dir().join("data/jwt.secret");
        let flask = gateways::Flask::start(&secret).await?;
        let validate = async |address| browsers(arguments, address, "/validate", &token).await;
        let rounds = compare(
            arguments,
            "/validate",
            Pair {
                null: (flask.pid(), validate(flask.address).await?),
                doorward: (doorward.pid(), validate(doorward.http).await?),
            },
        )
        .await?;
        flask.stop().await;
        let way = "/validate, to Flask under gunicorn";
        lines.push(Line::new("validate_per_second", way, &rounds, RATE));
    }

    Ok(Report { lines, at_rest })
}

async fn browsers(
    arguments: &Arguments,
    edge: SocketAddr,
    path: &str,
    token: &str,
) -> anyhow::Result<Browsers> {
    Browsers::open(edge, path, token, arguments.connections).await
}

/// The committed configuration of Envoy, except that Envoy itself plays the service.
pub fn gateway(authorizer: SocketAddr) -> EnvoyConfig {
    const ALL: &str = "- match: { prefix: / }";
    const ANSWERED: &str = "- match: { prefix: / }
                          direct_response: { status: 200 }
                        - match: { path: /unreached }";
    EnvoyConfig::committed()
        .free_ports()
        .doorward(authorizer)
        .replace(ALL, ANSWERED)
}

/// The same value for both servers.
struct Pair<T> {
    null: T,
    doorward: T,
}

/// Lets both servers answer in alternating rounds.
async fn compare<L: Load>(
    arguments: &Arguments,
    way: &str,
    mut servers: Pair<(u32, L)>,
) -> anyhow::Result<Vec<Pair<Round>>> {
    let length = Duration::from_secs(arguments.seconds);
    for (_, load) in [&mut servers.null, &mut servers.doorward] {
        load.run(WARM_UP).await.context(way.to_owned())?;
    }
    let mut rounds = Vec::new();
    for number in 1..=arguments.rounds {
        eprintln!("{way}: round {number} of {}", arguments.rounds);
        rounds.push(Pair {
            null: round(&mut servers.null, length)
                .await
                .with_context(|| format!("{way}, the null authorizer"))?,
            doorward: round(&mut servers.doorward, length)
                .await
                .with_context(|| format!("{way}, Doorward"))?,
        });
    }
    Ok(rounds)
}

pub struct Report {
    lines: Vec<Line>,
    /// In bytes.
    at_rest: Pair<u64>,
}

/// One line of the report.
struct Line {
    key: &'static str,
    way: &'static str,
    what: &'static str,
    null: f64,
    doorward: f64,
    ratio: Ratio,
}

impl Line {
    fn new(
        key: &'static str,
        way: &'static str,
        rounds: &[Pair<Round>],
        (what, value): Measure,
    ) -> Self {
        let values =
            |side: fn(&Pair<Round>) -> &Round| sorted(rounds.iter().map(|pair| value(side(pair))));
        let ratios = rounds
            .iter()
            .map(|pair| value(&pair.doorward) / value(&pair.null));
        Self {
            key,
            way,
            what,
            null: median(&values(|pair| &pair.null)),
            doorward: median(&values(|pair| &pair.doorward)),
            ratio: Ratio::of(ratios),
        }
    }
}

impl Report {
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(["", "", "other", "Doorward", "ratio", "rounds"]);
        for line in &self.lines {
            let [ratio, rounds] = line.ratio.cells();
            table.add_row([
                line.way.to_owned(),
                line.what.to_owned(),
                number(line.null),
                number(line.doorward),
                ratio,
                rounds,
            ]);
        }
        let Pair { null, doorward } = self.at_rest;
        let [null, doorward] = [null, doorward].map(mebibytes);
        table.add_row([
            "at rest".to_owned(),
            "resident MiB".to_owned(),
            format!("{null:.1}"),
            format!("{doorward:.1}"),
            format!("{:.3}", doorward / null),
            String::new(),
        ]);
        right(&mut table);
        table
    }

    pub fn json(&self) -> Map<String, Value> {
        let lines = self.lines.iter().map(|line| {
            let Ratio {
                median,
                least,
                most,
            } = line.ratio;
            let value = json!({
                "null": line.null,
                "doorward": line.doorward,
                "ratio": median,
                "ratio_least": least,
                "ratio_most": most,
            });
            (line.key.to_owned(), value)
        });
        let mut report: Map<_, _> = lines.collect();
        let at_rest = &self.at_rest;
        report.insert(
            "resident_bytes".into(),
            json!({ "null": at_rest.null, "doorward": at_rest.doorward }),
        );
        report
    }
}
