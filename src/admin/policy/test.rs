//! Runs cases: requests, and the decisions that the rules must make about them.

mod first;
mod report;
mod run;

use std::{path::PathBuf, thread, time::Duration};

use anyhow::{Context as _, bail};
use doorward_rules::{
    cases::{Cases, Who},
    files::Files,
};

use self::run::{Callers, Results, Roles};
use super::{Load, trial::Trial};
use crate::{
    admin::{Outcome, PATIENCE, known},
    cli::PolicyTest,
    config::Settings,
    observe::causes,
    serve,
};

/// How often `--watch` looks at the files.
const LOOK: Duration = Duration::from_millis(300);

/// Runs the cases of all files, or writes a first file.
///
/// # Errors
///
/// A file that cannot be read, and every fault of the settings and the cases; a user who does not exist.
pub(super) async fn test(load: &Load<'_>, command: &PolicyTest) -> anyhow::Result<Outcome> {
    if command.init {
        let [file] = &*command.files else {
            bail!("--init: name one file, which is written");
        };
        return first::write(&load(None, &Files::default())?, file);
    }
    if !command.watch {
        return run(load, &Files::default(), command).await;
    }
    loop {
        let files = Files::default();
        // Whatever is wrong, its files are watched, too.
        match run(load, &files, command).await {
            Ok(Outcome::Yes | Outcome::No) => {}
            Err(error) => eprintln!("{}", causes(error.as_ref())),
        }
        let look = files.look();
        eprintln!("Waiting for a change; end with Ctrl-C.");
        while look.now() == look.digest() {
            thread::sleep(LOOK);
        }
    }
}

async fn run(load: &Load<'_>, files: &Files, command: &PolicyTest) -> anyhow::Result<Outcome> {
    let all = read(files, &command.files)?;
    let settings = load(None, files)?;
    let trial = Trial::new(&settings)?;
    let mut results = Results::new(settings.policy.clone(), command.strict);
    for (file, cases) in &all {
        let made = cases.keys.iter();
        let made = made.map(|(name, key)| Ok((name.clone(), trial.add_key(name, key)?)));
        let callers = Callers {
            users: users(&settings, cases).await?,
            keys: made.collect::<anyhow::Result<_>>()?,
        };
        for case in &cases.cases {
            results.run(&trial, &settings, file, case, &callers)?;
        }
    }
    report::print(&results, command.output)?;
    Ok(match results.passed() {
        true => Outcome::Yes,
        false => Outcome::No,
    })
}

/// Reads all files, so that the faults of each are reported.
fn read(files: &Files, paths: &[PathBuf]) -> anyhow::Result<Vec<(String, Cases)>> {
    let (mut all, mut faults) = (Vec::new(), Vec::new());
    for path in paths {
        let name = path.display().to_string();
        let text =
            (files.text(path)).with_context(|| format!("the cases in {name} cannot be read"))?;
        match Cases::parse(&name, &text) {
            Ok(cases) => all.push((name, cases)),
            Err(own) => faults.extend(own.iter().map(ToString::to_string)),
        }
    }
    match faults.is_empty() {
        true => Ok(all),
        false => bail!("the cases cannot be used:\n  {}", faults.join("\n  ")),
    }
}

/// The roles of all users that the cases name. The user table is opened only for names that the file does not define.
async fn users(settings: &Settings, cases: &Cases) -> anyhow::Result<Roles> {
    let mut users = cases.users.clone();
    let names = cases.cases.iter().filter_map(|case| match &case.who {
        Who::User(name) => Some(name),
        Who::Anonymous | Who::SignedIn(_) | Who::Key(_) | Who::KeyAsPassword(_) => None,
    });
    let missing: Vec<_> = names.filter(|name| !users.contains_key(*name)).collect();
    if missing.is_empty() {
        return Ok(users);
    }
    let store = serve::store(settings, 1, PATIENCE)?;
    for name in missing {
        let account = known(&store, name).await?;
        users.insert(name.clone(), account.roles);
    }
    Ok(users)
}
