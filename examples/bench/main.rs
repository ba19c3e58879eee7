//! `make bench` measures checks, logins, tokens and rules; `make bench ONLY=WAY` measures one way, and some ways only so.
//! Each way has a file that says what it compares.
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
mod checks;
mod cost;
mod figures;
mod filter;
mod gateways;
#[path = "../../tests/harness/mod.rs"]
mod harness;
mod image;
mod judging;
mod keys;
mod load;
mod logins;
mod null;
mod peers;
mod rounds;
mod rules;
mod scale;
mod tokens;
mod turns;

use std::{fmt::Display, panic, path::PathBuf, slice};

use clap::{Parser, Subcommand, ValueEnum};
use serde_json::{Map, Value};
use tikv_jemallocator::Jemalloc;
use tokio::runtime::Runtime;

use checks::gateway;
use figures::{Ratio, mebibytes, median, number, right, sorted};
use harness::doorward_binary;
use rounds::{CPU, Measure, RATE, REST, Round, WARM_UP, round};

/// As in Doorward, so that what is measured in this process costs what it costs there.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Compare Doorward's costs with a lower bound, such as those of a server that always answers OK.
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
    /// An earlier Doorward, which the ways `image` and `peers` measure beside this one
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
    /// Checks on one connection
    Directly,
    /// Checks of an Envoy
    Envoy,
    /// Sub-requests of an nginx
    Nginx,
    /// `/validate`, beside a Flask service
    Flask,
    /// Logins per second, and the effect of a flood of logins
    Logins,
    /// Checks and verifications by algorithm
    Tokens,
    /// Decisions and reloads by the number of rules
    Rules,
    /// Memory and time of keys for machines; runs only if named
    Keys,
    /// Settings of Envoy, each beside the committed configuration; runs only if named
    Advice,
    /// The module in Envoy, which `make filter` builds; runs only if named
    Filter,
    /// The program of the image; runs only if named
    Image,
    /// The authorizers of `examples/bench/peers`; runs only if named
    Peers,
    /// Costs that grow with replicas and users; needs a gigabyte of memory; runs only if named
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
    let mut report = Report {
        machine: cost::machine()?,
        sections: Vec::new(),
    };
    let ways: &[Way] = match &arguments.way {
        Some(way) => slice::from_ref(way),
        None => &USUAL,
    };
    for way in ways {
        report.sections.push(measure(*way, arguments).await?);
    }
    match arguments.output {
        Output::Table => report.table(arguments),
        Output::Json => report.json(arguments),
    }
    Ok(())
}

/// The ways that run if none is named. Without a name, the first one stands for all ways of a check.
const USUAL: [Way; 4] = [Way::Directly, Way::Logins, Way::Tokens, Way::Rules];

async fn measure(way: Way, arguments: &Arguments) -> anyhow::Result<Section> {
    Ok(match way {
        Way::Directly | Way::Envoy | Way::Nginx | Way::Flask => {
            let report = checks::measure(arguments).await?;
            Section::new(None, report.table(), report.json())
        }
        Way::Logins => {
            let report = logins::measure(arguments).await?;
            Section::new(Some("logins"), report.table(), report.json())
        }
        Way::Tokens => {
            let report = tokens::measure(arguments).await?;
            Section::new(Some("tokens"), report.table(), report.json())
        }
        Way::Rules => {
            let report = rules::measure(arguments)?;
            Section::new(Some("rules"), report.table(), report.json())
        }
        Way::Keys => {
            let report = keys::measure(arguments)?;
            Section::new(Some("keys"), report.table(), report.json())
        }
        Way::Advice => {
            let report = advice::measure(arguments).await?;
            Section::new(Some("advice"), report.table(), report.json())
        }
        Way::Filter => {
            let report = filter::measure(arguments).await?;
            Section::new(Some("filter"), report.table(), report.json())
        }
        Way::Image => {
            let report = image::measure(arguments).await?;
            Section::new(Some("image"), report.table(), report.json())
        }
        Way::Peers => {
            let report = peers::measure(arguments).await?;
            Section::new(Some("peers"), report.table(), report.json())
        }
        Way::Scale => {
            let report = scale::measure(arguments).await?;
            Section::new(Some("scale"), report.table(), report.json())
        }
    })
}

fn binary(arguments: &Arguments) -> PathBuf {
    doorward_binary(arguments.doorward.as_deref())
}

struct Report {
    machine: String,
    sections: Vec<Section>,
}

/// What one way has measured, in both formats.
struct Section {
    /// The member of the JSON report; without a name, the values are members of the report itself.
    key: Option<&'static str>,
    table: String,
    json: Value,
}

impl Section {
    fn new(key: Option<&'static str>, table: impl Display, json: impl Into<Value>) -> Self {
        Self {
            key,
            table: table.to_string(),
            json: json.into(),
        }
    }
}

impl Report {
    fn table(&self, arguments: &Arguments) {
        for section in &self.sections {
            println!("{}\n", section.table);
        }
        if arguments.way != Some(Way::Scale) {
            println!(
                "Medians of {} rounds of {} s by turns; a ratio is that of neighbouring rounds.",
                arguments.rounds, arguments.seconds
            );
        }
        println!("The machine at the start: {}.", self.machine);
    }

    fn json(self, arguments: &Arguments) {
        let mut report = Map::new();
        for Section { key, json, .. } in self.sections {
            match (key, json) {
                (Some(key), json) => {
                    report.insert(key.into(), json);
                }
                (None, Value::Object(members)) => report.extend(members),
                (None, _) => {}
            }
        }
        report.insert("rounds".into(), arguments.rounds.into());
        report.insert("seconds".into(), arguments.seconds.into());
        report.insert("machine".into(), self.machine.into());
        println!("{:#}", Value::Object(report));
    }
}
