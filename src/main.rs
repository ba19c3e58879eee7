//! Parse the command line, read the settings, start the log, dispatch, exit.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

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
    let environment = environment()?;
    let load = move || load(config.as_deref(), &set, &environment);
    let (settings, _) = load()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match command {
        Command::Serve => {
            let started = telemetry::start(settings.log, &settings.trail);
            started.context(TRAIL)?;
            runtime.block_on(serve::serve(settings, Box::new(load)))?;
            Ok(Outcome::Yes)
        }
        Command::Migrate => runtime.block_on(admin::migrate(&settings)),
        Command::User(command) => {
            telemetry::trail_alone(&settings.trail).context(TRAIL)?;
            runtime.block_on(admin::user(&settings, command))
        }
        Command::Keys(command) => {
            telemetry::trail_alone(&settings.trail).context(TRAIL)?;
            admin::keyring(&settings, command)
        }
        Command::Throttle(command) => {
            telemetry::trail_alone(&settings.trail).context(TRAIL)?;
            runtime.block_on(admin::throttle(settings, command))
        }
        Command::Config(_) => admin::config_check(&settings),
        Command::Policy(command) => runtime.block_on(admin::policy_check(settings, command)),
        Command::Token(command) => runtime.block_on(admin::token(settings, command)),
    }
}

/// Reads all settings, and says which files they came from.
fn load(
    config: Option<&Path>,
    set: &[(String, String)],
    environment: &BTreeMap<String, String>,
) -> anyhow::Result<(Settings, Vec<PathBuf>)> {
    let default = Path::new(DEFAULT_FILE);
    let config = config.or_else(|| default.exists().then_some(default));
    let file = config.map(read).transpose()?;
    let files = RefCell::new(Vec::from_iter(config.map(Path::to_owned)));
    let settings = Settings::load(Sources {
        flags: set.to_vec(),
        environment: environment.clone(),
        file,
        read: &|path| {
            files.borrow_mut().push(path.to_owned());
            fs::read_to_string(path)
        },
    })?;
    let mut files = files.into_inner();
    if let Some(tls) = &settings.tls {
        files.extend([tls.certificate.clone(), tls.key.clone()]);
    }
    Ok((settings, files))
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
