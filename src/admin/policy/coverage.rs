//! Shows which rules decide the operations of an OpenAPI document.

mod openapi;

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    io::{self, Read as _},
    path::Path,
};

use anyhow::Context as _;
use serde_json::{Value, json};

use self::openapi::Operation;
use super::diff::why;
use crate::{
    admin::{Outcome, table},
    cli::{Format, PolicyCoverage},
    config::Settings,
    domain::{
        policy::{DecidedBy, Demand, PathTemplate, Policy, cover},
        request::{Host, Method},
    },
};

/// An operation, and what decides its requests: each with an example of a path.
struct Covered {
    operation: Operation,
    decided: Vec<(DecidedBy, String)>,
}

/// Prints which rules decide each operation, and which rules decide none.
///
/// # Errors
///
/// The document cannot be read.
pub(super) fn coverage(settings: &Settings, command: &PolicyCoverage) -> anyhow::Result<Outcome> {
    let name = command.document.display();
    let text = read(&command.document).with_context(|| format!("{name} cannot be read"))?;
    let mut operations = openapi::operations(&text).with_context(|| name.to_string())?;
    if let Some(host) = &command.host {
        for operation in &mut operations {
            operation.host.clone_from(host);
        }
        // Servers that differ only by their hosts are one now.
        let mut seen = HashSet::new();
        operations.retain(|own| seen.insert((own.method.clone(), own.path.clone())));
    }
    let covered = operations.into_iter().map(|operation| {
        let what = || format!("{name}: {} {}", operation.method, operation.path);
        let decided = decided(settings, &operation).with_context(what)?;
        Ok(Covered { operation, decided })
    });
    let covered = covered.collect::<anyhow::Result<Vec<_>>>()?;
    let policy = &settings.policy;
    match command.output.output {
        Format::Json => println!(
            "{}",
            serde_json::to_string_pretty(&machine(&covered, policy))?
        ),
        Format::Text => print(&covered, policy),
    }
    let is_ruled = covered.iter().all(Covered::is_ruled);
    Ok(match command.require_rule && !is_ruled {
        true => Outcome::No,
        false => Outcome::Yes,
    })
}

fn read(document: &Path) -> io::Result<String> {
    match document.as_os_str() == "-" {
        true => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text)?;
            Ok(text)
        }
        false => fs::read_to_string(document),
    }
}

fn decided(settings: &Settings, operation: &Operation) -> anyhow::Result<Vec<(DecidedBy, String)>> {
    let host = &operation.host;
    let parsed = Host::parse(host.as_bytes());
    let host = parsed.with_context(|| format!("{host:?} is not a host"))?;
    let method = Method::parse(operation.method.as_bytes())?;
    let template = PathTemplate::parse(&operation.path)?;
    cover(&settings.policy, method, host, &template, settings.paths)
        .context("Doorward refuses every request with this path")
}

impl Covered {
    /// Whether a rule decides every request of the operation.
    fn is_ruled(&self) -> bool {
        let mut decided = self.decided.iter();
        decided.all(|(by, _)| matches!(by, DecidedBy::Rule(_)))
    }

    fn is_public(&self, policy: &Policy) -> bool {
        self.decided.iter().any(|(by, _)| {
            let rule = by.rule(policy);
            matches!(by, DecidedBy::Rule(_))
                && rule.is_some_and(|rule| matches!(rule.demand(), Demand::Public))
        })
    }
}

/// The names of rules that decide no operation.
fn idle(covered: &[Covered], policy: &Policy) -> Vec<String> {
    let all = covered.iter().flat_map(|one| &one.decided);
    let reached: BTreeSet<DecidedBy> = all.map(|(by, _)| *by).collect();
    let rules = policy.rules().iter().enumerate();
    rules
        .filter(|(number, _)| !reached.contains(&DecidedBy::Rule(*number)))
        .map(|(_, rule)| rule.name().to_string())
        .collect()
}

fn machine(covered: &[Covered], policy: &Policy) -> Value {
    let operations = covered.iter().map(|one| {
        let decided = one.decided.iter().map(|(by, path)| {
            let rule = by.rule(policy);
            json!({
                "path": path, "why": why(*by),
                "rule": rule.map(|rule| rule.name().to_string()),
                "allow": rule.map(|rule| rule.demand().to_string()),
                "decides": matches!(by, DecidedBy::Rule(_)),
            })
        });
        json!({
            "method": one.operation.method, "host": one.operation.host, "path": one.operation.path,
            "operation": one.operation.id, "public": one.is_public(policy), "ruled": one.is_ruled(),
            "decided": decided.collect::<Vec<_>>(),
        })
    });
    json!({
        "operations": operations.collect::<Vec<_>>(),
        "rules_without_operation": idle(covered, policy),
    })
}

fn print(covered: &[Covered], policy: &Policy) {
    let mut lines = table(["METHOD", "PATH", "RULE", "ALLOW"]);
    for Covered { operation, decided } in covered {
        let place = format!("{}{}", operation.host, operation.path);
        // Names of parameters must not control the terminal.
        let first = [operation.method.clone(), place.escape_debug().to_string()];
        // The further rows of an operation show the values of parameters that rules name.
        let others = decided.iter().skip(1);
        let others = others.map(|(_, path)| [String::new(), format!("  {path}")]);
        for (head, (by, _)) in [first].into_iter().chain(others).zip(decided) {
            let what = match (by, by.rule(policy)) {
                (DecidedBy::Rule(_), Some(rule)) => {
                    [rule.name().to_string(), rule.demand().to_string()]
                }
                (_, rule) => {
                    let near = rule.map(|rule| format!(" ({})", rule.name()));
                    let denied = format!("denied: {}{}", why(*by), near.unwrap_or_default());
                    ["none".to_owned(), denied]
                }
            };
            lines.add_row(head.into_iter().chain(what));
        }
    }
    println!("{lines}");
    let count = |is: &dyn Fn(&Covered) -> bool| covered.iter().filter(|one| is(one)).count();
    println!(
        "\n{} operations: {} public, {} without a rule.",
        covered.len(),
        count(&|one| one.is_public(policy)),
        count(&|one| !one.is_ruled()),
    );
    let lacks_host = covered
        .iter()
        .any(|one| one.decided.iter().any(|(by, _)| *by == DecidedBy::NoHost));
    if lacks_host {
        println!("Some rules name hosts, and the document does not: --host gives one.");
    }
    let idle = idle(covered, policy);
    if !idle.is_empty() {
        println!("Rules that decide no operation: {}.", idle.join(", "));
    }
}
