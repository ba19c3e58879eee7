//! Parse the command line, read the settings, start the log, dispatch, exit.

use std::{collections::BTreeMap, env, fs, path::Path, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::Parser as _;
use doorward::{
    admin::{self, Outcome},
    cli::{Cli, Command},
    config::{self, Settings, Sources},
    serve, telemetry,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = run(cli);
    match outcome {
        Ok(Outcome::Yes) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the last word of the process")]
            {
                eprintln!("doorward: {error:#}");
            }
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<Outcome> {
    let Cli {
        config,
        set,
        command,
    } = cli;
    let file = match config {
        Some(path) => Some(read(&path)?),
        None => Path::new(DEFAULT_FILE)
            .exists()
            .then(|| read(Path::new(DEFAULT_FILE)))
            .transpose()?,
    };
    let settings = Settings::load(Sources {
        flags: set,
        environment: environment()?,
        file,
        read: &|path| fs::read_to_string(path),
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match command {
        Command::Serve => {
            let settings = settings.with_secret()?;
            let started = telemetry::start(settings.log, &settings.trail);
            started.context(TRAIL)?;
            runtime.block_on(serve::serve(settings))?;
            Ok(Outcome::Yes)
        }
        Command::Migrate => runtime.block_on(admin::migrate(&settings)),
        Command::User(command) => {
            telemetry::trail_alone(&settings.trail).context(TRAIL)?;
            runtime.block_on(admin::user(&settings, command))
        }
        Command::Throttle(command) => {
            telemetry::trail_alone(&settings.trail).context(TRAIL)?;
            runtime.block_on(admin::throttle(settings, command))
        }
        Command::Config(_) => admin::config_check(settings),
        Command::Policy(command) => runtime.block_on(admin::policy_check(settings, command)),
        Command::Token(command) => runtime.block_on(admin::token_inspect(settings, command)),
    }
}

const TRAIL: &str = "audit.to: the file cannot be written";

/// The environment. A value that is not UTF-8 is a fault where the name is a setting's: to overlook it would be to
/// start with another one.
fn environment() -> anyhow::Result<BTreeMap<String, String>> {
    let mut environment = BTreeMap::new();
    for (name, value) in env::vars_os() {
        let Ok(name) = name.into_string() else {
            continue;
        };
        match value.into_string() {
            Ok(value) => {
                environment.insert(name, value);
            }
            Err(_) if config::names_a_setting(&name) => {
                bail!(
                    "environment: {name}: is not UTF-8; for a secret of any bytes, encode it, such as with base64"
                )
            }
            Err(_) => {}
        }
    }
    Ok(environment)
}

const DEFAULT_FILE: &str = "doorward.toml";

fn read(path: &Path) -> anyhow::Result<(String, String)> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("the settings in {} cannot be read", path.display()))?;
    Ok((path.display().to_string(), text))
}
