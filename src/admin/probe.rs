//! Checks through a gateway that Doorward decides its requests.

mod client;
mod finding;
mod plan;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use self::{
    client::Client,
    finding::{Finding, Seen},
    plan::{Check, Methods, Plan},
};
use super::{Outcome, check::patience, table};
use crate::{
    cli::{self, Format},
    clock::unix_time,
    config::Settings,
    domain::{
        identity_headers::IdentityHeaders,
        probe::{Nonce, ProbeKey},
    },
};

/// Sends the checks of every rule through the gateway, and prints what it finds.
///
/// # Errors
///
/// An argument is invalid, `probe.key` is not set, or the file of `--ca` cannot be used.
pub(crate) async fn probe(settings: &Settings, command: cli::Probe) -> anyhow::Result<Outcome> {
    let secret = (settings.probe.key.as_ref()).context(
        "probe.key is not set; Doorward and the probe need the same secret to tell its answers from others",
    )?;
    let key = ProbeKey::new(secret);
    ensure!(
        command.rate > 0.0 && command.rate <= 1000.0,
        "--rate: write a number of requests per second, above 0 and up to 1000"
    );
    let pause = Duration::from_secs_f64(1.0 / command.rate);
    let limit = patience(&command.timeout)?;
    let client = Client::new(&command.url, command.ca.as_deref(), limit)?;
    let methods = match command.unsafe_methods {
        true => Methods::All,
        false => Methods::Safe,
    };
    let identity = IdentityHeaders::keep(settings.identity.headers.clone()).names();
    let plan = Plan::new(&settings.policy, &identity, client.host(), methods);
    let mut found = Vec::new();
    let mut next = Instant::now();
    for check in &plan.checks {
        sleep_until(next).await;
        next = Instant::now() + pause;
        let nonce = Nonce(*uuid::Uuid::new_v4().as_bytes());
        let question = key.question(nonce, unix_time());
        let seen = match client.ask(check, &question).await {
            Ok(answer) => Seen::of(&answer, |challenge| key.read_challenge(challenge, nonce)),
            Err(fault) => Seen::Nothing(fault.to_string()),
        };
        let finding = finding::judge(check, &seen);
        found.push((check, seen, finding));
    }
    let outcome = match found.iter().all(|(_, _, finding)| finding.is_good()) && !found.is_empty() {
        true => Outcome::Yes,
        false => Outcome::No,
    };
    match command.output.output {
        Format::Json => print_json(&command.url, &plan, &found, outcome)?,
        Format::Text => print_text(&plan, &found),
    }
    Ok(outcome)
}

type Found<'a> = (&'a Check, Seen, Finding);

fn print_json(url: &str, plan: &Plan, found: &[Found<'_>], outcome: Outcome) -> anyhow::Result<()> {
    let checks = found.iter().map(|(check, seen, finding)| {
        json!({
            "rule": check.rule, "check": check.kind.name(), "method": check.method,
            "host": check.host, "path": check.target, "finding": finding.name(),
            "why": finding.why(), "status": seen.status(), "decision": seen.decision(),
            "reason": seen.reason(), "decided_by": seen.rule(),
        })
    });
    let checks: Vec<Value> = checks.collect();
    let skipped = plan.skipped.iter();
    let skipped: Vec<Value> = skipped
        .map(|(rule, why)| json!({"rule": rule, "why": why.to_string()}))
        .collect();
    let ok = outcome == Outcome::Yes;
    let whole = json!({"url": url, "ok": ok, "checks": checks, "skipped": skipped});
    println!("{}", serde_json::to_string_pretty(&whole)?);
    Ok(())
}

fn print_text(plan: &Plan, found: &[Found<'_>]) {
    let mut lines = table(["RULE", "CHECK", "REQUEST", "FOUND", "WHY"]);
    for (check, _, finding) in found {
        lines.add_row([
            check.rule.clone(),
            check.kind.name().to_owned(),
            format!("{} {}{}", check.method, check.host, check.target),
            match finding.is_good() {
                true => finding.name().to_owned(),
                false => finding.name().to_uppercase(),
            },
            finding.why().to_owned(),
        ]);
    }
    println!("{lines}");
    for (rule, why) in &plan.skipped {
        println!("not asked: {rule}: {why}");
    }
    let bad = found.iter().filter(|(_, _, finding)| !finding.is_good());
    let (all, bad) = (found.len(), bad.count());
    match bad {
        _ if all == 0 => println!("No rule could be checked."),
        0 => println!("Doorward is in the way of all {all} requests."),
        _ => println!("{bad} of {all} requests were not decided by Doorward as its rules say."),
    }
}
