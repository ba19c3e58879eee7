//! Shows which requests two files of settings decide differently.

use doorward_rules::files::Files;
use serde_json::{Value, json};

use super::Load;
use crate::{
    admin::Outcome,
    cli::{Format, OldPrecedence, PolicyDiff},
    config::Settings,
    domain::{
        account::Role,
        policy::{self, Change, DecidedBy, Direction, Example, Policy, Precedence, Side},
    },
};

/// Prints every change.
///
/// # Errors
///
/// A file that cannot be read, and every fault of its settings.
pub(super) fn diff(load: &Load<'_>, command: &PolicyDiff) -> anyhow::Result<Outcome> {
    let old = load(Some(&command.old), &Files::default())?;
    let new = load(Some(&command.new), &Files::default())?;
    let before = Side {
        policy: &old.policy,
        precedence: match command.old_precedence {
            OldPrecedence::HostFirst => Precedence::HostFirst,
            OldPrecedence::PathFirst => Precedence::PathFirst,
        },
    };
    let after = Side {
        policy: &new.policy,
        precedence: Precedence::HostFirst,
    };
    let changes = policy::diff(before, after, new.paths);
    let settings = settings(&old, &new);
    match command.output.output {
        Format::Json => {
            let changes: Vec<_> = changes
                .iter()
                .map(|change| machine(change, &old.policy, &new.policy))
                .collect();
            let settings: Vec<_> = settings
                .iter()
                .map(|(name, was, is)| json!({"setting": name, "was": was, "is": is}))
                .collect();
            let all = json!({"changes": changes, "settings": settings});
            println!("{}", serde_json::to_string_pretty(&all)?);
        }
        Format::Text => text(&changes, &settings, &old.policy, &new.policy),
    }
    Ok(match changes.is_empty() && settings.is_empty() {
        true => Outcome::Yes,
        false => Outcome::No,
    })
}

/// Settings beside the rules that decide which requests pass, each with its old and its new value.
fn settings(old: &Settings, new: &Settings) -> Vec<(&'static str, String, String)> {
    let all = |settings: &Settings| {
        [
            (
                "paths.tolerate",
                format!("{:?}", settings.paths.tolerated()),
            ),
            ("paths.also", format!("{:?}", settings.paths.also.names())),
            (
                "cors.allow_preflight",
                settings.cors.allow_preflight.to_string(),
            ),
        ]
    };
    let pairs = all(old).into_iter().zip(all(new));
    pairs
        .filter(|((_, was), (_, is))| was != is)
        .map(|((name, was), (_, is))| (name, was, is))
        .collect()
}

fn text(
    changes: &[Change],
    settings: &[(&'static str, String, String)],
    old: &Policy,
    new: &Policy,
) {
    for change in changes {
        println!(
            "{:<8}{}",
            word(change.direction()).to_uppercase(),
            paths(change).join(", ")
        );
        println!(
            "  for   {}, {}, {}",
            change.callers, change.methods, change.hosts
        );
        println!("  was   {}, {}", change.was, by(change.before, old));
        println!("  is    {}, {}", change.is, by(change.after, new));
        println!("  as    {}", example(&change.example));
    }
    for (name, was, is) in settings {
        println!("SETTING {name}");
        println!("  was   {was}");
        println!("  is    {is}");
    }
    if settings
        .iter()
        .any(|(name, _, _)| name.starts_with("paths."))
    {
        println!("The rules are compared with the new settings of paths.");
    }
    let count = |direction| {
        let own = changes
            .iter()
            .filter(|change| change.direction() == direction);
        own.count()
    };
    match (changes.len(), settings.len()) {
        (0, 0) => println!("No request is decided differently."),
        (_, _) => println!(
            "Changes that open: {}, that close: {}, that answer otherwise: {}. Settings that differ: {}.",
            count(Direction::Opens),
            count(Direction::Closes),
            count(Direction::Answers),
            settings.len()
        ),
    }
}

fn machine(change: &Change, old: &Policy, new: &Policy) -> Value {
    let side = |ruling: policy::Ruling, decided: DecidedBy, policy: &Policy| {
        json!({
            "verdict": ruling.to_string(), "why": why(decided),
            "rule": decided.rule(policy).map(ToString::to_string),
        })
    };
    let Example {
        method,
        host,
        path,
        roles,
    } = &change.example;
    let roles = roles.as_ref().map(|roles| names(roles));
    json!({
        "direction": word(change.direction()),
        "paths": paths(change),
        "methods": change.methods.to_string(),
        "hosts": change.hosts.to_string(),
        "callers": change.callers.to_string(),
        "was": side(change.was, change.before, old),
        "is": side(change.is, change.after, new),
        "example": {"method": method, "host": host, "path": path, "roles": roles},
    })
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Opens => "opens",
        Direction::Closes => "closes",
        Direction::Answers => "answers",
    }
}

fn paths(change: &Change) -> Vec<String> {
    change.paths.iter().map(ToString::to_string).collect()
}

fn names(roles: &[Role]) -> Vec<&str> {
    roles.iter().map(Role::as_str).collect()
}

pub(super) fn why(decided: DecidedBy) -> &'static str {
    match decided {
        DecidedBy::Rule(_) => "it is the most specific rule",
        DecidedBy::EndpointMethod(_) => "the path is this endpoint's, but the method is not",
        DecidedBy::NoRule => "no rule is for this request",
        DecidedBy::TwoReadings(_) => "a service could read the path as this rule's",
        DecidedBy::NoHost => "there are rules for hosts, and the request names none",
        DecidedBy::MethodCase => "a rule names this method in another case",
    }
}

fn by(decided: DecidedBy, policy: &Policy) -> String {
    match (decided, decided.rule(policy)) {
        (DecidedBy::Rule(_), Some(rule)) => format!("by {rule}"),
        (_, Some(rule)) => format!("{}: {rule}", why(decided)),
        (_, None) => why(decided).to_owned(),
    }
}

fn example(example: &Example) -> String {
    let Example {
        method,
        host,
        path,
        roles,
    } = example;
    let caller = match roles {
        None => "without a token".to_owned(),
        Some(roles) if roles.is_empty() => "with a token".to_owned(),
        Some(roles) => format!("with {}", names(roles).join(", ")),
    };
    format!("{method} {host}{path} {caller}")
}
