//! `make bench` measures the cost of Doorward's check, as a ratio to a server that always answers OK, directly over
//! gRPC and behind a real Envoy; behind a real nginx, as a ratio to a sub-request that nginx answers itself; and of
//! `/validate`, as a ratio to a Flask service of the kind that Doorward replaces. It also measures logins: how many
//! per second, as a ratio to what hashing allows, and what a flood of them does to Bearer requests and to memory. It
//! measures tokens: the cost of a check and of a verification by algorithm, for cached and for new tokens. It
//! measures what grows with the number of rules. On request it measures settings of Envoy, what grows with replicas
//! and users, the program of the image, and other authorizers.
//!
//! The two sides of a ratio answer the same load in short alternating rounds, so that other work on the machine
//! affects both alike.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a benchmark prints, and panics if a part does not start"
)]

mod advice;
mod cost;
mod filter;
mod gateways;
#[path = "../../tests/harness/mod.rs"]
mod harness;
mod image;
mod load;
mod logins;
mod null;
mod peers;
mod rules;
mod scale;
mod tokens;
mod turns;

use std::{
    env, fs,
    net::SocketAddr,
    panic,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand, ValueEnum};
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use harness::{Doorward, Envoy, EnvoyConfig};
use serde_json::{Map, Value, json};
use tokio::{runtime::Runtime, time::sleep};

use cost::Cost;
use load::{Browsers, Checks, Load, PATH};
use null::Null;

/// Compare the cost of Doorward's check with that of a server that always answers OK.
///
/// Reports ratios without a pass or fail: numbers from a busy machine mean little.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    /// The Doorward binary [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    doorward: Option<PathBuf>,
    /// Seconds per round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Rounds per server and way
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// An earlier Doorward, to be measured beside this one where several programs take turns
    #[arg(long, value_name = "PATH")]
    before: Option<PathBuf>,
    /// The program of the image
    #[arg(long, value_name = "PATH")]
    image: Option<PathBuf>,
    /// Run only this way
    #[arg(long, value_enum)]
    way: Option<Way>,
    /// Concurrent checks on the one direct connection
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=100))]
    streams: u16,
    /// Connections to Envoy, with one request at a time on each
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// Concurrent password hashes in Doorward, for the logins [default: one per core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    hash_threads: Option<u16>,
    /// Format of the result
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    Directly,
    Envoy,
    Nginx,
    Flask,
    Logins,
    Tokens,
    Rules,
    /// Settings of Envoy, each beside the committed configuration; runs only if named
    Advice,
    /// Runs only if named: needs the module of `make filter`
    Filter,
    /// Needs the program of the image; runs only if named
    Image,
    /// Needs the programs of `examples/bench/peers`; runs only if named
    Peers,
    /// Needs a gigabyte of memory; runs only if named
    Scale,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Subcommand)]
enum Part {
    /// Run the server that always answers OK
    #[command(hide = true)]
    Null,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.part {
        Some(Part::Null) => Runtime::new()?.block_on(null::serve()),
        None => {
            panic::set_hook(Box::new(|fault| {
                eprintln!(
                    "{}",
                    fault
                        .payload_as_str()
                        .unwrap_or("The benchmark has failed.")
                );
            }));
            // The load uses one thread, so that the other cores are free for the servers.
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(bench(&arguments))
        }
    }
}

async fn bench(arguments: &Arguments) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("This is not a release build: the numbers will say nothing.");
    }
    let machine = cost::machine()?;
    let wanted = !matches!(
        arguments.way,
        Some(
            Way::Logins
                | Way::Tokens
                | Way::Rules
                | Way::Advice
                | Way::Filter
                | Way::Image
                | Way::Peers
                | Way::Scale
        )
    );
    let checks = if wanted {
        Some(checks(arguments).await?)
    } else {
        None
    };
    let wanted = arguments.way.is_none_or(|only| only == Way::Logins);
    let logins = if wanted {
        Some(logins::measure(arguments).await?)
    } else {
        None
    };
    let wanted = arguments.way.is_none_or(|only| only == Way::Tokens);
    let tokens = if wanted {
        Some(tokens::measure(arguments).await?)
    } else {
        None
    };
    let wanted = arguments.way.is_none_or(|only| only == Way::Rules);
    let rules = match wanted {
        true => Some(rules::measure(arguments)?),
        false => None,
    };
    let advice = match arguments.way {
        Some(Way::Advice) => Some(advice::measure(arguments).await?),
        _ => None,
    };
    let filter = match arguments.way {
        Some(Way::Filter) => Some(filter::measure(arguments).await?),
        _ => None,
    };
    let image = match arguments.way {
        Some(Way::Image) => Some(image::measure(arguments).await?),
        _ => None,
    };
    let peers = match arguments.way {
        Some(Way::Peers) => Some(peers::measure(arguments).await?),
        _ => None,
    };
    let scale = match arguments.way {
        Some(Way::Scale) => Some(scale::measure(arguments).await?),
        _ => None,
    };
    let report = Report {
        machine,
        checks,
        logins,
        tokens,
        rules,
        advice,
        filter,
        image,
        peers,
        scale,
    };
    match arguments.output {
        Output::Table => report.table(arguments),
        Output::Json => report.json(arguments),
    }
    Ok(())
}

async fn checks(arguments: &Arguments) -> anyhow::Result<ChecksReport> {
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

    Ok(ChecksReport { lines, at_rest })
}

async fn browsers(
    arguments: &Arguments,
    edge: SocketAddr,
    path: &str,
    token: &str,
) -> anyhow::Result<Browsers> {
    Browsers::open(edge, path, token, arguments.connections).await
}

/// How long a server rests before its memory is measured.
const REST: Duration = Duration::from_secs(2);

fn binary(arguments: &Arguments) -> PathBuf {
    let beside = || {
        let own = env::current_exe().ok()?;
        Some(own.parent()?.parent()?.join("doorward"))
    };
    let path = arguments.doorward.clone().or_else(beside);
    let path = path.unwrap_or_else(|| PathBuf::from("doorward"));
    fs::canonicalize(&path).unwrap_or_else(|fault| {
        panic!(
            "{}: {fault}; build it with `cargo build --release`, or name another with --doorward",
            path.display()
        )
    })
}

/// The committed configuration of Envoy, except that Envoy itself plays the service.
fn gateway(authorizer: SocketAddr) -> EnvoyConfig {
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

/// The results of one round.
struct Round {
    per_second: f64,
    /// Of the compared server, in microseconds.
    cpu_per_request: f64,
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

const WARM_UP: Duration = Duration::from_millis(500);

async fn round<L: Load>((pid, load): &mut (u32, L), length: Duration) -> anyhow::Result<Round> {
    let (before, start) = (Cost::of(*pid)?, Instant::now());
    let answers = load.run(length).await?;
    let (took, cost) = (start.elapsed(), Cost::of(*pid)?.since(before));
    if answers == 0 {
        bail!("not one answer");
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let answers = answers as f64;
    Ok(Round {
        per_second: answers / took.as_secs_f64(),
        cpu_per_request: cost.as_secs_f64() * 1e6 / answers,
    })
}

/// A reported value, and how to get it from a round.
type Measure = (&'static str, fn(&Round) -> f64);

const RATE: Measure = ("answers per second", |round| round.per_second);
const CPU: Measure = ("CPU µs of a check", |round| round.cpu_per_request);

struct Report {
    machine: String,
    checks: Option<ChecksReport>,
    logins: Option<logins::Report>,
    tokens: Option<tokens::Report>,
    rules: Option<rules::Report>,
    advice: Option<advice::Report>,
    filter: Option<filter::Report>,
    image: Option<image::Report>,
    peers: Option<peers::Report>,
    scale: Option<scale::Report>,
}

struct ChecksReport {
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

/// The ratio of two values from neighbouring rounds: median, minimum and maximum.
struct Ratio {
    median: f64,
    least: f64,
    most: f64,
}

impl Ratio {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let values = sorted(values);
        Self {
            median: median(&values),
            least: values.first().copied().unwrap_or(f64::NAN),
            most: values.last().copied().unwrap_or(f64::NAN),
        }
    }

    fn cells(&self) -> [String; 2] {
        [
            format!("{:.3}", self.median),
            format!("{:.3} to {:.3}", self.least, self.most),
        ]
    }
}

fn number(value: f64) -> String {
    let places = if value < 1000.0 { 1 } else { 0 };
    format!("{value:.places$}")
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

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match (sorted.get(middle.wrapping_sub(1)), sorted.get(middle)) {
        (Some(below), Some(above)) if sorted.len().is_multiple_of(2) => {
            f64::midpoint(*below, *above)
        }
        (_, Some(middle)) => *middle,
        (_, None) => f64::NAN,
    }
}

impl Report {
    fn table(&self, arguments: &Arguments) {
        if let Some(checks) = &self.checks {
            println!("{}\n", checks.table());
        }
        if let Some(logins) = &self.logins {
            println!("{}\n", logins.table());
        }
        if let Some(tokens) = &self.tokens {
            println!("{}\n", tokens.table());
        }
        if let Some(rules) = &self.rules {
            println!("{}\n", rules.table());
        }
        if let Some(advice) = &self.advice {
            println!("{}\n", advice.table());
        }
        if let Some(filter) = &self.filter {
            println!("{}\n", filter.table());
        }
        if let Some(image) = &self.image {
            println!("{}\n", image.table());
        }
        if let Some(peers) = &self.peers {
            println!("{}\n", peers.table());
        }
        if let Some(scale) = &self.scale {
            println!("{}\n\nMachine: {}.", scale.table(), self.machine);
            return;
        }
        println!(
            "Medians of {} rounds of {} s by turns; a ratio is that of neighbouring rounds. Before: {}.",
            arguments.rounds, arguments.seconds, self.machine
        );
    }

    fn json(&self, arguments: &Arguments) {
        let mut report = self
            .checks
            .as_ref()
            .map_or_else(Map::new, ChecksReport::json);
        if let Some(logins) = &self.logins {
            report.insert("logins".into(), logins.json());
        }
        if let Some(tokens) = &self.tokens {
            report.insert("tokens".into(), tokens.json());
        }
        if let Some(rules) = &self.rules {
            report.insert("rules".into(), rules.json());
        }
        if let Some(advice) = &self.advice {
            report.insert("advice".into(), advice.json());
        }
        if let Some(image) = &self.image {
            report.insert("image".into(), image.json());
        }
        if let Some(peers) = &self.peers {
            report.insert("peers".into(), peers.json());
        }
        if let Some(scale) = &self.scale {
            report.insert("scale".into(), scale.json());
        }
        if let Some(filter) = &self.filter {
            report.insert("filter".into(), filter.json());
        }
        report.insert("rounds".into(), arguments.rounds.into());
        report.insert("seconds".into(), arguments.seconds.into());
        report.insert("machine".into(), self.machine.as_str().into());
        println!("{:#}", Value::Object(report));
    }
}

impl ChecksReport {
    fn table(&self) -> Table {
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

    fn json(&self) -> Map<String, Value> {
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

/// Aligns all columns to the right, except the first two, which hold words.
fn right(table: &mut Table) {
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
