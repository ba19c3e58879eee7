//! Parses the command line, reads the settings, starts the log, and runs the command.

use std::{
    collections::BTreeMap,
    env,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Parser as _;
use doorward_core::token;
use doorward_rules::files::Files;

use crate::{
    admin::{self, Outcome, Written},
    cli::{self, Cli, Command},
    config::{self, Settings, Sources},
    observe::{causes, spans::Spans},
    reload::Load,
    serve, telemetry,
};

/// Runs the command that the command line names. The exit code is 0; 1 if a check says no; 2 after an error, which is
/// written to standard error.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = run(cli);
    match outcome {
        Ok(Outcome::Yes) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the error that ends the process")]
            {
                eprintln!("doorward: {}", causes(error.as_ref()));
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
    if let Command::Check(probe) = &command
        && let Some(url) = &probe.url
    {
        // Before the settings are read: a probe must not fail because of a setting that it does not need.
        return admin::check_url(url, probe);
    }
    if let Command::Serve = &command {
        // First of all: hash tables of the standard library panic if the system provides no random bytes.
        token::draw_key()?;
    }
    let origin = Origin {
        config,
        set,
        environment: environment()?,
    };
    let files = Files::default();
    let settings = || anyhow::Ok(origin.with(&files, Settings::load)??);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match command {
        Command::Serve => {
            let settings = settings()?;
            let started = telemetry::start(settings.log, &settings.audit.to);
            started.context(TRAIL)?;
            let again: Load =
                Box::new(move |files, last| Ok(origin.with(files, |it| last.again(it))??));
            let spans = {
                let _within = runtime.enter();
                Spans::start(settings.tracing.collector.as_ref()).context("tracing.otlp")?
            };
            let served = runtime.block_on(serve::serve(settings, &files, again, spans.clone()));
            spans.flush();
            served.map(|()| Outcome::Yes)
        }
        Command::Setup(command) => admin::setup(command),
        Command::Check(probe) => admin::check_ops(settings()?.listen.ops, &probe),
        Command::Migrate => runtime.block_on(admin::migrate(&settings()?)),
        Command::User(command) => {
            let settings = settings()?;
            telemetry::trail_alone(&settings.audit.to).context(TRAIL)?;
            runtime.block_on(admin::user(&settings, command))
        }
        Command::Keys(command) => {
            let settings = settings()?;
            telemetry::trail_alone(&settings.audit.to).context(TRAIL)?;
            admin::keyring(&settings, command)
        }
        Command::Key(command) => {
            let settings = settings()?;
            telemetry::trail_alone(&settings.audit.to).context(TRAIL)?;
            runtime.block_on(admin::machine_key(&settings, command))
        }
        Command::Throttle(command) => {
            let settings = settings()?;
            telemetry::trail_alone(&settings.audit.to).context(TRAIL)?;
            runtime.block_on(admin::throttle(settings, command))
        }
        Command::Config(cli::Config::Check) => admin::config_check(&settings()?),
        Command::Config(cli::Config::Schema) => admin::config_schema(),
        Command::Policy(command) => {
            let load = |file: Option<&Path>, files: &Files| {
                let own = file.map(|file| origin.of(file));
                let origin = own.as_ref().unwrap_or(&origin);
                Ok(origin.with(files, Settings::load)??)
            };
            let written = Written {
                file: origin.path(),
                load: &|text| origin.with_text(text),
            };
            runtime.block_on(admin::policy(&load, command, written))
        }
        Command::Probe(command) => runtime.block_on(admin::probe(&settings()?, command)),
        Command::Token(command) => runtime.block_on(admin::token(settings()?, command)),
    }
}

/// Where settings come from.
#[derive(Clone)]
struct Origin {
    config: Option<PathBuf>,
    set: Vec<(String, String)>,
    environment: BTreeMap<String, String>,
}

impl Origin {
    fn with<T>(&self, files: &Files, load: impl FnOnce(Sources<'_>) -> T) -> anyhow::Result<T> {
        Ok(self.with_file(self.file(files)?, files, load))
    }

    /// The same with another file.
    fn of(&self, file: &Path) -> Self {
        let config = Some(file.to_owned());
        Self {
            config,
            ..self.clone()
        }
    }

    /// The settings, if their file had this text.
    fn with_text(&self, text: String) -> anyhow::Result<Settings> {
        let file = (self.path().display().to_string(), text);
        Ok(self.with_file(Some(file), &Files::default(), Settings::load)?)
    }

    fn with_file<T>(
        &self,
        file: Option<(String, String)>,
        files: &Files,
        load: impl FnOnce(Sources<'_>) -> T,
    ) -> T {
        load(Sources {
            flags: self.set.clone(),
            environment: self.environment.clone(),
            file,
            read: &|path| files.text(path),
        })
    }

    fn path(&self) -> &Path {
        (self.config.as_deref()).unwrap_or(Path::new(USUAL_FILE))
    }

    /// The named file, or the default file if it exists.
    fn file(&self, files: &Files) -> anyhow::Result<Option<(String, String)>> {
        let path = self.path();
        match files.text(path) {
            Err(error) if self.config.is_none() && error.kind() == ErrorKind::NotFound => Ok(None),
            text => {
                let name = path.display().to_string();
                let text =
                    text.with_context(|| format!("the settings in {name} cannot be read"))?;
                Ok(Some((name, text)))
            }
        }
    }
}

const USUAL_FILE: &str = "doorward.toml";

const TRAIL: &str = "audit.to: the file cannot be written";

/// Reads the environment. A value that is not UTF-8 is an error if its name is a setting's: ignoring it would start
/// Doorward with another value.
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
