//! Writes a first file of cases: for each rule a request that it decides, and who passes.

use std::{fs::OpenOptions, io::Write as _, path::Path};

use anyhow::Context as _;
use toml::Value;

use crate::{
    admin::Outcome,
    config::Settings,
    domain::{
        account::Roles,
        policy::{Access, DecidedBy, Demand, Example, Policy, examples},
    },
};

/// Writes the file, unless it exists.
///
/// # Errors
///
/// The file exists, or cannot be written.
pub(super) fn write(settings: &Settings, file: &Path) -> anyhow::Result<Outcome> {
    let name = file.display();
    let examples = examples(&settings.policy, settings.paths);
    let text = text(&settings.policy, &examples)?;
    let created = OpenOptions::new().write(true).create_new(true).open(file);
    let mut created = created.with_context(|| format!("{name} cannot be created"))?;
    (created.write_all(text.as_bytes())).with_context(|| format!("{name} cannot be written"))?;
    println!(
        "{name} has {} cases. They say what the rules do now: read them, change what is not meant, and run",
        text.matches("[[case]]").count()
    );
    println!("  doorward policy test --strict {name}");
    Ok(Outcome::Yes)
}

fn text(policy: &Policy, examples: &[(DecidedBy, Example)]) -> anyhow::Result<String> {
    let mut text = String::from(
        "# Requests, and what the rules must do with them. Run: doorward policy test --strict FILE\n",
    );
    for (by, example) in examples {
        let (title, access) = match (by, by.rule(policy)) {
            (DecidedBy::Rule(_), Some(rule)) => (rule.to_string(), Access::Rule(rule)),
            (DecidedBy::NoRule, _) => ("No rule.".into(), Access::NoRule),
            // Other spellings and methods; which of them matter is for the reader to say.
            (_, _) => continue,
        };
        text.push_str(&format!("\n# {title}\n"));
        for (name, roles) in callers(access)? {
            let ruling = access.ruling(roles.as_ref()).to_string();
            let request = format!("{} {}", example.method, example.path);
            text.push_str("[[case]]\n");
            text.push_str(&format!("request = {}\n", Value::from(request)));
            if !example.host.is_empty() {
                text.push_str(&format!("host = {}\n", Value::from(&*example.host)));
            }
            text.push_str(&format!("as = {}\n", Value::from(name)));
            text.push_str(&format!("expect = {}\n\n", Value::from(ruling)));
        }
    }
    Ok(text)
}

/// Callers who show what a rule demands.
fn callers(access: Access<'_>) -> anyhow::Result<Vec<(String, Option<Roles>)>> {
    let anonymous = ("anonymous".to_owned(), None);
    let signed_in = ("signed-in".to_owned(), Some(Roles::parse([])?));
    let Access::Rule(rule) = access else {
        return Ok(vec![anonymous]);
    };
    Ok(match rule.demand() {
        Demand::Public | Demand::Endpoint(_) | Demand::Nobody => vec![anonymous],
        Demand::SignedIn => vec![anonymous, signed_in],
        Demand::Role(roles) => {
            let mut callers = vec![anonymous, signed_in];
            for role in roles.iter() {
                let own = Roles::parse([role.as_str()])?;
                callers.push((format!("role:{}", role.as_str()), Some(own)));
            }
            callers
        }
    })
}
