//! `make matrix` runs every scenario of `scenarios.toml` through every gateway, and writes `docs/matrix.md` and
//! `docs/matrix.json`. Another authorizer can be measured in place of Doorward.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "it prints, and stops if a part does not start"
)]

mod columns;
mod findings;
#[path = "../../tests/harness/mod.rs"]
mod harness;
mod ingress_provider;
#[path = "../bench/null.rs"]
#[allow(dead_code, reason = "the benchmark uses more of it")]
mod null;
mod others;
mod report;
mod requests;
mod scenario;
mod steps;
mod world;

use std::{
    any::Any, fs, io::IsTerminal as _, net::SocketAddr, panic, panic::AssertUnwindSafe,
    path::PathBuf, process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand, ValueEnum};
use futures_util::FutureExt as _;
use tokio::runtime::Runtime;

use columns::Column;
use findings::{Findings, Outcome};
use harness::doorward_binary;
use report::{Cell, Gateway, Report};
use scenario::{Need, Scenario, Scenarios};
use world::{Setup, World};

/// Run scenarios through real gateways in front of Doorward, or of another authorizer.
///
/// Exits with 1 if a cell fails.
#[derive(Parser)]
#[command(name = "matrix")]
struct Arguments {
    /// The Doorward binary [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    doorward: Option<PathBuf>,
    /// Run only these, such as `proxy=nginx,scenario=xhr`; a proxy may end with its version, as in `filter-1.40.0`
    #[arg(long, value_name = "KEY=NAME,...", value_delimiter = ',', value_parser = selected)]
    only: Vec<(Key, String)>,
    /// Measure the ext_authz server at this address instead of Doorward, behind Envoy; `null` allows everything
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "peer")]
    authorizer: Option<String>,
    /// Measure this program: it prints its address, and reads the secret of HS256 tokens from JWT_SECRET
    #[arg(long, value_name = "PATH")]
    peer: Option<PathBuf>,
    /// Tokens for the authorizer at an address: a TOML file with `bob = "TOKEN"` and `ada = "TOKEN"`
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// The header in which the service expects the name of the user
    #[arg(long, value_name = "NAME", default_value = "x-auth-user")]
    identity_header: String,
    /// What the measured authorizer does not have; such cells say so
    #[arg(long, value_enum, value_delimiter = ',')]
    lacks: Vec<Need>,
    /// Other scenarios than the built-in ones
    #[arg(long, value_name = "FILE")]
    scenarios: Option<PathBuf>,
    /// Writes matrix.md and matrix.json to this directory
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Format of the result
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Proxy,
    Scenario,
}

#[derive(Subcommand)]
enum Part {
    /// Print the page that belongs to a matrix.json
    Page { json: PathBuf },
    /// Run the server that always answers OK
    #[command(hide = true)]
    Null,
}

fn selected(text: &str) -> Result<(Key, String), String> {
    match text.split_once('=') {
        Some(("proxy", name)) => Ok((Key::Proxy, name.to_owned())),
        Some(("scenario", name)) => Ok((Key::Scenario, name.to_owned())),
        _ => Err("a form like proxy=NAME or scenario=NAME is needed".to_owned()),
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match &arguments.part {
        Some(Part::Null) => Runtime::new()?.block_on(null::serve())?,
        Some(Part::Page { json }) => {
            let report: Report = serde_json::from_slice(&fs::read(json)?)?;
            print!("{}", report.markdown());
        }
        None => {
            // The cell reports a panic as its fault.
            panic::set_hook(Box::new(|_| {}));
            let run = AssertUnwindSafe(run(&arguments)).catch_unwind();
            let report = match Runtime::new()?.block_on(run) {
                Ok(report) => report?,
                Err(payload) => bail!("{}", said(&*payload)),
            };
            return finish(&arguments, &report);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn finish(arguments: &Arguments, report: &Report) -> anyhow::Result<ExitCode> {
    if let Some(dir) = &arguments.write {
        fs::write(dir.join("matrix.json"), report.json()?)?;
        fs::write(dir.join("matrix.md"), report.markdown())?;
    }
    match arguments.output {
        Output::Table if arguments.write.is_some() => {}
        Output::Table => print!("{}", report.markdown()),
        Output::Json => print!("{}", report.json()?),
    }
    let failing = report.failing();
    if failing > 0 {
        eprintln!("{failing} of {} cells fail", report.cells.len());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let text = match &arguments.scenarios {
        Some(file) => fs::read_to_string(file).with_context(|| file.display().to_string())?,
        None => include_str!("scenarios.toml").to_owned(),
    };
    let scenarios = Scenarios::parse(&text)?;
    let (columns, chosen) = chosen(arguments, &scenarios)?;
    let doorward = doorward_binary(arguments.doorward.as_deref());
    let lacks = arguments.lacks.clone();
    let (subject, name) = match (arguments.authorizer.as_deref(), &arguments.peer) {
        (None, None) => (None, "Doorward".to_owned()),
        (Some("null"), _) => (
            Some(others::null(doorward.clone(), lacks).await?),
            "An authorizer that allows everything".to_owned(),
        ),
        (Some(address), _) => {
            let address: SocketAddr = address.parse().context("--authorizer")?;
            let tokens = arguments
                .tokens
                .as_ref()
                .context("--authorizer needs --tokens")?;
            (
                Some(others::at(address, tokens, lacks)?),
                format!("The authorizer at {address}"),
            )
        }
        (None, Some(program)) => (
            Some(others::peer(program, doorward.clone(), lacks).await?),
            format!("The program {}", program.display()),
        ),
    };
    let identity = arguments.identity_header.clone();
    let mut report = Report::new(name, &scenarios);
    // Runs until the end.
    let (world, _running) = match subject {
        None => (
            World::of_doorward(scenarios, identity, doorward).await?,
            None,
        ),
        Some((subject, running)) => {
            let world = World {
                scenarios,
                subject,
                identity,
            };
            (world, Some(running))
        }
    };
    report.scenarios = chosen
        .iter()
        .filter_map(|index| world.scenarios.all.get(*index))
        .map(|scenario| report::Scenario {
            name: scenario.name.clone(),
            proves: scenario.proves.clone(),
        })
        .collect();
    let total = columns.len() * chosen.len();
    let shows = std::io::stderr().is_terminal();
    for column in columns {
        let gateway = Gateway {
            proxy: column.proxy().to_owned(),
            title: column.title().to_owned(),
            version: column.version(),
        };
        // Scenarios that change nothing share one setup.
        let mut shared = None;
        for scenario in chosen
            .iter()
            .filter_map(|index| world.scenarios.all.get(*index))
        {
            if shows {
                let done = report.cells.len() + 1;
                eprint!(
                    "\r\x1b[2K[{done}/{total}] {} {}: {}",
                    gateway.proxy, gateway.version, scenario.name
                );
            }
            let outcome = cell(&world, column, scenario, &mut shared).await;
            if let Outcome::Fail(faults) = &outcome {
                let start = if shows { "\r\x1b[2K" } else { "" };
                eprintln!(
                    "{start}{} {}: {}: FAIL",
                    gateway.proxy, gateway.version, scenario.name
                );
                for fault in faults {
                    eprintln!("    {fault}");
                }
            }
            report.cells.push(Cell {
                proxy: gateway.proxy.clone(),
                version: gateway.version.clone(),
                scenario: scenario.name.clone(),
                outcome,
            });
        }
        report.gateways.push(gateway);
    }
    if shows {
        eprint!("\r\x1b[2K");
    }
    Ok(report)
}

/// The gateways and the indices of the scenarios that are to run.
fn chosen(
    arguments: &Arguments,
    scenarios: &Scenarios,
) -> anyhow::Result<(Vec<Column>, Vec<usize>)> {
    let of = |key: Key| -> Vec<&str> {
        let own = arguments.only.iter().filter(|(own, _)| *own == key);
        own.map(|(_, name)| &**name).collect()
    };
    let (proxies, names) = (of(Key::Proxy), of(Key::Scenario));
    let is_named = |column: &Column, name: &str| {
        name == column.proxy() || name == format!("{}-{}", column.proxy(), column.version())
    };
    for name in &proxies {
        if !Column::all().iter().any(|column| is_named(column, name)) {
            let known: Vec<_> = Column::all().iter().map(|column| column.proxy()).collect();
            bail!("no proxy is called {name:?}, but {}", known.join(", "));
        }
    }
    for name in &names {
        if !scenarios.all.iter().any(|scenario| scenario.name == *name) {
            let known: Vec<_> = scenarios
                .all
                .iter()
                .map(|scenario| &*scenario.name)
                .collect();
            bail!("no scenario is called {name:?}, but {}", known.join(", "));
        }
    }
    let is_other = arguments.authorizer.is_some() || arguments.peer.is_some();
    let mut columns = Column::all();
    columns.retain(|column| {
        (!is_other || column.takes_any_authorizer())
            && (proxies.is_empty() || proxies.iter().any(|name| is_named(column, name)))
    });
    let all = scenarios.all.iter().enumerate();
    let own = all.filter(|(_, scenario)| names.is_empty() || names.contains(&&*scenario.name));
    Ok((columns, own.map(|(index, _)| index).collect()))
}

async fn cell<'a>(
    world: &'a World,
    column: Column,
    scenario: &Scenario,
    shared: &mut Option<Setup<'a>>,
) -> Outcome {
    if let Some(reason) = world.lacks(&scenario.needs) {
        return Outcome::NotBuilt(reason);
    }
    let mut found = Findings::default();
    let all = AssertUnwindSafe(everything(world, column, scenario, shared, &mut found));
    let fault = match all.catch_unwind().await {
        Ok(Ok(())) => None,
        Ok(Err(fault)) => Some(format!("{fault:#}")),
        Err(payload) => Some(said(&*payload)),
    };
    match fault {
        // A scenario that was interrupted does not show what the gateway cannot do.
        Some(fault) => Outcome::Fail(vec![format!("it did not run to its end: {fault}")]),
        None => found.result(scenario.cannot.get(column.proxy()).map(String::as_str)),
    }
}

async fn everything<'a>(
    world: &'a World,
    column: Column,
    scenario: &Scenario,
    shared: &mut Option<Setup<'a>>,
    found: &mut Findings,
) -> anyhow::Result<()> {
    let change = scenario.change.as_deref();
    if !scenario.requests.is_empty() {
        if change.is_some() {
            let setup = world.setup(column, change).await?;
            requests::run(&setup, &scenario.requests, found).await?;
        } else {
            if shared.is_none() {
                *shared = Some(world.setup(column, None).await?);
            }
            if let Some(setup) = shared {
                requests::run(setup, &scenario.requests, found).await?;
            }
        }
    }
    match scenario.step {
        Some(step) => step.run(world, column, change, found).await,
        None => Ok(()),
    }
}

/// The text of a panic.
fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}
