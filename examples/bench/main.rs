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
mod checks;
mod cost;
mod figures;
mod filter;
mod gateways;
#[path = "../../tests/harness/mod.rs"]
mod harness;
mod image;
mod load;
mod logins;
mod null;
mod peers;
mod rounds;
mod rules;
mod scale;
mod tokens;
mod turns;

use std::{env, fs, panic, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use serde_json::{Map, Value};
use tokio::runtime::Runtime;

use checks::gateway;
use figures::{Ratio, mebibytes, median, number, right, sorted};
use rounds::{CPU, Measure, RATE, REST, Round, WARM_UP, round};

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
        Some(checks::measure(arguments).await?)
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

struct Report {
    machine: String,
    checks: Option<checks::Report>,
    logins: Option<logins::Report>,
    tokens: Option<tokens::Report>,
    rules: Option<rules::Report>,
    advice: Option<advice::Report>,
    filter: Option<filter::Report>,
    image: Option<image::Report>,
    peers: Option<peers::Report>,
    scale: Option<scale::Report>,
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
            .map_or_else(Map::new, checks::Report::json);
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
